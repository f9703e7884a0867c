//! Commands, a line each.

mod parts;

use openwork_circuit::Node;
use openwork_tasks::Side;

use super::{At, Expression, Names, ParseError, Parser, lexer::Lexeme};
use crate::{BacktraceOptions, Hold, Place, Quantity, Without};

pub(crate) use parts::from_kind;
use parts::{assignment, break_at, float, printed};

/// A command of the debugger.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Makes a prompt and goes to it.
    Prompt {
        /// Its name.
        name: String,
        /// Its tokens.
        source: PromptSource,
    },
    /// Goes to a prompt that was made.
    Use(String),
    /// Sets a breakpoint.
    Break(BreakAt),
    /// Removes a breakpoint, by number.
    Delete(usize),
    /// Goes on by so many points.
    Step(usize),
    /// Goes to the first point of the next layer.
    Next,
    /// Goes on to a breakpoint, a watch that changes, or the end.
    Continue,
    /// Goes to before the first point.
    Restart,
    /// Watches an expression.
    Watch(Expression),
    /// Removes a watch, by number.
    Unwatch(usize),
    /// Shows values.
    Print(Printed),
    /// Edits the run or the model.
    Set(Assignment),
    /// Takes the last edit back.
    Undo,
    /// Opens a value into its causes.
    Backtrace {
        /// The value.
        quantity: Quantity,
        /// Its position; the current one, where it is none.
        position: Option<At>,
        /// Extent.
        options: BacktraceOptions,
    },
    /// Compares two prompts.
    Diff {
        /// The prompt that is changed.
        from: String,
        /// The prompt whose values are taken.
        to: String,
        /// Tokens whose logits decide; the prompts' answers, where there are none.
        lead: Option<(u16, u16)>,
    },
    /// Looks for the contexts of the data on which a node fires.
    Where {
        /// The node.
        node: Node,
        /// It fires where its value is above this.
        above: f32,
        /// Windows of the data to read; none: the index, or as many as the session takes.
        windows: Option<usize>,
    },
    /// Scores an explanation of a node.
    Explain {
        /// The node.
        node: Node,
        /// The explanation, an expression over `tokens` in the language of hypotheses.
        expression: String,
        /// Windows of the data to read.
        windows: usize,
    },
    /// Shows the state of the session.
    Info,
    /// Lists the commands.
    Help,
    /// Ends the session.
    Quit,
}

/// Source of the tokens of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptSource {
    /// A text.
    Text(String),
    /// Tokens by id.
    Tokens(Vec<u16>),
    /// A side of a contrast pair.
    Pair {
        /// Name of the task.
        task: String,
        /// Number of the pair, from 0.
        index: usize,
        /// The prompt that the answer continues, or the alternative.
        side: Side,
    },
}

/// Condition of a stop.
#[derive(Clone, Debug, PartialEq)]
pub enum BreakAt {
    /// Every point at a place (all, where it is none) and a position (all, where it is none).
    Point(Option<Place>, Option<At>),
    /// Points of a node at which its value is not zero.
    Node(Node, Option<At>),
    /// Points at which a condition holds, once all its values are ready.
    Condition(Expression),
}

/// Values to show.
#[derive(Clone, Debug, PartialEq)]
pub enum Printed {
    /// An expression.
    Expression(Expression),
    /// Entries at a place: features (or tokens) by positions.
    Slice {
        /// The place.
        place: Place,
        /// Features or tokens.
        rows: Range,
        /// Positions; the current one, where it is none.
        positions: Option<Range>,
    },
    /// A weight.
    Weight(WeightPlace),
    /// Nonzero weights into a node, with the values that they read.
    Inputs {
        /// A node that a matrix computes.
        node: Node,
        /// Position; the current one, where it is none.
        position: Option<At>,
    },
    /// Likeliest tokens at a position.
    Answers {
        /// Number of tokens.
        top: usize,
        /// Position; the current one, where it is none.
        position: Option<At>,
    },
}

/// A range of indices, as in Python: `from` included, `to` not; negative ones count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First.
    pub from: i64,
    /// End; none: to the end.
    pub to: Option<i64>,
}

impl Range {
    /// All indices.
    pub const ALL: Self = Self { from: 0, to: None };

    /// The range among `length` indices.
    pub fn of(self, length: usize) -> std::ops::Range<usize> {
        let place = |index: i64| {
            let index = if index < 0 { index + length as i64 } else { index };
            index.clamp(0, length as i64) as usize
        };
        let (from, to) = (place(self.from), self.to.map_or(length, place));
        from..to.max(from)
    }
}

/// A weight of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightPlace {
    /// The weight of an edge.
    Edge {
        /// Node that is read.
        from: Node,
        /// Node that reads it.
        to: Node,
    },
    /// An entry of a parameter, under its published name.
    Parameter {
        /// The name.
        name: String,
        /// Number of the parameter in the tree.
        number: usize,
        /// Row and column.
        entry: [usize; 2],
    },
}

