//! Circuit files, whole and tampered with.

use openwork_model::Config;

use super::*;
use crate::LearnedMasks;

fn file(model: &Model) -> CircuitFile {
    let nodes = NodeSet::of(NodeSpace::new(&model.config), [1, 70, 90, 140, 200, 257, 300, 321, 340, 600]);
    let named = nodes.nodes().next().expect("a node");
    let label = Label { name: "cue".into(), note: Some("fires on quotes".into()) };
    let circuit = Circuit::new(model, nodes)
        .with_groups(vec![Group::mlp(&model.config, 0)])
        .and_then(|circuit| circuit.with_labels(BTreeMap::from([(named, label)])))
        .expect("they belong");
    CircuitFile {
        task: "for_while".into(),
        model_sha256: "m".into(),
        means_sha256: "a".into(),
        tokenizer_sha256: "t".into(),
        circuit,
        claim: Claim::Answer,
        calibration: Calibration { scale: 1.5, shift: -0.1 },
        target_loss: 0.15,
        loss: 0.1,
        seed: 7,
        search: SearchSettings::LearnedMasks(LearnedMasks { steps: 77, ..LearnedMasks::default() }),
    }
}

fn model() -> Model {
    Model::init(Config { vocab_size: 8, n_layer: 1, ..Config::default() }, 1)
}

/// The error of a file with these changes to its JSON, with its causes.
fn error(change: impl Fn(&mut serde_json::Value)) -> String {
    let (dir, model) = (tempfile::tempdir().unwrap(), model());
    let path = dir.path().join("circuit.json");
    file(&model).save(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(&path, json.to_string()).unwrap();
    let error = CircuitFile::load(&path, &model, "m").expect_err("the file was changed");
    std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source()).map(|e| format!("{e}; ")).collect()
}

#[test]
fn a_file_holds_all_of_a_circuit() {
    let (dir, model) = (tempfile::tempdir().unwrap(), model());
    let path = dir.path().join("circuit.json");
    let by_masks = file(&model);
    let by_hand = CircuitFile { search: SearchSettings::ByHand {}, ..by_masks.clone() };
    for file in [CircuitFile { claim: Claim::Contrast, ..by_masks.clone() }, by_hand, by_masks] {
        file.save(&path).unwrap();
        assert_eq!(CircuitFile::load(&path, &model, "m").unwrap(), file);
    }
}

#[test]
fn a_file_without_a_claim_claims_the_answer_and_another_claim_is_refused() {
    let (dir, model) = (tempfile::tempdir().unwrap(), model());
    let path = dir.path().join("circuit.json");
    let file = CircuitFile { claim: Claim::Contrast, ..file(&model) };
    file.save(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"claim\": \"contrast\""), "{text}");
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(json.as_object_mut().unwrap().remove("claim").is_some());
    std::fs::write(&path, json.to_string()).unwrap();
    assert_eq!(CircuitFile::load(&path, &model, "m").unwrap(), CircuitFile { claim: Claim::Answer, ..file });
    assert!(error(|j| j["claim"] = "order".into()).contains("unknown variant `order`"));
}

#[test]
fn a_circuit_with_fewer_edges_stays_one() {
    let (dir, model) = (tempfile::tempdir().unwrap(), model());
    let path = dir.path().join("circuit.json");
    let whole = file(&model);
    let ends: Vec<(Node, Node)> = whole.circuit.edges()[1..].iter().map(|e| (e.from, e.to)).collect();
    let circuit = whole.circuit.clone().with_edges(&model, &ends).unwrap().with_residual_edges(&[]).unwrap();
    let less = CircuitFile { circuit, ..whole };
    less.save(&path).unwrap();
    assert_eq!(CircuitFile::load(&path, &model, "m").unwrap(), less);
}

