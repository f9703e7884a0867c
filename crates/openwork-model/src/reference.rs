//! The whole model as plain f64 loops, composed of `openwork_ops::reference`: the slow path that the
//! forward pass and, by finite differences, the backward pass are checked against.

use ndarray::{Array2, Axis, concatenate};
use openwork_ops::reference as plain;

use crate::{Config, Norm, Params, Positions, SiteKind, Tokens};

/// Logits `[vocab, tokens]`.
pub fn forward(config: &Config, params: &Params<Array2<f64>>, tokens: Tokens<'_>) -> Array2<f64> {
    let top_k = |kind: SiteKind, x: Array2<f64>| match config.act_k(kind) {
        Some(k) => plain::abs_top_k(k, &x),
        None => x,
    };
    let norm = |n: &Norm<Array2<f64>>, x: &Array2<f64>| plain::norm(config.norm, &n.gain, n.bias.as_ref(), x);
    let look_up = |table: &Array2<f64>, rows: &mut dyn Iterator<Item = usize>| {
        let rows: Vec<usize> = rows.collect();
        table.select(Axis(0), &rows).t().to_owned()
    };
    let mut x = look_up(&params.embed, &mut tokens.ids.iter().map(|&t| usize::from(t)));
    let position = params.position.as_ref().map(|p| look_up(p, &mut (0..tokens.ids.len()).map(|t| t % tokens.seq_len)));
    if let (Positions::Added, Some(position)) = (config.positions, &position) {
        x += position;
    }
    let read = |n: &Norm<_>, pos_norm: Option<&Norm<_>>, x: &Array2<f64>| match (pos_norm, &position) {
        (Some(pos_norm), Some(position)) => concatenate![Axis(0), norm(n, x), norm(pos_norm, position)],
        _ => norm(n, x),
    };
    let shape = openwork_ops::Attention { n_head: config.n_head, d_head: config.d_head, seq_len: tokens.seq_len };
    for b in &params.blocks {
        let h = top_k(SiteKind::AttnRead, read(&b.attn_norm, b.attn_pos_norm.as_ref(), &x));
        let qkv = plain::linear(&b.qkv.weight, b.qkv.bias.as_ref(), &h);
        let part = |kind, i: usize| {
            let rows: Vec<usize> = (i * qkv.nrows() / 3..(i + 1) * qkv.nrows() / 3).collect();
            top_k(kind, qkv.select(Axis(0), &rows))
        };
        let (q, k, v) = (part(SiteKind::Query, 0), part(SiteKind::Key, 1), part(SiteKind::Value, 2));
        let y = plain::attention(shape, &q, &k, &v, b.sink.as_ref());
        x += &top_k(SiteKind::AttnWrite, plain::linear(&b.attn_out.weight, b.attn_out.bias.as_ref(), &y));
        let h = top_k(SiteKind::MlpRead, read(&b.mlp_norm, b.mlp_pos_norm.as_ref(), &x));
        let pre_act = plain::linear(&b.fc.weight, b.fc.bias.as_ref(), &h);
        let h = top_k(SiteKind::Neuron, plain::activate(config.activation, &pre_act));
        x += &top_k(SiteKind::MlpWrite, plain::linear(&b.proj.weight, b.proj.bias.as_ref(), &h));
    }
    let h = norm(&params.final_norm, &x);
    let mut logits = plain::linear(params.unembed.as_ref().unwrap_or(&params.embed), Some(&params.logits_bias), &h);
    if let Some(table) = &params.bigram {
        logits += &look_up(table, &mut tokens.ids.iter().map(|&t| usize::from(t)));
    }
    logits
}
