//! Values of an expression along a prompt: `cargo run --example expression`.

use openwork_expression::{Language, LanguageError};

fn main() -> Result<(), LanguageError> {
    let language = Language::new();
    let tokens = ["print", "(\"", "hello", "\")", "\n"];
    for text in ["tokens[-1]", "tokens|length", "last_position(tokens, '(\"') > last_position(tokens, '\")')"] {
        let expression = language.compile(text)?;
        for end in 1..=tokens.len() {
            println!("{text} after {:?}: {}", tokens[end - 1], language.on_tokens(&expression, &tokens[..end])?);
        }
    }
    Ok(())
}
