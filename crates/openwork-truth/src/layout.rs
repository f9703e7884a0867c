//! From a program to weights: where each variable, head and neuron lies, and what useless company it gets.

use openwork_model::{Activation, Bigram, Config, Matrix, Model, NormKind, Positions};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::builder::{Builder, Entry};

/// How a program becomes a model. None of it changes what the model computes, so that verdicts must not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Seed of everything below.
    pub seed: u64,
    /// Puts channels, heads, dimensions of heads and neurons in random order.
    pub permute: bool,
    /// Gives tokens random ids.
    pub rename: bool,
    /// Useless company.
    pub noise: Noise,
}

/// Parts that compute something from tokens, the program's variables and each other, and never reach the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// Channels of the residual stream.
    pub channels: usize,
    /// Heads a block.
    pub heads: usize,
    /// Neurons a block.
    pub neurons: usize,
}

impl Options {
    /// A random order, random ids and some noise, all by `seed`.
    pub fn random(seed: u64) -> Self {
        Self { seed, permute: true, rename: true, noise: Noise { channels: 6, heads: 1, neurons: 6 } }
    }
}

/// Where things lie: logical number → physical number.
struct Places {
    channels: Vec<usize>,
    /// By block.
    heads: Vec<Vec<usize>>,
    /// By block and head.
    dimensions: Vec<Vec<Vec<usize>>>,
    /// By block.
    neurons: Vec<Vec<usize>>,
}

impl Builder {
    /// The model, and the id of every token.
    ///
    /// Without norm, AbsTopK, bigram table; ReLU; added positions.
    pub fn build(&self, options: &Options) -> (Model, Vec<u16>) {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let config = self.config(options.noise);
        let mut order = |n: usize, shuffle: bool| {
            let mut order: Vec<usize> = (0..n).collect();
            if shuffle {
                order.shuffle(&mut rng);
            }
            order
        };
        let ids: Vec<u16> = order(config.vocab_size, options.rename).into_iter().map(|id| id as u16).collect();
        let mut block = |n: usize| (0..config.n_layer).map(|_| order(n, options.permute)).collect::<Vec<_>>();
        let (heads, neurons) = (block(config.n_head), block(config.d_mlp));
        let dimensions = (0..config.n_layer)
            .map(|_| (0..config.n_head).map(|_| order(config.d_head, options.permute)).collect())
            .collect();
        let places = Places { channels: order(config.d_model, options.permute), heads, dimensions, neurons };
        let mut model = zeros(config);
        self.embeddings(&mut model, &places.channels, &ids);
        self.attention(&mut model, &places);
        self.mlps(&mut model, &places);
        self.noise(&mut model, &places, options.noise, &mut rng);
        (model, ids)
    }

    fn config(&self, noise: Noise) -> Config {
        let n_layer = self.n_layer();
        let by_layer = |layers: Vec<usize>| (0..n_layer).map(|l| layers.iter().filter(|&&x| x == l).count()).max();
        let heads = by_layer(self.heads.iter().map(|h| h.layer).collect());
        let neurons = by_layer(self.neurons.iter().map(|n| n.layer).collect());
        let dimensions = self.heads.iter().flat_map(|h| h.query.iter().chain(&h.value)).map(|e| e.0 + 1).max();
        Config {
            vocab_size: self.vocab_size,
            n_ctx: self.n_ctx,
            n_layer,
            n_head: (heads.unwrap_or(0) + noise.heads).max(1),
            d_head: dimensions.unwrap_or(1),
            d_model: self.ready.len() + noise.channels,
            d_mlp: (neurons.unwrap_or(0) + noise.neurons).max(1),
            ..plain_config()
        }
    }

    fn embeddings(&self, model: &mut Model, channels: &[usize], ids: &[u16]) {
        let params = &mut model.params;
        let token = |&(t, c, x): &Entry| (usize::from(ids[t]), channels[c], x);
        params.embed.update(|w| add(w, self.embed.iter().map(token)));
        let position = params.position.as_mut().expect("added positions");
        position.update(|w| add(w, self.position.iter().map(|&(p, c, x)| (p, channels[c], x))));
        let unembed = params.unembed.as_mut().expect("not tied");
        unembed.update(|w| add(w, self.unembed.iter().map(token)));
    }

