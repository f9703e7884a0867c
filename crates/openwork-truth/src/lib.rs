#![doc = include_str!("../README.md")]
//!
//! Knows nothing of how circuits are found or verified.

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
pub use pathology::{CUE_CONTEXT, Carrier, Guards, HandBuilt, LiveJunk, Pathology, token};
pub use program::{BOS, Input, Program};
pub use shuffle::Shuffle;
pub use truth::{AblationValue, TOLERANCE, Truth, effect, means, reaching, remove};
