//! AbsTopK: keep the k entries of largest magnitude of every token.
//!
//! Source: Gao et al. 2025, §2.1 and A.1. Exactly k stay; [`Ties`] says which of equal magnitudes. That
//! matters more often than it seems: a residual stream fed by sparse embeddings has fewer than k nonzeros,
//! the rest of the k are zeros, and the gradient flows through the zeros that were kept.
//! As many tokens at a time as a register has lanes, so that every comparison is a vector operation: the k-th
//! magnitude is found by counting how many reach a guess and guessing better, on the bits of |x|, whose
//! unsigned order is the order of magnitudes.

use ndarray::Array2;
use openwork_sparse::simd::{dispatch, load, store};
use pulp::{Simd, WithSimd};

use crate::{Cpu, Matrix, row, row_mut, simd};

/// Marks of the entries that AbsTopK kept: 1 or 0, `[features, tokens]`. The gradient flows through these only,
/// also where the kept value happens to be zero.
pub type Kept = Array2<u8>;

/// Rule for entries of equal magnitude of which not all can be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// The lower feature index: simple, and the same on every device.
    #[default]
    ByIndex,
    /// The choice of `torch.topk` on a CPU, which the numbers of the original implementation contain. It is
    /// that of `std::nth_element` in libstdc++ (valid for k > features/64, below which PyTorch sorts).
    AsPyTorch,
}

/// Zeroes all but the `k` entries of largest magnitude of every column of `x [features, tokens]`.
///
/// Floor: one read and one write of every entry and its mark; each pass of the search reads the magnitudes
/// of a block of tokens (at most 16 × features) from the first or second cache, and 5 to 9 passes are usual.
///
/// # Panics
/// When rows of `x` are not contiguous.
pub fn abs_top_k(k: usize, ties: Ties, x: &mut Matrix, cpu: &mut Cpu) -> Kept {
    let (features, tokens) = x.dim();
    if k >= features {
        let mut kept = cpu.kept(x.dim());
        kept.fill(1);
        return kept;
    }
    let mut kept = cpu.kept(x.dim());
    let marks = kept.as_slice_mut().expect("row-major");
    match ties {
        Ties::ByIndex => {
            let values = x.as_slice_mut().expect("row-major");
            dispatch(Select { k, features, tokens, values, marks });
        }
        Ties::AsPyTorch => {
            marks.fill(0);
            for t in 0..tokens {
                let keep = nth_element(k, (0..features).map(|f| magnitude(row(x, f)[t])).collect());
                keep.into_iter().for_each(|f| marks[f as usize * tokens + t] = 1);
                (0..features).filter(|f| marks[f * tokens + t] == 0).for_each(|f| row_mut(x, f)[t] = 0.0);
            }
        }
    }
    kept
}

/// Bits of |x|; their order is the order of magnitudes.
#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// Most lanes of a register.
const LANES: usize = 16;

/// AbsTopK with ties by index, as many tokens at a time as a register has lanes.
struct Select<'a> {
    k: usize,
    features: usize,
    tokens: usize,
    values: &'a mut [f32],
    marks: &'a mut [u8],
}

