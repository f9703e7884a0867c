//! Products of a weight with activations: sparse where it has its sparse forms, dense otherwise.

use crate::{
    Address, Arg, Array, Buffer, Factor, Gemm, Gpu, Kernel, Operand, Packed, Parameter, array::ROW, kernel,
    parameters::Lines,
};

/// Rows that a block of the simple sparse kernels works on.
const ROWS: usize = 8;
/// Entries of a side of a tile of the dense products.
const TILE: usize = 64;

/// `y = W x + b` of `W [out, in]`, `b [out, 1]` or none, `x [in, tokens]`, `y [out, tokens]` overwritten.
///
/// # Panics
/// When shapes differ.
#[track_caller]
#[allow(unsafe_code)]
pub fn linear(w: &Parameter, b: Option<&Parameter>, x: Operand<'_>, y: &mut Array) {
    let [out, input] = w.shape();
    assert!(
        x.shape()[0] == input && y.shape() == [out, x.shape()[1]],
        "linear: W {:?}, x {:?}, y {:?}",
        w.shape(),
        x.shape(),
        y.shape()
    );
    assert!(
        b.is_none_or(|b| b.shape() == [out, 1]),
        "linear: W {:?} and a bias {:?}",
        w.shape(),
        b.map(Parameter::shape)
    );
    let bias = b.map_or(Arg::Pointer(0), Parameter::weights);
    match w.by_row() {
        Some(lines) => spmm(&lines, bias, x, y, input),
        None => x.with_f32(|x| {
            if gemm_linear(w, bias, x, y) {
                return;
            }
            let args = [w.weights(), bias, x.buffer.all(), y.buffer.all(), n(out), n(input), n(y.stride)];
            let grid = [y.stride.div_ceil(TILE), out.div_ceil(TILE), 1];
            // SAFETY: W is [out, in] and x, y have as many rows, by the checks above, `stride` numbers apart; a thread
            // writes entries of y alone.
            unsafe { y.gpu().launch(&kernel::MATMUL, grid, 0, &args) };
        }),
    }
}

/// `dx = Wᵀ dy` of `W [out, in]`, `dy [out, tokens]`, `dx [in, tokens]` overwritten.
///
/// # Panics
/// When shapes differ.
#[track_caller]
#[allow(unsafe_code)]
pub fn linear_input(w: &Parameter, dy: Operand<'_>, dx: &mut Array) {
    let [out, input] = w.shape();
    assert!(
        dy.shape()[0] == out && dx.shape() == [input, dy.shape()[1]],
        "linear_input: W {:?}, dy {:?}, dx {:?}",
        w.shape(),
        dy.shape(),
        dx.shape()
    );
    match w.by_column() {
        Some(lines) => spmm(&lines, Arg::Pointer(0), dy, dx, out),
        None => dy.with_f32(|dy| {
            let (a, b) = (factor(w.weights(), input, true), factor(dy.buffer.all(), dy.stride, false));
            // SAFETY: W is [out, in], dy and dx have out and in rows, `stride` numbers apart.
            if unsafe { gemm(dx.gpu(), [input, dx.stride, out], (a, b, false), (dx.buffer.all(), dx.stride), false) } {
                return;
            }
            let args = [w.weights(), dy.buffer.all(), dx.buffer.all(), n(out), n(input), n(dx.stride)];
            let grid = [dx.stride.div_ceil(TILE), input.div_ceil(TILE), 1];
            // SAFETY: W is [out, in] and dy, dx have out and in rows, `stride` numbers apart; a thread writes entries
            // of dx alone.
            unsafe { dx.gpu().launch(&kernel::MATMUL_INPUT, grid, 0, &args) };
        }),
    }
}

