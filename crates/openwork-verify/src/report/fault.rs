//! Faults that end a verification, by cause.

use serde::{Deserialize, Serialize};

use crate::{
    run::{error::RunError, scheme::Split},
    settings::SettingsError,
};

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
    /// The circuit has an edge that is no nonzero weight of the model.
    #[error("the circuit has an edge where the model has no nonzero weight")]
    OtherEdges,
    /// The circuit leaves out a residual edge, which no weight ablates.
    #[error(
        "the circuit leaves out the residual edge {from} -> {to}, and no weight of the model belongs to that edge alone"
    )]
    ResidualEdge {
        /// The write.
        from: String,
        /// The read.
        to: String,
    },
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

/// Fault that ends a verification with [`Verdict::Error`](crate::report::verdict::Verdict::Error).
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
        /// The error of [`scrub`](crate::methods::scrub::scrub).
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
    /// True if the circuit is judged on what it was selected on, or on the same evidence twice.
    pub fn is_leak(&self) -> bool {
        use InputError::{Repeated, SelectedOn, TemplateSelectedOn};
        matches!(self, Self::Input(SelectedOn { .. } | Repeated { .. } | TemplateSelectedOn { .. }))
    }
}
