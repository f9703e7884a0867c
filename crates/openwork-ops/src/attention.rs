//! Causal softmax attention, per sequence and head, with an optional learned sink.
//!
//! `y_q = Σ_{k ≤ q} p_qk v_k`, `p_qk = exp(s_qk) / (Σ_{j ≤ q} exp(s_qj) + exp(sink))`,
//! `s_qk = q·k / √d_head` (Gao et al. 2025, A.1; the sink is a key of zero value with a logit of its own).
//!
//! Key after key, with the queries of a tile side by side in registers: what a key adds is computed and used there,
//! and no score is ever stored. That needs the largest score of a query first, so forward goes over the keys
//! twice; computing a score again takes less time than reading it. AbsTopK leaves three quarters of q, k and v zero:
//! every product goes over the nonzeros of a key, and the gradients of k and v are dot products at the entries
//! that are wanted. With dense q, k and v the same loops run over all entries.
//!
//! Floor per query and key it sees, with a fraction `a` of nonzeros: forward `3 a · d_head` multiply-adds and an
//! exponential, backward `5 a · d_head` and an exponential (15 instructions each, [`math::exp_register`]).

use std::ops::{Deref, DerefMut};

use openwork_sparse::{
    Nonzeros, Panel, PanelMut, Rows,
    simd::{dispatch, dots},
    transpose,
};
use pulp::{Simd, WithSimd};

use crate::{Attention, Cpu, Gradient, Kept, Matrix, Weight, math, row, row_mut, simd};

/// Queries of a tile: of a head of 16 channels, three tiles of f32 fill the first cache.
const TILE: usize = 256;
/// Multiple to which queries are padded and cut: a whole number of registers of every instruction set.
const STRIP: usize = 64;

