//! The calibration card: tables of what was judged.

use std::{collections::BTreeSet, fmt::Write};

use openwork_truth::zoo::{CaseKind, Expected};
use openwork_verify::{Family, Verdict, proportion};

use crate::judging::Judged;

/// Tables of detection, false alarms, and which check fired on what; whether verdicts stayed the same when nodes were
/// permuted and tokens renamed; and what was said of circuits injected into a trained model.
pub fn card(all: &[Judged], invariant: &[(CaseKind, bool)], injected: &[Judged]) -> String {
    let mut out = String::new();
    true_circuits(&mut out, all);
    if !injected.is_empty() {
        let right = injected.iter().filter(|j| j.is_right()).count();
        let quiet = injected.iter().filter(|j| j.is_caught()).count();
        let refuted = injected.iter().filter(|j| matches!(j.verdict, Verdict::Refuted { .. })).count();
        let _ = writeln!(
            out,
            "Of circuits injected into a trained model, {} were called strong, {refuted} were refuted, and no check at all \
             fired on {quiet}.\n",
            rate(right, injected.len())
        );
        fired_on(&mut out, injected);
    }
    detection(&mut out, all);
    confusion(&mut out, all);
    if !invariant.is_empty() {
        let same = invariant.iter().filter(|i| i.1).count();
        let other: BTreeSet<&str> = invariant.iter().filter(|i| !i.1).map(|i| i.0.name()).collect();
        let which = if other.is_empty() {
            String::new()
        } else {
            format!(" (not: {})", other.into_iter().collect::<Vec<_>>().join(", "))
        };
        let _ = writeln!(
            out,
            "## Invariance\n\nWith nodes in another order and tokens renamed, {} verdicts stayed the same{which}.\n",
            rate(same, invariant.len())
        );
    }
    holes(&mut out, all);
    out
}

/// Checks that fired on true circuits, and how often.
fn fired_on(out: &mut String, judged: &[Judged]) {
    let families: BTreeSet<Family> = judged.iter().flat_map(|j| j.fired.iter().copied()).collect();
    for family in families {
        let n = judged.iter().filter(|j| j.fired.contains(&family)).count();
        let _ = writeln!(out, "- {family}: {n} of {}", judged.len());
    }
    out.push('\n');
}

/// `18 of 20, 90 % [68, 99]`.
pub fn rate(k: usize, n: usize) -> String {
    let (low, high) = proportion(k, n);
    let percent = |p: f64| format!("{:.0}", 100.0 * p);
    format!("{k} of {n}: {} % [{}, {}]", percent(k as f64 / n.max(1) as f64), percent(low), percent(high))
}

fn of(all: &[Judged], kind: CaseKind) -> Vec<&Judged> {
    all.iter().filter(|j| j.kind == kind).collect()
}

fn true_circuits(out: &mut String, all: &[Judged]) {
    let true_ones: Vec<&Judged> = all.iter().filter(|j| j.expected == Expected::Pass).collect();
    if true_ones.is_empty() {
        return;
    }
    let alarms = true_ones.iter().filter(|j| !j.is_caught()).count();
    let wrong = true_ones.iter().filter(|j| !j.is_right()).count();
    let certified = true_ones.iter().filter(|j| matches!(j.verdict, Verdict::Certified { .. })).count();
    let _ = writeln!(
        out,
        "## False alarms\n\nOf true circuits, some check fired on {} (95 % intervals), and {} were not called strong or \
         certified. {certified} were certified over all inputs.\n",
        rate(alarms, true_ones.len()),
        rate(wrong, true_ones.len())
    );
    let _ = writeln!(out, "| model | true circuits | called strong or certified |\n|---|---|---|");
    let hosts: BTreeSet<&str> = true_ones.iter().map(|j| j.host).collect();
    for host in hosts {
        let of_host: Vec<&&Judged> = true_ones.iter().filter(|j| j.host == host).collect();
        let right = of_host.iter().filter(|j| j.is_right()).count();
        let _ = writeln!(out, "| {host} | {} | {right} |", of_host.len());
    }
    out.push('\n');
}

fn detection(out: &mut String, all: &[Judged]) {
    let _ = writeln!(
        out,
        "## Detection\n\nHow many verdicts were the expected one, and how often the check that was made for the case fired, \
         by severity (1 is full).\n\n| # | case | expected | severity | verdict as expected | caught by its check | check |\n\
         |---|---|---|---|---|---|---|"
    );
    for kind in CaseKind::all().into_iter().filter(|kind| *kind != CaseKind::True) {
        for &severity in kind.severities() {
            let judged: Vec<&Judged> = of(all, kind).into_iter().filter(|j| j.severity == severity).collect();
            let Some(first) = judged.first() else { continue };
            let right = judged.iter().filter(|j| j.is_right()).count();
            let caught = judged.iter().filter(|j| j.is_caught()).count();
            let expected = match first.expected {
                Expected::Weak(why) => format!("weak: {why}"),
                Expected::NotStrong(why) => format!("not strong: {why}"),
                other => format!("{other:?}").to_lowercase(),
            };
            let _ = writeln!(
                out,
                "| {} | {} | {expected} | {severity} | {} | {} | {} |",
                kind.number(),
                kind.name(),
                rate(right, judged.len()),
                rate(caught, judged.len()),
                first.should_fire.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            );
        }
    }
    out.push('\n');
}

fn confusion(out: &mut String, all: &[Judged]) {
    let families: BTreeSet<Family> = all.iter().flat_map(|j| j.fired.iter().copied()).collect();
    let _ = writeln!(
        out,
        "## Which check fires on what\n\nPercent of judgements at full severity in which a check of the family failed; bold: \
         the family that was made for the case.\n\n| case | {} |\n|---|{}",
        families.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "),
        "---|".repeat(families.len())
    );
    for kind in CaseKind::all() {
        let full: Vec<&Judged> = of(all, kind).into_iter().filter(|j| j.severity == kind.full()).collect();
        let Some(first) = full.first() else { continue };
        let cell = |family: &Family| {
            let n = full.iter().filter(|j| j.fired.contains(family)).count();
            match (n, first.should_fire.contains(family)) {
                (0, false) => String::new(),
                (n, true) => format!("**{}**", 100 * n / full.len()),
                (n, false) => format!("{}", 100 * n / full.len()),
            }
        };
        let cells: Vec<String> = families.iter().map(cell).collect();
        let _ = writeln!(out, "| {} | {} |", kind.name(), cells.join(" | "));
    }
    out.push('\n');
}

/// Flawed circuits that nobody caught every time, and checks that fire for nothing.
fn holes(out: &mut String, all: &[Judged]) {
    let _ = writeln!(out, "## Holes\n");
    let mut none = true;
    for kind in CaseKind::all() {
        let full: Vec<&Judged> = of(all, kind).into_iter().filter(|j| j.severity == kind.full()).collect();
        let missed = full.iter().filter(|j| !j.is_right()).count();
        if missed > 0 {
            none = false;
            let verdicts: BTreeSet<&str> = full.iter().filter(|j| !j.is_right()).map(|j| j.word()).collect();
            let said = verdicts.into_iter().collect::<Vec<_>>().join(", ");
            let _ = writeln!(out, "- {}: {missed} of {} at full severity were called {said}.", kind.name(), full.len());
        }
    }
    if none {
        let _ = writeln!(out, "At full severity every verdict was the expected one.");
    }
}
