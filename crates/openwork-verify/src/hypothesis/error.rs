//! Reasons that a hypothesis cannot be used, by what is wrong in it.

use std::path::PathBuf;

use crate::run::prompts::PromptError;

/// Reason that a hypothesis cannot be used. Every message about a file names it.
#[derive(Debug, thiserror::Error)]
pub enum HypothesisError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// It is not TOML, or has another form; the message shows the line.
    #[error("{file} is not a hypothesis: {reason}")]
    Format {
        /// The file.
        file: String,
        /// Message of the parser.
        reason: String,
    },
    /// It has no variables.
    #[error("{file} is not a hypothesis: it has no [[variable]]: one at least must say what the nodes carry")]
    NoVariables {
        /// The file.
        file: String,
    },
    /// A variable cannot be what it is said to be.
    #[error("{file}: variable {variable}: {reason}")]
    Variable {
        /// The file.
        file: String,
        /// Its name.
        variable: String,
        /// Cause.
        reason: VariableError,
    },
    /// The answer is wrong.
    #[error("{file}: answer: {reason}")]
    Answer {
        /// The file.
        file: String,
        /// Cause.
        reason: AnswerError,
    },
    /// An expression fails on a prompt.
    #[error("{file}: {what} has no value on the prompt {prompt}: {reason}")]
    Evaluation {
        /// The file.
        file: String,
        /// `variable NAME` or `answer`.
        what: String,
        /// Texts of the prompt's tokens.
        prompt: String,
        /// Cause.
        reason: EvaluationError,
    },
    /// Too few prompts.
    #[error("{found} prompts: interchange needs two at least")]
    TooFewPrompts {
        /// Prompts given.
        found: usize,
    },
    /// A prompt cannot be run.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The circuit is one of another model.
    #[error("the circuit belongs to a model of another shape")]
    OtherModel,
    /// The forward pass did not go where it must: no result would mean anything.
    #[error("the forward pass visited {visited} sites of nodes, expected {expected}")]
    Hooks {
        /// Sites that the hook saw.
        visited: usize,
        /// Sites there are.
        expected: usize,
    },
    /// Logits that are no numbers.
    #[error("the logits after prompt {prompt} are not finite")]
    NotFinite {
        /// Number of the prompt.
        prompt: usize,
    },
}

/// A text that is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an expression: {message}")]
pub struct ExpressionError {
    /// The text.
    pub text: String,
    /// Message of the parser.
    pub message: String,
}

/// A variable that cannot be what it is said to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// A name that expressions cannot use.
    #[error("its name must be of letters, digits and _, and not be tokens or the name of a function")]
    Name,
    /// Another variable has the name.
    #[error("there are two of this name")]
    Repeated,
    /// Its value is no expression.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    /// Its value uses a variable that is not above it.
    #[error(
        "its value uses {used}, which is not above it: a variable can use those above it only, so that none depends on \
         itself"
    )]
    NotAbove {
        /// The other variable.
        used: String,
    },
    /// Its value uses a name that stands for nothing.
    #[error("its value uses {used:?}; it may use {known} and functions")]
    Unknown {
        /// The name.
        used: String,
        /// Names that it may use.
        known: String,
    },
    /// No nodes.
    #[error("it has no nodes: name those that carry it, such as nodes = [\"0.attn.v[3]\"]")]
    NoNodes,
    /// A text that is no node.
    #[error("{message}")]
    NotANode {
        /// Message of the parser.
        message: String,
    },
    /// A node that the model does not have.
    #[error(transparent)]
    NoNode(#[from] openwork_circuit::NoNode),
    /// A node that is named twice.
    #[error("{node} is named by {owner} already: a node carries one variable")]
    Taken {
        /// The node.
        node: String,
        /// The variable that names it first.
        owner: String,
    },
}

/// An answer, or candidates, that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is no expression.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    /// It uses the prompt itself.
    #[error("it uses tokens: what it needs of the prompt must be a variable")]
    UsesTokens,
    /// It uses a name that stands for nothing.
    #[error("it uses {used:?}; there are {known}")]
    Unknown {
        /// The name.
        used: String,
        /// Variables there are.
        known: String,
    },
    /// Fewer than two candidates.
    #[error("candidates must be two texts at least, or be left out")]
    FewCandidates,
    /// A candidate that the model cannot say in one token.
    #[error("candidate {candidate:?} is not the text of one token of the model")]
    NotAToken {
        /// The candidate.
        candidate: String,
    },
    /// Two hypotheses with different candidates.
    #[error("its candidates are not those of {other:?}: their answers cannot be compared")]
    OtherCandidates {
        /// Name of the other hypothesis.
        other: String,
    },
}

/// An expression without a usable value on a prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// An entry that is not there.
    #[error("it asks for an entry that is not there")]
    Missing,
    /// Evaluation failed.
    #[error("{message}")]
    Failed {
        /// Message of the interpreter.
        message: String,
    },
    /// An answer that is none of the candidates.
    #[error("it is {text:?}, which is none of the candidates")]
    NotACandidate {
        /// The answer.
        text: String,
    },
    /// An answer that the model cannot say in one token.
    #[error("it is {text:?}, which is not the text of one token of the model")]
    NotAToken {
        /// The answer.
        text: String,
    },
}
