//! Records the neurons of a model and prints the most active one at every token:
//! `cargo run --example record -- [model.safetensors]`. Without a file the model is a random one.

use std::{error::Error, ops::ControlFlow};

use openwork_model::{Config, Matrix, Model, Site, SiteKind, Tap, Tokens};

/// Keeps the values of the neurons of one block and stops the pass there.
struct Neurons {
    layer: usize,
    value: Option<Matrix>,
}

impl Tap for Neurons {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        if site != (Site { layer: self.layer, kind: SiteKind::Neuron }) {
            return ControlFlow::Continue(());
        }
        self.value = Some(value.clone());
        ControlFlow::Break(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = match std::env::args().nth(1) {
        Some(file) => Model::load(file)?.model,
        None => Model::init(Config { vocab_size: 64, n_layer: 2, ..Config::default() }, 0),
    };
    let tokens: Vec<u16> = (1..9).collect();
    for layer in 0..model.config.n_layer {
        let mut tap = Neurons { layer, value: None };
        let stopped = model.forward_until(
            Tokens::new(&tokens, tokens.len()),
            None,
            &mut tap,
            &mut openwork_model::Cpu::default(),
        );
        let site = stopped.break_value().ok_or("the pass has no such site")?;
        let neurons = tap.value.ok_or("the tap has seen nothing")?;
        for (token, column) in tokens.iter().zip(neurons.columns()) {
            let largest = (0..column.len()).max_by(|&a, &b| column[a].abs().total_cmp(&column[b].abs()));
            let neuron = largest.ok_or("a block without neurons")?;
            println!("{site}[{neuron}] at token {token}: {:.4}", column[neuron]);
        }
    }
    Ok(())
}
