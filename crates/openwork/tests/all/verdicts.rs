//! Verdict files: tied to what they are about, complete or not, and kept when a circuit is replaced only if somebody says so.

use std::{path::Path, sync::OnceLock};

use openwork_circuit::{Calibration, Circuit, CircuitFile, Claim, Means, NodeSet, NodeSpace, SearchSettings};
use openwork_project::{Beside, Project, Request, VerdictError, verdict_path, verify_circuit};
use openwork_verify::{Limits, Settings};

use crate::{circuits::young_model, ok, run, stderr};

/// A folder with a trained run, which tests copy.
fn trained() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        young_model(dir.path());
        let _ = run(dir.path(), "prune run --task for_while --steps 2"); // takes the means
        dir
    });
    dir.path()
}

/// A copy of the run.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp").arg("-r").arg(trained().join("run")).arg(dir.path()).status();
    assert!(status.unwrap().success());
    dir
}

/// A circuit of `task`, of every `step`-th node.
pub fn save(dir: &Path, name: &str, task: &str, step: usize) -> CircuitFile {
    let loaded = openwork_model::Model::load(dir.join("run/model.safetensors")).unwrap();
    let means = Means::load(&dir.join("run/means.safetensors"), &loaded.model, &loaded.sha256).unwrap();
    let space = NodeSpace::new(&loaded.model.config);
    let numbers = (0..space.len()).step_by(step);
    let circuit = CircuitFile {
        task: task.into(),
        model_sha256: loaded.sha256,
        means_sha256: means.sha256(),
        tokenizer_sha256: loaded.metadata["tokenizer_sha256"].clone(),
        circuit: Circuit::new(&loaded.model, NodeSet::of(space, numbers)),
        claim: Claim::Answer,
        calibration: Calibration::NONE,
        target_loss: 0.15,
        loss: 0.1,
        seed: 0,
        search: SearchSettings::ByHand {},
    };
    std::fs::create_dir_all(dir.join("run/circuits")).unwrap();
    circuit.save(&dir.join(format!("run/circuits/{name}.json"))).unwrap();
    circuit
}

fn read(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).unwrap()
}

const VERIFY: &str = "verify run run/circuits/for_while.json --no-controls --random-sets 100 --level 1";

#[test]
fn a_verdict_is_about_the_circuit_that_it_was_made_on() {
    let tmp = copy();
    let dir = tmp.path();
    save(dir, "for_while", "for_while", 1);
    let _ = run(dir, VERIFY);
    ok(dir, "report run");
    assert!(!read(dir, "run/report.html").contains("NOT VERIFIED"));

    // Another circuit in the same file, and the verdict renamed to another circuit's name.
    save(dir, "for_while", "for_while", 2);
    save(dir, "other", "for_while", 3);
    std::fs::copy(dir.join("run/circuits/for_while.verdict.json"), dir.join("run/circuits/other.verdict.json"))
        .unwrap();
    save(dir, "bare", "for_while", 4);
    let said = ok(dir, "report run");
    for name in ["for_while", "other"] {
        let line = said.lines().find(|l| l.starts_with(&format!("run/circuits/{name}.json"))).unwrap();
        assert!(line.contains("(circuit differs)") && line.contains("openwork verify"), "{line}");
    }
    assert!(said.contains("run/circuits/bare.json: it has no verdict beside it"), "{said}");
    let page = read(dir, "run/report.html");
    assert_eq!(page.matches("NOT VERIFIED").count(), 3);
    assert!(!page.contains("NO TASK"), "no badge of another circuit");
    for (command, note) in [
        ("watch run run/circuits/for_while.json --prompts run/recipe.toml", "(circuit differs)"),
        ("watch run run/circuits/bare.json --prompts run/recipe.toml", "has not been verified"),
        ("replay run run/circuits/other.verdict.json", "(circuit differs)"),
    ] {
        let said = stderr(&run(dir, command));
        assert!(said.contains(note), "{command}: {said}");
    }
}

