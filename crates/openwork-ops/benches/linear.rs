//! The products of a linear layer at the trainer's shapes: dense, beside the GEMM alone, and sparse, beside
//! dense. `cargo bench -p openwork-ops --bench linear`.
//!
//! First every product is compared with the plain reference. Then criterion times a few of them, and a
//! summary measures all of them against each other, taking turns, so that whatever else the machine does
//! falls on both sides: medians with p10–p90, and the median of the ratios of neighbouring samples.
//!
//! One thread, random data, hot caches: in training, too, a chunk stays in the cache.
//!
//! * "alone" is the same GEMM of `matrixmultiply`, called through `ndarray` as it is, on contiguous
//!   row-major operands of the same three dimensions, result overwritten: `[out, in] · [in, tokens]` for the
//!   forward product, and so on. Ours adds the bias, reads W or x transposed in place and adds to a gradient.
//! * "sparse" has its nonzeros at uniformly random places.

use std::{hint::black_box, time::Instant};

use criterion::Criterion;
use ndarray::linalg::general_mat_mul;
use openwork_ops::{Matrix, Weight, linear, linear_backward_input, linear_backward_weight, reference};
use openwork_sparse::{Csr, spmm, spmm_transposed, top_magnitude};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Layers of the `quickstart` (d_model 128) and `python-1x` (256) recipes: name, out, in.
const LAYERS: [(&str, usize, usize); 9] = [
    ("qkv", 384, 128),
    ("attn_out", 128, 128),
    ("mlp_in", 512, 128),
    ("mlp_out", 128, 512),
    ("qkv", 768, 256),
    ("attn_out", 256, 256),
    ("mlp_in", 1024, 256),
    ("mlp_out", 256, 1024),
    ("unembed", 2048, 256),
];
/// Tokens of a chunk.
const TOKENS: [usize; 2] = [128, 256];
/// Densities of the sparse products, from the densest.
const DENSITIES: [(&str, f64); 6] =
    [("1/2", 0.5), ("1/4", 0.25), ("1/8", 0.125), ("1/16", 0.0625), ("1/32", 0.03125), ("1/64", 0.015625)];
/// Samples of each side of a comparison, and the least time of one in microseconds.
const SAMPLES: usize = 41;
const SAMPLE_US: f64 = 400.0;

/// The operands of one layer and of its products alone.
struct Case {
    w: Weight,
    b: Weight,
    x: Matrix,
    dy: Matrix,
    y: Matrix,
    dx: Matrix,
    dw: Matrix,
    db: Matrix,
}

type Dense = fn(&mut Case);
type Sparse = fn(&mut Case, &Csr);

fn random(rows: usize, cols: usize, rng: &mut ChaCha8Rng) -> Matrix {
    Matrix::from_shape_simple_fn((rows, cols), || rng.random_range(-1.0..1.0))
}

impl Case {
    fn new(out: usize, input: usize, tokens: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        Self {
            w: Weight::new(random(out, input, &mut rng)),
            b: Weight::new(random(out, 1, &mut rng)),
            x: random(input, tokens, &mut rng),
            dy: random(out, tokens, &mut rng),
            y: Matrix::zeros((out, tokens)),
            dx: Matrix::zeros((input, tokens)),
            dw: Matrix::zeros((out, input)),
            db: Matrix::zeros((out, 1)),
        }
    }

    fn forward(&mut self) {
        linear(&self.w, Some(&self.b), &self.x, &mut self.y);
    }

    fn backward_input(&mut self) {
        linear_backward_input(&self.w, &self.dy, &mut self.dx);
    }

    fn backward_weight(&mut self) {
        linear_backward_weight(&self.dy, self.x.view(), &mut self.dw, Some(&mut self.db));
    }

    /// A matrix with the weight's largest entries only.
    fn sparse(&self, density: f64) -> Csr {
        let w = self.w.dense().view();
        Csr::gather(top_magnitude(w, (density * w.len() as f64) as usize, None), w)
    }

    fn sparse_forward(&mut self, w: &Csr) {
        self.y.fill(0.0);
        spmm(w, self.x.view(), &mut self.y.view_mut());
    }

    fn sparse_backward_input(&mut self, w: &Csr) {
        spmm_transposed(w, self.dy.view(), &mut self.dx.view_mut());
    }

