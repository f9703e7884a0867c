use half::bf16;
use openwork_cuda_sim::{Arg, launch};
use openwork_ops::{Activation, Matrix, activate};

use crate::{config, random};

/// More than a block's entries, and not a whole number of blocks.
const N: usize = 1300;

fn run(kernel: &str, args: &mut [Arg<'_>]) {
    launch(kernel, config([N.div_ceil(1024), 1], 256), args).unwrap();
}

#[test]
fn activations_are_those_of_the_cpu() {
    for (kernel, activation) in [("gelu", Activation::Gelu), ("relu", Activation::Relu)] {
        let x = random(1, N, 1) * 6.0;
        let (mut expected_slope, mut expected) = (x.clone(), Matrix::zeros(x.dim()));
        activate(activation, &mut expected_slope, &mut expected);
        let (mut slope, mut y) = (x.into_raw_vec_and_offset().0, vec![0.0_f32; N]);
        run(kernel, &mut [Arg::update(&mut slope), Arg::write(&mut y), Arg::U32(N as u32)]);
        for (a, b) in y.iter().zip(&expected).chain(slope.iter().zip(&expected_slope)) {
            // Exponentials of two kinds, each to 2 ulp of numbers up to 6.
            assert!((a - b).abs() <= 6.0 * 4.0 * f32::EPSILON, "{kernel}: {a} {b}");
        }
    }
}

#[test]
fn sums_products_and_roundings_are_exact() {
    let (x, y) = (random(1, N, 1), random(1, N, 2));
    let slice = |x: &Matrix| x.as_slice().unwrap().to_vec();
    let (y_slice, mut sum, mut product) = (slice(&y), slice(&x), slice(&x));
    run("add", &mut [Arg::update(&mut sum), Arg::read(&y_slice), Arg::U32(N as u32)]);
    assert_eq!(sum, slice(&(&x + &y)));
    run("multiply", &mut [Arg::update(&mut product), Arg::read(&y_slice), Arg::U32(N as u32)]);
    assert_eq!(product, slice(&(&x * &y)));
    let mut rounded = vec![bf16::ZERO; N];
    let numbers: Vec<f32> =
        [f32::MAX, f32::INFINITY, -0.0, 1e-40, 1.0 + 1.0 / 256.0].into_iter().chain(slice(&x)).take(N).collect();
    run("to_bf16", &mut [Arg::read(&numbers), Arg::write(&mut rounded), Arg::U32(N as u32)]);
    assert_eq!(rounded, numbers.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>());
    let mut back = vec![0.0_f32; N];
    run("from_bf16", &mut [Arg::read(&rounded), Arg::write(&mut back), Arg::U32(N as u32)]);
    assert_eq!(back, rounded.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
}
