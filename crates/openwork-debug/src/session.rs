//! Session: a model, prompts, and an execution that stops, is edited and goes on.

mod edits;
mod run;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use openwork_circuit::{Circuit, Node, NodeSpace};
use openwork_model::{Matrix, Model, Tokens};
use openwork_tasks::{Side, Split, TaskError};

use crate::{
    Change, Contexts, Index, Place, Point, Quantity, Target, Trace, Vocabulary,
    diff::align,
    edit::{Edit, EditKind},
    language::{At, BreakAt, Command, Expression, Names, ParseError, PromptSource, Reference},
};

/// Seed of the pairs that prompts are taken from.
pub const PAIR_SEED: u64 = 0;

/// A circuit of the model, as the session shows it.
pub struct SessionCircuit {
    /// Name, such as that of its file.
    pub name: String,
    /// Its task.
    pub task: String,
    /// The circuit, with labels.
    pub circuit: Circuit,
    /// Words of the verdict on it; none where it has none.
    pub verdict: Option<String>,
}

/// A prompt of a session.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Its name.
    pub name: String,
    /// Its tokens.
    pub tokens: Vec<u16>,
    /// Answer and alternative, where it is of a contrast pair: the right token first.
    pub answers: Option<[u16; 2]>,
}

/// A breakpoint.
pub(crate) struct Breakpoint {
    pub number: usize,
    pub at: BreakAt,
    pub text: String,
}

/// A watched expression.
pub(crate) struct Watched {
    pub number: usize,
    pub expression: Expression,
    /// Value that it had last, in this run or an earlier one.
    pub last: Option<f64>,
}

/// Reason that a command cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The line is no command.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// There is no prompt yet.
    #[error("there is no prompt: `prompt NAME \"text\"` makes one")]
    NoPrompt,
    /// No prompt has this name.
    #[error("there is no prompt {name:?}")]
    UnknownPrompt {
        /// The name.
        name: String,
    },
    /// A prompt has no tokens.
    #[error("prompt {name:?} has no tokens")]
    Empty {
        /// Its name.
        name: String,
    },
    /// A prompt is longer than the model's context.
    #[error("prompt {name:?} has {tokens} tokens, and the model reads at most {n_ctx}")]
    TooLong {
        /// Its name.
        name: String,
        /// Its tokens.
        tokens: usize,
        /// The context.
        n_ctx: usize,
    },
    /// A prompt has no such position.
    #[error("prompt {name:?} has positions 0 to {last}, and none {at}")]
    NoPosition {
        /// The prompt.
        name: String,
        /// Its last position.
        last: usize,
        /// The position that was named.
        at: At,
    },
    /// The value of another prompt is asked for at a position that has no counterpart there.
    #[error("position {position} has no counterpart in prompt {name:?}: name the position there")]
    NoCounterpart {
        /// The other prompt.
        name: String,
        /// The position.
        position: usize,
    },
    /// No data are at hand.
    #[error(
        "there are no data to look in: a sample of the training data lies beside a model once circuits were looked for"
    )]
    NoContexts,
    /// No means are at hand.
    #[error("there are no means of the model's nodes at hand")]
    NoMeans,
    /// A site has no means.
    #[error("{node} has no mean: means are of the nodes of circuits; name a number, zero, or of and a prompt")]
    NoMean {
        /// The node.
        node: Node,
    },
    /// No breakpoint or watch has this number.
    #[error("there is no {kind} {number}")]
    NoNumber {
        /// Breakpoint or watch.
        kind: &'static str,
        /// The number.
        number: usize,
    },
    /// No edit is in force.
    #[error("no edit is in force")]
    NothingToUndo,
    /// A prompt of a task cannot be drawn.
    #[error(transparent)]
    Pairs(#[from] TaskError),
    /// A prompt is compared with itself.
    #[error("prompt {name:?} is compared with itself")]
    Itself {
        /// Its name.
        name: String,
    },
    /// An explanation cannot be scored.
    #[error(transparent)]
    Explain(#[from] crate::ExplainError),
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] crate::IndexError),
    /// A value of the model is not finite.
    #[error(transparent)]
    NotFinite(#[from] openwork_model::NotFinite),
}

