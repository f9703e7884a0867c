//! Contents of a run's folder, compared with the hashes that its files record.

use std::path::{Path, PathBuf};

use openwork_circuit::{CircuitFile, Means};
use openwork_data::Tokenizer;
use openwork_model::{Loaded, Model};
use openwork_tensor::TokenShards;
use openwork_train::{CheckpointInfo, Recipe, check_checkpoint};
use serde::Deserialize;

use crate::{
    LoggedVerdict, Sample, TOKENIZER_KEY, VerdictError, VerdictFile, pairs_path, read_log, verdict::is_earlier,
    verdict_path,
};

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
    /// It is not there, and the others say that it was.
    Missing,
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

/// Checks every file of a run's folder, of a corpus, or of a folder that holds them, in order of their paths: checkpoint and shards
/// against their digests, recipe, log, tokenizer, model, means, circuits, verdicts and their pairs also against each other. Files
/// of a run that are not there are found too. Changes nothing.
///
/// # Errors
/// When a folder cannot be listed.
pub fn fsck(dir: &Path) -> Result<Vec<Finding>, FsckError> {
    let known = Known::of(dir);
    if is_shards(dir) {
        return Ok(vec![Finding { state: known.shards(dir), path: dir.to_owned() }]);
    }
    let mut findings: Vec<Finding> =
        known.missing(dir).into_iter().map(|path| Finding { path, state: State::Missing }).collect();
    for path in list(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !path.is_dir() {
            findings.push(Finding { state: known.top(&path, &name), path });
        } else if is_shards(&path) {
            findings.push(Finding { state: known.shards(&path), path });
        } else if name == "circuits" {
            let files: Vec<PathBuf> = list(&path)?.into_iter().filter(|path| !path.is_dir()).collect();
            // A verdict has the hash of the pairs that it was made on.
            let verdicts = files.iter().filter(|path| path.to_string_lossy().ends_with(".verdict.json"));
            let pairs = verdicts.map(|path| pairs_path(path)).filter(|path| !path.exists());
            findings.extend(pairs.map(|path| Finding { path, state: State::Missing }));
            findings.extend(files.into_iter().map(|path| Finding { state: known.beside(&path), path }));
        } else if !path.is_symlink() {
            findings.extend(fsck(&path)?);
        }
    }
    findings.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(findings)
}

