//! Activations in bf16, two to a word, and the products that read them: half the memory traffic of f32.

use pulp::{Simd, WithSimd};

use crate::{
    Panel, PanelMut, Pattern, Rows, Start,
    product::{DotRows, Sddmm, check_positions, check_start, start_of},
    simd::{PARTS, dispatch, fold, load_words, store},
};

/// A matrix `[rows, cols]` of bf16 numbers: f32 rounded to their upper 16 bits, to nearest, ties to even.
///
/// With `h = ⌈cols / 2⌉`, word `i` of a row holds column `i` in its lower half and column `h + i` in its upper one
/// (0 where there is none): a shift and a mask turn a register of words into two of neighbouring columns, without
/// a shuffle, whatever the width of a register.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    words: Vec<u32>,
    rows: usize,
    cols: usize,
}

impl Packed {
    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Memory it takes.
    pub fn bytes(&self) -> usize {
        4 * self.words.capacity()
    }

    /// Takes the values of `x`, rounded; memory is used again.
    ///
    /// # Panics
    /// When rows of `x` are not contiguous.
    pub fn pack<'a>(&mut self, x: impl Into<Panel<'a>>) {
        let x = x.into();
        [self.rows, self.cols] = x.shape();
        let h = self.words_per_row();
        self.words.resize(self.rows * h, 0);
        dispatch(
            #[inline(always)]
            || {
                for (r, words) in self.words.chunks_exact_mut(h.max(1)).enumerate() {
                    let (low, high) = x.row(r).split_at(h);
                    for ((word, &low), &high) in words.iter_mut().zip(low).zip(high) {
                        *word = round(low) >> 16 | round(high) & HIGH;
                    }
                    if let (Some(word), true) = (words.last_mut(), low.len() > high.len()) {
                        *word = round(low[h - 1]) >> 16;
                    }
                }
            },
        );
    }

    /// Writes the values to `y`.
    ///
    /// # Panics
    /// When the shapes differ.
    #[track_caller]
    pub fn unpack<'a>(&self, y: impl Into<PanelMut<'a>>) {
        let mut y = y.into();
        assert!(y.shape() == self.shape(), "unpack: {:?} into {:?}", self.shape(), y.shape());
        let h = self.words_per_row();
        dispatch(
            #[inline(always)]
            || {
                for r in 0..self.rows {
                    let (low, high) = y.row_mut(r).split_at_mut(h);
                    let words = self.row(r);
                    low.iter_mut().zip(words).for_each(|(y, word)| *y = f32::from_bits(word << 16));
                    high.iter_mut().zip(words).for_each(|(y, word)| *y = f32::from_bits(word & HIGH));
                }
            },
        );
    }

    fn words_per_row(&self) -> usize {
        self.cols.div_ceil(2)
    }

    #[inline(always)]
    fn row(&self, r: usize) -> &[u32] {
        let h = self.words_per_row();
        &self.words[r * h..][..h]
    }
}

/// The half of a word that is the beginning of an f32 as it stands.
const HIGH: u32 = 0xffff_0000;

/// The bits of `x` rounded to bf16; the lower 16 are to be dropped. NaN stays NaN.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    if x.is_nan() { bits | 0x0040_0000 } else { rounded }
}

/// The columns in the lower and in the upper halves of a register of words.
#[inline(always)]
fn halves<S: Simd>(simd: S, words: S::u32s) -> [S::f32s; 2] {
    let low = simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(16));
    let high = simd.and_u32s(words, simd.splat_u32s(HIGH));
    [simd.transmute_f32s_u32s(low), simd.transmute_f32s_u32s(high)]
}