/// Forward: `q, k, v, y [n_head · d_head, tokens]`, `sink [n_head, 1]`. Overwrites `y` and returns the log
/// of the denominator, `[n_head, tokens]`. Both are NaN at a query that meets a score that is not finite in f32.
pub fn attention(
    shape: Attention,
    q: &Matrix,
    k: &Matrix,
    v: &Matrix,
    sink: Option<&Weight>,
    y: &mut Matrix,
    cpu: &mut Cpu,
) -> Matrix {
    let tokens = q.ncols();
    let mut log_sum = cpu.matrix((shape.n_head, tokens));
    let [mut q_tile, mut y_tile] = [(); 2].map(|()| cpu.vector(shape.d_head * TILE));
    let mut room = cpu.vector(shape.d_head * shape.seq_len);
    let (mut k_keys, mut v_keys) = (Nonzeros::default(), Nonzeros::default());
    for_each_head(shape, tokens, |head, sequence| {
        let sink = sink.map(|s| s.dense()[[head, 0]]);
        collect_columns(&mut k_keys, panel(shape, k, head, &sequence), &mut room);
        collect_columns(&mut v_keys, panel(shape, v, head, &sequence), &mut room);
        for queries in tiles(&sequence) {
            let n = queries.len();
            fill_tile(&mut q_tile, panel(shape, q, head, &queries), scale(shape));
            y_tile.fill(0.0);
            let (mut max, mut sum) = (Row([sink.unwrap_or(f32::NEG_INFINITY); TILE]), Row([0.0; TILE]));
            dispatch(Forward {
                before: queries.start - sequence.start,
                n,
                k: k_keys.rows(),
                v: v_keys.rows(),
                sink,
                q: &q_tile,
                max: &mut max,
                sum: &mut sum,
                y: &mut y_tile,
            });
            let mut out = panel_mut(shape, y, head, &queries);
            simd(
                #[inline(always)]
                || {
                    for d in 0..shape.d_head {
                        let y_tile = &y_tile[d * TILE..][..n];
                        out.row_mut(d).iter_mut().zip(y_tile).zip(&*sum).for_each(|((out, y), sum)| *out = y / sum);
                    }
                },
            );
            let out = &mut row_mut(&mut log_sum, head)[queries];
            out.iter_mut().zip(max.iter().zip(&*sum)).for_each(|(l, (&m, &sum))| *l = m + sum.ln());
        }
        let [q, k] = [q, k].map(|x| panel(shape, x, head, &sequence));
        for query in overflows(shape, q, k) {
            let mut out = panel_mut(shape, y, head, &sequence);
            (0..shape.d_head).for_each(|d| out.row_mut(d)[query] = f32::NAN);
            row_mut(&mut log_sum, head)[sequence.start + query] = f32::NAN;
        }
    });
    [q_tile, y_tile, room].into_iter().for_each(|x| cpu.recycle_vector(x));
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
    cpu: &mut Cpu,
) {
    let tokens = q.ncols();
    dk.fill(0.0);
    dv.fill(0.0);
    let [mut q_tile, mut dy_tile, mut dq_tile] = [(); 3].map(|()| cpu.vector(shape.d_head * TILE));
    let [mut room, mut marks] = [(); 2].map(|()| cpu.vector(shape.d_head * shape.seq_len));
    let [mut k_keys, mut v_keys, mut dk_wanted, mut dv_wanted] = [(); 4].map(|()| Nonzeros::default());
    for_each_head(shape, tokens, |head, sequence| {
        let mut inner = vec![0.0_f32; shape.seq_len];
        let log_sum = &row(log_sum, head)[sequence.clone()];
        simd(
            #[inline(always)]
            || {
                // D_q = Σ_k p_qk dp_qk = dy_q · y_q
                for r in head * shape.d_head..(head + 1) * shape.d_head {
                    let (dy, y) = (&row(dy, r)[sequence.clone()], &row(y, r)[sequence.clone()]);
                    inner.iter_mut().zip(dy.iter().zip(y)).for_each(|(d, (dy, y))| *d += dy * y);
                }
            },
        );
        if let (Some(sink), Some(dsink)) = (sink, &mut dsink) {
            // The sink's value is zero, so its dp is zero: ds = p (0 − D).
            let sink = sink.dense()[[head, 0]];
            let sum = inner.iter().zip(log_sum).map(|(d, l)| math::exp(sink - l) * d).sum::<f32>();
            dsink.values_mut()[head] -= sum;
        }
        collect_columns(&mut k_keys, panel(shape, k, head, &sequence), &mut room);
        collect_columns(&mut v_keys, panel(shape, v, head, &sequence), &mut room);
        for (found, kept) in [&mut dk_wanted, &mut dv_wanted].into_iter().zip(wanted) {
            mark_wanted(&mut marks, kept, shape, head, &sequence);
            collect_columns(found, Panel::new(&marks, [shape.d_head, shape.seq_len], shape.seq_len), &mut room);
        }
        for queries in tiles(&sequence) {
            let (n, before) = (queries.len(), queries.start - sequence.start);
            fill_tile(&mut q_tile, panel(shape, q, head, &queries), scale(shape));
            fill_tile(&mut dy_tile, panel(shape, dy, head, &queries), 1.0);
            dq_tile.fill(0.0);
            let of_query = |x: &[f32]| {
                let mut tile = Row([0.0; TILE]);
                tile[..n].copy_from_slice(&x[before..][..n]);
                tile
            };
            dispatch(Backward {
                before,
                n,
                k: k_keys.rows(),
                v: v_keys.rows(),
                q: &q_tile,
                dy: &dy_tile,
                log_sum: &of_query(log_sum),
                inner: &of_query(&inner),
                dq: &mut dq_tile,
                dk_wanted: dk_wanted.rows(),
                dv_wanted: dv_wanted.rows(),
                dk: panel_mut(shape, dk, head, &sequence),
                dv: panel_mut(shape, dv, head, &sequence),
            });
            let mut out = panel_mut(shape, dq, head, &queries);
            simd(
                #[inline(always)]
                || {
                    for d in 0..shape.d_head {
                        let dq_tile = &dq_tile[d * TILE..][..n];
                        out.row_mut(d).iter_mut().zip(dq_tile).for_each(|(out, dq)| *out = dq * scale(shape));
                    }
                },
            );
        }
    });
    [q_tile, dy_tile, dq_tile, room, marks].into_iter().for_each(|x| cpu.recycle_vector(x));
}

type Range = std::ops::Range<usize>;

/// Queries of a head and sequence that meet a score that is not finite. The maximum and the exponential above would
/// overlook it: neither hands a NaN on.
fn overflows(shape: Attention, q: Panel<'_>, k: Panel<'_>) -> Vec<usize> {
    // |score| ≤ ‖q‖ ‖k‖ / √d_head, with the norms over all tokens: one look at every entry proves almost every head sound.
    let bound = (f64::from(squares(q)) * f64::from(squares(k))).sqrt() * f64::from(scale(shape));
    if bound < f64::from(f32::MAX) / 2.0 {
        return vec![];
    }
    let score = |query: usize, key: usize| {
        (0..shape.d_head).fold(0.0_f32, |sum, d| k.row(d)[key].mul_add(scale(shape) * q.row(d)[query], sum))
    };
    let [_, seq_len] = q.shape();
    (0..seq_len).filter(|&query| (0..=query).any(|key| !score(query, key).is_finite())).collect()
}

