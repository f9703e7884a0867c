//! Ground truth: models whose circuits are known, to test those who look for circuits and those who judge them.
//!
//! Nothing here is trained, and nothing here knows how circuits are found or judged.

mod behaviour;
mod builder;
mod compile;
mod inject;
mod layout;
mod pathology;
mod program;
mod shuffle;
mod truth;
pub mod zoo;

pub use behaviour::{Behaviour, PromptBatch, text};
pub use builder::{Builder, Channel, LOGIT, SCORE, Variable};
pub use compile::{Compiled, Prompt};
pub use inject::{InjectError, Injected, Injection};
pub use layout::{Built, Noise, Options, Parts};
pub use pathology::{CUE_CONTEXT, Carrier, HandBuilt, Pathology, token};
pub use program::{BOS, Input, Program};
pub use shuffle::Shuffle;
pub use truth::{AblationValue, TOLERANCE, Truth, effect, means, reaching, remove};
