//! Certificates: statements about *all* inputs or *all* ablations, in a file that `openwork-check` re-derives.
//!
//! - [`exhaustive`]: every input of a finite [`Domain`] under every scheme; exact.
//! - [`statistical`]: a declared sample of inputs and partial ablations; an exact binomial bound.
//! - [`relaxation`]: for every input a sound lower bound over all partial ablations.
//!
//! ```
//! use openwork_circuit::{Domain, NodeSet, NodeSpace};
//! use openwork_model::{Config, Model};
//! use openwork_verify::certificate::{About, Scheme, exhaustive};
//!
//! let config = Config { vocab_size: 8, n_ctx: 4, n_layer: 1, d_model: 8, d_mlp: 8, ..Config::default() };
//! let model = Model::init(config, 0);
//! let about = About {
//!     model: &model,
//!     model_sha256: "of its file",
//!     circuit: &NodeSet::all(NodeSpace::new(&model.config)),
//!     constants: None,
//!     inputs: &Domain::all(&[0, 1, 2], 1..=3).unwrap(),
//!     answers: None,
//!     candidates: None,
//! };
//! let (certificate, certified) = exhaustive(&about, &[Scheme::Zero], 1000).unwrap();
//! assert_eq!(certified.bound, 0.0); // the whole model is itself on all 39 inputs
//! assert!(certificate.to_json().contains("exhaustive"));
//! ```
//!
//! The checker shares no code with this: what both do is written down in `openwork-check`, and done here in f32 and
//! on all threads, there in f64 and one token at a time.

mod exhaustive;
mod file;
mod relaxation;
mod run;
mod statistical;

use openwork_circuit::{Domain, NodeSet};
use openwork_model::Model;
use serde::{Deserialize, Serialize};

pub use exhaustive::{Scheme, exhaustive};
pub use file::Certificate;
pub use relaxation::{Relax, Rivals, relaxation};
pub use statistical::{Event, Sample, statistical};

/// What a certificate is about.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// The model.
    pub model: &'a Model,
    /// SHA-256 of its file.
    pub model_sha256: &'a str,
    /// The kept nodes.
    pub circuit: &'a NodeSet,
    /// What every ablated node takes, by node number (kept ones are not looked at); `None`: zero.
    pub constants: Option<&'a [f32]>,
    /// The inputs.
    pub inputs: &'a Domain,
    /// The right token of every input.
    pub answers: Option<&'a [u16]>,
    /// Two tokens of every input that the task chooses between.
    pub candidates: Option<&'a [(u16, u16)]>,
}

/// Which kind of certificate.
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

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exhaustive => "exhaustive",
            Self::Statistical => "statistical",
            Self::Relaxation => "relaxation",
        })
    }
}

/// What was certified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certified {
    /// How.
    pub kind: Kind,
    /// Over what, in words.
    pub scope: String,
    /// Exhaustive: worst KL(model ‖ circuit) in nats. Statistical: lower bound of the share of inputs and partial
    /// ablations on which the two agree. Relaxation: least margin in logits (−∞ where there is no bound).
    #[serde(with = "no_bound")]
    pub bound: f64,
    /// Runs that agree, samples that agree, or inputs whose margin is above zero; of all.
    pub share: f64,
    /// What the budget did not allow.
    pub unfinished: Vec<String>,
}

/// Why no certificate can be written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CertificateError {
    /// Something does not fit the model or the inputs.
    #[error("{what}: {found}, expected {expected}")]
    Misfit {
        /// What.
        what: &'static str,
        /// How much or which there is.
        found: usize,
        /// What would be right.
        expected: String,
    },
    /// The inputs alone are more than the budget.
    #[error("{inputs} inputs are more than the budget of {budget} runs; raise it, or certify by a sample")]
    Budget {
        /// Number of inputs.
        inputs: usize,
        /// Runs allowed.
        budget: usize,
    },
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

impl About<'_> {
    /// Checks that all parts fit each other.
    fn check(&self) -> Result<(), CertificateError> {
        let misfit = |what, found, expected| Err(CertificateError::Misfit { what, found, expected });
        let (config, nodes) = (&self.model.config, self.circuit.space().len());
        if *self.circuit.space() != openwork_circuit::NodeSpace::new(config) {
            return misfit("nodes of the circuit's model", nodes, "those of the model".into());
        }
        if let Some(constants) = self.constants.filter(|c| c.len() != nodes) {
            return misfit("constants for ablated nodes", constants.len(), format!("{nodes}, one a node"));
        }
        let n = self.inputs.len();
        for (what, len) in [("answers", self.answers.map(<[_]>::len)), ("candidates", self.candidates.map(<[_]>::len))]
        {
            if let Some(len) = len.filter(|&len| len != n) {
                return misfit(what, len, format!("{n}, one an input"));
            }
        }
        let products = self.inputs.products();
        if let Some(long) = products.iter().find(|p| p.len() > config.n_ctx) {
            return misfit("tokens of an input", long.len(), format!("at most n_ctx = {}", config.n_ctx));
        }
        let tokens = products.iter().flatten().flatten().chain(self.answers.into_iter().flatten());
        let mut tokens = tokens.chain(self.candidates.into_iter().flatten().flat_map(|(a, b)| [a, b]));
        if let Some(&token) = tokens.find(|&&t| usize::from(t) >= config.vocab_size) {
            return misfit("token", usize::from(token), format!("below the vocabulary of {}", config.vocab_size));
        }
        Ok(())
    }

    /// What an ablated node takes.
    fn fill(&self, node: usize) -> f32 {
        self.constants.map_or(0.0, |constants| constants[node])
    }

    /// What ablated nodes take, in words.
    fn fill_in_words(&self) -> &'static str {
        if self.constants.is_some() { "given constants" } else { "zero" }
    }
}
