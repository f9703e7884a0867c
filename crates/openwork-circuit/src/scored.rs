//! Settings of circuits that are the top of a ranking, as the circuit file records them.

use serde::{Deserialize, Serialize};

/// Score that ranks the parts of a model. `openwork_extract::Scorer` has the formula of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// Gradient times difference from the ablation value.
    #[default]
    Gradient,
    /// Integrated gradients on activations.
    Integrated,
    /// Integrated gradients on inputs.
    Inputs,
    /// Effect of ablating each part alone.
    Patching,
    /// Magnitude of weights.
    Weights,
    /// Greedy elimination from the output backwards, in the manner of ACDC.
    Acdc,
    /// A random order.
    Random,
}

/// Parts of a model that are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parts {
    /// Nodes; the circuit has all edges between those that are kept.
    #[default]
    Nodes,
    /// Edges; the circuit has the nodes that the kept ones join.
    Edges,
}

/// Settings of a circuit that is the top of a ranking; the target loss and the seed are fields of the circuit file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scored {
    /// The score.
    pub score: Score,
    /// Parts that it ranks.
    pub parts: Parts,
    /// Training pairs that scores are taken on.
    pub pairs: usize,
    /// Points of the paths of [`Score::Integrated`] and [`Score::Inputs`].
    pub points: usize,
    /// Rise of the distance from the model below which [`Score::Acdc`] removes a part, nats.
    pub threshold: f64,
}

impl Default for Scored {
    fn default() -> Self {
        Self { score: Score::default(), parts: Parts::default(), pairs: 64, points: 8, threshold: 1e-2 }
    }
}

impl Scored {
    /// The first setting that no search can have, in words.
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            Self { pairs: 0, .. } => Some("pairs is 0"),
            Self { points: 0, .. } => Some("points is 0"),
            Self { threshold, .. } if !(*threshold > 0.0 && threshold.is_finite()) => Some("threshold is not above 0"),
            Self { parts: Parts::Edges, score: Score::Integrated | Score::Inputs | Score::Patching, .. } => {
                Some("edges are ranked by gradient, weights, acdc or random")
            }
            _ => None,
        }
    }
}

impl Score {
    /// All scores.
    pub const ALL: [Self; 7] =
        [Self::Gradient, Self::Integrated, Self::Inputs, Self::Patching, Self::Weights, Self::Acdc, Self::Random];
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gradient => "gradient",
            Self::Integrated => "integrated",
            Self::Inputs => "inputs",
            Self::Patching => "patching",
            Self::Weights => "weights",
            Self::Acdc => "acdc",
            Self::Random => "random",
        })
    }
}

impl Parts {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Nodes, Self::Edges];
}

impl std::fmt::Display for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nodes => "nodes",
            Self::Edges => "edges",
        })
    }
}

/// Error of reading the name of a [`Score`] or of [`Parts`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownScore {
    /// No score has the name.
    #[error("there is no score {name:?}; there are gradient, integrated, inputs, patching, weights, acdc and random")]
    Score {
        /// The name.
        name: String,
    },
    /// No parts have the name.
    #[error("there are no parts {name:?}; there are nodes and edges")]
    Parts {
        /// The name.
        name: String,
    },
}

impl std::str::FromStr for Score {
    type Err = UnknownScore;

    fn from_str(name: &str) -> Result<Self, UnknownScore> {
        let named = Self::ALL.into_iter().find(|score| score.to_string() == name);
        named.ok_or_else(|| UnknownScore::Score { name: name.to_owned() })
    }
}

impl std::str::FromStr for Parts {
    type Err = UnknownScore;

    fn from_str(name: &str) -> Result<Self, UnknownScore> {
        let named = Self::ALL.into_iter().find(|parts| parts.to_string() == name);
        named.ok_or_else(|| UnknownScore::Parts { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_impossible_settings_are_named() {
        for score in Score::ALL {
            assert_eq!(score.to_string().parse(), Ok(score));
            let edges = Scored { score, parts: Parts::Edges, ..Scored::default() };
            let ranked = matches!(score, Score::Gradient | Score::Weights | Score::Acdc | Score::Random);
            assert_eq!(edges.fault().is_none(), ranked, "{score}");
        }
        for parts in Parts::ALL {
            assert_eq!(parts.to_string().parse(), Ok(parts));
        }
        assert!("eap".parse::<Score>().unwrap_err().to_string().contains("gradient"));
        assert!("heads".parse::<Parts>().unwrap_err().to_string().contains("nodes and edges"));
        assert_eq!(Scored::default().fault(), None);
        for wrong in [
            Scored { pairs: 0, ..Scored::default() },
            Scored { points: 0, ..Scored::default() },
            Scored { threshold: f64::NAN, ..Scored::default() },
        ] {
            assert!(wrong.fault().is_some(), "{wrong:?}");
        }
    }
}
