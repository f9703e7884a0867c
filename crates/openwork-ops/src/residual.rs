//! The residual stream.

use crate::{Matrix, simd};

/// `x ← x + y`: what a block writes to the residual stream; same shape.
///
/// Floor: two reads and a write of every entry.
///
/// # Panics
/// When shapes differ.
pub fn residual(x: &mut Matrix, y: &Matrix) {
    assert_eq!(x.dim(), y.dim(), "residual: shapes differ");
    let (x, y) = (x.as_slice_mut().expect("row-major"), y.as_slice().expect("row-major"));
    simd(
        #[inline(always)]
        || x.iter_mut().zip(y).for_each(|(x, y)| *x += y),
    );
}

#[cfg(test)]
mod tests {
    use crate::check::random;

    #[test]
    fn adds_entry_by_entry() {
        let (x, y) = (random(3, 21, 1), random(3, 21, 2));
        let mut sum = x.clone();
        super::residual(&mut sum, &y);
        assert_eq!(sum, &x + &y);
    }
}
