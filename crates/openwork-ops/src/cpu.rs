//! Memory that is used again.

use std::collections::{BTreeMap, HashMap};

use openwork_sparse::{Nonzeros, Packed};

use crate::{Kept, Matrix};

/// Number format in which matrices read activations, and the gradients of their outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActivationDtype {
    /// f32, unrounded.
    #[default]
    F32,
    /// Rounded to bf16: less memory, and sparse products that take two thirds of the time. Sums stay in f32.
    Bf16,
}

/// Activations as a matrix reads them, `[features, tokens]`.
#[derive(Clone, Debug)]
pub enum Activations {
    /// f32, unrounded.
    F32(Matrix),
    /// Rounded to bf16.
    Bf16(Packed),
}

impl Activations {
    /// `[features, tokens]`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::F32(x) => [x.nrows(), x.ncols()],
            Self::Bf16(x) => x.shape(),
        }
    }

    /// Calls `f` with them as f32.
    pub fn as_f32<R>(&self, cpu: &mut Cpu, f: impl FnOnce(&Matrix, &mut Cpu) -> R) -> R {
        match self {
            Self::F32(x) => f(x, cpu),
            Self::Bf16(x) => {
                let x = cpu.unpacked(x);
                let result = f(&x, cpu);
                cpu.recycle(x);
                result
            }
        }
    }
}

impl From<Matrix> for Activations {
    fn from(x: Matrix) -> Self {
        Self::F32(x)
    }
}

/// Memory that one thread uses again from chunk to chunk: the operations of a training step have the same
/// shapes every time, and fetching fresh memory from the system would take as long as some of them do.
#[derive(Default)]
pub struct Cpu {
    /// By capacity.
    numbers: BTreeMap<usize, Vec<Vec<f32>>>,
    marks: BTreeMap<usize, Vec<Vec<u8>>>,
    packed: HashMap<[usize; 2], Vec<Packed>>,
    dtype: ActivationDtype,
    pub(crate) nonzeros: Nonzeros,
}

impl Cpu {
    /// An engine that holds no memory yet; [`Cpu::keep`] keeps activations in `dtype`.
    pub fn new(dtype: ActivationDtype) -> Self {
        Self { dtype, ..Self::default() }
    }

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

    /// Activations as matrices read them, in the number format of the engine.
    pub fn keep(&mut self, x: Matrix) -> Activations {
        match self.dtype {
            ActivationDtype::F32 => Activations::F32(x),
            ActivationDtype::Bf16 => {
                let packed = self.pack(&x);
                self.recycle(x);
                Activations::Bf16(packed)
            }
        }
    }

    /// Takes the memory of activations that are no longer needed.
    pub fn recycle_activations(&mut self, x: Activations) {
        match x {
            Activations::F32(x) => self.recycle(x),
            Activations::Bf16(x) => self.recycle_packed(x),
        }
    }

    pub(crate) fn pack(&mut self, x: &Matrix) -> Packed {
        let mut packed = self.packed.get_mut(x.shape()).and_then(Vec::pop).unwrap_or_default();
        packed.pack(x);
        packed
    }

    pub(crate) fn unpacked(&mut self, x: &Packed) -> Matrix {
        let mut y = self.matrix(x.shape().into());
        x.unpack(&mut y);
        y
    }

    pub(crate) fn recycle_packed(&mut self, x: Packed) {
        self.packed.entry(x.shape()).or_default().push(x);
    }

    /// Bytes of the memory that is not in use now.
    pub fn bytes(&self) -> usize {
        let numbers = self.numbers.values().flatten().map(|x| 4 * x.capacity()).sum::<usize>();
        let marks = self.marks.values().flatten().map(Vec::capacity).sum::<usize>();
        let packed = self.packed.values().flatten().map(Packed::bytes).sum::<usize>();
        numbers + marks + packed + self.nonzeros.bytes()
    }

    /// Numbers to be overwritten.
    pub(crate) fn vector(&mut self, len: usize) -> Vec<f32> {
        reused(&mut self.numbers, len)
    }

    pub(crate) fn recycle_vector(&mut self, x: Vec<f32>) {
        self.numbers.entry(x.capacity()).or_default().push(x);
    }

    /// Marks to be overwritten.
    pub(crate) fn kept(&mut self, shape: (usize, usize)) -> Kept {
        let len = shape.0 * shape.1;
        let data = reused(&mut self.marks, len);
        Kept::from_shape_vec(shape, data).expect("as long as the shape")
    }

    /// Takes the memory of marks that are no longer needed.
    pub fn recycle_kept(&mut self, x: Kept) {
        let data = x.into_raw_vec_and_offset().0;
        self.marks.entry(data.capacity()).or_default().push(data);
    }
}

/// The smallest memory that is large enough and not a quarter too large, or new memory. Batches of prompts have another
/// number of columns in every step, chunks of training the same one.
fn reused<T: Copy + Default>(free: &mut BTreeMap<usize, Vec<Vec<T>>>, len: usize) -> Vec<T> {
    let found = free.range_mut(len..=len + len / 4).find_map(|(_, of_size)| of_size.pop());
    match found {
        Some(mut memory) => {
            memory.resize(len, T::default());
            memory
        }
        None => vec![T::default(); len],
    }
}
