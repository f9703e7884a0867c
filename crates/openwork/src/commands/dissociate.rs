//! `openwork dissociate`: is the circuit of a task of that task only?

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use openwork_circuit::CircuitFile;
use openwork_verify::{Claim, Cost, Dissociation, Settings, dissociate};

use crate::ui::{
    args::{ProjectArgs, describe_annotations, note_standing},
    show::say,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Circuit files of two or more tasks
    #[arg(required = true, num_args = 2..)]
    circuits: Vec<PathBuf>,
    /// Write JSON in place of text
    #[arg(long)]
    json: bool,
}

/// Runs the command. Exit code 0: every two circuits are dissociated; 1: some are not.
pub fn run(args: Args) -> Result<ExitCode> {
    let project = args.project.open()?;
    let load = |path: &PathBuf| {
        let circuit = project.circuit(path)?;
        note_standing(path, &circuit, Some(&project));
        let held_out = project.splits_of(&circuit)?.held_out;
        Ok((circuit, held_out))
    };
    let loaded = args.circuits.iter().map(load).collect::<Result<Vec<_>>>()?;
    for (i, (circuit, _)) in loaded.iter().enumerate() {
        let twice = loaded[..i].iter().any(|(other, _)| other.task == circuit.task);
        ensure!(!twice, "{} is another circuit of {}: give one a task", args.circuits[i].display(), circuit.task);
    }
    let claims: Vec<Claim<'_>> = loaded
        .iter()
        .map(|(circuit, pairs)| Claim { task: &circuit.task, circuit: circuit.circuit.nodes(), pairs })
        .collect();
    let found = dissociate(&project.model, &project.means, &claims, &Settings::default())?;
    match args.json {
        true => {
            let hash = |(circuit, _): &(CircuitFile, _)| (circuit.task.clone(), circuit.claim_sha256());
            let circuits_sha256 = loaded.iter().map(hash).collect();
            let json = Json { model_sha256: &project.model_sha256, circuits_sha256, table: &found };
            say!("{}", serde_json::to_string_pretty(&json)?);
        }
        false => {
            say!("{}", text(&found));
            for line in loaded.iter().flat_map(|(circuit, _)| describe_annotations(&circuit.circuit)) {
                say!("{line}");
            }
        }
    }
    Ok(ExitCode::from(u8::from(!found.contrasts.iter().all(|c| c.is_dissociated()))))
}

/// A table with what it is about, by hash.
#[derive(serde::Serialize)]
struct Json<'a> {
    model_sha256: &'a str,
    /// Hashes of the circuits, by task.
    circuits_sha256: BTreeMap<String, String>,
    #[serde(flatten)]
    table: &'a Dissociation,
}

fn text(found: &Dissociation) -> String {
    let mut lines = vec!["share of the loss reduction of a task that is lost under mean ablation of".to_owned()];
    let width = found.costs.iter().flatten().map(|c| c.task.len()).max().unwrap_or(0);
    let range = |c: &Cost| {
        let end = |pick: fn(f64, f64) -> f64| c.random.iter().copied().reduce(pick).unwrap_or(f64::NAN);
        format!("{:.3} to {:.3}", end(f64::min), end(f64::max))
    };
    for row in &found.costs {
        for (i, cost) in row.iter().enumerate() {
            let task = if i == 0 { cost.task.as_str() } else { "" };
            let (share, random) = (cost.share, range(cost));
            lines.push(format!(
                "  {task:width$}  the circuit of {:width$}  {share}  (random nodes: {random})",
                cost.without
            ));
        }
    }
    for contrast in &found.contrasts {
        let [a, b] = &contrast.tasks;
        let [of_a, of_b] = contrast.differences;
        let apart = if contrast.is_dissociated() { "dissociated" } else { "NOT dissociated" };
        lines.push(format!(
            "{a} and {b} are {apart}: the first's circuit costs the first {of_a} more than the second, the second's \
             costs the second {of_b} more than the first; {} nodes are in both",
            contrast.shared_nodes
        ));
    }
    lines.join("\n")
}
