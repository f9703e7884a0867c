//! Top magnitude: which entries of a weight matrix stay nonzero.
//!
//! Source: Gao et al. 2025, §2.1 (the largest-|w| entries of each tensor stay) and A.2 (floor per
//! neuron and attention channel). [`Support`] is the same thing step after step, at a fraction of the cost.

use ndarray::ArrayView2;

use crate::{Pattern, Support};

/// Lines of a matrix that are units (neurons or attention channels).
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

impl MinPerUnit {
    /// A unit of a `[rows, cols]` matrix cannot keep more entries than it has.
    pub(crate) fn clamped(self, rows: usize, cols: usize) -> Self {
        let size = if self.unit == Unit::Row { cols } else { rows };
        Self { count: self.count.min(size), ..self }
    }
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
    let mut support = Support::all(rows, cols);
    let mut w: Vec<f32> = w.iter().copied().collect();
    support.project(&mut w, nnz, floor);
    support.pattern()
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
