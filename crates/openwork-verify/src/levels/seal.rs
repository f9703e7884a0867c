//! From checks to the verdict.

use crate::{
    checks::{Check, Role, Status, Unfinished, id::CheckId},
    report::{
        Draft, Report,
        counter_example::CounterExample,
        fault::Fault,
        verdict::{Reason, Verdict},
    },
};

/// The highest level whose required checks, and those of all levels below, passed; of a level that requires nothing, those
/// that a strong circuit passes.
fn level_reached(checks: &[Check], level: u8) -> u8 {
    let good = |level: u8| {
        let of = |strong: bool| {
            let decides = move |c: &&Check| match c.role {
                Role::Gate | Role::Required => !strong,
                Role::ForStrong => strong,
                Role::Reported => false,
            };
            checks.iter().filter(move |c| c.level == level).filter(decides).collect::<Vec<_>>()
        };
        let deciding = Some(of(false)).filter(|required| !required.is_empty()).unwrap_or_else(|| of(true));
        !deciding.is_empty() && deciding.iter().all(|c| c.status == Status::Passed)
    };
    (1..=level).take_while(|&level| good(level)).last().unwrap_or(0)
}

/// The end of a run.
pub(crate) enum End {
    /// After the last check; where every input of a domain is certified, what the certificates cover.
    Whole {
        /// Scope of the certificates.
        certified: Option<String>,
    },
    /// At a fault.
    Fault(Fault),
    /// At the gate that the model does the task.
    NoTask,
    /// At a gate that leaves nothing to ask.
    Undefined,
}

/// Judges a draft: the one place where a verdict, its reasons and the level reached are decided, from checks, steps left
/// out and certificates; explanations are for people.
pub(crate) fn seal(draft: Draft, end: End, counter_example: Option<CounterExample>) -> Report {
    let reached = level_reached(&draft.checks, draft.level);
    match end {
        End::Fault(fault) => {
            let reasons = vec![Reason::Fault(fault.clone())];
            draft.seal(Verdict::Error { fault }, reasons, 0)
        }
        End::NoTask => {
            let reasons = failed_gates(&draft);
            draft.seal(Verdict::NoTask, reasons, reached)
        }
        End::Undefined => {
            let reasons = failed_gates(&draft);
            draft.seal(Verdict::Undefined, reasons, reached)
        }
        End::Whole { certified } => match (verdict(&draft, counter_example), certified) {
            ((Verdict::Strong, reasons), Some(scope)) => {
                draft.seal(Verdict::Certified { scope }, reasons, CERTIFIED_LEVEL)
            }
            ((verdict, reasons), _) => draft.seal(verdict, reasons, reached),
        },
    }
}

fn failed_gates(draft: &Draft) -> Vec<Reason> {
    let failed = draft.checks.iter().filter(|c| c.status == Status::Failed && c.role == Role::Gate);
    failed.map(|c| Reason::Gate { check: c.id, explanation: c.explanation.clone() }).collect()
}

/// The verdict of a run that was not ended at a gate, without regard to certificates, and its reasons.
fn verdict(draft: &Draft, counter_example: Option<CounterExample>) -> (Verdict, Vec<Reason>) {
    let with = |role: Role, status: Status| draft.checks.iter().filter(move |c| c.role == role && c.status == status);
    let left_out = |check: CheckId| draft.unfinished.iter().find(|u| u.check == check);
    let reason = |c: &Check| match left_out(c.id) {
        Some(Unfinished { why, .. }) if c.status == Status::NotApplicable => Reason::NotMade { check: c.id, why: *why },
        _ => Reason::Check { check: c.id, explanation: c.explanation.clone() },
    };
    let refuting: Vec<&Check> = with(Role::Required, Status::Failed).collect();
    if !refuting.is_empty() {
        let by = refuting.iter().map(|c| c.id).collect();
        return (
            Verdict::Refuted { by, counter_example: counter_example.map(Box::new) },
            refuting.into_iter().map(reason).collect(),
        );
    }
    let mut weak: Vec<Reason> = with(Role::Required, Status::NotApplicable)
        .chain(with(Role::ForStrong, Status::Failed))
        .chain(with(Role::ForStrong, Status::NotApplicable))
        .map(reason)
        .collect();
    // Certificates are asked for beyond a strong pass.
    let needed = draft.unfinished.iter().filter(|u| u.level <= STRONG_LEVEL);
    weak.extend(needed.map(|what| Reason::Unfinished(*what)));
    if draft.level < STRONG_LEVEL {
        weak.push(Reason::NotAsked { from: draft.level + 1, to: STRONG_LEVEL });
    }
    if weak.is_empty() {
        return (Verdict::Strong, vec![Reason::AllPassed]);
    }
    (Verdict::Weak, std::iter::once(Reason::OnlyRequiredPassed).chain(weak).collect())
}

