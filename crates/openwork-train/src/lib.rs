//! From tokens to a checkpoint: [`Recipe`] (every scientific choice), [`Schedule`] (learning rate and L0
//! annealing), [`Trainer`] (one training step of the published algorithm), [`Run`] (the loop with its
//! log, checkpoints and resume).
//!
//! To follow one training step, read `step.rs` here, then `forward.rs` and `backward.rs` of
//! `openwork-model`.

mod checkpoint;
mod gpu;
mod memory;
mod recipe;
mod run;
mod sampler;
mod schedule;
mod sparsify;
mod step;
mod update;

pub use checkpoint::CheckpointError;
pub use gpu::{BatchShape, GpuTrainer};
pub use memory::MemoryPlan;
pub use recipe::{Recipe, RecipeError, SHIPPED};
pub use run::{Event, LogLine, Run, RunError, Stopped};
pub use sampler::Windows;
pub use schedule::{Anneal, GradientMode, Schedule};
pub use sparsify::{MatrixReport, Rule, SparsityReport};
pub use step::{StepReport, Trainer};
