//! Elementary functions written so that the compiler turns a loop over them into vector code.

/// Lanes of the partial sums in [`dot`] and [`sum`]: fixed, so that results do not depend on the machine.
const LANES: usize = 16;

/// eˣ to 2 ulp for |x| ≤ 87; clamped beyond (never infinite, never exactly zero).
///
/// Cody-Waite reduction to |r| ≤ ln2/2 and a degree-6 polynomial (coefficients of Cephes `expf`).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5·2²³ rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4;
    let r = r - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4_f32;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    y * f32::from_bits(power)
}

/// Standard normal distribution function Φ(x) and density φ(x).
///
/// Φ = (1 + erf(x/√2))/2 with erf by Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7.
#[inline(always)]
pub fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let gauss = exp(-z * z);
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4_f32;
    p = p * t - 1.453_152;
    p = p * t + 1.421_413_7;
    p = p * t - 0.284_496_74;
    p = p * t + 0.254_829_6;
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
