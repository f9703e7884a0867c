//! Measures of a run, and the normalised faithfulness.

use openwork_circuit::{Calibration, Outcome, credit};
use openwork_tasks::Pair;

use serde::{Deserialize, Serialize};

use crate::{
    run::scheme::{Kept, Scheme, Split},
    settings::Settings,
    stats::intervals::{Estimate, Resamples, fraction, quantile},
};

/// `(L(∅) − L(C)) / (L(∅) − L(M))`: 0 where the circuit is as bad as nothing, 1 where it is as good as the model.
/// Neither clamped nor always defined; beyond 1 the circuit does better than what it should explain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Faithfulness {
    /// The denominator is large enough.
    Defined {
        /// Ratio of the means over pairs.
        ratio_of_means: Estimate,
        /// 5th, 50th and 95th percentile of the ratio pair by pair, over pairs with a positive denominator.
        by_pair: [f64; 3],
    },
    /// Ablating everything costs too little to divide by.
    Undefined {
        /// Mean and standard error of the denominator in nats.
        denominator: (f64, f64),
    },
}

/// Measures of one run on one split; losses and divergences in nats, means over pairs of the mean over their two
/// sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// On which pairs.
    pub split: Split,
    /// Nodes that were kept.
    pub kept: Kept,
    /// By what the others were replaced; none for the model.
    pub ablation: Option<Scheme>,
    /// Scale and shift of the logit difference. The circuit's own under mean ablation; refitted on the selection
    /// pairs under zero ablation and where nothing is kept; none for the model and all but the circuit.
    pub calibration: Calibration,
    /// Task loss, calibrated (chance ln 2).
    pub loss: Estimate,
    /// Task loss without calibration.
    pub loss_uncalibrated: Estimate,
    /// Fraction of sequences whose right candidate is preferred (calibrated).
    pub accuracy: Estimate,
    /// Fraction of sequences on which the run (calibrated) prefers the model's candidate.
    pub agreement: Estimate,
    /// Fraction of sequences with the model's most likely token of the whole vocabulary.
    pub agreement_vocabulary: Estimate,
    /// KL(model ‖ run) over the two candidates (calibrated).
    pub kl_candidates: Estimate,
    /// KL(model ‖ run) over the whole vocabulary.
    pub kl: Estimate,
    /// 99th percentile over sequences of that.
    pub kl_p99: f64,
    /// Largest.
    pub kl_max: f64,
    /// Normalised faithfulness, for the circuit.
    pub faithfulness: Option<Faithfulness>,
    /// The same after the best common shifts, for the circuit.
    pub at_best_shift: Option<AtBestShift>,
}

/// Measures of a run on one split after common shifts of its logit difference; losses and divergences in nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtBestShift {
    /// Shift of least loss, logits.
    pub shift: f64,
    /// Task loss there.
    pub loss: Estimate,
    /// Fraction of sequences whose right candidate is preferred there.
    pub accuracy: Estimate,
    /// Pairs to whose two prompts the model gives different answers.
    pub contrasts: usize,
    /// Shift that suits the model's answers on these best; none where there are no such pairs.
    pub shift_to_answers: Option<f64>,
    /// Fraction of their sequences on which the run prefers the model's candidate there.
    pub agreement: Option<Estimate>,
    /// KL(model ‖ run) over the whole vocabulary, uncalibrated, at its best shift of the odds between the two candidates; what both
    /// have together stays what it is.
    pub kl: Estimate,
}

/// Lead in nats of the likelier candidate over every token that is none: above 0 where the likeliest token is a candidate.
pub(crate) fn lead_over_others(log_probs: &[f32], pair: &Pair) -> f64 {
    let candidates = [pair.answer, pair.alternative].map(usize::from);
    let (mut best, mut other) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for (token, &p) in log_probs.iter().enumerate() {
        let most = if candidates.contains(&token) { &mut best } else { &mut other };
        *most = most.max(p);
    }
    f64::from(best - other)
}

