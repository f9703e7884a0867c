//! The forward pass of a batch, which keeps what the backward pass needs.

use std::ops::ControlFlow;

use openwork_ops::{Attention, Cpu, Engine};

use crate::{
    Bigram, Block, Model, Norm, Pass, Positions, Site, SiteKind, Tap, Tokens,
    pass::{BlockTrace, Head, MlpTrace, ReadTrace, Readout, Trunk, kept_index},
};

impl Model {
    /// Logits of the columns in `readout` (all, if `None`), `[vocab, columns]`. `tap` sees every site in
    /// order and may change it.
    ///
    /// `x = embed; per block: x += write(attention(read(x))), x += write(mlp(read(x)));
    /// logits = unembed(norm(x)) + bigram[token] + bias` (Gao et al. 2025, A.1).
    ///
    /// # Panics
    /// When a token or a readout column is out of range, when sequences are longer than `n_ctx`, or when `tap` stops
    /// the pass: [`Model::forward_until`] is for taps that do.
    #[track_caller]
    pub fn forward(&self, tokens: Tokens<'_>, readout: Option<&[usize]>, tap: &mut dyn Tap) -> Pass {
        self.forward_in(tokens, readout, tap, &mut Cpu::default())
    }
}

impl<W> Model<W> {
    /// [`Model::forward`] on the device and in the memory of `engine`: give it back with [`Pass::recycle`].
    ///
    /// # Panics
    /// As [`Model::forward`].
    #[track_caller]
    pub fn forward_in<E: Engine<Weight = W>>(
        &self,
        tokens: Tokens<'_>,
        readout: Option<&[usize]>,
        tap: &mut dyn Tap<E::Array>,
        engine: &mut E,
    ) -> Pass<E> {
        whole(self.forward_until(tokens, readout, tap, engine))
    }

    /// [`Model::forward_in`] with a tap that may stop the pass: `Break` has the site where it did. No operation after
    /// that site runs.
    ///
    /// ```
    /// # use std::ops::ControlFlow;
    /// # use openwork_model::{Config, Cpu, Matrix, Model, Site, Tap, Tokens};
    /// # let model = Model::init(Config { vocab_size: 16, ..Config::default() }, 0);
    /// struct UpTo(Site);
    /// impl Tap for UpTo {
    ///     fn forward(&mut self, site: Site, _: &mut Matrix) -> ControlFlow<()> {
    ///         if site == self.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    ///     }
    /// }
    /// let site: Site = "0.mlp.post_act".parse().unwrap();
    /// let pass = model.forward_until(Tokens::new(&[1, 2, 3], 3), None, &mut UpTo(site), &mut Cpu::default());
    /// assert_eq!(pass.break_value(), Some(site));
    /// ```
    ///
    /// # Panics
    /// When a token or a readout column is out of range, or sequences are longer than `n_ctx`.
    #[track_caller]
    pub fn forward_until<E: Engine<Weight = W>>(
        &self,
        tokens: Tokens<'_>,
        readout: Option<&[usize]>,
        tap: &mut dyn Tap<E::Array>,
        engine: &mut E,
    ) -> ControlFlow<Site, Pass<E>> {
        let readout = readout.map(|columns| self.readout(tokens, columns, engine));
        let (trunk, x) = self.trunk(tokens, tap, engine)?;
        let final_resid = gather(x, readout.as_ref(), engine);
        let (logits, head) = self.head(final_resid, readout, &trunk.tokens, tap, engine)?;
        ControlFlow::Continue(Pass { logits, trunk, head })
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
    ) -> ControlFlow<Site, (Trunk<E>, E::Array)> {
        let (config, params) = (&self.config, &self.params);
        let (n, seq_len) = (tokens.ids.len(), tokens.seq_len);
        let tokens = self.checked(tokens, engine);
        let mut x = engine.array([config.d_model, n]);
        engine.embed(&params.embed, &tokens, &mut x);
        if let (Some(table), Positions::Added) = (&params.position, config.positions) {
            engine.position(table, seq_len, &mut x);
        }
        let position = self.position_channels(n, seq_len, engine);
        let mut blocks = Vec::with_capacity(params.blocks.len());
        for layer in 0..config.n_layer {
            let (position, kept) = (position.as_ref(), Default::default());
            let block = BlockPass { model: self, layer, n, seq_len, position, tap, engine, kept };
            blocks.push(block.run(&mut x)?);
        }
        visit(tap, Site { layer: config.n_layer, kind: SiteKind::FinalResid }, &mut x)?;
        ControlFlow::Continue((Trunk { n_tokens: n, seq_len, tokens, position, blocks }, x))
    }

