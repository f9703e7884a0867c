//! The forward and backward pass over a tree of prefixes.

use std::ops::ControlFlow;

use openwork_ops::{Activations, Cpu, Engine, Heads, Matrix, path_attention, path_attention_backward};

use super::{Layer, Prefixes};
use crate::{
    Model, Positions, Site, SiteKind, Tap,
    backward::BlockBackward,
    forward::{BlockPass, QKV, visit, whole},
    pass::{BlockTrace, Head},
};

/// Logits of a pass over prefixes, and what its backward pass needs.
pub struct PrefixPass {
    /// `[vocab, sequences]`: those of the last token of every sequence.
    pub logits: Matrix,
    blocks: Vec<BlockTrace<Cpu>>,
    head: Head<Cpu>,
    last_tokens: Vec<u16>,
}

impl PrefixPass {
    /// Gives the memory of the pass back.
    pub fn recycle(self, cpu: &mut Cpu) {
        let blocks = self.blocks;
        crate::pass::Trunk::<Cpu> { n_tokens: 0, seq_len: 0, tokens: vec![], position: None, blocks }.recycle(cpu);
        self.head.recycle(cpu);
        cpu.recycle(self.logits);
    }
}

impl Model {
    /// Logits `[vocab, sequences]` at the last token of every sequence: those of [`Model::forward`] over the same sequences up to the order of sums.
    /// `tap` sees every site in order, with the columns that are computed there: each different prefix once.
    ///
    /// # Panics
    /// When a token is out of range, `prefixes` were made for another configuration, or `tap` stops the pass.
    #[track_caller]
    pub fn forward_prefixes(&self, prefixes: &Prefixes, tap: &mut dyn Tap, cpu: &mut Cpu) -> PrefixPass {
        let (config, params) = (&self.config, &self.params);
        assert_eq!(prefixes.layers.len(), config.n_layer, "prefixes are of a model of as many blocks");
        let tokens = self.checked(crate::Tokens::new(&prefixes.tokens, 1), cpu);
        let mut x = cpu.array([config.d_model, tokens.len()]);
        cpu.embed(&params.embed, &tokens, &mut x);
        if let (Some(table), Positions::Added) = (&params.position, config.positions) {
            let mut added = cpu.array([config.d_model, tokens.len()]);
            cpu.embed(table, &prefixes.positions, &mut added);
            cpu.residual(&mut x, &added);
            cpu.recycle(added);
        }
        let mut blocks = Vec::with_capacity(config.n_layer);
        for (number, layer) in prefixes.layers.iter().enumerate() {
            let (left, trace) = whole(self.block_of_prefixes(number, layer, x, tap, cpu));
            x = left;
            blocks.push(trace);
        }
        whole(visit(tap, Site { layer: config.n_layer, kind: SiteKind::FinalResid }, &mut x));
        let last_tokens = prefixes.last_tokens.clone();
        let (distinct, head) = whole(self.head(x, None, &last_tokens, tap, cpu));
        let logits = cpu.gather(&distinct, &prefixes.readout);
        cpu.recycle(distinct);
        PrefixPass { logits, blocks, head, last_tokens }
    }

    /// One block: what leaves it, and its trace.
    fn block_of_prefixes(
        &self,
        number: usize,
        layer: &Layer,
        mut resid_in: Matrix,
        tap: &mut dyn Tap,
        cpu: &mut Cpu,
    ) -> ControlFlow<Site, (Matrix, BlockTrace<Cpu>)> {
        let [before, after] =
            [&layer.input_positions, &layer.output_positions].map(|positions| self.channels_at(positions, cpu));
        let kept = Default::default();
        let (n, position) = (layer.inputs, before.as_ref());
        let mut block = BlockPass { model: self, layer: number, n, seq_len: n, position, tap, engine: cpu, kept };
        block.site(SiteKind::ResidIn, &mut resid_in)?;
        let (attn_read, attn_norm) = block.attn_read(&resid_in)?;
        let attn_read = Activations::F32(attn_read);
        let qkv = self.qkv_of_prefixes(layer, &mut block, &attn_read)?;
        let mut mix = block.engine.matrix((qkv[0].nrows(), layer.outputs.len()));
        let [q, k, v] = &qkv;
        let sink = self.params.blocks[number].sink.as_ref();
        let log_sum = path_attention(self.heads(), &layer.paths, [q, k, v], sink, &mut mix, block.engine);
        block.site(SiteKind::AttnMix, &mut mix)?;

        let mix = Activations::F32(mix);
        (block.n, block.position) = (layer.outputs.len(), after.as_ref());
        let write = block.attn_write(&mix)?;
        let mut x = block.engine.gather(&resid_in, &layer.outputs);
        block.add(&mut x, write);
        let mlp = block.mlp(&mut x)?;
        let kept = block.kept;
        [before, after].into_iter().flatten().for_each(|x| cpu.recycle(x));
        let trace = BlockTrace { resid_in, attn_norm, attn_read, qkv, log_sum, mix, mlp, kept };
        ControlFlow::Continue((x, trace))
    }

