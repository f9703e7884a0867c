//! Schemes of ablation: which pairs are run, which nodes are kept, and which values take the place of the others.

use serde::{Deserialize, Serialize};

/// Which pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Fresh pairs of the templates the circuit was selected on.
    HeldOut,
    /// Pairs of other templates.
    HeldOutTemplates,
    /// Pairs longer (or shorter) than nearly all that the circuit was selected on.
    Lengths,
    /// Pairs of words that the circuit was not selected on.
    Vocabulary,
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Split::HeldOut => "held-out pairs",
            Split::HeldOutTemplates => "held-out templates",
            Split::Lengths => "other lengths",
            Split::Vocabulary => "other words",
        })
    }
}

/// What a removed node's value is replaced by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// Its mean over training data.
    Mean,
    /// Zero.
    Zero,
    /// Its mean over the pairs the circuit was selected on.
    TaskMean,
    /// Its value on another prompt of the same template; one prompt for all nodes, aligned at the last token.
    SameTemplate,
    /// The same with a prompt of any template.
    AnyTemplate,
    /// The constant under which the circuit does the task best, learned on the selection pairs (Li and Janson 2024):
    /// the most permissive.
    Optimal,
}

/// Whether norms are computed from the ablated residual stream or divide by what they divide by in the plain model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norms {
    /// Recomputed.
    Free,
    /// Those of the plain model on the same tokens.
    Frozen,
}

/// How nodes are ablated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scheme {
    /// What they are replaced by.
    pub fill: Fill,
    /// What the norms do.
    pub norms: Norms,
}

impl Fill {
    /// All of them.
    pub const ALL: [Fill; 6] =
        [Fill::Mean, Fill::Zero, Fill::TaskMean, Fill::SameTemplate, Fill::AnyTemplate, Fill::Optimal];
}

impl Scheme {
    /// The published ablation: means over training data, free norms.
    pub const MEAN: Self = Self { fill: Fill::Mean, norms: Norms::Free };
    /// Zeros, free norms.
    pub const ZERO: Self = Self { fill: Fill::Zero, norms: Norms::Free };

    /// All of them, the published one first.
    pub fn all() -> impl Iterator<Item = Self> {
        Fill::ALL.into_iter().flat_map(|fill| [Norms::Free, Norms::Frozen].map(|norms| Self { fill, norms }))
    }
}

impl std::fmt::Display for Fill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fill::Mean => "mean",
            Fill::Zero => "zero",
            Fill::TaskMean => "task mean",
            Fill::SameTemplate => "same template",
            Fill::AnyTemplate => "any template",
            Fill::Optimal => "optimal",
        })
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.fill)?;
        if self.norms == Norms::Frozen { f.write_str(", frozen norms") } else { Ok(()) }
    }
}

/// Which nodes a run keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// All: the model.
    Model,
    /// The circuit.
    Circuit,
    /// None.
    Nothing,
    /// All but the circuit.
    AllButCircuit,
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kept::Model => "model",
            Kept::Circuit => "circuit",
            Kept::Nothing => "nothing kept",
            Kept::AllButCircuit => "all but the circuit",
        })
    }
}
