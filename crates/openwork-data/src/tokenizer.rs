//! The byte-level BPE tokenizer: trained here, read from `tokenizer.json`, or imported from the published vocabulary.
//!
//! The pre-tokenizer is the published split regex (each match becomes a piece of its own), then the byte-to-symbol table
//! of GPT-2 without GPT-2's own regex and without a leading space. Python's `tokenizers` reads the saved file and gives
//! the same ids.

mod published;
mod requirements;

use std::any::Any;
use std::io::Write;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use thiserror::Error;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use crate::Programs;
pub use published::{Imported, SplitRule};
pub use requirements::Unusable;

/// Marks the end of a document; always the last id of the vocabulary (2047 of 2048 in the published models).
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Size of the published vocabulary, end-of-text included.
pub const PUBLISHED_VOCAB_SIZE: usize = 2048;

/// The published split regex (`tinypython_2k`; it is the GPT-4 regex without contractions).
pub const SPLIT_REGEX: &str =
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Reason that a tokenizer could not be trained, read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A file could not be read or written.
    #[error("cannot access {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is not a usable tokenizer: {reason}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Fault that was found.
        reason: String,
    },
    /// A file is a tokenizer that has a property which makes it useless.
    #[error("{path} cannot be used: {property}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The property.
        property: Unusable,
    },
    /// The text has too few different pairs to fill the vocabulary.
    #[error("the training text yields only {reached} of {wanted} tokens; give it more text or ask for fewer tokens")]
    TooLittleText {
        /// Tokens that could be made, end-of-text included.
        reached: usize,
        /// Tokens asked for.
        wanted: usize,
    },
    /// The vocabulary asked for cannot exist: 256 bytes and end-of-text are its least, 65,536 its most.
    #[error("a vocabulary of {wanted} tokens is not possible: from 257 to 65536 are")]
    VocabSize {
        /// Tokens asked for.
        wanted: usize,
    },
    /// The library under this module failed.
    #[error("tokenizer training failed: {reason}")]
    Training {
        /// Its message.
        reason: String,
    },
}

/// Name of the thread that tries a tokenizer: the library under it may panic, and the error then says so.
pub const TRIAL_THREAD: &str = "tokenizer trial";

/// A byte-level BPE tokenizer whose ids fit in 16 bits. Every text can be encoded, has the same ids every time, and decodes
/// to itself; a file of which that is not true is refused by the property it lacks.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    json: String,
    sha256: String,
    vocab_size: usize,
}

impl Tokenizer {
    /// Trains a tokenizer of exactly `vocab_size` tokens: 256 bytes, merges by frequency, and [`END_OF_TEXT`] last.
    ///
    /// A document that contains the literal text `<|endoftext|>` is trained on as the ordinary text that it is.
    ///
    /// # Errors
    /// [`TokenizerError::TooLittleText`] when the documents do not yield enough merges.
    pub fn train(docs: impl Iterator<Item = String> + Send, vocab_size: usize) -> Result<Self, TokenizerError> {
        if !(257..=65_536).contains(&vocab_size) {
            return Err(TokenizerError::VocabSize { wanted: vocab_size });
        }
        let failed = |error: tokenizers::Error| TokenizerError::Training { reason: error.to_string() };
        let mut inner = assemble(BPE::default()).map_err(failed)?;
        let mut trainer: TrainerWrapper = BpeTrainer::builder()
            .vocab_size(vocab_size - 1)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build()
            .into();
        inner.train(&mut trainer, docs).map_err(failed)?;
        let reached = inner.get_vocab_size(true) + 1;
        if reached != vocab_size {
            return Err(TokenizerError::TooLittleText { reached, wanted: vocab_size });
        }
        mark_end_of_text(&mut inner).map_err(failed)?;
        let json = inner.to_string(true).map_err(failed)?;
        // Read back what `save` will write, so that training and loading cannot give two tokenizers.
        Self::from_json(json, Path::new("(just trained)"))
    }

    /// A tokenizer of `vocab_size` tokens, trained on the first `bytes` bytes of the generated programs of `seed`, rounded up
    /// to whole programs.
    ///
    /// # Errors
    /// As [`Tokenizer::train`].
    pub fn train_on_programs(seed: u64, bytes: u64, vocab_size: usize) -> Result<Self, TokenizerError> {
        Self::train(Programs::of_bytes(seed, bytes), vocab_size)
    }

    /// Reads a `tokenizer.json`, as [`Tokenizer::save`] or Python's `tokenizers` writes it.
    ///
    /// # Errors
    /// [`TokenizerError::Unusable`] when it loses text (truncation, padding, normalizers, ..), draws lots (dropout), or its
    /// ids have gaps, do not fit in 16 bits, lack one of the 256 bytes, or do not end with [`END_OF_TEXT`].
    pub fn load(path: &Path) -> Result<Self, TokenizerError> {
        Self::from_json(read(path)?, path)
    }

    fn from_json(json: String, path: &Path) -> Result<Self, TokenizerError> {
        let malformed = |reason: String| TokenizerError::Malformed { path: path.to_owned(), reason };
        let unusable = |property| TokenizerError::Unusable { path: path.to_owned(), property };
        let value = openwork_tensor::parse_json(&json).map_err(|error| malformed(error.to_string()))?;
        if value.get("model").is_none() {
            return Err(malformed(
                "it has no `model`; a tokenizer.json is the file that `tokenizer train` writes".into(),
            ));
        }
        requirements::check_parts(&value).map_err(unusable)?;
        let tried = on_trial(|| {
            let tokenizer = Self::parse(json).map_err(malformed)?;
            requirements::check_ids(&tokenizer.inner, &value, tokenizer.vocab_size).map_err(unusable)?;
            requirements::check_texts(&tokenizer).map_err(unusable)?;
            Ok(tokenizer)
        });
        tried.unwrap_or_else(|panic| Err(unusable(Unusable::Panic(panic))))
    }

