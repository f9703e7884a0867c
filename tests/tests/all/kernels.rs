//! The CUDA kernels, their PTX, and the list of them.

use std::{collections::BTreeSet, fs, path::PathBuf};

use openwork_cuda::{KERNELS, ptx};

fn kernels() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../kernels")
}

#[test]
fn ptx_is_that_of_the_sources() {
    let common = fs::read(kernels().join("common.cuh")).unwrap();
    for file in KERNELS.iter().map(|kernel| kernel.file).collect::<BTreeSet<_>>() {
        let source = fs::read(kernels().join(file).with_extension("cu")).unwrap();
        let hash = openwork_tensor::sha256_bytes(&[&common[..], &source[..]].concat());
        let first = ptx(file).unwrap().lines().next().unwrap();
        assert_eq!(first, format!("// Sources: sha256 {hash}"), "{file}.ptx is stale: run cargo xtask kernels");
    }
}

#[test]
fn every_source_has_kernels_in_the_list_and_in_the_table() {
    let listed: BTreeSet<String> = KERNELS.iter().map(|kernel| format!("{}.cu", kernel.file)).collect();
    let files = fs::read_dir(kernels()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    assert_eq!(files.filter(|name| name.ends_with(".cu")).collect::<BTreeSet<_>>(), listed);
    let table = fs::read_to_string(kernels().join("README.md")).unwrap();
    for kernel in KERNELS {
        let row = format!("| `{}.cu` | `{}` |", kernel.file, kernel.name);
        assert!(table.contains(&row), "kernels/README.md has no row for {}: run cargo xtask kernels", kernel.name);
    }
}

#[test]
fn the_simulator_runs_the_kernels_of_the_list() {
    for kernel in KERNELS {
        assert_eq!(openwork_cuda_sim::signature(kernel.name).as_deref(), Some(kernel.args), "{}", kernel.name);
    }
}
