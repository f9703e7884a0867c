//! Explanations of a node, scored by what the model loses when it runs on them.

mod audit;
mod family;
mod interval;
mod measure;

use std::collections::BTreeMap;

use openwork_circuit::Node;
use openwork_expression::{Language, LanguageError, Value};
use openwork_model::Model;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

pub use audit::{Audit, AuditOptions, Audited};
pub use interval::Interval;

use crate::{Contexts, Vocabulary};
use interval::Bootstrap;
use measure::{Effect, Simulator, activations, losses, variance_explained};

/// Random nodes that are given the same explanation.
const RANDOM_NODES: usize = 5;
/// Seed of the shuffle and of the random nodes.
const SEED: u64 = 0;

/// Reason that an explanation cannot be scored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The expression fails on a context.
    #[error("the expression has no value on the text {text}: {reason}")]
    Expression {
        /// Text of the tokens up to there, in quotes.
        text: String,
        /// The reason.
        reason: LanguageError,
    },
    /// The expression has the value *undefined* on a context.
    #[error("the expression names something that is not there on the text {text}")]
    Undefined {
        /// Text of the tokens up to there, in quotes.
        text: String,
    },
    /// There are too few contexts to select on some and score on others.
    #[error(
        "there are {windows} windows of at least two tokens, and an explanation is selected and scored on 16 or more"
    )]
    TooFew {
        /// Windows that there are.
        windows: usize,
    },
}

/// Score of values that stand for those of a node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Simulated {
    /// Loss with them, in nats a token.
    pub loss: f64,
    /// `(L_ablated − L_simulated) / (L_ablated − L_model)` with its bootstrap by context; none where the ablation has no measurable effect.
    pub loss_recovered: Option<Interval>,
    /// Share of the node's variance; none where its value does not vary.
    pub variance_explained: Option<Interval>,
}

/// The same explanation of another node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtherNode {
    /// The node, drawn from those at the same site that vary.
    pub node: String,
    /// Its score.
    #[serde(flatten)]
    pub simulated: Simulated,
}

/// An explanation of a node with its score and the controls.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// The node.
    pub node: String,
    /// The explanation.
    pub expression: String,
    /// Values of the expression on the contexts.
    pub values: usize,
    /// Contexts that means were taken on, and those that scores are of.
    pub contexts: [usize; 2],
    /// Loss of the model on the latter, in nats a token.
    pub loss: f64,
    /// Rise of the loss where the node has its mean everywhere.
    pub ablation: Interval,
    /// Score of the explanation.
    pub simulated: Simulated,
    /// The same with the simulated values shuffled over all positions.
    pub shuffled: Simulated,
    /// The same explanation of random nodes.
    pub random: Vec<OtherNode>,
}

/// Contexts that means are taken on, and those that are scored.
pub(crate) struct Split<'a> {
    pub selection: Vec<&'a [u16]>,
    pub scoring: Vec<&'a [u16]>,
}

impl<'a> Split<'a> {
    /// `windows` contexts spread evenly over the data: the first half of the data selects, the second scores.
    ///
    /// # Errors
    /// When there are too few.
    pub fn new(contexts: &'a Contexts, windows: usize) -> Result<Self, ExplainError> {
        let all: Vec<&[u16]> = contexts.all().filter(|window| window.len() > 1).collect();
        let count = windows.min(all.len());
        if count < 16 {
            return Err(ExplainError::TooFew { windows: count });
        }
        let chosen: Vec<&[u16]> = (0..count).map(|i| all[i * all.len() / count]).collect();
        let (selection, scoring) = chosen.split_at(count / 2);
        Ok(Self { selection: selection.to_vec(), scoring: scoring.to_vec() })
    }

    pub fn length(&self) -> usize {
        self.scoring[0].len()
    }
}

/// Numbers of the values of an expression, by their text.
type Ids = BTreeMap<String, u32>;