/// The last level that tries to refute; the one above certifies.
pub(crate) const STRONG_LEVEL: u8 = 5;

/// The level that certifies.
pub(crate) const CERTIFIED_LEVEL: u8 = 6;

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{
        certificate::Kind,
        checks::{Why, id::Quantity},
        run::{
            error::RunError,
            scheme::{Scheme, Split},
        },
        settings::Settings,
    };

    /// A draft of checks with random outcomes, with `sentence` for every explanation.
    fn draft(seed: u64, sentence: &str) -> Draft {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let ids = [
            CheckId::Sufficiency { scheme: Scheme::MEAN, quantity: Quantity::Loss },
            CheckId::Sufficiency { scheme: Scheme::ZERO, quantity: Quantity::Accuracy },
            CheckId::NotTrivial,
            CheckId::Necessity,
            CheckId::MinimalityNodes,
            CheckId::Shift { split: Split::Lengths, scheme: Scheme::MEAN, quantity: Quantity::Agreement },
            CheckId::Adversary,
            CheckId::Identified,
            CheckId::Scrubbing,
        ];
        // Mostly passed, so that all verdicts come up.
        let statuses = [Status::Passed, Status::Passed, Status::Passed, Status::Passed, Status::Passed, Status::Passed];
        let statuses = [&statuses[..], &[Status::Failed, Status::NotApplicable]].concat();
        let mut draft = Draft::new(rng.random_range(4..=6), vec![], Settings::default());
        draft.checks = ids.map(|id| Check::new(id, statuses[rng.random_range(0..statuses.len())], sentence)).into();
        let left_out = draft.checks.iter().filter(|c| c.status == Status::NotApplicable);
        draft.unfinished = left_out.map(|c| Unfinished::new(c.id, Why::OutOfTime)).collect();
        draft
    }

    #[test]
    fn a_verdict_hangs_on_no_sentence() {
        let mut seen = [0; 3];
        for seed in 0..400 {
            let sealed = |sentence: &str| seal(draft(seed, sentence), End::Whole { certified: None }, None);
            let [a, b] = [sealed("plain words"), sealed("not finished: self-checks: not made: failed")];
            assert_eq!(
                (&a.verdict, a.level_reached, a.failed_families()),
                (&b.verdict, b.level_reached, b.failed_families())
            );
            assert_eq!(a.levels().map(|l| l.state), b.levels().map(|l| l.state));
            let kinds = |report: &Report| report.reasons.iter().map(std::mem::discriminant).collect::<Vec<_>>();
            assert_eq!(kinds(&a), kinds(&b));
            seen[match a.verdict {
                Verdict::Refuted { .. } => 0,
                Verdict::Weak => 1,
                _ => 2,
            }] += 1;
        }
        assert!(seen.iter().all(|&n| n > 20), "{seen:?}: refuted, weak and strong come up");
    }

    #[test]
    fn a_fault_is_an_error_whatever_passed_and_a_certificate_raises_only_a_strong_verdict() {
        let clean = || {
            let mut draft = draft(0, "");
            draft.level = 6;
            draft.unfinished.clear();
            draft.checks.iter_mut().for_each(|c| c.status = Status::Passed);
            draft
        };
        let fault = Fault::Run(RunError::HookNotCalled);
        let report = seal(clean(), End::Fault(fault.clone()), None);
        assert_eq!((&report.verdict, report.level_reached), (&Verdict::Error { fault }, 0));
        let certified = || End::Whole { certified: Some("all 9 inputs".into()) };
        let report = seal(clean(), certified(), None);
        assert_eq!((&report.verdict, report.level_reached), (&Verdict::Certified { scope: "all 9 inputs".into() }, 6));
        // A certificate that is shortfall is no reservation; a weak check is one that no certificate lifts.
        let mut weak = clean();
        let step = CheckId::Certificate { kind: Kind::Statistical };
        weak.unfinished.push(Unfinished::new(step, Why::OutOfTime));
        assert_eq!(seal(weak, End::Whole { certified: None }, None).verdict, Verdict::Strong);
        let mut weak = clean();
        weak.checks.iter_mut().filter(|c| c.id == CheckId::Identified).for_each(|c| c.status = Status::Failed);
        assert_eq!(seal(weak, certified(), None).verdict, Verdict::Weak);
    }
}
