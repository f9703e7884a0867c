//! Reports that somebody edited: what follows from the rest of a report is recomputed.

use openwork_verify::{ControlKind, Limits, Report, Settings, Verdict};
use serde_json::{Value, json};

use crate::micro::{Bed, Plan, path_nodes, set};

fn json(report: &Report) -> Value {
    serde_json::to_value(report).unwrap()
}

/// The complaint about a report after a change.
#[track_caller]
fn complaint(report: &Report, change: impl Fn(&mut Value)) -> String {
    let mut edited = json(report);
    change(&mut edited);
    assert_ne!(edited, json(report), "the change changes something");
    let edited: Report = serde_json::from_value(edited).unwrap();
    edited.recompute().expect_err("the edit is not noticed").to_string()
}

/// Changes the first check whose printed identity holds a text.
fn edit<'a>(id: &'a str, change: impl Fn(&mut Value) + 'a) -> impl Fn(&mut Value) + 'a {
    move |report: &mut Value| {
        let checks = report["checks"].as_array_mut().unwrap();
        let check = checks.iter_mut().find(|c| c["id"].to_string().contains(id));
        change(check.unwrap_or_else(|| panic!("no check {id}")));
    }
}

#[test]
fn reports_of_every_verdict_follow_from_their_own_numbers() {
    let bed = Bed::new(Plan::default());
    let truth = set(&path_nodes(&[0], false));
    let broken = set(&path_nodes(&[0], false)[1..]);
    let mut reports = vec![bed.judge(&truth), bed.judge(&broken), bed.judge_within(&truth, &Limits::level(1))];
    let mut no_task = Bed::new(Plan::default());
    no_task.held_out.iter_mut().for_each(|p| (p.answer, p.alternative) = (6, 9));
    reports.push(no_task.judge(&truth));
    let mut few = Bed::new(Plan::default());
    few.held_out.truncate(5);
    reports.push(few.judge(&truth));
    let mut fault = Bed::new(Plan::default());
    fault.held_out[1] = fault.held_out[0].clone();
    fault.calibration = Some(openwork_circuit::Calibration::NONE);
    reports.push(fault.judge_circuit_silently(&fault.circuit(&truth)));
    let words: Vec<&str> = reports.iter().map(|r| r.verdict.word()).collect();
    assert_eq!(words, ["PASS (STRONG)", "REFUTED", "INCOMPLETE", "NO TASK", "UNDEFINED", "ERROR"]);
    for report in &reports {
        let read: Report = serde_json::from_value(json(report)).unwrap();
        assert_eq!(read.recompute(), Ok(()), "{}", report.text());
    }
}

#[test]
fn a_verdict_that_its_checks_do_not_give_is_noticed() {
    let bed = Bed::new(Plan::default());
    let refuted = bed.judge(&set(&path_nodes(&[0], false)[1..]));
    let strong = || json!({"verdict": "strong"});
    let pass = |report: &mut Value| {
        report["verdict"] = strong();
        report["reasons"] = json!(["all_passed"]);
        report["level_reached"] = json!(5);
    };
    assert!(
        complaint(&refuted, pass).contains("the checks say refuted by sufficiency"),
        "{}",
        complaint(&refuted, pass)
    );
    let incomplete = bed.judge_within(&set(&path_nodes(&[0], false)), &Limits::level(1));
    assert!(complaint(&incomplete, pass).contains("the checks say incomplete"));
    assert!(complaint(&incomplete, |r| r["level_reached"] = json!(4)).contains("the checks say level 1"));
    assert!(complaint(&incomplete, |r| r["level"] = json!(5)).contains("is missing"));
    assert!(complaint(&incomplete, |r| r["reasons"] = json!(["only_required_passed"])).contains("reasons"));
    // A hypothesis that was to be tested cannot be forgotten.
    let whole = bed.judge(&set(&path_nodes(&[0], false)));
    assert!(complaint(&whole, |r| r["needs"]["hypothesis"] = json!(true)).contains("the checks say incomplete"));
    let certified = |r: &mut Value| r["verdict"] = json!({"verdict": "certified", "scope": "all inputs"});
    assert!(complaint(&whole, certified).contains("the verdict is certified"));
}