/// Values of `expression` at every position of the contexts, each over the texts of the tokens up to there, as numbers.
fn values(
    expression: &str,
    contexts: &[&[u16]],
    vocabulary: &(dyn Vocabulary + Sync),
    ids: &mut Ids,
) -> Result<Vec<u32>, ExplainError> {
    let of = |context: &&[u16]| -> Result<Vec<String>, ExplainError> {
        let language = Language::new();
        let shown = |end: usize| crate::language::literal(&vocabulary.decode(&context[end.saturating_sub(8)..end]));
        let failed = |end: usize, reason| ExplainError::Expression { text: shown(end), reason };
        let compiled = language.compile(expression).map_err(|reason| failed(0, reason))?;
        let texts: Vec<Value> = context.iter().map(|&token| Value::from(vocabulary.decode(&[token]))).collect();
        let at = |end: usize| {
            let value = language.on_tokens(&compiled, &texts[..end]).map_err(|reason| failed(end, reason))?;
            match value.is_undefined() {
                true => Err(ExplainError::Undefined { text: shown(end) }),
                false => Ok(format!("{value:?}")),
            }
        };
        (1..=context.len()).map(at).collect()
    };
    let texts: Vec<Vec<String>> = contexts.par_iter().map(of).collect::<Result<_, _>>()?;
    let number = |text: String| {
        let next = ids.len() as u32;
        *ids.entry(text).or_insert(next)
    };
    Ok(texts.into_iter().flatten().map(number).collect())
}

/// Everything that scores are computed from, for one set of contexts.
pub(crate) struct Scorer<'a> {
    pub model: &'a Model,
    pub split: Split<'a>,
    pub bootstrap: Bootstrap,
    /// Losses of the model on the scoring contexts.
    pub losses: Vec<f64>,
}

impl<'a> Scorer<'a> {
    pub fn new(model: &'a Model, split: Split<'a>) -> Self {
        let losses = losses(model, &split.scoring, None);
        Self { model, bootstrap: Bootstrap::new(split.scoring.len()), split, losses }
    }

    /// Effect of the ablation of a node at its mean.
    pub fn effect(&self, node: Node, mean: f32) -> Effect<'_> {
        let constant = vec![mean; self.split.scoring.len() * self.split.length()];
        let ablated = losses(self.model, &self.split.scoring, Some((node, &constant)));
        Effect::new(&self.bootstrap, &self.losses, ablated)
    }

    /// Score of simulated values of a node, whose own are `activations`.
    pub fn score(
        &self,
        node: Node,
        effect: &Effect<'_>,
        activations: &[f32],
        simulated: &[f32],
        mean: f32,
    ) -> Simulated {
        let found = losses(self.model, &self.split.scoring, Some((node, simulated)));
        Simulated {
            loss: found.iter().sum::<f64>() / found.len() as f64,
            loss_recovered: effect.recovered(&self.bootstrap, &found),
            variance_explained: variance_explained(&self.bootstrap, activations, simulated, mean, self.split.length()),
        }
    }
}