/// One value a pair of everything a [`Cell`] reports.
pub(crate) struct Measured {
    pub loss: Vec<f64>,
    pub loss_uncalibrated: Vec<f64>,
    pub right: Vec<f64>,
    pub agree: Vec<f64>,
    pub agree_vocabulary: Vec<f64>,
    pub kl_candidates: Vec<f64>,
    pub kl: Vec<f64>,
    kl_sequences: Vec<f64>,
    /// Calibrated logit difference of every sequence.
    pub differences: Vec<f64>,
}

impl Measured {
    /// Measures `run`, calibrated by `c`, beside the plain model on the same sequences.
    pub fn new(run: &Outcome, c: Calibration, model: &Outcome) -> Self {
        let differences: Vec<f64> = run.differences.iter().map(|d| c.scale * d + c.shift).collect();
        let both = || differences.iter().zip(&model.differences);
        let right = run.towards_right(c).map(credit);
        let agree = run.agreement(c, model);
        let kl_candidates = both().map(|(&run, &model)| kl_binary(model, run));
        let distributions = || model.log_probs.iter().zip(&run.log_probs);
        let kl_sequences: Vec<f64> = distributions().map(|(p, q)| kl(p, q)).collect();
        let top = distributions().map(|(p, q)| f64::from(u8::from(argmax(p) == argmax(q))));
        Self {
            loss: run.pair_losses(c),
            loss_uncalibrated: run.pair_losses(Calibration::NONE),
            right: by_pair(right),
            agree: by_pair(agree),
            agree_vocabulary: by_pair(top),
            kl_candidates: by_pair(kl_candidates),
            kl: by_pair(kl_sequences.iter().copied()),
            kl_sequences,
            differences,
        }
    }

    /// Means and intervals.
    pub fn cell(
        &self,
        (split, kept, ablation): (Split, Kept, Option<Scheme>),
        calibration: Calibration,
        faithfulness: Option<Faithfulness>,
        resamples: &Resamples,
    ) -> Cell {
        let mut sorted = self.kl_sequences.clone();
        sorted.sort_by(f64::total_cmp);
        Cell {
            split,
            kept,
            ablation,
            calibration,
            loss: resamples.mean(&self.loss),
            loss_uncalibrated: resamples.mean(&self.loss_uncalibrated),
            accuracy: fraction(&self.right),
            agreement: fraction(&self.agree),
            agreement_vocabulary: fraction(&self.agree_vocabulary),
            kl_candidates: resamples.mean(&self.kl_candidates),
            kl: resamples.mean(&self.kl),
            kl_p99: quantile(&sorted, 0.99),
            kl_max: *sorted.last().expect("a split has pairs"),
            faithfulness,
            at_best_shift: None,
        }
    }
}