/// [`spmm`](crate::spmm) with X in bf16: the same bits as with the unpacked X.
///
/// Floor: a load and two operations for two multiply-adds, where f32 takes two loads: two thirds of the time
/// where loads of X from the second cache bound it.
///
/// # Panics
/// When the shapes do not fit.
#[track_caller]
pub fn spmm_packed<'a>(w: impl Into<Rows<'a>>, start: Start<'_>, x: &Packed, y: impl Into<PanelMut<'a>>) {
    let (w, y) = (w.into(), y.into());
    assert!(
        x.rows == w.cols && y.shape() == [w.len(), x.cols],
        "spmm_packed: W is [{}, {}] but x is {:?} and y is {:?}",
        w.len(),
        w.cols,
        x.shape(),
        y.shape()
    );
    check_start("spmm_packed", start, w.len());
    dispatch(SpmmPacked { w, start, x, y });
}

struct SpmmPacked<'s, 'x> {
    w: Rows<'x>,
    start: Start<'s>,
    x: &'s Packed,
    y: PanelMut<'x>,
}

impl WithSimd for SpmmPacked<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut at = 0;
        if S::REGISTER_COUNT >= 32 {
            at = self.blocks::<S, 8>(simd, at);
        }
        at = self.blocks::<S, 4>(simd, at);
        at = self.blocks::<S, 1>(simd, at);
        self.tail(simd, at);
    }
}

impl SpmmPacked<'_, '_> {
    /// All blocks of `N` registers of words from `from` on whose halves are both columns; returns the first word
    /// that is left.
    #[inline(always)]
    fn blocks<S: Simd, const N: usize>(&mut self, simd: S, mut from: usize) -> usize {
        let (h, width) = (self.x.words_per_row(), N * S::F32_LANES);
        while from + width <= self.x.cols - h {
            for r in 0..self.w.len() {
                let (low, high) = self.y.row_mut(r).split_at_mut(h);
                let low: &mut [S::f32s; N] =
                    S::as_mut_simd_f32s(&mut low[from..][..width]).0.try_into().expect("N registers");
                let high: &mut [S::f32s; N] =
                    S::as_mut_simd_f32s(&mut high[from..][..width]).0.try_into().expect("N registers");
                let mut sum = match self.start {
                    Start::Zero => [[simd.splat_f32s(0.0); N]; 2],
                    Start::Bias(bias) => [[simd.splat_f32s(bias[r]); N]; 2],
                    Start::Add => [*low, *high],
                };
                let (cols, values) = self.w.row(r);
                for (&c, &w) in cols.iter().zip(values) {
                    let words = &self.x.words[c as usize * h + from..][..width];
                    let words: &[S::u32s; N] = S::as_simd_u32s(words).0.try_into().expect("N registers");
                    let w = simd.splat_f32s(w);
                    for i in 0..N {
                        let x = halves(simd, words[i]);
                        sum[0][i] = simd.mul_add_f32s(w, x[0], sum[0][i]);
                        sum[1][i] = simd.mul_add_f32s(w, x[1], sum[1][i]);
                    }
                }
                [*low, *high] = sum;
            }
            from += width;
        }
        from
    }

    /// The words from `from` on, of which a register holds all, and the last of which may be half empty.
    #[inline(always)]
    fn tail<S: Simd>(&mut self, simd: S, from: usize) {
        let h = self.x.words_per_row();
        if from == h {
            return;
        }
        for r in 0..self.w.len() {
            let (low, high) = self.y.row_mut(r).split_at_mut(h);
            let (low, high) = (&mut low[from..], &mut high[from..]);
            let mut sum = [start_of(simd, self.start, r, low), start_of(simd, self.start, r, high)];
            let (cols, values) = self.w.row(r);
            for (&c, &w) in cols.iter().zip(values) {
                let words = load_words(simd, &self.x.row(c as usize)[from..]);
                let w = simd.splat_f32s(w);
                let [low, high] = halves(simd, words);
                sum = [simd.mul_add_f32s(w, low, sum[0]), simd.mul_add_f32s(w, high, sum[1])];
            }
            store(simd, low, sum[0]);
            store(simd, high, sum[1]);
        }
    }
}

