//! Our side of the comparison.

use std::{hint::black_box, time::Instant};

use openwork_ops::{Adam, Cpu, Matrix, Ties, abs_top_k, adam_step, adam_step_then};
use openwork_sparse::{Csr, Keep, Start, Support, in_order, matmul, spmm, top_magnitude};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::case::{Case, Op};

/// As in `benches/peers/kernels.py`: the least time of a sample, and the bytes that streaming operands take.
const SAMPLE_S: f64 = 4e-3;
const STREAMED: usize = 1 << 27;
const STREAMING_TOKENS: usize = 4096;

/// Our contestants in an operation.
pub fn contestants(op: Op) -> &'static [&'static str] {
    match op {
        Op::Product => &["ours sparse", "ours dense"],
        Op::AbsTopK | Op::Update => &["ours"],
    }
}

/// A function that takes a sample: the seconds of one call.
pub fn sampler(name: &str, case: &Case) -> impl FnMut() -> f64 + use<> {
    let mut call = match (case.op, name) {
        (Op::Product, "ours sparse") => sparse(case),
        (Op::Product, _) => dense(case),
        (Op::AbsTopK, _) => top_k(case),
        (Op::Update, _) => update(case),
    };
    let mut done = 0;
    let mut sample = move |calls: usize| {
        let start = Instant::now();
        (done..done + calls).for_each(&mut call);
        done += calls;
        start.elapsed().as_secs_f64() / calls as f64
    };
    sample(1);
    let calls = (SAMPLE_S / (0..3).map(|_| sample(1)).fold(f64::INFINITY, f64::min)).round().max(1.0) as usize;
    move || sample(calls)
}

/// The `i`-th call, for turns over several operands.
type Call = Box<dyn FnMut(usize)>;

fn random(rows: usize, cols: usize, seed: u64) -> Matrix {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Matrix::from_shape_simple_fn((rows, cols), || rng.random_range(-1.0..1.0))
}

/// Pairs of operands `[a, tokens]` and `[b, tokens]`, as many as calls take turns over.
fn operands(a: usize, b: usize, tokens: usize) -> Vec<(Matrix, Matrix)> {
    let bytes = size_of::<f32>() * (a + b) * tokens;
    let n = if tokens >= STREAMING_TOKENS { (STREAMED / bytes).clamp(1, 64) } else { 1 };
    (0..n).map(|i| (random(a, tokens, 2 + i as u64), Matrix::zeros((b, tokens)))).collect()
}

fn sparse(case: &Case) -> Call {
    let w = random(case.out, case.input, 1);
    let nnz = (case.density.value * w.len() as f64) as usize;
    let w = Csr::gather(top_magnitude(w.view(), nnz, None), w.view());
    let mut pairs = operands(case.input, case.out, case.tokens);
    Box::new(move |i| {
        let n = pairs.len();
        let (x, y) = &mut pairs[i % n];
        spmm(&w, Start::Zero, &*x, &mut *y);
        black_box(y);
    })
}

fn dense(case: &Case) -> Call {
    let w = random(case.out, case.input, 1);
    let mut pairs = operands(case.input, case.out, case.tokens);
    Box::new(move |i| {
        let n = pairs.len();
        let (x, y) = &mut pairs[i % n];
        matmul(Start::Zero, &w, &*x, &mut *y);
        black_box(y);
    })
}

fn top_k(case: &Case) -> Call {
    let k = (case.density.value * case.input as f64) as usize;
    let mut pairs = operands(case.input, case.input, case.tokens);
    let mut cpu = Cpu::default();
    Box::new(move |i| {
        let n = pairs.len();
        let (x, y) = &mut pairs[i % n];
        // Ours works in place, and the peers' does not.
        y.assign(x);
        let kept = abs_top_k(k, Ties::ByIndex, black_box(y), &mut cpu);
        cpu.recycle_kept(kept);
    })
}

fn update(case: &Case) -> Call {
    let [mut w, gradient] = [1, 2].map(|seed| random(case.out, case.input, seed));
    let [mut m, mut v] = [0; 2].map(|_| Matrix::zeros(w.dim()));
    let nnz = (case.density.value * w.len() as f64) as usize;
    let (rows, cols) = w.dim();
    let mut support = Support::all(rows, cols);
    Box::new(move |i| {
        let adam = Adam { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 0.1, step: i as u64 + 1 };
        let w = w.as_slice_mut().expect("row-major");
        let gradient = gradient.as_slice().expect("row-major");
        let moments = (m.as_slice_mut().expect("row-major"), v.as_slice_mut().expect("row-major"));
        if nnz == w.len() {
            return adam_step(adam, 1.0, black_box(w), gradient, moments.0, moments.1);
        }
        // As the trainer does it: one pass finds the threshold too, from where the last one was.
        let keep = Keep { nnz, floor: None, decay: None };
        let adam = |(m, v), w: &mut [f32], done: &mut dyn FnMut(&mut [f32])| {
            adam_step_then(adam, 1.0, w, gradient, m, v, done);
        };
        support.update(black_box(w), keep, rows, [moments], adam, &in_order);
    })
}
