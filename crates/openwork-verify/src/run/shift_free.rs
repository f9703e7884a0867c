//! Measures after a common shift: all that a run says but for where its threshold lies.
//!
//! A shift s is one number for all prompts of a split, fitted on these very prompts: `d_i` becomes `scale · d_i + s`, the scale being
//! that of the run's calibration. Every measure has the shift that suits it best, of a convex objective whose slope is bisected:
//!
//! - loss and accuracy the s of least `mean softplus(−y_i (d_i + s))`, `y_i = ±1` the right answer;
//! - agreement the s of least `mean softplus(−a_i (d_i + s))`, `a_i = ±1` the model's answer;
//! - KL the s of least `mean KL(m_i ‖ d_i + s)` over the candidates, `m_i` the model's logit difference.
//!
//! A constant run is of no use to any of them. On every pair one right answer is positive and one negative, so that its loss is ln 2
//! and its accuracy a half. Pairs to whose two prompts the model gives one answer carry no contrast: agreement is over the others
//! ([`contrasts`]), on which a constant run agrees in one half, too. With the model's answers on all pairs a shift without end would
//! agree with a model that always says the same.

use openwork_circuit::{Calibration, Outcome, credit};
use openwork_tasks::Pair;

use crate::{
    run::measures::{AtBestShift, best_shift, by_pair, kl, kl_binary},
    stats::intervals::{Estimate, Resamples, fraction},
};

/// One value a pair of everything an [`AtBestShift`] reports.
pub(crate) struct ShiftFree {
    pub shift: f64,
    pub loss: Vec<f64>,
    pub right: Vec<f64>,
    pub answers: ToAnswers,
    /// KL over the candidates, calibrated and shifted.
    pub kl_candidates: Vec<f64>,
    pub kl: Vec<f64>,
}

/// Agreement with the model after the shift that suits its answers best.
pub(crate) struct ToAnswers {
    /// The run's scale and that shift; the scale alone where no pair has a contrast.
    pub calibration: Calibration,
    /// Of every pair with a contrast.
    pub agree: Vec<f64>,
}

impl ToAnswers {
    /// Agreement of `scale` times a run.
    pub fn new(run: &Outcome, scale: f64, model: &Outcome) -> Self {
        let signs = signs(model);
        let scaled: Vec<f64> = run.differences.iter().map(|d| scale * d).collect();
        let calibration = Calibration { scale, shift: shift_to_signs(&scaled, &signs) };
        let agree = by_pair(run.agreement(calibration, model));
        let agree = agree.into_iter().enumerate().filter(|(pair, _)| signs[2 * pair] != 0.0).map(|(_, a)| a).collect();
        Self { calibration, agree }
    }

    /// The share of answers that are the model's, where a pair has a contrast.
    pub fn agreement(&self) -> Option<Estimate> {
        (!self.agree.is_empty()).then(|| fraction(&self.agree))
    }
}

impl ShiftFree {
    /// Measures `run` at a scale, beside the plain model on the same sequences of `pairs`.
    pub fn new(run: &Outcome, scale: f64, model: &Outcome, pairs: &[Pair]) -> Self {
        let best = best_shift_at(run, scale);
        let scaled: Vec<f64> = run.differences.iter().map(|d| scale * d).collect();
        let nearest = shift_of_least_kl(&scaled, &model.differences, |_| 1.0);
        let kl_candidates = scaled.iter().zip(&model.differences).map(|(d, m)| kl_binary(*m, d + nearest));
        Self {
            shift: best.shift,
            loss: run.pair_losses(best),
            right: by_pair(run.towards_right(best).map(credit)),
            answers: ToAnswers::new(run, scale, model),
            kl_candidates: by_pair(kl_candidates),
            kl: divergences(run, model, pairs),
        }
    }

    /// Means and intervals.
    pub fn table(&self, resamples: &Resamples) -> AtBestShift {
        let agreement = self.answers.agreement();
        AtBestShift {
            shift: self.shift,
            loss: resamples.mean(&self.loss),
            accuracy: fraction(&self.right),
            contrasts: self.answers.agree.len(),
            shift_to_answers: agreement.is_some().then_some(self.answers.calibration.shift),
            agreement,
            kl: resamples.mean(&self.kl),
        }
    }
}

/// True of every pair to whose two prompts the model gives different answers, neither of them a tie.
pub(crate) fn contrasts(model: &Outcome) -> Vec<bool> {
    model.pairs().map(|d| (credit(d.positive) - credit(d.negative)).abs() == 1.0).collect()
}

