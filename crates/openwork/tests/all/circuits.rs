//! Tasks, circuits, verdicts and the report, on a model too young to do any task: what must be refused is
//! refused, and said so. Circuits that pass are the quickstart's business and that of `openwork-verify`'s tests.

use std::path::Path;

use openwork_circuit::{Calibration, Circuit, CircuitFile, Claim, Means, NodeSet, NodeSpace, SearchSettings};

use crate::{ok, run, stderr};

/// A run of two steps with a vocabulary in which answers are single tokens.
pub fn young_model(dir: &Path) {
    let recipe =
        crate::pipeline::RECIPE.replace("vocab_size = 320", "vocab_size = 2048").replace("steps = 240", "steps = 2");
    std::fs::write(dir.join("young.toml"), recipe.replace("n_ctx = 32", "n_ctx = 128")).unwrap();
    ok(dir, "tokenizer train --generated --megabytes 4 --out tokenizer.json");
    ok(dir, "data generate --megabytes 1 --validation-fraction 0.1 --tokenizer tokenizer.json --out data");
    ok(dir, "train young.toml --data data --tokenizer tokenizer.json --out run");
}

/// The circuit of all nodes, as a file.
pub fn whole_model(dir: &Path) -> CircuitFile {
    let loaded = openwork_model::Model::load(dir.join("run/model.safetensors")).unwrap();
    let means = Means::load(&dir.join("run/means.safetensors"), &loaded.model, &loaded.sha256).unwrap();
    let circuit = CircuitFile {
        task: "for_while".into(),
        model_sha256: loaded.sha256.clone(),
        means_sha256: means.sha256(),
        tokenizer_sha256: loaded.metadata["tokenizer_sha256"].clone(),
        circuit: Circuit::new(&loaded.model, NodeSet::all(NodeSpace::new(&loaded.model.config))),
        claim: Claim::Answer,
        calibration: Calibration::NONE,
        target_loss: 0.15,
        loss: 0.1,
        seed: 0,
        search: SearchSettings::ByHand {},
    };
    std::fs::create_dir_all(dir.join("run/circuits")).unwrap();
    circuit.save(&dir.join("run/circuits/for_while.json")).unwrap();
    circuit
}

