//! Backtraces: the causes of a logit, a difference of logits or a node's value in a run.

use openwork_debug::{Backtrace, BacktraceOptions, Hold, Quantity, Target, Without};
use serde::{Deserialize, Serialize};

use crate::{
    View, ViewError,
    ask::{
        Token,
        run::{EditAsked, Prompt},
    },
};

/// Value whose causes are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// The logit of a token.
    Logit(u16),
    /// The logit of the first token less that of the second.
    Lead([u16; 2]),
    /// A node.
    Node(String),
}

/// Ablation of the causes whose effects are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// None: parts of the sum alone.
    None,
    /// The run is repeated with each cause at zero.
    Zero,
    /// The run is repeated with each cause at its mean.
    Mean,
}

/// Question about the causes of a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BacktraceQuestion {
    /// The circuit whose model runs.
    pub circuit: usize,
    /// The prompt.
    pub prompt: Prompt,
    /// Edits.
    pub edits: Vec<EditAsked>,
    /// The value.
    pub of: Of,
    /// Position of it.
    pub position: usize,
    /// Steps that causes are opened, 1 to 6.
    pub depth: usize,
    /// Least share of a cause that is shown, 0 to 1.
    pub share: f64,
    /// Ablation whose effects are measured.
    pub effect: Effect,
}

/// Causes of a value.
#[derive(Clone, Debug, Serialize)]
pub struct BacktraceAnswer {
    /// The value in words.
    pub title: String,
    /// Tokens of the prompt.
    pub tokens: Vec<Token>,
    /// The tree.
    pub backtrace: Backtrace,
}

impl View {
    /// Opens a value of a run into its causes, which add up to it.
    ///
    /// # Errors
    /// As [`View::run`], and when the value is none of the run or a number is outside its range.
    pub fn backtrace(&self, question: &BacktraceQuestion) -> Result<BacktraceAnswer, ViewError> {
        let (_, opened) = self.circuit(question.circuit)?;
        let tokens = opened.tokens_of(&question.prompt)?;
        let &BacktraceQuestion { position, depth, share, effect, .. } = question;
        if position >= tokens.len() {
            return Err(ViewError::NoPosition { position, last: tokens.len() - 1 });
        }
        if !(1..=6).contains(&depth) {
            return Err(ViewError::Range { field: "depth", found: depth as f64, expected: "1 to 6" });
        }
        if !(0.0..=1.0).contains(&share) {
            return Err(ViewError::Range { field: "share", found: share, expected: "0 to 1" });
        }
        let last = opened.open.model.config.vocab_size - 1;
        let known = |token: u16| match usize::from(token) <= last {
            true => Ok(token),
            false => Err(ViewError::NoToken { token, last }),
        };
        let text = |token: u16| openwork_tensor::quoted(&opened.tokenizer.decode(&[token]));
        let (quantity, title) = match &question.of {
            Of::Logit(token) => (Quantity::Logit(known(*token)?), format!("logit of {}", text(*token))),
            Of::Lead([first, second]) => {
                let quantity = Quantity::Lead(known(*first)?, known(*second)?);
                (quantity, format!("logit of {} less that of {}", text(*first), text(*second)))
            }
            Of::Node(name) => (Quantity::Node(opened.parse_node(name)?), name.clone()),
        };
        let without = match effect {
            Effect::None => None,
            Effect::Zero => Some(Without::Zero),
            Effect::Mean if opened.means.is_none() => return Err(ViewError::NoMeans),
            Effect::Mean => Some(Without::Mean),
        };
        let changes = opened.changes(&question.edits, tokens.len())?;
        let trace = opened.trace(&tokens, &changes)?;
        let options = BacktraceOptions { depth, share, hold: Hold::Held, without };
        let means = opened.means.as_ref().map(openwork_circuit::Means::values);
        let target = Target { quantity, position };
        let backtrace = Backtrace::new(&opened.open.model, &trace, &changes, target, &options, means);
        Ok(BacktraceAnswer {
            title: format!("{title} after token {position}"),
            tokens: opened.texts(&tokens),
            backtrace,
        })
    }
}
