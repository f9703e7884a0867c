//! Questions and their answers, without a page.

use openwork_circuit::{Ablation, Keep, NodeSet, batches, evaluate};
use openwork_debug::Trace;
use openwork_project::OpenModel;
use openwork_tasks::Split;
use openwork_view::{
    View, ViewError,
    ask::{
        back::{BacktraceQuestion, Effect, Of},
        catalogue::Mark,
        graph::EdgeKind,
        label::LabelQuestion,
        run::{EditAsked, Prompt, RunQuestion, To},
    },
    exported, page,
};

use crate::files::{HOSTILE, add_hostile, add_large, circuit_file, copy};

fn question(prompt: &str, edits: Vec<EditAsked>) -> RunQuestion {
    RunQuestion { circuit: 1, prompt: Prompt::Text(prompt.into()), edits }
}

const PROMPT: &str = "with open(\"a.csv\", \"w\")";

#[test]
fn a_view_opens_on_a_circuit_that_passes() {
    let dir = copy();
    let view = View::open(&[dir.path().to_owned()]).unwrap();
    let catalogue = view.catalogue();
    let names: Vec<_> = catalogue.circuits.iter().map(|c| (c.name.as_str(), c.mark, c.level)).collect();
    assert_eq!(names, [("single_double_quote", Mark::Refuted, Some(2)), ("with_as", Mark::Passed, Some(5))]);
    assert_eq!(catalogue.first, Some(1));
    // A circuit file alone finds the model above it, and a circuit is there once.
    let path = circuit_file(dir.path(), "single_double_quote");
    let alone = View::open(std::slice::from_ref(&path)).unwrap();
    assert_eq!((alone.catalogue().circuits.len(), alone.first_circuit()), (1, Some(0)));
    assert_eq!(View::open(&[dir.path().to_owned(), path]).unwrap().catalogue().circuits.len(), 2);
    // A verdict about something else says nothing here.
    std::fs::copy(circuit_file(dir.path(), "with_as"), circuit_file(dir.path(), "single_double_quote")).unwrap();
    let stale = View::open(&[dir.path().to_owned()]).unwrap().catalogue();
    assert_eq!(stale.circuits[0].mark, Mark::None);
    assert!(stale.circuits[0].verdict.contains("something else"), "{}", stale.circuits[0].verdict);
}

