//! The backward pass: from the gradient of the logits to the gradients of sites and parameters.

use openwork_ops::{Cpu, Engine, Gradient, Matrix};

use crate::{
    Bigram, Block, Linear, Model, Norm, Params, Pass, Positions, Site, SiteKind, Tap, Tokens,
    forward::whole,
    pass::{BlockTrace, Head, ReadTrace, Trunk, kept_index},
};

impl Model {
    /// Back-propagates `dlogits [vocab, readout columns]` through a pass that [`Model::forward`] made with
    /// the same tap. `tap` sees the gradient of every site in reverse order. Where `gradients`
    /// is given, parameter gradients are *added* to it: of every entry or at the support, as each
    /// [`Gradient`] says. Only matrices that multiply activations may be of the second kind.
    ///
    /// Frozen parameters (sinusoidal positions, a fixed bigram table, the logits bias) get no gradient.
    pub fn backward(&self, pass: &Pass, dlogits: &Matrix, tap: &mut dyn Tap, gradients: Option<&mut Params<Gradient>>) {
        self.backward_in(pass, dlogits, tap, gradients, &mut Cpu::default());
    }
}

impl<W> Model<W> {
    /// [`Model::backward`] on the device and in the memory of `engine`.
    pub fn backward_in<E: Engine<Weight = W>>(
        &self,
        pass: &Pass<E>,
        dlogits: &E::Array,
        tap: &mut dyn Tap<E::Array>,
        mut gradients: Option<&mut Params<E::Gradient>>,
        engine: &mut E,
    ) {
        let Pass { trunk, head, .. } = pass;
        let dresid = self.head_backward(head, &trunk.tokens, dlogits, tap, gradients.as_deref_mut(), engine);
        let dx = match &head.readout {
            Some(readout) => {
                let mut dx = engine.zeros([self.config.d_model, trunk.n_tokens]);
                engine.scatter(&dresid, &readout.columns, &mut dx);
                engine.recycle(dresid);
                dx
            }
            None => dresid,
        };
        self.trunk_backward(trunk, dx, tap, gradients, engine);
    }

    /// A training pass: forward, the cross-entropies of `targets` at the columns `readout`, and backward of `factor`
    /// times their sum. Logits are there for at most `tile` columns at a time, which is all that a vocabulary of tens of
    /// thousands leaves room for; the gradients of parameters are added to `gradients`.
    ///
    /// # Panics
    /// As [`Model::forward`].
    #[allow(clippy::too_many_arguments, reason = "a batch, what is asked of it, and where the results go")]
    pub fn gradient_in<E: Engine<Weight = W>>(
        &self,
        tokens: Tokens<'_>,
        (readout, targets): (&[usize], &[u16]),
        factor: f32,
        tile: usize,
        tap: &mut dyn Tap<E::Array>,
        gradients: &mut Params<E::Gradient>,
        engine: &mut E,
    ) -> Vec<E::Losses> {
        let (trunk, x) = whole(self.trunk(tokens, tap, engine));
        let mut dx = engine.zeros(E::shape(&x));
        let mut losses = Vec::new();
        for (columns, targets) in readout.chunks(tile).zip(targets.chunks(tile)) {
            let readout = self.readout(tokens, columns, engine);
            let final_resid = engine.gather(&x, &readout.columns);
            let (mut logits, head) = whole(self.head(final_resid, Some(readout), &trunk.tokens, tap, engine));
            losses.push(engine.cross_entropy(&mut logits, targets, factor));
            // Their gradient has taken the place of the logits.
            let dresid = self.head_backward(&head, &trunk.tokens, &logits, tap, Some(gradients), engine);
            if let Some(readout) = &head.readout {
                engine.scatter(&dresid, &readout.columns, &mut dx);
            }
            [logits, dresid].into_iter().for_each(|x| engine.recycle(x));
            head.recycle(engine);
        }
        engine.recycle(x);
        self.trunk_backward(&trunk, dx, tap, Some(gradients), engine);
        trunk.recycle(engine);
        losses
    }

