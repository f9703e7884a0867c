//! Report on a hypothesis: settings, verdict, and every check.

use openwork_tensor::{quoted, quoted_list};
use serde::{Deserialize, Serialize};

use crate::{checks::Status, stats::intervals::Estimate};

/// Thresholds and seed of the tests of a hypothesis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HypothesisSettings {
    /// Seed of base and source prompts.
    pub seed: u64,
    /// Most prompts, each the base of one run a check at most, so that runs have a base of their own. All values of
    /// all nodes on them are held in memory.
    pub max_prompts: usize,
    /// Prompts on which every unnamed node of the circuit is tried alone: 64 without a fault show 0.944.
    pub node_prompts: usize,
    /// Fewest runs that a check decides on: 36 without a fault are needed to show 0.9.
    pub min_runs: usize,
    /// Lower end of how often the hypothesis gives the model's answer without intervention: a hypothesis that is
    /// wrong one time in ten describes something else.
    pub min_accuracy: f64,
    /// Lower end of interchange-intervention accuracy.
    pub min_interchange: f64,
    /// Lower end of how often the answer stays where nothing that carries anything was changed.
    pub min_unchanged: f64,
}

impl Default for HypothesisSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            max_prompts: 256,
            node_prompts: 64,
            min_runs: 40,
            min_accuracy: 0.9,
            min_interchange: 0.9,
            min_unchanged: 0.9,
        }
    }
}

/// Identity of a check of a hypothesis. Reports hold it as a tag that does not change with the printed name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HypothesisCheckId {
    /// The hypothesis gives the model's answers without intervention.
    Answers,
    /// A variable is set from prompts on which the predicted answer changes.
    Interchange {
        /// Name of the variable.
        variable: String,
    },
    /// A variable is set to another value that leaves the predicted answer.
    InterchangeStays {
        /// Name of the variable.
        variable: String,
    },
    /// A variable is set from prompts of the same value.
    SameValue {
        /// Name of the variable.
        variable: String,
    },
    /// Several variables are set, each from a prompt of its own.
    InterchangeOfSeveral,
    /// All nodes that no variable names are set.
    AllUnnamed,
    /// The same with the named nodes held.
    AroundNamed,
    /// A random half of them is set.
    RandomHalf,
    /// Those outside the circuit are set.
    OutsideCircuit,
    /// Each of those in the circuit is set alone.
    EachUnnamed,
}

impl std::fmt::Display for HypothesisCheckId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Interchange { variable } => return write!(f, "interchange of {variable}"),
            Self::InterchangeStays { variable } => return write!(f, "interchange of {variable}, answer stays"),
            Self::SameValue { variable } => return write!(f, "same value of {variable}"),
            Self::Answers => "the model's answers",
            Self::InterchangeOfSeveral => "interchange of several",
            Self::AllUnnamed => "all nodes that no variable names",
            Self::AroundNamed => "around the named nodes",
            Self::RandomHalf => "a random half of the nodes that no variable names",
            Self::OutsideCircuit => "everything outside the circuit that no variable names",
            Self::EachUnnamed => "each circuit node that no variable names",
        })
    }
}

/// Identities as a list for people.
pub(crate) fn list(ids: &[HypothesisCheckId], separator: &str) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

/// Verdict on a hypothesis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HypothesisVerdict {
    /// A check failed.
    Refuted {
        /// Those checks.
        by: Vec<HypothesisCheckId>,
    },
    /// No check failed, but one that must decide could not.
    Undecided {
        /// Those checks.
        by: Vec<HypothesisCheckId>,
    },
    /// Every check passed.
    Supported,
}

/// A run that came out otherwise than predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HypothesisExample {
    /// Number of the base prompt.
    pub base: usize,
    /// Texts of its tokens.
    pub base_tokens: Vec<String>,
    /// Variables or nodes that were set, and the prompt that each took its value from.
    pub swapped: Vec<(String, usize)>,
    /// Texts of the tokens of the first of those prompts.
    pub source_tokens: Option<Vec<String>>,
    /// The hypothesis's answer under that intervention.
    pub predicted: String,
    /// The model's.
    pub found: String,
    /// The model's without intervention.
    pub plain: String,
}

/// One check of a hypothesis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HypothesisCheck {
    /// Identity; its `Display` is the name that people read.
    pub id: HypothesisCheckId,
    /// Outcome. Where too few runs could be drawn, it is not applicable.
    pub status: Status,
    /// Fraction of runs that came out as predicted, with its exact 95 % interval; none without runs.
    pub estimate: Option<Estimate>,
    /// The lower end must be at least this.
    pub threshold: f64,
    /// Mean KL(plain run ‖ patched run) in nats.
    pub kl: f64,
    /// In words.
    pub explanation: String,
    /// The first run that came out otherwise.
    pub example: Option<HypothesisExample>,
}

/// Report on a hypothesis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HypothesisReport {
    /// Its name.
    pub hypothesis: String,
    /// Supported, undecided or refuted.
    pub verdict: HypothesisVerdict,
    /// Every check.
    pub checks: Vec<HypothesisCheck>,
    /// Prompts used.
    pub prompts: usize,
    /// With what.
    pub settings: HypothesisSettings,
}

impl HypothesisReport {
    /// A check, if it was made.
    pub fn check(&self, id: &HypothesisCheckId) -> Option<&HypothesisCheck> {
        self.checks.iter().find(|c| c.id == *id)
    }

    /// The report as text for people: verdict, then every check, with the first run that came out otherwise.
    pub fn text(&self) -> String {
        let verdict = match &self.verdict {
            HypothesisVerdict::Refuted { by } => format!("REFUTED by {}", list(by, "; ")),
            HypothesisVerdict::Undecided { by } => format!("UNDECIDED: {}", list(by, "; ")),
            HypothesisVerdict::Supported => "SUPPORTED".into(),
        };
        let mut lines = vec![format!("HYPOTHESIS {}: {verdict}", self.hypothesis)];
        for check in &self.checks {
            let mark = match check.status {
                Status::Passed => "pass",
                Status::Failed => "FAIL",
                Status::NotApplicable => " -  ",
            };
            lines.push(format!("  {mark}  {}\n        {}", check.id, check.explanation));
            if let (Status::Failed, Some(e)) = (check.status, &check.example) {
                lines.push(format!("        {}", e.text()));
            }
        }
        lines.join("\n")
    }
}

impl HypothesisExample {
    /// In one sentence.
    pub fn text(&self) -> String {
        let what: Vec<String> =
            self.swapped.iter().map(|(what, source)| format!("{what} as on prompt {source}")).collect();
        let what = if what.is_empty() { String::new() } else { format!(" with {}", what.join(", ")) };
        let source = self.source_tokens.as_ref().map_or(String::new(), |s| format!(" (source {})", quoted_list(s)));
        format!(
            "for example prompt {} {}{what}{source}: predicted {}, found {}, without intervention {}",
            self.base,
            quoted_list(&self.base_tokens),
            quoted(&self.predicted),
            quoted(&self.found),
            quoted(&self.plain)
        )
    }
}
