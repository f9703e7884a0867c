//! Settings of a search.

use openwork_circuit::{CircuitFile, LearnedMasks, SearchSettings};

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

impl Settings {
    /// The settings that found the circuit of a file; `None` where no search by masks did.
    pub fn of_file(file: &CircuitFile) -> Option<Self> {
        match &file.search {
            SearchSettings::LearnedMasks(masks) => {
                Some(Self { target_loss: file.target_loss, seed: file.seed, masks: masks.clone() })
            }
            SearchSettings::ByHand {} => None,
        }
    }
}
