//! The backward pass: from the gradient of the logits to the gradients of sites and parameters.

use openwork_ops::{self as ops, Activations, Gradient, Matrix, Workspace};

use crate::{
    At, Bigram, Block, Linear, Model, Norm, Params, Pass, Positions, Role, Site, Tap, Tokens, Weight,
    forward::{BlockTrace, kept_index, selected},
};

impl Model {
    /// Back-propagates `dlogits [vocab, readout columns]` through a pass that [`Model::forward`] made with
    /// the same `tokens` and tap. `tap` sees the gradient of every site in reverse order. Where `gradients`
    /// is given, parameter gradients are *added* to it: of every entry or at the support, as each
    /// [`Gradient`] says. Only matrices that multiply activations may be of the second kind.
    ///
    /// Frozen parameters (sinusoidal positions, a fixed bigram table, the logits bias) get no gradient.
    pub fn backward(
        &self,
        tokens: Tokens<'_>,
        pass: &Pass,
        dlogits: &Matrix,
        tap: &mut dyn Tap,
        gradients: Option<&mut Params<Gradient>>,
    ) {
        self.backward_in(tokens, pass, dlogits, tap, gradients, &mut Workspace::default());
    }

    /// [`Model::backward`] in memory that is used again.
    pub fn backward_in(
        &self,
        tokens: Tokens<'_>,
        pass: &Pass,
        dlogits: &Matrix,
        tap: &mut dyn Tap,
        mut gradients: Option<&mut Params<Gradient>>,
        space: &mut Workspace,
    ) {
        let (config, params) = (&self.config, &self.params);
        let readout = pass.readout.as_deref();
        if let (Bigram::Learned, Some(g)) = (config.bigram, gradients.as_deref_mut()) {
            let table = g.bigram.as_mut().expect("the tree follows the configuration");
            ops::bigram_backward(dlogits, &selected(tokens.ids, readout), table.dense_mut());
        }
        let unembed = params.unembed.as_ref().unwrap_or(&params.embed);
        let unembed_gradient = gradients.as_deref_mut().map(|g| (g.unembed.as_mut().unwrap_or(&mut g.embed), None));
        let dread = ops::linear_backward(unembed, dlogits, &pass.final_read, unembed_gradient, space);
        let mut dresid = space.matrix(dread.dim());
        dresid.fill(0.0);
        let final_gradient = gradients.as_deref_mut().map(|g| &mut g.final_norm);
        norm_backward(self, &params.final_norm, &pass.final_resid, &dread, &mut dresid, final_gradient);
        let mut dx = match readout {
            Some(columns) => {
                let mut dx = space.matrix((config.d_model, pass.n_tokens));
                dx.fill(0.0);
                for (mut to, from) in dx.rows_mut().into_iter().zip(dresid.rows()) {
                    let to = to.as_slice_mut().expect("row-major");
                    columns.iter().zip(from).for_each(|(&c, from)| to[c] += from);
                }
                space.recycle(dresid);
                dx
            }
            None => dresid,
        };
        space.recycle(dread);
        tap.backward(Site { layer: config.n_layer, at: At::FinalResid }, &mut dx);

        let mut dposition = pass.position.as_ref().map(|p| Matrix::zeros(p.dim()));
        for (layer, (block, trace)) in params.blocks.iter().zip(&pass.blocks).enumerate().rev() {
            let position = pass.position.as_ref().zip(dposition.as_mut());
            let gradients = gradients.as_deref_mut().map(|g| &mut g.blocks[layer]);
            self.block_backward(layer, block, trace, tokens.seq_len, position, &mut dx, tap, gradients, space);
        }
        let Some(g) = gradients else { return space.recycle(dx) };
        ops::embed_backward(&dx, tokens.ids, g.embed.dense_mut());
        if let Some(table) = &mut g.position {
            match (config.positions, &dposition) {
                (Positions::Added, _) => ops::position_backward(&dx, tokens.seq_len, table.dense_mut()),
                (Positions::Concat { .. }, Some(d)) => ops::position_backward(d, tokens.seq_len, table.dense_mut()),
                _ => (),
            }
        }
        space.recycle(dx);
    }

