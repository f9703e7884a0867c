//! `openwork watch` and `openwork hypothesis`, on a model too young to do any task.

use std::{io::Write, process::Stdio};

use crate::{
    circuits::{whole_model, young_model},
    ok, openwork, run, stderr,
};

#[test]
fn prompts_unlike_those_of_the_task_are_flagged_with_the_reason() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    young_model(dir);
    let _ = run(dir, "prune run --task for_while --steps 2"); // takes the means
    whole_model(dir);
    std::fs::write(dir.join("odd.txt"), "\n@@ éé ~~ ??? \t\t |||| ЖЖ \u{1F600} $$$ ^^ ;;; @ é ~ !!!\n").unwrap();
    let output = run(dir, "watch run run/circuits/for_while.json --prompts odd.txt --margin 0");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let words = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(words.starts_with("line 2: ") && words.contains("node ") && words.contains(" outside "), "{words}");
    assert!(stderr(&output).contains("1 of 1 prompts flagged"), "{}", stderr(&output));
    assert!(stderr(&output).contains("has not been verified"), "{}", stderr(&output));

    // Exported to the published format and imported from it, it is the model that the circuit was found in.
    let beside = |folder: &str| {
        let folder = dir.join(folder);
        std::fs::create_dir_all(folder.join("sample")).unwrap();
        std::fs::copy(dir.join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
        for file in std::fs::read_dir(dir.join("run/sample")).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), folder.join("sample").join(file.file_name())).unwrap();
        }
    };
    ok(dir, "export run --out published");
    beside("imported");
    ok(dir, "import published --out imported/model.safetensors --trained-context 128");
    beside("published");
    for model in ["published", "imported"] {
        let again = run(
            dir,
            &format!("watch {model} run/circuits/for_while.json --prompts odd.txt --margin 0 --trained-context 128"),
        );
        assert_eq!((again.status.code(), &again.stdout), (Some(1), &output.stdout), "{model}: {}", stderr(&again));
    }

    // Prompts of the task, from standard input, as JSON both ways; a circuit of all nodes is the model.
    let shown = ok(dir, "tasks show for_while --pairs 1");
    let prompt = shown.split("---\n").nth(1).unwrap().split('⟨').next().unwrap();
    let mut child =
        openwork(dir, &["watch", "run", "run/circuits/for_while.json", "--jsonl", "--json", "--margin", "9"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    let text = serde_json::to_string(prompt).unwrap();
    writeln!(child.stdin.take().unwrap(), "{text}\n{{\"prompt\": {text}}}").unwrap();
    let output = child.wait_with_output().unwrap();
    let lines: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["prompt"], &lines[1]["line"]), (2, &prompt.into(), &2.into()));
    for line in &lines {
        assert_eq!((&line["kl"], line["differences"][0] == line["differences"][1]), (&0.0.into(), true), "{line}");
        let known =
            line["alarms"].as_array().unwrap().iter().all(|a| a["alarm"] != "answers" && a["alarm"] != "divergence");
        assert!(known && line["reasons"].as_array().unwrap().len() == line["alarms"].as_array().unwrap().len());
    }

    bad_lines(dir, prompt);
    let output = run(dir, "watch run run/circuits/for_while.json --prompts odd.txt --margin=-1");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("margin"), "{}", stderr(&output));
    let output = run(dir, "watch run run/circuits/for_while.json --prompts none.txt");
    assert!(stderr(&output).contains("cannot read none.txt"), "{}", stderr(&output));
    hypotheses(dir);
}