    fn parse(json: String) -> Result<Self, String> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json.as_bytes()).map_err(|error| error.to_string())?;
        // The literal text "<|endoftext|>" in a document is text; only this crate writes the token.
        inner.set_encode_special_tokens(true);
        // Parsed and written anew, so that spaces, order of keys and defaults left out make no difference.
        let parsed = inner.to_string(false).map_err(|error| error.to_string())?;
        let canonical = openwork_tensor::canonical_json(&parsed).map_err(|error| error.to_string())?;
        let sha256 = openwork_tensor::sha256_bytes(canonical.as_bytes());
        let vocab_size = inner.get_vocab_size(true);
        Ok(Self { inner, json, sha256, vocab_size })
    }

    /// Writes `tokenizer.json`, whole or not at all.
    ///
    /// # Errors
    /// [`TokenizerError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), TokenizerError> {
        openwork_tensor::write_atomic(path, |w| w.write_all(self.json.as_bytes()))
            .map_err(|source| TokenizerError::Io { path: path.to_owned(), source })
    }

    /// The ids of `text`. `<|endoftext|>` written out in `text` is encoded as text, never as the special token.
    pub fn encode(&self, text: &str) -> Vec<u16> {
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().iter().map(|&id| id as u16).collect(),
            // The regex engine gives up on some texts (a million blanks in a row). Halves always decode to the whole.
            Err(_) if text.len() > 1 => {
                let mut middle = text.len() / 2;
                while !text.is_char_boundary(middle) {
                    middle += 1;
                }
                if middle == text.len() {
                    return self.encode_bytes(text);
                }
                let mut ids = self.encode(&text[..middle]);
                ids.extend(self.encode(&text[middle..]));
                ids
            }
            Err(_) => self.encode_bytes(text),
        }
    }

    /// One token for each byte.
    fn encode_bytes(&self, text: &str) -> Vec<u16> {
        text.bytes()
            .filter_map(|byte| self.inner.token_to_id(&byte_symbol(byte).to_string()))
            .map(|id| id as u16)
            .collect()
    }

    /// The ids of each text, computed in parallel, in the order of `texts`.
    pub fn encode_all(&self, texts: &[String]) -> Vec<Vec<u16>> {
        texts.par_iter().map(|text| self.encode(text)).collect()
    }

    /// The text of `ids`. Ids outside the vocabulary give nothing; bytes that are not UTF-8 give U+FFFD.
    pub fn decode(&self, ids: &[u16]) -> String {
        let ids: Vec<u32> = ids.iter().map(|&id| u32::from(id)).collect();
        self.inner.decode(&ids, false).unwrap_or_default()
    }

    /// The id of `text` when it is exactly one token.
    pub fn single_token(&self, text: &str) -> Option<u16> {
        match self.encode(text)[..] {
            [id] => Some(id),
            _ => None,
        }
    }

    /// The bytes that a token stands for. An id outside the vocabulary has none.
    pub fn bytes(&self, id: u16) -> Vec<u8> {
        let text = self.inner.id_to_token(u32::from(id)).unwrap_or_default();
        let bytes: Option<Vec<u8>> = text.chars().map(symbol_byte).collect();
        bytes.unwrap_or_else(|| text.into_bytes())
    }

    /// Hash of the tokenizer by content, in lower-case hexadecimal: SHA-256 of what was parsed, as JSON with sorted keys and
    /// without spaces. A file that another program wrote anew has the same hash.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Number of tokens, [`END_OF_TEXT`] included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of [`END_OF_TEXT`]: the last one.
    pub fn end_of_text(&self) -> u16 {
        (self.vocab_size - 1) as u16
    }
}

fn assemble(bpe: BPE) -> Result<tokenizers::Tokenizer, tokenizers::Error> {
    let mut inner = tokenizers::Tokenizer::new(bpe);
    let split = Split::new(SplitPattern::Regex(SPLIT_REGEX.to_owned()), SplitDelimiterBehavior::Isolated, false)?;
    let byte_level = ByteLevel::new(false, true, false);
    inner.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Split(split),
        PreTokenizerWrapper::ByteLevel(byte_level),
    ])));
    inner.with_decoder(Some(byte_level));
    Ok(inner)
}

fn mark_end_of_text(inner: &mut tokenizers::Tokenizer) -> Result<(), tokenizers::Error> {
    inner.add_special_tokens([AddedToken::from(END_OF_TEXT, true)])?;
    Ok(())
}

/// Runs `work` on a thread of its own, so that a panic in the library is an error with the library's message.
fn on_trial<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let message = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or("it panics", |text| text).to_owned(),
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(TRIAL_THREAD.into()).spawn_scoped(scope, work);
        thread.map_err(|error| error.to_string())?.join().map_err(message)
    })
}

/// The printable character that stands for `byte` in byte-level vocabularies (the table of GPT-2).
fn byte_symbol(byte: u8) -> char {
    let itself = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if itself(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&b| !itself(b)).count() as u32;
    char::from_u32(256 + rank).expect("256..512 are characters")
}

/// The byte that a character of a byte-level vocabulary stands for.
fn symbol_byte(symbol: char) -> Option<u8> {
    (0..=255).find(|&byte| byte_symbol(byte) == symbol)
}

fn read(path: &Path) -> Result<String, TokenizerError> {
    openwork_tensor::read_text(path).map_err(|source| TokenizerError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
