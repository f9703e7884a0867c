//! Level 6: what can be certified of a circuit that has been judged.

use openwork_circuit::{Ablation, Calibration, Domain, Keep, NodeSpace, tasks::Pair};
use openwork_model::{Matrix, NoTap, Tokens};

use crate::{
    Case, CounterExample, Intervention, Limits, Report, Split, Verdict,
    certificate::{
        About, Certificate, CertificateError, Certified, Event, Kind, Relax, Rivals, Sample, Scheme, exhaustive,
        relaxation, statistical,
    },
};

/// How much work certificates may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Runs of an exhaustive certificate: minutes for models of thousands of weights.
    pub runs: usize,
    /// Prompts of a finite space whose values take the place of ablated ones, one after the other.
    pub sources: usize,
    /// Inputs that are bounded over all partial ablations; each takes milliseconds in small models and seconds in trained
    /// ones.
    pub bounded: usize,
    /// Draws of the statistical certificate: 3,000 without a failure bound them at 0.1 %, at 95 % confidence.
    pub samples: u64,
    /// Noise symbols of a bound, in a model of 4,096 nodes; larger ones get fewer. 512 take a few hundred megabytes.
    pub symbols: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { runs: 2_000_000, sources: 16, bounded: 256, samples: 3000, symbols: 512 }
    }
}

/// Writes the certificates that can be written: over all inputs of `domain`, if it is finite and given, and over all
/// partial ablations; else over samples of the held-out prompts and over partial ablations on some of them. Adds what
/// was certified to the report, and raises a strong verdict to [`Verdict::Certified`] where every input of the domain is
/// certified. Once the `limits` are over it begins nothing more, and the report says what that leaves out.
///
/// # Errors
/// When the domain does not fit the model.
pub fn certify(
    case: &Case<'_>,
    model_sha256: &str,
    domain: Option<&Domain>,
    effort: Effort,
    limits: &Limits<'_>,
    report: &mut Report,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<(&'static str, Certificate)>, CertificateError> {
    let n_ctx = case.model.config.n_ctx;
    let (prompts, candidates) = sequences(case.held_out, n_ctx);
    let listed = match domain {
        Some(_) => None,
        None => Some(Domain::listed(&prompts).map_err(|_| CertificateError::Misfit {
            what: "held-out prompts",
            found: 0,
            expected: "at least one".into(),
        })?),
    };
    let inputs = domain.or(listed.as_ref()).expect("one of them is there");
    let about = About {
        model: case.model,
        model_sha256,
        circuit: case.circuit,
        constants: Some(case.means.values()),
        inputs,
        answers: None,
        candidates: domain.is_none().then_some(&candidates[..]),
    };
    let mut written = Vec::new();
    let mut certified: Vec<Certified> = Vec::new();
    let mut keep = |name: &'static str, found: (Certificate, Certified)| {
        written.push((name, found.0));
        certified.push(found.1);
    };
    let mut begin = |what: &str, report: &mut Report| {
        let is_over = limits.are_over();
        match is_over {
            true => report.unfinished.push(format!("{what} (level 6): {}", limits.why())),
            false => progress(what),
        }
        !is_over
    };
    if domain.is_some() && begin("certificate over all inputs", report) {
        // Zeros are asked of circuits that are said to need no constants; the constants' own runs decide.
        match exhaustive(&about, &[Scheme::Constants, Scheme::Resample { sources: effort.sources }], effort.runs) {
            Ok(found) => keep("exhaustive", found),
            Err(CertificateError::Budget { inputs, budget }) => report.unfinished.push(format!(
                "a certificate over all inputs (level 6): {inputs} inputs are more than the budget of {budget} runs"
            )),
            Err(other) => return Err(other),
        }
    }
    let out_of_time = || limits.are_over();
    if begin("certificate over a sample of inputs and partial ablations", report) {
        let event = if domain.is_some() { Event::SameArgmax } else { Event::SameCandidate };
        let sample = Sample { event, seed: report.settings.seed, samples: effort.samples, confidence: 0.95 };
        keep("statistical", statistical(&about, sample, &out_of_time)?);
    }
    let bounded = inputs.len().min(if domain.is_some() { effort.bounded } else { SOME });
    if begin("bounds over all partial ablations", report) {
        let rivals = if domain.is_some() { Rivals::AllTokens } else { Rivals::OtherCandidate };
        // Symbols cost memory by tokens, features and themselves; larger models get fewer, down to plain intervals.
        let nodes = NodeSpace::new(&case.model.config).len();
        let symbols = (effort.symbols * 4096 / nodes.max(1)).clamp(0, effort.symbols);
        let relax = Relax { rivals, frozen_norms: false, symbols, inputs: bounded, splits: 0 };
        keep("relaxation", relaxation(&about, relax, &out_of_time)?);
    }

    let whole = |kind: Kind| {
        let of_kind = certified.iter().find(|c| c.kind == kind);
        of_kind.is_some_and(|c| c.share == 1.0 && c.unfinished.is_empty())
    };
    let all_bounded = whole(Kind::Relaxation) && bounded == inputs.len();
    if domain.is_some() && report.verdict == Verdict::Strong && (whole(Kind::Exhaustive) || all_bounded) {
        let scopes = certified.iter().filter(|c| c.share == 1.0).map(|c| c.scope.clone());
        report.verdict = Verdict::Certified { scope: scopes.collect::<Vec<_>>().join("; ") };
        report.rung = 6;
    }
    let judged = matches!(report.verdict, Verdict::Weak | Verdict::Strong | Verdict::Refuted { .. });
    if let Some(exhaustive) = certified.iter().find(|c| c.kind == Kind::Exhaustive && c.share < 1.0).filter(|_| judged)
    {
        refute(case, inputs, exhaustive, report);
    }
    report.findings.certificates = certified;
    Ok(written)
}

