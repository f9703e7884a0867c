#![doc = include_str!("../README.md")]
//!
//! Stands between `openwork-model` and the crates that find circuits (`openwork-extract`) and judge them
//! (`openwork-verify`), which share no other code.

mod ablation;
mod batch;
mod circuit;
mod claim;
mod combined;
mod contrast;
mod domain;
mod edges;
mod evaluate;
mod file;
mod group;
mod growth;
mod json;
mod means;
mod nodes;
mod norms;
mod outcome;
mod parameters;
mod refined;
mod scored;
mod search;
mod tuned;

pub use ablation::{Ablation, Keep, Partial};
pub use batch::{Batch, batches};
pub use circuit::{Circuit, Label, MemberError, ResidualMaskError, Size};
pub use claim::{Claim, UnknownClaim};
pub use combined::{Combination, Combined};
pub use contrast::{contrast, differences, log_probs, log_softmax, softplus};
pub use domain::{Domain, DomainError};
pub use edges::{Edge, ResidualEdge, edges, residual_edges, weights_of, without_edges};
pub use evaluate::evaluate;
pub use file::{CircuitError, CircuitFile};
pub use group::Group;
pub use growth::{Agreements, Attacked, Grown, Growth, GrowthRound, GrowthStart, Phase, SizedBy};
pub use json::{JsonError, from_json};
pub use means::{Means, MeansError, data_sha256};
pub use nodes::{NoNode, Node, NodeError, NodeSet, NodeSpace};
pub use norms::{Frozen, NormScales};
pub use outcome::{BySide, Calibration, Outcome, by_pair, credit};
pub use parameters::Parameters;
pub use refined::{Hold, Refined};
pub use scored::{Parts, Score, Scored, UnknownScore};
pub use search::{LearnedMasks, Localisation, Localised, Objective, SearchSettings, UnknownObjective};
pub use tuned::{Sampler, Tuned};
