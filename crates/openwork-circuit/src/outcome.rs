//! Outcomes of runs on contrast pairs: losses, accuracy, agreement, calibration.
//!
//! Source: Gao et al. 2025, §2.2 and A.5, and the released `last_token_contrast_loss_fn`: log-softmax
//! restricted to the two candidate tokens at the last position. Losses are means per sequence in nats
//! (chance is ln 2); the released code's sums over a pair are twice that.

use openwork_tasks::Side;

use crate::contrast::softplus;

/// Scale and shift of the two-way logit difference: `d' = scale · d + shift`, `d = l_answer − l_alternative`.
/// A discretised circuit is uncalibrated (paper A.5).
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Calibration {
    /// Factor of the difference.
    pub scale: f64,
    /// Offset towards the answer.
    pub shift: f64,
}

impl Calibration {
    /// The identity.
    pub const NONE: Self = Self { scale: 1.0, shift: 0.0 };

    /// Largest factor that a calibration may have, in magnitude. A calibration makes up for what ablation does to norms. Data that
    /// are told apart perfectly are scaled to certainty, by a factor of 5 where the answer leads by a nat and of 8 where it
    /// leads by half a nat. Beyond, a calibration reads a cue that leaks into the logits of any two tokens, and would find
    /// a circuit for any labels.
    pub const MAX_SCALE: f64 = 8.0;
}

/// Logit differences, and optionally distributions, at the last position of every sequence. The positive sequence of a pair
/// is followed by its negative one; [`Outcome::sequences`] and [`Outcome::pairs`] name the sides.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// `l_answer − l_alternative` of every sequence.
    pub differences: Vec<f64>,
    /// Log-probabilities of the whole vocabulary, `[vocab]` a sequence, where they were asked for.
    pub log_probs: Vec<Vec<f32>>,
}

impl Outcome {
    /// Adds the sequences of the next batch.
    pub fn append(&mut self, next: Outcome) {
        self.differences.extend(next.differences);
        self.log_probs.extend(next.log_probs);
    }

