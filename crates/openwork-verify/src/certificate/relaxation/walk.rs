//! The forward pass on zones: block after block, in a block site after site, at a site token after token.

use std::collections::BTreeMap;

use ndarray::{Array2, Axis, Zip, s};
use openwork_model::{Block, Config, Linear, Model, Norm, NormKind, Params, Positions, Site, SiteKind};

use super::{
    super::about::About,
    attend::{Heads, attend},
    zone::{Affine, Fading, Origin, SLACK, Symbols, Vector, Zone},
};

/// Ranges of coefficients by (node, token); those that are not here are [0, 1].
pub(super) type Ranges = BTreeMap<(usize, usize), (f64, f64)>;

/// The weights in f64, made ready once for all inputs.
pub(super) struct Weights<'a> {
    about: &'a About<'a>,
    embed: Array2<f64>,
    position: Option<Array2<f64>>,
    blocks: Vec<BlockWeights>,
    final_gain: Vector,
    final_bias: Vector,
    unembed: Array2<f64>,
    bigram: Option<Array2<f64>>,
    logits_bias: Vector,
}

struct BlockWeights {
    /// Gain and bias of the residual stream, then of position channels beside it.
    attn_norm: Vec<[Vector; 2]>,
    qkv: [Affine; 3],
    sink: Option<Vector>,
    attn_out: Affine,
    mlp_norm: Vec<[Vector; 2]>,
    fc: Affine,
    proj: Affine,
}

impl<'a> Weights<'a> {
    pub fn new(about: &'a About<'a>) -> Self {
        let model: &Model = about.model;
        let mut weights = model.params.values().into_iter();
        let params: Params<Array2<f64>> =
            Params::build(&model.config, |_, _| weights.next().expect("the same tree").dense().mapv(f64::from));
        let [final_gain, final_bias] = norm(&params.final_norm);
        Self {
            about,
            blocks: params.blocks.iter().map(|block| BlockWeights::new(&model.config, block)).collect(),
            final_gain,
            final_bias,
            unembed: params.unembed.unwrap_or_else(|| params.embed.clone()),
            logits_bias: column(&params.logits_bias),
            embed: params.embed,
            position: params.position,
            bigram: params.bigram,
        }
    }
}

fn column(vector: &Array2<f64>) -> Vector {
    vector.column(0).to_owned()
}

fn norm(norm: &Norm<Array2<f64>>) -> [Vector; 2] {
    let gain = column(&norm.gain);
    let bias = norm.bias.as_ref().map_or_else(|| Vector::zeros(gain.len()), column);
    [gain, bias]
}

impl BlockWeights {
    fn new(config: &Config, block: &Block<Array2<f64>>) -> Self {
        let d = config.n_head * config.d_head;
        let affine = |l: &Linear<Array2<f64>>, rows: std::ops::Range<usize>| {
            let bias = l.bias.as_ref().map(|b| column(b).slice(s![rows.clone()]).to_owned());
            Affine::new(l.weight.slice(s![rows, ..]).to_owned(), bias)
        };
        let whole = |l: &Linear<Array2<f64>>| affine(l, 0..l.weight.nrows());
        let norms = |main, beside: &Option<_>| std::iter::once(main).chain(beside).map(norm).collect();
        Self {
            attn_norm: norms(&block.attn_norm, &block.attn_pos_norm),
            qkv: [0, 1, 2].map(|i| affine(&block.qkv, i * d..(i + 1) * d)),
            sink: block.sink.as_ref().map(column),
            attn_out: whole(&block.attn_out),
            mlp_norm: norms(&block.mlp_norm, &block.mlp_pos_norm),
            fc: whole(&block.fc),
            proj: whole(&block.proj),
        }
    }
}

/// Bounds of the scale 1/s of every norm, in the order they are met.
pub(super) type Scales = Vec<(f64, f64)>;

/// Result at the last token: the centred residual stream and the scales, the last of them the final norm's.
pub(super) struct Outcome {
    stream: Zone,
    pub scales: Scales,
    /// True if nothing is known about the scales but their bounds.
    exact: bool,
    /// Origins of the noise symbols.
    pub origins: Vec<Origin>,
}

