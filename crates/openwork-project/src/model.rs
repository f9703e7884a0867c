//! Models as people name them: a model file, a finished run's folder, or a published folder.

use std::path::{Path, PathBuf};

use openwork_circuit::CircuitFile;
use openwork_data::{Tokenizer, TokenizerError};
use openwork_model::{LoadError, Loaded, Model};

use crate::{LOCALISED_FROM_KEY, ProjectError, models_folder, project::load_circuit, shipped_model};

/// Metadata key of a model file whose value is the hash of the model's tokenizer.
pub const TOKENIZER_KEY: &str = "tokenizer_sha256";

/// Metadata key of a model file whose value is the number of tokens of the sequences that the model was trained on.
pub const TRAINED_CONTEXT_KEY: &str = "trained_context";

/// A model that was opened, and the folder in which tokenizer, sample, means and circuits lie beside it.
pub struct OpenModel {
    /// The model.
    pub model: Model,
    /// Hash of the model, which means, circuits and verdicts name.
    pub sha256: String,
    /// Folder of the model file.
    pub dir: PathBuf,
    /// Hash of its tokenizer, where the file names one.
    pub tokenizer_sha256: Option<String>,
    /// Tokens of the sequences that it was trained on, where the file says it. `n_ctx` is only the most that it takes:
    /// published configurations say 1,024 and were trained at 256.
    pub trained_context: Option<usize>,
    /// Hash of the model before, where circuits were trained into this one, as the file says.
    pub localised_from: Option<String>,
    /// Notices of a published folder: what was taken off, rounded or ignored.
    pub notices: Vec<String>,
}

/// Reason that a model or its tokenizer cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenModelError {
    /// The folder holds a run that has a checkpoint and no model yet.
    #[error("the run in {} has not finished; `openwork train .. --resume` goes on with it", dir.display())]
    Unfinished {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds no model.
    #[error(
        "{} is neither a model file, a finished run's folder (with model.safetensors) nor a published folder (with \
         beeg_config.json)", dir.display()
    )]
    NoModel {
        /// The folder.
        dir: PathBuf,
    },
    /// The model file cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The published folder cannot be used.
    #[error("cannot import {}", dir.display())]
    Import {
        /// The folder.
        dir: PathBuf,
        /// The fault.
        source: Box<LoadError>,
    },
    /// The model file's length of training sequences is none.
    #[error("{}: its metadata says {TRAINED_CONTEXT_KEY} {found:?}, expected a number from 2 to n_ctx = {n_ctx}", path.display())]
    BadContext {
        /// The file.
        path: PathBuf,
        /// Value of the metadata.
        found: String,
        /// Longest sequence of the model.
        n_ctx: usize,
    },
    /// No tokenizer was named and none lies beside the model.
    #[error("there is no {} beside the model; name its tokenizer with --tokenizer", path.display())]
    NoTokenizer {
        /// The file that is looked for.
        path: PathBuf,
    },
    /// The tokenizer file cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The tokenizer is another than the model's own.
    #[error("the model was trained with tokenizer {expected}, and {} is {found}", path.display())]
    OtherTokenizer {
        /// The tokenizer file.
        path: PathBuf,
        /// Hash of the tokenizer that the model names.
        expected: String,
        /// Hash of the tokenizer at hand.
        found: String,
    },
    /// The tokenizer has more tokens than the model has rows.
    #[error("{} has {tokens} tokens and the model a vocabulary of {vocab_size}", path.display())]
    Vocabulary {
        /// The tokenizer file.
        path: PathBuf,
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Vocabulary of the model.
        vocab_size: usize,
    },
}

