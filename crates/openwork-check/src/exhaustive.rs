//! Every input under every scheme.

use crate::{
    Rejected,
    certificate::{Case, Count, Exhaustive, Run, Scheme, argmax, demand, malformed},
    model::Model,
};

/// Values of all nodes at every token of an input, in the plain model.
type Activations = Vec<Vec<f64>>;

/// Re-derives the claim; returns it in words.
pub fn check(model: &Model, case: &Case, claim: &Exhaustive) -> Result<String, Rejected> {
    let n = case.len();
    demand(claim.inputs == n, "inputs", claim.inputs, n)?;
    let mut runs = 0_usize;
    let repeated = |(i, s): (usize, &Scheme)| claim.schemes[..i].contains(s);
    if claim.schemes.is_empty() || claim.schemes.iter().enumerate().any(repeated) {
        return Err(malformed("schemes", "there are none, or one is listed twice".into()));
    }
    for &scheme in &claim.schemes {
        match scheme {
            Scheme::Constants if !case.has_constants => {
                return Err(malformed("schemes", "`constants`, but no constants are listed under `fills`".into()));
            }
            Scheme::Resample { sources } if sources == 0 || sources > n => {
                return Err(malformed("schemes", format!("{sources} sources of {n} inputs")));
            }
            Scheme::Resample { sources } => runs = runs.saturating_add(sources.saturating_mul(n)),
            Scheme::Zero | Scheme::Constants => runs = runs.saturating_add(n),
        }
    }
    demand(claim.runs == runs, "runs", claim.runs, runs)?;
    case.demand_work(model, runs.saturating_add(n) as u64)?;

    let (mut worst, mut total, mut claimed_worst) = (f64::NEG_INFINITY, 0.0, None);
    let (mut agreeing, mut right, mut model_right) = (Count::default(), Count::default(), Count::default());
    let sources = sources(model, case, claim);
    for input in 0..n {
        let prompt = case.input(input);
        let plain = model.logits(&prompt, &mut |_, _, _| ());
        let (top, lead) = argmax(&plain);
        if let Some(answers) = &case.answers {
            model_right.add(top == answers[input], &[(lead, &plain)]);
        }
        let mut one = |run: Run, logits: Vec<f64>| {
            let kl = kl(&plain, &logits);
            worst = worst.max(kl);
            total += kl;
            if run == claim.worst {
                claimed_worst = Some(kl);
            }
            let (circuit_top, circuit_lead) = argmax(&logits);
            agreeing.add(circuit_top == top, &[(lead, &plain), (circuit_lead, &logits)]);
            if let Some(answers) = &case.answers {
                right.add(circuit_top == answers[input], &[(circuit_lead, &logits)]);
            }
        };
        for (scheme, kind) in claim.schemes.iter().enumerate() {
            match kind {
                Scheme::Zero => one(Run { input, scheme, source: None }, filled(model, case, &prompt, &|_| 0.0)),
                Scheme::Constants => {
                    one(Run { input, scheme, source: None }, filled(model, case, &prompt, &|node| case.fill[node]));
                }
                Scheme::Resample { .. } => {
                    for (source, values) in &sources {
                        one(Run { input, scheme, source: Some(*source) }, resampled(model, case, &prompt, values));
                    }
                }
            }
        }
    }
    let mean = total / runs as f64;
    demand(case.close(claim.worst_kl_nats, worst), "worst_kl_nats", claim.worst_kl_nats, worst)?;
    let at_worst = claimed_worst.ok_or_else(|| malformed("worst", "no such run".into()))?;
    demand(case.close(at_worst, worst), "worst", format!("a run of {at_worst} nats"), worst)?;
    demand(case.close(claim.mean_kl_nats, mean), "mean_kl_nats", claim.mean_kl_nats, mean)?;
    agreeing.demand("agreeing", claim.agreeing as u64)?;
    let answered = case.answers.is_some();
    if claim.right.is_some() != answered || claim.model_right.is_some() != answered {
        return Err(malformed("right", "counts of right answers go with a list of answers, and only with it".into()));
    }
    claim.right.map_or(Ok(()), |claimed| right.demand("right", claimed as u64))?;
    claim.model_right.map_or(Ok(()), |claimed| model_right.demand("model_right", claimed as u64))?;
    let right = claim.right.map_or_else(String::new, |right| format!(" and the right one in {right}"));
    Ok(format!(
        "exhaustive: over all {n} inputs and {runs} runs, KL(model || circuit) is at most {worst:.1e} nats, {mean:.1e} on \
         average, and the most likely token is the model's in {}{right} of {runs}",
        claim.agreeing
    ))
}

fn sources(model: &Model, case: &Case, claim: &Exhaustive) -> Vec<(usize, Activations)> {
    let wanted =
        claim.schemes.iter().find_map(|s| if let Scheme::Resample { sources } = s { Some(*sources) } else { None });
    let wanted = wanted.unwrap_or(0);
    let number = |i: usize| (i as u128 * case.len() as u128 / wanted as u128) as usize;
    (0..wanted).map(|i| (number(i), record(model, &case.input(number(i))))).collect()
}

fn record(model: &Model, prompt: &[usize]) -> Activations {
    let mut values = vec![vec![0.0; model.nodes()]; prompt.len()];
    model.logits(prompt, &mut |t, first, x| values[t][first..first + x.len()].copy_from_slice(x));
    values
}

/// Ablated nodes take a constant.
fn filled(model: &Model, case: &Case, prompt: &[usize], fill: &dyn Fn(usize) -> f64) -> Vec<f64> {
    model.logits(prompt, &mut |_, first, x| {
        let ablated = x.iter_mut().enumerate().filter(|(i, _)| !case.kept[first + i]);
        ablated.for_each(|(i, x)| *x = fill(first + i));
    })
}

/// Ablated nodes take their values of another input. Positions are aligned at the last token; where the other
/// input is shorter, its first token's values are repeated.
fn resampled(model: &Model, case: &Case, prompt: &[usize], source: &Activations) -> Vec<f64> {
    model.logits(prompt, &mut |t, first, x| {
        let values = &source[(t + source.len()).saturating_sub(prompt.len())];
        let ablated = x.iter_mut().enumerate().filter(|(i, _)| !case.kept[first + i]);
        ablated.for_each(|(i, x)| *x = values[first + i]);
    })
}

/// KL(softmax p ‖ softmax q) in nats.
fn kl(p: &[f64], q: &[f64]) -> f64 {
    let log_sum = |x: &[f64]| {
        let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        largest + x.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
    };
    let (zp, zq) = (log_sum(p), log_sum(q));
    p.iter().zip(q).map(|(p, q)| (p - zp).exp() * ((p - zp) - (q - zq))).sum()
}
