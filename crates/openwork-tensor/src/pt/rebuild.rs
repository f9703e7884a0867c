//! Calls of the few functions that a checkpoint may name: they build plain data.

use super::kind::Kind;
use super::machine::{INERT, Machine, Step};
use super::value::{Global, Id, Storage, Value, View};

/// PyTorch's own limit on the number of axes.
const MAX_AXES: usize = 64;

impl Machine<'_> {
    /// A persistent id: how PyTorch refers to a storage.
    pub(super) fn storage(&mut self) -> Step<()> {
        let id = self.pop()?;
        let fields = self.tuple(id)?;
        let fields: Vec<_> = fields.iter().map(|&id| self.get(id)).collect();
        let [Value::Text(tag), Value::Global(class), Value::Text(key), _, Value::Int(len)] = fields[..] else {
            return Err("a persistent id is not (\"storage\", class, key, device, length)".into());
        };
        let kind = match class {
            Global::UntypedStorage => None,
            Global::Storage(kind) => Some(*kind),
            _ => return Err("a persistent id names no storage class".into()),
        };
        if &**tag != "storage" {
            return Err("a persistent id is no storage".into());
        }
        let storage = Storage {
            key: key.clone(),
            kind,
            len: u64::try_from(*len).map_err(|_| "a storage has a negative length")?,
        };
        self.new_value(Value::Storage(Box::new(storage)))
    }

    /// `function(*arguments)` for the few functions of the list.
    pub(super) fn call(&mut self, function: Id, arguments: Id) -> Step<()> {
        let &Value::Global(function) = self.get(function) else {
            return Err("it calls something that is no global".into());
        };
        let arguments = self.tuple(arguments)?;
        let value = match (function, arguments) {
            (Global::OrderedDict, []) => Value::Dict(Vec::new()),
            (Global::RebuildTensorV2, _) => Value::Tensor(Box::new(self.tensor_v2(arguments)?)),
            (Global::RebuildTensorV3, _) => Value::Tensor(Box::new(self.tensor_v3(arguments)?)),
            (Global::RebuildParameter, &[tensor, ..]) => {
                self.stack.push(tensor);
                return Ok(());
            }
            (Global::Size, &[sizes]) => {
                self.stack.push(sizes);
                return Ok(());
            }
            (Global::Device | Global::Encode, _) => Value::Inert,
            _ => return Err("it calls a class, or a function with unusual arguments".into()),
        };
        self.new_value(value)
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`.
    fn tensor_v2(&self, arguments: &[Id]) -> Step<View> {
        let (&[storage, offset, shape, strides, _, _], metadata) =
            arguments.split_first_chunk().ok_or("a tensor has too few fields")?;
        self.no_metadata(metadata)?;
        let Value::Storage(class) = self.get(storage) else {
            return Err("a tensor has no storage".into());
        };
        let kind = class.kind.ok_or("a tensor has no kind of number")?;
        self.view(storage, kind, offset, shape, strides)
    }

    /// `_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])`.
    fn tensor_v3(&self, arguments: &[Id]) -> Step<View> {
        let (&[storage, offset, shape, strides, _, _, kind], metadata) =
            arguments.split_first_chunk().ok_or("a tensor has too few fields")?;
        self.no_metadata(metadata)?;
        match (self.get(storage), self.get(kind)) {
            (Value::Storage(class), &Value::Global(Global::Dtype(kind))) if class.kind.is_none() => {
                self.view(storage, kind, offset, shape, strides)
            }
            _ => Err("a tensor's storage or kind of number is unclear".into()),
        }
    }

    /// The metadata marks views that are conjugated or negated on reading; ignoring it would give wrong numbers.
    fn no_metadata(&self, metadata: &[Id]) -> Step<()> {
        match metadata {
            [] | [INERT] => Ok(()),
            &[id] if matches!(self.get(id), Value::Dict(items) if items.is_empty()) => Ok(()),
            _ => Err("a tensor is stored conjugated or negated".into()),
        }
    }

    /// Checks everything that [`Pickle::storage_of`] and [`Pickle::axes`] rely on.
    fn view(&self, storage: Id, kind: Kind, offset: Id, shape: Id, strides: Id) -> Step<View> {
        let size = |&id: &Id| -> Step<u64> {
            match self.get(id) {
                &Value::Int(n) => u64::try_from(n).map_err(|_| "a tensor's size is negative".into()),
                _ => Err("a tensor's size is no whole number".into()),
            }
        };
        let (sizes, steps) = (self.tuple(shape)?, self.tuple(strides)?);
        if sizes.len() != steps.len() {
            return Err("a tensor has not one stride for each axis".into());
        }
        if sizes.len() > MAX_AXES {
            return Err("a tensor has more axes than PyTorch allows".into());
        }
        for id in sizes.iter().chain(steps) {
            size(id)?;
        }
        Ok(View { storage, kind, offset: size(&offset)?, shape, strides })
    }
}