#[test]
fn a_verdict_of_an_earlier_version_is_named_and_stops_nothing() {
    let tmp = copy();
    let dir = tmp.path();
    save(dir, "for_while", "for_while", 1);
    let _ = run(dir, VERIFY);
    let path = dir.join("run/circuits/for_while.verdict.json");
    let verdict = std::fs::read_to_string(&path).unwrap();
    let of_format = |format: &str| {
        let mut json: serde_json::Value = serde_json::from_str(&verdict).unwrap();
        json["format"] = format.into();
        // Fields of earlier versions were others.
        json["report"] = serde_json::json!({});
        std::fs::write(&path, json.to_string()).unwrap();
    };
    of_format("openwork-verdict 5");
    let said = ok(dir, "report run");
    let line = said.lines().find(|l| l.starts_with("run/circuits/for_while.json")).unwrap();
    assert!(line.contains("earlier version") && line.contains("openwork verify"), "{line}");
    assert!(read(dir, "run/report.html").contains("NOT VERIFIED"));
    let checked = ok(dir, "fsck run");
    let line = checked.lines().find(|l| l.contains("for_while.verdict.json")).unwrap();
    assert!(line.contains("earlier version"), "{checked}");
    // Formats that no version wrote are damage.
    for format in ["openwork-verdict 999", "openwork-verdict", "verdict 5"] {
        of_format(format);
        assert_eq!(run(dir, "report run").status.code(), Some(2), "{format}");
        assert_eq!(run(dir, "fsck run").status.code(), Some(1), "{format}");
    }
}

#[test]
fn calibration_task_model_means_and_tokenizer_belong_to_a_verdict_and_labels_do_not() {
    let tmp = copy();
    let dir = tmp.path();
    let circuit = save(dir, "for_while", "for_while", 1);
    let _ = run(dir, VERIFY);
    let (path, text) = (dir.join("run/circuits/for_while.json"), read(dir, "run/circuits/for_while.json"));
    let stale = || ok(dir, "report run").contains("differs)");
    assert!(!stale());
    let node = circuit.circuit.nodes().nodes().next().unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["labels"] = serde_json::json!({node.to_string(): {"name": "cue"}});
    std::fs::write(&path, json.to_string()).unwrap();
    assert!(!stale(), "a label is a name");
    for (from, to) in [("\"scale\": 1.0", "\"scale\": 2.0"), ("for_while", "with_as"), ("\"seed\": 0", "\"seed\": 3")] {
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        assert!(stale(), "{from} to {to}");
    }
    std::fs::write(&path, &text).unwrap();
    // The verdict says what it was made on; somebody who changes that makes it another's.
    let verdict_path = dir.join("run/circuits/for_while.verdict.json");
    let verdict: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&verdict_path).unwrap()).unwrap();
    for key in ["task", "circuit_sha256", "model_sha256", "means_sha256", "sample_sha256", "tokenizer_sha256"] {
        let mut other = verdict.clone();
        other["about"][key] = "0123".into();
        std::fs::write(&verdict_path, other.to_string()).unwrap();
        let said = ok(dir, "report run");
        let part = key.split('_').next().unwrap();
        assert!(said.contains(&format!("({part}")) || said.contains(&format!(", {part}")), "{key}: {said}");
    }
    // Means over other data than the sample are refused.
    std::fs::write(&verdict_path, verdict.to_string()).unwrap();
    let loaded = openwork_model::Model::load(dir.join("run/model.safetensors")).unwrap();
    let tokens: Vec<u16> = (0..256).map(|t| t % 40).collect();
    let other = Means::compute(&loaded.model, &tokens, 128);
    other.save(&dir.join("run/means.safetensors"), &loaded.sha256).unwrap();
    let refused = run(dir, "report run");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("means over other data"), "{}", stderr(&refused));
}

