//! Errors of a run.

use std::path::{Path, PathBuf};

use openwork_cuda::GpuError;
use openwork_model::SaveError;
use openwork_tensor::ShardError;

use crate::CheckpointError;

/// Reason that a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A file of the run's folder.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The folder already holds a run.
    #[error("{} already holds a run; resume it, or choose another folder", dir.display())]
    Exists {
        /// The folder.
        dir: PathBuf,
    },
    /// The recipe in the folder is not that of the checkpoint.
    #[error(
        "{} was changed since the run began; put the recipe back, or remove the file: the run goes on with that of its checkpoint",
        path.display()
    )]
    RecipeChanged {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing to resume.
    #[error("{} holds no checkpoint to resume from; without --resume a run begins there", dir.display())]
    NoCheckpoint {
        /// The folder.
        dir: PathBuf,
    },
    /// Too little data.
    #[error("the {part} shards hold {tokens} tokens, fewer than one window of {n_ctx}")]
    TooShort {
        /// "training" or "validation".
        part: &'static str,
        /// Tokens there are.
        tokens: u64,
        /// Tokens a window needs.
        n_ctx: usize,
    },
    /// A token of the data is outside the model's vocabulary.
    #[error("the data has token {token} and the recipe a vocabulary of {vocab_size}")]
    Vocabulary {
        /// The token.
        token: u16,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// The loss is no longer a number, or far above that of guessing.
    #[error(
        "the loss at step {step} is {loss} nats (guessing gives {guessing:.2}): the run diverged. \
         The last good checkpoint is step {checkpoint}; lower optimizer.peak_lr or lengthen the warm-up"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// Its loss.
        loss: f64,
        /// ln(vocab_size).
        guessing: f64,
        /// Steps done at the last checkpoint.
        checkpoint: u64,
    },
    /// The data cannot be read. The last checkpoint is as good as ever.
    #[error(transparent)]
    Shards(#[from] ShardError),
    /// Another process works in the folder.
    #[error(transparent)]
    Lock(#[from] openwork_tensor::LockError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The finished model.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The GPU. The last checkpoint is as good as ever.
    #[error("training on the GPU stopped")]
    Gpu(#[from] GpuError),
}

pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RunError {
    move |source| RunError::Io { action, path: path.into(), source }
}