    /// From the gradient of the logits to that of the residual stream at the readout columns.
    pub(crate) fn head_backward<E: Engine<Weight = W>>(
        &self,
        head: &Head<E>,
        tokens: &E::Tokens,
        dlogits: &E::Array,
        tap: &mut dyn Tap<E::Array>,
        mut gradients: Option<&mut Params<E::Gradient>>,
        engine: &mut E,
    ) -> E::Array {
        let (config, params) = (&self.config, &self.params);
        if let (Bigram::Learned, Some(g)) = (config.bigram, gradients.as_deref_mut()) {
            let table = g.bigram.as_mut().expect("the tree follows the configuration");
            engine.bigram_backward(dlogits, head.readout.as_ref().map_or(tokens, |readout| &readout.tokens), table);
        }
        let unembed = params.unembed.as_ref().unwrap_or(&params.embed);
        let unembed_gradient = gradients.as_deref_mut().map(|g| (g.unembed.as_mut().unwrap_or(&mut g.embed), None));
        let mut dread = engine.linear_backward(unembed, dlogits, &head.final_read, unembed_gradient);
        tap.backward(Site { layer: config.n_layer, kind: SiteKind::FinalRead }, &mut dread);
        let mut dresid = engine.zeros(E::shape(&dread));
        let (gain, gradient) = (&params.final_norm.gain, gradients.map(|g| &mut g.final_norm));
        let statistics = &head.final_statistics;
        engine.norm_backward(config.norm, gain, &head.final_resid, statistics, &dread, &mut dresid, both(gradient));
        engine.recycle(dread);
        dresid
    }

    /// From the gradient of the residual stream after the last block to the embedding.
    fn trunk_backward<E: Engine<Weight = W>>(
        &self,
        trunk: &Trunk<E>,
        mut dx: E::Array,
        tap: &mut dyn Tap<E::Array>,
        mut gradients: Option<&mut Params<E::Gradient>>,
        engine: &mut E,
    ) {
        let (config, params) = (&self.config, &self.params);
        tap.backward(Site { layer: config.n_layer, kind: SiteKind::FinalResid }, &mut dx);
        let mut dposition = trunk.position.as_ref().map(|p| engine.zeros(E::shape(p)));
        for (layer, (block, trace)) in params.blocks.iter().zip(&trunk.blocks).enumerate().rev() {
            let position = trunk.position.as_ref().zip(dposition.as_mut());
            let gradients = gradients.as_deref_mut().map(|g| &mut g.blocks[layer]);
            self.block_backward(layer, block, trace, trunk.seq_len, position, &mut dx, tap, gradients, engine);
        }
        if let Some(g) = gradients {
            engine.embed_backward(&dx, &trunk.tokens, &mut g.embed);
            if let Some(table) = &mut g.position {
                match (config.positions, &dposition) {
                    (Positions::Added, _) => engine.position_backward(&dx, trunk.seq_len, table),
                    (Positions::Concat { .. }, Some(d)) => engine.position_backward(d, trunk.seq_len, table),
                    _ => (),
                }
            }
        }
        [dx].into_iter().chain(dposition).for_each(|x| engine.recycle(x));
    }

    #[allow(clippy::too_many_arguments, reason = "the state of one step of the walk")]
    fn block_backward<E: Engine<Weight = W>>(
        &self,
        layer: usize,
        block: &Block<W>,
        trace: &BlockTrace<E>,
        seq_len: usize,
        mut position: Option<(&E::Array, &mut E::Array)>,
        dx: &mut E::Array,
        tap: &mut dyn Tap<E::Array>,
        mut g: Option<&mut Block<E::Gradient>>,
        engine: &mut E,
    ) {
        let sees_gradients = tap.sees_gradients();
        let walk = BlockBackward { model: self, layer, block, trace };
        walk.mlp(position.as_mut().map(|(p, d)| (*p, &mut **d)), dx, tap, g.as_deref_mut(), engine);
        let dmix = walk.mix(dx, tap, g.as_deref_mut(), engine);
        let dqkv = engine.attention_backward(
            self.attention_shape(seq_len),
            &trace.qkv,
            block.sink.as_ref(),
            &trace.mix,
            &trace.log_sum,
            &dmix,
            g.as_deref_mut().and_then(|g| g.sink.as_mut()),
            [SiteKind::Key, SiteKind::Value]
                .map(|kind| trace.kept[kept_index(kind)].as_ref().filter(|_| !sees_gradients)),
        );
        engine.recycle(dmix);
        let dqkv = walk.qkv(dqkv, tap, engine);
        walk.attn_read(dqkv, position, dx, tap, g, engine);
        walk.site(SiteKind::ResidIn, dx, tap, engine);
    }

