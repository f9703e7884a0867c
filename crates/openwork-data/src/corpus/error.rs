//! Errors of building a corpus.

use std::path::PathBuf;

use openwork_tensor::ShardError;
use thiserror::Error;

use super::LeftOut;
use crate::TokenizerError;

/// Reason that a corpus could not be built, or a tokenizer not be trained on one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// A source is not there.
    #[error("there is no {path}; name a folder, a file, or - for standard input", path = path.display())]
    NotFound {
        /// The source.
        path: PathBuf,
    },
    /// A source cannot be looked at.
    #[error("cannot read {path}", path = path.display())]
    Unreadable {
        /// The source.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file cannot be read to its end.
    #[error("cannot read {path} to its end; mend it, or take it out of the sources", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The fault, with its place in the file.
        source: std::io::Error,
    },
    /// Standard input is named twice.
    #[error("{path} is named twice, and can be read once", path = path.display())]
    Repeated {
        /// The source.
        path: PathBuf,
    },
    /// The folder to be made is there already.
    #[error("{path} exists already; choose another folder, or ask for it to be replaced (--replace)", path = path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The folder to be made is there and is not what may be replaced.
    #[error("{path} is not replaced: {reason}; only a corpus is, so choose another folder", path = path.display())]
    NotReplaced {
        /// The folder.
        path: PathBuf,
        /// Fact that makes it something else.
        reason: String,
    },
    /// The folder to be made is an input, holds one, or lies inside one.
    #[error(
        "{out} cannot be written: it is the input {input}, holds it, or lies inside it; choose a folder apart from the inputs",
        out = path.display(), input = input.display()
    )]
    OverInput {
        /// The folder.
        path: PathBuf,
        /// The input.
        input: PathBuf,
    },
    /// The path of the folder to be made has no last name.
    #[error("{path} does not end in the name of a folder", path = path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else is making the folder.
    #[error("another process is making {path}; wait for it, or choose another folder", path = path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The part for validation is not a fraction.
    #[error("a validation fraction of {given} is not between 0 and 1")]
    ValidationFraction {
        /// The fraction given.
        given: f64,
    },
    /// There is not one usable document.
    #[error("no usable document was found{}", if left_out.is_empty() { ": there is no file".into() } else { format!(":{left_out}") })]
    NoDocuments {
        /// Everything that was found.
        left_out: Box<LeftOut>,
    },
    /// A file or folder of the corpus could not be written.
    #[error("cannot write {path}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The token shards could not be written.
    #[error("cannot write the token shards")]
    Shards {
        /// The error.
        #[from]
        source: ShardError,
    },
    /// The tokenizer could not be trained.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}
