//! Causal softmax attention, per sequence and head, with an optional learned sink.
//!
//! `y_q = Σ_{k ≤ q} p_qk v_k`, `p_qk = exp(s_qk) / (Σ_{j ≤ q} exp(s_qj) + exp(sink))`,
//! `s_qk = q·k / √d_head` (Gao et al. 2025, A.1; the sink is a key of zero value with a logit of its own).
//!
//! Works through tiles of keys by queries, queries side by side, small enough for the second cache; scores
//! are recomputed in backward from the saved log of the denominator. AbsTopK leaves three quarters of q, k and
//! v zero, so every product goes over the nonzeros of one of them: scores over those of k, the average over
//! those of v, and in backward their transposes; the gradients of k and v are dot products at the entries
//! that are wanted. With dense q, k and v the same loops run over all entries.
//!
//! Floor per query and key it sees, with a fraction `a` of nonzeros: forward `2 a · d_head` multiply-adds and an
//! exponential, backward `5 a · d_head` and an exponential. The exponentials take most of the time.

use openwork_sparse::{
    Nonzeros, Panel, PanelMut, Rows,
    simd::{dispatch, dots, load, store},
    transpose,
};
use pulp::{Simd, WithSimd};

use crate::{Gradient, Kept, Matrix, Weight, Workspace, math, row, row_mut, simd};

/// Keys and queries of a tile: two tiles of f32 are half of a second cache of 1 MiB.
const TILE: usize = 256;
/// Queries of a strip: the columns that are computed together.
const STRIP: usize = 64;

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
    space: &mut Workspace,
) -> Matrix {
    let tokens = q.ncols();
    let scale = shape.scale();
    let mut log_sum = space.matrix((shape.n_head, tokens));
    let (mut p, mut room) = (space.vector(shape.tile_size()), space.vector(shape.d_head * TILE));
    let (mut k_keys, mut v_channels) = (Nonzeros::default(), Nonzeros::default());
    y.fill(0.0);
    shape.for_each_head(tokens, |head, sequence| {
        let sink = sink.map(|s| s.dense()[[head, 0]]);
        for queries in tiles(&sequence) {
            let n = queries.len();
            let (mut max, mut sum) = ([sink.unwrap_or(f32::NEG_INFINITY); TILE], [0.0_f32; TILE]);
            if sink.is_some() {
                sum[..n].fill(1.0); // exp(sink − max)
            }
            let (max, sum) = (&mut max[..n], &mut sum[..n]);
            let q = shape.panel(q, head, &queries);
            for keys in tiles(&(sequence.start..queries.end)) {
                let diagonal = keys == queries;
                let p = &mut p[..keys.len() * n];
                collect_columns(&mut k_keys, shape.panel(k, head, &keys), &mut room);
                by_token(k_keys.rows(), q, diagonal, p);
                let mut rescale = [1.0_f32; TILE];
                simd(
                    #[inline(always)]
                    || {
                        let rescale = &mut rescale[..n];
                        rescale.copy_from_slice(max);
                        for (key, p) in p.chunks_exact_mut(n).enumerate() {
                            let seen = if diagonal { key } else { 0 };
                            for (m, p) in max[seen..].iter_mut().zip(&mut p[seen..]) {
                                *p *= scale;
                                *m = m.max(*p);
                            }
                        }
                        for ((rescale, sum), &max) in rescale.iter_mut().zip(&mut *sum).zip(&*max) {
                            *rescale = math::exp(*rescale - max);
                            *sum *= *rescale;
                        }
                        for (key, p) in p.chunks_exact_mut(n).enumerate() {
                            let seen = if diagonal { key } else { 0 };
                            p[..seen].fill(0.0);
                            for ((p, &m), sum) in p[seen..].iter_mut().zip(&max[seen..]).zip(&mut sum[seen..]) {
                                *p = math::exp(*p - m);
                                *sum += *p;
                            }
                        }
                        let first_tile = keys.start == sequence.start;
                        for d in head * shape.d_head..(head + 1) * shape.d_head {
                            if !first_tile {
                                let y = &mut row_mut(y, d)[queries.clone()];
                                y.iter_mut().zip(&*rescale).for_each(|(y, rescale)| *y *= rescale);
                            }
                        }
                    },
                );
                v_channels.collect(shape.panel(v, head, &keys));
                by_channel(v_channels.rows(), tile(p, keys.len(), n), diagonal, shape.panel_mut(y, head, &queries));
            }
            simd(
                #[inline(always)]
                || {
                    for d in head * shape.d_head..(head + 1) * shape.d_head {
                        row_mut(y, d)[queries.clone()].iter_mut().zip(&*sum).for_each(|(y, &sum)| *y /= sum);
                    }
                },
            );
            let out = &mut row_mut(&mut log_sum, head)[queries];
            out.iter_mut().zip(max.iter().zip(&*sum)).for_each(|(l, (&m, &sum))| *l = m + sum.ln());
        }
    });
    [p, room].into_iter().for_each(|x| space.recycle_vector(x));
    log_sum
}

