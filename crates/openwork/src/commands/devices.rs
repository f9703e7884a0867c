//! `openwork devices`: what there is to compute on, and why something is not.

use std::process::ExitCode;

use anyhow::Result;
use openwork_ops::DeviceChoice;
use openwork_sparse::simd::InstructionSet;

use crate::ui::show::{count, say};

/// Runs the command.
pub fn run() -> Result<ExitCode> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    say!("cpu     {threads} threads, {}", InstructionSet::current());
    match openwork_cuda::devices() {
        Ok(devices) if devices.is_empty() => say!("cuda    none: the driver sees no GPU"),
        Ok(devices) => {
            for device in devices {
                let name = DeviceChoice::Cuda(device.ordinal).to_string();
                let (major, minor) = device.capability;
                let memory = count(device.memory as u64 >> 20);
                let note = if major < 8 { "; too old: the kernels need 8.0" } else { "" };
                say!("{name:7} {}, {memory} MB, compute capability {major}.{minor}{note}", device.name);
            }
        }
        Err(error) => say!("cuda    none: {error}"),
    }
    Ok(ExitCode::SUCCESS)
}