/// The model's answer, ±1, after every sequence of a pair with a contrast; 0 after those of the others.
pub(crate) fn signs(model: &Outcome) -> Vec<f64> {
    let contrasts = contrasts(model);
    let sign = |(i, d): (usize, &f64)| if contrasts[i / 2] { d.signum() } else { 0.0 };
    model.differences.iter().enumerate().map(sign).collect()
}

/// The shift s of least `Σ softplus(−sign_i (d_i + s))` over sequences whose sign is not 0, half of which are positive; 0 where there
/// are none.
pub(crate) fn shift_to_signs(differences: &[f64], signs: &[f64]) -> f64 {
    let answered = differences.iter().zip(signs).filter(|(_, sign)| **sign != 0.0);
    let terms: Vec<Term> =
        answered.map(|(&d, &sign)| Term { d, target: f64::from(u8::from(sign > 0.0)), weight: 1.0 }).collect();
    shift_towards(&terms)
}

/// The calibration of a scale with the shift of least loss.
pub(crate) fn best_shift_at(run: &Outcome, scale: f64) -> Calibration {
    let differences = run.differences.iter().map(|d| scale * d).collect();
    Calibration { scale, ..best_shift(&Outcome { differences, log_probs: vec![] }) }
}

/// KL(model ‖ run) over the vocabulary of every pair, at the shift of the odds between the two candidates that makes the mean least.
///
/// By the chain rule, KL is that of the split between the candidates together and every other token, and `p` times that between
/// the candidates, p being what the model gives both: `KL(m ‖ d) → KL(m ‖ d + s)` is what the shift changes.
fn divergences(run: &Outcome, model: &Outcome, pairs: &[Pair]) -> Vec<f64> {
    let candidates = |i: usize| {
        let pair = &pairs[i / 2];
        let of = |token: u16| f64::from(model.log_probs[i][usize::from(token)]).exp();
        of(pair.answer) + of(pair.alternative)
    };
    let p: Vec<f64> = (0..model.log_probs.len()).map(candidates).collect();
    let shift = shift_of_least_kl(&run.differences, &model.differences, |i| p[i]);
    let one = |i: usize| {
        let (m, d) = (model.differences[i], run.differences[i]);
        kl(&model.log_probs[i], &run.log_probs[i]) - p[i] * (kl_binary(m, d) - kl_binary(m, d + shift))
    };
    by_pair((0..p.len()).map(one))
}

/// The shift s of least `Σ weight_i KL(m_i ‖ d_i + s)` of two-way distributions of log odds.
fn shift_of_least_kl(differences: &[f64], model: &[f64], weight: impl Fn(usize) -> f64) -> f64 {
    let both = differences.iter().zip(model).enumerate();
    let terms: Vec<Term> = both.map(|(i, (&d, &m))| Term { d, target: sigmoid(m), weight: weight(i) }).collect();
    shift_towards(&terms)
}

/// A sequence whose probability of the answer is to come near a target.
struct Term {
    d: f64,
    target: f64,
    weight: f64,
}