/// Σ x² in f32, in sums side by side; infinite or NaN if an entry is.
fn squares(x: Panel<'_>) -> f32 {
    const LANES: usize = 32;
    let [rows, _] = x.shape();
    let mut sums = [0.0_f32; LANES];
    simd(
        #[inline(always)]
        || {
            for r in 0..rows {
                let (whole, rest) = x.row(r).as_chunks::<LANES>();
                for chunk in whole {
                    sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum = x.mul_add(*x, *sum));
                }
                sums.iter_mut().zip(rest).for_each(|(sum, x)| *sum = x.mul_add(*x, *sum));
            }
        },
    );
    sums.iter().sum()
}

/// Ranges of at most [`TILE`] that make up `range`.
fn tiles(range: &Range) -> impl Iterator<Item = Range> + use<> {
    let Range { start, end } = *range;
    (start..end).step_by(TILE).map(move |from| from..(from + TILE).min(end))
}

/// `1 / √d_head`.
fn scale(shape: Attention) -> f32 {
    1.0 / (shape.d_head as f32).sqrt()
}

/// Calls `f(head, columns of a sequence)` for every head of every sequence.
fn for_each_head(shape: Attention, tokens: usize, mut f: impl FnMut(usize, Range)) {
    assert_eq!(tokens % shape.seq_len, 0, "attention: {tokens} tokens are not sequences of {}", shape.seq_len);
    for start in (0..tokens).step_by(shape.seq_len) {
        (0..shape.n_head).for_each(|head| f(head, start..start + shape.seq_len));
    }
}

/// The channels of a head at some columns, `[d_head, columns]`.
fn panel<'a>(shape: Attention, x: &'a Matrix, head: usize, columns: &Range) -> Panel<'a> {
    let tokens = x.ncols();
    let x = &x.as_slice().expect("row-major")[head * shape.d_head * tokens + columns.start..];
    Panel::new(x, [shape.d_head, columns.len()], tokens)
}

/// The same, to write.
fn panel_mut<'a>(shape: Attention, x: &'a mut Matrix, head: usize, columns: &Range) -> PanelMut<'a> {
    let tokens = x.ncols();
    let x = &mut x.as_slice_mut().expect("row-major")[head * shape.d_head * tokens + columns.start..];
    PanelMut::new(x, [shape.d_head, columns.len()], tokens)
}

/// The nonzeros of every column of `x`, as rows; `columns` is room for the transpose.
fn collect_columns(found: &mut Nonzeros, x: Panel<'_>, columns: &mut [f32]) {
    let [rows, cols] = x.shape();
    let columns = &mut columns[..rows * cols];
    transpose(x, PanelMut::new(columns, [cols, rows], rows));
    found.collect(Panel::new(columns, [cols, rows], rows));
}

/// Ones at the entries of a head whose gradient is wanted, zeros elsewhere.
fn mark_wanted(marks: &mut [f32], kept: Option<&Kept>, shape: Attention, head: usize, sequence: &Range) {
    let Some(kept) = kept else { return marks.fill(1.0) };
    for (marks, d) in marks.chunks_exact_mut(shape.seq_len).zip(0..) {
        let kept = kept.row(head * shape.d_head + d);
        let kept = &kept.to_slice().expect("row-major")[sequence.clone()];
        marks.iter_mut().zip(kept).for_each(|(mark, &kept)| *mark = f32::from(kept));
    }
}

/// Copies `scale · x` into a tile, rows [`TILE`] apart and zeros behind them.
fn fill_tile(tile: &mut [f32], x: Panel<'_>, scale: f32) {
    let [_, n] = x.shape();
    for (d, row) in tile.chunks_exact_mut(TILE).enumerate() {
        row[..n].iter_mut().zip(x.row(d)).for_each(|(to, x)| *to = scale * x);
        row[n..].fill(0.0);
    }
}

/// The first query of a tile that sees `key`; `before` keys come before the tile.
#[inline(always)]
fn first_query(key: usize, before: usize) -> usize {
    key.saturating_sub(before)
}