    /// The tokens on the device.
    #[track_caller]
    pub(crate) fn checked<E: Engine<Weight = W>>(&self, tokens: Tokens<'_>, engine: &mut E) -> E::Tokens {
        let config = &self.config;
        assert!(tokens.seq_len <= config.n_ctx, "sequences of {} exceed n_ctx {}", tokens.seq_len, config.n_ctx);
        if let Some(bad) = tokens.ids.iter().find(|&&t| usize::from(t) >= config.vocab_size) {
            panic!("token {bad} is outside the vocabulary of {}", config.vocab_size);
        }
        engine.tokens(tokens.ids, config.vocab_size)
    }

    /// Position channels that blocks read beside the residual stream, `[width, n]`, where the model has them.
    pub(crate) fn position_channels<E: Engine<Weight = W>>(
        &self,
        n: usize,
        seq_len: usize,
        engine: &mut E,
    ) -> Option<E::Array> {
        let (Positions::Concat { width } | Positions::Sinusoidal { width }) = self.config.positions else {
            return None;
        };
        let table = self.params.position.as_ref().expect("the tree follows the configuration");
        let mut channels = engine.zeros([width, n]);
        engine.position(table, seq_len, &mut channels);
        Some(channels)
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
    ) -> ControlFlow<Site, (E::Array, Head<E>)> {
        let Norm { gain, bias } = &self.params.final_norm;
        let (mut final_read, final_statistics) = engine.norm(self.config.norm, gain, bias.as_ref(), &final_resid);
        visit(tap, Site { layer: self.config.n_layer, kind: SiteKind::FinalRead }, &mut final_read)?;
        let final_read = engine.keep(final_read);
        let tokens_read = readout.as_ref().map_or(tokens, |readout| &readout.tokens);
        let logits = self.logits(&final_read, E::shape(&final_resid)[1], tokens_read, engine);
        ControlFlow::Continue((logits, Head { readout, final_resid, final_statistics, final_read }))
    }

    /// `unembed(final_read) + bias + bigram[token]`, `[vocab, n]`; `tokens` are those of the columns of `final_read`.
    pub(crate) fn logits<E: Engine<Weight = W>>(
        &self,
        final_read: &E::Activations,
        n: usize,
        tokens: &E::Tokens,
        engine: &mut E,
    ) -> E::Array {
        let (config, params) = (&self.config, &self.params);
        let mut logits = engine.array([config.vocab_size, n]);
        let unembed = params.unembed.as_ref().unwrap_or(&params.embed);
        engine.linear(unembed, Some(&params.logits_bias), final_read, &mut logits);
        if config.bigram != Bigram::None {
            let table = params.bigram.as_ref().expect("the tree follows the configuration");
            engine.bigram(table, tokens, &mut logits);
        }
        logits
    }

    pub(crate) fn attention_shape(&self, seq_len: usize) -> Attention {
        Attention { n_head: self.config.n_head, d_head: self.config.d_head, seq_len }
    }
}

/// Queries, keys and values in the order of the forward pass.
pub(crate) const QKV: [SiteKind; 3] = [SiteKind::Query, SiteKind::Key, SiteKind::Value];

/// The value of a pass whose tap promised not to stop it.
#[track_caller]
pub(crate) fn whole<T>(pass: ControlFlow<Site, T>) -> T {
    match pass {
        ControlFlow::Continue(value) => value,
        ControlFlow::Break(site) => panic!("the tap stopped a pass at {site} that has to go through"),
    }
}

/// Shows `value` to the tap; `Break` where the tap stops the pass.
pub(crate) fn visit<A>(tap: &mut dyn Tap<A>, site: Site, value: &mut A) -> ControlFlow<Site> {
    match tap.forward(site, value) {
        ControlFlow::Continue(()) => ControlFlow::Continue(()),
        ControlFlow::Break(()) => ControlFlow::Break(site),
    }
}

/// The columns of `x` that are read out.
pub(crate) fn gather<E: Engine>(x: E::Array, readout: Option<&Readout<E>>, engine: &mut E) -> E::Array {
    let Some(readout) = readout else { return x };
    let selected = engine.gather(&x, &readout.columns);
    engine.recycle(x);
    selected
}

