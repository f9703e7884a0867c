//! Finds the one neuron that a model made by hand uses: `cargo run --release --example find`.

use std::ops::ControlFlow;

use openwork_circuit::{LearnedMasks, Means};
use openwork_extract::{Search, Settings};
use openwork_model::{Bigram, Config, Model};
use openwork_ops::Device;
use openwork_tasks::Pair;

/// A model whose neuron 3 alone tells token 1 from token 2: channel 0 of the embedding carries the cue, the neuron reads
/// it, and channel 1 takes it to the logits of tokens 3 and 4.
fn by_hand() -> Model {
    let config = Config {
        vocab_size: 8,
        n_ctx: 4,
        n_layer: 1,
        n_head: 1,
        d_head: 8,
        d_model: 8,
        d_mlp: 16,
        act_density: None,
        bigram: Bigram::None,
        ..Config::default()
    };
    let mut model = Model::init(config, 1);
    let params = &mut model.params;
    params.embed.update(|w| {
        w.column_mut(0).fill(0.0);
        w.column_mut(1).fill(0.0);
        let row = w.row(1).to_owned();
        w.row_mut(2).assign(&row);
        (w[[1, 0]], w[[2, 0]]) = (1.0, -1.0);
        w.column_mut(2).fill(1.0);
    });
    params.blocks[0].fc.weight.update(|w| w[[3, 0]] = 2.0);
    params.blocks[0].proj.weight.update(|w| w[[1, 3]] = 4.0);
    params.unembed.as_mut().expect("the embedding is not tied").update(|w| {
        let row = w.row(3).to_owned();
        w.row_mut(4).assign(&row);
        (w[[3, 1]], w[[4, 1]]) = (2.0, -2.0);
    });
    model
}

fn main() -> Result<(), openwork_extract::PruneError> {
    let model = by_hand();
    let means = Means::compute(&model, &[0, 1, 2, 5, 6, 7, 1, 2, 3, 4, 2, 1], 4);
    let pair = |i: u16| Pair {
        positive: vec![5 + i % 3, i / 3, 1],
        negative: vec![5 + i % 3, i / 3, 2],
        answer: 3,
        alternative: 4,
        template: 0,
    };
    let pairs: Vec<Pair> = (0..16).map(pair).collect();
    let masks = LearnedMasks { restarts: 2, steps: 150, batch_pairs: 8, ..LearnedMasks::default() };
    let settings = Settings { masks, ..Settings::default() };
    let (train, validation) = pairs.split_at(10);
    let search = Search { model: &model, means: &means, train, validation, settings: &settings };
    let found = search.prune(&Device::Cpu, &mut |_| ControlFlow::Continue(()))?;
    println!("loss {:.3} nats, {} edges", found.loss, found.circuit.size().edges);
    found.circuit.nodes().nodes().for_each(|node| println!("{node}"));
    Ok(())
}