/// Backward: overwrites `dq, dk, dv` and adds to `dsink`; `y` and `log_sum` are what [`attention`] gave.
/// `dk` and `dv` are computed where `wanted` marks an entry (everywhere, if `None`) and zero elsewhere.
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
    wanted: [Option<&Kept>; 2],
    space: &mut Workspace,
) {
    let (tokens, scale) = (q.ncols(), shape.scale());
    dq.fill(0.0);
    dk.fill(0.0);
    dv.fill(0.0);
    let (mut p, mut ds) = (space.vector(shape.tile_size()), space.vector(shape.tile_size()));
    let mut room = space.vector(2 * shape.d_head * TILE);
    let [mut k_keys, mut v_keys, mut k_channels, mut dk_wanted, mut dv_wanted] = [(); 5].map(|()| Nonzeros::default());
    shape.for_each_head(tokens, |head, sequence| {
        let mut d = vec![0.0_f32; shape.seq_len];
        let log_sum = &row(log_sum, head)[sequence.clone()];
        simd(
            #[inline(always)]
            || {
                // D_q = Σ_k p_qk dp_qk = dy_q · y_q
                for r in head * shape.d_head..(head + 1) * shape.d_head {
                    let (dy, y) = (&row(dy, r)[sequence.clone()], &row(y, r)[sequence.clone()]);
                    d.iter_mut().zip(dy.iter().zip(y)).for_each(|(d, (dy, y))| *d += dy * y);
                }
            },
        );
        if let (Some(sink), Some(dsink)) = (sink, &mut dsink) {
            // The sink's value is zero, so its dp is zero: ds = p (0 − D).
            let sink = sink.dense()[[head, 0]];
            let sum = d.iter().zip(log_sum).map(|(d, l)| math::exp(sink - l) * d).sum::<f32>();
            dsink.values_mut()[head] -= sum;
        }
        for keys in tiles(&sequence) {
            let (k_tile, v_tile) = (shape.panel(k, head, &keys), shape.panel(v, head, &keys));
            collect_columns(&mut k_keys, k_tile, &mut room);
            collect_columns(&mut v_keys, v_tile, &mut room);
            k_channels.collect(k_tile);
            for (found, kept) in [&mut dk_wanted, &mut dv_wanted].into_iter().zip(wanted) {
                collect_wanted(found, kept, shape, head, &keys, &mut room);
            }
            for queries in tiles(&(keys.start..sequence.end)) {
                let (n, diagonal) = (queries.len(), keys == queries);
                let local = queries.start - sequence.start..queries.end - sequence.start;
                let (p, ds) = (&mut p[..keys.len() * n], &mut ds[..keys.len() * n]);
                let (q_tile, dy_tile) = (shape.panel(q, head, &queries), shape.panel(dy, head, &queries));
                by_token(k_keys.rows(), q_tile, diagonal, p);
                by_token(v_keys.rows(), dy_tile, diagonal, ds);
                simd(
                    #[inline(always)]
                    || {
                        let (d, log_sum) = (&d[local.clone()], &log_sum[local]);
                        for (key, (p, ds)) in p.chunks_exact_mut(n).zip(ds.chunks_exact_mut(n)).enumerate() {
                            let seen = if diagonal { key } else { 0 };
                            p[..seen].fill(0.0);
                            ds[..seen].fill(0.0);
                            let of_query = d[seen..].iter().zip(&log_sum[seen..]);
                            for ((p, ds), (d, log_sum)) in p[seen..].iter_mut().zip(&mut ds[seen..]).zip(of_query) {
                                *p = math::exp(*p * scale - log_sum);
                                *ds = *p * (*ds - d) * scale;
                            }
                        }
                    },
                );
                by_channel(k_channels.rows(), tile(ds, keys.len(), n), diagonal, shape.panel_mut(dq, head, &queries));
                at_entries(dk_wanted.rows(), q_tile, ds, diagonal, shape.panel_mut(dk, head, &keys));
                at_entries(dv_wanted.rows(), dy_tile, p, diagonal, shape.panel_mut(dv, head, &keys));
            }
        }
    });
    [p, ds, room].into_iter().for_each(|x| space.recycle_vector(x));
}

type Range = std::ops::Range<usize>;

