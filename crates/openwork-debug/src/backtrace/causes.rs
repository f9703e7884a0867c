//! One step of a backtrace: a value as a sum over the values that it is computed from.

use std::cell::Cell;

use openwork_circuit::Node;
use openwork_model::{Activation, Linear, Model, NormKind, Site, SiteKind, Weight};

use super::{
    Cause, Hold,
    attention::{channel, pattern, scale},
    stream::{Stream, StreamSource},
};
use crate::{Quantity, ScoreSide, Target, Trace};

/// A value as a sum.
pub(crate) struct Opening {
    /// The value, as the run had it.
    pub value: f64,
    /// Summands that are not zero.
    pub terms: Vec<Term>,
    /// Factor that is held: the divisor of a norm or the gate of a neuron.
    pub held: Option<Held>,
}

/// Nonlinear factor of an opening.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Divisor of the norm: `√(mean x² + ε)`, or `√(var x + ε)`.
    Divisor(f64),
    /// Gate of the neuron: its value over its input; or in a differentiated backtrace its slope.
    Gate(f64),
}

/// A summand.
pub(crate) struct Term {
    pub cause: Cause,
    pub amount: f64,
    /// The value that the amount is a multiple of, and the factor.
    pub link: Option<(Target, f64)>,
    /// Score of a term of attention, to be opened beside it.
    pub attended: Option<Attended>,
}

/// Attention that a term goes through.
#[derive(Clone, Copy)]
pub(crate) struct Attended {
    pub layer: usize,
    pub head: usize,
    pub query: usize,
    pub key: usize,
    pub score: f64,
    pub probability: f64,
}

impl Term {
    fn leaf(cause: Cause, amount: f64) -> Self {
        Self { cause, amount, link: None, attended: None }
    }

    fn of(target: Target, value: f64, factor: f64) -> Self {
        Self { cause: Cause::Value(target), amount: value * factor, link: Some((target, factor)), attended: None }
    }
}

/// A run whose values are opened.
pub(crate) struct Opener<'a> {
    pub model: &'a Model,
    pub trace: &'a Trace,
    hold: Hold,
    /// Causes that may still be opened.
    left: Cell<usize>,
}

/// Most causes that one backtrace opens: a dense model has millions a few steps down.
const MOST_OPENED: usize = 20_000;

impl<'a> Opener<'a> {
    pub fn new(model: &'a Model, trace: &'a Trace, hold: Hold) -> Self {
        Self { model, trace, hold, left: Cell::new(MOST_OPENED) }
    }

