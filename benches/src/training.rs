//! Training runs: shipped recipes with some values changed.

use anyhow::{Context, Result};
use openwork_model::Model;
use openwork_train::{Recipe, SHIPPED, Trainer};

/// Gradients of a run, and the weights it starts from.
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

    /// Changes that the mode makes in a recipe. A static mask further needs an anneal of no length.
    pub fn changes(self) -> [Change; 3] {
        let (gradient, refresh_every, regrow) = match self {
            Self::Exact => ("exact", 0, 0.0),
            Self::Support { refresh_every: 0 } | Self::Static => ("support", 0, 0.0),
            Self::Support { refresh_every } => ("support", refresh_every as i64, REGROW),
        };
        [
            ("sparsity.gradient", gradient.into()),
            ("sparsity.refresh_every", refresh_every.into()),
            ("sparsity.regrow", regrow.into()),
        ]
    }
}

/// A key of a recipe, `table.key` or `key`, and its value.
pub type Change = (&'static str, toml::Value);

/// The text of a shipped recipe with some values changed.
///
/// # Panics
/// When there is no recipe of that name.
pub fn recipe(shipped: &str, changes: impl IntoIterator<Item = Change>) -> String {
    let (_, text) = SHIPPED.iter().find(|(name, _)| *name == shipped).expect("a shipped recipe");
    let mut recipe: toml::Table = text.parse().expect("shipped recipes are TOML");
    for (key, value) in changes {
        let (table, key) = match key.split_once('.') {
            Some((table, key)) => (recipe[table].as_table_mut().expect("a table of the recipe"), key),
            None => (&mut recipe, key),
        };
        table.insert(key.to_owned(), value);
    }
    recipe.to_string()
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
        let trainer = Trainer::new(model, recipe.schedule.clone(), recipe.lanes, recipe.chunk_sequences);
        Ok(Self { recipe, trainer })
    }
}

/// Sets the number of threads of everything that runs in parallel.
pub fn use_threads(threads: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start the threads")
}
