//! Causal softmax attention, per sequence and head, with an optional learned sink.
//!
//! `y_q = Σ_{k ≤ q} p_qk v_k`, `p_qk = exp(s_qk) / (Σ_{j ≤ q} exp(s_qj) + exp(sink))`,
//! `s_qk = q·k / √d_head` (Gao et al. 2025, A.1; the sink is a key of zero value with a logit of its own).
//!
//! Queries are walked in blocks, so that only the keys a block can see are multiplied and its scores stay in
//! the second cache; they are recomputed in backward from the saved log of the denominator. Forward has
//! queries side by side (`[keys, queries]`: maxima and sums over keys are vector operations), backward keys
//! (`[queries, keys]`: both sums over queries are then products of matrices as they lie).
//!
//! Floor per query and key it sees: forward `2 · d_head` multiply-adds and an exponential, backward
//! `5 · d_head` and an exponential.

use openwork_sparse::{Panel, PanelMut, Start, matmul, transpose};

use crate::{Gradient, Matrix, Weight, math, row, row_mut, simd};

/// Queries a block.
const BLOCK: usize = 64;

/// Shape of the attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Number of heads.
    pub n_head: usize,
    /// Channels per head.
    pub d_head: usize,
    /// Tokens per sequence; the number of columns is a multiple of it.
    pub seq_len: usize,
}

/// Forward: `q, k, v, y [n_head · d_head, tokens]`, `sink [n_head, 1]`. Overwrites `y` and returns the log
/// of the denominator, `[n_head, tokens]`.
pub fn attention(
    shape: Attention,
    q: &Matrix,
    k: &Matrix,
    v: &Matrix,
    sink: Option<&Weight>,
    y: &mut Matrix,
) -> Matrix {
    let tokens = q.ncols();
    let scale = shape.scale();
    let mut log_sum = Matrix::zeros((shape.n_head, tokens));
    let mut scores = vec![0.0; shape.seq_len * BLOCK];
    let (mut max, mut sum) = ([0.0_f32; BLOCK], [0.0_f32; BLOCK]);
    shape.for_each_block(tokens, |head, keys, queries| {
        let sink = sink.map(|s| s.dense()[[head, 0]]);
        let (n, first) = (queries.len(), queries.start - keys.start);
        let p = &mut scores[..keys.len() * n];
        let (k, v) = (shape.head(k, head, &keys), shape.head(v, head, &keys));
        matmul(Start::Zero, k.t(), shape.head(q, head, &queries), PanelMut::new(p, [keys.len(), n], n));
        simd(
            #[inline(always)]
            || {
                let (max, sum) = (&mut max[..n], &mut sum[..n]);
                max.fill(sink.unwrap_or(f32::NEG_INFINITY));
                for (key, p) in p.chunks_exact_mut(n).enumerate() {
                    let seen = key.saturating_sub(first);
                    for (m, p) in max[seen..].iter_mut().zip(&mut p[seen..]) {
                        *p *= scale;
                        *m = m.max(*p);
                    }
                }
                match sink {
                    Some(sink) => sum.iter_mut().zip(&*max).for_each(|(sum, &m)| *sum = math::exp(sink - m)),
                    None => sum.fill(0.0),
                }
                for (key, p) in p.chunks_exact_mut(n).enumerate() {
                    let seen = key.saturating_sub(first);
                    p[..seen].fill(0.0);
                    for ((p, &m), sum) in p[seen..].iter_mut().zip(&max[seen..]).zip(&mut sum[seen..]) {
                        *p = math::exp(*p - m);
                        *sum += *p;
                    }
                }
            },
        );
        let (p, y_at) = (Panel::new(p, [keys.len(), n], n), head * shape.d_head * tokens + queries.start);
        let y = &mut y.as_slice_mut().expect("row-major")[y_at..];
        matmul(Start::Zero, v, p, PanelMut::new(y, [shape.d_head, n], tokens));
        simd(
            #[inline(always)]
            || {
                for d in 0..shape.d_head {
                    y[d * tokens..][..n].iter_mut().zip(&sum).for_each(|(y, &sum)| *y /= sum);
                }
                let out = &mut row_mut(&mut log_sum, head)[queries];
                out.iter_mut().zip(max.iter().zip(&sum)).for_each(|(l, (&m, &sum))| *l = m + sum.ln());
            },
        );
    });
    log_sum
}