/// `dW += dy xᵀ`, of every entry or, with `at_nonzeros`, at the nonzeros of W.
///
/// # Panics
/// When shapes differ, one is f32 and the other bf16, or nonzeros are asked for and W has no sparse form.
#[track_caller]
#[allow(unsafe_code)]
pub fn linear_gradient(w: &Parameter, dy: Operand<'_>, x: Operand<'_>, at_nonzeros: bool) {
    let [out, input] = w.shape();
    let ([dy_rows, tokens], [x_rows, x_tokens]) = (dy.shape(), x.shape());
    assert!(
        (dy_rows, x_rows, tokens) == (out, input, x_tokens),
        "linear_gradient: W {:?}, dy {:?}, x {:?}",
        w.shape(),
        dy.shape(),
        x.shape()
    );
    let gpu = w.gpu();
    if at_nonzeros {
        return sddmm(w, &w.by_row().expect("W has its sparse forms"), dy, x);
    }
    let bf16 = matches!(dy, Operand::Bf16(_));
    assert_eq!(bf16, matches!(x, Operand::Bf16(_)), "linear_gradient: dy and x differ in kind");
    let (a, b) = (factor(dy.launch().arg, dy.stride(), false), factor(x.launch().arg, x.stride(), true));
    // SAFETY: dy and x have out and in rows, `stride` numbers apart; the gradient is [out, in].
    if unsafe { gemm(gpu, [out, input, dy.stride()], (a, b, bf16), (w.gradient(), input), true) } {
        return;
    }
    dy.with_f32(|dy| {
        x.with_f32(|x| {
            // As many chunks of tokens as keep the device busy, but not so many that adding them up takes longer.
            let tiles = out.div_ceil(TILE) * input.div_ceil(TILE);
            let chunks = (2 * gpu.multiprocessors() / tiles).clamp(1, (dy.stride / 512).max(1));
            let partial = gpu.buffer::<f32>(chunks * out * input);
            let args = [dy.buffer.all(), x.buffer.all(), partial.all(), n(out), n(input), n(dy.stride)];
            // SAFETY: dy and x have out and in rows, `stride` numbers apart; `partial` has a matrix for every chunk.
            unsafe { gpu.launch(&kernel::MATMUL_WEIGHT, [input.div_ceil(TILE), out.div_ceil(TILE), chunks], 0, &args) };
            let args = [partial.all(), w.gradient(), n(out * input), n(chunks)];
            // SAFETY: a thread for every entry of the gradient; `partial` has as many for every chunk.
            unsafe { gpu.launch(&kernel::ADD_PARTIAL_SUMS, [(out * input).div_ceil(256), 1, 1], 0, &args) };
        });
    });
}

/// [`linear`] by the vendor's library; false where there is none.
#[allow(unsafe_code)]
fn gemm_linear(w: &Parameter, bias: Arg, x: &Array, y: &Array) -> bool {
    let gpu = y.gpu();
    let has_bias = bias != Arg::Pointer(0);
    if has_bias && gpu.has_library() {
        let args = [bias, y.buffer.all(), n(y.stride)];
        // SAFETY: y has a row for every number of the bias.
        unsafe { gpu.launch(&kernel::SET_ROWS, [y.stride.div_ceil(256), y.rows, 1], 0, &args) };
    }
    let (a, b) = (factor(w.weights(), w.cols, false), factor(x.buffer.all(), x.stride, false));
    // SAFETY: W is [y.rows, x.rows], and rows of x and y are `stride` numbers apart, as many in both.
    unsafe { gemm(gpu, [y.rows, y.stride, w.cols], (a, b, false), (y.buffer.all(), y.stride), has_bias) }
}

fn factor(at: Arg, stride: usize, transposed: bool) -> Factor {
    Factor { at: address(at), stride, transposed }
}

fn address(arg: Arg) -> Address {
    match arg {
        Arg::Pointer(address) => address,
        other => panic!("{other:?} is no pointer"),
    }
}

/// A product by the vendor's library: `C [size[0], size[1]]`, summed over `size[2]`. False where there is none.
///
/// # Safety
/// The matrices are there, with the rows that the sizes and strides say.
#[allow(unsafe_code)]
unsafe fn gemm(
    gpu: &Gpu,
    size: [usize; 3],
    (a, b, bf16): (Factor, Factor, bool),
    (c, stride): (Arg, usize),
    add: bool,
) -> bool {
    // SAFETY: the caller's.
    unsafe { gpu.gemm(&Gemm { size, a, b, bf16, c: (address(c), stride), add }) }
}

