//! Tests of the crate from outside.

use openwork_debug::{Answered, Reply, Session, Stopped};
use openwork_model::{Config, Matrix, Model};

mod explain;
mod index;
mod session;

/// A model whose parameters are of order one, on letters as tokens: `a` is token 0.
fn model(seed: u64) -> Model {
    let config = Config {
        vocab_size: 26,
        n_ctx: 8,
        n_layer: 2,
        n_head: 2,
        d_head: 4,
        d_model: 12,
        d_mlp: 16,
        ..Config::default()
    };
    let mut model = Model::init(config, seed);
    model.params.values_mut().into_iter().for_each(|weight| {
        weight.update(|w: &mut Matrix| {
            // What the initialisation leaves at zero or one, matrices to order one.
            let factor = if w.ncols() > 1 { 30.0 } else { 1.0 };
            w.iter_mut()
                .enumerate()
                .for_each(|(i, x)| *x = *x * factor + if factor == 1.0 { 0.1 * (i % 5) as f32 } else { 0.0 });
        })
    });
    model
}

fn session(model: Model) -> Session {
    let hash = model.sha256();
    let encode = |text: &str| text.bytes().map(|b| u16::from(b - b'a')).collect::<Vec<u16>>();
    let decode = |tokens: &[u16]| tokens.iter().map(|&t| char::from(b'a' + t as u8)).collect::<String>();
    let means = (0..1000).map(|n| n as f32 / 1000.0).collect();
    Session::new(model, hash, Box::new((encode, decode)), Some(means))
}

/// Carries out lines, all of which have to succeed; returns the last answer.
#[track_caller]
fn run(session: &mut Session, lines: &str) -> Answered {
    let mut last = None;
    for line in lines.split(';') {
        last = session.line(line.trim()).unwrap_or_else(|error| panic!("{line}: {error}")).or(last);
    }
    last.expect("a command")
}

#[track_caller]
fn stop(answered: &Answered) -> &Stopped {
    match &answered.reply {
        Reply::Stopped(stopped) => stopped,
        other => panic!("no stop: {other}"),
    }
}

#[track_caller]
fn value(answered: &Answered) -> f64 {
    match &answered.reply {
        Reply::Value { value, .. } => *value,
        other => panic!("no value: {other}"),
    }
}
