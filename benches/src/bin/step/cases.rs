//! Cases of the benchmark: sizes, densities, and the recipe of a case.

use std::{fmt, str::FromStr};

use openwork_benches::{Fraction, Mode};

/// Tokens of a sequence, and the vocabulary.
pub const CONTEXT: usize = 256;
pub const VOCABULARY: usize = 2048;
/// Sequences of a step where nothing else is said.
pub const SEQUENCES: usize = 16;

/// Width and depth of a model, `256x8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub d_model: usize,
    pub layers: usize,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('x').and_then(|(d, layers)| Some((d.parse().ok()?, layers.parse().ok()?)));
        match parts {
            Some((d_model, layers)) if d_model > 0 && d_model % 16 == 0 && layers > 0 => Ok(Self { d_model, layers }),
            _ => Err(format!("{text:?} is no shape; right would be 256x8: a width that 16 divides, and layers")),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.d_model, self.layers)
    }
}

/// One comparison.
#[derive(Clone, Debug)]
pub struct Case {
    pub shape: Shape,
    pub sequences: usize,
    pub density: Fraction,
}

impl Case {
    /// Tokens of a step.
    pub fn tokens(&self) -> usize {
        self.sequences * CONTEXT
    }

    /// `256x8_1/4`; other than usual step sizes are named.
    pub fn name(&self) -> String {
        match self.sequences {
            SEQUENCES => format!("{}_{}", self.shape, self.density),
            other => format!("{}_{}seq_{}", self.shape, other, self.density),
        }
    }
}

/// Every shape at every density.
pub fn grid(shapes: &[Shape], densities: &[Fraction], sequences: usize) -> Vec<Case> {
    let case = |&shape, density: &Fraction| Case { shape, sequences, density: density.clone() };
    shapes.iter().flat_map(|shape| densities.iter().map(move |density| case(shape, density))).collect()
}

/// Around 256x4 with 16 sequences: other widths, other depths, other step sizes.
pub fn growth(densities: &[Fraction]) -> Vec<Case> {
    const CASES: [(usize, usize, usize); 7] =
        [(256, 4, 16), (512, 4, 16), (1024, 4, 16), (256, 2, 16), (256, 8, 16), (256, 4, 4), (256, 4, 64)];
    let case = |density: &Fraction, (d_model, layers, sequences)| Case {
        shape: Shape { d_model, layers },
        sequences,
        density: density.clone(),
    };
    densities.iter().flat_map(|density| CASES.iter().map(move |&sizes| case(density, sizes))).collect()
}

/// The recipe of a case at a steady density, annealing long over; otherwise that of `python-1x`.
pub fn recipe(case: &Case, mode: Mode, activations: &str, density: f64, lanes: usize) -> String {
    let Case { shape: Shape { d_model, layers }, sequences, .. } = *case;
    // Wide models: gradients, which every chunk adds to, are larger than what a chunk keeps.
    let chunk = if d_model >= 1024 { 2 } else { 1 };
    let sizes = [
        ("model.vocab_size", VOCABULARY),
        ("model.n_ctx", CONTEXT),
        ("model.n_layer", layers),
        ("model.n_head", d_model / 16),
        ("model.d_head", 16),
        ("model.d_model", d_model),
        ("model.d_mlp", 4 * d_model),
        ("batch.sequences", sequences),
        ("batch.chunk_sequences", chunk),
        ("batch.lanes", lanes),
        // So many that the learning rate stays what it is.
        ("optimizer.steps", 1_000_000),
        ("run.validation_every", 1_000_000),
        ("run.checkpoint_every", 1_000_000),
    ];
    let numbers = [
        ("optimizer.peak_lr", 0.001),
        ("optimizer.warmup_fraction", 0.0),
        // With an expansion factor of 1, matrices and embeddings keep pfrac.
        ("sparsity.pfrac", density),
        ("sparsity.anneal_start", 0.0),
        ("sparsity.anneal_stop", 0.0),
    ];
    let sizes = sizes.map(|(key, size)| (key, (size as i64).into()));
    let numbers = numbers.map(|(key, number)| (key, number.into()));
    let changes = sizes.into_iter().chain(numbers).chain(mode.changes());
    openwork_benches::recipe("python-1x", changes.chain([("batch.activations", activations.into())]))
}

#[cfg(test)]
mod tests {
    use openwork_train::Recipe;

    use super::*;

    #[test]
    fn recipes_are_valid_and_steady() {
        for case in growth(&["1/64".parse().unwrap()]) {
            let recipe = Recipe::parse(&recipe(&case, Mode::Exact, "bf16", case.density.value, 2)).unwrap();
            let density = |step| (recipe.schedule.matrix_density(step), recipe.schedule.embed_density(step));
            assert_eq!((density(0), density(1000)), ((1.0 / 64.0, 1.0 / 64.0), (1.0 / 64.0, 1.0 / 64.0)));
            assert_eq!(recipe.batch_sequences * recipe.config.n_ctx, case.tokens());
        }
    }

    #[test]
    fn shapes_are_checked() {
        assert_eq!("256x8".parse::<Shape>().map(|s| s.to_string()), Ok("256x8".into()));
        for wrong in ["256", "250x8", "256x0", "0x1", "ax1"] {
            assert!(wrong.parse::<Shape>().unwrap_err().contains("256x8"), "{wrong}");
        }
    }
}
