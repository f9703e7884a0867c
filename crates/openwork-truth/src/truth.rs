//! The true circuit: which nodes and edges a model's outputs depend on, *for given inputs and a given ablation*.
//!
//! Truth depends on both (Miller et al. 2024): a node whose value is the same on all inputs is needed where zero takes its
//! place and not where its mean does. So:
//!
//! - A **node** is true if weights lead from it to the output, and ablating it alone changes the log-probability of some token
//!   after some input by more than [`TOLERANCE`].
//! - An **edge** (a nonzero weight between two true nodes) is true if removing it alone does: the weight becomes zero, and what
//!   it would carry if the node it reads were ablated is added as a constant.
//!
//! Both are exact over the inputs given. They are the whole truth where no two parts stand in for each other; with backups
//! (two parts of which either will do) each alone changes nothing, and what is true must be said by hand.

use openwork_circuit::{Ablation, Edge, Keep, Means, NodeSet, NodeSpace, edges, weights_of};
use openwork_model::{Matrix, Model, NoTap};
use rayon::prelude::*;

use crate::{Behaviour, Prompt, PromptBatch, text};

/// Nats. Rounding moves log-probabilities of compiled models by less than 1e-4 (scores of 20, slopes of up to 100, 24 bits),
/// and a key that only half matches by 10 e⁻¹⁰ = 5e-4; what is true moves them by more than 0.1 (a test).
pub const TOLERANCE: f64 = 1e-2;

/// Values in the place of removed parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AblationValue {
    /// Zero.
    Zero,
    /// The mean over all tokens of the inputs, each filled up to the longest by the token before every prompt.
    Mean,
}

/// The true circuit for some inputs and an ablation.
#[derive(Clone, Debug)]
pub struct Truth {
    /// True nodes.
    pub nodes: NodeSet,
    /// True edges: the truth at the level of weights.
    pub edges: Vec<Edge>,
}

/// The means that [`AblationValue::Mean`] stands for.
pub fn means(model: &Model, prompts: &[Prompt], bos: u16) -> Means {
    let (tokens, seq_len) = text(prompts, bos);
    Means::compute(model, &tokens, seq_len)
}

impl AblationValue {
    /// The ablation, with `means` for [`AblationValue::Mean`].
    pub fn ablation(self, means: &Means) -> Ablation<'_> {
        match self {
            Self::Zero => Ablation::Zero,
            Self::Mean => Ablation::Mean(means),
        }
    }
}

impl Truth {
    /// The true circuit of `model` on `prompts`.
    pub fn find(model: &Model, prompts: &[Prompt], ablation: Ablation<'_>) -> Self {
        let batch = PromptBatch::new(prompts);
        let whole = Behaviour::of(model, &batch, &mut NoTap);
        let nodes = nodes(model, &batch, &whole, ablation);
        let edges = edges(model, &nodes)
            .into_par_iter()
            .filter(|edge| {
                let without = remove(model, edge, ablation_value(&nodes, edge, ablation));
                Behaviour::of(&without, &batch, &mut NoTap).distance(&whole) > TOLERANCE
            })
            .collect();
        Self { nodes, edges }
    }

    /// The true nodes alone, where edges are not wanted: it takes a tenth of the time.
    pub fn nodes(model: &Model, prompts: &[Prompt], ablation: Ablation<'_>) -> NodeSet {
        let batch = PromptBatch::new(prompts);
        nodes(model, &batch, &Behaviour::of(model, &batch, &mut NoTap), ablation)
    }
}

fn nodes(model: &Model, batch: &PromptBatch, whole: &Behaviour, ablation: Ablation<'_>) -> NodeSet {
    let reaching = reaching(model);
    let space = reaching.space().clone();
    let candidates: Vec<usize> = (0..space.len()).filter(|&n| reaching.kept()[n]).collect();
    let needed = |&node: &usize| effect(model, batch, whole, &space, node, ablation) > TOLERANCE;
    NodeSet::of(space.clone(), candidates.into_par_iter().filter(needed).collect::<Vec<_>>())
}

