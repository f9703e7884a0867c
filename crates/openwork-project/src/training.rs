//! Training runs in a folder, with everything beside the model that later commands look for.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use openwork_data::{Tokenizer, TokenizerError};
use openwork_ops::Device;
use openwork_tensor::{ShardError, TokenShards};
use openwork_train::{Event, LogLine, MemoryPlan, Recipe, Run, RunError, Stopped};

use crate::{Sample, SampleError, TOKENIZER_KEY, TRAINED_CONTEXT_KEY};

/// Reason that a run cannot be started, or ended without a checkpoint to go on from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// The tokenizer has more tokens than the recipe allows.
    #[error("the tokenizer has {tokens} tokens and the recipe a vocabulary of {vocab_size} (model.vocab_size)")]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Vocabulary of the recipe.
        vocab_size: usize,
    },
    /// The run would lie in its own data.
    #[error("{} is the data of this run ({}), or lies inside; name another folder", out.display(), data.display())]
    InData {
        /// Folder of the run.
        out: PathBuf,
        /// Folder of the data.
        data: PathBuf,
    },
    /// The folder of data has no shards.
    #[error("{} is not a folder that `openwork data` wrote", data.display())]
    NoData {
        /// The folder.
        data: PathBuf,
        /// The fault.
        source: ShardError,
    },
    /// Shards cannot be read.
    #[error(transparent)]
    Shards(#[from] ShardError),
    /// The machine has less memory than the run needs.
    #[error(
        "the run needs {} MB of memory and {} MB are available; {}fewer --threads take fewer gradients and activations, a \
         smaller batch.chunk_sequences ({chunk_sequences}) fewer activations", megabytes(*needed), megabytes(*available),
        bigram_of(*bigram, *needed)
    )]
    Memory {
        /// Bytes that the run needs.
        needed: usize,
        /// Bytes of them for the bigram table.
        bigram: usize,
        /// Bytes that can be had.
        available: usize,
        /// Sequences of a chunk in the recipe.
        chunk_sequences: usize,
    },
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The tokenizer cannot be written beside the model.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The sample cannot be written beside the model.
    #[error(transparent)]
    Sample(#[from] SampleError),
}

/// Bytes in units of 2²⁰, rounded up.
fn megabytes(bytes: usize) -> usize {
    bytes.div_ceil(1 << 20)
}

/// The part of the bigram table, where it is half of all or more.
fn bigram_of(bigram: usize, needed: usize) -> String {
    if bigram < needed / 2 {
        return String::new();
    }
    format!(
        "{} MB are for the bigram table, the square of model.vocab_size, which bigram = \"none\" leaves out; ",
        megabytes(bigram)
    )
}

/// Run that is ready to train.
pub struct TrainingRun {
    run: Run,
    dir: PathBuf,
    data: PathBuf,
    tokenizer_sha256: String,
    /// Memory that the run needs on the CPU; none on a GPU.
    pub memory: Option<MemoryPlan>,
    /// Name of the GPU and bytes of its memory that the run uses; none on the CPU.
    pub gpu: Option<(String, usize)>,
}

impl TrainingRun {
    /// Opens the data and creates the run in the folder `out`, or resumes it from its last checkpoint.
    ///
    /// # Errors
    /// When tokenizer, data, recipe and folder do not fit each other, or the machine has too little memory.
    pub fn open(
        recipe: Recipe,
        data: &Path,
        tokenizer: &Tokenizer,
        out: &Path,
        resume: bool,
        device: Device,
    ) -> Result<Self, TrainingError> {
        let place = |path: &Path| std::fs::canonicalize(path).ok();
        if place(out).is_some_and(|out| place(data).is_some_and(|data| out.starts_with(data))) {
            return Err(TrainingError::InData { out: out.to_owned(), data: data.to_owned() });
        }
        let (tokens, vocab_size) = (tokenizer.vocab_size(), recipe.config.vocab_size);
        if tokens > vocab_size {
            return Err(TrainingError::Vocabulary { tokens, vocab_size });
        }
        let shards = (open_shards(data, "train", tokenizer)?, open_shards(data, "validation", tokenizer)?);
        let memory = match device {
            Device::Cpu => Some(checked_memory(&recipe)?),
            Device::Cuda(_) => None,
        };
        let mut run = if resume { Run::resume(recipe, out, shards)? } else { Run::create(recipe, out, shards)? };
        let mut of_gpu = None;
        if let Device::Cuda(gpu) = device {
            run = run.on_gpu(gpu.clone())?;
            of_gpu = Some((gpu.name().to_string(), gpu.used()));
        }
        tokenizer.save(&out.join("tokenizer.json"))?;
        Ok(Self {
            run,
            dir: out.to_owned(),
            data: data.to_owned(),
            tokenizer_sha256: tokenizer.sha256().to_owned(),
            memory,
            gpu: of_gpu,
        })
    }

    /// Recipe of the run.
    pub fn recipe(&self) -> &Recipe {
        self.run.recipe()
    }

    /// Steps that are done.
    pub fn step_count(&self) -> u64 {
        self.run.step_count()
    }

    /// Sequences that validation losses are over, as [`openwork_train::Run::validation_sequences`] says.
    pub fn validation_sequences(&self) -> usize {
        self.run.validation_sequences()
    }

