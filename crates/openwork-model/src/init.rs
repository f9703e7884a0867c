//! Initial weights.

use ndarray::Array2;
use openwork_ops::{Matrix, Ties, Weight};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::{Config, Model, Params, Positions, Role};

impl Model {
    /// The published initialisation (Gao et al. 2025, released `GPT.__init__` and training code):
    /// matrices and embeddings N(0, 0.02), output matrices N(0, 0.02/√(2 n_layer)), biases, sinks and the
    /// logits bias 0, gains 1, bigram table uniform in [0, 0.02), sinusoids of periods log-spaced from 4
    /// to `n_ctx`. Same seed, same weights.
    pub fn init(config: Config, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let output_std = 0.02 / (2.0 * config.n_layer as f32).sqrt();
        let params = Params::build(&config, |info, [rows, cols]| {
            let mut normal = |std: f32| {
                let distribution = Normal::new(0.0, std).expect("a positive deviation");
                Matrix::from_shape_simple_fn((rows, cols), || distribution.sample(&mut rng))
            };
            Weight::new(match info.role {
                Role::Embed | Role::Unembed | Role::Qkv | Role::Fc => normal(0.02),
                Role::AttnOut | Role::Proj => normal(output_std),
                Role::Position => match config.positions {
                    Positions::Sinusoidal { width } => sinusoids(config.n_ctx, width),
                    _ => normal(0.02),
                },
                Role::NormGain => Matrix::ones((rows, cols)),
                Role::Bias | Role::NormBias | Role::Sink | Role::LogitsBias => Matrix::zeros((rows, cols)),
                Role::Bigram => Matrix::from_shape_simple_fn((rows, cols), || rng.random_range(0.0..0.02)),
            })
        });
        Self { config, params, ties: Ties::ByIndex }
    }
}

/// `[sin | cos]` of `2π t / period`, periods log-spaced from 4 to `n_ctx`, `[n_ctx, width]`.
fn sinusoids(n_ctx: usize, width: usize) -> Matrix {
    let half = width / 2;
    Array2::from_shape_fn((n_ctx, width), |(t, channel)| {
        let i = channel % half.max(1);
        let along = if half > 1 { i as f64 / (half - 1) as f64 } else { 0.0 };
        let period = 4.0 * (n_ctx as f64 / 4.0).powf(along);
        let angle = 2.0 * std::f64::consts::PI * t as f64 / period;
        (if channel < half { angle.sin() } else { angle.cos() }) as f32
    })
}
