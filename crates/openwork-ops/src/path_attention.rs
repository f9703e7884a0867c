//! Attention of queries that each see the keys of a path: columns that several sequences share are computed once.
//!
//! The formula is that of [`attention`](crate::attention); the keys of an output are a list of columns in place of all
//! columns before it. Sequences with a common beginning form a tree, and the keys of a token are the columns on the way from
//! the root to it. Eight heads lie side by side in a register, so that a score is no sum across lanes.
//!
//! Floor per output, key and eight heads: forward `2 d_head` multiply-adds and an exponential, backward `5 d_head` and an
//! exponential.

use crate::{Cpu, Matrix, Weight, math, row, row_mut, simd};

/// Heads side by side.
const LANES: usize = 8;

/// Query and keys of every output of an attention over paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// Column of the query of every output.
    queries: Vec<u32>,
    /// Columns of keys and values, output after output.
    keys: Vec<u32>,
    /// End of every output's keys.
    ends: Vec<usize>,
}

impl Paths {
    /// Adds an output: the column of its query, and those of the keys that it sees.
    ///
    /// # Panics
    /// When a column has more than 32 bits.
    pub fn push(&mut self, query: usize, keys: impl IntoIterator<Item = usize>) {
        let column = |c: usize| u32::try_from(c).expect("columns are counted in 32 bits");
        self.queries.push(column(query));
        self.keys.extend(keys.into_iter().map(column));
        self.ends.push(self.keys.len());
    }

    /// Number of outputs.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// True if there is no output.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// Query column and key columns of every output.
    fn iter(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let keys = starts.zip(&self.ends).map(|(start, &end)| &self.keys[start..end]);
        self.queries.iter().map(|&q| q as usize).zip(keys)
    }
}

/// Heads of an attention over paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Number of heads.
    pub n_head: usize,
    /// Channels of a head.
    pub d_head: usize,
}

impl Heads {
    /// Numbers of a column whose heads lie in groups of eight: `[group][channel][head of the group]`.
    fn column(self) -> usize {
        self.n_head.div_ceil(LANES) * self.d_head * LANES
    }

    /// Place of row `r` of `[n_head · d_head, columns]` in a column.
    fn place(self, r: usize) -> usize {
        let (head, channel) = (r / self.d_head, r % self.d_head);
        ((head / LANES) * self.d_head + channel) * LANES + head % LANES
    }

    fn scale(self) -> f32 {
        1.0 / (self.d_head as f32).sqrt()
    }

    /// Columns with heads side by side, times `factor`; heads that fill the last group up are zero.
    fn gathered(self, x: &Matrix, factor: f32, cpu: &mut Cpu) -> Vec<f32> {
        let stride = self.column();
        let mut columns = cpu.vector(stride * x.ncols());
        if !self.n_head.is_multiple_of(LANES) {
            columns.fill(0.0);
        }
        for r in 0..x.nrows() {
            let place = self.place(r);
            columns.chunks_exact_mut(stride).zip(row(x, r)).for_each(|(column, x)| column[place] = factor * x);
        }
        columns
    }

    /// The inverse of [`Heads::gathered`].
    fn scattered(self, columns: &[f32], factor: f32, x: &mut Matrix) {
        let stride = self.column();
        for r in 0..x.nrows() {
            let place = self.place(r);
            row_mut(x, r).iter_mut().zip(columns.chunks_exact(stride)).for_each(|(x, c)| *x = factor * c[place]);
        }
    }

    /// Logits of the sinks, by group; −∞ without one.
    fn sinks(self, sink: Option<&Weight>) -> Vec<[f32; LANES]> {
        let of = |head: usize| sink.filter(|_| head < self.n_head).map_or(f32::NEG_INFINITY, |s| s.dense()[[head, 0]]);
        (0..self.n_head.div_ceil(LANES)).map(|group| std::array::from_fn(|lane| of(group * LANES + lane))).collect()
    }

    #[track_caller]
    fn check(self, q: &Matrix, k: &Matrix, v: &Matrix) {
        let rows = self.n_head * self.d_head;
        assert!(
            [q, k, v].iter().all(|x| x.nrows() == rows) && k.dim() == v.dim(),
            "path_attention: {} heads of {} channels, but q is {:?}, k {:?} and v {:?}",
            self.n_head,
            self.d_head,
            q.dim(),
            k.dim(),
            v.dim()
        );
    }
}

