//! The study's records: one JSON object a line.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// Cell of the study.
#[derive(Clone, Debug, Deserialize)]
pub struct Cell {
    /// Name.
    pub cell: String,
    /// Kind: masks, grown-contrast, ..., randomDxN.
    pub kind: String,
    /// Task of the circuit.
    pub task: String,
    /// Seed of the model.
    pub seed: u64,
    /// Losses on text, of a localised model.
    #[serde(default)]
    pub text: Option<Text>,
    /// Outcome of the search, and of the judgement.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Outcome of a cell.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "outcome")]
pub enum Outcome {
    /// The search ended without a circuit.
    #[serde(rename = "not reached")]
    NotReached {
        /// Error of the search.
        message: String,
    },
    /// The search took longer than it may.
    #[serde(rename = "out of time")]
    OutOfTime,
    /// There is a circuit with a verdict.
    #[serde(rename = "judged")]
    Judged {
        /// Figures of the verdict.
        verdict: Box<Judged>,
    },
}

/// Verdict on a circuit.
#[derive(Clone, Debug, Deserialize)]
pub struct Judged {
    /// Word of the verdict as reports have it.
    pub verdict: String,
    /// Highest level whose required checks all passed.
    pub level_reached: u8,
    /// Size of the circuit.
    pub size: Size,
    /// Required checks that failed.
    pub failed_required: Vec<Value>,
    /// Agreement under the adversary of a quarter of the circuit's size.
    pub adversary: Option<Estimate>,
    /// The same after the best common shift.
    pub adversary_shifted: Option<Estimate>,
    /// Agreement under the adversary of the circuit's size.
    pub larger_adversary: Option<Estimate>,
    /// The same after the best common shift.
    pub larger_adversary_shifted: Option<Estimate>,
    /// Gap of the worst knock-out, nats.
    pub completeness: Option<Estimate>,
}

/// Size of a circuit.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Size {
    /// Nodes.
    pub nodes: usize,
    /// Edges.
    pub edges: usize,
}

/// Mean with its 95 % interval.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Estimate {
    /// Mean over pairs.
    pub mean: f64,
    /// Lower and upper end.
    pub ci95: (f64, f64),
}

/// Losses on text, nats per token.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Text {
    /// Loss of the localised model.
    pub localised: f64,
    /// Loss of the twin.
    pub twin: f64,
    /// KL divergence of the localised model from the original.
    pub kl: f64,
}

impl Text {
    /// Loss above the twin's.
    pub fn over_twin(&self) -> f64 {
        self.localised - self.twin
    }
}

impl Cell {
    /// True for random circuits.
    pub fn is_control(&self) -> bool {
        self.kind.starts_with("random")
    }

    /// Nodes and verdict in a few words.
    pub fn short(&self) -> String {
        match &self.outcome {
            Outcome::NotReached { .. } => "not reached".into(),
            Outcome::OutOfTime => "out of time".into(),
            Outcome::Judged { verdict } => format!("{} nodes {}", verdict.size.nodes, verdict.word()),
        }
    }
}

impl Judged {
    /// True for a pass as either claim.
    pub fn passed(&self) -> bool {
        matches!(&self.verdict[..], "weak" | "strong" | "certified" | "contrast_weak" | "contrast_strong")
    }

    /// True for a pass that is not weak.
    pub fn is_strong(&self) -> bool {
        self.passed() && !self.verdict.ends_with("weak")
    }

    /// The verdict in the words of reports: `STRONG (contrast)`.
    pub fn word(&self) -> String {
        match self.verdict.strip_prefix("contrast_") {
            Some(word) => format!("{} (contrast)", word.to_uppercase()),
            None => self.verdict.to_uppercase(),
        }
    }
}

/// Cells with a circuit or without, in the order in which they ended. Records of models are left out; a last line that a kill cut off
/// is none.
///
/// # Errors
/// When the file cannot be read, or a whole line is no record.
pub fn read(path: &Path) -> Result<Vec<Cell>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut cells = vec![];
    for (number, line) in whole.lines().enumerate() {
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), number + 1))?;
        if value["kind"] != "model" {
            let cell = serde_json::from_value(value);
            cells.push(cell.with_context(|| format!("{}, line {}", path.display(), number + 1))?);
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_every_outcome_are_read_and_cut_lines_are_not() {
        let estimate = r#"{"mean":0.9,"ci95":[0.8,1.0],"n":10}"#;
        let verdict = format!(
            r#"{{"verdict":"contrast_strong","level_reached":5,"size":{{"nodes":7,"edges":3,"model_nodes":9}},"failed_required":[],
               "adversary":{estimate},"adversary_shifted":null,"larger_adversary":null,"larger_adversary_shifted":null,"completeness":null}}"#
        )
        .replace('\n', " ");
        let lines = [
            r#"{"cell":"model-0","kind":"model","seed":0,"scores":{}}"#.to_owned(),
            r#"{"cell":"a","kind":"masks","task":"t","seed":0,"outcome":"not reached","message":"no"}"#.to_owned(),
            r#"{"cell":"b","kind":"localised","task":"t","seed":1,"outcome":"out of time"}"#.to_owned(),
            format!(r#"{{"cell":"c","kind":"random1x2","task":"t","seed":2,"outcome":"judged","verdict":{verdict}}}"#),
            r#"{"cell":"d","kind""#.to_owned(),
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        std::fs::write(&path, lines.join("\n")).unwrap();
        let cells = read(&path).unwrap();
        let short: Vec<_> = cells.iter().map(Cell::short).collect();
        assert_eq!(short, ["not reached", "out of time", "7 nodes STRONG (contrast)"]);
        assert!(cells[2].is_control());
        std::fs::write(&path, lines[..2].join("\n") + "\nnot JSON\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().ends_with("line 3"));
    }
}
