//! `cargo xtask bench kernels --device cuda`: operations on a GPU, each alone, beside PyTorch's.
//!
//! Times are those of the device, by its events, after everything has been driven out of its second cache. The floor of
//! most operations is the memory they must pass once; its rate is that of a copy on the same device in the same run.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use openwork_benches::{
    Contestant, Csv, Machine, Peers, Record, Samples, Save, Table, exit,
    stats::{Spread, median},
    take_turns,
};
use openwork_cuda::{self as cuda, AdamConstants, Array, Floor, Gpu, Operand, Packed, Parameters, Selection, Shape};
use openwork_ops::{Device, DeviceChoice};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench kernels --device cuda", about = "Times operations on a GPU")]
struct Args {
    /// The GPU: cuda or cuda:N
    #[arg(long)]
    device: DeviceChoice,
    /// Operations to time: product, top-k, attention, update [default: all]
    #[arg(value_parser = ["product", "top-k", "attention", "update"])]
    ops: Vec<String>,
    /// Tokens
    #[arg(long, default_value_t = 65_536)]
    tokens: usize,
    /// Rounds, in each of which every contestant is timed once
    #[arg(long, default_value_t = 11)]
    repeats: usize,
    /// Compare with PyTorch
    #[arg(long)]
    peers: bool,
    /// Write every sample and the tables to benches/runs/DATE-DEVICE/
    #[arg(long)]
    save: bool,
}

/// Rows and columns of matrices, and fractions of their entries that are not zero: 1 in so many.
const SHAPES: [[usize; 2]; 5] = [[1024, 1024], [4096, 1024], [2048, 2048], [4096, 4096], [16384, 4096]];
const ONE_IN: [usize; 6] = [20, 50, 100, 200, 500, 1000];
/// Bytes that are written between samples: more than any second cache holds.
const FLUSH: usize = 1 << 28;

fn main() -> ExitCode {
    exit(run(&Args::parse()))
}

fn run(args: &Args) -> Result<()> {
    let Device::Cuda(gpu) = args.device.open(|reason| println!("on the CPU: {reason}"))? else {
        anyhow::bail!("--device is cpu; right would be cuda")
    };
    ensure!(args.repeats > 0 && args.tokens >= 128, "--repeats and --tokens must be at least 1 and 128");
    let machine = Machine::here().on(&gpu.name());
    let mut bench = Bench::new(gpu, args.repeats, Peers::find(args.peers))?;
    let mut save = Save::new("kernels", "kernels-cuda", &machine);
    let wanted = |op: &str| args.ops.is_empty() || args.ops.iter().any(|o| o == op);
    if wanted("product") {
        for shape in SHAPES {
            for one_in in ONE_IN {
                bench.product(shape, one_in, args.tokens)?;
                bench.keep(args.save, &mut save)?;
            }
        }
    }
    if wanted("top-k") {
        for features in [256, 1024, 4096] {
            bench.top_k(features, args.tokens)?;
        }
    }
    if wanted("attention") {
        for (d_head, seq_len) in [(16, 256), (16, 1024), (64, 1024)] {
            bench.attention(1024 / d_head, d_head, seq_len, args.tokens)?;
        }
    }
    if wanted("update") {
        for one_in in [4, 64, 256] {
            bench.update(4096, one_in)?;
        }
    }
    bench.keep(args.save, &mut save)
}

/// State that all measurements share.
struct Bench {
    gpu: Gpu,
    flush: cuda::Buffer<u8>,
    repeats: usize,
    peers: Option<Peers>,
    /// Bytes a second of a copy: each byte is read and written.
    copy: f64,
    record: Record,
    csv: Csv,
    versions: Vec<String>,
}

/// One of ours: its name, and the call.
type Ours<'a> = (&'a str, Box<dyn FnMut() + 'a>);

/// Least work of a call: bytes through memory, and operations (two for a multiply-add).
#[derive(Clone, Copy)]
struct Work {
    bytes: f64,
    flops: f64,
}

