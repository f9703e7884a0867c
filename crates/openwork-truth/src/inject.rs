//! A known circuit inside any model: on channels, a head and neurons of its own, beside all that the model does already.
//!
//! `cue → read 0, 1, 2 → head → channel 3 → MLP read 3 → two neurons → channel 4 → ± logit of two answers`, all in the first
//! block. Where a prompt has a cue, the answer that goes with it leads all other tokens; where it has none, the model says
//! what it said before, up to what AbsTopK makes of a few more channels.

use openwork_circuit::{Node, NodeSet, NodeSpace};
use openwork_model::{Matrix, Model, NormKind, ParamInfo, Params, Record, Role, Site, SiteKind, Tokens, Weight};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Circuit to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// The two cues; a prompt should have one at most.
    pub cues: [u16; 2],
    /// The answer to each.
    pub answers: [u16; 2],
    /// Seed of the prompts on which the model's own values are measured.
    pub seed: u64,
}

/// A model with a circuit injected.
#[derive(Clone)]
pub struct Injected {
    /// The model, a little wider than its host.
    pub model: Model,
    /// The nodes of the circuit.
    pub truth: NodeSet,
}

/// Reason that a circuit could not be injected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InjectError {
    /// More channels change LayerNorm's mean.
    #[error("the host has LayerNorm, whose means more channels would change; hosts need RMSNorm or no norm")]
    LayerNorm,
    /// An answer of one's own needs an unembedding of one's own.
    #[error("the host's unembedding is its embedding; hosts need one of their own")]
    Tied,
    /// There is nowhere to put a head.
    #[error("the host has no blocks; it needs one at least")]
    NoBlocks,
    /// A cue or answer is no token of the host, or stands for two things.
    #[error("cues {cues:?} and answers {answers:?} must be different tokens below {vocab_size}")]
    Tokens {
        /// The cues.
        cues: [u16; 2],
        /// The answers.
        answers: [u16; 2],
        /// Tokens of the host.
        vocab_size: usize,
    },
}

/// Own channels: sign of the cue, whether it is one, always 1, the sign as the head brings it, as the neurons write it.
const CHANNELS: usize = 5;
/// Own neurons.
const NEURONS: usize = 2;
/// By how much own values exceed the host's largest, so that AbsTopK keeps them: the host's values were measured on some
/// prompts, and others may have a few times larger ones.
const ABOVE: f32 = 4.0;
/// By how much the answer leads, in nats, beyond what the host's logits differ by.
const LEAD: f32 = 15.0;

impl Injection {
    /// Puts the circuit into `host`.
    ///
    /// # Errors
    /// When the host has LayerNorm, a tied unembedding or no blocks, or tokens do not fit.
    pub fn into_host(self, host: &Model) -> Result<Injected, InjectError> {
        self.check(host)?;
        let own = Own::of(host);
        let host_sizes = Sizes::measure(host, self.seed);
        let mut model = grow(host);
        self.write(&mut model, &own, &host_sizes);
        let space = NodeSpace::new(&model.config);
        let node = |(kind, index): (SiteKind, usize)| {
            space.number(Node { site: Site { layer: 0, kind }, index }).expect("the model has been widened")
        };
        let truth = NodeSet::of(space.clone(), own.nodes().map(node).collect::<Vec<_>>());
        Ok(Injected { model, truth })
    }

    fn check(self, host: &Model) -> Result<(), InjectError> {
        let Self { cues, answers, .. } = self;
        let vocab_size = host.config.vocab_size;
        let mut tokens = [cues, answers].concat();
        tokens.sort_unstable();
        tokens.dedup();
        if tokens.len() < 4 || usize::from(tokens[3]) >= vocab_size {
            return Err(InjectError::Tokens { cues, answers, vocab_size });
        }
        match &host.config {
            c if c.norm == NormKind::Layer => Err(InjectError::LayerNorm),
            c if c.tied_unembed => Err(InjectError::Tied),
            c if c.n_layer == 0 => Err(InjectError::NoBlocks),
            _ => Ok(()),
        }
    }

