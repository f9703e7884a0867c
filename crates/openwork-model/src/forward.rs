//! The forward pass of a batch, keeping what the backward pass needs.

use openwork_ops::{Attention, Cpu, Engine};

use crate::{Bigram, Block, Model, Norm, Positions, Site, SiteKind, Tap};

/// A batch: sequences of `seq_len` tokens, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    pub(crate) ids: &'a [u16],
    pub(crate) seq_len: usize,
}

impl<'a> Tokens<'a> {
    /// # Panics
    /// When `ids` is not a whole number of sequences.
    #[track_caller]
    pub fn new(ids: &'a [u16], seq_len: usize) -> Self {
        assert!(
            seq_len > 0 && ids.len().is_multiple_of(seq_len),
            "{} tokens are not sequences of {seq_len}",
            ids.len()
        );
        Self { ids, seq_len }
    }
}

/// What a forward pass leaves.
pub struct Pass<E: Engine = Cpu> {
    /// `[vocab, readout columns]`.
    pub logits: E::Array,
    pub(crate) trunk: Trunk<E>,
    pub(crate) head: Head<E>,
}

/// What the backward pass needs of everything up to the residual stream after the last block.
pub(crate) struct Trunk<E: Engine> {
    pub n_tokens: usize,
    pub seq_len: usize,
    pub tokens: E::Tokens,
    pub position: Option<E::Array>,
    pub blocks: Vec<BlockTrace<E>>,
}

/// What it needs of the way from there to the logits.
pub(crate) struct Head<E: Engine> {
    pub readout: Option<Readout<E>>,
    /// Residual stream after the last block, at the readout columns.
    pub final_resid: E::Array,
    pub final_statistics: E::Statistics,
    /// Its normalised form.
    pub final_read: E::Activations,
}

/// Columns that are read out, and their tokens.
pub(crate) struct Readout<E: Engine> {
    pub columns: E::Columns,
    pub tokens: E::Tokens,
}

/// Inputs of every operation of a block, as its backward needs them.
pub(crate) struct BlockTrace<E: Engine> {
    pub resid_in: E::Array,
    pub attn_norm: ReadTrace<E>,
    pub attn_read: E::Activations,
    pub qkv: [E::Array; 3],
    pub log_sum: E::Array,
    pub mix: E::Activations,
    pub resid_mid: E::Array,
    pub mlp_norm: ReadTrace<E>,
    pub mlp_read: E::Activations,
    /// Derivative of the nonlinearity.
    pub slope: E::Array,
    pub neuron: E::Activations,
    /// What AbsTopK kept, by site; `None` where it does not apply.
    pub kept: [Option<E::Kept>; 8],
}

/// What the norms of a read found out: of the residual stream and of the position channels.
pub(crate) struct ReadTrace<E: Engine> {
    pub statistics: E::Statistics,
    pub position: Option<E::Statistics>,
}

/// Index of a site in [`BlockTrace::kept`].
pub(crate) fn kept_index(kind: SiteKind) -> usize {
    match kind {
        SiteKind::AttnRead => 0,
        SiteKind::Query => 1,
        SiteKind::Key => 2,
        SiteKind::Value => 3,
        SiteKind::AttnWrite => 4,
        SiteKind::MlpRead => 5,
        SiteKind::Neuron => 6,
        SiteKind::MlpWrite => 7,
        other => unreachable!("AbsTopK does not apply at {other:?}"),
    }
}

impl<E: Engine> Pass<E> {
    /// Gives the memory of the pass back.
    pub fn recycle(self, engine: &mut E) {
        self.head.recycle(engine);
        self.trunk.recycle(engine);
        engine.recycle(self.logits);
    }
}

impl<E: Engine> Head<E> {
    pub fn recycle(self, engine: &mut E) {
        engine.recycle(self.final_resid);
        engine.recycle_activations(self.final_read);
    }
}

