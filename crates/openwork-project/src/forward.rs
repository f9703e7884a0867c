//! One forward (and backward) pass over given tokens, as tensors under published names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ndarray::ArrayD;
use openwork_model::{Matrix, Model, NoTap, NotFinite, Params, Record, Tap, Tokens};
use openwork_tensor::{ReadError, Tensor, TensorFile};

/// Sequences that a model can take, and their targets.
pub struct TokenBatch {
    /// Tokens, sequence after sequence.
    tokens: Vec<u16>,
    /// Token that comes next at every place, where the file has them.
    targets: Option<Vec<u16>>,
    /// Sequences and their length.
    shape: [usize; 2],
}

/// Reason that a file holds no tokens for a model, or that a pass cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFileError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A tensor has another kind of number.
    #[error("{}: `{name}` is {found}, expected I64, I32 or U16", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: &'static str,
        /// Kind of its numbers.
        found: String,
    },
    /// A tensor has another shape.
    #[error("{}: `{name}` has shape {found:?}, expected {expected}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that is asked for.
        expected: String,
    },
    /// A tensor holds a token that the model does not know.
    #[error("{}: `{name}` holds a token outside the vocabulary of {vocab_size}", path.display())]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: &'static str,
        /// Vocabulary of the model.
        vocab_size: usize,
    },
    /// A tensor holds no token.
    #[error("{}: `{name}` has shape {found:?} and holds nothing", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: &'static str,
        /// Its shape.
        found: [usize; 2],
    },
    /// Sequences are longer than the model's context.
    #[error("{}: sequences of {found} tokens are longer than the model's {n_ctx}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Length of the sequences.
        found: usize,
        /// Context of the model.
        n_ctx: usize,
    },
    /// Gradients need targets.
    #[error("--gradients needs `targets`, and {} has none", path.display())]
    NoTargets {
        /// The file.
        path: PathBuf,
    },
}

impl TokenBatch {
    /// Reads `tokens` and, where they are there, `targets` from a safetensors file: `[batch, time]`, I64, I32 or U16.
    ///
    /// # Errors
    /// When a tensor has another shape or kind, a token is not in the vocabulary, or sequences are too long.
    pub fn read(path: &Path, model: &Model) -> Result<Self, TokenFileError> {
        let file = TensorFile::open(path)?;
        let vocab_size = model.config.vocab_size;
        let (tokens, shape) = ids(&file, path, "tokens", vocab_size)?;
        let n_ctx = model.config.n_ctx;
        if shape[1] > n_ctx {
            return Err(TokenFileError::TooLong { path: path.to_owned(), found: shape[1], n_ctx });
        }
        let mut targets = None;
        if file.contains("targets") {
            let (ids, found) = ids(&file, path, "targets", vocab_size)?;
            if found != shape {
                let (found, expected) = (found.to_vec(), format!("{shape:?}, as `tokens`"));
                return Err(TokenFileError::Shape { path: path.to_owned(), name: "targets", found, expected });
            }
            targets = Some(ids);
        }
        Ok(Self { tokens, targets, shape })
    }

    /// True if there are targets, which gradients need.
    pub fn has_targets(&self) -> bool {
        self.targets.is_some()
    }
}

/// Token ids `[batch, time]`.
fn ids(
    file: &TensorFile,
    path: &Path,
    name: &'static str,
    vocab_size: usize,
) -> Result<(Vec<u16>, [usize; 2]), TokenFileError> {
    let path = || path.to_owned();
    let ids: ArrayD<i64> = match file.tensor(name)? {
        Tensor::I64(ids) => ids,
        Tensor::I32(ids) => ids.mapv(i64::from),
        Tensor::U16(ids) => ids.mapv(i64::from),
        other => return Err(TokenFileError::Dtype { path: path(), name, found: other.dtype().to_string() }),
    };
    let &[batch, time] = ids.shape() else {
        let (found, expected) = (ids.shape().to_vec(), "[batch, time]".into());
        return Err(TokenFileError::Shape { path: path(), name, found, expected });
    };
    if batch == 0 || time == 0 {
        return Err(TokenFileError::Empty { path: path(), name, found: [batch, time] });
    }
    let known = |&id: &i64| {
        let id = u16::try_from(id).ok().filter(|&id| usize::from(id) < vocab_size);
        id.ok_or_else(|| TokenFileError::Vocabulary { path: path(), name, vocab_size })
    };
    Ok((ids.iter().map(known).collect::<Result<_, _>>()?, [batch, time]))
}

/// Tensors of one pass over a batch, by name: `logits` `[batch, time, vocab]`; `loss` `[1]`, the mean cross-entropy in nats,
/// where there are targets; `act.HOOK` `[batch, time, features]` if `activations`; `grad.PARAMETER` of the loss, for trained
/// parameters, if `gradients` and there are targets.
///
/// # Errors
/// When a value of the pass is not finite.
pub fn named_pass(
    model: &Model,
    batch: &TokenBatch,
    activations: bool,
    gradients: bool,
) -> Result<BTreeMap<String, Tensor>, NotFinite> {
    let mut tensors = BTreeMap::new();
    let tokens = Tokens::new(&batch.tokens, batch.shape[1]);
    let mut record = Record::default();
    let tap: &mut dyn Tap = if activations { &mut record } else { &mut NoTap };
    let mut pass = model.forward(tokens, None, tap);
    model.check_finite(tokens, &pass.logits)?;
    tensors.insert("logits".to_owned(), sequence_major(&pass.logits, batch.shape));
    for (site, value) in &record.values {
        tensors.insert(format!("act.{}", site.hook_name()), sequence_major(value, batch.shape));
    }
    let Some(targets) = &batch.targets else { return Ok(tensors) };
    let mut dlogits = std::mem::take(&mut pass.logits);
    let losses = openwork_ops::cross_entropy(&mut dlogits, targets, 1.0 / targets.len() as f32);
    let loss = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64;
    tensors.insert("loss".to_owned(), ndarray::arr1(&[loss as f32]).into());
    if gradients {
        let mut sums = model.zero_gradients();
        model.backward(&pass, &dlogits, &mut NoTap, Some(&mut sums));
        for (info, gradient) in Params::<()>::infos(&model.config).into_iter().zip(sums.into_values()) {
            if model.config.is_trained(info.role) {
                let gradient = gradient.dense();
                let value =
                    if info.n_dim == 1 { gradient.column(0).to_owned().into() } else { gradient.clone().into() };
                tensors.insert(format!("grad.{}", info.name), value);
            }
        }
    }
    Ok(tensors)
}

/// `[features, tokens]` as `[batch, time, features]`.
fn sequence_major(value: &Matrix, [batch, time]: [usize; 2]) -> Tensor {
    let rows = value.t().as_standard_layout().into_owned();
    let cube = rows.into_shape_with_order((batch, time, value.nrows()));
    cube.expect("a column a token").into_dyn().into()
}
