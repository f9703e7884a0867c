//! Tests in which *passing needs evidence*: few data cannot show that two things are alike.
//!
//! The null hypothesis of [`sign_test`] and [`tost`] is that circuit and model *differ* by ε or more; a small p-value is
//! evidence that they do not. A test the other way round passes whatever it has too few data to refute. [`hsic`] is the
//! common test of independence; there a small p-value is evidence of *dependence*.
//!
//! Sources: Shi et al. 2024, "Hypothesis testing the circuit hypothesis in LLMs" (what is tested); Schuirmann 1987 (two
//! one-sided tests); Berger and Boos 1994 (a nuisance parameter in an exact test); Gretton et al. 2008 (HSIC).

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::{
    stats::intervals::{binomial_tail, p_value},
    streams::Stream,
};

/// A statistic and its p-value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// The statistic, see each test.
    pub statistic: f64,
    /// Probability, if the null hypothesis holds, of a statistic at least as much against it.
    pub p_value: f64,
    /// Number of differences.
    pub n: usize,
}

/// Sign test of equivalence: a difference is positive as often as negative, but for less than ε.
///
/// Statistic `T = |(#positive + #zero / 2) / n − ½|`, in [0, ½]. Null hypothesis: `|P(positive) + P(zero) / 2 − ½| ≥ ε`.
/// The probability of a zero is another unknown of the null hypothesis: the p-value is the largest over its
/// 99.9 % interval, plus 0.001 (Berger and Boos), so that it is never below 0.001. Two one-sided exact
/// tests, of which the larger p-value counts.
///
/// `None` without differences, where one is not finite, or unless `0 < ε < ½`.
pub fn sign_test(differences: &[f64], epsilon: f64) -> Option<Test> {
    let n = differences.len();
    if n == 0 || !differences.iter().all(|d| d.is_finite()) || !(epsilon > 0.0 && epsilon < 0.5) {
        return None;
    }
    let positive = differences.iter().filter(|d| **d > 0.0).count();
    let negative = differences.iter().filter(|d| **d < 0.0).count();
    let statistic = (positive as f64 - negative as f64).abs() / (2 * n) as f64;
    // The two one-sided tests mirror each other, and the surplus of the more frequent sign has the larger p-value.
    let surplus = positive.abs_diff(negative);
    let zero = exact_interval(n - positive - negative, n, OUTSIDE);
    // A zero cannot be so probable that no surplus of 2 ε is left for the signs.
    let (low, high) = (zero.0, zero.1.min(1.0 - 2.0 * epsilon));
    // The probability is smooth in it.
    let steps = 32;
    let grid = (0..=steps).map(|i| low + (high - low) * f64::from(i) / f64::from(steps));
    let largest =
        if low <= high { grid.map(|zero| surplus_at_most(n, surplus, zero, epsilon)).fold(0.0, f64::max) } else { 0.0 };
    Some(Test { statistic, p_value: (largest + OUTSIDE).min(1.0), n })
}

/// Probability left outside the interval of the probability of a zero: little against any level in use.
const OUTSIDE: f64 = 0.001;

/// P(#positive − #negative ≤ surplus) of n signs with `P(positive) − P(negative) = 2 ε` and `P(zero)` given.
fn surplus_at_most(n: usize, surplus: usize, zero: f64, epsilon: f64) -> f64 {
    // Given m signs that are not zero, the surplus is at most s where at most (m + s) / 2 of them are positive.
    let positive = if zero < 1.0 { (0.5 + epsilon / (1.0 - zero)).min(1.0) } else { 0.5 };
    let signs = binomial(n, 1.0 - zero);
    // What is left out of the sum is far below the digits that are read.
    let at_most = |m: usize| {
        let most = (m + surplus) / 2;
        if most >= m { 1.0 } else { 1.0 - binomial_tail(m, most + 1, positive) }
    };
    signs.iter().enumerate().filter(|(_, p)| **p > 1e-15).map(|(m, p)| p * at_most(m)).sum()
}

