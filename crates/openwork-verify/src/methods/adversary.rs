//! Adversaries: partial ablations of nodes outside the circuit that turn the model's answers.
//!
//! A circuit is said to be what matters, so ablating a few *other* nodes, in part and alike on all inputs, must not turn the
//! answers. An unbounded adversary turns the answers of nearly every circuit ever found (Bushnaq in the discussion of Drori
//! 2026), random and true ones alike; so it has a budget and one scheme for all inputs, and is also tried on random circuits.

use std::collections::BTreeMap;

use openwork_circuit::{NodeSet, NodeSpace, evaluate};
use openwork_model::{NoTap, Record};
use openwork_tasks::Pair;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use serde::{Deserialize, Serialize};

use crate::{
    methods::random_sets::Subset,
    run::{
        context::Weights,
        evaluator::Evaluator,
        measures::{Measured, kl_binary},
        scheme::{AblationValue, Scheme},
    },
    stats::intervals::{Estimate, Resamples, fraction},
    streams::Stream,
};

/// The worst partial ablation of nodes outside a circuit that was found within a budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attack {
    /// The nodes that were safe.
    pub on: Subset,
    /// Nodes that may be ablated: the sum of `1 − r`.
    pub budget: f64,
    /// KL(model ‖ attacked) over the candidates on pairs that the attack was not made on, nats.
    pub kl: Estimate,
    /// Fraction of those sequences on which it prefers the model's candidate.
    pub agreement: Estimate,
    /// Nodes it ablates most, and to what part.
    pub nodes: Vec<(String, f32)>,
}

/// The coefficients r (1 = whole) of all nodes that ablate nodes outside `safe`, at most `budget = Σ(1 − r)` of them,
/// so that the model's answers on `evaluator` suffer most.
///
/// Maximises the mean of `−log p(the model's answer)` by Frank and Wolfe's method, whose every step goes towards the
/// best vertex of the budget's polytope: whole nodes. At the model the loss of sure answers has no slope, and what moves
/// all answers one way has none in the mean; so there are several starts: against the margins, against one answer,
/// against the other, and the nodes that cost most when they are knocked out one by one.
pub(crate) fn attack(
    evaluator: &Evaluator<'_>,
    safe: &NodeSet,
    budget: f64,
    value: AblationValue,
    steps: usize,
) -> Vec<f32> {
    let n = safe.kept().len();
    let signs: Vec<f64> = evaluator.model.differences.iter().map(|d| if *d < 0.0 { -1.0 } else { 1.0 }).collect();
    let loss_of = |s: usize, d: f64| softplus(-signs[s] * d);
    let slope_of = |s: usize, d: f64| -signs[s] / (1.0 + (signs[s] * d).exp());
    let whole = vec![1.0_f32; n];
    let gradient = |r: &[f32], slope: &(dyn Fn(usize, f64) -> f64 + Sync)| {
        evaluator.partial_gradient(Weights::Model, r, value, &|s, d| (loss_of(s, d), slope(s, d)))
    };
    let (clean, against_margins) = gradient(&whole, &|s, _| -signs[s]);
    let (_, upwards) = gradient(&whole, &|_, _| 1.0);
    let downwards: Vec<f64> = upwards.iter().map(|g| -g).collect();
    let mut starts: Vec<Vec<f64>> =
        [&against_margins, &upwards, &downwards].map(|g| vertex(g, safe, budget)).into_iter().collect();
    let knocked = knock_outs(evaluator, safe, &upwards, &against_margins, value, &signs);
    starts.push(vertex(&knocked, safe, budget));
    let mut best = (clean, vec![0.0; n]);
    for start in starts {
        let mut ablated = start;
        for step in 0..=steps {
            let (loss, gradient) = gradient(&coefficients(&ablated), &slope_of);
            if loss > best.0 {
                best = (loss, ablated.clone());
            }
            let towards = 2.0 / (step as f64 + 3.0);
            let vertex = vertex(&gradient, safe, budget);
            ablated.iter_mut().zip(vertex).for_each(|(a, v)| *a += towards * (v - *a));
        }
    }
    coefficients(&best.1)
}

