//! Every input under every scheme.

use openwork_circuit::Domain;
use openwork_model::Cpu;
use rayon::prelude::*;

use super::{
    about::{About, CertificateError},
    claim::{Certified, Claim, ExhaustiveClaim, Kind, Run, Scheme},
    file::Certificate,
    run::{BATCH, Recorded, Replace, Source, kl, last_logits, plain_logits, top},
};
/// Sums over some runs.
struct Sum {
    total_kl: f64,
    worst: (f64, Run),
    agreeing: usize,
    right: usize,
}

/// Runs every input under every scheme: exact worst and mean KL(model ‖ circuit) in nats over the whole vocabulary at
/// the last token, and how often the most likely token is the model's, and right; ties count for nothing.
///
/// No more than `budget` runs: resampling takes as many sources as fit, and [`Certified::unfinished`] says how many
/// that leaves.
///
/// # Errors
/// When parts do not fit, or the schemes without their sources exceed the budget.
pub fn exhaustive(
    about: &About<'_>,
    schemes: &[Scheme],
    budget: usize,
) -> Result<(Certificate, Certified), CertificateError> {
    about.check()?;
    let n = about.inputs.len();
    let repeated = (1..schemes.len()).any(|i| schemes[..i].contains(&schemes[i]));
    let lacking = schemes.contains(&Scheme::Constants) && about.constants.is_none();
    if schemes.is_empty() || repeated || lacking {
        let expected = "at least one, none twice, and constants where asked for".into();
        return Err(CertificateError::Misfit { what: "schemes", found: schemes.len(), expected });
    }
    let (schemes, runs, unfinished) = within(schemes, n, budget)?;

    let batches = batches(about.inputs);
    let plain = run_all(about, &batches);
    let mut sums = Vec::new();
    for (scheme, kind) in schemes.iter().enumerate() {
        match kind {
            Scheme::Zero => sums.extend(filled(about, &batches, &plain, scheme, &|_| 0.0)),
            Scheme::Constants => {
                sums.extend(filled(about, &batches, &plain, scheme, &|node| about.ablation_value(node)))
            }
            Scheme::Resample { sources } => sums.extend(resampled(about, &batches, &plain, scheme, *sources)),
        }
    }
    let first = sums[0].worst;
    let (worst_kl, worst) = sums.iter().map(|s| s.worst).fold(first, |a, b| if b.0 > a.0 { b } else { a });
    let total: f64 = sums.iter().map(|s| s.total_kl).sum();
    let agreeing = sums.iter().map(|s| s.agreeing).sum();
    let answered = about.answers.is_some();
    let model_right =
        |answers: &[u16]| answers.iter().zip(&plain).filter(|(a, p)| top(p) == (usize::from(**a), true)).count();
    let claim = ExhaustiveClaim {
        inputs: n,
        schemes: schemes.clone(),
        runs,
        worst_kl_nats: worst_kl,
        worst,
        mean_kl_nats: total / runs as f64,
        agreeing,
        right: answered.then(|| sums.iter().map(|s| s.right).sum()),
        model_right: about.answers.map(model_right),
    };
    let certified = Certified {
        kind: Kind::Exhaustive,
        scope: format!("all {n} inputs, ablated nodes at {}", words(&schemes, n)),
        bound: worst_kl,
        share: agreeing as f64 / runs as f64,
        unfinished,
    };
    Ok((Certificate::new(about, Claim::Exhaustive(claim)), certified))
}

/// The schemes with as many sources as the budget allows, the number of runs, and what is left out.
fn within(schemes: &[Scheme], n: usize, budget: usize) -> Result<(Vec<Scheme>, usize, Vec<String>), CertificateError> {
    let resamples = schemes.iter().filter(|s| matches!(s, Scheme::Resample { .. })).count();
    let fixed = (schemes.len() - resamples).saturating_mul(n);
    let room = budget.saturating_sub(fixed) / n / resamples.max(1);
    if fixed > budget || (resamples > 0 && room == 0) {
        return Err(CertificateError::Budget { inputs: n, budget });
    }
    let (mut runs, mut unfinished) = (fixed, Vec::new());
    let fitting = schemes.iter().map(|&scheme| match scheme {
        Scheme::Resample { sources } => {
            let wanted = sources.clamp(1, n);
            let sources = wanted.min(room);
            runs += sources * n;
            if sources < wanted {
                unfinished.push(format!("resampling from {sources} of {wanted} inputs; the budget is {budget} runs"));
            }
            Scheme::Resample { sources }
        }
        other => other,
    });
    let fitting = fitting.collect();
    Ok((fitting, runs, unfinished))
}