/// Freedom of an ablated run: which nodes are kept, ranges of the coefficients of others, scales to use in place of
/// bounds of them.
pub(super) struct Freedom<'a> {
    pub kept: &'a [bool],
    pub ranges: &'a Ranges,
    pub most_symbols: usize,
    pub frozen: Option<&'a Scales>,
}

/// A lower bound, and the linear form that it is of.
pub(super) struct Margin {
    pub bound: f64,
    /// Coefficients by noise symbol.
    pub shared: Vec<f64>,
}

/// A forward pass with nodes kept or faded.
struct Walk<'a> {
    weights: &'a Weights<'a>,
    freedom: Freedom<'a>,
    tokens: usize,
    symbols: Symbols,
    scales: Scales,
}

impl Weights<'_> {
    /// Propagates a prompt.
    pub fn propagate(&self, prompt: &[u16], freedom: Freedom<'_>) -> Outcome {
        let symbols = Symbols::new(freedom.most_symbols);
        let mut walk = Walk { weights: self, freedom, tokens: prompt.len(), symbols, scales: vec![] };
        let stream = walk.run(prompt);
        Outcome { stream, exact: walk.exact(), scales: walk.scales, origins: walk.symbols.origins }
    }

    /// The model's own run: all zones are points.
    pub fn plain(&self, prompt: &[u16]) -> Outcome {
        let kept = vec![true; self.about.circuit.kept().len()];
        self.propagate(prompt, Freedom { kept: &kept, ranges: &Ranges::new(), most_symbols: 0, frozen: None })
    }

    /// Logits of a run whose zones are points.
    pub fn logits(&self, outcome: &Outcome, token: u16) -> Vector {
        let (low, high) = *outcome.scales.last().expect("the final norm");
        let read = &outcome.stream.centre * ((low + high) / 2.0) * &self.final_gain + &self.final_bias;
        let logits = self.unembed.dot(&read) + &self.logits_bias;
        match &self.bigram {
            Some(table) => logits + table.row(usize::from(token)),
            None => logits,
        }
    }

    /// Intervals of `x / s` for a scale 1/s within bounds. Where s is the root of a mean of squares, a feature's own
    /// square is told from those of the others: the quotient rises with the feature.
    fn quotients(&self, x: &Zone, (low, high): (f64, f64), exact: bool) -> (Vector, Vector) {
        let (n, size) = (x.len(), x.size());
        let slack = SLACK * (n as f64 + 8.0);
        let ends = &size * (slack * high);
        let mut lows = Zip::from(&x.low).map_collect(|l| (l * low).min(l * high)) - &ends;
        let mut highs = Zip::from(&x.high).map_collect(|h| (h * low).max(h * high)) + &ends;
        if !exact {
            let [least_squares, squares] = [x.least_size(), size].map(|size| size.mapv(|s| s * s));
            let (least_total, total) = (least_squares.sum(), squares.sum());
            let eps = f64::from(self.about.model.config.norm.eps());
            for i in 0..n {
                let least = (least_total - least_squares[i] - slack * least_total).max(0.0);
                let most = (total - squares[i]).max(0.0) + slack * total;
                let quotient = |x: f64, others: f64| x / ((x * x + others) / n as f64 + eps).sqrt();
                let l = quotient(x.low[i], if x.low[i] >= 0.0 { most } else { least });
                let h = quotient(x.high[i], if x.high[i] >= 0.0 { least } else { most });
                lows[i] = lows[i].max(l - slack * l.abs());
                highs[i] = highs[i].min(h + slack * h.abs());
            }
        }
        (lows, highs)
    }

    /// Lower bound of `logit(answer) − logit(rival)`. Both have one scale: the form of their difference is bounded
    /// before it is scaled, so that what they share cancels; or feature by feature, if that is better.
    pub fn margin(&self, outcome: &Outcome, token: u16, answer: usize, rival: usize) -> Margin {
        let x = &outcome.stream;
        let rows = &self.unembed.row(answer) - &self.unembed.row(rival);
        let weights = &rows * &self.final_gain;
        let mut constants = (&rows * &self.final_bias).to_vec();
        constants.extend([self.logits_bias[answer], -self.logits_bias[rival]]);
        if let Some(table) = &self.bigram {
            constants.extend([table[[usize::from(token), answer]], -table[[usize::from(token), rival]]]);
        }
        let constant: f64 = constants.iter().sum();
        let rounding =
            |size: f64| SLACK * (x.len() as f64 + 8.0) * (size + constants.iter().map(|c| c.abs()).sum::<f64>());
        let (low, high) = *outcome.scales.last().expect("the final norm");
        let (lows, highs) = self.quotients(x, (low, high), outcome.exact);
        let (mut by_feature, mut size) = (constant, 0.0);
        for (w, (l, h)) in weights.iter().zip(lows.iter().zip(&highs)) {
            by_feature += (w * l).min(w * h);
            size += (w * l).abs().max((w * h).abs());
        }
        let form = Affine::new(weights.insert_axis(Axis(0)), None).apply(x);
        let as_one = (form.low[0] * low).min(form.low[0] * high) + constant - rounding(form.size()[0] * high);
        Margin { bound: as_one.max(by_feature - rounding(size)), shared: form.shared.row(0).to_vec() }
    }
}

