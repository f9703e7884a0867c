//! Redraws a sample of inputs and partial ablations, and counts again.

use std::collections::HashMap;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    Rejected,
    certificate::{Case, Event, Statistical, argmax, demand, malformed},
    model::Model,
};

/// Re-derives the claim; returns it in words.
///
/// Sample `k` is drawn from ChaCha8 with the key `seed` (8 bytes, little-endian, then zeros) and the stream `k`: the
/// input is number `⌊u64 · inputs / 2⁶⁴⌋`; then for every ablated node in order `r = ⌊u32 / 2⁸⌋ / 2²⁴`, the same at
/// all tokens. The node's value x becomes `fill + r (x − fill)`.
pub fn check(model: &Model, case: &Case, claim: &Statistical) -> Result<String, Rejected> {
    let n = case.len();
    demand(claim.inputs == n, "inputs", claim.inputs, n)?;
    if claim.samples == 0 || claim.failures > claim.samples || !(claim.confidence > 0.0 && claim.confidence < 1.0) {
        return Err(malformed("samples", "samples, failures or confidence are impossible".into()));
    }
    if claim.event == Event::SameCandidate && case.candidates.is_none() {
        return Err(malformed("event", "`same_candidate`, but no candidates are listed".into()));
    }
    let mut plain: HashMap<usize, Vec<f64>> = HashMap::new();
    let (mut failures, mut unsure) = (0, 0);
    for sample in 0..claim.samples {
        let (input, run) = draw(model, case, claim.seed, sample);
        let plain = plain.entry(input).or_insert_with(|| model.logits(&case.input(input), &mut |_, _, _| ()));
        let choice = |logits: &[f64]| match (claim.event, &case.candidates) {
            (Event::SameCandidate, Some(pairs)) => {
                let [a, b] = pairs[input];
                (usize::from(logits[a] <= logits[b]), (logits[a] - logits[b]).abs())
            }
            _ => argmax(logits),
        };
        let ((model_choice, lead), (circuit_choice, circuit_lead)) = (choice(plain), choice(&run));
        if lead <= case.slack(plain) || circuit_lead <= case.slack(&run) {
            unsure += 1;
        } else if model_choice != circuit_choice {
            failures += 1;
        }
    }
    let found = format!("{failures}, and {unsure} too close to call");
    demand((failures..=failures + unsure).contains(&claim.failures), "failures", claim.failures, found)?;
    let bound = lower_bound(claim.samples, claim.failures, claim.confidence);
    // The bound is a pure function of whole numbers: both sides bisect to 1e-12.
    demand((claim.lower_bound - bound).abs() <= 1e-9, "lower_bound", claim.lower_bound, bound)?;
    Ok(format!(
        "statistical: with confidence {}, circuit and model agree on at least {bound:.6} of all inputs and partial \
         ablations ({} failures in {} samples of {n} inputs)",
        claim.confidence, claim.failures, claim.samples
    ))
}

/// An input's number and the circuit's logits under a random partial ablation.
fn draw(model: &Model, case: &Case, seed: u64, sample: u64) -> (usize, Vec<f64>) {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
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
    while high - low > 1e-12 {
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
