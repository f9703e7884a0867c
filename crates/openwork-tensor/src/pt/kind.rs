//! The kinds of numbers PyTorch stores. All are known by size, so that a file may hold them beside others;
//! those of [`Dtype`] can be read.

use crate::tensor::Dtype;

/// A kind of number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// PyTorch's name of it, after `torch.`.
    pub(super) name: &'static str,
    /// Bytes of one.
    pub(super) size: u64,
    /// Element kind of this crate, if it can be read.
    pub(super) dtype: Option<Dtype>,
}

/// Storage class, kind, size, and what it is here. Kinds without a class are stored untyped.
#[rustfmt::skip]
const KINDS: &[(&str, &str, u64, Option<Dtype>)] = &[
    ("FloatStorage",         "float32",         4, Some(Dtype::F32)),
    ("HalfStorage",          "float16",         2, Some(Dtype::F16)),
    ("BFloat16Storage",      "bfloat16",        2, Some(Dtype::Bf16)),
    ("LongStorage",          "int64",           8, Some(Dtype::I64)),
    ("",                     "uint16",          2, Some(Dtype::U16)),
    ("DoubleStorage",        "float64",         8, Some(Dtype::F64)),
    ("IntStorage",           "int32",           4, Some(Dtype::I32)),
    ("ShortStorage",         "int16",           2, None),
    ("CharStorage",          "int8",            1, None),
    ("ByteStorage",          "uint8",           1, None),
    ("BoolStorage",          "bool",            1, None),
    ("ComplexFloatStorage",  "complex64",       8, None),
    ("ComplexDoubleStorage", "complex128",     16, None),
    ("",                     "uint32",          4, None),
    ("",                     "uint64",          8, None),
    ("",                     "float8_e4m3fn",   1, None),
    ("",                     "float8_e4m3fnuz", 1, None),
    ("",                     "float8_e5m2",     1, None),
    ("",                     "float8_e5m2fnuz", 1, None),
];

/// The kind that a storage class holds.
pub(super) fn storage(class: &str) -> Option<Kind> {
    KINDS.iter().find(|k| k.0 == class && !class.is_empty()).map(kind)
}

/// The kind that a dtype stands for.
pub(super) fn dtype(name: &str) -> Option<Kind> {
    KINDS.iter().find(|k| k.1 == name).map(kind)
}

fn kind(&(_, name, size, dtype): &(&str, &'static str, u64, Option<Dtype>)) -> Kind {
    Kind { name, size, dtype }
}