impl<E: Engine> Trunk<E> {
    pub fn recycle(self, engine: &mut E) {
        for block in self.blocks {
            let BlockTrace { resid_in, attn_read, qkv, log_sum, mix, resid_mid, mlp_read, slope, neuron, kept, .. } =
                block;
            [resid_in, log_sum, resid_mid, slope].into_iter().chain(qkv).for_each(|x| engine.recycle(x));
            [attn_read, mix, mlp_read, neuron].into_iter().for_each(|x| engine.recycle_activations(x));
            kept.into_iter().flatten().for_each(|kept| engine.recycle_kept(kept));
        }
        self.position.into_iter().for_each(|x| engine.recycle(x));
    }
}

impl Model {
    /// Logits of the columns in `readout` (all, if `None`), `[vocab, columns]`. `tap` sees every site in
    /// order and may change it.
    ///
    /// `x = embed; per block: x += write(attention(read(x))), x += write(mlp(read(x)));
    /// logits = unembed(norm(x)) + bigram[token] + bias` (Gao et al. 2025, A.1).
    ///
    /// # Panics
    /// When a token or a readout column is out of range, or sequences are longer than `n_ctx`.
    #[track_caller]
    pub fn forward(&self, tokens: Tokens<'_>, readout: Option<&[usize]>, tap: &mut dyn Tap) -> Pass {
        self.forward_in(tokens, readout, tap, &mut Cpu::default())
    }
}

impl<W> Model<W> {
    /// [`Model::forward`] on the device and in the memory of `engine`: give it back with [`Pass::recycle`].
    #[track_caller]
    pub fn forward_in<E: Engine<Weight = W>>(
        &self,
        tokens: Tokens<'_>,
        readout: Option<&[usize]>,
        tap: &mut dyn Tap<E::Array>,
        engine: &mut E,
    ) -> Pass<E> {
        let readout = readout.map(|columns| self.readout(tokens, columns, engine));
        let (trunk, x) = self.trunk(tokens, tap, engine);
        let final_resid = match &readout {
            Some(readout) => {
                let selected = engine.gather(&x, &readout.columns);
                engine.recycle(x);
                selected
            }
            None => x,
        };
        let (logits, head) = self.head(final_resid, readout, &trunk.tokens, tap, engine);
        Pass { logits, trunk, head }
    }

    /// Columns to read out.
    #[track_caller]
    pub(crate) fn readout<E: Engine<Weight = W>>(
        &self,
        tokens: Tokens<'_>,
        columns: &[usize],
        engine: &mut E,
    ) -> Readout<E> {
        let ids: Vec<u16> = columns.iter().map(|&c| tokens.ids[c]).collect();
        let tokens_of_columns = engine.tokens(&ids, self.config.vocab_size);
        Readout { columns: engine.columns(columns, tokens.ids.len()), tokens: tokens_of_columns }
    }

    /// Embedding and blocks: returns the residual stream after the last one, too.
    #[track_caller]
    pub(crate) fn trunk<E: Engine<Weight = W>>(
        &self,
        tokens: Tokens<'_>,
        tap: &mut dyn Tap<E::Array>,
        engine: &mut E,
    ) -> (Trunk<E>, E::Array) {
        let (config, params) = (&self.config, &self.params);
        let n = tokens.ids.len();
        assert!(tokens.seq_len <= config.n_ctx, "sequences of {} exceed n_ctx {}", tokens.seq_len, config.n_ctx);
        if let Some(bad) = tokens.ids.iter().find(|&&t| usize::from(t) >= config.vocab_size) {
            panic!("token {bad} is outside the vocabulary of {}", config.vocab_size);
        }
        let (seq_len, tokens) = (tokens.seq_len, engine.tokens(tokens.ids, config.vocab_size));
        let mut x = engine.array([config.d_model, n]);
        engine.embed(&params.embed, &tokens, &mut x);
        let mut position = None;
        match (&params.position, config.positions) {
            (Some(table), Positions::Added) => engine.position(table, seq_len, &mut x),
            (Some(table), Positions::Concat { width } | Positions::Sinusoidal { width }) => {
                let channels = position.insert(engine.zeros([width, n]));
                engine.position(table, seq_len, channels);
            }
            _ => (),
        }
        let mut blocks = Vec::with_capacity(params.blocks.len());
        for (layer, block) in params.blocks.iter().enumerate() {
            blocks.push(self.block(layer, block, seq_len, position.as_ref(), &mut x, tap, engine));
        }
        tap.forward(Site { layer: config.n_layer, kind: SiteKind::FinalResid }, &mut x);
        (Trunk { n_tokens: n, seq_len, tokens, position, blocks }, x)
    }