    /// Compares every product with plain f64 loops.
    fn check(mut self) {
        let double = |x: &Matrix| x.mapv(f64::from);
        let (w, b, x, dy) = (double(self.w.dense()), double(self.b.dense()), double(&self.x), double(&self.dy));
        let product = |a: &_, b: &_| reference::linear(a, None, b);
        // Entries are below 1, so a sum of n products is off by less than eps · n · n / 2 (and usually by far
        // less); what is wrong rather than rounded is off by about 0.3 √n.
        let close = |found: &Matrix, expected: &ndarray::Array2<f64>, n: usize| {
            let worst = found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
            let tolerance = f64::from(f32::EPSILON) * (n * n) as f64 / 2.0;
            assert!(worst <= tolerance, "{worst:e} > {tolerance:e}");
        };
        let (out, input, tokens) = (w.nrows(), w.ncols(), x.ncols());
        self.forward();
        close(&self.y, &reference::linear(&w, Some(&b), &x), input + 1);
        self.backward_input();
        close(&self.dx, &product(&w.t().to_owned(), &dy), out);
        self.backward_weight();
        close(&self.dw, &product(&dy, &x.t().to_owned()), tokens);
        let csr = self.sparse(0.25);
        let w = double(&csr.to_dense());
        self.sparse_forward(&csr);
        close(&self.y, &product(&w, &x), input);
        self.dx.fill(0.0);
        self.sparse_backward_input(&csr);
        close(&self.dx, &product(&w.t().to_owned(), &dy), out);
    }
}

/// `[m, k] · [k, n]`, and nothing else.
struct Alone {
    a: Matrix,
    b: Matrix,
    c: Matrix,
}

impl Alone {
    fn new(m: usize, k: usize, n: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        Self { a: random(m, k, &mut rng), b: random(k, n, &mut rng), c: Matrix::zeros((m, n)) }
    }

    fn run(&mut self) {
        general_mat_mul(1.0, &self.a, &self.b, 0.0, &mut self.c);
        black_box(&mut self.c);
    }
}

/// Sorted samples.
struct Samples(Vec<f64>);

impl Samples {
    fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    fn at(&self, quantile: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * quantile).round() as usize]
    }
}

/// Microseconds of one call.
fn time_us(calls: usize, f: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| f());
    start.elapsed().as_secs_f64() * 1e6 / calls as f64
}

/// Times `a` and `b` by turns: microseconds of each, and `b / a` of neighbouring samples (how many times
/// as fast as b a is).
fn compare(a: &mut dyn FnMut(), b: &mut dyn FnMut()) -> [Samples; 3] {
    let calls = |f: &mut dyn FnMut()| {
        f();
        (SAMPLE_US / time_us(3, f)).ceil().max(1.0) as usize
    };
    let (calls_a, calls_b) = (calls(a), calls(b));
    let pairs: Vec<(f64, f64)> = (0..SAMPLES).map(|_| (time_us(calls_a, a), time_us(calls_b, b))).collect();
    [
        Samples::new(pairs.iter().map(|p| p.0).collect()),
        Samples::new(pairs.iter().map(|p| p.1).collect()),
        Samples::new(pairs.iter().map(|p| p.1 / p.0).collect()),
    ]
}

/// Dense products beside the GEMM alone; returns the least ratio.
fn dense_summary() -> f64 {
    println!("\ndense products beside the GEMM alone (median us, p10-p90)");
    let mut least = f64::INFINITY;
    for (layer, out, input) in LAYERS {
        for tokens in TOKENS {
            let mut case = Case::new(out, input, tokens);
            let products: [(&str, Dense, [usize; 3]); 3] = [
                ("forward", Case::forward, [out, input, tokens]),
                ("backward_input", Case::backward_input, [input, out, tokens]),
                ("backward_weight", Case::backward_weight, [out, tokens, input]),
            ];
            for (product, run, [m, k, n]) in products {
                let mut alone = Alone::new(m, k, n);
                let [ours, alone, ratio] = compare(&mut || run(black_box(&mut case)), &mut || alone.run());
                let speed = |us: f64| 2.0 * (m * k * n) as f64 / us / 1e3;
                let name = format!("{layer}_{out}x{input}_t{tokens}_{product}");
                println!(
                    "{name:40} ours {:7.1} ({:.1}-{:.1}) {:5.1} GFLOP/s   alone {:7.1} ({:.1}-{:.1}) {:5.1} GFLOP/s",
                    ours.at(0.5),
                    ours.at(0.1),
                    ours.at(0.9),
                    speed(ours.at(0.5)),
                    alone.at(0.5),
                    alone.at(0.1),
                    alone.at(0.9),
                    speed(alone.at(0.5))
                );
                println!("METRIC {name}_ours_over_alone {:.3} ratio", ratio.at(0.5));
                least = least.min(ratio.at(0.5));
            }
        }
    }
    least
}

