//! The same model in another order: channels, heads, their dimensions and neurons permuted, tokens renamed. What is true of a
//! circuit is true of the shuffled one, so verdicts must not change.

use openwork_circuit::{Node, NodeSet};
use openwork_model::{Config, Matrix, Model, ParamInfo, Params, Positions, Role, SiteKind, Weight};
use openwork_tasks::Pair;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::Prompt;

/// A permutation of everything that has an arbitrary order. Each list gives the new number of the old.
#[derive(Clone, Debug, PartialEq)]
pub struct Shuffle {
    tokens: Vec<usize>,
    channels: Vec<usize>,
    /// By block.
    heads: Vec<Vec<usize>>,
    /// By block: of the dimensions of all heads, which stay with their heads.
    dimensions: Vec<Vec<usize>>,
    /// By block.
    neurons: Vec<Vec<usize>>,
}

impl Shuffle {
    /// A random one for models of this configuration.
    pub fn new(config: &Config, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut order = |n: usize| {
            let mut order: Vec<usize> = (0..n).collect();
            order.shuffle(&mut rng);
            order
        };
        let heads: Vec<Vec<usize>> = (0..config.n_layer).map(|_| order(config.n_head)).collect();
        let mut of_heads = |heads: &Vec<usize>| {
            let within = heads.iter().map(|&head| (head, order(config.d_head)));
            within.flat_map(|(head, order)| order.into_iter().map(move |d| head * config.d_head + d)).collect()
        };
        let dimensions = heads.iter().map(&mut of_heads).collect();
        Self {
            dimensions,
            heads,
            tokens: order(config.vocab_size),
            channels: order(config.d_model),
            neurons: (0..config.n_layer).map(|_| order(config.d_mlp)).collect(),
        }
    }

    /// The model in the new order. With AbsTopK, ties may be broken otherwise.
    pub fn model(&self, model: &Model) -> Model {
        let mut weights = model.params.values().into_iter();
        let one = |info: &ParamInfo, [rows, cols]: [usize; 2]| {
            let from = weights.next().expect("one tree").dense();
            let (row, col) = self.orders(&model.config, info, rows, cols);
            let mut to = Matrix::zeros((rows, cols));
            from.indexed_iter().for_each(|((r, c), &x)| to[[row[r], col[c]]] = x);
            Weight::new(to)
        };
        let params = Params::build(&model.config, one);
        Model { config: model.config.clone(), params, ties: model.ties }
    }

    /// New numbers of the rows and of the columns of a parameter.
    fn orders(&self, config: &Config, info: &ParamInfo, rows: usize, cols: usize) -> (Vec<usize>, Vec<usize>) {
        let same = |n: usize| (0..n).collect::<Vec<_>>();
        // What blocks read: channels, and position channels that stay.
        let reads = || self.channels.iter().copied().chain(config.d_model..cols).collect::<Vec<_>>();
        let layer = info.name.strip_prefix("transformer.h.").and_then(|rest| rest.split('.').next()?.parse().ok());
        let of = |lists: &[Vec<usize>]| lists[layer.map_or(0, |l: usize| l)].clone();
        let joint = || {
            let one = of(&self.dimensions);
            (0..3 * one.len()).map(|row| row / one.len() * one.len() + one[row % one.len()]).collect()
        };
        let channels = || self.channels.clone();
        match info.role {
            Role::Embed | Role::Unembed => (self.tokens.clone(), channels()),
            Role::Position if config.positions == Positions::Added => (same(rows), channels()),
            Role::Position => (same(rows), same(cols)),
            Role::Qkv => (joint(), reads()),
            Role::AttnOut => (channels(), of(&self.dimensions)),
            Role::Fc => (of(&self.neurons), reads()),
            Role::Proj => (channels(), of(&self.neurons)),
            Role::Bias if info.name.ends_with("c_attn.bias") => (joint(), same(cols)),
            Role::Bias if info.name.ends_with("c_fc.bias") => (of(&self.neurons), same(cols)),
            Role::NormGain | Role::NormBias if info.name.contains(".ln_p") => (same(rows), same(cols)),
            Role::Bias | Role::NormGain | Role::NormBias => (channels(), same(cols)),
            Role::Sink => (of(&self.heads), same(cols)),
            Role::Bigram => (self.tokens.clone(), self.tokens.clone()),
            Role::LogitsBias => (self.tokens.clone(), same(cols)),
        }
    }

    /// The nodes under their new numbers.
    pub fn nodes(&self, nodes: &NodeSet) -> NodeSet {
        let space = nodes.space();
        let moved = |node: Node| {
            let layer = node.site.layer;
            let index = match node.site.kind {
                SiteKind::Query | SiteKind::Key | SiteKind::Value => self.dimensions[layer][node.index],
                SiteKind::Neuron => self.neurons[layer][node.index],
                _ => self.channels.get(node.index).copied().unwrap_or(node.index),
            };
            space.number(Node { index, ..node }).expect("the same shape")
        };
        NodeSet::of(space.clone(), nodes.nodes().map(moved).collect::<Vec<_>>())
    }

    /// A token's new id.
    pub fn token(&self, token: u16) -> u16 {
        self.tokens[usize::from(token)] as u16
    }

    /// Tokens under their new ids.
    pub fn tokens(&self, tokens: &[u16]) -> Vec<u16> {
        tokens.iter().map(|&t| self.token(t)).collect()
    }

    /// Pairs under the new ids.
    pub fn pairs(&self, pairs: &[Pair]) -> Vec<Pair> {
        let one = |p: &Pair| Pair {
            positive: self.tokens(&p.positive),
            negative: self.tokens(&p.negative),
            answer: self.token(p.answer),
            alternative: self.token(p.alternative),
            template: p.template,
        };
        pairs.iter().map(one).collect()
    }

    /// Prompts under the new ids.
    pub fn prompts(&self, prompts: &[Prompt]) -> Vec<Prompt> {
        prompts.iter().map(|p| Prompt { tokens: self.tokens(&p.tokens), answer: self.token(p.answer) }).collect()
    }
}
