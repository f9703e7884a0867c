//! A circuit from a ranking: the smallest top of it that reaches the target loss.

use std::ops::ControlFlow;

use openwork_circuit::{Circuit, Edge, Means, NodeSet, NodeSpace, Parts, Score, Scored};
use openwork_model::Model;
use openwork_tasks::Pair;

use super::{EdgeScores, Scorer, judge::Judge, ranking};
use crate::prune::{NotReached, PruneError, Pruned};

/// A search for the smallest top of a ranking that reaches a target loss: scores are taken on `train`, and a circuit is
/// selected on `validation`.
#[derive(Clone, Copy)]
pub struct ScoreSearch<'a> {
    /// The model.
    pub model: &'a Model,
    /// Means of its nodes over training data.
    pub means: &'a Means,
    /// Pairs of the task that scores are taken and calibrations are fitted on.
    pub train: &'a [Pair],
    /// Pairs that a circuit is selected on.
    pub validation: &'a [Pair],
    /// Loss to reach, in nats per sequence.
    pub target_loss: f64,
    /// Seed of [`Score::Random`].
    pub seed: u64,
    /// Settings.
    pub settings: &'a Scored,
}

/// State of a search by scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreStep {
    /// Stage of the search.
    pub stage: ScoreStage,
    /// Parts that are scored, or that the circuit at hand has.
    pub parts: usize,
}

/// Stage of a search by scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreStage {
    /// Parts are scored.
    Scoring,
    /// Larger and larger tops of the ranking are tried.
    Selecting,
    /// Circuits of a curve are measured.
    Measuring,
}

/// Callback of a search by scores; its `Break` ends the search.
pub type OnScoreStep<'a> = dyn FnMut(ScoreStep) -> ControlFlow<()> + 'a;

/// Nodes or edges of a model, best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    pub(super) space: NodeSpace,
    /// Edges by index; none where nodes are ranked.
    edges: Option<Vec<Edge>>,
    /// Scores by index.
    scores: Vec<f64>,
    order: Vec<usize>,
}

/// Every top of so many parts is tried.
const EVERY: usize = 256;
/// Beyond, sizes grow by this part of themselves.
const GROWTH: usize = 64;

impl Ranked {
    /// Nodes by their scores.
    pub fn nodes(space: NodeSpace, scores: Vec<f64>) -> Self {
        Self { space, edges: None, order: ranking(&scores), scores }
    }

    /// Edges by their scores.
    pub fn edges(space: NodeSpace, EdgeScores { edges, scores }: EdgeScores) -> Self {
        Self { space, edges: Some(edges), order: ranking(&scores), scores }
    }

    /// Number of parts.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Scores in the order of nodes or of edges.
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// The circuit of the best `size` parts: of these nodes with all edges between them, or of these edges and the nodes that
    /// they join.
    ///
    /// # Panics
    /// When there are fewer parts.
    #[track_caller]
    pub fn top(&self, model: &Model, size: usize) -> Circuit {
        let best = &self.order[..size];
        let Some(edges) = &self.edges else {
            return Circuit::new(model, NodeSet::of(self.space.clone(), best.iter().copied()));
        };
        let ends: Vec<_> = best.iter().map(|&e| (edges[e].from, edges[e].to)).collect();
        let number = |node| self.space.number(node).expect("a node of the model");
        let nodes = NodeSet::of(self.space.clone(), ends.iter().flat_map(|&(from, to)| [number(from), number(to)]));
        Circuit::new(model, nodes).with_edges(model, &ends).expect("edges of the model between these nodes")
    }
}

