//! Recipes by file name or by the name of a shipped one.

use std::path::Path;

use anyhow::{Context, Result, bail};
use openwork_train::{Recipe, SHIPPED};

/// Reads the recipe that `name` means: a shipped one, else a file.
pub fn find(name: &str) -> Result<Recipe> {
    if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
        return Recipe::parse(text).with_context(|| format!("the shipped recipe {name}"));
    }
    if !Path::new(name).exists() {
        let shipped = SHIPPED.map(|(name, _)| name).join(", ");
        bail!("there is no recipe {name}: neither a file nor one of the shipped recipes ({shipped})");
    }
    let text = std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))?;
    Recipe::parse(&text).with_context(|| name.to_owned())
}
