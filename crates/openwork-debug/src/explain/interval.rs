//! Bootstrap by context.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Resamples of every interval.
const RESAMPLES: usize = 2000;
/// Seed of the resamples.
const SEED: u64 = 0;

/// A number with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The number on the contexts at hand.
    pub value: f64,
    /// Percentiles 2.5 and 97.5 of the number on contexts drawn from these with replacement.
    pub ci95: (f64, f64),
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.value, self.ci95.0, self.ci95.1)
    }
}

/// Draws of contexts with replacement, made once, so that numbers on the same contexts are resampled together.
pub(crate) struct Bootstrap(Vec<Vec<u32>>);

impl Bootstrap {
    /// 2,000 draws of `contexts` contexts, with seed 0.
    ///
    /// # Panics
    /// When there are none.
    pub fn new(contexts: usize) -> Self {
        assert!(contexts > 0, "contexts are resampled");
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let mut draw = || (0..contexts).map(|_| rng.random_range(0..contexts as u32)).collect();
        Self((0..RESAMPLES).map(|_| draw()).collect())
    }

    /// `Σ over / Σ under` with its percentile interval (Efron 1979), one value a context each; draws in which the sum below is not
    /// positive have no ratio and make the interval unbounded.
    pub fn ratio(&self, over: &[f64], under: &[f64]) -> Interval {
        let of = |draw: &Vec<u32>| {
            let sum = |values: &[f64]| draw.iter().map(|&c| values[c as usize]).sum::<f64>();
            let (over, under) = (sum(over), sum(under));
            (under > 0.0).then(|| over / under)
        };
        let mut found: Vec<f64> = self.0.iter().filter_map(of).collect();
        found.sort_by(f64::total_cmp);
        let value = over.iter().sum::<f64>() / under.iter().sum::<f64>();
        // Draws without a ratio could be on either end.
        let missing = self.0.len() - found.len();
        let tail = RESAMPLES / 40;
        let ci95 = match tail.checked_sub(missing) {
            Some(at) => (found[at], found[found.len() - 1 - at]),
            None => (f64::NEG_INFINITY, f64::INFINITY),
        };
        Interval { value, ci95 }
    }

    /// Mean of one value a context, with its percentile interval.
    pub fn mean(&self, values: &[f64]) -> Interval {
        self.ratio(values, &vec![1.0; values.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_contexts_drawn_together() {
        let bootstrap = Bootstrap::new(50);
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        let mean = bootstrap.mean(&values);
        // The standard error of the mean of 0 to 49 is 2.04.
        assert_eq!(mean.value, 24.5);
        assert!((mean.ci95.0 - (24.5 - 4.0)).abs() < 0.6 && (mean.ci95.1 - (24.5 + 4.0)).abs() < 0.6, "{mean}");
        // What is the same share of every context has no spread.
        let doubled: Vec<f64> = values.iter().map(|x| 2.0 * x).collect();
        assert_eq!(bootstrap.ratio(&doubled, &values), Interval { value: 2.0, ci95: (2.0, 2.0) });
        let signs: Vec<f64> = (0..50).map(|i| if i % 2 == 0 { 1.0 } else { -1.01 }).collect();
        assert_eq!(bootstrap.ratio(&values, &signs).ci95, (f64::NEG_INFINITY, f64::INFINITY));
    }
}
