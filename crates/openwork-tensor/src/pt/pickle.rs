//! A pickle machine that builds data and runs nothing.
//!
//! Real unpickling calls any function the file names. Here a name (a GLOBAL) outside [`global`]'s list ends
//! the reading at once, and the names inside it stand for plain data: a dictionary, a tensor's description,
//! a kind of number. Values live in an arena and the stack holds their indices, so that a value that occurs
//! twice is one value (as in Python) and memory stays proportional to the pickle's length.

use std::collections::HashMap;
use std::rc::Rc;

use super::PtProblem;
use super::rebuild::{Global, Storage, View, global};

/// Index of a value in the arena.
pub(super) type Id = u32;

/// A value.
#[derive(Debug)]
pub(super) enum Value {
    /// Anything that cannot lead to a tensor: None, booleans, floats, bytes, devices.
    Inert,
    Int(i64),
    Text(Rc<str>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage>),
    Tensor(Box<View>),
}

/// All values of a pickle, and which of them is the result.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Runs the machine over a whole pickle.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, PtProblem> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: vec![Value::Inert, Value::Tuple(Vec::new())],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = loop {
            let start = machine.at;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => break root,
                Err(Stop::Forbidden(global)) => {
                    return Err(PtProblem::ForbiddenGlobal { global });
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
}

/// Why the machine stops early.
pub(super) enum Stop {
    Forbidden(String),
    Bad(&'static str),
}

impl From<&'static str> for Stop {
    fn from(reason: &'static str) -> Self {
        Self::Bad(reason)
    }
}

pub(super) type Step<T> = Result<T, Stop>;

/// The value that stands for all that is inert, and the one empty tuple: nothing can change either.
pub(super) const INERT: Id = 0;
const EMPTY_TUPLE: Id = 1;

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    pub(super) stack: Vec<Id>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
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
            b'G' => self.inert(8)?,
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

    fn take(&mut self, n: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(n);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or("it ends too early")?;
        self.at += n;
        Ok(taken)
    }

    fn number(&mut self, len: usize) -> Step<u64> {
        let bytes = self.take(len)?;
        Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn sized(&mut self, len: usize) -> Step<&'a [u8]> {
        let n = usize::try_from(self.number(len)?).map_err(|_| "it ends too early")?;
        self.take(n)
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n');
        let line = self.take(end.ok_or("it ends too early")?)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| "a name is not UTF-8".into())
    }

    pub(super) fn new_value(&mut self, value: Value) -> Step<()> {
        let id = Id::try_from(self.values.len()).map_err(|_| "too many values")?;
        self.values.push(value);
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    fn int(&mut self, len: usize) -> Step<()> {
        let n = self.number(len)?;
        self.new_value(Value::Int(n as i64)) // at most two bytes
    }

    /// A whole number of any length; one beyond 64 bits is of no use here.
    fn long(&mut self) -> Step<()> {
        let bytes = self.sized(1)?;
        if bytes.len() > 8 {
            self.stack.push(INERT);
            return Ok(());
        }
        let fill = match bytes.last() {
            Some(&top) if top & 0x80 != 0 => 0xff,
            _ => 0,
        };
        let mut wide = [fill; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.new_value(Value::Int(i64::from_le_bytes(wide)))
    }

    fn inert(&mut self, len: usize) -> Step<()> {
        self.take(len)?;
        self.stack.push(INERT);
        Ok(())
    }

    fn sized_inert(&mut self, len: usize) -> Step<()> {
        self.sized(len)?;
        self.stack.push(INERT);
        Ok(())
    }

    fn text(&mut self, len: usize) -> Step<()> {
        let text = std::str::from_utf8(self.sized(len)?).map_err(|_| "a text is not UTF-8")?;
        self.new_value(Value::Text(text.into()))
    }

    /// The lowest height of the stack that may be popped to.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop_many(&mut self, n: usize) -> Step<Vec<Id>> {
        let at = self.stack.len().checked_sub(n);
        let at = at.filter(|&at| at >= self.floor());
        Ok(self.stack.split_off(at.ok_or("its stack runs empty")?))
    }

    pub(super) fn pop(&mut self) -> Step<Id> {
        Ok(self.pop_many(1)?[0])
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let at = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(at))
    }

    fn top(&self) -> Step<Id> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err("its stack runs empty".into()),
        }
    }

    fn append(&mut self, items: &[Id]) -> Step<()> {
        let list = self.top()?;
        match &mut self.values[list as usize] {
            Value::List(list) => list.extend_from_slice(items),
            _ => return Err("something is appended to what is no list".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Step<()> {
        let dict = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.values[dict as usize] {
            Value::Dict(dict) if rest.is_empty() => dict.extend(pairs.iter().map(|&[k, v]| (k, v))),
            _ => return Err("items are set in what is no dictionary".into()),
        }
        Ok(())
    }

    fn put(&mut self, len: usize) -> Step<()> {
        let key = self.number(len)?;
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn memoized(&mut self, len: usize) -> Step<()> {
        let key = self.number(len)?;
        let id = self.memo.get(&key).ok_or("it refers to nothing")?;
        self.stack.push(*id);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        match global(module, name) {
            Some(global) => self.new_value(Value::Global(global)),
            None => Err(Stop::Forbidden(format!("{module}.{name}"))),
        }
    }

    pub(super) fn tuple(&self, id: Id) -> Step<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) => Ok(items),
            _ => Err("something is no tuple".into()),
        }
    }
}
