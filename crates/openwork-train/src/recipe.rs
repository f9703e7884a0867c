//! A recipe: every scientific choice of a training run, in one TOML file.
//!
//! Every key is required and none other is allowed, so that a recipe says the whole truth; paths and
//! thread counts are given on the command line because they do not change the result. One may be left out:
//! `batch.activations`, which is "f32" unless it says "bf16".

use openwork_model::{ActDensity, Activation, ActivationDtype, Bigram, Config, NormKind, Positions, SiteKind};
use serde::Deserialize;

use crate::{Anneal, GradientMode, Schedule};

/// The recipes that ship with the crate: name and text.
pub const SHIPPED: [(&str, &str); 3] = [
    ("quickstart", include_str!("../recipes/quickstart.toml")),
    ("python-1x", include_str!("../recipes/python-1x.toml")),
    ("gao-4x", include_str!("../recipes/gao-4x.toml")),
];

/// A training run's scientific choices.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// The model.
    pub config: Config,
    /// Learning rate and sparsity over time.
    pub schedule: Schedule,
    /// Sequences of `n_ctx` tokens per step.
    pub batch_sequences: usize,
    /// Sequences that go through the model together on one thread.
    pub chunk_sequences: usize,
    /// Gradient sums kept side by side: the most threads that can work on a step.
    pub lanes: usize,
    /// Steps between validations.
    pub validation_every: u64,
    /// Sequences of the validation loss.
    pub validation_sequences: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// The text it was read from, kept with checkpoints.
    pub text: String,
}

