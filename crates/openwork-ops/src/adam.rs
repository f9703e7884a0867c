//! The optimizer update.

use openwork_sparse::Pattern;

use crate::{AdamConstants, simd};

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
    assert!(w.len() == gradient.len() && w.len() == m.len() && w.len() == v.len(), "adam_step: lengths differ");
    let rule = Rule::new(settings, scale);
    let moments = m.chunks_mut(CHUNK).zip(v.chunks_mut(CHUNK));
    for ((w, gradient), (m, v)) in w.chunks_mut(CHUNK).zip(gradient.chunks(CHUNK)).zip(moments) {
        simd(
            #[inline(always)]
            || w.iter_mut().zip(gradient).zip(m).zip(v).for_each(|(((w, &g), m), v)| rule.apply(w, g, m, v)),
        );
        then(w);
    }
}

/// [`adam_step`] of the entries at the positions of `pattern`, a gradient for each; `w`, `m` and `v` are the whole
/// matrices, row-major.
///
/// # Panics
/// When the lengths differ.
pub fn adam_step_at(
    settings: Adam,
    scale: f32,
    pattern: &Pattern,
    w: &mut [f32],
    gradient: &[f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    let (rows, cols) = (pattern.rows(), pattern.cols());
    let whole = w.len() == rows * cols && m.len() == w.len() && v.len() == w.len();
    assert!(whole && gradient.len() == pattern.nnz(), "adam_step_at: lengths differ");
    let rule = Rule::new(settings, scale);
    for r in 0..rows {
        let range = r * cols..(r + 1) * cols;
        let (w, m, v) = (&mut w[range.clone()], &mut m[range.clone()], &mut v[range]);
        let row = pattern.row(r);
        for (&c, &g) in pattern.col_idx()[row.clone()].iter().zip(&gradient[row]) {
            let c = c as usize;
            rule.apply(&mut w[c], g, &mut m[c], &mut v[c]);
        }
    }
}

/// Adam with its constants worked out, and the factor of gradients.
struct Rule {
    scale: f32,
    constants: AdamConstants,
}

impl Rule {
    fn new(settings: Adam, scale: f32) -> Self {
        Self { scale, constants: settings.constants() }
    }

    #[inline(always)]
    fn apply(&self, w: &mut f32, g: f32, m: &mut f32, v: &mut f32) {
        let AdamConstants { beta1, beta2, rate, root, eps } = self.constants;
        let g = g * self.scale;
        *m += (g - *m) * (1.0 - beta1);
        *v = *v * beta2 + (1.0 - beta2) * g * g;
        *w -= rate * *m / (v.sqrt() / root + eps);
    }
}

impl Adam {
    /// The constants of this step, with the moments' bias corrected in the learning rate and in `√v`:
    /// `rate = lr / (1−β₁ᵗ)`, `root = √(1−β₂ᵗ)`.
    pub fn constants(&self) -> AdamConstants {
        let Self { lr, beta1, beta2, eps, step } = *self;
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
        let rate = (f64::from(lr) / correction(beta1)) as f32;
        AdamConstants { beta1, beta2, rate, root: correction(beta2).sqrt() as f32, eps }
    }

    /// The farthest that this step can move a weight, whatever its gradients were.
    ///
    /// `m̂ = Σ aᵢ gᵢ` and `v̂ = Σ bᵢ gᵢ²` with weights that each sum to 1, so by Cauchy and Schwarz
    /// `|m̂| / √v̂ ≤ √(Σ aᵢ²/bᵢ)`; ε only makes it less. For β = (0.9, 0.95) it grows from 1 to 1.165 learning rates.
    pub fn largest_step(&self) -> f32 {
        let (beta1, beta2, t) = (f64::from(self.beta1), f64::from(self.beta2), self.step as f64);
        let ratio = beta1 * beta1 / beta2;
        let geometric = if (ratio - 1.0).abs() < 1e-12 { t } else { (1.0 - ratio.powf(t)) / (1.0 - ratio) };
        let a = (1.0 - beta1) / (1.0 - beta1.powf(t));
        let b = (1.0 - beta2) / (1.0 - beta2.powf(t));
        (f64::from(self.lr) * a * (geometric / b).sqrt()) as f32
    }
}

/// Σ xᵢ² in f64, in a fixed order.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let mut acc = [0.0_f64; 8];
    let chunks = x.chunks_exact(8);
    let tail: f64 = chunks.remainder().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    simd(
        #[inline(always)]
        || {
            for chunk in chunks {
                for l in 0..8 {
                    acc[l] += f64::from(chunk[l]) * f64::from(chunk[l]);
                }
            }
        },
    );
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

    #[test]
    fn no_gradients_move_a_weight_farther_than_the_bound() {
        for (beta1, beta2, eps) in [(0.9_f32, 0.95_f32, 0.0_f32), (0.9, 0.999, 0.0), (0.5, 0.25, 0.0), (0.9, 0.95, 0.1)]
        {
            let mut closest = 0.0_f32;
            for steps in [1, 2, 5, 40] {
                let settings = |step| Adam { lr: 0.01, beta1, beta2, eps, step };
                // The gradients that reach the bound: gᵢ ∝ aᵢ/bᵢ; and others.
                for pull in [(beta1 / beta2), 1.0, 0.5, -0.7, 2.0] {
                    let (mut w, mut m, mut v) = ([0.0_f32], [0.0], [0.0]);
                    for step in 1..=steps {
                        w = [0.0];
                        let g = pull.powi((steps - step) as i32).clamp(-1e6, 1e6);
                        adam_step(settings(step), 1.0, &mut w, &[g], &mut m, &mut v);
                    }
                    let bound = settings(steps).largest_step();
                    assert!(w[0].abs() <= bound * (1.0 + 1e-4), "{} moves beyond {bound}", w[0]);
                    closest = closest.max(w[0].abs() / bound);
                }
            }
            assert!(eps > 0.0 || closest > 0.999, "the bound is reached: {closest}");
        }
        let settled = Adam { lr: 1.0, beta1: 0.9, beta2: 0.95, eps: 0.1, step: 1000 };
        assert!((settled.largest_step() - 1.165).abs() < 1e-3);
    }

    #[test]
    fn a_step_at_positions_is_the_step_of_those_entries() {
        let pattern = Pattern::new(2, 3, vec![0, 2, 3], vec![0, 2, 1]).unwrap();
        let s = Adam { lr: 0.03, beta1: 0.9, beta2: 0.95, eps: 0.1, step: 3 };
        let start = || (vec![0.1_f32, 0.2, 0.3, 0.4, 0.5, 0.6], vec![0.01_f32; 6], vec![0.02_f32; 6]);
        let (mut w, mut m, mut v) = start();
        adam_step_at(s, 0.5, &pattern, &mut w, &[1.0, -2.0, 3.0], &mut m, &mut v);
        let (mut all_w, mut all_m, mut all_v) = start();
        adam_step(s, 0.5, &mut all_w, &[1.0, 0.0, -2.0, 0.0, 3.0, 0.0], &mut all_m, &mut all_v);
        for i in [0, 2, 4] {
            assert_eq!((w[i], m[i], v[i]), (all_w[i], all_m[i], all_v[i]));
        }
        for i in [1, 3, 5] {
            assert_eq!((w[i], m[i], v[i]), (start().0[i], 0.01, 0.02), "untouched");
        }
    }
}