    /// Keys and values at the columns that enter the block, queries there or at those that leave it.
    fn qkv_of_prefixes(
        &self,
        layer: &Layer,
        block: &mut BlockPass<'_, openwork_ops::Weight, Cpu>,
        read: &Activations,
    ) -> ControlFlow<Site, [Matrix; 3]> {
        let (linear, d_attn) = (&self.params.blocks[block.layer].qkv, self.config.n_head * self.config.d_head);
        let mut joint = block.engine.matrix((3 * d_attn, layer.inputs));
        block.engine.linear(&linear.weight, linear.bias.as_ref(), read, &mut joint);
        let mut qkv = [0, 1, 2].map(|i| block.engine.rows(&joint, i * d_attn..(i + 1) * d_attn));
        block.engine.recycle(joint);
        if !layer.queries_at_inputs {
            let queries = block.engine.gather(&qkv[0], &layer.outputs);
            block.engine.recycle(std::mem::replace(&mut qkv[0], queries));
        }
        for (kind, value) in QKV.into_iter().zip(&mut qkv) {
            block.site(kind, value)?;
        }
        ControlFlow::Continue(qkv)
    }

    /// Back-propagates `dlogits [vocab, sequences]` through a pass that [`Model::forward_prefixes`] made over the same
    /// prefixes with the same tap, which sees the gradient of every site in reverse order: at a column the sum over
    /// the tokens that it stands for. Parameters get no gradient.
    ///
    /// # Panics
    /// When shapes differ.
    #[track_caller]
    pub fn backward_prefixes(
        &self,
        prefixes: &Prefixes,
        pass: &PrefixPass,
        dlogits: &Matrix,
        tap: &mut dyn Tap,
        cpu: &mut Cpu,
    ) {
        assert_eq!(dlogits.dim(), pass.logits.dim(), "backward_prefixes: gradient and logits");
        let mut distinct = cpu.zeros([dlogits.nrows(), pass.last_tokens.len()]);
        cpu.scatter(dlogits, &prefixes.readout, &mut distinct);
        let mut dx = self.head_backward(&pass.head, &pass.last_tokens, &distinct, tap, None, cpu);
        cpu.recycle(distinct);
        tap.backward(Site { layer: self.config.n_layer, kind: SiteKind::FinalResid }, &mut dx);
        for (number, (layer, trace)) in prefixes.layers.iter().zip(&pass.blocks).enumerate().rev() {
            dx = self.block_backward_of_prefixes(number, layer, trace, dx, tap, cpu);
        }
        cpu.recycle(dx);
    }

    fn block_backward_of_prefixes(
        &self,
        number: usize,
        layer: &Layer,
        trace: &BlockTrace<Cpu>,
        mut dleft: Matrix,
        tap: &mut dyn Tap,
        cpu: &mut Cpu,
    ) -> Matrix {
        let walk = BlockBackward { model: self, layer: number, block: &self.params.blocks[number], trace };
        let [mut before, mut after] = [&layer.input_positions, &layer.output_positions].map(|positions| {
            let channels = self.channels_at(positions, cpu)?;
            let gradient = cpu.zeros([channels.nrows(), channels.ncols()]);
            Some((channels, gradient))
        });
        walk.mlp(after.as_mut().map(|(p, d)| (&*p, d)), &mut dleft, tap, None, cpu);
        let dmix = walk.mix(&dleft, tap, None, cpu);
        let [q, k, v] = &trace.qkv;
        let Activations::F32(mix) = &trace.mix else { unreachable!("passes over prefixes keep f32") };
        let kept = (mix, &trace.log_sum);
        let dqkv = path_attention_backward(self.heads(), &layer.paths, [q, k, v], kept, &dmix, cpu);
        cpu.recycle(dmix);
        let mut dqkv = walk.qkv(dqkv, tap, cpu);
        if !layer.queries_at_inputs {
            let mut queries = cpu.zeros([dqkv[0].nrows(), layer.inputs]);
            cpu.scatter(&dqkv[0], &layer.outputs, &mut queries);
            cpu.recycle(std::mem::replace(&mut dqkv[0], queries));
        }
        let mut dx = cpu.zeros([self.config.d_model, layer.inputs]);
        cpu.scatter(&dleft, &layer.outputs, &mut dx);
        cpu.recycle(dleft);
        walk.attn_read(dqkv, before.as_mut().map(|(p, d)| (&*p, d)), &mut dx, tap, None, cpu);
        walk.site(SiteKind::ResidIn, &mut dx, tap, cpu);
        for (channels, gradient) in [before, after].into_iter().flatten() {
            [channels, gradient].into_iter().for_each(|x| cpu.recycle(x));
        }
        dx
    }

    fn heads(&self) -> Heads {
        Heads { n_head: self.config.n_head, d_head: self.config.d_head }
    }

    /// Position channels at columns, `[width, columns]`, where blocks read some beside the residual stream.
    fn channels_at(&self, positions: &Vec<u16>, cpu: &mut Cpu) -> Option<Matrix> {
        let (Positions::Concat { width } | Positions::Sinusoidal { width }) = self.config.positions else {
            return None;
        };
        let table = self.params.position.as_ref().expect("the tree follows the configuration");
        let mut channels = cpu.array([width, positions.len()]);
        cpu.embed(table, positions, &mut channels);
        Some(channels)
    }
}
