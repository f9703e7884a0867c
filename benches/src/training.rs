//! Training runs, from recipes that are written here.

use anyhow::{Context, Result};
use openwork_model::Model;
use openwork_train::{Recipe, Trainer};

/// Whether the `[sparsity]` table of a recipe has the keys of [`Mode::keys`]; without them every gradient is
/// exact.
const MODES_IN_RECIPES: bool = false;

/// Which gradients a run takes, and which weights it starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dense gradients in every step: the published algorithm.
    Exact,
    /// Gradients of nonzero weights only.
    Support {
        /// Steps between dense gradients that decide which weights come back; 0 for never.
        refresh_every: u64,
    },
    /// Gradients of the weights of a random mask, which has the final density from the first step on.
    Static,
}

impl Mode {
    /// `exact`, `support`, `support-100`, `static`.
    pub fn name(self) -> String {
        match self {
            Self::Exact => "exact".into(),
            Self::Support { refresh_every: 0 } => "support".into(),
            Self::Support { refresh_every } => format!("support-{refresh_every}"),
            Self::Static => "static".into(),
        }
    }

    /// Whether recipes can say so.
    pub fn is_available(self) -> bool {
        MODES_IN_RECIPES || self == Self::Exact
    }

    /// The keys of the `[sparsity]` table that say so.
    pub fn keys(self) -> String {
        let (gradient, refresh_every, initial_mask) = match self {
            Self::Exact => ("exact", 0, "none"),
            Self::Support { refresh_every } => ("support", refresh_every, "none"),
            Self::Static => ("support", 0, "random"),
        };
        match MODES_IN_RECIPES {
            true => format!(
                "gradient = \"{gradient}\"\nrefresh_every = {refresh_every}\ninitial_mask = \"{initial_mask}\"\n"
            ),
            false => String::new(),
        }
    }
}

/// A recipe and the trainer that follows it, before its first step.
pub struct Setup {
    /// The recipe.
    pub recipe: Recipe,
    /// The trainer.
    pub trainer: Trainer,
}

impl Setup {
    /// From a recipe's text.
    pub fn new(text: &str) -> Result<Self> {
        let recipe = Recipe::parse(text).with_context(|| format!("in this recipe:\n{text}"))?;
        let model = Model::init(recipe.config.clone(), recipe.seed);
        let trainer = Trainer::new(model, recipe.schedule.clone(), recipe.lanes);
        Ok(Self { recipe, trainer })
    }
}

/// Sets the number of threads of everything that runs in parallel.
pub fn use_threads(threads: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start the threads")
}