/// Over a finite space one input on which circuit and model disagree refutes: the first one is shown.
fn refute(case: &Case<'_>, inputs: &Domain, found: &Certified, report: &mut Report) {
    let name = "exhaustive";
    let words =
        format!("over all inputs circuit and model agree in a fraction {:.6} of runs ({})", found.share, found.scope);
    let check = crate::rules::check(name, crate::Role::Required, crate::Status::Failed, words.clone());
    report.checks.push(crate::Check { level: 6, ..check });
    report.rung = report.rung.min(5);
    report.reasons.insert(0, format!("{name}: {words}"));
    let example = || inputs.iter().find_map(|prompt| disagreement(case, prompt)).map(Box::new);
    report.verdict = match std::mem::replace(&mut report.verdict, Verdict::Error) {
        Verdict::Refuted { mut by, counter_example } => {
            by.push(name.into());
            Verdict::Refuted { by, counter_example: counter_example.or_else(example) }
        }
        _ => Verdict::Refuted { by: vec![name.into()], counter_example: example() },
    };
}

/// A prompt on which the circuit's likeliest token is another than the model's: these two are the candidates.
fn disagreement(case: &Case<'_>, prompt: Vec<u16>) -> Option<CounterExample> {
    let tokens = Tokens::new(&prompt, prompt.len());
    let last = [prompt.len() - 1];
    let model = case.model.forward(tokens, Some(&last), &mut NoTap).logits;
    let mut keep = Keep::new(case.circuit, Ablation::Mean(case.means));
    let run = case.model.forward(tokens, Some(&last), &mut keep).logits;
    let likeliest = |logits: &Matrix| {
        (0..logits.nrows()).fold(0, |best, t| if logits[[t, 0]] > logits[[best, 0]] { t } else { best })
    };
    let (answer, other) = (likeliest(&model), likeliest(&run));
    let difference = |logits: &Matrix| f64::from(logits[[answer, 0]]) - f64::from(logits[[other, 0]]);
    (answer != other).then(|| CounterExample {
        check: "exhaustive".into(),
        split: Split::HeldOut,
        pair: None,
        candidates: (answer as u16, other as u16),
        intervention: Intervention::keeping("only the circuit is kept", case.circuit),
        calibration: Calibration::NONE,
        model: [difference(&model); 2],
        run: [difference(&run); 2],
        prompts: [prompt.clone(), prompt],
    })
}

/// Prompts of a trained model that are bounded: each takes seconds.
const SOME: usize = 4;

/// The prompts of pairs as the model sees them, and their candidates.
#[allow(clippy::type_complexity, reason = "prompts and their candidates")]
fn sequences(pairs: &[Pair], n_ctx: usize) -> (Vec<Vec<u16>>, Vec<(u16, u16)>) {
    let seen = |prompt: &[u16]| prompt[prompt.len().saturating_sub(n_ctx)..].to_vec();
    let prompts = pairs.iter().flat_map(|p| [seen(&p.positive), seen(&p.negative)]).collect();
    (prompts, pairs.iter().flat_map(|p| [(p.answer, p.alternative); 2]).collect())
}
