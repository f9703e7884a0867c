//! The three products of a linear layer, single-threaded: [`spmm`] (sparse × dense), [`matmul`] (dense × dense)
//! and [`sddmm`] (dense × dense at the positions of a pattern).
//!
//! Every element that `spmm` and `matmul` write is **one chain of fused multiply-adds in the order of the
//! inner index**: `c ← fma(aᵢ, bᵢ, c)`. A zero factor leaves the chain as it is, so the sparse and the dense
//! product of the same matrices are the same bits, with every instruction set: which of them is used is a
//! question of time only. (Differs from a textbook GEMM, which sums blocks of the inner index separately.)

use pulp::{Simd, WithSimd};

use crate::{
    Panel, PanelMut, Pattern, Rows,
    simd::{dispatch, dots, load, store},
    transpose,
};

/// Start of a chain of additions.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// 0: the target is overwritten.
    Zero,
    /// One number per row of the target, which is overwritten: the bias of a layer.
    Bias(&'a [f32]),
    /// The value in the target: the product is added to it.
    Add,
}

/// `Y = start + W X`: `W [out, in]` sparse, `X [in, n]` with contiguous rows, `Y [out, n]`.
///
/// Floor: `nnz · n` multiply-adds, and as many loads of X, one per multiply-add: half of what the arithmetic
/// units could do where X sits in the first cache, about a third where it sits in the second.
/// A block of columns as wide as the accumulators (16 registers) goes through all rows before the next.
///
/// # Panics
/// When the shapes do not fit, or rows of `x` are not contiguous.
#[track_caller]
pub fn spmm<'a>(w: impl Into<Rows<'a>>, start: Start<'_>, x: impl Into<Panel<'a>>, y: impl Into<PanelMut<'a>>) {
    let (w, x, y) = (w.into(), x.into(), y.into());
    assert!(
        x.rows == w.cols && y.shape() == [w.len(), x.cols],
        "spmm: W is [{}, {}] but x is {:?} and y is {:?}",
        w.len(),
        w.cols,
        x.shape(),
        y.shape()
    );
    assert!(x.col_stride == 1, "spmm: rows of x are not contiguous");
    check_start("spmm", start, w.len());
    dispatch(Spmm { w, start, x, y });
}

struct Spmm<'s, 'x> {
    w: Rows<'x>,
    start: Start<'s>,
    x: Panel<'x>,
    y: PanelMut<'x>,
}

impl WithSimd for Spmm<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut at = 0;
        if S::REGISTER_COUNT >= 32 {
            at = self.blocks::<S, 16>(simd, at);
        }
        at = self.blocks::<S, 8>(simd, at);
        at = self.blocks::<S, 2>(simd, at);
        at = self.blocks::<S, 1>(simd, at);
        self.tail(simd, at);
    }
}

impl Spmm<'_, '_> {
    /// All blocks of `N` registers of columns from `from` on; returns the first column that is left.
    #[inline(always)]
    fn blocks<S: Simd, const N: usize>(&mut self, simd: S, mut from: usize) -> usize {
        let width = N * S::F32_LANES;
        while from + width <= self.x.cols {
            for r in 0..self.w.len() {
                let out = &mut self.y.data[r * self.y.stride + from..][..width];
                let out: &mut [S::f32s; N] = S::as_mut_simd_f32s(out).0.try_into().expect("N registers");
                let mut sum = match self.start {
                    Start::Zero => [simd.splat_f32s(0.0); N],
                    Start::Bias(bias) => [simd.splat_f32s(bias[r]); N],
                    Start::Add => *out,
                };
                let (cols, values) = self.w.row(r);
                for (&c, &w) in cols.iter().zip(values) {
                    let x = &self.x.data[c as usize * self.x.row_stride + from..][..width];
                    let x: &[S::f32s; N] = S::as_simd_f32s(x).0.try_into().expect("N registers");
                    let w = simd.splat_f32s(w);
                    for i in 0..N {
                        sum[i] = simd.mul_add_f32s(w, x[i], sum[i]);
                    }
                }
                *out = sum;
            }
            from += width;
        }
        from
    }

    /// The columns from `from` on, fewer than a register holds.
    #[inline(always)]
    fn tail<S: Simd>(&mut self, simd: S, from: usize) {
        let width = self.x.cols - from;
        if width == 0 {
            return;
        }
        for r in 0..self.w.len() {
            let out = &mut self.y.data[r * self.y.stride + from..][..width];
            let mut sum = start_of(simd, self.start, r, out);
            let (cols, values) = self.w.row(r);
            for (&c, &w) in cols.iter().zip(values) {
                let x = &self.x.data[c as usize * self.x.row_stride + from..][..width];
                sum = simd.mul_add_f32s(simd.splat_f32s(w), load(simd, x), sum);
            }
            store(simd, out, sum);
        }
    }
}

/// Starts of the chains of one partial register.
#[inline(always)]
pub(crate) fn start_of<S: Simd>(simd: S, start: Start<'_>, row: usize, out: &[f32]) -> S::f32s {
    match start {
        Start::Zero => simd.splat_f32s(0.0),
        Start::Bias(bias) => simd.splat_f32s(bias[row]),
        Start::Add => load(simd, out),
    }
}

