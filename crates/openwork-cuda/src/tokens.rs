//! Operations that depend on tokens: embeddings, the bigram table, columns that are read out, the loss.

use crate::{Arg, Array, Buffer, Gpu, GpuError, Parameter, kernel, products::n};

/// Tokens on the device, and where each is: for tables whose rows they name.
#[derive(Debug)]
pub struct Tokens {
    ids: Buffer<u16>,
    /// `place[start[v] .. start[v + 1]]` are the columns of token `v`, in their order.
    start: Buffer<u32>,
    place: Buffer<u32>,
    vocabulary: usize,
}

impl Tokens {
    /// # Panics
    /// When a token is outside the vocabulary.
    #[track_caller]
    pub fn new(gpu: &Gpu, ids: &[u16], vocabulary: usize) -> Self {
        let mut start = vec![0_u32; vocabulary + 1];
        for &id in ids {
            assert!(usize::from(id) < vocabulary, "token {id} is outside the vocabulary of {vocabulary}");
            start[usize::from(id) + 1] += 1;
        }
        for v in 0..vocabulary {
            start[v + 1] += start[v];
        }
        let (mut next, mut place) = (start.clone(), vec![0_u32; ids.len()]);
        for (column, &id) in ids.iter().enumerate() {
            let next = &mut next[usize::from(id)];
            place[*next as usize] = column as u32;
            *next += 1;
        }
        Self { ids: gpu.upload(ids), start: gpu.upload(&start), place: gpu.upload(&place), vocabulary }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `x[:, t] = table[token_t, :]`, or `+=` with `add`: `table [vocabulary, features]`, `x [features, tokens]`.
///
/// # Panics
/// When `x` has other features than the table or other tokens, or the table is smaller than the vocabulary.
#[track_caller]
#[allow(unsafe_code)]
pub fn look_up(table: &Parameter, tokens: &Tokens, x: &mut Array, add: bool) {
    let [rows, features] = table.shape();
    assert!(
        tokens.vocabulary <= rows && x.shape() == [features, tokens.len()],
        "look_up: table {:?}, x {:?}",
        table.shape(),
        x.shape()
    );
    let args = [
        table.weights(),
        tokens.ids.all(),
        x.buffer.all(),
        n(features),
        n(x.cols),
        n(x.stride),
        Arg::U32(u32::from(add)),
    ];
    // SAFETY: tokens name rows of the table, by the checks here and in `Tokens::new`; a block for every 32 by 32 entries.
    unsafe { x.gpu().launch(&kernel::GATHER_ROWS, [x.cols.div_ceil(32), features.div_ceil(32), 1], 0, &args) };
}

/// `dtable[token_t, :] += dx[:, t]`, columns in order; nothing for the row `skip`.
///
/// # Panics
/// As [`look_up`].
#[track_caller]
#[allow(unsafe_code)]
pub fn look_up_backward(table: &Parameter, tokens: &Tokens, dx: &Array, skip: Option<usize>) {
    let [rows, features] = table.shape();
    assert!(
        tokens.vocabulary <= rows && dx.shape() == [features, tokens.len()],
        "look_up_backward: table {:?}, dx {:?}",
        table.shape(),
        dx.shape()
    );
    let args = [
        tokens.start.all(),
        tokens.place.all(),
        dx.buffer.all(),
        table.gradient(),
        n(features),
        n(dx.stride),
        n(skip.unwrap_or(rows)),
    ];
    // SAFETY: a block for every token of the vocabulary, whose columns lie within dx and whose row within the gradient.
    unsafe { dx.gpu().launch(&kernel::SCATTER_ROWS, [tokens.vocabulary, 1, 1], 0, &args) };
}

/// Columns of an array.
#[derive(Debug)]
pub struct Columns {
    index: Buffer<u32>,
    of: usize,
}

impl Columns {
    /// Of arrays with `of` columns.
    ///
    /// # Panics
    /// When a column is not there, or is there twice: nobody adds up what two threads write.
    #[track_caller]
    pub fn new(gpu: &Gpu, columns: &[usize], of: usize) -> Self {
        let mut seen = vec![false; of];
        for &c in columns {
            assert!(c < of && !std::mem::replace(&mut seen[c], true), "column {c} of {of} is missing or there twice");
        }
        let index: Vec<u32> = columns.iter().map(|&c| c as u32).collect();
        Self { index: gpu.upload(&index), of }
    }

    /// These columns of `x`.
    ///
    /// # Panics
    /// When `x` has another number of columns than these are of.
    #[track_caller]
    #[allow(unsafe_code)]
    pub fn gather(&self, x: &Array) -> Array {
        assert_eq!(x.cols, self.of, "columns of x {:?}", x.shape());
        let y = Array::new(x.gpu(), [x.rows, self.index.len()]);
        let args = [x.buffer.all(), self.index.all(), y.buffer.all(), n(y.cols), n(x.stride), n(y.stride)];
        // SAFETY: columns lie within x; a thread for every entry of y, padding included.
        unsafe { x.gpu().launch(&kernel::GATHER_COLUMNS, [y.stride.div_ceil(256), y.rows, 1], 0, &args) };
        y
    }

    /// Adds the columns of `dy` to these of `dx`.
    ///
    /// # Panics
    /// When `dy` or `dx` has another number of columns.
    #[track_caller]
    #[allow(unsafe_code)]
    pub fn scatter(&self, dy: &Array, dx: &mut Array) {
        assert_eq!(dy.cols, self.index.len(), "columns from dy {:?}", dy.shape());
        assert_eq!(dx.shape(), [dy.rows, self.of], "columns of dx for dy {:?}", dy.shape());
        if dy.cols > 0 {
            let args = [dy.buffer.all(), self.index.all(), dx.buffer.all(), n(dy.cols), n(dx.stride), n(dy.stride)];
            // SAFETY: columns lie within dx, and none is there twice; a thread for every entry of dy.
            unsafe { dy.gpu().launch(&kernel::SCATTER_COLUMNS, [dy.cols.div_ceil(256), dy.rows, 1], 0, &args) };
        }
    }
}

/// Cross-entropies of `logits [vocabulary, tokens]` with their targets.
#[derive(Debug)]
pub struct Losses(Buffer<f32>);

impl Losses {
    /// In nats, token by token.
    ///
    /// # Errors
    /// The first error of the device.
    pub fn download(&self) -> Result<Vec<f32>, GpuError> {
        self.0.download()
    }
}

/// The cross-entropy of every column with its target; in place of the logits the gradient of `factor` times their sum.
///
/// # Panics
/// When there are not as many targets as columns, or one is outside the vocabulary.
#[track_caller]
#[allow(unsafe_code)]
pub fn cross_entropy(logits: &mut Array, targets: &[u16], factor: f32) -> Losses {
    assert_eq!(targets.len(), logits.cols, "targets for logits {:?}", logits.shape());
    assert!(targets.iter().all(|&t| usize::from(t) < logits.rows), "a target beyond the vocabulary of {}", logits.rows);
    let gpu = logits.gpu().clone();
    let (losses, targets) = (gpu.buffer(targets.len()), gpu.upload(targets));
    let args = [
        logits.buffer.all(),
        targets.all(),
        losses.all(),
        n(logits.rows),
        n(logits.cols),
        n(logits.stride),
        Arg::F32(factor),
    ];
    // SAFETY: a block for every 32 of the `stride` columns, of which the first `cols` have a target and a loss.
    unsafe { gpu.launch(&kernel::CROSS_ENTROPY, [logits.stride / 32, 1, 1], 0, &args) };
    Losses(losses)
}
