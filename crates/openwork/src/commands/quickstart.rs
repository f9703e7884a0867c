//! `openwork quickstart`: the whole way on the embedded default data. Every stage leaves its files in one
//! folder and is not done again if they are there, so that an interrupted quickstart goes on where it was.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use openwork_circuit::{CircuitFile, Claim, LearnedMasks};
use openwork_data::{
    CorpusReport, PUBLISHED_VOCAB_SIZE, Tokenizer,
    corpus::{self, GeneratedOptions},
};
use openwork_extract::Settings as SearchSettings;
use openwork_ops::{Device, DeviceChoice};
use openwork_project::{
    Beside, DEFAULT_LEVEL, Method, ModelReport, OutputKind, Project, Request, SearchRequest, Standing, TrainingRun,
    VerdictFile, check_outputs, find_circuit, find_recipe, find_task, models_folder, shipped_models, verdict_path,
    verify_circuit,
};
use openwork_tasks::Task;
use openwork_tensor::FolderLock;
use openwork_train::Stopped;
use openwork_verify::{Limits, Settings};

use crate::{
    page::Page,
    ui::{
        args::{check_distinct, describe_circuit, open_device, open_project, say_verdicts},
        interrupt,
        progress::{Progress, SearchProgress, VerificationProgress},
        show::{count, say},
        training,
    },
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for everything it makes
    #[arg(long, default_value = "runs/quickstart")]
    out: PathBuf,
    /// Tasks to find and verify circuits for
    #[arg(long, value_delimiter = ',', default_values_t = TASKS.map(str::to_owned))]
    tasks: Vec<String>,
    /// Recipe file or name
    #[arg(long, default_value = "quickstart")]
    recipe: PathBuf,
    /// Device for training and for learning masks: cpu, cuda, cuda:N, or auto for a GPU if there is one (`openwork devices`)
    #[arg(long, default_value_t)]
    device: DeviceChoice,
}

/// Default tasks: the mark that closes a string depends on the one that opened it; the end of a line on its beginning.
const TASKS: [&str; 2] = ["single_double_quote", "with_as"];

/// Megabytes of generated programs: about one epoch of the recipe.
const MEGABYTES: u64 = 57;
/// Megabytes that the tokenizer is trained on.
const TOKENIZER_MEGABYTES: u64 = 8;

/// The pruning budget: a few hundred steps find circuits of tens of edges in less than a minute. The target is
/// stricter than the paper's 0.15 nats, at which circuits of this small model are right too seldom to pass.
fn search_settings() -> SearchSettings {
    let masks = LearnedMasks { restarts: 2, steps: 300, ..LearnedMasks::default() };
    SearchSettings { target_loss: 0.08, masks, ..SearchSettings::default() }
}

