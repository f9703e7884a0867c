//! The operations beside the products, one thread, on a chunk of 256 tokens as in training:
//! `cargo bench -p openwork-ops --bench ops`. Throughput counts elements (of attention: pairs of a query and
//! a key it sees); the tests hold every operation to its reference.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput};
use openwork_ops::{
    Activation, Attention, Cpu, Gradient, Matrix, NormKind, Ties, Weight, abs_top_k, abs_top_k_backward, activate,
    activate_backward, attention, attention_backward, bigram, bigram_backward, cross_entropy, embed, embed_backward,
    norm, norm_backward, residual,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

/// As the program has it: large blocks begin at a line of the cache.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TOKENS: usize = 256;
const VOCAB: usize = 2048;

fn normal(rows: usize, cols: usize) -> Matrix {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    Matrix::from_shape_simple_fn((rows, cols), || rng.sample(StandardNormal))
}

fn main() {
    let criterion = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300));
    let mut criterion = criterion.measurement_time(Duration::from_secs(1)).configure_from_args();
    for features in [256, 1024, 4096] {
        per_feature(&mut criterion, features);
    }
    for d_head in [8, 16, 32, 64] {
        attend(&mut criterion, d_head);
    }
    vocabulary(&mut criterion);
    criterion.final_summary();
}

fn per_feature(criterion: &mut Criterion, features: usize) {
    let (x, dy) = (normal(features, TOKENS), normal(features, TOKENS));
    let mut y = x.clone();
    let gain = Weight::new(Matrix::ones((features, 1)));
    let elements = Throughput::Elements((features * TOKENS) as u64);
    let mut bench = |name: &str, f: &mut dyn FnMut(&mut Matrix)| {
        let mut group = criterion.benchmark_group(name);
        group.throughput(elements.clone());
        group.bench_function(BenchmarkId::from_parameter(features), |b| b.iter(|| f(black_box(&mut y))));
        group.finish();
    };
    bench("copy", &mut |y| y.assign(&x));
    // The copy restores what AbsTopK would otherwise find done already: take it off.
    let mut cpu = Cpu::default();
    bench("abs_top_k_and_copy", &mut |y| {
        y.assign(&x);
        let kept = abs_top_k(features / 4, Ties::ByIndex, y, &mut cpu);
        cpu.recycle_kept(kept);
    });
    let kept = abs_top_k(features / 4, Ties::ByIndex, &mut x.clone(), &mut Cpu::default());
    bench("abs_top_k_backward", &mut |y| abs_top_k_backward(&kept, y));
    // Its input is replaced too.
    let mut slope = x.clone();
    bench("gelu_and_copy", &mut |y| {
        slope.assign(&x);
        activate(Activation::Gelu, &mut slope, y);
    });
    // In place again and again the gradient would shrink to subnormal numbers, which are slow.
    bench("gelu_backward_and_copy", &mut |y| {
        y.assign(&dy);
        activate_backward(&slope, y);
    });
    bench("rms_norm", &mut |y| norm(NormKind::Rms, &gain, None, &x, y));
    let mut dgain = Matrix::zeros((features, 1));
    bench("rms_norm_backward", &mut |y| norm_backward(NormKind::Rms, &gain, &x, &dy, y, Some(&mut dgain), None));
    bench("residual", &mut |y| residual(y, &x));
}

fn attend(criterion: &mut Criterion, d_head: usize) {
    let n_head = 256 / d_head;
    let shape = Attention { n_head, d_head, seq_len: TOKENS };
    let [q, k, v] = [0, 1, 2].map(|_| {
        let mut x = normal(256, TOKENS);
        abs_top_k(64, Ties::ByIndex, &mut x, &mut Cpu::default());
        x
    });
    let sink = Weight::new(Matrix::zeros((n_head, 1)));
    let mut cpu = Cpu::default();
    let mut y = normal(256, TOKENS);
    let pairs = Throughput::Elements((n_head * TOKENS * (TOKENS + 1) / 2) as u64);
    let mut group = criterion.benchmark_group("attention");
    group.throughput(pairs.clone());
    group.bench_function(BenchmarkId::from_parameter(d_head), |b| {
        b.iter(|| attention(shape, &q, &k, &v, Some(&sink), black_box(&mut y), &mut cpu))
    });
    group.finish();
    let log_sum = attention(shape, &q, &k, &v, Some(&sink), &mut y, &mut cpu);
    let dy = normal(256, TOKENS);
    let (mut dq, mut dk, mut dv) = (dy.clone(), dy.clone(), dy.clone());
    let mut dsink = Gradient::zeros((n_head, 1));
    let kept = |x: &Matrix| x.mapv(|x| u8::from(x != 0.0));
    let (k_kept, v_kept) = (kept(&k), kept(&v));
    let wanted = [Some(&k_kept), Some(&v_kept)];
    let mut group = criterion.benchmark_group("attention_backward");
    group.throughput(pairs);
    group.bench_function(BenchmarkId::from_parameter(d_head), |b| {
        b.iter(|| {
            let gradients = (&mut dq, &mut dk, black_box(&mut dv));
            attention_backward(
                shape,
                (&q, &k, &v),
                Some(&sink),
                &y,
                &log_sum,
                &dy,
                gradients,
                Some(&mut dsink),
                wanted,
                &mut cpu,
            );
        })
    });
    group.finish();
}

fn vocabulary(criterion: &mut Criterion) {
    let tokens: Vec<u16> = (0..TOKENS).map(|t| (t * 7919 % VOCAB) as u16).collect();
    let (table, mut logits) = (normal(VOCAB, VOCAB), normal(VOCAB, TOKENS));
    let (words, mut x) = (normal(VOCAB, 256), normal(256, TOKENS));
    let mut dtable = Matrix::zeros((VOCAB, VOCAB));
    let mut dwords = Matrix::zeros((VOCAB, 256));
    let mut bench = |name: &str, rows: usize, f: &mut dyn FnMut()| {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements((rows * TOKENS) as u64));
        group.bench_function(BenchmarkId::from_parameter(rows), |b| b.iter(&mut *f));
        group.finish();
    };
    bench("embed", 256, &mut || embed(&words, &tokens, black_box(&mut x)));
    bench("embed_backward", 256, &mut || embed_backward(&x, &tokens, black_box(&mut dwords)));
    bench("bigram", VOCAB, &mut || bigram(&table, &tokens, black_box(&mut logits)));
    bench("bigram_backward", VOCAB, &mut || bigram_backward(&logits, &tokens, black_box(&mut dtable)));
    bench("cross_entropy", VOCAB, &mut || drop(cross_entropy(black_box(&mut logits), &tokens, 1.0)));
}