    /// Side and logit difference of every sequence.
    pub fn sequences(&self) -> impl Iterator<Item = (Side, f64)> + '_ {
        self.differences.iter().enumerate().map(|(i, d)| (Side::of_sequence(i), *d))
    }

    /// Logit differences of every pair, by side.
    pub fn pairs(&self) -> impl Iterator<Item = BySide<f64>> + '_ {
        by_pair(&self.differences)
    }

    /// Calibrated logit difference of the right token over the wrong one, of every sequence.
    pub fn towards_right(&self, c: Calibration) -> impl Iterator<Item = f64> + '_ {
        self.sequences().map(move |(side, d)| side.towards_right(c.scale * d + c.shift))
    }

    /// Loss of every sequence, `−log p(right | two candidates)`, in nats.
    pub fn losses(&self, c: Calibration) -> Vec<f64> {
        self.towards_right(c).map(|d| softplus(-d)).collect()
    }

    /// Loss of every pair: the mean over its two sequences.
    pub fn pair_losses(&self, c: Calibration) -> Vec<f64> {
        by_pair(&self.losses(c)).map(|l| (l.positive + l.negative) / 2.0).collect()
    }

    /// Mean loss per sequence in nats; chance is ln 2.
    pub fn loss(&self, c: Calibration) -> f64 {
        let losses = self.losses(c);
        losses.iter().sum::<f64>() / losses.len() as f64
    }

    /// Fraction of sequences whose right candidate has the larger (calibrated) logit; a tie counts half ([`credit`]).
    pub fn accuracy(&self, c: Calibration) -> f64 {
        self.towards_right(c).map(credit).sum::<f64>() / self.differences.len() as f64
    }

    /// Accuracy on every pair: 0, ½ or 1, and quarters where a logit ties ([`credit`]).
    pub fn pair_accuracy(&self, c: Calibration) -> impl Iterator<Item = f64> {
        let credits: Vec<f64> = self.towards_right(c).map(credit).collect();
        (0..credits.len() / 2).map(move |pair| (credits[2 * pair] + credits[2 * pair + 1]) / 2.0)
    }

    /// Agreement of every sequence of this run, calibrated by `c`, with the same sequence of `other`, uncalibrated:
    /// `1 − |credit(d) − credit(d')|`, that is 1 where both prefer the same candidate, 0 where they prefer different ones,
    /// and ½ where one of them is tied.
    ///
    /// # Panics
    /// When the runs have different numbers of sequences.
    #[track_caller]
    pub fn agreement<'a>(&'a self, c: Calibration, other: &'a Outcome) -> impl Iterator<Item = f64> + 'a {
        assert_eq!(self.differences.len(), other.differences.len(), "the same sequences");
        let both = self.differences.iter().zip(&other.differences);
        both.map(move |(a, b)| 1.0 - (credit(c.scale * a + c.shift) - credit(*b)).abs())
    }

    /// The calibration of least loss on these sequences with a scale of at most [`Calibration::MAX_SCALE`], by Newton's method
    /// on the two-parameter logistic regression (convex; a small ridge keeps separable data finite).
    pub fn calibrate(&self) -> Calibration {
        const RIDGE: f64 = 1e-3;
        // In nats. A spread far below it carries no signal of the circuit: scaling it up would read what a
        // token's norm leaks past the mask, or even the rounding of f32 logits, both of which are
        // deterministic functions of the prompt and can be "right" every time.
        const MIN_SPREAD: f64 = 1.0;
        let n = self.differences.len() as f64;
        let mean = self.differences.iter().sum::<f64>() / n;
        let spread = (self.differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n).sqrt().max(MIN_SPREAD);
        // On standardised differences, so that the ridge means the same for every circuit.
        let calibration = |a: f64, b: f64| Calibration { scale: a / spread, shift: b - a * mean / spread };
        let objective = |a: f64, b: f64| self.loss(calibration(a, b)) + RIDGE / 2.0 * (a * a + b * b);
        let newton = |(mut a, mut b): (f64, f64), free: bool| {
            for _ in 0..50 {
                let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (RIDGE * a, RIDGE * b, RIDGE, 0.0, RIDGE);
                for (side, d) in self.sequences() {
                    let x = (d - mean) / spread;
                    let p = 1.0 / (1.0 + (-(a * x + b)).exp());
                    let error = p - f64::from(u8::from(side == Side::Positive));
                    let curvature = p * (1.0 - p) / n;
                    ga += error * x / n;
                    gb += error / n;
                    haa += curvature * x * x;
                    hab += curvature * x;
                    hbb += curvature;
                }
                let det = haa * hbb - hab * hab;
                let (da, db) = match free {
                    true => ((hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det),
                    false => (0.0, gb / hbb),
                };
                // Halve the step until the objective falls.
                let (before, mut t) = (objective(a, b), 1.0);
                while objective(a - t * da, b - t * db) > before && t > 1e-6 {
                    t /= 2.0;
                }
                (a, b) = (a - t * da, b - t * db);
                if da.abs().max(db.abs()) < 1e-10 {
                    break;
                }
            }
            (a, b)
        };
        let (a, b) = newton((1.0, 0.0), true);
        let most = Calibration::MAX_SCALE * spread;
        // Convex: where the best scale lies beyond the bound, the best within it lies on the bound.
        let (a, b) = if a.abs() > most { newton((most.copysign(a), b), false) } else { (a, b) };
        calibration(a, b)
    }
}

/// A value for each side of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BySide<T> {
    /// Value of the positive sequence.
    pub positive: T,
    /// Value of the negative sequence.
    pub negative: T,
}

/// Values of sequences, by pair and side.
///
/// # Panics
/// When a pair is incomplete.
#[track_caller]
pub fn by_pair<T: Copy>(sequences: &[T]) -> impl Iterator<Item = BySide<T>> + '_ {
    let (pairs, rest) = sequences.as_chunks::<2>();
    assert!(rest.is_empty(), "two sequences a pair");
    pairs.iter().map(|&[positive, negative]| BySide { positive, negative })
}

/// Logit differences nearer to zero than this, in nats, are ties: an answer by 1e-8 is rounding, or what attention leaks
/// from where it does not look, and can be "right" every time.
const TIE: f64 = 1e-3;

