//! Trains a tokenizer on generated programs and prints the tokens of another: `cargo run --example tokens`

use openwork_data::{Programs, Tokenizer, TokenizerError};

fn main() -> Result<(), TokenizerError> {
    let tokenizer = Tokenizer::train(Programs::new(0).take(500), 512)?;
    let program = Programs::program(1, 0);
    let ids = tokenizer.encode(&program);
    println!("{} bytes are {} tokens of {}:", program.len(), ids.len(), tokenizer.vocab_size());
    let tokens: Vec<String> = ids.iter().map(|&id| tokenizer.decode(&[id])).collect();
    println!("{tokens:?}");
    Ok(())
}
