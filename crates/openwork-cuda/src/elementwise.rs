//! Norms, AbsTopK, nonlinearities, residual stream, masks of nodes.

use crate::{
    Arg, Array, Buffer, Gpu, GpuError, Kept, Kernel, Parameter, Statistics, kernel,
    products::{four_a_thread, n},
};

/// Most features of a kernel of AbsTopK, the tokens of its blocks, and the kernel.
type Size = (usize, usize, &'static Kernel);

static TOP_K: [Size; 4] = [
    (256, 32, &kernel::ABS_TOP_K_256),
    (1024, 32, &kernel::ABS_TOP_K_1024),
    (4096, 8, &kernel::ABS_TOP_K_4096),
    (16384, 2, &kernel::ABS_TOP_K_16384),
];

/// The kernel for so many features, and the tokens of a block.
fn kernel_for(sizes: &[Size], features: usize) -> (&'static Kernel, usize) {
    let size = sizes.iter().find(|(most, ..)| features <= *most);
    let (_, tokens, kernel) =
        size.unwrap_or_else(|| panic!("AbsTopK of {features} features; ask `supports_features` first"));
    (kernel, *tokens)
}

/// Checks that there are kernels for activations of so many features.
///
/// # Errors
/// When there are none.
pub fn supports_features(features: usize) -> Result<(), GpuError> {
    let most = TOP_K[TOP_K.len() - 1].0;
    match features <= most {
        true => Ok(()),
        false => Err(GpuError::Unsupported {
            what: format!("AbsTopK of {features} features"),
            instead: format!("there is one for up to {most}"),
        }),
    }
}

/// `y = (x − mean) · scale · gain + bias` with the mean (0 unless `layer`) and the inverse root of the second moment
/// about it plus `eps`, token by token; returns these.
///
/// `x`, `y [features, tokens]`, `gain`, `bias [features, 1]`.
#[track_caller]
#[allow(unsafe_code)]
pub fn norm(layer: bool, eps: f32, gain: &Parameter, bias: Option<&Parameter>, x: &Array, y: &mut Array) -> Statistics {
    check_norm(gain, bias, x, y);
    let statistics = Statistics::new(x);
    let args = [
        x.buffer.all(),
        gain.weights(),
        bias.map_or(Arg::Pointer(0), Parameter::weights),
        y.buffer.all(),
        statistics.mean.all(),
        statistics.scale.all(),
        n(x.rows),
        n(x.stride),
        Arg::F32(eps),
        Arg::U32(u32::from(layer)),
    ];
    // SAFETY: x, y, gain and bias have as many rows, by the checks above; a block for every 32 of the `stride` tokens.
    unsafe { x.gpu().launch(&kernel::NORM_FORWARD, [x.stride / 32, 1, 1], 0, &args) };
    statistics
}

#[track_caller]
fn check_norm(gain: &Parameter, bias: Option<&Parameter>, x: &Array, y: &Array) {
    assert_eq!((x.shape(), x.stride), (y.shape(), y.stride), "norm: x and y");
    assert_eq!(gain.shape(), [x.rows, 1], "norm: gain for x {:?}", x.shape());
    assert!(bias.is_none_or(|b| b.shape() == gain.shape()), "norm: bias for x {:?}", x.shape());
}

/// The same of [`norm_abs_top_k`].
static NORM_TOP_K: [Size; 3] = [
    (256, 32, &kernel::NORM_ABS_TOP_K_256),
    (1024, 16, &kernel::NORM_ABS_TOP_K_1024),
    (2048, 8, &kernel::NORM_ABS_TOP_K_2048),
];
/// Features for which [`norm_abs_top_k`] has a kernel.
pub const FUSED_NORM: usize = 2048;

/// RMSNorm (see [`norm`]) and [`abs_top_k`] of what it gives, while a token is in registers: at most [`FUSED_NORM`]
/// features.
///
/// # Panics
/// When shapes differ, `k` exceeds the features, or there are more than [`FUSED_NORM`].
#[track_caller]
#[allow(unsafe_code)]
pub fn norm_abs_top_k(eps: f32, gain: &Parameter, k: usize, x: &Array, y: &mut Array) -> (Statistics, Kept) {
    check_norm(gain, None, x, y);
    assert!(k <= x.rows && x.rows <= FUSED_NORM, "RMSNorm and AbsTopK of {} features keeping {k}", x.rows);
    let (statistics, kept) = (Statistics::new(x), Kept::new(x));
    let (kernel, tokens) = kernel_for(&NORM_TOP_K, x.rows);
    let args = [
        x.buffer.all(),
        gain.weights(),
        y.buffer.all(),
        kept.buffer.all(),
        statistics.mean.all(),
        statistics.scale.all(),
        n(x.rows),
        n(x.stride),
        n(k),
        Arg::F32(eps),
    ];
    // SAFETY: x, y and kept have as many rows and the same stride, gain a number for each row; a block for every
    // `tokens` of the `stride` tokens, and no more features than the kernel has registers for.
    unsafe { x.gpu().launch(kernel, [x.stride / tokens, 1, 1], 0, &args) };
    (statistics, kept)
}

/// `dx += ∂loss/∂x` of [`norm`]; with `train`, gradients of gain and bias are added to theirs.
///
/// # Panics
/// When shapes differ.
#[track_caller]
#[allow(unsafe_code, clippy::too_many_arguments)]
pub fn norm_backward(
    layer: bool,
    gain: &Parameter,
    bias: Option<&Parameter>,
    x: &Array,
    statistics: &Statistics,
    dy: &Array,
    dx: &mut Array,
    train: bool,
) {
    check_norm(gain, bias, x, dx);
    assert_eq!((x.shape(), x.stride), (dy.shape(), dy.stride), "norm_backward: x and dy");
    let gpu = x.gpu();
    let Statistics { mean, scale } = statistics;
    let args = [
        x.buffer.all(),
        gain.weights(),
        dy.buffer.all(),
        mean.all(),
        scale.all(),
        dx.buffer.all(),
        n(x.rows),
        n(x.stride),
        Arg::U32(u32::from(layer)),
    ];
    // SAFETY: x, dy, dx and gain have as many rows; mean and scale a number for each of the `stride` tokens.
    unsafe { gpu.launch(&kernel::NORM_BACKWARD, [x.stride / 32, 1, 1], 0, &args) };
    if train {
        let dbias = bias.map_or(Arg::Pointer(0), Parameter::gradient);
        let args =
            [x.buffer.all(), dy.buffer.all(), mean.all(), scale.all(), gain.gradient(), dbias, n(x.cols), n(x.stride)];
        // SAFETY: a block for every row, each of which has an entry in the gradients.
        unsafe { gpu.launch(&kernel::NORM_GAIN_GRADIENT, [x.rows, 1, 1], 0, &args) };
    }
}

impl Statistics {
    fn new(x: &Array) -> Self {
        Self { mean: x.gpu().buffer(x.stride), scale: x.gpu().buffer(x.stride) }
    }
}

impl Kept {
    fn new(x: &Array) -> Self {
        Self { buffer: x.gpu().buffer(x.buffer.len()), shape: [x.rows, x.stride] }
    }
}

/// Of every token, the `k` entries of largest magnitude stay, of equal ones those of lower features, and the rest
/// become zero.
///
/// # Panics
/// When `k` exceeds the features, or there is no kernel for so many ([`supports_features`]).
#[track_caller]
#[allow(unsafe_code)]
pub fn abs_top_k(k: usize, x: &mut Array) -> Kept {
    assert!(k <= x.rows, "AbsTopK keeps {k} of {} features", x.rows);
    let kept = Kept::new(x);
    let (kernel, tokens) = kernel_for(&TOP_K, x.rows);
    let args = [x.buffer.all(), kept.buffer.all(), n(x.rows), n(x.stride), n(k)];
    // SAFETY: x and kept have as many rows and the same stride; a block for every `tokens` of the `stride` tokens, and
    // no more features than the kernel has registers for.
    unsafe { x.gpu().launch(kernel, [x.stride / tokens, 1, 1], 0, &args) };
    kept
}

/// `dy` where an entry was kept, 0 elsewhere.
///
/// # Panics
/// When `dy` has another shape than the activations had.
#[track_caller]
#[allow(unsafe_code)]
pub fn abs_top_k_backward(kept: &Kept, dy: &mut Array) {
    assert_eq!(kept.shape, [dy.rows, dy.stride], "abs_top_k_backward: dy {:?}", dy.shape());
    let args = [kept.buffer.all(), dy.buffer.all(), n(dy.buffer.len())];
    // SAFETY: as many entries in both, four a thread.
    unsafe { dy.gpu().launch(&kernel::ABS_TOP_K_BACKWARD, four_a_thread(dy.buffer.len()), 0, &args) };
}

/// A nonlinearity of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x Φ(x)` with the exact normal distribution function.
    Gelu,
    /// `max(x, 0)`; the derivative at 0 is 0.
    Relu,
}

