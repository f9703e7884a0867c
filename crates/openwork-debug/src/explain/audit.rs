//! The audit of a model: nodes drawn from all, explanations searched for each.

use std::ops::ControlFlow;

use openwork_circuit::NodeSpace;
use openwork_model::Model;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{
    ExplainError, Interval, Scorer, Split,
    family::Search,
    measure::{Simulator, activations},
};
use crate::{Contexts, Vocabulary, claims::Share};

/// Extent of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AuditOptions {
    /// Nodes that are drawn.
    pub nodes: usize,
    /// Seed of the draw.
    pub seed: u64,
    /// Contexts, half to find explanations on and half to score them on.
    pub windows: usize,
    /// Share of the variance from which on a node counts as explained.
    pub bar: f64,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { nodes: 100, seed: 0, windows: 256, bar: 0.5 }
    }
}

/// A node of an audit with the best explanation of the family.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audited {
    /// The node.
    pub node: String,
    /// The explanation that explains most of its variance on the selection contexts.
    pub expression: String,
    /// Share of the variance on other contexts; none where it does not vary there.
    pub variance_explained: Option<Interval>,
    /// Rise of the loss where the node has its mean everywhere.
    pub ablation: Interval,
    /// Share of that rise which the explanation takes back; none where it is not above its noise.
    pub loss_recovered: Option<Interval>,
    /// True if the share of the variance reaches the bar.
    pub explained: bool,
}

/// An audit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// Its extent.
    pub options: AuditOptions,
    /// Nodes that circuits are made of, and those that vary on the selection contexts, which are drawn from.
    pub nodes_of_model: [usize; 2],
    /// Contexts that explanations were found on, and those that scores are of.
    pub contexts: [usize; 2],
    /// Share of the nodes drawn that are explained: the number of the model.
    pub explained: Share,
    /// Share whose loss is recovered to the bar, of those whose ablation costs more than its noise.
    pub recovered: Share,
    /// True if it was stopped: the nodes are the first of those drawn, which are a draw as well.
    pub stopped: bool,
    /// The nodes, in the order of the draw.
    pub nodes: Vec<Audited>,
}

impl Audit {
    /// Audits `model`: draws nodes from all whose values vary on the selection contexts, looks for the explanation of each there that
    /// explains most of its variance in a family of token sets (at most 16), sets of previous tokens, sets of pairs (at most 8),
    /// positions, and "inside X since Y" over the 32 most frequent tokens, and scores it on other contexts as [`super::Explained`]
    /// does. `after` is told each node, and may stop.
    ///
    /// # Errors
    /// When there are fewer than 16 contexts.
    ///
    /// # Panics
    /// When contexts are longer than the model's own.
    pub fn new(
        model: &Model,
        vocabulary: &dyn Vocabulary,
        contexts: &Contexts,
        options: AuditOptions,
        after: &mut dyn FnMut(usize, &Audited) -> ControlFlow<()>,
    ) -> Result<Self, ExplainError> {
        let split = Split::new(contexts, options.windows)?;
        let space = NodeSpace::new(&model.config);
        let mut varying = vec![];
        // Site by site, so that only values of one are at hand.
        for (_, range) in space.sites() {
            let nodes: Vec<_> = range.clone().map(|number| space.node(number)).collect();
            let found = activations(model, &split.selection, &nodes);
            let varies = |values: &[f32]| values.iter().any(|x| *x != values[0]);
            varying.extend(nodes.into_iter().zip(&found).filter(|(_, values)| varies(values)).map(|(node, _)| node));
        }
        let nodes_of_model = [space.len(), varying.len()];
        varying.shuffle(&mut ChaCha8Rng::seed_from_u64(options.seed));
        varying.truncate(options.nodes);
        let search = Search::new(&split.selection);
        let scorer = Scorer::new(model, split);
        let (mut nodes, mut stopped) = (vec![], false);
        for (number, node) in varying.iter().enumerate() {
            let [before, own] = [&scorer.split.selection, &scorer.split.scoring]
                .map(|contexts| activations(model, contexts, &[*node]).remove(0));
            let explanation = search.best(&before);
            let ids = |contexts: &[&[u16]]| -> Vec<u32> {
                let ends = contexts.iter().flat_map(|context| (1..=context.len()).map(|end| &context[..end]));
                ends.map(|prefix| u32::from(explanation.holds(prefix))).collect()
            };
            let simulator = Simulator::new(&ids(&scorer.split.selection), &before, 2);
            let simulated = simulator.simulate(&ids(&scorer.split.scoring));
            let effect = scorer.effect(*node, simulator.mean);
            let score = scorer.score(*node, &effect, &own, &simulated, simulator.mean);
            let reaches = |share: Option<Interval>| share.is_some_and(|share| share.value >= options.bar);
            nodes.push(Audited {
                node: node.to_string(),
                expression: explanation.expression(vocabulary),
                variance_explained: score.variance_explained,
                ablation: effect.rise,
                loss_recovered: score.loss_recovered,
                explained: reaches(score.variance_explained),
            });
            if after(number + 1, &nodes[number]).is_break() {
                stopped = number + 1 < varying.len();
                break;
            }
        }
        let defined: Vec<Interval> = nodes.iter().filter_map(|audited| audited.loss_recovered).collect();
        let recovered = defined.iter().filter(|share| share.value >= options.bar).count();
        Ok(Self {
            options,
            nodes_of_model,
            contexts: [scorer.split.selection.len(), scorer.split.scoring.len()],
            explained: Share::new(nodes.iter().filter(|audited| audited.explained).count(), nodes.len()),
            recovered: Share::new(recovered, defined.len()),
            stopped,
            nodes,
        })
    }
}

impl std::fmt::Display for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            options, nodes_of_model: [all, varying], contexts: [selection, scoring], explained, recovered, ..
        } = self;
        let share =
            |share: &Share| format!("{} of {} [{:.3}, {:.3}]", share.holds, share.n, share.ci95.0, share.ci95.1);
        for audited in &self.nodes {
            let words = |part: Option<Interval>| part.map_or("-".to_owned(), |part| format!("{:.3}", part.value));
            let [variance, loss] = [words(audited.variance_explained), words(audited.loss_recovered)];
            let mark = if audited.explained { "explained" } else { "" };
            writeln!(f, "{:<24}{variance:>8}{loss:>9}  {mark:<10}  {}", audited.node, audited.expression)?;
        }
        writeln!(f, "columns: node, share of variance, share of loss (- where it is undefined), and the explanation")?;
        writeln!(f, "nodes drawn with seed {} from {varying} that vary, of {all}", options.seed)?;
        writeln!(f, "found on {selection} contexts, scored on {scoring} others")?;
        if self.stopped {
            writeln!(f, "stopped after {} of {} nodes", self.nodes.len(), options.nodes)?;
        }
        writeln!(
            f,
            "loss recovered to {} of those whose ablation costs more than noise: {}",
            options.bar,
            share(recovered)
        )?;
        write!(f, "explained (variance to {}): {}", options.bar, share(explained))
    }
}
