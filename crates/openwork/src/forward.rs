//! `openwork forward`: one forward (and backward) pass over given tokens, written under published names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use ndarray::ArrayD;
use openwork_model::{Matrix, Model, NoTap, Params, Record, Tap, Ties, Tokens};
use openwork_tensor::{Tensor, TensorFile};

use crate::{
    model,
    show::{count, say},
};

/// What `--help` adds.
const NAMES: &str = "\
Written are
  logits          [batch, time, vocab]
  loss            [1], the mean cross-entropy in nats, where FILE has `targets`
  act.HOOK        [batch, time, features], as values pass the hooks of the published code
  grad.PARAMETER  of the loss, for trained parameters under their published names

Where AbsTopK meets equal magnitudes this command chooses as PyTorch does, so that gradients agree
with the original implementation. All other commands choose by index.";

/// Arguments of the command.
#[derive(clap::Args)]
#[command(after_help = NAMES)]
pub struct Args {
    /// A model file, a finished run's folder or a published folder
    model: PathBuf,
    /// A safetensors file with `tokens` (and `targets`), [batch, time], I64 or U16
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// The safetensors file to write
    #[arg(long)]
    out: PathBuf,
    /// Also write activations
    #[arg(long)]
    activations: bool,
    /// Also write gradients of the loss against `targets`
    #[arg(long)]
    gradients: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut model = model::find(&args.model)?.model;
    model.ties = Ties::AsPyTorch;
    let file = TensorFile::open(&args.tokens)?;
    let batch = Batch::read(&file, &args.tokens, &model)?;
    ensure!(
        !args.gradients || batch.targets.is_some(),
        "--gradients needs `targets`, and {} has none",
        args.tokens.display()
    );
    let tensors = pass(&model, &batch, args.activations, args.gradients)?;
    openwork_tensor::write(&args.out, &tensors, &BTreeMap::new())?;
    say!("{}: {} tensors", args.out.display(), count(tensors.len() as u64));
    Ok(ExitCode::SUCCESS)
}

/// Tokens that the model can take.
struct Batch {
    tokens: Vec<u16>,
    targets: Option<Vec<u16>>,
    shape: [usize; 2],
}

impl Batch {
    fn read(file: &TensorFile, path: &Path, model: &Model) -> Result<Self> {
        let vocab = model.config.vocab_size;
        let ids = |name| ids(file, name, vocab).with_context(|| path.display().to_string());
        let (tokens, shape) = ids("tokens")?;
        let n_ctx = model.config.n_ctx;
        ensure!(shape[1] <= n_ctx, "sequences of {} tokens are longer than the model's {n_ctx}", shape[1]);
        let mut targets = None;
        if file.contains("targets") {
            let (ids, other) = ids("targets")?;
            ensure!(other == shape, "`targets` has shape {other:?} and `tokens` {shape:?}");
            targets = Some(ids);
        }
        Ok(Self { tokens, targets, shape })
    }
}

/// Token ids `[batch, time]`.
fn ids(file: &TensorFile, name: &str, vocab: usize) -> Result<(Vec<u16>, [usize; 2])> {
    let ids: ArrayD<i64> = match file.tensor(name)? {
        Tensor::I64(ids) => ids,
        Tensor::U16(ids) => ids.mapv(i64::from),
        other => bail!("`{name}` is {}, expected I64 or U16", other.dtype()),
    };
    let &[batch, time] = ids.shape() else { bail!("`{name}` has shape {:?}, expected [batch, time]", ids.shape()) };
    ensure!(batch > 0 && time > 0, "`{name}` has shape {:?} and holds nothing", ids.shape());
    let known = |&id: &i64| {
        let id = u16::try_from(id).ok().filter(|&id| usize::from(id) < vocab);
        id.with_context(|| format!("`{name}` holds a token outside the vocabulary of {vocab}"))
    };
    Ok((ids.iter().map(known).collect::<Result<_>>()?, [batch, time]))
}

/// Everything that was asked for, by name.
fn pass(model: &Model, batch: &Batch, activations: bool, gradients: bool) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    let tokens = Tokens::new(&batch.tokens, batch.shape[1]);
    let mut record = Record::default();
    let tap: &mut dyn Tap = if activations { &mut record } else { &mut NoTap };
    let mut pass = model.forward(tokens, None, tap);
    tensors.insert("logits".to_owned(), sequence_major(&pass.logits, batch.shape)?);
    for (site, value) in &record.values {
        tensors.insert(format!("act.{}", site.hook_name()), sequence_major(value, batch.shape)?);
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
            if model.is_trained(info.role) {
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
fn sequence_major(value: &Matrix, [batch, time]: [usize; 2]) -> Result<Tensor> {
    let rows = value.t().as_standard_layout().into_owned();
    Ok(rows.into_shape_with_order((batch, time, value.nrows()))?.into_dyn().into())
}
