//! The operations that a model's forward and backward passes are made of, on either device.
//!
//! [`Cpu`] is the CPU, where an array is a [`Matrix`]; [`Cuda`](crate::Cuda) is a GPU. Which of them runs is a type
//! parameter of the pass: arrays of two devices cannot meet, and what is given a [`Matrix`] knows that it can read it.

use std::ops::Range;

use crate::{
    Activation, Activations, Attention, Cpu, Gradient, Kept, Matrix, NormKind, Ties, Weight, abs_top_k,
    abs_top_k_backward, activate, activate_backward, attention, attention_backward, bigram, bigram_backward,
    cross_entropy, embed, embed_backward, linear, linear_backward, norm, norm_backward, position, position_backward,
    residual, row, row_mut,
};

/// A device and the memory that a pass works in. Shapes and formulas are those of the functions of the same names.
///
/// Gradients of weights are added to.
pub trait Engine {
    /// Activations `[features, tokens]`.
    type Array;
    /// Activations in the number format that matrices read.
    type Activations;
    /// Entries that AbsTopK kept.
    type Kept;
    /// Statistics that a norm keeps for its backward.
    type Statistics;
    /// A parameter.
    type Weight;
    /// The gradient of a parameter.
    type Gradient;
    /// Tokens of a batch.
    type Tokens;
    /// Columns of an array.
    type Columns;
    /// Cross-entropies in nats, token by token.
    type Losses;

    /// An array to be overwritten.
    fn array(&mut self, shape: [usize; 2]) -> Self::Array;
    /// An array of zeros.
    fn zeros(&mut self, shape: [usize; 2]) -> Self::Array;
    /// A copy.
    fn copy(&mut self, x: &Self::Array) -> Self::Array;
    /// A copy of some rows.
    fn rows(&mut self, x: &Self::Array, rows: Range<usize>) -> Self::Array;
    /// Replaces the rows from `first` on by those of `part`.
    fn set_rows(&mut self, x: &mut Self::Array, first: usize, part: &Self::Array);
    /// `[features, tokens]`.
    fn shape(x: &Self::Array) -> [usize; 2];
    /// Activations as matrices read them, in the number format of the engine.
    fn keep(&mut self, x: Self::Array) -> Self::Activations;
    /// Takes the memory of an array that is no longer needed.
    fn recycle(&mut self, x: Self::Array);
    /// Takes the memory of activations that are no longer needed.
    fn recycle_activations(&mut self, x: Self::Activations);
    /// Takes the memory of marks that are no longer needed.
    fn recycle_kept(&mut self, x: Self::Kept);

    /// Tokens below `vocabulary`.
    fn tokens(&mut self, ids: &[u16], vocabulary: usize) -> Self::Tokens;
    /// Columns of arrays that have `of` (on a GPU, none twice).
    fn columns(&mut self, columns: &[usize], of: usize) -> Self::Columns;
    /// These columns of `x`.
    fn gather(&mut self, x: &Self::Array, columns: &Self::Columns) -> Self::Array;
    /// Adds the columns of `dy` to these of `dx`.
    fn scatter(&mut self, dy: &Self::Array, columns: &Self::Columns, dx: &mut Self::Array);

    /// See [`embed`].
    fn embed(&mut self, table: &Self::Weight, tokens: &Self::Tokens, x: &mut Self::Array);
    /// See [`embed_backward`].
    fn embed_backward(&mut self, dx: &Self::Array, tokens: &Self::Tokens, dtable: &mut Self::Gradient);
    /// See [`position`].
    fn position(&mut self, table: &Self::Weight, seq_len: usize, x: &mut Self::Array);
    /// See [`position_backward`].
    fn position_backward(&mut self, dx: &Self::Array, seq_len: usize, dtable: &mut Self::Gradient);
    /// See [`bigram`].
    fn bigram(&mut self, table: &Self::Weight, tokens: &Self::Tokens, logits: &mut Self::Array);
    /// See [`bigram_backward`].
    fn bigram_backward(&mut self, dlogits: &Self::Array, tokens: &Self::Tokens, dtable: &mut Self::Gradient);

    /// See [`norm`].
    fn norm(
        &mut self,
        kind: NormKind,
        gain: &Self::Weight,
        bias: Option<&Self::Weight>,
        x: &Self::Array,
    ) -> (Self::Array, Self::Statistics);

    /// [`Engine::norm`] and [`Engine::abs_top_k`] of what it gives.
    fn norm_abs_top_k(
        &mut self,
        (kind, gain, bias): (NormKind, &Self::Weight, Option<&Self::Weight>),
        (k, ties): (usize, Ties),
        x: &Self::Array,
    ) -> (Self::Array, Self::Statistics, Self::Kept) {
        let (mut y, statistics) = self.norm(kind, gain, bias, x);
        let kept = self.abs_top_k(k, ties, &mut y);
        (y, statistics, kept)
    }

