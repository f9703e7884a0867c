//! Claims about mechanisms: a file of statements that are tested on a model, as assertions are on a program.
//!
//! A claim is about pairs of a task: it holds on a pair or not, and it holds of the model where the lower end of the exact 95 %
//! interval of its share of pairs reaches the bar that the file states.

mod check;
mod draft;
mod parse;
mod share;

use openwork_circuit::{Calibration, Circuit, Node};
use serde::Serialize;

pub use check::{Unreadable, Untestable, World};
pub use draft::draft;
pub use share::Share;

use crate::ParseError;

/// A file of claims.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// The claims, in the order of the file.
    pub claims: Vec<Claim>,
}

/// A line of a file of claims.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Number of the line, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// The statement.
    pub statement: Statement,
}

/// Pairs that a claim is about, and its bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The task.
    pub task: String,
    /// Share of pairs of which it has to hold.
    pub bar: f64,
    /// Number of pairs.
    pub pairs: usize,
    /// Seed of the pairs.
    pub seed: u64,
}

/// Statement of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// A node is beyond a value at every token of a set, and nowhere else if `only`.
    FiresOn {
        /// The node.
        node: Node,
        /// The tokens.
        tokens: Vec<u16>,
        /// True if it does not fire at other tokens.
        only: bool,
        /// Direction of the value.
        beyond: Beyond,
        /// Pairs and bar.
        sample: Sample,
    },
    /// With the node at its mean, the right answer leads by less.
    NeededFor {
        /// The node.
        node: Node,
        /// Least loss of lead, in nats, mean over the prompts of a pair.
        by: f64,
        /// Pairs and bar.
        sample: Sample,
    },
    /// Without the weight, the right answer leads by less.
    EdgeCarries {
        /// Node that is read.
        from: Node,
        /// Node that reads it.
        to: Node,
        /// Least loss of lead, in nats, mean over the prompts of a pair.
        by: f64,
        /// Pairs and bar.
        sample: Sample,
    },
    /// With all other nodes at their means, the circuit prefers the answers of the model.
    AgreesWith {
        /// File of the circuit.
        circuit: String,
        /// Pairs and bar.
        sample: Sample,
    },
    /// The verdict on a circuit is at least so strong, and about this very model and circuit.
    Verdict {
        /// File of the circuit.
        circuit: String,
        /// Least strength.
        least: Strength,
        /// Hash of the model.
        model_sha256: String,
        /// Hash of the circuit's claim.
        circuit_sha256: String,
    },
}

/// Values beyond a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Beyond {
    /// Larger ones.
    Above(f32),
    /// Smaller ones.
    Below(f32),
}

impl Beyond {
    /// True if a value is beyond the bound.
    pub fn contains(self, value: f32) -> bool {
        match self {
            Self::Above(bound) => value > bound,
            Self::Below(bound) => value < bound,
        }
    }
}

/// Strength of a verdict that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Strength {
    /// Rank: weak, strong, certified.
    pub rank: Rank,
    /// True of a circuit that claims the contrast alone, or where such a one is enough.
    pub contrast: bool,
}

/// Rank of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Rank {
    /// Passes weakly.
    Weak,
    /// Passes strongly.
    Strong,
    /// Passes, with a certificate of all that is stated.
    Certified,
}

impl std::fmt::Display for Strength {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.rank {
            Rank::Weak => "WEAK",
            Rank::Strong => "STRONG",
            Rank::Certified => "CERTIFIED",
        })?;
        f.write_str(if self.contrast { " contrast" } else { "" })
    }
}

impl Strength {
    /// True if a verdict of this strength is at least `least`. A contrast is never enough where an answer is asked for.
    pub fn reaches(self, least: Self) -> bool {
        self.rank >= least.rank && (least.contrast || !self.contrast)
    }
}

/// A circuit that a claim names, as its caller reads it.
pub struct CircuitFacts {
    /// The circuit.
    pub circuit: Circuit,
    /// Calibration that was fitted with it.
    pub calibration: Calibration,
    /// Its task.
    pub task: String,
    /// Hash of its claim.
    pub circuit_sha256: String,
    /// Verdict on it; none where there is none.
    pub verdict: Option<VerdictFacts>,
}

/// Verdict on a circuit, and its subject.
#[derive(Clone, Debug)]
pub struct VerdictFacts {
    /// Strength; none where the circuit did not pass.
    pub strength: Option<Strength>,
    /// The verdict in words.
    pub words: String,
    /// Hash of the model that it is about.
    pub model_sha256: String,
    /// Hash of the circuit's claim that it is about.
    pub circuit_sha256: String,
}

/// A line that is no claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// The first line is not that of the format.
    #[error("the first line is {found:?}, expected {expected:?}")]
    Format {
        /// The line.
        found: String,
        /// The right one.
        expected: &'static str,
    },
    /// A line is no claim.
    #[error("line {line}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// The fault.
        source: ParseError,
    },
    /// The file holds no claim, and would hold of any model.
    #[error("the file holds no claim")]
    Empty,
}

/// Outcome of a claim.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Number of the line, from 1.
    pub line: usize,
    /// The claim.
    pub claim: String,
    /// Outcome.
    pub outcome: Outcome,
    /// Share of pairs on which it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// Bar that the lower end of the interval has to reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bar: Option<f64>,
    /// First pair on which it does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// Reason of the outcome in words.
    pub reason: String,
}

/// Outcome of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not: the whole interval is below the bar, or the verdict is none of this strength.
    Falls,
    /// The interval holds the bar: more pairs may decide.
    Undecided,
    /// It cannot be tested on this model.
    Untested,
}

/// A pair on which a claim does not hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Against {
    /// Number of the pair.
    pub pair: usize,
    /// The prompt, in quotes.
    pub prompt: String,
    /// Observation in words.
    pub observed: String,
}

/// First line of a file of claims.
pub(crate) const FORMAT: &str = "openwork-claims 1";

#[cfg(test)]
mod tests;
