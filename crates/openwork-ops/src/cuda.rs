//! The operations on a GPU.

use std::{collections::HashMap, ops::Range, rc::Rc};

use openwork_cuda::{
    self as cuda, Array, Columns, Gpu, Kept, Losses, Operand, Packed, Parameter, Statistics, Tokens, supports_features,
    supports_heads,
};

use crate::{Activation, ActivationDtype, Attention, Engine, NormKind, Ties};

/// A GPU, and the number format in which matrices read activations.
pub struct Cuda {
    gpu: Gpu,
    dtype: ActivationDtype,
    /// The position of every token, by tokens and tokens of a sequence: the same in every pass.
    positions: HashMap<[usize; 2], Rc<Tokens>>,
}

impl Cuda {
    /// An engine on `gpu`; matrices read activations in `dtype`.
    pub fn new(gpu: Gpu, dtype: ActivationDtype) -> Self {
        Self { gpu, dtype, positions: HashMap::new() }
    }

    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Checks that there are kernels for heads of `d_head` channels and activations of at most `features` features.
    ///
    /// # Errors
    /// When there are none.
    pub fn supports(d_head: usize, features: usize) -> Result<(), cuda::GpuError> {
        supports_heads(d_head)?;
        supports_features(features)
    }

    /// The density below which the sparse product takes less time than the dense one on this device: measured on
    /// 1,024 by 1,024 weights with 4,096 tokens, where both are kernels and which is used changes no bit of a result. The
    /// vendor's library sums in other orders, so that with it the density is fixed: one in eight, from arithmetic rates
    /// of an H100 and not measured yet.
    ///
    /// # Errors
    /// The first error of the device.
    pub fn crossover(&self) -> Result<f64, cuda::GpuError> {
        const WITH_LIBRARY: f64 = 0.125;
        if self.gpu.has_library() {
            return Ok(WITH_LIBRARY);
        }
        const SIZE: usize = 1024;
        const ONE_IN: usize = 16;
        let gpu = &self.gpu;
        let nnz = SIZE * SIZE / ONE_IN;
        let shapes = [cuda::Shape { rows: SIZE, cols: SIZE, room: nnz }];
        let mut parameters = cuda::Parameters::new(gpu, &shapes);
        // One entry in sixteen, a different one in every row.
        let keep = |i: usize| (i / SIZE * 7 + i).is_multiple_of(ONE_IN);
        let w: Vec<f32> = (0..SIZE * SIZE).map(|i| if keep(i) { 0.5 } else { 0.0 }).collect();
        parameters.set_weights(0, &w);
        let x = Array::zeros(gpu, [SIZE, 4 * SIZE]);
        let mut y = Array::new(gpu, [SIZE, 4 * SIZE]);
        let mut seconds = [0.0; 2];
        for (sparse, seconds) in [false, true].into_iter().zip(&mut seconds) {
            parameters.build_sparse(&[nnz], &[sparse]);
            let w = parameters.get(0);
            let mut product = || cuda::linear(&w, None, Operand::F32(&x), &mut y);
            // The first one loads the kernel.
            product();
            *seconds = gpu.time(|| (0..3).for_each(|_| product()))?;
        }
        let ratio = seconds[0] / (seconds[1] * ONE_IN as f64);
        Ok(if ratio.is_finite() { ratio.clamp(0.02, 0.5) } else { 0.5 })
    }

    fn position_tokens(&mut self, seq_len: usize, n: usize) -> Rc<Tokens> {
        let gpu = &self.gpu;
        let new = || {
            let ids: Vec<u16> = (0..n).map(|t| u16::try_from(t % seq_len).expect("contexts below 65,536")).collect();
            Rc::new(Tokens::new(gpu, &ids, seq_len))
        };
        self.positions.entry([n, seq_len]).or_insert_with(new).clone()
    }
}

/// Activations in the number format that matrices read.
pub enum CudaActivations {
    /// f32, unrounded.
    F32(Array),
    /// Rounded to bf16.
    Bf16(Packed),
}

impl CudaActivations {
    fn operand(&self) -> Operand<'_> {
        match self {
            Self::F32(x) => Operand::F32(x),
            Self::Bf16(x) => Operand::Bf16(x),
        }
    }
}

