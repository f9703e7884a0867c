//! The log of a run: `log.jsonl`, a line for every step.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, BufWriter, ErrorKind, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{MatrixReport, RunError, StepReport, error::io};

/// One line of `log.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// Step, from 0.
    pub step: u64,
    /// Mean training loss of the step's batch before its update, in nats per token.
    pub loss: f64,
    /// Mean validation loss after the step, on the steps that measure it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub validation_loss: Option<f64>,
    /// Learning rate.
    pub lr: f64,
    /// Nonzeros relative to the base model.
    pub pfrac: f64,
    /// RMS of the gradient before normalisation.
    pub grad_rms: f64,
    /// Nonzeros over all sparsified parameters.
    pub l0: usize,
    /// Mean over sparsified parameters of the fraction of their support that is new.
    pub churn: f64,
    /// Neurons dead on the whole batch.
    pub dead_neurons: usize,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Training speed of this step.
    pub tokens_per_second: f64,
    /// l0, density and churn by parameter.
    #[serde(default)]
    pub matrices: Vec<MatrixLine>,
    /// Parameters whose floor per unit could not hold: name and the lower floor used.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lowered_floors: Vec<(String, usize)>,
}

/// One parameter in a log line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MatrixLine {
    /// Name in the published state dict.
    pub name: String,
    /// Nonzero entries.
    pub l0: usize,
    /// `l0` over all entries.
    pub density: f64,
    /// New positions over `l0`.
    pub churn: f64,
    /// True if no zero weight could have entered ([`MatrixReport::closed`]).
    #[serde(default)]
    pub closed: bool,
}

impl LogLine {
    /// The line of a step that took `seconds`, after which `tokens` have been trained on.
    pub(crate) fn new(report: StepReport, validation_loss: Option<f64>, tokens: u64, seconds: f64) -> Self {
        let matrices = report.sparsity.matrices;
        Self {
            step: report.step,
            loss: report.loss_nats,
            validation_loss,
            lr: report.lr,
            pfrac: report.pfrac,
            grad_rms: report.grad_rms,
            l0: report.sparsity.l0,
            churn: matrices.iter().map(|m| m.churn).sum::<f64>() / matrices.len().max(1) as f64,
            dead_neurons: report.dead_neurons,
            tokens,
            // A clock may stand still for a step; infinity has no form in JSON.
            tokens_per_second: report.tokens as f64 / seconds.max(1e-9),
            matrices: matrices
                .into_iter()
                .map(|MatrixReport { name, l0, density, churn, closed }| MatrixLine {
                    name,
                    l0,
                    density,
                    churn,
                    closed,
                })
                .collect(),
            lowered_floors: report.sparsity.lowered_floors,
        }
    }
}

/// Opens the log for appending after dropping the lines of steps that the checkpoint does not contain
/// (and a last line that a crash cut short).
pub(crate) fn reopen(path: &Path, steps_done: u64) -> Result<BufWriter<File>, RunError> {
    let mut keep = Vec::new();
    match File::open(path) {
        Ok(file) => {
            for line in BufReader::new(file).lines().map_while(Result::ok) {
                match serde_json::from_str::<LogLine>(&line) {
                    Ok(parsed) if parsed.step < steps_done => keep.push(line),
                    _ => break,
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => (),
        Err(error) => return Err(io("open", path)(error)),
    }
    openwork_tensor::write_atomic(path, |w| keep.iter().try_for_each(|line| writeln!(w, "{line}")))
        .map_err(io("write", path))?;
    let file = OpenOptions::new().append(true).open(path).map_err(io("open", path))?;
    Ok(BufWriter::new(file))
}
