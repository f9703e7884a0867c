#![doc = include_str!("../README.md")]

mod error;
mod language;

pub use error::LanguageError;
pub use language::Language;
pub use minijinja::{Expression, Value};
