#![doc = include_str!("../README.md")]

pub(crate) mod backtrace;
pub mod claims;
mod contexts;
mod diff;
mod edit;
mod execute;
mod explain;
mod index;
mod language;
mod point;
mod reply;
mod session;
mod show;
mod trace;
mod view;
mod vocabulary;

pub use backtrace::{
    Attention, Backtrace, BacktraceOptions, Branch, Cause, Causes, Held, Hold, Smaller, StreamSource, Without,
};
pub use contexts::{Contexts, Fired, WhereFires, draw};
pub use diff::{Carrier, Compared, Difference, Flip, Parting, align};
pub use explain::{Audit, AuditOptions, Audited, ExplainError, Explained, Interval, OtherNode, Simulated};
pub use index::{Index, IndexData, IndexError, IndexedContexts};
pub use language::{
    Assignment, At, BreakAt, COMMAND_WORDS, Command, Expression, Names, OPTION_WORDS, ParseError, Printed,
    PromptSource, Range, Reference, Replacement, WeightPlace,
};
pub use point::{Place, Point, Quantity, ScoreSide, Target};
pub use reply::{AnswerShown, Answered, Context, Entry, InputShown, Reason, Reply, Stopped, TokenShown};
pub use session::{PAIR_SEED, Prompt, Session, SessionCircuit, SessionError};
pub use trace::{Change, Trace};
pub use view::{BreakpointShown, WatchShown, complete};
pub use vocabulary::Vocabulary;
