//! Tokens that few pairs or none have, in places where prompts may have others: do circuit and model part on them?

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use openwork_circuit::{Batch, Calibration, NodeSet, NodeSpace};
use openwork_model::{Matrix, NoTap, Site, Tap, Tokens};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Parent, answers, batches, is_turned};
use crate::{
    run::{evaluator::Evaluator, measures::kl_binary},
    stats::intervals::{lower_bound, quantile},
    streams::Stream,
};

/// A token put into prompts of the task.
#[derive(Clone, Debug)]
pub(crate) struct RareToken {
    pub token: u16,
    /// Held-out prompts with it of whose answer the model is sure, and those that the circuit turns.
    pub sure: usize,
    pub turned: usize,
    /// One of these, the model's answer and the circuit's.
    pub worst: Option<(Parent, f64, f64)>,
}

/// Tokens that are tried closely: half for how far circuit and model part, half for the activity outside the circuit.
const CLOSELY: usize = 16;

/// Prompts of the first look, all tokens together; each token has at least two and at most sixteen.
const LOOKS: usize = 1024;

/// A place may have a token to which the model gives, there, the probability that it gives to all but so many of the tokens
/// which prompts have in such places.
const UNLIKELY: f64 = 0.05;

/// Tries up to `most` tokens in places that are no cue and in which prompts of one template differ, in some selection
/// prompts each, and the most conspicuous ones in all of the `judge`'s prompts. Left out are tokens of cues, the candidates, and tokens
/// that the model finds unlikely there. Returns the number of tokens tried and those tried closely, the worst first; `None`
/// where prompts have no such place or time runs out.
pub(crate) fn rare_tokens(
    (search, judge): (&Evaluator<'_>, &Evaluator<'_>),
    circuit: &NodeSet,
    calibration: Calibration,
    (most, seed): (usize, u64),
    out_of_time: &dyn Fn() -> bool,
) -> Option<(usize, Vec<RareToken>)> {
    let mut rng = Stream::RareTokens.rng(seed);
    let [parents, judged] = [search, judge].map(slots);
    if parents.is_empty() || judged.is_empty() {
        return None;
    }
    let mut tokens = likely(search, &parents);
    let excluded: BTreeSet<u16> = [search, judge].into_iter().flat_map(cues).collect();
    tokens.retain(|token, _| !excluded.contains(token));
    let all: Vec<u16> = tokens.keys().copied().collect();
    let tried: Vec<u16> = (0..most.min(all.len())).map(|i| all[i * all.len() / most.min(all.len())]).collect();
    let mut children: Vec<(u16, Parent)> = vec![];
    for &token in &tried {
        let places = &tokens[&token];
        for _ in 0..(LOOKS / tried.len()).clamp(2, 16) {
            let (parent, place) = places[rng.random_range(0..places.len())];
            children.push((token, parents[parent].0.with(token, place)));
        }
    }
    // By token: how far circuit and model part at most, and the most unusual activity outside.
    let mut seen = BTreeMap::<u16, (f64, f64)>::new();
    for chunk in children.chunks(64) {
        if out_of_time() {
            return None;
        }
        let prompts: Vec<&Parent> = chunk.iter().map(|(_, child)| child).collect();
        let [model, run] = answers(search, circuit, calibration, &prompts);
        let unusual = unusual(search, circuit, &prompts);
        for (i, (token, _)) in chunk.iter().enumerate() {
            let (apart, active) = seen.entry(*token).or_default();
            *apart = apart.max(kl_binary(model[i], run[i]));
            *active = active.max(unusual[i]);
        }
    }
    let first_by = |score: &dyn Fn(&(f64, f64)) -> f64| -> Vec<u16> {
        let mut order = tried.clone();
        order.sort_by(|a, b| score(&seen[b]).total_cmp(&score(&seen[a])).then(a.cmp(b)));
        order.truncate(CLOSELY / 2);
        order
    };
    let close: BTreeSet<u16> = [first_by(&|s| s.0), first_by(&|s| s.1)].concat().into_iter().collect();
    let mut found: Vec<RareToken> = vec![];
    for token in close {
        if out_of_time() {
            return None;
        }
        found.push(closely(judge, circuit, calibration, &judged, token, &mut rng));
    }
    found.sort_by(|a, b| {
        b.at_least().total_cmp(&a.at_least()).then(b.turned.cmp(&a.turned)).then(a.token.cmp(&b.token))
    });
    Some((tried.len(), found))
}

impl RareToken {
    /// Share of turned answers that prompts with the token have at least, at 95 % confidence, corrected after Bonferroni for the
    /// tokens that are tried closely.
    pub fn at_least(&self) -> f64 {
        if self.sure == 0 { 0.0 } else { lower_bound(self.sure, self.turned, 0.05 / CLOSELY as f64) }
    }
}

/// A token in a place of every prompt that has one.
fn closely(
    judge: &Evaluator<'_>,
    circuit: &NodeSet,
    calibration: Calibration,
    judged: &[(Parent, Vec<usize>)],
    token: u16,
    rng: &mut ChaCha8Rng,
) -> RareToken {
    let children: Vec<Parent> =
        judged.iter().map(|(parent, places)| parent.with(token, places[rng.random_range(0..places.len())])).collect();
    let prompts: Vec<&Parent> = children.iter().collect();
    let [model, run] = answers(judge, circuit, calibration, &prompts);
    let sure = model.iter().filter(|d| d.abs() > super::SURE).count();
    let turned: Vec<usize> = (0..children.len()).filter(|&i| is_turned(model[i], run[i])).collect();
    let worst = turned.iter().copied().max_by(|&a, &b| (model[a] - run[a]).abs().total_cmp(&(model[b] - run[b]).abs()));
    let worst = worst.map(|i| (children[i].clone(), model[i], run[i]));
    RareToken { token, sure, turned: turned.len(), worst }
}

