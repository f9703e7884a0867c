//! A small language for programs over sequences, and the weights it stands for.
//!
//! After RASP (Weiss et al. 2021) and Tracr (Lindner et al. 2023). A program is a list of operations on *variables*;
//! a variable owns channels of the residual stream: one per class (one-hot; all zero is "no class") or one for a number.
//! `aggregate` is a head; `step`, `both` and `any` are neurons. An operation runs in the first block in which all it
//! reads is there.
//!
//! Differs from Tracr because our attention is causal and circuits are judged at the last token: a program asks its question
//! in the last token, and what is computed there may look back at everything.

use std::ops::Range;

/// Score that a selected key has over one that is not. e⁻²⁰ = 2e-9, so that a mean over selected keys is exact to 1e-8 per
/// other key; larger scores would keep selecting when a node is at a tenth of its value, and so hide that it is ablated.
pub const SCORE: f32 = 20.0;

/// Logit per unit of an output channel, in nats: the least gap between the right answer and any other token.
pub const LOGIT: f32 = 10.0;

/// Channels of the residual stream that hold one value: its classes, or a number.
#[derive(Clone, Debug)]
pub struct Variable(pub(crate) Range<usize>);

impl Variable {
    /// Number of classes (1 for a number).
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The channel of a class.
    ///
    /// # Panics
    /// When there is no such class.
    #[track_caller]
    pub fn channel(&self, class: usize) -> Channel {
        assert!(class < self.0.len(), "class {class} of a variable of {}", self.0.len());
        Channel(self.0.start + class)
    }

    /// Some of its classes as a variable.
    pub fn classes(&self, classes: Range<usize>) -> Variable {
        assert!(classes.end <= self.size(), "classes {classes:?} of a variable of {}", self.size());
        Variable(self.0.start + classes.start..self.0.start + classes.end)
    }

    fn channels(&self) -> impl Iterator<Item = usize> + use<> {
        self.0.clone()
    }
}

/// One channel of the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel(pub(crate) usize);

/// A nonzero entry of a matrix, `[row, column]`.
pub(crate) type Entry = (usize, usize, f32);

/// An attention head: queries and keys `(dimension, channel, weight)`, values, and what it writes
/// `(channel, dimension, weight)`. Queries are still without the factor √d_head.
pub(crate) struct Head {
    pub layer: usize,
    pub query: Vec<Entry>,
    pub key: Vec<Entry>,
    pub value: Vec<Entry>,
    pub write: Vec<Entry>,
}

/// `ReLU(Σ weight · channel + bias)`, written with weights to channels.
pub(crate) struct Neuron {
    pub layer: usize,
    pub reads: Vec<(usize, f32)>,
    pub bias: f32,
    pub writes: Vec<(usize, f32)>,
}

/// Collects a program; [`Builder::build`] turns it into weights.
pub struct Builder {
    pub(crate) vocab_size: usize,
    /// Tokens that have a second word: the tokens after all others, in this order.
    pub(crate) synonyms: Range<usize>,
    pub(crate) n_ctx: usize,
    /// By channel, when it can be read: 0 from the embedding on, 2 l + 1 after the attention of block l, 2 l + 2 after its
    /// MLP.
    pub(crate) ready: Vec<usize>,
    pub(crate) embed: Vec<Entry>,
    pub(crate) position: Vec<Entry>,
    pub(crate) heads: Vec<Head>,
    pub(crate) neurons: Vec<Neuron>,
    /// Constants that the MLP of the first block adds, by channel.
    pub(crate) constants: Vec<(usize, f32)>,
    pub(crate) unembed: Vec<Entry>,
}

impl Builder {
    /// No operations yet, for prompts of at most `n_ctx` of `vocab_size` tokens.
    pub fn new(vocab_size: usize, n_ctx: usize) -> Self {
        Self {
            vocab_size,
            synonyms: 0..0,
            n_ctx,
            ready: vec![],
            embed: vec![],
            position: vec![],
            heads: vec![],
            neurons: vec![],
            constants: vec![],
            unembed: vec![],
        }
    }

    /// Gives some tokens a second word, which stands for the same to the program: the tokens from the vocabulary's size on.
    pub fn synonyms(&mut self, of: Range<usize>) {
        self.synonyms = of;
    }

