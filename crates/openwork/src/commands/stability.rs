//! `openwork stability`: does the same search find the same circuit from other seeds?

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use openwork_circuit::Combination;
use openwork_extract::Stability;
use openwork_project::{combined_circuit, study_seeds};

use crate::ui::{
    args::{SearchArgs, check_folder, describe_circuit},
    interrupt,
    progress::SearchProgress,
    ranges::between,
    show::say,
};

/// Circuits that are made of those of the seeds.
const COMBINATIONS: [Combination; 2] = [Combination::Union, Combination::Core];

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Number of seeds of pairs, masks and batches, from --seed on
    #[arg(long, default_value_t = 10, value_parser = between::<u64>(2, 1 << 20))]
    seeds: u64,
    /// Folder to write the circuits to, as TASK.SEED.json, and their union and core, TASK.union.json and TASK.core.json
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace circuits that lie there; their verdicts, pairs and certificates are removed with them
    #[arg(long, requires = "out")]
    force: bool,
    /// Write JSON in place of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    search: SearchArgs,
}

/// Runs the command. Ctrl-C ends it with what was found until then.
pub fn run(args: Args) -> Result<ExitCode> {
    let (task, project, device) = args.search.open()?;
    if let Some(out) = &args.out {
        check_folder(out)?;
    }
    let settings = args.search.settings();
    let last = settings.seed.checked_add(args.seeds).context("--seed and --seeds together are beyond 64 bits")?;
    let seeds = settings.seed..last;
    let combination = |out: &Path, of: Combination| out.join(format!("{}.{of}.json", task.name()));
    let file = |out: &Path, seed: u64| out.join(format!("{}.{seed}.json", task.name()));
    if let Some(out) = args.out.as_ref().filter(|_| !args.force) {
        seeds.clone().try_for_each(|seed| project.check_free(&file(out, seed)))?;
        COMBINATIONS.iter().try_for_each(|of| project.check_free(&combination(out, *of)))?;
    }
    let progress = SearchProgress::default();
    let mut found = |circuit: &openwork_circuit::CircuitFile| -> Result<()> {
        progress.finish();
        if !args.json {
            say!("seed {}: {}", circuit.seed, describe_circuit(circuit));
        }
        if let Some(out) = &args.out {
            project.save_circuit(circuit, &file(out, circuit.seed), args.force)?;
        }
        Ok(())
    };
    let study =
        study_seeds::<anyhow::Error>(&project, task, seeds, &settings, &device, &mut |p| progress.step(p), &mut found)?;
    progress.finish();
    match study.stability {
        Some(stability) if args.json => say!("{}", serde_json::to_string_pretty(&stability)?),
        Some(stability) => say!("{}", text(&stability)),
        None => eprintln!("too few circuits to compare"),
    }
    if let Some(out) = args.out.as_ref().filter(|_| study.circuits.len() > 1) {
        for of in COMBINATIONS {
            let circuit = combined_circuit(&project, &study.circuits, of)?;
            project.save_circuit(&circuit, &combination(out, of), args.force)?;
            if !args.json {
                say!("{of}: {}", describe_circuit(&circuit));
            }
        }
    }
    if interrupt::requested() {
        eprintln!("interrupted after {} of {} seeds", study.circuits.len(), args.seeds);
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(s: &Stability) -> String {
    let core: Vec<&str> = s.core().collect();
    let list = if core.is_empty() { String::new() } else { format!(": {}", core.join(", ")) };
    format!(
        "{} circuits of {} nodes and {} edges (median, least to most); {} nodes in any of them, {} in all{list}\nJaccard index of two of them: {:.2} on average, {:.2} \
         at least (0.8 is asked of a stable one)",
        s.circuits,
        s.size_in_nodes,
        s.size_in_edges,
        s.nodes.len(),
        core.len(),
        s.jaccard,
        s.least_jaccard
    )
}
