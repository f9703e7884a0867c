//! Passes through whole models.

use openwork_model::{ActDensity, Activation, Bigram, Config, Model, NormKind, Positions, SiteKind};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

mod gradients;
mod resume;

/// Tokens of a sequence.
const SEQ: usize = 10;

/// Configurations that together have every switch in both positions.
fn configs() -> Vec<(&'static str, Config)> {
    let base = Config {
        vocab_size: 29,
        n_ctx: 12,
        n_layer: 2,
        n_head: 3,
        d_head: 4,
        d_model: 16,
        d_mlp: 40,
        ..Config::default()
    };
    let few = ActDensity { fraction: 0.5, sites: vec![SiteKind::AttnRead, SiteKind::Value, SiteKind::MlpWrite] };
    let with = |f: &dyn Fn(&mut Config)| {
        let mut config = base.clone();
        f(&mut config);
        config
    };
    vec![
        ("published defaults", base.clone()),
        ("no blocks", with(&|c| c.n_layer = 0)),
        ("no norm", with(&|c| c.norm = NormKind::None)),
        ("no AbsTopK, added positions", with(&|c| (c.act_density, c.positions) = (None, Positions::Added))),
        ("sink, concatenated positions", with(&|c| (c.sink, c.positions) = (true, Positions::Concat { width: 6 }))),
        (
            "LayerNorm, ReLU, sinusoids, fixed bigram",
            with(&|c| {
                (c.norm, c.activation) = (NormKind::Layer, Activation::Relu);
                (c.positions, c.bigram) = (Positions::Sinusoidal { width: 6 }, Bigram::Fixed);
            }),
        ),
        (
            "tied, no biases, no bigram, few AbsTopK sites",
            with(&|c| {
                (c.tied_unembed, c.linear_bias, c.bigram) = (true, false, Bigram::None);
                c.act_density = Some(few.clone());
            }),
        ),
    ]
}

/// Weights of unit scale, so that no part of the model is negligible; half of each block matrix is zero
/// in the second layer, where the sparse products take over from some density down.
fn model(config: &Config, rng: &mut ChaCha8Rng) -> Model {
    let mut model = Model::init(config.clone(), 1);
    let n = model.params.values().len();
    for (i, weight) in model.params.values_mut().into_iter().enumerate() {
        weight.update(|w| {
            // Vectors stay dense: a zero gain ties with others at AbsTopK, where there is no derivative.
            let density = if i > n / 2 && w.ncols() > 1 { 0.15 } else { 1.0 };
            let scale = if w.ncols() == 1 { 1.0 } else { (w.ncols() as f32 * density as f32).powf(-0.5) };
            w.mapv_inplace(|_| if rng.random_bool(density) { rng.random_range(-2.0..2.0) * scale } else { 0.0 });
        });
    }
    model
}
