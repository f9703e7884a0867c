//! Errors of a GPU.

/// Reason that there is no GPU to work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The machine has no NVIDIA driver.
    #[error("there is no NVIDIA driver (libcuda.so was not found)")]
    NoDriver,
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
