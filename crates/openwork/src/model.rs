//! Models and their tokenizers as commands name them: a model file, a run's folder, or a published folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use openwork_data::Tokenizer;
use openwork_model::{Loaded, Model};

/// Value of a model's metadata that names its tokenizer.
pub const TOKENIZER_KEY: &str = "tokenizer_sha256";

/// A model that was found.
pub struct Found {
    /// The model.
    pub model: Model,
    /// Folder that it lies in.
    pub dir: PathBuf,
    /// SHA-256 of its tokenizer, where the model knows it.
    pub tokenizer_sha256: Option<String>,
}

/// Reads the model that `path` means, printing what was ignored in a published folder.
pub fn find(path: &Path) -> Result<Found> {
    if path.join("beeg_config.json").exists() {
        return Ok(Found { model: import(path)?, dir: path.to_owned(), tokenizer_sha256: None });
    }
    let file = file(path)?;
    let Loaded { model, metadata, .. } = openwork_model::Model::load(&file)?;
    let dir = file.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Found { model, dir, tokenizer_sha256: metadata.get(TOKENIZER_KEY).cloned() })
}

/// The model file that `path` means: itself, or the one in a run's folder.
pub fn file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let file = path.join("model.safetensors");
    if file.exists() {
        return Ok(file);
    }
    let path = path.display();
    if file.with_file_name("checkpoint.safetensors").exists() {
        bail!("the run in {path} has not finished; `openwork train .. --resume` goes on with it");
    }
    bail!(
        "{path} is neither a model file, a finished run's folder (with model.safetensors) nor a published folder (with beeg_config.json)"
    )
}

impl Found {
    /// The tokenizer given on the command line, else `tokenizer.json` beside the model; it must be the
    /// model's own, where the model knows it, and fit the model's vocabulary.
    pub fn tokenizer(&self, given: Option<&Path>) -> Result<Tokenizer> {
        let beside = self.dir.join("tokenizer.json");
        if given.is_none() && !beside.exists() {
            bail!("there is no {} beside the model; name its tokenizer with --tokenizer", beside.display());
        }
        let path = given.unwrap_or(&beside);
        let tokenizer = Tokenizer::load(path)?;
        if let Some(own) = &self.tokenizer_sha256 {
            let found = tokenizer.sha256();
            ensure!(own == found, "the model was trained with tokenizer {own}, and {} is {found}", path.display());
        }
        let (has, allows) = (tokenizer.vocab_size(), self.model.config.vocab_size);
        ensure!(has <= allows, "{} has {has} tokens and the model a vocabulary of {allows}", path.display());
        Ok(tokenizer)
    }
}

/// Reads the published pair in `dir`, printing what was ignored.
pub fn import(dir: &Path) -> Result<Model> {
    let (model, notices) =
        openwork_model::Model::import(dir).with_context(|| format!("cannot import {}", dir.display()))?;
    notices.iter().for_each(|notice| eprintln!("note: {notice}"));
    Ok(model)
}
