//! Replay of the counter-example of a verdict file.

use openwork_verify::{CounterExample, Verdict, replay};

use crate::{Part, Project, VerdictFile};

/// Largest difference of logits, relative to their size (at least 1), that is rounding: another machine adds in another order.
const ROUNDING: f64 = 1e-3;

/// A counter-example that was run again. Every pair of numbers is for the positive and the negative prompt.
pub struct Replayed<'a> {
    /// The counter-example.
    pub example: &'a CounterExample,
    /// Logit of the answer above the alternative in the model.
    pub model: [f64; 2],
    /// The same in the run under the intervention.
    pub run: [f64; 2],
}

/// Reason that a verdict cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The verdict is about something else than this project.
    #[error("it is about another {}", list(differs))]
    Other {
        /// The parts that differ.
        differs: Vec<Part>,
    },
    /// The verdict is not a refutation.
    #[error("it says {verdict}, which comes without a counter-example")]
    NotRefuted {
        /// The verdict.
        verdict: String,
    },
    /// The refutation rests on no single pair.
    #[error("the circuit was refuted by {by} without one pair")]
    NoExample {
        /// Checks that failed.
        by: String,
    },
    /// The counter-example does not fit the model.
    #[error(transparent)]
    Example(#[from] openwork_verify::ReplayError),
}

fn list(parts: &[Part]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Replayed<'_> {
    /// True if model and run agree with the report, up to rounding.
    pub fn agrees(&self) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= ROUNDING * a.abs().max(1.0);
        (0..2).all(|i| near(self.model[i], self.example.model[i]) && near(self.run[i], self.example.run[i]))
    }
}

/// Runs the counter-example of a verdict file again.
///
/// # Errors
/// When the file is about another model, other means, another sample or tokenizer, has no counter-example, or one that does not fit the model.
pub fn replay_verdict<'a>(project: &Project, file: &'a VerdictFile) -> Result<Replayed<'a>, ReplayError> {
    let differs = file.about.differs_from_project(project);
    if !differs.is_empty() {
        return Err(ReplayError::Other { differs });
    }
    let Verdict::Refuted { by, counter_example } = &file.report.verdict else {
        return Err(ReplayError::NotRefuted { verdict: file.report.headline() });
    };
    let by = || by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let example = counter_example.as_ref().ok_or_else(|| ReplayError::NoExample { by: by() })?;
    let (model, run) = replay(&project.model, &project.means, example)?;
    Ok(Replayed { example, model, run })
}
