//! Settings of a search.

use openwork_circuit::LearnedMasks;

/// Settings of a search by learned masks.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Target loss, in nats per sequence.
    pub target_loss: f64,
    /// Seed of noise and batches.
    pub seed: u64,
    /// Settings of the masks.
    pub masks: LearnedMasks,
}

impl Default for Settings {
    fn default() -> Self {
        Self { target_loss: 0.15, seed: 0, masks: LearnedMasks::default() }
    }
}
