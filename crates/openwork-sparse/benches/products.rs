//! The products of a linear layer, one thread, random data: `cargo bench -p openwork-sparse`.
//!
//! `hot`: a chunk of 256 tokens, as in training, where it stays in the cache. `streaming`: 16 chunks in turn,
//! operands and results coming from memory. Throughput counts useful operations, two per multiply-add of a
//! nonzero; the tests hold every product to the reference.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput};
use ndarray::Array2;
use openwork_sparse::{
    Csr, Packed, Panel, Start, matmul, sddmm, sddmm_packed, spmm, spmm_packed, top_magnitude, transpose,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// As the program has it: large blocks begin at a line of the cache.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WIDTHS: [usize; 3] = [256, 512, 1024];
const TOKENS: usize = 256;
const DENSITIES: [(&str, f64); 5] =
    [("1", 1.0), ("1_4", 0.25), ("1_16", 1.0 / 16.0), ("1_64", 1.0 / 64.0), ("1_256", 1.0 / 256.0)];

fn random(rows: usize, cols: usize) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    Array2::from_shape_simple_fn((rows, cols), || rng.random_range(-1.0..1.0))
}

fn main() {
    // Hundreds of benchmarks, of which each call takes well below a millisecond.
    let criterion = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300));
    let mut criterion = criterion.measurement_time(Duration::from_secs(1)).configure_from_args();
    for d in WIDTHS {
        for (out, input) in [(4 * d, d), (d, 4 * d)] {
            for (streaming, chunks) in [("hot", 1), ("streaming", 16)] {
                layer(&mut criterion, out, input, streaming, chunks);
            }
        }
    }
    criterion.final_summary();
}

fn layer(criterion: &mut Criterion, out: usize, input: usize, caches: &str, chunks: usize) {
    let dense = random(out, input);
    let mut x = vec![random(input, TOKENS); chunks];
    let mut y = vec![random(out, TOKENS); chunks];
    let mut next = 0;
    let mut turn = move || {
        next = (next + 1) % chunks;
        next
    };
    let operations = 2 * (out * input * TOKENS) as u64;
    let mut group = criterion.benchmark_group(format!("matmul_{caches}"));
    group.throughput(Throughput::Elements(operations));
    group.bench_function(BenchmarkId::from_parameter(format!("{out}x{input}")), |b| {
        b.iter(|| {
            let i = turn();
            matmul(Start::Zero, black_box(&dense), &x[i], &mut y[i]);
        })
    });
    group.bench_function(BenchmarkId::new("gradient", format!("{out}x{input}")), |b| {
        let mut dw = Array2::zeros((out, input));
        b.iter(|| {
            let i = turn();
            matmul(Start::Add, &y[i], Panel::from(&x[i]).t(), black_box(&mut dw));
        })
    });
    group.finish();
    let mut group = criterion.benchmark_group(format!("transpose_{caches}"));
    group.throughput(Throughput::Elements((out * TOKENS) as u64));
    group.bench_function(BenchmarkId::from_parameter(format!("{out}x{TOKENS}")), |b| {
        let mut target = Array2::zeros((TOKENS, out));
        b.iter(|| transpose(&y[turn()], black_box(&mut target)))
    });
    group.finish();
    let packed = |x: &[Array2<f32>]| -> Vec<Packed> {
        let mut packed = vec![Packed::default(); x.len()];
        packed.iter_mut().zip(x).for_each(|(packed, x)| packed.pack(x));
        packed
    };
    let (mut x_bf16, dy_bf16) = (packed(&x), packed(&y));
    let mut group = criterion.benchmark_group(format!("pack_{caches}"));
    group.throughput(Throughput::Elements((input * TOKENS) as u64));
    group.bench_function(BenchmarkId::from_parameter(format!("{input}x{TOKENS}")), |b| {
        b.iter(|| {
            let i = turn();
            x_bf16[i].pack(black_box(&x[i]));
        })
    });
    group.finish();
    for (name, density) in DENSITIES {
        let pattern = top_magnitude(dense.view(), (density * dense.len() as f64) as usize, None);
        let w = Csr::gather(pattern, dense.view());
        let id = || BenchmarkId::new(format!("{out}x{input}"), name);
        let operations = 2 * (w.pattern().nnz() * TOKENS) as u64;
        let mut group = criterion.benchmark_group(format!("spmm_{caches}"));
        group.throughput(Throughput::Elements(operations));
        group.bench_function(id(), |b| {
            b.iter(|| {
                let i = turn();
                spmm(black_box(&w), Start::Zero, &x[i], &mut y[i]);
            })
        });
        group.finish();
        let mut group = criterion.benchmark_group(format!("spmm_bf16_{caches}"));
        group.throughput(Throughput::Elements(operations));
        group.bench_function(id(), |b| {
            b.iter(|| {
                let i = turn();
                spmm_packed(black_box(&w), Start::Zero, &x_bf16[i], &mut y[i]);
            })
        });
        group.finish();
        let mut group = criterion.benchmark_group(format!("sddmm_bf16_{caches}"));
        group.throughput(Throughput::Elements(operations));
        group.bench_function(id(), |b| {
            let mut dw = vec![0.0; w.pattern().nnz()];
            b.iter(|| {
                let i = turn();
                sddmm_packed(w.pattern(), &dy_bf16[i], &x_bf16[i], black_box(&mut dw));
            })
        });
        group.finish();
        let mut group = criterion.benchmark_group(format!("sddmm_{caches}"));
        group.throughput(Throughput::Elements(operations));
        group.bench_function(id(), |b| {
            let mut dw = vec![0.0; w.pattern().nnz()];
            b.iter(|| {
                let i = turn();
                sddmm(w.pattern(), &y[i], &x[i], black_box(&mut dw));
            })
        });
        group.finish();
    }
    black_box((&mut x, &mut y));
}
