//! Training runs, from recipes that are written here.

use anyhow::{Context, Result};
use openwork_model::Model;
use openwork_train::{Recipe, Trainer};

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
    /// The final density from the first step on, and gradients of nonzero weights only: the weights that are
    /// largest after random initialisation stay to the end, and so a random mask does.
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

    /// The keys of the `[sparsity]` table that say so. A static mask further needs an anneal of no length.
    pub fn keys(self) -> String {
        let (gradient, refresh_every, regrow) = match self {
            Self::Exact => ("exact", 0, 0.0),
            Self::Support { refresh_every: 0 } | Self::Static => ("support", 0, 0.0),
            Self::Support { refresh_every } => ("support", refresh_every, REGROW),
        };
        format!("gradient = \"{gradient}\"\nrefresh_every = {refresh_every}\nregrow = {regrow:?}\n")
    }
}

/// Fraction of the nonzeros that move at a refresh (the α of RigL, Evci et al. 2020).
const REGROW: f64 = 0.3;

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
