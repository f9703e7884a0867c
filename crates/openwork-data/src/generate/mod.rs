//! A seeded grammar of small Python programs: training data that can be made again from one number.
//!
//! The published models were trained on generated "especially simple and repetitive" Python (Gao et al. 2025, A.6) that
//! was not released. This grammar stands in for it where real code is not at hand: every phenomenon of the twenty
//! published tasks (Table 1) appears often and consistently – which mark opens a string decides how it is closed, depth
//! decides how a list is closed, what a variable holds decides how it is used – while names and literals come from pools
//! too large to memorise.

mod blocks;
mod definitions;
mod draw;
mod statements;
mod values;
mod vocabulary;
mod writer;

use draw::Draw;
use writer::Writer;

/// An endless sequence of Python programs of about 5 to 40 lines.
///
/// Program `i` depends on the seed and on `i` only, so any part of the sequence can be made on its own.
///
/// ```
/// let mut programs = openwork_data::Programs::new(7);
/// let first = programs.next().unwrap();
/// assert_eq!(first, openwork_data::Programs::program(7, 0));
/// ```
#[derive(Clone, Debug)]
pub struct Programs {
    seed: u64,
    next: u64,
}

impl Programs {
    /// The sequence of `seed`, from its beginning.
    pub fn new(seed: u64) -> Self {
        Self::starting_at(seed, 0)
    }

    /// The sequence of `seed`, from program `index` on.
    pub fn starting_at(seed: u64, index: u64) -> Self {
        Self { seed, next: index }
    }

    /// The first programs of the sequence, until they have `bytes` bytes together, rounded up to whole programs.
    pub fn of_bytes(seed: u64, bytes: u64) -> impl Iterator<Item = String> + Send {
        let mut bytes_left = bytes;
        Self::new(seed).take_while(move |text| {
            let wanted = bytes_left > 0;
            bytes_left = bytes_left.saturating_sub(text.len() as u64);
            wanted
        })
    }

    /// Program `index` of the sequence of `seed`.
    pub fn program(seed: u64, index: u64) -> String {
        let mut writer = Writer::new(Draw::new(seed, index));
        definitions::program(&mut writer);
        writer.finish()
    }
}

impl Iterator for Programs {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let program = Self::program(self.seed, self.next);
        self.next = self.next.wrapping_add(1);
        Some(program)
    }
}

#[cfg(test)]
mod tests;
