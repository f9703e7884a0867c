//! Learned masks over the edges inside a circuit, beside the greedy refinement.

use std::convert::Infallible;

use openwork_circuit::{Ablation, Batch, Circuit, Edge, Hold, LearnedMasks, NodeSpace, Partial, batches};
use openwork_model::{Model, Tokens};
use openwork_tasks::Pair;
use rayon::prelude::*;

use super::{
    GoesOn, Refinement,
    edges::{set, slope},
    judge::masked,
    ranking,
    refine::{holds, with},
};
use crate::{
    learn::{At, learn},
    prompts::CHUNKS,
};

impl Refinement<'_> {
    /// The circuit with the edges that a mask over its edges keeps, less all that it does not need: every edge has a number τ and the weight
    /// `H(τ) w`; τ learns as that of nodes does ([`Search::search`](crate::Search::search)), by the task loss of the circuit alone plus `k_coef` for every
    /// open edge, with `∂loss/∂H = w ∂loss/∂w`. The fewest edges of largest τ for which `hold` holds, by bisection, are then refined ([`Refinement::run`]) until
    /// nothing can go: the mask decides which of many minimal circuits that is. Source: Gao et al. 2025, A.5, whose masks are over nodes.
    ///
    /// `None` where `goes_on`, which is told the number of edges, breaks.
    ///
    /// # Panics
    /// When the circuit leaves out a channel of the residual stream, there are no pairs, or `hold` does not hold of the circuit.
    pub fn learned(
        &self,
        circuit: Circuit,
        hold: Hold,
        (masks, seed): (&LearnedMasks, u64),
        goes_on: &mut GoesOn<'_>,
    ) -> Option<Circuit> {
        assert!(self.holds(&circuit, hold), "what is to hold holds of the circuit");
        let edges = circuit.edges().to_vec();
        if edges.is_empty() {
            return self.run(circuit, hold, goes_on);
        }
        let mut loss = |_: At, tau: &[f32], pairs: &[Pair]| Ok::<_, Infallible>(self.edge_gates(&circuit, tau, pairs));
        let mut progress = |p: crate::Progress| goes_on(p.kept);
        let Ok(tau) = learn(&mut loss, edges.len(), self.train, (masks, seed), 0, &mut progress);
        let order = ranking(&tau?.into_iter().map(f64::from).map(|t| t + 2.0).collect::<Vec<_>>());
        let judge = self.judge();
        let top = |k: usize| {
            let mut kept: Vec<usize> = order[..k].to_vec();
            kept.sort_unstable();
            with(circuit.clone(), self.model, &kept.iter().map(|&e| &edges[e]).collect::<Vec<&Edge>>())
        };
        // Invariant: `high` edges hold, `low` do not.
        let (mut low, mut high) = (0, edges.len());
        while high - low > 1 {
            if goes_on(high).is_break() {
                return None;
            }
            let middle = low + (high - low) / 2;
            let candidate = top(middle);
            let held = holds(hold, &judge, &masked(&candidate, self.model), candidate.nodes());
            if held { high = middle } else { low = middle }
        }
        self.run(top(high), hold, goes_on)
    }

    /// Mean task loss in nats per sequence with the edges of τ > 0 alone, and its gradient by every edge's gate.
    fn edge_gates(&self, circuit: &Circuit, tau: &[f32], pairs: &[Pair]) -> (f64, Vec<f64>) {
        let mut model = masked(circuit, self.model).into_owned();
        let edges = circuit.edges();
        edges.iter().zip(tau).filter(|(_, tau)| **tau <= 0.0).for_each(|(edge, _)| set(&mut model, edge, 0.0));
        let space = NodeSpace::new(&model.config);
        let r: Vec<f32> = circuit.nodes().kept().iter().map(|&kept| f32::from(u8::from(kept))).collect();
        let one = |batch: &Batch| {
            let mut tap = Partial::new(&space, &r, Ablation::Mean(self.means));
            let pass = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
            let (loss, dlogits) = batch.task_loss(&pass.logits);
            (loss, edge_slopes(&model, edges, &pass, &dlogits, &mut tap))
        };
        let batches = batches(pairs, pairs.len().div_ceil(CHUNKS), model.config.n_ctx);
        let parts: Vec<(f64, Vec<f64>)> = batches.par_iter().map(one).collect();
        let sequences = 2.0 * pairs.len() as f64;
        let mut gradient = vec![0.0; edges.len()];
        for (_, part) in &parts {
            gradient.iter_mut().zip(part).for_each(|(g, x)| *g += x / sequences);
        }
        (parts.iter().map(|p| p.0).sum::<f64>() / sequences, gradient)
    }
}

