//! A device that does nothing but count memory: what a step needs is found by rehearsing one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Address, Driver, Gemm, Gpu, GpuError, Launch};

/// A device like another, without work.
struct Rehearsal {
    name: String,
    shared_memory: usize,
    multiprocessors: usize,
    memory: usize,
    has_library: bool,
    next: AtomicU64,
}

impl Gpu {
    /// A device like this one on which nothing happens: launches do nothing, downloads give zeros, and memory is taken
    /// from nowhere. [`Gpu::used`] tells how much.
    pub fn rehearsal(&self) -> Self {
        Self::with_driver(Box::new(Rehearsal {
            name: self.name(),
            shared_memory: self.shared_memory(),
            multiprocessors: self.multiprocessors(),
            memory: self.memory(),
            has_library: self.has_library(),
            next: AtomicU64::new(1 << 20),
        }))
    }
}

#[allow(unsafe_code)]
impl Driver for Rehearsal {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn shared_memory(&self) -> usize {
        self.shared_memory
    }

    fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    fn memory(&self) -> usize {
        self.memory
    }

    fn free_memory(&self) -> Result<usize, GpuError> {
        Ok(self.memory)
    }

    fn allocate(&self, bytes: usize) -> Result<Address, GpuError> {
        Ok(self.next.fetch_add(bytes as Address, Ordering::Relaxed))
    }

    unsafe fn free(&self, _: Address) {}

    unsafe fn upload(&self, _: Address, _: &[u8]) -> Result<(), GpuError> {
        Ok(())
    }

    unsafe fn download(&self, _: Address, _: &mut [u8]) -> Result<(), GpuError> {
        Ok(())
    }

    unsafe fn copy(&self, _: Address, _: Address, _: usize) -> Result<(), GpuError> {
        Ok(())
    }

    unsafe fn zero(&self, _: Address, _: usize) -> Result<(), GpuError> {
        Ok(())
    }

    unsafe fn launch(&self, _: &Launch<'_>) -> Result<(), GpuError> {
        Ok(())
    }

    fn has_library(&self) -> bool {
        self.has_library
    }

    unsafe fn gemm(&self, _: &Gemm) -> Option<Result<(), GpuError>> {
        self.has_library.then_some(Ok(()))
    }

    fn synchronize(&self) -> Result<(), GpuError> {
        Ok(())
    }

    fn time(&self, work: &mut dyn FnMut()) -> Result<f64, GpuError> {
        work();
        Ok(0.0)
    }
}