#[test]
fn prune_keeps_the_circuit_that_lies_there_and_its_verdict() {
    let tmp = copy();
    let dir = tmp.path();
    save(dir, "for_while", "for_while", 1);
    let _ = run(dir, VERIFY);
    std::fs::write(
        dir.join("run/circuits/for_while.statistical.certificate.json"),
        "{\"format\": \"openwork-certificate 2\"}",
    )
    .unwrap();
    let before = [read(dir, "run/circuits/for_while.json"), read(dir, "run/circuits/for_while.verdict.json")];
    let prune = "prune run --task for_while --steps 2 --restarts 1 --target-loss 0.8";
    let refused = run(dir, prune);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("--force") && stderr(&refused).contains("--name"), "{}", stderr(&refused));
    let after = [read(dir, "run/circuits/for_while.json"), read(dir, "run/circuits/for_while.verdict.json")];
    assert_eq!(before, after);
    ok(dir, &format!("{prune} --name second"));
    assert!(dir.join("run/circuits/second.json").exists());
    assert_eq!(run(dir, &format!("{prune} --name ../second")).status.code(), Some(2));
    ok(dir, &format!("{prune} --force"));
    assert_ne!(read(dir, "run/circuits/for_while.json"), before[0]);
    for gone in ["verdict", "pairs", "statistical.certificate"] {
        assert!(!dir.join(format!("run/circuits/for_while.{gone}.json")).exists(), "{gone}");
    }
    // What was tried stays in the log.
    assert_eq!(read(dir, "run/circuits/verdicts.jsonl").lines().count(), 1);
    let stability = "stability run --task for_while --seeds 2 --steps 1 --restarts 1 --target-loss 0.8 --out seeds";
    ok(dir, stability);
    let again = run(dir, stability);
    assert!(again.status.code() == Some(2) && stderr(&again).contains("seeds/for_while.0.json"), "{}", stderr(&again));
    ok(dir, &format!("{stability} --force"));
}

#[test]
fn an_edited_verdict_is_refused_wherever_it_is_read() {
    let tmp = copy();
    let dir = tmp.path();
    save(dir, "for_while", "for_while", 1);
    let _ = run(dir, VERIFY);
    let path = dir.join("run/circuits/for_while.verdict.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"no_task\""));
    std::fs::write(&path, text.replacen("\"no_task\"", "\"strong\"", 1)).unwrap();
    for command in ["report run", "replay run run/circuits/for_while.verdict.json"] {
        let refused = run(dir, command);
        assert_eq!(refused.status.code(), Some(2), "{command}");
        let said = stderr(&refused);
        assert!(said.contains("was edited") && said.contains("the verdict is a strong pass"), "{command}: {said}");
    }
    let watched = run(dir, "watch run run/circuits/for_while.json --prompts run/recipe.toml");
    assert!(stderr(&watched).contains("was edited"), "{}", stderr(&watched));
}

#[test]
fn earlier_verdicts_stand_in_the_report() {
    let tmp = copy();
    let dir = tmp.path();
    save(dir, "for_while", "for_while", 1);
    let first = run(dir, VERIFY);
    let said = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(said.contains("no circuit of this task was verified in this folder before"), "{said}");
    assert!(said.contains("a person chose its nodes"), "{said}");
    save(dir, "second", "for_while", 2);
    let _ = run(dir, &VERIFY.replace("for_while.json", "second.json"));
    // A line that a crash cut short is counted, and the next one is whole.
    let log = dir.join("run/circuits/verdicts.jsonl");
    std::fs::write(&log, std::fs::read_to_string(&log).unwrap() + "{\"name\": \"x").unwrap();
    let third = run(dir, &format!("{VERIFY} --target-loss 0.3 --force"));
    let said = String::from_utf8_lossy(&third.stdout).into_owned();
    assert!(
        said.contains("2 earlier verdicts in this folder on circuits of this task, 1 of them on this very"),
        "{said}"
    );
    assert!(said.contains("second.json (another circuit): NO TASK"), "{said}");
    assert!(said.contains("VERDICT: NO TASK, thresholds loosened: target_loss 0.15 -> 0.3"), "{said}");
    assert!(stderr(&third).contains("that cannot be read: 1"), "{}", stderr(&third));
    let fourth = run(dir, VERIFY);
    // A verdict that was written before is shown as when it was made, whatever the circuit is now.
    let verdict = "verdict run run/circuits/for_while.verdict.json";
    let again = run(dir, verdict);
    assert!(String::from_utf8_lossy(&fourth.stdout).starts_with(&*String::from_utf8_lossy(&again.stdout)));
    assert!(again.status.code() == Some(0) && stderr(&again).is_empty(), "{}", stderr(&again));
    save(dir, "for_while", "for_while", 3);
    assert!(stderr(&run(dir, verdict)).contains("is about something else"));
    save(dir, "for_while", "for_while", 1);
    assert!(String::from_utf8_lossy(&fourth.stdout).contains("3 earlier verdicts"));
    ok(dir, "report run");
    assert!(read(dir, "run/report.html").contains("3 earlier verdicts"));
}

