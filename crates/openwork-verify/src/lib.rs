//! Judges circuits: does this set of nodes do what it is said to do, in this model, for this task?
//!
//! [`verify`] runs a ladder of checks, each made to be able to fail, and returns a [`Report`] with a
//! [`Verdict`]:
//!
//! 0. *Self-checks.* Keeping all nodes is the model; every hook fired and changed what it had to; the pairs are
//!    none that the circuit was selected on; all numbers are finite. Otherwise [`Verdict::Error`].
//! 1. *The model does the task*, better than chance, else [`Verdict::NoTask`]; and does it through nodes, else
//!    [`Verdict::Undefined`]. Nonsense tasks end here.
//! 2. *Sufficiency.* With everything else ablated the circuit solves the task and agrees *with the model*, on
//!    held-out pairs and on held-out templates.
//! 3. *Necessity.* With only the circuit ablated the model loses the task, more than with random node sets of
//!    the same size and kind, also active ones.
//! 4. *Random circuits* of the same size do worse.
//! 5. *Controls*: the search that found the circuit must not find as small a circuit for nonsense labels or in a
//!    model of random weights.
//!
//! Beside the ladder: [`scrub`] (causal scrubbing: everything outside the circuit resampled per path), [`hypothesis`]
//! (what a researcher says that nodes mean, tested by interchange interventions), [`Watch`] (a circuit beside its model
//! on prompts as they come) and [`equivalence`] (tests in which passing needs evidence).
//!
//! Stands beside `openwork-extract` on top of `openwork-circuit` and never sees how a circuit was found: controls
//! come in as values. It reads and prints nothing. Statistics have the pair as their unit, since the two sequences
//! of a pair are dependent.

mod audit;
pub mod equivalence;
pub mod hypothesis;
mod judge;
mod measure;
mod prompts;
mod random;
mod report;
mod rules;
mod scrub;
mod settings;
mod stats;
mod watch;
mod words;

use openwork_circuit::{Calibration, Means, NodeSet, tasks::Pair};
use openwork_model::Model;
use serde::{Deserialize, Serialize};

pub use judge::verify;
pub use report::{
    Cell, Check, CounterExample, Declaration, Draw, Faithfulness, Fill, Kept, RandomSets, Report, Role, Size, Split,
    Status, Verdict,
};
pub use scrub::{ScrubError, ScrubSettings, Scrubbed, ScrubbedRun, Sources, WorstScrub, scrub};
pub use settings::Settings;
pub use stats::Estimate;
pub use watch::{Alarm, Sighting, Watch, WatchError, WatchSettings};

/// A circuit and what it is accused of: being how this model does this task.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The model.
    pub model: &'a Model,
    /// Means of its nodes over training data.
    pub means: &'a Means,
    /// The kept nodes.
    pub circuit: &'a NodeSet,
    /// Scale and shift of the circuit's logit difference, fitted with the circuit under mean ablation.
    pub calibration: Calibration,
    /// Loss the circuit was asked to reach, nats per sequence.
    pub target_loss: f64,
    /// Fresh pairs of the templates the circuit was selected on.
    pub held_out: &'a [Pair],
    /// Pairs of templates it was not selected on; fewer than [`Settings::min_pairs`] leave at most a weak pass.
    pub held_out_templates: &'a [Pair],
    /// The pairs the circuit was selected on. None may recur above; node sets that come without a calibration
    /// are calibrated on them.
    pub selection: &'a [Pair],
}

/// A place where the search for circuits must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlKind {
    /// The same prompts with answers that have nothing to do with the model's.
    NonsenseLabels,
    /// The same task in a model of random weights with the same number of nonzeros.
    RandomWeights,
}

impl std::fmt::Display for ControlKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ControlKind::NonsenseLabels => "nonsense labels",
            ControlKind::RandomWeights => "random weights",
        })
    }
}

/// The best that the same search with the same budget achieved on a control.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Which control.
    pub kind: ControlKind,
    /// Whether it reached the target loss.
    pub reached_target: bool,
    /// Its loss, nats per sequence.
    pub loss: f64,
    /// Its nodes.
    pub nodes: usize,
    /// Weights between them.
    pub edges: usize,
}
