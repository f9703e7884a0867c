//! `openwork train`: a run of a recipe, with progress, interruption and resume.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use openwork_data::Tokenizer;
use openwork_ops::{Device, DeviceChoice};
use openwork_tensor::{ShardError, TokenShards};
use openwork_train::{Event, LogLine, MemoryPlan, Recipe, Run, Stopped};

use crate::{
    devices, interrupt, model,
    progress::Progress,
    recipe, sample,
    show::{count, say},
    tokenizer,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// A recipe file, or the name of a shipped recipe: quickstart, python-1x, gao-4x
    recipe: String,
    /// Folder with train/ and validation/ shards, as `openwork data` writes it
    #[arg(long)]
    data: PathBuf,
    /// The tokenizer.json that made the data
    #[arg(long)]
    tokenizer: PathBuf,
    /// Folder of the run: recipe, log, checkpoint, tokenizer, and in the end model.safetensors
    #[arg(long)]
    out: PathBuf,
    /// Go on from the last checkpoint in the folder
    #[arg(long)]
    resume: bool,
    /// Threads; the result does not depend on their number [default: all]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Where to train: cpu, cuda, cuda:N, or auto for a GPU if there is one (`openwork devices` lists them)
    #[arg(long, default_value_t)]
    device: DeviceChoice,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    use_threads(args.threads)?;
    let device = devices::open(args.device)?;
    let recipe = recipe::find(&args.recipe)?;
    let tokenizer = tokenizer::load(&args.tokenizer, "--generated")?;
    let stopped = train(recipe, &args.data, &tokenizer, &args.out, args.resume, device)?;
    match stopped {
        Stopped::Finished => Ok(ExitCode::SUCCESS),
        Stopped::Interrupted { step } => {
            eprintln!(
                "interrupted after step {step}; a checkpoint is written. To go on:\n  \
                 openwork train {} --data {} --tokenizer {} --out {} --resume",
                args.recipe,
                args.data.display(),
                args.tokenizer.display(),
                args.out.display()
            );
            Ok(ExitCode::from(interrupt::INTERRUPTED))
        }
    }
}

/// Sets the number of threads of everything that runs in parallel.
pub fn use_threads(threads: Option<NonZeroUsize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global().context("cannot start the threads")
}

/// Trains `recipe` in the folder `out`, with progress, until the end or an interruption.
pub fn train(
    recipe: Recipe,
    data: &Path,
    tokenizer: &Tokenizer,
    out: &Path,
    resume: bool,
    device: Device,
) -> Result<Stopped> {
    let (has, allows) = (tokenizer.vocab_size(), recipe.config.vocab_size);
    ensure!(has <= allows, "the tokenizer has {has} tokens and the recipe a vocabulary of {allows} (model.vocab_size)");
    let shards = (open_shards(data, "train", tokenizer)?, open_shards(data, "validation", tokenizer)?);
    if let Device::Cpu = device {
        check_memory(&recipe)?;
    }
    let mut run = if resume { Run::resume(recipe, out, shards)? } else { Run::create(recipe, out, shards)? };
    if let Device::Cuda(gpu) = device {
        run = run.on_gpu(gpu.clone())?;
        say!("training on {}: {} MB of its memory", gpu.name(), count(gpu.used().div_ceil(1 << 20) as u64));
    }
    // Later commands find it beside the model.
    let path = out.join("tokenizer.json");
    openwork_tensor::remove_leftovers(&path).with_context(|| format!("cannot clear {}", out.display()))?;
    tokenizer.save(&path)?;
    interrupt::listen()?;

    let steps = run.recipe().schedule.steps;
    let progress = Progress::new(Some(steps), run.step_count());
    if resume {
        progress.note(&format!("going on after step {} of {steps}", run.step_count()));
    }
    let metadata = BTreeMap::from([(model::TOKENIZER_KEY.to_owned(), tokenizer.sha256().to_owned())]);
    let mut validation = None;
    let mut last = None;
    // Floors sink with the number of weights, so they are told when that has reached its end.
    let sparsest = run.recipe().schedule.anneal_stop;
    let mut floors_told = false;
    let stopped = run.train(&metadata, &mut |event: Event<'_>| {
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
        sample::write(out, data, tokenizer.sha256(), run.recipe().config.n_ctx, run.recipe().seed)?;
        say!("{}", out.join("model.safetensors").display());
    }
    Ok(stopped)
}

/// Says what memory the run needs, and refuses where the machine has not that much.
fn check_memory(recipe: &Recipe) -> Result<()> {
    let plan = MemoryPlan::new(recipe, rayon::current_num_threads());
    let MemoryPlan { weights, moments, gradients, activations } = plan;
    let megabytes = |bytes: usize| format!("{} MB", count((bytes as u64).div_ceil(1 << 20)));
    say!(
        "memory: weights {}, moments {}, gradients {}, activations {}; {} in all",
        megabytes(weights),
        megabytes(moments),
        megabytes(gradients),
        megabytes(activations),
        megabytes(plan.total())
    );
    let Some(available) = available_memory() else { return Ok(()) };
    ensure!(
        plan.total() <= available,
        "the run needs {} of memory and {} are available; fewer --threads take fewer gradients and activations, \
         a smaller batch.chunk_sequences ({}) fewer activations",
        megabytes(plan.total()),
        megabytes(available),
        recipe.chunk_sequences
    );
    Ok(())
}

/// Bytes of memory that could be had now, where the system says so (Linux).
fn available_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn open_shards(data: &Path, part: &str, tokenizer: &Tokenizer) -> Result<TokenShards> {
    TokenShards::open(data.join(part), tokenizer.sha256()).map_err(|error| match error {
        ShardError::NoManifest { .. } => {
            anyhow::Error::new(error).context(format!("{} is not a folder that `openwork data` wrote", data.display()))
        }
        error => error.into(),
    })
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