/// The shift s with `Σ weight (σ(d + s) − target) = 0`, where a convex cross entropy is least. With a mean target at the rounding of 0
/// or 1 it stays finite.
fn shift_towards(terms: &[Term]) -> f64 {
    let total: f64 = terms.iter().map(|t| t.weight).sum();
    if total <= 0.0 {
        return 0.0;
    }
    let mean = terms.iter().map(|t| t.weight * t.target).sum::<f64>() / total;
    let mean = mean.clamp(1e-9, 1.0 - 1e-9);
    let odds = (mean / (1.0 - mean)).ln();
    let slope = |s: f64| terms.iter().map(|t| t.weight * (sigmoid(t.d + s) - mean)).sum::<f64>();
    // Between the shifts at which every term is below the mean target, and above it.
    let (most, least) = terms.iter().fold((f64::MIN, f64::MAX), |(most, least), t| (most.max(t.d), least.min(t.d)));
    let (mut low, mut high) = (odds - most, odds - least);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use openwork_circuit::softplus;

    use super::*;

    fn outcome(differences: &[f64]) -> Outcome {
        Outcome { differences: differences.to_vec(), log_probs: vec![] }
    }

    /// A model that is right on `n` pairs by 4 logits.
    fn model(n: usize) -> Outcome {
        outcome(&(0..2 * n).map(|i| if i % 2 == 0 { 4.0 } else { -4.0 }).collect::<Vec<_>>())
    }

    fn agreement(run: &[f64], model: &Outcome) -> f64 {
        ToAnswers::new(&outcome(run), 1.0, model).agreement().expect("there are contrasts").mean
    }

    #[test]
    fn the_shift_is_the_best_there_is() {
        let d = [3.0, -1.0, 2.5, 2.0, 7.0, -4.0];
        let signs = [1.0, -1.0, 1.0, -1.0, -1.0, 1.0];
        let loss = |s: f64| d.iter().zip(&signs).map(|(d, sign)| softplus(-sign * (d + s))).sum::<f64>();
        let best = shift_to_signs(&d, &signs);
        for step in [-0.3, -1e-3, 1e-3, 0.3] {
            assert!(loss(best + step) > loss(best), "{step}");
        }
        let m = [9.0, 8.0, 9.5, 7.0, 6.0, 8.0];
        let apart = |s: f64| d.iter().zip(&m).map(|(d, m)| kl_binary(*m, d + s)).sum::<f64>();
        let nearest = shift_of_least_kl(&d, &m, |_| 1.0);
        assert!([-0.1, 0.1].iter().all(|step| apart(nearest + step) > apart(nearest)));
        // Weights that are nothing count for nothing.
        let first = shift_of_least_kl(&d, &m, |i| f64::from(u8::from(i == 0)));
        assert!((first - 6.0).abs() < 1e-6, "{first}");
    }

    #[test]
    fn a_common_shift_is_no_loss_and_one_that_varies_is() {
        let model = model(40);
        let moved = |by: &dyn Fn(usize) -> f64| -> Vec<f64> {
            model.differences.iter().enumerate().map(|(i, d)| d + by(i)).collect()
        };
        assert_eq!(agreement(&moved(&|_| -30.0), &model), 1.0);
        // By template, by prompt: half of them one way, half the other.
        assert!(agreement(&moved(&|i| if i / 2 % 2 == 0 { 9.0 } else { -9.0 }), &model) <= 0.5 + 1e-9);
        assert!(agreement(&moved(&|i| if i % 4 < 2 { 5.0 } else { -5.0 }), &model) < 0.76);
    }

    #[test]
    fn a_constant_an_order_turned_round_and_rounding_never_agree() {
        let model = model(40);
        assert_eq!(agreement(&[3.0; 80], &model), 0.5);
        let turned: Vec<f64> = model.differences.iter().map(|d| 2.0 - d).collect();
        assert_eq!(agreement(&turned, &model), 0.0);
        let rounding: Vec<f64> = (0..80).map(|i| 5.0 + if i % 2 == 0 { 1e-6 } else { 0.0 }).collect();
        assert_eq!(agreement(&rounding, &model), 0.5);
        // One value a pair tells no two prompts apart, whatever it is.
        let by_pair: Vec<f64> = (0..80).map(|i| f64::from(i / 2)).collect();
        assert!((agreement(&by_pair, &model) - 0.5).abs() < 0.02);
    }

    #[test]
    fn pairs_without_a_contrast_are_left_out_and_a_one_sided_model_has_none() {
        let one_sided = outcome(&[7.0, 3.0, 6.0, 2.0]);
        assert_eq!(contrasts(&one_sided), [false, false]);
        assert!(ToAnswers::new(&outcome(&[9.0; 4]), 1.0, &one_sided).agreement().is_none());
        let mixed = outcome(&[7.0, 3.0, 6.0, -2.0, 0.0, -5.0]);
        assert_eq!(contrasts(&mixed), [false, true, false], "a tie is no answer");
        let shifted = ToAnswers::new(&outcome(&[-9.0, 9.0, 30.0, 20.0, 1.0, 1.0]), 1.0, &mixed);
        assert_eq!((shifted.agree, shifted.calibration.shift), (vec![1.0], -25.0));
    }

    #[test]
    fn a_shift_of_the_odds_leaves_other_tokens_alone() {
        let log = |p: [f64; 3]| p.map(|x| x.ln() as f32).to_vec();
        let difference = |p: [f64; 3]| (p[0] / p[1]).ln();
        let pairs = [Pair { positive: vec![0], negative: vec![1], answer: 0, alternative: 1, template: 0 }];
        let with =
            |p: [[f64; 3]; 2]| Outcome { differences: p.map(difference).to_vec(), log_probs: p.map(log).to_vec() };
        let model = with([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2]]);
        // The odds of both prompts are four times as large; the third token has half of its probability.
        let moved = |p: [f64; 3]| {
            let (a, b) = (4.0 * p[0], p[1]);
            [0.9 * a / (a + b), 0.9 * b / (a + b), 0.1]
        };
        let run = with([moved([0.6, 0.2, 0.2]), moved([0.2, 0.6, 0.2])]);
        let expected = 0.8 * (0.8_f64 / 0.9).ln() + 0.2 * (0.2_f64 / 0.1).ln();
        let found = divergences(&run, &model, &pairs)[0];
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        let plain = (kl(&model.log_probs[0], &run.log_probs[0]) + kl(&model.log_probs[1], &run.log_probs[1])) / 2.0;
        assert!(plain > expected + 0.1, "{plain}");
    }
}
