//! What can go wrong with a GPU.

/// Why there is no GPU to work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The machine has no NVIDIA driver.
    #[error("there is no NVIDIA driver (libcuda.so was not found)")]
    NoDriver,
    /// The driver does not start.
    #[error("the NVIDIA driver does not start: {reason}")]
    Driver {
        /// What it says.
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
        /// How many there are.
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
        /// What the driver says.
        reason: String,
    },
}

/// What went wrong on a GPU. The first error stays: nothing is launched after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// Device memory is full.
    #[error("out of device memory: {asked} more bytes are needed and {free} are free; use smaller batches")]
    OutOfMemory {
        /// What was asked for.
        asked: usize,
        /// What there was.
        free: usize,
    },
    /// A kernel did not start, or failed while it ran.
    #[error("kernel {kernel}: {reason}")]
    Kernel {
        /// Its name; errors of a kernel that runs show at a later launch or copy.
        kernel: String,
        /// What the driver says.
        reason: String,
    },
    /// A copy or another call failed.
    #[error("{action}: {reason}")]
    Call {
        /// What was attempted.
        action: &'static str,
        /// What the driver says.
        reason: String,
    },
    /// There is no kernel for such a model.
    #[error("the GPU has no kernel for {what}; {instead}")]
    Unsupported {
        /// What is not supported.
        what: String,
        /// What is.
        instead: String,
    },
}
