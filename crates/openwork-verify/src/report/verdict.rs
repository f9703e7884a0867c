//! Verdicts and their reasons.

use openwork_circuit::Claim;
use serde::{Deserialize, Serialize};

use crate::{
    checks::{Unfinished, Why, id::CheckId},
    report::{counter_example::CounterExample, fault::Fault},
};

/// The judgement, from worst to best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The run itself cannot be trusted: a self-check failed or the inputs are unfit.
    Error {
        /// Cause.
        fault: Fault,
    },
    /// The model does not do the task, so that nothing is there to explain.
    NoTask,
    /// The question has no answer: too few pairs, or ablating everything costs the model nothing.
    Undefined,
    /// A required check failed.
    Refuted {
        /// The checks.
        by: Vec<CheckId>,
        /// The worst pair, where a pair can show it.
        counter_example: Option<Box<CounterExample>>,
    },
    /// No required check failed, and not all that a pass needs were made: levels were not asked for, time ran out, somebody
    /// ended the run, or a check could not be made of this circuit. Nothing can be said for the circuit or against it.
    Incomplete,
    /// Every required check of levels 1 to 4, and the hypothesis where one is given, was made and passed; something needed for
    /// `Strong` failed or is missing.
    Weak,
    /// Everything that can be tried was tried, and passed, under every ablation. Not a proof: see the declarations for
    /// what was tried.
    Strong,
    /// [`Verdict::Weak`] of a circuit that claims the contrast alone: no pass of the model's answers.
    ContrastWeak,
    /// [`Verdict::Strong`] of a circuit that claims the contrast alone, likewise.
    ContrastStrong,
    /// `Strong`, and a certificate that anyone can check covers the whole of what is stated.
    Certified {
        /// Scope of the certificates.
        scope: String,
    },
}

impl Verdict {
    /// True if the circuit passes as what it claims: weak, strong or certified.
    pub fn passed(&self) -> bool {
        self.passed_claim().is_some()
    }

    /// The claim that passes; none where none does.
    pub fn passed_claim(&self) -> Option<Claim> {
        match self {
            Verdict::Weak | Verdict::Strong | Verdict::Certified { .. } => Some(Claim::Answer),
            Verdict::ContrastWeak | Verdict::ContrastStrong => Some(Claim::Contrast),
            _ => None,
        }
    }

    /// One word for a headline.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Error { .. } => "ERROR",
            Verdict::NoTask => "NO TASK",
            Verdict::Undefined => "UNDEFINED",
            Verdict::Refuted { .. } => "REFUTED",
            Verdict::Incomplete => "INCOMPLETE",
            Verdict::Weak => "PASS (WEAK)",
            Verdict::Strong => "PASS (STRONG)",
            Verdict::ContrastWeak => "PASS (WEAK, contrast)",
            Verdict::ContrastStrong => "PASS (STRONG, contrast)",
            Verdict::Certified { .. } => "PASS (CERTIFIED)",
        }
    }
}

/// A reason of a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Every check that a strong pass needs passed.
    AllPassed,
    /// Every required check passed; what follows did not.
    OnlyRequiredPassed,
    /// No required check failed; those that follow were not made.
    NotAllMade,
    /// A check that a pass needs and that the run never came to.
    Absent {
        /// The check.
        check: CheckId,
    },
    /// The fault that ended the run.
    Fault(Fault),
    /// The failed gate that ended the run.
    Gate {
        /// The check.
        check: CheckId,
        /// Its explanation.
        explanation: String,
    },
    /// A check that refutes or weakens the circuit.
    Check {
        /// The check.
        check: CheckId,
        /// Its explanation.
        explanation: String,
    },
    /// A check that was left out.
    NotMade {
        /// The check.
        check: CheckId,
        /// Reason.
        why: Why,
    },
    /// A step that was left out or not finished.
    Unfinished(Unfinished),
    /// Levels that were not asked for.
    NotAsked {
        /// The first of them.
        from: u8,
        /// The last that a strong pass needs.
        to: u8,
    },
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AllPassed => f.write_str("every check that a strong pass needs was made and passed"),
            Self::OnlyRequiredPassed => f.write_str("every required check passed, but not all is well:"),
            Self::NotAllMade => f.write_str("no required check failed, but not every one that a pass needs was made:"),
            Self::Absent { check } => write!(f, "{check}: not made of this circuit"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Gate { explanation, .. } => f.write_str(explanation),
            Self::Check { check, explanation } => write!(f, "{check}: {explanation}"),
            Self::NotMade { check, why } => write!(f, "{check}: not made: {why}"),
            Self::Unfinished(what) => write!(f, "not finished: {what}"),
            Self::NotAsked { from, to } if from == to => write!(f, "level {to} was not asked for"),
            Self::NotAsked { from, to } => write!(f, "levels {from} to {to} were not asked for"),
        }
    }
}
