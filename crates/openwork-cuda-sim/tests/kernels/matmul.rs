use openwork_cuda_sim::{Arg, Config, launch};
use openwork_sparse::{Panel, Start, matmul};

use crate::{close, random, vec};

fn grid(blocks: [usize; 3]) -> Config {
    Config { grid: blocks.map(|n| n as u32), block: [256, 1, 1], shared: 0 }
}

#[test]
fn dense_products_are_the_bits_of_the_cpu() {
    for [rows, cols, tokens] in [[1, 1, 128], [70, 33, 128], [64, 130, 256], [130, 64, 128]] {
        let (w, x, dy) = (random(rows, cols, 1), random(cols, tokens, 2), random(rows, tokens, 3));
        let bias = vec(&random(rows, 1, 4));
        let sizes = [rows, cols, tokens].map(|n| Arg::U32(n as u32));
        let [rows_arg, cols_arg, tokens_arg] = sizes;
        let read = |x: &ndarray::Array2<f32>| vec(x);
        let (w_values, x_values, dy_values) = (read(&w), read(&x), read(&dy));
        for with_bias in [false, true] {
            let mut expected = random(rows, tokens, 5);
            let start = if with_bias { Start::Bias(&bias) } else { Start::Zero };
            matmul(start, &w, &x, &mut expected);
            let mut y = vec![0.0_f32; rows * tokens];
            let mut args = [
                Arg::read(&w_values),
                if with_bias { Arg::read(&bias) } else { Arg::Null },
                Arg::read(&x_values),
                Arg::write(&mut y),
                Arg::U32(rows as u32),
                Arg::U32(cols as u32),
                Arg::U32(tokens as u32),
            ];
            launch("matmul", grid([tokens.div_ceil(64), rows.div_ceil(64), 1]), &mut args).unwrap();
            assert_eq!(y, vec(&expected), "{rows}x{cols}x{tokens}");
        }
        let mut expected = random(cols, tokens, 5);
        matmul(Start::Zero, Panel::from(&w).t(), &dy, &mut expected);
        let mut dx = vec![0.0_f32; cols * tokens];
        let mut args =
            [Arg::read(&w_values), Arg::read(&dy_values), Arg::write(&mut dx), rows_arg, cols_arg, tokens_arg];
        launch("matmul_input", grid([tokens.div_ceil(64), cols.div_ceil(64), 1]), &mut args).unwrap();
        assert_eq!(dx, vec(&expected), "{rows}x{cols}x{tokens}");

        for chunks in [1, 3] {
            let (mut partial, mut dw) = (vec![0.0_f32; chunks * rows * cols], vec![0.5_f32; rows * cols]);
            let mut args = [
                Arg::read(&dy_values),
                Arg::read(&x_values),
                Arg::write(&mut partial),
                Arg::U32(rows as u32),
                Arg::U32(cols as u32),
                Arg::U32(tokens as u32),
            ];
            launch("matmul_weight", grid([cols.div_ceil(64), rows.div_ceil(64), chunks]), &mut args).unwrap();
            let n = (rows * cols) as u32;
            let mut args = [Arg::read(&partial), Arg::update(&mut dw), Arg::U32(n), Arg::U32(chunks as u32)];
            launch("add_partial_sums", grid([(rows * cols).div_ceil(256), 1, 1]), &mut args).unwrap();
            let expected = dy.dot(&x.t()).mapv(|x| x + 0.5);
            close("dw", &dw, &vec(&expected), tokens as f32);
        }
    }
}

#[test]
fn rows_are_set() {
    let (rows, stride) = (3, 384);
    let (bias, mut y) = (vec(&random(rows, 1, 1)), vec![0.0_f32; rows * stride]);
    let mut args = [Arg::read(&bias), Arg::write(&mut y), Arg::U32(stride as u32)];
    launch("set_rows", grid([2, rows, 1]), &mut args).unwrap();
    assert!(y.iter().enumerate().all(|(i, y)| *y == bias[i / stride]));
}
