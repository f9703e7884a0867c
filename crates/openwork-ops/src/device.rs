//! Choice of the device to compute on.

use std::{fmt, str::FromStr};

use openwork_cuda::{Gpu, OpenError};

/// A device that is ready.
#[derive(Clone, Debug)]
pub enum Device {
    /// The processor, with as many threads as rayon has.
    Cpu,
    /// An NVIDIA GPU.
    Cuda(Gpu),
}

/// A device as one names it: `cpu`, `cuda`, `cuda:1` or `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor.
    #[default]
    Cpu,
    /// The GPU of this number; `cuda` is the first.
    Cuda(usize),
    /// The first GPU if there is one that works, and otherwise the processor.
    Auto,
}

impl DeviceChoice {
    /// Opens it. `why_cpu` is told why `auto` is not a GPU.
    ///
    /// # Errors
    /// When a GPU was named and does not open.
    pub fn open(self, why_cpu: impl FnOnce(OpenError)) -> Result<Device, OpenError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(ordinal) => Gpu::open(ordinal).map(Device::Cuda),
            Self::Auto => Ok(Gpu::open(0).map_or_else(
                |reason| {
                    why_cpu(reason);
                    Device::Cpu
                },
                Device::Cuda,
            )),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice { text: text.to_owned() };
        match text.split_once(':') {
            None => match text {
                "cpu" => Ok(Self::Cpu),
                "cuda" => Ok(Self::Cuda(0)),
                "auto" => Ok(Self::Auto),
                _ => Err(unknown()),
            },
            Some(("cuda", ordinal)) => ordinal.parse().map(Self::Cuda).map_err(|_| unknown()),
            Some(_) => Err(unknown()),
        }
    }
}

/// A text that names no [`DeviceChoice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownDevice {
    /// The text.
    pub text: String,
}

impl fmt::Display for UnknownDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no device {:?}; right would be cpu, cuda, cuda:1 or auto", self.text)
    }
}

impl std::error::Error for UnknownDevice {}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("CPU"),
            Self::Cuda(gpu) => f.write_str(&gpu.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in ["cpu", "cuda", "cuda:1", "auto"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!("cuda:0".parse(), Ok(DeviceChoice::Cuda(0)));
        for wrong in ["gpu", "cuda:", "cuda:x", "cpu:1", "CUDA", ""] {
            assert!(wrong.parse::<DeviceChoice>().unwrap_err().to_string().contains("cuda:1"), "{wrong}");
        }
    }

    #[test]
    fn the_processor_is_always_there() {
        for choice in [DeviceChoice::Cpu, DeviceChoice::Auto] {
            assert!(choice.open(|_| ()).is_ok(), "{choice}");
        }
    }
}
