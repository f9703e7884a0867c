//! Measures the cases, one after the other.

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use openwork_benches::{
    Contestant, Csv, Fraction, Machine, Mode, Peer, Peers, Record, Samples, Save, Setup, Table,
    stats::{Spread, median},
    take_turns, use_threads,
};
use openwork_ops::{Device, DeviceChoice};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cases::{self, CONTEXT, Case, Shape, VOCABULARY};

/// Steps before the first sample: the second is the first whose memory has been in use before.
const WARM_UP: usize = 2;
/// The contestants that others are compared with.
const DENSE: &str = "ours dense";
const PYTORCH: &str = "torch fp32";

/// PyTorch's step, see `benches/peers/step.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Variant {
    /// Eager, the largest magnitudes of a matrix by a threshold from NumPy
    Fp32,
    /// Eager, the largest magnitudes by torch.topk, as is published
    Topk,
    /// As fp32, under autocast to bf16
    Bf16,
    /// As fp32, through torch.compile
    Compile,
}

impl Variant {
    /// As on the command lines of this program and of the script.
    fn name(self) -> String {
        self.to_possible_value().expect("no variant is hidden").get_name().to_owned()
    }
}

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Write every sample and the tables to benches/runs/DATE-DEVICE/
    #[arg(long)]
    save: bool,
    /// Compare with PyTorch
    #[arg(long)]
    peers: bool,
    /// Variants of PyTorch's step to compare with
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Variant::Fp32, Variant::Topk, Variant::Bf16, Variant::Compile])]
    variants: Vec<Variant>,
    /// A small model, one density, three rounds: does everything run?
    #[arg(long)]
    quick: bool,
    /// Other widths, depths and step sizes instead of densities
    #[arg(long, conflicts_with = "shapes")]
    growth: bool,
    /// Widths and layers [default: 256x8,1024x4]
    #[arg(long, value_delimiter = ',')]
    shapes: Vec<Shape>,
    /// Fractions of the weights that are not zero [default: 1,1/4,1/64,1/256; with --growth 1/64]
    #[arg(long, value_delimiter = ',')]
    densities: Vec<Fraction>,
    /// Device: cpu, or cuda or cuda:N for ours and PyTorch on that GPU
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Sequences of a step, where they are not what grows
    #[arg(long, default_value_t = cases::SEQUENCES)]
    sequences: usize,
    /// Threads of every contestant [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Rounds, in each of which every contestant takes one step [default: 7]
    #[arg(long)]
    repeats: Option<usize>,
}

