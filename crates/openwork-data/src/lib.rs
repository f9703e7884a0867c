//! Text to tokens: a seeded grammar of Python programs, corpus building from real code, and the byte-level BPE tokenizer.

mod generate;

pub use generate::Programs;
