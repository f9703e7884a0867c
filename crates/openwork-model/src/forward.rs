//! The forward pass of a batch, keeping what the backward pass needs.

use openwork_ops::{self as ops, Activations, Attention, Kept, Matrix, Workspace};

use crate::{At, Bigram, Block, Model, Norm, Positions, Site, Tap, Weight};

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
pub struct Pass {
    /// `[vocab, readout columns]`.
    pub logits: Matrix,
    pub(crate) readout: Option<Vec<usize>>,
    pub(crate) position: Option<Matrix>,
    pub(crate) blocks: Vec<BlockTrace>,
    /// Residual stream after the last block, at the readout columns.
    pub(crate) final_resid: Matrix,
    /// Its normalised form.
    pub(crate) final_read: Activations,
    pub(crate) n_tokens: usize,
}

/// Inputs of every operation of a block, as its backward needs them.
pub(crate) struct BlockTrace {
    pub resid_in: Matrix,
    pub attn_read: Activations,
    pub qkv: [Matrix; 3],
    pub log_sum: Matrix,
    pub mix: Activations,
    pub resid_mid: Matrix,
    pub mlp_read: Activations,
    /// Derivative of the nonlinearity.
    pub slope: Matrix,
    pub neuron: Activations,
    /// What AbsTopK kept, by site; `None` where it does not apply.
    pub kept: [Option<Kept>; 8],
}

/// Index of a site in [`BlockTrace::kept`].
pub(crate) fn kept_index(at: At) -> usize {
    match at {
        At::AttnRead => 0,
        At::Query => 1,
        At::Key => 2,
        At::Value => 3,
        At::AttnWrite => 4,
        At::MlpRead => 5,
        At::Neuron => 6,
        At::MlpWrite => 7,
        other => unreachable!("AbsTopK does not apply at {other:?}"),
    }
}

impl Pass {
    /// Gives the memory of the pass back.
    pub fn recycle(self, space: &mut Workspace) {
        for block in self.blocks {
            let BlockTrace { resid_in, attn_read, qkv, log_sum, mix, resid_mid, mlp_read, slope, neuron, kept } = block;
            [resid_in, log_sum, resid_mid, slope].into_iter().chain(qkv).for_each(|x| space.recycle(x));
            [attn_read, mix, mlp_read, neuron].into_iter().for_each(|x| space.recycle_activations(x));
            kept.into_iter().flatten().for_each(|kept| space.recycle_kept(kept));
        }
        [self.logits, self.final_resid].into_iter().chain(self.position).for_each(|x| space.recycle(x));
        space.recycle_activations(self.final_read);
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
        self.forward_in(tokens, readout, tap, &mut Workspace::default())
    }

    /// [`Model::forward`] in memory that is used again: give it back with [`Pass::recycle`].
    #[track_caller]
    pub fn forward_in(
        &self,
        tokens: Tokens<'_>,
        readout: Option<&[usize]>,
        tap: &mut dyn Tap,
        space: &mut Workspace,
    ) -> Pass {
        let (config, params) = (&self.config, &self.params);
        let n = tokens.ids.len();
        assert!(tokens.seq_len <= config.n_ctx, "sequences of {} exceed n_ctx {}", tokens.seq_len, config.n_ctx);
        if let Some(bad) = tokens.ids.iter().find(|&&t| usize::from(t) >= config.vocab_size) {
            panic!("token {bad} is outside the vocabulary of {}", config.vocab_size);
        }
        let mut x = space.matrix((config.d_model, n));
        ops::embed(params.embed.dense(), tokens.ids, &mut x);
        let mut position = None;
        match (&params.position, config.positions) {
            (Some(table), Positions::Added) => ops::position(table.dense(), tokens.seq_len, &mut x),
            (Some(table), Positions::Concat { width } | Positions::Sinusoidal { width }) => {
                let channels = position.insert(Matrix::zeros((width, n)));
                ops::position(table.dense(), tokens.seq_len, channels);
            }
            _ => (),
        }
        let blocks = params
            .blocks
            .iter()
            .enumerate()
            .map(|(layer, block)| self.block(layer, block, tokens.seq_len, position.as_ref(), &mut x, tap, space))
            .collect();
        tap.forward(Site { layer: config.n_layer, at: At::FinalResid }, &mut x);

        let final_resid = match readout {
            Some(columns) => {
                let mut selected = space.matrix((x.nrows(), columns.len()));
                for (mut to, from) in selected.rows_mut().into_iter().zip(x.rows()) {
                    let from = from.to_slice().expect("row-major");
                    to.iter_mut().zip(columns).for_each(|(to, &c)| *to = from[c]);
                }
                space.recycle(x);
                selected
            }
            None => x,
        };
        let mut final_read = space.matrix(final_resid.dim());
        norm(self, &params.final_norm, &final_resid, &mut final_read);
        let final_read = space.keep(final_read);
        let mut logits = space.matrix((config.vocab_size, final_resid.ncols()));
        let unembed = params.unembed.as_ref().unwrap_or(&params.embed);
        ops::linear(unembed, Some(&params.logits_bias), &final_read, &mut logits, space);
        if config.bigram != Bigram::None {
            let table = params.bigram.as_ref().expect("the tree follows the configuration");
            ops::bigram(table.dense(), &selected(tokens.ids, readout), &mut logits);
        }
        Pass { logits, readout: readout.map(<[_]>::to_vec), position, blocks, final_resid, final_read, n_tokens: n }
    }