/// Reason that a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// Not TOML, or a key is missing, unknown or of the wrong type; the message shows the line.
    #[error("the recipe is not valid\n{0}")]
    Toml(#[from] toml::de::Error),
    /// Keys that are fine alone do not fit together.
    #[error("recipe: {0}")]
    Inconsistent(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    seed: u64,
    model: ModelTable,
    batch: BatchTable,
    optimizer: OptimizerTable,
    sparsity: SparsityTable,
    run: RunTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelTable {
    vocab_size: usize,
    n_ctx: usize,
    n_layer: usize,
    n_head: usize,
    d_head: usize,
    d_model: usize,
    d_mlp: usize,
    norm: NormName,
    linear_bias: bool,
    activation: ActivationName,
    act_density: f64,
    act_sites: ActSites,
    positions: PositionsName,
    position_channels: usize,
    sink: bool,
    bigram: BigramName,
    tied_unembed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchTable {
    sequences: usize,
    chunk_sequences: usize,
    lanes: usize,
    #[serde(default)]
    activations: DtypeName,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OptimizerTable {
    steps: u64,
    peak_lr: f64,
    warmup_fraction: f64,
    beta1: f32,
    beta2: f32,
    eps: f32,
    weight_decay: f64,
    sharkfin: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SparsityTable {
    expansion_factor: f64,
    pfrac: f64,
    anneal: Anneal,
    anneal_start: f64,
    anneal_stop: f64,
    min_per_unit: usize,
    gradient: GradientName,
    refresh_every: u64,
    regrow: f64,
    sparse_biases: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunTable {
    validation_every: u64,
    validation_sequences: usize,
    checkpoint_every: u64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum DtypeName {
    #[default]
    F32,
    Bf16,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum GradientName {
    Exact,
    Support,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum NormName {
    Rms,
    Layer,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ActivationName {
    Gelu,
    Relu,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ActSites {
    /// All eight sites of the paper.
    All,
    /// The six of the published size sweep: no queries, no keys.
    NoQueryKey,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum PositionsName {
    None,
    Added,
    Concat,
    Sinusoidal,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum BigramName {
    None,
    Learned,
}

impl Recipe {
    /// The recipe by content: the keys and values of its text, sorted. Line endings, comments and the order of keys make no
    /// difference.
    pub fn canonical(&self) -> String {
        canonical_recipe(&self.text).expect("it was parsed")
    }

    /// Reads a recipe and checks that its numbers fit together.
    ///
    /// # Errors
    /// When a key is missing, unknown or of the wrong type, or keys do not fit together.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let File { seed, model, batch, optimizer, sparsity, run } = toml::from_str(text)?;
        let wrong = |message: String| Err(RecipeError::Inconsistent(message));
        for (name, size) in [
            ("model.n_layer", model.n_layer),
            ("model.n_head", model.n_head),
            ("model.d_head", model.d_head),
            ("model.d_model", model.d_model),
            ("model.d_mlp", model.d_mlp),
            ("batch.sequences", batch.sequences),
            ("batch.chunk_sequences", batch.chunk_sequences),
            ("batch.lanes", batch.lanes),
            ("optimizer.steps", optimizer.steps as usize),
            ("run.validation_every", run.validation_every as usize),
            ("run.validation_sequences", run.validation_sequences),
            ("run.checkpoint_every", run.checkpoint_every as usize),
        ] {
            if size == 0 {
                return wrong(format!("{name} is 0; it must be at least 1"));
            }
        }
        if model.n_ctx < 2 {
            return wrong(format!("model.n_ctx is {}; predicting a next token takes at least 2", model.n_ctx));
        }
        if !(1..=1 << 16).contains(&model.vocab_size) {
            return wrong(format!("model.vocab_size is {}; tokens are 16 bits wide", model.vocab_size));
        }
        let fractions = [
            ("optimizer.warmup_fraction", optimizer.warmup_fraction),
            ("sparsity.anneal_start", sparsity.anneal_start),
            ("sparsity.anneal_stop", sparsity.anneal_stop),
        ];
        for (name, value) in fractions {
            if !(0.0..=1.0).contains(&value) {
                return wrong(format!("{name} is {value}; it is a fraction of the run, from 0 to 1"));
            }
        }
        if sparsity.anneal_stop < sparsity.anneal_start {
            return wrong("sparsity.anneal_stop lies before sparsity.anneal_start".into());
        }
        let dense = sparsity.expansion_factor * sparsity.expansion_factor;
        if !(sparsity.pfrac > 0.0 && sparsity.pfrac <= dense) {
            return wrong(format!(
                "sparsity.pfrac is {}; it must lie in (0, expansion_factor² = {dense}]",
                sparsity.pfrac
            ));
        }
        if !(0.0..1.0).contains(&sparsity.regrow) {
            return wrong(format!("sparsity.regrow is {}; it is a fraction of the nonzeros, below 1", sparsity.regrow));
        }
        if sparsity.gradient == GradientName::Exact && (sparsity.refresh_every, sparsity.regrow) != (0, 0.0) {
            return wrong(
                "sparsity.refresh_every and sparsity.regrow belong to gradient = \"support\"; \
                          with \"exact\" both are 0"
                    .into(),
            );
        }
        if (sparsity.refresh_every == 0) != (sparsity.regrow == 0.0) {
            return wrong("sparsity.refresh_every and sparsity.regrow are both positive, or both 0 for never".into());
        }
        if !(optimizer.peak_lr > 0.0 && optimizer.eps > 0.0) {
            return wrong("optimizer.peak_lr and optimizer.eps must be positive".into());
        }
        if !(model.act_density > 0.0 && model.act_density <= 1.0) {
            return wrong(format!("model.act_density is {}; it must lie in (0, 1]", model.act_density));
        }
        let concatenated = matches!(model.positions, PositionsName::Concat | PositionsName::Sinusoidal);
        if concatenated != (model.position_channels > 0) {
            return wrong(
                "model.position_channels must be positive for concat and sinusoidal positions, else 0".into(),
            );
        }
        let steps = optimizer.steps as f64;
        let sites = match model.act_sites {
            ActSites::All => ActDensity::everywhere(model.act_density),
            ActSites::NoQueryKey => ActDensity {
                fraction: model.act_density,
                sites: vec![
                    SiteKind::AttnRead,
                    SiteKind::AttnWrite,
                    SiteKind::MlpRead,
                    SiteKind::MlpWrite,
                    SiteKind::Neuron,
                    SiteKind::Value,
                ],
            },
        };
        Ok(Self {
            seed,
            config: Config {
                vocab_size: model.vocab_size,
                n_ctx: model.n_ctx,
                n_layer: model.n_layer,
                n_head: model.n_head,
                d_head: model.d_head,
                d_model: model.d_model,
                d_mlp: model.d_mlp,
                norm: match model.norm {
                    NormName::Rms => NormKind::Rms,
                    NormName::Layer => NormKind::Layer,
                },
                norm_bias: true,
                linear_bias: model.linear_bias,
                activation: match model.activation {
                    ActivationName::Gelu => Activation::Gelu,
                    ActivationName::Relu => Activation::Relu,
                },
                act_density: (model.act_density < 1.0).then_some(sites),
                positions: match model.positions {
                    PositionsName::None => Positions::None,
                    PositionsName::Added => Positions::Added,
                    PositionsName::Concat => Positions::Concat { width: model.position_channels },
                    PositionsName::Sinusoidal => Positions::Sinusoidal { width: model.position_channels },
                },
                sink: model.sink,
                bigram: match model.bigram {
                    BigramName::None => Bigram::None,
                    BigramName::Learned => Bigram::Learned,
                },
                tied_unembed: model.tied_unembed,
            },
            schedule: Schedule {
                steps: optimizer.steps,
                peak_lr: optimizer.peak_lr,
                warmup_steps: (optimizer.warmup_fraction * steps).round(),
                adam: (optimizer.beta1, optimizer.beta2, optimizer.eps),
                weight_decay: optimizer.weight_decay,
                expansion_factor: sparsity.expansion_factor,
                pfrac: sparsity.pfrac,
                anneal: sparsity.anneal,
                anneal_start: sparsity.anneal_start * steps,
                anneal_stop: sparsity.anneal_stop * steps,
                sharkfin: optimizer.sharkfin,
                min_per_unit: sparsity.min_per_unit,
                gradient: match sparsity.gradient {
                    GradientName::Exact => GradientMode::Exact,
                    GradientName::Support => {
                        GradientMode::Support { refresh_every: sparsity.refresh_every, regrow: sparsity.regrow }
                    }
                },
                dtype: match batch.activations {
                    DtypeName::F32 => ActivationDtype::F32,
                    DtypeName::Bf16 => ActivationDtype::Bf16,
                },
                sparse_biases: sparsity.sparse_biases,
            },
            batch_sequences: batch.sequences,
            chunk_sequences: batch.chunk_sequences,
            lanes: batch.lanes,
            validation_every: run.validation_every,
            validation_sequences: run.validation_sequences,
            checkpoint_every: run.checkpoint_every,
            text: text.to_owned(),
        })
    }
}

/// Keys and values of a recipe's text, sorted; `None` if it is not TOML.
pub(crate) fn canonical_recipe(text: &str) -> Option<String> {
    let table: toml::Table = text.parse().ok()?;
    openwork_tensor::canonical_json(&serde_json::to_string(&table).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_recipes_load_and_say_what_their_names_promise() {
        for (name, text) in SHIPPED {
            let recipe = Recipe::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let end = recipe.schedule.steps - 1;
            assert!(recipe.schedule.matrix_density(end) < 0.5, "{name} is weight-sparse");
            match name {
                "python-1x" => assert_eq!(recipe.config.d_model, 256),
                "gao-4x" => {
                    assert_eq!((recipe.config.d_model, recipe.config.n_layer), (1024, 8));
                    assert_eq!(recipe.schedule.matrix_density(end), 1.0 / 64.0);
                    assert_eq!(recipe.schedule.embed_density(end), 1.0 / 16.0);
                }
                _ => (),
            }
        }
    }

    #[test]
    fn line_endings_and_comments_make_no_other_recipe() {
        let text = SHIPPED[0].1;
        let recipe = |text: &str| Recipe::parse(text).unwrap().canonical();
        let windows = text.replace('\n', "\r\n") + "# a remark\r\n";
        assert_eq!(recipe(&windows), recipe(text));
        assert_ne!(recipe(&text.replacen("seed = 0", "seed = 1", 1)), recipe(text));
        let spaced = text.replacen("seed = 0", "seed   =   0   # the first", 1);
        assert_eq!(recipe(&spaced), recipe(text));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let text = SHIPPED[0].1;
        let error = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Recipe::parse(&text.replacen(from, to, 1)).unwrap_err().to_string()
        };
        let unknown = error("sharkfin =", "shark =");
        assert!(unknown.contains("shark") && unknown.contains("line"), "{unknown}");
        let missing = error("sharkfin = true", "");
        assert!(missing.contains("missing field `sharkfin`") && missing.contains("line"), "{missing}");
        assert!(error("anneal_stop = 0.5", "anneal_stop = 5").contains("anneal_stop is 5"));
        assert!(error("regrow = 0.0", "regrow = 0.5").contains("belong to gradient"));
        assert!(error("regrow = 0.0", "regrow = 1.5").contains("regrow is 1.5"));
        let support = text.replacen("gradient = \"exact\"", "gradient = \"support\"", 1);
        assert!(Recipe::parse(&support).is_ok());
        let bf16 = Recipe::parse(&text.replacen("lanes = ", "activations = \"bf16\"\nlanes = ", 1)).unwrap();
        assert_eq!(bf16.schedule.dtype, ActivationDtype::Bf16);
        assert_eq!(Recipe::parse(text).unwrap().schedule.dtype, ActivationDtype::F32);
        assert!(error("seed = 0", "seed = -1").contains("line"));
    }
}
