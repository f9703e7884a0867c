//! Sound bounds over all partial ablations: every ablated node, at every token by itself, anywhere between its value and
//! its ablation value. The forward pass runs on zonotopes ([`zone`]) with boxes around them; `openwork-check` does the same, one
//! number at a time, and describes each step.

mod attend;
mod split;
mod walk;
mod zone;

use rayon::prelude::*;

use super::{
    about::{About, CertificateError},
    claim::{Certified, Claim, Kind, RelaxationClaim, Rivals, Split},
    file::Certificate,
};
use split::Question;
use walk::Weights;

/// Settings of the relaxation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relax {
    /// Rivals of the model's answer.
    pub rivals: Rivals,
    /// True if the scales of norms are held at those of the model's run: a statement about another network, in which
    /// an ablation cannot turn everything else up.
    pub frozen_norms: bool,
    /// Most noise symbols an input: memory is tokens · features · symbols · 8 bytes. 0 is interval arithmetic.
    pub symbols: usize,
    /// Inputs to bound, from the first on.
    pub inputs: usize,
    /// Most splits of the box of coefficients of an input that is not certified; each takes up to eight
    /// passes here and one more in the checker.
    pub splits: usize,
}

/// Bounds are claimed this much lower, relative to `1 + |bound|`: the checker rounds otherwise than this, and must not
/// find less.
const MARGIN: f64 = 1e-6;

/// Least bound of an input that is certified: a lead that is smaller could be rounding of the network as it runs.
const CERTIFIED: f64 = 1e-4;

/// Most inputs of a certificate, which lists a bound for each.
const MOST_INPUTS: usize = 1_000_000;

/// Bounds from below how far the right answer (the model's, where none is declared) stays above its rivals, in logits, under every partial ablation
/// (`x ← a + r (x − a)`, a its ablation value, any r in [0, 1] for every ablated node and token by itself); an input is certified if
/// that is above 1e-4. The statement is about the network in exact arithmetic, and rounding is paid for.
///
/// Inputs that are not begun when it is `out_of_time` get no bound, as those beyond [`Relax::inputs`].
///
/// # Errors
/// When parts do not fit each other, or there are more than a million inputs.
pub fn relaxation(
    about: &About<'_>,
    relax: Relax,
    out_of_time: &(dyn Fn() -> bool + Sync),
) -> Result<(Certificate, Certified), CertificateError> {
    about.check()?;
    if about.inputs.len() > MOST_INPUTS {
        return Err(CertificateError::Budget { inputs: about.inputs.len(), budget: MOST_INPUTS });
    }
    if relax.rivals == Rivals::OtherCandidate && about.candidates.is_none() {
        let expected = "two an input, for a margin between them".into();
        return Err(CertificateError::Misfit { what: "candidates", found: 0, expected });
    }
    let weights = Weights::new(about);
    let n = about.inputs.len();
    let begun = |input: usize| input < relax.inputs && !out_of_time();
    let found: Vec<Bound> =
        (0..n).into_par_iter().map(|input| bound(about, &weights, relax, input, begun(input))).collect();
    let left = found.iter().filter(|f| !f.begun).count();
    let answers = found.iter().map(|f| f.answer).collect();
    let bounds: Vec<Option<f64>> = found.iter().map(|f| f.bound).collect();
    let splits = found.into_iter().map(|f| f.split).collect();
    let certified = bounds.iter().flatten().filter(|&&b| b > CERTIFIED).count();
    let least_bound = bounds.iter().try_fold(f64::INFINITY, |m, b| b.map(|b| m.min(b)));
    let mut unfinished = Vec::new();
    if left > 0 {
        unfinished.push(format!("bounds of {left} of {n} inputs"));
    }
    let result = Certified {
        kind: Kind::Relaxation,
        scope: format!(
            "every partial ablation towards {}, node by node and token by token, on {certified} of {n} inputs{}",
            about.ablation_value_text(),
            if relax.frozen_norms { ", scales of norms held at the model's" } else { "" }
        ),
        bound: least_bound.unwrap_or(f64::NEG_INFINITY),
        share: certified as f64 / n as f64,
        unfinished,
    };
    let Relax { rivals, frozen_norms, symbols, .. } = relax;
    let claim =
        RelaxationClaim { inputs: n, rivals, frozen_norms, symbols, answers, bounds, splits, certified, least_bound };
    Ok((Certificate::new(about, Claim::Relaxation(claim)), result))
}

/// Result on one input.
struct Bound {
    /// The token whose lead is bounded.
    answer: usize,
    /// True if there was time to bound it.
    begun: bool,
    bound: Option<f64>,
    split: Option<Split>,
}

fn bound(about: &About<'_>, weights: &Weights<'_>, relax: Relax, input: usize, begun: bool) -> Bound {
    let prompt = about.inputs.get(input);
    let token = *prompt.last().expect("a prompt has tokens");
    let plain = weights.plain(&prompt);
    let logits = weights.logits(&plain, token);
    let choices: Vec<usize> = match (relax.rivals, about.candidates) {
        (Rivals::OtherCandidate, Some(pairs)) => [pairs[input].0, pairs[input].1].map(usize::from).to_vec(),
        _ => (0..logits.len()).collect(),
    };
    let likeliest =
        || choices.iter().copied().fold(choices[0], |best, c| if logits[c] > logits[best] { c } else { best });
    let answer = about.answers.map_or_else(likeliest, |answers| usize::from(answers[input]));
    if !begun {
        return Bound { answer, begun, bound: None, split: None };
    }
    let rivals: Vec<usize> = choices.into_iter().filter(|&rival| rival != answer).collect();
    let question = Question {
        about,
        weights,
        prompt: &prompt,
        answer,
        rivals: &rivals,
        most_symbols: relax.symbols,
        frozen: relax.frozen_norms.then_some(&plain.scales),
    };
    let (least, split) = split::bound(&question, relax.splits);
    let claimed = least - MARGIN * (1.0 + least.abs());
    Bound { answer, begun, bound: claimed.is_finite().then_some(claimed), split }
}