impl Walk<'_> {
    fn run(&mut self, prompt: &[u16]) -> Zone {
        let weights = self.weights;
        let config = &weights.about.model.config;
        let mut streams = Vec::with_capacity(prompt.len());
        let mut beside = Vec::with_capacity(prompt.len());
        for (t, &token) in prompt.iter().enumerate() {
            let mut stream = Zone::point(weights.embed.row(usize::from(token)).to_owned());
            let position = weights.position.as_ref().map(|table| Zone::point(table.row(t).to_owned()));
            match (position, config.positions) {
                (Some(position), Positions::Added) => stream = stream.plus(&position),
                (Some(position), _) => beside.push(position),
                (None, _) => (),
            }
            streams.push(stream);
        }
        for layer in 0..config.n_layer {
            self.block(layer, &mut streams, &beside);
        }
        let (stream, scale) = self.scale(streams.pop().expect("a prompt has tokens"));
        self.scales.push(scale);
        stream
    }

    fn block(&mut self, layer: usize, streams: &mut [Zone], beside: &[Zone]) {
        let (block, n) = (&self.weights.blocks[layer], streams.len());
        let config = &self.weights.about.model.config;
        let site = |kind| Site { layer, kind };
        // After the last block only the last token is read.
        let first = if layer + 1 == config.n_layer { n - 1 } else { 0 };
        let reads = self.read(&block.attn_norm, streams, beside, 0);
        let reads = self.nodes(site(SiteKind::AttnRead), reads);
        let [q, k, v] = &block.qkv;
        let queries = self.nodes(site(SiteKind::Query), reads[first..].iter().map(|x| q.apply(x)).collect());
        let keys = self.nodes(site(SiteKind::Key), reads.iter().map(|x| k.apply(x)).collect());
        let values = self.nodes(site(SiteKind::Value), reads.iter().map(|x| v.apply(x)).collect());
        let heads = Heads { n_head: config.n_head, d_head: config.d_head, sink: block.sink.as_ref() };
        let mut writes = Vec::with_capacity(queries.len());
        for (i, query) in queries.iter().enumerate() {
            let seen = ..first + i + 1;
            writes.push(block.attn_out.apply(&attend(heads, query, &keys[seen], &values[seen], &mut self.symbols)));
        }
        let writes = self.nodes(site(SiteKind::AttnWrite), writes);
        streams[first..].iter_mut().zip(&writes).for_each(|(x, write)| *x = x.plus(write));

        let reads = self.read(&block.mlp_norm, streams, beside, first);
        let reads = self.nodes(site(SiteKind::MlpRead), reads);
        let mut neurons = Vec::with_capacity(reads.len());
        for read in &reads {
            neurons.push(block.fc.apply(read).activate(config.activation, &mut self.symbols));
        }
        let neurons = self.nodes(site(SiteKind::Neuron), neurons);
        let writes = self.nodes(site(SiteKind::MlpWrite), neurons.iter().map(|x| block.proj.apply(x)).collect());
        streams[first..].iter_mut().zip(&writes).for_each(|(x, write)| *x = x.plus(write));
    }

    /// AbsTopK, then what is ablated fades.
    fn nodes(&mut self, site: Site, tokens: Vec<Zone>) -> Vec<Zone> {
        let about = self.weights.about;
        let range = about.circuit.space().range(site).expect("a site of nodes");
        let kept = &self.freedom.kept[range.clone()];
        let k = about.model.config.act_k(site.kind);
        let first = self.tokens - tokens.len();
        let mut one = |(i, zone): (usize, Zone)| {
            let zone = match k {
                Some(k) => zone.abs_top_k(k, &mut self.symbols),
                None => zone,
            };
            let whole = (0.0, 1.0);
            let how = Fading {
                faded: kept.iter().map(|kept| !kept).collect(),
                values: range.clone().map(|node| f64::from(about.ablation_value(node))).collect(),
                ranges: range.clone().map(|n| *self.freedom.ranges.get(&(n, first + i)).unwrap_or(&whole)).collect(),
                origins: range.clone().map(|node| Some((node, first + i))).collect(),
            };
            zone.settled(&mut self.symbols).fade(&how, &mut self.symbols)
        };
        tokens.into_iter().enumerate().map(&mut one).collect()
    }

    /// Inputs of a block, of the tokens from `first` on.
    fn read(&mut self, norms: &[[Vector; 2]], streams: &[Zone], beside: &[Zone], first: usize) -> Vec<Zone> {
        let mut reads = Vec::with_capacity(streams.len() - first);
        for t in first..streams.len() {
            let read = self.normalise(&norms[0], streams[t].clone());
            reads.push(match norms.get(1) {
                Some(norm) => read.beside(&self.normalise(norm, beside[t].clone())),
                None => read,
            });
        }
        reads
    }

    /// True if scales are given: held, or 1.
    fn exact(&self) -> bool {
        self.freedom.frozen.is_some() || self.weights.about.model.config.norm == NormKind::None
    }

    fn eps(&self) -> f64 {
        f64::from(self.weights.about.model.config.norm.eps())
    }

    /// Input of the norm, centred, and bounds of its scale.
    fn scale(&self, x: Zone) -> (Zone, (f64, f64)) {
        let n = x.len() as f64;
        let x = match self.weights.about.model.config.norm {
            NormKind::None => return (x, (1.0, 1.0)),
            NormKind::Rms => x,
            NormKind::Layer => centred(&x),
        };
        if let Some(frozen) = self.freedom.frozen {
            return (x, frozen[self.scales.len()]);
        }
        let slack = SLACK * (n + 8.0);
        let [low, high] = [x.least_size(), x.size()].map(|size| size.mapv(|s| s * s).sum() / n + self.eps());
        (x, ((1.0 - slack) / high.sqrt(), (1.0 + slack) / low.sqrt()))
    }

    /// `gain x / s + bias`. The noise of the scale is one symbol for all features.
    fn normalise(&mut self, [gain, bias]: &[Vector; 2], x: Zone) -> Zone {
        let exact = self.exact();
        let (x, (low, high)) = self.scale(x);
        self.scales.push((low, high));
        let (n, middle, half) = (x.len(), (low + high) / 2.0, (high - low) / 2.0);
        let mut y = x.scaled(&Vector::from_elem(n, middle), &Vector::zeros(n));
        let (radius, size) = (x.radius(), x.size());
        let reach = x.centre.mapv(f64::abs) + &radius;
        if half > 1e-9 * middle && self.symbols.left() {
            let symbol = self.symbols.next(None);
            y.add_symbol(&(&x.centre * half), symbol);
            y.own.scaled_add(half, &radius);
        } else {
            y.own.scaled_add(half, &size);
        }
        y.own.scaled_add(8.0 * f64::EPSILON * half, &reach);
        (y.low, y.high) = self.weights.quotients(&x, (low, high), exact);
        y.scaled(gain, bias)
    }
}

/// `x − mean(x)`.
fn centred(x: &Zone) -> Zone {
    let n = x.len();
    let mean = Affine::new(Array2::from_elem((1, n), 1.0 / n as f64), None).apply(x);
    let spread = Affine::new(Array2::from_elem((n, 1), -1.0), None).apply(&mean);
    x.plus(&spread)
}
