//! A published `viz_data.pt`, with the known content of `tests/viz/make.py`.

use std::path::{Path, PathBuf};

use openwork_tensor::{PtError, PtNode, PtProblem};
use openwork_view::{
    View, ViewError,
    ask::{
        Answer, Question,
        run::{Prompt, RunQuestion},
    },
    export,
};

use crate::driver::Browser;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/viz/viz_data.pt")
}

#[test]
fn a_published_circuit_is_read_as_it_is_documented() {
    let view = View::of_published(&fixture(), None).unwrap();
    let Answer::Graph(graph) = view.answer(&Question::Graph { circuit: 0 }).unwrap() else { unreachable!() };
    let names: Vec<_> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    let expected =
        ["0.mlp.act_in[3]", "0.mlp.act_in[40]", "0.mlp.post_act[7]", "0.mlp.resid_delta[11]", "final_resid[11]"];
    assert_eq!(names, expected);
    assert_eq!(graph.nodes.iter().map(|node| node.row).collect::<Vec<_>>(), [0, 0, 1, 2, 3]);
    // A zero is no edge, and the bias no node.
    assert_eq!(graph.edges.iter().map(|edge| (edge.from, edge.to)).collect::<Vec<_>>(), [(0, 2), (2, 3)]);
    let Answer::Effects(effects) = view.answer(&Question::Effects { circuit: 0 }).unwrap() else { unreachable!() };
    // Losses are halved, and nodes have losses where edges have changes.
    assert_eq!(effects.loss, Some(0.125));
    assert_eq!(effects.edges, [0.25, -0.125]);
    assert_eq!(effects.nodes, [Some(0.125), Some(0.0), Some(0.5), Some(0.25), None]);
    let node = "0.mlp.post_act[7]".to_owned();
    let Answer::Examples(examples) = view.answer(&Question::Examples { circuit: 0, node }).unwrap() else {
        unreachable!()
    };
    let titles: Vec<_> = examples.lists.iter().map(|list| list.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "Largest at quantile 0.001",
            "Smallest at quantile 0.001",
            "Largest at quantile 0.5",
            "Smallest at quantile 0.5"
        ]
    );
    let largest = &examples.lists[0].examples[0];
    assert_eq!((largest.values.as_slice(), largest.at, largest.tokens[1].id), ([0.0, 4.0, -2.0].as_slice(), 1, 31));
}

#[test]
fn padding_of_published_prompts_is_trimmed_on_the_right_alone() {
    let view = View::of_published(&fixture(), None).unwrap();
    let Answer::Prompts(prompts) = view.answer(&Question::Prompts { circuit: 0 }).unwrap() else { unreachable!() };
    let ids = |i: usize| prompts.prompts[i].tokens.iter().map(|token| token.id).collect::<Vec<_>>();
    assert_eq!((ids(0), ids(1)), (vec![5, 6, 7], vec![5, 0, 8, 9]));
    let classes: Vec<_> = prompts.prompts.iter().map(|prompt| (prompt.pair, prompt.positive)).collect();
    assert_eq!(classes, [(0, true), (1, true), (0, false), (1, false)]);
    let run = RunQuestion { circuit: 0, prompt: Prompt::Tokens(ids(1)), edits: vec![] };
    let Answer::Run(run) = view.answer(&Question::Run(run)).unwrap() else { unreachable!() };
    assert_eq!(run.values.len(), 1);
    assert_eq!(run.values[0].values, [1.25, 1.5, 1.75, 2.0]);
    let text = RunQuestion { circuit: 0, prompt: Prompt::Text("x".into()), edits: vec![] };
    assert!(matches!(view.answer(&Question::Run(text)), Err(ViewError::NotPublished)));
    assert!(matches!(view.answer(&Question::Verdict { circuit: 0 }), Err(ViewError::NotPublished)));
}

#[test]
fn other_files_are_refused_and_say_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights.pt");
    openwork_tensor::write_pt(&path, &Default::default()).unwrap();
    let error = View::of_published(&path, None).err().unwrap();
    assert!(error.to_string().contains("circuit_data should be"), "{error}");
    // Names that would run something are refused before anything is read.
    let bytes = std::fs::read(fixture()).unwrap();
    let name = b"torch._utils\n_rebuild_tensor_v2\n";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    let mut evil = bytes.clone();
    evil[at..at + name.len()].copy_from_slice(b"posixx_utils\n_system_tensor_v2\n\n");
    let error = PtNode::from_bytes(evil).err().unwrap();
    assert!(matches!(error, PtError::Refused { .. }), "{error}");
    for length in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        assert!(PtNode::from_bytes(bytes[..length].to_vec()).is_err(), "cut to {length}");
    }
    let legacy = PtNode::from_bytes(b"\x80\x02}q\x00.".to_vec()).err().unwrap();
    assert!(matches!(legacy, PtError::Refused { source: PtProblem::Legacy | PtProblem::NotZip, .. }), "{legacy}");
}

#[test]
fn browser_published_circuit() {
    let Some(mut browser) = Browser::start(1280, 900) else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("page.html");
    export(&View::of_published(&fixture(), None).unwrap(), &path).unwrap();
    browser.open(&format!("file://{}", path.display()));
    browser.wait_for("document.querySelectorAll('svg.graph .wire').length === 2");
    assert_eq!(browser.value("document.querySelectorAll('.views button').length"), serde_json::json!(2));
    browser.click("svg.graph [aria-label$=', 0.mlp.post_act[7]']");
    browser.wait_for("document.querySelectorAll('.example').length === 4");
    assert!(browser.text("aside").contains("Largest at quantile 0.001"));
    browser.screenshot("published");
    browser.click(".views button:nth-child(2)");
    browser.wait_for("document.querySelectorAll('.values tbody tr').length === 1");
    assert_eq!(browser.errors(), Vec::<String>::new());
}