    /// From the residual stream after the last block, at the readout columns, to the logits; `tokens` are those of the
    /// batch.
    pub(crate) fn head<E: Engine<Weight = W>>(
        &self,
        final_resid: E::Array,
        readout: Option<Readout<E>>,
        tokens: &E::Tokens,
        tap: &mut dyn Tap<E::Array>,
        engine: &mut E,
    ) -> (E::Array, Head<E>) {
        let (config, params) = (&self.config, &self.params);
        let Norm { gain, bias } = &params.final_norm;
        let (mut final_read, final_statistics) = engine.norm(config.norm, gain, bias.as_ref(), &final_resid);
        tap.forward(Site { layer: config.n_layer, kind: SiteKind::FinalRead }, &mut final_read);
        let final_read = engine.keep(final_read);
        let mut logits = engine.array([config.vocab_size, E::shape(&final_resid)[1]]);
        let unembed = params.unembed.as_ref().unwrap_or(&params.embed);
        engine.linear(unembed, Some(&params.logits_bias), &final_read, &mut logits);
        if config.bigram != Bigram::None {
            let table = params.bigram.as_ref().expect("the tree follows the configuration");
            engine.bigram(table, readout.as_ref().map_or(tokens, |readout| &readout.tokens), &mut logits);
        }
        (logits, Head { readout, final_resid, final_statistics, final_read })
    }

    #[allow(clippy::too_many_arguments, reason = "the state of one step of the walk")]
    fn block<E: Engine<Weight = W>>(
        &self,
        layer: usize,
        block: &Block<W>,
        seq_len: usize,
        position: Option<&E::Array>,
        x: &mut E::Array,
        tap: &mut dyn Tap<E::Array>,
        engine: &mut E,
    ) -> BlockTrace<E> {
        let config = &self.config;
        let mut kept: [Option<E::Kept>; 8] = Default::default();
        // AbsTopK where it applies, then the tap: the hooks of the published code come after AbsTopK.
        let mut site = |kind: SiteKind, value: &mut E::Array, kept: &mut [Option<E::Kept>; 8], engine: &mut E| {
            // What a block reads has gone through AbsTopK with its norm.
            let is_read = matches!(kind, SiteKind::AttnRead | SiteKind::MlpRead);
            if let Some(k) = config.act_k(kind).filter(|_| !is_read) {
                kept[kept_index(kind)] = Some(engine.abs_top_k(k, self.ties, value));
            }
            tap.forward(Site { layer, kind }, value);
        };
        let [d_model, n] = E::shape(x);
        let d_attn = config.n_head * config.d_head;

        site(SiteKind::ResidIn, x, &mut kept, engine);
        let resid_in = engine.copy(x);
        let norms = (&block.attn_norm, block.attn_pos_norm.as_ref());
        let (mut attn_read, attn_norm, marks) = self.read(SiteKind::AttnRead, norms, &resid_in, position, engine);
        kept[kept_index(SiteKind::AttnRead)] = marks;
        site(SiteKind::AttnRead, &mut attn_read, &mut kept, engine);
        let attn_read = engine.keep(attn_read);
        let mut joint = engine.array([3 * d_attn, n]);
        engine.linear(&block.qkv.weight, block.qkv.bias.as_ref(), &attn_read, &mut joint);
        let mut qkv = [0, 1, 2].map(|i| engine.rows(&joint, i * d_attn..(i + 1) * d_attn));
        engine.recycle(joint);
        for (kind, value) in [SiteKind::Query, SiteKind::Key, SiteKind::Value].into_iter().zip(&mut qkv) {
            site(kind, value, &mut kept, engine);
        }
        let mut mix = engine.array([d_attn, n]);
        let log_sum = engine.attention(self.attention_shape(seq_len), &qkv, block.sink.as_ref(), &mut mix);
        site(SiteKind::AttnMix, &mut mix, &mut kept, engine);
        let mix = engine.keep(mix);
        let mut write = engine.array([d_model, n]);
        engine.linear(&block.attn_out.weight, block.attn_out.bias.as_ref(), &mix, &mut write);
        site(SiteKind::AttnWrite, &mut write, &mut kept, engine);
        engine.residual(x, &write);

        site(SiteKind::ResidMid, x, &mut kept, engine);
        let resid_mid = engine.copy(x);
        let norms = (&block.mlp_norm, block.mlp_pos_norm.as_ref());
        let (mut mlp_read, mlp_norm, marks) = self.read(SiteKind::MlpRead, norms, &resid_mid, position, engine);
        kept[kept_index(SiteKind::MlpRead)] = marks;
        site(SiteKind::MlpRead, &mut mlp_read, &mut kept, engine);
        let mlp_read = engine.keep(mlp_read);
        let mut slope = engine.array([config.d_mlp, n]);
        engine.linear(&block.fc.weight, block.fc.bias.as_ref(), &mlp_read, &mut slope);
        let mut neuron = engine.array([config.d_mlp, n]);
        engine.activate(config.activation, &mut slope, &mut neuron);
        site(SiteKind::Neuron, &mut neuron, &mut kept, engine);
        let neuron = engine.keep(neuron);
        engine.linear(&block.proj.weight, block.proj.bias.as_ref(), &neuron, &mut write);
        site(SiteKind::MlpWrite, &mut write, &mut kept, engine);
        engine.residual(x, &write);
        engine.recycle(write);

        BlockTrace {
            resid_in,
            attn_norm,
            attn_read,
            qkv,
            log_sum,
            mix,
            resid_mid,
            mlp_norm,
            mlp_read,
            slope,
            neuron,
            kept,
        }
    }

