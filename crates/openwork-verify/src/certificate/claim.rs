//! Claims of certificates, as files hold them, and what is known of each once it is written.

use serde::{Deserialize, Serialize};

/// Kind of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// All inputs under all of some schemes.
    Exhaustive,
    /// A bound of given confidence over a distribution.
    Statistical,
    /// A bound over all partial ablations.
    Relaxation,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Exhaustive, Self::Statistical, Self::Relaxation];
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exhaustive => "exhaustive",
            Self::Statistical => "statistical",
            Self::Relaxation => "relaxation",
        })
    }
}

/// Result of a certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certified {
    /// Kind.
    pub kind: Kind,
    /// Over what, in words.
    pub scope: String,
    /// Exhaustive: worst KL(model ‖ circuit) in nats. Statistical: lower bound of the share of inputs and partial
    /// ablations on which the circuit is right, or agrees with the model. Relaxation: least margin in logits (−∞ where there is no bound).
    #[serde(with = "no_bound")]
    pub bound: f64,
    /// Runs that agree, samples that agree, or inputs whose margin is above zero; of all.
    pub share: f64,
    /// Parts that the budget did not allow.
    pub unfinished: Vec<String>,
}

/// JSON has no infinity: a bound that there is not is `null`.
mod no_bound {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(bound: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        bound.is_finite().then_some(*bound).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NEG_INFINITY))
    }
}

/// Source of ablation values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Zero.
    Zero,
    /// The constants of [`About::constants`](crate::certificate::About::constants).
    Constants,
    /// The model's run on another input, for `sources` inputs spread evenly; all of them where as many as inputs.
    Resample {
        /// Number of inputs; more than there are means all.
        sources: usize,
    },
}

/// Event that is counted in a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The circuit's most likely token is the right one.
    RightAnswer,
    /// The circuit prefers the right one of the input's two candidates.
    RightCandidate,
    /// Circuit and model have the same most likely token; where no right answer is declared.
    SameArgmax,
    /// Circuit and model prefer the same one of the input's two candidates; where no right answer is declared.
    SameCandidate,
}

impl Event {
    /// True if right answers judge; else the model does.
    pub fn is_right(self) -> bool {
        matches!(self, Self::RightAnswer | Self::RightCandidate)
    }

    /// True if only the two candidates count.
    pub fn of_candidates(self) -> bool {
        matches!(self, Self::RightCandidate | Self::SameCandidate)
    }

    /// Its name in the file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RightAnswer => "right_answer",
            Self::RightCandidate => "right_candidate",
            Self::SameArgmax => "same_argmax",
            Self::SameCandidate => "same_candidate",
        }
    }
}

/// Tokens that the answer is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rivals {
    /// Every other token of the vocabulary.
    AllTokens,
    /// The other one of the input's two candidates.
    OtherCandidate,
}

/// Claim, by kind.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Claim {
    Exhaustive(ExhaustiveClaim),
    Statistical(StatisticalClaim),
    Relaxation(RelaxationClaim),
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExhaustiveClaim {
    pub inputs: usize,
    pub schemes: Vec<Scheme>,
    pub runs: usize,
    pub worst_kl_nats: f64,
    pub worst: Run,
    pub mean_kl_nats: f64,
    pub agreeing: usize,
    pub right: Option<usize>,
    pub model_right: Option<usize>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Run {
    pub input: usize,
    pub scheme: usize,
    pub source: Option<usize>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct StatisticalClaim {
    pub inputs: usize,
    pub event: Event,
    pub samples: u64,
    pub failures: u64,
    pub confidence: f64,
    pub lower_bound: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct RelaxationClaim {
    pub inputs: usize,
    pub rivals: Rivals,
    pub frozen_norms: bool,
    pub symbols: usize,
    pub answers: Vec<usize>,
    pub bounds: Vec<Option<f64>>,
    pub splits: Vec<Option<Split>>,
    pub certified: usize,
    pub least_bound: Option<f64>,
}

/// A range cut in two.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Split {
    pub node: String,
    pub token: usize,
    pub at: f64,
    pub below: Option<Box<Split>>,
    pub above: Option<Box<Split>>,
}
