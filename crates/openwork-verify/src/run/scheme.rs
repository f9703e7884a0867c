//! Schemes of ablation: pairs that are run, nodes that are kept, and values that take the place of the others.

use serde::{Deserialize, Serialize};

/// Pairs of a run.
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

impl Split {
    /// Splits that differ in one respect from what the circuit was selected on.
    pub const ELSEWHERE: [Self; 3] = [Self::HeldOutTemplates, Self::Lengths, Self::Vocabulary];
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

/// Ablation value: the value that takes the place of a removed node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AblationValue {
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

/// Norms of an ablated run: computed from its own residual stream, or held at the scales of the plain model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norms {
    /// Recomputed.
    Free,
    /// Those of the plain model on the same tokens.
    Frozen,
}

/// Scheme of ablation: values of removed nodes, and norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scheme {
    /// Ablation value.
    pub value: AblationValue,
    /// Norms.
    pub norms: Norms,
}

impl AblationValue {
    /// All of them.
    pub const ALL: [AblationValue; 6] = [
        AblationValue::Mean,
        AblationValue::Zero,
        AblationValue::TaskMean,
        AblationValue::SameTemplate,
        AblationValue::AnyTemplate,
        AblationValue::Optimal,
    ];
}

impl Scheme {
    /// The published ablation: means over training data, free norms.
    pub const MEAN: Self = Self { value: AblationValue::Mean, norms: Norms::Free };
    /// Zeros, free norms.
    pub const ZERO: Self = Self { value: AblationValue::Zero, norms: Norms::Free };

    /// All of them, the published one first.
    pub fn all() -> impl Iterator<Item = Self> {
        AblationValue::ALL.into_iter().flat_map(|value| [Norms::Free, Norms::Frozen].map(|norms| Self { value, norms }))
    }
}

impl std::fmt::Display for AblationValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            AblationValue::Mean => "mean",
            AblationValue::Zero => "zero",
            AblationValue::TaskMean => "task mean",
            AblationValue::SameTemplate => "same template",
            AblationValue::AnyTemplate => "any template",
            AblationValue::Optimal => "optimal",
        })
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.value)?;
        if self.norms == Norms::Frozen { f.write_str(", frozen norms") } else { Ok(()) }
    }
}

/// Nodes that a run keeps.
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
