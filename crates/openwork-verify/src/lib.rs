#![doc = include_str!("../README.md")]
//!
//! Stands beside `openwork-extract` on top of `openwork-circuit`. Statistics have the pair as their unit, since the two
//! sequences of a pair are dependent. Modules use only those before them: `streams`, `settings`, `stats`, `run`,
//! `certificate`, `checks`, `methods`, `hypothesis`, `report`, `levels`.

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
    form::Raw,
    id::{CheckId, Family, Quantity},
    needs::Needs,
    rule::{Rule, Threshold},
};
pub use levels::{
    Judgement,
    case::{Case, Effort, Limits, Meaning, Shift},
    recompute::Edited,
    verify, verify_through,
};
pub use methods::{
    adversary::{Attack, Attacker, Search},
    dissociation::{Claim, Contrast, Cost, Dissociation, DissociationError, dissociate},
    random_sets::{Draw, RandomSets, Subset},
    scrub::{
        OneScrub, ScrubError, ScrubPath, ScrubSettings, Scrubbed, ScrubbedRun, ScrubbedShifted, Sources, WorstScrub,
        scrub, scrub_once,
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
    measures::{AtBestShift, Cell, Faithfulness},
    prompts::PromptError,
    scheme::{AblationValue, Kept, Norms, Scheme, Split},
};
pub use settings::{ChangedSetting, Settings, SettingsError};
pub use stats::{
    equivalence,
    intervals::{Estimate, fraction, proportion},
};
