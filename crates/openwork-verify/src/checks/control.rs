//! Controls: searches for circuits where none must be found.

use serde::{Deserialize, Serialize};

/// A place where the search for circuits must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlKind {
    /// The same prompts with answers that have nothing to do with the model's.
    NonsenseLabels,
    /// The same task in a model of random weights with the same number of nonzeros.
    RandomWeights,
}

impl ControlKind {
    /// Every kind: a report that is to pass strongly has a control of each.
    pub const ALL: [Self; 2] = [Self::NonsenseLabels, Self::RandomWeights];
}

impl std::fmt::Display for ControlKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ControlKind::NonsenseLabels => "nonsense labels",
            ControlKind::RandomWeights => "random weights",
        })
    }
}

/// The best that the verifier's search achieved on a control.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Kind of control.
    pub kind: ControlKind,
    /// True if it reached the target loss.
    pub reached_target: bool,
    /// Its loss, nats per sequence.
    pub loss: f64,
    /// Its nodes.
    pub nodes: usize,
    /// Weights between them.
    pub edges: usize,
}

/// Outcomes of the control searches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Controls<'a> {
    /// The searches that were done.
    pub done: &'a [Control],
    /// Controls whose search was begun and cut short for want of time: they say nothing, and the report names them.
    pub cut_short: &'a [ControlKind],
}
