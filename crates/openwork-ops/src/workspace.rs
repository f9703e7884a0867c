//! Memory that is used again.

use std::collections::HashMap;

use openwork_sparse::Nonzeros;

use crate::{Kept, Matrix};

/// Memory that one thread uses again from chunk to chunk: the operations of a training step have the same
/// shapes every time, and fetching fresh memory from the system would take as long as some of them do.
#[derive(Default)]
pub struct Workspace {
    numbers: HashMap<usize, Vec<Vec<f32>>>,
    marks: HashMap<usize, Vec<Vec<u8>>>,
    pub(crate) nonzeros: Nonzeros,
}

impl Workspace {
    /// A matrix to be overwritten: it holds whatever its memory held.
    pub fn matrix(&mut self, shape: (usize, usize)) -> Matrix {
        let data = self.vector(shape.0 * shape.1);
        Matrix::from_shape_vec(shape, data).expect("as long as the shape")
    }

    /// A copy of `x`.
    pub fn copy(&mut self, x: &Matrix) -> Matrix {
        let mut copy = self.matrix(x.dim());
        copy.assign(x);
        copy
    }

    /// Takes the memory of a matrix that is no longer needed.
    pub fn recycle(&mut self, x: Matrix) {
        self.recycle_vector(x.into_raw_vec_and_offset().0);
    }

    /// Bytes of the memory that is not in use now.
    pub fn bytes(&self) -> usize {
        let numbers = self.numbers.values().flatten().map(|x| 4 * x.capacity()).sum::<usize>();
        let marks = self.marks.values().flatten().map(Vec::capacity).sum::<usize>();
        numbers + marks + self.nonzeros.bytes()
    }

    /// Numbers to be overwritten.
    pub(crate) fn vector(&mut self, len: usize) -> Vec<f32> {
        self.numbers.get_mut(&len).and_then(Vec::pop).unwrap_or_else(|| vec![0.0; len])
    }

    pub(crate) fn recycle_vector(&mut self, x: Vec<f32>) {
        self.numbers.entry(x.len()).or_default().push(x);
    }

    /// Marks to be overwritten.
    pub(crate) fn kept(&mut self, shape: (usize, usize)) -> Kept {
        let len = shape.0 * shape.1;
        let data = self.marks.get_mut(&len).and_then(Vec::pop).unwrap_or_else(|| vec![0; len]);
        Kept::from_shape_vec(shape, data).expect("as long as the shape")
    }

    /// Takes the memory of marks that are no longer needed.
    pub fn recycle_kept(&mut self, x: Kept) {
        let data = x.into_raw_vec_and_offset().0;
        self.marks.entry(data.len()).or_default().push(data);
    }
}
