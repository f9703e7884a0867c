//! Order of the windows of the corpus in training.

use openwork_tensor::{ShardError, TokenShards};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Non-overlapping windows of `n_ctx` tokens in an order shuffled anew every epoch. Window `i` of the run
/// is a function of the seed and `i` alone, so that a resumed run needs no other state.
pub struct Windows {
    n_ctx: usize,
    n_windows: u64,
    seed: u64,
    epoch: u64,
    order: Vec<u32>,
}

impl Windows {
    /// `None` when the corpus is shorter than one window.
    pub fn new(n_tokens: u64, n_ctx: usize, seed: u64) -> Option<Self> {
        let n_windows = (n_tokens / n_ctx as u64).min(u64::from(u32::MAX));
        (n_windows > 0).then(|| Self { n_ctx, n_windows, seed, epoch: u64::MAX, order: vec![] })
    }

    /// Number of windows in an epoch.
    pub fn len(&self) -> u64 {
        self.n_windows
    }

    /// Never: [`Windows::new`] refuses an empty corpus.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// First token of the `i`-th window of the run.
    pub fn start(&mut self, i: u64) -> u64 {
        let epoch = i / self.n_windows;
        if epoch != self.epoch {
            self.epoch = epoch;
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(epoch);
            self.order = (0..self.n_windows as u32).collect();
            for last in (1..self.order.len()).rev() {
                self.order.swap(last, rng.random_range(0..=last));
            }
        }
        u64::from(self.order[(i % self.n_windows) as usize]) * self.n_ctx as u64
    }

    /// The `n` windows from the `first`-th of the run, one after the other.
    ///
    /// # Errors
    /// When a shard cannot be read, or has been cut off since it was opened.
    pub fn read(&mut self, shards: &TokenShards, first: u64, n: usize) -> Result<Vec<u16>, ShardError> {
        let mut tokens = vec![0; n * self.n_ctx];
        for (i, window) in tokens.chunks_exact_mut(self.n_ctx).enumerate() {
            let start = self.start(first + i as u64);
            shards.read(start, window)?;
        }
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_visits_every_window_once_in_its_own_order() {
        let mut w = Windows::new(1000, 64, 3).unwrap();
        assert_eq!(w.len(), 15);
        let epoch = |w: &mut Windows, e: u64| (0..15).map(|i| w.start(e * 15 + i)).collect::<Vec<_>>();
        let (a, b) = (epoch(&mut w, 0), epoch(&mut w, 1));
        assert_ne!(a, b);
        for mut order in [a.clone(), b] {
            order.sort_unstable();
            assert_eq!(order, (0..15).map(|i| i * 64).collect::<Vec<_>>());
        }
        assert_eq!(epoch(&mut w, 0), a);
        assert!(Windows::new(63, 64, 0).is_none());
    }
}