impl std::fmt::Display for WeightPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Edge { from, to } => write!(f, "{from} -> {to}"),
            Self::Parameter { name, entry: [row, col], .. } => write!(f, "{name}[{row},{col}]"),
        }
    }
}

/// An edit.
#[derive(Clone, Debug, PartialEq)]
pub enum Assignment {
    /// A node takes a value at a position, or at all.
    Node {
        /// The node.
        node: Node,
        /// Position; all, where it is none.
        position: Option<At>,
        /// The value.
        to: Replacement,
    },
    /// A weight takes a value.
    Weight {
        /// The weight.
        place: WeightPlace,
        /// The value.
        to: f32,
    },
}

/// Value that a node takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Replacement {
    /// A number.
    Number(f32),
    /// Its mean over training data.
    Mean,
    /// Its values in the run of another prompt.
    Of(String),
}

/// Pairs of a task that a prompt can be of.
const MOST_PAIRS: usize = 4096;

/// First words of commands, for completion.
pub const COMMAND_WORDS: [&str; 21] = [
    "prompt", "use", "break", "delete", "step", "next", "continue", "restart", "watch", "unwatch", "print", "set",
    "undo", "bt", "why", "diff", "where", "explain", "info", "help", "quit",
];

/// Options of commands, for completion.
pub const OPTION_WORDS: [&str; 5] = ["--depth", "--share", "--norm", "--effect", "--windows"];

/// Words for any command.
const COMMANDS: &str = "a command: prompt, use, break, delete, step, next, continue, restart, watch, unwatch, print, set, undo, \
                        bt, why, diff, where, explain, info, help or quit";

impl Command {
    /// Reads a line; none for a blank one or one that begins with `#`.
    ///
    /// # Errors
    /// The column at which it is no command, and what would be right there.
    pub fn parse(line: &str, names: Names<'_>) -> Result<Option<Self>, ParseError> {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            return Ok(None);
        }
        if line.split_whitespace().next() == Some("explain") {
            return explain(line, names).map(Some);
        }
        let mut parser = Parser::new(line, names)?;
        let place = parser.place();
        let word = parser.name(COMMANDS)?;
        let command = match word.as_str() {
            "prompt" => prompt(&mut parser)?,
            "use" => Self::Use(parser.prompt()?),
            "break" | "b" => Self::Break(break_at(&mut parser)?),
            "delete" => Self::Delete(parser.whole("the number of a breakpoint")?),
            "step" | "s" => Self::Step(if parser.at_end() { 1 } else { parser.whole("a number of points")? }),
            "next" | "n" => Self::Next,
            "continue" | "c" => Self::Continue,
            "restart" => Self::Restart,
            "watch" => Self::Watch(Expression::parse(&mut parser)?),
            "unwatch" => Self::Unwatch(parser.whole("the number of a watch")?),
            "print" | "p" => Self::Print(printed(&mut parser)?),
            "set" => Self::Set(assignment(&mut parser)?),
            "undo" => Self::Undo,
            "bt" => {
                let quantity = parser.quantity("a node such as 1.mlp.post_act[3], or logit(\"x\")")?;
                let position = parser.position()?;
                Self::Backtrace { quantity, position, options: options(&mut parser)? }
            }
            "why" => why(&mut parser)?,
            "diff" => diff(&mut parser)?,
            "where" => fires(&mut parser)?,
            "info" => Self::Info,
            "help" | "h" => Self::Help,
            "quit" | "q" => Self::Quit,
            _ => return Err(parser.error_at(place, COMMANDS)),
        };
        parser.end("the end of the line")?;
        Ok(Some(command))
    }
}

fn prompt(parser: &mut Parser<'_>) -> Result<Command, ParseError> {
    let name = parser.name("a name for the prompt, such as a")?;
    parser.eat("=");
    let source = match parser.peek() {
        Lexeme::Text(_) => PromptSource::Text(parser.text("a text")?),
        Lexeme::Word(word) if word == "tokens" => {
            parser.word("tokens")?;
            let mut tokens = vec![];
            while !parser.at_end() {
                let place = parser.place();
                let expected = format!("the id of a token, from 0 to {}", parser.names.config.vocab_size - 1);
                let id = parser.whole(&expected)?;
                let known = u16::try_from(id).ok().filter(|_| id < parser.names.config.vocab_size);
                tokens.push(known.ok_or_else(|| parser.error_at(place, expected))?);
            }
            if tokens.is_empty() {
                return Err(parser.error("ids of tokens, such as 5 17"));
            }
            PromptSource::Tokens(tokens)
        }
        _ => {
            let place = parser.place();
            let expected =
                "a text in double quotes, tokens and their ids, or a task, a pair's number and right or wrong";
            let task = parser.name(expected)?;
            if openwork_tasks::find(&task).is_none() {
                let names: Vec<&str> = openwork_tasks::all().iter().map(|task| task.name()).collect();
                return Err(parser.error_at(place, format!("{expected}; tasks are {}", names.join(", "))));
            }
            let place = parser.place();
            let expected = format!("the number of a pair, from 0 to {}", MOST_PAIRS - 1);
            let index = parser.whole(&expected)?;
            if index >= MOST_PAIRS {
                return Err(parser.error_at(place, expected));
            }
            let side = match parser.eat_word("right") {
                true => Side::Positive,
                false if parser.eat_word("wrong") => Side::Negative,
                false => return Err(parser.error("right (the prompt that the answer continues) or wrong")),
            };
            PromptSource::Pair { task, index, side }
        }
    };
    Ok(Command::Prompt { name, source })
}