/// One block of a pass: one method for each operation, ending at the sites that it computes.
pub(crate) struct BlockPass<'a, W, E: Engine<Weight = W>> {
    pub model: &'a Model<W>,
    pub layer: usize,
    /// Number of tokens, in sequences of `seq_len`.
    pub n: usize,
    pub seq_len: usize,
    /// See [`Model::position_channels`].
    pub position: Option<&'a E::Array>,
    pub tap: &'a mut dyn Tap<E::Array>,
    pub engine: &'a mut E,
    /// Entries that AbsTopK kept so far; none at the start.
    pub kept: [Option<E::Kept>; 8],
}

impl<'a, W, E: Engine<Weight = W>> BlockPass<'a, W, E> {
    /// The whole block: `x += write(attention(read(x))); x += write(mlp(read(x)))`.
    pub fn run(mut self, x: &mut E::Array) -> ControlFlow<Site, BlockTrace<E>> {
        self.site(SiteKind::ResidIn, x)?;
        let resid_in = self.engine.copy(x);
        let (attn_read, attn_norm) = self.attn_read(&resid_in)?;
        let attn_read = self.engine.keep(attn_read);
        let qkv = self.qkv(&attn_read)?;
        let (mix, log_sum) = self.mix(&qkv)?;
        let mix = self.engine.keep(mix);
        let write = self.attn_write(&mix)?;
        self.add(x, write);
        let mlp = self.mlp(x)?;
        let kept = self.kept;
        ControlFlow::Continue(BlockTrace { resid_in, attn_norm, attn_read, qkv, log_sum, mix, mlp, kept })
    }

    /// The MLP's half of the block: `x += write(mlp(read(x)))`.
    pub fn mlp(&mut self, x: &mut E::Array) -> ControlFlow<Site, MlpTrace<E>> {
        self.site(SiteKind::ResidMid, x)?;
        let resid_mid = self.engine.copy(x);
        let (read, norm) = self.mlp_read(&resid_mid)?;
        let read = self.engine.keep(read);
        let (neuron, slope) = self.neurons(&read)?;
        let neuron = self.engine.keep(neuron);
        let write = self.mlp_write(&neuron)?;
        self.add(x, write);
        ControlFlow::Continue(MlpTrace { resid_mid, norm, read, slope, neuron })
    }

