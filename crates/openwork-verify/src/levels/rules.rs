//! The rules: from numbers to checks, and from checks to the verdict.

use std::f64::consts::LN_2;

use openwork_circuit::Calibration;

use crate::{
    checks::{
        Check, Role, Status,
        control::{Control, ControlKind},
        form::Raw,
        id::{CheckId, Quantity},
    },
    report::findings::Size,
    run::{
        measures::{AtBestShift, Cell, Faithfulness, Measured},
        scheme::{Scheme, Split},
        shift_free::ShiftFree,
    },
    settings::Settings,
    stats::intervals::{Estimate, Resamples, binomial_tail, fraction, upper_bound},
};

/// Check that the model does the task: its mean loss is below ln 2 by bootstrap, and the loss of more than half the
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

/// Check that the model does the task through nodes.
pub(crate) fn through_nodes(faithfulness: &Faithfulness, settings: &Settings) -> Check {
    let id = CheckId::ThroughNodes;
    match faithfulness {
        Faithfulness::Defined { .. } => Check::new(id, Status::Passed, "ablating every node costs the model the task"),
        Faithfulness::Undefined { denominator: (mean, se) } => Check::new(
            id,
            Status::Failed,
            format!(
                "ablating every node costs the model only {mean:.4} ± {se:.4} nats ({} standard errors and {} of its loss \
                 reduction are needed): no set of nodes can be credited with the task",
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
            let words = "nothing to ask of the circuit there, but that it agrees with the model";
            let words = format!("{on} the model itself is right only on {}: {words}", model.accuracy);
            // No pass hangs on it, and without it none is strong.
            let role = Role::ForStrong;
            let check = Check::new(accuracy.id, Status::NotApplicable, words);
            accuracy = Check { split: Some(split), ablation: Some(scheme), role, ..check };
        }
        let agreement = at_least(
            Quantity::Agreement,
            cell.agreement,
            settings.min_template,
            &format!("{on} circuit and model agree on"),
        );
        return vec![accuracy, agreement];
    }
    let limit = settings.loss_limit();
    let difference: Vec<f64> = circuit.kl.iter().zip(&nothing.kl).map(|(c, n)| c - n).collect();
    let closer = resamples.mean(&difference);
    let (scale, most) = (cell.calibration.scale, Calibration::MAX_SCALE);
    vec![
        Check {
            split: Some(split),
            ablation: Some(scheme),
            threshold: Some(0.0),
            ..Check::new(
                id(Quantity::Direction),
                Status::of(scales_well(cell)),
                format!(
                    "{on} the calibration multiplies the circuit's logit difference by {scale:.3}{}, shifted by {:.3}; \
                     a factor of 0 or less would turn its answers round, and one above {most} makes answers of a leak",
                    if scale >= most { ", the most that is allowed" } else { "" },
                    cell.calibration.shift,
                ),
            )
        },
        one(
            Quantity::Loss,
            cell.loss,
            limit,
            cell.loss.ci95.1 <= limit,
            format!(
                "{on} the circuit's loss is {} nats (target {}); the upper end must be at most {limit:.4}",
                cell.loss, settings.target_loss
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

/// Runs that sufficiency after the best common shift is judged by: of the circuit, of nothing kept, and the plain model.
pub(crate) struct Shifted<'a> {
    pub circuit: &'a ShiftFree,
    pub nothing: &'a ShiftFree,
    pub model: &'a ShiftFree,
}

/// Sufficiency on one split under one scheme, after the shift of the run's logit differences that suits the split best. The scale is
/// that of the calibration; its sign and size are asked without a shift.
pub(crate) fn sufficiency_shifted(
    cell: &Cell,
    table: &AtBestShift,
    shifted: &Shifted<'_>,
    resamples: &Resamples,
    settings: &Settings,
) -> Vec<Check> {
    let (split, scheme) = (cell.split, cell.ablation.expect("a circuit's run ablates"));
    let one = |quantity: Quantity, estimate: Option<Estimate>, threshold: f64, status: Status, words: String| {
        let of = match split {
            Split::HeldOut => Raw::Sufficiency { scheme, quantity },
            split => Raw::Shift { split, scheme, quantity },
        };
        let check = Check::new(CheckId::ShiftFree { of }, status, words);
        let threshold = estimate.map(|_| threshold);
        Check { split: Some(split), ablation: Some(scheme), estimate, threshold, ..check }
    };
    let on =
        format!("on {split} under {scheme} ablation, after the shift of all logit differences that suits them best,");
    let at_least = |quantity: Quantity, estimate: Estimate, bar: f64, words: &str| {
        let words = format!("{on} {words} {estimate}; the lower end must be at least {bar}");
        one(quantity, Some(estimate), bar, Status::of(estimate.ci95.0 >= bar), words)
    };
    let is_held_out = split == Split::HeldOut;
    let [right, agree] = match is_held_out {
        true => [settings.min_accuracy, settings.min_agreement],
        false => [settings.min_template; 2],
    };
    let n = shifted.circuit.loss.len();
    let agreement = match table.agreement.filter(|_| table.contrasts >= settings.min_pairs) {
        Some(agreement) => {
            let words = format!(
                "circuit and model agree, on the {} of {n} pairs to whose prompts the model gives different answers, on",
                table.contrasts
            );
            at_least(Quantity::Agreement, agreement, agree, &words)
        }
        None => {
            let words = format!(
                "on {split} the model gives the two prompts different answers in {} of {n} pairs, and {} are needed: the others                  carry no contrast",
                table.contrasts, settings.min_pairs
            );
            one(Quantity::Agreement, None, agree, Status::NotApplicable, words)
        }
    };
    let of_model = fraction(&shifted.model.right);
    let accuracy = match is_held_out || of_model.ci95.0 >= settings.min_template {
        true => at_least(Quantity::Accuracy, table.accuracy, right, "the circuit is right on a fraction"),
        false => {
            let words =
                format!("{on} the model itself is right only on {of_model}: nothing to ask of the circuit there");
            let check = one(Quantity::Accuracy, None, right, Status::NotApplicable, words);
            // No pass hangs on it, and without it none is strong.
            Check { role: Role::ForStrong, ..check }
        }
    };
    if !is_held_out {
        return vec![accuracy, agreement];
    }
    let limit = settings.loss_limit();
    let words = format!("{on} the circuit's loss is {} nats; the upper end must be at most {limit:.4}", table.loss);
    let loss = one(Quantity::Loss, Some(table.loss), limit, Status::of(table.loss.ci95.1 <= limit), words);
    let difference: Vec<f64> = shifted.circuit.kl.iter().zip(&shifted.nothing.kl).map(|(c, n)| c - n).collect();
    let closer = resamples.mean(&difference);
    let words = format!(
        "on {split} under {scheme} ablation, each with the odds of the two candidates shifted as suits it best, KL(model ‖ circuit) \
         is {} nats, {closer} more than with nothing kept; the upper end of that must be below 0",
        table.kl
    );
    let nearer = one(Quantity::NearerThanNothing, Some(closer), 0.0, Status::of(closer.ci95.1 < 0.0), words);
    vec![loss, accuracy, agreement, nearer]
}

/// True if a run's calibration keeps the direction of its answers and makes none of a leak. What was fitted may lie on the
/// bound, up to rounding.
pub(crate) fn scales_well(cell: &Cell) -> bool {
    let scale = cell.calibration.scale;
    scale > 0.0 && scale <= Calibration::MAX_SCALE * (1.0 + 1e-9)
}

/// Check that the circuit's distribution over the vocabulary is nearer to the model's than to that of nothing kept, by
/// `KL(model ‖ circuit) / KL(model ‖ nothing)`, a ratio of means over pairs.
///
/// `shift` tells of a common shift that either run had before, in words.
pub(crate) fn divergence(
    (id, shift): (CheckId, &str),
    (circuit, nothing): (&[f64], &[f64]),
    resamples: &Resamples,
    settings: &Settings,
) -> Check {
    // Below rounding nothing is left to compare with.
    if nothing.iter().sum::<f64>() <= 1e-6 * nothing.len() as f64 {
        return Check::new(id, Status::NotApplicable, "with nothing kept the model's distribution is what it was");
    }
    let ratio = resamples.ratio(circuit, nothing);
    let passed = ratio.ci95.1 <= settings.max_divergence;
    let words = format!(
        "{}KL(model ‖ circuit) over the vocabulary is a share {ratio} of KL(model ‖ nothing kept), under mean ablation and \
         without calibration{shift}; the upper end must be at most {}",
        candidates_only(passed),
        settings.max_divergence
    );
    Check {
        split: Some(Split::HeldOut),
        ablation: Some(Scheme::MEAN),
        estimate: Some(ratio),
        threshold: Some(settings.max_divergence),
        ..Check::new(id, Status::of(passed), words)
    }
}

/// Check of the share of sequences after which the circuit's likeliest token is a candidate, of those after which the model's is
/// one. Where the model's never is (`asks` is false), the share after which it is the model's.
pub(crate) fn likeliest_token(share: Estimate, asks: bool, settings: &Settings) -> Check {
    let passed = share.ci95.0 >= settings.min_agreement;
    let words = match asks {
        true => "where the model's likeliest token is a candidate, so is the circuit's",
        false => "the model's likeliest token is never a candidate, and the circuit's is the model's",
    };
    let words = format!(
        "{}{words} after a fraction {share} of sequences; the lower end must be at least {}",
        candidates_only(passed),
        settings.min_agreement
    );
    Check {
        split: Some(Split::HeldOut),
        ablation: Some(Scheme::MEAN),
        estimate: Some(share),
        threshold: Some(settings.min_agreement),
        ..Check::new(CheckId::VocabularyTop, Status::of(passed), words)
    }
}

/// The claim that is left where the vocabulary speaks against the circuit.
fn candidates_only(passed: bool) -> &'static str {
    if passed { "" } else { "what can be claimed is about the choice between the two candidates only: " }
}

/// The share of pairs that the circuit turns which these pairs cannot exclude: the exact upper bound, at 95 % confidence, for as
/// many turned pairs as there are. Of a share p, so many pairs see none with probability `(1 − p)ⁿ`.
pub(crate) fn turned_pairs(split: Split, (id, agree): (CheckId, &[f64])) -> Check {
    let n = agree.len();
    let turned = agree.iter().filter(|a| **a < 1.0).count();
    let bound = upper_bound(n, turned, 0.05);
    Check {
        split: Some(split),
        ablation: Some(Scheme::MEAN),
        ..Check::new(
            id,
            Status::Passed,
            format!(
                "up to {:.2} % of pairs like these, at 95 %: an answer differs from the model's in {turned} of {n} {split}",
                100.0 * bound
            ),
        )
    }
}

/// Check that the model needs the circuit: the rise of its loss (at the best common shift) without it, pair by pair,
/// against `min_necessity` of its loss reduction.
pub(crate) fn necessity(without: &[f64], model: &[f64], resamples: &Resamples, settings: &Settings) -> Check {
    let rise: Vec<f64> = without.iter().zip(model).map(|(w, m)| w - m).collect();
    let rise = resamples.mean(&rise);
    let reduction = LN_2 - model.iter().sum::<f64>() / model.len() as f64;
    let threshold = settings.min_necessity * reduction;
    let passed = rise.ci95.0 >= threshold;
    let rest = if passed { "" } else { ": more of what the model knows of the task is outside the circuit" };
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
                 lower end must be at least {threshold:.4}, {} of the {reduction:.4} nats by which the model is below chance{rest}",
                settings.min_necessity
            ),
        )
    }
}

