//! The operations of a device: memory, copies, launches. NVIDIA's driver has them, and the simulator in tests.

use crate::{GpuError, Kernel};

/// An address in device memory; 0 is nowhere.
pub type Address = u64;

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// Device memory, or 0 where the kernel says that it may be missing.
    Pointer(Address),
    /// A 32-bit integer.
    U32(u32),
    /// A float.
    F32(f32),
}

impl Arg {
    /// `p`, `u` or `f`, as in [`Kernel::args`].
    pub fn letter(&self) -> char {
        match self {
            Self::Pointer(_) => 'p',
            Self::U32(_) => 'u',
            Self::F32(_) => 'f',
        }
    }
}

impl Launch<'_> {
    /// The arguments as drivers want them: eight bytes each, of which a number has the lower four.
    pub fn words(&self) -> Vec<u64> {
        let word = |arg: &Arg| match *arg {
            Arg::Pointer(address) => address,
            Arg::U32(x) => u64::from(x),
            Arg::F32(x) => u64::from(x.to_bits()),
        };
        self.args.iter().map(word).collect()
    }
}

/// One launch of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// In the kernel's order.
    pub args: &'a [Arg],
}

/// A dense product for a vendor's library: `C = op(A) op(B) + add · C` of row-major matrices, `C [m, n]` in f32.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// Rows of C, columns of C, and what is summed over.
    pub size: [usize; 3],
    /// A `[m, k]`, or `[k, m]` if it is transposed.
    pub a: Factor,
    /// B `[k, n]`, or `[n, k]` if it is transposed.
    pub b: Factor,
    /// True if A and B are bf16; otherwise they are f32.
    pub bf16: bool,
    /// Address of C, and numbers from row to row.
    pub c: (Address, usize),
    /// True if the product is added to C.
    pub add: bool,
}

/// A factor of a [`Gemm`].
#[derive(Clone, Copy, Debug)]
pub struct Factor {
    /// Its address.
    pub at: Address,
    /// Numbers from row to row.
    pub stride: usize,
    /// True if the factor is the transpose of the matrix.
    pub transposed: bool,
}

/// A device. Work is done in the order in which it is asked for; all but downloads may return before it is done.
///
/// # Safety
/// Of the unsafe functions: addresses must lie in memory of this device that was allocated and not freed, with room
/// for what is read or written there.
#[allow(unsafe_code)]
pub trait Driver: Send + Sync {
    /// The name of the device.
    fn name(&self) -> String;

    /// Bytes of shared memory that a block can have.
    fn shared_memory(&self) -> usize;

    /// Number of blocks that run at once: splits of work are chosen by it.
    fn multiprocessors(&self) -> usize;

    /// Bytes of device memory, free or not.
    fn memory(&self) -> usize;

    /// Bytes of device memory that are free.
    ///
    /// # Errors
    /// When the device does not answer.
    fn free_memory(&self) -> Result<usize, GpuError>;

    /// Device memory, at an address that 256 divides.
    ///
    /// # Errors
    /// When memory is full or the device has failed.
    fn allocate(&self, bytes: usize) -> Result<Address, GpuError>;

    /// Gives memory back.
    ///
    /// # Safety
    /// `address` comes from [`Driver::allocate`], and nobody uses the memory afterwards.
    unsafe fn free(&self, address: Address);

    /// Copies to the device.
    ///
    /// # Errors
    /// When the device has failed.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn upload(&self, to: Address, bytes: &[u8]) -> Result<(), GpuError>;

    /// Copies from the device, when everything before is done.
    ///
    /// # Errors
    /// When the device has failed.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), GpuError>;

    /// Copies on the device; the two ranges are apart.
    ///
    /// # Errors
    /// When the device has failed.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), GpuError>;

    /// Fills memory with zeros.
    ///
    /// # Errors
    /// When the device has failed.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn zero(&self, at: Address, bytes: usize) -> Result<(), GpuError>;

    /// Starts a kernel.
    ///
    /// # Errors
    /// When the kernel does not load or does not start.
    ///
    /// # Safety
    /// The letters of the arguments are those of the kernel, and the memory that it reads and writes, by its header,
    /// is there.
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), GpuError>;

    /// True if there is a library for dense products.
    fn has_library(&self) -> bool {
        false
    }

    /// A dense product by a library, or `None` where there is none and a kernel has to do.
    ///
    /// # Safety
    /// The matrices are there.
    unsafe fn gemm(&self, gemm: &Gemm) -> Option<Result<(), GpuError>> {
        let _ = gemm;
        None
    }

    /// Waits until everything is done.
    ///
    /// # Errors
    /// The error of anything done so far.
    fn synchronize(&self) -> Result<(), GpuError>;

    /// Seconds that the device takes for what `work` asks for.
    ///
    /// # Errors
    /// When the device has failed.
    fn time(&self, work: &mut dyn FnMut()) -> Result<f64, GpuError>;
}