/// Backward: overwrites `dq, dk, dv` and adds to `dsink`; `y` and `log_sum` are what [`attention`] gave.
#[allow(clippy::too_many_arguments, reason = "three inputs, what forward saved, and a gradient for each")]
pub fn attention_backward(
    shape: Attention,
    (q, k, v): (&Matrix, &Matrix, &Matrix),
    sink: Option<&Weight>,
    y: &Matrix,
    log_sum: &Matrix,
    dy: &Matrix,
    (dq, dk, dv): (&mut Matrix, &mut Matrix, &mut Matrix),
    mut dsink: Option<&mut Gradient>,
) {
    let (tokens, d_head, scale) = (q.ncols(), shape.d_head, shape.scale());
    dk.fill(0.0);
    dv.fill(0.0);
    let mut space = vec![0.0; shape.seq_len * (2 * BLOCK + d_head)];
    let (keys_major, space) = space.split_at_mut(shape.seq_len * d_head);
    let (p, ds) = space.split_at_mut(shape.seq_len * BLOCK);
    let mut dq_block = vec![0.0; BLOCK * d_head];
    shape.for_each_block(tokens, |head, keys, queries| {
        let (n, first) = (queries.len(), queries.start - keys.start);
        let (n_keys, at) = (keys.len(), |columns: &Range| head * d_head * tokens + columns.start);
        let (p, ds) = (&mut p[..n_keys * n], &mut ds[..n_keys * n]);
        let (k_block, v_block) = (shape.head(k, head, &keys), shape.head(v, head, &keys));
        let (q, dy_block) = (shape.head(q, head, &queries), shape.head(dy, head, &queries));
        matmul(Start::Zero, q.t(), k_block, PanelMut::new(p, [n, n_keys], n_keys));
        matmul(Start::Zero, dy_block.t(), v_block, PanelMut::new(ds, [n, n_keys], n_keys));
        // D_q = Σ_k p_qk dp_qk = dy_q · y_q
        let mut d = [0.0_f32; BLOCK];
        let log_sum = &row(log_sum, head)[queries.clone()];
        simd(
            #[inline(always)]
            || {
                for r in head * d_head..(head + 1) * d_head {
                    let (dy, y) = (&row(dy, r)[queries.clone()], &row(y, r)[queries.clone()]);
                    d.iter_mut().zip(dy.iter().zip(y)).for_each(|(d, (dy, y))| *d += dy * y);
                }
                for (i, (p, ds)) in p.chunks_exact_mut(n_keys).zip(ds.chunks_exact_mut(n_keys)).enumerate() {
                    let seen = first + i + 1;
                    p[seen..].fill(0.0);
                    ds[seen..].fill(0.0);
                    for (p, ds) in p[..seen].iter_mut().zip(&mut ds[..seen]) {
                        *p = math::exp(*p * scale - log_sum[i]);
                        *ds = *p * (*ds - d[i]) * scale;
                    }
                }
            },
        );
        if let (Some(sink), Some(dsink)) = (sink, &mut dsink) {
            // The sink's value is zero, so its dp is zero: ds = p (0 − D).
            let sink = sink.dense()[[head, 0]];
            let sum = d.iter().zip(log_sum).map(|(d, l)| math::exp(sink - l) * d).sum::<f32>();
            dsink.values_mut()[head] -= sum;
        }
        let (p, ds) = (Panel::new(p, [n, n_keys], n_keys), Panel::new(ds, [n, n_keys], n_keys));
        let dk = &mut dk.as_slice_mut().expect("row-major")[at(&keys)..];
        matmul(Start::Add, q, ds, PanelMut::new(dk, [d_head, n_keys], tokens));
        let dv = &mut dv.as_slice_mut().expect("row-major")[at(&keys)..];
        matmul(Start::Add, dy_block, p, PanelMut::new(dv, [d_head, n_keys], tokens));
        // dq = k dsᵀ, by way of its transpose, so that the larger of the two matrices stays as it lies.
        if first == 0 {
            let sequence = keys.start..keys.start + shape.seq_len;
            transpose(shape.head(k, head, &sequence), PanelMut::new(keys_major, [shape.seq_len, d_head], d_head));
        }
        let dq_block = &mut dq_block[..n * d_head];
        matmul(
            Start::Zero,
            ds,
            Panel::new(keys_major, [n_keys, d_head], d_head),
            PanelMut::new(dq_block, [n, d_head], d_head),
        );
        let dq = &mut dq.as_slice_mut().expect("row-major")[at(&queries)..];
        transpose(Panel::new(dq_block, [n, d_head], d_head), PanelMut::new(dq, [d_head, n], tokens));
    });
}

