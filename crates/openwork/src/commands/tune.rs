//! `openwork tune`: the settings of a search that give the smallest circuit of a task.

use std::{
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use openwork_chart::{Axis, Chart, Curve, Point, Scale};
use openwork_circuit::{Claim, LearnedMasks, Sampler, SearchSettings};
use openwork_extract::{Settings, Trial};
use openwork_project::{
    DRAWING_MARK, OutputKind, Project, TuneRequest, TunedSearch, check_outputs, find_task, read_trace, trace_sha256,
    tune,
};

use crate::ui::{
    args::{ProjectArgs, circuit_name, describe_circuit, note_if_empty},
    interrupt,
    ranges::{between, seed, up_to},
    show::say,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Task that the circuit is for (see `openwork tasks list`)
    #[arg(long)]
    task: String,
    /// Searches, each with settings of its own; those of a trace that is there already count
    #[arg(long, value_parser = between::<usize>(1, 1 << 16))]
    runs: usize,
    /// Sampler of the settings: tpe (tree-structured Parzen estimators) or random
    #[arg(long, default_value_t, value_parser = sampler)]
    sampler: Sampler,
    /// Name of the circuit, which is written to circuits/NAME.json beside the model; trace and drawing are NAME.tune.jsonl and NAME.tune.svg there [default: the task]
    #[arg(long, value_parser = circuit_name)]
    name: Option<String>,
    /// Claim of the circuit: answer or contrast
    #[arg(long, default_value_t = Claim::Answer, value_name = "answer|contrast")]
    claim: Claim,
    /// Loss to reach, in nats per sequence (chance is 0.693)
    #[arg(long, default_value_t = 0.15, value_parser = up_to(1.0))]
    target_loss: f64,
    /// Contrast pairs a step
    #[arg(long, default_value_t = LearnedMasks::default().batch_pairs, value_parser = between::<usize>(1, 1 << 20))]
    batch_pairs: usize,
    /// Seed of pairs, masks, batches and settings
    #[arg(long, default_value_t = 0, value_parser = seed)]
    seed: u64,
    /// Trace of another tuning to draw beside this one, such as one with --sampler random
    #[arg(long)]
    beside: Option<PathBuf>,
    /// Begin anew and replace trace and circuit; the circuit's verdict, pairs and certificates are removed with it
    #[arg(long)]
    force: bool,
}

fn sampler(name: &str) -> Result<Sampler, String> {
    Sampler::of_name(name).ok_or_else(|| "expected tpe or random".into())
}

/// Runs the command. Ctrl-C ends it after the rounds that are finished.
pub fn run(args: Args) -> Result<ExitCode> {
    let (task, project) = (find_task(&args.task)?, args.project.open()?);
    let out = project.circuit_path(args.name.as_deref().unwrap_or(task.name()));
    let (trace, drawing) = (out.with_extension("tune.jsonl"), out.with_extension("tune.svg"));
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    check_outputs(&[(OutputKind::Circuit, &out), (OutputKind::Trace, &trace), (OutputKind::Drawing, &drawing)], &[])?;
    let replace = args.force || of_this_trace(&project, &out, &trace);
    match replace {
        true => project.check_beside(&out)?,
        false => project.check_free(&out)?,
    }
    let beside = args.beside.as_ref().map(|path| read_trace(&project, path)).transpose()?;
    if args.force && trace.exists() {
        std::fs::remove_file(&trace).with_context(|| format!("cannot remove {}", trace.display()))?;
    }
    interrupt::listen()?;
    let masks = LearnedMasks { batch_pairs: args.batch_pairs, ..LearnedMasks::default() };
    let settings = Settings { target_loss: args.target_loss, seed: args.seed, masks };
    let splits = project.splits(task, args.seed)?;
    let (sampler, runs) = (args.sampler, args.runs);
    let request = TuneRequest {
        task: task.name(),
        splits: &splits,
        claim: args.claim,
        settings: &settings,
        sampler,
        runs,
        trace: &trace,
    };
    let last = AtomicU64::new(0);
    let TunedSearch { circuit, trials } = tune(&project, &request, &|step| {
        if step.step == 0 && last.fetch_max(step.trial as u64, Ordering::Relaxed) <= step.trial as u64 {
            eprintln!("{}: search {} of {runs}, {} steps", request.task, step.trial + 1, step.steps);
        }
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if !trials.is_empty() {
        write(&drawing, &drawn(request.task, (sampler, &trials), beside.as_ref())?)?;
    }
    match &circuit {
        Some(circuit) => {
            project.save_circuit(circuit, &out, replace)?;
            note_if_empty(circuit);
            say!("{}", describe_circuit(circuit));
            if let SearchSettings::Tuned(tuned) = &circuit.search {
                say!(
                    "search {} of {} ({sampler}) won: {}",
                    tuned.won + 1,
                    trials.len(),
                    words(&trials[tuned.won].masks)
                );
            }
            say!("{}\n{}\n{}", out.display(), trace.display(), drawing.display());
        }
        None => {
            eprintln!("none of {} searches reached {} nats: no circuit was written", trials.len(), args.target_loss)
        }
    }
    if interrupt::requested() {
        eprintln!("interrupted after {} of {runs} searches; the same command goes on", trials.len());
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    }
    Ok(if circuit.is_some() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// True if the circuit that lies there is the best so far of the trace that lies beside it.
fn of_this_trace(project: &Project, circuit: &Path, trace: &Path) -> bool {
    let (Ok(circuit), Some(sha256)) = (project.circuit(circuit), trace_sha256(trace)) else { return false };
    matches!(circuit.search, SearchSettings::Tuned(tuned) if tuned.trace_sha256 == sha256)
}

/// Settings that a tuning searches, in words.
fn words(m: &LearnedMasks) -> String {
    format!(
        "{} steps, k_coef {:.2e}, lr {:.2e}, weight decay {:.1e}, beta2 {:.3}, temperature {:.2}, init {:.2} ± {:.3}",
        m.steps, m.k_coef, m.lr, m.weight_decay, m.beta2, m.temperature, m.init_bias, m.init_noise
    )
}

fn write(path: &Path, text: &str) -> Result<()> {
    openwork_tensor::write_atomic(path, |w| w.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Fewest edges so far against the number of searches, of this tuning and of the one beside it.
fn drawn(task: &str, of: (Sampler, &[Trial]), beside: Option<&(Sampler, Vec<Trial>)>) -> Result<String> {
    let curve = |(sampler, trials): (Sampler, &[Trial]), note: &str| {
        let mut best = f64::INFINITY;
        let points = trials.iter().enumerate().map(|(i, trial)| {
            if trial.reached {
                best = best.min(trial.edges as f64);
            }
            Point::new(i as f64 + 1.0, best)
        });
        Curve::new(format!("{sampler}{note}"), points.collect())
    };
    let beside = beside.map(|(sampler, trials)| curve((*sampler, trials), ", beside"));
    let chart = Chart {
        title: format!("{task}: the best of so many searches"),
        x: Axis { label: "searches".into(), scale: Scale::Doublings },
        y: Axis { label: "edges at the target loss".into(), scale: Scale::Doublings },
        curves: [curve(of, "")].into_iter().chain(beside).collect(),
    };
    Ok(openwork_chart::grid(&[chart], 1)?.replacen('>', &format!(">{DRAWING_MARK}"), 1))
}
