//! Intervals and p-values. The unit is always the pair: its two sequences are dependent.

use openwork_ops::reference::normal_cdf;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A mean with its 95 % confidence interval over `n` pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Mean over pairs.
    pub mean: f64,
    /// Two-sided 95 % interval.
    pub ci95: (f64, f64),
    /// Number of pairs.
    pub n: usize,
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.4} [{:.4}, {:.4}]", self.mean, self.ci95.0, self.ci95.1)
    }
}

/// Bootstrap resamples of `n` pairs, drawn once, so that quantities on the same pairs are resampled together.
pub(crate) struct Resamples {
    n: usize,
    indices: Vec<u32>,
}

impl Resamples {
    pub fn new(n: usize, count: usize, seed: u64) -> Self {
        assert!(n > 0 && count > 0, "a bootstrap needs pairs and resamples");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self { n, indices: (0..n * count).map(|_| rng.random_range(0..n as u32)).collect() }
    }

    /// Mean of one value a pair, with its BCa interval.
    pub fn mean(&self, values: &[f64]) -> Estimate {
        self.ratio(values, &vec![1.0; values.len()])
    }

    /// Ratio of means, with the bias-corrected and accelerated (BCa) interval of Efron 1987.
    ///
    /// The interval runs between the quantiles `Φ(z₀ + (z₀ ± 1.96)/(1 − a (z₀ ± 1.96)))` of the resampled
    /// ratios; `z₀` is the normal quantile of the share of them below the ratio, and `a` is
    /// `Σ d³ / 6 (Σ d²)^{3/2}` over the jackknife deviations d.
    pub fn ratio(&self, over: &[f64], under: &[f64]) -> Estimate {
        assert!(over.len() == self.n && under.len() == self.n, "one value a pair");
        let (sum_over, sum_under) = (sum(over), sum(under));
        let ratio = sum_over / sum_under;
        let mut resampled = self.ratios(over, under);
        resampled.sort_by(f64::total_cmp);
        let below = resampled.partition_point(|&r| r < ratio) as f64;
        let upto = resampled.partition_point(|&r| r <= ratio) as f64;
        let count = resampled.len() as f64;
        let z0 = normal_quantile(((below + upto) / 2.0 / count).clamp(0.5 / count, 1.0 - 0.5 / count));
        let jackknife: Vec<f64> =
            over.iter().zip(under).map(|(o, u)| (sum_over - o) / (sum_under - u).max(1e-300)).collect();
        let centre = sum(&jackknife) / self.n as f64;
        let square: f64 = jackknife.iter().map(|j| (centre - j).powi(2)).sum();
        let cube: f64 = jackknife.iter().map(|j| (centre - j).powi(3)).sum();
        let a = if square > 0.0 { cube / (6.0 * square.powf(1.5)) } else { 0.0 };
        let end = |z: f64| {
            let p = normal_cdf(z0 + (z0 + z) / (1.0 - a * (z0 + z)));
            quantile(&resampled, p)
        };
        Estimate { mean: ratio, ci95: (end(-Z95), end(Z95)), n: self.n }
    }

    /// One-sided p-value of "the mean is not below `bound`": `(1 + #{resampled mean ≥ bound}) / (B + 1)`.
    pub fn p_below(&self, values: &[f64], bound: f64) -> f64 {
        let means = self.ratios(values, &vec![1.0; values.len()]);
        p_value(means.iter().filter(|&&m| m >= bound).count(), means.len())
    }

    fn ratios(&self, over: &[f64], under: &[f64]) -> Vec<f64> {
        let one = |indices: &[u32]| {
            let total = |values: &[f64]| indices.iter().map(|&i| values[i as usize]).sum::<f64>();
            total(over) / total(under)
        };
        self.indices.chunks_exact(self.n).map(one).collect()
    }
}

const Z95: f64 = 1.959_963_984_540_054;

fn sum(values: &[f64]) -> f64 {
    values.iter().sum()
}

/// Mean of values in [0, 1], one a pair, with the exact (Clopper and Pearson 1934) 95 % interval of a binomial
/// proportion.
///
/// A bootstrap would call ten pairs out of ten certain. Half-right pairs are rounded against the claim at
/// each end: [0, 1]-valued variables spread less than yes-or-no ones of the same mean.
pub(crate) fn fraction(values: &[f64]) -> Estimate {
    let (n, total) = (values.len(), sum(values));
    let (few, many) = ((total + 1e-9).floor() as usize, (total - 1e-9).ceil().max(0.0) as usize);
    // P(X ≥ k | p) rises with p from 0 to 1: find where it is `level`.
    let solve = |k: usize, level: f64| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if binomial_tail(n, k, middle) < level { low = middle } else { high = middle }
        }
        (low + high) / 2.0
    };
    let low = if few == 0 { 0.0 } else { solve(few, 0.025) };
    let high = if many >= n { 1.0 } else { solve(many + 1, 0.975) };
    Estimate { mean: total / n as f64, ci95: (low, high), n }
}

/// P(X ≥ k) for X binomial(n, p).
pub(crate) fn binomial_tail(n: usize, k: usize, p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return if k == 0 || p >= 1.0 { 1.0 } else { 0.0 };
    }
    let mut log_choose = 0.0;
    let mut tail = 0.0;
    for i in 0..=n {
        if i > 0 {
            log_choose += ((n - i + 1) as f64 / i as f64).ln();
        }
        if i >= k {
            tail += (log_choose + i as f64 * p.ln() + (n - i) as f64 * (-p).ln_1p()).exp();
        }
    }
    tail.min(1.0)
}