/// [`sddmm`](crate::sddmm) with both factors in bf16: `dw[i] += Σ_t dy[r, t] · x[c, t]`.
///
/// The sums are in f32 and of the kind of [`dots`](crate::simd::dots), but in an order of their own: 64 chains, of
/// which 32 go over each half of the columns.
///
/// # Panics
/// When the shapes do not fit.
#[track_caller]
pub fn sddmm_packed(pattern: &Pattern, dy: &Packed, x: &Packed, dw: &mut [f32]) {
    check_positions("sddmm_packed", pattern, dy.shape(), x.shape(), dw);
    dispatch(Sddmm { pattern, dy, x, dw });
}

impl DotRows for &Packed {
    type Item = u32;

    #[inline(always)]
    fn row_of(&self, r: usize) -> &[u32] {
        self.row(r)
    }

    #[inline(always)]
    fn dots<S: Simd, const M: usize>(simd: S, a: &[u32], b: [&[u32]; M]) -> [f32; M] {
        match S::F32_LANES {
            16 => dots_in::<S, M, 2, 4>(simd, a, b),
            8 => dots_in::<S, M, 4, 8>(simd, a, b),
            4 => dots_in::<S, M, 8, 16>(simd, a, b),
            1 => dots_in::<S, M, 32, PARTS>(simd, a, b),
            lanes => unreachable!("no instruction set has {lanes} lanes"),
        }
    }
}