#[test]
fn pairs_lie_beside_the_verdict_with_their_hash() {
    let tmp = copy();
    let dir = tmp.path();
    save(dir, "for_while", "for_while", 1);
    let _ = run(dir, &format!("{VERIFY} --out v.json"));
    let pairs = std::fs::read(dir.join("v.pairs.json")).unwrap();
    let verdict: serde_json::Value = serde_json::from_str(&read(dir, "v.json")).unwrap();
    assert_eq!(verdict["pairs_sha256"], openwork_tensor::sha256_bytes(&pairs));
    let pairs: serde_json::Value = serde_json::from_slice(&pairs).unwrap();
    assert!(pairs["held_out"].as_array().unwrap().len() > 100 && pairs["held_out"][0]["positive"].is_array());
    // Another seed of the verifier draws other pairs, whatever the circuit's is.
    let _ = run(dir, &format!("{VERIFY} --out w.json --seed 5"));
    assert_ne!(read(dir, "w.pairs.json"), read(dir, "v.pairs.json"));
}

#[test]
fn a_weaker_verification_replaces_no_verdict_and_neither_does_one_of_another_circuit() {
    let tmp = copy();
    let dir = tmp.path();
    save(dir, "for_while", "for_while", 1);
    save(dir, "other", "for_while", 3);
    let _ = run(dir, &VERIFY.replace("--level 1", "--level 2"));
    let verdict = "run/circuits/for_while.verdict.json";
    let before = read(dir, verdict);
    let other = VERIFY.replace("for_while.json", "other.json");
    for (line, words) in [
        (VERIFY.to_owned(), "a verdict of level 2 on this circuit"),
        (format!("{VERIFY} --level 2 --target-loss 0.5").replace("--level 1 ", ""), "asks for less"),
        (format!("{other} --out {verdict}"), "about another circuit"),
    ] {
        let output = run(dir, &line);
        let said = stderr(&output);
        assert!(output.status.code() == Some(2) && said.contains(words) && said.contains("--force"), "{line}: {said}");
        assert_eq!(read(dir, verdict), before, "{line}");
    }
    let _ = run(dir, &format!("{VERIFY} --force"));
    assert_ne!(read(dir, verdict), before);
    let _ = run(dir, &VERIFY.replace("--level 1", "--level 3"));
    assert!(read(dir, verdict).contains("\"level\": 3"));
}

#[test]
fn a_model_file_without_its_hash_is_used_with_a_notice() {
    let tmp = copy();
    let path = tmp.path().join("run/model.safetensors");
    let said = |words: &str| {
        let output = run(tmp.path(), "generate run --prompt x --tokens 1");
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output).contains(words)
    };
    assert!(!said("its own hash"));
    let mut bytes = std::fs::read(&path).unwrap();
    let key = b"\"model_sha256\"";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
    bytes[at + 1..at + 6].copy_from_slice(b"MODEL");
    std::fs::write(&path, bytes).unwrap();
    assert!(said("model.safetensors does not record its own hash"));
}

#[test]
fn a_verification_that_ends_after_a_stronger_one_does_not_replace_its_verdict() {
    let tmp = copy();
    let circuit = save(tmp.path(), "for_while", "for_while", 1);
    let path = tmp.path().join("run/circuits/for_while.json");
    let (verdict, log) = (verdict_path(&path), path.with_file_name("verdicts.jsonl"));
    let project = Project::open(&tmp.path().join("run"), Beside::default(), &mut |_| ()).unwrap();
    let settings = Settings { random_sets: 100, ..Settings::default() };
    let limits = [1, 2].map(Limits::level);
    let [one, two] = [0, 1].map(|i| Request {
        circuit: &circuit,
        hypothesis: None,
        with_controls: false,
        settings: &settings,
        limits: &limits[i],
    });
    let [first, again, second] = [one, one, two].map(|request| verify_circuit(&project, request, &mut |_| ()).unwrap());
    second.record(&project, &two, &path, &verdict, false).unwrap();
    let stronger = std::fs::read(&verdict).unwrap();
    let refused = first.record(&project, &one, &path, &verdict, false).err().expect("the verdict tells more");
    assert!(matches!(refused, VerdictError::Stronger { level: 2, .. }), "{refused}");
    assert!(std::fs::read(&verdict).unwrap() == stronger);
    // A try is a try.
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 2);
    again.record(&project, &one, &path, &verdict, true).unwrap();
    assert!(std::fs::read(&verdict).unwrap() != stronger);
}

