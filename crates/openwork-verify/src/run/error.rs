//! Faults of a run, by cause.

use serde::{Deserialize, Serialize};

/// A run of the model that did not do what it had to.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunError {
    /// The forward pass left out a site, or took them in another order.
    #[error("the forward pass visited {visited} sites of nodes, expected {expected} in order")]
    Sites {
        /// Sites that the hook saw.
        visited: usize,
        /// Sites there are.
        expected: usize,
    },
    /// A hook was not called.
    #[error("a hook did not fire")]
    HookNotCalled,
    /// The residual stream received something else than the hook left.
    #[error("what the hook wrote before {site} is not what the model added")]
    Residual {
        /// The reader that saw it.
        site: String,
    },
    /// An ablated node kept another value than its ablation value.
    #[error("the hook at {site} left an ablated node with another value")]
    NotAblated {
        /// The site.
        site: String,
    },
    /// An ablated node deviates from its constant, and no entry changed.
    #[error("ablation changed nothing, though an ablated node differs from its constant")]
    ChangedNothing,
    /// No ablated node deviates from its constant, and an entry changed.
    #[error("ablation changed something, though no ablated node differs from its constant")]
    ChangedSomething,
    /// Logits are not numbers.
    #[error("the logits of pair {pair} are not finite")]
    NotFinite {
        /// The pair.
        pair: usize,
    },
    /// Keeping all nodes is not the model.
    #[error("keeping all nodes is not the model: logit differences are up to {distance:e} apart")]
    NotTheModel {
        /// Largest distance of logit differences.
        distance: f64,
    },
    /// Keeping no node is not the full partial ablation of all.
    #[error("keeping no node is not ablating all: logit differences are up to {distance:e} apart")]
    NotFullAblation {
        /// Largest distance of logit differences.
        distance: f64,
    },
    /// Gradient and finite differences disagree.
    #[error("the gradient of partial ablation is not its finite difference")]
    Gradient,
}
