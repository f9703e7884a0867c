//! A sample of inputs and partial ablations.

use openwork_model::Cpu;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{
    about::{About, CertificateError},
    claim::{Certified, Claim, Event, Kind, StatisticalClaim},
    file::Certificate,
    run::{Replace, Source, last_logits, tie, top},
};
use crate::{stats::intervals::binomial_tail, streams::Stream};

/// Settings of the sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Event that is counted.
    pub event: Event,
    /// Most draws: 100 times a power of two.
    pub samples: u64,
    /// Confidence of the bound, such as 0.95; at least 0.9.
    pub confidence: f64,
}

/// Fewest samples. A number of samples is this times a power of two, so that nobody picks the one that looks best.
const LEAST: u64 = 100;

/// The largest number of samples that is at most `wanted`; none below [`LEAST`].
fn samples_within(wanted: u64) -> Option<u64> {
    (0..14).map(|k| LEAST << k).take_while(|n| *n <= wanted).last()
}

/// Draws inputs (uniformly, with replacement) and partial ablations (`x ← a + r (x − a)`, a its ablation value, r uniform in [0, 1) for
/// every ablated node by itself, the same at all tokens), and bounds the probability that the circuit is right, or agrees with the
/// model where no right answer is declared: the one-sided lower bound of Clopper and Pearson 1934. The draws follow from a hash of
/// what the claim is about, so that no seed can be searched; `openwork-check` says how.
///
/// Once `out_of_time`, it stops: fewer samples are a weaker bound, not a wrong one, since no result was looked at.
///
/// # Errors
/// When parts do not fit each other, samples are not 100 times a power of two, or the confidence is below 0.9.
pub fn statistical(
    about: &About<'_>,
    sample: Sample,
    out_of_time: &dyn Fn() -> bool,
) -> Result<(Certificate, Certified), CertificateError> {
    about.check()?;
    let misfit = |what, found, expected: &str| CertificateError::Misfit { what, found, expected: expected.into() };
    if samples_within(sample.samples) != Some(sample.samples) {
        return Err(misfit("samples", sample.samples as usize, "100 times a power of two, up to 819200"));
    }
    if !(sample.confidence >= 0.9 && sample.confidence <= 0.999_999) {
        return Err(misfit(
            "confidence in percent",
            (100.0 * sample.confidence) as usize,
            "90 at least, and below 100",
        ));
    }
    if sample.event.of_candidates() && about.candidates.is_none() {
        return Err(misfit("candidates", 0, "two an input, for an event about them"));
    }
    if sample.event.is_right() != about.answers.is_some() {
        return Err(misfit(
            "answers",
            about.answers.map_or(0, <[_]>::len),
            "an event about right answers where there are any",
        ));
    }
    let key = about.key(sample.event.name());
    let one = |memory: &mut Cpu, number: u64| u64::from(!succeeds(about, sample.event, key, number, memory));
    let (mut samples, mut failures) = (0, 0);
    // Each step doubles them.
    while samples < sample.samples && (samples == 0 || !out_of_time()) {
        let next = if samples == 0 { LEAST } else { 2 * samples };
        failures += (samples..next).into_par_iter().map_init(Cpu::default, one).sum::<u64>();
        samples = next;
    }
    let Sample { event, confidence, .. } = sample;
    let lower_bound = lower_bound(samples as usize, failures, confidence);
    let unfinished =
        (samples < sample.samples).then(|| format!("{} of {} samples", sample.samples - samples, sample.samples));
    let inputs = about.inputs.len();
    let claim = StatisticalClaim { inputs, event, samples, failures, confidence, lower_bound };
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

/// True if the circuit gives the right answer, or the model's where none is declared, by more than a tie.
fn succeeds(about: &About<'_>, event: Event, key: [u8; 32], number: u64, memory: &mut Cpu) -> bool {
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
    let choice = |logits: &[f32]| match (event.of_candidates(), about.candidates) {
        (true, Some(pairs)) => {
            let (a, b) = (usize::from(pairs[input].0), usize::from(pairs[input].1));
            let lead = f64::from(logits[a]) - f64::from(logits[b]);
            (if lead > 0.0 { a } else { b }, lead.abs() > tie(logits))
        }
        _ => top(logits),
    };
    let expected = match about.answers {
        Some(answers) => (usize::from(answers[input]), true),
        None => choice(&logits[0]),
    };
    expected.1 && choice(&logits[1]) == expected
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
