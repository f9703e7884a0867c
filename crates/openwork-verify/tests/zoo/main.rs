//! Circuits that are right, and circuits that lie: each must get its verdict, from the check that should see it.

mod attacks;
mod dials;
mod dissociation;
mod hypothesis;
mod inputs;
mod knockouts;
mod limits;
mod micro;
mod plants;
mod scrub;
mod watch;

use openwork_verify::{Report, Verdict};

/// Names of the checks that refuted the circuit.
fn refuted_by(report: &Report) -> Vec<&str> {
    match &report.verdict {
        Verdict::Refuted { by, .. } => by.iter().map(String::as_str).collect(),
        other => panic!("{other:?}, expected a refutation\n{}", report.words()),
    }
}

/// Fails, showing the report, unless the verdict is `expected`.
fn expect(report: &Report, expected: &Verdict) {
    assert!(report.verdict == *expected, "{}", report.words());
}