/// A number for each query of a tile. Registers that straddle two lines of the cache would be slow.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Row([f32; TILE]);

impl Deref for Row {
    type Target = [f32; TILE];

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Row {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// `Σ_d w_d x[d, q]` over the nonzeros of a key, register after register: calls `f(first query, sums)`.
#[inline(always)]
fn gather<S: Simd>(simd: S, w: (&[u32], &[f32]), x: &[f32], queries: Range, mut f: impl FnMut(usize, S::f32s)) {
    // Whole rows in registers where they fit: how many nonzeros a key has is guessed wrong once and not once a strip.
    let mut from = queries.start;
    if S::REGISTER_COUNT >= 32 {
        from = gather_blocks::<S, 16>(simd, w, x, from..queries.end, &mut f);
    }
    from = gather_blocks::<S, 8>(simd, w, x, from..queries.end, &mut f);
    gather_blocks::<S, 4>(simd, w, x, from..queries.end, &mut f);
}

/// All blocks of `N` registers; returns the first query that is left.
#[inline(always)]
fn gather_blocks<S: Simd, const N: usize>(
    simd: S,
    (places, values): (&[u32], &[f32]),
    x: &[f32],
    queries: Range,
    f: &mut impl FnMut(usize, S::f32s),
) -> usize {
    let (width, mut from) = (N * S::F32_LANES, queries.start);
    while from + width <= queries.end {
        let mut sum = [simd.splat_f32s(0.0); N];
        for (&d, &w) in places.iter().zip(values) {
            let x = &x[d as usize * TILE + from..][..width];
            let x: &[S::f32s; N] = S::as_simd_f32s(x).0.try_into().expect("N registers");
            let w = simd.splat_f32s(w);
            for i in 0..N {
                sum[i] = simd.mul_add_f32s(w, x[i], sum[i]);
            }
        }
        for (i, &sum) in sum.iter().enumerate() {
            f(from + i * S::F32_LANES, sum);
        }
        from += width;
    }
    from
}

/// The register of a row that begins at query `q`.
#[inline(always)]
fn at<S: Simd>(row: &[f32], q: usize) -> S::f32s {
    S::as_simd_f32s(&row[q..][..S::F32_LANES]).0[0]
}

#[inline(always)]
fn at_mut<S: Simd>(row: &mut [f32], q: usize) -> &mut S::f32s {
    &mut S::as_mut_simd_f32s(&mut row[q..][..S::F32_LANES]).0[0]
}

/// `x`, a register of numbers from query `q` on, with `value` where queries come before the `first` that sees a key.
#[inline(always)]
fn hide<S: Simd>(simd: S, x: S::f32s, q: usize, first: usize, value: f32) -> S::f32s {
    if q >= first {
        return x;
    }
    // Numbers below 0 at as many lanes as do not see it. (A store of single numbers would stall the next load.)
    const STEPS: [f32; 32] = {
        let mut steps = [1.0; 32];
        let mut i = 0;
        while i < 16 {
            steps[i] = -1.0;
            i += 1;
        }
        steps
    };
    let hidden = (first - q).min(S::F32_LANES);
    let hidden = simd.less_than_f32s(at::<S>(&STEPS, 16 - hidden), simd.splat_f32s(0.0));
    simd.select_f32s(hidden, simd.splat_f32s(value), x)
}

/// `x[d, q] += w_d row[q]` over the nonzeros of a key.
#[inline(always)]
fn scatter<S: Simd>(simd: S, (places, values): (&[u32], &[f32]), row: &Row, x: &mut [f32], queries: Range) {
    let row = S::as_simd_f32s(&row[queries.clone()]).0;
    for (&d, &w) in places.iter().zip(values) {
        let x = S::as_mut_simd_f32s(&mut x[d as usize * TILE..][queries.clone()]).0;
        let w = simd.splat_f32s(w);
        for (x, &p) in x.iter_mut().zip(row) {
            *x = simd.mul_add_f32s(w, p, *x);
        }
    }
}

/// Forward of a tile of `n` queries: `q` scaled.
struct Forward<'a> {
    before: usize,
    n: usize,
    k: Rows<'a>,
    v: Rows<'a>,
    sink: Option<f32>,
    q: &'a [f32],
    max: &'a mut Row,
    sum: &'a mut Row,
    y: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { before, n, k, v, sink, q, max, sum, y } = self;
        let end = n.next_multiple_of(STRIP);
        for key in 0..before + n {
            let first = first_query(key, before);
            gather(
                simd,
                k.row(key),
                q,
                first / STRIP * STRIP..end,
                #[inline(always)]
                |query, score| {
                    let max = at_mut::<S>(&mut max[..], query);
                    *max = simd.max_f32s(*max, hide(simd, score, query, first, f32::NEG_INFINITY));
                },
            );
        }
        if let Some(sink) = sink {
            for query in (0..end).step_by(S::F32_LANES) {
                let score = simd.sub_f32s(simd.splat_f32s(sink), at::<S>(&max[..], query));
                *at_mut::<S>(&mut sum[..], query) = math::exp_register(simd, score);
            }
        }
        let mut p = Row([0.0; TILE]);
        for key in 0..before + n {
            let first = first_query(key, before);
            let queries = first / STRIP * STRIP..end;
            gather(
                simd,
                k.row(key),
                q,
                queries.clone(),
                #[inline(always)]
                |query, score| {
                    let weight = math::exp_register(simd, simd.sub_f32s(score, at::<S>(&max[..], query)));
                    let weight = hide(simd, weight, query, first, 0.0);
                    let sum = at_mut::<S>(&mut sum[..], query);
                    *sum = simd.add_f32s(*sum, weight);
                    *at_mut::<S>(&mut p[..], query) = weight;
                },
            );
            scatter(simd, v.row(key), &p, y, queries);
        }
    }
}

