//! Pointwise nonlinearities of the MLP.

use crate::{Activation, Matrix, math, simd};

/// `y = f(x)` and, in place of x, `f'(x)`, which is all that the backward pass needs; same shape, `y` overwritten.
///
/// Floor: one exponential an entry (Gelu).
///
/// # Panics
/// When shapes differ.
pub fn activate(f: Activation, x: &mut Matrix, y: &mut Matrix) {
    assert_eq!(x.dim(), y.dim(), "activate: x and y differ in shape");
    let (x, y) = (x.as_slice_mut().expect("row-major"), y.as_slice_mut().expect("row-major"));
    let pairs = y.iter_mut().zip(x);
    simd(
        #[inline(always)]
        || match f {
            Activation::Gelu => pairs.for_each(|(y, x)| {
                let (cdf, pdf) = math::normal(*x);
                *y = *x * cdf;
                *x = cdf + *x * pdf;
            }),
            Activation::Relu => pairs.for_each(|(y, x)| {
                // Not `max`, which takes the number beside a NaN.
                *y = if *x <= 0.0 { 0.0 } else { *x };
                *x = if *x > 0.0 { 1.0 } else { 0.0 };
            }),
        },
    );
}

/// `dy ← dy · f'(x)` in place, the slope being what [`activate`] left in place of x.
///
/// # Panics
/// When shapes differ.
pub fn activate_backward(slope: &Matrix, dy: &mut Matrix) {
    assert_eq!(slope.dim(), dy.dim(), "activate_backward: slope and dy differ in shape");
    let (slope, dy) = (slope.as_slice().expect("row-major"), dy.as_slice_mut().expect("row-major"));
    simd(
        #[inline(always)]
        || dy.iter_mut().zip(slope).for_each(|(dy, slope)| *dy *= slope),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{close, gradient, random};

    #[test]
    fn matches_the_reference_and_finite_differences() {
        for f in [Activation::Gelu, Activation::Relu] {
            let (x, dy) = (random(9, 33, 1) * 5.0, random(9, 33, 2));
            let (mut y, mut slope) = (Matrix::zeros(x.dim()), x.clone());
            activate(f, &mut slope, &mut y);
            close(&y, &crate::reference::activate(f, &x.mapv(f64::from)), 1.0);
            let mut dx = dy.clone();
            activate_backward(&slope, &mut dx);
            gradient(&dx, &x.mapv(f64::from), &dy, |x| crate::reference::activate(f, x));
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for f in [Activation::Gelu, Activation::Relu] {
            let mut y = Matrix::zeros((1, 20));
            activate(f, &mut Matrix::from_elem((1, 20), f32::NAN), &mut y);
            assert!(y.iter().all(|y| y.is_nan()), "{f:?}: {y}");
        }
    }
}
