//! Knock-outs inside the circuit: completeness (does the model break where the circuit breaks?) and minimality (is every
//! node and every edge needed?).

use openwork_circuit::{Ablation, Calibration, Edge, Keep, NodeSet, Outcome, evaluate, weights_of};
use openwork_model::{Linear, Model, Weight};
use rand::RngExt;

use crate::{
    methods::random_sets::shuffle,
    run::{
        context::Weights,
        error::RunError,
        evaluator::Evaluator,
        measures::calibrate_within,
        scheme::{AblationValue, Scheme},
    },
    streams::Stream,
};

/// Loss of every pair at the best shift and the best scale between zero and `whole`, the largest that the side has which the run is
/// a part of: what the run still says about the answer, no louder than it says it. A leak of a hundredth of the answer is worth
/// a hundredth of the logits; scaled up it would be worth all of them.
pub(crate) fn informed_losses(run: &Outcome, whole: f64) -> Vec<f64> {
    run.pair_losses(calibrate_within(run, whole))
}

/// A set of nodes whose completeness is asked, and the largest scale that its runs may have: that of its calibration, or the
/// model's own, which is 1. (A calibration below 1 is modesty about what is always right, and halves a weak signal beside the
/// model's.)
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    pub nodes: &'a NodeSet,
    scale: f64,
}

impl<'a> Side<'a> {
    pub fn new(nodes: &'a NodeSet, calibration: Calibration) -> Self {
        Self { nodes, scale: whole_scale(calibration) }
    }
}

/// The largest scale of runs that are compared with a circuit of this calibration.
pub(crate) fn whole_scale(calibration: Calibration) -> f64 {
    calibration.scale.max(1.0)
}

/// A knock-out of nodes from circuit and model.
#[derive(Clone, Debug)]
pub(crate) struct Knockout {
    /// Search that found it, for people.
    pub how: &'static str,
    pub nodes: Vec<usize>,
    /// Mean loss of the circuit less that of the model, both without the nodes.
    pub gap: f64,
}

/// Mean over pairs of `L(M_{C∖K}) − L(M_{∖K})` (Wang et al. 2023: incompleteness without the absolute value), each at
/// its best shift and a scale no larger than its side's whole one ([`informed_losses`]); and its value for every pair.
pub(crate) fn gap(
    evaluator: &Evaluator<'_>,
    Side { nodes, scale }: Side<'_>,
    knocked_out: &[usize],
) -> Result<(f64, Vec<f64>), RunError> {
    let removed = NodeSet::of(nodes.space().clone(), knocked_out.iter().copied());
    let kept = NodeSet::of(nodes.space().clone(), nodes.numbers().filter(|&n| !removed.kept()[n]));
    let of_circuit = informed_losses(&evaluator.run_differences(&kept, Scheme::MEAN)?, scale);
    let of_model = informed_losses(&evaluator.run_without(&removed, Scheme::MEAN)?, 1.0);
    let differences: Vec<f64> = of_circuit.iter().zip(of_model).map(|(c, m)| c - m).collect();
    Ok((differences.iter().sum::<f64>() / differences.len() as f64, differences))
}

/// Knock-outs that a search tries beside that of no node.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    singles: usize,
    random: usize,
    /// Rounds of adding the worst of the singles.
    greedy: usize,
    by_gradient: bool,
}

impl Budget {
    pub const WHOLE: Self = Self { singles: 32, random: 16, greedy: 3, by_gradient: true };
    /// Budget of the search on random circuits, and the circuit once more beside them.
    pub const SMALL: Self = Self { singles: 8, random: 8, greedy: 0, by_gradient: false };
}