    /// The circuit's weights. Gains make own reads large, so that they survive AbsTopK while what stands in the residual stream,
    /// where the host's norms see it, is no larger than need be.
    fn write(self, model: &mut Model, own: &Own, host: &Sizes) {
        let d_model = model.config.d_model as f32;
        let (d_head, d_attn) = (model.config.d_head, model.config.n_head * model.config.d_head);
        let (c, h, n) = (own.channel, own.dimension, own.neuron);
        let small = host.token;
        // The least factor that a norm applies: the host's largest streams, and own channels.
        let norm = model.config.norm;
        let least = |own: f32| match norm {
            NormKind::None => 1.0,
            _ => (d_model / (ABOVE * host.stream.powi(2) + own)).sqrt(),
        };
        let (write, last) = (ABOVE * host.attn_write, ABOVE * host.mlp_write);
        let params = &mut model.params;
        params.embed.update(|w| {
            for (cue, sign) in self.cues.map(usize::from).into_iter().zip([1.0, -1.0]) {
                (w[[cue, c]], w[[cue, c + 1]]) = (sign * small, small);
            }
            w.column_mut(c + 2).fill(small);
        });
        let block = &mut params.blocks[0];
        let first = least(3.0 * small.powi(2));
        let read = ABOVE * host.attn_read;
        block.attn_norm.gain.update(|g| (c..c + 3).for_each(|i| g[[i, 0]] = read / (small * first)));
        // Reads are at least `read`. Scores are at least 30 where there is a cue.
        let score = (30.0 * (d_head as f32).sqrt()).sqrt().max(ABOVE * host.qkv) / read;
        let value = ABOVE * host.qkv / read;
        block.qkv.weight.update(|w| {
            (w[[h, c + 2]], w[[d_attn + h, c + 1]], w[[2 * d_attn + h, c]]) = (score, score, value);
        });
        if let Some(sink) = &mut block.sink {
            sink.update(|s| s[[h / d_head, 0]] = -100.0);
        }
        block.attn_out.weight.update(|w| w[[c + 3, h]] = write / (value * read));
        // What is written may be larger by what norms differ; neurons saturate nothing, so the answer grows with it.
        let second = least(3.0 * small.powi(2) + (ABOVE * write).powi(2));
        let read = ABOVE * host.mlp_read;
        block.mlp_norm.gain.update(|g| g[[c + 3, 0]] = read / (write * second));
        let neuron = (ABOVE * host.neuron).max(10.0);
        block.fc.weight.update(|w| (w[[n, c + 3]], w[[n + 1, c + 3]]) = (neuron / read, -neuron / read));
        block.proj.weight.update(|w| (w[[c + 4, n]], w[[c + 4, n + 1]]) = (last / neuron, -last / neuron));
        let third = least(3.0 * small.powi(2) + (ABOVE * write).powi(2) + (ABOVE * last).powi(2));
        params.final_norm.gain.update(|g| g[[c + 4, 0]] = 1.0 / (last * third));
        params.unembed.as_mut().expect("not tied").update(|w| {
            for (answer, sign) in self.answers.map(usize::from).into_iter().zip([1.0, -1.0]) {
                w[[answer, c + 4]] = sign * (2.0 * host.logit + LEAD);
            }
        });
    }
}

/// First own channel, dimension and neuron: the host's widths.
struct Own {
    channel: usize,
    dimension: usize,
    neuron: usize,
}

impl Own {
    fn of(host: &Model) -> Self {
        let c = &host.config;
        Self { channel: c.d_model, dimension: c.n_head * c.d_head, neuron: c.d_mlp }
    }

    fn nodes(&self) -> impl Iterator<Item = (SiteKind, usize)> {
        let (c, h, n) = (self.channel, self.dimension, self.neuron);
        let reads = [c, c + 1, c + 2].map(|i| (SiteKind::AttnRead, i));
        let head = [(SiteKind::Query, h), (SiteKind::Key, h), (SiteKind::Value, h), (SiteKind::AttnWrite, c + 3)];
        let mlp =
            [(SiteKind::MlpRead, c + 3), (SiteKind::Neuron, n), (SiteKind::Neuron, n + 1), (SiteKind::MlpWrite, c + 4)];
        reads.into_iter().chain(head).chain(mlp)
    }
}