    /// See [`norm_backward`].
    #[allow(clippy::too_many_arguments, reason = "two inputs, what forward saved, and a gradient for each")]
    fn norm_backward(
        &mut self,
        kind: NormKind,
        gain: &Self::Weight,
        x: &Self::Array,
        statistics: &Self::Statistics,
        dy: &Self::Array,
        dx: &mut Self::Array,
        gradient: Option<(&mut Self::Gradient, Option<&mut Self::Gradient>)>,
    );

    /// See [`abs_top_k`].
    fn abs_top_k(&mut self, k: usize, ties: Ties, x: &mut Self::Array) -> Self::Kept;
    /// See [`abs_top_k_backward`].
    fn abs_top_k_backward(&mut self, kept: &Self::Kept, dy: &mut Self::Array);

    /// See [`linear`].
    fn linear(&mut self, w: &Self::Weight, b: Option<&Self::Weight>, x: &Self::Activations, y: &mut Self::Array);
    /// See [`linear_backward`].
    fn linear_backward(
        &mut self,
        w: &Self::Weight,
        dy: &Self::Array,
        x: &Self::Activations,
        gradient: Option<(&mut Self::Gradient, Option<&mut Self::Gradient>)>,
    ) -> Self::Array;

    /// See [`attention`].
    fn attention(
        &mut self,
        shape: Attention,
        qkv: &[Self::Array; 3],
        sink: Option<&Self::Weight>,
        y: &mut Self::Array,
    ) -> Self::Array;

    /// See [`attention_backward`]. Returns the gradients of q, k and v.
    #[allow(clippy::too_many_arguments, reason = "three inputs, what forward saved, and a gradient for each")]
    fn attention_backward(
        &mut self,
        shape: Attention,
        qkv: &[Self::Array; 3],
        sink: Option<&Self::Weight>,
        y: &Self::Activations,
        log_sum: &Self::Array,
        dy: &Self::Array,
        dsink: Option<&mut Self::Gradient>,
        wanted: [Option<&Self::Kept>; 2],
    ) -> [Self::Array; 3];

    /// See [`activate`].
    fn activate(&mut self, f: Activation, x: &mut Self::Array, y: &mut Self::Array);
    /// See [`activate_backward`].
    fn activate_backward(&mut self, slope: &Self::Array, dy: &mut Self::Array);
    /// See [`residual`].
    fn residual(&mut self, x: &mut Self::Array, y: &Self::Array);
    /// See [`cross_entropy`].
    fn cross_entropy(&mut self, logits: &mut Self::Array, targets: &[u16], factor: f32) -> Self::Losses;
}

impl Engine for Cpu {
    type Array = Matrix;
    type Activations = Activations;
    type Kept = Kept;
    type Statistics = ();
    type Weight = Weight;
    type Gradient = Gradient;
    type Tokens = Vec<u16>;
    type Columns = Vec<usize>;
    type Losses = Vec<f32>;

    fn array(&mut self, [rows, cols]: [usize; 2]) -> Matrix {
        self.matrix((rows, cols))
    }

    fn zeros(&mut self, [rows, cols]: [usize; 2]) -> Matrix {
        let mut x = self.matrix((rows, cols));
        x.fill(0.0);
        x
    }

    fn copy(&mut self, x: &Matrix) -> Matrix {
        Cpu::copy(self, x)
    }

    fn rows(&mut self, x: &Matrix, rows: Range<usize>) -> Matrix {
        let mut part = self.matrix((rows.len(), x.ncols()));
        part.assign(&x.slice(ndarray::s![rows, ..]));
        part
    }

    fn set_rows(&mut self, x: &mut Matrix, first: usize, part: &Matrix) {
        x.slice_mut(ndarray::s![first..first + part.nrows(), ..]).assign(part);
    }

    fn shape(x: &Matrix) -> [usize; 2] {
        [x.nrows(), x.ncols()]
    }

    fn keep(&mut self, x: Matrix) -> Activations {
        Cpu::keep(self, x)
    }

    fn recycle(&mut self, x: Matrix) {
        Cpu::recycle(self, x);
    }

    fn recycle_activations(&mut self, x: Activations) {
        Cpu::recycle_activations(self, x);
    }

    fn recycle_kept(&mut self, x: Kept) {
        Cpu::recycle_kept(self, x);
    }

    fn tokens(&mut self, ids: &[u16], _vocabulary: usize) -> Vec<u16> {
        ids.to_vec()
    }

    fn columns(&mut self, columns: &[usize], _of: usize) -> Vec<usize> {
        columns.to_vec()
    }