#[test]
fn a_model_that_cannot_do_the_task_gets_no_circuit_and_no_pass() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    young_model(dir);

    assert!(ok(dir, "tasks list").contains("bracket_counting"));
    assert!(ok(dir, "tasks show for_while --pairs 1").contains("for "));
    let measured = ok(dir, "tasks eval run --task for_while --pairs 8");
    // Eight pairs say little: the interval of a share is at least as wide as that of 8 of 8, (63 %, 100 %).
    let interval = measured.split_once('[').and_then(|(_, rest)| rest.split_once(']')).expect("an interval").0;
    let (low, high) = interval.split_once(", ").map(|(a, b)| (a.parse::<f64>(), b.parse::<f64>())).unwrap();
    assert!(high.unwrap() - low.unwrap() >= 36.0, "{measured}");
    assert!(measured.contains("for_while") && measured.contains('%'), "{measured}");
    let json = ok(dir, "tasks eval run --task for_while --pairs 8 --json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let fresh = &json["tasks"][0]["fresh"];
    assert!(measured.contains(&format!("{:.3}", fresh["loss_nats"].as_f64().unwrap())), "{measured}{json}");
    assert!(json["pairs"] == 8 && fresh["accuracy"]["n"] == 8 && json["model_sha256"].is_string(), "{json}");

    let sure = "the vocabulary has 2048 tokens";
    for (line, words) in [
        ("tasks eval run --task for_while --task var_if --task for_while", "--task for_while stands twice"),
        ("forward run --prompt x --top 2049", sure),
        ("generate run --prompt x --top-k 2049", sure),
        ("tokenizer train --generated --megabytes 4 --out tokenizer.json", "tokenizer.json is there already; --force"),
    ] {
        let refused = run(dir, line);
        assert!(refused.status.code() == Some(2) && stderr(&refused).contains(words), "{line}: {}", stderr(&refused));
    }

    let refused = run(dir, "prune run --task for_while --steps 2");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("above the target of 0.150"), "{}", stderr(&refused));
    assert!(!dir.join("run/circuits").exists(), "nothing half-written");
    let unknown = run(dir, "prune run --task for_whale");
    assert!(stderr(&unknown).contains("there is no task \"for_whale\"; there are single_double_quote"));

    // Below chance there is something to find, again and again.
    let stable =
        ok(dir, "stability run --task for_while --seeds 2 --steps 2 --restarts 1 --target-loss 0.8 --out seeds");
    assert!(stable.contains("seed 1: for_while") && stable.contains("2 circuits"), "{stable}");
    assert!(dir.join("seeds/for_while.0.json").exists() && dir.join("seeds/for_while.1.json").exists());

    whole_model(dir);
    let twice = run(dir, "dissociate run run/circuits/for_while.json seeds/for_while.0.json");
    assert!(stderr(&twice).contains("seeds/for_while.0.json is another circuit of for_while"), "{}", stderr(&twice));
    let judged = run(dir, "verify run run/circuits/for_while.json --no-controls --random-sets 100 --html one.html");
    assert_eq!(judged.status.code(), Some(1), "{}", stderr(&judged));
    assert!(String::from_utf8_lossy(&judged.stdout).contains("NO TASK"));
    let verdict = std::fs::read_to_string(dir.join("run/circuits/for_while.verdict.json")).unwrap();
    assert!(verdict.contains("\"no_task\""));

    ok(dir, "report run");
    let page = std::fs::read_to_string(dir.join("run/report.html")).unwrap();
    assert!(page.contains("NO TASK") && page.contains("<svg") && page.contains("for_while"));
    let one = std::fs::read_to_string(dir.join("one.html")).unwrap();
    assert!(one.contains("NO TASK") && one.contains("Verdict on the circuit for_while"));
    for page in [page, one] {
        assert!(!["href=\"http", "src=", "@import", "url("].iter().any(|load| page.contains(load)), "self-contained");
    }

    let old = r#"{"format": "openwork-verdict 2", "report": {}}"#;
    std::fs::write(dir.join("run/circuits/for_while.verdict.json"), old).unwrap();
    let said = ok(dir, "report run");
    let line = said.lines().find(|l| l.starts_with("run/circuits/for_while.json")).expect("the circuit is listed");
    assert!(line.contains("has format \"openwork-verdict 2\"") && line.contains("openwork verify"), "{line}");
    let refused = run(dir, "verdict run run/circuits/for_while.verdict.json");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("has format \"openwork-verdict 2\", expected"), "{}", stderr(&refused));
}

#[test]
fn a_circuit_with_fewer_edges_is_verified_as_its_file_says() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    young_model(dir);
    let _ = run(dir, "prune run --task for_while --steps 2"); // takes the means
    let file = whole_model(dir);
    let model = openwork_model::Model::load(dir.join("run/model.safetensors")).unwrap().model;
    let path = dir.join("run/circuits/for_while.json");
    let half: Vec<_> = file.circuit.edges().iter().step_by(2).map(|e| (e.from, e.to)).collect();
    let circuit = file.circuit.clone().with_edges(&model, &half).unwrap();
    CircuitFile { circuit, ..file.clone() }.save(&path).unwrap();
    let judged = run(dir, "verify run run/circuits/for_while.json --no-controls --level 2 --random-sets 100");
    assert_eq!(judged.status.code(), Some(1), "{}", stderr(&judged));
    let verdict = std::fs::read_to_string(dir.join("run/circuits/for_while.verdict.json")).unwrap();
    let verdict: serde_json::Value = serde_json::from_str(&verdict).unwrap();
    assert_eq!(verdict["report"]["size"]["edges"], half.len());
    ok(dir, "report run");
    let watched = run(dir, "watch run run/circuits/for_while.json --prompts young.toml --margin 9");
    assert!(stderr(&watched).contains("prompts flagged"), "{}", stderr(&watched));
    // A residual edge is no weight that could be ablated.
    let circuit = file.circuit.clone().with_residual_edges(&[]).unwrap();
    CircuitFile { circuit, ..file }.save(&path).unwrap();
    for command in ["verify", "watch"] {
        let refused = run(dir, &format!("{command} run run/circuits/for_while.json"));
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains("leaves out the residual edge"), "{}", stderr(&refused));
    }
}