    /// A new variable that nothing writes yet; neurons may.
    pub fn variable(&mut self, size: usize) -> Variable {
        let start = self.ready.len();
        self.ready.resize(start + size, 0);
        Variable(start..start + size)
    }

    /// The class of the token at each place; `None`: none.
    pub fn tokens(&mut self, size: usize, class: impl Fn(usize) -> Option<usize>) -> Variable {
        let variable = self.variable(size);
        let classes = (0..self.vocab_size).filter_map(|t| class(t).map(|c| (t, variable.channel(c).0, 1.0)));
        self.embed.extend(classes.collect::<Vec<_>>());
        variable
    }

    /// Numbers that the token at each place stands for: `number(token, which)`.
    pub fn token_numbers(&mut self, size: usize, number: impl Fn(usize, usize) -> f32) -> Variable {
        let variable = self.variable(size);
        let tokens = (0..self.vocab_size).flat_map(|t| (0..size).map(move |i| (t, i)));
        let entries = tokens.map(|(t, i)| (t, variable.channel(i).0, number(t, i))).filter(|e| e.2 != 0.0);
        self.embed.extend(entries.collect::<Vec<_>>());
        variable
    }

    /// The place itself, from 0; a class each.
    pub fn positions(&mut self) -> Variable {
        let variable = self.variable(self.n_ctx);
        self.position.extend((0..self.n_ctx).map(|p| (p, variable.0.start + p, 1.0)));
        variable
    }

    /// `y = mean of value over the places selected`, those with `selects(query class here, key class there)` at or before
    /// this one. Where nothing is selected: the mean over all places so far.
    pub fn aggregate(
        &mut self,
        query: &Variable,
        key: &Variable,
        selects: impl Fn(usize, usize) -> bool,
        value: &Variable,
    ) -> Variable {
        let (mut queries, mut keys) = (vec![], vec![]);
        for q in 0..query.size() {
            let selected: Vec<usize> = (0..key.size()).filter(|&k| selects(q, k)).collect();
            if selected.is_empty() {
                continue;
            }
            let dimension = queries.len();
            queries.push((dimension, query.channel(q).0, SCORE));
            keys.extend(selected.into_iter().map(|k| (dimension, key.channel(k).0, 1.0)));
        }
        self.head(queries, keys, value)
    }

    /// `y = 1 / (1 + number of places selected)`: `anchor` is a number that is 1 at the first place (and 0 elsewhere), which
    /// `selects` must select too, by a class of its own in `key`.
    pub fn selector_width(
        &mut self,
        query: &Variable,
        key: &Variable,
        selects: impl Fn(usize, usize) -> bool,
        anchor: &Variable,
    ) -> Variable {
        self.aggregate(query, key, selects, anchor)
    }

    /// Mean over all places so far: attention that is uniform because it has no scores.
    pub fn average(&mut self, value: &Variable) -> Variable {
        self.head(vec![], vec![], value)
    }

    fn head(&mut self, query: Vec<Entry>, key: Vec<Entry>, value: &Variable) -> Variable {
        let reads = query.iter().chain(&key).map(|e| e.1).chain(value.channels());
        let layer = reads.map(|c| self.ready[c].div_ceil(2)).max().unwrap_or(0);
        let out = self.variable(value.size());
        let pairs = || value.channels().zip(out.channels()).enumerate();
        let values = pairs().map(|(i, (from, _))| (i, from, 1.0)).collect();
        let write = pairs().map(|(i, (_, to))| (to, i, 1.0)).collect();
        out.channels().for_each(|c| self.ready[c] = 2 * layer + 1);
        self.heads.push(Head { layer, query, key, value: values, write });
        out
    }

