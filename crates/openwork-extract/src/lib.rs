//! Finds circuits: learned node masks with mean ablation ([`Search`]), and the controls a circuit must be
//! compared with ([`nonsense_labels`], [`random_weights`]), which get the same pruning budget.
//!
//! Source: Gao et al. 2025, §2.2 and A.5.

mod control;
mod learn;
mod mask;
mod objective;
mod prune;
mod select;
mod settings;
mod stability;

pub use control::{nonsense_labels, random_weights};
pub use learn::{OnStep, Progress};
pub use prune::{NotReached, PruneError, Pruned, Search};
pub use select::calibrate;
pub use settings::Settings;
pub use stability::Stability;
