//! Attribution scores: estimates of how much each node, or each edge, is worth to a task, and the rankings that they make.
//!
//! Baselines for learned masks. All measure by the task's *logit difference* in nats,
//!
//! ```text
//! m = mean over sequences of (logit of the right answer − logit of the wrong one) at the last token,
//! ```
//!
//! the right answer being the one that continues the sequence. A score `s` estimates `m(model) − m(model without the part)`: the
//! part is a node, which takes its mean over training data at every token, or an edge, whose weight is zero, as in every run of a
//! circuit that leaves an edge out. A constant offset of the two logits cancels between the two prompts of a pair: scores say
//! which parts tell the prompts apart.

mod curve;
mod edges;
mod eliminate;
mod gradient;
mod judge;
mod learned;
mod patching;
mod ranking;
mod refine;
mod search;

use std::ops::ControlFlow;

use openwork_circuit::{Ablation, Batch, Keep, Means, NodeSet, NodeSpace, batches, contrast, evaluate};
use openwork_model::{Matrix, Model};
use openwork_tasks::{Pair, Side};

pub use curve::{CurvePoint, curve_sizes};
pub use edges::EdgeScores;
pub use ranking::{SiteSum, ranking};
pub use refine::Refinement;
pub use search::{OnScoreStep, Ranked, ScoreSearch, ScoreStage, ScoreStep};

/// Pairs of a pass.
const PAIRS_PER_BATCH: usize = 8;

/// Callback with the number of parts that are done; its `Break` ends the work.
pub type GoesOn<'a> = dyn FnMut(usize) -> ControlFlow<()> + 'a;

/// Scores of the parts of a model on pairs of a task. Sums are added up in the order of pairs: results have the same bytes on any
/// number of threads.
pub struct Scorer<'a> {
    model: &'a Model,
    means: &'a Means,
    space: NodeSpace,
    batches: Vec<Batch>,
}

impl<'a> Scorer<'a> {
    /// Scores in `model`, whose nodes have these means, on these pairs.
    ///
    /// # Panics
    /// When there are no pairs, or the means are those of a model of another shape.
    #[track_caller]
    pub fn new(model: &'a Model, means: &'a Means, pairs: &[Pair]) -> Self {
        assert!(!pairs.is_empty(), "scores need pairs");
        let space = NodeSpace::new(&model.config);
        assert_eq!(means.values().len(), space.len(), "a mean for every node");
        Self { model, means, space, batches: batches(pairs, PAIRS_PER_BATCH, model.config.n_ctx) }
    }

    /// Nodes of the model.
    pub fn space(&self) -> &NodeSpace {
        &self.space
    }

    /// The logit difference `m` in nats with only `nodes` kept and the others at their means.
    pub fn logit_difference(&self, nodes: &NodeSet) -> f64 {
        let run = evaluate(self.model, &self.batches, false, || Keep::new(nodes, Ablation::Mean(self.means)), |_| ());
        let differences = run.sequences().map(|(side, d)| side.towards_right(d));
        differences.sum::<f64>() / self.sequences()
    }

    /// Effect of ablating all nodes, `m(model) − m(all at their means)`, in nats.
    pub fn total(&self) -> f64 {
        let [all, none] = [NodeSet::all(self.space.clone()), NodeSet::empty(self.space.clone())];
        self.logit_difference(&all) - self.logit_difference(&none)
    }

    fn sequences(&self) -> f64 {
        self.batches.iter().map(|b| b.candidates.len()).sum::<usize>() as f64
    }

    fn ablation(&self) -> Ablation<'a> {
        Ablation::Mean(self.means)
    }
}

/// Sum over sequences of the logit difference towards the right answer, and its gradient with respect to logits
/// `[vocab, sequences]`: 1 at the right answer, −1 at the wrong one.
fn towards_right(logits: &Matrix, batch: &Batch) -> (f64, Matrix) {
    contrast(logits, batch, |sequence, d| {
        let side = Side::of_sequence(sequence);
        (side.towards_right(d), side.towards_right(1.0))
    })
}

#[cfg(test)]
pub(crate) mod tests;
