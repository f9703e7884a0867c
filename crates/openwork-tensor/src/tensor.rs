//! [`Tensor`]: one array of any of the kinds this project stores.

use std::fmt;

use half::{bf16, f16};
use ndarray::{Array1, Array2, ArrayD, CowArray, IxDyn};

/// An array of one of the stored element kinds, in row-major order or any other `ndarray` layout.
#[derive(Debug, Clone, PartialEq)]
pub enum Tensor {
    /// 64-bit floats, as numpy and double-precision runs store them.
    F64(ArrayD<f64>),
    /// 32-bit floats: weights, activations.
    F32(ArrayD<f32>),
    /// IEEE half floats.
    F16(ArrayD<f16>),
    /// bfloat16: the upper half of a 32-bit float.
    Bf16(ArrayD<bf16>),
    /// 64-bit integers: token ids as PyTorch stores them, indices.
    I64(ArrayD<i64>),
    /// 32-bit integers: token ids.
    I32(ArrayD<i32>),
    /// 16-bit unsigned integers: token ids, small indices.
    U16(ArrayD<u16>),
}

/// The element kind of a [`Tensor`]; displayed as safetensors spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// IEEE half float.
    F16,
    /// bfloat16.
    Bf16,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 16-bit unsigned integer.
    U16,
}

/// A tensor holds a number that is NaN or infinite.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("tensor `{name}` holds {value} at {index:?}, but every number has to be finite")]
pub struct NotFinite {
    /// The tensor.
    pub name: String,
    /// Index of the first such number.
    pub index: Vec<usize>,
    /// The number.
    pub value: f32,
}

impl Tensor {
    /// The length of each axis; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F64(a) => a.shape(),
            Self::F32(a) => a.shape(),
            Self::F16(a) => a.shape(),
            Self::Bf16(a) => a.shape(),
            Self::I64(a) => a.shape(),
            Self::I32(a) => a.shape(),
            Self::U16(a) => a.shape(),
        }
    }

    /// The element kind.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F64(_) => Dtype::F64,
            Self::F32(_) => Dtype::F32,
            Self::F16(_) => Dtype::F16,
            Self::Bf16(_) => Dtype::Bf16,
            Self::I64(_) => Dtype::I64,
            Self::I32(_) => Dtype::I32,
            Self::U16(_) => Dtype::U16,
        }
    }

    /// The numbers as 32-bit floats, for the float kinds; `None` for the integer kinds.
    ///
    /// Every half and bfloat16 number is a 32-bit float too, so nothing is rounded; the payload of a NaN
    /// becomes the upper bits of the wider payload. 64-bit floats are rounded to the nearest; those beyond the
    /// range of 32 bits become infinite.
    #[must_use]
    pub fn to_f32(&self) -> Option<ArrayD<f32>> {
        match self {
            Self::F64(a) => Some(a.mapv(|x| x as f32)),
            Self::F32(a) => Some(a.clone()),
            Self::F16(a) => Some(a.mapv(widen_f16)),
            Self::Bf16(a) => Some(a.mapv(widen_bf16)),
            Self::I64(_) | Self::I32(_) | Self::U16(_) => None,
        }
    }

    /// True if both tensors have the same kind, shape and bits. Unlike `==`, a NaN equals a NaN of the same
    /// payload, and `0.0` differs from `-0.0`.
    #[must_use]
    pub fn same_bits(&self, other: &Self) -> bool {
        fn same<T: Copy, B: PartialEq>(a: &ArrayD<T>, b: &ArrayD<T>, f: fn(T) -> B) -> bool {
            a.shape() == b.shape() && a.iter().zip(b).all(|(&x, &y)| f(x) == f(y))
        }
        match (self, other) {
            (Self::F64(a), Self::F64(b)) => same(a, b, f64::to_bits),
            (Self::F32(a), Self::F32(b)) => same(a, b, f32::to_bits),
            (Self::F16(a), Self::F16(b)) => same(a, b, f16::to_bits),
            (Self::Bf16(a), Self::Bf16(b)) => same(a, b, bf16::to_bits),
            (Self::I64(a), Self::I64(b)) => a == b,
            (Self::I32(a), Self::I32(b)) => a == b,
            (Self::U16(a), Self::U16(b)) => a == b,
            _ => false,
        }
    }
}