impl WithSimd for Select<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let mut block = vec![simd.splat_u32s(0); self.features];
        let (sign_off, one, zero) = (simd.splat_u32s(0x7fff_ffff), simd.splat_u32s(1), simd.splat_u32s(0));
        // Tokens resemble their neighbours: the thresholds of one block are the first guess for the next.
        let mut guess = [0_u32; LANES];
        for t0 in (0..self.tokens).step_by(lanes) {
            let width = lanes.min(self.tokens - t0);
            for (f, magnitudes) in block.iter_mut().enumerate() {
                let x = load(simd, &self.values[f * self.tokens + t0..][..width]);
                *magnitudes = simd.and_u32s(simd.transmute_u32s_f32s(x), sign_off);
            }
            let Threshold { least, mut ties } = kth_largest(simd, &block, self.k as u32, &mut guess);
            let bound = S::as_simd_u32s(&least[..lanes]).0[0];
            let tied = ties != [0; LANES];
            for (f, &magnitudes) in block.iter().enumerate() {
                let mut keep = simd.select_u32s(simd.greater_than_or_equal_u32s(magnitudes, bound), one, zero);
                if tied {
                    // `least` is just above the tied magnitude; the first of those that have it stay.
                    let (mut lanes_kept, lane_magnitudes) = (to_lanes(simd, keep), to_lanes(simd, magnitudes));
                    for l in 0..lanes {
                        let tie = u32::from(lane_magnitudes[l] + 1 == least[l]) & u32::from(ties[l] > 0);
                        ties[l] -= tie;
                        lanes_kept[l] |= tie;
                    }
                    keep = S::as_simd_u32s(&lanes_kept[..lanes]).0[0];
                }
                let at = f * self.tokens + t0;
                let x = load(simd, &self.values[at..][..width]);
                // 0 − 1 is all ones: what stays passes, the rest becomes +0.
                let mask = simd.sub_u32s(zero, keep);
                let x = simd.transmute_f32s_u32s(simd.and_u32s(simd.transmute_u32s_f32s(x), mask));
                store(simd, &mut self.values[at..][..width], x);
                let lanes_kept = to_lanes(simd, keep);
                let marks = &mut self.marks[at..][..width];
                // All at once where a register has as many lanes: bytes one by one take longer than the search.
                match <&mut [u8; LANES]>::try_from(&mut *marks) {
                    Ok(marks) => *marks = lanes_kept.map(|keep| keep as u8),
                    Err(_) => marks.iter_mut().zip(lanes_kept).for_each(|(mark, keep)| *mark = keep as u8),
                }
            }
        }
    }
}

/// Per lane: magnitudes from `least` on are kept, and the first `ties` of those that are `least − 1`.
struct Threshold {
    least: [u32; LANES],
    ties: [u32; LANES],
}

/// The threshold of the `k ≥ 1` largest magnitudes of every lane.
///
/// Per lane a bracket: at least k magnitudes reach `low`, fewer than k reach `high`. Each pass counts how
/// many reach a point between them: by linear interpolation of the counts once both ends were counted, and every
/// fourth time the middle of their bits, which bounds the number of passes whatever the numbers are. A lane is
/// done when exactly k reach the point, or when `high` is the next number after `low`: then `low` is tied.
#[inline(always)]
fn kth_largest<S: Simd>(simd: S, block: &[S::u32s], k: u32, guess: &mut [u32; LANES]) -> Threshold {
    let lanes = S::F32_LANES;
    let (zero, one, wanted) = (simd.splat_u32s(0), simd.splat_u32s(1), simd.splat_u32s(k));
    let mut largest = zero;
    block.iter().for_each(|&m| largest = simd.max_u32s(largest, m));
    let (mut low, mut high) = (zero, simd.add_u32s(largest, one));
    let (mut reach_low, mut reach_high) = (simd.splat_u32s(block.len() as u32), zero);
    let mut point = S::as_simd_u32s(&guess[..lanes]).0[0];
    let outside = simd.less_than_or_equal_u32s(point, low);
    point = simd.select_u32s(outside, middle(simd, low, high), point);
    let outside = simd.greater_than_or_equal_u32s(point, high);
    point = simd.select_u32s(outside, middle(simd, low, high), point);
    let mut pass = 0;
    loop {
        let count = count_from(simd, block, point);
        let up = simd.greater_than_or_equal_u32s(count, wanted);
        low = simd.select_u32s(up, point, low);
        reach_low = simd.select_u32s(up, count, reach_low);
        high = simd.select_u32s(up, high, point);
        reach_high = simd.select_u32s(up, reach_high, count);
        let narrow = simd.less_than_or_equal_u32s(simd.sub_u32s(high, low), one);
        let done = simd.or_m32s(narrow, simd.equal_u32s(reach_low, wanted));
        if to_lanes(simd, simd.select_u32s(done, zero, one)) == [0; LANES] {
            break;
        }
        pass += 1;
        let next = if pass % 4 == 3 {
            middle(simd, low, high)
        } else {
            let (lowest, highest) = (simd.transmute_f32s_u32s(low), simd.transmute_f32s_u32s(high));
            let too_many = to_float(simd, simd.sub_u32s(reach_low, wanted));
            let too_few = to_float(simd, simd.sub_u32s(wanted, reach_high));
            let part = simd.div_f32s(too_many, simd.add_f32s(too_many, too_few));
            let straight = simd.mul_add_f32s(simd.sub_f32s(highest, lowest), part, lowest);
            // One end has not been counted yet: near the quarter that is kept the count falls about twice as fast
            // as the point rises, relatively; a little too far, so that the other end comes near too.
            let slope = simd.splat_f32s(0.6 / k as i32 as f32);
            let from_low = simd.mul_add_f32s(simd.mul_f32s(lowest, slope), too_many, lowest);
            let from_high = simd.sub_f32s(highest, simd.mul_f32s(simd.mul_f32s(highest, slope), too_few));
            let guess = simd.select_f32s(simd.equal_u32s(low, zero), from_high, straight);
            let guess = simd.select_f32s(simd.greater_than_u32s(high, largest), from_low, guess);
            let guess = simd.transmute_u32s_f32s(guess);
            simd.min_u32s(simd.max_u32s(guess, simd.add_u32s(low, one)), simd.sub_u32s(high, one))
        };
        // A lane that is done keeps asking the same.
        point = simd.select_u32s(done, low, next);
    }
    let exact = simd.equal_u32s(reach_low, wanted);
    S::as_mut_simd_u32s(&mut guess[..lanes]).0[0] = low;
    Threshold {
        least: to_lanes(simd, simd.select_u32s(exact, low, high)),
        ties: to_lanes(simd, simd.select_u32s(exact, zero, simd.sub_u32s(wanted, reach_high))),
    }
}

