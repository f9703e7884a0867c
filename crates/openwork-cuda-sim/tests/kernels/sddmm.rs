use half::bf16;
use openwork_cuda_sim::{Arg, Config, launch};
use openwork_sparse::{Csr, reference, top_magnitude};

use crate::{config, random};

#[test]
fn sums_are_those_of_the_reference() {
    for (rows, cols, tokens, chunks) in [(1, 1, 128, 1), (13, 9, 128, 1), (11, 20, 512, 3)] {
        for density in [0.0, 1.0 / 64.0, 0.25, 1.0] {
            let w = random(rows, cols, 1);
            let pattern = top_magnitude(w.view(), (density * w.len() as f64) as usize, None);
            let round = |x: ndarray::Array2<f32>| x.mapv(|x| bf16::from_f32(x).to_f32());
            let (dy, x) = (round(random(rows, tokens, 2)), round(random(cols, tokens, 3)));
            let expected = reference::sddmm(&pattern, dy.view(), x.view());
            let words = |x: &ndarray::Array2<f32>| x.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>();
            let (dy_words, x_words) = (words(&dy), words(&x));
            let csr = Csr::gather(pattern.clone(), w.view());
            let pattern = csr.pattern();
            let nnz = pattern.nnz();
            // More room than there are nonzeros.
            let room = nnz + 3;
            let pairs: Vec<[u32; 2]> = pattern.col_idx().iter().map(|&c| [c, 0]).collect();
            let order: Vec<u32> = (0..rows as u32).rev().collect();
            for (kernel, lane) in
                [("sddmm_rows_f32", 4), ("sddmm_rows_bf16", 8), ("sddmm_tile_f32", 4), ("sddmm_tile_bf16", 8)]
            {
                let operands = match lane {
                    4 => [Arg::read(dy.as_slice().unwrap()), Arg::read(x.as_slice().unwrap())],
                    _ => [Arg::read(&dy_words), Arg::read(&x_words)],
                };
                let mut partial = vec![f32::NAN; chunks * room];
                let tiled = kernel.contains("tile");
                let mut args = vec![Arg::read(pattern.row_ptr()), Arg::read(&pairs)];
                args.extend(tiled.then(|| Arg::read(&order)));
                args.extend(operands);
                args.extend([Arg::update(&mut partial), Arg::U32(rows as u32)]);
                args.extend(tiled.then_some(Arg::U32(cols as u32)));
                args.extend([Arg::U32(room as u32), Arg::U32(tokens as u32)]);
                let config = match tiled {
                    true => Config { shared: cols * 128, ..config([chunks, 1], 512) },
                    false => crate::config([rows.div_ceil(8), chunks], 256),
                };
                launch(kernel, config, &mut args).unwrap();
                let mut dw = vec![0.5_f32; rows * cols];
                let mut args = [
                    Arg::read(pattern.row_ptr()),
                    Arg::read(&pairs),
                    Arg::read(&partial),
                    Arg::update(&mut dw),
                    Arg::U32(rows as u32),
                    Arg::U32(cols as u32),
                    Arg::U32(room as u32),
                    Arg::U32(chunks as u32),
                ];
                launch("add_at_nonzeros", crate::config([rows.div_ceil(8), 1], 256), &mut args).unwrap();
                let mut at_nonzeros = expected.iter();
                for r in 0..rows {
                    for c in 0..cols as u32 {
                        let inside = pattern.col_idx()[pattern.row(r)].contains(&c);
                        let expected = if inside { 0.5 + at_nonzeros.next().unwrap() } else { 0.5 };
                        let found = f64::from(dw[r * cols + c as usize]);
                        // A chain of tokens / 128 products below 1 a lane, and the sums over lanes and chunks.
                        let tolerance = f64::from(f32::EPSILON) * (tokens as f64 + 1.0);
                        assert!((found - expected).abs() <= tolerance, "{kernel}: {found} {expected}");
                    }
                }
            }
        }
    }
}
