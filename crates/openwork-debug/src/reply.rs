//! Replies to commands, as values. Their text is in `show.rs`.

use serde::Serialize;

use crate::{Backtrace, Difference, Explained, IndexedContexts, Point, WhereFires};

/// A reply with the circumstances that it holds under.
#[derive(Clone, Debug, Serialize)]
pub struct Answered {
    /// Model, prompt and edits.
    pub context: Context,
    /// The reply.
    pub reply: Reply,
}

/// Circumstances of a reply.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Context {
    /// First 12 digits of the model's hash.
    pub model: String,
    /// Prompt at hand.
    pub prompt: Option<String>,
    /// Edits in force, the first ones first.
    pub edits: Vec<String>,
}

/// Reply to a command.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reply {
    /// A prompt was made or gone to.
    Prompt {
        /// Its name.
        name: String,
        /// Its tokens.
        tokens: Vec<TokenShown>,
        /// Answer and alternative of the pair that it is of.
        answers: Option<[String; 2]>,
    },
    /// A breakpoint or a watch was set.
    Placed {
        /// Breakpoint or watch.
        what: &'static str,
        /// Its number.
        number: usize,
        /// The condition.
        text: String,
    },
    /// A breakpoint or a watch was removed.
    Removed {
        /// Breakpoint or watch.
        what: &'static str,
        /// Its number.
        number: usize,
    },
    /// The run stopped.
    Stopped(Stopped),
    /// The value of an expression.
    Value {
        /// The expression.
        expression: String,
        /// Position for values that name none.
        position: usize,
        /// The value: 1 or 0 for a condition.
        value: f64,
        /// True if it is a condition.
        condition: bool,
    },
    /// Entries at a place.
    Slice {
        /// The place.
        place: String,
        /// Number of features (or tokens) and positions that were asked for.
        asked: [usize; 2],
        /// Entries that are not zero, by position and then by feature.
        entries: Vec<Entry>,
    },
    /// A weight.
    Weight {
        /// Its name.
        weight: String,
        /// Its value.
        value: f32,
    },
    /// Nonzero weights into a node.
    Inputs {
        /// The node.
        node: String,
        /// Position of the values.
        position: usize,
        /// The weights, by the node that is read.
        inputs: Vec<InputShown>,
    },
    /// Likeliest tokens.
    Answers {
        /// Position after which they come.
        position: usize,
        /// The likeliest first.
        tokens: Vec<AnswerShown>,
    },
    /// An edit was made.
    Edited {
        /// The edit.
        edit: String,
        /// True if the run had come past its place, so that what it had shown before is no more.
        passed: bool,
    },
    /// An edit was taken back.
    Undone {
        /// The edit.
        edit: String,
    },
    /// A backtrace.
    Backtrace {
        /// The value in words.
        title: String,
        /// Texts of the prompt's tokens.
        tokens: Vec<String>,
        /// The tree.
        backtrace: Backtrace,
    },
    /// Difference of two prompts.
    Difference {
        /// The two tokens of the logit difference.
        tokens: [String; 2],
        /// Texts of the tokens of the first prompt.
        prompt: Vec<String>,
        /// The difference.
        difference: Box<Difference>,
        /// Labels of the nodes of the set, where they have any.
        labels: Vec<(String, String)>,
    },
    /// Contexts on which a node fires.
    Where(WhereFires),
    /// Score of an explanation.
    Explained(Box<Explained>),
    /// Contexts on which a node fires, of all data of an index.
    Indexed(IndexedContexts),
    /// State of the session.
    Info {
        /// The point, if the run is at one.
        point: Option<Point>,
        /// Prompts.
        prompts: Vec<String>,
        /// Breakpoints.
        breakpoints: Vec<String>,
        /// Watches with the values that they had last.
        watches: Vec<String>,
        /// Circuits with their verdicts.
        circuits: Vec<String>,
    },
    /// Commands.
    Help,
    /// The session ends.
    Quit,
}

/// A token of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenShown {
    /// Its id.
    pub id: u16,
    /// Its text, in quotes.
    pub text: String,
}

/// A weight into a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InputShown {
    /// The node that is read.
    pub from: String,
    /// The weight.
    pub weight: f32,
    /// Value of the node that is read.
    pub value: f32,
}

/// A token that may come next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnswerShown {
    /// Its id.
    pub id: u16,
    /// Its text, in quotes.
    pub text: String,
    /// Its logit.
    pub logit: f32,
    /// Its probability.
    pub probability: f64,
}

/// An entry that is not zero.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Position of the token.
    pub position: usize,
    /// Its value.
    pub value: f32,
    /// Label of the node in a circuit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// Place where a run stopped.
#[derive(Clone, Debug, Serialize)]
pub struct Stopped {
    /// The point; none before the first one and after the last one.
    pub point: Option<Point>,
    /// True after the last point.
    pub finished: bool,
    /// Text of the token there.
    pub token: Option<String>,
    /// Reasons to stop there, beside the command.
    pub reasons: Vec<Reason>,
    /// Number of entries at the point, and of those that are not zero.
    pub entries: [usize; 2],
    /// The largest of them by magnitude.
    pub largest: Vec<Entry>,
}

/// Reason of a stop.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// A breakpoint.
    Breakpoint {
        /// Its number.
        number: usize,
        /// Its condition.
        at: String,
    },
    /// A watch whose value is another than it was last.
    Watch {
        /// Its number.
        number: usize,
        /// The expression.
        expression: String,
        /// Value before.
        from: f64,
        /// Value now.
        to: f64,
    },
}