#[test]
fn a_check_that_its_numbers_do_not_give_is_noticed() {
    let bed = Bed::new(Plan::default());
    let refuted = bed.judge(&set(&path_nodes(&[0], false)[1..]));
    let passed = |c: &mut Value| c["status"] = json!("passed");
    assert_eq!(
        complaint(&refuted, edit(r#""quantity":"loss""#, passed)),
        "sufficiency: loss: it is said to have passed, and its numbers say that it failed"
    );
    let role = |c: &mut Value| c["role"] = json!("reported");
    assert!(complaint(&refuted, edit(r#""quantity":"loss""#, role)).contains("part in the verdict"));
    let lower = |c: &mut Value| (c["threshold"], c["status"]) = (json!(9.0), json!("passed"));
    assert!(complaint(&refuted, edit(r#""quantity":"loss""#, lower)).contains("the settings say 0.3"));
    let better = |c: &mut Value| {
        c["estimate"]["ci95"] = json!([0.01, 0.02]);
        c["status"] = json!("passed");
    };
    assert!(complaint(&refuted, edit(r#""quantity":"loss""#, better)).contains("not those of the run"));
    let nothing = |c: &mut Value| (c["estimate"], c["status"]) = (Value::Null, json!("passed"));
    assert!(complaint(&refuted, edit(r#""quantity":"accuracy""#, nothing)).contains("its numbers"));
    let strong = bed.judge(&set(&path_nodes(&[0], false)));
    let failed = |c: &mut Value| c["status"] = json!("failed");
    for id in ["task", "through_nodes", "not_trivial", "completeness", "\"adversary\"", "necessity", "direction"] {
        assert!(complaint(&strong, edit(id, failed)).contains("said to have failed"), "{id}");
    }
    let removed = |report: &mut Value| {
        report["checks"].as_array_mut().unwrap().retain(|c| !c["id"].to_string().contains("identified"));
    };
    assert_eq!(complaint(&strong, removed), "identified is missing");
    let twice = |report: &mut Value| {
        let first = report["checks"][3].clone();
        report["checks"].as_array_mut().unwrap().push(first);
    };
    assert!(complaint(&strong, twice).contains("listed twice"));
}

#[test]
fn controls_are_recomputed_from_what_their_searches_found() {
    let bed = Bed::new(Plan::default());
    let report = bed.judge(&set(&path_nodes(&[0], false)));
    assert_eq!(report.recompute_controls(&bed.controls), Ok(()));
    let mut other = bed.controls.clone();
    (other[0].reached_target, other[0].edges) = (true, 2);
    let complaint = report.recompute_controls(&other).unwrap_err().to_string();
    assert!(complaint.starts_with(&format!("control: {}", ControlKind::NonsenseLabels)), "{complaint}");
    assert!(report.recompute_controls(&[]).is_err(), "searches that were made cannot be forgotten");
}

#[test]
fn looser_settings_stand_in_the_verdict_line() {
    let mut bed = Bed::new(Plan::default());
    let truth = set(&path_nodes(&[0], false));
    bed.settings = Settings { min_accuracy: 0.5, random_pairs: 64, ..bed.settings };
    let report = bed.judge(&truth);
    assert_eq!(report.verdict, Verdict::Strong);
    assert_eq!(report.headline(), "PASS (STRONG), thresholds loosened: min_accuracy 0.9 -> 0.5");
    assert!(report.text().starts_with("VERDICT: PASS (STRONG), thresholds loosened: min_accuracy 0.9 -> 0.5\n"));
    // Settings that are made to look stricter afterwards part with the thresholds of the checks.
    let stricter = |r: &mut Value| r["settings"]["min_accuracy"] = json!(0.9);
    assert!(complaint(&report, stricter).contains("its threshold is 0.5, and the settings say 0.9"));
}

#[test]
fn numbers_that_other_parts_of_the_report_contradict_are_noticed() {
    let bed = Bed::new(Plan::default());
    let report = bed.judge(&set(&path_nodes(&[0], false)));
    let estimate = json!({"mean": 0.95, "ci95": [0.94, 0.96], "n": 99});
    for id in ["\"adversary\"", "\"larger_adversary\"", "\"completeness\"", "\"groups\""] {
        let said = complaint(&report, edit(id, |check| check["estimate"] = estimate.clone()));
        assert!(said.contains("its numbers are not those"), "{id}: {said}");
    }
    let said = complaint(&report, edit("\"task\"", |check| check["p_value"] = json!(-3.0)));
    assert!(said.contains("its numbers are not those"), "{said}");
    assert!(complaint(&report, |r| r["level"] = json!(2)).contains("and level 2 was asked for"));
    assert!(
        complaint(&report, |r| r["settings"]["random_sets"] = json!(1)).contains("no verification has its settings")
    );
    for (field, value) in [("model_nodes", 1), ("active_in_circuit", 99_999), ("active_nodes", 99_999)] {
        assert!(complaint(&report, |r| r["size"][field] = json!(value)).contains("contradict each other"), "{field}");
    }
}