/// Check that whoever found the circuit asked no less of it than the verifier does.
pub(crate) fn claimed_target(claimed: f64, settings: &Settings) -> Check {
    let (target, passed) = (settings.target_loss, claimed <= settings.target_loss);
    let rest = if passed { "" } else { ": its search asked for less" };
    let words = format!("the search was for a loss of {claimed} nats, the verifier asks for {target}{rest}");
    Check { threshold: Some(target), ..Check::new(CheckId::ClaimedTarget, Status::of(passed), words) }
}

/// Check of a control. The circuit stands only if the verifier's search needs more edges where it must fail.
pub(crate) fn control(kind: ControlKind, controls: &[Control], size: Size) -> Check {
    let id = CheckId::Control { kind };
    let of_kind: Vec<&Control> = controls.iter().filter(|c| c.kind == kind).collect();
    let Some(smallest) = of_kind.iter().filter(|c| c.reached_target).min_by_key(|c| c.edges) else {
        return match of_kind.iter().map(|c| c.loss).reduce(f64::min) {
            None => Check::new(id, Status::NotApplicable, format!("the control with {kind} was not run")),
            Some(loss) => Check::new(
                id,
                Status::Passed,
                format!("with {kind} the search did not reach the target loss (best {loss:.4} nats)"),
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
                "with {kind} the search reached the target with {} edges and {} nodes; the circuit has {} and {}{}",
                smallest.edges,
                smallest.nodes,
                size.edges,
                size.nodes,
                if passed { "" } else { ": a circuit of this size and loss is no evidence" }
            ),
        )
    }
}

/// Check that the circuit leaves out enough active nodes to say which matter.
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
