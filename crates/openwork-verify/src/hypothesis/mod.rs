//! Hypotheses about what nodes *mean*, and tests that try to refute them.
//!
//! A researcher writes a small TOML file: high-level variables, how each is computed from the prompt, which nodes carry
//! it, and how the answer follows from the variables.
//!
//! ```toml
//! name = "The sign of the cue"
//! answer = "'yes' if sign == '+' else 'no'"
//! candidates = ["yes", "no"]          # optional: the answer is the likeliest of these, else of all tokens
//!
//! [[variable]]
//! name = "sign"
//! value = "last_of(tokens, ['+', '-'])"
//! nodes = ["0.attn.v[3]", "0.mlp.post_act[7]"]
//! at = "all"                          # all tokens, or the "last" one only
//! ```
//!
//! A variable can use `tokens` (the texts of the prompt's tokens) and the variables above it; the answer can use
//! variables. See [`examine`] for what is measured, and [`compare`] for two hypotheses side by side.
//!
//! Sources: Geiger et al. 2021 and 2023 (interchange interventions, causal abstraction); Gupta et al. 2024 (strict
//! interchange intervention training: nodes that carry nothing must change nothing).

mod compare;
mod error;
mod examine;
mod file;
mod intervene;
mod model;
mod report;

use openwork_circuit::Node;
use serde::{Deserialize, Serialize};

pub use compare::{Comparison, Disagreement, compare};
pub use error::{AnswerError, EvaluationError, ExpressionError, HypothesisError, VariableError};
pub use examine::examine;
pub(crate) use report::list;
pub use report::{
    HypothesisCheck, HypothesisCheckId, HypothesisExample, HypothesisReport, HypothesisSettings, HypothesisVerdict,
};

/// At which tokens a variable's nodes carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tokens {
    /// The last token of the prompt.
    Last,
    /// All tokens.
    All,
}

/// A high-level variable and the nodes that carry it.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Name.
    pub name: String,
    /// Expression over `tokens` and the variables above it.
    pub value: String,
    /// The nodes: all that carry it, one after the other included. No node carries two variables.
    pub nodes: Vec<Node>,
    /// At which tokens.
    pub at: Tokens,
}

/// A hypothesis, checked against the shape of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    file: String,
    /// Name.
    pub name: String,
    /// Description, for people.
    pub description: String,
    /// Variables, each after those that it uses.
    pub variables: Vec<Variable>,
    /// Expression over the variables: the text of the token that comes next.
    pub answer: String,
    /// Texts among which the model's likeliest token is its answer; all tokens, if none.
    pub candidates: Option<Vec<String>>,
}

/// Prompts as tokens, and what tokens are called.
#[derive(Clone, Copy)]
pub struct Prompts<'a> {
    /// Tokens of every prompt. Those longer than the context are cut on the left.
    pub tokens: &'a [Vec<u16>],
    /// Text of a token.
    pub text: &'a dyn Fn(u16) -> String,
}
