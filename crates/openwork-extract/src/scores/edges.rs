//! Scores of edges: nonzero weights between nodes.

use openwork_circuit::{Batch, Edge, Keep, NodeSet, Partial, edges, weights_of};
use openwork_model::{Linear, Model, Params, PassState, Site, SiteKind, Tokens};
use openwork_ops::Gradient;
use rayon::prelude::*;

use super::{GoesOn, Scorer, ranking::random, towards_right};

/// Edges between some nodes, in the order of [`edges`], with a score each.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeScores {
    /// The edges.
    pub edges: Vec<Edge>,
    /// Scores, in nats for those that estimate effects.
    pub scores: Vec<f64>,
}

impl Scorer<'_> {
    /// Gradient times difference on edges: `s_e = w ∂m/∂w = Σ_tokens ∂m/∂y · w x`, `w x` what the edge adds to the input `y` of the
    /// node that it ends at. The difference is to zero and not to `w a`: a circuit without an edge runs in the model without the
    /// weight ([`Circuit::masked`](openwork_circuit::Circuit::masked)), so that this, too, estimates what leaving it out does. Runs
    /// keep `nodes` alone, others are at their means. One forward and one backward pass a batch.
    pub fn edge_gradient(&self, nodes: &NodeSet) -> EdgeScores {
        self.edge_gradient_in(self.model, nodes)
    }

    /// [`Scorer::edge_gradient`] in a model with fewer weights.
    pub(super) fn edge_gradient_in(&self, model: &Model, nodes: &NodeSet) -> EdgeScores {
        let edges = edges(model, nodes);
        let r: Vec<f32> = nodes.kept().iter().map(|&kept| f32::from(u8::from(kept))).collect();
        let one = |batch: &Batch| {
            let mut tap = Partial::new(&self.space, &r, self.ablation());
            let pass = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
            let (_, dlogits) = towards_right(&pass.logits, batch);
            let mut gradients = model.zero_gradients();
            model.backward(&pass, &dlogits, &mut tap, Some(&mut gradients));
            edges.iter().map(|e| f64::from(e.weight) * slope(model, &gradients, e)).collect()
        };
        let parts: Vec<Vec<f64>> = self.batches.par_iter().map(one).collect();
        let mut scores = vec![0.0; edges.len()];
        for part in parts {
            scores.iter_mut().zip(part).for_each(|(s, x)| *s += x / self.sequences());
        }
        EdgeScores { edges, scores }
    }

    /// Magnitudes `|w|` of the edges between `nodes`.
    pub fn edge_weights(&self, nodes: &NodeSet) -> EdgeScores {
        let edges = edges(self.model, nodes);
        EdgeScores { scores: edges.iter().map(|e| f64::from(e.weight.abs())).collect(), edges }
    }

    /// Random scores in (0, 1] of the edges between `nodes`.
    pub fn edge_random(&self, nodes: &NodeSet, seed: u64) -> EdgeScores {
        let edges = edges(self.model, nodes);
        EdgeScores { scores: random(edges.len(), seed), edges }
    }

    /// Greedy elimination of edges between `nodes` from the output backwards: as [`Scorer::eliminate`], with the weight of a
    /// removed edge zero and nodes outside at their means. `None` where `goes_on` breaks.
    pub fn eliminate_edges(&self, nodes: &NodeSet, threshold: f64, goes_on: &mut GoesOn<'_>) -> Option<EdgeScores> {
        let all = edges(self.model, nodes);
        let runs = self.recorded(&mut || Keep::new(nodes, self.ablation()));
        let mut model = self.model.clone();
        let mut scores = vec![0.0; all.len()];
        let mut distance = {
            let first = Site { layer: 0, kind: SiteKind::ResidIn };
            let states: Vec<PassState> = runs.iter().map(|run| run.state(first)).collect();
            self.distance(&model, &runs, &states, nodes)
        };
        let mut at: Option<(Site, Vec<PassState>)> = None;
        for (tried, index) in backwards(&all).into_iter().enumerate() {
            if goes_on(tried).is_break() {
                return None;
            }
            let edge = &all[index];
            let site = before(edge.to.site);
            if at.as_ref().is_none_or(|(of, _)| *of != site) {
                at = Some((site, runs.iter().map(|run| run.state(site)).collect()));
            }
            let (_, states) = at.as_ref().expect("just set");
            set(&mut model, edge, 0.0);
            let without = self.distance(&model, &runs, states, nodes);
            scores[index] = (without - distance).max(0.0);
            match scores[index] < threshold {
                true => distance = without,
                false => set(&mut model, edge, edge.weight),
            }
        }
        Some(EdgeScores { edges: all, scores })
    }
}

/// Numbers of edges by falling site of the node that they end at, then falling.
fn backwards(edges: &[Edge]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..edges.len()).collect();
    order.sort_by(|&a, &b| edges[b].to.site.cmp(&edges[a].to.site).then(b.cmp(&a)));
    order
}

/// The site from which the matrix that ends at `site` is computed.
fn before(site: Site) -> Site {
    let kind = match site.kind {
        SiteKind::Query | SiteKind::Key | SiteKind::Value => SiteKind::AttnRead,
        SiteKind::AttnWrite => SiteKind::AttnMix,
        SiteKind::Neuron => SiteKind::MlpRead,
        SiteKind::MlpWrite => SiteKind::Neuron,
        other => unreachable!("no edge ends at {other:?}"),
    };
    Site { kind, ..site }
}

/// Sets the weight of an edge.
pub(super) fn set(model: &mut Model, edge: &Edge, weight: f32) {
    let (linear, row) = weights_of(model, edge.to);
    linear.weight.update(|w| w[[row, edge.from.index]] = weight);
}

/// The gradient of an edge's weight.
pub(super) fn slope(model: &Model, gradients: &Params<Gradient>, edge: &Edge) -> f64 {
    let d_attn = model.config.n_head * model.config.d_head;
    let block = &gradients.blocks[edge.to.site.layer];
    let (linear, first): (&Linear<Gradient>, usize) = match edge.to.site.kind {
        SiteKind::Query => (&block.qkv, 0),
        SiteKind::Key => (&block.qkv, d_attn),
        SiteKind::Value => (&block.qkv, 2 * d_attn),
        SiteKind::AttnWrite => (&block.attn_out, 0),
        SiteKind::Neuron => (&block.fc, 0),
        SiteKind::MlpWrite => (&block.proj, 0),
        other => unreachable!("no edge ends at {other:?}"),
    };
    f64::from(linear.weight.dense()[[first + edge.to.index, edge.from.index]])
}
