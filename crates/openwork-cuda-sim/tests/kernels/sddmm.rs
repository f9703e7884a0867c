use half::bf16;
use openwork_cuda_sim::{Arg, launch};
use openwork_sparse::{Csr, reference, top_magnitude};

use crate::{config, random};

#[test]
fn sums_are_those_of_the_reference() {
    for (rows, cols, tokens, chunks) in [(1, 1, 256, 1), (13, 9, 256, 1), (11, 20, 1024, 4)] {
        for density in [0.0, 1.0 / 64.0, 0.25, 1.0] {
            let w = random(rows, cols, 1);
            let pattern = top_magnitude(w.view(), (density * w.len() as f64) as usize, None);
            let round = |x: ndarray::Array2<f32>| x.mapv(|x| bf16::from_f32(x).to_f32());
            let (dy, x) = (round(random(rows, tokens, 2)), round(random(cols, tokens, 3)));
            let expected = reference::sddmm(&pattern, dy.view(), x.view());
            let words = |x: &ndarray::Array2<f32>| x.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>();
            let (dy_words, x_words) = (words(&dy), words(&x));
            let nnz = Csr::gather(pattern.clone(), w.view()).pattern().nnz();
            for kernel in ["sddmm_f32", "sddmm_bf16"] {
                let (dy, x) = match kernel {
                    "sddmm_f32" => (Arg::read(dy.as_slice().unwrap()), Arg::read(x.as_slice().unwrap())),
                    _ => (Arg::read(&dy_words), Arg::read(&x_words)),
                };
                let mut partial = vec![0.0_f32; chunks * nnz];
                let mut args = [
                    Arg::read(pattern.row_ptr()),
                    Arg::read(pattern.col_idx()),
                    dy,
                    x,
                    Arg::write(&mut partial),
                    Arg::U32(rows as u32),
                    Arg::U32(nnz as u32),
                    Arg::U32(tokens as u32),
                ];
                launch(kernel, config([rows.div_ceil(8), chunks], 256), &mut args).unwrap();
                let mut dw = vec![0.5_f32; nnz];
                let mut args =
                    [Arg::read(&partial), Arg::update(&mut dw), Arg::U32(nnz as u32), Arg::U32(chunks as u32)];
                launch("add_partial_sums", config([nnz.div_ceil(256).max(1), 1], 256), &mut args).unwrap();
                for (a, b) in dw.iter().zip(&expected) {
                    // A chain of tokens / 128 products below 1 a lane, and the sums over lanes and chunks.
                    let tolerance = f64::from(f32::EPSILON) * (tokens as f64 + 1.0);
                    assert!((f64::from(*a) - 0.5 - b).abs() <= tolerance, "{kernel}: {a} {b}");
                }
            }
        }
    }
}
