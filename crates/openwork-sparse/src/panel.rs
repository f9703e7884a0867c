//! Matrices as the kernels see them: a slice and strides, so that a block of a larger matrix is one too.

use ndarray::{ArrayBase, ArrayView2, Data, DataMut, Ix2};

/// A matrix to read. Either its rows or its columns are contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Panel<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a> Panel<'a> {
    /// `[rows, cols]` with row `r` at `data[r · stride..][..cols]`.
    ///
    /// # Panics
    /// When `data` is too short.
    #[track_caller]
    pub fn new(data: &'a [f32], [rows, cols]: [usize; 2], stride: usize) -> Self {
        check(data.len(), [rows, cols], stride);
        Self { data, rows, cols, row_stride: stride, col_stride: 1 }
    }

    /// The transpose; nothing is moved.
    pub fn t(self) -> Self {
        let Self { data, rows, cols, row_stride, col_stride } = self;
        Self { data, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// `[rows, cols]`.
    pub fn shape(self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Row `r`.
    ///
    /// # Panics
    /// When rows are not contiguous.
    #[inline(always)]
    pub fn row(self, r: usize) -> &'a [f32] {
        assert!(self.col_stride == 1, "rows are not contiguous");
        &self.data[r * self.row_stride..][..self.cols]
    }

    /// The whole of `x`, row-major or column-major.
    ///
    /// # Panics
    /// When `x` is neither.
    #[track_caller]
    pub fn of(x: ArrayView2<'a, f32>) -> Self {
        let (rows, cols) = x.dim();
        if let Some(data) = x.to_slice() {
            return Self::new(data, [rows, cols], cols);
        }
        let data = x.reversed_axes().to_slice().expect("a matrix in row-major or column-major order");
        Self::new(data, [cols, rows], rows).t()
    }
}

impl<'a, S: Data<Elem = f32>> From<&'a ArrayBase<S, Ix2>> for Panel<'a> {
    #[track_caller]
    fn from(x: &'a ArrayBase<S, Ix2>) -> Self {
        Self::of(x.view())
    }
}

/// A matrix to write; rows contiguous.
#[derive(Debug)]
pub struct PanelMut<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

impl<'a> PanelMut<'a> {
    /// `[rows, cols]` with row `r` at `data[r · stride..][..cols]`.
    ///
    /// # Panics
    /// When `data` is too short.
    #[track_caller]
    pub fn new(data: &'a mut [f32], [rows, cols]: [usize; 2], stride: usize) -> Self {
        check(data.len(), [rows, cols], stride);
        Self { data, rows, cols, stride }
    }

    /// Row `r`.
    #[inline(always)]
    pub fn row_mut(&mut self, r: usize) -> &mut [f32] {
        &mut self.data[r * self.stride..][..self.cols]
    }

    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }
}

impl<'a, S: DataMut<Elem = f32>> From<&'a mut ArrayBase<S, Ix2>> for PanelMut<'a> {
    #[track_caller]
    fn from(x: &'a mut ArrayBase<S, Ix2>) -> Self {
        let (rows, cols) = x.dim();
        Self::new(x.as_slice_mut().expect("a row-major matrix"), [rows, cols], cols)
    }
}

#[track_caller]
fn check(len: usize, [rows, cols]: [usize; 2], stride: usize) {
    let needed = if rows == 0 { 0 } else { (rows - 1) * stride + cols };
    assert!(cols <= stride || rows <= 1, "rows of {cols} overlap at a stride of {stride}");
    assert!(len >= needed, "a [{rows}, {cols}] panel of stride {stride} needs {needed} numbers, not {len}");
}