/// Checks that a tensor holds no NaN and no infinity. Integers always pass.
///
/// # Errors
/// [`NotFinite`] names the tensor (`name`), the first place and the number there.
pub fn ensure_finite(tensor: &Tensor, name: &str) -> Result<(), NotFinite> {
    fn first<T: Copy>(array: &ArrayD<T>, f: impl Fn(T) -> f32) -> Option<(Vec<usize>, f32)> {
        let mut found = array.indexed_iter().map(|(index, &x)| (index, f(x)));
        let (index, value) = found.find(|(_, x)| !x.is_finite())?;
        Some((ndarray::Dimension::slice(&index).to_vec(), value))
    }
    let found = match tensor {
        Tensor::F64(a) => first(a, |x| if x.is_finite() { 0.0 } else { x as f32 }),
        Tensor::F32(a) => first(a, |x| x),
        Tensor::F16(a) => first(a, widen_f16),
        Tensor::Bf16(a) => first(a, widen_bf16),
        Tensor::I64(_) | Tensor::I32(_) | Tensor::U16(_) => None,
    };
    match found {
        None => Ok(()),
        Some((index, value)) => Err(NotFinite { name: name.to_owned(), index, value }),
    }
}

impl Dtype {
    /// The kind as safetensors spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::U16 => "U16",
        }
    }

    /// Bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 | Self::U16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

macro_rules! from_array {
    ($($kind:ident: $t:ty),*) => {$(
        impl From<ArrayD<$t>> for Tensor {
            fn from(array: ArrayD<$t>) -> Self {
                Self::$kind(array)
            }
        }
    )*};
}
from_array!(F64: f64, F32: f32, F16: f16, Bf16: bf16, I64: i64, I32: i32, U16: u16);

impl From<Array1<f32>> for Tensor {
    fn from(array: Array1<f32>) -> Self {
        Self::F32(array.into_dyn())
    }
}

impl From<Array2<f32>> for Tensor {
    fn from(array: Array2<f32>) -> Self {
        Self::F32(array.into_dyn())
    }
}

/// An array's elements in row-major order, copied only if they do not lie so already.
pub(crate) fn row_major<T: Clone>(array: &ArrayD<T>) -> CowArray<'_, T, IxDyn> {
    array.as_standard_layout()
}

/// bfloat16 to f32, exact; `half`'s own conversion turns signalling NaNs into quiet ones.
pub(crate) fn widen_bf16(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// Half to f32, exact; `half`'s own conversion turns signalling NaNs into quiet ones.
pub(crate) fn widen_f16(x: f16) -> f32 {
    if !x.is_nan() {
        return x.to_f32();
    }
    let bits = u32::from(x.to_bits());
    f32::from_bits((bits & 0x8000) << 16 | 0x7f80_0000 | (bits & 0x03ff) << 13)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_and_bfloat_widens_exactly() {
        for bits in 0..=u16::MAX {
            let (h, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            let (wide_h, wide_b) = (widen_f16(h), widen_bf16(b));
            assert_eq!(h.is_nan(), wide_h.is_nan());
            assert_eq!(b.is_nan(), wide_b.is_nan());
            // Different inputs keep different outputs, NaNs included: the way back is exact.
            assert_eq!((wide_b.to_bits() >> 16) as u16, bits);
            if h.is_nan() {
                let back = wide_h.to_bits();
                let back = (back >> 16 & 0x8000) | 0x7c00 | (back >> 13 & 0x03ff);
                assert_eq!(back, u32::from(bits));
            } else {
                assert_eq!(f16::from_f32(wide_h).to_bits(), bits);
            }
        }
    }

    #[test]
    fn the_first_number_that_is_not_finite_is_named() {
        let mut a = ArrayD::from_elem(IxDyn(&[2, 3]), f16::ZERO);
        assert_eq!(ensure_finite(&a.clone().into(), "w"), Ok(()));
        a[[1, 2]] = f16::NEG_INFINITY;
        let error = ensure_finite(&a.into(), "w").unwrap_err();
        assert_eq!(error.to_string(), "tensor `w` holds -inf at [1, 2], but every number has to be finite");
    }

    #[test]
    fn integers_do_not_widen_and_are_finite() {
        let t = Tensor::from(ArrayD::from_elem(IxDyn(&[2]), i64::MAX));
        assert_eq!(t.to_f32(), None);
        assert_eq!(ensure_finite(&t, "t"), Ok(()));
        assert_eq!(format!("{:>5}", t.dtype()), "  I64");
    }
}
