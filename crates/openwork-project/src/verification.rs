//! Verification of a circuit file as the program does it: splits of its task, control searches, levels, certificates, and the files
//! that keep what came out.

use std::{
    collections::HashSet,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Instant,
};

use openwork_circuit::{CircuitFile, batches};
use openwork_tasks::{Pair, Splits};
use openwork_verify::{
    Case, Control, ControlKind, Controls, Judgement, Limits, Meaning, Report, Settings, Shift, Split,
    certificate::{Certificate, Kind},
    hypothesis::Hypothesis,
    verify,
};

use crate::{
    Project, ProjectError, SearchStep, VerdictError, VerdictFile, control_searches, earlier_verdicts,
    pairs::{pairs_json, write_text},
    pairs_path,
    tasks::check_finite,
    verdict_log::log_verdict,
    write_certificates,
};

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
    /// The pairs that it was made on.
    splits: Splits,
}

/// A verification with the files that keep it.
pub struct Recorded {
    /// Contents of the verdict file.
    pub verdict: VerdictFile,
    /// Certificates that were written.
    pub certificates: Vec<PathBuf>,
    /// Lines of the log of verdicts that could not be read.
    pub unreadable: usize,
}

impl Verification {
    /// Writes what came of `request` on the circuit at `path`: its line of the log of verdicts, pairs, certificates, and the verdict
    /// at `out`.
    ///
    /// # Errors
    /// When the log cannot be read, a file cannot be written, or, without `force`, another verification has written a verdict
    /// meanwhile that this one should not replace ([`VerdictFile::check_replaceable`]).
    pub fn record(
        self,
        project: &Project,
        request: &Request<'_>,
        path: &Path,
        out: &Path,
        force: bool,
    ) -> Result<Recorded, VerdictError> {
        let circuit = request.circuit;
        let (earlier, unreadable) = earlier_verdicts(path, &circuit.task)?;
        let pairs = pairs_json(&circuit.task, project.tokenizer.sha256(), &self.splits);
        let pairs_sha256 = openwork_tensor::sha256_bytes(pairs.as_bytes());
        let verdict = VerdictFile::new(project, circuit, (self.controls, self.report), pairs_sha256, earlier);
        // The log first: a run that is killed here was still a try.
        log_verdict(path, &verdict)?;
        if !force {
            VerdictFile::check_replaceable(project, path, request, out)?;
        }
        write_text(&pairs_path(out), &pairs)?;
        let task = format!("{}: held-out pairs of seed {}", circuit.task, verdict.report.settings.seed);
        let certificates = write_certificates(path, &task, &self.certificates)?;
        verdict.write(out)?;
        Ok(Recorded { verdict, certificates, unreadable })
    }
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
/// When the circuit was found with other means or another tokenizer, its task is unknown, or a control search cannot run.
pub fn verify_circuit(
    project: &Project,
    request: Request<'_>,
    on_stage: &mut dyn FnMut(Stage<'_>),
) -> Result<Verification, ProjectError> {
    let Request { circuit, hypothesis, settings, limits, .. } = request;
    project.check_means(circuit)?;
    let splits = judging_splits(project, circuit, settings.seed)?;
    check_finite(&project.model, &batches(&splits.held_out, 8, project.model.config.n_ctx))?;
    let with_controls = request.with_controls && limits.level >= 3;
    let controls = match with_controls {
        true => controls_within(request, project, &splits, on_stage)?,
        false => vec![],
    };
    let text = |token: u16| project.tokenizer.decode(&[token]);
    let case = Case {
        model: &project.model,
        means: &project.means,
        circuit: &circuit.circuit,
        claim: circuit.claim,
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
    Ok(Verification { controls, report, certificates, splits })
}

/// The pairs that a circuit is judged on: those of the verifier's seed, less what the circuit's own search saw under the seed that
/// its file names.
fn judging_splits(project: &Project, circuit: &CircuitFile, seed: u64) -> Result<Splits, ProjectError> {
    let own = project.splits_of(circuit)?;
    if seed == circuit.seed {
        return Ok(own);
    }
    let prompts = |p: &Pair| [p.positive.clone(), p.negative.clone()];
    let seen: HashSet<Vec<u16>> = own.train.iter().chain(&own.selection).flat_map(prompts).collect();
    let mut splits = project.splits(crate::find_task(&circuit.task)?, seed)?;
    for pairs in [&mut splits.held_out, &mut splits.held_out_templates, &mut splits.lengths] {
        pairs.retain(|p| prompts(p).iter().all(|prompt| !seen.contains(prompt)));
    }
    Ok(splits)
}

/// The control searches, in half of the time there is.
fn controls_within(
    Request { circuit, settings, limits, .. }: Request<'_>,
    project: &Project,
    splits: &Splits,
    on_stage: &mut dyn FnMut(Stage<'_>),
) -> Result<Vec<Control>, ProjectError> {
    let started = Instant::now();
    let until = limits.until.map(|until| started + (until - started) / 2);
    control_searches(project, circuit, splits, settings, &mut |step| {
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
