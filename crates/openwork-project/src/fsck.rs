//! Contents of a run's folder, compared with the hashes that its files record.

use std::path::{Path, PathBuf};

use openwork_circuit::{CircuitFile, Means};
use openwork_data::Tokenizer;
use openwork_model::{Loaded, Model};
use openwork_tensor::TokenShards;
use openwork_train::{CheckpointInfo, Recipe, check_checkpoint};

use crate::{TOKENIZER_KEY, VerdictFile, read_log};

/// A file and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, or the folder of shards.
    pub path: PathBuf,
    /// Its state.
    pub state: State,
}

/// State of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds what was written, as far as something records that.
    Whole,
    /// It is damaged, or does not belong to the others.
    Damaged {
        /// The fault.
        reason: String,
    },
    /// Nothing tells.
    Unknown {
        /// The reason.
        reason: &'static str,
    },
}

/// Reason that a folder cannot be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsckError {
    /// The folder, or one inside it, cannot be listed.
    #[error("cannot list {}", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Checks every file of a run's folder, in order of their paths: checkpoint and shards against their digests, recipe, log,
/// tokenizer, model, means, circuits and verdicts also against each other. Changes nothing.
///
/// # Errors
/// When a folder cannot be listed.
pub fn fsck(dir: &Path) -> Result<Vec<Finding>, FsckError> {
    let known = Known::of(dir);
    let mut findings = vec![];
    for path in list(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !path.is_dir() {
            findings.push(Finding { state: known.top(&path, &name), path });
        } else if path.join("manifest.json").exists() {
            findings.push(Finding { state: known.shards(&path), path });
        } else {
            let files = list(&path)?.into_iter().filter(|path| !path.is_dir());
            findings.extend(files.map(|path| Finding { state: known.beside(&path, name == "circuits"), path }));
        }
    }
    Ok(findings)
}

/// Entries of a folder, sorted.
fn list(dir: &Path) -> Result<Vec<PathBuf>, FsckError> {
    let failed = |source| FsckError::List { path: dir.to_owned(), source };
    let entries = std::fs::read_dir(dir).map_err(failed)?;
    let mut paths =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// Files of the folder that others are compared with, as far as they can be read.
struct Known {
    checkpoint: Result<CheckpointInfo, String>,
    model: Result<Loaded, String>,
    tokenizer: Result<Tokenizer, String>,
    means: Result<Means, String>,
}

impl Known {
    fn of(dir: &Path) -> Self {
        let model = Model::load(dir.join("model.safetensors")).map_err(words);
        let means = match &model {
            Ok(Loaded { model, sha256, .. }) => {
                Means::load(&dir.join("means.safetensors"), model, sha256).map_err(words)
            }
            Err(_) => Err(NO_MODEL.to_owned()),
        };
        Self {
            checkpoint: check_checkpoint(&dir.join("checkpoint.safetensors")).map_err(words),
            tokenizer: Tokenizer::load(&dir.join("tokenizer.json")).map_err(words),
            model,
            means,
        }
    }

    /// State of a file of the run itself.
    fn top(&self, path: &Path, name: &str) -> State {
        match name {
            "checkpoint.safetensors" => state(self.checkpoint.as_ref().map(drop).map_err(Clone::clone)),
            "model.safetensors" => state(self.model.as_ref().map(drop).map_err(Clone::clone)),
            "means.safetensors" if self.model.is_err() => State::Unknown { reason: NO_MODEL },
            "means.safetensors" => state(self.means.as_ref().map(drop).map_err(Clone::clone)),
            "tokenizer.json" => state(self.tokenizer()),
            "recipe.toml" => state(self.recipe(path)),
            "log.jsonl" => state(self.log(path)),
            _ => unknown(name),
        }
    }

    fn tokenizer(&self) -> Result<(), String> {
        let tokenizer = self.tokenizer.as_ref().map_err(Clone::clone)?;
        let recorded = self.model.as_ref().ok().and_then(|loaded| loaded.metadata.get(TOKENIZER_KEY));
        agree("the model names tokenizer", recorded.map(String::as_str), tokenizer.sha256())
    }

    fn recipe(&self, path: &Path) -> Result<(), String> {
        let recipe = Recipe::parse(&openwork_tensor::read_text(path).map_err(words)?).map_err(words)?;
        let Ok(checkpoint) = &self.checkpoint else { return Ok(()) };
        let own = Recipe::parse(&checkpoint.recipe).map_err(words)?;
        match own.canonical() == recipe.canonical() {
            true => Ok(()),
            false => Err("the checkpoint is of another recipe".into()),
        }
    }

    fn log(&self, path: &Path) -> Result<(), String> {
        let log = read_log(path.parent().unwrap_or(Path::new(""))).map_err(words)?;
        if let Some(at) = (0..log.len()).find(|&i| log[i].step != i as u64) {
            return Err(format!("line {} is step {}, expected {at}", at + 1, log[at].step));
        }
        match &self.checkpoint {
            Ok(checkpoint) if (log.len() as u64) < checkpoint.step => {
                Err(format!("it has {} steps, and the checkpoint {}", log.len(), checkpoint.step))
            }
            _ => Ok(()),
        }
    }

    fn shards(&self, path: &Path) -> State {
        match &self.tokenizer {
            Ok(tokenizer) => {
                state(TokenShards::open(path, tokenizer.sha256()).and_then(|s| s.verify_hashes()).map_err(words))
            }
            Err(_) => State::Unknown { reason: "its tokenizer is not beside it" },
        }
    }

    /// State of a file in a folder inside.
    fn beside(&self, path: &Path, circuits: bool) -> State {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match (circuits, &self.model) {
            (true, _) if name.ends_with(".verdict.json") => state(VerdictFile::read(path).map(drop).map_err(words)),
            (true, _) if name.ends_with(".certificate.json") => {
                State::Unknown { reason: "`openwork check-certificate` derives it anew" }
            }
            (true, Ok(loaded)) if name.ends_with(".json") => state(self.circuit(path, loaded)),
            (true, Err(_)) if name.ends_with(".json") => State::Unknown { reason: NO_MODEL },
            _ => unknown(&name),
        }
    }

    fn circuit(&self, path: &Path, Loaded { model, sha256, .. }: &Loaded) -> Result<(), String> {
        let circuit = CircuitFile::load(path, model, sha256).map_err(words)?;
        let tokenizer = self.tokenizer.as_ref().ok().map(Tokenizer::sha256);
        agree("the tokenizer here is", tokenizer, &circuit.tokenizer_sha256)?;
        let means = self.means.as_ref().ok().map(Means::sha256);
        agree("the means here are", means.as_deref(), &circuit.means_sha256)
    }
}

const NO_MODEL: &str = "the model beside it cannot be read";

fn unknown(name: &str) -> State {
    match name.starts_with('.') && name.ends_with(".tmp") {
        true => State::Unknown { reason: "left by a process that was killed; the next one removes it" },
        false => State::Unknown { reason: "nothing records its contents" },
    }
}

fn agree(what: &str, recorded: Option<&str>, found: &str) -> Result<(), String> {
    match recorded {
        Some(recorded) if recorded != found => Err(format!("{what} {recorded}, and it is or names {found}")),
        _ => Ok(()),
    }
}

fn state(outcome: Result<(), String>) -> State {
    match outcome {
        Ok(()) => State::Whole,
        Err(reason) => State::Damaged { reason },
    }
}

/// An error with its causes.
fn words(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
