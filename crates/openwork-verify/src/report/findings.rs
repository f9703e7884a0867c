//! Results of searches and knock-outs, curves, and the choices behind the numbers.

use serde::{Deserialize, Serialize};

use crate::{
    certificate::Certified,
    hypothesis::HypothesisReport,
    methods::{adversary::Attack, random_sets::Subset, scrub::Scrubbed},
    stats::intervals::Estimate,
};

/// Size of the circuit and of the model it is cut from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Nodes of the circuit.
    pub nodes: usize,
    /// Weights between them.
    pub edges: usize,
    /// Nodes of the model.
    pub model_nodes: usize,
    /// Nodes of the model that are active on the held-out pairs.
    pub active_nodes: usize,
    /// Active nodes of the circuit.
    pub active_in_circuit: usize,
}

/// One of the choices without which numbers cannot be compared (Miller et al. 2024 and four more).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declaration {
    /// The choice.
    pub what: String,
    /// The value chosen.
    pub value: String,
}

/// Kind of curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CurveKind {
    /// Nodes outside the circuit are restored in part.
    RestRestored,
    /// Nodes of the circuit take the values that they have in the model.
    ModelValues,
    /// The first nodes of a ranking are kept.
    NodesKept,
}

impl CurveKind {
    /// The quantity along the axis.
    pub fn axis(self) -> &'static str {
        match self {
            Self::RestRestored => "part of the rest restored",
            Self::ModelValues => "share of the circuit's nodes given the model's values",
            Self::NodesKept => "share of nodes kept",
        }
    }

    /// The quantity that is measured, with its unit.
    pub fn measure(self) -> &'static str {
        match self {
            Self::RestRestored | Self::ModelValues => "KL(model ‖ run) over the candidates, nats",
            Self::NodesKept => "faithfulness of the logit difference",
        }
    }

    /// Reading of its shape, for people.
    pub fn reading(self) -> &'static str {
        match self {
            Self::RestRestored => "It should fall steadily: where it rises, what is restored cancels something.",
            Self::ModelValues => {
                "Flat where the circuit computes what the model computes; as far as it falls, its nodes hold other values \
                 than in the model. What is left at 1 is what other nodes write."
            }
            Self::NodesKept => "The circuit's nodes come first, then others by their attribution.",
        }
    }
}

/// A measure along one quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Kind of curve.
    pub kind: CurveKind,
    /// Quantity along the axis, and measure.
    pub points: Vec<(f64, f64)>,
}

/// Results of searches and knock-outs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// CPR and CMD (Mueller et al. 2025): areas under faithfulness and under its distance from 1, over the share of
    /// nodes kept. Not clamped.
    pub cpr_cmd: Option<(f64, f64)>,
    /// Worth of each node of the circuit.
    pub nodes: Vec<NodeWorth>,
    /// Edges that can be cut without loss, `from → to`, and how many there are.
    pub needless_edges: Option<(Vec<String>, usize)>,
    /// Nodes of the smallest part of the circuit that a greedy search found to do as well.
    pub smallest_subset: Option<usize>,
    /// The loss without the circuit over the sum of what its nodes cost one by one: far above 1, they stand in for
    /// each other.
    pub joint_over_sum: Option<f64>,
    /// Effect of knock-outs on the circuit and the model, beside random sets of its size.
    pub incompleteness: Vec<Incompleteness>,
    /// Attacks on the nodes outside.
    pub attacks: Vec<Attack>,
    /// Circuits for the same task that share little with this one.
    pub rivals: Vec<Rival>,
    /// Nodes of the circuit without which nothing else in the model does the task.
    pub core: Option<usize>,
    /// Of inputs drawn like the held-out ones at most a share p have a KL(model ‖ circuit) over the vocabulary above the
    /// largest seen on those, at 95 % confidence: (p, nats).
    pub worst_input: Option<(f64, f64)>,
    /// Causal scrubbing.
    pub scrubbed: Option<Scrubbed>,
    /// Report on the hypothesis that came with the circuit.
    pub hypothesis: Option<HypothesisReport>,
    /// Certificates, each in a file of its own.
    pub certificates: Vec<Certified>,
}

/// Worth of one node of the circuit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeWorth {
    /// The node.
    pub node: String,
    /// Rise of the circuit's loss without it, nats.
    pub in_circuit: Estimate,
    /// p-value of "it is worth less than the margin", after Holm.
    pub p_value: f64,
    /// Rise of the model's loss (at its best shift) without it, nats.
    pub in_model: f64,
    /// Correlation of its values in the circuit's run with those in the model's, over tokens; none where it is
    /// constant in one of them.
    pub role: Option<f64>,
}

/// Distance of a set C and the model under the same knock-outs K of nodes of C: `L(M_{C∖K}) − L(M_{∖K})`, each at its best shift and
/// at most at the scale of its side without knock-outs, nats (Wang et al. 2023: incompleteness without the absolute value).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incompleteness {
    /// The set; a random one has active nodes as far as there are.
    pub on: Subset,
    /// Its nodes.
    pub nodes: usize,
    /// Knock-outs that were tried, that of no node included. Only rows that tried alike compare.
    pub tried: usize,
    /// Search that found the worst of them.
    pub how: String,
    /// Nodes that it knocks out.
    pub knocked_out: usize,
    /// The difference there, on held-out pairs; the worst was searched on selection pairs.
    pub gap: Estimate,
    /// The same with nothing knocked out, in the mean.
    pub gap_of_none: f64,
}

/// Another circuit for the same task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rival {
    /// Its nodes.
    pub nodes: usize,
    /// Those that it shares with the circuit.
    pub shared: usize,
    /// Its loss on held-out pairs, nats.
    pub loss: Estimate,
    /// Its agreement with the model there.
    pub agreement: Estimate,
}
