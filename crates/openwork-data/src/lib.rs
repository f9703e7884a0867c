//! Text to tokens: a seeded grammar of Python programs, corpus building from real code, and the byte-level BPE tokenizer.

mod files;
mod generate;
mod tokenizer;

pub use generate::Programs;
pub use tokenizer::{END_OF_TEXT, PUBLISHED_VOCAB_SIZE, SPLIT_REGEX, Tokenizer, TokenizerError};
