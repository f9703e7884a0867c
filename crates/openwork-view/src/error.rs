//! Errors of a view.

use std::path::PathBuf;

use openwork_circuit::{CircuitError, MeansError, MemberError, NoNode, NodeError};
use openwork_model::NotFinite;
use openwork_project::{LogError, OpenModelError, ProjectError, VerdictError};

/// Reason that something cannot be opened, or a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The model.
    #[error(transparent)]
    Model(#[from] OpenModelError),
    /// A tokenizer file.
    #[error(transparent)]
    Tokenizer(#[from] openwork_data::TokenizerError),
    /// A published file cannot be read.
    #[error(transparent)]
    Published(#[from] openwork_tensor::PtError),
    /// A published file is laid out otherwise.
    #[error("{} is no viz_data.pt that is known: {place} should be {expected}", path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// Place in it.
        place: String,
        /// The thing that should be there.
        expected: &'static str,
    },
    /// A published file does not hold the answer.
    #[error(
        "the published file holds the circuit, its contexts and the prompts of its task, and no model that would answer this"
    )]
    NotPublished,
    /// A circuit, its model or its task.
    #[error(transparent)]
    Project(Box<ProjectError>),
    /// A circuit file.
    #[error(transparent)]
    Circuit(Box<CircuitError>),
    /// The means beside the model.
    #[error(transparent)]
    Means(#[from] MeansError),
    /// The log of a run.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A verdict file.
    #[error(transparent)]
    Verdict(#[from] VerdictError),
    /// A folder cannot be listed, or a file cannot be written.
    #[error("cannot access {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// No model is at hand for a circuit.
    #[error("no model that was named has the circuit {}: name its model before it", path.display())]
    NoModelOf {
        /// The circuit file.
        path: PathBuf,
    },
    /// A question names a circuit, a model or a run by a number that none has.
    #[error("there is no {kind} {number}; there are {count}")]
    NoNumber {
        /// Circuit, model or run.
        kind: &'static str,
        /// The number.
        number: usize,
        /// Number of them.
        count: usize,
    },
    /// A text names no node.
    #[error(transparent)]
    NodeName(#[from] NodeError),
    /// The model has no such node.
    #[error(transparent)]
    NoNode(#[from] NoNode),
    /// A label does not fit the circuit.
    #[error(transparent)]
    Label(#[from] MemberError),
    /// A label is too long.
    #[error("{what} of a label has at most {most} characters, and this one {found}")]
    LongLabel {
        /// Name or note.
        what: &'static str,
        /// Most characters.
        most: usize,
        /// Its characters.
        found: usize,
    },
    /// The prompt has no tokens.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The prompt is longer than the model reads.
    #[error("the prompt has {tokens} tokens, and the model reads at most {n_ctx}")]
    LongPrompt {
        /// Its tokens.
        tokens: usize,
        /// Most tokens.
        n_ctx: usize,
    },
    /// A token is none of the model's.
    #[error("the model has tokens 0 to {last}, and no token {token}")]
    NoToken {
        /// The token.
        token: u16,
        /// Last token.
        last: usize,
    },
    /// The prompt has no such position.
    #[error("the prompt has positions 0 to {last}, and no position {position}")]
    NoPosition {
        /// The position.
        position: usize,
        /// The last one.
        last: usize,
    },
    /// A number of a question is outside its range.
    #[error("{field} is {found}, and can be {expected}")]
    Range {
        /// Field of the question.
        field: &'static str,
        /// Its value.
        found: f64,
        /// The range.
        expected: &'static str,
    },
    /// No means are at hand.
    #[error("there are no means beside the model, which ablations need: openwork verify takes them")]
    NoMeans,
    /// No sample of the training data is at hand.
    #[error("there is no sample of the training data beside the model, in which examples are looked for")]
    NoSample,
    /// The circuit has no verdict.
    #[error("the circuit has no verdict that is about it: openwork verify makes one")]
    NoVerdict,
    /// The verdict has no counter-example.
    #[error("the verdict has no counter-example on a pair")]
    NoCounterExample,
    /// The counter-example cannot be run.
    #[error(transparent)]
    Replay(#[from] openwork_verify::ReplayError),
    /// The circuit is too large for an ablation of every part.
    #[error(
        "the circuit has {parts} nodes and edges, and effects are measured of at most {most}: the carried values rank its edges"
    )]
    TooLarge {
        /// Nodes and edges.
        parts: usize,
        /// Most of them.
        most: usize,
    },
    /// A value of the model is not finite.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// The port cannot be listened on.
    #[error("cannot listen on port {port} of 127.0.0.1")]
    Listen {
        /// The port.
        port: u16,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The system gives no random bytes for the address.
    #[error("the system gives no random bytes for the address")]
    NoRandom,
}

impl From<ProjectError> for ViewError {
    fn from(error: ProjectError) -> Self {
        Self::Project(Box::new(error))
    }
}

impl From<CircuitError> for ViewError {
    fn from(error: CircuitError) -> Self {
        Self::Circuit(Box::new(error))
    }
}

impl ViewError {
    /// The error with its causes in one line.
    pub fn words(&self) -> String {
        let causes = std::iter::successors(std::error::Error::source(self), |e| e.source());
        causes.fold(self.to_string(), |words, cause| format!("{words}: {cause}"))
    }
}
