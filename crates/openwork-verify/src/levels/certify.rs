//! Level 6: what can be certified of a circuit that has been judged.

use std::collections::HashSet;

use openwork_circuit::{Ablation, Calibration, Claim, Domain, Keep};
use openwork_model::{Matrix, NoTap, Tokens};
use openwork_tasks::Pair;

use super::{Stop, Verifier};
use crate::{
    certificate::{
        About, Certificate, CertificateError, Certified, Event, Kind, Relax, Rivals, Sample, Scheme, exhaustive,
        relaxation, statistical,
    },
    checks::{Check, Status, Unfinished, Why, id::CheckId},
    levels::case::Case,
    report::{
        counter_example::{Change, CounterExample, Intervention},
        fault::Fault,
    },
    run::scheme::Split,
};

impl Verifier<'_> {
    /// Level 6: the certificates that can be written, over all inputs of the case's domain, if it has one, and over all
    /// partial ablations; else over samples of the held-out prompts and over partial ablations on some of them. A pass becomes
    /// certified where every input of a domain is; one input on which circuit and model disagree refutes. Once the time is
    /// over it begins nothing more. Certificates are about answers, and about nodes with all edges between them, so that none is
    /// written of a circuit that claims the contrast or leaves out edges.
    pub(super) fn certify(&mut self) -> Result<(), Stop> {
        let case = self.case;
        let none = match (case.claim, self.context.judged.is_masked()) {
            (Claim::Contrast, _) => Some(Why::ContrastClaimed),
            (Claim::Answer, true) => Some(Why::EdgesLeftOut),
            (Claim::Answer, false) => None,
        };
        if let Some(why) = none {
            let step = |kind| Unfinished::new(CheckId::Certificate { kind }, why);
            self.report.unfinished.extend([Kind::Exhaustive, Kind::Statistical, Kind::Relaxation].map(step));
            return Ok(());
        }
        let Listed { prompts, answers, candidates } = sequences(case.held_out, case.model.config.n_ctx);
        let listed = Domain::listed(&prompts).map_err(|e| Fault::Certificates { reason: e.to_string() })?;
        let inputs = case.domain.unwrap_or(&listed);
        let about = About {
            model: case.model,
            model_sha256: case.model_sha256,
            circuit: case.circuit.nodes(),
            constants: Some(case.means.values()),
            inputs,
            answers: case.domain.is_none().then_some(&answers[..]),
            candidates: case.domain.is_none().then_some(&candidates[..]),
        };
        let bounded = match case.domain {
            Some(_) => self.clock.limits.effort.bounded,
            None => SOME,
        };
        let bounded = bounded.min(inputs.len());
        let certified =
            self.certificates(&about, bounded).map_err(|e| Fault::Certificates { reason: e.to_string() })?;
        let whole = |kind: Kind| {
            let of_kind = certified.iter().find(|c| c.kind == kind);
            of_kind.is_some_and(|c| c.share == 1.0 && c.unfinished.is_empty())
        };
        let all_bounded = whole(Kind::Relaxation) && bounded == inputs.len();
        if case.domain.is_some() && (whole(Kind::Exhaustive) || all_bounded) {
            let scopes = certified.iter().filter(|c| c.share == 1.0).map(|c| c.scope.clone());
            self.certified = Some(scopes.collect::<Vec<_>>().join("; "));
        }
        if let Some(found) = certified.iter().find(|c| c.kind == Kind::Exhaustive && c.share < 1.0) {
            let words = format!(
                "over all inputs circuit and model agree in a fraction {:.6} of runs ({})",
                found.share, found.scope
            );
            self.push(Check::new(CheckId::Exhaustive, Status::Failed, words));
            if self.counter_example.is_none() {
                self.counter_example = inputs.iter().find_map(|prompt| disagreement(case, prompt));
            }
        }
        self.report.findings.certificates = certified;
        Ok(())
    }

    /// Writes the certificates that there is time for.
    fn certificates(&mut self, about: &About<'_>, bounded: usize) -> Result<Vec<Certified>, CertificateError> {
        let (clock, effort, over_domain) = (self.clock, self.clock.limits.effort, self.case.domain.is_some());
        let out_of_time = || clock.is_over();
        let mut certified = Vec::new();
        if over_domain && self.may_begin(Kind::Exhaustive) {
            // Zeros are asked of circuits that are said to need no constants; the constants' own runs decide.
            let schemes = [Scheme::Constants, Scheme::Resample { sources: effort.sources }];
            match exhaustive(about, &schemes, effort.runs) {
                Ok(found) => self.keep(found, &mut certified),
                Err(CertificateError::Budget { inputs, budget }) => {
                    let step = CheckId::Certificate { kind: Kind::Exhaustive };
                    let why = Why::OverBudget { inputs, budget };
                    self.report.unfinished.push(Unfinished::new(step, why));
                }
                Err(other) => return Err(other),
            }
        }
        if self.may_begin(Kind::Statistical) {
            let event = if over_domain { Event::SameArgmax } else { Event::RightCandidate };
            let sample = Sample { event, samples: effort.samples, confidence: 0.95 };
            self.keep(statistical(about, sample, &out_of_time)?, &mut certified);
        }
        if self.may_begin(Kind::Relaxation) {
            let rivals = if over_domain { Rivals::AllTokens } else { Rivals::OtherCandidate };
            // Symbols cost memory by tokens, features and themselves; larger models get fewer, down to plain intervals.
            let symbols = (effort.symbols * 4096 / about.circuit.space().len().max(1)).clamp(0, effort.symbols);
            let relax = Relax { rivals, frozen_norms: false, symbols, inputs: bounded, splits: 0 };
            self.keep(relaxation(about, relax, &out_of_time)?, &mut certified);
        }
        Ok(certified)
    }

    /// True if there is time for a certificate. If not, the report says that it was left out.
    fn may_begin(&mut self, kind: Kind) -> bool {
        let step = CheckId::Certificate { kind };
        if self.clock.is_over() {
            self.unfinished(step);
            return false;
        }
        (self.progress)(&step.to_string());
        true
    }

    fn keep(&mut self, (certificate, found): (Certificate, Certified), certified: &mut Vec<Certified>) {
        self.certificates.push((found.kind, certificate));
        certified.push(found);
    }
}

