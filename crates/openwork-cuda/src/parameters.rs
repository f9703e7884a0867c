//! The parameters of a model in device memory, and their update.
//!
//! All lie one after the other in flat arrays: weights, gradients, Adam's two moments; so that an update is a few
//! launches for all of them (`kernels/update.cu`). Beside a matrix lie the sparse forms of it and its transpose, while
//! it is sparse enough for them.

mod update;

use std::sync::Arc;

pub use update::{AdamConstants, Floor, MOST_PER_UNIT, Outcome, Selection};

use crate::{Arg, Buffer, Gpu, GpuError};

/// Parameters begin at multiples of so many entries, for wide loads.
const ALIGN: usize = 64;

/// Size of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Nonzeros for which the sparse forms have room: 0 for a parameter that never has them.
    pub room: usize,
}

/// Device memory of all parameters.
#[derive(Debug)]
struct Flat {
    w: Buffer<f32>,
    gradient: Buffer<f32>,
    m: Buffer<f32>,
    v: Buffer<f32>,
    row_ptr: Buffer<u32>,
    col_ptr: Buffer<u32>,
    row_order: Buffer<u32>,
    col_order: Buffer<u32>,
    pairs: Buffer<[u32; 2]>,
    col_pairs: Buffer<[u32; 2]>,
}

/// Offsets of a parameter in each of them.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    entry: usize,
    unit: usize,
    candidate: usize,
    candidates: usize,
    row: usize,
    col: usize,
    nonzero: usize,
    word: usize,
}

/// All parameters, and what an update works in.
#[derive(Debug)]
pub struct Parameters {
    gpu: Gpu,
    shapes: Vec<Shape>,
    places: Vec<Place>,
    flat: Arc<Flat>,
    /// True for the parameters that have their sparse forms now.
    sparse: Vec<bool>,
    was: Buffer<u32>,
    unit_keys: Buffer<u64>,
    bracket: Buffer<u64>,
    counts: Buffer<u32>,
    candidates: Buffer<u64>,
    threshold: Buffer<u64>,
    report: Buffer<u32>,
    scalar: Buffer<f32>,
}

/// A bracket around every key.
const EVERYTHING: [u64; 2] = [0, 1 << 63];

impl Parameters {
    /// Room for parameters, all zero.
    pub fn new(gpu: &Gpu, shapes: &[Shape]) -> Self {
        let mut end = Place::default();
        let places: Vec<Place> = shapes
            .iter()
            .map(|&Shape { rows, cols, room }| {
                let len = rows * cols;
                let place = Place { candidates: (len / 16).clamp(len.min(1024), 1 << 20), ..end };
                end = Place {
                    entry: place.entry + len.next_multiple_of(ALIGN),
                    unit: place.unit + rows.max(cols),
                    candidate: place.candidate + place.candidates,
                    candidates: 0,
                    row: place.row + rows + 1,
                    col: place.col + cols + 1,
                    nonzero: place.nonzero + room,
                    word: place.word + len.div_ceil(32),
                };
                place
            })
            .collect();
        let n = shapes.len();
        let flat = Flat {
            w: gpu.zeros(end.entry),
            gradient: gpu.zeros(end.entry),
            m: gpu.zeros(end.entry),
            v: gpu.zeros(end.entry),
            row_ptr: gpu.zeros(end.row),
            col_ptr: gpu.zeros(end.col),
            row_order: gpu.buffer(end.row),
            col_order: gpu.buffer(end.col),
            pairs: gpu.buffer(end.nonzero),
            col_pairs: gpu.buffer(end.nonzero),
        };
        Self {
            shapes: shapes.to_vec(),
            places,
            flat: Arc::new(flat),
            sparse: vec![false; n],
            was: gpu.buffer(end.word),
            unit_keys: gpu.buffer(end.unit),
            bracket: gpu.upload(&EVERYTHING.repeat(n)),
            counts: gpu.zeros(2 * n),
            candidates: gpu.buffer(end.candidate),
            threshold: gpu.zeros(n),
            report: gpu.zeros(2 * n),
            scalar: gpu.zeros(2),
            gpu: gpu.clone(),
        }
    }

