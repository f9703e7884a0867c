//! Softmax cross-entropy over the vocabulary.

use crate::{Matrix, math, row, row_mut, simd};

/// Per column t: `loss_nats = log Σ_v exp(logits[v, t]) − logits[target_t, t]`. Replaces `logits [vocab, n]`
/// by the gradient of `scale · Σ_t loss_t`, which is `scale · (softmax − onehot)`, and returns the losses.
///
/// # Panics
/// When there is not one target for each column.
pub fn cross_entropy(logits: &mut Matrix, targets: &[u16], scale: f32) -> Vec<f32> {
    assert_eq!(logits.ncols(), targets.len(), "cross_entropy: one target a column");
    let log_sum = log_sum_exp(logits);
    let losses = targets.iter().enumerate().map(|(t, &v)| log_sum[t] - logits[[usize::from(v), t]]).collect();
    simd(
        #[inline(always)]
        || {
            for v in 0..logits.nrows() {
                for (x, &l) in row_mut(logits, v).iter_mut().zip(&log_sum) {
                    *x = math::exp(*x - l) * scale;
                }
            }
        },
    );
    for (t, &v) in targets.iter().enumerate() {
        logits[[usize::from(v), t]] -= scale;
    }
    losses
}

/// `log Σ_v exp(logits[v, t])` of every column; not finite where a logit is NaN or +∞.
pub fn log_sum_exp(logits: &Matrix) -> Vec<f32> {
    let n = logits.ncols();
    let (mut max, mut sum) = (vec![f32::NEG_INFINITY; n], vec![0.0_f32; n]);
    simd(
        #[inline(always)]
        || {
            for v in 0..logits.nrows() {
                // Not `max`, which takes the number beside a NaN.
                max.iter_mut().zip(row(logits, v)).for_each(|(m, &x)| *m = if *m >= x || m.is_nan() { *m } else { x });
            }
            for v in 0..logits.nrows() {
                for ((sum, &x), &m) in sum.iter_mut().zip(row(logits, v)).zip(&max) {
                    *sum += math::exp(x - m);
                }
            }
        },
    );
    max.iter().zip(&sum).map(|(m, s)| m + s.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{gradient, random};

    #[test]
    fn matches_the_reference_and_finite_differences() {
        let logits = random(11, 19, 1) * 8.0;
        let targets: Vec<u16> = (0..19).map(|t| t * 5 % 11).collect();
        let exact = logits.mapv(f64::from);
        let plain = |x: &ndarray::Array2<f64>| {
            ndarray::Array2::from_shape_vec((1, 19), crate::reference::cross_entropy(x, &targets)).unwrap()
        };
        let mut grad = logits.clone();
        let losses = cross_entropy(&mut grad, &targets, 0.25);
        for (a, b) in losses.iter().zip(&plain(&exact)) {
            assert!((f64::from(*a) - b).abs() < 16.0 * f64::from(f32::EPSILON) * 8.0);
        }
        gradient(&grad, &exact, &Matrix::from_elem((1, 19), 0.25), plain);
    }
}