/// Sparse products beside the dense ones; returns the crossover density of every layer, forward and
/// backward together.
fn sparse_summary() -> Vec<f64> {
    println!("\nsparse products beside our dense ones (median us, p10-p90)");
    let mut crossovers = Vec::new();
    for (layer, out, input) in LAYERS {
        for tokens in TOKENS {
            let (mut dense, mut sparse) = (Case::new(out, input, tokens), Case::new(out, input, tokens));
            let name = format!("{layer}_{out}x{input}_t{tokens}");
            // Time of both products, by density.
            let mut both = [(0.0, 0.0); DENSITIES.len()];
            for (&(label, density), both) in DENSITIES.iter().zip(&mut both) {
                let csr = sparse.sparse(density);
                let products: [(&str, Sparse, Dense); 2] = [
                    ("forward", Case::sparse_forward, Case::forward),
                    ("backward_input", Case::sparse_backward_input, Case::backward_input),
                ];
                for (product, ours, beside) in products {
                    let [ours, beside, ratio] =
                        compare(&mut || ours(black_box(&mut sparse), &csr), &mut || beside(black_box(&mut dense)));
                    let gflops = 2.0 * (csr.pattern().nnz() * tokens) as f64 / ours.at(0.5) / 1e3;
                    println!(
                        "{name}_{product} {label:4} sparse {:7.1} ({:.1}-{:.1}) {gflops:5.1} GFLOP/s   dense {:7.1}",
                        ours.at(0.5),
                        ours.at(0.1),
                        ours.at(0.9),
                        beside.at(0.5)
                    );
                    println!("METRIC {name}_{product}_{label}_sparse_over_dense {:.3} ratio", ratio.at(0.5));
                    // In units of the dense time, which load on the machine cancels from.
                    *both = (both.0 + beside.at(0.5) / ratio.at(0.5), both.1 + beside.at(0.5));
                }
            }
            let relative: Vec<(f64, f64)> =
                DENSITIES.iter().zip(both).map(|(d, (s, dense))| (d.1, s / dense)).collect();
            let crossover = crossover(&relative);
            println!("METRIC {name}_crossover_density {crossover:.3} fraction");
            crossovers.push(crossover);
        }
    }
    crossovers
}

/// Density at which the time relative to dense is 1, between the two measured ones around it (beyond the
/// densest: along the last line).
fn crossover(relative: &[(f64, f64)]) -> f64 {
    let around = relative.windows(2).find(|pair| pair[0].1 >= 1.0 && pair[1].1 < 1.0);
    let [(d1, t1), (d0, t0)] = around.unwrap_or(&relative[..2])[..] else { unreachable!("a pair") };
    (d0 + (1.0 - t0) * (d1 - d0) / (t1 - t0)).clamp(0.0, 1.0)
}

fn criterion_cases(criterion: &mut Criterion) {
    for (out, input) in [(512, 128), (1024, 256)] {
        let mut group = criterion.benchmark_group(format!("mlp_in_{out}x{input}_t256"));
        let mut case = Case::new(out, input, 256);
        let csr = case.sparse(1.0 / 16.0);
        let mut alone = Alone::new(out, input, 256);
        group.bench_function("gemm alone", |b| b.iter(|| alone.run()));
        group.bench_function("forward", |b| b.iter(|| black_box(&mut case).forward()));
        group.bench_function("backward input", |b| b.iter(|| black_box(&mut case).backward_input()));
        group.bench_function("backward weight", |b| b.iter(|| black_box(&mut case).backward_weight()));
        group.bench_function("sparse 1/16 forward", |b| b.iter(|| black_box(&mut case).sparse_forward(&csr)));
        group.bench_function("sparse 1/16 backward input", |b| {
            b.iter(|| black_box(&mut case).sparse_backward_input(&csr));
        });
        group.finish();
    }
}

fn main() {
    for (_, out, input) in LAYERS {
        Case::new(out, input, 37).check();
    }
    println!("every product agrees with the reference");
    let short = std::time::Duration::from_millis(500);
    let criterion = Criterion::default().sample_size(20).warm_up_time(short).measurement_time(2 * short);
    let mut criterion = criterion.configure_from_args();
    criterion_cases(&mut criterion);
    criterion.final_summary();
    // `cargo bench -- --test` only wants to know that everything runs.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let least = dense_summary();
    let mut crossovers = sparse_summary();
    crossovers.sort_by(f64::total_cmp);
    println!("\nMETRIC least_ours_over_alone {least:.3} ratio");
    println!("METRIC least_crossover_density {:.3} fraction", crossovers[0]);
    println!("METRIC median_crossover_density {:.3} fraction", crossovers[crossovers.len() / 2]);
    println!("METRIC greatest_crossover_density {:.3} fraction", crossovers[crossovers.len() - 1]);
}
