//! Redraws a sample of inputs and partial ablations, and counts again.

use std::collections::HashMap;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    Rejected,
    certificate::{Case, Count, Statistical, argmax, demand, malformed},
    model::Model,
};

/// Fewest and most samples; a number of them is the fewest times a power of two, so that nobody picks the one that looks best.
const LEAST_SAMPLES: u64 = 100;
const MOST_SAMPLES: u64 = LEAST_SAMPLES << 13;

/// Least and greatest confidence.
const CONFIDENCE: (f64, f64) = (0.9, 0.999_999);

/// Re-derives the claim; returns it in words.
///
/// Sample `k` is drawn from ChaCha8 with the key [`Case::key`] and the stream `k`: the input is number `⌊u64 · inputs / 2⁶⁴⌋`; then
/// for every ablated node in order `r = ⌊u32 / 2⁸⌋ / 2²⁴`, the same at all tokens. The node's value x becomes
/// `fill + r (x − fill)`. A sample fails unless the circuit gives the right answer, or the model's where none is declared, beyond
/// a tie.
pub fn check(model: &Model, case: &Case, claim: &Statistical) -> Result<String, Rejected> {
    let n = case.len();
    demand(claim.inputs == n, "inputs", claim.inputs, n)?;
    let allowed = (0..14).map(|k| LEAST_SAMPLES << k).collect::<Vec<_>>();
    if !allowed.contains(&claim.samples) {
        let words = format!("{} is not {LEAST_SAMPLES} times a power of two up to {MOST_SAMPLES}", claim.samples);
        return Err(malformed("samples", words));
    }
    if claim.failures > claim.samples {
        return Err(malformed("failures", format!("{} of {} samples", claim.failures, claim.samples)));
    }
    if !(claim.confidence >= CONFIDENCE.0 && claim.confidence <= CONFIDENCE.1) {
        return Err(malformed(
            "confidence",
            format!("{} is not from {} to {}", claim.confidence, CONFIDENCE.0, CONFIDENCE.1),
        ));
    }
    if claim.event.of_candidates() && case.candidates.is_none() {
        return Err(malformed("event", "it is about two candidates, and the domain declares none".into()));
    }
    if claim.event.is_right() != case.answers.is_some() {
        return Err(malformed("event", "right answers judge where the domain declares them, and only there".into()));
    }
    case.demand_work(model, 2 * claim.samples)?;
    let (key, mut plain, mut right) = (case.key(claim.event), HashMap::new(), Count::default());
    for sample in 0..claim.samples {
        let (input, run) = draw(model, case, key, sample);
        let choice = |logits: &[f64]| match (claim.event.of_candidates(), &case.candidates) {
            (true, Some(pairs)) => {
                let [a, b] = pairs[input];
                (if logits[a] > logits[b] { a } else { b }, (logits[a] - logits[b]).abs())
            }
            _ => argmax(logits),
        };
        let (circuit_choice, circuit_lead) = choice(&run);
        match &case.answers {
            Some(answers) => right.add(circuit_choice == answers[input], &[(circuit_lead, &run)]),
            None => {
                let plain: &Vec<f64> =
                    plain.entry(input).or_insert_with(|| model.logits(&case.input(input), &mut |_, _, _| ()));
                let (model_choice, lead) = choice(plain);
                right.add(circuit_choice == model_choice, &[(lead, plain), (circuit_lead, &run)]);
            }
        }
    }
    right.demand("failures", claim.samples - claim.failures).map_err(|rejected| match rejected {
        Rejected::Claim { claim, claimed, found } => {
            let successes = |text: String| format!("{text} without failure");
            Rejected::Claim { claim, claimed: successes(claimed), found: successes(found) }
        }
        other => other,
    })?;
    let bound = lower_bound(claim.samples, claim.failures, claim.confidence);
    // The bound is a pure function of whole numbers: both sides bisect to 1e-12.
    demand((claim.lower_bound - bound).abs() <= 1e-9, "lower_bound", claim.lower_bound, bound)?;
    let so = match (claim.event.is_right(), claim.event.of_candidates()) {
        (true, true) => "the circuit prefers the right candidate",
        (true, false) => "the circuit's most likely token is the right one",
        (false, true) => "circuit and model prefer the same candidate",
        (false, false) => "circuit and model have the same most likely token",
    };
    Ok(format!(
        "statistical: with confidence {}, {so} on at least {bound:.6} of all inputs and partial ablations ({} failures in {} \
         samples of {n} inputs)",
        claim.confidence, claim.failures, claim.samples
    ))
}

/// An input's number and the circuit's logits under a random partial ablation.
fn draw(model: &Model, case: &Case, key: [u8; 32], sample: u64) -> (usize, Vec<f64>) {
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(sample);
    let input = ((u128::from(rng.next_u64()) * case.len() as u128) >> 64) as usize;
    let mut coefficient = |kept: bool| if kept { 1.0 } else { f64::from(rng.next_u32() >> 8) / f64::from(1 << 24) };
    let r: Vec<f64> = case.kept.iter().map(|&kept| coefficient(kept)).collect();
    let logits = model.logits(&case.input(input), &mut |_, first, x| {
        for (i, x) in x.iter_mut().enumerate().filter(|(i, _)| !case.kept[first + i]) {
            *x = case.fill[first + i] + r[first + i] * (*x - case.fill[first + i]);
        }
    });
    (input, logits)
}

/// Lower Clopper–Pearson bound of a proportion: the p at which `n − failures` or more successes of n have
/// probability `1 − confidence`.
pub fn lower_bound(n: u64, failures: u64, confidence: f64) -> f64 {
    if failures == n {
        return 0.0;
    }
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    // 2⁻⁴⁵ is below 1e-13.
    for _ in 0..45 {
        let p = (low + high) / 2.0;
        // P(at most `failures` failures), each of probability 1 − p, term by term in logarithms.
        let (mut log_term, mut tail) = (n as f64 * p.ln(), 0.0);
        for k in 0..=failures {
            tail += log_term.exp();
            log_term += ((n - k) as f64 / (k + 1) as f64).ln() + ((1.0 - p) / p).ln();
        }
        if tail < 1.0 - confidence { low = p } else { high = p }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_the_table() {
        // No failure: (1 − confidence)^(1/n); one failure in ten at 95 %: 0.6058 (Clopper and Pearson 1934).
        assert!((lower_bound(3000, 0, 0.95) - 0.05_f64.powf(1.0 / 3000.0)).abs() < 1e-11);
        assert!((lower_bound(10, 1, 0.95) - 0.605_84).abs() < 1e-5);
        assert_eq!(lower_bound(7, 7, 0.95), 0.0);
    }
}