fn words(schemes: &[Scheme], n: usize) -> String {
    let one = |scheme: &Scheme| match scheme {
        Scheme::Zero => "zero".to_owned(),
        Scheme::Constants => "given constants".to_owned(),
        Scheme::Resample { sources } if *sources == n => "their values on every other input".to_owned(),
        Scheme::Resample { sources } => format!("their values on each of {sources} inputs"),
    };
    schemes.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Numbers of inputs of one length.
struct Batch {
    first: usize,
    tokens: Vec<u16>,
    seq_len: usize,
}

fn batches(inputs: &Domain) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for (number, prompt) in inputs.iter().enumerate() {
        match batches.last_mut() {
            Some(last) if last.seq_len == prompt.len() && last.tokens.len() < BATCH * prompt.len() => {
                last.tokens.extend(prompt);
            }
            _ => batches.push(Batch { first: number, seq_len: prompt.len(), tokens: prompt }),
        }
    }
    batches
}

/// The model's logits on every input.
fn run_all(about: &About<'_>, batches: &[Batch]) -> Vec<Vec<f32>> {
    let one = |memory: &mut Cpu, b: &Batch| plain_logits(about.model, &b.tokens, b.seq_len, memory);
    batches.par_iter().map_init(Cpu::default, one).flatten_iter().collect()
}

/// The model's logits beside those of a run on the inputs of a batch.
fn compare(
    about: &About<'_>,
    batch: &Batch,
    plain: &[Vec<f32>],
    source: Source<'_>,
    memory: &mut Cpu,
    run: impl Fn(usize) -> Run,
) -> Sum {
    let (space, kept) = (about.circuit.space(), about.circuit.kept());
    let mut tap = Replace { space, kept, source, seq_len: batch.seq_len };
    let logits = last_logits(about.model, &batch.tokens, batch.seq_len, &mut tap, memory);
    let mut sum = Sum { total_kl: 0.0, worst: (f64::NEG_INFINITY, run(batch.first)), agreeing: 0, right: 0 };
    for (i, logits) in logits.iter().enumerate() {
        let input = batch.first + i;
        let kl = kl(&plain[input], logits);
        let (own, model) = (top(logits), top(&plain[input]));
        sum.total_kl += kl;
        if kl > sum.worst.0 {
            sum.worst = (kl, run(input));
        }
        sum.agreeing += usize::from(own == model && own.1);
        sum.right += usize::from(about.answers.is_some_and(|answers| own == (usize::from(answers[input]), true)));
    }
    sum
}

fn filled(
    about: &About<'_>,
    batches: &[Batch],
    plain: &[Vec<f32>],
    scheme: usize,
    constant: &(dyn Fn(usize) -> f32 + Sync),
) -> Vec<Sum> {
    let one = |memory: &mut Cpu, batch: &Batch| {
        compare(about, batch, plain, Source::Constants(&|n| constant(n)), memory, |input| Run {
            input,
            scheme,
            source: None,
        })
    };
    batches.par_iter().map_init(Cpu::default, one).collect()
}

fn resampled(about: &About<'_>, batches: &[Batch], plain: &[Vec<f32>], scheme: usize, sources: usize) -> Vec<Sum> {
    let n = about.inputs.len();
    let one = |memory: &mut Cpu, i: usize| -> Vec<Sum> {
        let source = (i as u128 * n as u128 / sources as u128) as usize;
        let run = Recorded::new(about.model, about.circuit.space(), &about.inputs.get(source), memory);
        let name = |input| Run { input, scheme, source: Some(source) };
        batches.iter().map(|batch| compare(about, batch, plain, Source::Run(&run), memory, name)).collect()
    };
    (0..sources).into_par_iter().map_init(Cpu::default, one).flatten_iter().collect()
}
