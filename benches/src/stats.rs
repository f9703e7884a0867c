//! Medians, quantiles, intervals.

/// Median with the quantiles that eight of ten samples lie between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A tenth of the samples lies below.
    pub p10: f64,
    /// Half of the samples lie below.
    pub median: f64,
    /// A tenth of the samples lies above.
    pub p90: f64,
}

impl Spread {
    /// Of at least one sample.
    pub fn of(samples: &[f64]) -> Self {
        let [p10, median, p90] = [0.1, 0.5, 0.9].map(|q| quantile(samples, q));
        Self { p10, median, p90 }
    }

    /// The spread of `scale / sample`: speeds from times.
    pub fn inverse(self, scale: f64) -> Self {
        Self { p10: scale / self.p90, median: scale / self.median, p90: scale / self.p10 }
    }
}

/// The value below which the fraction `q` of the samples lies, on the line between neighbours.
///
/// # Panics
/// When there are no samples.
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    assert!(!samples.is_empty(), "a quantile of nothing");
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() - 1) as f64 * q;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// Half of the samples lie below.
///
/// # Panics
/// When there are no samples.
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// Mean with its 95 % interval by Student's t, for samples that are roughly normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// Mean.
    pub mean: f64,
    /// Half the width of the interval; infinite for a single sample.
    pub half_width: f64,
    /// Number of samples.
    pub n: usize,
}

impl Mean {
    /// `None` of no samples.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let n = samples.len();
        let mean = samples.iter().sum::<f64>() / n as f64;
        let square = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        let half_width = match n {
            0 => return None,
            1 => f64::INFINITY,
            _ => t95(n - 1) * (square / (n - 1) as f64 / n as f64).sqrt(),
        };
        Some(Self { mean, half_width, n })
    }
}

impl std::fmt::Display for Mean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.n {
            1 => write!(f, "{:.3} (1 seed)", self.mean),
            n => write!(f, "{:.3} ± {:.3} ({n} seeds)", self.mean, self.half_width),
        }
    }
}

/// The 97.5 % quantile of Student's t distribution (any table of it).
fn t95(degrees_of_freedom: usize) -> f64 {
    const T: [f64; 12] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179];
    // Beyond the table: the first term of the expansion around the normal quantile, good to 0.01 from 12 on.
    T.get(degrees_of_freedom - 1).copied().unwrap_or_else(|| 1.960 + 2.372 / degrees_of_freedom as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let samples = [3.0, 1.0, 2.0, 5.0];
        assert_eq!((median(&samples), quantile(&samples, 0.0), quantile(&samples, 1.0)), (2.5, 1.0, 5.0));
        assert_eq!(quantile(&[7.0], 0.9), 7.0);
        let speeds = Spread::of(&[1.0, 2.0, 4.0]).inverse(8.0);
        assert_eq!(speeds.median, 4.0);
        assert!(speeds.p10 < speeds.median && speeds.median < speeds.p90);
    }

    #[test]
    fn intervals_are_those_of_the_t_distribution() {
        let mean = Mean::of(&[1.0, 2.0, 3.0]).unwrap();
        // s = 1, n = 3: 4.303 / √3.
        assert!((mean.half_width - 2.4843).abs() < 1e-3 && mean.mean == 2.0);
        assert_eq!(Mean::of(&[]), None);
        assert_eq!(Mean::of(&[1.0]).unwrap().half_width, f64::INFINITY);
        assert!((t95(30) - 2.042).abs() < 0.01 && (t95(13) - 2.160).abs() < 0.02);
    }
}
