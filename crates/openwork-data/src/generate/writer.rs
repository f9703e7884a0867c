//! The program under construction: text, indentation, the names in scope and the draws.

use std::fmt::{self, Write};

use openwork_tasks::words;

use super::draw::Draw;

/// Kind of value that a name in scope holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number.
    Number,
    /// A text.
    Text,
    /// A truth value.
    Flag,
    /// A list (or anything to loop over).
    List,
}

/// Quotation marks of a program's strings.
#[derive(Clone, Copy)]
enum Quotes {
    Double,
    Single,
    Mixed,
}

/// A Python program being written.
pub(crate) struct Writer {
    /// The random draws.
    pub(crate) draw: Draw,
    out: String,
    depth: usize,
    lines: usize,
    scope: Vec<(Kind, String)>,
    gathered: Vec<&'static str>,
    quotes: Quotes,
    blank_lines: usize,
}

impl Writer {
    /// An empty program.
    pub(crate) fn new(mut draw: Draw) -> Self {
        let quotes = match draw.below(5) {
            0 => Quotes::Double,
            1 => Quotes::Single,
            _ => Quotes::Mixed,
        };
        let blank_lines = if draw.chance(50) { 1 } else { 2 };
        Self {
            draw,
            out: String::with_capacity(2048),
            depth: 0,
            lines: 0,
            scope: Vec::new(),
            gathered: Vec::new(),
            quotes,
            blank_lines,
        }
    }

    /// The finished text.
    pub(crate) fn finish(self) -> String {
        self.out
    }

    /// Lines written so far.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// Levels of indentation of the next line.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Writes one line at the present indentation.
    pub(crate) fn line(&mut self, text: fmt::Arguments<'_>) {
        for _ in 0..self.depth {
            self.out.push_str("    ");
        }
        self.out.write_fmt(text).expect("writing to a String cannot fail");
        self.out.push('\n');
        self.lines += 1;
    }

    /// Writes an empty line.
    pub(crate) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// Writes the empty lines between two top-level definitions.
    pub(crate) fn gap(&mut self) {
        for _ in 0..self.blank_lines {
            self.blank();
        }
    }

    /// Runs `body` one level deeper.
    pub(crate) fn block(&mut self, body: impl FnOnce(&mut Self)) {
        self.depth += 1;
        body(self);
        self.depth -= 1;
    }

    /// Runs `body` with a scope of its own, as a function has.
    pub(crate) fn fresh_scope(&mut self, body: impl FnOnce(&mut Self)) {
        let outer = (std::mem::take(&mut self.scope), std::mem::take(&mut self.gathered));
        body(self);
        (self.scope, self.gathered) = outer;
    }

    /// The quotation mark of the next string.
    pub(crate) fn quote(&mut self) -> char {
        match self.quotes {
            Quotes::Double => '"',
            Quotes::Single => '\'',
            Quotes::Mixed if self.draw.chance(50) => '"',
            Quotes::Mixed => '\'',
        }
    }

    /// Puts `name` in scope.
    pub(crate) fn bind(&mut self, kind: Kind, name: &str) {
        if self.scope.len() < 24 {
            self.scope.push((kind, name.to_owned()));
        }
    }

    /// A name for something new of `kind`, not yet in scope.
    pub(crate) fn new_name(&mut self, kind: Kind) -> String {
        let name = self.draw_name(kind);
        self.bind(kind, &name);
        name
    }

    /// A name of `kind`: mostly one already in scope.
    pub(crate) fn name(&mut self, kind: Kind) -> String {
        let known = self.scope.iter().filter(|(k, _)| *k == kind).count() as u32;
        if known > 0 && self.draw.chance(75) {
            let at = self.draw.below(known) as usize;
            if let Some((_, name)) = self.scope.iter().filter(|(k, _)| *k == kind).nth(at) {
                return name.clone();
            }
        }
        self.draw_name(kind)
    }

    /// A name for a set or a text to gather in, different from every other one in this scope.
    pub(crate) fn gathered_name(&mut self) -> &'static str {
        loop {
            let name = self.draw.pick(words::GATHERED.programs());
            if !self.gathered.contains(&name) && !self.scope.iter().any(|(_, known)| known == name) {
                self.gathered.push(name);
                return name;
            }
            if self.gathered.len() >= 12 || self.draw.chance(2) {
                self.gathered.clear();
                self.scope.clear();
            }
        }
    }

    fn draw_name(&mut self, kind: Kind) -> String {
        loop {
            let name = self.candidate(kind);
            if !self.gathered.contains(&name.as_str()) {
                return name;
            }
        }
    }

    fn candidate(&mut self, kind: Kind) -> String {
        let thing = self.draw.pick(words::THINGS.programs());
        let adjective = self.draw.pick(words::ADJECTIVES.programs());
        let compound = self.draw.chance(25);
        match kind {
            Kind::Number if compound => {
                format!("{thing}_{}", self.draw.pick(&["count", "total", "size", "id", "index"]))
            }
            Kind::Number => self.draw.pick(words::NUMBERS.programs()).to_owned(),
            Kind::Text if compound => format!("{thing}_{}", self.draw.pick(&["name", "type", "title", "text", "path"])),
            Kind::Text => self.draw.pick(words::TEXTS.programs()).to_owned(),
            Kind::Flag => self.draw.pick(words::FLAGS.programs()).to_owned(),
            Kind::List if compound => format!("{adjective}_{thing}s"),
            Kind::List => format!("{thing}s"),
        }
    }
}
