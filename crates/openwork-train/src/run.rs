//! A training run in a folder: the loop, the log, checkpoints, resume.
//!
//! The folder holds `checkpoint.safetensors` (the last one; of step 0 at first), `recipe.toml`, `log.jsonl`
//! (a line per step) and at the end `model.safetensors`. Each but the log is whole or absent at any moment,
//! and the checkpoint comes first, so a folder that a kill leaves behind is either a run that can be resumed
//! or no run yet.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Instant,
};

use openwork_cuda::Gpu;
use openwork_model::Model;
use openwork_tensor::{FolderLock, TokenShards};

use crate::{
    GpuTrainer, LogLine, Recipe, RunError, Trainer, Windows, checkpoint, error::io, log, recipe::canonical_recipe,
};

const RECIPE: &str = "recipe.toml";
const LOG: &str = "log.jsonl";
const CHECKPOINT: &str = "checkpoint.safetensors";
const MODEL: &str = "model.safetensors";

/// A run that is ready to go on.
pub struct Run {
    recipe: Recipe,
    dir: PathBuf,
    train: TokenShards,
    validation: TokenShards,
    windows: Windows,
    /// The state that checkpoints hold; on a GPU it is brought up to date for them.
    trainer: Trainer,
    gpu: Option<GpuTrainer>,
    data: String,
    log: BufWriter<File>,
    /// Keeps other processes out of the folder.
    _lock: FolderLock,
}

/// Message of the loop to its caller after every step.
pub struct Event<'a> {
    /// The step as it is logged.
    pub line: &'a LogLine,
    /// Steps of the whole run.
    pub steps: u64,
    /// True if a checkpoint was just written.
    pub checkpointed: bool,
}

/// End of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// All steps are done; `model.safetensors` is written.
    Finished,
    /// The caller asked to stop; a checkpoint is written.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

impl Run {
    /// Starts a run in `dir`, which must not hold one yet. `data` has `train` and `validation` shards.
    ///
    /// Looks at everything first, the contents of the data too, and only then touches the disk. The first thing written is a
    /// checkpoint of step 0, whole or not at all: a run killed at any moment can be resumed or, before that, started again.
    ///
    /// # Errors
    /// When the folder holds a run or another process works in it, a file cannot be written, or the data are damaged or too
    /// few.
    pub fn create(
        recipe: Recipe,
        dir: impl Into<PathBuf>,
        (train, validation): (TokenShards, TokenShards),
    ) -> Result<Self, RunError> {
        let dir = dir.into();
        let windows = windows(&recipe, &train, &validation)?;
        if [CHECKPOINT, LOG, MODEL].iter().any(|name| dir.join(name).exists()) {
            return Err(RunError::Exists { dir });
        }
        let data = checked_digests([&train, &validation])?;
        std::fs::create_dir_all(&dir).map_err(io("create", &dir))?;
        let lock = FolderLock::exclusive(&dir)?;
        let model = Model::init(recipe.config.clone(), recipe.seed);
        let trainer = Trainer::new(model, recipe.schedule.clone(), recipe.lanes, recipe.chunk_sequences);
        openwork_tensor::remove_leftovers_in(&dir).map_err(io("clear", &dir))?;
        checkpoint::save(&dir.join(CHECKPOINT), &trainer, &recipe, &data)?;
        let log = open_beside_checkpoint(&dir, &recipe, trainer.step_count())?;
        Ok(Self { recipe, dir, train, validation, windows, trainer, gpu: None, data, log, _lock: lock })
    }