/// A debugging session. Edits of nodes belong to the prompt that they are made on, edits of weights to the model; a run follows from
/// the model, its prompt and the edits in force alone.
pub struct Session {
    pub(crate) model: Model,
    pub(crate) model_sha256: String,
    pub(crate) vocabulary: Box<dyn Vocabulary + Sync>,
    pub(crate) means: Option<Vec<f32>>,
    pub(crate) circuits: Vec<SessionCircuit>,
    pub(crate) contexts: Option<Contexts>,
    index: Option<Index>,
    pub(crate) prompts: Vec<Prompt>,
    names: Vec<String>,
    pub(crate) current: Option<usize>,
    /// Number of the point in the order of the run; none before the first.
    pub(crate) cursor: Option<usize>,
    pub(crate) breakpoints: Vec<Breakpoint>,
    pub(crate) watches: Vec<Watched>,
    next_number: usize,
    pub(crate) edits: Vec<Edit>,
    pub(crate) places: Vec<Place>,
    space: NodeSpace,
    traces: RefCell<BTreeMap<String, Rc<Trace>>>,
}

impl Session {
    /// A session of a model with this hash. `means` are ablation values by node number.
    pub fn new(
        model: Model,
        model_sha256: String,
        vocabulary: Box<dyn Vocabulary + Sync>,
        means: Option<Vec<f32>>,
    ) -> Self {
        let (places, space) = (Place::all(&model.config), NodeSpace::new(&model.config));
        Self {
            model,
            model_sha256,
            vocabulary,
            means,
            circuits: vec![],
            contexts: None,
            index: None,
            prompts: vec![],
            names: vec![],
            current: None,
            cursor: None,
            breakpoints: vec![],
            watches: vec![],
            next_number: 1,
            edits: vec![],
            places,
            space,
            traces: RefCell::default(),
        }
    }

    /// Adds a circuit, whose labels are shown with its nodes.
    pub fn add_circuit(&mut self, circuit: SessionCircuit) {
        self.circuits.push(circuit);
    }

    /// Gives the session data, in which [`Command::Where`] looks.
    pub fn set_contexts(&mut self, contexts: Contexts) {
        self.contexts = Some(contexts);
    }

    /// Audits the model, with the edits of weights in force, on the session's data.
    ///
    /// # Errors
    /// When there are no data, or too few.
    pub fn audit(
        &self,
        options: crate::AuditOptions,
        after: &mut dyn FnMut(usize, &crate::Audited) -> std::ops::ControlFlow<()>,
    ) -> Result<crate::Audit, SessionError> {
        let contexts = self.contexts.as_ref().ok_or(SessionError::NoContexts)?;
        Ok(crate::Audit::new(&self.model, &*self.vocabulary, contexts, options, after)?)
    }

    /// Gives the session an index of activations of its model, in which [`Command::Where`] looks that names no number of windows.
    pub fn set_index(&mut self, index: Index) {
        self.index = Some(index);
    }

    /// The index, while no weight is edited: with another weight the model is not the one that it is of.
    pub(crate) fn index(&self) -> Option<&Index> {
        let edited = self.edits.iter().any(|edit| matches!(edit.kind, EditKind::Weight { .. }));
        self.index.as_ref().filter(|_| !edited)
    }

    /// Circuits that were added.
    pub fn circuits(&self) -> &[SessionCircuit] {
        &self.circuits
    }

    /// Ablation values by node number, where they are at hand.
    pub fn means(&self) -> Option<&[f32]> {
        self.means.as_deref()
    }

