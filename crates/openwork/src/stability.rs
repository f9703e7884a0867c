//! `openwork stability`: does the same search find the same circuit from other seeds?

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use openwork_extract::Stability;

use crate::{
    interrupt,
    prune::{self, Budget, SearchArgs},
    show::say,
    tasks,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// How many seeds of pairs, masks and batches, from --seed on
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..))]
    seeds: u64,
    /// Folder to write the circuits to, as TASK.SEED.json
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write JSON in place of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    search: SearchArgs,
}

/// Runs the command. Ctrl-C ends it with what was found until then.
pub fn run(args: Args) -> Result<ExitCode> {
    let (task, subject, device) = args.search.open()?;
    let first = args.search.budget.seed;
    let mut found = Vec::new();
    for seed in first..first + args.seeds {
        let budget = Budget { seed, ..args.search.budget.clone() };
        let pairs = tasks::splits(task, &subject.tokenizer, seed)?;
        let circuit = prune::find(&subject, task.name(), &pairs, &budget.settings(), &device);
        let Some(circuit) = circuit.with_context(|| format!("seed {seed}"))? else { break };
        // One of fewer restarts is not the same search.
        if interrupt::requested() {
            break;
        }
        if !args.json {
            say!("seed {seed}: {}", prune::describe(&circuit));
        }
        if let Some(out) = &args.out {
            prune::write(&circuit, &out.join(format!("{}.{seed}.json", task.name())))?;
        }
        found.push(circuit.circuit.nodes().clone());
    }
    match Stability::of(&found) {
        Some(stability) if args.json => say!("{}", serde_json::to_string_pretty(&stability)?),
        Some(stability) => say!("{}", words(&stability)),
        None => eprintln!("too few circuits to compare"),
    }
    if interrupt::requested() {
        eprintln!("interrupted after {} of {} seeds", found.len(), args.seeds);
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}

fn words(s: &Stability) -> String {
    let core: Vec<&str> = s.core().collect();
    let list = if core.is_empty() { String::new() } else { format!(": {}", core.join(", ")) };
    format!(
        "{} circuits, {} nodes in any of them, {} in all{list}\nJaccard index of two of them: {:.2} on average, {:.2} \
         at least (0.8 is asked of a stable one)",
        s.circuits,
        s.nodes.len(),
        core.len(),
        s.jaccard,
        s.least_jaccard
    )
}