#[test]
fn edges_that_are_left_out_are_all_there_are() {
    let (dir, model) = (tempfile::tempdir().unwrap(), model());
    let path = dir.path().join("circuit.json");
    let file = file(&model);
    file.save(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let json = json.as_object_mut().unwrap();
    assert!(json.remove("edges").is_some() && json.remove("residual_edges").is_some());
    std::fs::write(&path, serde_json::to_string(&json).unwrap()).unwrap();
    assert_eq!(CircuitFile::load(&path, &model, "m").unwrap(), file);
}

#[test]
fn faults_are_named() {
    assert!(error(|j| j["edges"][0]["weight"] = 9.5.into()).contains("has weight 9.5, and the model's is"));
    let ends = serde_json::json!({"from": "0.mlp.act_in[5]", "to": "0.mlp.post_act[1]"});
    let wrong = error(|j| j["edges"][0] = ends.clone());
    assert!(wrong.contains("edge 0.mlp.act_in[5] -> 0.mlp.post_act[1]: node 0.mlp.act_in[5] is not in"), "{wrong}");
    assert!(error(|j| j["nodes"]["0.attn.act_in"] = vec![99].into()).contains("no node 0.attn.act_in[99]"));
    assert!(error(|j| j["nodes"]["0.attn.z"] = vec![1].into()).contains("no site is called \"0.attn.z\""));
    assert!(error(|j| j["sed"] = 1.into()).contains("unknown field `sed`"));
    assert!(error(|j| j["model_sha256"] = "n".into()).contains("circuit of model n, this is model m"));
    assert!(error(|j| j["search"]["method"] = "attribution".into()).contains("unknown variant `attribution`"));
    assert!(error(|j| j["search"]["batch_pairs"] = 0.into()).contains("batch_pairs is 0"));
    assert!(error(|j| j["labels"] = serde_json::json!({"0.attn.q[60]": {"name": "x"}})).contains("label \"x\""));
    let group = serde_json::json!([{"name": "g", "nodes": {"0.attn.q": [60]}}]);
    assert!(error(|j| j["groups"] = group.clone()).contains("group \"g\" has no node in the circuit"));
}

#[test]
fn the_place_of_a_wrong_edge_is_named_and_what_would_be_right() {
    let last = |j: &serde_json::Value| j["edges"].as_array().unwrap().len() - 1;
    let edge = |from: &str, to: &str| serde_json::json!({"from": from, "to": to});
    let twice = error(|j| {
        let at = last(j);
        j["edges"][at] = j["edges"][0].clone();
    });
    assert!(twice.contains("listed twice") && twice.contains("edges[") && !twice.contains("edges[0]"), "{twice}");
    let unknown = error(|j| j["edges"][2] = edge("0.attn.act_in[1]", "0.attn.qq[3]"));
    assert!(unknown.contains("edges[2] names no node"), "{unknown}");
    let outside = error(|j| j["edges"][2] = edge("0.attn.act_in[1]", "0.attn.q[640]"));
    assert!(outside.contains("edges[2]: the model has no node 0.attn.q[640]: 0.attn.q has nodes 0 to 63"), "{outside}");
    let missing = error(|j| j["edges"][1] = edge("0.mlp.act_in[5]", "0.mlp.post_act[1]"));
    assert!(missing.contains("edges[1] does not belong to this circuit; without the list"), "{missing}");
    let wrong = error(|j| j["residual_edges"] = serde_json::json!([edge("0.attn.act_in[1]", "0.attn.q[6]")]));
    assert!(wrong.contains("residual_edges[0] does not belong"), "{wrong}");
    let weight = error(|j| j["edges"][1]["weight"] = 9.5.into());
    assert!(weight.contains("edges[1]: edge") && weight.contains("may be left out"), "{weight}");
    let nodes = error(|j| j["nodes"]["0.attn.act_in"] = vec![1, 1].into());
    assert!(nodes.contains("nodes: 0.attn.act_in[1] is listed twice"), "{nodes}");
}

#[test]
fn the_hash_of_a_claim_depends_on_what_a_verdict_does_and_on_no_label() {
    let model = model();
    let own = file(&model);
    let hash = own.claim_sha256();
    let nodes = NodeSet::of(own.circuit.nodes().space().clone(), [1, 70]);
    let ends: Vec<(Node, Node)> = own.circuit.edges()[1..].iter().map(|e| (e.from, e.to)).collect();
    let others = [
        CircuitFile { task: "with_as".into(), ..own.clone() },
        CircuitFile { calibration: Calibration { scale: 1.6, ..own.calibration }, ..own.clone() },
        CircuitFile { target_loss: 0.2, ..own.clone() },
        CircuitFile { seed: 8, ..own.clone() },
        CircuitFile { search: SearchSettings::ByHand {}, ..own.clone() },
        CircuitFile { tokenizer_sha256: "u".into(), ..own.clone() },
        CircuitFile { claim: Claim::Contrast, ..own.clone() },
        CircuitFile { circuit: Circuit::new(&model, nodes), ..own.clone() },
        CircuitFile { circuit: own.circuit.clone().with_edges(&model, &ends).unwrap(), ..own.clone() },
    ];
    let mut hashes: Vec<String> = others.iter().map(CircuitFile::claim_sha256).collect();
    hashes.push(hash.clone());
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), others.len() + 1);
    let bare = own.circuit.clone().with_labels(BTreeMap::new()).unwrap().with_groups(vec![]).unwrap();
    assert_eq!(CircuitFile { circuit: bare, ..own }.claim_sha256(), hash);
}

#[test]
fn the_old_format_is_refused_with_advice() {
    let refused = error(|j| {
        j["format"] = "openwork-circuit 1".into();
        j["settings"] = serde_json::json!({"lr": 0.02});
    });
    assert!(refused.contains("format \"openwork-circuit 1\"") && refused.contains("`openwork prune`"), "{refused}");
}

#[test]
fn numbers_without_sense_are_named() {
    for (pointer, value, words) in [
        ("/target_loss_nats", -1.0, "target_loss_nats must be above 0"),
        ("/loss_nats", -5.0, "loss_nats at least 0"),
        ("/calibration/shift", 1e300, "calibration is beyond"),
        ("/calibration/scale", -1e308, "calibration is beyond"),
    ] {
        let said = error(|json| *json.pointer_mut(pointer).unwrap() = value.into());
        assert!(said.contains(words), "{pointer}: {said}");
    }
}
