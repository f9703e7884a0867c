//! From a program to weights: the places of variables, heads and neurons, and idle parts beside them.

use openwork_model::{Activation, Bigram, Config, Matrix, Model, NormKind, Positions, Site, SiteKind};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use openwork_circuit::{Node, NodeSet, NodeSpace};

use crate::builder::{Builder, Channel, Entry};

/// Options of the layout of a program as a model. None of it changes what the model computes, so that verdicts must not depend on it.
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
pub enum Noise {
    /// None.
    #[default]
    None,
    /// A little more than the program's own channels, heads and neurons, so that most nodes are no part of it.
    AsMuch,
}

impl Noise {
    /// Useless things for so many useful ones.
    pub(crate) fn count(self, useful: usize) -> usize {
        match self {
            Self::None => 0,
            Self::AsMuch => useful + useful / 4 + 1,
        }
    }
}

impl Options {
    /// A random order, random ids and noise, all by `seed`.
    pub fn random(seed: u64) -> Self {
        Self { seed, permute: true, rename: true, noise: Noise::AsMuch }
    }
}

/// A program's model, and the places of its parts.
pub struct Built {
    /// The weights.
    pub model: Model,
    /// Id of every token.
    pub ids: Vec<u16>,
    places: Places,
}

/// Places: logical number → physical number.
struct Places {
    channels: Vec<usize>,
    /// By block.
    heads: Vec<Vec<usize>>,
    /// By block and head.
    dimensions: Vec<Vec<Vec<usize>>>,
    /// By block.
    neurons: Vec<Vec<usize>>,
}

/// Some of a program's operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    heads: Vec<usize>,
    neurons: Vec<usize>,
    constants: bool,
}

impl Parts {
    /// These operations and those.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            heads: [&self.heads[..], &other.heads].concat(),
            neurons: [&self.neurons[..], &other.neurons].concat(),
            constants: self.constants || other.constants,
        }
    }
}

impl Built {
    /// Place of a channel.
    pub fn channel(&self, channel: Channel) -> usize {
        self.places.channels[channel.0]
    }
}

impl Builder {
    /// The model, the id of every token, and the places of its parts.
    ///
    /// Without norm, AbsTopK, bigram table; ReLU; added positions.
    pub fn build(&self, options: &Options) -> Built {
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
        self.noise(&mut model, &places, &mut rng);
        Built { model, ids, places }
    }

    /// The operations from the given numbers of heads and neurons on, to tell operations apart while they are written.
    pub fn since(&self, (heads, neurons): (usize, usize)) -> Parts {
        Parts {
            heads: (heads..self.heads.len()).collect(),
            neurons: (neurons..self.neurons.len()).collect(),
            constants: false,
        }
    }

    /// Heads and neurons so far.
    pub fn mark(&self) -> (usize, usize) {
        (self.heads.len(), self.neurons.len())
    }

    /// All operations.
    pub fn parts(&self) -> Parts {
        Parts { constants: !self.constants.is_empty(), ..self.since((0, 0)) }
    }