#[track_caller]
pub(crate) fn check_start(name: &str, start: Start<'_>, rows: usize) {
    if let Start::Bias(bias) = start {
        assert_eq!(bias.len(), rows, "{name}: one bias per row");
    }
}

/// Inner indices that are multiplied before the accumulators go back to memory.
const INNER: usize = 256;
/// Rows of the largest tile.
const TILE_ROWS: usize = 8;

/// `C = start + A B`: `A [m, k]`, `B [k, n]`, `C [m, n]`, A and B row-major or column-major.
///
/// Floor: `m · n · k` multiply-adds. Tiles of 8 rows by 3 registers of C stay in registers while the inner
/// index runs (4 by 3 with sixteen registers): eleven loads for 24 multiply-adds.
///
/// # Panics
/// When the shapes do not fit.
#[track_caller]
pub fn matmul<'a>(start: Start<'_>, a: impl Into<Panel<'a>>, b: impl Into<Panel<'a>>, c: impl Into<PanelMut<'a>>) {
    let (a, b, c) = (a.into(), b.into(), c.into());
    assert!(
        a.cols == b.rows && c.shape() == [a.rows, b.cols],
        "matmul: A is {:?}, B is {:?} and C is {:?}",
        a.shape(),
        b.shape(),
        c.shape()
    );
    check_start("matmul", start, a.rows);
    if b.col_stride != 1 {
        let mut copy = vec![0.0; b.rows * b.cols];
        transpose(b.t(), PanelMut::new(&mut copy, b.shape(), b.cols));
        let b = Panel::new(&copy, b.shape(), b.cols);
        return dispatch(Matmul { start, a, b, c });
    }
    dispatch(Matmul { start, a, b, c });
}

struct Matmul<'s, 'a, 'b, 'c> {
    start: Start<'s>,
    a: Panel<'a>,
    b: Panel<'b>,
    c: PanelMut<'c>,
}

impl WithSimd for Matmul<'_, '_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let inner = self.a.cols;
        // The first pass (also where there is nothing to multiply) begins the chains, later ones continue.
        let mut first = 0;
        loop {
            let count = INNER.min(inner - first);
            let mut row = 0;
            if S::REGISTER_COUNT >= 32 {
                row = self.rows::<S, TILE_ROWS>(simd, row, first, count);
            }
            row = self.rows::<S, 4>(simd, row, first, count);
            row = self.rows::<S, 2>(simd, row, first, count);
            self.rows::<S, 1>(simd, row, first, count);
            first += count;
            if first == inner {
                return;
            }
            self.start = Start::Add;
        }
    }
}

