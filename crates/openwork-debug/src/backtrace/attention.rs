//! Attention of one query, computed anew from recorded queries, keys and sinks.

use openwork_circuit::Node;
use openwork_model::{Config, Model, Site, SiteKind};

use crate::Trace;

/// `1 / √d_head`, in f32 as in the forward pass.
pub(crate) fn scale(config: &Config) -> f32 {
    1.0 / (config.d_head as f32).sqrt()
}

/// Node of channel `channel` of head `head` at a site of queries, keys, values or their mix.
pub(crate) fn channel(config: &Config, layer: usize, kind: SiteKind, head: usize, channel: usize) -> Node {
    Node { site: Site { layer, kind }, index: head * config.d_head + channel }
}

/// Score `q · k / √d_head` of a head, as the chain of f32 multiply-adds that the forward pass computes.
pub(crate) fn score(config: &Config, trace: &Trace, layer: usize, head: usize, query: usize, key: usize) -> f32 {
    (0..config.d_head).fold(0.0_f32, |sum, c| {
        let q = trace.value(channel(config, layer, SiteKind::Query, head, c), query);
        let k = trace.value(channel(config, layer, SiteKind::Key, head, c), key);
        k.mul_add(scale(config) * q, sum)
    })
}

/// Attention of one query of a head.
pub(crate) struct Pattern {
    /// Scores of the keys up to the query.
    pub scores: Vec<f32>,
    /// Probabilities of the keys up to the query: `exp(s_k) / (Σ exp(s_j) + exp(sink))`.
    pub probabilities: Vec<f64>,
}

/// The pattern of a query, in f64 from scores in f32.
pub(crate) fn pattern(model: &Model, trace: &Trace, layer: usize, head: usize, query: usize) -> Pattern {
    let scores: Vec<f32> = (0..=query).map(|key| score(&model.config, trace, layer, head, query, key)).collect();
    let sink = model.params.blocks[layer].sink.as_ref().map(|sink| sink.dense()[[head, 0]]);
    let most = scores.iter().copied().chain(sink).fold(f32::NEG_INFINITY, f32::max);
    // The difference is one of f32 in the forward pass, too.
    let exp = |x: f32| f64::from(x - most).exp();
    let sum = scores.iter().copied().chain(sink).map(exp).sum::<f64>();
    let probabilities = scores.iter().map(|&s| exp(s) / sum).collect();
    Pattern { scores, probabilities }
}