/// Ranges of at most [`TILE`] that make up `range`.
fn tiles(range: &Range) -> impl Iterator<Item = Range> + use<> {
    let Range { start, end } = *range;
    (start..end).step_by(TILE).map(move |from| from..(from + TILE).min(end))
}

/// Scores of a tile, `[keys, n]`.
fn tile(scores: &[f32], keys: usize, n: usize) -> Panel<'_> {
    Panel::new(scores, [keys, n], n)
}

impl Attention {
    fn scale(self) -> f32 {
        1.0 / (self.d_head as f32).sqrt()
    }

    fn tile_size(self) -> usize {
        self.seq_len.min(TILE).pow(2)
    }

    /// Calls `f(head, columns of a sequence)` for every head of every sequence.
    fn for_each_head(self, tokens: usize, mut f: impl FnMut(usize, Range)) {
        assert_eq!(tokens % self.seq_len, 0, "attention: {tokens} tokens are not sequences of {}", self.seq_len);
        for start in (0..tokens).step_by(self.seq_len) {
            (0..self.n_head).for_each(|head| f(head, start..start + self.seq_len));
        }
    }

    /// The channels of a head at some columns, `[d_head, columns]`.
    fn panel<'a>(self, x: &'a Matrix, head: usize, columns: &Range) -> Panel<'a> {
        let tokens = x.ncols();
        let x = &x.as_slice().expect("row-major")[head * self.d_head * tokens + columns.start..];
        Panel::new(x, [self.d_head, columns.len()], tokens)
    }

    /// The same, to write.
    fn panel_mut<'a>(self, x: &'a mut Matrix, head: usize, columns: &Range) -> PanelMut<'a> {
        let tokens = x.ncols();
        let x = &mut x.as_slice_mut().expect("row-major")[head * self.d_head * tokens + columns.start..];
        PanelMut::new(x, [self.d_head, columns.len()], tokens)
    }
}

/// The nonzeros of every column of `x`, as rows; `columns` is room for the transpose.
fn collect_columns(found: &mut Nonzeros, x: Panel<'_>, columns: &mut [f32]) {
    let [rows, cols] = x.shape();
    let columns = &mut columns[..rows * cols];
    transpose(x, PanelMut::new(columns, [cols, rows], rows));
    found.collect(Panel::new(columns, [cols, rows], rows));
}

/// `out[t, :] = Σ_d w[t, d] x[d, :]` for the lines t (tokens) of `w` over channels: `x [d_head, n]`, `out [lines, n]`.
/// On the diagonal strips left of column t are left as they are.
fn by_token(w: Rows<'_>, x: Panel<'_>, diagonal: bool, out: &mut [f32]) {
    dispatch(ByToken { w, x, diagonal, out });
}

struct ByToken<'a> {
    w: Rows<'a>,
    x: Panel<'a>,
    diagonal: bool,
    out: &'a mut [f32],
}

impl WithSimd for ByToken<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let [_, n] = self.x.shape();
        for (t, out) in self.out.chunks_exact_mut(n).enumerate() {
            let from = if self.diagonal { t / STRIP * STRIP } else { 0 };
            line::<S, false>(simd, self.w.row(t), self.x, from..n, out);
        }
    }
}

/// `out[d, :] += Σ_t w[d, t] x[t, :]` for the lines d (channels) of `w` over tokens: `x [tokens, n]`, `out [d_head, n]`.
/// On the diagonal x is zero left of column t, and those strips are skipped.
fn by_channel(w: Rows<'_>, x: Panel<'_>, diagonal: bool, out: PanelMut<'_>) {
    dispatch(ByChannel { w, x, diagonal, out });
}

struct ByChannel<'a> {
    w: Rows<'a>,
    x: Panel<'a>,
    diagonal: bool,
    out: PanelMut<'a>,
}

impl WithSimd for ByChannel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let [tokens, n] = self.x.shape();
        for strip in (0..n).step_by(STRIP) {
            let end = (strip + STRIP).min(n);
            for d in 0..self.w.len() {
                let (places, values) = self.w.row(d);
                let seen = if self.diagonal { end.min(tokens) } else { tokens };
                let seen = places.partition_point(|&t| (t as usize) < seen);
                line::<S, true>(simd, (&places[..seen], values), self.x, strip..end, self.out.row_mut(d));
            }
        }
    }
}

