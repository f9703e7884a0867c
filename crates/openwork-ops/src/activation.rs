//! Pointwise nonlinearities of the MLP.

use crate::{Matrix, math, simd};

/// Which nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x Φ(x)` with the exact normal distribution function.
    Gelu,
    /// `max(x, 0)`; the derivative at 0 is 0.
    Relu,
}

/// `y = f(x)`, same shape; `y` overwritten.
pub fn activate(f: Activation, x: &Matrix, y: &mut Matrix) {
    assert_eq!(x.dim(), y.dim(), "activate: x and y differ in shape");
    let (x, y) = (x.as_slice().expect("row-major"), y.as_slice_mut().expect("row-major"));
    simd(
        #[inline(always)]
        || match f {
            Activation::Gelu => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * math::normal(x).0),
            Activation::Relu => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x.max(0.0)),
        },
    );
}

/// `dy ← dy · f'(x)` in place, `x` being the input of [`activate`].
pub fn activate_backward(f: Activation, x: &Matrix, dy: &mut Matrix) {
    assert_eq!(x.dim(), dy.dim(), "activate_backward: x and dy differ in shape");
    let (x, dy) = (x.as_slice().expect("row-major"), dy.as_slice_mut().expect("row-major"));
    simd(
        #[inline(always)]
        || match f {
            Activation::Gelu => dy.iter_mut().zip(x).for_each(|(dy, &x)| {
                let (cdf, pdf) = math::normal(x);
                *dy *= cdf + x * pdf;
            }),
            Activation::Relu => dy.iter_mut().zip(x).for_each(|(dy, &x)| *dy = if x > 0.0 { *dy } else { 0.0 }),
        },
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
            let mut y = Matrix::zeros(x.dim());
            activate(f, &x, &mut y);
            close(&y, &crate::reference::activate(f, &x.mapv(f64::from)), 1.0);
            let mut dx = dy.clone();
            activate_backward(f, &x, &mut dx);
            gradient(&dx, &x.mapv(f64::from), &dy, |x| crate::reference::activate(f, x));
        }
    }
}
