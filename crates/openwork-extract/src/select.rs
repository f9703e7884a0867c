//! From a learned ranking to a circuit: how many nodes, and which of them are not needed after all.

use openwork_circuit::{
    Ablation, Batch, Calibration, Keep, Means, NodeSet, NodeSpace, Outcome, batches, evaluate, tasks::Pair,
};
use openwork_model::Model;

/// Evaluates candidate circuits: calibrated on training pairs, measured on validation pairs.
pub(crate) struct Selection<'a> {
    model: &'a Model,
    means: &'a Means,
    train: Vec<Batch>,
    validation: Vec<Batch>,
    target: f64,
}

/// Training pairs the two-parameter calibration is fitted on.
const CALIBRATION_PAIRS: usize = 64;

/// Pairs per forward pass.
const PAIRS_PER_BATCH: usize = 8;

impl<'a> Selection<'a> {
    pub fn new(model: &'a Model, means: &'a Means, train: &[Pair], validation: &[Pair], target: f64) -> Self {
        let group = |pairs: &[Pair]| batches(pairs, PAIRS_PER_BATCH, model.config.n_ctx);
        let train = group(&train[..train.len().min(CALIBRATION_PAIRS)]);
        Self { model, means, train, validation: group(validation), target }
    }

    /// Calibrated loss on the validation pairs, in nats per sequence, and the calibration.
    pub fn loss(&self, nodes: &NodeSet) -> (f64, Calibration) {
        let calibration = self.run(nodes, &self.train).calibrate();
        (self.run(nodes, &self.validation).loss(calibration), calibration)
    }

    fn run(&self, nodes: &NodeSet, batches: &[Batch]) -> Outcome {
        evaluate(self.model, batches, false, || Keep::new(nodes, Ablation::Mean(self.means)), |_| ())
    }

    /// The fewest top-τ nodes within the target, less those that it does not need.
    pub fn fewest(&self, space: &NodeSpace, tau: &[f32]) -> NodeSet {
        let mut ranking: Vec<usize> = (0..tau.len()).collect();
        ranking.sort_by(|&a, &b| tau[b].total_cmp(&tau[a]).then(a.cmp(&b)));
        let top = |k: usize| NodeSet::of(space.clone(), ranking[..k].iter().copied());
        if self.loss(&top(0)).0 <= self.target {
            return top(0); // what no node mediates needs no node; the verifier says what that is worth
        }
        // Invariant: `high` nodes are within the target (all are, the caller checked), `low` are not.
        let (mut low, mut high) = (0, ranking.len());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.loss(&top(middle)).0 <= self.target { high = middle } else { low = middle }
        }
        self.drop_single_nodes(space, &ranking[..high])
    }

    /// Tries to remove every node once, lowest τ first (the paper's footnote 9: pruning leaves removable
    /// nodes).
    fn drop_single_nodes(&self, space: &NodeSpace, ranked: &[usize]) -> NodeSet {
        let mut kept = ranked.to_vec();
        for &node in ranked.iter().rev() {
            let without: Vec<usize> = kept.iter().copied().filter(|&n| n != node).collect();
            if self.loss(&NodeSet::of(space.clone(), without.iter().copied())).0 <= self.target {
                kept = without;
            }
        }
        NodeSet::of(space.clone(), kept)
    }
}