/// The host's largest values on some prompts, each at least a little above zero.
struct Sizes {
    /// Root mean square of the tokens' embeddings.
    token: f32,
    /// Euclidean norm of the residual stream, after any block.
    stream: f32,
    attn_read: f32,
    qkv: f32,
    attn_write: f32,
    mlp_read: f32,
    neuron: f32,
    mlp_write: f32,
    /// Largest magnitude of a logit.
    logit: f32,
}

impl Sizes {
    /// On 32 sequences of random tokens.
    fn measure(host: &Model, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let config = &host.config;
        let tokens: Vec<u16> = (0..32 * config.n_ctx).map(|_| rng.random_range(0..config.vocab_size) as u16).collect();
        let mut record = Record::default();
        let pass = host.forward(Tokens::new(&tokens, config.n_ctx), None, &mut record);
        let largest = |m: &Matrix| m.iter().fold(1e-3_f32, |a, x| a.max(x.abs()));
        // Of the first block, where the circuit is.
        let of = |kind: SiteKind| {
            largest(&record.values.iter().find(|v| v.0 == Site { layer: 0, kind }).expect("a block").1)
        };
        let streams = record
            .values
            .iter()
            .filter(|v| matches!(v.0.kind, SiteKind::ResidIn | SiteKind::ResidMid | SiteKind::FinalResid));
        let lengths = streams.flat_map(|v| v.1.columns().into_iter().map(|c| c.dot(&c).sqrt()).collect::<Vec<_>>());
        let embed = host.params.embed.dense();
        Self {
            token: (embed.iter().map(|x| x * x).sum::<f32>() / embed.len() as f32).sqrt().max(1e-3),
            stream: lengths.fold(1e-3, f32::max),
            attn_read: of(SiteKind::AttnRead),
            qkv: of(SiteKind::Query).max(of(SiteKind::Key)).max(of(SiteKind::Value)),
            attn_write: of(SiteKind::AttnWrite),
            mlp_read: of(SiteKind::MlpRead),
            neuron: of(SiteKind::Neuron),
            mlp_write: of(SiteKind::MlpWrite),
            logit: largest(&pass.logits),
        }
    }
}

/// The host with own channels, head and neurons, whose weights and gains are zero. Gains of the host make up for the mean over
/// more channels.
fn grow(host: &Model) -> Model {
    let old = &host.config;
    let mut config = old.clone();
    config.d_model += CHANNELS;
    config.n_head += 1;
    config.d_mlp += NEURONS;
    let gain = match old.norm {
        NormKind::None => 1.0,
        _ => (old.d_model as f32 / config.d_model as f32).sqrt(),
    };
    let (old_attn, new_attn) = (old.n_head * old.d_head, config.n_head * config.d_head);
    let mut weights = host.params.values().into_iter();
    let one = |info: &ParamInfo, [rows, cols]: [usize; 2]| {
        let from = weights.next().expect("one tree").dense();
        let is_qkv = info.role == Role::Qkv || info.name.ends_with("c_attn.bias");
        // Queries, keys and values each have a head more; position channels stand after the stream's.
        let row = |r: usize| if is_qkv { r / old_attn * new_attn + r % old_attn } else { r };
        let reads = matches!(info.role, Role::Qkv | Role::Fc);
        let col = |c: usize| if reads && c >= old.d_model { c + CHANNELS } else { c };
        let factor = if info.role == Role::NormGain && from.nrows() != rows { gain } else { 1.0 };
        let mut to = Matrix::zeros((rows, cols));
        from.indexed_iter().for_each(|((r, c), x)| to[[row(r), col(c)]] = factor * x);
        Weight::new(to)
    };
    let params = Params::build(&config, one);
    Model { config, params, ties: host.ties }
}
