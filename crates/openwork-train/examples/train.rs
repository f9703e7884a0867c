//! Trains a small weight-sparse model to count, and prints loss and nonzeros: `cargo run --release --example train`

use std::error::Error;

use openwork_model::{Config, Model};
use openwork_train::{Recipe, SHIPPED, Schedule, Trainer};

fn main() -> Result<(), Box<dyn Error>> {
    let (seq_len, sequences, steps) = (16, 16, 200);
    let recipe = Recipe::parse(SHIPPED[0].1)?;
    let config = Config { vocab_size: 32, n_ctx: seq_len, n_layer: 1, d_mlp: 64, ..recipe.config };
    let schedule = Schedule { steps, warmup_steps: 10.0, anneal_start: 20.0, anneal_stop: 120.0, ..recipe.schedule };
    let mut trainer = Trainer::new(Model::init(config, 0), schedule, 2, 4);
    for step in 0..steps {
        // Sequence s counts from step + s in strides of 1, 2 and 3.
        let token = |t: usize| (step as usize + t / seq_len + t % seq_len * (1 + t / seq_len % 3)) % 32;
        let batch: Vec<u16> = (0..sequences * seq_len).map(|t| token(t) as u16).collect();
        let Ok(report) = trainer.step(&batch, seq_len);
        if step % 20 == 19 {
            println!("step {}: loss {:.4} nats, {} nonzeros", step + 1, report.loss_nats, report.sparsity.l0);
        }
    }
    Ok(())
}
