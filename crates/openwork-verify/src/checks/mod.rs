//! Checks: identity and outcome of each, and steps that were not finished.

pub mod control;
pub mod form;
pub mod id;
pub mod needs;
pub mod rule;

use serde::{Deserialize, Serialize};

use crate::{
    checks::id::CheckId,
    run::scheme::{Scheme, Split},
    stats::intervals::Estimate,
};

/// Part of a check in the verdict, the most decisive first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Failing it ends the run: nothing else would mean anything.
    Gate,
    /// Failing it refutes the circuit.
    Required,
    /// Failing or missing it leaves at most a weak pass.
    ForStrong,
    /// For the reader.
    Reported,
}

/// Outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Met.
    Passed,
    /// Not met.
    Failed,
    /// Could not be made, or decides nothing; a required one then leaves the verdict incomplete.
    NotApplicable,
}

impl Status {
    /// Passed or failed.
    pub(crate) fn of(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Identity; its `Display` is the name that people read.
    pub id: CheckId,
    /// The level it belongs to, 0 to 6.
    pub level: u8,
    /// Part in the verdict.
    pub role: Role,
    /// Pairs.
    pub split: Option<Split>,
    /// Ablation.
    pub ablation: Option<Scheme>,
    /// The quantity, with its interval.
    pub estimate: Option<Estimate>,
    /// Its p-value, corrected where several decide.
    pub p_value: Option<f64>,
    /// Bound that the quantity (or the p-value) is compared with.
    pub threshold: Option<f64>,
    /// Outcome.
    pub status: Status,
    /// Outcome in a sentence, for people.
    pub explanation: String,
}

impl Check {
    /// A check without numbers, with the level and the role of its identity.
    pub(crate) fn new(id: CheckId, status: Status, explanation: impl Into<String>) -> Self {
        Self {
            id,
            level: id.level(),
            role: id.role(),
            split: None,
            ablation: None,
            estimate: None,
            p_value: None,
            threshold: None,
            status,
            explanation: explanation.into(),
        }
    }

    /// A check that cannot be asked of the circuit at hand, and is only reported.
    pub(crate) fn not_asked(id: CheckId, explanation: impl Into<String>) -> Self {
        Self { role: Role::Reported, ..Self::new(id, Status::NotApplicable, explanation) }
    }
}

/// Reason that a step was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The caller ended the run.
    Interrupted,
    /// The time of the level or of the run was over.
    OutOfTime,
    /// The circuit leaves out edges, and the step is about nodes with all edges between them.
    EdgesLeftOut,
    /// The circuit claims the contrast, and the step is about answers.
    ContrastClaimed,
    /// The inputs alone exceed the budget of runs.
    OverBudget {
        /// Inputs.
        inputs: usize,
        /// Runs allowed.
        budget: usize,
    },
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::OutOfTime => f.write_str("no time was left"),
            Self::EdgesLeftOut => {
                f.write_str("the circuit leaves out edges, and it is about nodes with all their edges")
            }
            Self::ContrastClaimed => f.write_str("the circuit claims the contrast only, and it is about answers"),
            Self::OverBudget { inputs, budget } => {
                write!(f, "{inputs} inputs are more than the budget of {budget} runs")
            }
        }
    }
}

/// A step that was left out, or not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The check or step.
    pub check: CheckId,
    /// Its level.
    pub level: u8,
    /// Parts done, and all there are, where it was begun.
    pub done: Option<(usize, usize)>,
    /// Reason.
    pub why: Why,
}

impl Unfinished {
    /// A step of which nothing was done.
    pub(crate) fn new(check: CheckId, why: Why) -> Self {
        Self { check, level: check.level(), done: None, why }
    }

    /// The step and how much of it was done, without level and reason.
    pub fn step(&self) -> String {
        match self.done {
            Some((done, all)) => format!("{}: {done} of {all}", self.check),
            None => self.check.to_string(),
        }
    }
}

impl std::fmt::Display for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (level {}): {}", self.step(), self.level, self.why)
    }
}
