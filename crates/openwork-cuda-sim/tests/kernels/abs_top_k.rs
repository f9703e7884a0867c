use ndarray::Array2;
use openwork_cuda_sim::{Arg, launch};
use openwork_ops::{Cpu, Matrix, NormKind, Ties, Weight, abs_top_k, abs_top_k_backward, norm};

use crate::{close, config, random, vec};

/// Many equal magnitudes and many zeros.
fn coarse(features: usize, tokens: usize) -> Matrix {
    random(features, tokens, 5).mapv(|x| (x * 3.0).round() / 2.0)
}

fn check(kernel: &str, block_tokens: usize, x: Matrix, k: usize) {
    let (features, tokens) = x.dim();
    let mut expected = x.clone();
    let expected_kept = abs_top_k(k, Ties::ByIndex, &mut expected, &mut Cpu::default());
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
        ("abs_top_k_16384", 2, 5000),
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
    let kept = abs_top_k(2, Ties::ByIndex, &mut x, &mut Cpu::default());
    let mut expected = dy.clone();
    abs_top_k_backward(&kept, &mut expected);
    let mut dy = dy.into_raw_vec_and_offset().0;
    let n = dy.len() as u32;
    let mut args = [Arg::read(kept.as_slice().unwrap()), Arg::update(&mut dy), Arg::U32(n)];
    launch("abs_top_k_backward", config([1, 1], 256), &mut args).unwrap();
    assert_eq!(Array2::from_shape_vec((6, 96), dy).unwrap(), expected);
}

#[test]
fn fused_with_the_norm_it_keeps_what_the_two_keep() {
    let eps = NormKind::Rms.eps();
    for (kernel, block_tokens, features) in [
        ("norm_abs_top_k_256", 32, 1_usize),
        ("norm_abs_top_k_256", 32, 100),
        ("norm_abs_top_k_1024", 16, 700),
        ("norm_abs_top_k_2048", 8, 1100),
    ] {
        let (x, gain) = (random(features, 32, 1), random(features, 1, 2));
        let k = features.div_ceil(4);
        let mut expected = Matrix::zeros(x.dim());
        norm(NormKind::Rms, &Weight::new(gain.clone()), None, &x, &mut expected);
        let expected_kept = abs_top_k(k, Ties::ByIndex, &mut expected, &mut Cpu::default());
        let (x, gain) = (vec(&x), vec(&gain));
        let (mut y, mut kept) = (vec![0.0_f32; x.len()], vec![0_u8; x.len()]);
        let [mut mean, mut scale] = [vec![0.0_f32; 32], vec![0.0_f32; 32]];
        let mut args = [
            Arg::read(&x),
            Arg::read(&gain),
            Arg::write(&mut y),
            Arg::write(&mut kept),
            Arg::write(&mut mean),
            Arg::write(&mut scale),
            Arg::U32(features as u32),
            Arg::U32(32),
            Arg::U32(k as u32),
            Arg::F32(eps),
        ];
        launch(kernel, config([32 / block_tokens, 1], 1024), &mut args).unwrap();
        // Magnitudes of random numbers are far enough apart that rounding does not change which are the largest.
        assert_eq!(kept, expected_kept.into_raw_vec_and_offset().0, "{kernel}");
        close(kernel, &y, &vec(&expected), features as f32);
        assert!(mean.iter().all(|&m| m == 0.0));
        for (t, scale) in scale.iter().enumerate() {
            let square = (0..features).map(|f| x[f * 32 + t] * x[f * 32 + t]).sum::<f32>() / features as f32;
            assert!((scale * (square + eps).sqrt() - 1.0).abs() < 1e-5, "{scale}");
        }
    }
}