    #[allow(clippy::too_many_arguments, reason = "two norms, and what each has read and gets")]
    fn read_backward<E: Engine<Weight = W>>(
        &self,
        (norm, pos_norm): (&Norm<W>, Option<&Norm<W>>),
        (x, trace): (&E::Array, &ReadTrace<E>),
        dread: &E::Array,
        dx: &mut E::Array,
        position: Option<(&E::Array, &mut E::Array)>,
        gradients: Option<NormGradients<'_, E::Gradient>>,
        engine: &mut E,
    ) {
        let (gradient, pos_gradient) = gradients.unzip();
        let (kind, gradient, pos_gradient) = (self.config.norm, both(gradient), both(pos_gradient.flatten()));
        let (Some(pos_norm), Some(of_position), Some((position, dposition))) = (pos_norm, &trace.position, position)
        else {
            return engine.norm_backward(kind, &norm.gain, x, &trace.statistics, dread, dx, gradient);
        };
        let ([d_model, _], [d_read, _]) = (E::shape(x), E::shape(dread));
        let (above, below) = (engine.rows(dread, 0..d_model), engine.rows(dread, d_model..d_read));
        engine.norm_backward(kind, &norm.gain, x, &trace.statistics, &above, dx, gradient);
        engine.norm_backward(kind, &pos_norm.gain, position, of_position, &below, dposition, pos_gradient);
        [above, below].into_iter().for_each(|x| engine.recycle(x));
    }
}

/// The backward pass of one block, from its output to its input: one method for each stretch between sites.
pub(crate) struct BlockBackward<'a, W, E: Engine<Weight = W>> {
    pub model: &'a Model<W>,
    pub layer: usize,
    pub block: &'a Block<W>,
    pub trace: &'a BlockTrace<E>,
}

