use ndarray::{Array2, s};
use pulp::WithSimd;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{Csr, reference, simd::InstructionSet, top_magnitude};

/// Odd sizes and whole blocks; one and many inner blocks.
const SHAPES: [(usize, usize, usize); 7] =
    [(1, 1, 1), (7, 5, 3), (64, 33, 17), (24, 64, 130), (13, 300, 48), (9, 16, 256), (40, 520, 71)];

fn random(rows: usize, cols: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, cols), || rng.random_range(-1.0..1.0))
}

/// A matrix of which a fraction is kept, with an empty first row and a full last one.
fn sparse(rows: usize, cols: usize, density: f64) -> Csr {
    let mut w = random(rows, cols, 1);
    let pattern = top_magnitude(w.view(), (density * w.len() as f64) as usize, None);
    let last = w.row(rows - 1).to_owned();
    pattern.project(&mut w);
    if rows > 2 {
        w.row_mut(0).fill(0.0);
        w.row_mut(rows - 1).assign(&last);
    }
    Csr::from_dense(w.view())
}

/// The error of a chain of `terms` products of numbers below 1.
fn tolerance(terms: usize) -> f64 {
    f64::from(f32::EPSILON) * (terms as f64 + 1.0)
}

fn close(a: &Array2<f32>, b: &Array2<f64>, terms: usize) {
    for (a, b) in a.iter().zip(b) {
        assert!((f64::from(*a) - b).abs() <= tolerance(terms), "{a} {b}");
    }
}

fn bits(x: &Array2<f32>) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn run(set: InstructionSet, op: impl WithSimd<Output = ()>) {
    set.run(op);
}

#[test]
fn sparse_and_dense_products_are_the_same_bits_with_every_instruction_set() {
    for (out, input, n) in SHAPES {
        for density in [0.0, 0.001, 1.0 / 64.0, 0.25, 1.0] {
            let (w, x) = (sparse(out, input, density), random(input, n, 2));
            let dense = w.to_dense();
            let bias: Vec<f32> = random(out, 1, 3).into_raw_vec_and_offset().0;
            let before = random(out, n, 4);
            for start in [Start::Zero, Start::Bias(&bias), Start::Add] {
                let mut expected = reference::spmm(&w, x.view());
                for ((r, c), e) in expected.indexed_iter_mut() {
                    *e += match start {
                        Start::Zero => 0.0,
                        Start::Bias(bias) => f64::from(bias[r]),
                        Start::Add => f64::from(before[[r, c]]),
                    };
                }
                let mut first = None;
                for set in InstructionSet::available() {
                    let (mut y, mut z) = (before.clone(), before.clone());
                    run(set, Spmm { w: (&w).into(), start, x: (&x).into(), y: (&mut y).into() });
                    run(set, Matmul { start, a: (&dense).into(), b: (&x).into(), c: (&mut z).into() });
                    close(&y, &expected, input + 1);
                    let first = first.get_or_insert_with(|| bits(&y));
                    assert_eq!(*first, bits(&y), "spmm with {set}, {out}x{input}x{n} at {density}");
                    assert_eq!(*first, bits(&z), "matmul with {set}, {out}x{input}x{n} at {density}");
                }
            }
        }
    }
}

#[test]
fn operands_may_be_transposed_or_blocks_of_larger_matrices() {
    let (a, b) = (random(21, 40, 1), random(40, 37, 2));
    let mut plain = Array2::zeros((21, 37));
    matmul(Start::Zero, &a, &b, &mut plain);
    let (at, bt) = (a.t().as_standard_layout().to_owned(), b.t().as_standard_layout().to_owned());
    let mut c = Array2::zeros((21, 37));
    matmul(Start::Zero, Panel::from(&at).t(), Panel::from(&bt).t(), &mut c);
    assert_eq!(c, plain);

    let mut large = Array2::from_elem((30, 50), 7.0);
    let target = &mut large.as_slice_mut().unwrap()[3 * 50 + 5..];
    let half = Panel::new(&a.as_slice().unwrap()[40 + 20..], [20, 20], 40);
    matmul(
        Start::Zero,
        half,
        Panel::new(&b.as_slice().unwrap()[20 * 37..], [20, 37], 37),
        PanelMut::new(target, [20, 37], 50),
    );
    let expected = reference::spmm(&Csr::from_dense(a.slice(s![1.., 20..])), b.slice(s![20.., ..]));
    close(&large.slice(s![3..23, 5..42]).to_owned(), &expected, 20);
    large.slice_mut(s![3..23, 5..42]).fill(7.0);
    assert!(large.iter().all(|&x| x == 7.0), "nothing beside the target is written");
}

#[test]
fn gradients_at_the_positions_match_the_dense_product() {
    for (out, input, n) in SHAPES {
        for density in [0.0, 0.001, 1.0 / 64.0, 0.25, 1.0] {
            let w = sparse(out, input, density);
            let (x, dy) = (random(input, n, 2), random(out, n, 3));
            let mut first = None;
            for set in InstructionSet::available() {
                let mut dw = vec![0.5; w.pattern().nnz()];
                set.run(Sddmm { pattern: w.pattern(), dy: Panel::from(&dy), x: Panel::from(&x), dw: &mut dw });
                let expected = reference::sddmm(w.pattern(), dy.view(), x.view());
                for (a, b) in dw.iter().zip(expected) {
                    assert!((f64::from(*a) - 0.5 - b).abs() <= tolerance(n + 1), "{a} {b}");
                }
                let first = first.get_or_insert_with(|| dw.clone());
                assert_eq!(*first, dw, "{set}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "spmm: W is [2, 2] but x is [3, 1]")]
fn shape_mismatch_panics() {
    let w = Csr::from_dense(ndarray::array![[1.0, 0.0], [0.0, 1.0]].view());
    spmm(&w, Start::Zero, &Array2::zeros((3, 1)), &mut Array2::zeros((2, 1)));
}
