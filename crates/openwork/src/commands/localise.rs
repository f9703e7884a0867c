//! `openwork localise`: train circuits into a model.

use std::{ops::ControlFlow, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use openwork_circuit::Localisation;
use openwork_project::{Beside, LocaliseRequest, LocaliseStep, LocalisedRun, localise};

use crate::ui::{
    args::{check_folder, open_project},
    interrupt,
    progress::Progress,
    ranges::{between, positive, seed, up_to},
    show::{count, say, table},
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of a finished run
    model: PathBuf,
    /// Circuit of the model, one for every task to train in
    #[arg(long, required = true)]
    circuit: Vec<PathBuf>,
    /// Corpus that the model was trained on
    #[arg(long)]
    data: PathBuf,
    /// Folder of the localised model, which must not be there yet and not lie inside the run
    #[arg(long)]
    out: PathBuf,
    /// Most steps until the circuits are to stand; training ends when they do, on pairs that are not trained on
    #[arg(long, default_value_t = Localisation::default().steps, value_parser = between::<u64>(1, 1 << 20))]
    steps: u64,
    /// Steps after nodes that do nothing have been dropped
    #[arg(long, default_value_t = Localisation::default().extra_steps, value_parser = between::<u64>(1, 1 << 20))]
    extra_steps: u64,
    /// Largest learning rate
    #[arg(long, default_value_t = Localisation::default().lr, value_parser = up_to(1.0))]
    lr: f64,
    /// Weight of the circuits' terms beside the cross-entropy of text
    #[arg(long, default_value_t = Localisation::default().weight, value_parser = positive::<f64>())]
    weight: f64,
    /// Contrast pairs a step
    #[arg(long, default_value_t = Localisation::default().pairs, value_parser = between::<usize>(2, 4096))]
    pairs: usize,
    /// Least share of answers that must stay the original's under every intervention
    #[arg(long, default_value_t = Localisation::default().agreement, value_parser = between(0.5, 1.0))]
    agreement: f64,
    /// Largest loss of a circuit in the untouched model, and in the end, nats per sequence
    #[arg(long, default_value_t = Localisation::default().target_loss, value_parser = up_to(1.0))]
    target_loss: f64,
    /// Seed of text, pairs and interventions
    #[arg(long, default_value_t = 0, value_parser = seed)]
    seed: u64,
    /// Control: train in circuits that miss the target in the untouched model, such as those of other tasks
    #[arg(long)]
    control: bool,
    /// Control: train in connected random circuits of the same shape instead, drawn with this seed
    #[arg(long, value_name = "SEED", value_parser = seed)]
    random: Option<u64>,
    /// Round the bigram table to half precision first, which halves the file of a small model
    #[arg(long)]
    half_bigram: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    check_folder(folder.unwrap_or(std::path::Path::new(".")))?;
    let project = open_project(&args.model, Beside { data: Some(&args.data), ..Beside::default() })?;
    let circuits = args.circuit.iter().map(|path| project.circuit(path)).collect::<Result<Vec<_>, _>>()?;
    let settings = Localisation {
        steps: args.steps,
        extra_steps: args.extra_steps,
        lr: args.lr,
        weight: args.weight,
        pairs: args.pairs,
        agreement: args.agreement,
        target_loss: args.target_loss,
        seed: args.seed,
        ..Localisation::default()
    };
    interrupt::listen()?;
    let (data, out) = (args.data.as_path(), args.out.as_path());
    let (control, random) = (args.control, args.random);
    let request = LocaliseRequest {
        circuits: &circuits,
        data,
        out,
        settings: &settings,
        control,
        random,
        half_bigram: args.half_bigram,
    };
    let mut shown = Shown { progress: None, of: (false, 0) };
    let mut compares = || if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let localised = localise(&project, &request, &mut |step| shown.step(step), &mut compares);
    let localised = localised.context("nothing was localised")?;
    drop(shown);
    let Some(localised) = localised else {
        eprintln!("interrupted: nothing was written");
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    };
    show(&localised)?;
    for circuit in localised.circuits.iter().filter(|circuit| !circuit.stands) {
        eprintln!(
            "note: the circuit of {} does not stand: it misses what --agreement {} or --target-loss {} asks for under an intervention of the \
             training",
            circuit.task, args.agreement, args.target_loss
        );
    }
    for circuit in &localised.circuits {
        say!("openwork verify {} {}", out.display(), circuit.path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Progress of the training and of its twin.
struct Shown {
    progress: Option<Progress>,
    /// The part that it is of: whether it is the twin's, and its number of steps.
    of: (bool, u64),
}

impl Shown {
    fn step(&mut self, step: LocaliseStep<'_>) -> ControlFlow<()> {
        let p = step.progress;
        // A training that ends early has fewer steps than it might have had.
        if (step.twin, p.steps) != self.of {
            self.of = (step.twin, p.steps);
            self.progress = Some(Progress::new(Some(p.steps), p.step - 1));
        }
        let progress = self.progress.as_ref().expect("of this part");
        progress.update(p.step, || {
            let which = if step.twin { "twin" } else { "localising" };
            let distance = if step.twin { String::new() } else { format!("  distance {:.3}", p.distance) };
            format!("{which}: step {}/{}  text {:.3} nats{distance}", p.step, p.steps, p.text_loss)
        });
        for (task, standing) in step.tasks.iter().zip(p.standings.unwrap_or_default()) {
            let [few, many] = standing.attacked.map(percent);
            progress.note(&format!(
                "step {}: {task}: loss {:.3}, the original's answers {} alone, {} with all else zero, {few} and {many} under attack; \
                 gap {:.2}",
                p.step,
                standing.loss,
                percent(standing.at_means),
                percent(standing.at_zero),
                standing.gap
            ));
        }
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn show(run: &LocalisedRun) -> Result<()> {
    let row = |c: &openwork_project::LocalisedCircuit| {
        let ((_, before), (_, after)) = (c.standings[0], c.standings[c.standings.len() - 1]);
        [
            c.task.clone(),
            format!("{} of {}", c.nodes[1], c.nodes[0]),
            c.edges.to_string(),
            format!("{:.3} -> {:.3}", c.original_loss, c.loss),
            format!("{} -> {}", percent(before.attacked[1]), percent(after.attacked[1])),
            format!("{:.2} -> {:.2}", before.gap, after.gap),
            percent(c.edge_change),
        ]
    };
    let head = ["trained in", "nodes", "edges", "loss", "attacked", "knock-out gap", "own weights changed"];
    table(head, &run.circuits.iter().map(row).collect::<Vec<_>>())?;
    let (text, [first, extra]) = (&run.text, run.phases);
    say!(
        "\n{first} + {extra} steps; text {:.4} -> {:.4} nats per token, the twin {:.4} ({:+.4} for the circuits); KL from the original \
         {:.4}, over {} tokens\n",
        text.original,
        text.localised,
        text.twin,
        text.localised - text.twin,
        text.kl,
        count(text.tokens as u64)
    );
    let two = |x: [f64; 2]| format!("{:.3} / {:.3}", x[0], x[1]);
    let row = |t: &openwork_project::TaskChange| {
        let mark = if t.localised { " (trained in)" } else { "" };
        [format!("{}{mark}", t.task), two(t.before), two(t.after), two(t.twin)]
    };
    let head = ["task: loss on fresh pairs / held-out templates", "before", "after", "twin"];
    table(head, &run.tasks.iter().map(row).collect::<Vec<_>>())
}