/// A line that is no prompt is counted, and the next ones are watched; positions are those of the prompt as given.
fn bad_lines(dir: &std::path::Path, prompt: &str) {
    let good = serde_json::to_string(prompt).unwrap();
    let long = serde_json::to_string(&"@@ éé ~~ Ж\n".repeat(200)).unwrap();
    let doubled = "{\"prompt\": \"a\", \"prompt\": \"b\"}";
    let mut lines = format!("{good}\n[1]\n{{\n\"\"\n{{\"prompt\": \"\"}}\n\n{long}\r\n").into_bytes();
    lines.extend_from_slice(b"\"caf\xE9\"\n");
    lines.extend_from_slice("\"".repeat((1 << 20) + 2).as_bytes());
    lines.extend_from_slice(format!("\n{good}\n{doubled}").as_bytes());
    std::fs::write(dir.join("lines.jsonl"), lines).unwrap();
    let output = run(dir, "watch run run/circuits/for_while.json --prompts lines.jsonl --jsonl --json --margin 0");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in [
        "line 2: not watched: it is neither a text nor an object with a text `prompt`",
        "line 3: not watched: it is not JSON",
        "line 4: not watched: its prompt is empty",
        "line 5: not watched: its prompt is empty",
        "line 8: not watched: it is not UTF-8",
        "line 9: not watched: it is longer than 1048576 bytes",
        "line 11: not watched: it is not JSON: the key `prompt` stands twice",
        "of 3 prompts flagged, 7 bad lines, 1 blank lines skipped",
        "line 7: the first ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<u64> = lines.iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]);
    // Where there is nothing to watch, nothing was watched.
    std::fs::write(dir.join("blank.txt"), "\n\n").unwrap();
    let output = run(dir, "watch run run/circuits/for_while.json --prompts blank.txt");
    assert!(output.status.code() == Some(2) && stderr(&output).contains("no prompt"), "{}", stderr(&output));
    let unseen = lines[5]["unseen"].as_u64().unwrap();
    assert!(
        unseen > 100 && said.contains(&format!("line 7: the first {unseen} tokens are beyond the model's context"))
    );
    let range = lines[5]["alarms"].as_array().unwrap().iter().find(|alarm| alarm["alarm"] == "range").unwrap();
    assert!(range["position"].as_u64() >= Some(unseen), "{range}");
    assert_eq!(
        (&lines[0]["unseen"], &lines[1]["error"]),
        (&0.into(), &"it is neither a text nor an object with a text `prompt`".into())
    );
}

/// A hypothesis that an untrained model refutes, its comparison with another, and errors.
fn hypotheses(dir: &std::path::Path) {
    let file = |answer: &str, node: &str| {
        format!(
            "name = \"{answer}\"\nanswer = \"'{answer}' if start == 'x' else ' in'\"\n[[variable]]\nname = \"start\"\n\
             value = \"tokens[0]\"\nnodes = [\"{node}\"]\nat = \"last\"\n"
        )
    };
    std::fs::write(dir.join("one.toml"), file("x", "0.attn.v[3]")).unwrap();
    std::fs::write(dir.join("two.toml"), file("x", "0.attn.v[99]")).unwrap();
    std::fs::write(dir.join("three.toml"), file("y", "0.attn.v[3]").replace("' in'", "'a'")).unwrap();
    let output = run(dir, "hypothesis run one.toml --task for_while --circuit run/circuits/for_while.json");
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(words.contains("HYPOTHESIS x: REFUTED by") && words.contains("the model's answers"), "{words}");
    let compared = ok(dir, "hypothesis run one.toml --against three.toml --task for_while");
    assert!(
        compared.contains("\"x\" and \"y\" predict otherwise on ") && compared.contains("for example ["),
        "{compared}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&ok(dir, "hypothesis run one.toml --against three.toml --task for_while --json")).unwrap();
    assert!(json["differ"].as_u64() > Some(0), "{json}");
    let other = run(dir, "hypothesis run one.toml --task var_if --circuit run/circuits/for_while.json");
    assert!(
        stderr(&other).contains("is a circuit of for_while, and the prompts are those of var_if"),
        "{}",
        stderr(&other)
    );
    for (line, message) in [
        ("hypothesis run one.toml --against ./one.toml --task for_while", "is the hypothesis itself"),
        ("hypothesis run two.toml --task for_while", "two.toml: variable start: the model has no node 0.attn.v[99]"),
        ("hypothesis run none.toml --task for_while", "cannot read none.toml"),
        ("hypothesis run one.toml --task for_whale", "there is no task \"for_whale\""),
        ("hypothesis run one.toml", "--task"),
    ] {
        let output = run(dir, line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}