/// `out[columns] = Σᵢ valuesᵢ x[placesᵢ, columns]`, or added to what is there.
#[inline(always)]
fn line<S: Simd, const ADD: bool>(
    simd: S,
    (places, values): (&[u32], &[f32]),
    x: Panel<'_>,
    columns: Range,
    out: &mut [f32],
) {
    let zero = simd.splat_f32s(0.0);
    let mut from = columns.start;
    while from + 4 * S::F32_LANES <= columns.end {
        let out = &mut out[from..][..4 * S::F32_LANES];
        let out: &mut [S::f32s; 4] = S::as_mut_simd_f32s(out).0.try_into().expect("4 registers");
        let mut sum = if ADD { *out } else { [zero; 4] };
        for (&place, &w) in places.iter().zip(values) {
            let x = &x.row(place as usize)[from..][..4 * S::F32_LANES];
            let x: &[S::f32s; 4] = S::as_simd_f32s(x).0.try_into().expect("4 registers");
            let w = simd.splat_f32s(w);
            for i in 0..4 {
                sum[i] = simd.mul_add_f32s(w, x[i], sum[i]);
            }
        }
        *out = sum;
        from += 4 * S::F32_LANES;
    }
    while from < columns.end {
        let width = S::F32_LANES.min(columns.end - from);
        let out = &mut out[from..][..width];
        let mut sum = if ADD { load(simd, out) } else { zero };
        for (&place, &w) in places.iter().zip(values) {
            let x = load(simd, &x.row(place as usize)[from..][..width]);
            sum = simd.mul_add_f32s(simd.splat_f32s(w), x, sum);
        }
        store(simd, out, sum);
        from += width;
    }
}

/// The channels of a head that are wanted, key by key: all, or those that AbsTopK kept. `room` is for twice the
/// numbers of a tile of keys.
fn collect_wanted(
    found: &mut Nonzeros,
    kept: Option<&Kept>,
    shape: Attention,
    head: usize,
    keys: &Range,
    room: &mut [f32],
) {
    let n = keys.len();
    let (marks, columns) = room.split_at_mut(shape.d_head * n);
    for (marks, d) in marks.chunks_exact_mut(n).zip(0..) {
        match kept {
            Some(kept) => {
                let kept = kept.row(head * shape.d_head + d);
                let kept = &kept.to_slice().expect("row-major")[keys.clone()];
                marks.iter_mut().zip(kept).for_each(|(mark, &kept)| *mark = f32::from(kept));
            }
            None => marks.fill(1.0),
        }
    }
    collect_columns(found, Panel::new(marks, [shape.d_head, n], n), columns);
}

/// `out[d, key] += Σ_q x[d, q] s[key, q]` at the channels d that `wanted` lists for each key:
/// `x [d_head, n]`, `s [keys, n]`, zero left of the key on the diagonal.
fn at_entries(wanted: Rows<'_>, x: Panel<'_>, s: &[f32], diagonal: bool, out: PanelMut<'_>) {
    dispatch(AtEntries { wanted, x, s, diagonal, out });
}

struct AtEntries<'a> {
    wanted: Rows<'a>,
    x: Panel<'a>,
    s: &'a [f32],
    diagonal: bool,
    out: PanelMut<'a>,
}

impl WithSimd for AtEntries<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let [_, n] = self.x.shape();
        // Keys outside: a row of s is long, the rows of x stay in the first cache.
        for (key, s) in self.s.chunks_exact(n).enumerate() {
            let from = if self.diagonal { key / STRIP * STRIP } else { 0 };
            let x = |d: u32| &self.x.row(d as usize)[from..];
            let mut out = |d: u32, sum: f32| self.out.row_mut(d as usize)[key] += sum;
            let (fours, rest) = pulp::as_arrays::<4, u32>(self.wanted.row(key).0);
            for &[a, b, c, d] in fours {
                let sums = dots(simd, &s[from..], [x(a), x(b), x(c), x(d)]);
                [a, b, c, d].into_iter().zip(sums).for_each(|(d, sum)| out(d, sum));
            }
            for &d in rest {
                out(d, dots(simd, &s[from..], [x(d)])[0]);
            }
        }
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
        for (n_head, d_head, seq_len, sequences, with_sink) in [
            (1, 1, 1, 1, false),
            (2, 3, 5, 2, true),
            (2, 4, 9, 1, false),
            (1, 2, 70, 1, true),
            (1, 2, 300, 1, true),
            (1, 3, 270, 1, false),
        ] {
            let shape = Attention { n_head, d_head, seq_len };
            let dim = (n_head * d_head, seq_len * sequences);
            let inputs: Vec<Matrix> = (0..3).map(|i| random(dim.0, dim.1, i) * 3.0).collect();
            let (q, k, v) = (&inputs[0], &inputs[1], &inputs[2]);
            let sink = with_sink.then(|| Weight::new(random(n_head, 1, 5)));
            let mut y = Matrix::zeros(dim);
            let log_sum = attention(shape, q, k, v, sink.as_ref(), &mut y, &mut Workspace::default());
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
                [None, None],
                &mut Workspace::default(),
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
