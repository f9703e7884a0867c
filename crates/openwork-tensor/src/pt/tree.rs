//! A checkpoint as the nested value that it is, for files that hold more than tensors.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::flatten::MAX_DEPTH;
use super::locate::Located;
use super::pickle::Pickle;
use super::value::{Id, Value};
use super::{PtError, PtProblem, gathered, opened};
use crate::source::Source;
use crate::tensor::Tensor;

/// A value of a checkpoint, as nested as in the file. Nothing in the file is ever run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PtNode {
    /// None, a boolean, bytes, or anything else that is neither a number, a text, a collection nor a tensor.
    Other,
    /// A whole number.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list or a tuple.
    List(Vec<PtNode>),
    /// A dictionary, in the order of the file.
    Dict(Vec<(PtNode, PtNode)>),
    /// A tensor.
    Tensor(Tensor),
}

impl PtNode {
    /// Reads a checkpoint whole.
    ///
    /// # Errors
    /// As [`PtFile::open`](super::PtFile::open) and [`PtFile::tensor`](super::PtFile::tensor), and when values that the file shares unfold to far more than it holds.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PtError> {
        let path = path.as_ref().to_owned();
        let source = Source::open(&path).map_err(|source| PtError::Io { path: path.clone(), source })?;
        Self::read(&source, &path)
    }

    /// Reads a checkpoint that is in memory already. Errors call it `(memory)`.
    ///
    /// # Errors
    /// As [`PtNode::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, PtError> {
        Self::read(&Source::Memory(bytes), "(memory)".as_ref())
    }

    fn read(source: &Source, path: &Path) -> Result<Self, PtError> {
        let refused = |problem| PtError::Refused { path: path.to_owned(), source: problem };
        let (pickle, len, storages) = opened(source).map_err(refused)?;
        let storages = storages.iter().map(|(name, range)| (name.as_str(), range.clone())).collect();
        // A real file has every value once, or a few times.
        let budget = 4 * len + (1 << 16);
        let bytes = source.len().saturating_mul(4).saturating_add(1 << 20);
        let mut builder = Builder { pickle: &pickle, storages, source, path, len, budget, bytes, open: vec![] };
        builder.node(pickle.root(), &mut String::new())
    }

    /// The value of a text key of a dictionary.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let is = |other: &Self| matches!(other, Self::Text(text) if text == key);
        self.entries().iter().find(|(other, _)| is(other)).map(|(_, value)| value)
    }

    /// Entries of a dictionary; none of anything else.
    pub fn entries(&self) -> &[(Self, Self)] {
        if let Self::Dict(entries) = self { entries } else { &[] }
    }

    /// Items of a list or a tuple; none of anything else.
    pub fn items(&self) -> &[Self] {
        if let Self::List(items) = self { items } else { &[] }
    }

    /// A number, a whole one too, or that of a tensor of one element.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::Tensor(_) => self.numbers().filter(|numbers| numbers.len() == 1).map(|numbers| numbers[0]),
            _ => None,
        }
    }

    /// Numbers of a list, or of a tensor in row-major order.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        match self {
            Self::List(items) => items.iter().map(Self::number).collect(),
            Self::Tensor(tensor) => Some(match tensor {
                Tensor::F64(values) => values.iter().copied().collect(),
                Tensor::I64(values) => values.iter().map(|&x| x as f64).collect(),
                Tensor::I32(values) => values.iter().map(|&x| f64::from(x)).collect(),
                Tensor::U16(values) => values.iter().map(|&x| f64::from(x)).collect(),
                Tensor::F32(_) | Tensor::F16(_) | Tensor::Bf16(_) => {
                    tensor.to_f32()?.iter().map(|&x| f64::from(x)).collect()
                }
            }),
            _ => None,
        }
    }
}

struct Builder<'a> {
    pickle: &'a Pickle,
    storages: BTreeMap<&'a str, Range<u64>>,
    source: &'a Source,
    path: &'a Path,
    len: usize,
    /// Values, and bytes of tensors, that are still read.
    budget: usize,
    bytes: u64,
    /// Collections from the root to here.
    open: Vec<Id>,
}

impl Builder<'_> {
    fn refused(&self, problem: PtProblem) -> PtError {
        PtError::Refused { path: self.path.to_owned(), source: problem }
    }

    fn node(&mut self, id: Id, name: &mut String) -> Result<PtNode, PtError> {
        let too_many = || PtProblem::TooManyNames { len: self.len };
        self.budget = self.budget.checked_sub(1).ok_or_else(|| self.refused(too_many()))?;
        if self.open.contains(&id) {
            return Err(self.refused(PtProblem::Cycle { name: name.clone() }));
        }
        if self.open.len() > MAX_DEPTH {
            return Err(self.refused(PtProblem::TooDeep));
        }
        self.open.push(id);
        let pickle = self.pickle;
        let node = match pickle.get(id) {
            Value::Int(number) => PtNode::Int(*number),
            Value::Float(number) => PtNode::Float(*number),
            Value::Text(text) => {
                self.spend(text.len() as u64)?;
                PtNode::Text(text.to_string())
            }
            Value::List(items) | Value::Tuple(items) => {
                let items = items.iter().enumerate().map(|(i, &item)| self.under(&i.to_string(), item, name));
                PtNode::List(items.collect::<Result<_, _>>()?)
            }
            Value::Dict(entries) => {
                let entry = |&(key, value): &(Id, Id)| {
                    let key = self.node(key, name)?;
                    let part = match &key {
                        PtNode::Text(text) => text.chars().take(80).collect(),
                        PtNode::Int(number) => number.to_string(),
                        PtNode::Float(number) => number.to_string(),
                        _ => "?".to_owned(),
                    };
                    Ok((key, self.under(&part, value, name)?))
                };
                PtNode::Dict(entries.iter().map(entry).collect::<Result<_, PtError>>()?)
            }
            Value::Tensor(view) => {
                let located =
                    Located::new(name, pickle, view, &self.storages).map_err(|problem| self.refused(problem))?;
                self.spend(located.bytes())?;
                PtNode::Tensor(gathered(&located, self.source, self.path, name)?)
            }
            Value::Inert | Value::Global(_) | Value::Storage(_) => PtNode::Other,
        };
        self.open.pop();
        Ok(node)
    }

    fn under(&mut self, part: &str, id: Id, name: &mut String) -> Result<PtNode, PtError> {
        let before = name.len();
        if before > 0 {
            name.push('.');
        }
        name.push_str(part);
        let node = self.node(id, name);
        name.truncate(before);
        node
    }

    fn spend(&mut self, bytes: u64) -> Result<(), PtError> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| self.refused(PtProblem::TooManyNames { len: self.len }))?;
        Ok(())
    }
}