#[test]
fn a_verdict_on_a_contrast_says_so_everywhere_and_replaces_none_on_an_answer() {
    let tmp = copy();
    let dir = tmp.path();
    save(dir, "for_while", "for_while", 1);
    let _ = run(dir, VERIFY);
    let (path, text) = (dir.join("run/circuits/for_while.json"), read(dir, "run/circuits/for_while.json"));
    assert!(text.contains("\"claim\": \"answer\""), "{text}");
    let contrast = text.replacen("\"claim\": \"answer\"", "\"claim\": \"contrast\"", 1);
    std::fs::write(&path, &contrast).unwrap();
    assert!(ok(dir, "report run").contains("(claim, circuit differs)"));
    let refused = run(dir, VERIFY);
    assert_eq!(refused.status.code(), Some(2));
    let said = stderr(&refused);
    assert!(said.contains("claims the answer (NO TASK)") && said.contains("--force"), "{said}");
    // Elsewhere, too.
    let verdict = read(dir, "run/circuits/for_while.verdict.json");
    std::fs::write(dir.join("other.verdict.json"), &verdict).unwrap();
    assert!(stderr(&run(dir, &format!("{VERIFY} --out other.verdict.json"))).contains("claims the answer"));

    let said = run(dir, &format!("{VERIFY} --force"));
    assert_eq!(said.status.code(), Some(1));
    let head = "VERDICT: NO TASK (contrast)\n  claim: contrast: ";
    assert!(String::from_utf8(said.stdout).unwrap().starts_with(head));
    assert!(ok(dir, "verdict run run/circuits/for_while.verdict.json").starts_with(head));
    assert!(!ok(dir, "report run").contains("differs"));
    let page = read(dir, "run/report.html");
    assert!(page.contains("NO TASK (contrast)") && page.contains("Claims the <b>contrast</b>"));
    let watched = stderr(&run(dir, "watch run run/circuits/for_while.json --prompts run/recipe.toml"));
    assert!(watched.contains("NO TASK (contrast)"), "{watched}");
    let log = read(dir, "run/circuits/verdicts.jsonl");
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((&last["claim"], &last["headline"]), (&"contrast".into(), &"NO TASK (contrast)".into()));
    assert!(log.lines().next().unwrap().contains("\"claim\":\"answer\""));

    // A verdict whose claim somebody changed is no verdict.
    let path_of_verdict = dir.join("run/circuits/for_while.verdict.json");
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path_of_verdict).unwrap()).unwrap();
    for (report, about) in [(true, false), (false, true), (true, true)] {
        let mut json = json.clone();
        if report {
            json["report"]["claim"] = "answer".into();
        }
        if about {
            json["about"]["claim"] = "answer".into();
        }
        std::fs::write(&path_of_verdict, json.to_string()).unwrap();
        let said = run(dir, "report run");
        let known =
            stderr(&said).contains("was edited") || String::from_utf8(said.stdout).unwrap().contains("differs)");
        assert!(known, "{report} {about}: {}", stderr(&run(dir, "report run")));
    }
    // One on an answer may take the place of one on a contrast.
    std::fs::write(&path_of_verdict, json.to_string()).unwrap();
    std::fs::write(&path, &text).unwrap();
    assert_eq!(run(dir, VERIFY).status.code(), Some(1));
}