impl OpenModel {
    /// Reads the model that `path` names.
    ///
    /// # Errors
    /// When the folder holds no finished model, or the file cannot be read.
    pub fn open(path: &Path) -> Result<Self, OpenModelError> {
        if path.join("beeg_config.json").exists() {
            return Self::import(path, false);
        }
        let file = model_file(path)?;
        let Loaded { model, metadata, sha256, hash_recorded } = Model::load(&file)?;
        let tokenizer_sha256 = metadata.get(TOKENIZER_KEY).cloned();
        let n_ctx = model.config.n_ctx;
        let trained_context = match metadata.get(TRAINED_CONTEXT_KEY) {
            Some(text) => Some(
                text.parse().ok().filter(|n| (2..=n_ctx).contains(n)).ok_or_else(|| OpenModelError::BadContext {
                    path: file.clone(),
                    found: text.clone(),
                    n_ctx,
                })?,
            ),
            // Runs of ours train on sequences of n_ctx tokens; they have always named their tokenizer.
            None => tokenizer_sha256.as_ref().map(|_| n_ctx),
        };
        let dir = file.parent().unwrap_or(Path::new("")).to_owned();
        let unmarked = format!(
            "{} does not record its own hash, as files of this program do: damage to it cannot be noticed",
            file.display()
        );
        let notices = if hash_recorded { vec![] } else { vec![unmarked] };
        let localised_from = metadata.get(LOCALISED_FROM_KEY).cloned();
        Ok(Self { model, sha256, dir, tokenizer_sha256, trained_context, localised_from, notices })
    }

    /// Reads the published pair in `dir`; `allow_not_finite` takes weights that are NaN or infinite.
    ///
    /// # Errors
    /// When a file of the pair is missing or cannot be used.
    pub fn import(dir: &Path, allow_not_finite: bool) -> Result<Self, OpenModelError> {
        let imported = Model::import(dir, allow_not_finite);
        let (model, notices) =
            imported.map_err(|source| OpenModelError::Import { dir: dir.to_owned(), source: Box::new(source) })?;
        let (sha256, dir) = (model.sha256(), dir.to_owned());
        Ok(Self { model, sha256, dir, tokenizer_sha256: None, trained_context: None, localised_from: None, notices })
    }

    /// Reads a circuit of the model.
    ///
    /// # Errors
    /// When the file cannot be read, is of another model, or leaves out a residual edge.
    pub fn circuit(&self, path: &Path) -> Result<CircuitFile, ProjectError> {
        load_circuit(path, &self.model, &self.sha256)
    }

    /// True if the model says which tokenizer is its own.
    pub fn names_tokenizer(&self) -> bool {
        self.tokenizer_sha256.is_some()
    }

    /// Reads the model's tokenizer: the file `given`, else `tokenizer.json` beside the model.
    ///
    /// # Errors
    /// When there is none, it is not the one that the model names, or it has more tokens than the model.
    pub fn tokenizer(&self, given: Option<&Path>) -> Result<Tokenizer, OpenModelError> {
        let beside = self.dir.join("tokenizer.json");
        if given.is_none() && !beside.exists() {
            return Err(OpenModelError::NoTokenizer { path: beside });
        }
        let path = given.unwrap_or(&beside).to_owned();
        let tokenizer = Tokenizer::load(&path)?;
        if let Some(expected) = self.tokenizer_sha256.clone().filter(|own| own != tokenizer.sha256()) {
            return Err(OpenModelError::OtherTokenizer { path, expected, found: tokenizer.sha256().to_owned() });
        }
        let (tokens, vocab_size) = (tokenizer.vocab_size(), self.model.config.vocab_size);
        if tokens > vocab_size {
            return Err(OpenModelError::Vocabulary { path, tokens, vocab_size });
        }
        Ok(tokenizer)
    }
}

/// The model file that `path` names: itself, `model.safetensors` in a run's folder, or where nothing has that name, that of a model
/// that comes with the program.
///
/// # Errors
/// When `path` is a folder without a finished model.
pub fn model_file(path: &Path) -> Result<PathBuf, OpenModelError> {
    // A name of a shipped model, unless something of the user's has it.
    if !path.exists()
        && let Some(dir) = shipped_model(&models_folder(), path)
    {
        return Ok(dir.join("model.safetensors"));
    }
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let file = path.join("model.safetensors");
    if file.exists() {
        return Ok(file);
    }
    let dir = path.to_owned();
    Err(match path.join("checkpoint.safetensors").exists() {
        true => OpenModelError::Unfinished { dir },
        false => OpenModelError::NoModel { dir },
    })
}
