//! `openwork devices` and `--device` where there is no GPU, or a driver that will not do.

use std::{path::Path, process::Command};

use crate::{openwork, stderr};

/// A driver that answers as told: codes of cuInit and versions.
fn driver(dir: &Path, init: u32, version: u32, count: u32) -> bool {
    let source = dir.join("driver.c");
    let code = format!(
        "int cuInit(unsigned f) {{ return {init}; }}\n\
         int cuDriverGetVersion(int* v) {{ *v = {version}; return 0; }}\n\
         int cuDeviceGetCount(int* n) {{ *n = {count}; return 0; }}\n\
         int cuGetErrorName(int e, const char** s) {{ *s = \"CUDA_ERROR_OF_THE_TEST\"; return 0; }}\n\
         int cuGetErrorString(int e, const char** s) {{ *s = \"the test says so\"; return 0; }}\n"
    );
    std::fs::write(&source, code).unwrap();
    let library = dir.join("libcuda.so");
    Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(library).arg(source).status().is_ok_and(|s| s.success())
}

/// The line of `openwork devices` on CUDA with that driver.
fn cuda_line(init: u32, version: u32, count: u32) -> String {
    let dir = tempfile::tempdir().unwrap();
    assert!(driver(dir.path(), init, version, count), "a C compiler, which linking needs as well");
    let output = openwork(dir.path(), &["devices"]).env("LD_LIBRARY_PATH", dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap().lines().find(|line| line.starts_with("cuda")).unwrap().to_owned()
}

#[test]
fn drivers_that_will_not_do_are_explained() {
    assert_eq!(
        cuda_line(100, 13_000, 0),
        "cuda    none: the NVIDIA driver does not start: the test says so (CUDA_ERROR_OF_THE_TEST)"
    );
    assert_eq!(
        cuda_line(0, 12_040, 1),
        "cuda    none: the NVIDIA driver supports CUDA 12.4, and the kernels need 13.0: update the driver"
    );
    assert_eq!(cuda_line(0, 13_000, 0), "cuda    none: the driver sees no GPU");
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_and_auto_is_not() {
    let dir = tempfile::tempdir().unwrap();
    assert!(driver(dir.path(), 0, 13_000, 0));
    let train = |device: &str| {
        let line = format!("train quickstart --data x --tokenizer nowhere.json --out x --device {device}");
        let mut command = openwork(dir.path(), &line.split(' ').collect::<Vec<_>>());
        let output = command.env("LD_LIBRARY_PATH", dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    assert!(train("cuda:3").contains("there is no GPU 3: the driver sees 0"));
    assert!(train("gpu").contains("cpu, cuda, cuda:1 or auto"));
    // Gets as far as the tokenizer that is not there.
    let auto = train("auto");
    assert!(auto.contains("nowhere.json") && auto.contains("on the CPU: there is no GPU 0"), "{auto}");
}