    /// The nodes of some operations: what they read (as far as it comes from tokens, places or one of them), compute and
    /// write.
    pub fn nodes(&self, built: &Built, parts: &Parts) -> NodeSet {
        let config = &built.model.config;
        let space = NodeSpace::new(config);
        let mut live: Vec<bool> = vec![false; self.ready.len()];
        let heads = || parts.heads.iter().map(|&h| (&self.heads[h], self.place_of_head(built, h)));
        let neurons = || parts.neurons.iter().map(|&n| (&self.neurons[n], self.place_of_neuron(built, n)));
        self.embed.iter().chain(&self.position).for_each(|e| live[e.1] = true);
        self.constants.iter().filter(|_| parts.constants).for_each(|c| live[c.0] = true);
        heads().flat_map(|h| &h.0.write).for_each(|e| live[e.0] = true);
        neurons().flat_map(|n| &n.0.writes).for_each(|w| live[w.0] = true);
        let mut kept = vec![];
        let mut keep = |layer, kind, index| {
            kept.push(space.number(Node { site: Site { layer, kind }, index }).expect("a node of the model"));
        };
        let channel = |c: usize| built.places.channels[c];
        for (head, place) in heads() {
            let dimension = |d: usize| place * config.d_head + built.places.dimensions[head.layer][place][d];
            for (entries, kind) in
                [(&head.query, SiteKind::Query), (&head.key, SiteKind::Key), (&head.value, SiteKind::Value)]
            {
                for &(d, c, _) in entries.iter().filter(|e| live[e.1]) {
                    keep(head.layer, SiteKind::AttnRead, channel(c));
                    keep(head.layer, kind, dimension(d));
                }
            }
            head.write.iter().for_each(|e| keep(head.layer, SiteKind::AttnWrite, channel(e.0)));
        }
        for (neuron, place) in neurons() {
            keep(neuron.layer, SiteKind::Neuron, place);
            neuron.reads.iter().filter(|r| live[r.0]).for_each(|r| keep(neuron.layer, SiteKind::MlpRead, channel(r.0)));
            neuron.writes.iter().for_each(|w| keep(neuron.layer, SiteKind::MlpWrite, channel(w.0)));
        }
        self.constants.iter().filter(|_| parts.constants).for_each(|c| keep(0, SiteKind::MlpWrite, channel(c.0)));
        NodeSet::of(space.clone(), kept)
    }

    fn place_of_head(&self, built: &Built, head: usize) -> usize {
        let layer = self.heads[head].layer;
        built.places.heads[layer][self.heads[..head].iter().filter(|h| h.layer == layer).count()]
    }

    fn place_of_neuron(&self, built: &Built, neuron: usize) -> usize {
        let layer = self.neurons[neuron].layer;
        built.places.neurons[layer][self.neurons[..neuron].iter().filter(|n| n.layer == layer).count()]
    }

    fn config(&self, noise: Noise) -> Config {
        let n_layer = self.n_layer();
        let most = |layers: Vec<usize>| {
            let counts = (0..n_layer).map(|l| layers.iter().filter(|&&x| x == l).count());
            counts.max().unwrap_or(0).max(1)
        };
        let heads = most(self.heads.iter().map(|h| h.layer).collect());
        let neurons = most(self.neurons.iter().map(|n| n.layer).collect());
        let dimensions = self.heads.iter().flat_map(|h| h.query.iter().chain(&h.value)).map(|e| e.0 + 1).max();
        let with_noise = |n: usize| n + noise.count(n);
        Config {
            vocab_size: self.vocab_size + self.synonyms.len(),
            n_ctx: self.n_ctx,
            n_layer,
            n_head: with_noise(heads),
            d_head: dimensions.unwrap_or(1),
            d_model: with_noise(self.ready.len()),
            d_mlp: with_noise(neurons),
            ..plain_config()
        }
    }

    fn embeddings(&self, model: &mut Model, channels: &[usize], ids: &[u16]) {
        let params = &mut model.params;
        let token = |&(t, c, x): &Entry| (usize::from(ids[t]), channels[c], x);
        let second = |t: usize| self.vocab_size + t - self.synonyms.start;
        let synonyms = self.embed.iter().filter(|e| self.synonyms.contains(&e.0)).map(|&(t, c, x)| (second(t), c, x));
        let embed: Vec<Entry> = self.embed.iter().copied().chain(synonyms).collect();
        params.embed.update(|w| add(w, embed.iter().map(token)));
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

    /// Random parts in all places that are free: they read three random channels each and write noise channels only.
    fn noise(&self, model: &mut Model, places: &Places, rng: &mut ChaCha8Rng) {
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
            for &head in &places.heads[layer][self.heads.iter().filter(|h| h.layer == layer).count()..] {
                for dimension in head * d_head..(head + 1) * d_head {
                    block.qkv.weight.update(|w| (0..3).for_each(|part| three(w, part * d_attn + dimension, rng)));
                    let to = noisy[rng.random_range(0..noisy.len())];
                    block.attn_out.weight.update(|w| w[[to, dimension]] = 0.5);
                }
            }
            for &neuron in &places.neurons[layer][self.neurons.iter().filter(|n| n.layer == layer).count()..] {
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
