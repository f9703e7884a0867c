//! Runs of circuits on many inputs at once, and what is compared of their logits.

use std::ops::ControlFlow;

use openwork_circuit::NodeSpace;
use openwork_model::{Cpu, Matrix, Model, NoTap, Site, Tap, Tokens};

use crate::run::measures::argmax;

/// Most sequences of a pass: wide enough for the kernels, small enough to stay in the cache.
pub(super) const BATCH: usize = 32;

/// Source of ablation values.
pub(super) enum Source<'a> {
    /// A constant a node.
    Constants(&'a dyn Fn(usize) -> f32),
    /// Another input's run, aligned at the last token; the first token's values stand for what is before it.
    Run(&'a Recorded),
    /// `x ← a + r (x − a)`, a its ablation value, coefficients and constants by node, in all sequences but the first.
    Partial(&'a [f32], &'a dyn Fn(usize) -> f32),
}

/// Keeps some nodes and gives the others values from elsewhere.
pub(super) struct Replace<'a> {
    pub space: &'a NodeSpace,
    pub kept: &'a [bool],
    pub source: Source<'a>,
    pub seq_len: usize,
}

impl Tap for Replace<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let Some(range) = self.space.range(site) else { return ControlFlow::Continue(()) };
        for (mut row, node) in value.rows_mut().into_iter().zip(range) {
            if self.kept[node] {
                continue;
            }
            match &self.source {
                Source::Constants(constant) => row.fill(constant(node)),
                Source::Run(run) => {
                    for (i, x) in row.iter_mut().enumerate() {
                        let t = (i % self.seq_len + run.seq_len).saturating_sub(self.seq_len);
                        *x = run.values[node * run.seq_len + t];
                    }
                }
                Source::Partial(r, constant) => {
                    let (r, a) = (r[node], constant(node));
                    row.iter_mut().skip(self.seq_len).for_each(|x| *x = a + r * (*x - a));
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// Values of all nodes on one input, `[nodes, tokens]`.
pub(super) struct Recorded {
    seq_len: usize,
    values: Vec<f32>,
}

impl Recorded {
    pub fn new(model: &Model, space: &NodeSpace, prompt: &[u16], memory: &mut Cpu) -> Self {
        struct Record<'a>(&'a NodeSpace, Recorded);
        impl Tap for Record<'_> {
            fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
                let Some(range) = self.0.range(site) else { return ControlFlow::Continue(()) };
                let n = self.1.seq_len;
                let to = &mut self.1.values[range.start * n..range.end * n];
                to.iter_mut().zip(value.iter()).for_each(|(to, x)| *to = *x);
                ControlFlow::Continue(())
            }
        }
        let empty = Self { seq_len: prompt.len(), values: vec![0.0; space.len() * prompt.len()] };
        let mut record = Record(space, empty);
        last_logits(model, prompt, prompt.len(), &mut record, memory);
        record.1
    }
}

/// Logits at the last token of every sequence.
pub(super) fn last_logits(
    model: &Model,
    tokens: &[u16],
    seq_len: usize,
    tap: &mut dyn Tap,
    memory: &mut Cpu,
) -> Vec<Vec<f32>> {
    let readout: Vec<usize> = (1..=tokens.len() / seq_len).map(|i| i * seq_len - 1).collect();
    let pass = model.forward_in(Tokens::new(tokens, seq_len), Some(&readout), tap, memory);
    let logits = pass.logits.columns().into_iter().map(|c| c.to_vec()).collect();
    pass.recycle(memory);
    logits
}

/// [`last_logits`] of the model alone.
pub(super) fn plain_logits(model: &Model, tokens: &[u16], seq_len: usize, memory: &mut Cpu) -> Vec<Vec<f32>> {
    last_logits(model, tokens, seq_len, &mut NoTap, memory)
}

/// KL(softmax p ‖ softmax q) in nats, of logits, summed in f64.
pub(super) fn kl(p: &[f32], q: &[f32]) -> f64 {
    let log_sum = |x: &[f32]| {
        let largest = f64::from(x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        largest + x.iter().map(|&x| (f64::from(x) - largest).exp()).sum::<f64>().ln()
    };
    let (zp, zq) = (log_sum(p), log_sum(q));
    let term = |(&p, &q): (&f32, &f32)| {
        let (p, q) = (f64::from(p) - zp, f64::from(q) - zq);
        p.exp() * (p - q)
    };
    p.iter().zip(q).map(term).sum()
}

/// Lead below which a logit of these does not lead. The checker's ties are half as wide, and it computes in f64: what is counted
/// here is no tie there.
pub(super) fn tie(logits: &[f32]) -> f64 {
    const TIE: f64 = 2e-4;
    TIE * (1.0 + logits.iter().fold(0.0_f64, |m, l| m.max(f64::from(l.abs()))))
}

/// Index of the largest logit, and whether it leads by more than a tie.
pub(super) fn top(logits: &[f32]) -> (usize, bool) {
    let first = argmax(logits);
    let next = (0..logits.len()).filter(|&i| i != first).fold(f32::NEG_INFINITY, |m, i| m.max(logits[i]));
    (first, f64::from(logits[first]) - f64::from(next) > tie(logits))
}
