//! Sample of training tokens that ablation means are taken over.
//!
//! It lies beside the model, so that circuits are found and verified without the corpus, and anybody can take the means
//! again.

use std::path::{Path, PathBuf};

use openwork_circuit::{Means, data_sha256};
use openwork_model::{Model, NoTap, NotFinite, Tokens};
use openwork_tensor::{ShardError, ShardWriter, TokenShards};
use openwork_train::{Recipe, Windows};

/// Tokens of a sample: Gao et al. 2025 do not say how many; a million, or all there are.
pub const SAMPLE_TOKENS: usize = 1 << 20;

/// Whole windows of training tokens.
pub struct Sample {
    /// Tokens, window after window.
    pub tokens: Vec<u16>,
    /// Tokens of a window.
    pub n_ctx: usize,
}

/// Reason that a sample cannot be read or drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// No sample lies beside the model, and no data was named to draw it from.
    #[error(
        "means need training tokens, and there is no sample of them beside the model ({}); name the data it was trained \
         on with --data", dir.display()
    )]
    Missing {
        /// The folder that is looked for.
        dir: PathBuf,
    },
    /// The training shards are shorter than one window.
    #[error("the training shards in {} are shorter than a window of {n_ctx} tokens", data.display())]
    TooShort {
        /// Folder of the data.
        data: PathBuf,
        /// Tokens of a window.
        n_ctx: usize,
    },
    /// The sample beside the model has no whole window.
    #[error("the sample in {} is shorter than a window of {n_ctx} tokens", dir.display())]
    Short {
        /// Folder of the sample.
        dir: PathBuf,
        /// Tokens of a window.
        n_ctx: usize,
    },
    /// A token of the sample is none of the model's.
    #[error("the sample in {} has token {token}, and the model a vocabulary of {vocab_size}", dir.display())]
    Vocabulary {
        /// Folder of the sample.
        dir: PathBuf,
        /// The token.
        token: u16,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// The sample beside the model is of other data than what was named.
    #[error(
        "the sample in {} is not of the data in {}, which is not used where there is a sample; leave out --data, or name \
         the data that the model was trained on", dir.display(), data.display()
    )]
    OtherData {
        /// Folder of the sample.
        dir: PathBuf,
        /// The data that was named.
        data: PathBuf,
    },
    /// The sample beside the model does not say which data it is of.
    #[error(
        "the sample in {} does not say which data it is of, so that {} cannot be compared with it; leave out --data, or \
         remove the sample to have it drawn anew", dir.display(), data.display()
    )]
    UnknownData {
        /// Folder of the sample.
        dir: PathBuf,
        /// The data that was named.
        data: PathBuf,
    },
    /// Shards cannot be read or written.
    #[error(transparent)]
    Shards(#[from] ShardError),
}

fn folder(model_dir: &Path) -> PathBuf {
    model_dir.join("sample")
}

/// Seed of the recipe of the run in a folder; 0 where nothing was trained.
pub(crate) fn seed_of_run(dir: &Path) -> u64 {
    let recipe = openwork_tensor::read_text(&dir.join("recipe.toml")).ok();
    recipe.and_then(|text| Recipe::parse(&text).ok()).map_or(0, |recipe| recipe.seed)
}

impl Sample {
    /// Draws a sample of windows of `n_ctx` tokens from the training shards in `data` and writes it beside the model; does
    /// nothing where one lies there already.
    ///
    /// # Errors
    /// When the data cannot be read, is shorter than a window or of another tokenizer, or the sample cannot be written.
    pub fn write(
        model_dir: &Path,
        data: &Path,
        tokenizer_sha256: &str,
        n_ctx: usize,
        seed: u64,
    ) -> Result<(), SampleError> {
        let dir = folder(model_dir);
        if dir.join("manifest.json").exists() {
            return Ok(());
        }
        let train = TokenShards::open(data.join("train"), tokenizer_sha256)?;
        train.verify_hashes()?;
        let n = SAMPLE_TOKENS.div_ceil(n_ctx).min((train.len() / n_ctx as u64) as usize);
        let too_short = || SampleError::TooShort { data: data.to_owned(), n_ctx };
        let mut windows = Windows::new(train.len(), n_ctx, seed).ok_or_else(too_short)?;
        let mut writer =
            ShardWriter::create(&dir, tokenizer_sha256, SAMPLE_TOKENS as u64 * 2)?.drawn_from(train.manifest());
        writer.push(&windows.read(&train, 0, n)?)?;
        writer.finish()?;
        Ok(())
    }

