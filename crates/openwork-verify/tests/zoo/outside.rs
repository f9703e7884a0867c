//! Flaws that lie outside the circuit and that most inputs, or nodes one by one, do not show.

use openwork_truth::zoo::{CaseKind, GroundTruthCase};
use openwork_verify::{Attacker, Report, Search, Status};

use crate::{
    check, known,
    micro::{Bed, Plan, path_nodes, set},
};

/// The report on a ground-truth case, up to level 4.
fn judge(given: &GroundTruthCase) -> Report {
    known::judge(given, 4)
}

#[track_caller]
fn status(report: &Report, name: &str) -> Status {
    let found = report.checks.iter().find(|c| c.id.to_string() == name);
    found.unwrap_or_else(|| panic!("no check {name}\n{}", report.text())).status
}

#[test]
fn guards_that_hold_together_are_found_within_the_budget() {
    // Seeds go through two neurons, three, two of different blocks, and two heads.
    for seed in 0..4 {
        let report = judge(&CaseKind::Guard.build(0.6, seed));
        assert_eq!(status(&report, "adversary"), Status::Failed, "seed {seed}\n{}", report.text());
        // What is found at one budget is kept for the larger one.
        assert_eq!(status(&report, "adversary of the circuit's size"), Status::Failed, "seed {seed}");
        // It turns answers round, which no shift mends.
        assert_eq!(status(&report, "adversary, answers shifted"), Status::Failed, "seed {seed}");
        let attack = report.findings.attacks.iter().find(|a| a.attacker == Attacker::OneScheme).unwrap();
        let by_what_shows = [Search::Slopes, Search::KnockOuts, Search::Activity].contains(&attack.search);
        assert!(!by_what_shows, "no slope leads to it: {attack:?}");
        let ablated: f32 = attack.nodes.iter().map(|(_, r)| 1.0 - r).sum();
        assert!(attack.nodes.len() >= 2 && f64::from(ablated) <= attack.budget, "{attack:?}");
    }
}

#[test]
fn a_cancelling_group_larger_than_the_circuit_falls_by_halves() {
    let report = judge(&CaseKind::CancellingGroup.build(1.0, 0));
    assert_eq!(status(&report, "adversary"), Status::Passed, "{}", report.text());
    assert_eq!(status(&report, "groups outside"), Status::Failed, "{}", report.text());
    let group = report.findings.attacks.iter().find(|a| matches!(a.attacker, Attacker::Group { .. })).unwrap();
    assert!(group.budget >= 15.0, "{group:?}");
}

#[test]
fn live_nodes_that_turn_nothing_raise_no_alarm() {
    for seed in 0..5 {
        let report = judge(&CaseKind::LiveCompany.build(1.0, seed));
        for name in ["adversary", "adversary of the circuit's size", "groups outside", "roles", "rare tokens"] {
            assert_eq!(status(&report, name), Status::Passed, "{name} with seed {seed}\n{}", report.text());
        }
        assert_ne!(status(&report, "companion cues"), Status::Failed, "seed {seed}\n{}", report.text());
    }
}

#[test]
fn an_opposed_node_counts_by_what_it_is_worth() {
    let of = |kind: CaseKind, severity, seed| judge(&kind.build(severity, seed));
    for severity in [0.5, 1.0] {
        let report = of(CaseKind::OpposedWrite, severity, 1);
        assert_eq!(status(&report, "roles"), Status::Failed, "{}", report.text());
    }
    // The same write, of a thirtieth of the answer, is named and passes.
    let report = of(CaseKind::LiveCompany, 1.0, 2);
    let roles = check(&report, "roles", None);
    assert_eq!(roles.status, Status::Passed, "{}", roles.explanation);
    assert!(roles.explanation.contains("against them: 0.mlp.resid_delta"), "{}", roles.explanation);
}

#[test]
fn an_attack_that_moves_the_threshold_is_told_from_one_that_destroys() {
    // Without neurons whose others cancel them, all answers move one way.
    let report = Bed::new(Plan { cancel: 12.0, ..Plan::default() }).judge(&set(&path_nodes(&[0], false)));
    let [raw, shifted] = ["", ", answers shifted"].map(|rest| {
        let name = format!("adversary of the circuit's size{rest}");
        report.checks.iter().find(|c| c.id.to_string() == name).unwrap().clone()
    });
    assert_eq!((raw.status, shifted.status), (Status::Failed, Status::Passed), "{}", report.text());
    assert!(shifted.explanation.contains("moves the threshold"), "{}", shifted.explanation);
    let destroyed = judge(&CaseKind::Guard.build(1.0, 0));
    let shifted = destroyed.checks.iter().find(|c| c.id.to_string() == "adversary, answers shifted").unwrap();
    assert!(shifted.explanation.contains("destroys what tells"), "{}", shifted.explanation);
}

#[test]
fn a_rare_token_is_found_where_few_pairs_or_none_have_it() {
    for severity in [0.03, 0.1] {
        for seed in 0..2 {
            let report = judge(&CaseKind::RareToken.build(severity, seed));
            assert_eq!(status(&report, "rare tokens"), Status::Failed, "{severity}, {seed}\n{}", report.text());
        }
    }
}

#[test]
fn of_companions_the_one_that_the_model_follows_is_asked_of_the_circuit() {
    for seed in 0..2 {
        let report = judge(&CaseKind::Companion.build(0.75, seed));
        let found = report.checks.iter().find(|c| c.id.to_string() == "companion cues").unwrap();
        assert_eq!(found.status, Status::Failed, "{}", found.explanation);
        // Neighbours are one difference.
        let named = found.explanation.contains("of 72 pairs differ in several places at once");
        assert!(named && found.explanation.contains("no pair tells"), "{}", found.explanation);
    }
    // One cue alone has no companion.
    let report = judge(&CaseKind::LiveCompany.build(1.0, 0));
    assert_eq!(status(&report, "companion cues"), Status::NotApplicable);
}

#[test]
fn the_report_says_what_share_of_turned_pairs_it_cannot_exclude() {
    let report = judge(&CaseKind::LiveCompany.build(1.0, 0));
    let found = report.checks.iter().find(|c| c.id.to_string() == "held-out pairs: pairs that may be turned").unwrap();
    // 1 − 0.05^(1/72) = 0.0408.
    assert!(found.explanation.starts_with("up to 4.08 % of pairs like these"), "{}", found.explanation);
    assert!(report.text().contains("up to 4.08 % of pairs like these"), "{}", report.text());
}