    /// Adds `Σ writes` where `x = Σ coefficient · channel` is at least `threshold + gap/2`, nothing where it is at most
    /// `threshold − gap/2`; with a `gate`, only where that channel is 1 (it must be 0 otherwise, and |x| ≤ 1).
    ///
    /// Two neurons: `ReLU((x − threshold)/gap + ½) − ReLU((x − threshold)/gap − ½)`.
    pub fn step(
        &mut self,
        x: &[(Channel, f32)],
        (threshold, gap): (f32, f32),
        gate: Option<Channel>,
        writes: &[(Channel, f32)],
    ) {
        // More than (x − threshold)/gap + ½ can be for |x|, |threshold| ≤ 1.
        let shut = 2.0 / gap + 1.0;
        let mut reads: Vec<(usize, f32)> = x.iter().map(|(c, a)| (c.0, a / gap)).collect();
        reads.extend(gate.map(|c| (c.0, shut)));
        let bias = -threshold / gap - gate.map_or(0.0, |_| shut);
        for (shift, sign) in [(0.5, 1.0), (-0.5, -1.0)] {
            self.neuron(reads.clone(), bias + shift, writes.iter().map(|(c, w)| (c.0, sign * w)).collect());
        }
    }

    /// The class of a number of which only `values` (ascending) occur: class i for `values[i]`. `to(i)` is where class i is
    /// written.
    pub fn classify(&mut self, number: Channel, values: &[f32], to: impl Fn(usize) -> Channel) {
        self.constant(to(0), 1.0);
        for i in 1..values.len() {
            let (below, above) = (values[i - 1], values[i]);
            let (from, to) = (to(i - 1), to(i));
            if from != to {
                // Half the distance is the slope's, a quarter on either side is left for rounding.
                let step = ((below + above) / 2.0, (above - below) / 2.0);
                self.step(&[(number, 1.0)], step, None, &[(from, -1.0), (to, 1.0)]);
            }
        }
    }

    /// Adds `writes` where channels `a` and `b` are both 1: `ReLU(a + b − 1)`.
    pub fn both(&mut self, a: Channel, b: Channel, writes: &[(Channel, f32)]) {
        self.neuron(vec![(a.0, 1.0), (b.0, 1.0)], -1.0, writes.iter().map(|(c, w)| (c.0, *w)).collect());
    }

    /// Adds `writes` where one of the channels is 1: `ReLU(Σ channels)`.
    pub fn any(&mut self, channels: &[Channel], writes: &[(Channel, f32)]) {
        self.neuron(
            channels.iter().map(|c| (c.0, 1.0)).collect(),
            0.0,
            writes.iter().map(|(c, w)| (c.0, *w)).collect(),
        );
    }

    /// Adds a constant at every place: the bias of what the first MLP writes.
    pub fn constant(&mut self, to: Channel, value: f32) {
        self.constants.push((to.0, value));
        self.ready[to.0] = self.ready[to.0].max(2);
    }

    fn neuron(&mut self, reads: Vec<(usize, f32)>, bias: f32, writes: Vec<(usize, f32)>) {
        let layer = reads.iter().map(|(c, _)| self.ready[*c] / 2).max().unwrap_or(0);
        for (c, _) in &writes {
            self.ready[*c] = self.ready[*c].max(2 * layer + 2);
        }
        self.neurons.push(Neuron { layer, reads, bias, writes });
    }

    /// The logit of `token` is [`LOGIT`] · channel.
    pub fn output(&mut self, token: usize, channel: Channel) {
        self.output_times(token, channel, LOGIT);
    }

    /// Adds `weight · channel` to the logit of `token`.
    pub fn output_times(&mut self, token: usize, channel: Channel, weight: f32) {
        self.unembed.push((token, channel.0, weight));
    }

    /// Adds `Σ writes · ReLU(Σ reads + bias)`: a neuron as it is.
    pub fn relu(&mut self, reads: &[(Channel, f32)], bias: f32, writes: &[(Channel, f32)]) {
        let plain = |list: &[(Channel, f32)]| list.iter().map(|(c, x)| (c.0, *x)).collect();
        self.neuron(plain(reads), bias, plain(writes));
    }

    /// Channels so far.
    pub fn n_channels(&self) -> usize {
        self.ready.len()
    }

    /// Blocks that the program takes.
    pub(crate) fn n_layer(&self) -> usize {
        let heads = self.heads.iter().map(|h| h.layer + 1);
        let mlps = usize::from(!self.constants.is_empty());
        heads.chain(self.neurons.iter().map(|n| n.layer + 1)).chain([mlps]).max().unwrap_or(0)
    }
}
