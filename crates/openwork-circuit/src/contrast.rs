//! Log-softmax and the gradient of losses of logit differences.

use openwork_model::Matrix;

use crate::Batch;

/// Turns logits `[vocab, sequences]` into log-probabilities in nats, in place: `x ← x − log Σ exp x`, by column.
pub fn log_softmax(logits: &mut Matrix) {
    let log_sum = openwork_ops::log_sum_exp(logits);
    for mut row in logits.rows_mut() {
        row.iter_mut().zip(&log_sum).for_each(|(x, l)| *x -= l);
    }
}

/// Log-probabilities of logits `[vocab, sequences]` in nats, `[vocab]` a sequence.
pub fn log_probs(logits: &Matrix) -> Vec<Vec<f32>> {
    let mut logits = logits.clone();
    log_softmax(&mut logits);
    logits.columns().into_iter().map(|column| column.to_vec()).collect()
}

/// A sum over the sequences of a batch of functions of the logit difference `d = l_answer − l_alternative`, and its
/// gradient with respect to the logits `[vocab, sequences]`.
///
/// `f(sequence, d)` returns a value and its slope `∂f/∂d`; the gradient is `+∂f/∂d` at the answer, `−∂f/∂d` at the
/// alternative, and 0 elsewhere.
///
/// # Panics
/// When the columns of `logits` are not the sequences of `batch`.
#[track_caller]
pub fn contrast(logits: &Matrix, batch: &Batch, mut f: impl FnMut(usize, f64) -> (f64, f64)) -> (f64, Matrix) {
    assert_eq!(logits.ncols(), batch.candidates.len(), "one column a sequence");
    let mut gradient = Matrix::zeros(logits.dim());
    let mut sum = 0.0;
    for (sequence, d) in differences(logits, batch).enumerate() {
        let (value, slope) = f(sequence, d);
        let (answer, alternative) = batch.candidates[sequence];
        sum += value;
        gradient[[usize::from(answer), sequence]] += slope as f32;
        gradient[[usize::from(alternative), sequence]] -= slope as f32;
    }
    (sum, gradient)
}

/// `l_answer − l_alternative` of every sequence of a batch, of logits `[vocab, sequences]`.
pub fn differences(logits: &Matrix, batch: &Batch) -> impl Iterator<Item = f64> {
    let at = |token: u16, sequence: usize| f64::from(logits[[usize::from(token), sequence]]);
    batch.candidates.iter().enumerate().map(move |(i, &(answer, alternative))| at(answer, i) - at(alternative, i))
}

/// `log(1 + eˣ)`, without overflow.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use openwork_tasks::Pair;

    use super::*;
    use crate::batches;

    fn batch() -> Batch {
        let pair =
            |answer, alternative| Pair { positive: vec![1, 2], negative: vec![3], answer, alternative, template: 0 };
        batches(&[pair(0, 2), pair(1, 0)], 2, 8).remove(0)
    }

    fn logits() -> Matrix {
        Matrix::from_shape_fn((3, 4), |(r, c)| ((r * 5 + c * 3) % 7) as f32 * 0.5 - 1.0)
    }

    #[test]
    fn log_probabilities_are_those_of_the_definition() {
        let logits = logits();
        for (column, log_probs) in logits.columns().into_iter().zip(log_probs(&logits)) {
            let sum: f64 = column.iter().map(|&x| f64::from(x).exp()).sum();
            for (x, l) in column.iter().zip(&log_probs) {
                // A few roundings of f32 numbers below 4.
                assert!((f64::from(*l) - (f64::from(*x) - sum.ln())).abs() < 2e-6);
            }
        }
    }

    #[test]
    fn the_gradient_is_the_finite_difference() {
        let (logits, batch) = (logits(), batch());
        let f =
            |sequence: usize, d: f64| (softplus(d) * (sequence + 1) as f64, (sequence + 1) as f64 / (1.0 + (-d).exp()));
        let (_, gradient) = contrast(&logits, &batch, f);
        // A power of two, so that f32 logits move by exactly h.
        let h = 0.015625_f32;
        for at in ndarray::indices(logits.dim()) {
            let moved = |by: f32| {
                let mut logits = logits.clone();
                logits[at] += by;
                contrast(&logits, &batch, f).0
            };
            let slope = (moved(h) - moved(-h)) / f64::from(2.0 * h);
            // Truncation: h² f''' / 6, with f''' below 4 · 0.1.
            assert!((slope - f64::from(gradient[at])).abs() < 2e-5, "{at:?} {slope} {}", gradient[at]);
        }
    }
}
