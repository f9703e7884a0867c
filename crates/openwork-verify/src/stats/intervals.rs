//! Intervals and p-values. The smallest unit is the pair: its two sequences are dependent.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, Binomial, ContinuousCDF, DiscreteCDF, Hypergeometric, Normal, StudentsT};

use crate::streams::Stream;

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

/// Groups with fewer members are taken as they are instead of being resampled: a bootstrap of five templates says
/// nothing about a sixth.
const MIN_GROUPS: usize = 6;

/// Bootstrap resamples of `n` pairs, drawn once, so that quantities on the same pairs are resampled together.
///
/// Pairs lie in groups within groups (seeds, in them templates): groups are drawn with replacement from the top down,
/// then pairs within them. Which levels were resampled is in [`Resamples::unit`].
pub(crate) struct Resamples {
    n: usize,
    /// Pairs of every resample.
    draws: Vec<Vec<u32>>,
    /// Groups that the jackknife leaves out: the top groups if these are resampled, else single pairs.
    left_out: Vec<Vec<u32>>,
}

impl Resamples {
    /// Resamples of `n` pairs that lie in no groups.
    #[cfg(test)]
    pub fn new(n: usize, count: usize, seed: u64) -> Self {
        Self::grouped(&vec![vec![]; n], count, seed)
    }

    /// `labels` are those of every pair, the top level first, as many for each.
    pub fn grouped(labels: &[Vec<usize>], count: usize, seed: u64) -> Self {
        let n = labels.len();
        assert!(n > 0 && count > 0, "a bootstrap needs pairs and resamples");
        let mut rng = Stream::Bootstrap.rng(seed);
        let all: Vec<u32> = (0..n as u32).collect();
        let draw = |_| {
            let mut pairs = Vec::with_capacity(n);
            resample(labels, &all, 0, &mut rng, &mut pairs);
            pairs
        };
        let draws = (0..count).map(draw).collect();
        let top = groups(labels, &all, 0);
        let left_out = if top.len() >= MIN_GROUPS { top } else { all.into_iter().map(|pair| vec![pair]).collect() };
        Self { n, draws, left_out }
    }