/// Count of the numbers that reach `bound`, per lane.
#[inline(always)]
fn count_from<S: Simd>(simd: S, block: &[S::u32s], bound: S::u32s) -> S::u32s {
    let one = simd.splat_u32s(1);
    let mut counts = [simd.splat_u32s(0); 8];
    let (eights, rest) = pulp::as_arrays::<8, S::u32s>(block);
    for eight in eights {
        for i in 0..8 {
            let reached = simd.greater_than_or_equal_u32s(eight[i], bound);
            counts[i] = simd.select_u32s(reached, simd.add_u32s(counts[i], one), counts[i]);
        }
    }
    for &magnitudes in rest {
        let reached = simd.greater_than_or_equal_u32s(magnitudes, bound);
        counts[0] = simd.select_u32s(reached, simd.add_u32s(counts[0], one), counts[0]);
    }
    for width in [4, 2, 1] {
        for i in 0..width {
            counts[i] = simd.add_u32s(counts[i], counts[i + width]);
        }
    }
    counts[0]
}

/// Counts below 2²³ as f32: they become the last bits of a float of that size.
#[inline(always)]
fn to_float<S: Simd>(simd: S, count: S::u32s) -> S::f32s {
    const SIZE: f32 = 8_388_608.0;
    let sum = simd.add_u32s(count, simd.splat_u32s(SIZE.to_bits()));
    simd.sub_f32s(simd.transmute_f32s_u32s(sum), simd.splat_f32s(SIZE))
}

/// The lanes of a register; zeros behind them.
#[inline(always)]
fn to_lanes<S: Simd>(_: S, x: S::u32s) -> [u32; LANES] {
    let mut lanes = [0; LANES];
    S::as_mut_simd_u32s(&mut lanes[..S::F32_LANES]).0[0] = x;
    lanes
}

/// A number strictly between two whose bits differ by more than 1.
#[inline(always)]
fn middle<S: Simd>(simd: S, low: S::u32s, high: S::u32s) -> S::u32s {
    simd.add_u32s(low, simd.wrapping_dyn_shr_u32s(simd.sub_u32s(high, low), simd.splat_u32s(1)))
}

/// `dy ← dy` where kept, 0 elsewhere, in place.
///
/// # Panics
/// When `dy` has another shape than the activations had.
pub fn abs_top_k_backward(kept: &Kept, dy: &mut Matrix) {
    assert_eq!(kept.dim(), dy.dim(), "abs_top_k_backward: shapes differ");
    let (kept, dy) = (kept.as_slice().expect("row-major"), dy.as_slice_mut().expect("row-major"));
    simd(
        #[inline(always)]
        || dy.iter_mut().zip(kept).for_each(|(dy, &kept)| *dy = if kept == 1 { *dy } else { 0.0 }),
    );
}