impl Bench {
    fn new(gpu: Gpu, repeats: usize, peers: Option<Peers>) -> Result<Self> {
        let flush = gpu.zeros(FLUSH);
        let (from, to) = (gpu.zeros::<u8>(FLUSH), gpu.zeros::<u8>(FLUSH));
        let samples = (0..repeats).map(|_| gpu.time(|| to.copy_from(0, &from, 0..FLUSH)));
        let seconds = samples.collect::<Result<Vec<f64>, _>>()?;
        let copy = 2.0 * FLUSH as f64 / Spread::of(&seconds).median;
        let mut record = Record::new();
        record.line(format!("{}: copies {:.0} GB/s, read and written", gpu.name(), copy / 1e9));
        record.metric("copy", copy / 1e9, "GB/s");
        let csv = Csv::new(["case", "contestant", "round", "seconds"]);
        Ok(Self { gpu, flush, repeats, peers, copy, record, csv, versions: vec![] })
    }

    fn keep(&mut self, wanted: bool, save: &mut Save) -> Result<()> {
        self.versions.drain(..).for_each(|version| save.peer(&version));
        if wanted { save.write(&self.record, &self.csv) } else { Ok(()) }
    }

    /// Ours and PyTorch's, turn by turn.
    fn compare(&mut self, case: &str, work: Work, ours: Vec<Ours<'_>>, peers: &[(&str, Vec<String>)]) -> Result<()> {
        let (gpu, flush) = (&self.gpu, &self.flush);
        let start = |(name, args): &(&str, Vec<String>)| self.peers.as_ref()?.start(name, "gpu.py", args);
        let mut running: Vec<_> = peers.iter().filter_map(start).collect();
        self.versions.extend(running.iter().map(|peer| peer.version.clone()));
        let mut contestants = Vec::new();
        for (name, mut call) in ours {
            let mut sample = move || -> Result<f64> {
                flush.fill_zero();
                Ok(gpu.time(&mut call)?)
            };
            // The first one loads the kernel.
            sample()?;
            contestants.push(Contestant::new(name, sample));
        }
        for peer in &mut running {
            contestants.push(Contestant::new(peer.name().to_owned(), move || peer.ask("")));
        }
        let samples = take_turns(contestants, self.repeats);
        gpu.check()?;
        self.report(case, work, &samples);
        Ok(())
    }

    fn report(&mut self, case: &str, work: Work, samples: &[Samples]) {
        self.record.line(format!("\n{case}"));
        let mut table = Table::new(["", "us", "p10-p90", "GB/s", "of copy", "GFLOP/s", "x first"]);
        for Samples { name, seconds } in samples {
            let spread = Spread::of(seconds);
            let rate = work.bytes / spread.median;
            let first = samples.first().map_or(1.0, |first| {
                let ratios: Vec<f64> = seconds.iter().zip(&first.seconds).map(|(mine, first)| mine / first).collect();
                median(&ratios)
            });
            let share = rate / self.copy;
            table.row(vec![
                name.clone(),
                format!("{:.1}", spread.median * 1e6),
                format!("{:.1}-{:.1}", spread.p10 * 1e6, spread.p90 * 1e6),
                format!("{:.0}", rate / 1e9),
                format!("{:.0} %", share * 100.0),
                format!("{:.0}", work.flops / spread.median / 1e9),
                format!("{first:.2}"),
            ]);
            let metric = format!("gpu {case} {name}");
            self.record.metric(&metric, spread.median * 1e6, "us");
            self.record.metric(&format!("{metric} share of copy"), share, "ratio");
            for (round, seconds) in seconds.iter().enumerate() {
                self.csv.row(vec![case.into(), name.clone(), round.to_string(), seconds.to_string()]);
            }
        }
        self.record.line(&table);
    }

