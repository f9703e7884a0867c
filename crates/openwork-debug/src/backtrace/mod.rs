//! Backtraces: a value as an exact sum of its causes, and these as sums of theirs.
//!
//! In a weight-sparse model a value has few causes. With nonlinear factors held, every step of the forward pass is
//! linear: `Σ w x + b` in a matrix; a read is a multiple of the residual stream, which is the sum of the embedding and the
//! earlier writes; attention is a sum over source positions with the probabilities held, whose scores are opened beside it;
//! a neuron is a multiple of its input. The causes of a value therefore add up to it, at every depth.

pub(crate) mod attention;
mod causes;
mod effect;
mod stream;

use std::fmt;

use openwork_circuit::Node;
use openwork_model::Model;
use serde::{Serialize, Serializer};

pub use causes::Held;
pub use effect::Without;
pub use stream::StreamSource;

use crate::{Change, Quantity, ScoreSide, Target, Trace};
use causes::{Opener, Opening, Term};

/// Treatment of nonlinear factors: the divisors of norms, and the gates of neurons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// They are constants.
    #[default]
    Held,
    /// They change to first order with every summand; the sum has one more term, which is left over.
    Differentiated,
}

/// Extent of a backtrace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BacktraceOptions {
    /// Steps that causes are opened.
    pub depth: usize,
    /// Least share of a cause that is shown: its magnitude over the sum of the magnitudes of its siblings. Smaller ones
    /// are added up.
    pub share: f64,
    /// Treatment of nonlinear factors.
    pub hold: Hold,
    /// Ablation of causes whose effect is measured; none: no effects.
    pub without: Option<Without>,
}

impl Default for BacktraceOptions {
    fn default() -> Self {
        Self { depth: 2, share: 0.1, hold: Hold::Held, without: None }
    }
}

/// Cause of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Another value.
    Value(Target),
    /// Bias of a node.
    Bias(Node),
    /// Bias of the norm of a node that reads.
    NormBias(Node),
    /// Embedding of the token at a position.
    Embedding {
        /// Channel of the residual stream.
        feature: usize,
        /// Position of the token.
        position: usize,
    },
    /// Position embedding that is added to it.
    PositionEmbedding {
        /// Channel of the residual stream.
        feature: usize,
        /// The position.
        position: usize,
    },
    /// Position channel beside the residual stream.
    PositionChannel(Node),
    /// Row of the bigram table.
    Bigram {
        /// Token at the position.
        token: u16,
    },
    /// Bias of the logits.
    LogitsBias,
    /// Mean over channels, which LayerNorm subtracts, of a summand of the residual stream.
    MeanOf(StreamSource),
    /// First-order change of the norm's divisor by a summand of the residual stream.
    DivisorOf(StreamSource),
    /// Remainder of first-order terms.
    LeftOver,
    /// Amount that AbsTopK took away.
    Dropped,
    /// An edit of the value itself.
    Edit,
    /// An edit of the residual stream.
    StreamEdit(Node),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(target) => target.fmt(f),
            Self::Bias(node) => write!(f, "bias of {node}"),
            Self::NormBias(node) => write!(f, "bias of the norm at {node}"),
            Self::Embedding { feature, position } => write!(f, "embedding[{feature}]@{position}"),
            Self::PositionEmbedding { feature, position } => write!(f, "position embedding[{feature}]@{position}"),
            Self::PositionChannel(node) => write!(f, "position channel {node}"),
            Self::Bigram { token } => write!(f, "bigram table after #{token}"),
            Self::LogitsBias => f.write_str("bias of the logits"),
            Self::MeanOf(source) => write!(f, "mean over channels of {source}"),
            Self::DivisorOf(source) => write!(f, "norm's divisor by {source}"),
            Self::LeftOver => f.write_str("left over by first order"),
            Self::Dropped => f.write_str("dropped by AbsTopK"),
            Self::Edit => f.write_str("set by an edit"),
            Self::StreamEdit(node) => write!(f, "edit of {node}"),
        }
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A backtrace: the value of the root and the tree of its causes.
#[derive(Clone, Debug, Serialize)]
pub struct Backtrace {
    /// Value that is opened.
    pub target: Target,
    /// The value.
    pub value: f64,
    /// Its causes.
    pub causes: Causes,
}

/// Causes of a value, opened. In units of the root: `Σ shown + smaller + rest` is the contribution of the value to the root.
#[derive(Clone, Debug, Serialize)]
pub struct Causes {
    /// Causes with at least the share asked for, the largest first.
    pub shown: Vec<Branch>,
    /// Sum of the others.
    pub smaller: Smaller,
    /// Contribution of the value less the sum of all its causes: rounding, or what the engine does not know.
    pub rest: f64,
    /// Sum of the magnitudes of all causes.
    pub magnitude: f64,
    /// Nonlinear factor of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// Causes below the share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Smaller {
    /// Number of them.
    pub count: usize,
    /// Their sum, in units of the root.
    pub sum: f64,
}

