//! Top magnitude: which entries of a weight matrix stay nonzero.
//!
//! Source: Gao et al. 2025, §2.1 (the largest-|w| entries of each tensor stay) and A.2 (floor per
//! neuron and attention channel). The k-th magnitude is found exactly by a radix selection over the
//! bits of |w| (for nonnegative floats the order of the bits is the order of the numbers): three
//! passes of counting, no sorting.

use ndarray::ArrayView2;

use crate::Pattern;

/// Which lines of a matrix are units (neurons or attention channels).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One unit per output row.
    Row,
    /// One unit per input column.
    Column,
}

/// Every unit keeps at least `count` entries (the paper's j); they count inside the nonzeros asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinPerUnit {
    /// Lines that are units.
    pub unit: Unit,
    /// Entries each keeps.
    pub count: usize,
}

/// The largest floor not above `count` that `nnz` entries can hold in a `[rows, cols]` matrix.
pub fn floor_that_fits(rows: usize, cols: usize, nnz: usize, floor: MinPerUnit) -> MinPerUnit {
    let (units, size) = match floor.unit {
        Unit::Row => (rows, cols),
        Unit::Column => (cols, rows),
    };
    MinPerUnit { unit: floor.unit, count: floor.count.min(size).min(nnz / units.max(1)) }
}

/// The pattern of the `nnz` entries of largest magnitude; ties go to the lower row-major index, so
/// exactly `nnz` positions are kept. Entries that `floor` forces in are taken first.
///
/// # Panics
/// When `nnz` exceeds the number of entries, or the floor alone needs more than `nnz`
/// (see [`floor_that_fits`]).
#[track_caller]
pub fn top_magnitude(w: ArrayView2<'_, f32>, nnz: usize, floor: Option<MinPerUnit>) -> Pattern {
    let (rows, cols) = w.dim();
    assert!(nnz <= w.len(), "top_magnitude: {nnz} entries asked of a [{rows}, {cols}] matrix");
    let forced = floor.map(|f| forced_by_floor(w, f));
    let n_forced = forced.as_ref().map_or(0, |f| f.iter().filter(|&&b| b).count());
    assert!(n_forced <= nnz, "top_magnitude: the floor needs {n_forced} entries, {nnz} are allowed");

    let is_forced = |i: usize| forced.as_ref().is_some_and(|f| f[i]);
    let free = || w.iter().enumerate().filter(|&(i, _)| !is_forced(i)).map(|(_, &x)| magnitude(x));
    // All above the threshold, and the first `ties` at it.
    let (threshold, mut ties) = match nnz - n_forced {
        0 => (u32::MAX, 0),
        k => kth_largest(free, k),
    };

    let mut row_ptr = Vec::with_capacity(rows + 1);
    row_ptr.push(0);
    let mut col_idx = Vec::with_capacity(nnz);
    for (r, row) in w.rows().into_iter().enumerate() {
        for (c, &x) in row.iter().enumerate() {
            let keep = is_forced(r * cols + c) || {
                let m = magnitude(x);
                m > threshold
                    || (m == threshold && ties > 0 && {
                        ties -= 1;
                        true
                    })
            };
            if keep {
                col_idx.push(c as u32);
            }
        }
        row_ptr.push(col_idx.len() as u32);
    }
    debug_assert_eq!(col_idx.len(), nnz);
    Pattern::new(rows, cols, row_ptr, col_idx).expect("columns were visited in order")
}

/// Bits of |x|; their unsigned order is the order of magnitudes (NaN above all).
#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// The k-th largest key (k ≥ 1) and how many of the keys equal to it belong to the k largest.
fn kth_largest<I: Iterator<Item = u32>>(keys: impl Fn() -> I, mut k: usize) -> (u32, usize) {
    const BITS: [u32; 3] = [11, 10, 10]; // 31 bits, most significant first
    let (mut prefix, mut shift) = (0_u32, 31);
    for bits in BITS {
        shift -= bits;
        let mut count = vec![0_usize; 1 << bits];
        for key in keys() {
            if key >> (shift + bits) == prefix {
                count[(key >> shift) as usize & ((1 << bits) - 1)] += 1;
            }
        }
        let mut digit = count.len() - 1;
        while count[digit] < k {
            k -= count[digit];
            digit -= 1;
        }
        prefix = prefix << bits | digit as u32;
    }
    (prefix, k)
}

/// Marks the `count` largest magnitudes of every unit, ties by index.
fn forced_by_floor(w: ArrayView2<'_, f32>, floor: MinPerUnit) -> Vec<bool> {
    let (rows, cols) = w.dim();
    let mut forced = vec![false; w.len()];
    let units = if floor.unit == Unit::Row { rows } else { cols };
    let count = floor.count.min(if floor.unit == Unit::Row { cols } else { rows });
    if count == 0 {
        return forced;
    }
    // best[u]: the `count` largest of unit u so far, largest first; an equal newcomer stays behind.
    let mut best = vec![(0_u32, u32::MAX); units * count];
    for (i, &x) in w.iter().enumerate() {
        let unit = if floor.unit == Unit::Row { i / cols } else { i % cols };
        let line = &mut best[unit * count..(unit + 1) * count];
        let m = magnitude(x);
        let beats = |&(held, at): &(u32, u32)| at == u32::MAX || m > held;
        if beats(&line[count - 1]) {
            let at = line.iter().position(beats).expect("beats the last");
            line[at..].rotate_right(1);
            line[at] = (m, i as u32);
        }
    }
    for (_, i) in best {
        forced[i as usize] = true;
    }
    forced
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;

    use super::*;
    use crate::reference;

    fn positions(p: &Pattern) -> Vec<usize> {
        (0..p.rows()).flat_map(|r| p.col_idx()[p.row(r)].iter().map(move |&c| r * p.cols() + c as usize)).collect()
    }

    proptest! {
        // Few distinct values, so that ties are the rule.
        #[test]
        fn matches_sorting(rows in 1_usize..9, cols in 1_usize..9, seed in prop::collection::vec(-3_i8..=3, 64),
                           fraction in 0.0..=1.0_f64, j in 0_usize..4, by_row: bool) {
            let w = Array2::from_shape_fn((rows, cols), |(r, c)| f32::from(seed[(r * cols + c) % seed.len()]));
            let nnz = (fraction * w.len() as f64) as usize;
            let unit = if by_row { Unit::Row } else { Unit::Column };
            let floor = floor_that_fits(rows, cols, nnz, MinPerUnit { unit, count: j });
            let p = top_magnitude(w.view(), nnz, Some(floor));
            prop_assert_eq!(positions(&p), reference::top_magnitude(w.view(), nnz, Some(floor)));
            let p = top_magnitude(w.view(), nnz, None);
            prop_assert_eq!(positions(&p), reference::top_magnitude(w.view(), nnz, None));
        }
    }

    #[test]
    fn floor_is_lowered_to_what_fits() {
        let f = MinPerUnit { unit: Unit::Row, count: 4 };
        assert_eq!(floor_that_fits(8192, 2048, 16_640, f).count, 2); // yolo2: spec "can only have had j ≤ 2"
        assert_eq!(floor_that_fits(10, 3, 30, f).count, 3);
    }

    #[test]
    #[should_panic(expected = "the floor needs 4 entries, 3 are allowed")]
    fn floor_above_nnz_panics() {
        let w = Array2::<f32>::ones((2, 2));
        top_magnitude(w.view(), 3, Some(MinPerUnit { unit: Unit::Row, count: 2 }));
    }
}
