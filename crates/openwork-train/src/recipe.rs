//! A recipe: every scientific choice of a training run, in one TOML file.
//!
//! Every key is required and none other is allowed, so that a recipe says the whole truth; paths and
//! thread counts are given on the command line because they do not change the result. One may be left out:
//! `batch.activations`, which is "f32" unless it says "bf16".

use openwork_model::{ActDensity, Activation, ActivationDtype, Bigram, Config, NormKind, Positions, SiteKind};
use serde::Deserialize;
use toml::de::DeTable;

use self::check::Fault;
use crate::{Anneal, GradientMode, Schedule};

mod check;

/// The recipes that ship with the crate: name and text.
pub const SHIPPED: [(&str, &str); 4] = [
    ("quickstart", include_str!("../recipes/quickstart.toml")),
    ("python-small", include_str!("../recipes/python-small.toml")),
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
    /// A key has a value without sense, alone or beside another.
    #[error("line {line} of the recipe: {key} {reason}")]
    Value {
        /// The line, from 1.
        line: usize,
        /// The key with its table, such as `model.n_ctx`.
        key: &'static str,
        /// Its value, and what would be right.
        reason: String,
    },
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
    /// When a key is missing, unknown or of the wrong type, or has a value without sense.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let file: File = toml::from_str(text)?;
        let at_line = |Fault { key, reason }| RecipeError::Value { line: line_of(text, key), key, reason };
        check::ranges(&file).map_err(at_line)?;
        let recipe = Self::of(file, text);
        check::sizes(&recipe).map_err(at_line)?;
        Ok(recipe)
    }

    /// The recipe of a file whose numbers have been checked.
    fn of(file: File, text: &str) -> Self {
        let File { seed, model, batch, optimizer, sparsity, run } = file;
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
        Self {
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
        }
    }
}

/// The line of a key with its table, from 1; that of the table where the key is not there.
fn line_of(text: &str, key: &str) -> usize {
    let (table, name) = key.split_once('.').unwrap_or((key, ""));
    let start = DeTable::parse(text).ok().and_then(|whole| {
        let whole = whole.into_inner();
        let (at, value) = whole.iter().find(|(found, _)| found.get_ref() == table)?;
        let inside =
            value.get_ref().as_table().and_then(|table| table.iter().find(|(found, _)| found.get_ref() == name));
        Some(inside.map_or(at.span().start, |(key, _)| key.span().start))
    });
    1 + text[..start.unwrap_or(0)].matches('\n').count()
}

/// Keys and values of a recipe's text, sorted; `None` if it is not TOML.
pub(crate) fn canonical_recipe(text: &str) -> Option<String> {
    let table: toml::Table = text.parse().ok()?;
    openwork_tensor::canonical_json(&serde_json::to_string(&table).ok()?).ok()
}

#[cfg(test)]
mod tests;
