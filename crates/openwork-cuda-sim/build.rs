//! Compiles kernels/*.cu, and the planted bugs of this crate's tests, as C++ under the simulator.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let mut sources = files(&here.join("../../kernels"), "cu");
    sources.extend(files(&here.join("bugs"), "cu"));
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").include(here.join("cpp")).include(here.join("../../kernels"));
    // Multiply-adds are fused where the source says so, on a GPU by the same rule.
    build.flag("-ffp-contract=off").flag("-Wno-unknown-pragmas").define("OPENWORK_SIMULATOR", None);
    build.opt_level(1).debug(true).warnings(true).file(here.join("cpp/entry.cpp"));
    if env::var_os("OPENWORK_SANITIZE").is_some() {
        build.flag("-fsanitize=address,undefined").flag("-fno-omit-frame-pointer");
        println!("cargo:rustc-link-lib=dylib=asan");
        println!("cargo:rustc-link-lib=dylib=ubsan");
        println!("cargo:rustc-cfg=sanitized");
    }
    let compiler = build.get_compiler();
    let runs = Command::new(compiler.path()).arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(
        runs,
        "the kernels are tested as C++, and {} does not run; install a C++ compiler (most systems call the package g++)",
        compiler.path().display()
    );
    let mut names = Vec::new();
    for source in &sources {
        let stem = source.file_stem().expect("a file").to_string_lossy().into_owned();
        let text = fs::read_to_string(source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        let kernels = kernels(&text);
        assert!(!kernels.is_empty(), "{} defines no kernel", source.display());
        let entries: String =
            kernels.iter().map(|kernel| format!("    simulator::Entry<{kernel}>::named(\"{kernel}\"),\n")).collect();
        let wrapper = out.join(format!("{stem}.cpp"));
        let text = format!(
            "#include \"simulator.hpp\"\n#include {source:?}\n\
             extern const simulator::Kernel openwork_kernels_of_{stem}[] = {{\n{entries}    {{}},\n}};\n"
        );
        fs::write(&wrapper, text).expect("the build folder can be written");
        build.file(&wrapper);
        names.push(stem);
    }
    let declarations: String =
        names.iter().map(|name| format!("extern const simulator::Kernel openwork_kernels_of_{name}[];\n")).collect();
    let list: String = names.iter().map(|name| format!("    openwork_kernels_of_{name},\n")).collect();
    let table = out.join("openwork_table.cpp");
    let text = format!(
        "#include \"simulator.hpp\"\n{declarations}\
         extern const simulator::Kernel* const openwork_simulator_kernels[] = {{\n{list}    nullptr,\n}};\n"
    );
    fs::write(&table, text).expect("the build folder can be written");
    build.file(&table).compile("openwork_simulated_kernels");
    println!("cargo:rustc-check-cfg=cfg(sanitized)");
    println!("cargo:rerun-if-env-changed=OPENWORK_SANITIZE");
    for folder in ["cpp", "bugs", "../../kernels"] {
        println!("cargo:rerun-if-changed={}", here.join(folder).display());
    }
}

/// The files of a folder with an extension, in the order of their names.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder that can be read").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == extension));
    files.sort();
    files
}

/// Names of the kernels in a source: what stands before the first parenthesis after `__global__`, bounds aside.
fn kernels(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in text.split("__global__").skip(1) {
        let part = match part.split_once("__launch_bounds__") {
            // Only if it belongs to this kernel: before its name.
            Some((before, after)) if !before.contains('(') => after.split_once(')').expect("bounds end").1,
            _ => part,
        };
        let before = part.split('(').next().expect("split gives one part");
        names.extend(before.split_whitespace().last().map(str::to_owned));
    }
    names
}
