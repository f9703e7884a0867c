//! Activations in device memory.

use crate::{Buffer, Gpu, GpuError};

/// Rows of activations begin a multiple of so many tokens apart: what every kernel can handle.
pub const ROW: usize = 128;

/// Activations `[rows, cols]` in f32, features by tokens. Rows lie `stride` numbers apart; what lies behind the last
/// token is finite, and zero until something is computed there.
#[derive(Debug)]
pub struct Array {
    pub(crate) buffer: Buffer<f32>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

impl Array {
    /// To be overwritten.
    pub fn new(gpu: &Gpu, [rows, cols]: [usize; 2]) -> Self {
        let stride = cols.next_multiple_of(ROW).max(ROW);
        let buffer = gpu.buffer(rows * stride);
        if stride != cols {
            buffer.fill_zero();
        }
        Self { buffer, rows, cols, stride }
    }

    /// All zero.
    pub fn zeros(gpu: &Gpu, shape: [usize; 2]) -> Self {
        let array = Self::new(gpu, shape);
        array.buffer.fill_zero();
        array
    }

    /// A copy of `values`, row by row.
    ///
    /// # Panics
    /// When there are more or fewer than the shape says.
    #[track_caller]
    pub fn upload(gpu: &Gpu, [rows, cols]: [usize; 2], values: &[f32]) -> Self {
        assert_eq!(values.len(), rows * cols, "values of an array of {rows} by {cols}");
        let array = Self::new(gpu, [rows, cols]);
        if array.stride == cols {
            array.buffer.upload(values);
        } else {
            let mut padded = vec![0.0; rows * array.stride];
            for (to, from) in padded.chunks_exact_mut(array.stride).zip(values.chunks_exact(cols.max(1))) {
                to[..cols].copy_from_slice(from);
            }
            array.buffer.upload(&padded);
        }
        array
    }

    /// The values, row by row.
    ///
    /// # Errors
    /// The first error of the device.
    pub fn download(&self) -> Result<Vec<f32>, GpuError> {
        let values = self.buffer.download()?;
        Ok(values.chunks_exact(self.stride).flat_map(|row| &row[..self.cols]).copied().collect())
    }

    /// A copy on the device.
    pub fn copy(&self) -> Self {
        let copy = Self::like(self);
        copy.buffer.copy_from(0, &self.buffer, 0..self.buffer.len());
        copy
    }

    /// Of the same shape, to be overwritten.
    pub fn like(other: &Self) -> Self {
        Self::new(other.gpu(), other.shape())
    }

    /// A copy of some of the rows.
    #[track_caller]
    pub fn rows(&self, rows: std::ops::Range<usize>) -> Self {
        let part = Self::new(self.gpu(), [rows.len(), self.cols]);
        part.buffer.copy_from(0, &self.buffer, rows.start * self.stride..rows.end * self.stride);
        part
    }

    /// Replaces the rows from `first` on by those of `part`.
    ///
    /// # Panics
    /// When `part` has other tokens or more rows than there are from `first` on.
    #[track_caller]
    pub fn set_rows(&mut self, first: usize, part: &Self) {
        assert_eq!(self.cols, part.cols, "set_rows: tokens");
        self.buffer.copy_from(first * self.stride, &part.buffer, 0..part.buffer.len());
    }

    /// Makes all numbers zero.
    pub fn fill_zero(&mut self) {
        self.buffer.fill_zero();
    }

    /// Features and tokens.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Its address.
    pub fn gpu(&self) -> &Gpu {
        self.buffer.gpu()
    }
}

/// Activations rounded to bf16, as [`Array`] otherwise.
#[derive(Debug)]
pub struct Packed {
    pub(crate) buffer: Buffer<u16>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

/// Entries that AbsTopK kept, a byte each.
#[derive(Debug)]
pub struct Kept {
    pub(crate) buffer: Buffer<u8>,
    pub(crate) shape: [usize; 2],
}

/// Mean and scale of every token, for the backward of a norm.
#[derive(Debug)]
pub struct Statistics {
    pub(crate) mean: Buffer<f32>,
    pub(crate) scale: Buffer<f32>,
}

/// Activations that a product reads, in f32 or bf16.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// f32: four bytes each.
    F32(&'a Array),
    /// bf16: two bytes each.
    Bf16(&'a Packed),
}

impl Operand<'_> {
    /// Features and tokens.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::F32(x) => x.shape(),
            Self::Bf16(x) => [x.rows, x.cols],
        }
    }

    pub(crate) fn stride(&self) -> usize {
        match self {
            Self::F32(x) => x.stride,
            Self::Bf16(x) => x.stride,
        }
    }
}
