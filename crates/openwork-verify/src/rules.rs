//! The rules: from numbers to checks, and from checks to the verdict.

use std::f64::consts::LN_2;

use crate::{
    Cell, Check, CheckId, Control, ControlKind, CounterExample, Estimate, Faithfulness, Fault, Quantity, Reason,
    Report, Role, Scheme, Settings, Size, Split, Status, Unfinished, Verdict,
    measure::Measured,
    report::Draft,
    stats::{Resamples, binomial_tail},
};

/// Whether the model does the task: its mean loss is below ln 2 by bootstrap, and the loss of more than half the
/// pairs is, by an exact sign test (ties count against). Both at `task_p`, so the larger p decides.
///
/// ln 2 is also the loss of the best constant predictor: the two sequences of a pair have opposite answers, and
/// `(softplus(d) + softplus(−d)) / 2 ≥ ln 2` for whatever difference d does not tell them apart.
pub(crate) fn task(model: &Cell, losses: &[f64], resamples: &Resamples, settings: &Settings) -> Check {
    let below = losses.iter().filter(|&&l| l < LN_2).count();
    let sign = binomial_tail(losses.len(), below, 0.5);
    let p = sign.max(resamples.p_below(losses, LN_2));
    let passed = p < settings.task_p;
    let words = if passed { "the model does the task" } else { "the model does not do the task better than chance" };
    Check {
        split: Some(Split::HeldOut),
        estimate: Some(model.loss),
        p_value: Some(p),
        threshold: Some(settings.task_p),
        ..Check::new(
            CheckId::Task,
            Status::of(passed),
            format!(
                "{words}: its loss is {} nats (chance {LN_2:.4}), below chance on {below} of {} pairs, p = {p:.2e}",
                model.loss,
                losses.len()
            ),
        )
    }
}

/// Whether the model does the task through nodes at all.
pub(crate) fn through_nodes(faithfulness: &Faithfulness, settings: &Settings) -> Check {
    let id = CheckId::ThroughNodes;
    match faithfulness {
        Faithfulness::Defined { .. } => Check::new(id, Status::Passed, "ablating every node costs the model the task"),
        Faithfulness::Undefined { denominator: (mean, se) } => Check::new(
            id,
            Status::Failed,
            format!(
                "ablating every node costs the model only {mean:.4} ± {se:.4} nats ({} standard errors and {} of what it \
                 knows are needed): no set of nodes can be credited with the task",
                settings.min_denominator_se, settings.min_denominator_share
            ),
        ),
    }
}

/// Sufficiency on one split under one scheme.
pub(crate) fn sufficiency(
    (model, cell): (&Cell, &Cell),
    (circuit, nothing): (&Measured, &Measured),
    resamples: &Resamples,
    target_loss: f64,
    settings: &Settings,
) -> Vec<Check> {
    let (split, scheme) = (cell.split, cell.ablation.expect("a circuit's run ablates"));
    let id = |quantity: Quantity| match split {
        Split::HeldOut => CheckId::Sufficiency { scheme, quantity },
        split => CheckId::Shift { split, scheme, quantity },
    };
    let one = |what: Quantity, estimate: Estimate, threshold: f64, passed: bool, words: String| Check {
        split: Some(split),
        ablation: Some(scheme),
        estimate: Some(estimate),
        threshold: Some(threshold),
        ..Check::new(id(what), Status::of(passed), words)
    };
    let at_least = |what: Quantity, estimate: Estimate, threshold: f64, words: &str| {
        let passed = estimate.ci95.0 >= threshold;
        one(
            what,
            estimate,
            threshold,
            passed,
            format!("{words} {estimate}; the lower end must be at least {threshold}"),
        )
    };
    let on = format!("on {split} under {scheme} ablation");
    if split != Split::HeldOut {
        let mut accuracy = at_least(
            Quantity::Accuracy,
            cell.accuracy,
            settings.min_template,
            &format!("{on} the circuit is right on a fraction"),
        );
        if model.accuracy.ci95.0 < settings.min_template {
            accuracy.status = Status::NotApplicable;
            accuracy.explanation = format!(
                "{on} the model itself is right only on {}: nothing to ask of the circuit there",
                model.accuracy
            );
        }
        let agreement = at_least(
            Quantity::Agreement,
            cell.agreement,
            settings.min_template,
            &format!("{on} circuit and model agree on"),
        );
        return vec![accuracy, agreement];
    }
    let limit = settings.loss_limit(target_loss);
    let difference: Vec<f64> = circuit.kl.iter().zip(&nothing.kl).map(|(c, n)| c - n).collect();
    let closer = resamples.mean(&difference);
    let scale = cell.calibration.scale;
    vec![
        Check {
            split: Some(split),
            ablation: Some(scheme),
            threshold: Some(0.0),
            ..Check::new(
                id(Quantity::Direction),
                Status::of(scale > 0.0),
                format!(
                    "{on} the calibration multiplies the circuit's logit difference by {scale:.3}, shifted by {:.3}; \
                     a factor of 0 or less would turn its answers round",
                    cell.calibration.shift
                ),
            )
        },
        one(
            Quantity::Loss,
            cell.loss,
            limit,
            cell.loss.ci95.1 <= limit,
            format!(
                "{on} the circuit's loss is {} nats (target {target_loss}); the upper end must be at most {limit:.4}",
                cell.loss
            ),
        ),
        at_least(
            Quantity::Accuracy,
            cell.accuracy,
            settings.min_accuracy,
            &format!("{on} the circuit is right on a fraction"),
        ),
        at_least(
            Quantity::Agreement,
            cell.agreement,
            settings.min_agreement,
            &format!("{on} circuit and model agree on"),
        ),
        one(
            Quantity::NearerThanNothing,
            closer,
            0.0,
            closer.ci95.1 < 0.0,
            format!(
                "{on} KL(model ‖ circuit) is {} nats, {closer} more than with nothing kept; the upper end of that must \
                 be below 0",
                cell.kl
            ),
        ),
    ]
}

