//! `cargo xtask bench search`: the passes of a search by learned masks, over padded sequences and over prefixes.
//!
//! One process is busy, on one thread, and both have their turn in every round. A step of a search is a forward and a backward pass over a
//! batch of pairs under a mask; a candidate of a selection is a forward pass. Both contestants run the same pairs under the same mask, and the
//! bench checks first that they find the same gradient.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use openwork_benches::{
    Contestant, Csv, Machine, Record, Samples, Save, exit, repository, stats::Spread, take_turns, use_threads,
};
use openwork_circuit::{Ablation, Batch, LearnedMasks, NodeSpace, Partial, batches};
use openwork_extract::{Search, Settings};
use openwork_model::{Cpu, Prefixes, Tokens};
use openwork_project::{Beside, Project, find_task};
use openwork_tasks::{Pair, Splits};

/// Pairs of a step, the default of learned masks.
const PAIRS: usize = 32;

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench search", about = "Times the passes of a search by learned masks")]
struct Args {
    /// Run or model whose circuits are searched [default: models/quickstart-localised]
    model: Option<PathBuf>,
    /// Task
    #[arg(long, default_value = "with_as")]
    task: String,
    /// Every which node the mask closes
    #[arg(long, default_value_t = 2)]
    closed: usize,
    /// Rounds
    #[arg(long, default_value_t = 25)]
    repeats: usize,
    /// Time a whole restart of so many steps, too
    #[arg(long)]
    restart: Option<usize>,
    /// Write the results to benches/runs
    #[arg(long)]
    save: bool,
}

fn main() -> ExitCode {
    exit(run(Args::parse()))
}

/// A step's pairs and mask.
struct Step<'a> {
    project: &'a Project,
    space: NodeSpace,
    r: Vec<f32>,
    pairs: &'a [Pair],
}

impl Step<'_> {
    fn tap(&self) -> Partial<'_> {
        Partial::new(&self.space, &self.r, Ablation::Mean(&self.project.means))
    }

    /// Chunks of a step: a quarter of the pairs each.
    fn chunks(&self) -> impl Iterator<Item = &[Pair]> {
        self.pairs.chunks(PAIRS.div_ceil(4))
    }

    fn padded(&self) -> Vec<f32> {
        let model = &self.project.model;
        let mut sum = vec![0.0; self.r.len()];
        for pairs in self.chunks() {
            let (batch, mut tap) = (one(pairs, model.config.n_ctx), self.tap());
            let pass = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
            model.backward(&pass, &batch.task_loss(&pass.logits).1, &mut tap, None);
            sum.iter_mut().zip(&tap.gradient).for_each(|(s, g)| *s += g);
        }
        sum
    }

    fn prefixes(&self, cpu: &mut Cpu) -> Vec<f32> {
        let model = &self.project.model;
        let mut sum = vec![0.0; self.r.len()];
        for pairs in self.chunks() {
            let (batch, mut tap) = (one(pairs, model.config.n_ctx), self.tap());
            let prefixes = Prefixes::new(pairs.iter().flat_map(Pair::prompts), &model.config);
            let pass = model.forward_prefixes(&prefixes, &mut tap, cpu);
            model.backward_prefixes(&prefixes, &pass, &batch.task_loss(&pass.logits).1, &mut tap, cpu);
            pass.recycle(cpu);
            sum.iter_mut().zip(&tap.gradient).for_each(|(s, g)| *s += g);
        }
        sum
    }
}

fn one(pairs: &[Pair], n_ctx: usize) -> Batch {
    batches(pairs, pairs.len(), n_ctx).swap_remove(0)
}

