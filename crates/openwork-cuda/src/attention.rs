//! Causal softmax attention with sinks.

use crate::{Arg, Array, GpuError, Kernel, Parameter, kernel, products::n};

/// Shape of the attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Number of heads.
    pub n_head: usize,
    /// Channels per head.
    pub d_head: usize,
    /// Tokens per sequence; the number of columns is a multiple of it.
    pub seq_len: usize,
}

/// Threads of a block.
const THREADS: usize = 64;
/// Kernels for heads of one size: forward, backward by queries and backward by keys, and threads that share a query (or
/// key) in each. As in `kernels/attention.cu`.
struct Heads {
    d_head: usize,
    kernels: [&'static Kernel; 3],
    parts: [usize; 3],
}

static HEADS: [Heads; 4] = [
    Heads {
        d_head: 8,
        kernels: [&kernel::ATTENTION_8, &kernel::ATTENTION_BACKWARD_QUERIES_8, &kernel::ATTENTION_BACKWARD_KEYS_8],
        parts: [1, 1, 1],
    },
    Heads {
        d_head: 16,
        kernels: [&kernel::ATTENTION_16, &kernel::ATTENTION_BACKWARD_QUERIES_16, &kernel::ATTENTION_BACKWARD_KEYS_16],
        parts: [1, 1, 1],
    },
    Heads {
        d_head: 32,
        kernels: [&kernel::ATTENTION_32, &kernel::ATTENTION_BACKWARD_QUERIES_32, &kernel::ATTENTION_BACKWARD_KEYS_32],
        parts: [1, 2, 2],
    },
    Heads {
        d_head: 64,
        kernels: [&kernel::ATTENTION_64, &kernel::ATTENTION_BACKWARD_QUERIES_64, &kernel::ATTENTION_BACKWARD_KEYS_64],
        parts: [2, 4, 4],
    },
];

/// Checks that there are kernels for heads of this size.
///
/// # Errors
/// When there are none.
pub fn supports_heads(d_head: usize) -> Result<(), GpuError> {
    match HEADS.iter().any(|heads| heads.d_head == d_head) {
        true => Ok(()),
        false => Err(GpuError::Unsupported {
            what: format!("attention heads of {d_head} channels"),
            instead: "there are kernels for 8, 16, 32 and 64".into(),
        }),
    }
}

impl Attention {
    fn heads(&self) -> &'static Heads {
        let found = HEADS.iter().find(|heads| heads.d_head == self.d_head);
        found.unwrap_or_else(|| panic!("attention heads of {} channels; ask `supports_heads` first", self.d_head))
    }

    fn grid(&self, tokens: usize, parts: usize) -> [usize; 3] {
        [self.seq_len.div_ceil(THREADS / parts), self.n_head, tokens / self.seq_len]
    }

    #[track_caller]
    fn check(&self, x: &Array, like: &Array) {
        assert!(
            x.rows == self.n_head * self.d_head && x.cols.is_multiple_of(self.seq_len),
            "attention: {self:?} and an array {:?}",
            x.shape()
        );
        assert_eq!((x.shape(), x.stride), (like.shape(), like.stride), "attention: arrays differ");
    }
}

/// Forward: `q, k, v, y [n_head · d_head, tokens]`, `sink [n_head, 1]`. Overwrites `y` and returns the log of the
/// denominator, `[n_head, tokens]`.
///
/// # Panics
/// When arrays differ in shape, have other channels than the heads, or there is no kernel for heads of that size.
#[track_caller]
#[allow(unsafe_code)]
pub fn attention(shape: Attention, [q, k, v]: [&Array; 3], sink: Option<&Parameter>, y: &mut Array) -> Array {
    [q, k, v].into_iter().for_each(|x| shape.check(x, y));
    assert!(sink.is_none_or(|s| s.shape() == [shape.n_head, 1]), "attention: a sink for every head");
    let (log_sum, heads) = (Array::new(q.gpu(), [shape.n_head, q.cols]), shape.heads());
    let args = [
        q.buffer.all(),
        k.buffer.all(),
        v.buffer.all(),
        sink.map_or(Arg::Pointer(0), Parameter::weights),
        y.buffer.all(),
        log_sum.buffer.all(),
        n(shape.seq_len),
        n(q.stride),
    ];
    // SAFETY: all arrays have the heads' channels and the same stride, by the checks above; sequences lie within them.
    unsafe {
        q.gpu().launch(heads.kernels[0], shape.grid(q.cols, heads.parts[0]), 0, &args);
    }
    log_sum
}

/// Backward: overwrites `dq, dk, dv`, and adds to the sink's gradient where there is a sink and `train`; `y` and
/// `log_sum` are what [`attention`] gave.
///
/// # Panics
/// As [`attention`].
#[track_caller]
#[allow(unsafe_code, clippy::too_many_arguments)]
pub fn attention_backward(
    shape: Attention,
    [q, k, v]: [&Array; 3],
    sink: Option<&Parameter>,
    y: &Array,
    log_sum: &Array,
    dy: &Array,
    [dq, dk, dv]: [&mut Array; 3],
    train: bool,
) {
    [q, k, v, dy, dq, dk, dv].into_iter().for_each(|x| shape.check(x, y));
    assert_eq!((log_sum.rows, log_sum.stride), (shape.n_head, y.stride), "attention_backward: log_sum");
    let gpu = q.gpu();
    let tokens = q.cols;
    let inner = Array::new(gpu, [shape.n_head, tokens]);
    let args = [y.buffer.all(), dy.buffer.all(), inner.buffer.all(), n(shape.d_head), n(tokens), n(y.stride)];
    // SAFETY: y and dy have the heads' channels and inner a row for every head, all of the same stride.
    unsafe { gpu.launch(&kernel::ATTENTION_INNER, [tokens.div_ceil(256), shape.n_head, 1], 0, &args) };
    let common = [q, k, v, dy, log_sum, &inner].map(|x| x.buffer.all());
    let sizes = [n(shape.seq_len), n(q.stride)];
    let Heads { kernels: [_, queries, keys], parts: [_, by_query, by_key], .. } = *shape.heads();
    let args: Vec<Arg> = common.into_iter().chain([dq.buffer.all()]).chain(sizes).collect();
    // SAFETY: as in `attention`; dq has the shape of q.
    unsafe { gpu.launch(queries, shape.grid(tokens, by_query), 0, &args) };
    let args: Vec<Arg> = common.into_iter().chain([dk.buffer.all(), dv.buffer.all()]).chain(sizes).collect();
    // SAFETY: as in `attention`; dk and dv have the shapes of k and v.
    unsafe { gpu.launch(keys, shape.grid(tokens, by_key), 0, &args) };
    if let Some(sink) = sink.filter(|_| train) {
        let args =
            [sink.weights(), log_sum.buffer.all(), inner.buffer.all(), sink.gradient(), n(tokens), n(inner.stride)];
        // SAFETY: a block for every head, which has a sink and a row in log_sum and inner.
        unsafe { gpu.launch(&kernel::ATTENTION_SINK_GRADIENT, [shape.n_head, 1, 1], 0, &args) };
    }
}
