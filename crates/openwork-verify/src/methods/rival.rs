//! Rivals: other circuits for the same task. A task that a model does in two ways has two circuits, and neither *is* how
//! the model does it.

use openwork_circuit::{NodeSet, Outcome, edges};
use rand::RngExt;

use crate::{
    run::{
        context::Weights,
        error::RunError,
        evaluator::Evaluator,
        measures::calibrate_within,
        scheme::{AblationValue, Scheme},
    },
    streams::Stream,
};

/// Loss that the rest of a model or a rival must not exceed, and the largest scale that it may have for it: a path that carries
/// a hundredth of the answer does not do as well as one that carries the rest, however right it is.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    pub loss: f64,
    pub scale: f64,
}

impl Limit {
    fn is_met(self, run: &Outcome) -> bool {
        self.loss_of(run) <= self.loss
    }

    fn loss_of(self, run: &Outcome) -> f64 {
        run.loss(calibrate_within(run, self.scale))
    }
}

/// Nodes of the circuit that no re-fit can replace: with one of them ablated, all others kept and the rest calibrated,
/// the model's loss stays above `limit`. Where the model can do without many at once, none of them is one, so that circuits of
/// any size are taken apart by halves, in about `2 k log₂(n / k)` runs where k of n nodes are irreplaceable.
pub(crate) fn core(
    evaluator: &Evaluator<'_>,
    circuit: &NodeSet,
    limit: Limit,
    out_of_time: &dyn Fn() -> bool,
) -> Result<Option<Vec<usize>>, RunError> {
    let mut core = Vec::new();
    let mut left = vec![circuit.numbers().collect::<Vec<usize>>()];
    while let Some(some) = left.pop() {
        if out_of_time() {
            return Ok(None);
        }
        let run = evaluator.run_without(&NodeSet::of(circuit.space().clone(), some.iter().copied()), Scheme::MEAN)?;
        if limit.is_met(&run) {
            continue;
        }
        match some.split_at(some.len() / 2) {
            ([], _) => core.extend(some),
            (first, second) => left.extend([second.to_vec(), first.to_vec()]),
        }
    }
    Ok(Some(core))
}

/// Searches the fewest nodes that reach `limit` on `evaluator` without the `forbidden` ones; `None` where it finds none. Nodes
/// are taken with all edges between them.
///
/// A mask is learned over the allowed nodes: a gate per node, open where its τ is positive, whose slope is that of a
/// sigmoid, towards the model's own answers at a price per open gate; then the number of top nodes is bisected. It
/// shares nothing with the search that found the circuit.
pub(crate) fn search(
    evaluator: &Evaluator<'_>,
    forbidden: &[usize],
    limit: Limit,
    steps: usize,
    seed: u64,
    out_of_time: &dyn Fn() -> bool,
) -> Result<Option<NodeSet>, RunError> {
    const PRICE: f64 = 1e-3;
    const RATE: f64 = 0.03;
    let space = evaluator.space();
    let mut allowed = vec![true; space.len()];
    forbidden.iter().for_each(|&n| allowed[n] = false);
    let loss = |nodes: &NodeSet| -> Result<f64, RunError> {
        Ok(limit.loss_of(&evaluator.run_without(&nodes.complement(), Scheme::MEAN)?))
    };
    // All that is allowed must reach it, or at least come near: masks can do a little better than all nodes.
    let everything = NodeSet::of(space.clone(), (0..space.len()).filter(|&n| allowed[n]));
    if loss(&everything)? > 1.5 * limit.loss {
        return Ok(None);
    }
    let mut rng = Stream::Rival.rng(seed);
    let mut tau: Vec<f64> = (0..space.len()).map(|_| 0.1 + 0.02 * rng.random_range(-1.0..1.0)).collect();
    let (mut m, mut v) = (vec![0.0_f64; tau.len()], vec![0.0_f64; tau.len()]);
    let signs: Vec<f64> = evaluator.model.differences.iter().map(|d| if *d < 0.0 { -1.0 } else { 1.0 }).collect();
    let answer = |s: usize, d: f64| {
        let x = -signs[s] * d;
        (x.max(0.0) + (-x.abs()).exp().ln_1p(), -signs[s] / (1.0 + (-x).exp()))
    };
    for step in 0..steps {
        if out_of_time() {
            return Ok(None);
        }
        let r: Vec<f32> = tau.iter().zip(&allowed).map(|(t, a)| f32::from(u8::from(*t > 0.0 && *a))).collect();
        let (_, gradient) = evaluator.partial_gradient(Weights::Model, &r, AblationValue::Mean, &answer);
        let rate = RATE * (1.0 - step as f64 / steps as f64);
        let (c1, c2) = (1.0 - 0.9_f64.powi(step as i32 + 1), 1.0 - 0.95_f64.powi(step as i32 + 1));
        for n in (0..tau.len()).filter(|&n| allowed[n]) {
            let sigmoid = 1.0 / (1.0 + (-tau[n]).exp());
            let g = (gradient[n] + PRICE) * sigmoid * (1.0 - sigmoid);
            m[n] += 0.1 * (g - m[n]);
            v[n] += 0.05 * (g * g - v[n]);
            tau[n] = (tau[n] - rate * (m[n] / c1) / ((v[n] / c2).sqrt() + 1e-8)).clamp(-1.0, 1.0);
        }
    }
    let mut order: Vec<usize> = (0..tau.len()).filter(|&n| allowed[n]).collect();
    order.sort_by(|&a, &b| tau[b].total_cmp(&tau[a]).then(a.cmp(&b)));
    let top = |k: usize| NodeSet::of(space.clone(), order[..k].iter().copied());
    let open = order.iter().filter(|&&n| tau[n] > 0.0).count();
    let mut high = None;
    for k in [open, order.len()] {
        if high.is_none() && loss(&top(k))? <= limit.loss {
            high = Some(k);
        }
    }
    let Some(mut high) = high else { return Ok(None) };
    let mut low = 0;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if loss(&top(middle))? <= limit.loss { high = middle } else { low = middle }
    }
    let found = top(high);
    // A set without a weight between its nodes computes nothing.
    Ok((!edges(evaluator.context.model, &found).is_empty()).then_some(found))
}