/// Indices of the `k` largest keys as introselect leaves them in front: halving by the median of three
/// with Hoare's partition until three are left, then insertion sort.
fn nth_element(k: usize, keys: Vec<u32>) -> Vec<u32> {
    let mut queue: Vec<(u32, u32)> = keys.into_iter().zip(0..).collect();
    if k == 0 {
        return vec![];
    }
    let before = |a: (u32, u32), b: (u32, u32)| a.0 > b.0;
    let (mut first, mut last, nth) = (0, queue.len(), k - 1);
    while last - first > 3 {
        // The median of the second, the middle and the last element becomes the pivot, at `first`.
        let (a, b, c) = (first + 1, first + (last - first) / 2, last - 1);
        let (ab, bc, ac) = (before(queue[a], queue[b]), before(queue[b], queue[c]), before(queue[a], queue[c]));
        let median = match (ab, bc, ac) {
            (true, true, _) | (false, false, false) => b,
            (true, false, true) | (false, true, false) => c,
            (true, false, false) | (false, _, true) => a,
        };
        queue.swap(first, median);
        let pivot = queue[first];
        let (mut low, mut high) = (first + 1, last);
        let cut = loop {
            while before(queue[low], pivot) {
                low += 1;
            }
            high -= 1;
            while before(pivot, queue[high]) {
                high -= 1;
            }
            if low >= high {
                break low;
            }
            queue.swap(low, high);
            low += 1;
        };
        if cut <= nth { first = cut } else { last = cut }
    }
    queue[first..last].sort_by_key(|e| std::cmp::Reverse(e.0)); // stable, like insertion
    queue.into_iter().take(k).map(|e| e.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::random;

    #[test]
    fn matches_sorting_with_ties() {
        for (features, tokens) in [(1, 1), (5, 16), (33, 17), (130, 40)] {
            // Half of the cases have few distinct values, so that ties are the rule.
            for coarse in [false, true] {
                let x = random(features, tokens, 7).mapv(|x| if coarse { (x * 3.0).round() } else { x });
                for k in [0, 1, features / 4, features - 1, features] {
                    let (mut y, exact) = (x.clone(), crate::reference::abs_top_k(k, &x.mapv(f64::from)));
                    let kept = abs_top_k(k, Ties::ByIndex, &mut y, &mut Cpu::default());
                    assert_eq!(y.mapv(f64::from), exact, "k = {k} of {features}");
                    assert!(kept.columns().into_iter().all(|c| c.iter().map(|&k| usize::from(k)).sum::<usize>() == k));
                    let mut dy = Matrix::ones(x.dim());
                    abs_top_k_backward(&kept, &mut dy);
                    assert_eq!(dy, kept.mapv(f32::from));
                }
            }
        }
    }

    #[test]
    fn zeros_are_kept_up_to_k() {
        let mut x = ndarray::array![[0.0, 1.0], [0.0, 0.0], [2.0, 0.0]];
        let kept = abs_top_k(2, Ties::ByIndex, &mut x, &mut Cpu::default());
        assert_eq!(kept, ndarray::array![[1, 1], [0, 1], [1, 0]]);
    }

    #[test]
    fn pytorch_ties_keep_k_of_the_same_magnitudes() {
        let x = random(37, 50, 3).mapv(|x| (x * 2.0).round());
        for k in [1, 2, 9, 36] {
            let (mut a, mut b) = (x.clone(), x.clone());
            abs_top_k(k, Ties::ByIndex, &mut a, &mut Cpu::default());
            let kept = abs_top_k(k, Ties::AsPyTorch, &mut b, &mut Cpu::default());
            for t in 0..50 {
                assert_eq!(kept.column(t).iter().map(|&k| usize::from(k)).sum::<usize>(), k);
                let sorted = |m: &Matrix| {
                    let mut v: Vec<i32> = m.column(t).iter().map(|x| x.abs() as i32).collect();
                    v.sort_unstable();
                    v
                };
                assert_eq!(sorted(&a), sorted(&b));
            }
        }
    }
}