/// Backward of a tile of `n` queries: `q` scaled, `dq` not; `inner` is D.
struct Backward<'a> {
    before: usize,
    n: usize,
    k: Rows<'a>,
    v: Rows<'a>,
    q: &'a [f32],
    dy: &'a [f32],
    log_sum: &'a Row,
    inner: &'a Row,
    dq: &'a mut [f32],
    dk_wanted: Rows<'a>,
    dv_wanted: Rows<'a>,
    dk: PanelMut<'a>,
    dv: PanelMut<'a>,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let end = self.n.next_multiple_of(STRIP);
        let (mut p, mut ds) = (Row([0.0; TILE]), Row([0.0; TILE]));
        for key in 0..self.before + self.n {
            let first = first_query(key, self.before);
            let queries = first / STRIP * STRIP..end;
            gather(
                simd,
                self.k.row(key),
                self.q,
                queries.clone(),
                #[inline(always)]
                |query, score| {
                    let weight = math::exp_register(simd, simd.sub_f32s(score, at::<S>(&self.log_sum[..], query)));
                    *at_mut::<S>(&mut p[..], query) = hide(simd, weight, query, first, 0.0);
                },
            );
            gather(
                simd,
                self.v.row(key),
                self.dy,
                queries.clone(),
                #[inline(always)]
                |query, dp| {
                    let slope = simd.sub_f32s(dp, at::<S>(&self.inner[..], query));
                    *at_mut::<S>(&mut ds[..], query) = simd.mul_f32s(at::<S>(&p[..], query), slope);
                },
            );
            scatter(simd, self.k.row(key), &ds, self.dq, queries.clone());
            let from = queries.start;
            add_dots(simd, self.dk_wanted.row(key).0, &ds[queries.clone()], &self.q[from..], &mut self.dk, key);
            add_dots(simd, self.dv_wanted.row(key).0, &p[queries], &self.dy[from..], &mut self.dv, key);
        }
    }
}

/// `out[d, key] += Σ_q x[d, q] s[q]` at the channels d that are wanted, rows of x [`TILE`] apart.
#[inline(always)]
fn add_dots<S: Simd>(simd: S, wanted: &[u32], s: &[f32], x: &[f32], out: &mut PanelMut<'_>, key: usize) {
    let (fours, rest) = pulp::as_arrays::<4, u32>(wanted);
    for places in fours {
        let [a, b, c, d] = *places;
        let rows = [
            &x[a as usize * TILE..][..s.len()],
            &x[b as usize * TILE..][..s.len()],
            &x[c as usize * TILE..][..s.len()],
            &x[d as usize * TILE..][..s.len()],
        ];
        let sums = dots(simd, s, rows);
        for i in 0..4 {
            out.row_mut(places[i] as usize)[key] += sums[i];
        }
    }
    for &d in rest {
        out.row_mut(d as usize)[key] += dots(simd, s, [&x[d as usize * TILE..][..s.len()]])[0];
    }
}

#[cfg(test)]
mod tests;
