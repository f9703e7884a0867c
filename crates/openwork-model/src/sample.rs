//! Sampling text from a model.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Model, NoTap, NotFinite, Tokens};

/// Settings for drawing the next token.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most likely token.
    pub temperature: f32,
    /// Only the k most likely tokens can be drawn; 0 means all.
    pub top_k: usize,
    /// Tokens that can be drawn: those below it. A model may have more rows than its tokenizer has tokens.
    pub tokens: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Model {
    /// Continues `prompt` by `n` tokens, stopping early after `stop`. The model sees the last `n_ctx` tokens.
    ///
    /// # Errors
    /// When a value of a pass is not finite.
    ///
    /// # Panics
    /// When the prompt is empty, or no token can be drawn.
    pub fn generate(
        &self,
        prompt: &[u16],
        n: usize,
        stop: Option<u16>,
        sampling: Sampling,
    ) -> Result<Vec<u16>, NotFinite> {
        assert!(!prompt.is_empty(), "generate: the prompt is empty");
        assert!(sampling.tokens > 0, "generate: no token can be drawn");
        let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
        let mut tokens = prompt.to_vec();
        for _ in 0..n {
            let window = &tokens[tokens.len().saturating_sub(self.config.n_ctx)..];
            let batch = Tokens::new(window, window.len());
            let pass = self.forward(batch, Some(&[window.len() - 1]), &mut NoTap);
            self.check_finite(batch, &pass.logits)?;
            let next = draw(pass.logits.column(0).iter().copied().take(sampling.tokens).collect(), sampling, &mut rng);
            tokens.push(next);
            if Some(next) == stop {
                break;
            }
        }
        Ok(tokens.split_off(prompt.len()))
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
        let s = Sampling { temperature: 1.0, top_k: 0, tokens: 32, seed: 1 };
        let run = |s| model.generate(&[1, 2], 20, None, s).unwrap();
        assert_eq!(run(s), run(s));
        assert_ne!(run(s), run(Sampling { seed: 2, ..s }));
        let greedy = run(Sampling { temperature: 0.0, ..s });
        assert_eq!(greedy, run(Sampling { top_k: 1, ..s }));
        let stopped = model.generate(&[1, 2], 20, Some(greedy[0]), Sampling { temperature: 0.0, ..s }).unwrap();
        assert_eq!(stopped, [greedy[0]]);
    }

    #[test]
    fn rows_without_a_token_are_never_drawn() {
        let config = Config { vocab_size: 32, n_ctx: 8, n_layer: 1, d_model: 16, d_mlp: 16, ..Config::default() };
        let mut model = Model::init(config, 3);
        // Every row from 5 on is likelier than all others.
        model.params.logits_bias.update(|w| w.iter_mut().skip(5).for_each(|x| *x = 9.0));
        for temperature in [0.0, 1.0] {
            let sampling = Sampling { temperature, top_k: 0, tokens: 5, seed: 1 };
            assert!(model.generate(&[1], 50, None, sampling).unwrap().iter().all(|&token| token < 5));
        }
    }
}