impl Matmul<'_, '_, '_, '_> {
    /// Tiles of `M` rows from `row` on, inner indices `first..first + count`; returns the first row left.
    #[inline(always)]
    fn rows<S: Simd, const M: usize>(&mut self, simd: S, mut row: usize, first: usize, count: usize) -> usize {
        let mut packed = [0.0; INNER * TILE_ROWS];
        let n = self.b.cols;
        while row + M <= self.a.rows {
            // A tile's rows of A, side by side.
            for i in 0..M {
                let from = (row + i) * self.a.row_stride + first * self.a.col_stride;
                let source = self.a.data[from..].iter().step_by(self.a.col_stride);
                packed.iter_mut().skip(i).step_by(M).zip(source).take(count).for_each(|(to, &a)| *to = a);
            }
            let (packed, _) = pulp::as_arrays::<M, f32>(&packed[..count * M]);
            let mut col = 0;
            while col + 3 * S::F32_LANES <= n {
                self.tile::<S, M, 3>(simd, packed, [row, first, col]);
                col += 3 * S::F32_LANES;
            }
            while col + S::F32_LANES <= n {
                self.tile::<S, M, 1>(simd, packed, [row, first, col]);
                col += S::F32_LANES;
            }
            if col < n {
                self.tail::<S, M>(simd, packed, [row, first, col]);
            }
            row += M;
        }
        row
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(
        &mut self,
        simd: S,
        packed: &[[f32; M]],
        [row, first, col]: [usize; 3],
    ) {
        let width = N * S::F32_LANES;
        let mut sum = [[simd.splat_f32s(0.0); N]; M];
        for (i, sum) in sum.iter_mut().enumerate() {
            match self.start {
                Start::Zero => (),
                Start::Bias(bias) => *sum = [simd.splat_f32s(bias[row + i]); N],
                Start::Add => {
                    let c = &self.c.data[(row + i) * self.c.stride + col..][..width];
                    *sum = S::as_simd_f32s(c).0.try_into().expect("N registers");
                }
            }
        }
        let mut at = first * self.b.row_stride + col;
        for a in packed {
            let b: &[S::f32s; N] = S::as_simd_f32s(&self.b.data[at..][..width]).0.try_into().expect("N registers");
            for i in 0..M {
                let a = simd.splat_f32s(a[i]);
                for j in 0..N {
                    sum[i][j] = simd.mul_add_f32s(a, b[j], sum[i][j]);
                }
            }
            at += self.b.row_stride;
        }
        for (i, sum) in sum.iter().enumerate() {
            let c = &mut self.c.data[(row + i) * self.c.stride + col..][..width];
            let c: &mut [S::f32s; N] = S::as_mut_simd_f32s(c).0.try_into().expect("N registers");
            *c = *sum;
        }
    }

    /// The columns from `col` on, fewer than a register holds.
    #[inline(always)]
    fn tail<S: Simd, const M: usize>(&mut self, simd: S, packed: &[[f32; M]], [row, first, col]: [usize; 3]) {
        let width = self.b.cols - col;
        let mut sum = [simd.splat_f32s(0.0); M];
        for (i, sum) in sum.iter_mut().enumerate() {
            let c = &self.c.data[(row + i) * self.c.stride + col..][..width];
            *sum = start_of(simd, self.start, row + i, c);
        }
        for (k, a) in packed.iter().enumerate() {
            let b = load(simd, &self.b.data[(first + k) * self.b.row_stride + col..][..width]);
            for i in 0..M {
                sum[i] = simd.mul_add_f32s(simd.splat_f32s(a[i]), b, sum[i]);
            }
        }
        for (i, sum) in sum.iter().enumerate() {
            let c = &mut self.c.data[(row + i) * self.c.stride + col..][..width];
            store(simd, c, *sum);
        }
    }
}

/// `dw[i] += Σ_t dy[r, t] · x[c, t]` for every position `i = (r, c)` of `pattern`: `dy [rows, n]`,
/// `x [cols, n]`, rows contiguous; `dw` in the order of [`Pattern::col_idx`].
///
/// Each sum is that of [`dots`].
/// Floor: `nnz · n` multiply-adds with a load each, and a fold per position.
///
/// # Panics
/// When the shapes do not fit.
#[track_caller]
pub fn sddmm<'a>(pattern: &Pattern, dy: impl Into<Panel<'a>>, x: impl Into<Panel<'a>>, dw: &mut [f32]) {
    let (dy, x) = (dy.into(), x.into());
    assert!(dy.col_stride == 1 && x.col_stride == 1, "sddmm: rows are not contiguous");
    check_positions("sddmm", pattern, dy.shape(), x.shape(), dw);
    dispatch(Sddmm { pattern, dy, x, dw });
}

#[track_caller]
pub(crate) fn check_positions(name: &str, pattern: &Pattern, dy: [usize; 2], x: [usize; 2], dw: &[f32]) {
    assert!(
        dy[0] == pattern.rows() && x[0] == pattern.cols() && dy[1] == x[1] && dw.len() == pattern.nnz(),
        "{name}: the pattern is [{}, {}] with {} positions, dy is {dy:?}, x is {x:?} and dw has {}",
        pattern.rows(),
        pattern.cols(),
        pattern.nnz(),
        dw.len()
    );
}

/// A matrix whose rows have dot products.
pub(crate) trait DotRows: Copy {
    /// The factors of a row.
    type Item;

    fn row_of(&self, r: usize) -> &[Self::Item];

    /// The product of `a` with each of the rows `b`: the same bits with every instruction set and every M.
    fn dots<S: Simd, const M: usize>(simd: S, a: &[Self::Item], b: [&[Self::Item]; M]) -> [f32; M];
}

impl DotRows for Panel<'_> {
    type Item = f32;

    #[inline(always)]
    fn row_of(&self, r: usize) -> &[f32] {
        self.row(r)
    }

    #[inline(always)]
    fn dots<S: Simd, const M: usize>(simd: S, a: &[f32], b: [&[f32]; M]) -> [f32; M] {
        dots(simd, a, b)
    }
}

pub(crate) struct Sddmm<'b, X> {
    pub pattern: &'b Pattern,
    pub dy: X,
    pub x: X,
    pub dw: &'b mut [f32],
}

impl<X: DotRows> WithSimd for Sddmm<'_, X> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let pattern = self.pattern;
        for r in 0..pattern.rows() {
            let (dy, row) = (self.dy.row_of(r), pattern.row(r));
            let x = |c: u32| self.x.row_of(c as usize);
            // Two rows of x at a time: more are slower where x sits in the second cache.
            let (twos, rest) = pulp::as_arrays::<2, u32>(&pattern.col_idx()[row.clone()]);
            let (dw_twos, dw_rest) = pulp::as_arrays_mut::<2, f32>(&mut self.dw[row]);
            for (dw, &[a, b]) in dw_twos.iter_mut().zip(twos) {
                let sums = X::dots(simd, dy, [x(a), x(b)]);
                (0..2).for_each(|i| dw[i] += sums[i]);
            }
            for (dw, &c) in dw_rest.iter_mut().zip(rest) {
                *dw += X::dots(simd, dy, [x(c)])[0];
            }
        }
    }
}

#[cfg(test)]
mod tests;
