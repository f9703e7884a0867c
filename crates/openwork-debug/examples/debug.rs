//! A session on a random model: `cargo run --example debug`.

use openwork_debug::{Session, SessionError};
use openwork_model::{Config, Model};

fn main() -> Result<(), SessionError> {
    let model = Model::init(Config { vocab_size: 128, n_ctx: 16, ..Config::default() }, 0);
    let hash = model.sha256();
    let encode = |text: &str| text.bytes().map(|b| u16::from(b & 127)).collect::<Vec<u16>>();
    let decode = |tokens: &[u16]| tokens.iter().map(|&t| char::from(t as u8)).collect::<String>();
    let mut session = Session::new(model, hash, Box::new((encode, decode)), None);
    let script = "prompt b \"if x in\"\nprompt a \"if y in\"\nbreak changed 0.mlp.post_act[3] by 1e-6 against b\ncontinue\n\
                  bt 0.mlp.post_act[3] --depth 2 --share 0.1\nset 0.mlp.post_act[3] = of b\nwhy \"n\" --effect\nundo\ndiff a b";
    for line in script.lines() {
        println!("> {line}");
        if let Some(answered) = session.line(line)? {
            println!("{answered}\n");
        }
    }
    Ok(())
}
