//! No check goes without an outcome: made, or not made and why.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use openwork_circuit::{NodeSet, NodeSpace};
use openwork_truth::zoo::CaseKind;
use openwork_verify::{CheckId, Limits, Report, Role, Status, Verdict};

use crate::{
    known::judge,
    micro::{Bed, Plan, config, path_nodes, set},
};

/// Fails unless every check of the levels that were asked for has its outcome, and the verdict is no better than they are.
#[track_caller]
fn walk(name: &str, report: &Report) {
    assert!(!matches!(report.verdict, Verdict::Error { .. } | Verdict::NoTask | Verdict::Undefined), "{name}");
    for level in 1..=report.level.min(5) {
        for asked in CheckId::asked_at(level) {
            let outcomes: Vec<_> = report.checks.iter().filter(|c| c.id.answers(asked)).collect();
            assert!(!outcomes.is_empty(), "{name}: {asked} has no outcome");
            let is_many = matches!(asked, CheckId::SufficiencyUnder { .. } | CheckId::ShiftPairs { .. });
            assert!(is_many || outcomes.len() == 1, "{name}: {asked} has {} outcomes", outcomes.len());
            for check in outcomes {
                assert!(check.level == level && !check.explanation.is_empty(), "{name}: {asked}");
                assert!(!check.explanation.contains("for no reason"), "{name}: {asked}: {}", check.explanation);
            }
        }
    }
    let known: Vec<CheckId> = (1..=5).flat_map(CheckId::asked_at).collect();
    for check in report.checks.iter().filter(|c| (1..=5).contains(&c.level)) {
        assert!(known.iter().any(|asked| check.id.answers(*asked)), "{name}: nobody asks for {}", check.id);
        let undecided = check.status == Status::NotApplicable && check.role != Role::Reported;
        assert!(!undecided || !report.verdict.passed() || report.verdict == Verdict::Weak, "{name}: {}", check.id);
    }
}

#[test]
fn no_check_goes_without_an_outcome() {
    let bed = Bed::new(Plan::default());
    let (circuit, space) = (set(&path_nodes(&[0], false)), NodeSpace::new(&config()));
    for level in 1..=6 {
        walk(&format!("level {level}"), &bed.judge_within(&circuit, &Limits::level(level)));
    }
    walk("no nodes", &bed.judge(&NodeSet::empty(space.clone())));
    walk("all nodes", &bed.judge(&NodeSet::all(space)));
    walk("no time", &bed.judge_within(&circuit, &Limits { until: Some(Instant::now()), ..Limits::level(6) }));
    for looks in [1, 20, 60, 150, 300, 500] {
        let left = AtomicUsize::new(looks);
        let interrupted = || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err();
        let limits = Limits { interrupted: &interrupted, ..Limits::level(5) };
        walk(&format!("interrupted after {looks}"), &bed.judge_within(&circuit, &limits));
    }
    // Without norms, with hundreds of nodes, with two splits of three.
    for kind in [CaseKind::Backup, CaseKind::Crowd, CaseKind::NoSplit] {
        walk(kind.name(), &judge(&kind.build(1.0, 3), 5));
    }
}

#[test]
fn a_split_that_does_not_exist_is_named_and_costs_the_strong_pass() {
    for (seed, missing) in [(7, "other words"), (16, "other lengths")] {
        let report = judge(&CaseKind::NoSplit.build(1.0, seed), 5);
        assert_eq!(report.verdict, Verdict::Weak, "{}", report.text());
        assert!(report.reasons.iter().any(|r| r.to_string().contains(&format!("0 pairs of {missing}"))));
        assert_eq!(judge(&CaseKind::True.build(1.0, seed), 5).verdict, Verdict::Strong);
    }
    // Of a few pairs, as of none.
    let mut bed = Bed::new(Plan::default());
    bed.words.truncate(30);
    let report = bed.judge(&set(&path_nodes(&[0], false)));
    assert_eq!(report.verdict, Verdict::Weak);
    assert!(report.reasons.iter().any(|r| r.to_string().contains("30 pairs of other words")), "{:?}", report.reasons);
}