/// The gradient of a parameter: it lies beside the others, see [`cuda::Parameters`].
#[derive(Clone, Debug)]
pub struct CudaGradient {
    /// The parameter.
    pub parameter: Parameter,
    /// True if only its nonzeros have gradients.
    pub at_nonzeros: bool,
}

impl Engine for Cuda {
    type Array = Array;
    type Activations = CudaActivations;
    type Kept = Kept;
    type Statistics = Statistics;
    type Weight = Parameter;
    type Gradient = CudaGradient;
    type Tokens = Tokens;
    type Columns = Columns;
    type Losses = Losses;

    fn array(&mut self, shape: [usize; 2]) -> Array {
        Array::new(&self.gpu, shape)
    }

    fn zeros(&mut self, shape: [usize; 2]) -> Array {
        Array::zeros(&self.gpu, shape)
    }

    fn copy(&mut self, x: &Array) -> Array {
        x.copy()
    }

    fn rows(&mut self, x: &Array, rows: Range<usize>) -> Array {
        x.rows(rows)
    }

    fn set_rows(&mut self, x: &mut Array, first: usize, part: &Array) {
        x.set_rows(first, part);
    }

    fn shape(x: &Array) -> [usize; 2] {
        x.shape()
    }

    fn keep(&mut self, x: Array) -> CudaActivations {
        match self.dtype {
            ActivationDtype::F32 => CudaActivations::F32(x),
            ActivationDtype::Bf16 => CudaActivations::Bf16(Packed::pack(&x)),
        }
    }

    // Memory goes back to the pool when a value is dropped.
    fn recycle(&mut self, _: Array) {}
    fn recycle_activations(&mut self, _: CudaActivations) {}
    fn recycle_kept(&mut self, _: Kept) {}

    fn tokens(&mut self, ids: &[u16], vocabulary: usize) -> Tokens {
        Tokens::new(&self.gpu, ids, vocabulary)
    }

    fn columns(&mut self, columns: &[usize], of: usize) -> Columns {
        Columns::new(&self.gpu, columns, of)
    }

    fn gather(&mut self, x: &Array, columns: &Columns) -> Array {
        columns.gather(x)
    }

    fn scatter(&mut self, dy: &Array, columns: &Columns, dx: &mut Array) {
        columns.scatter(dy, dx);
    }

    fn embed(&mut self, table: &Parameter, tokens: &Tokens, x: &mut Array) {
        cuda::look_up(table, tokens, x, false);
    }

    fn embed_backward(&mut self, dx: &Array, tokens: &Tokens, dtable: &mut CudaGradient) {
        cuda::look_up_backward(&dtable.parameter, tokens, dx, None);
    }

    fn position(&mut self, table: &Parameter, seq_len: usize, x: &mut Array) {
        let positions = self.position_tokens(seq_len, x.shape()[1]);
        cuda::look_up(table, &positions, x, true);
    }

    fn position_backward(&mut self, dx: &Array, seq_len: usize, dtable: &mut CudaGradient) {
        let positions = self.position_tokens(seq_len, dx.shape()[1]);
        cuda::look_up_backward(&dtable.parameter, &positions, dx, None);
    }

    fn bigram(&mut self, table: &Parameter, tokens: &Tokens, logits: &mut Array) {
        cuda::look_up(table, tokens, logits, true);
    }

    fn bigram_backward(&mut self, dlogits: &Array, tokens: &Tokens, dtable: &mut CudaGradient) {
        let padding = dtable.parameter.shape()[0] - 1;
        cuda::look_up_backward(&dtable.parameter, tokens, dlogits, Some(padding));
    }

    fn norm(&mut self, kind: NormKind, gain: &Parameter, bias: Option<&Parameter>, x: &Array) -> (Array, Statistics) {
        let mut y = Array::like(x);
        let statistics = cuda::norm(is_layer(kind), kind.eps(), gain, bias, x, &mut y);
        (y, statistics)
    }

    fn norm_abs_top_k(
        &mut self,
        (kind, gain, bias): (NormKind, &Parameter, Option<&Parameter>),
        (k, ties): (usize, Ties),
        x: &Array,
    ) -> (Array, Statistics, Kept) {
        if is_layer(kind) || bias.is_some() || x.shape()[0] > cuda::FUSED_NORM {
            let (mut y, statistics) = self.norm(kind, gain, bias, x);
            let kept = self.abs_top_k(k, ties, &mut y);
            return (y, statistics, kept);
        }
        let mut y = Array::like(x);
        let (statistics, kept) = cuda::norm_abs_top_k(kind.eps(), gain, k.min(x.shape()[0]), x, &mut y);
        (y, statistics, kept)
    }

