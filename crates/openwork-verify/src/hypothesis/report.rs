//! What the tests of a hypothesis say.

use serde::{Deserialize, Serialize};

use crate::{Estimate, Status};

/// How strict the tests of a hypothesis are.
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

/// What the tests say of a hypothesis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HypothesisVerdict {
    /// A check failed.
    Refuted {
        /// Their names.
        by: Vec<String>,
    },
    /// No check failed, but one that must decide could not.
    Undecided {
        /// Their names.
        by: Vec<String>,
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
    /// What was set (variables or nodes), and to its value on which prompt.
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
    /// Name.
    pub name: String,
    /// Whether it passed. Where too few runs could be drawn, it is not applicable.
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

/// What was found about a hypothesis.
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
    /// The check of a name.
    pub fn check(&self, name: &str) -> Option<&HypothesisCheck> {
        self.checks.iter().find(|c| c.name == name)
    }

    /// The report as text for people: verdict, then every check, with the first run that came out otherwise.
    pub fn words(&self) -> String {
        let verdict = match &self.verdict {
            HypothesisVerdict::Refuted { by } => format!("REFUTED by {}", by.join("; ")),
            HypothesisVerdict::Undecided { by } => format!("UNDECIDED: {}", by.join("; ")),
            HypothesisVerdict::Supported => "SUPPORTED".into(),
        };
        let mut lines = vec![format!("HYPOTHESIS {}: {verdict}", self.hypothesis)];
        for check in &self.checks {
            let mark = match check.status {
                Status::Passed => "pass",
                Status::Failed => "FAIL",
                Status::NotApplicable => " -  ",
            };
            lines.push(format!("  {mark}  {}\n        {}", check.name, check.explanation));
            if let (Status::Failed, Some(e)) = (check.status, &check.example) {
                lines.push(format!("        {}", e.words()));
            }
        }
        lines.join("\n")
    }
}

impl HypothesisExample {
    /// In one sentence.
    pub fn words(&self) -> String {
        let what: Vec<String> =
            self.swapped.iter().map(|(what, source)| format!("{what} as on prompt {source}")).collect();
        let what = if what.is_empty() { String::new() } else { format!(" with {}", what.join(", ")) };
        let source = self.source_tokens.as_ref().map_or(String::new(), |s| format!(" (source {s:?})"));
        format!(
            "for example prompt {} {:?}{what}{source}: predicted {:?}, found {:?}, without intervention {:?}",
            self.base, self.base_tokens, self.predicted, self.found, self.plain
        )
    }
}
