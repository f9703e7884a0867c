//! Causal softmax attention, per sequence and head, with an optional learned sink.
//!
//! `y_q = Σ_{k ≤ q} p_qk v_k`, `p_qk = exp(s_qk) / (Σ_{j ≤ q} exp(s_qj) + exp(sink))`,
//! `s_qk = q·k / √d_head` (Gao et al. 2025, A.1; the sink is a key of zero value with a logit of its own).
//!
//! Queries are walked in blocks, so that only the keys a block can see are multiplied; scores are
//! recomputed in backward from the saved log of the denominator.

use ndarray::{linalg::general_mat_mul, s};

use crate::{Matrix, Weight, math, row, row_mut, simd};

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
    let mut log_sum = Matrix::zeros((shape.n_head, q.ncols()));
    shape.for_each_block(q.ncols(), |head, rows, keys, queries| {
        let sink = sink.map(|s| s.dense()[[head, 0]]);
        let mut p = shape.scores(q, k, &rows, &keys, &queries);
        let n = p.ncols();
        let mut max = vec![sink.unwrap_or(f32::NEG_INFINITY); n];
        let mut sum = vec![0.0_f32; n];
        let first = queries.start - keys.start;
        simd(|| {
            for key in 0..p.nrows() {
                let seen = key.saturating_sub(first);
                max[seen..].iter_mut().zip(&row(&p, key)[seen..]).for_each(|(m, &s)| *m = m.max(s));
            }
            if let Some(sink) = sink {
                sum.iter_mut().zip(&max).for_each(|(sum, &m)| *sum = math::exp(sink - m));
            }
            for key in 0..p.nrows() {
                let seen = key.saturating_sub(first);
                let p = row_mut(&mut p, key);
                p[..seen].fill(0.0);
                for ((p, &m), sum) in p[seen..].iter_mut().zip(&max[seen..]).zip(&mut sum[seen..]) {
                    *p = math::exp(*p - m);
                    *sum += *p;
                }
            }
            for key in 0..p.nrows() {
                row_mut(&mut p, key).iter_mut().zip(&sum).for_each(|(p, &sum)| *p /= sum);
            }
            let out = &mut row_mut(&mut log_sum, head)[queries.clone()];
            out.iter_mut().zip(max.iter().zip(&sum)).for_each(|(l, (&m, &sum))| *l = m + sum.ln());
        });
        let v = v.slice(s![rows.clone(), keys]);
        general_mat_mul(1.0, &v, &p, 0.0, &mut y.slice_mut(s![rows, queries]));
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
    mut dsink: Option<&mut Matrix>,
) {
    let scale = shape.scale();
    dk.fill(0.0);
    dv.fill(0.0);
    shape.for_each_block(q.ncols(), |head, rows, keys, queries| {
        // D_q = Σ_k p_qk dp_qk = dy_q · y_q
        let n = queries.len();
        let mut d = vec![0.0_f32; n];
        let log_sum = &row(log_sum, head)[queries.clone()];
        let mut p = shape.scores(q, k, &rows, &keys, &queries);
        let mut ds = Matrix::zeros(p.dim());
        let (v, dy_block) = (v.slice(s![rows.clone(), keys.clone()]), dy.slice(s![rows.clone(), queries.clone()]));
        general_mat_mul(1.0, &v.t(), &dy_block, 0.0, &mut ds);
        let first = queries.start - keys.start;
        simd(|| {
            for r in rows.clone() {
                let (dy, y) = (&row(dy, r)[queries.clone()], &row(y, r)[queries.clone()]);
                d.iter_mut().zip(dy.iter().zip(y)).for_each(|(d, (dy, y))| *d += dy * y);
            }
            for key in 0..p.nrows() {
                let seen = key.saturating_sub(first);
                let (p, ds) = (row_mut(&mut p, key), row_mut(&mut ds, key));
                p[..seen].fill(0.0);
                ds[..seen].fill(0.0);
                for i in seen..n {
                    p[i] = math::exp(p[i] - log_sum[i]);
                    ds[i] = p[i] * (ds[i] - d[i]);
                }
            }
        });
        if let (Some(sink), Some(dsink)) = (sink, &mut dsink) {
            // The sink's value is zero, so its dp is zero: ds = p (0 − D).
            let sink = sink.dense()[[head, 0]];
            dsink[[head, 0]] -= d.iter().zip(log_sum).map(|(d, l)| math::exp(sink - l) * d).sum::<f32>();
        }
        let (q, k) = (q.slice(s![rows.clone(), queries.clone()]), k.slice(s![rows.clone(), keys.clone()]));
        general_mat_mul(scale, &k, &ds, 0.0, &mut dq.slice_mut(s![rows.clone(), queries]));
        general_mat_mul(scale, &q, &ds.t(), 1.0, &mut dk.slice_mut(s![rows.clone(), keys.clone()]));
        general_mat_mul(1.0, &dy_block, &p.t(), 1.0, &mut dv.slice_mut(s![rows, keys]));
    });
}

type Range = std::ops::Range<usize>;

impl Attention {
    fn scale(self) -> f32 {
        1.0 / (self.d_head as f32).sqrt()
    }

    /// Calls `f(head, its channel rows, visible key columns, query columns)` for every block of queries.
    fn for_each_block(self, tokens: usize, mut f: impl FnMut(usize, Range, Range, Range)) {
        assert_eq!(tokens % self.seq_len, 0, "attention: {tokens} tokens are not sequences of {}", self.seq_len);
        for start in (0..tokens).step_by(self.seq_len) {
            for head in 0..self.n_head {
                let rows = head * self.d_head..(head + 1) * self.d_head;
                for q0 in (start..start + self.seq_len).step_by(BLOCK) {
                    let q1 = (q0 + BLOCK).min(start + self.seq_len);
                    f(head, rows.clone(), start..q1, q0..q1);
                }
            }
        }
    }

    /// `kᵀ q / √d_head`, `[keys, queries]`.
    fn scores(self, q: &Matrix, k: &Matrix, rows: &Range, keys: &Range, queries: &Range) -> Matrix {
        let mut s = Matrix::zeros((keys.len(), queries.len()));
        let (k, q) = (k.slice(s![rows.clone(), keys.clone()]), q.slice(s![rows.clone(), queries.clone()]));
        general_mat_mul(self.scale(), &k.t(), &q, 0.0, &mut s);
        s
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
            let mut dsink = Matrix::zeros((n_head, 1));
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
                gradient(&dsink, s, &dy, |s| plain(&exact[0], &exact[1], &exact[2], Some(s)));
            }
        }
    }
}