/// Minus the loss without each of the few nodes of largest slopes, 0 for all others.
fn knock_outs(
    evaluator: &Evaluator<'_>,
    safe: &NodeSet,
    a: &[f64],
    b: &[f64],
    value: AblationValue,
    signs: &[f64],
) -> Vec<f64> {
    const TRIED: usize = 32;
    let mut order: Vec<usize> = (0..a.len()).filter(|&n| !safe.kept()[n]).collect();
    let slope = |n: usize| a[n].abs() + b[n].abs();
    order.sort_by(|&x, &y| slope(y).total_cmp(&slope(x)).then(x.cmp(&y)));
    let mut losses = vec![0.0; a.len()];
    let mut r = vec![1.0_f32; a.len()];
    for &node in order.iter().take(TRIED).filter(|&&n| slope(n) > 0.0) {
        r[node] = 0.0;
        let d = evaluator.partial(Weights::Model, &r, value, false).differences;
        losses[node] = -d.iter().zip(signs).map(|(d, s)| softplus(-s * d)).sum::<f64>() / d.len() as f64;
        r[node] = 1.0;
    }
    losses
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn coefficients(ablated: &[f64]) -> Vec<f32> {
    ablated.iter().map(|a| (1.0 - a) as f32).collect()
}

/// Whole nodes outside `safe` whose ablation raises the objective most (the gradient is with respect to r), the last
/// one in part if the budget is no whole number.
fn vertex(gradient: &[f64], safe: &NodeSet, budget: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..gradient.len()).filter(|&n| !safe.kept()[n] && gradient[n] < 0.0).collect();
    order.sort_by(|&a, &b| gradient[a].total_cmp(&gradient[b]).then(a.cmp(&b)));
    let mut vertex = vec![0.0; gradient.len()];
    let mut left = budget;
    for node in order {
        if left <= 0.0 {
            break;
        }
        vertex[node] = left.min(1.0);
        left -= 1.0;
    }
    vertex
}

/// Effect of an attack on pairs that it was not made on.
pub(crate) fn outcome_of(
    on: Subset,
    evaluator: &Evaluator<'_>,
    r: &[f32],
    (budget, value): (f64, AblationValue),
    resamples: &Resamples,
) -> (Attack, Measured) {
    let run = evaluator.partial(Weights::Model, r, value, true);
    let measured = Measured::new(&run, openwork_circuit::Calibration::NONE, &evaluator.model);
    let space = evaluator.space();
    let mut nodes: Vec<(usize, f32)> = r.iter().copied().enumerate().filter(|(_, r)| *r < 1.0).collect();
    nodes.sort_by(|a, b| a.1.total_cmp(&b.1));
    let attack = Attack {
        on,
        budget,
        kl: resamples.mean(&measured.kl_candidates),
        agreement: fraction(&measured.agree),
        nodes: nodes.iter().take(12).map(|&(n, r)| (space.node(n).to_string(), r)).collect(),
    };
    (attack, measured)
}

/// For every node of the circuit: the correlation, over real tokens, of its values in the circuit's run with those in
/// the model's; `None` where it is constant in either.
pub(crate) fn roles(evaluator: &Evaluator<'_>, circuit: &NodeSet) -> Vec<(usize, Option<f64>)> {
    let context = evaluator.context;
    let record = |in_circuit: bool| -> Vec<(Record, Vec<usize>)> {
        let one = |batch: &openwork_circuit::Batch| {
            let mut values = Record::of_kinds(&NodeSpace::KINDS);
            let tokens = openwork_model::Tokens::new(&batch.tokens, batch.seq_len);
            if in_circuit {
                let ablation = context.constants(AblationValue::Mean).expect("constants");
                // The kept node's own value is what it would be before the next ablation: record after keeping.
                let mut both = (openwork_circuit::Keep::new(circuit, ablation), values);
                let model = context.model_with(context.weights(circuit));
                model.forward(tokens, Some(&batch.readout), &mut both);
                values = both.1;
            } else {
                context.model.forward(tokens, Some(&batch.readout), &mut values);
            }
            let real = batch.readout.iter().enumerate().flat_map(|(i, &last)| i * batch.seq_len..=last).collect();
            (values, real)
        };
        evaluator.batches().iter().map(one).collect()
    };
    let (plain, ablated) = (record(false), record(true));
    let space = evaluator.space();
    let correlation = |number: usize| {
        let node = space.node(number);
        let (mut n, mut sums) = (0.0, [0.0_f64; 5]);
        for ((a, real), (b, _)) in plain.iter().zip(&ablated) {
            let (a, b) = (
                a.at(node.site).expect("recorded").row(node.index).to_owned(),
                b.at(node.site).expect("recorded").row(node.index).to_owned(),
            );
            for &t in real {
                let (x, y) = (f64::from(a[t]), f64::from(b[t]));
                n += 1.0;
                [x, y, x * x, y * y, x * y].into_iter().zip(&mut sums).for_each(|(v, s)| *s += v);
            }
        }
        let [x, y, xx, yy, xy] = sums.map(|s| s / n);
        let (vx, vy) = (xx - x * x, yy - y * y);
        // Variances at the level of rounding are none.
        let still = |variance: f64, square: f64| variance <= 1e-9 * square.max(1e-12);
        (!still(vx, xx) && !still(vy, yy)).then(|| ((xy - x * y) / (vx * vy).sqrt()).clamp(-1.0, 1.0))
    };
    circuit.numbers().map(|n| (n, correlation(n))).collect()
}

/// The worst input that a search found: a prompt with tokens of others of the same template and length, so that circuit and
/// model part most. The places where a pair's two prompts differ are its cue: a prompt keeps its own and gets no other, so that
/// it stays one of the task. Judged by KL(model ‖ circuit) over the candidates, the circuit calibrated.
pub(crate) struct WorstInput {
    pub prompts: [Vec<u16>; 2],
    pub candidates: (u16, u16),
    pub kl: f64,
    pub model: [f64; 2],
    pub run: [f64; 2],
}

