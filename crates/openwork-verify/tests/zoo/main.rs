//! True and flawed circuits: each must get its verdict, from the check that should see it.

mod attacks;
mod cases;
mod claims;
mod dissociation;
mod edges;
mod edited;
mod hypothesis;
mod inputs;
mod interpolation;
mod knockouts;
mod known;
mod limits;
mod micro;
mod minimality;
mod outcomes;
mod outside;
mod prose;
mod scrub;
mod vocabulary;
mod watch;

use openwork_verify::{Check, Report, Scheme, Verdict};

/// Printed names of the checks that refuted the circuit.
#[track_caller]
fn refuted_by(report: &Report) -> Vec<String> {
    match &report.verdict {
        Verdict::Refuted { by, .. } => by.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}, expected a refutation\n{}", report.text()),
    }
}

/// The check that is printed with this name, under this ablation.
#[track_caller]
fn check<'a>(report: &'a Report, name: &str, ablation: Option<Scheme>) -> &'a Check {
    let found = report.checks.iter().find(|c| c.id.to_string() == name && c.ablation == ablation);
    found.unwrap_or_else(|| panic!("no check {name}\n{}", report.text()))
}

/// Fails, showing the report, unless the verdict is `expected`.
#[track_caller]
fn expect(report: &Report, expected: &Verdict) {
    assert!(report.verdict == *expected, "{}", report.text());
}