#[test]
fn a_graph_has_the_circuits_edges_and_what_they_carry() {
    let dir = copy();
    let view = View::open(&[dir.path().to_owned()]).unwrap();
    let open = OpenModel::open(dir.path()).unwrap();
    let file = open.circuit(&circuit_file(dir.path(), "with_as")).unwrap();
    let graph = view.graph(1).unwrap();
    let weights: Vec<_> = graph.edges.iter().filter(|edge| edge.kind == EdgeKind::Weight).collect();
    assert_eq!((graph.nodes.len(), weights.len()), (file.circuit.nodes().len(), file.circuit.edges().len()));
    // By another way: the mean of |w x| over all tokens of the prompts, each run whole.
    let tokenizer = open.tokenizer(None).unwrap();
    let task = openwork_tasks::find("with_as").unwrap();
    let pairs = task.pairs(&|text| tokenizer.encode(text), Split::Validation, 16, file.seed).unwrap();
    for (edge, found) in file.circuit.edges().iter().zip(&weights) {
        let mut values = vec![];
        for prompt in pairs.iter().flat_map(|pair| pair.prompts()) {
            let trace = Trace::run(&open.model, prompt, &[]);
            values.extend((0..prompt.len()).map(|at| f64::from((edge.weight * trace.value(edge.from, at)).abs())));
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let carried = found.carried.unwrap();
        assert!((mean - carried).abs() <= 1e-5 * mean, "{} -> {}: {mean} and {carried}", edge.from, edge.to);
        let [from, to] = [found.from, found.to].map(|i| graph.nodes[i].name.clone());
        assert_eq!([from, to], [edge.from.to_string(), edge.to.to_string()]);
    }
    // A query and the key of its channel are joined, and nothing else is.
    let attention: Vec<_> = graph.edges.iter().filter(|edge| edge.kind == EdgeKind::Attention).collect();
    assert_eq!(attention.len(), 1);
    assert_eq!([attention[0].from, attention[0].to].map(|i| graph.nodes[i].kind), ["k", "q"]);
    assert!(graph.nodes.iter().all(|node| node.worth.is_some()), "the verdict has the worth of every node");
}

#[test]
fn effects_are_rises_of_the_loss_without_a_part() {
    let dir = copy();
    let view = View::open(&[dir.path().to_owned()]).unwrap();
    let effects = view.effects(1).unwrap();
    let open = OpenModel::open(dir.path()).unwrap();
    let file = open.circuit(&circuit_file(dir.path(), "with_as")).unwrap();
    let means = openwork_circuit::Means::load(dir.path().join("means.safetensors").as_ref(), &open.model, &open.sha256)
        .unwrap();
    let tokenizer = open.tokenizer(None).unwrap();
    let task = openwork_tasks::find("with_as").unwrap();
    let pairs = task.pairs(&|text| tokenizer.encode(text), Split::Validation, 32, file.seed).unwrap();
    // One pair a batch, and a circuit without the edge, made anew.
    let batches = batches(&pairs, 1, open.model.config.n_ctx);
    let loss = |circuit: &openwork_circuit::Circuit, nodes: &NodeSet| {
        let masked = circuit.masked(&open.model).unwrap();
        evaluate(&masked, &batches, false, || Keep::new(nodes, Ablation::Mean(&means)), |_| ()).loss(file.calibration)
    };
    let whole = loss(&file.circuit, file.circuit.nodes());
    assert!((whole - effects.loss.unwrap()).abs() < 1e-6);
    for (i, edge) in file.circuit.edges().iter().enumerate() {
        let others: Vec<_> = file.circuit.edges().iter().filter(|e| *e != edge).map(|e| (e.from, e.to)).collect();
        let cut = file.circuit.clone().with_edges(&open.model, &others).unwrap();
        let expected = loss(&cut, cut.nodes()) - whole;
        assert!((expected - effects.edges[i]).abs() < 1e-5, "{} -> {}", edge.from, edge.to);
    }
    assert!(effects.edges.iter().any(|&effect| effect > 0.1) && effects.nodes.iter().all(|&effect| effect > Some(0.1)));
    assert_eq!(view.effects(1).unwrap(), effects);
}

#[test]
fn edits_change_the_answer_and_name_what_is_wrong() {
    let dir = copy();
    let view = View::open(&[dir.path().to_owned()]).unwrap();
    let plain = view.run(&question(PROMPT, vec![])).unwrap();
    let last = plain.answers.last().unwrap();
    assert_eq!(last[0].text, " as");
    assert!(plain.unedited.is_none() && plain.alone.as_ref().unwrap()[0].text == " as");
    assert!((last.iter().map(|token| token.probability).sum::<f64>()) <= 1.0);
    let edit = |node: &str, position, to| EditAsked { node: node.into(), position, to };
    let ablated = view.run(&question(PROMPT, vec![edit("0.attn.resid_delta[66]", None, To::Mean)])).unwrap();
    let of =
        |list: &[openwork_view::ask::run::Likely]| list.iter().find(|t| t.text == " as").map_or(0.0, |t| t.probability);
    assert!(of(ablated.answers.last().unwrap()) < 0.2 * of(last), "the circuit's output is needed");
    assert_eq!(of(ablated.unedited.as_ref().unwrap()), of(last));
    let node = ablated.values.iter().find(|values| values.node == "0.attn.resid_delta[66]").unwrap();
    assert!(node.values.windows(2).all(|pair| pair[0] == pair[1]) && node.before.as_ref().unwrap() != &node.values);

    let error = |edits, prompt: &str| view.run(&question(prompt, edits)).unwrap_err();
    assert!(matches!(error(vec![], ""), ViewError::EmptyPrompt));
    assert!(matches!(error(vec![], &"x = 1\n".repeat(500)), ViewError::LongPrompt { n_ctx: 128, .. }));
    assert!(matches!(error(vec![edit("9.attn.q[1]", None, To::Mean)], PROMPT), ViewError::NoNode(_)));
    assert!(matches!(error(vec![edit("what", None, To::Mean)], PROMPT), ViewError::NodeName(_)));
    let far = edit("0.attn.q[1]", Some(99), To::Number(1.0));
    assert!(matches!(error(vec![far], PROMPT), ViewError::NoPosition { position: 99, .. }));
    let wild = edit("0.attn.q[1]", None, To::Number(f32::INFINITY));
    assert!(matches!(error(vec![wild], PROMPT), ViewError::Range { field: "to", .. }));
    let tokens = RunQuestion { prompt: Prompt::Tokens(vec![60_000]), ..question("", vec![]) };
    assert!(matches!(view.run(&tokens).unwrap_err(), ViewError::NoToken { token: 60_000, .. }));
}

#[test]
fn the_causes_of_a_logit_add_up_to_it() {
    let dir = copy();
    let view = View::open(&[dir.path().to_owned()]).unwrap();
    let run = view.run(&question(PROMPT, vec![])).unwrap();
    let best = run.answers.last().unwrap()[0].clone();
    let asked = BacktraceQuestion {
        circuit: 1,
        prompt: Prompt::Text(PROMPT.into()),
        edits: vec![],
        of: Of::Logit(best.id),
        position: run.tokens.len() - 1,
        depth: 4,
        share: 0.05,
        effect: Effect::Zero,
    };
    let answer = view.backtrace(&asked).unwrap();
    assert!((answer.backtrace.value - f64::from(best.logit)).abs() < 1e-6);
    assert!((answer.backtrace.sum_of_leaves() - answer.backtrace.value).abs() < 1e-4);
    assert!(answer.backtrace.causes.shown[0].effect.is_some());
    for (depth, share, field) in [(0, 0.1, "depth"), (7, 0.1, "depth"), (2, 1.5, "share"), (2, f64::NAN, "share")] {
        let error = view.backtrace(&BacktraceQuestion { depth, share, ..asked.clone() }).unwrap_err();
        assert!(matches!(error, ViewError::Range { field: found, .. } if found == field));
    }
}

#[test]
fn a_counter_example_is_run_again_and_a_wrong_one_noticed() {
    let dir = copy();
    let view = View::open(&[dir.path().to_owned()]).unwrap();
    let replay = view.replay(0).unwrap();
    let verdict = view.verdict(0).unwrap();
    let example = verdict.counter_example.unwrap();
    assert!(replay.agrees && (replay.model[0] - example.model[0]).abs() < 1e-3);
    assert_eq!(verdict.level, [2, 5]);
    assert!(verdict.levels.iter().any(|level| level.state == "failed") && !verdict.matrix.is_empty());
    assert!(matches!(view.replay(1), Err(ViewError::NoCounterExample)));
    // Other means than the verdict's, and the same run no longer agrees.
    let path = circuit_file(dir.path(), "single_double_quote").with_extension("verdict.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let found = &mut json["report"]["verdict"]["counter_example"]["run"];
    *found = serde_json::json!([found[0].as_f64().unwrap() + 1.0, found[1]]);
    std::fs::write(&path, json.to_string()).unwrap();
    assert!(!View::open(&[dir.path().to_owned()]).unwrap().replay(0).unwrap().agrees);
}

#[test]
fn a_label_is_saved_and_the_verdict_stands() {
    let dir = copy();
    let view = View::open(&[dir.path().to_owned()]).unwrap();
    let path = circuit_file(dir.path(), "with_as");
    let before: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let label = |node: &str, name: &str| LabelQuestion {
        circuit: 1,
        node: node.into(),
        name: name.into(),
        note: Some("why".into()),
    };
    view.label(&label("0.attn.v[25]", "file is open")).unwrap();
    // A label that another program writes meanwhile stays.
    let text = std::fs::read_to_string(&path).unwrap().replace("file is open", "opened by with");
    std::fs::write(&path, text).unwrap();
    view.label(&label("0.attn.q[21]", HOSTILE)).unwrap();
    let again = View::open(&[dir.path().to_owned()]).unwrap();
    let graph = again.graph(1).unwrap();
    let named = |name: &str| graph.nodes.iter().find(|node| node.name == name).unwrap().label.clone();
    assert_eq!(named("0.attn.v[25]").as_deref(), Some("opened by with"));
    assert_eq!(named("0.attn.q[21]").as_deref(), Some(HOSTILE.trim()));
    assert_eq!(again.catalogue().circuits[1].mark, Mark::Passed, "the verdict is about nodes and edges");
    let mut after: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    after.as_object_mut().unwrap().remove("labels");
    assert_eq!(after, before);
    // An empty name takes a label away; nodes outside, and long names, are refused, and the file is as it was.
    view.label(&label("0.attn.v[25]", " ")).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("opened by with"));
    assert!(matches!(view.label(&label("0.attn.v[26]", "x")), Err(ViewError::Label(_))));
    assert!(matches!(
        view.label(&label("0.attn.v[25]", &"x".repeat(201))),
        Err(ViewError::LongLabel { most: 200, .. })
    ));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn contexts_of_a_node_are_where_it_has_the_values_that_they_say() {
    let dir = copy();
    let view = View::open(&[dir.path().to_owned()]).unwrap();
    let name = "0.attn.q[21]";
    let examples = view.examples(1, name).unwrap();
    let open = OpenModel::open(dir.path()).unwrap();
    let tokenizer = open.tokenizer(None).unwrap();
    let sample =
        openwork_project::Sample::open(dir.path(), None, tokenizer.sha256(), [128, open.model.config.vocab_size])
            .unwrap();
    assert!(examples.lists.iter().all(|list| !list.examples.is_empty()) && examples.active > 0);
    for example in examples.lists.iter().flat_map(|list| &list.examples) {
        let window = &sample.tokens[example.window * 128..(example.window + 1) * 128];
        let trace = Trace::run(&open.model, window, &[]);
        let first = example.position - example.at;
        for (i, (value, token)) in example.values.iter().zip(&example.tokens).enumerate() {
            assert!((trace.value(name.parse().unwrap(), first + i) - value).abs() <= 1e-5 * value.abs().max(1.0));
            assert_eq!(token.id, window[first + i]);
        }
        assert!(example.values[example.at] != 0.0);
    }
    let top = &examples.lists[0].examples;
    assert!(top.windows(2).all(|pair| pair[0].values[pair[0].at] >= pair[1].values[pair[1].at]));
    assert!(matches!(view.examples(1, "0.attn.q[9999]"), Err(ViewError::NoNode(_))));
}

#[test]
fn circuits_compare_by_their_parts() {
    let dir = copy();
    add_large(dir.path(), 2000);
    let view = View::open(&[dir.path().to_owned()]).unwrap();
    let own = view.compare(2, 2).unwrap();
    assert_eq!((own.nodes.jaccard, own.nodes.first.len(), own.edges.second.len()), (Some(1.0), 0, 0));
    let apart = view.compare(1, 2).unwrap();
    assert_eq!((apart.nodes.both.len(), apart.nodes.first.len(), apart.nodes.second.len()), (0, 13, 8));
    // Every part of a large circuit would be run again.
    assert!(matches!(view.effects(0), Err(ViewError::TooLarge { most: 800, .. })));
    assert!(view.graph(0).unwrap().edges.len() >= 2000);
}

#[test]
fn hostile_texts_stay_texts_in_an_exported_page() {
    let dir = copy();
    add_hostile(dir.path());
    let view = View::open(&[dir.path().to_owned()]).unwrap();
    assert_eq!(view.catalogue().circuits.len(), 3);
    let html = exported(&view);
    // Two elements of scripts, and no end of one within.
    assert_eq!(html.matches("<script").count(), 2);
    assert_eq!(html.matches("</script>").count(), 2);
    assert_eq!(page(None).matches("<script").count(), 1);
    let data = html.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    assert!(!data.contains('<'));
    let entries: Vec<serde_json::Value> = serde_json::from_str(data).unwrap();
    let graph = entries.iter().find(|e| e["question"] == serde_json::json!({ "ask": "graph", "circuit": 0 })).unwrap();
    let label = graph["answer"]["nodes"][0]["label"].as_str().unwrap();
    assert!(label.starts_with(HOSTILE));
}