    /// A handle to a parameter as it is now: take another after an update.
    pub fn get(&self, number: usize) -> Parameter {
        let (Shape { rows, cols, room }, place) = (self.shapes[number], self.places[number]);
        Parameter { flat: self.flat.clone(), rows, cols, room, place, sparse: self.sparse[number] }
    }

    /// Replaces the weights of a parameter, row by row.
    pub fn set_weights(&self, number: usize, w: &[f32]) {
        self.set(&self.flat.w, number, w);
    }

    /// Replaces Adam's moments of a parameter.
    pub fn set_moments(&self, number: usize, m: &[f32], v: &[f32]) {
        self.set(&self.flat.m, number, m);
        self.set(&self.flat.v, number, v);
    }

    #[track_caller]
    fn set(&self, buffer: &Buffer<f32>, number: usize, values: &[f32]) {
        assert_eq!(values.len(), self.len(number), "values of parameter {number}");
        buffer.upload_at(self.places[number].entry, values);
    }

    /// Weights of a parameter.
    ///
    /// # Errors
    /// The first error of the device.
    pub fn weights(&self, number: usize) -> Result<Vec<f32>, GpuError> {
        self.read(&self.flat.w, number)
    }

    /// The gradient of a parameter.
    ///
    /// # Errors
    /// The first error of the device.
    pub fn gradient(&self, number: usize) -> Result<Vec<f32>, GpuError> {
        self.read(&self.flat.gradient, number)
    }

    /// Adam's moments of a parameter.
    ///
    /// # Errors
    /// The first error of the device.
    pub fn moments(&self, number: usize) -> Result<[Vec<f32>; 2], GpuError> {
        Ok([self.read(&self.flat.m, number)?, self.read(&self.flat.v, number)?])
    }

    fn read(&self, buffer: &Buffer<f32>, number: usize) -> Result<Vec<f32>, GpuError> {
        let first = self.places[number].entry;
        buffer.download_range(first..first + self.len(number))
    }

    fn len(&self, number: usize) -> usize {
        self.shapes[number].rows * self.shapes[number].cols
    }

    /// Makes all gradients zero.
    pub fn zero_gradients(&self) {
        self.flat.gradient.fill_zero();
    }
}

/// A parameter among the others, as operations use it.
#[derive(Clone, Debug)]
pub struct Parameter {
    flat: Arc<Flat>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) room: usize,
    place: Place,
    sparse: bool,
}

/// Arguments for a sparse form.
pub(crate) struct Lines {
    pub ptr: Arg,
    pub pairs: Arg,
    pub order: Arg,
}

impl Parameter {
    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// True if it has its sparse forms.
    pub fn is_sparse(&self) -> bool {
        self.sparse
    }

    pub(crate) fn gpu(&self) -> &Gpu {
        self.flat.w.gpu()
    }

    pub(crate) fn weights(&self) -> Arg {
        self.flat.w.arg(self.place.entry, self.rows * self.cols)
    }

    pub(crate) fn gradient(&self) -> Arg {
        self.flat.gradient.arg(self.place.entry, self.rows * self.cols)
    }

    /// The nonzeros of the rows, if it has its sparse forms.
    pub(crate) fn by_row(&self) -> Option<Lines> {
        let (flat, place) = (&self.flat, self.place);
        self.sparse.then(|| Lines {
            ptr: flat.row_ptr.arg(place.row, self.rows + 1),
            pairs: flat.pairs.arg(place.nonzero, self.room),
            order: flat.row_order.arg(place.row, self.rows),
        })
    }

    /// The nonzeros of the columns, if it has its sparse forms.
    pub(crate) fn by_column(&self) -> Option<Lines> {
        let (flat, place) = (&self.flat, self.place);
        self.sparse.then(|| Lines {
            ptr: flat.col_ptr.arg(place.col, self.cols + 1),
            pairs: flat.col_pairs.arg(place.nonzero, self.room),
            order: flat.col_order.arg(place.col, self.cols),
        })
    }
}