    #[allow(clippy::too_many_arguments, reason = "the state of one step of the walk")]
    fn block_backward(
        &self,
        layer: usize,
        block: &Block<Weight>,
        trace: &BlockTrace,
        seq_len: usize,
        mut position: Option<(&Matrix, &mut Matrix)>,
        dx: &mut Matrix,
        tap: &mut dyn Tap,
        mut g: Option<&mut Block<Gradient>>,
        space: &mut Workspace,
    ) {
        let n = dx.ncols();
        let d_attn = self.config.n_head * self.config.d_head;
        let sees_gradients = tap.sees_gradients();
        let mut site = |at: At, gradient: &mut Matrix| {
            tap.backward(Site { layer, at }, gradient);
            if matches!(at, At::ResidIn | At::ResidMid | At::AttnMix) {
                return;
            }
            if let Some(kept) = &trace.kept[kept_index(at)] {
                ops::abs_top_k_backward(kept, gradient);
            }
        };

        let mut dwrite = space.copy(dx);
        site(At::MlpWrite, &mut dwrite);
        let mut dneuron =
            linear_backward(&block.proj, &dwrite, &trace.neuron, g.as_deref_mut().map(|g| &mut g.proj), space);
        space.recycle(dwrite);
        site(At::Neuron, &mut dneuron);
        ops::activate_backward(&trace.slope, &mut dneuron);
        let mut dread_mlp =
            linear_backward(&block.fc, &dneuron, &trace.mlp_read, g.as_deref_mut().map(|g| &mut g.fc), space);
        site(At::MlpRead, &mut dread_mlp);
        self.read_backward(
            (&block.mlp_norm, block.mlp_pos_norm.as_ref()),
            &trace.resid_mid,
            &dread_mlp,
            dx,
            position.as_mut().map(|(p, d)| (*p, &mut **d)),
            g.as_deref_mut().map(|g| (&mut g.mlp_norm, g.mlp_pos_norm.as_mut())),
        );
        site(At::ResidMid, dx);

        let mut dwrite = space.copy(dx);
        site(At::AttnWrite, &mut dwrite);
        let mut dmix =
            linear_backward(&block.attn_out, &dwrite, &trace.mix, g.as_deref_mut().map(|g| &mut g.attn_out), space);
        space.recycle(dwrite);
        site(At::AttnMix, &mut dmix);
        let [q, k, v] = &trace.qkv;
        let mut dqkv = [0, 1, 2].map(|_| space.matrix((d_attn, n)));
        let [dq, dk, dv] = &mut dqkv;
        trace.mix.as_f32(space, |mix, space| {
            ops::attention_backward(
                self.attention_shape(seq_len),
                (q, k, v),
                block.sink.as_ref(),
                mix,
                &trace.log_sum,
                &dmix,
                (dq, dk, dv),
                g.as_deref_mut().and_then(|g| g.sink.as_mut()),
                [At::Key, At::Value].map(|at| trace.kept[kept_index(at)].as_ref().filter(|_| !sees_gradients)),
                space,
            )
        });
        // The forward pass met query, key, value in this order.
        for (at, gradient) in [At::Value, At::Key, At::Query].into_iter().zip(dqkv.iter_mut().rev()) {
            site(at, gradient);
        }
        let mut joint = space.matrix((3 * d_attn, n));
        for (i, part) in dqkv.into_iter().enumerate() {
            joint.slice_mut(ndarray::s![i * d_attn..(i + 1) * d_attn, ..]).assign(&part);
            space.recycle(part);
        }
        let mut dread =
            linear_backward(&block.qkv, &joint, &trace.attn_read, g.as_deref_mut().map(|g| &mut g.qkv), space);
        site(At::AttnRead, &mut dread);
        self.read_backward(
            (&block.attn_norm, block.attn_pos_norm.as_ref()),
            &trace.resid_in,
            &dread,
            dx,
            position,
            g.map(|g| (&mut g.attn_norm, g.attn_pos_norm.as_mut())),
        );
        site(At::ResidIn, dx);
        [dread_mlp, dneuron, dmix, joint, dread].into_iter().for_each(|x| space.recycle(x));
    }

    fn read_backward(
        &self,
        (norm, pos_norm): (&Norm<Weight>, Option<&Norm<Weight>>),
        x: &Matrix,
        dread: &Matrix,
        dx: &mut Matrix,
        position: Option<(&Matrix, &mut Matrix)>,
        gradients: Option<(&mut Norm<Gradient>, Option<&mut Norm<Gradient>>)>,
    ) {
        let (gradient, pos_gradient) = gradients.unzip();
        let (Some(pos_norm), Some((position, dposition))) = (pos_norm, position) else {
            return norm_backward(self, norm, x, dread, dx, gradient);
        };
        let (above, below) = dread.view().split_at(ndarray::Axis(0), x.nrows());
        norm_backward(self, norm, x, &above.to_owned(), dx, gradient);
        norm_backward(self, pos_norm, position, &below.to_owned(), dposition, pos_gradient.flatten());
    }

    /// Whether a parameter is trained: buffers and fixed tables are not.
    pub fn is_trained(&self, role: Role) -> bool {
        match role {
            Role::LogitsBias => false,
            Role::Bigram => self.config.bigram == Bigram::Learned,
            Role::Position => !matches!(self.config.positions, Positions::Sinusoidal { .. }),
            _ => true,
        }
    }
}

/// Adds the gradients of weight and bias, and returns the gradient of the input.
fn linear_backward(
    layer: &Linear<Weight>,
    dy: &Matrix,
    x: &Activations,
    gradient: Option<&mut Linear<Gradient>>,
    space: &mut Workspace,
) -> Matrix {
    ops::linear_backward(&layer.weight, dy, x, gradient.map(|g| (&mut g.weight, g.bias.as_mut())), space)
}

fn norm_backward(
    model: &Model,
    norm: &Norm<Weight>,
    x: &Matrix,
    dy: &Matrix,
    dx: &mut Matrix,
    gradient: Option<&mut Norm<Gradient>>,
) {
    let (dgain, dbias) = match gradient {
        Some(g) => (Some(g.gain.dense_mut()), g.bias.as_mut().map(Gradient::dense_mut)),
        None => (None, None),
    };
    ops::norm_backward(model.config.norm, &norm.gain, x, dy, dx, dgain, dbias);
}
