//! One product two ways, sparse and dense: the same bits, at another speed. `cargo run --release --example product`

use std::time::Instant;

use ndarray::Array2;
use openwork_sparse::{Csr, Start, matmul, spmm, top_magnitude};

fn main() {
    let (out, inner, tokens) = (1024, 1024, 256);
    // Numbers without a pattern, from −1 to 1.
    let number = |i: usize, j: usize| (i * 7919 + j * 104_729) as f32 % 2003.0 / 1001.5 - 1.0;
    let mut w = Array2::from_shape_fn((out, inner), |(i, j)| number(i, j));
    let x = Array2::from_shape_fn((inner, tokens), |(i, t)| number(t, i));
    let pattern = top_magnitude(w.view(), out * inner / 100, None);
    pattern.project(&mut w);
    let csr = Csr::gather(pattern, w.view());

    let [mut sparse, mut dense] = [(); 2].map(|()| Array2::zeros((out, tokens)));
    let start = Instant::now();
    spmm(&csr, Start::Zero, &x, &mut sparse);
    let after_sparse = Instant::now();
    matmul(Start::Zero, &w, &x, &mut dense);
    let seconds = [after_sparse - start, after_sparse.elapsed()].map(|time| time.as_secs_f64());
    assert_eq!(sparse, dense, "both products are the same chains of additions");
    println!(
        "{} nonzeros: sparse {:.2e} s, dense {:.2e} s, the same bits",
        csr.pattern().nnz(),
        seconds[0],
        seconds[1]
    );
}