/// `y = f(x)`, and the derivative in place of `x`.
///
/// # Panics
/// When shapes differ.
#[track_caller]
#[allow(unsafe_code)]
pub fn activate(kind: Activation, x: &mut Array, y: &mut Array) {
    assert_eq!((x.shape(), x.stride), (y.shape(), y.stride), "activate: x and y");
    let kernel = match kind {
        Activation::Gelu => &kernel::GELU,
        Activation::Relu => &kernel::RELU,
    };
    let args = [x.buffer.all(), y.buffer.all(), n(x.buffer.len())];
    // SAFETY: as many entries in both, four a thread.
    unsafe { x.gpu().launch(kernel, four_a_thread(x.buffer.len()), 0, &args) };
}

/// `x *= y`, the backward of [`activate`] with the derivative it left.
#[track_caller]
pub fn multiply(x: &mut Array, y: &Array) {
    combine(&kernel::MULTIPLY, x, y);
}

/// `x += y`.
#[track_caller]
pub fn add(x: &mut Array, y: &Array) {
    combine(&kernel::ADD, x, y);
}

#[track_caller]
#[allow(unsafe_code)]
fn combine(kernel: &'static Kernel, x: &mut Array, y: &Array) {
    assert_eq!((x.shape(), x.stride), (y.shape(), y.stride), "{}: x and y", kernel.name);
    let args = [x.buffer.all(), y.buffer.all(), n(x.buffer.len())];
    // SAFETY: as many entries in both, four a thread.
    unsafe { x.gpu().launch(kernel, four_a_thread(x.buffer.len()), 0, &args) };
}

