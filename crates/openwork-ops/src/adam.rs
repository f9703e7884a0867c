//! The optimizer update.

use crate::simd;

/// Adam's settings for one step; decoupled weight decay is applied by the trainer after the projection
/// onto the largest weights (Gao et al. 2025, A.2, and the released training code).
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Number of this step, from 1; corrects the bias of the moments.
    pub step: u64,
}

/// With g = `gradient · scale`:
/// `m ← β₁ m + (1−β₁) g`, `v ← β₂ v + (1−β₂) g²`, `w ← w − lr · m̂ / (√v̂ + ε)`, `m̂ = m/(1−β₁ᵗ)`, `v̂ = v/(1−β₂ᵗ)`.
///
/// Floor: 28 bytes of memory per parameter (four read, three written).
///
/// # Panics
/// When the lengths differ.
pub fn adam_step(settings: Adam, scale: f32, w: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
    adam_step_then(settings, scale, w, gradient, m, v, |_| ());
}

/// [`adam_step`] in chunks that stay in the first-level cache; each, in order, is handed to `then` as soon as it
/// is updated, so that whatever else has to be done to weights needs no pass of its own.
///
/// # Panics
/// When the lengths differ.
pub fn adam_step_then(
    settings: Adam,
    scale: f32,
    w: &mut [f32],
    gradient: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    mut then: impl FnMut(&mut [f32]),
) {
    /// Four arrays of 4 KiB.
    const CHUNK: usize = 1024;
    let Adam { lr, beta1, beta2, eps, step } = settings;
    assert!(w.len() == gradient.len() && w.len() == m.len() && w.len() == v.len(), "adam_step: lengths differ");
    let correction1 = 1.0 - f64::from(beta1).powf(step as f64);
    let correction2 = 1.0 - f64::from(beta2).powf(step as f64);
    let step_size = (f64::from(lr) / correction1) as f32;
    let root = correction2.sqrt() as f32;
    let moments = m.chunks_mut(CHUNK).zip(v.chunks_mut(CHUNK));
    for ((w, gradient), (m, v)) in w.chunks_mut(CHUNK).zip(gradient.chunks(CHUNK)).zip(moments) {
        simd(|| {
            for (((w, &g), m), v) in w.iter_mut().zip(gradient).zip(m).zip(v) {
                let g = g * scale;
                *m += (g - *m) * (1.0 - beta1);
                *v = *v * beta2 + (1.0 - beta2) * g * g;
                *w -= step_size * *m / (v.sqrt() / root + eps);
            }
        });
        then(w);
    }
}

/// Σ xᵢ² in f64, in a fixed order.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let mut acc = [0.0_f64; 8];
    let chunks = x.chunks_exact(8);
    let tail: f64 = chunks.remainder().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    simd(|| {
        for chunk in chunks {
            for l in 0..8 {
                acc[l] += f64::from(chunk[l]) * f64::from(chunk[l]);
            }
        }
    });
    acc.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_match_the_formula_in_f64() {
        let (mut w, mut m, mut v) = (vec![0.5_f32, -1.0, 0.0], vec![0.0; 3], vec![0.0; 3]);
        let (mut we, mut me, mut ve) = ([0.5_f64, -1.0, 0.0], [0.0_f64; 3], [0.0_f64; 3]);
        for (t, g) in [(1, [1.0_f32, -2.0, 0.25]), (2, [-0.5, 0.125, 4.0])] {
            let s = Adam { lr: 0.03, beta1: 0.9, beta2: 0.95, eps: 0.1, step: t };
            adam_step(s, 0.5, &mut w, &g, &mut m, &mut v);
            for i in 0..3 {
                let g = f64::from(g[i]) * 0.5;
                me[i] = 0.9 * me[i] + 0.1 * g;
                ve[i] = 0.95 * ve[i] + 0.05 * g * g;
                let (mh, vh) = (me[i] / (1.0 - 0.9_f64.powi(t as i32)), ve[i] / (1.0 - 0.95_f64.powi(t as i32)));
                we[i] -= 0.03 * mh / (vh.sqrt() + 0.1);
                // β and lr are f32 here and f64 there: a relative 6e-8 each, a dozen operations.
                assert!((f64::from(w[i]) - we[i]).abs() < 2e-6, "{} {}", w[i], we[i]);
            }
        }
        assert_eq!(sum_of_squares(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]), 285.0);
    }
}
