//! State of a session as an interface draws it, beside the replies to commands.

use openwork_circuit::Node;
use openwork_model::Params;

use crate::{
    COMMAND_WORDS, Entry, OPTION_WORDS, Place, Point, Prompt, Session, SessionError,
    language::{At, BreakAt},
};

/// A breakpoint, and the places and positions that it can stop at.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakpointShown {
    /// Its number.
    pub number: usize,
    /// Its condition.
    pub text: String,
    /// The place; none where it is any.
    pub place: Option<Place>,
    /// The position; none where it is any.
    pub position: Option<At>,
    /// True if it stops at every point of the place and position: a node or a condition has to hold otherwise.
    pub always: bool,
}

/// A watched expression.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchShown {
    /// Its number.
    pub number: usize,
    /// The expression.
    pub text: String,
    /// Value that it had last; none before its values are ready for the first time.
    pub last: Option<f64>,
}

impl Session {
    /// Prompts, in the order that they were made in.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// Every place of the model, in the order of the pass.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Breakpoints, in the order that they were set in.
    pub fn breakpoints(&self) -> Vec<BreakpointShown> {
        let shown = |breakpoint: &crate::session::Breakpoint| {
            let (place, position, always) = match &breakpoint.at {
                BreakAt::Point(place, position) => (*place, *position, true),
                BreakAt::Node(node, position) => (Some(Place::Site(node.site)), *position, false),
                BreakAt::Condition(condition) => (condition.place(), None, false),
            };
            BreakpointShown { number: breakpoint.number, text: breakpoint.text.clone(), place, position, always }
        };
        self.breakpoints.iter().map(shown).collect()
    }

    /// Watches, in the order that they were set in.
    pub fn watches(&self) -> Vec<WatchShown> {
        let shown = |watched: &crate::session::Watched| WatchShown {
            number: watched.number,
            text: watched.expression.to_string(),
            last: watched.last,
        };
        self.watches.iter().map(shown).collect()
    }

    /// Entries at a point of the prompt at hand that are not zero, with the edits in force: features by magnitude and logits by size, the
    /// largest first, and ties by index.
    ///
    /// # Errors
    /// When there is no prompt, or it has no such position.
    ///
    /// # Panics
    /// When the model has no such place.
    pub fn entries(&self, point: Point) -> Result<Vec<Entry>, SessionError> {
        let prompt = self.prompt()?;
        self.position(Some(At::FromStart(point.position)))?;
        let trace = self.trace(&prompt.name)?;
        let column = trace.place(point.place).column(point.position);
        let mut order: Vec<usize> = (0..column.len()).filter(|&row| column[row] != 0.0).collect();
        let size = |row: usize| if point.place == Place::Logits { column[row] } else { column[row].abs() };
        order.sort_by(|&a, &b| size(b).total_cmp(&size(a)));
        Ok(order.into_iter().map(|row| self.entry(point.place, row, point.position, column[row])).collect())
    }

    /// Words that a line may hold: commands first, then options, sites, prompts, tasks, labelled nodes and parameters.
    pub fn line_words(&self) -> Vec<String> {
        let mut words: Vec<String> = COMMAND_WORDS.into_iter().chain(OPTION_WORDS).map(str::to_owned).collect();
        words.extend(self.places.iter().map(ToString::to_string));
        words.extend(self.prompts.iter().map(|prompt| prompt.name.clone()));
        words.extend(openwork_tasks::all().iter().map(|task| task.name().to_owned()));
        let labelled = self.circuits.iter().flat_map(|c| c.circuit.labels().keys()).map(Node::to_string);
        words.extend(labelled);
        Params::build(&self.model.config, |info, _| words.push(info.name.clone()));
        words
    }

    /// End and candidates of the word that a line ends with: the column in bytes at which it begins, and the words that begin so. The
    /// first word of a line is a command.
    pub fn complete(&self, begun: &str) -> (usize, Vec<String>) {
        complete(&self.line_words(), begun)
    }
}

/// Column in bytes at which the last word of `begun` begins, and the words of a list that begin so, without repetition. The first word
/// of a line is a command.
pub fn complete(words: &[String], begun: &str) -> (usize, Vec<String>) {
    let start = begun.rfind(|c: char| c.is_whitespace() || c == '(').map_or(0, |at| at + 1);
    let first = begun[..start].trim().is_empty();
    let mut found: Vec<String> = vec![];
    for word in words.iter().filter(|word| word.starts_with(&begun[start..])) {
        if (!first || COMMAND_WORDS.contains(&word.as_str())) && !found.contains(word) {
            found.push(word.clone());
        }
    }
    (start, found)
}
