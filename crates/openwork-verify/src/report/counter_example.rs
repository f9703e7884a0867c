//! Counter-examples: a pair on which a circuit fails, with the intervention that shows it.

use openwork_circuit::{Calibration, NodeSet, NodeSpace};
use serde::{Deserialize, Serialize};

use crate::{
    checks::id::CheckId,
    run::scheme::{Scheme, Split},
};

/// A pair on which the circuit fails, with the intervention that shows it: enough to run it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CounterExample {
    /// The check that it speaks against.
    pub check: CheckId,
    /// Its split.
    pub split: Split,
    /// Its index there; none for a pair that was made by a search over inputs.
    pub pair: Option<usize>,
    /// The prompts and their answers.
    pub prompts: [Vec<u16>; 2],
    /// Answer (right for the first prompt) and alternative.
    pub candidates: (u16, u16),
    /// The intervention.
    pub intervention: Intervention,
    /// Scale and shift of the run's logit difference.
    pub calibration: Calibration,
    /// The model's `l_answer − l_alternative` after the two prompts.
    pub model: [f64; 2],
    /// The run's (calibrated).
    pub run: [f64; 2],
}

/// The change of the model that a counter-example shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Everything outside the circuit is ablated.
    OnlyCircuitKept,
    /// The circuit is ablated.
    OnlyCircuitAblated,
    /// Some nodes of the circuit are ablated.
    KnockOut,
    /// Nodes outside the circuit are ablated in part.
    Attack,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OnlyCircuitKept => "only the circuit is kept",
            Self::OnlyCircuitAblated => "only the circuit is ablated",
            Self::KnockOut => "nodes of the circuit are knocked out of the model",
            Self::Attack => "an adversary ablates nodes outside the circuit, in part",
        })
    }
}

/// An intervention in the model. Nodes have their printed names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervention {
    /// Kind of change.
    pub what: Change,
    /// Scheme of ablation.
    pub scheme: Scheme,
    /// Nodes that are kept whole, as runs in the order of the forward pass: the first node and how many from there on. All
    /// others are ablated, unless `partly` says in what part.
    pub kept: Vec<(String, usize)>,
    /// `(node, r)` of nodes of which a part r is kept.
    pub partly: Vec<(String, f32)>,
    /// The prompts whose values take the place of those of ablated nodes, under a resampling scheme.
    pub sources: Option<[Vec<u16>; 2]>,
    /// Constants of the ablated nodes, in the order of their numbers, under a scheme of constants other than the
    /// means over training data and zero.
    pub constants: Option<Vec<f32>>,
    /// Weights of the model that the run is without, by the printed names of the nodes that they go from and to: those that
    /// the circuit leaves out, where the run is of the circuit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut_edges: Vec<(String, String)>,
}

impl Intervention {
    /// Keeps `nodes` and ablates all others by their means.
    pub(crate) fn keeping(what: Change, nodes: &NodeSet) -> Self {
        let kept = runs(nodes.space(), nodes.numbers());
        let (partly, cut_edges) = (vec![], vec![]);
        Self { what, scheme: Scheme::MEAN, kept, partly, sources: None, constants: None, cut_edges }
    }
}

/// Nodes of rising numbers as runs: the first node and how many.
pub(crate) fn runs(space: &NodeSpace, numbers: impl Iterator<Item = usize>) -> Vec<(String, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for n in numbers {
        match runs.last_mut() {
            Some((first, length)) if *first + *length == n => *length += 1,
            _ => runs.push((n, 1)),
        }
    }
    runs.into_iter().map(|(first, length)| (space.node(first).to_string(), length)).collect()
}