/// P(X = k) for X binomial(n, p), for every k.
fn binomial(n: usize, p: f64) -> Vec<f64> {
    if p <= 0.0 || p >= 1.0 {
        let certain = if p <= 0.0 { 0 } else { n };
        return (0..=n).map(|k| f64::from(u8::from(k == certain))).collect();
    }
    let mut log_choose = 0.0;
    let one = |k: usize| {
        if k > 0 {
            log_choose += ((n - k + 1) as f64 / k as f64).ln();
        }
        (log_choose + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp()
    };
    (0..=n).map(one).collect()
}

/// Two-sided interval of a probability after k of n (Clopper and Pearson), with `outside` in all beyond its ends.
fn exact_interval(k: usize, n: usize, outside: f64) -> (f64, f64) {
    // P(X ≥ k | p) rises with p from 0 to 1: find where it is `level`.
    let solve = |k: usize, level: f64| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if binomial_tail(n, k, middle) < level { low = middle } else { high = middle }
        }
        (low + high) / 2.0
    };
    let low = if k == 0 { 0.0 } else { solve(k, outside / 2.0) };
    (low, if k == n { 1.0 } else { solve(k + 1, 1.0 - outside / 2.0) })
}

/// Is the mean of differences within ε of zero? Two one-sided t-tests (TOST).
///
/// Statistic: the mean. Null hypothesis: `|mean| ≥ ε`. The p-value is the larger of those of
/// `t = (ε ∓ mean) / (s / √n)` with n − 1 degrees of freedom. Differences that are all the same have no spread to
/// judge by: within ε their p-value is `2⁻ⁿ`, the most that n values on the near side of ε have if values fall on
/// both sides of their mean alike; otherwise it is 1.
///
/// `None` with fewer than two differences, where one is not finite, or unless `ε > 0`.
pub fn tost(differences: &[f64], epsilon: f64) -> Option<Test> {
    let n = differences.len();
    if n < 2 || !differences.iter().all(|d| d.is_finite()) || epsilon.is_nan() || epsilon <= 0.0 {
        return None;
    }
    let mean = differences.iter().sum::<f64>() / n as f64;
    if differences.iter().all(|d| *d == differences[0]) {
        let p_value = if differences[0].abs() < epsilon { 0.5_f64.powi(n as i32) } else { 1.0 };
        return Some(Test { statistic: differences[0], p_value, n });
    }
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    let t = (epsilon - mean.abs()) / (variance / n as f64).sqrt();
    let distribution = StudentsT::new(0.0, 1.0, (n - 1) as f64).expect("at least one degree of freedom");
    Some(Test { statistic: mean, p_value: distribution.sf(t), n })
}

/// Are two scores of the same inputs independent? Hilbert-Schmidt independence criterion.
///
/// Statistic `HSIC = tr(K H L H) / n²` with `K_ij = exp(−(x_i − x_j)² / 2 w²)`, w the median of `|x_i − x_j|` over
/// i < j where it is not zero, L the same of y, and `H = 1 − 1/n`. Null hypothesis: independence. The p-value is that of
/// `permutations` random orders of y, `(1 + #{HSIC of a random order ≥ HSIC}) / (1 + permutations)`.
///
/// `None` if there are fewer than four scores, one is not finite, or all of x or of y are the same: a constant is
/// independent of everything and says nothing.
///
/// # Panics
/// When x and y are not as long as each other.
#[track_caller]
pub fn hsic(x: &[f64], y: &[f64], permutations: usize, seed: u64) -> Option<Test> {
    assert_eq!(x.len(), y.len(), "hsic: two scores of the same inputs");
    let n = x.len();
    let constant = |v: &[f64]| v.iter().all(|x| *x == v[0]);
    if n < 4 || !x.iter().chain(y).all(|v| v.is_finite()) || constant(x) || constant(y) {
        return None;
    }
    let (k, l) = (centred(&kernel(x), n), kernel(y));
    let statistic = |order: &[usize]| {
        let row = |i: usize| (0..n).map(|j| k[i * n + j] * l[order[i] * n + order[j]]).sum::<f64>();
        (0..n).map(row).sum::<f64>() / (n * n) as f64
    };
    let mut order: Vec<usize> = (0..n).collect();
    let observed = statistic(&order);
    let mut rng = Stream::Permutations.rng(seed);
    // The same sum in another order may round a little lower.
    let least = observed - 1e-12 * observed.abs();
    let mut as_large = 0;
    for _ in 0..permutations {
        order.shuffle(&mut rng);
        as_large += usize::from(statistic(&order) >= least);
    }
    Some(Test { statistic: observed, p_value: p_value(as_large, permutations), n })
}