/// Rank of the observed value among random ones: `(1 + #{at least as extreme}) / (R + 1)`, never 0
/// (Phipson and Smyth 2010).
pub(crate) fn p_value(at_least_as_extreme: usize, random: usize) -> f64 {
    (1 + at_least_as_extreme) as f64 / (1 + random) as f64
}

/// Adjusts p-values that decide together (Holm 1979), in the order given.
pub(crate) fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest: f64 = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max((p[i] * (p.len() - rank) as f64).min(1.0));
        adjusted[i] = largest;
    }
    adjusted
}

/// Quantile of sorted values, interpolated between neighbours.
pub(crate) fn quantile(sorted: &[f64], p: f64) -> f64 {
    let at = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - low as f64)
}

fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if normal_cdf(middle) < p { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exponential values of mean 1: as skewed as losses are.
    fn exponential(n: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
        (0..n).map(|_| -(1.0 - rng.random_range(0.0..1.0_f64)).ln()).collect()
    }

    #[test]
    fn the_interval_of_a_skewed_mean_covers_it_as_often_as_it_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let trials = 1500;
        let covers = |e: Estimate, truth: f64| usize::from(e.ci95.0 <= truth && truth <= e.ci95.1);
        let (mut mean, mut ratio) = (0, 0);
        for trial in 0..trials {
            let (a, b) = (exponential(80, &mut rng), exponential(80, &mut rng));
            let resamples = Resamples::new(80, 500, trial);
            mean += covers(resamples.mean(&a), 1.0);
            let under: Vec<f64> = b.iter().map(|x| 2.0 + x).collect();
            ratio += covers(resamples.ratio(&a, &under), 1.0 / 3.0);
        }
        // 95 % with a standard error of 0.6 %; the bootstrap is known to be a little short of it at n = 80.
        for hits in [mean, ratio] {
            let rate = hits as f64 / trials as f64;
            assert!((0.925..=0.965).contains(&rate), "{rate}");
        }
    }

    #[test]
    fn a_wider_level_or_a_shifted_truth_is_not_covered() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let wrong = (0..100)
            .filter(|&trial| {
                let e = Resamples::new(80, 500, trial).mean(&exponential(80, &mut rng));
                e.ci95.0 <= 1.6 && 1.6 <= e.ci95.1
            })
            .count();
        assert!(wrong < 10, "{wrong}");
    }

    #[test]
    fn same_seed_same_interval_and_constants_are_certain() {
        let values: Vec<f64> = (0..30).map(|i| f64::from(i * i % 7)).collect();
        assert_eq!(Resamples::new(30, 200, 1).mean(&values), Resamples::new(30, 200, 1).mean(&values));
        assert_ne!(Resamples::new(30, 200, 1).mean(&values), Resamples::new(30, 200, 2).mean(&values));
        let e = Resamples::new(30, 200, 1).mean(&[2.0; 30]);
        assert_eq!((e.mean, e.ci95), (2.0, (2.0, 2.0)));
    }

    #[test]
    fn exact_intervals_of_proportions() {
        // Closed form where nothing failed: the lower end is 0.025^{1/n}.
        let e = fraction(&[1.0; 36]);
        assert!((e.ci95.0 - 0.025_f64.powf(1.0 / 36.0)).abs() < 1e-9 && e.ci95.1 == 1.0);
        let e = fraction(&[0.0; 10]);
        assert!(e.ci95.0 == 0.0 && (e.ci95.1 - (1.0 - 0.025_f64.powf(0.1))).abs() < 1e-9);
        // 5 of 10: 0.1871 to 0.8129 in every table.
        let e = fraction(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.5, 0.5]);
        assert!((e.ci95.0 - 0.1871).abs() < 1e-4 && (e.ci95.1 - 0.8129).abs() < 1e-4, "{e}");
        // A half-right pair counts as wrong below and as right above.
        let e = fraction(&[1.0, 1.0, 1.0, 0.5]);
        assert_eq!(e.ci95.1, 1.0);
        assert!((e.ci95.0 - fraction(&[1.0, 1.0, 1.0, 0.0]).ci95.0).abs() < 1e-12);
    }

    #[test]
    fn tails_ranks_and_holm() {
        assert!((binomial_tail(10, 9, 0.5) - 11.0 / 1024.0).abs() < 1e-12);
        assert_eq!((binomial_tail(4, 0, 0.3), binomial_tail(4, 2, 0.0), binomial_tail(4, 2, 1.0)), (1.0, 0.0, 1.0));
        assert_eq!((p_value(0, 199), p_value(199, 199)), (1.0 / 200.0, 1.0));
        assert_eq!(holm(&[0.02, 0.01, 0.5]), [0.04, 0.03, 0.5]);
        assert_eq!(holm(&[0.04, 0.03]), [0.06, 0.06]);
        assert_eq!(holm(&[]), Vec::<f64>::new());
        assert!((normal_quantile(0.975) - Z95).abs() < 1e-9);
    }

    #[test]
    fn a_mean_below_the_bound_is_told_from_one_that_is_not() {
        let values: Vec<f64> = (0..60).map(|i| f64::from(i % 10) / 10.0).collect();
        let resamples = Resamples::new(60, 999, 3);
        assert_eq!(resamples.p_below(&values, 0.9), 0.001);
        assert!(resamples.p_below(&values, 0.46) > 0.2);
        assert_eq!(resamples.p_below(&values, 0.0), 1.0);
    }
}