/// A cause in a backtrace.
#[derive(Clone, Debug, Serialize)]
pub struct Branch {
    /// The cause.
    pub cause: Cause,
    /// Its part of the root.
    pub contribution: f64,
    /// Value of the cause itself, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Change of the root when the model runs without the cause: its value less that of the run without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<f64>,
    /// Attention that it goes through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<Box<Attention>>,
    /// Its own causes; none where it is not opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causes: Option<Causes>,
}

/// Attention from a query to a key, with its score opened.
#[derive(Clone, Debug, Serialize)]
pub struct Attention {
    /// Block.
    pub layer: usize,
    /// Head.
    pub head: usize,
    /// Position of the query.
    pub query: usize,
    /// Position of the key.
    pub key: usize,
    /// Probability of the key.
    pub probability: f64,
    /// Score of the key, before the softmax.
    pub score: f64,
    /// The score by the channels of the query, in units of the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_query: Option<Causes>,
    /// The score by the channels of the key, in units of the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_key: Option<Causes>,
}

impl Backtrace {
    /// Opens `target` in the run `trace` of `model`, which was made with `changes`. `means` are ablation values by node number, for
    /// [`Without::Mean`].
    ///
    /// At most 20,000 causes are opened, those first that come first in the tree; later ones stay as they are.
    ///
    /// The causes of every value add up to it: to 1e-5 of the sum of their magnitudes, the rounding of f32.
    ///
    /// # Panics
    /// When the model has no such value or the prompt no such position.
    #[track_caller]
    pub fn new(
        model: &Model,
        trace: &Trace,
        changes: &[Change],
        target: Target,
        options: &BacktraceOptions,
        means: Option<&[f32]>,
    ) -> Self {
        let opener = Opener::new(model, trace, options.hold);
        let opening = opener.open(target);
        let value = opening.value;
        let causes = grow(&opener, opening, 1.0, options.depth.max(1), options.share);
        let mut backtrace = Self { target, value, causes };
        if let Some(without) = options.without {
            effect::measure(&mut backtrace, model, trace, changes, without, means);
        }
        backtrace
    }

    /// Sum of the leaves of the tree with all rests, which is the value of the root.
    pub fn sum_of_leaves(&self) -> f64 {
        self.causes.sum_of_leaves()
    }
}

impl Causes {
    fn sum_of_leaves(&self) -> f64 {
        let of = |branch: &Branch| branch.causes.as_ref().map_or(branch.contribution, Causes::sum_of_leaves);
        self.shown.iter().map(of).sum::<f64>() + self.smaller.sum + self.rest
    }
}

/// The causes of an opened value, times `factor`, opened `depth` steps with this one.
fn grow(opener: &Opener<'_>, opening: Opening, factor: f64, depth: usize, share: f64) -> Causes {
    let Opening { value, mut terms, held } = opening;
    let magnitude: f64 = terms.iter().map(|term| term.amount.abs()).sum();
    let rest = value - terms.iter().map(|term| term.amount).sum::<f64>();
    // A stable sort: equal amounts keep the order of the forward pass.
    terms.sort_by(|a, b| b.amount.abs().total_cmp(&a.amount.abs()));
    let shown = terms.iter().take_while(|term| term.amount.abs() >= share * magnitude).count();
    let smaller = terms.split_off(shown);
    let smaller = Smaller { count: smaller.len(), sum: factor * smaller.iter().map(|term| term.amount).sum::<f64>() };
    let shown = terms.into_iter().map(|term| branch(opener, term, factor, depth - 1, share)).collect();
    Causes { shown, smaller, rest: factor * rest, magnitude: factor.abs() * magnitude, held }
}

fn branch(opener: &Opener<'_>, term: Term, factor: f64, depth: usize, share: f64) -> Branch {
    let Term { cause, amount, link, attended } = term;
    let mut causes = None;
    let mut value = None;
    if let Some((target, by)) = link {
        value = Some(opener.trace.quantity(opener.model, target));
        if depth > 0 && opener.may_open() {
            causes = Some(grow(opener, opener.open(target), factor * by, depth, share));
        }
    }
    let attention = attended.map(|a| {
        let open = |side| {
            let quantity = Quantity::Score { layer: a.layer, head: a.head, key: a.key, side };
            let target = Target { quantity, position: a.query };
            (depth > 0 && opener.may_open()).then(|| grow(opener, opener.open(target), 1.0, depth, share))
        };
        Box::new(Attention {
            layer: a.layer,
            head: a.head,
            query: a.query,
            key: a.key,
            probability: a.probability,
            score: a.score,
            by_query: open(ScoreSide::Query),
            by_key: open(ScoreSide::Key),
        })
    });
    Branch { cause, contribution: factor * amount, value, effect: None, attention, causes }
}

#[cfg(test)]
mod tests;
