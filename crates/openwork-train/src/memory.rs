//! Memory that a run needs, before it starts.

use openwork_model::{ActivationDtype, Bigram, Config, SiteKind};
use openwork_ops::crossover;

use crate::Recipe;

/// Bytes of a run, by purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights: dense, and at most as many nonzeros beside them as sparse products are used for.
    pub weights: usize,
    /// Adam's two moments.
    pub moments: usize,
    /// Gradients: one per thread, and their sum where there are more lanes than threads.
    pub gradients: usize,
    /// Activations of one chunk per thread, with what operations work in.
    pub activations: usize,
    /// Part of weights, moments and gradients that is the bigram table's: the square of the vocabulary.
    pub bigram: usize,
}

impl MemoryPlan {
    /// Of `recipe` on `threads` threads.
    pub fn new(recipe: &Recipe, threads: usize) -> Self {
        let parameters = recipe.config.n_parameters();
        let (lanes, threads) = (recipe.lanes as u128, threads.max(1) as u128);
        let buffers = lanes.min(threads) + u128::from(lanes > threads);
        // W and its transpose, place and value each, and the way from one to the other; a bit of support.
        let sparse = (parameters as f64 * crossover() * 20.0) as u128 + parameters / 8;
        let tokens = recipe.chunk_sequences as u128 * recipe.config.n_ctx as u128;
        let activations = activations(&recipe.config, recipe.schedule.dtype, tokens);
        Self {
            weights: bytes(4 * parameters + sparse),
            moments: bytes(8 * parameters),
            gradients: bytes(4 * parameters * buffers),
            activations: bytes(lanes.min(threads).saturating_mul(activations)),
            bigram: match recipe.config.bigram {
                Bigram::None => 0,
                // Weight, two moments, gradients; it stays dense.
                Bigram::Learned | Bigram::Fixed => bytes((recipe.config.vocab_size as u128).pow(2) * 4 * (3 + buffers)),
            },
        }
    }

    /// Total of all purposes.
    pub fn total(&self) -> usize {
        [self.moments, self.gradients, self.activations].into_iter().fold(self.weights, usize::saturating_add)
    }
}

/// A number of bytes, or the most that there can be.
fn bytes(n: u128) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Bytes that forward and backward of `tokens` tokens work in. Sizes are below 2³¹ ([`Recipe::parse`]), so that no sum or
/// product here is beyond 128 bits.
fn activations(config: &Config, dtype: ActivationDtype, tokens: u128) -> u128 {
    let wide = |n: usize| n as u128;
    let [d, d_mlp, n_head, vocab_size] = [config.d_model, config.d_mlp, config.n_head, config.vocab_size].map(wide);
    let (d_read, d_attn, n_layer) = (wide(config.d_read()), n_head * wide(config.d_head), wide(config.n_layer));
    // What a block keeps for its backward: residual streams, q, k, v and slopes; and what its matrices read: the
    // normalised streams, the mix and the neurons.
    let (kept, read) = (2 * d + 3 * d_attn + n_head + d_mlp, 2 * d_read + d_attn + d_mlp);
    let marked = |kind: SiteKind, features: u128| if config.act_k(kind).is_some() { features } else { 0 };
    let marks = marked(SiteKind::AttnRead, d_read)
        + marked(SiteKind::Query, d_attn)
        + marked(SiteKind::Key, d_attn)
        + marked(SiteKind::Value, d_attn)
        + marked(SiteKind::AttnWrite, d)
        + marked(SiteKind::MlpRead, d_read)
        + marked(SiteKind::Neuron, d_mlp)
        + marked(SiteKind::MlpWrite, d);
    // Gradients on their way through one block, and transposes of them and of inputs.
    let widest = (3 * d_attn).max(d_mlp).max(d_read).max(vocab_size);
    let passing = 8 * d + 4 * d_read + 10 * d_attn + 3 * d_mlp + 2 * vocab_size + 2 * widest;
    let (read_bytes, passing_bytes) = match dtype {
        ActivationDtype::F32 => (4, 4 * passing),
        // A gradient is there rounded, too, and packed.
        ActivationDtype::Bf16 => (2, 4 * passing + 6 * widest),
    };
    // Of a gradient: place and value each, in memory that grows by doubling.
    let nonzeros = (16.0 * crossover() * widest as f64) as u128;
    // Of a head in attention: three tiles of 256 queries, and twice its keys.
    let tiles = 4 * wide(config.d_head) * (3 * 256 + 2 * wide(config.n_ctx));
    tokens * (n_layer * (4 * kept + read_bytes * read + marks) + passing_bytes + nonzeros) + tiles
}

#[cfg(test)]
mod tests {
    use openwork_model::Model;

    use super::*;
    use crate::{SHIPPED, Trainer};

    #[test]
    fn sizes_beyond_any_memory_are_the_most_there_can_be() {
        let mut recipe = Recipe::parse(SHIPPED[0].1).unwrap();
        recipe.config.vocab_size = 1 << 16;
        let plan = MemoryPlan::new(&recipe, 2);
        assert!(plan.bigram > 1 << 36 && plan.bigram < plan.total());
        let most = (1 << 31) - 1;
        let config = &mut recipe.config;
        (config.n_layer, config.n_head, config.d_head, config.d_model, config.d_mlp) = (most, most, most, most, most);
        (config.n_ctx, recipe.chunk_sequences, recipe.lanes) = (most, most, most);
        assert_eq!(MemoryPlan::new(&recipe, most).total(), usize::MAX);
    }

    #[test]
    fn a_step_stays_within_its_plan() {
        let mut recipe = Recipe::parse(SHIPPED[0].1).unwrap();
        (recipe.config.n_layer, recipe.config.d_model, recipe.config.vocab_size) = (3, 64, 512);
        for (lanes, threads, dtype) in
            [(1, 1, ActivationDtype::F32), (4, 2, ActivationDtype::F32), (1, 1, ActivationDtype::Bf16)]
        {
            (recipe.lanes, recipe.schedule.dtype) = (lanes, dtype);
            let plan = MemoryPlan::new(&recipe, threads);
            let model = Model::init(recipe.config.clone(), 0);
            let mut trainer = Trainer::new(model, recipe.schedule.clone(), lanes, recipe.chunk_sequences);
            let batch: Vec<u16> =
                (0..4 * recipe.chunk_sequences * recipe.config.n_ctx).map(|i| (i * 7 % 512) as u16).collect();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let Ok(_) = pool.install(|| trainer.step(&batch, recipe.config.n_ctx));
            let (gradients, activations) = trainer.working_memory();
            assert_eq!(gradients, plan.gradients);
            assert!(activations <= plan.activations, "{activations} bytes used of {} planned", plan.activations);
            assert!(2 * activations > plan.activations, "{activations} bytes used of {} planned", plan.activations);
        }
    }
}
