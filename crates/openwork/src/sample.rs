//! The sample of training tokens that means are taken over. It lies beside the model, so that a circuit can
//! be found and judged without the corpus, and a judge can take the means again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use openwork_circuit::Means;
use openwork_model::Model;
use openwork_tensor::{ShardWriter, TokenShards};
use openwork_train::Windows;

/// Tokens of the sample: the specification asks for at least a million, or all there are.
pub const TOKENS: usize = 1 << 20;

/// Whole windows of training tokens, and their length.
pub struct Sample {
    /// Window after window.
    pub tokens: Vec<u16>,
    /// Tokens of a window.
    pub n_ctx: usize,
}

fn folder(model_dir: &Path) -> PathBuf {
    model_dir.join("sample")
}

/// Draws the sample from the training shards in `data` and writes it beside the model, once.
pub fn write(model_dir: &Path, data: &Path, tokenizer_sha256: &str, n_ctx: usize, seed: u64) -> Result<()> {
    let dir = folder(model_dir);
    if dir.join("manifest.json").exists() {
        return Ok(());
    }
    let train = TokenShards::open(data.join("train"), tokenizer_sha256)?;
    let n = TOKENS.div_ceil(n_ctx).min((train.len() / n_ctx as u64) as usize);
    let mut windows =
        Windows::new(train.len(), n_ctx, seed).context("the training shards are shorter than a window")?;
    let mut writer = ShardWriter::create(&dir, tokenizer_sha256, TOKENS as u64 * 2)?;
    writer.push(&windows.read(&train, 0, n))?;
    writer.finish()?;
    Ok(())
}

/// Reads the sample beside the model; draws it first if `data` is given and there is none.
pub fn read(model_dir: &Path, data: Option<&Path>, tokenizer_sha256: &str, n_ctx: usize) -> Result<Sample> {
    match data {
        Some(data) => write(model_dir, data, tokenizer_sha256, n_ctx, 0)?,
        None if !folder(model_dir).join("manifest.json").exists() => bail!(
            "means need training tokens, and there is no sample of them beside the model ({}); \
             name the data it was trained on with --data",
            folder(model_dir).display()
        ),
        None => (),
    }
    let shards = TokenShards::open(folder(model_dir), tokenizer_sha256)?;
    let mut tokens = vec![0; shards.len() as usize / n_ctx * n_ctx];
    shards.read(0, &mut tokens);
    Ok(Sample { tokens, n_ctx })
}

impl Sample {
    /// Its first windows, up to `n_tokens`.
    pub fn first(&self, n_tokens: usize) -> Self {
        let n = self.tokens.len().min(n_tokens / self.n_ctx * self.n_ctx);
        Self { tokens: self.tokens[..n].to_vec(), n_ctx: self.n_ctx }
    }

    /// Means of `model` over the sample.
    pub fn means(&self, model: &Model) -> Means {
        Means::compute(model, &self.tokens, self.n_ctx)
    }
}