    /// Reads the sample beside a model of `vocab_size` tokens, in windows of `n_ctx`; draws it first if there is
    /// none and `data` is given, with the seed of the run that the folder holds, else 0. The contents are compared with the
    /// digests beside them.
    ///
    /// # Errors
    /// As [`Sample::write`], when there is neither a sample nor `data`, and when the sample is damaged, not of `data`, shorter
    /// than a window or of another vocabulary.
    pub fn open(
        model_dir: &Path,
        data: Option<&Path>,
        tokenizer_sha256: &str,
        [n_ctx, vocab_size]: [usize; 2],
    ) -> Result<Self, SampleError> {
        let dir = folder(model_dir);
        match data {
            Some(data) => Self::write(model_dir, data, tokenizer_sha256, n_ctx, seed_of_run(model_dir))?,
            None if !dir.join("manifest.json").exists() => return Err(SampleError::Missing { dir }),
            None => (),
        }
        let shards = TokenShards::open(&dir, tokenizer_sha256)?;
        shards.verify_hashes()?;
        if let Some(data) = data {
            check_source(&dir, &shards, data, tokenizer_sha256)?;
        }
        let mut tokens = vec![0; shards.len() as usize / n_ctx * n_ctx];
        shards.read(0, &mut tokens)?;
        if let Some(&token) = tokens.iter().find(|&&t| usize::from(t) >= vocab_size) {
            return Err(SampleError::Vocabulary { dir, token, vocab_size });
        }
        if tokens.is_empty() { Err(SampleError::Short { dir, n_ctx }) } else { Ok(Self { tokens, n_ctx }) }
    }

    /// The first windows of the sample, `n_tokens` at most.
    pub fn first(&self, n_tokens: usize) -> Self {
        let n = self.tokens.len().min(n_tokens / self.n_ctx * self.n_ctx);
        Self { tokens: self.tokens[..n].to_vec(), n_ctx: self.n_ctx }
    }

    /// Hash of the sample: that of the data that [`Means`] name.
    pub fn sha256(&self) -> String {
        data_sha256(&self.tokens, self.n_ctx)
    }

    /// Means of the nodes of `model` over the sample.
    ///
    /// # Errors
    /// When a value of the model is not finite on it.
    pub fn means(&self, model: &Model) -> Result<Means, NotFinite> {
        let means = Means::compute(model, &self.tokens, self.n_ctx);
        if !means.values().iter().all(|mean| mean.is_finite()) {
            for window in self.tokens.chunks_exact(self.n_ctx) {
                let tokens = Tokens::new(window, self.n_ctx);
                model.check_finite(tokens, &model.forward(tokens, None, &mut NoTap).logits)?;
            }
        }
        Ok(means)
    }

    /// Tokens that make up at least one in ten thousand of the sample, rising: those that a model can be asked to say.
    pub fn frequent_tokens(&self) -> Vec<u16> {
        let mut count = std::collections::BTreeMap::new();
        self.tokens.iter().for_each(|&t| *count.entry(t).or_insert(0_usize) += 1);
        count.into_iter().filter(|&(_, n)| n * 10_000 >= self.tokens.len()).map(|(t, _)| t).collect()
    }
}

/// Refuses a sample that is not of `data`: nobody names data that are not used.
fn check_source(dir: &Path, sample: &TokenShards, data: &Path, tokenizer_sha256: &str) -> Result<(), SampleError> {
    let train = TokenShards::open(data.join("train"), tokenizer_sha256)?;
    match &sample.manifest().drawn_from {
        Some(source) if *source == train.manifest().sha256() => Ok(()),
        Some(_) => Err(SampleError::OtherData { dir: dir.to_owned(), data: data.to_owned() }),
        None => Err(SampleError::UnknownData { dir: dir.to_owned(), data: data.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(dir: &Path, tokens: &[u16]) {
        let mut writer = ShardWriter::create(dir.join("train"), "tok", 8).unwrap();
        writer.push(tokens).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn data_that_is_not_used_is_an_error_unless_it_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let [model, one, copy, other] = ["model", "one", "copy", "other"].map(|name| dir.path().join(name));
        let tokens: Vec<u16> = (0..40).collect();
        data(&one, &tokens);
        data(&copy, &tokens);
        data(&other, &tokens[1..]);
        let open = |data: Option<&Path>| Sample::open(&model, data, "tok", [4, 1 << 16]);
        assert!(matches!(open(None), Err(SampleError::Missing { .. })));
        let drawn = open(Some(&one)).unwrap();
        assert_eq!(open(Some(&copy)).unwrap().tokens, drawn.tokens);
        assert_eq!(open(None).unwrap().tokens, drawn.tokens);
        assert!(matches!(open(Some(&other)), Err(SampleError::OtherData { .. })));
        assert!(matches!(open(Some(&dir.path().join("nowhere"))), Err(SampleError::Shards(_))));
        // As earlier versions wrote it.
        let manifest = model.join("sample/manifest.json");
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
        json.as_object_mut().unwrap().remove("drawn_from").unwrap();
        std::fs::write(&manifest, json.to_string()).unwrap();
        assert!(matches!(open(Some(&one)), Err(SampleError::UnknownData { .. })));
        assert_eq!(open(None).unwrap().tokens, drawn.tokens);
    }
}
