//! Circuits that were found before and lost what they do not need, as the circuit file records them.

use serde::{Deserialize, Serialize};

use crate::{LearnedMasks, SearchSettings};

/// A circuit less the edges and nodes that it did not need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refined {
    /// Hash of the circuit before ([`Circuit::sha256`](crate::Circuit::sha256)).
    pub circuit_sha256: String,
    /// Its nodes.
    pub nodes: usize,
    /// Its weights.
    pub edges: usize,
    /// Search that found it.
    pub search: Box<SearchSettings>,
    /// Condition that held throughout.
    pub hold: Hold,
    /// Settings of the masks over edges, and their seed, where masks chose the edges before the last were removed one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge_masks: Option<(LearnedMasks, u64)>,
}

/// Condition on a circuit that parts are removed from, on the selection pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The calibrated task loss is at most this, nats per sequence.
    Loss(f64),
    /// The share of answers of the calibrated circuit that are the model's is at least this.
    Agreement(f64),
}

impl Refined {
    /// The first setting that no search can have, in words; of the search before it, too.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self.hold {
            Hold::Loss(target) if !(target > 0.0 && target.is_finite()) => Some("the loss that holds is not above 0"),
            Hold::Agreement(share) if !(0.5..=1.0).contains(&share) => {
                Some("the agreement that holds is not between 0.5 and 1")
            }
            _ => self.edge_masks.as_ref().and_then(|(masks, _)| masks.fault()).or_else(|| self.search.fault()),
        }
    }
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loss(target) => write!(f, "a loss of at most {target} nats"),
            Self::Agreement(share) => write!(f, "an agreement with the model of at least {share}"),
        }
    }
}
