//! Effects of causes: the root when the model runs without them.

use std::collections::{BTreeMap, BTreeSet};

use openwork_circuit::{Node, NodeSpace, weights_of};
use openwork_model::{Model, Site, SiteKind};
use rayon::prelude::*;

use super::{Backtrace, Branch, Cause, Causes};
use crate::{Change, Quantity, Trace};

/// Value that an ablated cause takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Without {
    /// Zero.
    #[default]
    Zero,
    /// The mean of a node over training data; zero for causes that are no nodes.
    Mean,
}

/// Fills in the effect of every cause that a run can leave out: `value − value without it`, the value being the root's.
///
/// A value is set to its ablation value at its position. A bias is zero at every position. An embedding is taken out of the
/// residual stream at its position. The bigram table and the bias of the logits add to logits alone, so that their effect is
/// their contribution.
pub(super) fn measure(
    backtrace: &mut Backtrace,
    model: &Model,
    trace: &Trace,
    changes: &[Change],
    without: Without,
    means: Option<&[f32]>,
) {
    let mut causes = BTreeSet::new();
    collect(&backtrace.causes, &mut causes);
    let (target, value) = (backtrace.target, backtrace.value);
    let space = NodeSpace::new(&model.config);
    let ablation = |node: Node| match (without, means, space.number(node)) {
        (Without::Mean, Some(means), Some(number)) => means[number],
        _ => 0.0,
    };
    let causes: Vec<Cause> = causes.into_iter().collect();
    let effects: Vec<(Cause, f64)> = causes
        .par_iter()
        .filter_map(|&cause| {
            let run = match removal(cause, model, trace, &ablation)? {
                Removal::Change(change) => Trace::run(model, trace.tokens(), &[changes, &[change]].concat()),
                Removal::Bias(node) => Trace::run(&without_bias(model, node)?, trace.tokens(), changes),
            };
            Some((cause, value - run.quantity(model, target)))
        })
        .collect();
    let mut effects: BTreeMap<Cause, f64> = effects.into_iter().collect();
    if let Quantity::Logit(_) | Quantity::Lead(..) = target.quantity {
        for branch in &backtrace.causes.shown {
            if let Cause::Bigram { .. } | Cause::LogitsBias = branch.cause {
                effects.insert(branch.cause, branch.contribution);
            }
        }
    }
    fill(&mut backtrace.causes, &effects);
}

/// Way of running a model without a cause.
enum Removal {
    Change(Change),
    Bias(Node),
}

fn removal(cause: Cause, model: &Model, trace: &Trace, ablation: &dyn Fn(Node) -> f32) -> Option<Removal> {
    let first = |feature| Node { site: Site { layer: 0, kind: SiteKind::ResidIn }, index: feature };
    let less = |feature: usize, position: usize, amount: f32| {
        let node = first(feature);
        Some(Removal::Change(Change { node, position, value: trace.value(node, position) - amount }))
    };
    let params = &model.params;
    match cause {
        Cause::Value(target) => match target.quantity {
            Quantity::Node(node) => {
                Some(Removal::Change(Change { node, position: target.position, value: ablation(node) }))
            }
            _ => None,
        },
        Cause::Bias(node) | Cause::NormBias(node) => Some(Removal::Bias(node)),
        Cause::Embedding { feature, position } => {
            less(feature, position, params.embed.dense()[[usize::from(trace.tokens()[position]), feature]])
        }
        Cause::PositionEmbedding { feature, position } => {
            less(feature, position, params.position.as_ref()?.dense()[[position, feature]])
        }
        _ => None,
    }
}

/// The model with the bias that belongs to a node zero.
fn without_bias(model: &Model, node: Node) -> Option<Model> {
    let mut model = model.clone();
    let Site { layer, kind } = node.site;
    let d_model = model.config.d_model;
    let (bias, row) = match kind {
        // Position channels, below the residual stream's, have a norm of their own.
        SiteKind::AttnRead if node.index >= d_model => {
            (model.params.blocks[layer].attn_pos_norm.as_mut()?.bias.as_mut()?, node.index - d_model)
        }
        SiteKind::MlpRead if node.index >= d_model => {
            (model.params.blocks[layer].mlp_pos_norm.as_mut()?.bias.as_mut()?, node.index - d_model)
        }
        SiteKind::AttnRead => (model.params.blocks[layer].attn_norm.bias.as_mut()?, node.index),
        SiteKind::MlpRead => (model.params.blocks[layer].mlp_norm.bias.as_mut()?, node.index),
        SiteKind::FinalRead => (model.params.final_norm.bias.as_mut()?, node.index),
        _ => {
            let (linear, row) = weights_of(&mut model, node);
            (linear.bias.as_mut()?, row)
        }
    };
    bias.update(|bias| bias[[row, 0]] = 0.0);
    Some(model)
}

fn parts(branch: &Branch) -> impl Iterator<Item = &Causes> {
    let attention = branch.attention.iter().flat_map(|a| a.by_query.iter().chain(&a.by_key));
    branch.causes.iter().chain(attention)
}

fn collect(causes: &Causes, found: &mut BTreeSet<Cause>) {
    for branch in &causes.shown {
        found.insert(branch.cause);
        parts(branch).for_each(|causes| collect(causes, found));
    }
}

fn fill(causes: &mut Causes, effects: &BTreeMap<Cause, f64>) {
    for branch in &mut causes.shown {
        branch.effect = effects.get(&branch.cause).copied();
        let attention = branch.attention.iter_mut().flat_map(|a| a.by_query.iter_mut().chain(&mut a.by_key));
        branch.causes.iter_mut().chain(attention).for_each(|causes| fill(causes, effects));
    }
}
