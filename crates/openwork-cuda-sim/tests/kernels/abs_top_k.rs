use ndarray::Array2;
use openwork_cuda_sim::{Arg, launch};
use openwork_ops::{Matrix, Ties, Workspace, abs_top_k, abs_top_k_backward};

use crate::{config, random};

/// Many equal magnitudes and many zeros.
fn coarse(features: usize, tokens: usize) -> Matrix {
    random(features, tokens, 5).mapv(|x| (x * 3.0).round() / 2.0)
}

fn check(kernel: &str, block_tokens: usize, x: Matrix, k: usize) {
    let (features, tokens) = x.dim();
    let mut expected = x.clone();
    let expected_kept = abs_top_k(k, Ties::ByIndex, &mut expected, &mut Workspace::default());
    let mut x = x.into_raw_vec_and_offset().0;
    let mut kept = vec![0_u8; x.len()];
    let mut args = [
        Arg::update(&mut x),
        Arg::write(&mut kept),
        Arg::U32(features as u32),
        Arg::U32(tokens as u32),
        Arg::U32(k as u32),
    ];
    launch(kernel, config([tokens / block_tokens, 1], 1024), &mut args).unwrap();
    assert_eq!(x, expected.into_raw_vec_and_offset().0, "{kernel}: {features} features, k {k}");
    assert_eq!(kept, expected_kept.into_raw_vec_and_offset().0, "{kernel}: {features} features, k {k}");
}

#[test]
fn keeps_what_the_cpu_keeps() {
    for (kernel, block_tokens, features) in [
        ("abs_top_k_256", 32, 1_usize),
        ("abs_top_k_256", 32, 37),
        ("abs_top_k_256", 32, 256),
        ("abs_top_k_1024", 32, 333),
        ("abs_top_k_4096", 8, 1500),
    ] {
        for k in [1, features.div_ceil(4), features - features / 5] {
            check(kernel, block_tokens, random(features, 32, 1), k);
            check(kernel, block_tokens, coarse(features, 32), k);
        }
    }
    check("abs_top_k_256", 32, Matrix::zeros((40, 64)), 10);
}

#[test]
fn the_gradient_flows_where_entries_were_kept() {
    let (mut x, dy) = (random(6, 96, 1), random(6, 96, 2));
    let kept = abs_top_k(2, Ties::ByIndex, &mut x, &mut Workspace::default());
    let mut expected = dy.clone();
    abs_top_k_backward(&kept, &mut expected);
    let mut dy = dy.into_raw_vec_and_offset().0;
    let n = dy.len() as u32;
    let mut args = [Arg::read(kept.as_slice().unwrap()), Arg::update(&mut dy), Arg::U32(n)];
    launch("abs_top_k_backward", config([1, 1], 256), &mut args).unwrap();
    assert_eq!(Array2::from_shape_vec((6, 96), dy).unwrap(), expected);
}
