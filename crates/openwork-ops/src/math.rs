//! Elementary functions written so that the compiler turns a loop over them into vector code.

use pulp::Simd;

/// Lanes of the partial sums in [`dot`] and [`sum`]: fixed, so that results do not depend on the machine.
const LANES: usize = 16;

/// [`exp_register`] of one number: a loop over it becomes vector code.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exp_register(pulp::Scalar::new(), x)
}

/// eˣ to 2 ulp for |x| ≤ 87; clamped beyond (never infinite, never exactly zero). 15 instructions.
///
/// Cody-Waite reduction to |r| ≤ ln2/2 and a degree-7 polynomial (coefficients of Cephes `expf`).
#[inline(always)]
pub fn exp_register<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let constant = Constants::new(simd);
    let x = simd.min_f32s(simd.max_f32s(x, constant.least), constant.most);
    // Adding 1.5·2²³ rounds to the nearest integer and leaves it in the low bits.
    let shifted = simd.mul_add_f32s(x, constant.log2_e, constant.round);
    let n = simd.sub_f32s(shifted, constant.round);
    let r = simd.mul_add_f32s(n, constant.ln2_high, x);
    let r = simd.mul_add_f32s(n, constant.ln2_low, r);
    let mut y = constant.polynomial[0];
    for &coefficient in &constant.polynomial[1..] {
        y = simd.mul_add_f32s(y, r, coefficient);
    }
    // n sits in the low bits of `shifted`: into the exponent with it. What else is there is shifted out.
    let power = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), constant.mantissa);
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(y), power))
}

/// Constants that [`exp_register`] holds in registers.
struct Constants<S: Simd> {
    least: S::f32s,
    most: S::f32s,
    log2_e: S::f32s,
    round: S::f32s,
    ln2_high: S::f32s,
    ln2_low: S::f32s,
    polynomial: [S::f32s; 8],
    mantissa: S::u32s,
}

impl<S: Simd> Constants<S> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        Self {
            least: simd.splat_f32s(-87.0),
            most: simd.splat_f32s(88.0),
            log2_e: simd.splat_f32s(std::f32::consts::LOG2_E),
            round: simd.splat_f32s(12_582_912.0),
            ln2_high: simd.splat_f32s(-0.693_359_4),
            ln2_low: simd.splat_f32s(2.121_944_4e-4),
            polynomial: [
                simd.splat_f32s(1.987_569_1e-4),
                simd.splat_f32s(1.398_2e-3),
                simd.splat_f32s(8.333_452e-3),
                simd.splat_f32s(4.166_579_6e-2),
                simd.splat_f32s(1.666_666_5e-1),
                simd.splat_f32s(0.5),
                simd.splat_f32s(1.0),
                simd.splat_f32s(1.0),
            ],
            mantissa: simd.splat_u32s(23),
        }
    }
}

/// Standard normal distribution function Φ(x) and density φ(x).
///
/// Φ = (1 + erf(x/√2))/2 with erf by Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7.
#[inline(always)]
pub fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let gauss = exp(-z * z);
    let t = 1.0 / z.mul_add(0.327_591_1, 1.0);
    let p = 1.061_405_4_f32.mul_add(t, -1.453_152).mul_add(t, 1.421_413_7);
    let p = p.mul_add(t, -0.284_496_74).mul_add(t, 0.254_829_6);
    let upper = 0.5 * p * t * gauss; // 1 − Φ(|x|)
    let cdf = if x < 0.0 { upper } else { 1.0 - upper };
    (cdf, gauss * 0.398_942_3)
}

/// Σ aᵢ bᵢ in a fixed order of [`LANES`] partial sums.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut acc = [0.0_f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for l in 0..LANES {
            acc[l] += a[l] * b[l];
        }
    }
    fold(acc) + tail
}

/// The sum of the partial sums, by halves.
#[inline(always)]
fn fold(mut acc: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            acc[l] += acc[l + half];
        }
    }
    acc[0]
}

/// Σ aᵢ in a fixed order of [`LANES`] partial sums.
#[inline(always)]
pub fn sum(a: &[f32]) -> f32 {
    let mut acc = [0.0_f32; LANES];
    let chunks = a.chunks_exact(LANES);
    let tail: f32 = chunks.remainder().iter().sum();
    for a in chunks {
        for l in 0..LANES {
            acc[l] += a[l];
        }
    }
    fold(acc) + tail
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_close() {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(super::exp(x)) - exact).abs() / exact;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}) is off by {error:e}");
        }
        assert!(super::exp(-1e30) < 1e-37 && super::exp(1e30).is_finite());
    }

    #[test]
    fn exp_of_registers_is_close_and_the_same_with_every_instruction_set() {
        struct All<'a>(&'a [f32], &'a mut [f32]);
        impl pulp::WithSimd for All<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: pulp::Simd>(self, simd: S) {
                let (x, y) = (S::as_simd_f32s(self.0).0, S::as_mut_simd_f32s(self.1).0);
                for (y, x) in y.iter_mut().zip(x) {
                    *y = super::exp_register(simd, *x);
                }
            }
        }
        let mut x: Vec<f32> = (-8700..=8800).map(|i| i as f32 / 100.0).collect();
        x.extend([f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY]);
        x.resize(x.len().next_multiple_of(16), 0.0);
        let mut first = None;
        for set in openwork_sparse::InstructionSet::available() {
            let mut y = vec![0.0; x.len()];
            set.run(All(&x, &mut y));
            for (x, y) in x.iter().zip(&y) {
                let exact = f64::from(x.clamp(-87.0, 88.0)).exp();
                let error = (f64::from(*y) - exact).abs() / exact;
                assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}) is off by {error:e} with {set}");
            }
            assert_eq!(*first.get_or_insert_with(|| y.clone()), y, "{set}");
        }
    }

    #[test]
    fn normal_is_close() {
        for i in -600..=600 {
            let x = f64::from(i) / 100.0;
            let (cdf, pdf) = super::normal(x as f32);
            let exact = crate::reference::normal_cdf(f64::from(x as f32));
            // 0.75e-7 of the formula (half of erf's) and two roundings of numbers up to 1.
            assert!((f64::from(cdf) - exact).abs() < 2.5e-7, "cdf({x}) {cdf} {exact}");
            let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            assert!((f64::from(pdf) - density).abs() < 2e-7, "pdf({x})");
        }
    }

    #[test]
    fn sums() {
        let a: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!(super::sum(&a), 666.0);
        assert_eq!(super::dot(&a, &a), 16_206.0);
    }
}