/// Credit for a logit difference of one candidate over the other: 1 above zero, 0 below, ½ for a tie (`|d| < 1e-3`). The one
/// definition behind accuracy (its mean over differences towards the right candidate) and agreement.
pub fn credit(difference: f64) -> f64 {
    if difference.abs() < TIE { 0.5 } else { f64::from(u8::from(difference > 0.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_by_hand() {
        let o = Outcome { differences: vec![0.0, 0.0, 2.0, -1.0], log_probs: vec![] };
        let l = o.losses(Calibration::NONE);
        assert!((l[0] - std::f64::consts::LN_2).abs() < 1e-12);
        assert!((l[2] - (1.0 + (-2.0_f64).exp()).ln()).abs() < 1e-12);
        assert!((l[3] - (1.0 + (-1.0_f64).exp()).ln()).abs() < 1e-12);
        // Two ties, right, right.
        assert_eq!(o.accuracy(Calibration::NONE), 0.75);
        assert_eq!(o.pairs().nth(1), Some(BySide { positive: 2.0, negative: -1.0 }));
        assert!((o.pair_losses(Calibration::NONE)[0] - std::f64::consts::LN_2).abs() < 1e-12);
        let shifted = o.losses(Calibration { scale: 2.0, shift: 1.0 });
        assert!((shifted[3] - (1.0 + (-1.0_f64).exp()).ln()).abs() < 1e-12);
    }

    #[test]
    fn calibration_removes_an_offset_and_cannot_invent_a_signal() {
        // Both sequences of every pair pushed up by 5: useless uncalibrated, perfect order within a pair.
        let differences: Vec<f64> = (0..40).map(|i| 5.0 + if i % 2 == 0 { 0.5 } else { -0.5 }).collect();
        let o = Outcome { differences, log_probs: vec![] };
        assert!(o.loss(Calibration::NONE) > 2.0);
        assert!(o.loss(o.calibrate()) < 0.1, "{}", o.loss(o.calibrate()));
        let noise: Vec<f64> = (0..40).map(|i| if i % 2 == 0 { 1e-6 } else { -1e-6 }).collect();
        let o = Outcome { differences: noise, log_probs: vec![] };
        assert!(o.loss(o.calibrate()) > 0.69, "rounding noise is no signal");
        let same: Vec<f64> = (0..40).map(|i| f64::from(i / 2)).collect();
        let o = Outcome { differences: same, log_probs: vec![] };
        assert!((o.loss(o.calibrate()) - std::f64::consts::LN_2).abs() < 1e-3);
    }

    #[test]
    fn a_clean_cue_of_a_fraction_of_a_nat_is_not_scaled_to_an_answer() {
        let outcome = |lead: f64| {
            let differences = (0..40).map(|i| 2.0 + if i % 2 == 0 { lead } else { -lead }).collect();
            Outcome { differences, log_probs: vec![] }
        };
        for (lead, reaches) in [(0.01, false), (0.1, false), (0.15, false), (1.0, true), (5.0, true)] {
            let o = outcome(lead);
            let calibration = o.calibrate();
            assert!(calibration.scale > 0.0 && calibration.scale <= Calibration::MAX_SCALE + 1e-9, "{calibration:?}");
            assert_eq!(o.loss(calibration) <= 0.15, reaches, "a lead of {lead} nats: {}", o.loss(calibration));
            // The shift is the best one at this scale.
            for shift in [-0.01, 0.01] {
                let moved = Calibration { shift: calibration.shift + shift, ..calibration };
                assert!(o.loss(moved) >= o.loss(calibration) - 1e-6, "{lead}");
            }
        }
        let turned = Outcome { differences: outcome(0.15).differences.iter().map(|d| -d).collect(), log_probs: vec![] };
        assert_eq!(turned.calibrate().scale, -Calibration::MAX_SCALE);
    }

    #[test]
    fn accuracy_and_agreement_count_ties_half() {
        let outcome = |differences: &[f64]| Outcome { differences: differences.to_vec(), log_probs: vec![] };
        let (run, model) = (outcome(&[1.0, 1.0, 0.0, -2.0]), outcome(&[3.0, -1.0, 5.0, 0.0]));
        assert_eq!([0.5, 1e-8, -1e-8, -0.5].map(credit), [1.0, 0.5, 0.5, 0.0]);
        // Right, wrong, tied, right.
        assert_eq!(run.accuracy(Calibration::NONE), 0.625);
        assert_eq!(run.agreement(Calibration::NONE, &model).collect::<Vec<_>>(), [1.0, 0.0, 0.5, 0.5]);
        let shifted = Calibration { scale: 1.0, shift: -1.0 };
        assert_eq!(run.agreement(shifted, &model).collect::<Vec<_>>(), [0.5, 0.5, 0.0, 0.5]);
    }
}
