//! Learning rate and number of nonzeros as functions of the step.
//!
//! Source: Gao et al. 2025, §2.1 and A.2, and the released training code (names in brackets are its own).

use openwork_model::ActivationDtype;
use serde::Deserialize;

/// Course of the number of nonzeros from dense to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anneal {
    /// Linear in the step: the paper's choice.
    Linear,
    /// Geometric: linear in the logarithm.
    Exponential,
    /// `final + (initial − final)(1 − x)³`.
    Cubic,
}

/// Entries of the weights that get a gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GradientMode {
    /// All, zero weights included: the published algorithm.
    Exact,
    /// Those in the support, the nonzeros. Differs from the published algorithm: a weight that left does not
    /// come back by itself, and the gradient's RMS is that of the entries that have one. Now and then some of the
    /// nonzeros move to where the gradient is largest (as in RigL, Evci et al. 2020).
    Support {
        /// Steps between such moves, from the end of annealing on; 0 for never.
        refresh_every: u64,
        /// Fraction of the nonzeros that the first move would take at the start of the run; it falls to 0 at its
        /// end along a half cosine.
        regrow: f64,
    },
}

/// Everything about the update that depends on the step, and its constants.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Steps of the whole run.
    pub steps: u64,
    /// Learning rate before the warm-up, decay and sharkfin factors.
    pub peak_lr: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: f64,
    /// Adam's β₁, β₂ and ε.
    pub adam: (f32, f32, f32),
    /// Decoupled weight decay, applied after the projection.
    pub weight_decay: f64,
    /// Width relative to the paper's base model of d_model 256 (ef).
    pub expansion_factor: f64,
    /// Nonzeros at the end relative to the dense size of that base model (pfrac). Matrices keep the
    /// fraction pfrac/ef², embeddings pfrac/ef.
    pub pfrac: f64,
    /// Course of pfrac from ef² (dense) to its target.
    pub anneal: Anneal,
    /// Step at which annealing starts.
    pub anneal_start: f64,
    /// Step at which it reaches the target.
    pub anneal_stop: f64,
    /// True if the learning rate is divided by √L0 (normalised to 1 at the target).
    pub sharkfin: bool,
    /// Entries every neuron and attention channel keeps (the paper's j), lowered where it cannot hold.
    pub min_per_unit: usize,
    /// Entries that get a gradient.
    pub gradient: GradientMode,
    /// Number format in which matrices read activations and gradients during training.
    pub dtype: ActivationDtype,
    /// True if biases are sparsified like embeddings (the paper's text); false if they stay dense (its code).
    pub sparse_biases: bool,
}

impl Schedule {
    /// The schedule of `steps` more steps of a model that this one trained: its nonzeros stay where they are, without decay, at a
    /// learning rate that rises to `peak_lr` over `warmup_steps` and falls to 0.
    pub fn fine_tuning(&self, steps: u64, peak_lr: f64, warmup_steps: f64) -> Self {
        Self {
            steps,
            peak_lr,
            warmup_steps,
            weight_decay: 0.0,
            anneal_start: 0.0,
            anneal_stop: 0.0,
            sharkfin: false,
            gradient: GradientMode::Support { refresh_every: 0, regrow: 0.0 },
            ..self.clone()
        }
    }

    /// Nonzeros relative to the base model at `step` (pfrac).
    pub fn pfrac_at(&self, step: u64) -> f64 {
        let initial = self.expansion_factor * self.expansion_factor;
        let length = self.anneal_stop - self.anneal_start;
        let x = if length > 0.0 { ((step as f64 - self.anneal_start) / length).clamp(0.0, 1.0) } else { 1.0 };
        match self.anneal {
            // From the far end, as the original's numbers are: ⌊density · numel⌋ can sit on an exact integer,
            // where one rounding decides whether an entry more is kept.
            Anneal::Linear if x < 0.5 => self.pfrac + (initial - self.pfrac) * (1.0 - x),
            Anneal::Linear => initial + (self.pfrac - initial) * x,
            Anneal::Exponential => initial * (self.pfrac / initial).powf(x),
            Anneal::Cubic => self.pfrac + (initial - self.pfrac) * (1.0 - x).powi(3),
        }
    }

    /// Fraction of entries that matrices keep at `step` (L0frac).
    pub fn matrix_density(&self, step: u64) -> f64 {
        (self.pfrac_at(step) / (self.expansion_factor * self.expansion_factor)).min(1.0)
    }

