//! `openwork forward`, `import` and `export` against passes of other implementations.

use std::path::Path;

use openwork_tensor::{Tensor, TensorFile};

use crate::{ok, passes};

/// `‖a − b‖ / ‖b‖`, or `‖a‖` where b is zero.
fn relative(a: &Tensor, b: &Tensor) -> f64 {
    let (Tensor::F32(a), Tensor::F32(b)) = (a, b) else { panic!("{} and {}", a.dtype(), b.dtype()) };
    let square = |x: f64| x * x;
    let apart = a.iter().zip(b).map(|(&x, &y)| square(f64::from(x) - f64::from(y))).sum::<f64>().sqrt();
    let size = b.iter().map(|&y| square(f64::from(y))).sum::<f64>().sqrt();
    if size > 0.0 { apart / size } else { apart }
}

/// Every tensor of `expected` but the tokens is in `found`, with the same shape and within tolerance: 1e-5,
/// gradients 1e-4 (what a float32 implementation reaches). No gradient is there that is not expected.
#[track_caller]
fn agrees(found: &Path, expected: &Path) {
    let (found, expected) = (TensorFile::open(found).unwrap(), TensorFile::open(expected).unwrap());
    for name in expected.names().filter(|name| !["tokens", "targets"].contains(name)) {
        let (a, b) = (found.tensor(name).unwrap(), expected.tensor(name).unwrap());
        if name == "loss" {
            assert_eq!(a.shape(), [1]);
        } else {
            assert_eq!(a.shape(), b.shape(), "{name}");
        }
        let tolerance = if name.starts_with("grad.") { 1e-4 } else { 1e-5 };
        let error = relative(&a, &b);
        assert!(error <= tolerance, "{name}: {error:e}"); // NaN fails
    }
    let surplus = found.names().find(|name| name.starts_with("grad.") && !expected.contains(name));
    assert_eq!(surplus, None, "{expected:?}");
}

#[test]
fn every_published_quantity_agrees_from_the_folder_the_model_file_and_an_export() {
    for folder in passes() {
        println!("{}", folder.display());
        let dir = tempfile::tempdir().unwrap();
        let (dir, model) = (dir.path(), folder.display());
        let expected = folder.join("expected.safetensors");
        let tokens = format!("--tokens {} --activations --gradients", expected.display());
        ok(dir, &format!("forward {model} {tokens} --out folder.safetensors"));
        agrees(&dir.join("folder.safetensors"), &expected);

        ok(dir, &format!("import {model} --out model.safetensors"));
        ok(dir, "export model.safetensors --out published");
        for (model, out) in [("model.safetensors", "a.safetensors"), ("published", "b.safetensors")] {
            ok(dir, &format!("forward {model} {tokens} --out {out}"));
            let bytes = |name| std::fs::read(dir.join(name)).unwrap();
            assert!(bytes(out) == bytes("folder.safetensors"), "{model} computes something else than the folder");
        }
    }
}

#[test]
fn only_what_was_asked_for_is_written() {
    let folder = passes().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let tokens = folder.join("expected.safetensors");
    ok(dir.path(), &format!("forward {} --tokens {} --out out.safetensors", folder.display(), tokens.display()));
    let out = TensorFile::open(dir.path().join("out.safetensors")).unwrap();
    assert_eq!(out.names().collect::<Vec<_>>(), ["logits", "loss"]);
}
