//! Shares of pairs with exact intervals.

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};

/// Share of pairs with its exact two-sided 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Pairs on which a claim holds.
    pub holds: usize,
    /// Pairs that were tested.
    pub n: usize,
    /// Interval (Clopper and Pearson 1934): the shares that neither tail of 2.5 % of a binomial refutes.
    pub ci95: (f64, f64),
}

impl Share {
    /// Share `k / n`.
    ///
    /// # Panics
    /// When `k` is above `n`.
    #[track_caller]
    pub fn new(k: usize, n: usize) -> Self {
        assert!(k <= n, "{k} of {n}");
        let beta = |a: usize, b: usize| Beta::new(a as f64, b as f64).expect("positive");
        let low = if k == 0 { 0.0 } else { beta(k, n - k + 1).inverse_cdf(0.025) };
        let high = if k == n { 1.0 } else { beta(k + 1, n - k).inverse_cdf(0.975) };
        Self { holds: k, n, ci95: (low, high) }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} pairs, 95 % interval {:.3} to {:.3}", self.holds, self.n, self.ci95.0, self.ci95.1)
    }
}
