//! A device that is the simulator: what runs on a GPU through `openwork-cuda` runs here as well.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_void},
    sync::{Mutex, PoisonError},
};

use openwork_cuda::{Address, Driver, Factor, Gemm, Gpu, GpuError, Launch};

use crate::openwork_simulator_launch;

/// Memory of the host in place of a device's.
pub struct Simulator {
    memory: Mutex<BTreeMap<Address, Vec<Word>>>,
    shared_memory: usize,
    multiprocessors: usize,
    size: usize,
    schedule: u64,
    library: bool,
}

/// Memory is handed out in pieces of what addresses are multiples of.
#[derive(Clone, Copy)]
#[repr(C, align(256))]
struct Word([u8; 256]);

/// Contents of memory that nothing was written to: NaN as a float.
const POISON: Word = Word([0xff; 256]);

impl Simulator {
    /// A device whose blocks have so much shared memory and that runs the threads of a block in the order `schedule`:
    /// 0 upwards, 1 downwards, every other one shuffled.
    pub fn new(shared_memory: usize, multiprocessors: usize, schedule: u64) -> Self {
        Self { memory: Mutex::default(), shared_memory, multiprocessors, size: 1 << 30, schedule, library: false }
    }

    /// The same with so many bytes of memory.
    pub fn with_memory(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// The same with a library for dense products: plain loops.
    pub fn with_library(self) -> Self {
        Self { library: true, ..self }
    }

    /// A GPU that is such a device.
    pub fn gpu(shared_memory: usize, multiprocessors: usize, schedule: u64) -> Gpu {
        Gpu::with_driver(Box::new(Self::new(shared_memory, multiprocessors, schedule)))
    }
}

#[allow(unsafe_code)]
impl Driver for Simulator {
    fn name(&self) -> String {
        "simulator".into()
    }

    fn shared_memory(&self) -> usize {
        self.shared_memory
    }

    fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    fn memory(&self) -> usize {
        self.size
    }

    fn free_memory(&self) -> Result<usize, GpuError> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let used: usize = memory.values().map(|words| words.len() * size_of::<Word>()).sum();
        Ok(self.size.saturating_sub(used))
    }

    fn allocate(&self, bytes: usize) -> Result<Address, GpuError> {
        let free = self.free_memory()?;
        if bytes > free {
            return Err(GpuError::OutOfMemory { asked: bytes, free });
        }
        let mut words = vec![POISON; bytes.div_ceil(size_of::<Word>()).max(1)];
        let address = words.as_mut_ptr() as Address;
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(address, words);
        Ok(address)
    }

    unsafe fn free(&self, address: Address) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }

    unsafe fn upload(&self, to: Address, bytes: &[u8]) -> Result<(), GpuError> {
        // SAFETY: the caller's: the range lies in memory of `allocate`, which `bytes` is not.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    unsafe fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), GpuError> {
        // SAFETY: the caller's: the range lies in memory of `allocate`, which `bytes` is not.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), GpuError> {
        // SAFETY: the caller's: both ranges lie in memory of `allocate`, apart.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    }

    unsafe fn zero(&self, at: Address, bytes: usize) -> Result<(), GpuError> {
        // SAFETY: the caller's: the range lies in memory of `allocate`.
        unsafe { std::ptr::write_bytes(at as *mut u8, 0, bytes) };
        Ok(())
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), GpuError> {
        let failed = |reason: String| GpuError::Kernel { kernel: launch.kernel.name.to_owned(), reason };
        let expected = crate::signature(launch.kernel.name).ok_or_else(|| failed("it is not compiled".into()))?;
        if expected != launch.kernel.args {
            return Err(failed(format!("its arguments are {expected}, and not {}", launch.kernel.args)));
        }
        let name = CString::new(launch.kernel.name).expect("a name");
        let mut values = launch.words();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|x| std::ptr::from_mut(x).cast()).collect();
        let block = [launch.kernel.threads, 1, 1];
        let mut error = [0; 512];
        // SAFETY: types and order of the arguments have been compared; the memory is there: the caller's. Every pointer
        // is to eight bytes, of which a number has the lower four. Strings end with zeros, and `error` is written
        // within its size.
        unsafe {
            openwork_simulator_launch(
                name.as_ptr(),
                launch.grid.as_ptr(),
                block.as_ptr(),
                launch.shared as usize,
                self.schedule,
                pointers.as_mut_ptr(),
                error.as_mut_ptr(),
                error.len(),
            );
        }
        // SAFETY: the call above wrote a string that ends within `error`.
        let what = unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy().into_owned();
        if what.is_empty() { Ok(()) } else { Err(failed(what)) }
    }

    fn has_library(&self) -> bool {
        self.library
    }

    unsafe fn gemm(&self, gemm: &Gemm) -> Option<Result<(), GpuError>> {
        if !self.library {
            return None;
        }
        let Gemm { size: [m, n, k], a, b, bf16, c: (c, c_stride), add } = *gemm;
        let read = |factor: &Factor, r: usize, col: usize| {
            let (r, col) = if factor.transposed { (col, r) } else { (r, col) };
            let i = r * factor.stride + col;
            // SAFETY: the caller's: the matrix is there, in numbers of the size that `bf16` says.
            unsafe {
                match bf16 {
                    true => f32::from_bits(u32::from(*(factor.at as *const u16).add(i)) << 16),
                    false => *(factor.at as *const f32).add(i),
                }
            }
        };
        for i in 0..m {
            for j in 0..n {
                // SAFETY: the caller's: C has m rows of n numbers, `c_stride` apart, and is nobody else's.
                let c = unsafe { &mut *(c as *mut f32).add(i * c_stride + j) };
                let start = if add { *c } else { 0.0 };
                *c = (0..k).fold(start, |sum, t| read(&a, i, t).mul_add(read(&b, t, j), sum));
            }
        }
        Some(Ok(()))
    }

    fn synchronize(&self) -> Result<(), GpuError> {
        Ok(())
    }

    fn time(&self, work: &mut dyn FnMut()) -> Result<f64, GpuError> {
        let start = std::time::Instant::now();
        work();
        Ok(start.elapsed().as_secs_f64())
    }
}
