//! Ground truth: models whose circuits are known, to test those who look for circuits and those who judge them.
//!
//! Nothing here is trained, and nothing here knows how circuits are found or judged.

mod behaviour;
mod builder;
mod compile;
mod layout;
mod program;
mod truth;

pub use behaviour::{Behaviour, PromptBatch, text};
pub use builder::{Builder, Channel, LOGIT, SCORE, Variable};
pub use compile::{Compiled, Prompt};
pub use layout::{Noise, Options};
pub use program::{BOS, Input, Program};
pub use truth::{Fill, TOLERANCE, Truth, effect, means, reaching, remove};