/// Looks for nodes K of the circuit whose knock-out breaks circuit and model most differently: none, single nodes,
/// random sets, greedily, and by gradient. Worst first. `out_of_time` ends the search early.
pub(crate) fn incompleteness(
    evaluator: &Evaluator<'_>,
    side: Side<'_>,
    budget: Budget,
    seed: u64,
    out_of_time: &dyn Fn() -> bool,
) -> Result<Vec<Knockout>, RunError> {
    let nodes: Vec<usize> = side.nodes.numbers().collect();
    let mut found: Vec<Knockout> = Vec::new();
    let mut attempt = |how: &'static str, knocked_out: &[usize]| -> Result<f64, RunError> {
        let (gap, _) = gap(evaluator, side, knocked_out)?;
        found.push(Knockout { how, nodes: knocked_out.to_vec(), gap });
        Ok(gap.abs())
    };
    attempt("nothing", &[])?;
    let mut rng = Stream::Knockouts.rng(seed);
    let mut singles = nodes.clone();
    shuffle(&mut singles, &mut rng);
    singles.truncate(budget.singles);
    for &node in &singles {
        if out_of_time() {
            break;
        }
        attempt("one node", &[node])?;
    }
    for i in 0..budget.random {
        if out_of_time() {
            break;
        }
        let share = if i % 2 == 0 { 0.5 } else { 0.25 };
        let drawn: Vec<usize> = nodes.iter().copied().filter(|_| rng.random_bool(share)).collect();
        attempt("random nodes", &drawn)?;
    }
    let mut chosen: Vec<usize> = Vec::new();
    for _ in 0..budget.greedy.min(nodes.len()) {
        let mut best: Option<(f64, usize)> = None;
        for &node in singles.iter().filter(|n| !chosen.contains(n)) {
            if out_of_time() {
                break;
            }
            let more: Vec<usize> = chosen.iter().copied().chain([node]).collect();
            let gap = attempt("greedily", &more)?;
            if best.is_none_or(|(b, _)| gap > b) {
                best = Some((gap, node));
            }
        }
        let Some((_, node)) = best else { break };
        chosen.push(node);
    }
    if budget.by_gradient && !out_of_time() && !nodes.is_empty() {
        attempt("by gradient", &learned(evaluator, side.nodes))?;
    }
    found.sort_by(|a, b| b.gap.abs().total_cmp(&a.gap.abs()));
    Ok(found)
}

/// Nodes whose knock-out parts circuit and model, by ascending `KL(M_{∖K} ‖ M_{C∖K})` over the candidates in
/// coefficients of the circuit's nodes (after AutoCircuit's learned knock-outs).
fn learned(evaluator: &Evaluator<'_>, circuit: &NodeSet) -> Vec<usize> {
    const STEPS: usize = 8;
    let n = circuit.kept().len();
    // Coefficients of the circuit's nodes; others are 0 in the circuit and 1 in the model.
    let mut r = vec![0.5_f32; n];
    let with = |r: &[f32], others: f32| -> Vec<f32> {
        r.iter().zip(circuit.kept()).map(|(&r, &kept)| if kept { r } else { others }).collect()
    };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let weights = evaluator.context.weights(circuit);
    for _ in 0..STEPS {
        let (of_circuit, of_model) = (with(&r, 0.0), with(&r, 1.0));
        let q = evaluator.partial(weights, &of_circuit, AblationValue::Mean, false).differences;
        let p = evaluator.partial(Weights::Model, &of_model, AblationValue::Mean, false).differences;
        let by_q = |s: usize, q: f64| (0.0, sigmoid(q) - sigmoid(p[s]));
        let by_p = |s: usize, p: f64| (0.0, sigmoid(p) * sigmoid(-p) * (p - q[s]));
        let (_, dq) = evaluator.partial_gradient(weights, &of_circuit, AblationValue::Mean, &by_q);
        let (_, dp) = evaluator.partial_gradient(Weights::Model, &of_model, AblationValue::Mean, &by_p);
        for (node, r) in r.iter_mut().enumerate() {
            let slope = dq[node] + dp[node];
            *r = (*r + 0.15 * slope.signum() as f32 * f32::from(u8::from(slope != 0.0))).clamp(0.0, 1.0);
        }
    }
    circuit.numbers().filter(|&n| r[n] < 0.5).collect()
}

