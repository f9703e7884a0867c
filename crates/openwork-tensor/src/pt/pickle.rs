//! A pickle machine that builds data and runs nothing.
//!
//! Real unpickling calls any function the file names. Here a name (a GLOBAL) outside [`global`]'s list ends
//! the reading at once, and the names inside it stand for plain data: a dictionary, a tensor's description,
//! a kind of number. Values live in an arena and the stack holds their indices, so that a value that occurs
//! twice is one value (as in Python) and memory stays proportional to the pickle's length.

use super::PtProblem;
use super::machine::{EMPTY_TUPLE, INERT, Machine, Step, Stop};
use super::value::{Id, Storage, Value, View, global};

/// All values of a pickle, and which of them is the result.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Runs the machine over a whole pickle.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, PtProblem> {
        let mut machine = Machine::new(bytes);
        let root = loop {
            let start = machine.at;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => break root,
                Err(Stop::Forbidden(global)) => {
                    return Err(PtProblem::ForbiddenGlobal { global, key: machine.last_text() });
                }
                Err(Stop::Bad(reason)) => return Err(PtProblem::BadPickle { at: start, reason }),
            }
        };
        Ok(Self { values: machine.values, root })
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    /// The storage a view lies in.
    pub(super) fn storage_of(&self, view: &View) -> &Storage {
        match self.get(view.storage) {
            Value::Storage(storage) => storage,
            _ => unreachable!("checked when the view was built"),
        }
    }

    /// Length and stride, in elements, of each axis of a view.
    pub(super) fn axes(&self, view: &View) -> impl ExactSizeIterator<Item = (u64, u64)> {
        let sizes = |id| match self.get(id) {
            Value::Tuple(items) => items.iter(),
            _ => unreachable!("checked when the view was built"),
        };
        let size = |&id: &Id| match self.get(id) {
            Value::Int(n) => *n as u64,
            _ => unreachable!("checked when the view was built"),
        };
        let axes = sizes(view.shape).zip(sizes(view.strides));
        axes.map(move |(n, stride)| (size(n), size(stride)))
    }
}

impl Machine<'_> {
    /// One opcode; `Some` is the result at the end.
    fn step(&mut self) -> Step<Option<Id>> {
        match self.take(1)?[0] {
            0x80 => drop(self.take(1)?), // PROTO
            0x95 => drop(self.take(8)?), // FRAME
            b'.' => {
                let root = self.pop()?;
                return match (self.stack.is_empty(), self.at == self.bytes.len()) {
                    (true, true) => Ok(Some(root)),
                    _ => Err("something is left over at its end".into()),
                };
            }
            b'(' => self.marks.push(self.stack.len()),

            b'N' | 0x88 | 0x89 => self.stack.push(INERT), // None, True, False
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => {
                let n = self.number(4)? as u32; // exactly four bytes
                self.new_value(Value::Int(i64::from(n.cast_signed())))?;
            }
            0x8a => self.long()?,
            b'G' => {
                let bits = self.take(8)?.try_into().expect("eight bytes");
                self.new_value(Value::Float(f64::from_be_bytes(bits)))?;
            }
            b'C' => self.sized_inert(1)?,
            b'B' => self.sized_inert(4)?,
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,

            b'}' => self.new_value(Value::Dict(Vec::new()))?,
            b']' => self.new_value(Value::List(Vec::new()))?,
            b')' => self.stack.push(EMPTY_TUPLE),
            b't' => {
                let items = self.pop_mark()?;
                self.new_value(Value::Tuple(items))?;
            }
            op @ 0x85..=0x87 => {
                let items = self.pop_many(usize::from(op - 0x84))?;
                self.new_value(Value::Tuple(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let pair = self.pop_many(2)?;
                self.set_items(&pair)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }

            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            0x94 => {
                let top = self.top()?;
                self.memo.insert(self.memo.len() as u64, top);
            }
            b'h' => self.memoized(1)?,
            b'j' => self.memoized(4)?,

            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let pair = self.pop_many(2)?;
                let [Value::Text(module), Value::Text(name)] = [self.get(pair[0]), self.get(pair[1])] else {
                    return Err("a global's name is not text".into());
                };
                let (module, name) = (module.clone(), name.clone());
                self.global(&module, &name)?;
            }
            b'Q' => self.storage()?,
            b'R' => {
                let pair = self.pop_many(2)?;
                self.call(pair[0], pair[1])?;
            }
            b'b' => drop(self.pop()?), // the state of an object; PyTorch's holds versions only
            _ => return Err("an opcode that torch.save does not write".into()),
        }
        Ok(None)
    }

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        match global(module, name) {
            Some(global) => self.new_value(Value::Global(global)),
            None => Err(Stop::Forbidden(format!("{module}.{name}"))),
        }
    }
}