    fn attention(&self, model: &mut Model, places: &Places) {
        let (d_head, d_attn) = (model.config.d_head, model.config.n_head * model.config.d_head);
        let root = (d_head as f32).sqrt();
        let mut used = vec![0; model.config.n_layer];
        for head in &self.heads {
            let block = &mut model.params.blocks[head.layer];
            let place = places.heads[head.layer][used[head.layer]];
            used[head.layer] += 1;
            let dimensions = &places.dimensions[head.layer][place];
            let row = |d: usize| place * d_head + dimensions[d];
            block.qkv.weight.update(|w| {
                for (part, entries, factor) in [(0, &head.query, root), (1, &head.key, 1.0), (2, &head.value, 1.0)] {
                    let entry = |&(d, c, x): &Entry| (part * d_attn + row(d), places.channels[c], x * factor);
                    add(w, entries.iter().map(entry));
                }
            });
            let entry = |&(c, d, x): &Entry| (places.channels[c], row(d), x);
            block.attn_out.weight.update(|w| add(w, head.write.iter().map(entry)));
        }
    }

    fn mlps(&self, model: &mut Model, places: &Places) {
        let channels = &places.channels;
        let mut used = vec![0; model.config.n_layer];
        for neuron in &self.neurons {
            let block = &mut model.params.blocks[neuron.layer];
            let row = places.neurons[neuron.layer][used[neuron.layer]];
            used[neuron.layer] += 1;
            block.fc.weight.update(|w| add(w, neuron.reads.iter().map(|&(c, x)| (row, channels[c], x))));
            block.fc.bias.as_mut().expect("biases").update(|w| w[[row, 0]] = neuron.bias);
            block.proj.weight.update(|w| add(w, neuron.writes.iter().map(|&(c, x)| (channels[c], row, x))));
        }
        if let Some(block) = model.params.blocks.first_mut() {
            let constants = self.constants.iter().map(|&(c, x)| (channels[c], 0, x));
            block.proj.bias.as_mut().expect("biases").update(|w| add(w, constants));
        }
    }

    /// Random parts: they read three random channels each and write noise channels only.
    fn noise(&self, model: &mut Model, places: &Places, noise: Noise, rng: &mut ChaCha8Rng) {
        let noisy = &places.channels[self.ready.len()..];
        if noisy.is_empty() {
            return;
        }
        let config = model.config.clone();
        let (d_head, d_attn) = (config.d_head, config.n_head * config.d_head);
        let mut value = |scale: f32| scale * (rng.random_range(0.0..2.0_f32) - 1.0);
        model.params.embed.update(|w| noisy.iter().for_each(|&c| w.column_mut(c).mapv_inplace(|_| value(1.0))));
        for (layer, block) in model.params.blocks.iter_mut().enumerate() {
            let three = |w: &mut Matrix, row: usize, rng: &mut ChaCha8Rng| {
                (0..3).for_each(|_| w[[row, rng.random_range(0..config.d_model)]] = 2.0 * (rng.random::<f32>() - 0.5));
            };
            for &head in &places.heads[layer][config.n_head - noise.heads..] {
                for dimension in head * d_head..(head + 1) * d_head {
                    block.qkv.weight.update(|w| (0..3).for_each(|part| three(w, part * d_attn + dimension, rng)));
                    let to = noisy[rng.random_range(0..noisy.len())];
                    block.attn_out.weight.update(|w| w[[to, dimension]] = 0.5);
                }
            }
            for &neuron in &places.neurons[layer][config.d_mlp - noise.neurons..] {
                block.fc.weight.update(|w| three(w, neuron, rng));
                let to = noisy[rng.random_range(0..noisy.len())];
                block.proj.weight.update(|w| w[[to, neuron]] = 0.5);
            }
        }
    }
}

fn add(w: &mut Matrix, entries: impl Iterator<Item = Entry>) {
    entries.for_each(|(row, column, x)| w[[row, column]] += x);
}

/// The switches of models made by hand: no norm, no AbsTopK, no bigram table, ReLU, biases, added positions.
pub(crate) fn plain_config() -> Config {
    Config {
        norm: NormKind::None,
        linear_bias: true,
        activation: Activation::Relu,
        act_density: None,
        positions: Positions::Added,
        sink: false,
        bigram: Bigram::None,
        tied_unembed: false,
        ..Config::default()
    }
}

/// A model whose weights are all zero, but for the gains of the norms, which are 1.
pub(crate) fn zeros(config: Config) -> Model {
    let mut model = Model::init(config, 0);
    let params = &mut model.params;
    params.values_mut().into_iter().for_each(|w| w.update(|w| w.fill(0.0)));
    let gains = params.blocks.iter_mut().flat_map(|b| [&mut b.attn_norm.gain, &mut b.mlp_norm.gain]);
    gains.chain([&mut params.final_norm.gain]).for_each(|g| g.update(|w| w.fill(1.0)));
    model
}
