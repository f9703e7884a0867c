//! Judges circuits: does this set of nodes do what it is said to do, in this model, for this task?
//!
//! [`verify`] makes the checks of six levels, each able to fail, and returns a [`Report`] with a
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
//! Statements about *all* inputs or *all* ablations go into a [`certificate`], which another program re-derives.
//!
//! Beside the levels: [`scrub`] (causal scrubbing: everything outside the circuit resampled per path), [`hypothesis`]
//! (what a researcher says that nodes mean, tested by interchange interventions), [`dissociate`] (is the circuit of a task
//! of that one only?), [`Watch`] (a circuit beside its model on prompts as they come) and [`equivalence`] (tests in which
//! passing needs evidence).
//!
//! Stands beside `openwork-extract` on top of `openwork-circuit` and never sees how a circuit was found: controls
//! come in as values. It reads and prints nothing. Statistics have the pair as their unit, since the two sequences
//! of a pair are dependent.

mod checks;
mod levels;
mod methods;
mod report;
mod run;
mod settings;
mod stats;
mod streams;

pub mod certificate;
pub mod hypothesis;

pub use checks::{
    Check, Role, Status, Unfinished, Why,
    control::{Control, ControlKind, Controls},
    id::{CheckId, Family, Quantity},
};
pub use levels::{
    Judgement,
    case::{Case, Effort, Limits, Meaning, Shift},
    verify, verify_through,
};
pub use methods::{
    adversary::Attack,
    dissociation::{Claim, Contrast, Cost, Dissociation, DissociationError, dissociate},
    random_sets::{Draw, RandomSets, Subset},
    scrub::{
        OneScrub, ScrubError, ScrubPath, ScrubSettings, Scrubbed, ScrubbedRun, Sources, WorstScrub, scrub, scrub_once,
    },
    size_curve::{cpr_cmd, faithfulness_by_size, margin, sizes},
    watch::{Alarm, Sighting, Watch, WatchError, WatchSettings},
};
pub use report::{
    Contents, Report,
    counter_example::{Change, CounterExample, Intervention},
    fault::{Fault, InputError},
    findings::{Curve, CurveKind, Declaration, Findings, Incompleteness, NodeWorth, Rival, Size},
    levels::{LevelReport, LevelState},
    replay::{ReplayError, replay},
    verdict::{Reason, Verdict},
};
pub use run::{
    ablator::Ablator,
    error::RunError,
    measures::{Cell, Faithfulness},
    prompts::PromptError,
    scheme::{AblationValue, Kept, Norms, Scheme, Split},
};
pub use settings::{Settings, SettingsError};
pub use stats::{
    equivalence,
    intervals::{Estimate, proportion},
};
