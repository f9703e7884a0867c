//! From nested dictionaries to names such as `model.blocks.0.w`.

use std::collections::BTreeMap;

use super::PtProblem;
use super::pickle::Pickle;
use super::value::{Id, Value, View};

/// Greatest depth of nested dictionaries and lists.
pub(super) const MAX_DEPTH: usize = 64;

/// All tensors of a pickle of `len` bytes by flattened name, and the names of the dictionaries that were passed over because
/// a key above tensors is neither text nor a number.
pub(super) fn flatten(pickle: &Pickle, len: usize) -> Result<(BTreeMap<String, &View>, Vec<String>), PtProblem> {
    let mut flatten = Flatten {
        pickle,
        // A real file spends about its own length.
        budget: 4 * len + (1 << 16),
        len,
        name: String::new(),
        open: Vec::new(),
        found: BTreeMap::new(),
        skipped: Vec::new(),
    };
    flatten.walk(pickle.root())?;
    Ok((flatten.found, flatten.skipped))
}

/// Walks dictionaries and lists down to the tensors.
struct Flatten<'a> {
    pickle: &'a Pickle,
    budget: usize,
    len: usize,
    name: String,
    /// The dictionaries and lists from the root to here.
    open: Vec<Id>,
    found: BTreeMap<String, &'a View>,
    skipped: Vec<String>,
}

impl<'a> Flatten<'a> {
    fn walk(&mut self, id: Id) -> Result<(), PtProblem> {
        if self.open.contains(&id) {
            let name = std::mem::take(&mut self.name);
            return Err(PtProblem::Cycle { name });
        }
        if self.open.len() > MAX_DEPTH {
            return Err(PtProblem::TooDeep);
        }
        self.open.push(id);
        let pickle = self.pickle;
        match pickle.get(id) {
            Value::Tensor(view) => {
                self.spend(self.name.len() + 16 + 2 * pickle.axes(view).len())?;
                if self.found.insert(self.name.clone(), view).is_some() {
                    let name = std::mem::take(&mut self.name);
                    return Err(PtProblem::DuplicateTensor { name });
                }
            }
            Value::Dict(items) => {
                for &(key, value) in items {
                    match pickle.get(key) {
                        Value::Text(key) => self.enter(key, value)?,
                        Value::Int(key) => self.enter(&key.to_string(), value)?,
                        Value::Float(key) => self.enter(&key.to_string(), value)?,
                        _ if self.is_plain(value) => {}
                        _ => self.skip()?,
                    }
                }
            }
            Value::List(items) | Value::Tuple(items) => {
                for (i, &item) in items.iter().enumerate() {
                    self.enter(&i.to_string(), item)?;
                }
            }
            Value::Inert | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Global(_) | Value::Storage(_) => {}
        }
        self.open.pop();
        Ok(())
    }

    fn enter(&mut self, key: &str, value: Id) -> Result<(), PtProblem> {
        self.spend(1)?;
        if self.is_plain(value) {
            return Ok(());
        }
        let before = self.name.len();
        if self.open.len() > 1 {
            self.name.push('.');
        }
        self.name.push_str(key);
        self.walk(value)?;
        self.name.truncate(before);
        Ok(())
    }

    /// Notes that something in the dictionary at hand is passed over.
    fn skip(&mut self) -> Result<(), PtProblem> {
        if self.skipped.last() != Some(&self.name) {
            self.spend(self.name.len() + 16)?;
            self.skipped.push(self.name.clone());
        }
        Ok(())
    }

    /// True if a value certainly holds no tensor.
    fn is_plain(&self, id: Id) -> bool {
        !matches!(self.pickle.get(id), Value::Tensor(_) | Value::Dict(_) | Value::List(_) | Value::Tuple(_))
    }

    /// Shared dictionaries can unfold exponentially, and long keys repeat in every name below them: all
    /// that is kept of a tensor draws from one budget.
    fn spend(&mut self, cost: usize) -> Result<(), PtProblem> {
        match self.budget.checked_sub(cost) {
            Some(left) => self.budget = left,
            None => return Err(PtProblem::TooManyNames { len: self.len }),
        }
        Ok(())
    }
}
