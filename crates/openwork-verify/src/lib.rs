//! Judges circuits: does this set of nodes do what it is said to do, in this model, for this task?
//!
//! [`verify`] climbs a ladder of checks, each made to be able to fail, and returns a [`Report`] with a
//! [`Verdict`]:
//!
//! 0. *Self-checks.* Keeping all nodes is the model bit for bit; every hook fired and changed what it had to; the pairs
//!    are none that the circuit was selected on; all numbers are finite. Otherwise [`Verdict::Error`].
//! 1. *The model does the task*, better than chance, else [`Verdict::NoTask`]; and does it through nodes, else
//!    [`Verdict::Undefined`]. Nonsense tasks end here.
//! 2. *Sufficiency.* With everything else ablated the circuit solves the task and agrees *with the model*: under means,
//!    zeros, values of other prompts and the most suitable constants, with norms free and frozen.
//! 3. *Necessity.* With only the circuit ablated the model loses the task, more than with random node sets of the same
//!    size and kind; knock-outs break circuit and model alike; every node is needed. *Controls*: the search that found
//!    the circuit must not find as small a circuit for nonsense labels or in a model of random weights.
//! 4. *Adversaries*: ablating a few other nodes turns no answers, nodes keep their roles, no rival does as well, and the
//!    circuit agrees with the model on other templates, lengths and words.
//! 5. *Causal scrubbing and hypotheses.*
//! 6. *Certificates.*
//!
//! What holds for *all* inputs or *all* ablations goes into a [`certificate`], which another program re-derives.
//!
//! Beside the ladder: [`scrub`] (causal scrubbing: everything outside the circuit resampled per path), [`hypothesis`]
//! (what a researcher says that nodes mean, tested by interchange interventions), [`dissociate`] (is the circuit of a task
//! of that one only?), [`Watch`] (a circuit beside its model on prompts as they come) and [`equivalence`] (tests in which
//! passing needs evidence).
//!
//! Stands beside `openwork-extract` on top of `openwork-circuit` and never sees how a circuit was found: controls
//! come in as values. It reads and prints nothing. Statistics have the pair as their unit, since the two sequences
//! of a pair are dependent.

mod activity;
mod adversary;
mod audit;
mod bench;
pub mod certificate;
mod checks;
mod curve;
mod dial;
mod dissociation;
pub mod equivalence;
mod faults;
pub mod hypothesis;
mod judge;
mod knockouts;
mod ladder;
mod measure;
mod optimal;
mod prompts;
mod random;
mod replay;
mod report;
mod rival;
mod rules;
mod scrub;
mod settings;
mod stats;
mod streams;
mod subject;
mod watch;
mod words;

use std::time::Instant;

use openwork_circuit::{Calibration, Domain, Means, NodeSet, tasks::Pair};
use openwork_model::Model;
use serde::{Deserialize, Serialize};

pub use audit::Ablator;
pub use checks::{Check, CheckId, Family, Quantity, Role, Status, Unfinished, Why};
pub use curve::{cpr_cmd, faithfulness_by_size, margin, sizes};
pub use dissociation::{Claim, Contrast, Cost, Dissociation, DissociationError, dissociate};
pub use faults::{Fault, InputError, RunError, SettingsError};
pub use judge::{Judgement, verify, verify_through};
pub use ladder::{Rung, RungState};
pub use prompts::PromptError;
pub use replay::{ReplayError, replay};
pub use report::{
    Attack, Cell, Change, Contents, CounterExample, Curve, CurveKind, Declaration, Draw, Faithfulness, Fill, Findings,
    Incompleteness, Intervention, Kept, NodeWorth, Norms, RandomSets, Reason, Report, Rival, Scheme, Size, Split,
    Subset, Verdict,
};
pub use scrub::{
    OneScrub, ScrubError, ScrubPath, ScrubSettings, Scrubbed, ScrubbedRun, Sources, WorstScrub, scrub, scrub_once,
};
pub use settings::Settings;
pub use stats::{Estimate, proportion};
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
    /// Pairs from elsewhere: other templates, lengths, words. Fewer than [`Settings::min_pairs`] of a split, or none of
    /// other templates, leave at most a weak pass.
    pub shifts: &'a [Shift<'a>],
    /// The pairs the circuit was selected on. None may recur above; node sets that come without a calibration
    /// are calibrated on them.
    pub selection: &'a [Pair],
    /// What somebody says that the nodes mean.
    pub meaning: Option<Meaning<'a>>,
    /// SHA-256 of the model's file, which certificates name.
    pub model_sha256: &'a str,
    /// All inputs there are, where they can be listed: level 6 certifies over them.
    pub domain: Option<&'a Domain>,
}

/// A hypothesis about a circuit, and what tokens are called in it.
#[derive(Clone, Copy)]
pub struct Meaning<'a> {
    /// The hypothesis.
    pub hypothesis: &'a hypothesis::Hypothesis,
    /// Text of a token.
    pub text: &'a dyn Fn(u16) -> String,
}

/// Pairs that differ from those the circuit was selected on in one respect.
#[derive(Clone, Copy, Debug)]
pub struct Shift<'a> {
    /// In which.
    pub split: Split,
    /// The pairs.
    pub pairs: &'a [Pair],
}

/// How far a run goes and what it may cost.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// The highest level, 1 to 6.
    pub level: u8,
    /// When all levels must be over. Each has its share of the time until then, and says what it could not finish
    /// in it; results of a run that finishes do not depend on it.
    pub until: Option<Instant>,
    /// Looked at between measurements: once true, the run ends with the report as far as it got.
    pub interrupted: &'a (dyn Fn() -> bool + Sync),
    /// Work of certificates.
    pub effort: Effort,
}

impl Limits<'_> {
    /// Levels up to `level`, as long as they take.
    pub fn level(level: u8) -> Self {
        Self { level, until: None, interrupted: &|| false, effort: Effort::default() }
    }

    /// Whether the time is over, or somebody wants to end the run.
    pub fn are_over(&self) -> bool {
        (self.interrupted)() || self.until.is_some_and(|until| Instant::now() > until)
    }

    /// Reason that steps are left out once they are.
    pub fn why(&self) -> Why {
        if (self.interrupted)() { Why::Interrupted } else { Why::OutOfTime }
    }
}

/// How much work certificates may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Runs of an exhaustive certificate: minutes for models of thousands of weights.
    pub runs: usize,
    /// Prompts of a finite space whose values take the place of ablated ones, one after the other.
    pub sources: usize,
    /// Inputs that are bounded over all partial ablations; each takes milliseconds in small models and seconds in trained
    /// ones.
    pub bounded: usize,
    /// Draws of the statistical certificate: 3,000 without a failure bound them at 0.1 %, at 95 % confidence.
    pub samples: u64,
    /// Noise symbols of a bound, in a model of 4,096 nodes; larger ones get fewer. 512 take a few hundred megabytes.
    pub symbols: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { runs: 2_000_000, sources: 16, bounded: 256, samples: 3000, symbols: 512 }
    }
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

impl ControlKind {
    /// Every kind: a report that is to pass strongly has a control of each.
    pub const ALL: [Self; 2] = [Self::NonsenseLabels, Self::RandomWeights];
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

/// Outcomes of the control searches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Controls<'a> {
    /// The searches that were done.
    pub done: &'a [Control],
    /// Controls whose search was begun and cut short for want of time: they say nothing, and the report names them.
    pub cut_short: &'a [ControlKind],
}
