//! Gradient steps on a linear layer half of whose weights are zero and stay zero: `cargo run --example gradient`

use ndarray::Array2;
use openwork_ops::{Activations, Adam, Cpu, Gradient, Weight, adam_step, linear, linear_backward};

fn main() {
    let mut cpu = Cpu::default();
    let keep = |i: usize, j: usize| (i + j).is_multiple_of(2);
    let target = Array2::from_shape_fn((8, 8), |(i, j)| if keep(i, j) { (i as f32 - j as f32) / 8.0 } else { 0.0 });
    let x = Activations::from(Array2::from_shape_fn((8, 64), |(i, t)| ((i * 13 + t * 7) % 11) as f32 / 11.0 - 0.5));
    let mut w = Weight::new(Array2::zeros((8, 8)));
    let [mut m, mut v] = [(); 2].map(|()| vec![0.0; 64]);
    let mut wanted = Array2::zeros((8, 64));
    linear(&Weight::new(target), None, &x, &mut wanted, &mut cpu);
    for step in 1..=200 {
        let mut y = Array2::zeros((8, 64));
        linear(&w, None, &x, &mut y, &mut cpu);
        let dy = &y - &wanted; // the gradient of half the squared error
        let mut dw = Gradient::zeros((8, 8));
        linear_backward(&w, &dy, &x, Some((&mut dw, None)), &mut cpu);
        let adam = Adam { lr: 0.02, beta1: 0.9, beta2: 0.95, eps: 1e-8, step };
        w.update(|w| {
            let values = w.as_slice_mut().expect("row-major");
            adam_step(adam, 1.0, values, dw.values(), &mut m, &mut v);
            w.indexed_iter_mut().filter(|((i, j), _)| !keep(*i, *j)).for_each(|(_, w)| *w = 0.0);
        });
        if step % 50 == 0 {
            println!("step {step}: squared error {:.6}, {} nonzeros", dy.iter().map(|d| d * d).sum::<f32>(), w.nnz());
        }
    }
}