/// A mask of nodes with mean ablation: which features of an array stay, and what the others become.
#[derive(Debug)]
pub struct Mask {
    keep: Buffer<u8>,
    mean: Buffer<f32>,
}

impl Mask {
    /// # Panics
    /// When there are not as many of both.
    #[track_caller]
    pub fn new(gpu: &Gpu, keep: &[bool], mean: &[f32]) -> Self {
        assert_eq!(keep.len(), mean.len(), "a mask of {} features with {} means", keep.len(), mean.len());
        let keep: Vec<u8> = keep.iter().map(|&keep| u8::from(keep)).collect();
        Self { keep: gpu.upload(&keep), mean: gpu.upload(mean) }
    }

    /// Features that are not kept take their mean. Returns by how much every entry was off it.
    ///
    /// # Panics
    /// When the mask has another number of features than `x`.
    #[track_caller]
    #[allow(unsafe_code)]
    pub fn ablate(&self, x: &mut Array) -> Array {
        assert_eq!(self.keep.len(), x.rows, "a mask for x {:?}", x.shape());
        let deviation = Array::like(x);
        let args = [x.buffer.all(), deviation.buffer.all(), self.keep.all(), self.mean.all(), n(x.stride)];
        // SAFETY: a thread for every entry of x and of what is returned; the mask has a number for every row.
        unsafe { x.gpu().launch(&kernel::ABLATE, [x.stride.div_ceil(256), x.rows, 1], 0, &args) };
        deviation
    }

    /// `gates += Σ_tokens dx · deviation`, the gradient of every feature's mask, and `dx = 0` where a feature is not
    /// kept.
    ///
    /// # Panics
    /// When shapes differ, or the mask has another number of features.
    #[track_caller]
    #[allow(unsafe_code)]
    pub fn ablate_backward(&self, deviation: &Array, dx: &mut Array, gates: &mut Buffer<f32>) {
        assert_eq!((deviation.shape(), deviation.stride), (dx.shape(), dx.stride), "ablate_backward: deviation and dx");
        assert!(self.keep.len() == dx.rows && gates.len() == dx.rows, "a mask for dx {:?}", dx.shape());
        let args = [dx.buffer.all(), deviation.buffer.all(), self.keep.all(), gates.all(), n(dx.cols), n(dx.stride)];
        // SAFETY: a block for every row of dx, for which there is a mask and a gate.
        unsafe { dx.gpu().launch(&kernel::ABLATE_BACKWARD, [dx.rows, 1, 1], 0, &args) };
    }
}

/// Sets `active[f]` to 1 where feature `f` of `x` is not zero for some token.
///
/// # Panics
/// When there is not one mark for each feature of `x`.
#[track_caller]
#[allow(unsafe_code)]
pub fn mark_active(x: &Array, active: &mut Buffer<u32>) {
    assert_eq!(active.len(), x.rows, "mark_active: x {:?}", x.shape());
    let args = [x.buffer.all(), active.all(), n(x.cols), n(x.stride)];
    // SAFETY: a block for every row of x, each of which has a mark.
    unsafe { x.gpu().launch(&kernel::MARK_ACTIVE, [x.rows, 1, 1], 0, &args) };
}
