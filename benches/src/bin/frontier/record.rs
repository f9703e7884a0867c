//! The study's records: one JSON object a line.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// Record of a cell, by its kind.
pub enum Record {
    /// Trained model.
    Model(Model),
    /// Search for a circuit.
    Search(Search),
    /// Judged circuit.
    Verdict(Box<Verdict>),
}

/// Trained model.
#[derive(Clone, Debug, Deserialize)]
pub struct Model {
    /// Name of its shape, `sparse-128-0.5` or `dense-32`.
    pub model: String,
    /// Channels.
    pub width: u64,
    /// Nonzeros relative to a dense model of the base width; none of a dense model.
    pub pfrac: Option<f64>,
    /// Tokens trained on.
    pub tokens: u64,
    /// Validation loss at the end, nats per token.
    pub validation_nats: f64,
    /// Nonzeros of the weight matrices.
    pub nonzeros: u64,
    /// Losses on the tasks.
    pub scores: Scores,
}

/// Losses of a model on the tasks.
#[derive(Clone, Debug, Deserialize)]
pub struct Scores {
    /// One entry a task.
    pub tasks: Vec<Score>,
}

/// Loss of a model on a task.
#[derive(Clone, Debug, Deserialize)]
pub struct Score {
    /// Task.
    pub task: String,
    /// On fresh pairs; none where the tokenizer cuts an answer.
    pub fresh: Option<Loss>,
}

/// Loss in nats per sequence.
#[derive(Clone, Debug, Deserialize)]
pub struct Loss {
    /// The loss.
    pub loss_nats: f64,
}

/// Search for a circuit.
#[derive(Clone, Debug, Deserialize)]
pub struct Search {
    /// Method: `masks`, or the score of a baseline.
    pub kind: String,
    /// Name of the model's shape.
    pub model: String,
    /// Task.
    pub task: String,
    /// Loss to reach, nats per sequence.
    pub target: String,
    /// Edges of the circuit; none where the target was not reached in time.
    #[serde(default)]
    pub edges: Option<usize>,
}

/// Judged circuit.
#[derive(Clone, Debug, Deserialize)]
pub struct Verdict {
    /// Name of the model's shape.
    pub model: String,
    /// Task.
    pub task: String,
    /// Figures of the verdict.
    pub verdict: Value,
    /// Searches on nonsense labels and on random weights.
    pub controls: Vec<Control>,
}

/// Search in which there is nothing to find.
#[derive(Clone, Debug, Deserialize)]
pub struct Control {
    /// `nonsense_labels` or `random_weights`.
    pub kind: String,
    /// True if the search reached the target.
    pub reached_target: bool,
    /// Edges of what it found.
    pub edges: usize,
}

/// Records in the order in which the cells ended. A last line that a kill cut off is none.
///
/// # Errors
/// When the file cannot be read, or a whole line is no record.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let record =
        |(number, line): (usize, &str)| parse(line).with_context(|| format!("{}, line {}", path.display(), number + 1));
    whole.lines().enumerate().map(record).collect()
}

fn parse(line: &str) -> Result<Record> {
    let value: Value = serde_json::from_str(line)?;
    Ok(match value["kind"].as_str() {
        Some("model") => Record::Model(serde_json::from_value(value)?),
        Some("verdict") => Record::Verdict(serde_json::from_value(value)?),
        _ => Record::Search(serde_json::from_value(value)?),
    })
}
