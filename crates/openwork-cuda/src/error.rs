//! Errors of a GPU.

use std::path::PathBuf;

/// Reason that there is no GPU to work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The machine has no NVIDIA driver.
    #[error("there is no NVIDIA driver (libcuda.so was not found, nor in /usr/lib/wsl/lib)")]
    NoDriver,
    /// A file under the name of the driver is no library of this machine.
    #[error("{} does not load as the NVIDIA driver: it is damaged, or of another architecture ({reason})", path.display())]
    Unloadable {
        /// The file.
        path: PathBuf,
        /// Message of the loader.
        reason: String,
    },
    /// The driver's library lies where only its path leads to it.
    #[error("the NVIDIA driver {} has another name inside; put its folder on LD_LIBRARY_PATH", path.display())]
    NotFoundByName {
        /// The file.
        path: PathBuf,
    },
    /// The driver's library lacks functions.
    #[error("{library} is no working NVIDIA driver: it lacks {missing}{}; install the driver anew", others(*number))]
    Incomplete {
        /// Name or path of the library.
        library: String,
        /// The first function that it lacks.
        missing: &'static str,
        /// Number of functions that it lacks.
        number: usize,
    },
    /// The driver's library is the one that programs are linked against.
    #[error(
        "the NVIDIA driver that was found is the stub of the CUDA toolkit, which is for linking; take its folder (stubs) off \
         LD_LIBRARY_PATH, or install a driver"
    )]
    Stub,
    /// The driver does not start.
    #[error("the NVIDIA driver does not start: {reason}")]
    Driver {
        /// Its message.
        reason: String,
    },
    /// The driver is older than the kernels.
    #[error("the NVIDIA driver supports CUDA {found}, and the kernels need {}.0: update the driver", needed)]
    OldDriver {
        /// Major and minor version that it supports.
        found: String,
        /// Major version that is needed.
        needed: i32,
    },
    /// There are fewer devices.
    #[error("there is no GPU {ordinal}: the driver sees {count}")]
    NoDevice {
        /// The number asked for, from 0.
        ordinal: usize,
        /// Number that there is.
        count: usize,
    },
    /// The device is older than the kernels.
    #[error("GPU {ordinal}, {name}, has compute capability {found}; the kernels need 8.0 or later")]
    OldDevice {
        /// Its number.
        ordinal: usize,
        /// Its name.
        name: String,
        /// Its capability.
        found: String,
    },
    /// The device does not open.
    #[error("GPU {ordinal} does not open: {reason}")]
    Device {
        /// Its number.
        ordinal: usize,
        /// Message of the driver.
        reason: String,
    },
}

/// ` and 3 other functions` of 4.
fn others(number: usize) -> String {
    match number {
        0 | 1 => String::new(),
        2 => " and another function".into(),
        n => format!(" and {} other functions", n - 1),
    }
}

/// Error of a GPU. The first one stays: nothing is launched after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// Device memory is full.
    #[error("out of device memory: {asked} more bytes are needed and {free} are free; use smaller batches")]
    OutOfMemory {
        /// Kind, shape or amount asked for.
        asked: usize,
        /// Amount there was.
        free: usize,
    },
    /// A kernel did not start, or failed while it ran.
    #[error("kernel {kernel}: {reason}")]
    Kernel {
        /// Its name; errors of a kernel that runs show at a later launch or copy.
        kernel: String,
        /// Message of the driver.
        reason: String,
    },
    /// A copy or another call failed.
    #[error("{action}: {reason}")]
    Call {
        /// The operation that failed.
        action: &'static str,
        /// Message of the driver.
        reason: String,
    },
    /// There is no kernel for such a model.
    #[error("the GPU has no kernel for {what}; {instead}")]
    Unsupported {
        /// The case that is not supported.
        what: String,
        /// Cases that are.
        instead: String,
    },
}
