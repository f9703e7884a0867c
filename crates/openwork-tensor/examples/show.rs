//! Lists the tensors of a safetensors file or a PyTorch checkpoint: `cargo run --example show -- FILE`. Without an
//! argument it writes a small file and lists that.

use std::{collections::BTreeMap, error::Error, path::Path};

use ndarray::array;
use openwork_tensor::{CsrTensor, PtFile, Tensor, TensorFile};

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(file) => show(file.as_ref()),
        None => {
            let path = std::env::temp_dir().join(format!("openwork-tensor-example-{}.safetensors", std::process::id()));
            let bias = BTreeMap::from([("bias".to_owned(), Tensor::from(array![1.0, 2.0, 3.0]))]);
            let weight = CsrTensor::from_dense(array![[0.0, 1.5], [0.0, 0.0], [-2.0, 0.0]].view());
            let weight = BTreeMap::from([("weight".to_owned(), weight)]);
            openwork_tensor::write_with_csr(&path, &bias, &weight, &BTreeMap::new())?;
            let shown = show(&path);
            std::fs::remove_file(&path)?;
            shown
        }
    }
}

fn show(path: &Path) -> Result<(), Box<dyn Error>> {
    let line = |name: &str, tensor: &Tensor| println!("{name}: {} {:?}", tensor.dtype(), tensor.shape());
    if path.extension().is_some_and(|extension| extension == "pt") {
        let file = PtFile::open(path)?;
        for name in file.names() {
            line(name, &file.tensor(name)?);
        }
        return Ok(());
    }
    let file = TensorFile::open(path)?;
    for name in file.csr_names() {
        let csr = file.csr(name)?;
        println!("{name}: sparse, {} nonzeros of {:?}", csr.nnz(), csr.to_dense().shape());
    }
    for name in file.names().filter(|name| !name.contains(".csr.")) {
        line(name, &file.tensor(name)?);
    }
    Ok(())
}