impl Args {
    fn cases(&self) -> Vec<Case> {
        let or = |given: &[Fraction], default: &[&str]| match given {
            [] => default.iter().map(|text| text.parse().expect("a fraction")).collect(),
            given => given.to_vec(),
        };
        let shapes = |default: &[&str]| match &self.shapes[..] {
            [] => default.iter().map(|text| text.parse().expect("a shape")).collect(),
            given => given.to_vec(),
        };
        match (self.growth, self.quick) {
            (true, _) => cases::growth(&or(&self.densities, &["1/64"])),
            (false, true) => cases::grid(&shapes(&["128x2"]), &or(&self.densities, &["1/16"]), self.sequences),
            (false, false) => {
                let densities = or(&self.densities, &["1", "1/4", "1/64", "1/256"]);
                cases::grid(&shapes(&["256x8", "1024x4"]), &densities, self.sequences)
            }
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let device = args.device.open(|reason| println!("on the CPU: {reason}"))?;
    let machine = match &device {
        Device::Cpu => Machine::here(),
        Device::Cuda(gpu) => Machine::here().on(&gpu.name()),
    };
    let threads = args.threads.unwrap_or(machine.cores);
    ensure!(threads > 0, "--threads is 0; right would be 1 to {}", machine.cores);
    let rounds = args.repeats.unwrap_or(if args.quick { 3 } else { 7 });
    ensure!(rounds > 0, "--repeats is 0; right would be 7");
    use_threads(threads)?;
    let peers = Peers::find(args.peers);
    let mut record = Record::new();
    machine.warning().iter().for_each(|warning| record.line(warning));
    let mut csv = Csv::new(["d_model", "layers", "sequences", "density", "threads", "contestant", "round", "seconds"]);
    let mut save = Save::new("step", if args.growth { "step-growth" } else { "step" }, &machine);
    for case in args.cases() {
        let mut torch = start(peers.as_ref(), &args.variants, &case, threads, &device);
        torch.iter().for_each(|peer| save.peer(&peer.version));
        let samples = measure(&case, &mut torch, threads, rounds, &device)?;
        report(&case, &samples, &mut record);
        for Samples { name, seconds } in &samples {
            for (round, seconds) in seconds.iter().enumerate() {
                let sizes = [case.shape.d_model, case.shape.layers, case.sequences].map(|n| n.to_string());
                let mut row = sizes.to_vec();
                row.extend([case.density.to_string(), threads.to_string(), name.clone()]);
                row.extend([round.to_string(), seconds.to_string()]);
                csv.row(row);
            }
        }
        if args.save {
            // After every case: a run that is stopped keeps what it has.
            save.write(&record, &csv)?;
            eprintln!("{}", save.path().display());
        }
    }
    Ok(())
}

/// PyTorch in its variants, ready for a case.
fn start(peers: Option<&Peers>, variants: &[Variant], case: &Case, threads: usize, device: &Device) -> Vec<Peer> {
    let Some(peers) = peers else { return vec![] };
    let start = |variant: &Variant| {
        let sizes = [case.shape.d_model, case.shape.layers, case.sequences].map(|n| n.to_string());
        let place = if matches!(device, Device::Cpu) { "cpu" } else { "cuda" };
        let rest = [case.density.value.to_string(), threads.to_string(), variant.name(), place.to_owned()];
        peers.start(&format!("torch {}", variant.name()), "step.py", &[&sizes[..], &rest[..]].concat())
    };
    variants.iter().filter_map(start).collect()
}

/// Samples of all contestants.
fn measure(case: &Case, torch: &mut [Peer], threads: usize, rounds: usize, device: &Device) -> Result<Vec<Samples>> {
    let support = Mode::Support { refresh_every: 0 };
    let modes = [
        ("ours exact", Mode::Exact, "f32"),
        ("ours support", support, "f32"),
        ("ours exact bf16", Mode::Exact, "bf16"),
        ("ours support bf16", support, "bf16"),
    ];
    let mut contestants = Vec::new();
    for (name, mode, activations) in modes {
        contestants.push(ours(name, &cases::recipe(case, mode, activations, case.density.value, threads), device)?);
    }
    contestants.push(ours(DENSE, &cases::recipe(case, Mode::Exact, "f32", 1.0, threads), device)?);
    for peer in torch {
        contestants.push(Contestant::new(peer.name().to_owned(), move || peer.ask("")));
    }
    Ok(take_turns(contestants, rounds))
}

/// A trainer of ours, warmed up.
fn ours(name: &'static str, recipe: &str, device: &Device) -> Result<Contestant<'static>> {
    eprintln!("starting {name}");
    let Setup { recipe, mut trainer } = Setup::new(recipe)?;
    let mut on_gpu = match device {
        Device::Cpu => None,
        Device::Cuda(gpu) => Some(trainer.on_gpu(gpu.clone(), CONTEXT, recipe.batch_sequences)?),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut step = move || {
        let tokens = recipe.batch_sequences * CONTEXT;
        let batch: Vec<u16> = (0..tokens).map(|_| rng.random_range(0..VOCABULARY as u16)).collect();
        let start = Instant::now();
        let report = match &mut on_gpu {
            None => trainer.step(&batch, CONTEXT)?,
            Some(gpu) => gpu.step(&batch, CONTEXT)?,
        };
        let seconds = start.elapsed().as_secs_f64();
        ensure!(report.loss_nats.is_finite(), "the loss is {}", report.loss_nats);
        Ok(seconds)
    };
    for _ in 0..WARM_UP {
        step()?;
    }
    Ok(Contestant::new(name, step))
}

/// The table of a case, and its metrics.
fn report(case: &Case, samples: &[Samples], record: &mut Record) {
    let Case { shape, sequences, density } = case;
    record.line(format!("\n{shape} (d_model x layers), density {density}, {sequences} sequences of {CONTEXT} a step"));
    let find = |name: &str| samples.iter().find(|samples| samples.name == name);
    let baselines = [("x torch fp32", find(PYTORCH)), ("x ours dense", find(DENSE))];
    let mut table = Table::new(["", "seconds", "p10-p90", "tokens/s", baselines[0].0, baselines[1].0]);
    for contestant in samples {
        let spread = Spread::of(&contestant.seconds);
        let speedup = |baseline: Option<&Samples>| baseline.map(|baseline| median(&contestant.speedups(baseline)));
        let ratios = baselines.map(|(_, baseline)| speedup(baseline).map_or("-".into(), |x| format!("{x:.2}")));
        let range = format!("{:.3}-{:.3}", spread.p10, spread.p90);
        let speed = spread.inverse(case.tokens() as f64).median;
        let mut row = vec![contestant.name.clone(), format!("{:.3}", spread.median), range, format!("{speed:.0}")];
        row.extend(ratios);
        table.row(row);
    }
    record.line(&table);
    for contestant in samples {
        let name = format!("step_{}_{}", case.name(), contestant.name);
        let speed = Spread::of(&contestant.seconds).inverse(case.tokens() as f64);
        record.metric(&format!("{name}_speed"), speed.median, "tokens/s");
        for (label, baseline) in [("torch_fp32", find(PYTORCH)), ("ours_dense", find(DENSE))] {
            if let Some(baseline) = baseline.filter(|baseline| baseline.name != contestant.name) {
                record.metric(&format!("{name}_over_{label}"), median(&contestant.speedups(baseline)), "ratio");
            }
        }
    }
}