/// Gaussian kernel matrix of median width, row after row.
fn kernel(x: &[f64]) -> Vec<f64> {
    let pairs = (0..x.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    let mut distances: Vec<f64> = pairs.map(|(i, j)| (x[i] - x[j]).abs()).filter(|d| *d > 0.0).collect();
    distances.sort_by(f64::total_cmp);
    let width = distances[distances.len() / 2];
    x.iter().flat_map(|a| x.iter().map(move |b| (-((a - b) / width).powi(2) / 2.0).exp())).collect()
}

/// `H K H`.
fn centred(k: &[f64], n: usize) -> Vec<f64> {
    let mean = |row: &[f64]| row.iter().sum::<f64>() / n as f64;
    let rows: Vec<f64> = k.chunks_exact(n).map(mean).collect();
    let all = mean(&rows);
    // The matrix is symmetric: means of columns are those of rows.
    (0..n * n).map(|at| k[at] - rows[at / n] - rows[at % n] + all).collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    /// n differences of which so many are positive, the rest negative.
    fn signs(n: usize, positive: usize) -> Vec<f64> {
        (0..n).map(|i| if i < positive { 0.3 } else { -0.1 }).collect()
    }

    fn p(differences: &[f64], epsilon: f64) -> f64 {
        sign_test(differences, epsilon).unwrap().p_value
    }

    #[test]
    fn the_known_answers_that_a_published_tool_gets_wrong() {
        // It put the mean difference where the fraction of signs belongs, so that "no difference at all" became the
        // strongest evidence of a difference, and a mean of one half the strongest evidence of none.
        let (n, epsilon) = (64, 0.1);
        assert!(p(&[0.0; 64], epsilon) < 0.01, "no difference is equivalence: {}", p(&[0.0; 64], epsilon));
        assert!(p(&[0.5; 64], epsilon) > 0.99, "always better is a difference");
        assert!(p(&[-0.2; 64], epsilon) > 0.99, "always worse is a difference");
        let even = sign_test(&signs(n, 32), epsilon).unwrap();
        assert_eq!((even.statistic, even.n), (0.0, n));
        // By hand: P(X ≤ 32) for X binomial(64, 0.6) is 0.0672; 64 signs cannot show it at 5 %, 256 can.
        assert!((even.p_value - 0.0672 - OUTSIDE).abs() < 5e-3, "{even:?}");
        assert!(p(&signs(256, 128), epsilon) < 0.005);
        // Sizes do not matter, signs do.
        let tiny: Vec<f64> = signs(n, 60).iter().map(|d| d * 1e-9).collect();
        assert_eq!(p(&tiny, epsilon), p(&signs(n, 60), epsilon));
        // ε of one half would be a null hypothesis that nothing can meet.
        assert!(sign_test(&signs(n, 32), 0.5).is_none() && sign_test(&[], 0.1).is_none());
        assert!(sign_test(&[f64::NAN], 0.1).is_none() && sign_test(&[1.0], 0.0).is_none());
    }

    #[test]
    fn the_sign_test_errs_as_rarely_as_it_says_with_and_without_ties() {
        let epsilon = 0.1;
        for (zero, positive) in [(0.0, 0.6), (0.5, 0.35), (0.8, 0.2)] {
            let (mut rng, trials) = (rng(3), 200);
            let ps: Vec<f64> = (0..trials)
                .map(|_| {
                    let mut draw = || match rng.random_range(0.0..1.0_f64) {
                        u if u < zero => 0.0,
                        u if u < zero + positive => 1.0,
                        _ => -1.0,
                    };
                    p(&(0..60).map(|_| draw()).collect::<Vec<_>>(), epsilon)
                })
                .collect();
            for level in [0.01, 0.05, 0.2] {
                let below = ps.iter().filter(|p| **p <= level).count() as f64 / f64::from(trials);
                // Three standard errors.
                let most = level + 3.0 * (level * (1.0 - level) / f64::from(trials)).sqrt();
                assert!(below <= most, "{zero} {level}: {below}");
            }
        }
        // And it has power: with 300 even signs it nearly always says so.
        let mut rng = rng(4);
        let found = (0..50)
            .filter(|_| {
                let even: Vec<f64> = (0..300).map(|_| if rng.random_bool(0.5) { 1.0 } else { -1.0 }).collect();
                p(&even, epsilon) < 0.05
            })
            .count();
        assert!(found > 40, "{found}");
    }

    fn normal(rng: &mut ChaCha8Rng) -> f64 {
        (0..12).map(|_| rng.random_range(0.0..1.0_f64)).sum::<f64>() - 6.0
    }

    /// Largest distance between the distribution of `p` and the uniform one (Kolmogorov and Smirnov).
    fn distance_from_uniform(mut p: Vec<f64>) -> f64 {
        p.sort_by(f64::total_cmp);
        let n = p.len() as f64;
        let at = |(i, p): (usize, &f64)| (p - i as f64 / n).abs().max((p - (i + 1) as f64 / n).abs());
        p.iter().enumerate().map(at).fold(0.0, f64::max)
    }

    #[test]
    fn tost_needs_data_to_pass() {
        let p = |d: &[f64], epsilon| tost(d, epsilon).unwrap().p_value;
        let spread = |n: usize| (0..n).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect::<Vec<f64>>();
        assert!(p(&spread(10), 0.2) > 0.2 && p(&spread(1000), 0.2) < 1e-6);
        // By hand: mean 0, s² = 4/3, t = 0.5 / √(1/3), three degrees of freedom.
        assert!((p(&spread(4), 0.5) - 0.225_17).abs() < 1e-4, "{}", p(&spread(4), 0.5));
        assert_eq!((p(&[0.0; 8], 0.1), p(&[0.2; 8], 0.1)), (0.5_f64.powi(8), 1.0));
        assert!(tost(&[0.0], 0.1).is_none() && tost(&[0.0, f64::NAN], 0.1).is_none() && tost(&[0.0; 9], 0.0).is_none());
        // Uniform where the mean is ε, to either side.
        for sign in [1.0, -1.0] {
            let mut rng = rng(5);
            let ps = (0..500).map(|_| {
                let sample: Vec<f64> = (0..30).map(|_| sign * 0.5 + 0.3 * normal(&mut rng)).collect();
                p(&sample, 0.5)
            });
            // Critical value at 1 % for 500.
            assert!(distance_from_uniform(ps.collect()) < 1.63 / 500.0_f64.sqrt());
        }
    }

    #[test]
    fn hsic_finds_dependence_that_no_correlation_shows_and_is_uniform_without() {
        let mut rng = rng(6);
        let x: Vec<f64> = (0..60).map(|_| normal(&mut rng)).collect();
        let square: Vec<f64> = x.iter().map(|x| x * x).collect();
        let found = hsic(&x, &square, 199, 1).unwrap();
        assert_eq!(found.p_value, 1.0 / 200.0, "{found:?}");
        assert_eq!(hsic(&x, &square, 199, 1), Some(found));
        let ps: Vec<f64> = (0..200)
            .map(|seed| {
                let (a, b): (Vec<f64>, Vec<f64>) = (0..20).map(|_| (normal(&mut rng), normal(&mut rng))).unzip();
                hsic(&a, &b, 99, seed).unwrap().p_value
            })
            .collect();
        // Critical value at 1 % for 200, and one step of p.
        assert!(distance_from_uniform(ps) < 1.63 / 200.0_f64.sqrt() + 0.01);
        assert!(hsic(&x, &[1.0; 60], 99, 1).is_none(), "a constant is independent of everything");
        assert!(hsic(&x[..3], &square[..3], 99, 1).is_none() && hsic(&[f64::NAN; 9], &x[..9], 99, 1).is_none());
    }

    #[test]
    fn hsic_by_hand() {
        // Two groups: K = L, ones within a group and c = exp(−½) across; HKH is ±(1 − c)/2, so HSIC = ((1 − c) / 2)².
        let x = [0.0, 0.0, 1.0, 1.0];
        let c = (-0.5_f64).exp();
        assert!((hsic(&x, &x, 9, 0).unwrap().statistic - ((1.0 - c) / 2.0).powi(2)).abs() < 1e-12);
    }
}
