//! `openwork devices` and `--device` where there is no GPU, or a driver that will not do.

use std::{path::Path, process::Command};

use crate::{openwork, stderr};

/// Functions that a driver has to have; that they are all is a test of `openwork-cuda`.
const OTHERS: &str = "cuCtxGetCurrent cuCtxSetCurrent cuCtxSynchronize cuDeviceGet cuDeviceGetAttribute cuDeviceGetName \
    cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxRetain cuDeviceTotalMem_v2 cuEventCreate cuEventDestroy_v2 \
    cuEventElapsedTime_v2 cuEventRecord cuEventSynchronize cuFuncGetAttribute cuFuncSetAttribute cuLaunchKernel cuMemAlloc_v2 \
    cuMemFree_v2 cuMemGetInfo_v2 cuMemcpyDtoDAsync_v2 cuMemcpyDtoHAsync_v2 cuMemcpyHtoDAsync_v2 cuMemsetD8Async \
    cuModuleGetFunction cuModuleLoadData cuModuleUnload cuStreamCreate cuStreamDestroy_v2 cuStreamSynchronize";

/// A driver that answers as told: codes of cuInit and versions. It has the functions `others`, too.
fn driver(dir: &Path, init: u32, version: u32, count: u32, others: &str) -> bool {
    let source = dir.join("driver.c");
    let others: String =
        others.split_whitespace().map(|name| format!("int {name}(void) {{ return 999; }}\n")).collect();
    let code = format!(
        "int cuInit(unsigned f) {{ return {init}; }}\n\
         int cuDriverGetVersion(int* v) {{ *v = {version}; return 0; }}\n\
         int cuDeviceGetCount(int* n) {{ *n = {count}; return 0; }}\n\
         int cuGetErrorName(int e, const char** s) {{ *s = \"CUDA_ERROR_OF_THE_TEST\"; return 0; }}\n\
         int cuGetErrorString(int e, const char** s) {{ *s = \"the test says so\"; return 0; }}\n{others}"
    );
    std::fs::write(&source, code).unwrap();
    let library = dir.join("libcuda.so.1");
    Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(library).arg(source).status().is_ok_and(|s| s.success())
}

/// The line of `openwork devices` on CUDA with what lies in `dir`.
fn cuda_line_of(dir: &Path) -> String {
    let output = openwork(dir, &["devices"]).env("LD_LIBRARY_PATH", dir).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    String::from_utf8(output.stdout).unwrap().lines().find(|line| line.starts_with("cuda")).unwrap().to_owned()
}

/// The same with a driver that answers as told.
fn cuda_line(init: u32, version: u32, count: u32) -> String {
    let dir = tempfile::tempdir().unwrap();
    assert!(driver(dir.path(), init, version, count, OTHERS), "a C compiler, which linking needs as well");
    cuda_line_of(dir.path())
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
    assert!(cuda_line(34, 13_000, 1).contains("is the stub of the CUDA toolkit"));
    // Answers to nothing, though it says that there is a device.
    assert_eq!(cuda_line(0, 13_000, 1), "cuda    none: GPU 0 does not open: the test says so (CUDA_ERROR_OF_THE_TEST)");
}

#[test]
fn files_that_are_no_driver_are_explained_and_auto_takes_the_processor() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let auto = || {
        let line = "train quickstart --data x --tokenizer nowhere.json --out x --device auto";
        let output = openwork(dir, &line.split(' ').collect::<Vec<_>>()).env("LD_LIBRARY_PATH", dir).output().unwrap();
        let said = stderr(&output);
        let reasons: Vec<_> = said.lines().filter(|line| line.starts_with("on the CPU: ")).collect();
        assert_eq!((output.status.code(), reasons.len(), said.contains("nowhere.json")), (Some(2), 1, true), "{said}");
        said
    };
    assert!(driver(dir, 0, 13_000, 1, ""));
    let line = cuda_line_of(dir);
    assert!(line.contains("is no working NVIDIA driver: it lacks cuCtxGetCurrent and 29 other functions"), "{line}");
    assert!(auto().contains("cuCtxGetCurrent"));
    // Its ELF header says another machine, or it is no library at all.
    let mut library = std::fs::read(dir.join("libcuda.so.1")).unwrap();
    library[18..20].copy_from_slice(&[0xF3, 0]);
    for bytes in [&library[..], b"", b"not a library"] {
        std::fs::write(dir.join("libcuda.so.1"), bytes).unwrap();
        let line = cuda_line_of(dir);
        assert!(line.contains("does not load as the NVIDIA driver") && line.contains("another architecture"), "{line}");
        assert!(auto().contains("does not load"));
    }
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_and_auto_is_not() {
    let dir = tempfile::tempdir().unwrap();
    assert!(driver(dir.path(), 0, 13_000, 0, OTHERS));
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