/// Dot products with the words of a step in `N` registers and its chains in `C = 2 N`.
#[allow(clippy::needless_range_loop, reason = "registers of several arrays go by the same number")]
#[inline(always)]
fn dots_in<S: Simd, const M: usize, const N: usize, const C: usize>(simd: S, a: &[u32], b: [&[u32]; M]) -> [f32; M] {
    const STEP: usize = PARTS / 2;
    let (lanes, n) = (S::F32_LANES, a.len());
    let mut sum = [[simd.splat_f32s(0.0); C]; M];
    let whole = n / STEP * STEP;
    for from in (0..whole).step_by(STEP) {
        let a: &[S::u32s; N] = S::as_simd_u32s(&a[from..][..STEP]).0.try_into().expect("N registers");
        for i in 0..N {
            let a = halves(simd, a[i]);
            for m in 0..M {
                let b: &[S::u32s; N] = S::as_simd_u32s(&b[m][from..][..STEP]).0.try_into().expect("N registers");
                let b = halves(simd, b[i]);
                sum[m][i] = simd.mul_add_f32s(a[0], b[0], sum[m][i]);
                sum[m][N + i] = simd.mul_add_f32s(a[1], b[1], sum[m][N + i]);
            }
        }
    }
    for (i, from) in (whole..n).step_by(lanes).enumerate() {
        let to = n.min(from + lanes);
        let a = halves(simd, load_words(simd, &a[from..to]));
        for m in 0..M {
            let b = halves(simd, load_words(simd, &b[m][from..to]));
            sum[m][i] = simd.mul_add_f32s(a[0], b[0], sum[m][i]);
            sum[m][N + i] = simd.mul_add_f32s(a[1], b[1], sum[m][N + i]);
        }
    }
    let mut out = [0.0; M];
    for m in 0..M {
        out[m] = fold(simd, sum[m]);
    }
    out
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::{Csr, InstructionSet, spmm};

    fn random(rows: usize, cols: usize, density: f64, seed: u64) -> Array2<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let value = |rng: &mut rand_chacha::ChaCha8Rng| rng.random_range(-1.0..1.0);
        Array2::from_shape_simple_fn((rows, cols), || if rng.random_bool(density) { value(&mut rng) } else { 0.0 })
    }

    fn packed(x: &Array2<f32>) -> (Packed, Array2<f32>) {
        let (mut packed, mut rounded) = (Packed::default(), Array2::ones(x.dim()));
        packed.pack(x);
        packed.unpack(&mut rounded);
        (packed, rounded)
    }

    /// Odd, even and no columns; less and more than a block of every instruction set.
    const COLUMNS: [usize; 9] = [0, 1, 2, 7, 33, 64, 130, 255, 520];

    #[test]
    fn numbers_are_rounded_to_nearest_even() {
        let x = [1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -3.0e38, 1e-40, f32::INFINITY, -0.0, 0.3, f32::MAX];
        let expected = [1.0, 1.0, 1.0 + 4.0 / 256.0, -3.0e38, 1e-40, f32::INFINITY, -0.0, 0.3, f32::INFINITY];
        let (_, rounded) = packed(&Array2::from_shape_vec((1, 9), x.to_vec()).unwrap());
        for ((x, e), r) in x.iter().zip(expected).zip(&rounded) {
            // Half a unit in the last of 8 places, or of the smallest number there is.
            assert!(
                r.to_bits() & 0xffff == 0 && (*r == e || (r - e).abs() <= e.abs() / 256.0 + f32::from_bits(1 << 15)),
                "{x} became {r}"
            );
        }
        assert_eq!(rounded.as_slice().unwrap()[..3], expected[..3]);
        assert!(packed(&Array2::from_elem((1, 3), f32::NAN)).1.iter().all(|x| x.is_nan()));
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let x = Array2::from_shape_simple_fn((5, 77), || f32::from_bits(rng.random::<u32>() & 0xbfff_ffff));
        for (x, r) in x.iter().zip(&packed(&x).1) {
            let (down, up) = (f32::from_bits(x.to_bits() & HIGH), f32::from_bits((x.to_bits() | 0xffff) + 1));
            let nearest = if (f64::from(*x) - f64::from(down)).abs() <= (f64::from(up) - f64::from(*x)).abs() {
                down
            } else {
                up
            };
            assert_eq!(*r, nearest);
        }
    }

    #[test]
    fn products_are_those_of_the_rounded_numbers() {
        for n in COLUMNS {
            for density in [0.0, 1.0 / 64.0, 0.25, 1.0] {
                let w = Csr::from_dense(random(13, 21, density, 1).view());
                let ((x, x_rounded), (dy, dy_rounded)) =
                    (packed(&random(21, n, 1.0, 2)), packed(&random(13, n, 1.0, 3)));
                let bias = vec![0.25; 13];
                for start in [Start::Zero, Start::Bias(&bias), Start::Add] {
                    let before = random(13, n, 1.0, 4);
                    let mut expected = before.clone();
                    spmm(&w, start, &x_rounded, &mut expected);
                    for set in InstructionSet::available() {
                        let mut y = before.clone();
                        set.run(SpmmPacked { w: (&w).into(), start, x: &x, y: (&mut y).into() });
                        assert_eq!(y, expected, "{n} columns at {density} with {set}");
                    }
                }
                let expected = crate::reference::sddmm(w.pattern(), dy_rounded.view(), x_rounded.view());
                let mut first = None;
                for set in InstructionSet::available() {
                    let mut dw = vec![0.5; w.pattern().nnz()];
                    set.run(Sddmm { pattern: w.pattern(), dy: &dy, x: &x, dw: &mut dw });
                    for (a, b) in dw.iter().zip(&expected) {
                        // The error of a chain of n products of numbers below 1.
                        assert!((f64::from(*a) - 0.5 - b).abs() <= f64::from(f32::EPSILON) * (n + 2) as f64);
                    }
                    let first = first.get_or_insert_with(|| dw.clone());
                    assert_eq!(*first, dw, "{set}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "spmm_packed: W is [2, 2] but x is [3, 1]")]
    fn shape_mismatch_panics() {
        let w = Csr::from_dense(ndarray::array![[1.0, 0.0], [0.0, 1.0]].view());
        spmm_packed(&w, Start::Zero, &packed(&Array2::zeros((3, 1))).0, &mut Array2::zeros((2, 1)));
    }
}