/// A prompt to make others of.
#[derive(Clone)]
struct Parent {
    prompt: Vec<u16>,
    candidates: (u16, u16),
    /// Places in which the two prompts of its pair differ, aligned at the last token.
    cue: Vec<bool>,
}

impl Parent {
    fn new(evaluator: &Evaluator<'_>, sequence: usize) -> Self {
        let (prompt, other) = (evaluator.prompt(sequence), evaluator.prompt(sequence ^ 1));
        let shorter = prompt.len().saturating_sub(other.len());
        let longer = other.len().saturating_sub(prompt.len());
        let cue = (0..prompt.len()).map(|t| t < shorter || prompt[t] != other[t - shorter + longer]).collect();
        let pair = &evaluator.pairs[sequence / 2];
        Self { prompt: prompt.to_vec(), candidates: (pair.answer, pair.alternative), cue }
    }

    /// The same with about half of what it can take from another.
    fn with_some_of(&self, other: &Self, rng: &mut ChaCha8Rng) -> Self {
        let mut child = self.clone();
        for (t, token) in child.prompt.iter_mut().enumerate() {
            if !self.cue[t] && !other.cue[t] && rng.random_bool(0.5) {
                *token = other.prompt[t];
            }
        }
        child
    }
}

/// Tries `count` prompts; returns the one of largest KL and how many of them turned a sure answer of the model (by
/// more than a nat). `None` where no prompt can take anything from another.
pub(crate) fn worst_input(
    evaluator: &Evaluator<'_>,
    circuit: &NodeSet,
    calibration: openwork_circuit::Calibration,
    count: usize,
    seed: u64,
) -> Option<(WorstInput, usize)> {
    const ROUNDS: usize = 4;
    let mut rng = Stream::WorstInputs.rng(seed);
    // Prompts by template and length.
    let mut groups = BTreeMap::<(usize, usize), Vec<Parent>>::new();
    for sequence in 0..2 * evaluator.pairs.len() {
        let parent = Parent::new(evaluator, sequence);
        groups.entry((evaluator.pairs[sequence / 2].template, parent.prompt.len())).or_default().push(parent);
    }
    let mut groups: Vec<Vec<Parent>> = groups.into_values().filter(|g| g.len() > 1).collect();
    if groups.is_empty() {
        return None;
    }
    let per_round = count.div_ceil(ROUNDS);
    let (mut worst, mut turned): (Option<WorstInput>, usize) = (None, 0);
    for _ in 0..ROUNDS {
        let mut children: Vec<(usize, Parent)> = Vec::with_capacity(per_round);
        let mut changed = 0;
        while children.len() < per_round {
            let g = rng.random_range(0..groups.len());
            let group = &groups[g];
            let [parent, other] = [0, 1].map(|_| &group[rng.random_range(0..group.len())]);
            let child = parent.with_some_of(other, &mut rng);
            changed += usize::from(child.prompt != parent.prompt);
            children.push((g, child));
        }
        if changed == 0 {
            break;
        }
        // Each prompt twice over, since runs are of pairs.
        let twice = |(_, child): &(usize, Parent)| Pair {
            positive: child.prompt.clone(),
            negative: child.prompt.clone(),
            answer: child.candidates.0,
            alternative: child.candidates.1,
            template: 0,
        };
        let pairs: Vec<Pair> = children.iter().map(twice).collect();
        let batches = openwork_circuit::batches(&pairs, 8, evaluator.context.model.config.n_ctx);
        let plain = evaluate(evaluator.context.model, &batches, false, || NoTap, |_| ()).differences;
        let ablation = evaluator.context.constants(Scheme::MEAN.value).expect("constants");
        let keep = || openwork_circuit::Keep::new(circuit, ablation);
        let model = evaluator.context.model_with(evaluator.context.weights(circuit));
        let run = evaluate(model, &batches, false, keep, |_| ()).differences;
        let mut scored: Vec<(f64, usize)> = Vec::with_capacity(children.len());
        for i in 0..children.len() {
            let (p, q) = (plain[2 * i], calibration.scale * run[2 * i] + calibration.shift);
            let kl = kl_binary(p, q);
            turned += usize::from(p.abs() > 1.0 && p.signum() != q.signum());
            scored.push((kl, i));
            if worst.as_ref().is_none_or(|w| kl > w.kl) {
                let Parent { prompt, candidates, .. } = &children[i].1;
                worst = Some(WorstInput {
                    prompts: [prompt.clone(), prompt.clone()],
                    candidates: *candidates,
                    kl,
                    model: [p, p],
                    run: [q, q],
                });
            }
        }
        // The worst become parents.
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, i) in scored.into_iter().take(per_round / 8) {
            let (g, child) = &children[i];
            groups[*g].push(child.clone());
        }
    }
    worst.map(|w| (w, turned))
}
