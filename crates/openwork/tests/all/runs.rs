//! Folders of runs: two processes at once, damage, what a kill leaves undone, outputs that cannot be written.

use std::{fs, path::Path, process::Stdio, time::Duration};

use crate::{
    circuits::{whole_model, young_model},
    ok, openwork,
    pipeline::{TRAIN, prepare},
    run, stderr,
};

#[test]
#[cfg(unix)]
fn a_second_process_is_told_who_works_in_the_folder() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    prepare(dir);
    let line = format!("{TRAIN} --threads 1 --out run");
    let args: Vec<&str> = line.split_whitespace().collect();
    let mut first = openwork(dir, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while fs::metadata(dir.join("run/log.jsonl")).map_or(0, |log| log.len()) == 0 {
        assert!(first.try_wait().unwrap().is_none(), "ended too early to mean anything");
        std::thread::sleep(Duration::from_millis(1));
    }
    let second = run(dir, &format!("{TRAIN} --out run --resume"));
    let still = first.try_wait().unwrap().is_none();
    first.kill().unwrap();
    first.wait().unwrap();
    let message = stderr(&second);
    assert!(still && second.status.code() == Some(2), "{message}");
    assert!(message.contains("run is in use by"), "{message}");
    if fs::read_to_string("/proc/locks").is_ok_and(|locks| locks.contains("FLOCK")) {
        assert!(
            message.contains(&format!("process {}", first.id())) && message.contains("train tiny.toml"),
            "{message}"
        );
    }
    // The lock ends with its process, however that ends.
    ok(dir, &format!("{TRAIN} --out run --resume"));
}

#[test]
fn fsck_lists_every_file_and_finds_any_damage() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    young_model(dir);
    // Takes the means; the model cannot do the task.
    assert_eq!(run(dir, "prune run --task for_while --steps 2").status.code(), Some(2));
    whole_model(dir);
    ok(dir, "plot run");
    run(dir, "verify run run/circuits/for_while.json --level 1 --no-controls");
    let listed = ok(dir, "fsck run");
    let files = [
        "checkpoint.safetensors",
        "circuits/for_while.json",
        "circuits/for_while.pairs.json",
        "circuits/for_while.verdict.json",
        "circuits/verdicts.jsonl",
        "log.jsonl",
        "means.safetensors",
        "model.safetensors",
        "recipe.toml",
        "sample",
        "tokenizer.json",
    ];
    for file in files {
        assert!(listed.contains(&format!("ok       run/{file}\n")), "{file}: {listed}");
    }
    assert!(listed.contains("unknown  run/curves.svg"), "{listed}");
    for file in files {
        let path = match file {
            "sample" => dir.join("run/sample/shard-00000.bin"),
            file => dir.join("run").join(file),
        };
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        // A bit of a number in the second half; of a digit, where a file is text.
        let from = bytes.len() / 2;
        let at = match file.contains("safetensors") || file == "sample" {
            true => from,
            false => from + bytes[from..].iter().position(u8::is_ascii_digit).unwrap(),
        };
        bytes[at] ^= if file.ends_with("jsonl") || file.ends_with("json") { 0x40 } else { 1 };
        fs::write(&path, bytes).unwrap();
        let output = run(dir, "fsck run");
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.code() == Some(1) && listed.contains(&format!("damaged  run/{file}")),
            "{file}: {listed}"
        );
        fs::write(&path, whole).unwrap();
    }
    let parts = ["log.jsonl", "means.safetensors", "model.safetensors", "recipe.toml", "sample", "tokenizer.json"];
    for file in parts.into_iter().chain(["sample/manifest.json", "circuits/for_while.pairs.json"]) {
        let (path, away) = (dir.join("run").join(file), dir.join("away"));
        fs::rename(&path, &away).unwrap();
        let output = run(dir, "fsck run");
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.code() == Some(1) && listed.contains(&format!("missing  run/{file}\n")), "{listed}");
        fs::rename(&away, &path).unwrap();
    }
    ok(dir, "fsck run");
    // A corpus, its parts, and the folder that holds it and the run.
    for (line, found) in [("fsck data", "ok       data/train\n"), ("fsck data/train", "ok       data/train\n")] {
        let listed = ok(dir, line);
        assert!(listed.contains(found), "{line}: {listed}");
    }
    let listed = ok(dir, "fsck .");
    assert!(listed.contains("ok       ./data/validation\n") && listed.contains("ok       ./run/sample\n"), "{listed}");
    assert_eq!(run(dir, "fsck nowhere").status.code(), Some(2));
    fs::create_dir(dir.join("src")).unwrap();
    fs::write(dir.join("src/a.py"), "a = 1").unwrap();
    let nothing = run(dir, "fsck src");
    assert!(
        nothing.status.code() == Some(2) && stderr(&nothing).contains("nothing to compare"),
        "{}",
        stderr(&nothing)
    );
}

