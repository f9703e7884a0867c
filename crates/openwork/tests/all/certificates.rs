//! `check-certificate` as its user sees it: 0 accepted, 1 rejected with the reason, 2 unreadable.

use std::collections::BTreeMap;

use openwork_circuit::{Domain, NodeSet, NodeSpace};
use openwork_model::{Config, Model};
use openwork_verify::certificate::{About, Scheme, exhaustive};

use crate::{ok, run, stderr};

#[test]
fn a_certificate_is_accepted_rejected_or_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let config = Config { vocab_size: 8, n_ctx: 4, n_layer: 1, d_model: 8, d_mlp: 8, ..Config::default() };
    let model = Model::init(config, 1);
    model.save(dir.join("model.safetensors"), &BTreeMap::new()).unwrap();
    let space = NodeSpace::new(&model.config);
    let about = About {
        model: &model,
        model_sha256: &openwork_model::Model::load(dir.join("model.safetensors")).unwrap().sha256,
        circuit: &NodeSet::of(space.clone(), (0..space.len()).filter(|n| n % 3 > 0)),
        constants: None,
        inputs: &Domain::all(&[0, 1, 5], 1..=3).unwrap(),
        answers: None,
        candidates: None,
    };
    let certificate = exhaustive(&about, &[Scheme::Zero], 100).unwrap().0;
    let text = certificate.to_json();
    std::fs::write(dir.join("c.json"), &text).unwrap();
    std::fs::write(dir.join("domain.json"), certificate.domain_json()).unwrap();
    let said = ok(dir, "check-certificate c.json model.safetensors");
    assert!(said.starts_with("accepted: exhaustive: over all 39 inputs and 39 runs"), "{said}");

    std::fs::write(dir.join("d.json"), text.replace("\"runs\":39", "\"runs\":40")).unwrap();
    let output = run(dir, "check-certificate d.json model.safetensors");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said, "rejected: `runs` does not hold: claimed 40, found 39\n");

    for (line, word) in [
        ("check-certificate none.json model.safetensors", "none.json"),
        ("check-certificate c.json c.json", "c.json"),
        ("check-certificate model.safetensors model.safetensors", "model.safetensors"),
        ("check-certificate c.json none", "none"),
    ] {
        let output = run(dir, line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(stderr(&output).contains("error: ") && stderr(&output).contains(word), "{}", stderr(&output));
    }
}