/// Forward: `y_o = Σ_j p_oj v_j` over the keys j of output o, `p_oj = exp(s_oj) / (Σ_i exp(s_oi) + exp(sink))`,
/// `s_oj = q_o·k_j / √d_head` (Gao et al. 2025, A.1).
///
/// `q [n_head · d_head, queries]`, `k, v [n_head · d_head, keys]`, `sink [n_head, 1]`, `y [n_head · d_head, outputs]`
/// overwritten. Returns the log of the denominator for [`path_attention_backward`], eight heads to a group. A score that is not finite makes the output of
/// its head NaN.
///
/// # Panics
/// When shapes differ or a column is out of range.
#[track_caller]
pub fn path_attention(
    heads: Heads,
    paths: &Paths,
    [q, k, v]: [&Matrix; 3],
    sink: Option<&Weight>,
    y: &mut Matrix,
    cpu: &mut Cpu,
) -> Matrix {
    heads.check(q, k, v);
    assert!(y.dim() == (q.nrows(), paths.len()), "path_attention: y is {:?} for {} outputs", y.dim(), paths.len());
    let (stride, group) = (heads.column(), heads.d_head * LANES);
    let [q, k, v] = [(q, heads.scale()), (k, 1.0), (v, 1.0)].map(|(x, factor)| heads.gathered(x, factor, cpu));
    let mut out = cpu.vector(stride * paths.len());
    let sinks = heads.sinks(sink);
    let mut log_sums = cpu.matrix((paths.len(), sinks.len() * LANES));
    let mut scores: Vec<[f32; LANES]> = vec![];
    for ((o, (query, keys)), out) in paths.iter().enumerate().zip(out.chunks_exact_mut(stride)) {
        for (g, sink) in sinks.iter().enumerate() {
            let at = |x: usize| x * stride + g * group..x * stride + (g + 1) * group;
            let keys = keys.iter().map(|&j| (&k[at(j as usize)], &v[at(j as usize)]));
            let out = out[g * group..(g + 1) * group].as_chunks_mut::<LANES>().0;
            let log_sum = &mut row_mut(&mut log_sums, o)[g * LANES..(g + 1) * LANES];
            simd(
                #[inline(always)]
                || forward(&q[at(query)], keys, sink, &mut scores, out, log_sum),
            );
        }
    }
    heads.scattered(&out, 1.0, y);
    [q, k, v, out].into_iter().for_each(|x| cpu.recycle_vector(x));
    log_sums
}

/// One output and group of heads.
#[inline(always)]
fn forward<'x>(
    q: &[f32],
    keys: impl Iterator<Item = (&'x [f32], &'x [f32])> + Clone,
    sink: &[f32; LANES],
    scores: &mut Vec<[f32; LANES]>,
    out: &mut [[f32; LANES]],
    log_sum: &mut [f32],
) {
    scores.clear();
    let (mut max, mut not_finite) = (*sink, [0.0_f32; LANES]);
    for (k, _) in keys.clone() {
        let score = products(q, k);
        for l in 0..LANES {
            max[l] = max[l].max(score[l]);
            not_finite[l] += score[l] * 0.0;
        }
        scores.push(score);
    }
    let mut sum: [f32; LANES] =
        std::array::from_fn(|l| if sink[l] > f32::NEG_INFINITY { math::exp(sink[l] - max[l]) } else { 0.0 });
    out.fill([0.0; LANES]);
    for (score, (_, v)) in scores.iter().zip(keys) {
        let p: [f32; LANES] = std::array::from_fn(|l| math::exp(score[l] - max[l]));
        for l in 0..LANES {
            sum[l] += p[l];
        }
        add(out, &p, v);
    }
    for out in out {
        for l in 0..LANES {
            out[l] = out[l] / sum[l] + not_finite[l];
        }
    }
    for l in 0..LANES {
        log_sum[l] = max[l] + sum[l].ln() + not_finite[l];
    }
}

/// `Σ_d a_d b_d` of every head of a group.
#[inline(always)]
fn products(a: &[f32], b: &[f32]) -> [f32; LANES] {
    let mut sum = [0.0_f32; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for l in 0..LANES {
            sum[l] = a[l].mul_add(b[l], sum[l]);
        }
    }
    sum
}

/// `to_d += p x_d` of every head of a group.
#[inline(always)]
fn add(to: &mut [[f32; LANES]], p: &[f32; LANES], x: &[f32]) {
    for (to, x) in to.iter_mut().zip(x.as_chunks::<LANES>().0) {
        for l in 0..LANES {
            to[l] = p[l].mul_add(x[l], to[l]);
        }
    }
}

