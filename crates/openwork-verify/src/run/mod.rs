//! Runs of the model under an intervention, watched, and what is measured in them.

pub mod ablator;
pub mod activity;
pub mod audit;
pub mod context;
pub mod error;
pub mod evaluator;
pub mod measures;
pub mod optimal;
pub mod prompts;
pub mod scheme;
pub mod shift_free;