    /// The model, with the edits of weights in force.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Names that a line may use.
    pub fn names(&self) -> Names<'_> {
        Names { config: &self.model.config, vocabulary: &*self.vocabulary, prompts: &self.names }
    }

    /// Reads a line of commands.
    ///
    /// # Errors
    /// As [`Command::parse`].
    pub fn parse(&self, line: &str) -> Result<Option<Command>, ParseError> {
        Command::parse(line, self.names())
    }

    /// Makes a prompt of this name, in place of one that has it, and goes to it. Edits of an old one go with it.
    pub(crate) fn add_prompt(&mut self, name: &str, source: &PromptSource) -> Result<(), SessionError> {
        let (tokens, answers) = match source {
            PromptSource::Text(text) => (self.vocabulary.encode(text), None),
            PromptSource::Tokens(tokens) => (tokens.clone(), None),
            PromptSource::Pair { task, index, side } => {
                let task = openwork_tasks::find(task).expect("the parser knows the tasks");
                let encode = |text: &str| self.vocabulary.encode(text);
                let pair = task.pairs(&encode, Split::Validation, index + 1, PAIR_SEED)?.remove(*index);
                let other = if *side == Side::Positive { Side::Negative } else { Side::Positive };
                (pair.prompt(*side).to_vec(), Some([pair.right(*side), pair.right(other)]))
            }
        };
        if tokens.is_empty() {
            return Err(SessionError::Empty { name: name.to_owned() });
        }
        let n_ctx = self.model.config.n_ctx;
        if tokens.len() > n_ctx {
            return Err(SessionError::TooLong { name: name.to_owned(), tokens: tokens.len(), n_ctx });
        }
        self.check_finite(&tokens)?;
        let prompt = Prompt { name: name.to_owned(), tokens, answers };
        self.traces.borrow_mut().remove(name);
        self.edits.retain(|edit| !matches!(&edit.kind, EditKind::Changes { prompt, .. } if prompt == name));
        let at = match self.names.iter().position(|known| known == name) {
            Some(at) => {
                self.prompts[at] = prompt;
                at
            }
            None => {
                self.prompts.push(prompt);
                self.names.push(name.to_owned());
                self.prompts.len() - 1
            }
        };
        (self.current, self.cursor) = (Some(at), None);
        Ok(())
    }

    fn check_finite(&self, tokens: &[u16]) -> Result<(), SessionError> {
        let batch = Tokens::new(tokens, tokens.len());
        let logits: Matrix = self.model.forward(batch, None, &mut openwork_model::NoTap).logits;
        Ok(self.model.check_finite(batch, &logits)?)
    }

    /// Goes to a prompt, before its first point.
    pub(crate) fn use_prompt(&mut self, name: &str) -> Result<(), SessionError> {
        let at = self.names.iter().position(|known| known == name);
        let at = at.ok_or_else(|| SessionError::UnknownPrompt { name: name.to_owned() })?;
        (self.current, self.cursor) = (Some(at), None);
        Ok(())
    }

    /// The prompt at hand.
    ///
    /// # Errors
    /// When there is none.
    pub fn prompt(&self) -> Result<&Prompt, SessionError> {
        self.current.map(|at| &self.prompts[at]).ok_or(SessionError::NoPrompt)
    }

    /// The prompt of a name.
    ///
    /// # Errors
    /// When there is none.
    pub fn prompt_named(&self, name: &str) -> Result<&Prompt, SessionError> {
        let found = self.prompts.iter().find(|prompt| prompt.name == name);
        found.ok_or_else(|| SessionError::UnknownPrompt { name: name.to_owned() })
    }

    /// Changes in force on a prompt.
    pub(crate) fn changes(&self, name: &str) -> Vec<Change> {
        let of = |edit: &Edit| match &edit.kind {
            EditKind::Changes { prompt, changes } if prompt == name => changes.clone(),
            _ => vec![],
        };
        self.edits.iter().flat_map(of).collect()
    }

    /// The run of a prompt with the edits in force.
    ///
    /// # Errors
    /// When there is no such prompt.
    pub fn trace(&self, name: &str) -> Result<Rc<Trace>, SessionError> {
        if let Some(trace) = self.traces.borrow().get(name) {
            return Ok(trace.clone());
        }
        let prompt = self.prompt_named(name)?;
        let trace = Rc::new(Trace::run(&self.model, &prompt.tokens, &self.changes(name)));
        self.traces.borrow_mut().insert(name.to_owned(), trace.clone());
        Ok(trace)
    }

    /// The point that the run is at; none before the first one and after the last one.
    pub fn point(&self) -> Option<Point> {
        self.point_of(self.cursor?)
    }

    fn point_of(&self, number: usize) -> Option<Point> {
        let length = self.prompt().ok()?.tokens.len();
        let place = *self.places.get(number / length)?;
        Some(Point { place, position: number % length })
    }

    /// True once the run went through its last point.
    pub fn finished(&self) -> bool {
        let length = self.prompt().map_or(0, |prompt| prompt.tokens.len());
        self.cursor.is_some_and(|cursor| cursor >= self.places.len() * length)
    }

    /// The position that a command means which names none: that of the point, or the last one.
    pub(crate) fn position(&self, at: Option<At>) -> Result<usize, SessionError> {
        let prompt = self.prompt()?;
        match at {
            Some(at) => self.position_in(prompt, at),
            None => Ok(self.point().map_or(prompt.tokens.len() - 1, |point| point.position)),
        }
    }

    fn position_in(&self, prompt: &Prompt, at: At) -> Result<usize, SessionError> {
        let length = prompt.tokens.len();
        at.of(length).ok_or_else(|| SessionError::NoPosition { name: prompt.name.clone(), last: length - 1, at })
    }

    /// Position of another prompt that is compared with a position of the one at hand.
    fn counterpart(&self, position: usize, other: &Prompt) -> Result<Option<usize>, SessionError> {
        Ok(align(&self.prompt()?.tokens, &other.tokens)[position])
    }

    /// Value of a reference at a position of the prompt at hand.
    fn reference(&self, reference: &Reference, position: usize) -> Result<f64, SessionError> {
        let own = self.prompt()?;
        let (prompt, position) = match (&reference.of, reference.position) {
            (None, None) => (own, position),
            (None, Some(at)) => (own, self.position_in(own, at)?),
            (Some(name), Some(at)) => {
                let other = self.prompt_named(name)?;
                (other, self.position_in(other, at)?)
            }
            (Some(name), None) => {
                let other = self.prompt_named(name)?;
                let found = self.counterpart(position, other)?;
                (other, found.ok_or_else(|| SessionError::NoCounterpart { name: name.clone(), position })?)
            }
        };
        let target = Target { quantity: reference.quantity, position };
        Ok(self.trace(&prompt.name)?.quantity(&self.model, target))
    }

    /// Value of an expression at a position of the prompt at hand.
    pub(crate) fn evaluate(&self, expression: &Expression, position: usize) -> Result<f64, SessionError> {
        let changed = |reference: &Reference, against: &str| {
            let own = match reference.position {
                Some(at) => self.position_in(self.prompt()?, at)?,
                None => position,
            };
            let other = self.prompt_named(against)?;
            let Some(there) = self.counterpart(own, other)? else { return Ok(None) };
            let of = |prompt: &str, position| -> Result<f64, SessionError> {
                let target = Target { quantity: reference.quantity, position };
                Ok(self.trace(prompt)?.quantity(&self.model, target))
            };
            Ok(Some(of(&self.prompt()?.name, own)? - of(against, there)?))
        };
        expression.evaluate(&|reference| self.reference(reference, position), &changed)
    }

    pub(crate) fn number(&mut self) -> usize {
        self.next_number += 1;
        self.next_number - 1
    }

    /// Label of a node in one of the circuits.
    pub(crate) fn label(&self, node: Node) -> Option<String> {
        self.circuits.iter().find_map(|c| c.circuit.labels().get(&node).map(|label| label.name.clone()))
    }

    /// Words for a target, with the texts of tokens.
    pub(crate) fn words(&self, target: Target) -> String {
        let quoted = |token| self.vocabulary.quoted(token);
        match target.quantity {
            Quantity::Logit(token) => format!("logit({})@{}", quoted(token), target.position),
            Quantity::Lead(first, second) => {
                format!("logit({})@{1} - logit({2})@{1}", quoted(first), target.position, quoted(second))
            }
            _ => target.to_string(),
        }
    }
}
