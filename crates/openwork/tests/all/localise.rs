//! Localisation of a circuit of a young model: what it writes, what it says, and what it refuses.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use crate::{circuits::young_model, errors::walk, ok, openwork, run, stderr, verdicts::save};

const LOCALISE: &str =
    "localise run --circuit run/circuits/for_while.json --data data --steps 2 --extra-steps 1 --pairs 2";

/// A young run with a circuit by hand, of every 23rd node and hardly any loss reduction.
fn with_circuit(dir: &Path) {
    young_model(dir);
    let _ = run(dir, "prune run --task for_while --steps 2"); // takes the means
    save(dir, "for_while", "for_while", 23);
}

/// Contents of a folder, by path.
fn contents(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = walk(dir).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn a_localised_model_is_a_model_of_its_own_and_its_verdict_says_trained_in() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    with_circuit(dir);
    let before = contents(&dir.join("run"));

    let refused = run(dir, &format!("{LOCALISE} --out far"));
    let said = stderr(&refused);
    assert!(
        refused.status.code() == Some(2) && said.contains("in the untouched model, and 0.15 are asked for"),
        "{said}"
    );
    // Somebody else's folder, whatever its name.
    std::fs::create_dir(dir.join(".local.tmp")).unwrap();
    std::fs::write(dir.join(".local.tmp/thesis"), "thesis").unwrap();
    let said = ok(dir, &format!("{LOCALISE} --target-loss 0.8 --out local"));
    assert_eq!(std::fs::read_to_string(dir.join(".local.tmp/thesis")).unwrap(), "thesis");
    assert!(
        said.contains("for the circuits") && said.contains("openwork verify local local/circuits/for_while.json"),
        "{said}"
    );
    assert_eq!(contents(&dir.join("run")), before, "the run is left as it was");
    ok(dir, "fsck local");

    let judged = run(dir, "verify local local/circuits/for_while.json --level 1 --no-controls --random-sets 100");
    let verdict = String::from_utf8_lossy(&judged.stdout);
    assert!(verdict.contains("trained into this model by 3 steps of localisation"), "{verdict}");
    let json = std::fs::read_to_string(dir.join("local/localised.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let circuit = std::fs::read_to_string(dir.join("local/circuits/for_while.json")).unwrap();
    let circuit: serde_json::Value = serde_json::from_str(&circuit).unwrap();
    assert_eq!(circuit["search"]["method"], "localised");
    assert_eq!(circuit["search"]["original_sha256"], json["original_sha256"]);
    assert_ne!(json["original_sha256"], json["model_sha256"]);
    assert_eq!(circuit["model_sha256"], json["model_sha256"]);

    // The same seed gives the same bytes, and random circuits need no loss in the untouched model.
    ok(dir, &format!("{LOCALISE} --target-loss 0.8 --out again"));
    for file in ["model.safetensors", "circuits/for_while.json", "localised.json"] {
        let read = |folder: &str| std::fs::read(dir.join(folder).join(file)).unwrap();
        assert!(read("local") == read("again"), "{file}");
    }
    ok(dir, &format!("{LOCALISE} --random 1 --out control"));
    let json = std::fs::read_to_string(dir.join("control/localised.json")).unwrap();
    assert!(json.contains("\"random\": 1"), "{json}");
}

#[test]
fn localisation_refuses_what_it_would_overwrite_or_cannot_know_and_an_interruption_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    with_circuit(dir);
    std::fs::create_dir(dir.join("thesis")).unwrap();
    ok(dir, "data generate --megabytes 1 --seed 9 --validation-fraction 0.1 --tokenizer tokenizer.json --out other");
    for (line, words) in [
        (format!("{LOCALISE} --out thesis"), "thesis is there already"),
        (format!("{LOCALISE} --out young.toml/local"), "cannot write"),
        (format!("{LOCALISE} --out run/circuits/local"), "lies inside run"),
        (format!("{LOCALISE} --out far/away/local"), "there is no such folder"),
        (format!("{} --out local", LOCALISE.replace("--data data", "--data other")), "not of the data in other"),
        (
            format!("{LOCALISE} --circuit run/circuits/for_while.json --target-loss 0.8 --out local"),
            "two circuits are of",
        ),
        (format!("{LOCALISE} --weight 0 --out local"), "above 0"),
        (format!("{LOCALISE} --agreement nan --out local"), "expected"),
    ] {
        let output = run(dir, &line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(stderr(&output).contains(words), "{line}: {}", stderr(&output));
    }
    let line = format!("{LOCALISE} --target-loss 0.8 --agreement 1 --out local").replace("--steps 2", "--steps 100000");
    let mut child = openwork(dir, &line.split_whitespace().collect::<Vec<_>>()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("step 25")));
    let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    assert!(lines.any(|line| line.contains("nothing was written")));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!dir.join("local").exists());
    let hidden =
        std::fs::read_dir(dir).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("local"));
    assert_eq!(hidden.count(), 0);
}