/// Normalised faithfulness of losses, one a pair; see [`Faithfulness`].
///
/// Undefined where the mean of the denominator is below `min_denominator_se` standard errors, below
/// `min_denominator_share` of the model's loss reduction `ln 2 − loss`, or below 1e-6 nats (rounding).
pub(crate) fn faithfulness(
    nothing: &[f64],
    circuit: &[f64],
    model: &[f64],
    resamples: &Resamples,
    settings: &Settings,
) -> Faithfulness {
    let under: Vec<f64> = nothing.iter().zip(model).map(|(e, m)| e - m).collect();
    let over: Vec<f64> = nothing.iter().zip(circuit).map(|(e, c)| e - c).collect();
    let n = under.len() as f64;
    let mean = under.iter().sum::<f64>() / n;
    let se = (under.iter().map(|u| (u - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0) / n).sqrt();
    let reduction = std::f64::consts::LN_2 - model.iter().sum::<f64>() / n;
    let least = (settings.min_denominator_se * se).max(settings.min_denominator_share * reduction).max(1e-6);
    if mean < least {
        return Faithfulness::Undefined { denominator: (mean, se) };
    }
    let mut ratios: Vec<f64> = over.iter().zip(&under).filter(|(_, u)| **u >= 1e-6).map(|(o, u)| o / u).collect();
    ratios.sort_by(f64::total_cmp);
    let by_pair = [0.05, 0.5, 0.95].map(|p| quantile(&ratios, p));
    Faithfulness::Defined { ratio_of_means: resamples.ratio(&over, &under), by_pair }
}

/// Task loss of every pair after the common shift of the logit difference that makes the mean loss least.
///
/// An ablation that merely moves both logits apart everywhere has destroyed nothing that tells a positive prompt
/// from a negative one.
pub(crate) fn losses_at_best_shift(run: &Outcome) -> Vec<f64> {
    run.pair_losses(best_shift(run))
}

/// The calibration of least loss among those whose scale is between zero and `most`.
pub(crate) fn calibrate_within(run: &Outcome, most: f64) -> Calibration {
    let best = run.calibrate().scale;
    // The loss is convex, so that the best scale of those allowed is the one nearest to the best of all.
    let scale = if best.is_finite() { best.clamp(0.0, most.max(0.0)) } else { 0.0 };
    let differences = run.differences.iter().map(|d| scale * d).collect();
    Calibration { scale, ..best_shift(&Outcome { differences, log_probs: vec![] }) }
}

/// The common shift of the logit difference that makes the mean task loss least: the slope of the convex
/// `Σ σ(d + s) − ½` is bisected.
pub(crate) fn best_shift(run: &Outcome) -> Calibration {
    let d = &run.differences;
    let slope = |shift: f64| d.iter().map(|d| 1.0 / (1.0 + (-(d + shift)).exp()) - 0.5).sum::<f64>();
    let (mut low, mut high) = d.iter().fold((0.0_f64, 0.0_f64), |(l, h), d| (l.min(-d), h.max(-d)));
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    Calibration { scale: 1.0, shift: (low + high) / 2.0 }
}

/// The calibration of least loss, or none where all differences are equal.
pub(crate) fn calibrate(run: &Outcome) -> Calibration {
    let c = run.calibrate();
    if c.scale.is_finite() && c.shift.is_finite() { c } else { Calibration::NONE }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// KL divergence in nats of two-way distributions of log odds `p` and `q`.
pub(crate) fn kl_binary(p: f64, q: f64) -> f64 {
    let log_sigmoid = |x: f64| x.min(0.0) - (-x.abs()).exp().ln_1p();
    let term = |p: f64, q: f64| log_sigmoid(p).exp() * (log_sigmoid(p) - log_sigmoid(q));
    term(p, q) + term(-p, -q)
}

/// `Σ p (log p − log q)` of log-probabilities.
pub(crate) fn kl(p: &[f32], q: &[f32]) -> f64 {
    p.iter().zip(q).map(|(&p, &q)| f64::from(p).exp() * (f64::from(p) - f64::from(q))).sum()
}

/// Index of the largest entry, the first of equal ones.
pub(crate) fn argmax(x: &[f32]) -> usize {
    (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

pub(crate) fn by_pair(sequences: impl Iterator<Item = f64>) -> Vec<f64> {
    let all: Vec<f64> = sequences.collect();
    all.chunks_exact(2).map(|s| (s[0] + s[1]) / 2.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(differences: &[f64], log_probs: Vec<Vec<f32>>) -> Outcome {
        Outcome { differences: differences.to_vec(), log_probs }
    }

    #[test]
    fn measures_by_hand() {
        let quarter = vec![0.25_f32.ln(), 0.75_f32.ln()];
        let half = vec![0.5_f32.ln(); 2];
        let model = outcome(&[2.0, -2.0, 2.0, 3.0], vec![quarter.clone(), half.clone(), half.clone(), quarter.clone()]);
        let run = outcome(&[1.0, -1.0, -1.0, 0.0], vec![half.clone(), quarter, half.clone(), half]);
        let m = Measured::new(&run, Calibration { scale: 2.0, shift: 0.0 }, &model);
        assert_eq!((&m.right, &m.agree), (&vec![1.0, 0.25], &vec![1.0, 0.25]));
        // Ties of the vocabulary go to the first token.
        assert_eq!(m.agree_vocabulary, [0.0, 0.5]);
        let forward = 0.25 * (0.25_f64 / 0.5).ln() + 0.75 * (0.75_f64 / 0.5).ln();
        let back = 0.5 * (0.5_f64 / 0.25).ln() + 0.5 * (0.5_f64 / 0.75).ln();
        assert!((m.kl[0] - (forward + back) / 2.0).abs() < 1e-6 && (m.kl[1] - forward / 2.0).abs() < 1e-6);
        assert!(m.kl_candidates[0].abs() < 1e-12);
        let p = |d: f64| 1.0 / (1.0 + (-d).exp());
        let by_hand = |a: f64, b: f64| p(a) * (p(a) / p(b)).ln() + p(-a) * (p(-a) / p(-b)).ln();
        assert!((m.kl_candidates[1] - (by_hand(2.0, -2.0) + by_hand(3.0, 0.0)) / 2.0).abs() < 1e-12);
        assert_eq!(m.differences, [2.0, -2.0, -2.0, 0.0]);
        // Far out nothing overflows.
        assert!((kl_binary(800.0, -800.0) - 800.0).abs() < 1e-9 && kl_binary(800.0, 800.0) == 0.0);
    }

    #[test]
    fn a_common_shift_destroys_nothing_and_a_lost_difference_does() {
        let moved: Vec<f64> = (0..20).map(|i| 40.0 + if i % 2 == 0 { 6.0 } else { -6.0 }).collect();
        let loss = |d: &[f64]| losses_at_best_shift(&outcome(d, vec![])).iter().sum::<f64>() / (d.len() / 2) as f64;
        assert!(loss(&moved) < 0.003, "{}", loss(&moved));
        assert!((loss(&[7.0; 20]) - std::f64::consts::LN_2).abs() < 1e-9);
        let tiny: Vec<f64> = (0..20).map(|i| if i % 2 == 0 { 1e-6 } else { 0.0 }).collect();
        assert!(loss(&tiny) > 0.69, "a difference of 1e-6 is not the task");
    }

    #[test]
    fn faithfulness_is_neither_clamped_nor_always_defined() {
        let settings = Settings::default();
        let resamples = Resamples::new(50, 500, 1);
        let wobble = |base: f64| (0..50).map(|i| base + 0.01 * f64::from(i % 5)).collect::<Vec<f64>>();
        let of = |nothing: f64, circuit: f64, model: f64| {
            faithfulness(&wobble(nothing), &wobble(circuit), &vec![model; 50], &resamples, &settings)
        };
        let ratio = |f: Faithfulness| match f {
            Faithfulness::Defined { ratio_of_means, .. } => ratio_of_means.mean,
            Faithfulness::Undefined { .. } => panic!("undefined"),
        };
        assert!((ratio(of(1.0, 0.52, 0.02)) - 0.48).abs() < 1e-9);
        assert!(ratio(of(1.0, 0.0, 0.5)) > 1.9, "better than the model is more than 1");
        assert!(ratio(of(1.0, 1.5, 0.5)) < -0.9, "worse than nothing is below 0");
        for (nothing, model) in [(0.5, 0.56), (0.1, 0.4)] {
            assert!(matches!(of(nothing, 0.2, model), Faithfulness::Undefined { .. }), "{nothing} {model}");
        }
        // A mean of 0.1 with a standard error of 0.14.
        let noisy: Vec<f64> = (0..50).map(|i| if i % 2 == 0 { 1.1 } else { -0.9 }).collect();
        let of_noisy = faithfulness(&noisy, &[0.0; 50], &[0.0; 50], &resamples, &settings);
        assert!(matches!(of_noisy, Faithfulness::Undefined { .. }));
        // Precise, but a twentieth of the 0.69 nats of the model's loss reduction.
        assert!(matches!(
            faithfulness(&[0.035; 50], &[0.0; 50], &[0.0; 50], &resamples, &settings),
            Faithfulness::Undefined { .. }
        ));
        let same = [0.3; 50];
        assert!(matches!(
            faithfulness(&same, &same, &same, &resamples, &settings),
            Faithfulness::Undefined { denominator: (0.0, 0.0) }
        ));
    }
}