/// `db += Σ_tokens dy`, the gradient of a bias.
///
/// # Panics
/// When the bias has another number of entries than `dy` has rows.
#[track_caller]
#[allow(unsafe_code)]
pub fn bias_gradient(b: &Parameter, dy: &Array) {
    assert_eq!(b.shape(), [dy.rows, 1], "bias_gradient: dy {:?}", dy.shape());
    let args = [dy.buffer.all(), b.gradient(), n(dy.cols), n(dy.stride)];
    // SAFETY: a block for every row of dy, each of which has an entry in the gradient.
    unsafe { dy.gpu().launch(&kernel::ADD_ROW_SUMS, [dy.rows, 1, 1], 0, &args) };
}

/// The product of a sparse matrix whose lines are `y.rows` with `x [inner, tokens]`.
#[allow(unsafe_code)]
fn spmm(lines: &Lines, bias: Arg, x: Operand<'_>, y: &mut Array, inner: usize) {
    let gpu = y.gpu().clone();
    let Launch { arg: input, lane, kernels } = x.launch();
    let (rows, stride) = (n(y.rows), n(y.stride));
    assert!(x.stride() == y.stride, "spmm: rows of x are {} and of y {} apart", x.stride(), y.stride);
    // The widest tile that fits: lanes of sixteen bytes a column.
    for (kernel, lanes) in [(kernels.spmm_tile, 8), (kernels.spmm_narrow, 2)] {
        let shared = inner * lanes * 16;
        if shared <= gpu.shared_memory() {
            let args = [lines.ptr, lines.pairs, lines.order, bias, input, y.buffer.all(), rows, n(inner), stride];
            let tiles = y.stride / (lanes * lane);
            // SAFETY: lines name columns below `inner`, of which x has as many rows; tiles are whole, as `stride` is a
            // multiple of 128; a lane writes entries of y alone.
            return unsafe { gpu.launch(kernel, [tiles, 1, 1], shared, &args) };
        }
    }
    let args = [lines.ptr, lines.pairs, bias, input, y.buffer.all(), rows, stride];
    let grid = [y.rows.div_ceil(ROWS), y.stride.div_ceil(32 * lane), 1];
    // SAFETY: as above.
    unsafe { gpu.launch(kernels.spmm_rows, grid, 0, &args) };
}

/// The gradient at the nonzeros of W, added to that of W.
#[allow(unsafe_code)]
fn sddmm(w: &Parameter, lines: &Lines, dy: Operand<'_>, x: Operand<'_>) {
    let gpu = w.gpu();
    let Launch { arg: dy_arg, lane, kernels } = dy.launch();
    let Launch { arg: x_arg, lane: x_lane, .. } = x.launch();
    assert_eq!((lane, dy.stride()), (x_lane, x.stride()), "linear_gradient: dy and x differ in kind or stride");
    let (stride, rows, cols, room) = (x.stride(), n(w.rows), n(w.cols), n(w.room));
    let shared = w.cols * 8 * 16;
    let tiles = stride / (8 * lane);
    let chunks = tiles.min(gpu.multiprocessors());
    let partial = gpu.buffer::<f32>(chunks * w.room);
    if shared <= gpu.shared_memory() {
        let args = [lines.ptr, lines.pairs, lines.order, dy_arg, x_arg, partial.all(), rows, cols, room, n(stride)];
        // SAFETY: lines name columns of x; tiles are whole, as `stride` is a multiple of 128; every chunk has a tile, and
        // `room` places in `partial`, which its nonzeros fit.
        unsafe { gpu.launch(kernels.sddmm_tile, [chunks, 1, 1], shared, &args) };
    } else {
        let args = [lines.ptr, lines.pairs, dy_arg, x_arg, partial.all(), rows, room, n(stride)];
        // SAFETY: as above; a chunk without tokens writes zeros.
        unsafe { gpu.launch(kernels.sddmm_rows, [w.rows.div_ceil(ROWS), chunks, 1], 0, &args) };
    }
    let args = [lines.ptr, lines.pairs, partial.all(), w.gradient(), rows, cols, room, n(chunks)];
    // SAFETY: nonzeros lie within the gradient, which is [rows, cols] as W is; every chunk has written all of its.
    unsafe { gpu.launch(&kernel::ADD_AT_NONZEROS, [w.rows.div_ceil(ROWS), 1, 1], 0, &args) };
}

