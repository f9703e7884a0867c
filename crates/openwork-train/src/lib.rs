#![doc = include_str!("../README.md")]
//!
//! To follow one training step, read `step.rs` (the algorithm), `cpu.rs` (its parts, on all parameters) and `update.rs`
//! (the update of one parameter); the pass is `forward.rs` and `backward.rs` of `openwork-model`.

mod checkpoint;
mod cpu;
mod cuda;
mod error;
mod log;
mod memory;
mod plan;
mod recipe;
mod run;
mod sampler;
mod schedule;
mod sparsify;
mod step;
mod update;

pub use checkpoint::{CheckpointError, CheckpointInfo, check_checkpoint};
pub use cpu::CpuStore;
pub use cuda::{BatchShape, CudaStore, GpuTrainer};
pub use error::RunError;
pub use log::{LogLine, MatrixLine};
pub use memory::MemoryPlan;
pub use plan::{ParameterPlan, StepPlan};
pub use recipe::{Recipe, RecipeError, SHIPPED};
pub use run::{Event, Run, Stopped};
pub use sampler::Windows;
pub use schedule::{Anneal, GradientMode, Schedule};
pub use sparsify::{MatrixReport, Rule, SparsityReport};
pub use step::{BatchSums, Move, Outcome, RMS_EPS, StepReport, Store, Trainer};
