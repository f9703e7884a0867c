//! Circuits from rankings, their curves, and refinement, as a user asks for them.

use std::fs;

use openwork_circuit::{Circuit, CircuitFile, NodeSet, NodeSpace};
use openwork_project::CURVES_HEADER;

use crate::{
    circuits::{whole_model, young_model},
    ok, run, stderr,
};

#[test]
fn rankings_make_circuits_and_curves_and_refinement_removes_what_is_not_needed() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    young_model(dir);
    let fails = |line: &str, message: &str| {
        let refused = run(dir, line);
        assert_eq!(refused.status.code(), Some(2), "{line}");
        assert!(stderr(&refused).contains(message), "{line}: {}", stderr(&refused));
    };
    let prune = "prune run --task for_while";
    fails(&format!("{prune} --score gradient"), "--score is an option of scores");
    fails(&format!("{prune} --method scores"), "--method scores needs --score");
    fails(&format!("{prune} --method scores --score gradient --steps 5"), "cannot be used with");
    fails(&format!("{prune} --method scores --score attribution"), "there is no score \"attribution\"");
    fails(&format!("{prune} --method scores --score patching --parts edges"), "edges are ranked by gradient");
    fails(&format!("{prune} --method scores --score weights"), "above the target of 0.150");
    // Below chance there is something to find.
    ok(dir, &format!("{prune} --method scores --score gradient --target-loss 0.8 --name scored --claim contrast"));
    let json = |path: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(dir.join(path)).unwrap()).unwrap()
    };
    let scored = json("run/circuits/scored.json");
    let (search, claim) = (&scored["search"], &scored["claim"]);
    assert_eq!(
        (&search["method"], &search["score"], claim),
        (&"scored".into(), &"gradient".into(), &"contrast".into())
    );

    let shown = ok(dir, "curves run --task for_while --score random,weights --out curves.svg");
    assert!(shown.contains("curves.svg") && shown.contains("curves.csv"), "{shown}");
    let drawing = fs::read_to_string(dir.join("curves.svg")).unwrap();
    assert!(drawing.contains("<svg") && drawing.contains("weights") && drawing.contains("under attack"));
    let table = fs::read_to_string(dir.join("curves.csv")).unwrap();
    assert!(table.starts_with(CURVES_HEADER) && table.lines().skip(1).all(|l| l.split(',').count() == 10), "{table}");
    fails(
        "curves run --task for_while --score random,weights --out curves.svg",
        "curves.svg is there already; --force",
    );
    let again = ok(dir, "curves run --task for_while --score random,weights --out curves.svg --force");
    assert_eq!((again, fs::read_to_string(dir.join("curves.csv")).unwrap()), (shown, table));
    fs::write(dir.join("mine.csv"), "a,b\n").unwrap();
    fails("curves run --task for_while --out mine.svg", "is no table of curves");
    fails("curves run --task for_while --out c.svg --score patching --parts edges", "edges are ranked by gradient");

    let file = whole_model(dir);
    let model = openwork_model::Model::load(dir.join("run/model.safetensors")).unwrap().model;
    let few = Circuit::new(&model, NodeSet::of(NodeSpace::new(&model.config), (0..40).step_by(2)));
    CircuitFile { circuit: few.clone(), ..file }.save(&dir.join("run/circuits/few.json")).unwrap();
    let refine = "refine run run/circuits/few.json --out run/circuits/less.json";
    fails(refine, "has not a loss of at most 0.15 nats");
    fails(&refine.replace("less", "few"), "is an input of this command");
    // Everything is at chance, with and without nodes.
    let shown = ok(dir, &format!("{refine} --target-loss 0.8"));
    assert!(shown.contains("0 nodes, 0 edges, 0 edges with biases"), "{shown}");
    let less = json("run/circuits/less.json");
    let search = &less["search"];
    assert_eq!((&search["method"], &search["hold"]["loss"]), (&"refined".into(), &0.8.into()));
    assert_eq!(less["target_loss_nats"], 0.8);
    assert_eq!((&search["circuit_sha256"], &search["nodes"]), (&few.sha256().into(), &20.into()));
    fails(&format!("{refine} --target-loss 0.8"), "less.json");
    fails(&format!("{refine} --steps 5"), "--steps is an option of --method learned");
    let learned = format!("{} --target-loss 0.8 --method learned --steps 5", refine.replace("less", "learned"));
    ok(dir, &learned);
    assert_eq!(json("run/circuits/learned.json")["search"]["edge_masks"][0]["steps"], 5);
    // The verdict tells how it was found.
    let judged = run(dir, "verify run run/circuits/less.json --level 1 --no-controls --random-sets 100");
    let verdict = String::from_utf8_lossy(&judged.stdout).into_owned();
    assert!(verdict.contains("what is left of a circuit of 20 nodes"), "{verdict}{}", stderr(&judged));
}
