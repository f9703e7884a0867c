//! Settings of circuits whose search was tuned, as the circuit file records them.

use serde::{Deserialize, Serialize};

use crate::LearnedMasks;

/// Sampler of the settings that are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Tree-structured Parzen estimators (Bergstra et al. 2011), one for each setting.
    #[default]
    Tpe,
    /// Uniform draws from the same ranges: what a search has to beat.
    Random,
}

impl Sampler {
    /// All samplers.
    pub const ALL: [Self; 2] = [Self::Tpe, Self::Random];

    /// The sampler that a name means, if one does.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sampler| sampler.to_string() == name)
    }
}

impl std::fmt::Display for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tpe => "tpe",
            Self::Random => "random",
        })
    }
}

/// Settings of the best of several searches with other settings each; target loss and seed are fields of the circuit file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// Settings of the masks that won. `restarts` counts the searches that were run, which is what controls get, too.
    pub masks: LearnedMasks,
    /// Sampler of the settings.
    pub sampler: Sampler,
    /// Number of the search that won, from 0.
    pub won: usize,
    /// SHA-256 of the trace of all searches, a file beside the circuit.
    pub trace_sha256: String,
}

impl Tuned {
    /// The first setting that no search can have, in words.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            Self { won, masks, .. } if *won >= masks.restarts => Some("won is no number of a search"),
            Self { trace_sha256, .. }
                if trace_sha256.len() != 64 || !trace_sha256.bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                Some("trace_sha256 is no SHA-256 in 64 hexadecimal digits")
            }
            Self { masks, .. } => masks.fault(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_search_can_have_is_a_fault() {
        let masks = LearnedMasks { restarts: 8, ..LearnedMasks::default() };
        let tuned = Tuned { masks, sampler: Sampler::Tpe, won: 7, trace_sha256: "0a".repeat(32) };
        assert_eq!(tuned.fault(), None);
        assert!(Tuned { won: 8, ..tuned.clone() }.fault().unwrap().contains("won"));
        assert!(Tuned { trace_sha256: "0".into(), ..tuned.clone() }.fault().unwrap().contains("trace_sha256"));
        let masks = LearnedMasks { batch_pairs: 0, ..tuned.masks.clone() };
        assert_eq!(Tuned { masks, ..tuned }.fault(), Some("batch_pairs is 0"));
        assert!(Sampler::ALL.into_iter().all(|s| Sampler::of_name(&s.to_string()) == Some(s)));
        assert_eq!(Sampler::of_name("bayes"), None);
    }
}
