//! The stack, the arena and the memo of a pickle machine, and the plain operations on them.

use std::collections::HashMap;

use super::value::{Id, Value};

/// Reason that the machine stops early.
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
pub(super) const EMPTY_TUPLE: Id = 1;

/// A pickle machine at one of its opcodes.
pub(super) struct Machine<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) values: Vec<Value>,
    pub(super) stack: Vec<Id>,
    /// Heights of the stack at each open mark.
    pub(super) marks: Vec<usize>,
    pub(super) memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    /// A machine before its first opcode.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            values: vec![Value::Inert, Value::Tuple(Vec::new())],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    pub(super) fn take(&mut self, n: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(n);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or("it ends too early")?;
        self.at += n;
        Ok(taken)
    }

    pub(super) fn number(&mut self, len: usize) -> Step<u64> {
        let bytes = self.take(len)?;
        Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    pub(super) fn sized(&mut self, len: usize) -> Step<&'a [u8]> {
        let n = usize::try_from(self.number(len)?).map_err(|_| "it ends too early")?;
        self.take(n)
    }

    pub(super) fn line(&mut self) -> Step<&'a str> {
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

    /// The text on the stack that was pushed last: the key of the value that is being built, in a dictionary.
    pub(super) fn last_text(&self) -> Option<String> {
        self.stack.iter().rev().find_map(|&id| match self.get(id) {
            Value::Text(text) => Some(text.chars().take(80).collect()),
            _ => None,
        })
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    pub(super) fn int(&mut self, len: usize) -> Step<()> {
        let n = self.number(len)?;
        self.new_value(Value::Int(n as i64)) // at most two bytes
    }

    /// A whole number of any length; one beyond 64 bits is of no use here.
    pub(super) fn long(&mut self) -> Step<()> {
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

    pub(super) fn sized_inert(&mut self, len: usize) -> Step<()> {
        self.sized(len)?;
        self.stack.push(INERT);
        Ok(())
    }

    pub(super) fn text(&mut self, len: usize) -> Step<()> {
        let text = std::str::from_utf8(self.sized(len)?).map_err(|_| "a text is not UTF-8")?;
        self.new_value(Value::Text(text.into()))
    }

    /// The lowest height of the stack that may be popped to.
    pub(super) fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop_many(&mut self, n: usize) -> Step<Vec<Id>> {
        let at = self.stack.len().checked_sub(n);
        let at = at.filter(|&at| at >= self.floor());
        Ok(self.stack.split_off(at.ok_or("its stack runs empty")?))
    }

    pub(super) fn pop(&mut self) -> Step<Id> {
        Ok(self.pop_many(1)?[0])
    }

    pub(super) fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let at = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(at))
    }

    pub(super) fn top(&self) -> Step<Id> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err("its stack runs empty".into()),
        }
    }

    pub(super) fn append(&mut self, items: &[Id]) -> Step<()> {
        let list = self.top()?;
        match &mut self.values[list as usize] {
            Value::List(list) => list.extend_from_slice(items),
            _ => return Err("something is appended to what is no list".into()),
        }
        Ok(())
    }

    pub(super) fn set_items(&mut self, items: &[Id]) -> Step<()> {
        let dict = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.values[dict as usize] {
            Value::Dict(dict) if rest.is_empty() => dict.extend(pairs.iter().map(|&[k, v]| (k, v))),
            _ => return Err("items are set in what is no dictionary".into()),
        }
        Ok(())
    }

    pub(super) fn put(&mut self, len: usize) -> Step<()> {
        let key = self.number(len)?;
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    pub(super) fn memoized(&mut self, len: usize) -> Step<()> {
        let key = self.number(len)?;
        let id = self.memo.get(&key).ok_or("it refers to nothing")?;
        self.stack.push(*id);
        Ok(())
    }

    pub(super) fn tuple(&self, id: Id) -> Step<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) => Ok(items),
            _ => Err("something is no tuple".into()),
        }
    }
}
