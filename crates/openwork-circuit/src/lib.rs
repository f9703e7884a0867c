//! What a circuit *is*: the nodes of a model ([`NodeSpace`], [`NodeSet`]), the weights between them
//! ([`edges`]), what a removed node is replaced by ([`Ablation`]), the tasks it is about ([`tasks`]), how a
//! model does on them ([`evaluate`]), and the file ([`CircuitFile`]).
//!
//! Stands between `openwork-model` and the crates that find circuits (`openwork-extract`) and judge them
//! (`openwork-verify`), which share no other code.

mod ablation;
mod domain;
mod edges;
mod evaluate;
mod file;
mod means;
mod nodes;
mod norms;
/// Pairs, which evaluation takes.
pub use openwork_tasks as tasks;

pub use ablation::{Ablation, Keep, Partial, Values};
pub use domain::{Domain, DomainError};
pub use edges::{Edge, edges, weights_of};
pub use evaluate::{Batch, Calibration, Outcome, batches, evaluate};
pub use file::{CircuitError, CircuitFile};
pub use means::{Means, MeansError};
pub use nodes::{Node, NodeSet, NodeSpace};
pub use norms::{Frozen, NormScales};
