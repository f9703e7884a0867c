//! An attack of this crate on what a circuit leaves out, for curves. It shares no code with those of the verifier.

use openwork_circuit::{
    Ablation, Batch, Calibration, Keep, Means, NodeSet, NodeSpace, Outcome, Partial, contrast, evaluate,
};
use openwork_model::{Model, NoTap, Tokens};
use rayon::prelude::*;

/// Steps of an attack after its first.
const STEPS: usize = 3;

/// Goal of an attack on logit differences.
#[derive(Clone, Copy)]
enum Aim {
    /// Towards the answer on all prompts.
    Up,
    /// Towards the alternative on all prompts.
    Down,
    /// Against the model's answer on every prompt.
    Against,
}

/// Share of the model's answers that stay what they are under the worst attack found that takes `budget` whole nodes outside
/// `nodes` to their means, the same nodes on all prompts.
///
/// Three aims, each from the gradient at the model itself; then by the method of Frank and Wolfe on
/// `Σ softplus(−sign(d_model) d)`, of which every step is rounded to the `budget` nodes that are ablated most. The attack
/// is made on the sequences that it is measured on.
///
/// # Panics
/// When there are no batches.
pub(super) fn agreement_under_attack(
    model: &Model,
    means: &Means,
    nodes: &NodeSet,
    batches: &[Batch],
    budget: usize,
) -> f64 {
    let attack = Attack::new(model, means, nodes, batches, budget);
    [Aim::Up, Aim::Down, Aim::Against].into_iter().fold(1.0, |least: f64, aim| least.min(attack.worst(aim)))
}

pub(super) struct Attack<'a> {
    model: &'a Model,
    means: &'a Means,
    space: &'a NodeSpace,
    nodes: &'a NodeSet,
    batches: &'a [Batch],
    /// The model's own outcome.
    plain: Outcome,
    budget: usize,
}

impl<'a> Attack<'a> {
    pub fn new(model: &'a Model, means: &'a Means, nodes: &'a NodeSet, batches: &'a [Batch], budget: usize) -> Self {
        let plain = evaluate(model, batches, false, || NoTap, |_| ());
        Self { model, means, space: nodes.space(), nodes, batches, plain, budget }
    }

    fn worst(&self, aim: Aim) -> f64 {
        let first = self.slopes(&vec![0.0; self.space.len()], &|sequence, _| match aim {
            Aim::Up => 1.0,
            Aim::Down => -1.0,
            Aim::Against => -self.sign(sequence),
        });
        let mut ablated = self.vertex(&first);
        let mut least = self.agreement(&ablated);
        for step in 0..STEPS {
            let slopes = self.slopes(&ablated, &|sequence, d| {
                let sign = self.sign(sequence);
                // The slope of softplus(−sign d).
                -sign / (1.0 + (sign * d).exp())
            });
            let towards = 2.0 / (step as f64 + 3.0);
            let vertex = self.vertex(&slopes);
            ablated.iter_mut().zip(vertex).for_each(|(a, v)| *a += towards * (v - *a));
            least = least.min(self.agreement(&self.rounded(&ablated)));
        }
        least
    }

    pub fn sign(&self, sequence: usize) -> f64 {
        if self.plain.differences[sequence] < 0.0 { -1.0 } else { 1.0 }
    }

    /// Slopes by the ablated part of each node of what is raised, whose slope by a sequence's logit difference is `raised`.
    pub fn slopes(&self, ablated: &[f64], raised: &(dyn Fn(usize, f64) -> f64 + Sync)) -> Vec<f64> {
        let r: Vec<f32> = ablated.iter().map(|a| (1.0 - a) as f32).collect();
        let first: Vec<usize> = self
            .batches
            .iter()
            .scan(0, |first, batch| {
                *first += batch.candidates.len();
                Some(*first - batch.candidates.len())
            })
            .collect();
        let one = |(batch, first): (&Batch, &usize)| {
            let mut tap = Partial::new(self.space, &r, Ablation::Mean(self.means));
            let pass = self.model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
            let (_, dlogits) = contrast(&pass.logits, batch, |sequence, d| (0.0, raised(first + sequence, d)));
            self.model.backward(&pass, &dlogits, &mut tap, None);
            tap.gradient
        };
        let parts: Vec<Vec<f32>> = self.batches.par_iter().zip(&first).map(one).collect();
        let mut slopes = vec![0.0; r.len()];
        // An ablated part is 1 − r.
        parts.iter().for_each(|part| slopes.iter_mut().zip(part).for_each(|(s, g)| *s -= f64::from(*g)));
        slopes
    }

    /// The budget's nodes outside the circuit whose ablation raises most.
    fn vertex(&self, slopes: &[f64]) -> Vec<f64> {
        let outside = |n: &usize| !self.nodes.kept()[*n] && slopes[*n] > 0.0;
        self.best(slopes, (0..slopes.len()).filter(outside).collect())
    }

    /// The budget's nodes that are ablated most.
    fn rounded(&self, ablated: &[f64]) -> Vec<f64> {
        self.best(ablated, (0..ablated.len()).filter(|&n| ablated[n] > 0.0).collect())
    }

    fn best(&self, values: &[f64], mut candidates: Vec<usize>) -> Vec<f64> {
        candidates.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        let mut best = vec![0.0; values.len()];
        candidates.iter().take(self.budget).for_each(|&n| best[n] = 1.0);
        best
    }

    /// Agreement with the model of its run without these nodes.
    fn agreement(&self, ablated: &[f64]) -> f64 {
        let kept = NodeSet::of(self.space.clone(), (0..ablated.len()).filter(|&n| ablated[n] == 0.0));
        let tap = || Keep::new(&kept, Ablation::Mean(self.means));
        let run = evaluate(self.model, self.batches, false, tap, |_| ());
        let sum: f64 = run.agreement(Calibration::NONE, &self.plain).sum();
        sum / self.plain.differences.len() as f64
    }
}
