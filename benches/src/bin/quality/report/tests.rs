use super::*;

fn outcome(mode: Mode, seed: u64, loss: f64, equal_time: bool) -> Outcome {
    let point = |step: u64, loss: f64| cell::Point { step, tokens: step * 4096, seconds: step as f64, loss };
    Outcome {
        format: "openwork-quality-cell 1".into(),
        mode: mode.name(),
        anneal: Anneal::Linear,
        density: Density::SixtyFourth,
        seed,
        equal_time,
        recipe: String::new(),
        data: vec![],
        commit: "0123456789".into(),
        device: "cpu-2core".into(),
        threads: 2,
        curve: vec![point(350, loss + 1.0), point(700, loss)],
        diverged: false,
    }
}

#[test]
fn differences_are_taken_seed_by_seed() {
    // The seeds differ much, the modes always by 0.25: the interval of the difference is narrow.
    let support = Mode::Support { refresh_every: 100 };
    let mut outcomes = Vec::new();
    for (seed, loss) in [3.0, 4.0, 5.0].into_iter().enumerate() {
        outcomes.push(outcome(Mode::Exact, seed as u64, loss, false));
        outcomes.push(outcome(support, seed as u64, loss - 0.25, false));
        outcomes.push(outcome(support, seed as u64, loss - 0.5, true));
    }
    let mut lost = outcome(Mode::Static, 0, 9.0, false);
    lost.diverged = true;
    outcomes.push(lost);
    let cell =
        |mode, seed| Cell { mode, anneal: Anneal::Linear, density: Density::SixtyFourth, seed, equal_time: false };
    let circuits = |edges: Option<usize>| {
        let found = edges.map(|edges| Size { loss: 0.3, nodes: 2 * edges, edges });
        let circuit = circuits::Circuit { task: circuits::task_names()[0].into(), target_loss: 0.4, found };
        Circuits { format: String::new(), run: String::new(), commit: String::new(), circuits: vec![circuit] }
    };
    let circuits = [
        (cell(Mode::Exact, 0), circuits(Some(1))),
        (cell(Mode::Exact, 1), circuits(Some(7))),
        (cell(Mode::Exact, 2), circuits(None)),
    ];
    let text = tables(&outcomes, &circuits);
    let task = circuits::task_names()[0];
    // √(2 · 8) − 1 edges, √(3 · 15) − 1 nodes.
    assert!(text.contains(&format!("| {task} | 1/64 | exact | 2 of 3 | 6 (2-14) | 3 (1-7) |")), "{text}");
    let line = |start: &str| text.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
    assert!(line("| exact, linear anneal | 1/64 |")[0].contains("4.000 ± 2.484 (3 seeds) | - |"), "{text}");
    let support = line("| support-100, linear anneal | 1/64 |");
    assert!(support[0].contains("3.750 ± 2.484 (3 seeds) | -0.250 ± 0.000 (3 seeds) | 0 |"), "{text}");
    assert!(support[1].contains("-0.500 ± 0.000"), "{text}");
    assert!(line("| static, no anneal |")[0].ends_with("| - | - | - | - | 1 |"), "{text}");
    assert!(text.contains("10 of 54 runs") && text.contains("commits 0123456."), "{text}");
    let charts = charts(&outcomes);
    let files: Vec<&str> = charts.iter().map(|chart| chart.0.as_str()).collect();
    assert_eq!(files, ["modes-tokens-1of64", "modes-seconds-1of64"]);
    charts.iter().for_each(|(_, chart)| drop(chart.svg().unwrap()));
}

#[test]
fn words_around_the_tables_survive() {
    let first = replaced(PAGE, "old").unwrap();
    let written = first.replace(BEGIN, &format!("before\n{BEGIN}")) + "\nafter\n";
    let second = replaced(&written, "new").unwrap();
    assert_eq!(second, written.replace("old", "new"));
    assert!(second.starts_with(PAGE) && second.contains("before") && second.ends_with("after\n"));
    assert!(replaced(BEGIN, "x").unwrap_err().to_string().contains("both or none"));
}

#[test]
fn files_that_are_no_runs_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(read(dir.path()).unwrap_err().to_string().contains("--out"));
    fs::write(dir.path().join("a.json"), "{}").unwrap();
    assert!(read(dir.path()).unwrap_err().to_string().contains("a.json is no finished run"));
    let run = outcome(Mode::Exact, 0, 3.0, false);
    fs::write(dir.path().join("a.json"), serde_json::to_string(&run).unwrap()).unwrap();
    assert_eq!(read(dir.path()).unwrap(), [run]);
    write(dir.path(), &dir.path().join("docs")).unwrap();
    assert!(dir.path().join("docs/quality/modes-tokens-1of64.svg").exists());
    assert!(fs::read_to_string(dir.path().join("docs/quality.md")).unwrap().contains("3.000 (1 seed)"));
}
