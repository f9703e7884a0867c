//! Lists the GPUs and runs one sparse product on the first: `cargo run --example devices`

use std::error::Error;

use openwork_cuda::{Array, Gpu, Operand, Parameters, Shape, devices, linear};

fn main() -> Result<(), Box<dyn Error>> {
    let found = match devices() {
        Ok(found) => found,
        Err(error) => {
            println!("no GPU: {error}");
            return Ok(());
        }
    };
    for device in &found {
        println!("{device:?}");
    }
    let gpu = Gpu::open(0)?;
    let mut parameters = Parameters::new(&gpu, &[Shape { rows: 2, cols: 3, room: 2 }]);
    parameters.set_weights(0, &[0.0, 2.0, 0.0, 0.5, 0.0, 0.0]);
    parameters.build_sparse(&[2], &[true]);
    let x = Array::upload(&gpu, [3, 1], &[1.0, 2.0, 3.0]);
    let mut y = Array::new(&gpu, [2, 1]);
    linear(&parameters.get(0), None, Operand::F32(&x), &mut y);
    println!("W x = {:?}", y.download()?);
    Ok(())
}