fn run(args: Args) -> Result<()> {
    ensure!(args.repeats > 0, "--repeats is 0; right would be 25");
    ensure!(args.closed > 0, "--closed is 0; right would be 2, for every second node");
    use_threads(1)?;
    let path = args.model.unwrap_or_else(|| repository().join("models/quickstart-localised"));
    let project = Project::open(&path, Beside::default(), &mut |_| ())?;
    let splits = project.splits(find_task(&args.task)?, 0)?;
    let mut pairs = splits.train.get(..PAIRS).context("the task has too few training pairs")?.to_vec();
    pairs.sort_by(|a, b| (&a.positive, &a.negative).cmp(&(&b.positive, &b.negative)));
    let space = NodeSpace::new(&project.model.config);
    let r = (0..space.len()).map(|n| if n % args.closed == 0 { 0.0 } else { 1.0 }).collect();
    let step = Step { project: &project, space, r, pairs: &pairs };
    let machine = Machine::here();
    let mut record = Record::new();
    machine.warning().iter().for_each(|warning| record.line(warning));
    columns(&step, &mut record);
    let mut cpu = Cpu::default();
    check(&step.padded(), &step.prefixes(&mut cpu))?;
    let samples = take_turns(
        vec![
            Contestant::new("padded", || Ok(seconds(|| step.padded()))),
            Contestant::new("prefixes", || Ok(seconds(|| step.prefixes(&mut cpu)))),
        ],
        args.repeats,
    );
    let mut csv = Csv::new(["task", "contestant", "round", "seconds"]);
    for Samples { name, seconds } in &samples {
        let Spread { p10, median, p90 } = Spread::of(seconds);
        record.line(format!("{name}: {:.2} ms a step ({:.2} to {:.2})", median * 1e3, p10 * 1e3, p90 * 1e3));
        record.metric(&format!("search {} {name}", args.task), median, "s");
        for (round, seconds) in seconds.iter().enumerate() {
            csv.row(vec![args.task.clone(), name.clone(), round.to_string(), seconds.to_string()]);
        }
    }
    if let [padded, prefixes] = &samples[..] {
        let Spread { p10, median, p90 } = Spread::of(&prefixes.speedups(padded));
        record.line(format!("prefixes take turns {median:.2} times as fast ({p10:.2} to {p90:.2})"));
    }
    if let Some(steps) = args.restart {
        let seconds = restart(&project, &splits, steps);
        record.line(format!("a restart of {steps} steps with its selection: {seconds:.2} s"));
        record.metric(&format!("search {} restart of {steps}", args.task), seconds, "s");
    }
    if args.save {
        Save::new("search", "search", &machine).write(&record, &csv)?;
    }
    Ok(())
}

/// Columns that either pass computes.
fn columns(step: &Step<'_>, record: &mut Record) {
    let config = &step.project.model.config;
    let padded: usize = step.chunks().map(|pairs| one(pairs, config.n_ctx).tokens.len()).sum();
    let mut by_block = vec![(0, 0); config.n_layer];
    for pairs in step.chunks() {
        let prefixes = Prefixes::new(pairs.iter().flat_map(Pair::prompts), config);
        by_block.iter_mut().zip(prefixes.columns()).for_each(|(sum, (inputs, outputs))| {
            *sum = (sum.0 + inputs, sum.1 + outputs);
        });
    }
    let blocks: Vec<String> = by_block.iter().map(|(inputs, outputs)| format!("{inputs} to {outputs}")).collect();
    record.line(format!("{PAIRS} pairs: {padded} columns padded; of prefixes, by block, {}", blocks.join(", ")));
}

/// The two passes find the same gradient.
fn check(padded: &[f32], prefixes: &[f32]) -> Result<()> {
    let scale = padded.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
    let apart = padded.iter().zip(prefixes).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    ensure!(scale > 0.0 && apart <= 1e-3 * scale, "gradients differ by {apart:e}, the largest is {scale:e}");
    Ok(())
}

fn seconds<R>(f: impl FnOnce() -> R) -> f64 {
    let start = Instant::now();
    std::hint::black_box(f());
    start.elapsed().as_secs_f64()
}

fn restart(project: &Project, splits: &Splits, steps: usize) -> f64 {
    let settings =
        Settings { masks: LearnedMasks { restarts: 1, steps, ..LearnedMasks::default() }, ..Settings::default() };
    let Project { model, means, .. } = project;
    let search = Search { model, means, train: &splits.train, validation: &splits.selection, settings: &settings };
    seconds(|| search.search(&mut |_| std::ops::ControlFlow::Continue(())))
}
