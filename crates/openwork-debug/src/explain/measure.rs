//! Activations of nodes on contexts, and losses with a node replaced.

use std::ops::ControlFlow;

use openwork_circuit::Node;
use openwork_model::{Cpu, Matrix, Model, Site, Tap, Tokens};
use rayon::prelude::*;

use super::interval::{Bootstrap, Interval};

/// Values of some nodes, and then the end of the pass.
struct Rows<'a> {
    nodes: &'a [Node],
    last: Site,
    values: Vec<Vec<f32>>,
}

impl Tap for Rows<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        for (node, values) in self.nodes.iter().zip(&mut self.values).filter(|(node, _)| node.site == site) {
            *values = value.row(node.index).to_vec();
        }
        if site == self.last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn sees_gradients(&self) -> bool {
        false
    }
}

/// Values of every node, `[nodes][contexts × positions]`, each context a run of its own.
///
/// # Panics
/// When the model has no such node, or contexts are longer than its own.
pub(crate) fn activations(model: &Model, contexts: &[&[u16]], nodes: &[Node]) -> Vec<Vec<f32>> {
    let Some(last) = nodes.iter().map(|node| node.site).max() else { return vec![] };
    let of = |context: &&[u16]| {
        let mut tap = Rows { nodes, last, values: vec![vec![]; nodes.len()] };
        let tokens = Tokens::new(context, context.len());
        let _ = model.forward_until(tokens, Some(&[0]), &mut tap, &mut Cpu::default());
        tap.values
    };
    let runs: Vec<Vec<Vec<f32>>> = contexts.par_iter().map(of).collect();
    (0..nodes.len()).map(|n| runs.iter().flat_map(|run| run[n].iter().copied()).collect()).collect()
}

/// A node that takes given values, one a position.
struct Replaced<'a> {
    node: Node,
    values: &'a [f32],
}

impl Tap for Replaced<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        if site == self.node.site {
            value.row_mut(self.node.index).iter_mut().zip(self.values).for_each(|(x, new)| *x = *new);
        }
        ControlFlow::Continue(())
    }

    fn sees_gradients(&self) -> bool {
        false
    }
}

/// Loss of every context: `−log p(next token)` in nats, mean over its positions but the last, in f64 from f32 logits. With `replaced`
/// the node takes these values, `[contexts × positions]`.
pub(crate) fn losses(model: &Model, contexts: &[&[u16]], replaced: Option<(Node, &[f32])>) -> Vec<f64> {
    let of = |(c, context): (usize, &&[u16])| {
        let tokens = Tokens::new(context, context.len());
        let logits: Matrix = match replaced {
            Some((node, values)) => {
                let values = &values[c * context.len()..][..context.len()];
                model.forward(tokens, None, &mut Replaced { node, values }).logits
            }
            None => model.forward(tokens, None, &mut openwork_model::NoTap).logits,
        };
        let last = context.len() - 1;
        let one = |position: usize| {
            let column = logits.column(position);
            let most = column.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = column.iter().map(|&x| f64::from(x - most).exp()).sum();
            f64::from(most) + sum.ln() - f64::from(column[usize::from(context[position + 1])])
        };
        (0..last).map(one).sum::<f64>() / last as f64
    };
    contexts.par_iter().enumerate().map(of).collect()
}

/// Means of a node by the value of an explanation on the selection contexts, which are its simulated values on others.
pub(crate) struct Simulator {
    means: Vec<f32>,
    /// Mean over all positions: the simulated value where the explanation takes a value that it did not take there, and the ablated value.
    pub mean: f32,
}

impl Simulator {
    /// `ids` are the numbers of the explanation's values, one a position, and below `count`.
    pub fn new(ids: &[u32], activations: &[f32], count: usize) -> Self {
        let mut sums = vec![(0.0_f64, 0_usize); count];
        for (&id, &x) in ids.iter().zip(activations) {
            sums[id as usize].0 += f64::from(x);
            sums[id as usize].1 += 1;
        }
        let mean = activations.iter().map(|&x| f64::from(x)).sum::<f64>() / activations.len() as f64;
        let of = |&(sum, n): &(f64, usize)| if n == 0 { mean as f32 } else { (sum / n as f64) as f32 };
        Self { means: sums.iter().map(of).collect(), mean: mean as f32 }
    }

    /// Simulated values for the explanation's values.
    pub fn simulate(&self, ids: &[u32]) -> Vec<f32> {
        ids.iter().map(|&id| self.means[id as usize]).collect()
    }
}

/// Share of the variance that simulated values explain, `1 − Σ (x − s)² / Σ (x − m)²` with the mean `m` of the selection contexts, with a
/// bootstrap by context; none where the values do not vary.
pub(crate) fn variance_explained(
    bootstrap: &Bootstrap,
    activations: &[f32],
    simulated: &[f32],
    mean: f32,
    length: usize,
) -> Option<Interval> {
    let square = |x: f32, y: f32| f64::from(x - y).powi(2);
    let by_context = |of: &dyn Fn(usize) -> f64| -> Vec<f64> {
        (0..activations.len()).step_by(length).map(|start| (start..start + length).map(of).sum()).collect()
    };
    let all = by_context(&|i| square(activations[i], mean));
    let explained = by_context(&|i| square(activations[i], mean) - square(activations[i], simulated[i]));
    (all.iter().sum::<f64>() > 0.0).then(|| bootstrap.ratio(&explained, &all))
}

/// Losses of the model, with the node ablated, and what its ablation costs.
pub(crate) struct Effect<'a> {
    pub model: &'a [f64],
    pub ablated: Vec<f64>,
    /// Rise of the loss by the ablation.
    pub rise: Interval,
}

impl<'a> Effect<'a> {
    pub fn new(bootstrap: &Bootstrap, model: &'a [f64], ablated: Vec<f64>) -> Self {
        let rise: Vec<f64> = ablated.iter().zip(model).map(|(a, m)| a - m).collect();
        let rise = bootstrap.mean(&rise);
        Self { model, ablated, rise }
    }

    /// `(L_ablated − L_simulated) / (L_ablated − L_model)`; none where the interval of the rise reaches zero.
    pub fn recovered(&self, bootstrap: &Bootstrap, simulated: &[f64]) -> Option<Interval> {
        if self.rise.ci95.0 <= 0.0 {
            return None;
        }
        let over: Vec<f64> = self.ablated.iter().zip(simulated).map(|(a, s)| a - s).collect();
        let under: Vec<f64> = self.ablated.iter().zip(self.model).map(|(a, m)| a - m).collect();
        Some(bootstrap.ratio(&over, &under))
    }
}