/// Backward of [`path_attention`]: gradients `[dq, dk, dv]` of `q, k, v`, summed over the outputs that use a column, in the
/// order of the outputs.
///
/// `y` and `log_sums` are what forward gave, `dy [n_head · d_head, outputs]`. With `D = dy·y`, `dp_j = dy·v_j`:
/// `ds_j = p_j (dp_j − D)`, `dq += ds_j k_j / √d_head`, `dk_j += ds_j q / √d_head`, `dv_j += p_j dy`.
///
/// # Panics
/// When shapes differ or a column is out of range.
#[track_caller]
pub fn path_attention_backward(
    heads: Heads,
    paths: &Paths,
    [q, k, v]: [&Matrix; 3],
    (y, log_sums): (&Matrix, &Matrix),
    dy: &Matrix,
    cpu: &mut Cpu,
) -> [Matrix; 3] {
    heads.check(q, k, v);
    let (stride, group) = (heads.column(), heads.d_head * LANES);
    let mut gradients = [q, k, v].map(|x| cpu.matrix(x.dim()));
    let sources = [(q, heads.scale()), (k, 1.0), (v, 1.0), (y, 1.0), (dy, 1.0)];
    let [q, k, v, y, dy] = sources.map(|(x, factor)| heads.gathered(x, factor, cpu));
    let [mut dq, mut dk, mut dv] = [q.len(), k.len(), v.len()].map(|len| {
        let mut zeros = cpu.vector(len);
        zeros.fill(0.0);
        zeros
    });
    for (o, (query, keys)) in paths.iter().enumerate() {
        for g in 0..stride / group {
            let at = |x: usize| x * stride + g * group..x * stride + (g + 1) * group;
            let log_sum = &row(log_sums, o)[g * LANES..(g + 1) * LANES];
            simd(
                #[inline(always)]
                || {
                    let (q, dy) = (&q[at(query)], &dy[at(o)]);
                    let inner = products(dy, &y[at(o)]);
                    let dq = dq[at(query)].as_chunks_mut::<LANES>().0;
                    for &key in keys {
                        let at = at(key as usize);
                        let (k, v) = (&k[at.clone()], &v[at.clone()]);
                        let (score, dp) = (products(q, k), products(dy, v));
                        let p: [f32; LANES] = std::array::from_fn(|l| math::exp(score[l] - log_sum[l]));
                        let ds: [f32; LANES] = std::array::from_fn(|l| p[l] * (dp[l] - inner[l]));
                        add(dq, &ds, k);
                        add(dk[at.clone()].as_chunks_mut::<LANES>().0, &ds, q);
                        add(dv[at].as_chunks_mut::<LANES>().0, &p, dy);
                    }
                },
            );
        }
    }
    let factors = [heads.scale(), 1.0, 1.0];
    for ((to, from), factor) in gradients.iter_mut().zip([&dq, &dk, &dv]).zip(factors) {
        heads.scattered(from, factor, to);
    }
    [q, k, v, y, dy, dq, dk, dv].into_iter().for_each(|x| cpu.recycle_vector(x));
    gradients
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Attention, attention, attention_backward,
        check::{close, gradient, random},
        reference,
    };

    /// The paths of whole sequences.
    fn sequences(seq_len: usize, sequences: usize) -> Paths {
        let mut paths = Paths::default();
        (0..seq_len * sequences).for_each(|t| paths.push(t, t / seq_len * seq_len..=t));
        paths
    }

    #[test]
    fn whole_sequences_are_causal_attention_with_its_gradients() {
        for (n_head, d_head, seq_len, count, with_sink) in
            [(1, 1, 1, 1, false), (2, 3, 5, 2, true), (8, 4, 9, 2, true), (9, 2, 20, 1, false), (16, 2, 7, 1, true)]
        {
            let (heads, dim) = (Heads { n_head, d_head }, (n_head * d_head, seq_len * count));
            let [q, k, v, dy] = [0, 1, 2, 9].map(|seed| random(dim.0, dim.1, seed) * 3.0);
            let sink = with_sink.then(|| Weight::new(random(n_head, 1, 5)));
            let (paths, mut y, mut cpu) = (sequences(seq_len, count), Matrix::ones(dim), Cpu::default());
            let log_sums = path_attention(heads, &paths, [&q, &k, &v], sink.as_ref(), &mut y, &mut cpu);
            let shape = Attention { n_head, d_head, seq_len };
            let exact = [&q, &k, &v].map(|x| x.mapv(f64::from));
            let sink_exact = sink.as_ref().map(|s| s.dense().mapv(f64::from));
            let plain = |q: &_, k: &_, v: &_| reference::attention(shape, q, k, v, sink_exact.as_ref());
            close(&y, &plain(&exact[0], &exact[1], &exact[2]), (3 * d_head + 8) as f64);
            let [dq, dk, dv] = path_attention_backward(heads, &paths, [&q, &k, &v], (&y, &log_sums), &dy, &mut cpu);
            gradient(&dq, &exact[0], &dy, |q| plain(q, &exact[1], &exact[2]));
            gradient(&dk, &exact[1], &dy, |k| plain(&exact[0], k, &exact[2]));
            gradient(&dv, &exact[2], &dy, |v| plain(&exact[0], &exact[1], v));
        }
    }

    #[test]
    fn a_shared_beginning_gets_the_sum_of_what_its_copies_get() {
        // Sequences 0 1 2 and 0 1 3: columns 0 and 1 are shared, and only the last tokens and token 1 are read out.
        let (heads, mut paths) = (Heads { n_head: 2, d_head: 3 }, Paths::default());
        paths.push(0, [0, 1]);
        paths.push(1, [0, 1, 2]);
        paths.push(2, [0, 1, 3]);
        let [q, k, v] = [(3, 1), (4, 2), (4, 3)].map(|(columns, seed)| random(6, columns, seed));
        let dy = random(6, 3, 4);
        let (mut y, mut cpu) = (Matrix::zeros((6, 3)), Cpu::default());
        let log_sums = path_attention(heads, &paths, [&q, &k, &v], None, &mut y, &mut cpu);
        let [dq, dk, dv] = path_attention_backward(heads, &paths, [&q, &k, &v], (&y, &log_sums), &dy, &mut cpu);

        let apart = |x: &Matrix, columns: [usize; 6]| Matrix::from_shape_fn((6, 6), |(r, c)| x[[r, columns[c]]]);
        let (wide_q, copies) = (apart(&q, [0, 0, 1, 0, 0, 2]), [0, 1, 2, 0, 1, 3]);
        let (wide_k, wide_v) = (apart(&k, copies), apart(&v, copies));
        let shape = Attention { n_head: 2, d_head: 3, seq_len: 3 };
        let mut wide_y = Matrix::zeros((6, 6));
        let wide_log = attention(shape, &wide_q, &wide_k, &wide_v, None, &mut wide_y, &mut cpu);
        let mut wide_dy = Matrix::zeros((6, 6));
        for (o, column) in [(0, 1), (1, 2), (2, 5)] {
            wide_dy.column_mut(column).assign(&dy.column(o));
            // Sums of three terms in another order.
            assert!((&wide_y.column(column) - &y.column(o)).iter().all(|d| d.abs() < 1e-5));
        }
        let [mut a, mut b, mut c] = [(); 3].map(|()| Matrix::zeros((6, 6)));
        let gradients = (&mut a, &mut b, &mut c);
        let of = (&wide_q, &wide_k, &wide_v);
        attention_backward(shape, of, None, &wide_y, &wide_log, &wide_dy, gradients, None, [None, None], &mut cpu);
        let summed = |x: &Matrix, map: [usize; 6], columns: usize| {
            let mut sum = Matrix::zeros((6, columns));
            map.iter().enumerate().for_each(|(from, &to)| {
                let column = x.column(from).to_owned();
                let mut to = sum.column_mut(to);
                to += &column;
            });
            sum
        };
        let expected = [summed(&a, [0, 0, 1, 0, 0, 2], 3), summed(&b, copies, 4), summed(&c, copies, 4)];
        for (found, expected) in [dq, dk, dv].iter().zip(&expected) {
            assert!((found - expected).iter().all(|d| d.abs() < 1e-5), "{found} {expected}");
        }
    }

    #[test]
    fn a_score_that_is_not_finite_makes_its_head_nan_and_no_other() {
        let (heads, paths) = (Heads { n_head: 2, d_head: 3 }, sequences(4, 1));
        let [q, mut k, v] = [1, 2, 3].map(|seed| random(6, 4, seed));
        k[[4, 2]] = f32::INFINITY;
        let mut y = Matrix::zeros((6, 4));
        path_attention(heads, &paths, [&q, &k, &v], None, &mut y, &mut Cpu::default());
        for (r, row) in y.rows().into_iter().enumerate() {
            row.iter().enumerate().for_each(|(t, y)| assert_eq!(y.is_nan(), r >= 3 && t >= 2, "{r} {t} {y}"));
        }
    }
}
