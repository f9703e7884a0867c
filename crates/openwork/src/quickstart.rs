//! `openwork quickstart`: the whole way on the embedded default data. Every stage leaves its files in one
//! folder and is not done again if they are there, so that an interrupted quickstart goes on where it was.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use openwork_circuit::{CircuitFile, LearnedMasks};
use openwork_data::{PUBLISHED_VOCAB_SIZE, Tokenizer, corpus::GeneratedOptions};
use openwork_extract::Settings as Budget;
use openwork_ops::{Device, DeviceChoice};
use openwork_tasks::Task;
use openwork_train::Stopped;
use openwork_verify::{Limits, Settings};

use crate::{
    data, devices, interrupt, prune, recipe, report,
    show::{count, say},
    tasks, tokenizer, train, verify,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for everything it makes
    #[arg(long, default_value = "runs/quickstart")]
    out: PathBuf,
    /// Tasks to find and judge circuits for
    #[arg(long, value_delimiter = ',', default_values_t = TASKS.map(str::to_owned))]
    tasks: Vec<String>,
    /// Recipe file or name
    #[arg(long, default_value = "quickstart")]
    recipe: String,
    /// Where to train and learn masks: cpu, cuda, cuda:N, or auto for a GPU if there is one (`openwork devices`)
    #[arg(long, default_value_t)]
    device: DeviceChoice,
}

/// What a string was opened with decides how it is closed; what a line began with decides how it goes on.
const TASKS: [&str; 2] = ["single_double_quote", "with_as"];

/// Megabytes of generated programs: about one epoch of the recipe.
const MEGABYTES: u64 = 57;
/// Megabytes that the tokenizer is trained on.
const TOKENIZER_MEGABYTES: u64 = 8;

/// The pruning budget: a few hundred steps find circuits of tens of edges in less than a minute. The target is
/// stricter than the paper's 0.15 nats, at which circuits of this small model are right too seldom to pass.
fn budget() -> Budget {
    let masks = LearnedMasks { restarts: 2, steps: 300, ..LearnedMasks::default() };
    Budget { target_loss: 0.08, masks, ..Budget::default() }
}

/// The judge's settings: the fewest random sets it accepts, on fewer pairs, to keep within minutes.
fn judge() -> Settings {
    Settings { random_sets: 100, random_pairs: 32, ..Settings::default() }
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let started = Instant::now();
    let tasks = args.tasks.iter().map(|t| tasks::find(t)).collect::<Result<Vec<_>>>()?;
    let recipe = recipe::find(&args.recipe)?;
    let device = devices::open(args.device)?;
    let out = &args.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;

    stage("data: generated Python programs", started);
    let tokenizer = tokenizer(&out.join("tokenizer.json"), recipe.seed)?;
    let data = out.join("data");
    if !data.exists() {
        let options = GeneratedOptions::new(recipe.seed, MEGABYTES * 1_000_000);
        let made = data::generate(&options, &tokenizer, &data)?;
        say!("{} tokens in {}", count(made.train.tokens), data.display());
    }

    stage("training", started);
    let run = out.join("run");
    if !run.join("model.safetensors").exists() {
        let resume = run.join("checkpoint.safetensors").exists();
        if let Stopped::Interrupted { step } = train::train(recipe, &data, &tokenizer, &run, resume, device.clone())? {
            eprintln!("interrupted after step {step}; the same command goes on from there");
            return Ok(ExitCode::from(interrupt::INTERRUPTED));
        }
    }

    let subject = prune::Subject::open(&run, None, Some(&data))?;
    interrupt::listen()?;
    let mut passed = 0;
    for task in tasks {
        stage(&format!("circuit of {}", task.name()), started);
        let judged = circuit(&subject, task, &device).map(|circuit| judged(&subject, &circuit));
        if interrupt::requested() {
            eprintln!("interrupted; the same command goes on from there");
            return Ok(ExitCode::from(interrupt::INTERRUPTED));
        }
        match judged {
            Ok(pass) => passed += usize::from(pass?),
            Err(error) => say!("{error:#}"),
        }
    }

    stage("report", started);
    let page = out.join("report.html");
    report::write(&subject, &page)?;
    say!("{} of {} circuits pass", passed, args.tasks.len());
    say!("{}", page.display());
    Ok(ExitCode::SUCCESS)
}

fn stage(name: &str, started: Instant) {
    let seconds = started.elapsed().as_secs();
    eprintln!("== {name} (after {}:{:02})", seconds / 60, seconds % 60);
}

fn tokenizer(path: &Path, seed: u64) -> Result<Tokenizer> {
    if path.exists() {
        return Ok(Tokenizer::load(path)?);
    }
    let tokenizer = tokenizer::train_on_generated(seed, TOKENIZER_MEGABYTES, PUBLISHED_VOCAB_SIZE)?;
    tokenizer.save(path)?;
    Ok(tokenizer)
}

/// The circuit of a task: the one that lies there, or a new one.
fn circuit(subject: &prune::Subject, task: &Task, device: &Device) -> Result<CircuitFile> {
    let path = prune::path(subject, task.name());
    if path.exists() {
        return Ok(CircuitFile::load(&path, &subject.model, &subject.sha256)?);
    }
    let pairs = tasks::splits(task, &subject.tokenizer, 0)?;
    let circuit = prune::find(subject, task.name(), &pairs, &budget(), device)?;
    // One that was cut short is not kept.
    let circuit = circuit.filter(|_| !interrupt::requested()).context("interrupted")?;
    prune::write(&circuit, &path)?;
    say!("{}", prune::describe(&circuit));
    Ok(circuit)
}

/// Judges a circuit, unless that has been done; says the verdict and whether it is a pass.
fn judged(subject: &prune::Subject, circuit: &CircuitFile) -> Result<bool> {
    let path = verify::report_path(&prune::path(subject, &circuit.task));
    if !path.exists() {
        let limits = Limits { interrupted: &interrupt::requested, ..Limits::level(verify::DEFAULT_LEVEL) };
        let verify::Judged { controls, report, .. } = verify::judge(subject, circuit, None, true, &judge(), &limits)?;
        ensure!(!interrupt::requested(), "interrupted");
        verify::VerdictFile::new(circuit, controls, report).write(&path)?;
    }
    let report = verify::VerdictFile::read(&path)?.report;
    say!("{}: {}", circuit.task, report.verdict.word());
    report.reasons.iter().try_for_each(|reason| -> Result<()> {
        say!("  {reason}");
        Ok(())
    })?;
    Ok(report.verdict.passed())
}