/// Worth of a node of the circuit: the circuit's loss (at its own calibration) without it less with it, pair by
/// pair.
pub(crate) fn worth(
    evaluator: &Evaluator<'_>,
    circuit: &NodeSet,
    calibration: Calibration,
    with_all: &[f64],
    node: usize,
) -> Result<Vec<f64>, RunError> {
    let without = evaluator.run_differences(&without(circuit, node), Scheme::MEAN)?.pair_losses(calibration);
    Ok(without.iter().zip(with_all).map(|(w, a)| w - a).collect())
}

fn without(circuit: &NodeSet, node: usize) -> NodeSet {
    NodeSet::of(circuit.space().clone(), circuit.numbers().filter(|&n| n != node))
}

/// The size of what is left when nodes of `by_worth` are dropped, least worth first, as long as the loss stays within `margin` of
/// the circuit's.
pub(crate) fn smallest_subset(
    evaluator: &Evaluator<'_>,
    circuit: &NodeSet,
    calibration: Calibration,
    by_worth: &[usize],
    margin: f64,
    out_of_time: &dyn Fn() -> bool,
) -> Result<Option<usize>, RunError> {
    let loss = |nodes: &NodeSet| Ok::<_, RunError>(evaluator.run_differences(nodes, Scheme::MEAN)?.loss(calibration));
    let limit = loss(circuit)? + margin;
    let mut kept: Vec<usize> = circuit.numbers().collect();
    for &node in by_worth {
        if out_of_time() {
            return Ok(None);
        }
        let fewer: Vec<usize> = kept.iter().copied().filter(|&n| n != node).collect();
        if loss(&NodeSet::of(circuit.space().clone(), fewer.iter().copied()))? <= limit {
            kept = fewer;
        }
    }
    Ok(Some(kept.len()))
}

/// Those of some edges of the circuit that can be cut one at a time without raising its loss by more than `margin`: the reader
/// gets the mean of what it read instead. Also how many were tried.
pub(crate) fn needless_edges(
    evaluator: &Evaluator<'_>,
    circuit: &NodeSet,
    calibration: Calibration,
    edges: &[Edge],
    margin: f64,
    out_of_time: &dyn Fn() -> bool,
) -> (Vec<Edge>, usize) {
    let context = evaluator.context;
    let mut model = context.model_with(context.weights(circuit)).clone();
    let loss = |model: &Model| {
        let keep = || Keep::new(circuit, Ablation::Mean(context.means));
        evaluate(model, evaluator.batches(), false, keep, |_| ()).loss(calibration)
    };
    let limit = loss(&model) + margin;
    let (mut needless, mut tried) = (Vec::new(), 0);
    for edge in edges {
        if out_of_time() {
            break;
        }
        tried += 1;
        let mean = context.means.values()[circuit.space().number(edge.from).expect("a node of the circuit")];
        let (linear, row) = weights_of(&mut model, edge.to);
        // A model without biases keeps none: there a cut edge gives zero.
        let bias = linear.bias.as_ref().map(|b| b.dense()[[row, 0]]);
        set(linear, (row, edge.from.index), 0.0, bias.map(|b| b + edge.weight * mean));
        if loss(&model) <= limit {
            needless.push(edge.clone());
        }
        set(weights_of(&mut model, edge.to).0, (row, edge.from.index), edge.weight, bias);
    }
    (needless, tried)
}

/// Sets a weight and, if there is one, the bias of its row.
fn set(linear: &mut Linear<Weight>, (row, column): (usize, usize), weight: f32, bias: Option<f32>) {
    linear.weight.update(|w| w[[row, column]] = weight);
    if let (Some(b), Some(bias)) = (&mut linear.bias, bias) {
        b.update(|b| b[[row, 0]] = bias);
    }
}
