//! One run of the study: its training, and the file that says that it is finished.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use openwork_benches::{Setup, commit};
use openwork_model::Model;
use openwork_tensor::{Manifest, TokenShards};
use openwork_train::Windows;
use serde::{Deserialize, Serialize};

use crate::design::{self, Anneal, Cell, Density};

const FORMAT: &str = "openwork-quality-cell 1";

/// A finished run, as it is kept in `NAME.json` beside its model `NAME.safetensors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    pub format: String,
    /// Name of the mode.
    pub mode: String,
    pub anneal: Anneal,
    pub density: Density,
    pub seed: u64,
    pub equal_time: bool,
    /// Everything that was trained and how.
    pub recipe: String,
    /// SHA-256 of the training shards.
    pub data: Vec<String>,
    pub commit: String,
    pub device: String,
    pub threads: usize,
    /// Validations, the last one at the end.
    pub curve: Vec<Point>,
    /// True if the loss stopped being finite; the curve ends before that.
    pub diverged: bool,
}

/// A validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    pub step: u64,
    pub tokens: u64,
    /// Processor time that training took so far, without validations, over the number of threads: the time on a
    /// machine that does nothing else.
    pub seconds: f64,
    /// Mean over the same validation sequences, in nats per token.
    pub loss: f64,
}

impl Outcome {
    /// The run is the one of this cell.
    pub fn is(&self, cell: &Cell) -> bool {
        self.mode == cell.mode.name()
            && (self.anneal, self.density) == (cell.anneal, cell.density)
            && (self.seed, self.equal_time) == (cell.seed, cell.equal_time)
    }

    /// The last validation; none of a run that diverged.
    pub fn end(&self) -> Option<&Point> {
        self.curve.last().filter(|_| !self.diverged)
    }

    /// Speed over the whole run, in tokens per second.
    pub fn speed(&self) -> Option<f64> {
        self.end().map(|end| end.tokens as f64 / end.seconds)
    }

    /// Reads a finished run.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let outcome: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no finished run; remove it to train it again", path.display()))?;
        ensure!(outcome.format == FORMAT, "{} has format {}, not {FORMAT}", path.display(), outcome.format);
        Ok(outcome)
    }

    fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain values") + "\n";
        openwork_tensor::write_atomic(path, |w| w.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The tokens of the study.
pub struct Data {
    pub train: TokenShards,
    validation: TokenShards,
}

impl Data {
    /// Opens `train/` and `validation/` in `folder`, which must be of one tokenizer.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = folder.join("train/manifest.json");
        let text = std::fs::read(&manifest).with_context(|| {
            format!(
                "--data {}: cannot read {}; right is a folder that `openwork data` wrote",
                folder.display(),
                manifest.display()
            )
        })?;
        let Manifest { tokenizer_sha256, .. } =
            serde_json::from_slice(&text).with_context(|| format!("{} is no manifest", manifest.display()))?;
        let open = |part: &str| TokenShards::open(folder.join(part), &tokenizer_sha256);
        Ok(Self { train: open("train")?, validation: open("validation")? })
    }

    fn digests(&self) -> Vec<String> {
        self.train.manifest().shards.iter().map(|shard| shard.sha256.clone()).collect()
    }

    fn tokenizer(&self) -> String {
        self.train.manifest().tokenizer_sha256.clone()
    }
}

/// Folder, data and threads of the runs.
pub struct Study {
    pub data: Data,
    pub out: PathBuf,
    pub device: String,
    pub threads: usize,
}

impl Study {
    /// The finished run of a cell, if there is one. One of another recipe or other data is refused.
    pub fn finished(&self, cell: &Cell, steps: u64) -> Result<Option<Outcome>> {
        let path = self.path(cell);
        if !path.exists() {
            return Ok(None);
        }
        let outcome = Outcome::read(&path)?;
        // Not letter by letter: the order of keys and comments are no part of it.
        let table = |text: &str| text.parse::<toml::Table>();
        let same_recipe = table(&outcome.recipe)? == table(&design::recipe(cell, steps))?;
        ensure!(
            same_recipe && outcome.data == self.data.digests(),
            "{} is of another recipe or other data; name another folder with --out, or remove it",
            path.display()
        );
        Ok(Some(outcome))
    }