    #[allow(clippy::too_many_arguments, reason = "the state of one step of the walk")]
    fn block(
        &self,
        layer: usize,
        block: &Block<Weight>,
        seq_len: usize,
        position: Option<&Matrix>,
        x: &mut Matrix,
        tap: &mut dyn Tap,
        space: &mut Workspace,
    ) -> BlockTrace {
        let config = &self.config;
        let mut kept: [Option<Kept>; 8] = Default::default();
        // AbsTopK where it applies, then the tap: the hooks of the published code come after AbsTopK.
        let mut site = |at: At, value: &mut Matrix, space: &mut Workspace| {
            if let Some(k) = config.act_k(at) {
                kept[kept_index(at)] = Some(ops::abs_top_k(k, self.ties, value, space));
            }
            tap.forward(Site { layer, at }, value);
        };
        let n = x.ncols();
        let d_attn = config.n_head * config.d_head;

        site(At::ResidIn, x, space);
        let resid_in = space.copy(x);
        let mut attn_read = self.read(&block.attn_norm, block.attn_pos_norm.as_ref(), &resid_in, position, space);
        site(At::AttnRead, &mut attn_read, space);
        let attn_read = space.keep(attn_read);
        let mut joint = space.matrix((3 * d_attn, n));
        ops::linear(&block.qkv.weight, block.qkv.bias.as_ref(), &attn_read, &mut joint, space);
        let mut qkv = [0, 1, 2].map(|i| {
            let mut part = space.matrix((d_attn, n));
            part.assign(&joint.slice(ndarray::s![i * d_attn..(i + 1) * d_attn, ..]));
            part
        });
        space.recycle(joint);
        for (at, value) in [At::Query, At::Key, At::Value].into_iter().zip(&mut qkv) {
            site(at, value, space);
        }
        let mut mix = space.matrix((d_attn, n));
        let [q, k, v] = &qkv;
        let shape = self.attention_shape(seq_len);
        let log_sum = ops::attention(shape, q, k, v, block.sink.as_ref(), &mut mix, space);
        site(At::AttnMix, &mut mix, space);
        let mix = space.keep(mix);
        let mut write = space.matrix(x.dim());
        ops::linear(&block.attn_out.weight, block.attn_out.bias.as_ref(), &mix, &mut write, space);
        site(At::AttnWrite, &mut write, space);
        ops::residual(x, &write);

        site(At::ResidMid, x, space);
        let resid_mid = space.copy(x);
        let mut mlp_read = self.read(&block.mlp_norm, block.mlp_pos_norm.as_ref(), &resid_mid, position, space);
        site(At::MlpRead, &mut mlp_read, space);
        let mlp_read = space.keep(mlp_read);
        let mut slope = space.matrix((config.d_mlp, n));
        ops::linear(&block.fc.weight, block.fc.bias.as_ref(), &mlp_read, &mut slope, space);
        let mut neuron = space.matrix(slope.dim());
        ops::activate(config.activation, &mut slope, &mut neuron);
        site(At::Neuron, &mut neuron, space);
        let neuron = space.keep(neuron);
        ops::linear(&block.proj.weight, block.proj.bias.as_ref(), &neuron, &mut write, space);
        site(At::MlpWrite, &mut write, space);
        ops::residual(x, &write);
        space.recycle(write);

        BlockTrace { resid_in, attn_read, qkv, log_sum, mix, resid_mid, mlp_read, slope, neuron, kept }
    }

    /// What a block reads: the normalised residual stream, and under it the normalised position channels.
    fn read(
        &self,
        gain: &Norm<Weight>,
        pos_gain: Option<&Norm<Weight>>,
        x: &Matrix,
        position: Option<&Matrix>,
        space: &mut Workspace,
    ) -> Matrix {
        let mut y = space.matrix(x.dim());
        norm(self, gain, x, &mut y);
        let (Some(pos_gain), Some(position)) = (pos_gain, position) else { return y };
        let mut p = Matrix::zeros(position.dim());
        norm(self, pos_gain, position, &mut p);
        ndarray::concatenate![ndarray::Axis(0), y, p]
    }

    pub(crate) fn attention_shape(&self, seq_len: usize) -> Attention {
        Attention { n_head: self.config.n_head, d_head: self.config.d_head, seq_len }
    }
}

fn norm(model: &Model, params: &Norm<Weight>, x: &Matrix, y: &mut Matrix) {
    ops::norm(model.config.norm, &params.gain, params.bias.as_ref(), x, y);
}

/// The tokens at the readout columns.
pub(crate) fn selected(ids: &[u16], readout: Option<&[usize]>) -> Vec<u16> {
    match readout {
        Some(columns) => columns.iter().map(|&c| ids[c]).collect(),
        None => ids.to_vec(),
    }
}