/// Prompts and their places, but the first, that are no cue and in which prompts of the same template and length have several
/// tokens; prompts without such a place are left out.
fn slots(evaluator: &Evaluator<'_>) -> Vec<(Parent, Vec<usize>)> {
    let parents: Vec<(usize, Parent)> =
        (0..2 * evaluator.pairs.len()).map(|s| (evaluator.pairs[s / 2].template, Parent::new(evaluator, s))).collect();
    let mut tokens = BTreeMap::<(usize, usize, usize), BTreeSet<u16>>::new();
    for (template, parent) in &parents {
        for (t, &token) in parent.prompt.iter().enumerate() {
            tokens.entry((*template, parent.prompt.len(), t)).or_default().insert(token);
        }
    }
    let with_places = |(template, parent): (usize, Parent)| {
        let n = parent.prompt.len();
        let places: Vec<usize> = (1..n).filter(|&t| !parent.cue[t] && tokens[&(template, n, t)].len() > 1).collect();
        (!places.is_empty()).then_some((parent, places))
    };
    parents.into_iter().filter_map(with_places).collect()
}

/// Tokens of the cues, and the candidates.
fn cues(evaluator: &Evaluator<'_>) -> Vec<u16> {
    let of = |s: usize| {
        let Parent { prompt, candidates, cue } = Parent::new(evaluator, s);
        let cues = prompt.into_iter().zip(cue).filter(|(_, is_cue)| *is_cue).map(|(token, _)| token);
        cues.chain([candidates.0, candidates.1]).collect::<Vec<u16>>()
    };
    (0..2 * evaluator.pairs.len()).flat_map(of).collect()
}

/// Tokens that the model finds likely enough in a place, with the prompts and places in which it does.
fn likely(evaluator: &Evaluator<'_>, parents: &[(Parent, Vec<usize>)]) -> BTreeMap<u16, Vec<(usize, usize)>> {
    /// Prompts whose places are looked at.
    const PROMPTS: usize = 32;
    let model = evaluator.context.model;
    let step = parents.len().div_ceil(PROMPTS);
    let one = |i: usize| {
        let (parent, places) = &parents[i];
        // What is said after the token before is about the token in the place.
        let before: Vec<usize> = places.iter().map(|t| t - 1).collect();
        let logits = model.forward(Tokens::new(&parent.prompt, parent.prompt.len()), Some(&before), &mut NoTap).logits;
        openwork_circuit::log_probs(&logits)
    };
    let chosen: Vec<usize> = (0..parents.len()).step_by(step).collect();
    let said: Vec<Vec<Vec<f32>>> = chosen.par_iter().map(|&i| one(i)).collect();
    let of_place =
        || chosen.iter().zip(&said).flat_map(|(&i, said)| parents[i].1.iter().map(move |&t| (i, t)).zip(said));
    let mut own: Vec<f64> = of_place().map(|((i, t), p)| f64::from(p[usize::from(parents[i].0.prompt[t])])).collect();
    own.sort_by(f64::total_cmp);
    let bar = quantile(&own, UNLIKELY) - 1e-6;
    let mut places = BTreeMap::<u16, Vec<(usize, usize)>>::new();
    for (place, p) in of_place() {
        for (token, _) in p.iter().enumerate().filter(|(_, p)| f64::from(**p) >= bar) {
            places.entry(token as u16).or_default().push(place);
        }
    }
    places
}

/// For every prompt, the largest deviation of a node outside the circuit from its mean, as a multiple of its largest on the
/// evaluator's own prompts (and at least a hundredth of the largest at its site).
fn unusual(evaluator: &Evaluator<'_>, circuit: &NodeSet, prompts: &[&Parent]) -> Vec<f64> {
    let (context, space) = (evaluator.context, circuit.space());
    let peaks = &evaluator.activity.peak;
    let mut usual = peaks.clone();
    for (_, range) in space.sites() {
        let largest = peaks[range.clone()].iter().fold(1e-6_f32, |m, &p| m.max(p));
        usual[range.clone()].iter_mut().for_each(|p| *p = p.max(0.01 * largest));
    }
    let one = |batch: &Batch| {
        let worst = vec![0.0_f64; batch.readout.len()];
        let mut tap = Unusual { space, circuit, means: context.means.values(), usual: &usual, batch, worst };
        let tokens = Tokens::new(&batch.tokens, batch.seq_len);
        context.model.forward(tokens, Some(&batch.readout), &mut tap);
        tap.worst
    };
    let batches = batches(prompts, context.model.config.n_ctx);
    batches.par_iter().map(one).collect::<Vec<_>>().concat()
}

struct Unusual<'a> {
    space: &'a NodeSpace,
    circuit: &'a NodeSet,
    means: &'a [f32],
    usual: &'a [f32],
    batch: &'a Batch,
    worst: Vec<f64>,
}

impl Tap for Unusual<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let Some(range) = self.space.range(site) else { return ControlFlow::Continue(()) };
        for (row, n) in value.rows().into_iter().zip(range).filter(|(_, n)| !self.circuit.kept()[*n]) {
            for (sequence, &last) in self.batch.readout.iter().enumerate() {
                let own = row.slice(ndarray::s![sequence * self.batch.seq_len..=last]);
                let largest = own.iter().fold(0.0_f32, |m, x| m.max((x - self.means[n]).abs()));
                self.worst[sequence] = self.worst[sequence].max(f64::from(largest / self.usual[n]));
            }
        }
        ControlFlow::Continue(())
    }
}