    /// Model file that a finished run writes.
    pub fn model_path(&self) -> PathBuf {
        self.dir.join("model.safetensors")
    }

    /// Trains until the end, or until `on_step` breaks; a finished run has its model and the sample beside it. The folder is
    /// locked until then.
    ///
    /// # Errors
    /// When a loss is not finite, or a file cannot be written; the error names the last good checkpoint.
    pub fn train(mut self, on_step: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<Stopped, TrainingError> {
        let context = self.recipe().config.n_ctx.to_string();
        let metadata = [(TOKENIZER_KEY, self.tokenizer_sha256.clone()), (TRAINED_CONTEXT_KEY, context)];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
        let stopped = self.run.train(&metadata, on_step)?;
        // A run that was killed between its last checkpoint and its sample writes it now.
        if stopped == Stopped::Finished {
            let (n_ctx, seed) = (self.recipe().config.n_ctx, self.recipe().seed);
            Sample::write(&self.dir, &self.data, &self.tokenizer_sha256, n_ctx, seed)?;
        }
        Ok(stopped)
    }
}

/// The memory that a run needs on the CPU, if the machine has it.
fn checked_memory(recipe: &Recipe) -> Result<MemoryPlan, TrainingError> {
    let plan = MemoryPlan::new(recipe, rayon::current_num_threads());
    match available_memory() {
        Some(available) if plan.total() > available => {
            let chunk_sequences = recipe.chunk_sequences;
            let (needed, bigram) = (plan.total(), plan.bigram);
            Err(TrainingError::Memory { needed, bigram, available, chunk_sequences })
        }
        _ => Ok(plan),
    }
}

/// Bytes of memory that can be had now, where the system says so (Linux).
fn available_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn open_shards(data: &Path, part: &str, tokenizer: &Tokenizer) -> Result<TokenShards, TrainingError> {
    TokenShards::open(data.join(part), tokenizer.sha256()).map_err(|source| match source {
        ShardError::NoManifest { .. } => TrainingError::NoData { data: data.to_owned(), source },
        source => TrainingError::Shards(source),
    })
}

/// Reason that a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The folder has no log.
    #[error("{} is no training run: cannot read {}", dir.display(), path.display())]
    Read {
        /// The folder.
        dir: PathBuf,
        /// The log.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A line is no step.
    #[error("{}, line {number}", path.display())]
    Line {
        /// The log.
        path: PathBuf,
        /// Number of the line.
        number: usize,
        /// The fault.
        source: serde_json::Error,
    },
    /// A step does not follow the one before it.
    #[error("{}, line {number}: step {step} stands after step {before}", path.display())]
    Order {
        /// The log.
        path: PathBuf,
        /// Number of the line.
        number: usize,
        /// Step of the line, from 0.
        step: u64,
        /// Step of the line before.
        before: u64,
    },
}

/// Log of a training run.
#[derive(Clone, Debug, Default)]
pub struct TrainingLog {
    /// A line a step.
    pub steps: Vec<LogLine>,
    /// True if the last line is incomplete and left out: the run is writing it, or was stopped while it did.
    pub cut: bool,
}

/// Reads the log of the run in `dir`.
///
/// # Errors
/// When there is no log, a line other than an incomplete last one is no step, or a step is not after the one before it.
pub fn read_log(dir: &Path) -> Result<TrainingLog, LogError> {
    let path = dir.join("log.jsonl");
    let read = |source| LogError::Read { dir: dir.to_owned(), path: path.clone(), source };
    let text = openwork_tensor::read_text(&path).map_err(read)?;
    let mut log = TrainingLog::default();
    let last = text.lines().count();
    for (number, line) in (1..).zip(text.lines()) {
        match serde_json::from_str::<LogLine>(line) {
            Ok(line) => match log.steps.last().map(|before| before.step) {
                Some(before) if before >= line.step => {
                    return Err(LogError::Order { path, number, step: line.step, before });
                }
                _ => log.steps.push(line),
            },
            Err(_) if number == last && !text.ends_with('\n') => log.cut = true,
            Err(source) => return Err(LogError::Line { path, number, source }),
        }
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_may_end_in_half_a_line_but_not_hold_one() {
        let dir = tempfile::tempdir().unwrap();
        let whole = r#"{"step":0,"loss":7.0,"lr":0.0,"pfrac":16.0,"grad_rms":0.001,"l0":100,"churn":0.0,
            "dead_neurons":0,"tokens":1,"tokens_per_second":1.0}"#
            .replace('\n', "");
        let path = dir.path().join("log.jsonl");
        std::fs::write(&path, format!("{whole}\n{}", &whole[..20])).unwrap();
        let log = read_log(dir.path()).unwrap();
        assert!(log.steps.len() == 1 && log.cut);
        std::fs::write(&path, format!("{whole}\n{whole}\n")).unwrap();
        let error = read_log(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("line 2: step 0 stands after step 0"), "{error}");
        std::fs::write(&path, format!("{}\n{whole}\n", &whole[..20])).unwrap();
        assert!(read_log(dir.path()).unwrap_err().to_string().ends_with("line 1"));
        assert!(read_log(&dir.path().join("none")).unwrap_err().to_string().contains("no training run"));
    }
}
