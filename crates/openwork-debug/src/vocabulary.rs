//! Texts of tokens, which the caller provides.

/// Tokens of texts and texts of tokens. The crate reads no tokenizer; a pair of functions `(encode, decode)` is one.
pub trait Vocabulary {
    /// Tokens of a text.
    fn encode(&self, text: &str) -> Vec<u16>;

    /// Text of tokens.
    fn decode(&self, tokens: &[u16]) -> String;

    /// Text of one token in double quotes, escaped, as lines of commands have it.
    fn quoted(&self, token: u16) -> String {
        crate::language::literal(&self.decode(&[token]))
    }
}

impl<E: Fn(&str) -> Vec<u16>, D: Fn(&[u16]) -> String> Vocabulary for (E, D) {
    fn encode(&self, text: &str) -> Vec<u16> {
        (self.0)(text)
    }

    fn decode(&self, tokens: &[u16]) -> String {
        (self.1)(tokens)
    }
}
