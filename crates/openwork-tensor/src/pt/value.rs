//! The values of a pickle, and the names that it may use.

use std::rc::Rc;

use super::kind::{Kind, dtype, storage};

/// Index of a value in the arena.
pub(super) type Id = u32;

/// A value.
#[derive(Debug)]
pub(super) enum Value {
    /// Anything that cannot lead to a tensor: None, booleans, bytes, devices.
    Inert,
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage>),
    Tensor(Box<View>),
}

/// The names a file may use.
#[derive(Debug, Clone, Copy)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensorV2,
    RebuildTensorV3,
    RebuildParameter,
    Size,
    Device,
    /// Form of bytes in protocol 2: `_codecs.encode(text, "latin1")`.
    Encode,
    UntypedStorage,
    Storage(Kind),
    Dtype(Kind),
}

/// A storage a tensor refers to.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) key: Rc<str>,
    /// `None` for an untyped one.
    pub(super) kind: Option<Kind>,
    /// Number of elements, or of bytes if untyped.
    pub(super) len: u64,
}

/// A strided view of a storage. Its parts stay in the arena: a file can repeat a view in a few bytes.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) storage: Id,
    pub(super) kind: Kind,
    /// Counts elements.
    pub(super) offset: u64,
    pub(super) shape: Id,
    pub(super) strides: Id,
}

/// The list of names a file may use. Everything else is refused by name.
pub(super) fn global(module: &str, name: &str) -> Option<Global> {
    match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("_codecs", "encode") => Some(Global::Encode),
        ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensorV2),
        ("torch._utils", "_rebuild_tensor_v3") => Some(Global::RebuildTensorV3),
        ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
        ("torch", "Size") => Some(Global::Size),
        ("torch", "device") => Some(Global::Device),
        ("torch.storage", "UntypedStorage") => Some(Global::UntypedStorage),
        ("torch", name) => storage(name).map(Global::Storage).or_else(|| dtype(name).map(Global::Dtype)),
        _ => None,
    }
}