    fn block(&self) -> &'a Block<W> {
        &self.model.params.blocks[self.layer]
    }

    /// AbsTopK where it applies, then the tap: the hooks of the published code come after AbsTopK.
    pub fn site(&mut self, kind: SiteKind, value: &mut E::Array) -> ControlFlow<Site> {
        // A value that a block reads has gone through AbsTopK with its norm.
        let is_read = matches!(kind, SiteKind::AttnRead | SiteKind::MlpRead);
        if let Some(k) = self.model.config.act_k(kind).filter(|_| !is_read) {
            self.kept[kept_index(kind)] = Some(self.engine.abs_top_k(k, self.model.ties, value));
        }
        visit(self.tap, Site { layer: self.layer, kind }, value)
    }

    /// `x += write`.
    pub fn add(&mut self, x: &mut E::Array, write: E::Array) {
        self.engine.residual(x, &write);
        self.engine.recycle(write);
    }

    /// `[d_read, n]` from the residual stream `[d_model, n]`.
    pub fn attn_read(&mut self, resid_in: &E::Array) -> ControlFlow<Site, (E::Array, ReadTrace<E>)> {
        let block = self.block();
        self.read(SiteKind::AttnRead, (&block.attn_norm, block.attn_pos_norm.as_ref()), resid_in)
    }

    /// Queries, keys and values, `[n_head · d_head, n]` each.
    pub fn qkv(&mut self, read: &E::Activations) -> ControlFlow<Site, [E::Array; 3]> {
        let (config, linear) = (&self.model.config, &self.block().qkv);
        let d_attn = config.n_head * config.d_head;
        let mut joint = self.engine.array([3 * d_attn, self.n]);
        self.engine.linear(&linear.weight, linear.bias.as_ref(), read, &mut joint);
        let mut qkv = [0, 1, 2].map(|i| self.engine.rows(&joint, i * d_attn..(i + 1) * d_attn));
        self.engine.recycle(joint);
        for (kind, value) in QKV.into_iter().zip(&mut qkv) {
            self.site(kind, value)?;
        }
        ControlFlow::Continue(qkv)
    }

    /// Output of the softmax average `[n_head · d_head, n]`, and the logarithms of the sums.
    pub fn mix(&mut self, qkv: &[E::Array; 3]) -> ControlFlow<Site, (E::Array, E::Array)> {
        let mut mix = self.engine.array(E::shape(&qkv[0]));
        let shape = self.model.attention_shape(self.seq_len);
        let log_sum = self.engine.attention(shape, qkv, self.block().sink.as_ref(), &mut mix);
        self.site(SiteKind::AttnMix, &mut mix)?;
        ControlFlow::Continue((mix, log_sum))
    }

    /// Attention's addition to the residual stream, `[d_model, n]`.
    pub fn attn_write(&mut self, mix: &E::Activations) -> ControlFlow<Site, E::Array> {
        let linear = &self.block().attn_out;
        let mut write = self.engine.array([self.model.config.d_model, self.n]);
        self.engine.linear(&linear.weight, linear.bias.as_ref(), mix, &mut write);
        self.site(SiteKind::AttnWrite, &mut write)?;
        ControlFlow::Continue(write)
    }

    /// `[d_read, n]` from the residual stream `[d_model, n]`.
    pub fn mlp_read(&mut self, resid_mid: &E::Array) -> ControlFlow<Site, (E::Array, ReadTrace<E>)> {
        let block = self.block();
        self.read(SiteKind::MlpRead, (&block.mlp_norm, block.mlp_pos_norm.as_ref()), resid_mid)
    }

    /// Neurons `[d_mlp, n]`, and the derivative of the nonlinearity.
    pub fn neurons(&mut self, read: &E::Activations) -> ControlFlow<Site, (E::Array, E::Array)> {
        let (config, linear) = (&self.model.config, &self.block().fc);
        let mut slope = self.engine.array([config.d_mlp, self.n]);
        self.engine.linear(&linear.weight, linear.bias.as_ref(), read, &mut slope);
        let mut neuron = self.engine.array([config.d_mlp, self.n]);
        self.engine.activate(config.activation, &mut slope, &mut neuron);
        self.site(SiteKind::Neuron, &mut neuron)?;
        ControlFlow::Continue((neuron, slope))
    }

    /// The MLP's addition to the residual stream, `[d_model, n]`.
    pub fn mlp_write(&mut self, neuron: &E::Activations) -> ControlFlow<Site, E::Array> {
        let linear = &self.block().proj;
        let mut write = self.engine.array([self.model.config.d_model, self.n]);
        self.engine.linear(&linear.weight, linear.bias.as_ref(), neuron, &mut write);
        self.site(SiteKind::MlpWrite, &mut write)?;
        ControlFlow::Continue(write)
    }

    /// The normalised residual stream, and under it the normalised position channels; and of these the entries that
    /// AbsTopK keeps.
    fn read(
        &mut self,
        kind: SiteKind,
        (norm, pos_norm): (&Norm<W>, Option<&Norm<W>>),
        x: &E::Array,
    ) -> ControlFlow<Site, (E::Array, ReadTrace<E>)> {
        let (norm_kind, k, ties) = (self.model.config.norm, self.model.config.act_k(kind), self.model.ties);
        let (gain, bias, engine) = (&norm.gain, norm.bias.as_ref(), &mut *self.engine);
        let (mut y, statistics, of_position, kept);
        match (pos_norm, self.position, k) {
            (Some(pos_norm), Some(position), k) => {
                let (above, statistics_above) = engine.norm(norm_kind, gain, bias, x);
                let (below, statistics_below) =
                    engine.norm(norm_kind, &pos_norm.gain, pos_norm.bias.as_ref(), position);
                let ([d_model, n], [width, _]) = (E::shape(&above), E::shape(&below));
                y = engine.array([d_model + width, n]);
                engine.set_rows(&mut y, 0, &above);
                engine.set_rows(&mut y, d_model, &below);
                [above, below].into_iter().for_each(|x| engine.recycle(x));
                kept = k.map(|k| engine.abs_top_k(k, ties, &mut y));
                (statistics, of_position) = (statistics_above, Some(statistics_below));
            }
            (_, _, Some(k)) => {
                let marks;
                (y, statistics, marks) = engine.norm_abs_top_k((norm_kind, gain, bias), (k, ties), x);
                (of_position, kept) = (None, Some(marks));
            }
            (_, _, None) => {
                (y, statistics) = engine.norm(norm_kind, gain, bias, x);
                (of_position, kept) = (None, None);
            }
        }
        self.kept[kept_index(kind)] = kept;
        self.site(kind, &mut y)?;
        ControlFlow::Continue((y, ReadTrace { statistics, position: of_position }))
    }
}