type Range = std::ops::Range<usize>;

impl Attention {
    fn scale(self) -> f32 {
        1.0 / (self.d_head as f32).sqrt()
    }

    /// Calls `f(head, visible key columns, query columns)` for every block of queries.
    fn for_each_block(self, tokens: usize, mut f: impl FnMut(usize, Range, Range)) {
        assert_eq!(tokens % self.seq_len, 0, "attention: {tokens} tokens are not sequences of {}", self.seq_len);
        for start in (0..tokens).step_by(self.seq_len) {
            for head in 0..self.n_head {
                for q0 in (start..start + self.seq_len).step_by(BLOCK) {
                    let q1 = (q0 + BLOCK).min(start + self.seq_len);
                    f(head, start..q1, q0..q1);
                }
            }
        }
    }

    /// The channels of a head at some columns, `[d_head, columns]`.
    fn head<'a>(self, x: &'a Matrix, head: usize, columns: &Range) -> Panel<'a> {
        let tokens = x.ncols();
        let x = &x.as_slice().expect("row-major")[head * self.d_head * tokens + columns.start..];
        Panel::new(x, [self.d_head, columns.len()], tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{close, gradient, random},
        reference,
    };

    #[test]
    fn matches_the_reference_and_finite_differences() {
        for (n_head, d_head, seq_len, sequences, with_sink) in
            [(1, 1, 1, 1, false), (2, 3, 5, 2, true), (2, 4, 9, 1, false), (1, 2, 70, 1, true)]
        {
            let shape = Attention { n_head, d_head, seq_len };
            let dim = (n_head * d_head, seq_len * sequences);
            let inputs: Vec<Matrix> = (0..3).map(|i| random(dim.0, dim.1, i) * 3.0).collect();
            let (q, k, v) = (&inputs[0], &inputs[1], &inputs[2]);
            let sink = with_sink.then(|| Weight::new(random(n_head, 1, 5)));
            let mut y = Matrix::zeros(dim);
            let log_sum = attention(shape, q, k, v, sink.as_ref(), &mut y);
            let exact = inputs.iter().map(|x| x.mapv(f64::from)).collect::<Vec<_>>();
            let sink_exact = sink.as_ref().map(|s| s.dense().mapv(f64::from));
            let plain = |q: &_, k: &_, v: &_, s: Option<&_>| reference::attention(shape, q, k, v, s);
            close(&y, &plain(&exact[0], &exact[1], &exact[2], sink_exact.as_ref()), (3 * d_head + 8) as f64);

            let dy = random(dim.0, dim.1, 9);
            let (mut dq, mut dk, mut dv) = (Matrix::ones(dim), Matrix::ones(dim), Matrix::ones(dim));
            let mut dsink = Gradient::zeros((n_head, 1));
            attention_backward(
                shape,
                (q, k, v),
                sink.as_ref(),
                &y,
                &log_sum,
                &dy,
                (&mut dq, &mut dk, &mut dv),
                Some(&mut dsink),
            );
            gradient(&dq, &exact[0], &dy, |q| plain(q, &exact[1], &exact[2], sink_exact.as_ref()));
            gradient(&dk, &exact[1], &dy, |k| plain(&exact[0], k, &exact[2], sink_exact.as_ref()));
            gradient(&dv, &exact[2], &dy, |v| plain(&exact[0], &exact[1], v, sink_exact.as_ref()));
            if let Some(s) = &sink_exact {
                gradient(dsink.dense(), s, &dy, |s| plain(&exact[0], &exact[1], &exact[2], Some(s)));
            }
        }
    }
}
