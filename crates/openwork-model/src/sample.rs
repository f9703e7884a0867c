//! Sampling text from a model.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Model, NoTap, Tokens};

/// Settings for drawing the next token.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most likely token.
    pub temperature: f32,
    /// Only the k most likely tokens can be drawn; 0 means all.
    pub top_k: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Model {
    /// Continues `prompt` by `n` tokens, stopping early after `stop`. The model sees the last `n_ctx` tokens.
    ///
    /// # Panics
    /// When the prompt is empty.
    pub fn generate(&self, prompt: &[u16], n: usize, stop: Option<u16>, sampling: Sampling) -> Vec<u16> {
        assert!(!prompt.is_empty(), "generate: the prompt is empty");
        let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
        let mut tokens = prompt.to_vec();
        for _ in 0..n {
            let window = &tokens[tokens.len().saturating_sub(self.config.n_ctx)..];
            let pass = self.forward(Tokens::new(window, window.len()), Some(&[window.len() - 1]), &mut NoTap);
            let next = draw(pass.logits.column(0).to_vec(), sampling, &mut rng);
            tokens.push(next);
            if Some(next) == stop {
                break;
            }
        }
        tokens.split_off(prompt.len())
    }
}

fn draw(logits: Vec<f32>, sampling: Sampling, rng: &mut ChaCha8Rng) -> u16 {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    if sampling.temperature <= 0.0 {
        return order[0] as u16;
    }
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k);
    }
    let weight = |i: usize| f64::from((logits[i] - logits[order[0]]) / sampling.temperature).exp();
    let total: f64 = order.iter().map(|&i| weight(i)).sum();
    let mut at = rng.random_range(0.0..total);
    for &i in &order {
        at -= weight(i);
        if at < 0.0 {
            return i as u16;
        }
    }
    order[order.len() - 1] as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn seeds_temperature_and_top_k() {
        let config = Config { vocab_size: 32, n_ctx: 8, n_layer: 1, d_model: 16, d_mlp: 16, ..Config::default() };
        let model = Model::init(config, 3);
        let s = Sampling { temperature: 1.0, top_k: 0, seed: 1 };
        let run = |s| model.generate(&[1, 2], 20, None, s);
        assert_eq!(run(s), run(s));
        assert_ne!(run(s), run(Sampling { seed: 2, ..s }));
        let greedy = run(Sampling { temperature: 0.0, ..s });
        assert_eq!(greedy, run(Sampling { top_k: 1, ..s }));
        assert_eq!(model.generate(&[1, 2], 20, Some(greedy[0]), Sampling { temperature: 0.0, ..s }), [greedy[0]]);
    }
}