    /// Fraction of entries that embedding, unembedding and (where sparse) biases keep at `step`: the
    /// published schedule with its fix, linear from 1 to pfrac/ef as matrices go from 1 to pfrac/ef².
    pub fn embed_density(&self, step: u64) -> f64 {
        let (ef, last) = (self.expansion_factor, self.pfrac);
        let range = ef * ef - last;
        let along = if range > 0.0 { (self.pfrac_at(step) - last) / range } else { 0.0 };
        let adjusted = last + (ef - last) * along;
        (adjusted / ef).min(1.0)
    }

    /// The fraction of nonzeros that move at `step`, if any: `regrow · (1 + cos(π t/T)) / 2`.
    pub fn regrow_at(&self, step: u64) -> Option<f64> {
        let GradientMode::Support { refresh_every, regrow } = self.gradient else { return None };
        let due = refresh_every > 0 && step > 0 && step.is_multiple_of(refresh_every);
        let along = step as f64 / self.steps as f64;
        (due && step as f64 >= self.anneal_stop).then(|| regrow * (1.0 + (std::f64::consts::PI * along).cos()) / 2.0)
    }

    /// `peak · min(t/w, 1 − (t − w)/(T − w)) · √(pfrac_final / pfrac(t))`.
    pub fn lr_at(&self, step: u64) -> f64 {
        let (t, w, total) = (step as f64, self.warmup_steps, self.steps as f64);
        let warmup = if w > 0.0 { t / w } else { 1.0 };
        let decay = 1.0 - (t - w) / (total - w).max(1.0);
        let sharkfin = if self.sharkfin { (self.pfrac / self.pfrac_at(step)).sqrt() } else { 1.0 };
        self.peak_lr * warmup.min(decay).min(1.0) * sharkfin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paper() -> Schedule {
        Schedule {
            steps: 1000,
            peak_lr: 1.0,
            warmup_steps: 10.0,
            adam: (0.9, 0.95, 0.1),
            weight_decay: 0.1,
            expansion_factor: 4.0,
            pfrac: 0.25,
            anneal: Anneal::Linear,
            anneal_start: 10.0,
            anneal_stop: 500.0,
            sharkfin: true,
            min_per_unit: 4,
            gradient: GradientMode::Exact,
            dtype: ActivationDtype::F32,
            sparse_biases: false,
        }
    }

    #[test]
    fn the_sharkfin_of_figure_11() {
        // A 1/64 model: plateau 1/8 of the peak, then up to about half of it at 50 %, then down to 0.
        let s = paper();
        assert_eq!(s.lr_at(0), 0.0);
        assert!((s.lr_at(10) - 0.125).abs() < 1e-12);
        assert!((s.lr_at(500) - 0.505).abs() < 1e-3);
        assert!(s.lr_at(999) < 2e-3 && s.lr_at(999) > 0.0);
    }

    #[test]
    fn nonzeros_move_after_annealing_and_ever_fewer() {
        let s = Schedule { gradient: GradientMode::Support { refresh_every: 100, regrow: 0.5 }, ..paper() };
        let moves: Vec<(u64, f64)> = (0..1000).filter_map(|t| Some((t, s.regrow_at(t)?))).collect();
        assert_eq!(moves.iter().map(|m| m.0).collect::<Vec<_>>(), [500, 600, 700, 800, 900]);
        assert!((moves[0].1 - 0.25).abs() < 1e-12 && moves.windows(2).all(|w| w[1].1 < w[0].1));
        assert!((0..1000).all(|t| paper().regrow_at(t).is_none()));
    }

    #[test]
    fn densities_run_from_one_to_their_targets() {
        for anneal in [Anneal::Linear, Anneal::Exponential, Anneal::Cubic] {
            let s = Schedule { anneal, ..paper() };
            assert_eq!((s.matrix_density(0), s.embed_density(10)), (1.0, 1.0));
            assert!((s.matrix_density(500) - 1.0 / 64.0).abs() < 1e-12);
            assert!((s.embed_density(999) - 1.0 / 16.0).abs() < 1e-12);
            let falling = (10..500).all(|t| s.matrix_density(t + 1) < s.matrix_density(t));
            assert!(falling && (10..500).all(|t| s.embed_density(t + 1) < s.embed_density(t)));
        }
        // A base model at full size has nothing to anneal.
        let dense = Schedule { expansion_factor: 1.0, pfrac: 1.0, ..paper() };
        assert_eq!((dense.matrix_density(700), dense.embed_density(700)), (1.0, 1.0));
    }
}