/// `w ∂loss/∂w` of every edge, `w` its weight in the circuit.
fn edge_slopes(
    model: &Model,
    edges: &[Edge],
    pass: &openwork_model::Pass,
    dlogits: &openwork_model::Matrix,
    tap: &mut Partial<'_>,
) -> Vec<f64> {
    let mut gradients = model.zero_gradients();
    model.backward(pass, dlogits, tap, Some(&mut gradients));
    edges.iter().map(|e| f64::from(e.weight) * slope(model, &gradients, e)).collect()
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use openwork_circuit::{NodeSet, without_edges};

    use super::*;
    use crate::scores::tests::smooth;

    #[test]
    fn gradients_of_edge_gates_are_finite_differences() {
        let (model, means, pairs) = smooth();
        let space = NodeSpace::new(&model.config);
        let nodes = NodeSet::of(space.clone(), (0..space.len()).filter(|n| n % 3 != 0));
        let circuit = Circuit::new(&model, nodes);
        let refinement = Refinement { model: &model, means: &means, train: &pairs, validation: &pairs };
        let tau: Vec<f32> = (0..circuit.edges().len()).map(|e| if e % 5 == 0 { -0.5 } else { 0.5 }).collect();
        let (loss, gates) = refinement.edge_gates(&circuit, &tau, &pairs);

        // By hand: the model without closed edges, and the gate of one edge moved from where it is.
        let closed: Vec<_> = circuit.edges().iter().step_by(5).map(|e| (e.from, e.to)).collect();
        let closed = without_edges(&model, &closed).unwrap();
        let batch = &batches(&pairs, pairs.len(), model.config.n_ctx)[0];
        let r: Vec<f32> = circuit.nodes().kept().iter().map(|&kept| f32::from(u8::from(kept))).collect();
        let run = |model: &Model| {
            let mut tap = Partial::new(&space, &r, Ablation::Mean(&means));
            let pass = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
            batch.task_loss(&pass.logits).0 / (2 * pairs.len()) as f64
        };
        assert!((run(&closed) - loss).abs() < 1e-6 * loss.max(1.0));
        let scale = gates.iter().fold(0.0_f64, |m, g| m.max(g.abs()));
        assert!(scale > 1e-3);
        for e in (0..gates.len()).step_by(37) {
            let edge = &circuit.edges()[e];
            let at = |by: f32| {
                let mut moved = closed.clone();
                let gate = if tau[e] > 0.0 { 1.0 } else { 0.0 };
                set(&mut moved, edge, (gate + by) * edge.weight);
                run(&moved)
            };
            let slope = (at(2e-2) - at(-2e-2)) / 4e-2;
            // f32 logits: 1e-6 / h of noise, h² of truncation.
            assert!((slope - gates[e]).abs() < 2e-2 * scale, "{} -> {}: {slope} {}", edge.from, edge.to, gates[e]);
        }
    }

    #[test]
    fn a_learned_circuit_holds_and_nothing_more_of_it_can_go() {
        let (model, means, pairs) = smooth();
        let refinement = Refinement { model: &model, means: &means, train: &pairs, validation: &pairs };
        let space = NodeSpace::new(&model.config);
        let whole = Circuit::new(&model, NodeSet::of(space.clone(), (0..space.len()).step_by(2)));
        let (loss, _) = refinement.loss(&whole);
        let hold = Hold::Loss(loss * 1.2 + 1e-3);
        let masks = LearnedMasks { steps: 30, batch_pairs: 8, ..LearnedMasks::default() };
        let mut on = |_: usize| ControlFlow::Continue(());
        let run = |on: &mut GoesOn<'_>| refinement.learned(whole.clone(), hold, (&masks, 1), on);
        let learned = run(&mut on).unwrap();
        assert!(refinement.holds(&learned, hold) && learned.edges().len() < whole.edges().len());
        assert_eq!(run(&mut on), Some(learned.clone()), "the same seed, the same circuit");
        let again = refinement.run(learned.clone(), hold, &mut on).unwrap();
        assert_eq!(again, learned, "until nothing can be removed");
        let mut never = |_: usize| ControlFlow::Break(());
        assert_eq!(run(&mut never), None);
    }
}