    /// Unit of the intervals: pairs, or the top groups where those are resampled.
    pub fn unit(&self) -> String {
        match self.left_out.len() {
            n if n == self.n => "pairs, within their templates".into(),
            groups => format!("{groups} templates, and pairs within them"),
        }
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
        let z0 = normal().inverse_cdf(((below + upto) / 2.0 / count).clamp(0.5 / count, 1.0 - 0.5 / count));
        let without = |group: &Vec<u32>| {
            let of = |values: &[f64]| group.iter().map(|&i| values[i as usize]).sum::<f64>();
            (sum_over - of(over)) / (sum_under - of(under)).max(1e-300)
        };
        let jackknife: Vec<f64> = self.left_out.iter().map(without).collect();
        let centre = sum(&jackknife) / jackknife.len() as f64;
        let square: f64 = jackknife.iter().map(|j| (centre - j).powi(2)).sum();
        let cube: f64 = jackknife.iter().map(|j| (centre - j).powi(3)).sum();
        let a = if square > 0.0 { cube / (6.0 * square.powf(1.5)) } else { 0.0 };
        let end = |z: f64| {
            let p = normal().cdf(z0 + (z0 + z) / (1.0 - a * (z0 + z)));
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
        let one = |pairs: &Vec<u32>| {
            let total = |values: &[f64]| pairs.iter().map(|&i| values[i as usize]).sum::<f64>();
            total(over) / total(under)
        };
        self.draws.iter().map(one).collect()
    }
}

/// `Σ over / Σ under` on some pairs less the same on others, with the percentile interval of resamples that were drawn
/// independently of each other. `n` is that of the fewer pairs.
pub(crate) fn difference_of_ratios(
    (a, over_a, under_a): (&Resamples, &[f64], &[f64]),
    (b, over_b, under_b): (&Resamples, &[f64], &[f64]),
) -> Estimate {
    let mut resampled: Vec<f64> =
        a.ratios(over_a, under_a).iter().zip(b.ratios(over_b, under_b)).map(|(a, b)| a - b).collect();
    resampled.sort_by(f64::total_cmp);
    let mean = sum(over_a) / sum(under_a) - sum(over_b) / sum(under_b);
    Estimate { mean, ci95: (quantile(&resampled, 0.025), quantile(&resampled, 0.975)), n: a.n.min(b.n) }
}

/// The pairs of `within` by their label at `level`, in the order of labels.
fn groups(labels: &[Vec<usize>], within: &[u32], level: usize) -> Vec<Vec<u32>> {
    let mut by_label = BTreeMap::<usize, Vec<u32>>::new();
    for &pair in within {
        let label = labels[pair as usize].get(level).copied().unwrap_or(0);
        by_label.entry(label).or_default().push(pair);
    }
    by_label.into_values().collect()
}

fn resample(labels: &[Vec<usize>], within: &[u32], level: usize, rng: &mut ChaCha8Rng, out: &mut Vec<u32>) {
    if level == labels[0].len() {
        return out.extend(within.iter().map(|_| within[rng.random_range(0..within.len())]));
    }
    let groups = groups(labels, within, level);
    for i in 0..groups.len() {
        let drawn = if groups.len() < MIN_GROUPS { i } else { rng.random_range(0..groups.len()) };
        resample(labels, &groups[drawn], level + 1, rng, out);
    }
}

fn normal() -> Normal {
    Normal::standard()
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
pub fn fraction(values: &[f64]) -> Estimate {
    let (n, total) = (values.len(), sum(values));
    let (few, many) = ((total + 1e-9).floor() as usize, (total - 1e-9).ceil().max(0.0) as usize);
    Estimate { mean: total / n as f64, ci95: (lower_bound(n, few, 0.025), upper_bound(n, many, 0.025)), n }
}

/// The exact (Clopper and Pearson 1934) 95 % interval of the probability of what happened k times of n.
pub fn proportion(k: usize, n: usize) -> (f64, f64) {
    (lower_bound(n, k, 0.025), upper_bound(n, k, 0.025))
}

/// The largest p that `k` or more successes of `n` refute at level `alpha`.
pub(crate) fn lower_bound(n: usize, k: usize, alpha: f64) -> f64 {
    let beta = |k: usize| Beta::new(k as f64, (n - k + 1) as f64).expect("positive");
    if k == 0 { 0.0 } else { beta(k.min(n)).inverse_cdf(alpha) }
}

/// The smallest p that `k` or fewer successes of `n` refute at level `alpha`.
pub(crate) fn upper_bound(n: usize, k: usize, alpha: f64) -> f64 {
    let beta = |k: usize| Beta::new((k + 1) as f64, (n - k) as f64).expect("positive");
    if k >= n { 1.0 } else { beta(k).inverse_cdf(1.0 - alpha) }
}

/// Share of marked ones in a population of which `k` of a sample of n, drawn without replacement, are marked, with its exact 95 %
/// interval (hypergeometric, after Clopper and Pearson): certain where the sample is everybody.
pub(crate) fn marked(population: usize, n: usize, k: usize) -> Estimate {
    let draw = |marked: usize| Hypergeometric::new(population as u64, marked as u64, n as u64).expect("a sample of it");
    let possible = k..=population - (n - k);
    let few = possible.clone().find(|&m| k == 0 || draw(m).sf(k as u64 - 1) > 0.025).unwrap_or(k);
    let many = possible.rev().find(|&m| draw(m).cdf(k as u64) > 0.025).unwrap_or(k);
    let share = |m: usize| m as f64 / population as f64;
    Estimate { mean: k as f64 / n as f64, ci95: (share(few), share(many)), n }
}

/// P(X ≥ k) for X binomial(n, p).
pub(crate) fn binomial_tail(n: usize, k: usize, p: f64) -> f64 {
    match k {
        0 => 1.0,
        k => Binomial::new(p, n as u64).expect("a probability").sf(k as u64 - 1),
    }
}

/// Rank of the observed value among random ones: `(1 + #{at least as extreme}) / (R + 1)`, never 0
/// (Phipson and Smyth 2010).
pub(crate) fn p_value(at_least_as_extreme: usize, random: usize) -> f64 {
    (1 + at_least_as_extreme) as f64 / (1 + random) as f64
}

/// p-value of "the mean of what these are a sample of is at most `bound`", by Student's t: dozens of nodes are asked at
/// once, and a bootstrap of hundreds has no p-values small enough to be divided among them.
pub(crate) fn p_not_above(values: &[f64], bound: f64) -> f64 {
    let n = values.len() as f64;
    let mean = sum(values) / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    if variance == 0.0 {
        return if mean > bound { 0.0 } else { 1.0 };
    }
    StudentsT::new(0.0, 1.0, (n - 1.0).max(1.0)).expect("positive freedom").sf((mean - bound) / (variance / n).sqrt())
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Exponential values of mean 1: as skewed as losses are.
    fn exponential(n: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
        (0..n).map(|_| -(1.0 - rng.random_range(0.0..1.0_f64)).ln()).collect()
    }

    #[test]
    fn the_interval_of_a_difference_of_ratios_covers_it_as_often_as_it_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let trials = 1000;
        let covered = (0..trials).filter(|&trial| {
            let (a, b) = (exponential(60, &mut rng), exponential(90, &mut rng));
            let under = |n| vec![2.0; n];
            let of = [Resamples::new(60, 400, 2 * trial), Resamples::new(90, 400, 2 * trial + 1)];
            let e = difference_of_ratios((&of[0], &a, &under(60)), (&of[1], &b, &under(90)));
            e.ci95.0 <= 0.0 && 0.0 <= e.ci95.1
        });
        // 95 % give or take five standard errors of a thousand trials, and what percentiles lack with skewed values.
        let covered = covered.count();
        assert!((905..=985).contains(&covered), "{covered} of {trials}");
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
    fn exact_intervals_of_samples_without_replacement() {
        // Everybody was asked.
        assert_eq!(marked(30, 30, 4), Estimate { mean: 4.0 / 30.0, ci95: (4.0 / 30.0, 4.0 / 30.0), n: 30 });
        // One of two asked, and not marked: the other may be, since that happens half the time.
        assert_eq!(marked(2, 1, 0).ci95, (0.0, 0.5));
        assert_eq!(marked(2, 1, 1).ci95, (0.5, 1.0));
        // 10 of 20 asked, none marked: m marked are missed with probability C(20 − m, 10) / C(20, 10), 0.0433 for 4 and 0.0163 for 5.
        assert_eq!(marked(20, 10, 0).ci95, (0.0, 0.2));
        // A sample much smaller than the population is as good as drawn with replacement: 3 / n.
        let many = marked(100_000, 256, 0).ci95.1;
        assert!((many - upper_bound(256, 0, 0.025)).abs() < 1e-3, "{many}");
        // Coverage, by counting: of every population of 40, at most 5 % of samples leave its share outside.
        for m in 0..=40 {
            let missed = |k: usize| {
                let Estimate { ci95: (low, high), .. } = marked(40, 12, k);
                let share = m as f64 / 40.0;
                share < low - 1e-12 || share > high + 1e-12
            };
            use statrs::distribution::Discrete;
            let draw = Hypergeometric::new(40, m, 12).unwrap();
            let possible = (12 + m as usize).saturating_sub(40)..=12.min(m as usize);
            let outside: f64 = possible.filter(|&k| missed(k)).map(|k| draw.pmf(k as u64)).sum();
            assert!(outside <= 0.05 + 1e-9, "{m}: {outside}");
        }
    }

    #[test]
    fn the_t_test_is_level_and_sees_what_is_there() {
        // t = 2.5 with 9 degrees of freedom: 0.01694 in every table.
        let values: Vec<f64> = (0..10).map(|i| f64::from(i % 2) * 2.0 - 1.0).collect();
        let se = (10.0 / 9.0 / 10.0_f64).sqrt();
        assert!((p_not_above(&values, -2.5 * se) - 0.016_94).abs() < 1e-4);
        assert_eq!((p_not_above(&[1.0; 5], 0.5), p_not_above(&[1.0; 5], 1.0)), (0.0, 1.0));
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let low = (0..400).filter(|_| p_not_above(&exponential(40, &mut rng), 1.0) <= 0.05).count();
        // Against a skew to the right the test errs on the safe side.
        assert!(low <= 30, "{low} of 400");
    }

    #[test]
    fn tails_ranks_and_holm() {
        assert!((binomial_tail(10, 9, 0.5) - 11.0 / 1024.0).abs() < 1e-12);
        assert_eq!((binomial_tail(4, 0, 0.3), binomial_tail(4, 2, 0.0), binomial_tail(4, 2, 1.0)), (1.0, 0.0, 1.0));
        assert_eq!((p_value(0, 199), p_value(199, 199)), (1.0 / 200.0, 1.0));
        assert_eq!(holm(&[0.02, 0.01, 0.5]), [0.04, 0.03, 0.5]);
        assert_eq!(holm(&[0.04, 0.03]), [0.06, 0.06]);
        assert_eq!(holm(&[]), Vec::<f64>::new());
        assert!((normal().inverse_cdf(0.975) - Z95).abs() < 1e-9);
    }

    #[test]
    fn a_mean_below_the_bound_is_told_from_one_that_is_not() {
        let values: Vec<f64> = (0..60).map(|i| f64::from(i % 10) / 10.0).collect();
        let resamples = Resamples::new(60, 999, 3);
        assert_eq!(resamples.p_below(&values, 0.9), 0.001);
        assert!(resamples.p_below(&values, 0.46) > 0.2);
        assert_eq!(resamples.p_below(&values, 0.0), 1.0);
    }

    #[test]
    fn pairs_of_one_template_that_err_together_widen_the_interval() {
        // Eight templates of ten pairs; all pairs of a template are alike.
        let labels: Vec<Vec<usize>> = (0..80).map(|i| vec![i / 10]).collect();
        let values: Vec<f64> = (0..80).map(|i| f64::from(u8::from(i / 10 % 2 == 0))).collect();
        let width = |r: &Resamples| {
            let e = r.mean(&values);
            e.ci95.1 - e.ci95.0
        };
        let (alone, grouped) = (Resamples::new(80, 1000, 1), Resamples::grouped(&labels, 1000, 1));
        assert!(width(&grouped) > 2.0 * width(&alone), "{} {}", width(&grouped), width(&alone));
        assert_eq!(grouped.unit(), "8 templates, and pairs within them");
        // Five are too few to resample: then every template keeps its pairs, and constants are certain.
        let few: Vec<Vec<usize>> = (0..80).map(|i| vec![i / 16]).collect();
        let by_template: Vec<f64> = (0..80).map(|i| f64::from(i / 16)).collect();
        let e = Resamples::grouped(&few, 500, 1).mean(&by_template);
        assert_eq!(e.ci95, (2.0, 2.0));
    }

    #[test]
    fn intervals_over_seeds_cover_the_mean_over_seeds() {
        // Twelve seeds with an effect each, five pairs a seed: intervals over pairs alone are far too narrow.
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let labels: Vec<Vec<usize>> = (0..60).map(|i| vec![i / 5]).collect();
        let (mut grouped, mut alone) = (0, 0);
        for trial in 0..400 {
            let effects: Vec<f64> = (0..12).map(|_| normal().inverse_cdf(rng.random_range(1e-6..1.0))).collect();
            let values: Vec<f64> = (0..60).map(|i| effects[i / 5] + 0.3 * rng.random_range(-1.0..1.0_f64)).collect();
            let covers = |r: &Resamples| {
                let e = r.mean(&values);
                usize::from(e.ci95.0 <= 0.0 && 0.0 <= e.ci95.1)
            };
            grouped += covers(&Resamples::grouped(&labels, 300, trial));
            alone += covers(&Resamples::new(60, 300, trial));
        }
        // Twelve groups: a little short of 95 %, as bootstraps are; 400 trials have a deviation of 1.3 %.
        assert!((340..=392).contains(&grouped) && alone < 300, "{grouped} {alone}");
    }
}
