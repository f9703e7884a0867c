//! A training run on the terminal: memory, progress, and what it ended with.

use std::{collections::BTreeMap, ops::ControlFlow};

use anyhow::Result;
use openwork_project::TrainingRun;
use openwork_train::{Event, LogLine, MemoryPlan, Stopped};

use super::{
    interrupt,
    progress::Progress,
    show::{count, say},
};

/// Trains to the end or an interruption, with progress.
pub fn show(run: TrainingRun) -> Result<Stopped> {
    if let Some(plan) = &run.memory {
        show_memory(plan)?;
    }
    if let Some((name, bytes)) = &run.gpu {
        say!("training on {name}: {} of its memory", megabytes(*bytes));
    }
    let (measured, asked) = (run.validation_sequences(), run.recipe().validation_sequences);
    if measured < asked {
        eprintln!(
            "note: validation losses are over {measured} sequences: the data have no {asked}, which the recipe asks for"
        );
    }
    interrupt::listen()?;
    let (steps, first) = (run.recipe().schedule.steps, run.step_count());
    let progress = Progress::new(Some(steps), first);
    if first > 0 {
        progress.note(&format!("going on after step {first} of {steps}"));
    }
    let model = run.model_path();
    let mut validation = None;
    let mut last = None;
    // Floors sink with the number of weights, so they are told when that has reached its end.
    let sparsest = run.recipe().schedule.anneal_stop;
    let mut floors_told = false;
    let stopped = run.train(&mut |event: Event<'_>| {
        let line = event.line;
        validation = line.validation_loss.or(validation);
        if !floors_told && (line.step as f64 >= sparsest || line.step + 1 == steps) {
            floors_told = true;
            if !line.lowered_floors.is_empty() {
                progress.note(&describe_floors(&line.lowered_floors));
            }
        }
        progress.update(line.step + 1, || describe(line, validation, steps));
        last = Some(line.clone());
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    drop(progress);
    let Some(last) = last else {
        eprintln!("the run had finished already");
        return Ok(stopped);
    };
    say!("{}", describe(&last, validation, steps));
    if stopped == Stopped::Finished {
        say!("{}", model.display());
    }
    Ok(stopped)
}

fn show_memory(plan: &MemoryPlan) -> Result<()> {
    let &MemoryPlan { weights, moments, gradients, activations, .. } = plan;
    say!(
        "memory: weights {}, moments {}, gradients {}, activations {}; {} in all",
        megabytes(weights),
        megabytes(moments),
        megabytes(gradients),
        megabytes(activations),
        megabytes(plan.total())
    );
    Ok(())
}

/// Bytes in units of 2²⁰, rounded up.
pub fn megabytes(bytes: usize) -> String {
    format!("{} MB", count((bytes as u64).div_ceil(1 << 20)))
}

fn describe(line: &LogLine, validation: Option<f64>, steps: u64) -> String {
    let validation = validation.map(|loss| format!("  validation {loss:.3}")).unwrap_or_default();
    let speed = count(line.tokens_per_second as u64);
    format!(
        "step {}/{steps}  loss {:.3}{validation}  l0 {}  {speed} tokens/s",
        line.step + 1,
        line.loss,
        count(line.l0 as u64)
    )
}

/// Lowered floors by how far they were lowered.
fn describe_floors(floors: &[(String, usize)]) -> String {
    let mut by_floor: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for (name, floor) in floors {
        by_floor.entry(*floor).or_default().push(name);
    }
    let parts = by_floor.iter().map(|(floor, names)| format!("to {floor} in {}", names.join(", ")));
    format!(
        "note: so few weights are left that the floor per unit (min_per_unit) is lowered {}",
        parts.collect::<Vec<_>>().join("; ")
    )
}