/// An operand as an argument, the numbers in sixteen bytes of it, and the kernels that read it.
struct Launch {
    arg: Arg,
    lane: usize,
    kernels: &'static SparseKernels,
}

/// Kernels that read activations in one number format.
struct SparseKernels {
    spmm_rows: &'static Kernel,
    spmm_tile: &'static Kernel,
    spmm_narrow: &'static Kernel,
    sddmm_rows: &'static Kernel,
    sddmm_tile: &'static Kernel,
}

static OF_F32: SparseKernels = SparseKernels {
    spmm_rows: &kernel::SPMM_ROWS_F32,
    spmm_tile: &kernel::SPMM_TILE_F32,
    spmm_narrow: &kernel::SPMM_NARROW_F32,
    sddmm_rows: &kernel::SDDMM_ROWS_F32,
    sddmm_tile: &kernel::SDDMM_TILE_F32,
};

static OF_BF16: SparseKernels = SparseKernels {
    spmm_rows: &kernel::SPMM_ROWS_BF16,
    spmm_tile: &kernel::SPMM_TILE_BF16,
    spmm_narrow: &kernel::SPMM_NARROW_BF16,
    sddmm_rows: &kernel::SDDMM_ROWS_BF16,
    sddmm_tile: &kernel::SDDMM_TILE_BF16,
};

impl Operand<'_> {
    fn launch(&self) -> Launch {
        match self {
            Self::F32(x) => Launch { arg: x.buffer.all(), lane: 4, kernels: &OF_F32 },
            Self::Bf16(x) => Launch { arg: x.buffer.all(), lane: 8, kernels: &OF_BF16 },
        }
    }

    fn with_f32<R>(&self, f: impl FnOnce(&Array) -> R) -> R {
        match self {
            Self::F32(x) => f(x),
            Self::Bf16(x) => f(&x.unpack()),
        }
    }
}

impl Packed {
    /// `x`, rounded.
    #[allow(unsafe_code)]
    pub fn pack(x: &Array) -> Self {
        let buffer: Buffer<u16> = x.gpu().buffer(x.buffer.len());
        let args = [x.buffer.all(), buffer.all(), n(x.buffer.len())];
        // SAFETY: as many numbers in both, a multiple of 4, four a thread.
        unsafe { x.gpu().launch(&kernel::TO_BF16, four_a_thread(x.buffer.len()), 0, &args) };
        Self { buffer, rows: x.rows, cols: x.cols, stride: x.stride }
    }

    /// As f32.
    #[allow(unsafe_code)]
    pub fn unpack(&self) -> Array {
        let gpu = self.buffer.gpu();
        let x = Array { buffer: gpu.buffer(self.buffer.len()), rows: self.rows, cols: self.cols, stride: self.stride };
        let args = [self.buffer.all(), x.buffer.all(), n(self.buffer.len())];
        // SAFETY: as many numbers in both, a multiple of 4, four a thread.
        unsafe { gpu.launch(&kernel::FROM_BF16, four_a_thread(self.buffer.len()), 0, &args) };
        x
    }
}

/// The grid of kernels that work on four entries a thread, 256 threads a block.
pub(crate) fn four_a_thread(entries: usize) -> [usize; 3] {
    debug_assert_eq!(entries % ROW, 0);
    [entries.div_ceil(4 * 256), 1, 1]
}

/// A count as an argument.
///
/// # Panics
/// When it has more than 32 bits: no array of a model has.
pub(crate) fn n(count: usize) -> Arg {
    Arg::U32(u32::try_from(count).expect("fewer than 2^32 numbers"))
}