fn is_shards(dir: &Path) -> bool {
    dir.join("manifest.json").exists()
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

    /// Files of a run that are not there though others are: of a run that was trained, and of one whose training is over.
    fn missing(&self, dir: &Path) -> Vec<PathBuf> {
        let there = |name: &str| dir.join(name).exists();
        let trained = ["recipe.toml", "log.jsonl", "checkpoint.safetensors"].into_iter().any(there);
        let over = there("model.safetensors") || there("circuits") || there("means.safetensors");
        let mut expected = vec![];
        if trained {
            expected.extend(["recipe.toml", "log.jsonl", "tokenizer.json"]);
        }
        if over {
            expected.extend(["model.safetensors", "tokenizer.json"]);
        }
        match there("sample") {
            true => expected.push("sample/manifest.json"),
            false if trained && over => expected.push("sample"),
            false => (),
        }
        if there("circuits") {
            expected.push("means.safetensors");
        }
        expected.retain(|name| !there(name));
        expected.dedup();
        expected.into_iter().map(|name| dir.join(name)).collect()
    }

    /// State of a file of the run itself.
    fn top(&self, path: &Path, name: &str) -> State {
        match name {
            "checkpoint.safetensors" => state(self.checkpoint.as_ref().map(drop).map_err(Clone::clone)),
            "model.safetensors" => state(self.model.as_ref().map(drop).map_err(Clone::clone)),
            "means.safetensors" if self.model.is_err() => State::Unknown { reason: NO_MODEL },
            "means.safetensors" => state(self.means(path)),
            "tokenizer.json" => state(self.tokenizer()),
            "recipe.toml" => state(self.recipe(path)),
            "log.jsonl" => state(self.log(path)),
            _ => unknown(name),
        }
    }

    /// Compares the means with the sample beside them, which they are taken over, where that can be read.
    fn means(&self, path: &Path) -> Result<(), String> {
        let means = self.means.as_ref().map_err(Clone::clone)?;
        let (Ok(Loaded { model, .. }), Ok(tokenizer)) = (&self.model, &self.tokenizer) else { return Ok(()) };
        let dir = path.parent().unwrap_or(Path::new(""));
        let Ok(sample) = Sample::open(dir, None, tokenizer.sha256(), [means.seq_len(), model.config.vocab_size]) else {
            return Ok(());
        };
        agree("the sample beside them is", Some(&sample.sha256()), means.data_sha256())?;
        match means.n_tokens() == sample.tokens.len() as u64 {
            true => Ok(()),
            false => Err(format!(
                "they are said to be over {} tokens, and the sample has {}",
                means.n_tokens(),
                sample.tokens.len()
            )),
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
        let log = read_log(path.parent().unwrap_or(Path::new(""))).map_err(words)?.steps;
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
        // The tokenizer beside it; of a corpus, the one that the manifest names.
        let named = || {
            let text = openwork_tensor::read_text(&path.join("manifest.json")).map_err(words)?;
            let Manifest { tokenizer_sha256 } = serde_json::from_str(&text).map_err(words)?;
            Ok::<_, String>(tokenizer_sha256)
        };
        let tokenizer = self.tokenizer.as_ref().map_or_else(|_| named(), |tokenizer| Ok(tokenizer.sha256().to_owned()));
        state(tokenizer.and_then(|sha256| {
            TokenShards::open(path, &sha256).and_then(|shards| shards.verify_hashes()).map_err(words)
        }))
    }

    /// State of a file in the folder of circuits.
    fn beside(&self, path: &Path) -> State {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let of = |ending: &str| name.strip_suffix(ending).map(|stem| path.with_file_name(format!("{stem}.json")));
        if let Some(circuit) = of(".verdict.json") {
            return self.verdict(path, &circuit);
        }
        if let Some(circuit) = of(".pairs.json") {
            return match VerdictFile::read(&verdict_path(&circuit)) {
                Ok(verdict) => state(pairs(path, &verdict)),
                Err(_) => State::Unknown { reason: "no verdict beside it can be read, and that records its hash" },
            };
        }
        if name == "verdicts.jsonl" {
            return state(every_line(path));
        }
        if name.contains(".certificate.") || name.contains(".domain.") {
            return State::Unknown { reason: "`openwork check-certificate` derives it anew" };
        }
        match &self.model {
            Ok(loaded) if name.ends_with(".json") => state(self.circuit(path, loaded).map(drop)),
            Err(_) if name.ends_with(".json") => State::Unknown { reason: NO_MODEL },
            _ => unknown(&name),
        }
    }

    /// State of a verdict file, and whether it is about the circuit beside it.
    fn verdict(&self, path: &Path, circuit: &Path) -> State {
        let verdict = match VerdictFile::read(path) {
            Ok(verdict) => verdict,
            Err(VerdictError::Format { found, .. }) if is_earlier(&found) => {
                return State::Unknown {
                    reason: "it is of an earlier version of the program, which this version does not read",
                };
            }
            Err(error) => return State::Damaged { reason: words(error) },
        };
        let loaded = self.model.as_ref().ok().map(|loaded| self.circuit(circuit, loaded));
        match loaded {
            _ if !circuit.exists() => State::Unknown { reason: "the circuit that it is about is not beside it" },
            Some(Ok(circuit)) if circuit.claim_sha256() != verdict.about.circuit_sha256 => {
                State::Unknown { reason: "it is about another circuit than the one beside it" }
            }
            _ => State::Whole,
        }
    }

    fn circuit(&self, path: &Path, Loaded { model, sha256, .. }: &Loaded) -> Result<CircuitFile, String> {
        let circuit = CircuitFile::load(path, model, sha256).map_err(words)?;
        let tokenizer = self.tokenizer.as_ref().ok().map(Tokenizer::sha256);
        agree("the tokenizer here is", tokenizer, &circuit.tokenizer_sha256)?;
        let means = self.means.as_ref().ok().map(Means::sha256);
        agree("the means here are", means.as_deref(), &circuit.means_sha256)?;
        Ok(circuit)
    }
}

/// The part of a manifest of shards that names their tokenizer.
#[derive(Deserialize)]
struct Manifest {
    tokenizer_sha256: String,
}

/// Compares a file of pairs with the hash in the verdict that was made on them.
fn pairs(path: &Path, verdict: &VerdictFile) -> Result<(), String> {
    let found = openwork_tensor::sha256_bytes(&std::fs::read(path).map_err(words)?);
    agree("the verdict beside it names pairs", Some(&verdict.pairs_sha256), &found)
}

/// Reads every line of a log of verdicts.
fn every_line(path: &Path) -> Result<(), String> {
    let text = openwork_tensor::read_text(path).map_err(words)?;
    for (i, line) in text.lines().enumerate() {
        serde_json::from_str::<LoggedVerdict>(line).map_err(|error| format!("line {}: {error}", i + 1))?;
    }
    Ok(())
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
