#![doc = include_str!("../README.md")]

pub(crate) mod backtrace;
mod diff;
mod edit;
mod execute;
mod language;
mod point;
mod reply;
mod session;
mod trace;
mod vocabulary;

pub use backtrace::{
    Attention, Backtrace, BacktraceOptions, Branch, Cause, Causes, Held, Hold, Smaller, StreamSource, Without,
};
pub use diff::{Carrier, Compared, Difference, Flip, Parting, align};
pub use language::{
    Assignment, At, BreakAt, Command, Expression, Names, ParseError, Printed, PromptSource, Range, Reference,
    Replacement, WeightPlace,
};
pub use point::{Place, Point, Quantity, ScoreSide, Target};
pub use reply::{AnswerShown, Answered, Context, Entry, Reason, Reply, Stopped, TokenShown};
pub use session::{PAIR_SEED, Prompt, Session, SessionCircuit, SessionError};
pub use trace::{Change, Given, Trace};
pub use vocabulary::Vocabulary;