impl Explained {
    /// Scores `expression` as an explanation of `node` on `windows` contexts, in halves.
    ///
    /// The simulated value at a position is the mean of the node over the positions of the *selection* contexts at which the
    /// expression has the same value there; the mean over all of them where it has none. It replaces the node's value at every position of the
    /// *scoring* contexts, and `(L_ablated − L_simulated) / (L_ablated − L_model)` is the share of the loss that it recovers, with losses in
    /// nats a token and the node at its selection mean in `L_ablated`. An expression of one value recovers nothing. Intervals are
    /// percentiles of 2,000 bootstrap draws of contexts.
    ///
    /// Controls: the simulated values shuffled over all positions, and the same expression for five other nodes of the site.
    ///
    /// Source: Bills et al. 2023 and Bricken et al. 2023 (simulated activations; loss recovered by substitution).
    ///
    /// # Errors
    /// When there are fewer than 16 contexts, or the expression has no value on one.
    ///
    /// # Panics
    /// When the model has no such node, or contexts are longer than its own.
    pub fn new(
        model: &Model,
        vocabulary: &(dyn Vocabulary + Sync),
        contexts: &Contexts,
        node: Node,
        expression: &str,
        windows: usize,
    ) -> Result<Self, ExplainError> {
        let split = Split::new(contexts, windows)?;
        let mut ids = Ids::new();
        let selected = values(expression, &split.selection, vocabulary, &mut ids)?;
        let scored = values(expression, &split.scoring, vocabulary, &mut ids)?;
        let scorer = Scorer::new(model, split);
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let others = other_nodes(&scorer, node, &mut rng);
        let nodes: Vec<Node> = [node].into_iter().chain(others).collect();
        let before = activations(model, &scorer.split.selection, &nodes);
        let after = activations(model, &scorer.split.scoring, &nodes);
        let score = |n: usize| {
            let simulator = Simulator::new(&selected, &before[n], ids.len());
            let effect = scorer.effect(nodes[n], simulator.mean);
            let simulated = simulator.simulate(&scored);
            let found = scorer.score(nodes[n], &effect, &after[n], &simulated, simulator.mean);
            (found, effect, simulated, simulator.mean)
        };
        let (own, effect, mut simulated, mean) = score(0);
        simulated.shuffle(&mut rng);
        let shuffled = scorer.score(node, &effect, &after[0], &simulated, mean);
        let other = |n: usize| OtherNode { node: nodes[n].to_string(), simulated: score(n).0 };
        Ok(Self {
            node: node.to_string(),
            expression: expression.to_owned(),
            values: ids.len(),
            contexts: [scorer.split.selection.len(), scorer.split.scoring.len()],
            loss: scorer.losses.iter().sum::<f64>() / scorer.losses.len() as f64,
            ablation: effect.rise,
            simulated: own,
            shuffled,
            random: (1..nodes.len()).map(other).collect(),
        })
    }
}

/// Nodes of the same site whose values vary on the selection contexts, drawn without replacement, but not `node`.
fn other_nodes(scorer: &Scorer<'_>, node: Node, rng: &mut ChaCha8Rng) -> Vec<Node> {
    let width = scorer.model.config.width(node.site.kind);
    let all: Vec<Node> = (0..width).map(|index| Node { index, ..node }).filter(|other| *other != node).collect();
    let found = activations(scorer.model, &scorer.split.selection, &all);
    let varies = |values: &[f32]| values.iter().any(|x| *x != values[0]);
    let mut varying: Vec<Node> = all.into_iter().zip(&found).filter(|(_, v)| varies(v)).map(|(n, _)| n).collect();
    varying.shuffle(rng);
    varying.truncate(RANDOM_NODES);
    varying.sort();
    varying
}

impl std::fmt::Display for Explained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { node, expression, values, contexts: [selection, scoring], loss, ablation, .. } = self;
        writeln!(f, "{node} explained by {expression}")?;
        writeln!(f, "  {values} values; means of {selection} contexts, scores of {scoring} others")?;
        writeln!(f, "  loss of the model {loss:.5} nats a token; its ablation costs {ablation}")?;
        let words = |part: Option<Interval>, none: &str| part.map_or(none.to_owned(), |part| part.to_string());
        let line = |f: &mut std::fmt::Formatter<'_>, name: &str, s: &Simulated| {
            let loss = words(s.loss_recovered, "undefined");
            let variance = words(s.variance_explained, "undefined");
            write!(f, "\n  {name:<24}{loss:<26}{variance}")
        };
        write!(f, "  {:<24}{:<26}variance explained", "", "loss recovered")?;
        line(f, "the explanation", &self.simulated)?;
        line(f, "shuffled", &self.shuffled)?;
        self.random.iter().try_for_each(|other| line(f, &other.node, &other.simulated))?;
        let others = self.random.iter().map(|other| &other.simulated);
        let scores: Vec<&Simulated> = [&self.simulated, &self.shuffled].into_iter().chain(others).collect();
        if scores.iter().any(|s| s.loss_recovered.is_none()) {
            f.write_str("\n  loss recovered is undefined where the ablation costs no more than noise")?;
        }
        if scores.iter().any(|s| s.variance_explained.is_none()) {
            f.write_str("\n  variance explained is undefined where the value does not vary")?;
        }
        Ok(())
    }
}
