//! What is left of a run that has no time, or that somebody ends.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use openwork_verify::{Effort, Limits, Status, Verdict, certify};

use crate::micro::{Bed, Plan, path_nodes, set};

#[test]
fn without_time_nothing_is_claimed_and_all_that_is_left_out_is_named() {
    let (bed, circuit) = (Bed::new(Plan::default()), set(&path_nodes(&[0], false)));
    let limits = Limits { until: Some(Instant::now()), ..Limits::level(6) };
    let mut report = bed.judge_within(&circuit, &limits);
    assert_eq!(report.verdict, Verdict::Weak, "{}", report.words());
    for check in [
        "completeness",
        "minimality: nodes",
        "completeness: beside random circuits",
        "interchange with the model",
        "identified",
        "causal scrubbing",
    ] {
        assert_eq!(report.check(check, None).unwrap().status, Status::NotApplicable, "{check}");
        assert!(report.unfinished.iter().any(|u| u.starts_with(check) && u.ends_with("no time was left")), "{check}");
    }
    let certificates = bed.with_case(&circuit, |case| {
        certify(case, "", None, Effort::default(), &limits, &mut report, &mut |_| panic!("there is no time"))
    });
    assert!(certificates.unwrap().is_empty() && report.findings.certificates.is_empty());
    assert_eq!(report.unfinished.iter().filter(|u| u.contains("(level 6): no time was left")).count(), 2);
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
        assert_eq!(report.verdict, if ended { Verdict::Weak } else { Verdict::Strong }, "after {looks}");
        assert_eq!(report.unfinished.is_empty(), !ended);
        assert!(report.unfinished.iter().all(|u| u.ends_with("interrupted")), "{:?}", report.unfinished);
        // What was finished is what it is in the whole run.
        for check in report.checks.iter().filter(|c| c.status == Status::Passed) {
            assert_eq!(whole.check(&check.name, check.ablation).map(|c| c.status), Some(Status::Passed));
        }
    }
}

#[test]
fn enough_time_changes_nothing() {
    let (bed, circuit) = (Bed::new(Plan::default()), set(&path_nodes(&[0], false)));
    let limits = Limits { until: Some(Instant::now() + Duration::from_secs(3600)), ..Limits::level(5) };
    assert_eq!(bed.judge_within(&circuit, &limits), bed.judge(&circuit));
}