/// Effect of ablating one node alone on the outputs, in nats.
pub fn effect(
    model: &Model,
    batch: &PromptBatch,
    whole: &Behaviour,
    space: &NodeSpace,
    node: usize,
    ablation: Ablation<'_>,
) -> f64 {
    let others = NodeSet::of(space.clone(), (0..space.len()).filter(|&n| n != node));
    Behaviour::of(model, batch, &mut Keep::new(&others, ablation)).distance(whole)
}

/// Nodes from which nonzero weights lead to the output, backwards from the unembedding. Queries and keys lead to all values of
/// their head.
pub fn reaching(model: &Model) -> NodeSet {
    let config = &model.config;
    let space = NodeSpace::new(config);
    let (d_model, d_head, d_attn) = (config.d_model, config.d_head, config.n_head * config.d_head);
    let reads = |w: &Matrix, rows: &[bool], first: usize, column: usize| {
        rows.iter().enumerate().any(|(row, &live)| live && w[[first + row, column]] != 0.0)
    };
    let unembed = model.params.unembed.as_ref().unwrap_or(&model.params.embed).dense();
    let mut residual: Vec<bool> = (0..d_model).map(|c| unembed.column(c).iter().any(|&x| x != 0.0)).collect();
    let mut kept = vec![vec![]; space.sites().len()];
    for (layer, block) in model.params.blocks.iter().enumerate().rev() {
        let mlp_write = residual.clone();
        let neuron: Vec<bool> = (0..config.d_mlp).map(|i| reads(block.proj.weight.dense(), &mlp_write, 0, i)).collect();
        let mlp_read: Vec<bool> = (0..config.d_read()).map(|c| reads(block.fc.weight.dense(), &neuron, 0, c)).collect();
        residual.iter_mut().zip(&mlp_read).for_each(|(r, &read)| *r |= read);
        let attn_write = residual.clone();
        let value: Vec<bool> = (0..d_attn).map(|i| reads(block.attn_out.weight.dense(), &attn_write, 0, i)).collect();
        let qkv = block.qkv.weight.dense();
        let given = |row: usize| {
            qkv.row(row).iter().any(|&x| x != 0.0)
                || block.qkv.bias.as_ref().is_some_and(|b| b.dense()[[row, 0]] != 0.0)
        };
        // A dimension of a score needs both its query and its key.
        let score: Vec<bool> = (0..d_attn)
            .map(|i| (0..d_head).any(|d| value[i / d_head * d_head + d]) && given(i) && given(d_attn + i))
            .collect();
        let attn_read: Vec<bool> = (0..config.d_read())
            .map(|c| reads(qkv, &score, 0, c) || reads(qkv, &score, d_attn, c) || reads(qkv, &value, 2 * d_attn, c))
            .collect();
        residual.iter_mut().zip(&attn_read).for_each(|(r, &read)| *r |= read);
        let all = [attn_read, score.clone(), score, value, attn_write, mlp_read, neuron, mlp_write];
        kept.splice(layer * all.len()..(layer + 1) * all.len(), all);
    }
    let kept: Vec<bool> = kept.concat();
    NodeSet::of(space.clone(), (0..space.len()).filter(|&n| kept[n]))
}

/// Ablation value of the node that an edge reads.
fn ablation_value(nodes: &NodeSet, edge: &Edge, ablation: Ablation<'_>) -> f32 {
    let node = nodes.space().number(edge.from).expect("a node of the model");
    match ablation {
        Ablation::Zero => 0.0,
        Ablation::Mean(means) => means.values()[node],
        Ablation::Constant(values) => values[node],
        Ablation::Recorded(_) => panic!("an edge is cut for a constant, and recorded values are none"),
    }
}

/// The model without an edge: the weight is zero and `weight · value` is added to the bias.
pub fn remove(model: &Model, edge: &Edge, value: f32) -> Model {
    let mut model = model.clone();
    let (linear, row) = weights_of(&mut model, edge.to);
    linear.weight.update(|w| w[[row, edge.from.index]] = 0.0);
    if value != 0.0 {
        let bias = linear.bias.as_mut().expect("means need biases to be put into");
        bias.update(|b| b[[row, 0]] += edge.weight * value);
    }
    model
}