    /// What a block reads: the normalised residual stream, and under it the normalised position channels; and of
    /// these what AbsTopK keeps.
    fn read<E: Engine<Weight = W>>(
        &self,
        kind: SiteKind,
        (norm, pos_norm): (&Norm<W>, Option<&Norm<W>>),
        x: &E::Array,
        position: Option<&E::Array>,
        engine: &mut E,
    ) -> (E::Array, ReadTrace<E>, Option<E::Kept>) {
        let (norm_kind, k) = (self.config.norm, self.config.act_k(kind));
        let (gain, bias) = (&norm.gain, norm.bias.as_ref());
        let (Some(pos_norm), Some(position)) = (pos_norm, position) else {
            return match k {
                Some(k) => {
                    let (y, statistics, kept) = engine.norm_abs_top_k((norm_kind, gain, bias), (k, self.ties), x);
                    (y, ReadTrace { statistics, position: None }, Some(kept))
                }
                None => {
                    let (y, statistics) = engine.norm(norm_kind, gain, bias, x);
                    (y, ReadTrace { statistics, position: None }, None)
                }
            };
        };
        let (above, statistics) = engine.norm(norm_kind, gain, bias, x);
        let (below, of_position) = engine.norm(norm_kind, &pos_norm.gain, pos_norm.bias.as_ref(), position);
        let ([d_model, n], [width, _]) = (E::shape(&above), E::shape(&below));
        let mut y = engine.array([d_model + width, n]);
        engine.set_rows(&mut y, 0, &above);
        engine.set_rows(&mut y, d_model, &below);
        [above, below].into_iter().for_each(|x| engine.recycle(x));
        let kept = k.map(|k| engine.abs_top_k(k, self.ties, &mut y));
        (y, ReadTrace { statistics, position: Some(of_position) }, kept)
    }

    pub(crate) fn attention_shape(&self, seq_len: usize) -> Attention {
        Attention { n_head: self.config.n_head, d_head: self.config.d_head, seq_len }
    }
}