fn why(parser: &mut Parser<'_>) -> Result<Command, ParseError> {
    let token = |parser: &mut Parser<'_>| match parser.is_word("logit") {
        true => match parser.quantity("a logit")? {
            Quantity::Logit(token) => Ok(token),
            _ => unreachable!("the word is logit"),
        },
        false => parser.token(),
    };
    let first = token(parser)?;
    let quantity = match parser.eat_word("not") {
        true => Quantity::Lead(first, token(parser)?),
        false => Quantity::Logit(first),
    };
    let position = parser.position()?;
    Ok(Command::Backtrace { quantity, position, options: options(parser)? })
}

fn options(parser: &mut Parser<'_>) -> Result<BacktraceOptions, ParseError> {
    let mut options = BacktraceOptions::default();
    loop {
        let place = parser.place();
        let Some(name) = parser.option() else { return Ok(options) };
        let value = parser.place();
        match name.as_str() {
            "depth" => {
                const EXPECTED: &str = "a depth, a whole number from 1 to 32";
                options.depth = parser.whole(EXPECTED)?;
                if !(1..=32).contains(&options.depth) {
                    return Err(parser.error_at(value, EXPECTED));
                }
            }
            "share" => {
                const EXPECTED: &str = "a share, a number from 0 to 1";
                options.share = parser.number(EXPECTED)?;
                if !(0.0..=1.0).contains(&options.share) {
                    return Err(parser.error_at(value, EXPECTED));
                }
            }
            "norm" => {
                options.hold = match parser.eat_word("held") {
                    true => Hold::Held,
                    false if parser.eat_word("differentiated") => Hold::Differentiated,
                    false => return Err(parser.error("held or differentiated")),
                }
            }
            "effect" => {
                options.without = Some(match parser.eat_word("mean") {
                    true => Without::Mean,
                    false => {
                        parser.eat_word("zero");
                        Without::Zero
                    }
                })
            }
            _ => {
                return Err(parser.error_at(
                    place,
                    "--depth N, --share X, --norm held, --norm differentiated, --effect or --effect mean",
                ));
            }
        }
    }
}

fn diff(parser: &mut Parser<'_>) -> Result<Command, ParseError> {
    let (from, to) = (parser.prompt()?, parser.prompt()?);
    let lead = if parser.at_end() {
        None
    } else {
        let first = parser.token()?;
        parser.word("not")?;
        Some((first, parser.token()?))
    };
    Ok(Command::Diff { from, to, lead })
}

fn fires(parser: &mut Parser<'_>) -> Result<Command, ParseError> {
    let node = parser.node("a node such as 1.mlp.post_act[3]")?;
    let above = if parser.eat_word("above") { float(parser, "a value")? } else { 0.0 };
    let windows = windows(parser)?;
    Ok(Command::Where { node, above, windows })
}

/// `--windows N`, if it is there.
fn windows(parser: &mut Parser<'_>) -> Result<Option<usize>, ParseError> {
    const WINDOWS: &str = "a number of windows, from 1 to 65536";
    let place = parser.place();
    let Some(name) = parser.option() else { return Ok(None) };
    if name != "windows" {
        return Err(parser.error_at(place, "--windows N"));
    }
    let place = parser.place();
    let windows = parser.whole(WINDOWS)?;
    if (1..=1 << 16).contains(&windows) { Ok(Some(windows)) } else { Err(parser.error_at(place, WINDOWS)) }
}

/// `explain [--windows N] NODE EXPR`: the expression, to the end of the line, is of another language.
fn explain(line: &str, names: Names<'_>) -> Result<Command, ParseError> {
    const EXPRESSION: &str = "an expression over tokens, such as tokens[-1] == \"x\"";
    // The command's own words end with the first that has a bracket, the node.
    let own = line.find(']').map_or(line.len(), |at| at + 1);
    let mut parser = Parser::new(&line[..own], names)?;
    parser.word("explain")?;
    let windows = windows(&mut parser)?.unwrap_or(256);
    let node = parser.node("a node such as 1.mlp.post_act[3]")?;
    parser.end("an expression")?;
    let expression = line[own..].trim();
    let wrong = |expected: String| ParseError {
        line: line.to_owned(),
        column: line[..line.len() - line[own..].trim_start().len()].chars().count() + 1,
        expected,
        found: expression.to_owned(),
    };
    if expression.is_empty() {
        return Err(wrong(EXPRESSION.to_owned()));
    }
    match openwork_expression::Language::new().compile(expression) {
        Ok(_) => Ok(Command::Explain { node, expression: expression.to_owned(), windows }),
        Err(error) => Err(wrong(format!("{EXPRESSION} ({error})"))),
    }
}
