//! Finds the libraries of the vendor and looks them over before anything in them is called.
//!
//! cudarc loads a library by its name when a function of it is first called, and panics where the library or the function is
//! missing. [`driver`] and [`blas`] look first: whatever they let pass has every function that this crate calls.

use std::{
    mem,
    path::{Path, PathBuf},
};

use libloading::Library;

use crate::OpenError;

/// Functions of the driver that this crate calls, by itself or through cudarc.
const DRIVER: [&str; 35] = [
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
];

/// Functions of cuBLAS that this crate calls.
const BLAS: [&str; 4] = ["cublasCreate_v2", "cublasDestroy_v2", "cublasGemmEx", "cublasSetStream_v2"];

/// Folders of the driver that loaders do not search by themselves: that of WSL.
const FOLDERS: [&str; 1] = ["/usr/lib/wsl/lib"];

/// Folders that loaders search, and that may hold a library which does not load.
const SEARCHED: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/cuda/compat",
    "/lib64",
];

/// Makes sure that the driver's library loads and has all that is called.
///
/// # Errors
/// There is none, it does not load, or functions are missing.
pub fn driver() -> Result<(), OpenError> {
    driver_in(&FOLDERS.map(Path::new))
}

/// As [`driver`], with the folders that are searched after those of the system.
fn driver_in(folders: &[&Path]) -> Result<(), OpenError> {
    if let Some((library, name)) = by_name(&["cuda", "nvcuda"]) {
        return has_all(&library, &DRIVER, &name);
    }
    let listed = std::env::var_os("LD_LIBRARY_PATH");
    let listed: Vec<PathBuf> = listed.iter().flat_map(std::env::split_paths).collect();
    let searched = folders.iter().copied().chain(listed.iter().map(PathBuf::as_path)).chain(SEARCHED.map(Path::new));
    let files = searched.flat_map(|folder| ["libcuda.so.1", "libcuda.so"].map(|file| folder.join(file)));
    let mut unloadable = None;
    for file in files.filter(|file| file.is_file()) {
        match open(&file) {
            Ok(library) => {
                has_all(&library, &DRIVER, &file.display().to_string())?;
                // Stays loaded: cudarc then finds it by its name.
                mem::forget(library);
                return match by_name(&["cuda"]) {
                    Some(_) => Ok(()),
                    None => Err(OpenError::NotFoundByName { path: file }),
                };
            }
            Err(reason) => _ = unloadable.get_or_insert(OpenError::Unloadable { path: file, reason }),
        }
    }
    Err(unloadable.unwrap_or(OpenError::NoDriver))
}

/// True if cuBLAS loads and has all that is called.
pub fn blas() -> bool {
    by_name(&["cublas"]).is_some_and(|(library, name)| has_all(&library, &BLAS, &name).is_ok())
}

/// The library that cudarc will take: the first that loads of the names that it tries.
fn by_name(stems: &[&str]) -> Option<(Library, String)> {
    let mut names = stems.iter().flat_map(|stem| cudarc::get_lib_name_candidates(stem));
    names.find_map(|name| open(Path::new(&name)).ok().map(|library| (library, name)))
}

#[allow(unsafe_code)]
fn open(path: &Path) -> Result<Library, String> {
    // SAFETY: opens a library under the name of NVIDIA's; its initialisers are NVIDIA's, or those of what the user has put
    // in its place.
    unsafe { Library::new(path) }.map_err(|error| error.to_string())
}

#[allow(unsafe_code)]
fn has_all(library: &Library, functions: &[&'static str], name: &str) -> Result<(), OpenError> {
    // SAFETY: the address is looked up and not called.
    let has = |function: &str| unsafe { library.get::<*const ()>(function) }.is_ok();
    let missing: Vec<&str> = functions.iter().copied().filter(|function| !has(function)).collect();
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(OpenError::Incomplete { library: name.to_owned(), missing: first, number: missing.len() }),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// Set for the process of a test that has a library loaded for good.
    const CHILD: &str = "OPENWORK_TEST_FOLDER";

    /// Compiles a driver without any work in it, under `name`; false, said aloud, where there is no compiler.
    fn compile(folder: &Path, name: &str, soname: &str) -> bool {
        let code: String = DRIVER.iter().map(|function| format!("int {function}(void) {{ return 0; }}\n")).collect();
        fs::write(folder.join("driver.c"), code).unwrap();
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", &format!("-Wl,-soname,{soname}"), "-o"]).arg(folder.join(name));
        let compiled = command.arg(folder.join("driver.c")).status().is_ok_and(|status| status.success());
        if !compiled {
            eprintln!("SKIPPED: there is no C compiler");
        }
        compiled
    }

    /// The answer of `driver_in` in a process of its own, as text.
    fn driver_of(folder: &Path) -> String {
        let test = "loader::tests::driver_in_a_folder";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, folder)
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find_map(|line| line.split_once("ANSWER ")).expect("an answer").1.to_owned()
    }

    #[test]
    fn driver_in_a_folder() {
        if let Some(folder) = std::env::var_os(CHILD) {
            println!(
                "ANSWER {}",
                driver_in(&[Path::new(&folder)]).map_or_else(|error| error.to_string(), |()| "fine".into())
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_folder_of_wsl_is_searched() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let installed = driver_of(folder);
        if !installed.starts_with("there is no NVIDIA driver") {
            eprintln!("SKIPPED: this machine has a driver ({installed})");
            return;
        }
        if !compile(folder, "libcuda.so.1", "libcuda.so.1") {
            return;
        }
        assert_eq!(driver_of(folder), "fine");
        assert!(compile(folder, "libcuda.so.1", "libother.so"));
        assert!(driver_of(folder).contains("put its folder on LD_LIBRARY_PATH"));
        // Of another architecture: the field of the ELF header at byte 18.
        let mut bytes = fs::read(folder.join("libcuda.so.1")).unwrap();
        bytes[18..20].copy_from_slice(&[0xF3, 0]);
        for bytes in [&bytes[..], b"no library"] {
            fs::write(folder.join("libcuda.so.1"), bytes).unwrap();
            let answer = driver_of(folder);
            assert!(
                answer.contains("libcuda.so.1 does not load") && answer.contains("another architecture"),
                "{answer}"
            );
        }
    }
}