#[test]
fn a_circuit_that_does_not_reach_grows_only_where_it_is_asked_for_and_its_file_says_so() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    young_model(dir);
    let _ = run(dir, "prune run --task for_while --steps 2"); // takes the means
    let file = whole_model(dir);
    let model = openwork_model::Model::load(dir.join("run/model.safetensors")).unwrap().model;
    let few = Circuit::new(&model, NodeSet::of(NodeSpace::new(&model.config), 0..3));
    CircuitFile { circuit: few.clone(), ..file }.save(&dir.join("run/circuits/few.json")).unwrap();
    let fails = |line: &str, message: &str| {
        let refused = run(dir, line);
        assert_eq!(refused.status.code(), Some(2), "{line}");
        assert!(stderr(&refused).contains(message), "{line}: {}", stderr(&refused));
    };
    // Options of one method are none of the other.
    fails("prune run --task for_while --agreement 0.9", "--agreement is an option of growth");
    fails("prune run --task for_while --from run/circuits/few.json", "--from is an option of growth");
    fails("prune run --task for_while --method grow --from run/circuits/few.json --steps 5", "cannot be used with");
    fails("prune run --task for_while --method attribution", "[possible values: masks, grow");
    let grow = "prune run --task for_while --method grow --from run/circuits/few.json --rounds 1 --name grown";
    fails(&grow.replace("for_while --m", "with_as --m"), "is a circuit of the task for_while");
    fails(&format!("{} --max-nodes 100", grow.replace("few", "for_while")), "growth begins with 1 to 100");
    fails(grow, "--accept-unreached writes the circuit all the same");
    fails(&format!("{grow} --max-nodes 3"), "(--max-nodes)");
    let path = dir.join("run/circuits/grown.json");
    assert!(!path.exists(), "nothing was written");
    let shown = ok(dir, &format!("{grow} --accept-unreached --max-nodes 3"));
    assert!(shown.contains("it does not reach what growth asks for"), "{shown}");
    let text = std::fs::read_to_string(&path).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let search = &json["search"];
    assert_eq!((&search["method"], &search["reached"]), (&"grown".into(), &false.into()));
    assert_eq!(search["start"]["circuit_sha256"], few.sha256());
    assert_eq!(search["rounds"].as_array().unwrap().len(), 1);
    assert!(search["rounds"][0]["agreements"]["attacked"].as_array().unwrap().len() >= 2);
    // The file is read back, and the verdict tells how it was found.
    let judged = run(dir, "verify run run/circuits/grown.json --level 1 --no-controls --random-sets 100");
    assert_eq!(judged.status.code(), Some(1), "{}", stderr(&judged));
    let verdict = String::from_utf8_lossy(&judged.stdout).into_owned();
    assert!(verdict.contains("grown by counter-examples from a circuit of 3 nodes"), "{verdict}");
    assert!(verdict.contains("it does not reach what its own search asks for"), "{verdict}");
}

#[test]
fn a_circuit_that_is_not_this_models_is_an_error() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    young_model(dir);
    let _ = run(dir, "prune run --task for_while --steps 2"); // takes the means
    let circuit = whole_model(dir);
    let path = dir.join("run/circuits/for_while.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, message) in [
        (circuit.model_sha256.as_str(), "0123", "is a circuit of model 0123"),
        (circuit.means_sha256.as_str(), "0123", "other means (0123)"),
        ("\"for_while\"", "\"for_whale\"", "there is no task"),
        ("\"calibration\"", "\"calabration\"", "is not a circuit file"),
    ] {
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let output = run(dir, "verify run run/circuits/for_while.json --no-controls");
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}
