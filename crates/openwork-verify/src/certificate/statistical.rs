//! A sample of inputs and partial ablations.

use openwork_model::Cpu;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{
    about::{About, CertificateError},
    claim::{Certified, Claim, Event, Kind, StatisticalClaim},
    file::Certificate,
    run::{Replace, Source, last_logits},
};
use crate::{run::measures::argmax, stats::intervals::binomial_tail, streams::Stream};

/// Settings of the sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Event that is counted.
    pub event: Event,
    /// Seed of the draws.
    pub seed: u64,
    /// Number of draws.
    pub samples: u64,
    /// Confidence of the bound, such as 0.95.
    pub confidence: f64,
}

/// Samples between two looks at the clock.
const BLOCK: u64 = 128;

/// Draws inputs (uniformly, with replacement) and partial ablations (`x ← a + r (x − a)`, a its ablation value, r uniform in [0, 1) for
/// every ablated node by itself, the same at all tokens), and bounds the probability that circuit and model agree:
/// the one-sided lower bound of Clopper and Pearson 1934. Same seed, same sample, whatever the threads; the stream is
/// written down in `openwork-check`.
///
/// Once `out_of_time`, it stops: fewer samples are a weaker bound, not a wrong one, since no result was looked at.
///
/// # Errors
/// When parts do not fit each other.
pub fn statistical(
    about: &About<'_>,
    sample: Sample,
    out_of_time: &dyn Fn() -> bool,
) -> Result<(Certificate, Certified), CertificateError> {
    about.check()?;
    let misfit = |what, found, expected: &str| CertificateError::Misfit { what, found, expected: expected.into() };
    if sample.samples == 0 || !(sample.confidence > 0.0 && sample.confidence < 1.0) {
        return Err(misfit("samples", sample.samples as usize, "at least one, and a confidence between 0 and 1"));
    }
    if sample.event == Event::SameCandidate && about.candidates.is_none() {
        return Err(misfit("candidates", 0, "two an input, for an event about them"));
    }
    let one = |memory: &mut Cpu, number: u64| u64::from(!agrees(about, sample, number, memory));
    let (mut samples, mut failures) = (0, 0);
    while samples < sample.samples && (samples == 0 || !out_of_time()) {
        let next = (samples + BLOCK).min(sample.samples);
        failures += (samples..next).into_par_iter().map_init(Cpu::default, one).sum::<u64>();
        samples = next;
    }
    let Sample { event, seed, confidence, .. } = sample;
    let lower_bound = lower_bound(samples as usize, failures, confidence);
    let unfinished =
        (samples < sample.samples).then(|| format!("{} of {} samples", sample.samples - samples, sample.samples));
    let inputs = about.inputs.len();
    let claim = StatisticalClaim { inputs, event, seed, samples, failures, confidence, lower_bound };
    let certified = Certified {
        kind: Kind::Statistical,
        scope: format!(
            "with confidence {confidence}, over {inputs} inputs and partial ablations towards {}, each equally likely",
            about.ablation_value_text()
        ),
        bound: lower_bound,
        share: (samples - failures) as f64 / samples as f64,
        unfinished: unfinished.into_iter().collect(),
    };
    Ok((Certificate::new(about, Claim::Statistical(claim)), certified))
}

fn agrees(about: &About<'_>, sample: Sample, number: u64, memory: &mut Cpu) -> bool {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&sample.seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(Stream::CertificateSample(number).number());
    let input = ((u128::from(rng.next_u64()) * about.inputs.len() as u128) >> 64) as usize;
    let kept = about.circuit.kept();
    // 24 bits are exact in f32.
    let mut coefficient = |&kept: &bool| if kept { 1.0 } else { (rng.next_u32() >> 8) as f32 / (1 << 24) as f32 };
    let r: Vec<f32> = kept.iter().map(&mut coefficient).collect();
    let prompt = about.inputs.get(input);
    let constant = |node| about.ablation_value(node);
    let source = Source::Partial(&r, &constant);
    let mut tap = Replace { space: about.circuit.space(), kept, source, seq_len: prompt.len() };
    // The model and the ablated run side by side.
    let logits = last_logits(about.model, &[&prompt[..], &prompt[..]].concat(), prompt.len(), &mut tap, memory);
    let choice = |logits: &[f32]| match (sample.event, about.candidates) {
        (Event::SameCandidate, Some(pairs)) => {
            let (a, b) = pairs[input];
            usize::from(logits[usize::from(a)] <= logits[usize::from(b)])
        }
        _ => argmax(logits),
    };
    choice(&logits[0]) == choice(&logits[1])
}

/// The p at which `n − failures` or more successes of n have probability `1 − confidence`.
fn lower_bound(n: usize, failures: u64, confidence: f64) -> f64 {
    let successes = n - failures as usize;
    if successes == 0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if binomial_tail(n, successes, middle) < 1.0 - confidence { low = middle } else { high = middle }
    }
    low
}