/// Whether the model needs the circuit: the rise of its loss (at the best common shift) without it, pair by pair,
/// against `min_necessity` of what it knows.
pub(crate) fn necessity(without: &[f64], model: &[f64], resamples: &Resamples, settings: &Settings) -> Check {
    let rise: Vec<f64> = without.iter().zip(model).map(|(w, m)| w - m).collect();
    let rise = resamples.mean(&rise);
    let known = LN_2 - model.iter().sum::<f64>() / model.len() as f64;
    let threshold = settings.min_necessity * known;
    let passed = rise.ci95.0 >= threshold;
    let rest = if passed { "" } else { ": the rest of the model does the task without the circuit" };
    Check {
        split: Some(Split::HeldOut),
        ablation: Some(Scheme::MEAN),
        estimate: Some(rise),
        threshold: Some(threshold),
        ..Check::new(
            CheckId::Necessity,
            Status::of(passed),
            format!(
                "ablating only the circuit raises the model's loss by {rise} nats, after the best common shift; the \
                 lower end must be at least {threshold:.4}, {} of the {known:.4} the model knows{rest}",
                settings.min_necessity
            ),
        )
    }
}

/// What a control says. The circuit stands only if the same search needs more edges where it must fail.
pub(crate) fn control(kind: ControlKind, controls: &[Control], size: Size) -> Check {
    let id = CheckId::Control { kind };
    let of_kind: Vec<&Control> = controls.iter().filter(|c| c.kind == kind).collect();
    let Some(smallest) = of_kind.iter().filter(|c| c.reached_target).min_by_key(|c| c.edges) else {
        return match of_kind.iter().map(|c| c.loss).reduce(f64::min) {
            None => Check::new(id, Status::NotApplicable, format!("the control with {kind} was not run")),
            Some(loss) => Check::new(
                id,
                Status::Passed,
                format!("with {kind} the same search did not reach the target loss (best {loss:.4} nats)"),
            ),
        };
    };
    let passed = smallest.edges > size.edges;
    Check {
        threshold: Some(size.edges as f64),
        ..Check::new(
            id,
            Status::of(passed),
            format!(
                "with {kind} the same search reached the target with {} edges and {} nodes; the circuit has {} and {}{}",
                smallest.edges,
                smallest.nodes,
                size.edges,
                size.nodes,
                if passed { "" } else { ": a circuit of this size and loss is no evidence" }
            ),
        )
    }
}

/// Whether the circuit says which nodes matter.
pub(crate) fn selective(size: Size, settings: &Settings) -> Check {
    let passed = size.active_in_circuit as f64 <= settings.max_share * size.active_nodes as f64;
    Check {
        threshold: Some(settings.max_share),
        ..Check::new(
            CheckId::NotTrivial,
            Status::of(passed),
            format!(
                "the circuit keeps {} of the {} active nodes{}",
                size.active_in_circuit,
                size.active_nodes,
                if passed { "" } else { ": trivial, it hardly says which nodes matter" }
            ),
        )
    }
}

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
        /// What certificates cover.
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
    use crate::Why;

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
            assert_eq!((&a.verdict, a.rung, a.failed_families()), (&b.verdict, b.rung, b.failed_families()));
            assert_eq!(a.ladder().map(|l| l.state), b.ladder().map(|l| l.state));
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
        let fault = Fault::Run(crate::RunError::HookSilent);
        let report = seal(clean(), End::Fault(fault.clone()), None);
        assert_eq!((&report.verdict, report.rung), (&Verdict::Error { fault }, 0));
        let certified = || End::Whole { certified: Some("all 9 inputs".into()) };
        let report = seal(clean(), certified(), None);
        assert_eq!((&report.verdict, report.rung), (&Verdict::Certified { scope: "all 9 inputs".into() }, 6));
        // A certificate that is wanting is no reservation; a weak check is one that no certificate lifts.
        let mut weak = clean();
        let step = CheckId::Certificate { kind: crate::certificate::Kind::Statistical };
        weak.unfinished.push(Unfinished::new(step, Why::OutOfTime));
        assert_eq!(seal(weak, End::Whole { certified: None }, None).verdict, Verdict::Strong);
        let mut weak = clean();
        weak.checks.iter_mut().filter(|c| c.id == CheckId::Identified).for_each(|c| c.status = Status::Failed);
        assert_eq!(seal(weak, certified(), None).verdict, Verdict::Weak);
    }
}
