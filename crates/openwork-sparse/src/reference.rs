//! Plain loops in f64 that the fast versions are tested against.

use ndarray::{Array2, ArrayView2};

use crate::{Csr, MinPerUnit, Pattern, Unit};

/// `y = W x`, `W [out, in]`, `x [in, tokens]`, accumulated in f64.
pub fn spmm(w: &Csr, x: ArrayView2<'_, f32>) -> Array2<f64> {
    let p = w.pattern();
    let mut y = Array2::zeros((p.rows(), x.ncols()));
    for r in 0..p.rows() {
        for i in p.row(r) {
            for t in 0..x.ncols() {
                y[[r, t]] += f64::from(w.values()[i]) * f64::from(x[[p.col_idx()[i] as usize, t]]);
            }
        }
    }
    y
}

/// `Σ_t dy[r, t] · x[c, t]` at every position `(r, c)` of `pattern`, accumulated in f64.
pub fn sddmm(pattern: &Pattern, dy: ArrayView2<'_, f32>, x: ArrayView2<'_, f32>) -> Vec<f64> {
    let dot = |r: usize, c: usize| dy.row(r).iter().zip(x.row(c)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    (0..pattern.rows())
        .flat_map(|r| pattern.row(r).map(move |i| (r, i)))
        .map(|(r, i)| dot(r, pattern.col_idx()[i] as usize))
        .collect()
}

/// Positions kept by top magnitude, by sorting: entries forced by the floor first, then by falling
/// magnitude, ties by row-major index. Returns row-major indices in rising order.
pub fn top_magnitude(w: ArrayView2<'_, f32>, nnz: usize, floor: Option<MinPerUnit>) -> Vec<usize> {
    let cols = w.ncols();
    let by_magnitude = |a: &usize, b: &usize| {
        let (x, y) = (w[[*a / cols, *a % cols]].abs(), w[[*b / cols, *b % cols]].abs());
        y.total_cmp(&x).then(a.cmp(b))
    };
    let mut forced = std::collections::BTreeSet::new();
    if let Some(MinPerUnit { unit, count }) = floor {
        let units = if unit == Unit::Row { w.nrows() } else { cols };
        for u in 0..units {
            let mut members: Vec<usize> = match unit {
                Unit::Row => (0..cols).map(|c| u * cols + c).collect(),
                Unit::Column => (0..w.nrows()).map(|r| r * cols + u).collect(),
            };
            members.sort_by(by_magnitude);
            forced.extend(members.into_iter().take(count));
        }
    }
    let mut order: Vec<usize> = (0..w.len()).collect();
    order.sort_by(|a, b| forced.contains(b).cmp(&forced.contains(a)).then(by_magnitude(a, b)));
    order.truncate(nnz);
    order.sort_unstable();
    order
}
