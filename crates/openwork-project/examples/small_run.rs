//! Trains a tiny model on generated programs, opens it as a project, and measures it on a task:
//! `cargo run --release --example small_run`

use std::{error::Error, ops::ControlFlow};

use openwork_data::{
    Tokenizer,
    corpus::{self, GeneratedOptions},
};
use openwork_ops::Device;
use openwork_project::{Beside, Project, TrainingRun, find_task, task_scores};
use openwork_train::{Recipe, SHIPPED};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let tokenizer = Tokenizer::train_on_programs(0, 300_000, 512)?;
    let data = dir.path().join("data");
    let made = corpus::write_generated(&GeneratedOptions::new(0, 400_000), &tokenizer, &data, &|_| ())?;
    println!("{} training tokens", made.train.tokens);

    // The quickstart's recipe, but for a few steps of small batches.
    let mut text = SHIPPED[0].1.to_owned();
    for (from, to) in [
        ("vocab_size = 2048", "vocab_size = 512"),
        ("sequences = 64           #", "sequences = 8            #"),
        ("steps = 2000", "steps = 20"),
        ("validation_every = 100", "validation_every = 10"),
        ("validation_sequences = 64", "validation_sequences = 8"),
    ] {
        assert!(text.contains(from), "the recipe has no {from:?}");
        text = text.replace(from, to);
    }
    let run = dir.path().join("run");
    let training = TrainingRun::open(Recipe::parse(&text)?, &data, &tokenizer, &run, false, Device::Cpu)?;
    training.train(&mut |event| {
        if let Some(loss) = event.line.validation_loss {
            println!("step {}: validation loss {loss:.3} nats per token", event.line.step + 1);
        }
        ControlFlow::Continue(())
    })?;

    let project = Project::open(&run, Beside::default(), &mut |notice| println!("{notice:?}"))?;
    let task = find_task("single_double_quote")?;
    let [fresh, held_out] = task_scores(&project.model, &project.tokenizer, task, 16, 0)?;
    println!("{}: {fresh:?}, on held-out templates {held_out:?}", task.name());
    Ok(())
}
