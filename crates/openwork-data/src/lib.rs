#![doc = include_str!("../README.md")]
//!
//! ```text
//! Programs ───────────────┐
//! Documents (.py, .jsonl) ┴─→ Tokenizer ─→ token shards: train/, validation/, report.json
//! ```
//!
//! The only crate that uses the `tokenizers` library; everything after it sees 16-bit ids.

pub mod corpus;
mod generate;
mod tokenizer;

pub use corpus::{CorpusError, CorpusOptions, CorpusReport, Documents, GeneratedOptions, LeftOut, Progress, Sources};
pub use generate::Programs;
pub use tokenizer::{
    END_OF_TEXT, Imported, PUBLISHED_VOCAB_SIZE, SPLIT_REGEX, SplitRule, TRIAL_THREAD, Tokenizer, TokenizerError,
    Unusable,
};
