//! A driver that does nothing, with the functions that a driver needs and no others: whatever is called is there, and a
//! missing function is named.

use std::{path::Path, process::Command};

use openwork_cuda::{Array, Gpu, Operand, Parameters, Shape, devices, linear};

/// Set for the process that runs with the driver.
const CHILD: &str = "OPENWORK_TEST_DRIVER";

/// Functions that have to do something for a device to seem to work.
const WORKING: [(&str, &str); 10] = [
    ("cuDriverGetVersion", "int* v) { *v = 13000; return 0; }"),
    ("cuDeviceGetCount", "int* n) { *n = 1; return 0; }"),
    ("cuDeviceGetName", "char* s, int n, int d) { strcpy(s, \"Nothing\"); return 0; }"),
    ("cuDeviceGetAttribute", "int* x, int a, int d) { *x = a == 75 ? 9 : a == 76 ? 0 : 65536; return 0; }"),
    ("cuDeviceTotalMem_v2", "size_t* n, int d) { *n = 1 << 28; return 0; }"),
    ("cuMemAlloc_v2", "void** p, size_t n) { *p = malloc(n); return 0; }"),
    ("cuMemGetInfo_v2", "size_t* f, size_t* t) { *f = *t = 1 << 28; return 0; }"),
    ("cuMemcpyHtoDAsync_v2", "void* to, void* from, size_t n, void* s) { memcpy(to, from, n); return 0; }"),
    ("cuMemcpyDtoHAsync_v2", "void* to, void* from, size_t n, void* s) { memcpy(to, from, n); return 0; }"),
    ("cuMemcpyDtoDAsync_v2", "void* to, void* from, size_t n, void* s) { memcpy(to, from, n); return 0; }"),
];

/// Functions for which it is enough to be there. Those with a pointer for a result say that they have written one.
const PRESENT: [&str; 25] = [
    "cuCtxGetCurrent(void** p) { *p = (void*)8; return 0; }",
    "cuCtxSetCurrent() { return 0; }",
    "cuCtxSynchronize() { return 0; }",
    "cuDeviceGet(int* d, int n) { *d = n; return 0; }",
    "cuDevicePrimaryCtxRelease_v2() { return 0; }",
    "cuDevicePrimaryCtxRetain(void** p) { *p = (void*)8; return 0; }",
    "cuEventCreate(void** p) { *p = (void*)8; return 0; }",
    "cuEventDestroy_v2() { return 0; }",
    "cuEventElapsedTime_v2(float* ms) { *ms = 1; return 0; }",
    "cuEventRecord() { return 0; }",
    "cuEventSynchronize() { return 0; }",
    "cuFuncGetAttribute(int* x) { *x = 0; return 0; }",
    "cuFuncSetAttribute() { return 0; }",
    "cuGetErrorName(int e, const char** s) { *s = \"NAME\"; return 0; }",
    "cuGetErrorString(int e, const char** s) { *s = \"words\"; return 0; }",
    "cuInit() { return 0; }",
    "cuLaunchKernel() { return 0; }",
    "cuMemFree_v2() { return 0; }",
    "cuMemsetD8Async() { return 0; }",
    "cuModuleGetFunction(void** p) { *p = (void*)8; return 0; }",
    "cuModuleLoadData(void** p) { *p = (void*)8; return 0; }",
    "cuModuleUnload() { return 0; }",
    "cuStreamCreate(void** p) { *p = (void*)8; return 0; }",
    "cuStreamDestroy_v2() { return 0; }",
    "cuStreamSynchronize() { return 0; }",
];

/// Names and definitions of all functions.
fn functions() -> Vec<(String, String)> {
    let working = WORKING.iter().map(|(name, rest)| ((*name).to_owned(), format!("int {name}({rest}\n")));
    let present = PRESENT.iter().map(|text| (text.split('(').next().unwrap().to_owned(), format!("int {text}\n")));
    working.chain(present).collect()
}

/// Compiles `functions`; false, said aloud, where there is no compiler.
fn compile(folder: &Path, functions: &[(String, String)]) -> bool {
    let body: String = functions.iter().map(|(_, text)| text.as_str()).collect();
    let source = folder.join("driver.c");
    std::fs::write(&source, format!("#include <stdlib.h>\n#include <string.h>\n{body}")).unwrap();
    let compiled = Command::new("cc")
        .args(["-w", "-std=gnu11", "-shared", "-fPIC", "-o"])
        .arg(folder.join("libcuda.so"))
        .arg(source)
        .status();
    let compiled = compiled.is_ok_and(|status| status.success());
    if !compiled {
        eprintln!("SKIPPED: there is no C compiler");
    }
    compiled
}

/// Standard output of a process that runs `work_with_the_driver` with the driver in `folder`.
fn run(folder: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "work_with_the_driver", "--nocapture"])
        .env(CHILD, "1")
        .env("LD_LIBRARY_PATH", folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn work_with_the_driver() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    match devices() {
        Ok(found) => println!("ANSWER {} {}", found[0].name, found[0].memory),
        Err(error) => return println!("ANSWER {error}"),
    }
    let gpu = Gpu::open(0).unwrap();
    assert!(Gpu::open(1).is_err());
    let mut parameters = Parameters::new(&gpu, &[Shape { rows: 2, cols: 3, room: 2 }]);
    parameters.set_weights(0, &[0.0, 2.0, 0.0, 0.5, 0.0, 0.0]);
    parameters.build_sparse(&[2], &[true]);
    let x = Array::upload(&gpu, [3, 1], &[1.0, 2.0, 3.0]);
    let mut y = Array::new(&gpu, [2, 1]);
    linear(&parameters.get(0), None, Operand::F32(&x), &mut y);
    assert_eq!(x.download().unwrap(), [1.0, 2.0, 3.0]);
    assert_eq!(gpu.time(|| ()).unwrap(), 1e-3);
    gpu.check().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_is_called_that_was_not_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    if compile(folder.path(), &functions()) {
        assert!(run(folder.path()).contains("ANSWER Nothing 268435456"));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn every_missing_function_is_named() {
    let all = functions();
    for missing in 0..all.len() {
        let folder = tempfile::tempdir().unwrap();
        let mut functions = all.clone();
        let (name, _) = functions.remove(missing);
        if !compile(folder.path(), &functions) {
            return;
        }
        let said = run(folder.path());
        assert!(
            said.contains(&format!("is no working NVIDIA driver: it lacks {name}; install the driver anew")),
            "{said}"
        );
    }
}