    fn gather(&mut self, x: &Matrix, columns: &Vec<usize>) -> Matrix {
        let mut y = self.matrix((x.nrows(), columns.len()));
        for r in 0..x.nrows() {
            let from = row(x, r);
            row_mut(&mut y, r).iter_mut().zip(columns).for_each(|(to, &c)| *to = from[c]);
        }
        y
    }

    fn scatter(&mut self, dy: &Matrix, columns: &Vec<usize>, dx: &mut Matrix) {
        for r in 0..dy.nrows() {
            let to = row_mut(dx, r);
            columns.iter().zip(row(dy, r)).for_each(|(&c, from)| to[c] += *from);
        }
    }

    fn embed(&mut self, table: &Weight, tokens: &Vec<u16>, x: &mut Matrix) {
        embed(table.dense(), tokens, x);
    }

    fn embed_backward(&mut self, dx: &Matrix, tokens: &Vec<u16>, dtable: &mut Gradient) {
        embed_backward(dx, tokens, dtable.dense_mut());
    }

    fn position(&mut self, table: &Weight, seq_len: usize, x: &mut Matrix) {
        position(table.dense(), seq_len, x);
    }

    fn position_backward(&mut self, dx: &Matrix, seq_len: usize, dtable: &mut Gradient) {
        position_backward(dx, seq_len, dtable.dense_mut());
    }

    fn bigram(&mut self, table: &Weight, tokens: &Vec<u16>, logits: &mut Matrix) {
        bigram(table.dense(), tokens, logits);
    }

    fn bigram_backward(&mut self, dlogits: &Matrix, tokens: &Vec<u16>, dtable: &mut Gradient) {
        bigram_backward(dlogits, tokens, dtable.dense_mut());
    }

    fn norm(&mut self, kind: NormKind, gain: &Weight, bias: Option<&Weight>, x: &Matrix) -> (Matrix, ()) {
        let mut y = self.matrix(x.dim());
        norm(kind, gain, bias, x, &mut y);
        (y, ())
    }

    fn norm_backward(
        &mut self,
        kind: NormKind,
        gain: &Weight,
        x: &Matrix,
        (): &(),
        dy: &Matrix,
        dx: &mut Matrix,
        gradient: Option<(&mut Gradient, Option<&mut Gradient>)>,
    ) {
        let (dgain, dbias) = gradient.unzip();
        norm_backward(kind, gain, x, dy, dx, dgain.map(Gradient::dense_mut), dbias.flatten().map(Gradient::dense_mut));
    }

    fn abs_top_k(&mut self, k: usize, ties: Ties, x: &mut Matrix) -> Kept {
        abs_top_k(k, ties, x, self)
    }

    fn abs_top_k_backward(&mut self, kept: &Kept, dy: &mut Matrix) {
        abs_top_k_backward(kept, dy);
    }

    fn linear(&mut self, w: &Weight, b: Option<&Weight>, x: &Activations, y: &mut Matrix) {
        linear(w, b, x, y, self);
    }

    fn linear_backward(
        &mut self,
        w: &Weight,
        dy: &Matrix,
        x: &Activations,
        gradient: Option<(&mut Gradient, Option<&mut Gradient>)>,
    ) -> Matrix {
        linear_backward(w, dy, x, gradient, self)
    }

    fn attention(
        &mut self,
        shape: Attention,
        [q, k, v]: &[Matrix; 3],
        sink: Option<&Weight>,
        y: &mut Matrix,
    ) -> Matrix {
        attention(shape, q, k, v, sink, y, self)
    }

    fn attention_backward(
        &mut self,
        shape: Attention,
        [q, k, v]: &[Matrix; 3],
        sink: Option<&Weight>,
        y: &Activations,
        log_sum: &Matrix,
        dy: &Matrix,
        dsink: Option<&mut Gradient>,
        wanted: [Option<&Kept>; 2],
    ) -> [Matrix; 3] {
        let mut dqkv = [q, k, v].map(|x| self.matrix(x.dim()));
        let [dq, dk, dv] = &mut dqkv;
        y.as_f32(self, |y, cpu| {
            attention_backward(shape, (q, k, v), sink, y, log_sum, dy, (dq, dk, dv), dsink, wanted, cpu);
        });
        dqkv
    }

    fn activate(&mut self, f: Activation, x: &mut Matrix, y: &mut Matrix) {
        activate(f, x, y);
    }

    fn activate_backward(&mut self, slope: &Matrix, dy: &mut Matrix) {
        activate_backward(slope, dy);
    }

    fn residual(&mut self, x: &mut Matrix, y: &Matrix) {
        residual(x, y);
    }

    fn cross_entropy(&mut self, logits: &mut Matrix, targets: &[u16], factor: f32) -> Vec<f32> {
        cross_entropy(logits, targets, factor)
    }
}