#[test]
fn what_a_kill_after_the_last_checkpoint_leaves_undone_is_done_on_resume() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    prepare(dir);
    ok(dir, &format!("{TRAIN} --out run"));
    let sample = |run: &str| fs::read(dir.join(run).join("sample/shard-00000.bin")).unwrap();
    let whole = sample("run");
    for lost in ["sample", "model.safetensors"] {
        let path = dir.join("run").join(lost);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        ok(dir, &format!("{TRAIN} --out run --resume"));
        assert!(path.exists(), "{lost}");
        assert!(sample("run") == whole, "another sample");
    }
    // A half-written one counts for nothing.
    fs::remove_file(dir.join("run/sample/manifest.json")).unwrap();
    fs::write(dir.join("run/sample/shard-00000.bin"), b"half").unwrap();
    ok(dir, &format!("{TRAIN} --out run --resume"));
    assert!(sample("run") == whole);
}

#[test]
fn a_recipe_that_was_edited_after_the_run_began_is_not_resumed() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    prepare(dir);
    ok(dir, &format!("{TRAIN} --out run"));
    let path = dir.join("run/recipe.toml");
    let recipe = fs::read_to_string(&path).unwrap();
    // A comment changes no recipe.
    fs::write(&path, format!("# mine\n{recipe}")).unwrap();
    ok(dir, &format!("{TRAIN} --out run --resume"));
    let edited = recipe.replace("seed = 5", "seed = 6");
    assert_ne!(edited, recipe);
    fs::write(&path, &edited).unwrap();
    let refused = run(dir, &format!("{TRAIN} --out run --resume"));
    let said = stderr(&refused);
    assert!(refused.status.code() == Some(2) && said.contains("recipe.toml was changed since the run began"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), edited, "kept");
}

#[test]
fn curves_say_what_they_are_of_and_a_log_what_is_wrong_with_it() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    prepare(dir);
    ok(dir, &format!("{TRAIN} --out run"));
    let path = dir.join("run/log.jsonl");
    let log = fs::read_to_string(&path).unwrap();
    ok(dir, "plot run");
    let steps = log.lines().count();
    let svg = fs::read_to_string(dir.join("run/curves.svg")).unwrap();
    assert!(svg.contains(&format!("<title>Training of run, {steps} steps</title>")));
    fs::write(&path, &log[..log.len() - 20]).unwrap();
    let cut = run(dir, "plot run");
    assert!(
        cut.status.success() && stderr(&cut).contains("the last line of the log is incomplete"),
        "{}",
        stderr(&cut)
    );
    fs::write(&path, format!("{log}{}\n", log.lines().next().unwrap())).unwrap();
    let twice = run(dir, "plot run");
    let words = format!("line {}: step 0 stands after step {}", steps + 1, steps - 1);
    assert!(twice.status.code() == Some(2) && stderr(&twice).contains(&words), "{}", stderr(&twice));
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_the_work() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    young_model(dir);
    fs::write(dir.join("file"), b"").unwrap();
    fs::write(dir.join("c.json"), b"{}").unwrap();
    fs::write(dir.join("figure.svg"), b"<svg>mine</svg>").unwrap();
    for (line, words) in [
        ("train young.toml --data data --tokenizer tokenizer.json --out data", "is the data of this run"),
        ("train young.toml --data data --tokenizer tokenizer.json --out data/train", "is the data of this run"),
        ("plot run --out figure.svg", "is no drawing of this program"),
    ] {
        let output = run(dir, line);
        assert!(output.status.code() == Some(2) && stderr(&output).contains(words), "{line}: {}", stderr(&output));
    }
    assert_eq!(fs::read_to_string(dir.join("figure.svg")).unwrap(), "<svg>mine</svg>");
    ok(dir, "plot run --out curves.svg");
    ok(dir, "plot run --out curves.svg");
    let refused = |line: &str| {
        let output = run(dir, line);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{line}: {message}");
        assert!(message.contains("cannot write"), "{line}: {message}");
    };
    for line in [
        "prune run --task for_while --out file/c.json",
        "prune run --task for_while --out data",
        "stability run --task for_while --out file",
        "verify run c.json --out none/v.json",
        "verify run c.json --html data",
        "report run --out none/r.html",
        "plot run --out none/c.svg",
        "export run --out file/pub",
        "tokenizer train --generated --out none/t.json",
    ] {
        refused(line);
    }
    assert!(!Path::new(&dir.join("none")).exists());
}
