//! Tuning of a search on a young model: its trace, its circuit, going on, and what it refuses.

use std::fs;

use crate::{circuits::young_model, ok, run, stderr};

#[test]
fn a_tuning_goes_on_from_its_trace_and_replaces_nothing_else() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    young_model(dir);
    // Below chance there is something to find: the empty circuit.
    let tune = |runs: usize, rest: &str| {
        format!("tune run --task for_while --target-loss 0.8 --batch-pairs 1 --runs {runs} --name tuned {rest}")
    };
    let fails = |line: &str, message: &str| {
        let refused = run(dir, line);
        assert_eq!(refused.status.code(), Some(2), "{line}");
        assert!(stderr(&refused).contains(message), "{line}: {}", stderr(&refused));
    };
    fails(&tune(2, "--sampler bayes"), "expected tpe or random");
    fails("tune run --task for_while --runs 2 --batch-pairs 1", "above the target of 0.150");
    let shown = ok(dir, &tune(2, ""));
    assert!(shown.contains("tuned.tune.jsonl") && shown.contains("of 2 (tpe) won"), "{shown}");
    let read = |path: &str| fs::read_to_string(dir.join("run/circuits").join(path)).unwrap();
    let trace = read("tuned.tune.jsonl");
    assert_eq!(trace.lines().count(), 3);
    assert!(read("tuned.tune.svg").contains("<svg"));
    let circuit: serde_json::Value = serde_json::from_str(&read("tuned.json")).unwrap();
    let search = &circuit["search"];
    assert_eq!((&search["method"], &search["sampler"]), (&"tuned".into(), &"tpe".into()));
    assert_eq!(search["masks"]["restarts"], 2);
    let sha256 = openwork_tensor::sha256_bytes(trace.as_bytes());
    assert_eq!(search["trace_sha256"], sha256.as_str());

    fails(&tune(1, ""), "has 2 searches, more than the 1 of --runs");
    fails(&tune(3, "--sampler random"), "its sampler is tpe, and random is asked for");
    fails(&tune(3, "--seed 1"), "its seed is 0, and 1 is asked for");
    ok(dir, &tune(3, ""));
    assert!(read("tuned.tune.jsonl").starts_with(&trace), "searches that were made stay");
    // The same trace from one go, on one thread.
    let one_go = tune(3, "").replace("--name tuned", "--name again");
    let mut command = crate::openwork(dir, &one_go.split_whitespace().collect::<Vec<_>>());
    assert!(command.env("RAYON_NUM_THREADS", "1").status().unwrap().success());
    assert_eq!(read("again.tune.jsonl"), read("tuned.tune.jsonl"));

    // Somebody else's circuit of that name is kept, and a damaged trace is named.
    fs::write(dir.join("run/circuits/again.tune.jsonl"), trace.replace("\"trial\":1", "\"trial\":7")).unwrap();
    fails(&one_go, "again.json holds a circuit already");
    fs::remove_file(dir.join("run/circuits/again.json")).unwrap();
    fails(&one_go, "again.tune.jsonl, line 3: trial is 7 and must be 1");
    ok(dir, &format!("{one_go} --force --beside run/circuits/tuned.tune.jsonl"));
    assert!(read("again.tune.svg").contains("tpe, beside"));
}
