//! Verification of a circuit file as the program does it: splits of its task, control searches, levels, certificates.

use std::{ops::ControlFlow, time::Instant};

use openwork_circuit::CircuitFile;
use openwork_tasks::Splits;
use openwork_verify::{
    Case, Control, ControlKind, Controls, Judgement, Limits, Meaning, Report, Settings, Shift, Split,
    certificate::{Certificate, Kind},
    hypothesis::Hypothesis,
    verify,
};

use crate::{Project, ProjectError, SearchStep, control_searches};

/// Highest level where nobody asks for another: everything that tries to refute. Certificates are asked for.
pub const DEFAULT_LEVEL: u8 = 5;

/// Progress of a verification.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// A step of a control search.
    Search(SearchStep<'a>),
    /// Name of the check that begins.
    Check(&'a str),
}

/// Outcome of a verification.
pub struct Verification {
    /// Outcome of the control searches.
    pub controls: Vec<Control>,
    /// Report of the verifier.
    pub report: Report,
    /// Certificates by kind, at level 6.
    pub certificates: Vec<(Kind, Certificate)>,
}

/// Request for a verification.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The circuit.
    pub circuit: &'a CircuitFile,
    /// Meaning that somebody claims for its nodes.
    pub hypothesis: Option<&'a Hypothesis>,
    /// True if the control searches run, with which level 3 compares the circuit.
    pub with_controls: bool,
    /// Settings of the verifier.
    pub settings: &'a Settings,
    /// Highest level and time. Control searches take half of the time at most.
    pub limits: &'a Limits<'a>,
}

/// Runs the control searches and verifies the circuit. `on_stage` is told of every step.
///
/// # Errors
/// When the circuit was found with other means, its task is unknown, or a control search cannot run.
pub fn verify_circuit(
    project: &Project,
    request: Request<'_>,
    on_stage: &mut dyn FnMut(Stage<'_>),
) -> Result<Verification, ProjectError> {
    let Request { circuit, hypothesis, settings, limits, .. } = request;
    project.check_means(circuit)?;
    let splits = project.splits_of(circuit)?;
    let with_controls = request.with_controls && limits.level >= 3;
    let controls = match with_controls {
        true => controls_within(limits, project, circuit, &splits, on_stage)?,
        false => vec![],
    };
    let text = |token: u16| project.tokenizer.decode(&[token]);
    let case = Case {
        model: &project.model,
        means: &project.means,
        circuit: &circuit.circuit,
        calibration: circuit.calibration,
        target_loss: circuit.target_loss,
        held_out: &splits.held_out,
        shifts: &shifts(&splits),
        selection: &splits.selection,
        meaning: hypothesis.map(|hypothesis| Meaning { hypothesis, text: &text }),
        model_sha256: &project.model_sha256,
        domain: None,
    };
    let cut_short: &[ControlKind] = if with_controls { &ControlKind::ALL } else { &[] };
    let found = Controls { done: &controls, cut_short };
    let Judgement { report, certificates } =
        verify(&case, found, settings, limits, &mut |what| on_stage(Stage::Check(what)));
    Ok(Verification { controls, report, certificates })
}

/// The control searches, in half of the time there is.
fn controls_within(
    limits: &Limits<'_>,
    project: &Project,
    circuit: &CircuitFile,
    splits: &Splits,
    on_stage: &mut dyn FnMut(Stage<'_>),
) -> Result<Vec<Control>, ProjectError> {
    let started = Instant::now();
    let until = limits.until.map(|until| started + (until - started) / 2);
    control_searches(project, circuit, splits, &mut |step| {
        on_stage(Stage::Search(step));
        match (limits.interrupted)() || until.is_some_and(|until| Instant::now() > until) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })
}

/// The splits of other templates, words and lengths, as the verifier takes them.
fn shifts(splits: &Splits) -> [Shift<'_>; 3] {
    [
        Shift { split: Split::HeldOutTemplates, pairs: &splits.held_out_templates },
        Shift { split: Split::Vocabulary, pairs: &splits.vocabulary },
        Shift { split: Split::Lengths, pairs: &splits.lengths },
    ]
}
