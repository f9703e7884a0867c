//! AbsTopK: keep the k entries of largest magnitude of every token.
//!
//! Source: Gao et al. 2025, §2.1 and A.1. Exactly k stay; [`Ties`] says which of equal magnitudes. That
//! matters more often than it seems: a residual stream fed by sparse embeddings has fewer than k nonzeros,
//! the rest of the k are zeros, and the gradient flows through the zeros that were kept.
//! Sixteen tokens at a time, so that every comparison is a vector operation: the k-th magnitude is found
//! by bisection over the bits of |x|, whose unsigned order is the order of magnitudes.

use ndarray::Array2;

use crate::{Matrix, row, row_mut, simd};

const LANES: usize = 16;

/// Which entries AbsTopK kept: 1 or 0, `[features, tokens]`. The gradient flows through these only,
/// also where the kept value happens to be zero.
pub type Kept = Array2<u8>;

/// Which of several entries of equal magnitude are kept when not all of them can be.
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
pub fn abs_top_k(k: usize, ties: Ties, x: &mut Matrix) -> Kept {
    let (features, tokens) = x.dim();
    if k >= features {
        return Kept::ones(x.dim());
    }
    let mut kept = Kept::zeros(x.dim());
    let kept_slice = kept.as_slice_mut().expect("row-major");
    let mut block = vec![[0_i32; LANES]; features];
    for t0 in (0..tokens).step_by(LANES) {
        let lanes = LANES.min(tokens - t0);
        if ties == Ties::AsPyTorch {
            for t in t0..t0 + lanes {
                let keep = nth_element(k, (0..features).map(|f| magnitude(row(x, f)[t])).collect());
                keep.into_iter().for_each(|f| kept_slice[f as usize * tokens + t] = 1);
                (0..features).filter(|f| kept_slice[f * tokens + t] == 0).for_each(|f| row_mut(x, f)[t] = 0.0);
            }
            continue;
        }
        simd(|| {
            for (f, block) in block.iter_mut().enumerate() {
                let x = &row(x, f)[t0..t0 + lanes];
                block[..lanes].iter_mut().zip(x).for_each(|(m, &x)| *m = magnitude(x));
            }
            let (threshold, mut tied) = kth_largest(&block, k as i32);
            for (f, block) in block.iter().enumerate() {
                let mut keep = [0_i32; LANES];
                for l in 0..LANES {
                    let tie = i32::from(block[l] == threshold[l]) & i32::from(tied[l] > 0);
                    tied[l] -= tie;
                    keep[l] = i32::from(block[l] > threshold[l]) | tie;
                }
                let x = &mut row_mut(x, f)[t0..t0 + lanes];
                let kept = &mut kept_slice[f * tokens + t0..f * tokens + t0 + lanes];
                for l in 0..lanes {
                    x[l] = if keep[l] == 1 { x[l] } else { 0.0 };
                    kept[l] = keep[l] as u8;
                }
            }
        });
    }
    kept
}

/// `dy ← dy` where kept, 0 elsewhere, in place.
pub fn abs_top_k_backward(kept: &Kept, dy: &mut Matrix) {
    assert_eq!(kept.dim(), dy.dim(), "abs_top_k_backward: shapes differ");
    let (kept, dy) = (kept.as_slice().expect("row-major"), dy.as_slice_mut().expect("row-major"));
    simd(|| dy.iter_mut().zip(kept).for_each(|(dy, &kept)| *dy = if kept == 1 { *dy } else { 0.0 }));
}

/// Bits of |x|; their order is the order of magnitudes.
#[inline(always)]
fn magnitude(x: f32) -> i32 {
    (x.to_bits() & 0x7fff_ffff) as i32
}

/// Per lane, the k-th largest key and how many of the keys equal to it belong to the k largest.
///
/// Keys are nonnegative, so they are compared as signed numbers, for which vector compares exist.
#[inline(always)]
fn kth_largest(keys: &[[i32; LANES]], k: i32) -> ([i32; LANES], [i32; LANES]) {
    let count_from = |bound: &[i32; LANES]| {
        let mut count = [0_i32; LANES];
        for key in keys {
            for l in 0..LANES {
                count[l] += i32::from(key[l] >= bound[l]);
            }
        }
        count
    };
    // Invariant: `reached` ≥ k keys are ≥ threshold. Set bits from the top while that stays true.
    let (mut threshold, mut reached) = ([0_i32; LANES], [keys.len() as i32; LANES]);
    for bit in (0..31).rev() {
        let mut bound = threshold;
        bound.iter_mut().for_each(|b| *b |= 1 << bit);
        let count = count_from(&bound);
        for l in 0..LANES {
            let up = count[l] >= k;
            threshold[l] = if up { bound[l] } else { threshold[l] };
            reached[l] = if up { count[l] } else { reached[l] };
        }
        // Exactly k at or above: lower bits would not change the choice.
        if reached == [k; LANES] {
            return (threshold, [k; LANES]);
        }
    }
    let mut above = threshold;
    above.iter_mut().for_each(|b| *b += 1);
    let mut ties = count_from(&above);
    ties.iter_mut().for_each(|n| *n = k - *n);
    (threshold, ties)
}

/// Indices of the `k` largest keys as introselect leaves them in front: halving by the median of three
/// with Hoare's partition until three are left, then insertion sort.
fn nth_element(k: usize, keys: Vec<i32>) -> Vec<u32> {
    let mut queue: Vec<(i32, u32)> = keys.into_iter().zip(0..).collect();
    if k == 0 {
        return vec![];
    }
    let before = |a: (i32, u32), b: (i32, u32)| a.0 > b.0;
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
                    let kept = abs_top_k(k, Ties::ByIndex, &mut y);
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
        let kept = abs_top_k(2, Ties::ByIndex, &mut x);
        assert_eq!(kept, ndarray::array![[1, 1], [0, 1], [1, 0]]);
    }

    #[test]
    fn pytorch_ties_keep_k_of_the_same_magnitudes() {
        let x = random(37, 50, 3).mapv(|x| (x * 2.0).round());
        for k in [1, 2, 9, 36] {
            let (mut a, mut b) = (x.clone(), x.clone());
            abs_top_k(k, Ties::ByIndex, &mut a);
            let kept = abs_top_k(k, Ties::AsPyTorch, &mut b);
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
