//! Recipes by file name, or by the name of a shipped one.

use std::path::{Path, PathBuf};

use openwork_train::{Recipe, RecipeError, SHIPPED};

/// Reason that a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindRecipeError {
    /// Neither a file nor a shipped recipe has this name.
    #[error(
        "there is no recipe {name}: neither a file nor one of the shipped recipes ({})",
        SHIPPED.map(|(name, _)| name).join(", ")
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// Both a file and a shipped recipe have this name.
    #[error(
        "{name} is a shipped recipe and a file here; ./{name} means the file, and elsewhere {name} means the recipe"
    )]
    Ambiguous {
        /// The name.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The recipe is wrong.
    #[error("{name}")]
    Recipe {
        /// File or shipped name.
        name: String,
        /// The fault and its line.
        source: RecipeError,
    },
}

/// Reads the recipe that `name` means: a shipped one or a file. A name need not be UTF-8.
///
/// # Errors
/// When there is none of this name, or both a shipped one and a file, or it is wrong.
pub fn find_recipe(name: impl AsRef<Path>) -> Result<Recipe, FindRecipeError> {
    let path = name.as_ref();
    let name = || path.display().to_string();
    let parse = |text: &str| Recipe::parse(text).map_err(|source| FindRecipeError::Recipe { name: name(), source });
    if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| path.as_os_str() == *shipped) {
        return if path.is_file() { Err(FindRecipeError::Ambiguous { name: name() }) } else { parse(text) };
    }
    if !path.exists() {
        return Err(FindRecipeError::Unknown { name: name() });
    }
    let read = |source| FindRecipeError::Read { path: path.to_owned(), source };
    parse(&openwork_tensor::read_text(path).map_err(read)?)
}