/// Settings of the verifier: its own but for the number of random sets, the fewest that it accepts, to keep within minutes.
fn verifier_settings() -> Settings {
    let target_loss = search_settings().target_loss;
    Settings { target_loss, random_sets: 100, ..Settings::default() }
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let started = Instant::now();
    check_distinct("--tasks", &args.tasks)?;
    let tasks = args.tasks.iter().map(|t| find_task(t)).collect::<Result<Vec<_>, _>>()?;
    let recipe = find_recipe(&args.recipe)?;
    let device = open_device(args.device)?;
    let out = &args.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let _lock = FolderLock::exclusive(out)?;
    openwork_tensor::remove_leftovers_in(out).with_context(|| format!("cannot clear {}", out.display()))?;
    let page = out.join("report.html");
    check_outputs(&[(OutputKind::Page, &page)], &[])?;

    let models = models_folder();
    let shipped = shipped_models(&models).unwrap_or_else(|error| {
        eprintln!("note: cannot list the models that come with the program in {}: {error}", models.display());
        vec![]
    });
    for name in shipped {
        stage(
            &format!("{name}, a model that comes with the program: openwork report {name} shows its circuits"),
            started,
        );
        if let Err(error) = say_verdicts(&models.join(&name)) {
            eprintln!("note: cannot show the verdicts of {name}: {error:#}");
        }
    }

    stage("data: generated Python programs", started);
    let tokenizer = tokenizer(&out.join("tokenizer.json"), recipe.seed)?;
    let data = out.join("data");
    if !data.exists() {
        let options = GeneratedOptions::new(recipe.seed, MEGABYTES * 1_000_000);
        let progress = Progress::new(Some(options.target_bytes), 0);
        let made = corpus::write_generated(&options, &tokenizer, &data, &|p| progress.documents(p))?;
        drop(progress);
        say!("{} tokens in {}", count(made.train.tokens), data.display());
    } else {
        let made = CorpusReport::read(&data)?;
        ensure!(
            made.generated_seed == Some(recipe.seed),
            "{} holds no programs of seed {}, the recipe's; name another folder with --out",
            data.display(),
            recipe.seed
        );
    }

    stage("training", started);
    let run = out.join("run");
    // The sample is written last.
    if !run.join("sample/manifest.json").exists() {
        let resume = run.join("checkpoint.safetensors").exists();
        let training = TrainingRun::open(recipe, &data, &tokenizer, &run, resume, device.clone())?;
        if let Stopped::Interrupted { step } = training::show(training)? {
            eprintln!("interrupted after step {step}; the same command goes on from there");
            return Ok(ExitCode::from(interrupt::INTERRUPTED));
        }
    } else {
        let trained = find_recipe(run.join("recipe.toml"))?;
        ensure!(
            trained.canonical() == recipe.canonical(),
            "{} was trained by another recipe; name another folder with --out",
            run.display()
        );
    }

    let project = open_project(&run, Beside { data: Some(&data), ..Beside::default() })?;
    interrupt::listen()?;
    let mut passed = 0;
    for task in tasks {
        stage(&format!("circuit of {}", task.name()), started);
        let verified = circuit(&project, task, &device).map(|circuit| verified(&project, &circuit));
        if interrupt::requested() {
            eprintln!("interrupted; the same command goes on from there");
            return Ok(ExitCode::from(interrupt::INTERRUPTED));
        }
        match verified {
            Ok(pass) => passed += usize::from(pass?),
            Err(error) => say!("{error:#}"),
        }
    }

    stage("report", started);
    Page::of_model(ModelReport::new(&project)?, &project.dir)?.write(&page)?;
    say!("{} of {} circuits pass", passed, args.tasks.len());
    say!("{}", page.display());
    eprintln!("to look at them with the model live: openwork view {}", project.dir.display());
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
    let tokenizer = Tokenizer::train_on_programs(seed, TOKENIZER_MEGABYTES * 1_000_000, PUBLISHED_VOCAB_SIZE)?;
    tokenizer.save(path)?;
    Ok(tokenizer)
}

/// The circuit of a task: the one that lies there, or a new one.
fn circuit(project: &Project, task: &Task, device: &Device) -> Result<CircuitFile> {
    let path = project.circuit_path(task.name());
    if path.exists() {
        return Ok(project.circuit(&path)?);
    }
    let splits = project.splits(task, 0)?;
    let progress = SearchProgress::default();
    let method = Method::Masks(search_settings());
    let request = SearchRequest { task: task.name(), splits: &splits, claim: Claim::Answer, method: &method };
    let circuit = find_circuit(project, &request, device, &mut |p| progress.step(p))?;
    progress.finish();
    // One that was cut short is not kept.
    let circuit = circuit.filter(|_| !interrupt::requested()).context("interrupted")?;
    project.save_circuit(&circuit, &path, false)?;
    say!("{}", describe_circuit(&circuit));
    Ok(circuit)
}

/// Verifies a circuit, unless that has been done and the verdict is about it; says the verdict and whether it is a pass.
fn verified(project: &Project, circuit: &CircuitFile) -> Result<bool> {
    let path = project.circuit_path(&circuit.task);
    if !matches!(Standing::of(&path, circuit, Some(project))?, Standing::Judged(_)) {
        let limits = Limits { interrupted: &interrupt::requested, ..Limits::level(DEFAULT_LEVEL) };
        let settings = verifier_settings();
        let request = Request { circuit, hypothesis: None, with_controls: true, settings: &settings, limits: &limits };
        let mut progress = VerificationProgress::new(&circuit.task);
        let verification = verify_circuit(project, request, &mut |stage| progress.show(stage))?;
        drop(progress);
        ensure!(!interrupt::requested(), "interrupted");
        verification.record(project, &request, &path, &verdict_path(&path), false)?;
    }
    let report = VerdictFile::read(&verdict_path(&path))?.report;
    say!("{}: {}", circuit.task, report.headline());
    for reason in &report.reasons {
        say!("  {reason}");
    }
    Ok(report.verdict.passed())
}
