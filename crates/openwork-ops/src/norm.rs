//! RMSNorm, LayerNorm, or none, over the features of each token.

use crate::{Matrix, Weight, math, row, row_mut, simd};

/// Normalisation of a token's features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / √(mean x² + ε)`, ε = 2⁻²³ (PyTorch's default for f32).
    Rms,
    /// `(x − mean x) / √(var x + ε)`, ε = 1e-5.
    Layer,
    /// `x` itself: models compiled from programs have exact values in the residual stream.
    None,
}

impl NormKind {
    /// The ε under the root (0 where there is no root).
    pub fn eps(self) -> f32 {
        match self {
            Self::Rms => f32::EPSILON,
            Self::Layer => 1e-5,
            Self::None => 0.0,
        }
    }
}

/// `y = gain · normalised(x) + bias`. `x, y [features, tokens]`, `gain, bias [features, 1]`; `y` overwritten.
pub fn norm(kind: NormKind, gain: &Weight, bias: Option<&Weight>, x: &Matrix, y: &mut Matrix) {
    let (mean, scale) = statistics(kind, x);
    simd(
        #[inline(always)]
        || {
            for f in 0..x.nrows() {
                let (g, b) = (gain.dense()[[f, 0]], bias.map_or(0.0, |b| b.dense()[[f, 0]]));
                let out = row_mut(y, f).iter_mut();
                for (((y, &x), &m), &s) in out.zip(row(x, f)).zip(&mean).zip(&scale) {
                    *y = (x - m) * s * g + b;
                }
            }
        },
    );
}

/// `dx += ∂loss/∂x`, and where `dgain` is given, `dgain`, `dbias` += theirs. `x` is the input of [`norm`].
///
/// With n = normalised(x), s = its scale and h = gain·dy:
/// `dx = s (h − n · mean(h n))`, for LayerNorm also `− s mean(h)`; without a norm `dx = h`.
pub fn norm_backward(
    kind: NormKind,
    gain: &Weight,
    x: &Matrix,
    dy: &Matrix,
    dx: &mut Matrix,
    mut dgain: Option<&mut Matrix>,
    mut dbias: Option<&mut Matrix>,
) {
    let (features, tokens) = x.dim();
    let (mean, scale) = statistics(kind, x);
    let mut mean_hn = vec![0.0_f32; tokens];
    let mut mean_h = vec![0.0_f32; tokens];
    simd(
        #[inline(always)]
        || {
            let mut n = vec![0.0_f32; tokens];
            for f in 0..features {
                let g = gain.dense()[[f, 0]] / features as f32;
                for (((n, &x), &m), &s) in n.iter_mut().zip(row(x, f)).zip(&mean).zip(&scale) {
                    *n = (x - m) * s;
                }
                let dy = row(dy, f);
                for ((a, &n), &dy) in mean_hn.iter_mut().zip(&n).zip(dy) {
                    *a += g * dy * n;
                }
                if kind == NormKind::Layer {
                    for (a, &dy) in mean_h.iter_mut().zip(dy) {
                        *a += g * dy;
                    }
                }
                if let Some(dgain) = &mut dgain {
                    dgain[[f, 0]] += math::dot(&n, dy);
                }
                if let Some(dbias) = &mut dbias {
                    dbias[[f, 0]] += math::sum(dy);
                }
            }
            if kind == NormKind::None {
                // No statistics, so nothing flows back through them.
                mean_hn.fill(0.0);
            }
            for f in 0..features {
                let g = gain.dense()[[f, 0]];
                let (x, dy) = (row(x, f), row(dy, f));
                let means = mean.iter().zip(&scale).zip(mean_hn.iter().zip(&mean_h));
                for (((dx, &x), &dy), ((&m, &s), (&hn, &h))) in row_mut(dx, f).iter_mut().zip(x).zip(dy).zip(means) {
                    *dx += s * (g * dy - (x - m) * s * hn - h);
                }
            }
        },
    );
}

/// Mean (zero for RMSNorm) and 1/√(second moment + ε) of every token; 0 and 1 without a norm.
fn statistics(kind: NormKind, x: &Matrix) -> (Vec<f32>, Vec<f32>) {
    let (features, tokens) = x.dim();
    if kind == NormKind::None {
        return (vec![0.0; tokens], vec![1.0; tokens]);
    }
    let mut mean = vec![0.0_f32; tokens];
    let mut scale = vec![0.0_f32; tokens];
    simd(
        #[inline(always)]
        || {
            if kind == NormKind::Layer {
                for f in 0..features {
                    mean.iter_mut().zip(row(x, f)).for_each(|(m, &x)| *m += x);
                }
                mean.iter_mut().for_each(|m| *m /= features as f32);
            }
            for f in 0..features {
                for ((s, &x), &m) in scale.iter_mut().zip(row(x, f)).zip(&mean) {
                    *s += (x - m) * (x - m);
                }
            }
            scale.iter_mut().for_each(|s| *s = 1.0 / (*s / features as f32 + kind.eps()).sqrt());
        },
    );
    (mean, scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{close, gradient, random};

    #[test]
    fn matches_the_reference_and_finite_differences() {
        for kind in [NormKind::Rms, NormKind::Layer, NormKind::None] {
            let (x, dy) = (random(19, 21, 1), random(19, 21, 2));
            let (gain, bias) = (Weight::new(random(19, 1, 3)), Weight::new(random(19, 1, 4)));
            let (xd, gd, bd) = (x.mapv(f64::from), gain.dense().mapv(f64::from), bias.dense().mapv(f64::from));
            let mut y = Matrix::zeros(x.dim());
            norm(kind, &gain, Some(&bias), &x, &mut y);
            close(&y, &crate::reference::norm(kind, &gd, Some(&bd), &xd), 19.0);

            let mut dx = Matrix::zeros(x.dim());
            let (mut dg, mut db) = (Matrix::zeros((19, 1)), Matrix::zeros((19, 1)));
            norm_backward(kind, &gain, &x, &dy, &mut dx, Some(&mut dg), Some(&mut db));
            gradient(&dx, &xd, &dy, |x| crate::reference::norm(kind, &gd, Some(&bd), x));
            gradient(&dg, &gd, &dy, |g| crate::reference::norm(kind, g, Some(&bd), &xd));
            gradient(&db, &bd, &dy, |b| crate::reference::norm(kind, &gd, Some(b), &xd));
        }
    }

    #[test]
    fn without_a_norm_the_values_are_exactly_those_read() {
        let (x, mut y) = (random(5, 3, 1), Matrix::zeros((5, 3)));
        norm(NormKind::None, &Weight::new(Matrix::ones((5, 1))), None, &x, &mut y);
        assert_eq!(x, y);
    }

    #[test]
    fn a_zero_token_stays_finite() {
        let (x, gain) = (Matrix::zeros((4, 2)), Weight::new(Matrix::ones((4, 1))));
        let (mut y, mut dx) = (Matrix::ones((4, 2)), Matrix::zeros((4, 2)));
        norm(NormKind::Rms, &gain, None, &x, &mut y);
        norm_backward(NormKind::Rms, &gain, &x, &Matrix::ones((4, 2)), &mut dx, None, None);
        assert!(y.iter().all(|&y| y == 0.0) && dx.iter().all(|d| d.is_finite()));
    }
}