/// A prompt on which the circuit's likeliest token is another than the model's: these two are the candidates.
fn disagreement(case: &Case<'_>, prompt: Vec<u16>) -> Option<CounterExample> {
    let tokens = Tokens::new(&prompt, prompt.len());
    let last = [prompt.len() - 1];
    let model = case.model.forward(tokens, Some(&last), &mut NoTap).logits;
    let mut keep = Keep::new(case.circuit.nodes(), Ablation::Mean(case.means));
    let run = case.model.forward(tokens, Some(&last), &mut keep).logits;
    let likeliest = |logits: &Matrix| {
        (0..logits.nrows()).fold(0, |best, t| if logits[[t, 0]] > logits[[best, 0]] { t } else { best })
    };
    let (answer, other) = (likeliest(&model), likeliest(&run));
    let difference = |logits: &Matrix| f64::from(logits[[answer, 0]]) - f64::from(logits[[other, 0]]);
    (answer != other).then(|| CounterExample {
        check: CheckId::Exhaustive,
        split: Split::HeldOut,
        pair: None,
        candidates: (answer as u16, other as u16),
        intervention: Intervention::keeping(Change::OnlyCircuitKept, case.circuit.nodes()),
        calibration: Calibration::NONE,
        model: [difference(&model); 2],
        run: [difference(&run); 2],
        prompts: [prompt.clone(), prompt],
    })
}

/// Prompts of a trained model that are bounded: each takes seconds.
const SOME: usize = 4;

/// Prompts as the model sees them, and the right answer and the two candidates after each.
struct Listed {
    prompts: Vec<Vec<u16>>,
    answers: Vec<u16>,
    candidates: Vec<(u16, u16)>,
}

/// The prompts of pairs, each once.
fn sequences(pairs: &[Pair], n_ctx: usize) -> Listed {
    let mut listed = Listed { prompts: vec![], answers: vec![], candidates: vec![] };
    let mut seen = HashSet::new();
    for p in pairs {
        for (prompt, answer) in [(&p.positive, p.answer), (&p.negative, p.alternative)] {
            let prompt = prompt[prompt.len().saturating_sub(n_ctx)..].to_vec();
            if seen.insert(prompt.clone()) {
                listed.prompts.push(prompt);
                listed.answers.push(answer);
                listed.candidates.push((p.answer, p.alternative));
            }
        }
    }
    listed
}