    /// Trains a cell, saves its model, and then, as the sign that it is finished, its outcome.
    pub fn train(&self, cell: &Cell, steps: u64) -> Result<Outcome> {
        let text = design::recipe(cell, steps);
        let Setup { recipe, mut trainer } = Setup::new(&text)?;
        let (n_ctx, sequences) = (recipe.config.n_ctx, recipe.batch_sequences);
        let mut windows = Windows::new(self.data.train.len(), n_ctx, recipe.seed)
            .with_context(|| format!("the training shards are shorter than a window of {n_ctx} tokens"))?;
        let validation = self.validation(n_ctx, recipe.validation_sequences)?;
        self.check_vocabulary(recipe.config.vocab_size, &validation)?;
        let (mut curve, mut seconds, mut diverged) = (Vec::new(), 0.0, false);
        for step in 0..steps {
            let batch = windows.read(&self.data.train, step * sequences as u64, sequences)?;
            self.check_vocabulary(recipe.config.vocab_size, &batch)?;
            let started = processor_time();
            let Ok(report) = trainer.step(&batch, n_ctx);
            seconds += (processor_time() - started).as_secs_f64() / self.threads as f64;
            diverged = !(report.loss_nats.is_finite() && report.grad_rms.is_finite());
            if diverged {
                break;
            }
            let done = step + 1;
            if done.is_multiple_of(recipe.validation_every) || done == steps {
                let Ok(loss) = trainer.loss(&validation, n_ctx);
                let tokens = done * (sequences * n_ctx) as u64;
                eprintln!("  step {done}/{steps}  validation {loss:.4}  {:.0} tokens/s", tokens as f64 / seconds);
                curve.push(Point { step: done, tokens, seconds, loss });
            }
        }
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot create {}", self.out.display()))?;
        let metadata = BTreeMap::from([(openwork_project::TOKENIZER_KEY.to_owned(), self.data.tokenizer())]);
        trainer.model().save(self.path(cell).with_extension("safetensors"), &metadata)?;
        let outcome = Outcome {
            format: FORMAT.into(),
            mode: cell.mode.name(),
            anneal: cell.anneal,
            density: cell.density,
            seed: cell.seed,
            equal_time: cell.equal_time,
            recipe: text,
            data: self.data.digests(),
            commit: commit(),
            device: self.device.clone(),
            threads: self.threads,
            curve,
            diverged,
        };
        outcome.write(&self.path(cell))?;
        Ok(outcome)
    }

    /// The model of a finished run.
    pub fn model(&self, cell: &Cell) -> Result<Model> {
        let path = self.path(cell).with_extension("safetensors");
        ensure!(path.exists(), "{} is not there; remove the .json beside it to train it again", path.display());
        Ok(openwork_model::Model::load(&path)?.model)
    }

    /// Refuses another tokenizer than that of the data.
    pub fn check_tokenizer(&self, sha256: &str) -> Result<()> {
        ensure!(sha256 == self.data.tokenizer(), "--tokenizer has another SHA-256 ({sha256}) than the one of the data");
        Ok(())
    }

    fn path(&self, cell: &Cell) -> PathBuf {
        self.out.join(cell.name() + ".json")
    }

    /// The first validation sequences.
    fn validation(&self, n_ctx: usize, sequences: usize) -> Result<Vec<u16>> {
        let there = self.data.validation.len() as usize / n_ctx;
        ensure!(there > 0, "the validation shards are shorter than a window of {n_ctx} tokens");
        let mut tokens = vec![0; sequences.min(there) * n_ctx];
        self.data.validation.read(0, &mut tokens)?;
        Ok(tokens)
    }

    fn check_vocabulary(&self, size: usize, tokens: &[u16]) -> Result<()> {
        match tokens.iter().find(|&&token| usize::from(token) >= size) {
            Some(token) => anyhow::bail!("the data has token {token}; the study is for a vocabulary of {size}"),
            None => Ok(()),
        }
    }
}

/// Processor time of all threads of this process so far. Unlike the time on the clock it can be compared between
/// runs hours apart on a machine that does other work, too.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("a process has used no negative time")
}