#[test]
fn no_output_replaces_an_input_a_file_of_the_run_or_one_of_another_kind() {
    let tmp = copy();
    let dir = tmp.path();
    save(dir, "for_while", "for_while", 1);
    std::fs::write(dir.join("thesis.txt"), "thesis").unwrap();
    ok(dir, "export run --out published");
    let files = || -> Vec<_> {
        let mut paths = crate::errors::walk(dir);
        paths.sort();
        paths.into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect()
    };
    // Means are taken once.
    ok(dir, "report run");
    let before = files();
    let circuit = "run/circuits/for_while.json";
    for line in [
        "import published --out published/final_model.pt".to_owned(),
        "import published --out run/model.safetensors".to_owned(),
        "report run --out run/model.safetensors".to_owned(),
        format!("report run --out {circuit}"),
        "plot run --out run/log.jsonl".to_owned(),
        format!("{VERIFY} --out {circuit}"),
        format!("{VERIFY} --out run/model.safetensors"),
        format!("{VERIFY} --html run/tokenizer.json --out v.json"),
        format!("{VERIFY} --out v.json --html ./v.json"),
        "prune run --task for_while --steps 2 --force --out run/tokenizer.json".to_owned(),
        "prune run --task for_while --steps 2 --force --out thesis.txt".to_owned(),
        "tokenizer train --generated --megabytes 1 --out run/tokenizer.json".to_owned(),
        "tokenizer train --generated --megabytes 1 --out thesis.txt".to_owned(),
        "report run --out thesis.txt".to_owned(),
        "plot run --out thesis.txt".to_owned(),
        format!("{VERIFY} --out thesis.txt"),
        "import published --out thesis.txt".to_owned(),
    ] {
        let output = run(dir, &line);
        assert_eq!(output.status.code(), Some(2), "{line}: {}", stderr(&output));
        assert!(files() == before, "{line}");
    }
    // What a command made it may make again.
    for line in ["report run", "plot run --out curves.svg", "plot run --out curves.svg"] {
        ok(dir, line);
    }
}

#[test]
fn files_with_the_names_of_pairs_and_verdicts_are_replaced_only_if_they_are_some() {
    let tmp = copy();
    let dir = tmp.path();
    save(dir, "for_while", "for_while", 1);
    let own = ["pairs.json", "verdict.json", "domain.json", "exhaustive.certificate.json"];
    for name in own {
        let path = dir.join(format!("run/circuits/for_while.{name}"));
        std::fs::write(&path, "thesis").unwrap();
        let refused = run(dir, "prune run --task for_while --steps 2 --restarts 1 --force");
        let said = stderr(&refused);
        assert!(refused.status.code() == Some(2) && said.contains("is there already and is no"), "{name}: {said}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "thesis");
        std::fs::remove_file(&path).unwrap();
    }
    std::fs::write(dir.join("run/circuits/v.pairs.json"), "thesis").unwrap();
    let refused = run(dir, &format!("{VERIFY} --out run/circuits/v.verdict.json"));
    assert!(refused.status.code() == Some(2) && stderr(&refused).contains("v.pairs.json"), "{}", stderr(&refused));
    assert_eq!(read(dir, "run/circuits/v.pairs.json"), "thesis");
    for name in ["x.verdict.json", "x.pairs.json"] {
        let refused = run(dir, &format!("prune run --task for_while --steps 2 --out run/circuits/{name}"));
        assert!(stderr(&refused).contains("is a name that a file beside a circuit has"), "{}", stderr(&refused));
    }
    // A refutation does not go away with the name.
    let _ = run(dir, VERIFY);
    for name in ["json", "verdict.json", "pairs.json"] {
        let new = if name == "json" { "fresh" } else { "old" };
        let path = |stem: &str| dir.join(format!("run/circuits/{stem}.{name}"));
        std::fs::rename(path("for_while"), path(new)).unwrap();
    }
    let said = ok(dir, "report run");
    let line = said.lines().find(|l| l.starts_with("run/circuits/fresh.json")).unwrap();
    assert!(line.contains("This very circuit was verified in this folder as for_while.json: NO TASK"), "{said}");
    std::fs::rename(dir.join("run/circuits/fresh.json"), dir.join("run/circuits/for_while.json")).unwrap();
    // Its own files go, as before.
    let _ = run(dir, VERIFY);
    assert!(dir.join("run/circuits/for_while.pairs.json").exists());
    ok(dir, "prune run --task for_while --steps 2 --restarts 1 --target-loss 0.8 --force");
    assert!(!dir.join("run/circuits/for_while.pairs.json").exists());
}
