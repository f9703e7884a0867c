//! How a model, whole or ablated, does on a task's contrast pairs.
//!
//! Source: Gao et al. 2025, §2.2 and A.5, and the released `last_token_contrast_loss_fn`: log-softmax
//! restricted to the two candidate tokens at the last position. Losses are means per sequence in nats
//! (chance is ln 2); the released code's sums over a pair are twice that.

use openwork_model::{Matrix, Model, Tap, Tokens};
use rayon::prelude::*;

use openwork_tasks::Pair;

/// Sequences of a few pairs, padded on the right to one length (what comes later is causally invisible).
/// Pair i is sequence 2i (positive) and 2i + 1 (negative).
#[derive(Clone, Debug)]
pub struct Batch {
    /// Tokens, sequence after sequence.
    pub tokens: Vec<u16>,
    /// Length of a sequence.
    pub seq_len: usize,
    /// Column of the last token of every sequence.
    pub readout: Vec<usize>,
    /// `answer` and `alternative` of the pair of every sequence.
    pub candidates: Vec<(u16, u16)>,
}

impl Batch {
    /// What came out in a pass over this batch: `logits` are `[vocab, sequences]`, at the columns read out.
    /// `with_log_probs` also keeps the whole distribution.
    pub fn outcome(&self, logits: &Matrix, with_log_probs: bool) -> Outcome {
        let difference =
            |(i, c): (usize, &(u16, u16))| f64::from(logit(logits, c.0, i)) - f64::from(logit(logits, c.1, i));
        Outcome {
            differences: self.candidates.iter().enumerate().map(difference).collect(),
            log_probs: if with_log_probs { log_softmax(logits) } else { vec![] },
        }
    }
}

/// Groups pairs into batches of `pairs_per_batch`. Sequences longer than `n_ctx` lose tokens on the left.
pub fn batches(pairs: &[Pair], pairs_per_batch: usize, n_ctx: usize) -> Vec<Batch> {
    let one = |pairs: &[Pair]| {
        let sequences: Vec<&[u16]> = pairs
            .iter()
            .flat_map(|p| [&p.positive, &p.negative])
            .map(|s| &s[s.len().saturating_sub(n_ctx)..])
            .collect();
        let seq_len = sequences.iter().map(|s| s.len()).max().unwrap_or(0);
        let mut tokens = vec![0; seq_len * sequences.len()];
        for (row, sequence) in tokens.chunks_exact_mut(seq_len.max(1)).zip(&sequences) {
            row[..sequence.len()].copy_from_slice(sequence);
        }
        Batch {
            tokens,
            seq_len,
            readout: sequences.iter().enumerate().map(|(i, s)| i * seq_len + s.len() - 1).collect(),
            candidates: pairs.iter().flat_map(|p| [(p.answer, p.alternative); 2]).collect(),
        }
    };
    pairs.chunks(pairs_per_batch.max(1)).map(one).collect()
}

/// Scale and shift of the two-way logit difference: `d' = scale · d + shift`, `d = l_answer − l_alternative`.
/// A discretised circuit is uncalibrated (paper A.5).
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Calibration {
    /// Factor.
    pub scale: f64,
    /// Offset towards the answer.
    pub shift: f64,
}

impl Calibration {
    /// Changes nothing.
    pub const NONE: Self = Self { scale: 1.0, shift: 0.0 };
}