    /// Products of a sparse weight, and its gradients; beside our dense path and PyTorch's dense and sparse products.
    fn product(&mut self, [rows, cols]: [usize; 2], one_in: usize, tokens: usize) -> Result<()> {
        let nnz = rows * cols / one_in;
        let mut parameters = Parameters::new(&self.gpu, &[Shape { rows, cols, room: nnz }]);
        parameters.set_weights(0, &sparse(rows * cols, nnz));
        parameters.build_sparse(&[nnz], &[false]);
        let dense = parameters.get(0);
        parameters.build_sparse(&[nnz], &[true]);
        let weight = parameters.get(0);
        let x = noise(&self.gpu, [cols, tokens]);
        let dy = noise(&self.gpu, [rows, tokens]);
        let (x16, dy16) = (Packed::pack(&x), Packed::pack(&dy));
        let mut y = Array::new(&self.gpu, [rows, tokens]);
        let [mut y1, mut y2] = [(); 2].map(|()| Array::new(&self.gpu, [rows, tokens]));
        let flops = 2.0 * nnz as f64 * tokens as f64;
        let numbers = |of_x: f64, of_y: f64| of_x * (cols * tokens) as f64 + of_y * (rows * tokens) as f64;
        let peer = |op: &str| {
            let numbers = [rows, cols, tokens].map(|n| n.to_string());
            [&[op.to_owned()], &numbers[..], &[(1.0 / one_in as f64).to_string()]].concat()
        };
        let peers = ["dense-bf16", "dense-tf32", "csr"].map(|op| (op, peer(op)));
        let ours: Vec<Ours<'_>> = vec![
            ("sparse bf16", Box::new(|| cuda::linear(&weight, None, Operand::Bf16(&x16), &mut y))),
            ("sparse f32", Box::new(|| cuda::linear(&weight, None, Operand::F32(&x), &mut y1))),
            ("dense f32", Box::new(|| cuda::linear(&dense, None, Operand::F32(&x), &mut y2))),
        ];
        let case = format!("{rows}x{cols} 1/{one_in}, {tokens} tokens");
        // Bytes of the bf16 product: those of the others are more.
        let work = Work { bytes: numbers(2.0, 4.0) + 8.0 * nnz as f64, flops };
        self.compare(&format!("product {case}"), work, ours, &peers)?;
        let ours: Vec<Ours<'_>> = vec![
            (
                "nonzeros bf16",
                Box::new(|| cuda::linear_gradient(&weight, Operand::Bf16(&dy16), Operand::Bf16(&x16), true)),
            ),
            ("nonzeros f32", Box::new(|| cuda::linear_gradient(&weight, Operand::F32(&dy), Operand::F32(&x), true))),
            ("dense f32", Box::new(|| cuda::linear_gradient(&dense, Operand::F32(&dy), Operand::F32(&x), false))),
        ];
        let work = Work { bytes: numbers(2.0, 2.0), flops };
        self.compare(&format!("gradient {case}"), work, ours, &[])
    }

    fn top_k(&mut self, features: usize, tokens: usize) -> Result<()> {
        let x = noise(&self.gpu, [features, tokens]);
        let mut work_on = x.copy();
        let parameters = Parameters::new(&self.gpu, &[Shape { rows: features, cols: 1, room: 0 }]);
        parameters.set_weights(0, &vec![1.0; features]);
        let gain = parameters.get(0);
        let mut y = Array::like(&x);
        let k = features / 4;
        let entries = (features * tokens) as f64;
        let peers = [(
            "topk",
            [&["topk".to_owned()], &[features, 1, tokens].map(|n| n.to_string())[..], &["0.25".into()]].concat(),
        )];
        let ours: Vec<Ours<'_>> = vec![
            ("AbsTopK", Box::new(|| drop(cuda::abs_top_k(k, &mut work_on)))),
            ("RMSNorm and AbsTopK", {
                let (x, gain, y) = (&x, &gain, &mut y);
                Box::new(move || match x.shape()[0] <= cuda::FUSED_NORM {
                    true => drop(cuda::norm_abs_top_k(1e-6, gain, k, x, y)),
                    false => {
                        cuda::norm(false, 1e-6, gain, None, x, y);
                        cuda::abs_top_k(k, y);
                    }
                })
            }),
        ];
        let work = Work { bytes: 9.0 * entries, flops: 0.0 };
        self.compare(&format!("AbsTopK {features} features, {tokens} tokens"), work, ours, &peers)
    }

    fn attention(&mut self, n_head: usize, d_head: usize, seq_len: usize, tokens: usize) -> Result<()> {
        let shape = cuda::Attention { n_head, d_head, seq_len };
        let tokens = tokens / seq_len * seq_len;
        ensure!(tokens > 0, "--tokens is less than a sequence of {seq_len}");
        let channels = n_head * d_head;
        let [q, k, v, dy] = [(); 4].map(|()| noise(&self.gpu, [channels, tokens]));
        let mut y = Array::like(&q);
        let log_sum = cuda::attention(shape, [&q, &k, &v], None, &mut y);
        let mut out = Array::like(&q);
        let [mut dq, mut dk, mut dv] = [(); 3].map(|()| Array::like(&q));
        let pairs = (n_head * tokens * (seq_len + 1) / 2) as f64;
        let numbers = (channels * tokens) as f64;
        let case = format!("{n_head} heads of {d_head}, sequences of {seq_len}, {tokens} tokens");
        let forward: Ours<'_> = ("ours", Box::new(|| drop(cuda::attention(shape, [&q, &k, &v], None, &mut out))));
        let work = Work { bytes: 16.0 * numbers, flops: 4.0 * d_head as f64 * pairs };
        self.compare(&format!("attention {case}"), work, vec![forward], &[])?;
        let gradients = [&mut dq, &mut dk, &mut dv];
        let [dq, dk, dv] = gradients;
        let backward: Ours<'_> = (
            "ours",
            Box::new(|| {
                let into = [&mut *dq, &mut *dk, &mut *dv];
                cuda::attention_backward(shape, [&q, &k, &v], None, &y, &log_sum, &dy, into, false);
            }),
        );
        let work = Work { bytes: 32.0 * numbers, flops: 14.0 * d_head as f64 * pairs };
        self.compare(&format!("attention backward {case}"), work, vec![backward], &[])
    }

    /// Adam, top magnitude and sparse forms of one square matrix.
    fn update(&mut self, size: usize, one_in: usize) -> Result<()> {
        let (len, nnz) = (size * size, size * size / one_in);
        let mut parameters = Parameters::new(&self.gpu, &[Shape { rows: size, cols: size, room: nnz }]);
        parameters.set_weights(0, &sparse(len, nnz));
        parameters.gradient_rms(len, 1e-5)?;
        let selection = Selection { wanted: nnz, floor: Some(Floor::PerRow(1)), decays: true, trained: true };
        let adam = AdamConstants { beta1: 0.9, beta2: 0.95, rate: 1e-3, root: 1.0, eps: 0.1 };
        // A warm threshold, as from the second step on.
        parameters.update(adam, 1e-4, &[selection], &[true], false);
        let work = Work { bytes: 44.0 * len as f64, flops: 0.0 };
        let call: Ours<'_> = ("ours", Box::new(|| parameters.update(adam, 1e-4, &[selection], &[true], false)));
        self.compare(&format!("update {size}x{size} 1/{one_in}"), work, vec![call], &[])
    }
}

