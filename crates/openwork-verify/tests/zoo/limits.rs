//! Reports of runs that have no time, or that somebody ends.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use openwork_circuit::{NodeSet, NodeSpace};
use openwork_verify::{CheckId, Control, ControlKind, Controls, Limits, Status, Unfinished, Verdict, Why, verify};

use crate::micro::{Bed, Plan, path_nodes, set};

#[test]
fn without_time_nothing_is_claimed_and_all_that_is_left_out_is_named() {
    let (bed, circuit) = (Bed::new(Plan::default()), set(&path_nodes(&[0], false)));
    let limits = Limits { until: Some(Instant::now()), ..Limits::level(6) };
    let report = bed.judge_within(&circuit, &limits);
    assert_eq!(report.verdict, Verdict::Incomplete, "{}", report.text());
    assert!(!report.text().contains("every required check passed"));
    for check in [
        CheckId::Completeness,
        CheckId::MinimalityNodes,
        CheckId::CompletenessBesideRandom,
        CheckId::Interchange,
        CheckId::Identified,
        CheckId::Scrubbing,
    ] {
        assert_eq!(report.check(check).unwrap().status, Status::NotApplicable, "{check}");
        let expected = Unfinished { check, level: check.level(), done: None, why: Why::OutOfTime };
        assert!(report.unfinished.contains(&expected), "{check}");
    }
    assert!(report.findings.certificates.is_empty());
    let certificates: Vec<_> = report.unfinished.iter().filter(|u| u.level == 6).collect();
    assert!(certificates.len() == 2 && certificates.iter().all(|u| u.why == Why::OutOfTime), "{certificates:?}");
}

#[test]
fn a_control_search_that_was_cut_short_is_named_and_leaves_the_verdict_incomplete() {
    let (bed, circuit) = (Bed::new(Plan::default()), set(&path_nodes(&[0], false)));
    let done: Vec<Control> = bed.controls.iter().copied().filter(|c| c.kind == ControlKind::NonsenseLabels).collect();
    let controls = Controls { done: &done, cut_short: &ControlKind::ALL };
    let report = bed.with_case(&bed.circuit(&circuit), |case| {
        verify(case, controls, &bed.settings, &Limits::level(5), &mut |_| ()).report
    });
    let check = CheckId::Control { kind: ControlKind::RandomWeights };
    // A control that was done counts, whatever else was begun.
    assert_eq!(report.unfinished, [Unfinished { check, level: 3, done: None, why: Why::OutOfTime }]);
    assert_eq!((&report.verdict, report.level_reached), (&Verdict::Incomplete, 2), "{}", report.text());
    assert_eq!(report.check(check).unwrap().status, Status::NotApplicable);
}

#[test]
fn a_run_that_is_ended_anywhere_leaves_a_report_that_claims_no_more_than_it_saw() {
    let (bed, circuit) = (Bed::new(Plan::default()), set(&path_nodes(&[0], false)));
    let whole = bed.judge(&circuit);
    assert_eq!(whole.verdict, Verdict::Strong);
    // The clock is looked at some hundred times.
    for looks in [0, 1, 3, 20, 60, 200, 400] {
        let left = AtomicUsize::new(looks);
        let interrupted = || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err();
        let report = bed.judge_within(&circuit, &Limits { interrupted: &interrupted, ..Limits::level(5) });
        let ended = left.load(Ordering::SeqCst) == 0;
        let asked = (1..=4).all(|level| report.level_reached >= level);
        let expected = match (ended, asked) {
            (true, false) => Verdict::Incomplete,
            (true, true) => Verdict::Weak,
            (false, _) => Verdict::Strong,
        };
        assert_eq!(report.verdict, expected, "after {looks}");
        assert_eq!(report.unfinished.is_empty(), !ended);
        assert!(report.unfinished.iter().all(|u| u.why == Why::Interrupted), "{:?}", report.unfinished);
        // What was finished is what it is in the whole run.
        for check in report.checks.iter().filter(|c| c.status == Status::Passed) {
            assert_eq!(whole.check(check.id).map(|c| c.status), Some(Status::Passed));
        }
    }
}

#[test]
fn enough_time_changes_nothing() {
    let (bed, circuit) = (Bed::new(Plan::default()), set(&path_nodes(&[0], false)));
    let limits = Limits { until: Some(Instant::now() + Duration::from_secs(3600)), ..Limits::level(5) };
    assert_eq!(bed.judge_within(&circuit, &limits), bed.judge(&circuit));
}

#[test]
fn every_level_below_the_last_that_a_pass_needs_ends_incomplete() {
    let (bed, circuit) = (Bed::new(Plan::default()), set(&path_nodes(&[0], false)));
    for level in 1..=3 {
        let report = bed.judge_within(&circuit, &Limits::level(level));
        assert_eq!((&report.verdict, report.level_reached), (&Verdict::Incomplete, level), "{}", report.text());
        assert!(report.headline().starts_with(&format!("INCOMPLETE (level {level} reached)")), "{}", report.headline());
        assert!(report.text().contains("asked for"), "{}", report.text());
        assert!(!report.text().contains("every required check passed"), "{}", report.text());
    }
    let report = bed.judge_within(&circuit, &Limits::level(4));
    assert_eq!((&report.verdict, report.level_reached), (&Verdict::Weak, 4), "{}", report.text());
}

#[test]
fn no_empty_and_no_random_circuit_passes_at_any_level_within_any_budget() {
    let bed = Bed::new(Plan::default());
    let truth = set(&path_nodes(&[0], false));
    let mut rng = crate::micro::rng(5);
    let random = |rng: &mut rand_chacha::ChaCha8Rng| {
        let counts = truth.count_by_site();
        let mut numbers = Vec::new();
        for ((_, range), count) in truth.space().sites().iter().zip(counts) {
            let mut pool: Vec<usize> = range.clone().collect();
            (0..count).for_each(|_| numbers.push(pool.swap_remove(rand::RngExt::random_range(rng, 0..pool.len()))));
        }
        NodeSet::of(truth.space().clone(), numbers)
    };
    let circuits = [NodeSet::empty(truth.space().clone()), random(&mut rng), random(&mut rng)];
    let budgets = [None, Some(0), Some(1), Some(50)];
    for circuit in &circuits {
        for level in 1..=6 {
            for budget in budgets {
                let until = budget.map(|ms| Instant::now() + Duration::from_millis(ms));
                let report = bed.judge_within(circuit, &Limits { until, ..Limits::level(level) });
                assert!(!report.verdict.passed(), "level {level}, {budget:?} ms: {}", report.text());
                assert!(!report.text().contains("every required check passed"));
            }
        }
    }
}

#[test]
fn the_whole_model_and_nearly_all_of_it_are_called_trivial_and_do_not_pass() {
    let bed = Bed::new(Plan::default());
    let space = NodeSpace::new(&bed.model.config);
    let all = NodeSet::all(space.clone());
    // Without two idle nodes.
    let nearly = NodeSet::of(space.clone(), (0..space.len()).filter(|&n| n != 3 && n != space.len() - 1));
    for circuit in [all, nearly] {
        for level in [2, 4, 5] {
            let report = bed.judge_within(&circuit, &Limits::level(level));
            assert!(report.headline().contains("trivial"), "{}", report.headline());
            assert!(!report.verdict.passed(), "level {level}: {}", report.text());
        }
    }
}
