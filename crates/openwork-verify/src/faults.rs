//! Faults: what makes a run worthless, by cause.

use serde::{Deserialize, Serialize};

use crate::Split;

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
    HookSilent,
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

/// Inputs of a verification that do not fit together, or would make its result worthless.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputError {
    /// Settings that decide nothing.
    #[error("settings: {0}")]
    Settings(SettingsError),
    /// The circuit is one of another model.
    #[error("the circuit belongs to a model of another shape")]
    OtherModel,
    /// The means are those of another model, or no numbers.
    #[error("the means belong to a model of another shape, or are not finite")]
    Means,
    /// Calibration or target loss is no number, or the target is not positive.
    #[error("calibration or target loss is not finite, or the target is not positive")]
    Target,
    /// A pair that cannot be run.
    #[error("{}: pair {pair} has an empty prompt, equal answers or an unknown token", of(*.split))]
    Pair {
        /// Its split; `None`: the selection pairs.
        split: Option<Split>,
        /// Its index there.
        pair: usize,
    },
    /// No selection pairs.
    #[error("there are no selection pairs, which other node sets are calibrated on")]
    NoSelection,
    /// A pair with a prompt of the selection.
    #[error("{split}: pair {pair} has a prompt that the circuit was selected on")]
    SelectedOn {
        /// Its split.
        split: Split,
        /// Its index there.
        pair: usize,
    },
    /// A pair that occurs twice.
    #[error("{split}: pair {pair} occurs twice; repeated pairs are no evidence")]
    Repeated {
        /// Its split.
        split: Split,
        /// Its second index there.
        pair: usize,
    },
    /// A pair of the held-out templates whose template is one of the selection.
    #[error("{split}: the template of pair {pair} is one the circuit was selected on")]
    TemplateSelectedOn {
        /// Its split.
        split: Split,
        /// Its index there.
        pair: usize,
    },
}

fn of(split: Option<Split>) -> String {
    split.map_or("selection".into(), |split| split.to_string())
}

/// Settings under which a verdict would mean nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingsError {
    /// Too few random sets for a small p-value.
    #[error("{found} random sets are too few, at least {least} are needed")]
    RandomSets {
        /// Random sets of each kind.
        found: usize,
        /// Fewest.
        least: usize,
    },
    /// Too few pairs or resamples.
    #[error("random_pairs, bootstrap or min_pairs is too small (1, 200, 2)")]
    TooSmall,
    /// A threshold that nothing can be compared with.
    #[error("a threshold is negative or not finite")]
    Threshold,
}

/// Fault that ends a verification with [`Verdict::Error`](crate::Verdict::Error).
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Inputs are unfit.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A run did not do what it had to.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Causal scrubbing could not be done.
    #[error("{reason}")]
    Scrubbing {
        /// The error of [`scrub`](crate::scrub).
        reason: String,
    },
    /// The hypothesis could not be examined.
    #[error("{reason}")]
    Hypothesis {
        /// The error of [`examine`](crate::hypothesis::examine).
        reason: String,
    },
    /// No certificate can be written about the domain.
    #[error("{reason}")]
    Certificates {
        /// The error of [`certificate`](crate::certificate).
        reason: String,
    },
}

impl Fault {
    /// Whether the circuit is judged on what it was selected on, or on the same evidence twice.
    pub fn is_leak(&self) -> bool {
        use InputError::{Repeated, SelectedOn, TemplateSelectedOn};
        matches!(self, Self::Input(SelectedOn { .. } | Repeated { .. } | TemplateSelectedOn { .. }))
    }
}