/// What came out at the last position of every sequence.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// `l_answer − l_alternative` of every sequence; sequences 2i are positive (the answer is right) and
    /// 2i + 1 negative (the alternative is right).
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

    /// Loss of every sequence, `−log p(right | two candidates)`, in nats.
    pub fn losses(&self, c: Calibration) -> Vec<f64> {
        let loss = |(i, d): (usize, &f64)| {
            let d = c.scale * d + c.shift;
            softplus(if i % 2 == 0 { -d } else { d })
        };
        self.differences.iter().enumerate().map(loss).collect()
    }

    /// Loss of every pair: the mean over its two sequences.
    pub fn pair_losses(&self, c: Calibration) -> Vec<f64> {
        self.losses(c).chunks(2).map(|l| (l[0] + l[1]) / 2.0).collect()
    }

    /// Mean loss per sequence in nats; chance is ln 2.
    pub fn loss(&self, c: Calibration) -> f64 {
        let losses = self.losses(c);
        losses.iter().sum::<f64>() / losses.len() as f64
    }

    /// Fraction of sequences whose right candidate has the larger (calibrated) logit; a tie counts half.
    pub fn accuracy(&self, c: Calibration) -> f64 {
        let losses = self.losses(c);
        let chance = std::f64::consts::LN_2;
        let right = |l: &f64| {
            if *l < chance {
                1.0
            } else if *l > chance {
                0.0
            } else {
                0.5
            }
        };
        losses.iter().map(right).sum::<f64>() / losses.len() as f64
    }

    /// The calibration of least loss on these sequences, by Newton's method on the two-parameter logistic
    /// regression (convex; a small ridge keeps separable data finite).
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
        let (mut a, mut b) = (1.0, 0.0);
        for _ in 0..50 {
            let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (RIDGE * a, RIDGE * b, RIDGE, 0.0, RIDGE);
            for (i, d) in self.differences.iter().enumerate() {
                let x = (d - mean) / spread;
                let p = 1.0 / (1.0 + (-(a * x + b)).exp());
                let error = p - if i % 2 == 0 { 1.0 } else { 0.0 };
                let curvature = p * (1.0 - p) / n;
                ga += error * x / n;
                gb += error / n;
                haa += curvature * x * x;
                hab += curvature * x;
                hbb += curvature;
            }
            let det = haa * hbb - hab * hab;
            let (da, db) = ((hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det);
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
        calibration(a, b)
    }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Runs every batch under a tap of its own, made by `tap`, on all threads; `with_log_probs` also keeps the
/// whole distribution. `done` sees each tap after its pass (to check that hooks fired).
pub fn evaluate<T: Tap>(
    model: &Model,
    batches: &[Batch],
    with_log_probs: bool,
    tap: impl Fn() -> T + Sync,
    done: impl Fn(&T) + Sync,
) -> Outcome {
    let parts: Vec<Outcome> = batches
        .par_iter()
        .map(|batch| {
            let mut tap = tap();
            let pass = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
            done(&tap);
            batch.outcome(&pass.logits, with_log_probs)
        })
        .collect();
    let mut all = Outcome::default();
    parts.into_iter().for_each(|part| all.append(part));
    all
}

fn logit(logits: &Matrix, token: u16, column: usize) -> f32 {
    logits[[usize::from(token), column]]
}

fn log_softmax(logits: &Matrix) -> Vec<Vec<f32>> {
    let log_sum = openwork_ops::log_sum_exp(logits);
    logits.columns().into_iter().zip(log_sum).map(|(column, l)| column.iter().map(|x| x - l).collect()).collect()
}

#[cfg(test)]
mod tests {
    use openwork_model::{Config, NoTap};

    use super::*;

    fn pair(positive: &[u16], negative: &[u16]) -> Pair {
        Pair { positive: positive.to_vec(), negative: negative.to_vec(), answer: 3, alternative: 5, template: 0 }
    }

    #[test]
    fn padding_and_batching_do_not_change_the_outcome() {
        let model = Model::init(Config { vocab_size: 20, n_ctx: 8, ..Config::default() }, 2);
        let long: Vec<u16> = (0..12).collect();
        let pairs = [pair(&[1, 2, 3], &[4]), pair(&[7, 8], &[9, 10, 11, 12, 13]), pair(&long, &[2, 2])];
        let run = |n| evaluate(&model, &batches(&pairs, n, 8), true, || NoTap, |_| ());
        let (one, all) = (run(1), run(3));
        for (a, b) in one.differences.iter().zip(&all.differences) {
            assert!((a - b).abs() < 1e-5);
        }
        // By hand: the last sequence of the first pair, and the truncated one.
        for (sequence, at) in [(vec![4_u16], 1), (long[4..].to_vec(), 4)] {
            let logits =
                model.forward(Tokens::new(&sequence, sequence.len()), Some(&[sequence.len() - 1]), &mut NoTap).logits;
            assert!((f64::from(logits[[3, 0]] - logits[[5, 0]]) - one.differences[at]).abs() < 1e-5);
            let p: f32 = one.log_probs[at].iter().map(|l| l.exp()).sum();
            assert!((p - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn losses_by_hand() {
        let o = Outcome { differences: vec![0.0, 0.0, 2.0, -1.0], log_probs: vec![] };
        let l = o.losses(Calibration::NONE);
        assert!((l[0] - std::f64::consts::LN_2).abs() < 1e-12);
        assert!((l[2] - (1.0 + (-2.0_f64).exp()).ln()).abs() < 1e-12);
        assert!((l[3] - (1.0 + (-1.0_f64).exp()).ln()).abs() < 1e-12);
        assert_eq!(o.accuracy(Calibration::NONE), 0.75);
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
}
