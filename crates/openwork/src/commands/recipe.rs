//! `openwork recipe`: the recipes that ship with the program, and what a recipe makes.

use std::process::ExitCode;

use anyhow::Result;
use openwork_project::find_recipe;
use openwork_train::{MemoryPlan, SHIPPED};

use crate::ui::{
    show::{count, say, table},
    training::megabytes,
};

/// The commands of the group.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Name the recipes that ship with the program, with the size of what they make
    List,
    /// Print a recipe as a file to begin from: `openwork recipe show quickstart > mine.toml`
    Show {
        /// A recipe file, or the name of a shipped recipe
        recipe: String,
    },
}

/// Runs a command of the group.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::List => {
            let row = |name: &str| -> Result<[String; 4]> {
                let recipe = find_recipe(name)?;
                let step = recipe.batch_sequences as u64 * recipe.config.n_ctx as u64;
                let memory = MemoryPlan::new(&recipe, rayon::current_num_threads()).total();
                let parameters = u64::try_from(recipe.config.n_parameters()).unwrap_or(u64::MAX);
                Ok([name.to_owned(), count(parameters), count(step * recipe.schedule.steps), megabytes(memory)])
            };
            let rows = SHIPPED.iter().map(|(name, _)| row(name)).collect::<Result<Vec<_>>>()?;
            table(["recipe", "parameters", "tokens", "memory on the CPU"], &rows)?;
        }
        // As it is written, remarks and all.
        Command::Show { recipe } => say!("{}", find_recipe(&recipe)?.text.trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}
