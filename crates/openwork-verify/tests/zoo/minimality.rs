//! Minimality: parts that stand in for each other are needed, nodes that add nothing in the end are not.

use openwork_truth::zoo::CaseKind;
use openwork_verify::{Check, CheckId, Report, Status};

use crate::{known::judge, refuted_by};

#[track_caller]
fn minimality(report: &Report) -> &Check {
    report.check(CheckId::MinimalityNodes).unwrap_or_else(|| panic!("{}", report.text()))
}

#[test]
fn parts_that_stand_in_for_each_other_are_needed() {
    // Two heads, two ways to find the cue, two paths, palindromes, three kinds of brackets.
    for seed in 0..5 {
        let severities: &[f32] = if seed < 3 { &[0.25, 1.0] } else { &[1.0] };
        for &severity in severities {
            let report = judge(&CaseKind::Redundant.build(severity, seed), 3);
            let check = minimality(&report);
            assert_eq!(check.status, Status::Passed, "seed {seed} at {severity}: {}", check.explanation);
            assert_eq!(report.check(CheckId::Completeness).unwrap().status, Status::Passed, "{}", report.text());
        }
    }
}

#[test]
fn nodes_that_keep_other_tokens_down_are_needed() {
    // A fifth of the nodes do nothing for the choice between the candidates, and without them a third token is likelier.
    for seed in [15, 1007] {
        let case = CaseKind::True.build(1.0, seed);
        let report = judge(&case, 3);
        let check = minimality(&report);
        assert_eq!(check.status, Status::Passed, "seed {seed}: {}", check.explanation);
    }
    // Where the circuit lets the third token win, nothing is kept down.
    let report = judge(&CaseKind::ThirdToken.build(1.0, 1), 3);
    assert_eq!(minimality(&report).status, Status::Passed, "{}", report.text());
}

#[test]
fn idle_nodes_beside_them_are_junk() {
    for seed in [0, 1] {
        let case = CaseKind::RedundantPadded.build(0.25, seed);
        let report = judge(&case, 3);
        let check = minimality(&report);
        assert_eq!(check.status, Status::Failed, "seed {seed}: {}", check.explanation);
        let idle = case.circuit.len() - case.truth.as_ref().unwrap().len();
        let found = check.estimate.unwrap().mean * case.circuit.len() as f64;
        // All of them, and a few of the rest that no pair needs.
        let more = found - idle as f64;
        assert!(more > -0.5 && more <= 0.05 * case.circuit.len() as f64, "seed {seed}: {found} of {idle}");
    }
}

#[test]
fn live_nodes_that_add_nothing_in_the_end_are_junk() {
    // Pairs, groups that add up to zero, groups that add up to little, two heads.
    for seed in 0..4 {
        for severity in [0.25, 1.0] {
            let report = judge(&CaseKind::LiveJunk.build(severity, seed), 3);
            let check = minimality(&report);
            assert_eq!(check.status, Status::Failed, "seed {seed} at {severity}: {}", check.explanation);
            assert!(refuted_by(&report).contains(&"minimality: nodes".to_owned()));
        }
    }
}

#[test]
fn a_circuit_of_hundreds_of_nodes_is_asked_too() {
    for &severity in CaseKind::Crowd.severities() {
        let report = judge(&CaseKind::Crowd.build(severity, 1), 3);
        let check = minimality(&report);
        assert_eq!(check.status, Status::Failed, "at {severity}: {}", check.explanation);
        let share = check.estimate.unwrap();
        assert!(share.ci95.0 > 0.7 && share.n <= 256, "at {severity}: {share}");
    }
    let case = CaseKind::Large.build(1.0, 1);
    assert!(case.circuit.len() > 400);
    let report = judge(&case, 3);
    let check = minimality(&report);
    // The bound is on all of them, from some.
    let share = check.estimate.unwrap();
    assert!(share.n == 256 && share.ci95.1 < 0.1, "{}", check.explanation);
    assert_eq!(check.status, Status::Passed, "{}", check.explanation);
}

#[test]
fn a_leak_counts_by_the_share_of_the_answer_that_it_carries() {
    for &severity in CaseKind::FaintPath.severities() {
        let report = judge(&CaseKind::FaintPath.build(severity, 2), 3);
        let check = report.check(CheckId::Completeness).unwrap();
        let passed = check.status == Status::Passed;
        assert_eq!(passed, severity < 0.1, "at {severity}: {}", check.explanation);
        if severity <= 0.01 {
            // A hundredth of ten logits is a tenth of a logit: a fourteenth of what there is to know.
            assert!(check.estimate.unwrap().mean.abs() < 0.06, "at {severity}: {}", check.explanation);
        }
    }
}
