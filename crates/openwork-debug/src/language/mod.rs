//! The language of the debugger: commands, a line each, with expressions over values of a run. `docs/debugging.md` has the
//! grammar.

mod command;
mod expression;
mod lexer;

use std::fmt;

use openwork_model::Config;

pub(crate) use command::from_kind;
pub use command::{
    Assignment, BreakAt, COMMAND_WORDS, Command, OPTION_WORDS, Printed, PromptSource, Range, Replacement, WeightPlace,
};
pub use expression::{At, Expression, Reference};
pub(crate) use lexer::Parser;

use crate::Vocabulary;

/// A text as a line has it: in double quotes, with what is not printable escaped, so that it reads back.
pub(crate) fn literal(text: &str) -> String {
    let shown = openwork_tensor::quoted(text);
    // Quotes inside are as they are there, and backslashes escaped.
    format!("\"{}\"", shown[1..shown.len() - 1].replace('"', "\\\""))
}

/// Names that a line may use: those of the model's nodes, tokens, and the prompts of a session.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// Configuration of the model.
    pub config: &'a Config,
    /// Texts of tokens.
    pub vocabulary: &'a dyn Vocabulary,
    /// Names of prompts.
    pub prompts: &'a [String],
}

/// A line that is no command, with the column of the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line.
    pub line: String,
    /// Column of the fault, in characters from 1.
    pub column: usize,
    /// Words for what would be right.
    pub expected: String,
    /// Text that is there; empty at the end of the line.
    pub found: String,
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, expected, found } = self;
        let found = if found.is_empty() { "the end of the line".to_owned() } else { found.clone() };
        writeln!(f, "column {column}: expected {expected}, found {found}")?;
        // Tabs keep their width above the caret.
        let indent: String = line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "  {line}\n  {indent}^")
    }
}

#[cfg(test)]
mod tests;
