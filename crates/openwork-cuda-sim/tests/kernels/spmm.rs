use half::bf16;
use ndarray::Array2;
use openwork_cuda_sim::{Arg, Config, launch};
use openwork_sparse::{Csr, Start, spmm, top_magnitude};

use crate::{config, random};

const DENSITIES: [f64; 5] = [0.0, 0.001, 1.0 / 64.0, 0.25, 1.0];
/// Rows, columns and tokens.
const SHAPES: [[usize; 3]; 4] = [[1, 1, 64], [13, 5, 64], [40, 33, 128], [17, 70, 192]];

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

/// What a product starts from: bias, what is there, or nothing.
fn starts<'a>(bias: &'a [f32]) -> [(Start<'a>, &'a [f32], u32); 3] {
    [(Start::Zero, &[], 0), (Start::Bias(bias), bias, 0), (Start::Add, &[], 1)]
}

/// No bias is no memory: a null pointer.
fn bias_arg(bias: &[f32]) -> Arg<'_> {
    if bias.is_empty() { Arg::Null } else { Arg::read(bias) }
}

#[test]
fn rows_are_the_bits_of_the_cpu() {
    for [rows, cols, tokens] in SHAPES {
        for density in DENSITIES {
            let (w, x) = (sparse(rows, cols, density), random(cols, tokens, 2));
            let pairs: Vec<[u32; 2]> =
                w.pattern().col_idx().iter().zip(w.values()).map(|(&c, w)| [c, w.to_bits()]).collect();
            let bias = random(rows, 1, 3).into_raw_vec_and_offset().0;
            for (start, bias, add) in starts(&bias) {
                let mut expected = random(rows, tokens, 4);
                let mut y = expected.clone().into_raw_vec_and_offset().0;
                spmm(&w, start, &x, &mut expected);
                let mut args = [
                    Arg::read(w.pattern().row_ptr()),
                    Arg::read(&pairs),
                    bias_arg(bias),
                    Arg::read(x.as_slice().unwrap()),
                    if add == 1 { Arg::update(&mut y) } else { Arg::write(&mut y) },
                    Arg::U32(rows as u32),
                    Arg::U32(tokens as u32),
                    Arg::U32(add),
                ];
                launch("spmm_rows_f32", config([rows.div_ceil(8), tokens.div_ceil(128)], 256), &mut args).unwrap();
                assert_eq!(y, expected.into_raw_vec_and_offset().0, "{rows}x{cols}x{tokens} at {density}");
            }
        }
    }
}

/// Words of column and bf16 value, rows padded to a multiple of four; and the rows, longest first.
fn packed(w: &Csr) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let (mut row_ptr, mut pairs) = (vec![0], Vec::new());
    for r in 0..w.pattern().rows() {
        for i in w.pattern().row(r) {
            let bits = u32::from(bf16::from_f32(w.values()[i]).to_bits());
            pairs.push(w.pattern().col_idx()[i] | bits << 16);
        }
        pairs.resize(pairs.len().next_multiple_of(4), 0);
        row_ptr.push(pairs.len() as u32);
    }
    let mut order: Vec<u32> = (0..w.pattern().rows() as u32).collect();
    order.sort_by_key(|&r| std::cmp::Reverse(w.pattern().row(r as usize).len()));
    (row_ptr, pairs, order)
}

fn round(x: &Array2<f32>) -> (Vec<bf16>, Array2<f32>) {
    let bits: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
    let back = Array2::from_shape_vec(x.dim(), bits.iter().map(|x| x.to_f32()).collect()).unwrap();
    (bits, back)
}

#[test]
fn tiles_are_the_bits_of_the_cpu_on_rounded_numbers() {
    for [rows, cols, tokens] in SHAPES {
        for density in DENSITIES {
            let (w, (x, x_rounded)) = (sparse(rows, cols, density), round(&random(cols, tokens, 2)));
            let (row_ptr, pairs, order) = packed(&w);
            let w = Csr::from_dense(round(&w.to_dense()).1.view());
            let bias = random(rows, 1, 3).into_raw_vec_and_offset().0;
            for (start, bias, add) in starts(&bias) {
                let (before, mut expected) = round(&random(rows, tokens, 4));
                spmm(&w, start, &x_rounded, &mut expected);
                let expected = round(&expected).0;
                for (kernel, lanes) in [("spmm_tile64_bf16", 8), ("spmm_tile16_bf16", 2)] {
                    let mut y = before.clone();
                    let mut args = [
                        Arg::read(&row_ptr),
                        Arg::read(&pairs),
                        Arg::read(&order),
                        bias_arg(bias),
                        Arg::read(&x),
                        if add == 1 { Arg::update(&mut y) } else { Arg::write(&mut y) },
                        Arg::U32(rows as u32),
                        Arg::U32(cols as u32),
                        Arg::U32(tokens as u32),
                        Arg::U32(add),
                    ];
                    let config = Config { shared: cols * lanes * 16, ..config([tokens / (8 * lanes), 1], 128) };
                    launch(kernel, config, &mut args).unwrap();
                    assert_eq!(y, expected, "{kernel} {rows}x{cols}x{tokens} at {density}");
                }
            }
        }
    }
}