impl ScoreSearch<'_> {
    /// [`ScoreSearch::search`], if the whole model does the task.
    ///
    /// # Errors
    /// When the whole model does not reach the target, or `progress` ends the search.
    pub fn prune(&self, progress: &mut OnScoreStep<'_>) -> Result<Pruned, PruneError> {
        let loss = self.judge().model_loss();
        if loss > self.target_loss {
            return Err(NotReached { loss, target: self.target_loss }.into());
        }
        self.search(progress).ok_or(PruneError::Ended)
    }

    /// The smallest top of the ranking whose calibrated loss is within the target; the whole ranking where no top is. `None` where
    /// `progress` ends it.
    ///
    /// A loss need not fall with every part that is added, so that bisection could end anywhere: tops of 0, 1, 2, .. up to 256
    /// parts are tried one after the other, then sizes that grow by a 64th. From the first that is within the target the
    /// search goes back to the last that was not, and tries every size between. No smaller size that was tried is within the
    /// target; beyond 256 parts a smaller one between two misses is overlooked.
    pub fn search(&self, progress: &mut OnScoreStep<'_>) -> Option<Pruned> {
        let ranked = self.ranked(progress)?;
        let judge = self.judge();
        let circuit = self.smallest(&ranked, &judge, progress)?;
        let (loss, calibration) = judge.loss_of(&circuit);
        Some(Pruned { circuit, calibration, loss, reached: loss <= self.target_loss, restarts: 1 })
    }

    /// The ranking of the settings. `None` where `progress` ends it.
    ///
    /// # Panics
    /// When [`Scored::fault`] finds one, or there are no training pairs.
    pub fn ranked(&self, progress: &mut OnScoreStep<'_>) -> Option<Ranked> {
        if let Some(fault) = self.settings.fault() {
            panic!("scores: {fault}");
        }
        let Scored { points, threshold, .. } = *self.settings;
        let scorer = self.scorer();
        let space = scorer.space().clone();
        let mut goes_on = |parts| progress(ScoreStep { stage: ScoreStage::Scoring, parts });
        if goes_on(0).is_break() {
            return None;
        }
        let nodes = NodeSet::all(space.clone());
        Some(match (self.settings.parts, self.settings.score) {
            (Parts::Nodes, Score::Gradient) => Ranked::nodes(space, scorer.gradient(&mut goes_on)?),
            (Parts::Nodes, Score::Integrated) => Ranked::nodes(space, scorer.integrated(points, &mut goes_on)?),
            (Parts::Nodes, Score::Inputs) => Ranked::nodes(space, scorer.inputs(points, &mut goes_on)?),
            (Parts::Nodes, Score::Patching) => Ranked::nodes(space, scorer.patching(&mut goes_on)?),
            (Parts::Nodes, Score::Weights) => Ranked::nodes(space, scorer.weights()),
            (Parts::Nodes, Score::Acdc) => Ranked::nodes(space, scorer.eliminate(threshold, &mut goes_on)?),
            (Parts::Nodes, Score::Random) => Ranked::nodes(space, scorer.random(self.seed)),
            (Parts::Edges, Score::Gradient) => Ranked::edges(space, scorer.edge_gradient(&nodes)),
            (Parts::Edges, Score::Weights) => Ranked::edges(space, scorer.edge_weights(&nodes)),
            (Parts::Edges, Score::Acdc) => {
                Ranked::edges(space, scorer.eliminate_edges(&nodes, threshold, &mut goes_on)?)
            }
            (Parts::Edges, Score::Random) => Ranked::edges(space, scorer.edge_random(&nodes, self.seed)),
            (Parts::Edges, Score::Integrated | Score::Inputs | Score::Patching) => unreachable!("a fault"),
        })
    }

    /// The scorer of the first training pairs, as many as the settings say.
    pub fn scorer(&self) -> Scorer<'_> {
        Scorer::new(self.model, self.means, &self.train[..self.train.len().min(self.settings.pairs)])
    }

    pub(super) fn judge(&self) -> Judge<'_> {
        Judge::new(self.model, self.means, self.train, self.validation)
    }

    fn smallest(&self, ranked: &Ranked, judge: &Judge<'_>, progress: &mut OnScoreStep<'_>) -> Option<Circuit> {
        let mut tried = |size: usize| -> Option<Result<Circuit, ()>> {
            if progress(ScoreStep { stage: ScoreStage::Selecting, parts: size }).is_break() {
                return None;
            }
            let circuit = ranked.top(self.model, size);
            Some(if judge.circuit_reaches(&circuit, self.target_loss) { Ok(circuit) } else { Err(()) })
        };
        let mut last = None;
        for size in sizes(ranked.len()) {
            if let Ok(found) = tried(size)? {
                for between in last.map_or(size, |last| last + 1)..size {
                    if let Ok(smaller) = tried(between)? {
                        return Some(smaller);
                    }
                }
                return Some(found);
            }
            last = Some(size);
        }
        Some(ranked.top(self.model, ranked.len()))
    }
}

/// Sizes that are tried: each up to [`EVERY`], then growing by a [`GROWTH`]th, and the last.
fn sizes(parts: usize) -> Vec<usize> {
    let next = |&size: &usize| {
        let step = if size < EVERY { 1 } else { (size / GROWTH).max(1) };
        (size < parts).then(|| (size + step).min(parts))
    };
    std::iter::successors(Some(0), next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_small_size_is_tried_and_the_last() {
        assert_eq!(sizes(3), [0, 1, 2, 3]);
        let many = sizes(3000);
        assert_eq!(many[..257], (0..=256).collect::<Vec<_>>());
        assert_eq!((many[257], *many.last().unwrap()), (260, 3000));
        assert!(many.windows(2).all(|w| w[0] < w[1] && w[1] <= w[0] + (w[0] / GROWTH).max(1)) && many.len() < 450);
    }
}