    /// Continues the run in `dir` from its last checkpoint; the recipe and the data must be the same.
    ///
    /// # Errors
    /// When there is no checkpoint, it is damaged or of another run, another process works in the folder, or the data are
    /// damaged or too few.
    pub fn resume(
        recipe: Recipe,
        dir: impl Into<PathBuf>,
        (train, validation): (TokenShards, TokenShards),
    ) -> Result<Self, RunError> {
        let dir = dir.into();
        let windows = windows(&recipe, &train, &validation)?;
        let path = dir.join(CHECKPOINT);
        if !path.exists() {
            return Err(RunError::NoCheckpoint { dir });
        }
        let lock = FolderLock::exclusive(&dir)?;
        let data = checked_digests([&train, &validation])?;
        let trainer = checkpoint::load(&path, &recipe, &data)?;
        openwork_tensor::remove_leftovers_in(&dir).map_err(io("clear", &dir))?;
        let log = open_beside_checkpoint(&dir, &recipe, trainer.step_count())?;
        Ok(Self { recipe, dir, train, validation, windows, trainer, gpu: None, data, log, _lock: lock })
    }

    /// Goes on on a GPU. Checkpoints stay the same: a run may go on anywhere.
    ///
    /// # Errors
    /// When there are no kernels for the model, or the device has too little memory.
    pub fn on_gpu(mut self, gpu: Gpu) -> Result<Self, RunError> {
        let (seq_len, sequences) = (self.recipe.config.n_ctx, self.recipe.batch_sequences);
        self.gpu = Some(self.trainer.on_gpu(gpu, seq_len, sequences)?);
        Ok(self)
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Steps done.
    pub fn step_count(&self) -> u64 {
        self.gpu.as_ref().map_or_else(|| self.trainer.step_count(), GpuTrainer::step_count)
    }

    /// Sequences that validation losses are over: those that the recipe asks for, or all, where the data have fewer.
    pub fn validation_sequences(&self) -> usize {
        let there = self.validation.len() / self.recipe.config.n_ctx as u64;
        usize::try_from(there).unwrap_or(usize::MAX).min(self.recipe.validation_sequences)
    }

    /// The model as it is now; on a GPU, as it was at the last checkpoint.
    pub fn model(&self) -> &Model {
        self.trainer.model()
    }

    /// Trains until the end or until `on_step` breaks; then writes a checkpoint and, at the end, the model
    /// with `metadata`.
    ///
    /// # Errors
    /// When a file cannot be written, the device fails, a token is outside the vocabulary, or the loss diverges.
    pub fn train(
        &mut self,
        metadata: &BTreeMap<String, String>,
        on_step: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Stopped, RunError> {
        let steps = self.recipe.schedule.steps;
        let (n_ctx, sequences) = (self.recipe.config.n_ctx, self.recipe.batch_sequences);
        let guessing = (self.recipe.config.vocab_size as f64).ln();
        let mut last_checkpoint = self.step_count();
        while self.step_count() < steps {
            let step = self.step_count();
            let started = Instant::now();
            let batch = self.windows.read(&self.train, step * sequences as u64, sequences)?;
            self.check_vocabulary(&batch)?;
            let report = match &mut self.gpu {
                None => {
                    let Ok(report) = self.trainer.step(&batch, n_ctx);
                    report
                }
                Some(gpu) => gpu.step(&batch, n_ctx)?,
            };
            // Three times the loss of guessing: no run that still learns is there.
            let diverged = |loss: f64| RunError::Diverged { step, loss, guessing, checkpoint: last_checkpoint };
            if !report.loss_nats.is_finite() || !report.grad_rms.is_finite() || report.loss_nats > 3.0 * guessing {
                return Err(diverged(report.loss_nats));
            }
            let done = step + 1;
            let last = done == steps;
            let seconds = started.elapsed().as_secs_f64();
            let validation_loss =
                (last || done.is_multiple_of(self.recipe.validation_every)).then(|| self.validate()).transpose()?;
            if let Some(loss) = validation_loss.filter(|loss| !loss.is_finite()) {
                return Err(diverged(loss));
            }
            let line = LogLine::new(report, validation_loss, (done * sequences as u64) * n_ctx as u64, seconds);
            self.append(&line)?;
            let checkpointed = last || done.is_multiple_of(self.recipe.checkpoint_every);
            if checkpointed {
                self.checkpoint()?;
                last_checkpoint = done;
            }
            if on_step(Event { line: &line, steps, checkpointed }).is_break() && !last {
                if !checkpointed {
                    self.checkpoint()?;
                }
                return Ok(Stopped::Interrupted { step: done });
            }
        }
        self.model().save(self.dir.join(MODEL), metadata)?;
        Ok(Stopped::Finished)
    }

    /// Mean loss in nats over the first validation windows.
    fn validate(&mut self) -> Result<f64, RunError> {
        let n_ctx = self.recipe.config.n_ctx as u64;
        let n = self.validation_sequences() as u64;
        let mut tokens = vec![0; (n * n_ctx) as usize];
        self.validation.read(0, &mut tokens)?;
        self.check_vocabulary(&tokens)?;
        match &mut self.gpu {
            None => {
                let Ok(loss) = self.trainer.loss(&tokens, n_ctx as usize);
                Ok(loss)
            }
            Some(gpu) => Ok(gpu.loss(&tokens, n_ctx as usize)?),
        }
    }

    fn check_vocabulary(&self, tokens: &[u16]) -> Result<(), RunError> {
        let vocab_size = self.recipe.config.vocab_size;
        match tokens.iter().find(|&&t| usize::from(t) >= vocab_size) {
            Some(&token) => Err(RunError::Vocabulary { token, vocab_size }),
            None => Ok(()),
        }
    }

    fn checkpoint(&mut self) -> Result<(), RunError> {
        if let Some(gpu) = &self.gpu {
            gpu.download(&mut self.trainer)?;
        }
        let log = self.dir.join(LOG);
        // The log must not be behind the checkpoint, or a resumed run would have a hole in it.
        self.log.flush().and_then(|()| self.log.get_ref().sync_data()).map_err(io("write", &log))?;
        Ok(checkpoint::save(&self.dir.join(CHECKPOINT), &self.trainer, &self.recipe, &self.data)?)
    }

    fn append(&mut self, line: &LogLine) -> Result<(), RunError> {
        let text = serde_json::to_string(line).expect("plain values");
        writeln!(self.log, "{text}").and_then(|()| self.log.flush()).map_err(io("write", &self.dir.join(LOG)))
    }
}

/// The order of the training windows, if there is enough data for one window of either kind.
fn windows(recipe: &Recipe, train: &TokenShards, validation: &TokenShards) -> Result<Windows, RunError> {
    let n_ctx = recipe.config.n_ctx;
    let short = |part, shards: &TokenShards| RunError::TooShort { part, tokens: shards.len(), n_ctx };
    let windows = Windows::new(train.len(), n_ctx, recipe.seed).ok_or_else(|| short("training", train))?;
    match validation.len() < n_ctx as u64 {
        true => Err(short("validation", validation)),
        false => Ok(windows),
    }
}

/// Digests that identify training and validation data, whose contents are compared with them.
fn checked_digests(parts: [&TokenShards; 2]) -> Result<String, RunError> {
    parts.into_iter().try_for_each(TokenShards::verify_hashes)?;
    let digests =
        parts.map(|part| part.manifest().shards.iter().map(|s| s.sha256.as_str()).collect::<Vec<_>>().join(" "));
    Ok(digests.join(" / "))
}

/// Brings the recipe and the log in line with the checkpoint beside them; opens the log for appending.
fn open_beside_checkpoint(dir: &Path, recipe: &Recipe, steps_done: u64) -> Result<BufWriter<File>, RunError> {
    let path = dir.join(RECIPE);
    match path.exists() {
        false => {
            openwork_tensor::write_atomic(&path, |w| w.write_all(recipe.text.as_bytes()))
                .map_err(io("write", &path))?;
        }
        true => {
            let text = openwork_tensor::read_text(&path).map_err(io("read", &path))?;
            if canonical_recipe(&text) != Some(recipe.canonical()) {
                return Err(RunError::RecipeChanged { path });
            }
        }
    }
    log::reopen(&dir.join(LOG), steps_done)
}

#[cfg(test)]
mod tests;