    fn norm_backward(
        &mut self,
        kind: NormKind,
        gain: &Parameter,
        x: &Array,
        statistics: &Statistics,
        dy: &Array,
        dx: &mut Array,
        gradient: Option<(&mut CudaGradient, Option<&mut CudaGradient>)>,
    ) {
        let train = gradient.is_some();
        let bias = gradient.and_then(|(_, bias)| bias).map(|bias| &bias.parameter);
        cuda::norm_backward(is_layer(kind), gain, bias, x, statistics, dy, dx, train);
    }

    /// Ties go by index, whatever `ties` says: the order of another library's CPU code is not for a GPU.
    fn abs_top_k(&mut self, k: usize, _ties: Ties, x: &mut Array) -> Kept {
        cuda::abs_top_k(k.min(x.shape()[0]), x)
    }

    fn abs_top_k_backward(&mut self, kept: &Kept, dy: &mut Array) {
        cuda::abs_top_k_backward(kept, dy);
    }

    fn linear(&mut self, w: &Parameter, b: Option<&Parameter>, x: &CudaActivations, y: &mut Array) {
        cuda::linear(w, b, x.operand(), y);
    }

    fn linear_backward(
        &mut self,
        w: &Parameter,
        dy: &Array,
        x: &CudaActivations,
        gradient: Option<(&mut CudaGradient, Option<&mut CudaGradient>)>,
    ) -> Array {
        // Both factors in the same numbers.
        let packed = match x {
            CudaActivations::F32(_) => None,
            CudaActivations::Bf16(_) => Some(Packed::pack(dy)),
        };
        let dy_operand = packed.as_ref().map_or(Operand::F32(dy), Operand::Bf16);
        if let Some((dw, db)) = gradient {
            if let Some(db) = db {
                cuda::bias_gradient(&db.parameter, dy);
            }
            cuda::linear_gradient(&dw.parameter, dy_operand, x.operand(), dw.at_nonzeros);
        }
        let mut dx = Array::new(&self.gpu, x.operand().shape());
        cuda::linear_input(w, dy_operand, &mut dx);
        dx
    }

    fn attention(&mut self, shape: Attention, qkv: &[Array; 3], sink: Option<&Parameter>, y: &mut Array) -> Array {
        cuda::attention(shape, qkv.each_ref(), sink, y)
    }

    fn attention_backward(
        &mut self,
        shape: Attention,
        qkv: &[Array; 3],
        sink: Option<&Parameter>,
        y: &CudaActivations,
        log_sum: &Array,
        dy: &Array,
        dsink: Option<&mut CudaGradient>,
        _wanted: [Option<&Kept>; 2],
    ) -> [Array; 3] {
        let mut dqkv = qkv.each_ref().map(Array::like);
        let unpacked;
        let y = match y {
            CudaActivations::F32(y) => y,
            CudaActivations::Bf16(y) => {
                unpacked = y.unpack();
                &unpacked
            }
        };
        let train = dsink.is_some();
        cuda::attention_backward(shape, qkv.each_ref(), sink, y, log_sum, dy, dqkv.each_mut(), train);
        dqkv
    }

    fn activate(&mut self, f: Activation, x: &mut Array, y: &mut Array) {
        cuda::activate(f, x, y);
    }

    fn activate_backward(&mut self, slope: &Array, dy: &mut Array) {
        cuda::multiply(dy, slope);
    }

    fn residual(&mut self, x: &mut Array, y: &Array) {
        cuda::add(x, y);
    }

    fn cross_entropy(&mut self, logits: &mut Array, targets: &[u16], factor: f32) -> Losses {
        cuda::cross_entropy(logits, targets, factor)
    }
}

/// True for LayerNorm, false for RMSNorm; models without norms are refused before they get here.
fn is_layer(kind: NormKind) -> bool {
    assert!(kind != NormKind::None, "there are no kernels for models without norms");
    kind == NormKind::Layer
}
