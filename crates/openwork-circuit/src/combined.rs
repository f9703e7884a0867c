//! Circuits made of those that several seeds of one search find, as the circuit file records them.

use serde::{Deserialize, Serialize};

use crate::LearnedMasks;

/// Combination of circuits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combination {
    /// Nodes of any of the circuits.
    Union,
    /// Nodes of all of them.
    Core,
}

impl std::fmt::Display for Combination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Union => "union",
            Self::Core => "core",
        })
    }
}

/// Union or core of the circuits that one search finds from several seeds; the seed in the circuit's file is the first of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Combined {
    /// Combination.
    pub of: Combination,
    /// Hashes of the circuits ([`Circuit::sha256`](crate::Circuit::sha256)), in the order of their seeds.
    pub circuits_sha256: Vec<String>,
    /// Settings of the search. `restarts` counts those of all seeds, which is what controls get, too.
    pub masks: LearnedMasks,
}

impl Combined {
    /// The first setting that no search can have, in words.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self.circuits_sha256.len() {
            0 | 1 => Some("circuits_sha256 names fewer than two circuits"),
            _ => self.masks.fault(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_combination_is_of_two_circuits_at_least() {
        let of = |n: usize| Combined {
            of: Combination::Core,
            circuits_sha256: vec!["0".repeat(64); n],
            masks: LearnedMasks::default(),
        };
        assert!(of(1).fault().unwrap().contains("fewer than two"));
        assert_eq!(of(2).fault(), None);
        let masks = LearnedMasks { batch_pairs: 0, ..LearnedMasks::default() };
        assert_eq!(Combined { masks, ..of(3) }.fault(), Some("batch_pairs is 0"));
    }
}
