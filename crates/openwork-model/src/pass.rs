//! A batch, and the values that a forward pass keeps for the backward pass.

use openwork_ops::{Cpu, Engine};

use crate::SiteKind;

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

/// Logits of a forward pass, and what its backward pass needs.
pub struct Pass<E: Engine = Cpu> {
    /// `[vocab, readout columns]`.
    pub logits: E::Array,
    pub(crate) trunk: Trunk<E>,
    pub(crate) head: Head<E>,
}

/// Values of the pass up to the residual stream after the last block, for the backward pass.
pub(crate) struct Trunk<E: Engine> {
    pub n_tokens: usize,
    pub seq_len: usize,
    pub tokens: E::Tokens,
    pub position: Option<E::Array>,
    pub blocks: Vec<BlockTrace<E>>,
}

/// Values of the pass from there to the logits.
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
    pub mlp: MlpTrace<E>,
    /// Entries that AbsTopK kept, by site; `None` where it does not apply.
    pub kept: [Option<E::Kept>; 8],
}

/// The part of the MLP.
pub(crate) struct MlpTrace<E: Engine> {
    pub resid_mid: E::Array,
    pub norm: ReadTrace<E>,
    pub read: E::Activations,
    /// Derivative of the nonlinearity.
    pub slope: E::Array,
    pub neuron: E::Activations,
}

/// Statistics of the norms of a read: of the residual stream and of the position channels.
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
    /// Gives the memory back.
    pub fn recycle(self, engine: &mut E) {
        engine.recycle(self.final_resid);
        engine.recycle_activations(self.final_read);
    }
}

impl<E: Engine> Trunk<E> {
    /// Gives the memory back.
    pub fn recycle(self, engine: &mut E) {
        for block in self.blocks {
            let BlockTrace { resid_in, attn_read, qkv, log_sum, mix, mlp, kept, .. } = block;
            let MlpTrace { resid_mid, read, slope, neuron, .. } = mlp;
            [resid_in, log_sum, resid_mid, slope].into_iter().chain(qkv).for_each(|x| engine.recycle(x));
            [attn_read, mix, read, neuron].into_iter().for_each(|x| engine.recycle_activations(x));
            kept.into_iter().flatten().for_each(|kept| engine.recycle_kept(kept));
        }
        self.position.into_iter().for_each(|x| engine.recycle(x));
    }
}
