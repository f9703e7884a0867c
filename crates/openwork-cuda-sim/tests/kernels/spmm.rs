use half::bf16;
use ndarray::Array2;
use openwork_cuda_sim::{Arg, Config, launch};
use openwork_sparse::{Csr, Start, spmm, top_magnitude};

use crate::{config, random, vec};

const DENSITIES: [f64; 5] = [0.0, 0.001, 1.0 / 64.0, 0.25, 1.0];
/// Rows, columns and tokens.
const SHAPES: [[usize; 3]; 4] = [[1, 1, 128], [13, 5, 128], [40, 33, 128], [17, 70, 256]];

/// A fraction kept, an empty first row and a full last one.
fn sparse(rows: usize, cols: usize, density: f64) -> Csr {
    let mut w = random(rows, cols, 1);
    let last = w.row(rows - 1).to_owned();
    top_magnitude(w.view(), (density * w.len() as f64) as usize, None).project(&mut w);
    if rows > 2 {
        w.row_mut(0).fill(0.0);
        w.row_mut(rows - 1).assign(&last);
    }
    Csr::from_dense(w.view())
}

/// Pairs of column and bits of the value; and the rows, longest first.
fn lines(w: &Csr) -> (Vec<[u32; 2]>, Vec<u32>) {
    let pattern = w.pattern();
    let pairs = pattern.col_idx().iter().zip(w.values()).map(|(&c, w)| [c, w.to_bits()]).collect();
    let mut order: Vec<u32> = (0..pattern.rows() as u32).collect();
    order.sort_by_key(|&r| std::cmp::Reverse(pattern.row(r as usize).len()));
    (pairs, order)
}

fn round(x: &Array2<f32>) -> (Vec<bf16>, Array2<f32>) {
    let bits: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
    let back = Array2::from_shape_vec(x.dim(), bits.iter().map(|x| x.to_f32()).collect()).unwrap();
    (bits, back)
}

#[test]
fn products_are_the_bits_of_the_cpu() {
    for [rows, cols, tokens] in SHAPES {
        for density in DENSITIES {
            let w = sparse(rows, cols, density);
            let (pairs, order) = lines(&w);
            let x = random(cols, tokens, 2);
            let (words, rounded) = round(&x);
            let (bias, of_tile) = (random(rows, 1, 3).into_raw_vec_and_offset().0, [cols as u32]);
            for bias in [None, Some(&bias)] {
                for (kind, lane, x, numbers) in [
                    ("f32", 4, &x, bytemuck::cast_slice::<f32, u8>(x.as_slice().unwrap())),
                    ("bf16", 8, &rounded, bytemuck::cast_slice(&words)),
                ] {
                    let mut expected = random(rows, tokens, 4);
                    spmm(&w, bias.map_or(Start::Zero, |b| Start::Bias(b)), x, &mut expected);
                    let expected = vec(&expected);
                    let null_or_bias = || bias.map_or(Arg::Null, |b| Arg::read(b));
                    let sizes = |cols: &[u32]| -> Vec<u32> { [&[rows as u32], cols, &[tokens as u32]].concat() };
                    for (name, lanes) in [("rows", 32), ("tile", 8), ("narrow", 2)] {
                        let mut y = vec![0.0_f32; rows * tokens];
                        let mut args = vec![Arg::read(w.pattern().row_ptr()), Arg::read(&pairs)];
                        let tiled = name != "rows";
                        if tiled {
                            args.push(Arg::read(&order));
                        }
                        args.extend([null_or_bias(), Arg::In(numbers), Arg::write(&mut y)]);
                        args.extend(sizes(if tiled { &of_tile } else { &[] }).into_iter().map(Arg::U32));
                        let blocks = tokens.div_ceil(lanes * lane);
                        let config = match tiled {
                            true => Config { shared: cols * lanes * 16, ..config([blocks, 1], 512) },
                            false => config([rows.div_ceil(8), blocks], 256),
                        };
                        let kernel = format!("spmm_{name}_{kind}");
                        launch(&kernel, config, &mut args).unwrap();
                        assert_eq!(y, expected, "{kernel} {rows}x{cols}x{tokens} at {density}");
                    }
                }
            }
        }
    }
}