impl<W, E: Engine<Weight = W>> BlockBackward<'_, W, E> {
    /// The tap, then AbsTopK where it applies.
    pub fn site(&self, kind: SiteKind, gradient: &mut E::Array, tap: &mut dyn Tap<E::Array>, engine: &mut E) {
        tap.backward(Site { layer: self.layer, kind }, gradient);
        if matches!(kind, SiteKind::ResidIn | SiteKind::ResidMid | SiteKind::AttnMix) {
            return;
        }
        if let Some(kept) = &self.trace.kept[kept_index(kind)] {
            engine.abs_top_k_backward(kept, gradient);
        }
    }

    /// From the residual stream after the block to that before the MLP, in `dx`.
    pub fn mlp(
        &self,
        position: Option<(&E::Array, &mut E::Array)>,
        dx: &mut E::Array,
        tap: &mut dyn Tap<E::Array>,
        mut g: Option<&mut Block<E::Gradient>>,
        engine: &mut E,
    ) {
        let Self { block, trace, .. } = self;
        let mut dwrite = engine.copy(dx);
        self.site(SiteKind::MlpWrite, &mut dwrite, tap, engine);
        let gradient = linear(g.as_deref_mut().map(|g| &mut g.proj));
        let mut dneuron = engine.linear_backward(&block.proj.weight, &dwrite, &trace.mlp.neuron, gradient);
        engine.recycle(dwrite);
        self.site(SiteKind::Neuron, &mut dneuron, tap, engine);
        engine.activate_backward(&trace.mlp.slope, &mut dneuron);
        let gradient = linear(g.as_deref_mut().map(|g| &mut g.fc));
        let mut dread = engine.linear_backward(&block.fc.weight, &dneuron, &trace.mlp.read, gradient);
        engine.recycle(dneuron);
        self.site(SiteKind::MlpRead, &mut dread, tap, engine);
        self.model.read_backward(
            (&block.mlp_norm, block.mlp_pos_norm.as_ref()),
            (&trace.mlp.resid_mid, &trace.mlp.norm),
            &dread,
            dx,
            position,
            g.map(|g| (&mut g.mlp_norm, g.mlp_pos_norm.as_mut())),
            engine,
        );
        engine.recycle(dread);
        self.site(SiteKind::ResidMid, dx, tap, engine);
    }

    /// From the residual stream before the MLP to the output of the softmax average.
    pub fn mix(
        &self,
        dx: &E::Array,
        tap: &mut dyn Tap<E::Array>,
        g: Option<&mut Block<E::Gradient>>,
        engine: &mut E,
    ) -> E::Array {
        let mut dwrite = engine.copy(dx);
        self.site(SiteKind::AttnWrite, &mut dwrite, tap, engine);
        let gradient = linear(g.map(|g| &mut g.attn_out));
        let mut dmix = engine.linear_backward(&self.block.attn_out.weight, &dwrite, &self.trace.mix, gradient);
        engine.recycle(dwrite);
        self.site(SiteKind::AttnMix, &mut dmix, tap, engine);
        dmix
    }

    /// Through the sites of queries, keys and values, the other way round than the forward pass met them.
    pub fn qkv(&self, mut dqkv: [E::Array; 3], tap: &mut dyn Tap<E::Array>, engine: &mut E) -> [E::Array; 3] {
        for (kind, gradient) in [SiteKind::Value, SiteKind::Key, SiteKind::Query].into_iter().zip(dqkv.iter_mut().rev())
        {
            self.site(kind, gradient, tap, engine);
        }
        dqkv
    }

    /// From queries, keys and values, of the columns of the block's input each, to that input: added to `dx`.
    pub fn attn_read(
        &self,
        dqkv: [E::Array; 3],
        position: Option<(&E::Array, &mut E::Array)>,
        dx: &mut E::Array,
        tap: &mut dyn Tap<E::Array>,
        mut g: Option<&mut Block<E::Gradient>>,
        engine: &mut E,
    ) {
        let Self { block, trace, .. } = self;
        let ([_, n], d_attn) = (E::shape(dx), self.model.config.n_head * self.model.config.d_head);
        let mut joint = engine.array([3 * d_attn, n]);
        for (i, part) in dqkv.into_iter().enumerate() {
            engine.set_rows(&mut joint, i * d_attn, &part);
            engine.recycle(part);
        }
        let gradient = linear(g.as_deref_mut().map(|g| &mut g.qkv));
        let mut dread = engine.linear_backward(&block.qkv.weight, &joint, &trace.attn_read, gradient);
        engine.recycle(joint);
        self.site(SiteKind::AttnRead, &mut dread, tap, engine);
        self.model.read_backward(
            (&block.attn_norm, block.attn_pos_norm.as_ref()),
            (&trace.resid_in, &trace.attn_norm),
            &dread,
            dx,
            position,
            g.map(|g| (&mut g.attn_norm, g.attn_pos_norm.as_mut())),
            engine,
        );
        engine.recycle(dread);
    }
}

/// Gradients of the norms of a read: of the residual stream and of the position channels.
type NormGradients<'a, G> = (&'a mut Norm<G>, Option<&'a mut Norm<G>>);

/// Gradients of weight and bias.
fn linear<G>(gradient: Option<&mut Linear<G>>) -> Option<(&mut G, Option<&mut G>)> {
    gradient.map(|g| (&mut g.weight, g.bias.as_mut()))
}

/// Gradients of gain and bias.
fn both<G>(gradient: Option<&mut Norm<G>>) -> Option<(&mut G, Option<&mut G>)> {
    gradient.map(|g| (&mut g.gain, g.bias.as_mut()))
}
