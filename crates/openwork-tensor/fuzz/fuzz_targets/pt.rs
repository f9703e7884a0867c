//! Any bytes as a PyTorch checkpoint: every tensor that opens is read, none is larger than the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openwork_tensor::PtFile;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = PtFile::from_bytes(bytes.to_vec()) else {
        return;
    };
    for name in file.names() {
        if let Ok(tensor) = file.tensor(name) {
            let elements = if tensor.shape().contains(&0) {
                0
            } else {
                tensor.shape().iter().product()
            };
            assert!(elements * tensor.dtype().size() <= bytes.len());
        }
    }
});