    /// True while the tree may grow; counts the cause that is opened then.
    pub fn may_open(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

impl Opener<'_> {
    /// The causes of a value. They add up to it but for the rounding of f32.
    pub fn open(&self, target: Target) -> Opening {
        let value = self.trace.quantity(self.model, target);
        let mut opening = match target.quantity {
            Quantity::Node(node) => match self.trace.given(node, target.position) {
                Some(_) => Opening { value, terms: vec![Term::leaf(Cause::Edit, value)], held: None },
                None => self.node(node, target.position, value),
            },
            Quantity::Logit(token) => self.logit(&[(token, 1.0)], target.position, value),
            Quantity::Lead(first, second) => self.logit(&[(first, 1.0), (second, -1.0)], target.position, value),
            Quantity::Score { layer, head, key, side } => self.score((layer, head, key, side), target.position, value),
        };
        opening.terms.retain(|term| term.amount != 0.0);
        opening
    }

    fn node(&self, node: Node, position: usize, value: f64) -> Opening {
        let Site { layer, kind } = node.site;
        let at = |kind| Site { layer, kind };
        let block = self.model.params.blocks.get(layer);
        let block = || block.expect("a site of a block");
        let plain = |terms| Opening { value, terms, held: None };
        match kind {
            SiteKind::ResidIn | SiteKind::ResidMid | SiteKind::FinalResid => {
                plain(self.stream(node.site, node.index, position))
            }
            SiteKind::AttnRead | SiteKind::MlpRead | SiteKind::FinalRead => self.read(node, position, value),
            SiteKind::Query | SiteKind::Key | SiteKind::Value => {
                let d_attn = self.model.config.n_head * self.model.config.d_head;
                let part = match kind {
                    SiteKind::Query => 0,
                    SiteKind::Key => 1,
                    _ => 2,
                };
                let terms =
                    self.linear(&block().qkv, part * d_attn + node.index, node, at(SiteKind::AttnRead), position);
                plain(self.selected(node, position, value, terms))
            }
            SiteKind::AttnMix => plain(self.mix(layer, node.index, position)),
            SiteKind::AttnWrite => {
                let terms = self.linear(&block().attn_out, node.index, node, at(SiteKind::AttnMix), position);
                plain(self.selected(node, position, value, terms))
            }
            SiteKind::Neuron => self.neuron(node, position, value),
            SiteKind::MlpWrite => {
                let terms = self.linear(&block().proj, node.index, node, at(SiteKind::Neuron), position);
                plain(self.selected(node, position, value, terms))
            }
        }
    }

    /// `Σ_j W[row, j] x_j + b[row]`, the bias being that of `node`.
    fn linear(&self, linear: &Linear<Weight>, row: usize, node: Node, from: Site, position: usize) -> Vec<Term> {
        let inputs = self.trace.column(from, position);
        let mut terms: Vec<Term> = linear
            .weight
            .dense()
            .row(row)
            .iter()
            .zip(inputs)
            .enumerate()
            .filter(|(_, (w, x))| **w != 0.0 && **x != 0.0)
            .map(|(index, (&w, &x))| {
                Term::of(Target::node(Node { site: from, index }, position), f64::from(x), f64::from(w))
            })
            .collect();
        if let Some(bias) = &linear.bias {
            terms.push(Term::leaf(Cause::Bias(node), f64::from(bias.dense()[[row, 0]])));
        }
        terms
    }

    /// The terms of a value before AbsTopK, and where AbsTopK dropped it, what that took away.
    fn selected(&self, node: Node, position: usize, value: f64, mut terms: Vec<Term>) -> Vec<Term> {
        let sum: f64 = terms.iter().map(|term| term.amount).sum();
        if self.dropped(node, position, value, sum) {
            terms.push(Term::leaf(Cause::Dropped, -sum));
        }
        terms
    }

    /// True if AbsTopK dropped an entry that would have been `sum`: the value is zero, and the entries that were kept are as
    /// large, or are as many as may be.
    fn dropped(&self, node: Node, position: usize, value: f64, sum: f64) -> bool {
        let Some(k) = self.model.config.act_k(node.site.kind) else { return false };
        let mut column = self.trace.column(node.site, position).to_owned();
        // Edits come after AbsTopK.
        for (edited, given) in self.trace.given_at(node.site, position) {
            column[edited.index] = given;
        }
        let kept: Vec<f64> = column.iter().map(|x| f64::from(x.abs())).filter(|x| *x > 0.0).collect();
        let least = kept.iter().copied().fold(f64::INFINITY, f64::min);
        // Rounding may order near ties otherwise than these sums do.
        value == 0.0 && kept.len() >= k && sum.abs() <= least * (1.0 + 1e-4)
    }

    fn stream(&self, site: Site, feature: usize, position: usize) -> Vec<Term> {
        let stream = Stream::new(self.model, self.trace, site, position);
        let term = |source| stream_term(source, feature, position, stream.value(source, feature), 1.0);
        stream.sources().iter().map(|&source| term(source)).collect()
    }

    /// `y_i = (x_i − m) s g_i + b_i` with the scale s of the norm held; or, differentiated, with its first-order change by
    /// every summand u of the stream, `−s g_i n_i (n · u) / d`, `n = (x − m) s`, and what these leave over.
    fn read(&self, node: Node, position: usize, value: f64) -> Opening {
        let (config, params) = (&self.model.config, &self.model.params);
        let Site { layer, kind } = node.site;
        let (norm, stream_site) = match kind {
            SiteKind::AttnRead => (&params.blocks[layer].attn_norm, Site { layer, kind: SiteKind::ResidIn }),
            SiteKind::MlpRead => (&params.blocks[layer].mlp_norm, Site { layer, kind: SiteKind::ResidMid }),
            _ => (&params.final_norm, Site { layer, kind: SiteKind::FinalResid }),
        };
        if node.index >= config.d_model {
            let terms = self.position_channel(node, position);
            return Opening { value, terms: self.selected(node, position, value, terms), held: None };
        }
        let x = self.trace.column(stream_site, position).mapv(f64::from);
        let Moments { mean, divisor } = moments(config.norm, x.as_slice().expect("one column"));
        let gain = f64::from(norm.gain.dense()[[node.index, 0]]);
        let factor = gain / divisor;
        let stream = Stream::new(self.model, self.trace, stream_site, position);
        let mut terms = Vec::new();
        let mut left_over = 0.0;
        let n_i = (x[node.index] - mean) / divisor;
        for &source in stream.sources() {
            terms.push(stream_term(source, node.index, position, stream.value(source, node.index), factor));
            let over_features =
                |f: &dyn Fn(usize) -> f64| (0..config.d_model).map(f).sum::<f64>() / config.d_model as f64;
            if config.norm == NormKind::Layer {
                let mean = over_features(&|j| stream.value(source, j));
                terms.push(Term::leaf(Cause::MeanOf(source), -factor * mean));
            }
            if self.hold == Hold::Differentiated && config.norm != NormKind::None {
                let along = over_features(&|j| (x[j] - mean) / divisor * stream.value(source, j));
                terms.push(Term::leaf(Cause::DivisorOf(source), -factor * n_i * along));
                left_over += factor * n_i * along;
            }
        }
        terms.push(Term::leaf(Cause::LeftOver, left_over));
        if let Some(bias) = &norm.bias {
            terms.push(Term::leaf(Cause::NormBias(node), f64::from(bias.dense()[[node.index, 0]])));
        }
        let held = (config.norm != NormKind::None).then_some(Held::Divisor(divisor));
        Opening { value, terms: self.selected(node, position, value, terms), held }
    }

    /// Position channel of a read, before AbsTopK: `(x − m) s g + b` over the position channels, which nothing writes.
    fn position_channel(&self, node: Node, position: usize) -> Vec<Term> {
        let (config, params) = (&self.model.config, &self.model.params);
        let block = &params.blocks[node.site.layer];
        let norm = if node.site.kind == SiteKind::AttnRead { &block.attn_pos_norm } else { &block.mlp_pos_norm };
        let norm = norm.as_ref().expect("the tree follows the configuration");
        let table = params.position.as_ref().expect("the tree follows the configuration").dense();
        let x: Vec<f64> = table.row(position).iter().map(|&x| f64::from(x)).collect();
        let Moments { mean, divisor } = moments(config.norm, &x);
        let channel = node.index - config.d_model;
        let factor = f64::from(norm.gain.dense()[[channel, 0]]) / divisor;
        let bias = norm.bias.as_ref().map_or(0.0, |bias| f64::from(bias.dense()[[channel, 0]]));
        vec![
            Term::leaf(Cause::PositionChannel(node), x[channel] * factor),
            Term::leaf(Cause::MeanOf(StreamSource::Position), -mean * factor),
            Term::leaf(Cause::NormBias(node), bias),
        ]
    }

    /// `y = Σ_k p_k v_k` by source position.
    fn mix(&self, layer: usize, index: usize, query: usize) -> Vec<Term> {
        let (head, within) = (index / self.model.config.d_head, index % self.model.config.d_head);
        let pattern = pattern(self.model, self.trace, layer, head, query);
        let node = channel(&self.model.config, layer, SiteKind::Value, head, within);
        let keys = pattern.probabilities.iter().zip(&pattern.scores).enumerate();
        keys.map(|(key, (&probability, &score))| Term {
            attended: Some(Attended { layer, head, query, key, score: f64::from(score), probability }),
            ..Term::of(Target::node(node, key), f64::from(self.trace.value(node, key)), probability)
        })
        .collect()
    }

    /// `s = Σ_c q_c k_c / √d_head`, as multiples of the channels of one side.
    fn score(&self, (layer, head, key, side): (usize, usize, usize, ScoreSide), query: usize, value: f64) -> Opening {
        let config = &self.model.config;
        let terms = (0..config.d_head).map(|c| {
            let q = Target::node(channel(config, layer, SiteKind::Query, head, c), query);
            let k = Target::node(channel(config, layer, SiteKind::Key, head, c), key);
            let of = |target| self.trace.quantity(self.model, target);
            let scale = f64::from(scale(config));
            match side {
                ScoreSide::Query => Term::of(q, of(q), of(k) * scale),
                ScoreSide::Key => Term::of(k, of(k), of(q) * scale),
            }
        });
        Opening { value, terms: terms.collect(), held: None }
    }

    /// `y = f(a)`, `a = Σ_j W_j x_j + b`, as `g a` with the gate `g = f(a) / a` held; or, differentiated, as `f'(a) a` and
    /// what that leaves over.
    fn neuron(&self, node: Node, position: usize, value: f64) -> Opening {
        let Site { layer, .. } = node.site;
        let block = &self.model.params.blocks[layer];
        let from = Site { layer, kind: SiteKind::MlpRead };
        let mut terms = self.linear(&block.fc, node.index, node, from, position);
        let input: f64 = terms.iter().map(|term| term.amount).sum();
        let magnitude: f64 = terms.iter().map(|term| term.amount.abs()).sum();
        let activation = self.model.config.activation;
        let before_selection = activated(activation, input);
        let dropped = self.dropped(node, position, value, before_selection);
        let gate = match self.hold {
            Hold::Differentiated => slope(activation, input),
            // The gate of the run's own value, unless rounding decides the input.
            Hold::Held if !dropped && input.abs() > 1e-3 * magnitude => value / input,
            Hold::Held => gate(activation, input),
        };
        for term in &mut terms {
            term.amount *= gate;
            if let Some((_, factor)) = &mut term.link {
                *factor *= gate;
            }
        }
        let whole = if dropped { before_selection } else { value };
        if self.hold == Hold::Differentiated {
            terms.push(Term::leaf(Cause::LeftOver, whole - gate * input));
        }
        if dropped {
            let sum: f64 = terms.iter().map(|term| term.amount).sum();
            terms.push(Term::leaf(Cause::Dropped, -sum));
        }
        Opening { value, terms, held: Some(Held::Gate(gate)) }
    }

    /// `Σ_t c_t (Σ_i U[t, i] x_i + b_t + table[current token, t])` over tokens t with coefficients c.
    fn logit(&self, tokens: &[(u16, f64)], position: usize, value: f64) -> Opening {
        let params = &self.model.params;
        let unembed = params.unembed.as_ref().unwrap_or(&params.embed).dense();
        let site = Site { layer: self.model.config.n_layer, kind: SiteKind::FinalRead };
        let mut terms = Vec::new();
        for (index, &x) in self.trace.column(site, position).iter().enumerate() {
            let factor: f64 = tokens.iter().map(|&(t, c)| c * f64::from(unembed[[usize::from(t), index]])).sum();
            if factor != 0.0 && x != 0.0 {
                terms.push(Term::of(Target::node(Node { site, index }, position), f64::from(x), factor));
            }
        }
        let over_tokens =
            |f: &dyn Fn(usize) -> f32| tokens.iter().map(|&(t, c)| c * f64::from(f(usize::from(t)))).sum();
        terms.push(Term::leaf(Cause::LogitsBias, over_tokens(&|t| params.logits_bias.dense()[[t, 0]])));
        if let Some(table) = &params.bigram {
            let current = self.trace.tokens()[position];
            let amount = over_tokens(&|t| table.dense()[[usize::from(current), t]]);
            terms.push(Term::leaf(Cause::Bigram { token: current }, amount));
        }
        Opening { value, terms, held: None }
    }
}

/// The term of a summand of the residual stream with a factor.
fn stream_term(source: StreamSource, feature: usize, position: usize, value: f64, factor: f64) -> Term {
    match source {
        StreamSource::Write(site) => Term::of(Target::node(Node { site, index: feature }, position), value, factor),
        StreamSource::Embedding => Term::leaf(Cause::Embedding { feature, position }, value * factor),
        StreamSource::Position => Term::leaf(Cause::PositionEmbedding { feature, position }, value * factor),
        StreamSource::Edit(site) => Term::leaf(Cause::StreamEdit(Node { site, index: feature }), value * factor),
    }
}

/// Mean and divisor of a norm over one column; 0 and 1 without a norm.
struct Moments {
    mean: f64,
    divisor: f64,
}

fn moments(kind: NormKind, x: &[f64]) -> Moments {
    let d = x.len() as f64;
    let mean = if kind == NormKind::Layer { x.iter().sum::<f64>() / d } else { 0.0 };
    let second = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d;
    let divisor = if kind == NormKind::None { 1.0 } else { (second + f64::from(kind.eps())).sqrt() };
    Moments { mean, divisor }
}

/// `f(x)`.
fn activated(f: Activation, x: f64) -> f64 {
    match f {
        Activation::Gelu => x * openwork_ops::reference::normal_cdf(x),
        Activation::Relu => x.max(0.0),
    }
}

/// `f(x) / x`, and its limit at 0.
pub(crate) fn gate(f: Activation, x: f64) -> f64 {
    match f {
        Activation::Gelu => openwork_ops::reference::normal_cdf(x),
        Activation::Relu => f64::from(u8::from(x > 0.0)),
    }
}

/// `f'(x)`.
fn slope(f: Activation, x: f64) -> f64 {
    match f {
        Activation::Gelu => {
            let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            openwork_ops::reference::normal_cdf(x) + x * density
        }
        Activation::Relu => f64::from(u8::from(x > 0.0)),
    }
}
