//! Errors of expressions.

/// Reason that an expression cannot be read, or has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LanguageError {
    /// It is too long.
    #[error("it has {characters} characters, at most {most} are read")]
    TooLong {
        /// Its characters.
        characters: usize,
        /// Most characters.
        most: usize,
    },
    /// It is too deep.
    #[error("more than {most} brackets, signs or `not`s stand inside each other")]
    TooDeep {
        /// Most of them.
        most: usize,
    },
    /// It multiplies.
    #[error("* is not in the language")]
    Multiplies,
    /// Its value is too large.
    #[error("its value has more than {most} entries")]
    TooLarge {
        /// Most entries.
        most: usize,
    },
    /// It is no expression, or fails on its values.
    #[error("{message}")]
    Wrong {
        /// The interpreter's message.
        message: String,
    },
}