/// Random numbers, `nnz` of them not zero, spread evenly.
fn sparse(len: usize, nnz: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut w = vec![0.0; len];
    let step = len / nnz;
    for i in 0..nnz {
        w[i * step + rng.random_range(0..step)] = rng.random_range(0.5..1.0);
    }
    w
}

fn noise(gpu: &Gpu, [rows, cols]: [usize; 2]) -> Array {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let values: Vec<f32> = (0..rows * cols).map(|_| rng.random_range(-1.0..1.0)).collect();
    Array::upload(gpu, [rows, cols], &values)
}

#[cfg(test)]
mod tests {
    use openwork_cuda_sim::Simulator;

    use super::*;

    #[test]
    fn everything_is_measured() {
        let mut bench = Bench::new(Simulator::gpu(64 << 10, 2, 0), 2, None).unwrap();
        bench.product([64, 32], 16, 128).unwrap();
        bench.top_k(64, 128).unwrap();
        bench.attention(2, 16, 64, 128).unwrap();
        bench.update(64, 16).unwrap();
        let text = bench.record.text();
        for metric in [
            "METRIC copy ",
            "METRIC gpu_product_64x32_1/16,_128_tokens_sparse_bf16 ",
            "METRIC gpu_gradient_64x32_1/16,_128_tokens_nonzeros_f32 ",
            "METRIC gpu_AbsTopK_64_features,_128_tokens_RMSNorm_and_AbsTopK ",
            "METRIC gpu_attention_backward_2_heads_of_16,_sequences_of_64,_128_tokens_ours ",
            "METRIC gpu_update_64x64_1/16_ours_share_of_copy ",
        ] {
            assert!(text.contains(metric), "{metric} is not in {text}");
        }
    }
}
