//! A GPU to work with: its memory pool, launches, and the first error.

use std::{
    collections::HashMap,
    fmt,
    marker::PhantomData,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytemuck::Pod;

use crate::{Address, Arg, Driver, Gemm, GpuError, Kernel, Launch, OpenError, nvidia::Nvidia};

/// A GPU. Cloning it gives another handle.
///
/// Work is done in the order in which it is asked for, and mostly later. So errors come late, too: the first one stays,
/// nothing more is done after it, and [`Gpu::check`] and every download return it.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    driver: Box<dyn Driver>,
    pool: Mutex<Pool>,
    error: OnceLock<GpuError>,
}

/// Memory that was allocated, what of it is free, by size, and where what was never used begins.
#[derive(Default)]
struct Pool {
    arenas: Vec<Address>,
    free: HashMap<usize, Vec<Address>>,
    unused: Range<Address>,
    /// Bytes that buffers have been made of.
    used: usize,
}

/// Alignment of buffers: what the widest loads and the copy engine like.
const ALIGN: usize = 256;
/// Bytes that are asked for at once where nothing was reserved.
const ARENA: usize = 1 << 26;

impl Gpu {
    /// Opens the GPU of this number, from 0.
    ///
    /// # Errors
    /// When there is no driver, no such device, or it is too old for the kernels.
    pub fn open(ordinal: usize) -> Result<Self, OpenError> {
        Ok(Self::with_driver(Box::new(Nvidia::open(ordinal)?)))
    }

    /// A GPU behind another driver: the simulator.
    pub fn with_driver(driver: Box<dyn Driver>) -> Self {
        Self(Arc::new(Inner { driver, pool: Mutex::default(), error: OnceLock::new() }))
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.0.driver.name()
    }

    /// Bytes of shared memory that a block can have.
    pub fn shared_memory(&self) -> usize {
        self.0.driver.shared_memory()
    }

    /// Number of blocks that run at once.
    pub fn multiprocessors(&self) -> usize {
        self.0.driver.multiprocessors()
    }

    /// True if the vendor's library does dense products.
    pub fn has_library(&self) -> bool {
        self.0.driver.has_library()
    }

    /// Bytes of its memory, free or not.
    pub fn memory(&self) -> usize {
        self.0.driver.memory()
    }

    /// The first error so far, after everything that was asked for is done.
    ///
    /// # Errors
    /// The first error of the device.
    pub fn check(&self) -> Result<(), GpuError> {
        self.first_error()?;
        let result = self.0.driver.synchronize();
        self.note(result);
        self.first_error()
    }

    /// Seconds that the device takes for what `work` asks for.
    ///
    /// # Errors
    /// The first error of the device.
    pub fn time(&self, mut work: impl FnMut()) -> Result<f64, GpuError> {
        self.first_error()?;
        let seconds = self.0.driver.time(&mut work);
        self.first_error()?;
        seconds
    }

    fn first_error(&self) -> Result<(), GpuError> {
        self.0.error.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Keeps the first error.
    fn note(&self, result: Result<(), GpuError>) {
        if let Err(error) = result {
            // A later error is a consequence of the first.
            let _ = self.0.error.set(error);
        }
    }

    fn failed(&self) -> bool {
        self.0.error.get().is_some()
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates so much at once, from which buffers are taken.
    ///
    /// # Errors
    /// When the device has too little memory.
    pub fn reserve(&self, bytes: usize) -> Result<(), GpuError> {
        self.first_error()?;
        let mut pool = self.pool();
        let bytes = bytes.next_multiple_of(ALIGN).max(ALIGN);
        let address = self.0.driver.allocate(bytes)?;
        pool.arenas.push(address);
        pool.unused = address..address + bytes as Address;
        Ok(())
    }

    /// Number of requests for memory to the driver.
    pub fn allocations(&self) -> usize {
        self.pool().arenas.len()
    }

    /// Bytes that buffers have been made of, those included that are free again.
    pub fn used(&self) -> usize {
        self.pool().used
    }

    /// Memory for `len` values, with whatever is there. Where there is none the buffer is nowhere, and [`Gpu::check`]
    /// says so.
    pub fn buffer<T: Pod>(&self, len: usize) -> Buffer<T> {
        let bytes = (len * size_of::<T>()).next_multiple_of(ALIGN).max(ALIGN);
        let address = self.take(bytes).unwrap_or_else(|error| {
            self.note(Err(error));
            0
        });
        Buffer { gpu: self.clone(), address, len, bytes, values: PhantomData }
    }

    /// Memory for `len` values, all zero.
    pub fn zeros<T: Pod>(&self, len: usize) -> Buffer<T> {
        let buffer = self.buffer(len);
        buffer.fill_zero();
        buffer
    }

    /// A copy of `values` on the device.
    pub fn upload<T: Pod>(&self, values: &[T]) -> Buffer<T> {
        let buffer = self.buffer(values.len());
        buffer.upload(values);
        buffer
    }

    fn take(&self, bytes: usize) -> Result<Address, GpuError> {
        self.first_error()?;
        let mut pool = self.pool();
        if let Some(address) = pool.free.get_mut(&bytes).and_then(Vec::pop) {
            return Ok(address);
        }
        if pool.unused.end - pool.unused.start < bytes as Address {
            drop(pool);
            self.reserve(bytes.max(ARENA))?;
            pool = self.pool();
        }
        let address = pool.unused.start;
        pool.unused.start += bytes as Address;
        pool.used += bytes;
        Ok(address)
    }

    /// Starts a kernel.
    ///
    /// # Safety
    /// The memory that the kernel reads and writes, by its header, is there and lives until the device is done; what it
    /// writes is nobody else's.
    ///
    /// # Panics
    /// When the kernel has other arguments or a side of the grid is empty: a programmer's error.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn launch(&self, kernel: &'static Kernel, grid: [usize; 3], shared: usize, args: &[Arg]) {
        let (letters, name): (String, _) = (args.iter().map(Arg::letter).collect(), kernel.name);
        assert_eq!(letters, kernel.args, "arguments of {name}");
        assert!(
            grid.iter().all(|&n| n > 0 && n <= 0x7fff_ffff) && grid[1..].iter().all(|&n| n < 65_536),
            "{name}: {grid:?}"
        );
        if self.failed() {
            return;
        }
        let launch = Launch { kernel, grid: grid.map(|n| n as u32), shared: shared as u32, args };
        // SAFETY: the letters have been compared; the rest is the caller's.
        self.note(unsafe { self.0.driver.launch(&launch) });
    }
}

#[allow(unsafe_code)]
impl Gpu {
    /// A dense product by the vendor's library; false where there is none.
    ///
    /// # Safety
    /// The matrices are there and live until the device is done; C is nobody else's.
    pub(crate) unsafe fn gemm(&self, gemm: &Gemm) -> bool {
        if self.failed() {
            return true;
        }
        // SAFETY: the caller's.
        match unsafe { self.0.driver.gemm(gemm) } {
            None => false,
            Some(result) => {
                self.note(result);
                true
            }
        }
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({})", self.name())
    }
}

#[allow(unsafe_code)]
impl Drop for Inner {
    fn drop(&mut self) {
        let pool = self.pool.get_mut().unwrap_or_else(PoisonError::into_inner);
        for &arena in &pool.arenas {
            // SAFETY: it comes from `allocate`; every buffer held a handle, so there is none left.
            unsafe { self.driver.free(arena) };
        }
    }
}

/// Values in device memory. Dropping it gives the memory back to the pool.
pub struct Buffer<T> {
    gpu: Gpu,
    address: Address,
    len: usize,
    bytes: usize,
    values: PhantomData<T>,
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // Whoever takes it next uses it after everything that was asked for so far.
        if self.address != 0 {
            self.gpu.pool().free.entry(self.bytes).or_default().push(self.address);
        }
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} values on {:?})", self.len, self.gpu)
    }
}

impl<T> Buffer<T> {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its address.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }
}

#[allow(unsafe_code)]
impl<T: Pod> Buffer<T> {
    /// The argument for the values from `first` on, of which a kernel uses `len`.
    ///
    /// # Panics
    /// When they are not all there.
    #[track_caller]
    pub(crate) fn arg(&self, first: usize, len: usize) -> Arg {
        assert!(first + len <= self.len, "values {first}..{} of a buffer of {}", first + len, self.len);
        Arg::Pointer(self.address + (first * size_of::<T>()) as Address)
    }

    /// The argument for all values.
    pub(crate) fn all(&self) -> Arg {
        Arg::Pointer(self.address)
    }

    /// Replaces the first values.
    ///
    /// # Panics
    /// When there are fewer.
    #[track_caller]
    pub fn upload(&self, values: &[T]) {
        self.upload_at(0, values);
    }

    /// Replaces the values from `first` on.
    ///
    /// # Panics
    /// When the buffer ends before the values do.
    #[track_caller]
    pub fn upload_at(&self, first: usize, values: &[T]) {
        assert!(first + values.len() <= self.len, "{} values at {first} of {}", values.len(), self.len);
        if self.gpu.failed() || values.is_empty() {
            return;
        }
        let to = self.address + (first * size_of::<T>()) as Address;
        // SAFETY: the range lies in this buffer, by the check above.
        self.gpu.note(unsafe { self.gpu.0.driver.upload(to, bytemuck::cast_slice(values)) });
    }

    /// The values, when everything that was asked for so far is done.
    ///
    /// # Errors
    /// The first error of the device.
    pub fn download(&self) -> Result<Vec<T>, GpuError> {
        self.download_range(0..self.len)
    }

    /// [`Buffer::download`] of some.
    ///
    /// # Errors
    /// The first error of the device.
    ///
    /// # Panics
    /// When the range exceeds the buffer.
    #[track_caller]
    pub fn download_range(&self, range: Range<usize>) -> Result<Vec<T>, GpuError> {
        assert!(range.start <= range.end && range.end <= self.len, "values {range:?} of {}", self.len);
        self.gpu.first_error()?;
        let mut values = vec![T::zeroed(); range.len()];
        if !values.is_empty() {
            let from = self.address + (range.start * size_of::<T>()) as Address;
            // SAFETY: the range lies in this buffer, by the check above.
            self.gpu.note(unsafe { self.gpu.0.driver.download(from, bytemuck::cast_slice_mut(&mut values)) });
        }
        self.gpu.first_error()?;
        Ok(values)
    }

    /// Copies values of another buffer here.
    ///
    /// # Panics
    /// When either buffer is too short.
    #[track_caller]
    pub fn copy_from(&self, first: usize, other: &Self, range: Range<usize>) {
        assert!(range.end <= other.len && first + range.len() <= self.len, "copy: {range:?} to {first}");
        assert!(self.address != other.address || self.address == 0, "copy: within one buffer");
        if self.gpu.failed() || range.is_empty() {
            return;
        }
        let at = |address: Address, i: usize| address + (i * size_of::<T>()) as Address;
        let (from, to) = (at(other.address, range.start), at(self.address, first));
        // SAFETY: both ranges lie in their buffers, by the check above, and these are not the same.
        self.gpu.note(unsafe { self.gpu.0.driver.copy(from, to, range.len() * size_of::<T>()) });
    }

    /// Makes all values zero.
    pub fn fill_zero(&self) {
        if self.gpu.failed() || self.len == 0 {
            return;
        }
        // SAFETY: the range is this buffer.
        self.gpu.note(unsafe { self.gpu.0.driver.zero(self.address, self.len * size_of::<T>()) });
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::kernel;

    /// A device whose launches fail from the third on, and whose memory ends.
    #[derive(Default)]
    struct Failing {
        launches: Arc<AtomicUsize>,
        allocated: AtomicUsize,
    }

    const MEMORY: usize = 4 * ARENA;

    impl Driver for Failing {
        fn name(&self) -> String {
            "failing".into()
        }

        fn shared_memory(&self) -> usize {
            1 << 16
        }

        fn multiprocessors(&self) -> usize {
            1
        }

        fn memory(&self) -> usize {
            MEMORY
        }

        fn free_memory(&self) -> Result<usize, GpuError> {
            Ok(MEMORY)
        }

        fn allocate(&self, bytes: usize) -> Result<Address, GpuError> {
            let before = self.allocated.fetch_add(bytes, Ordering::Relaxed);
            match before + bytes <= MEMORY {
                true => Ok(4096 + before as Address),
                false => Err(GpuError::OutOfMemory { asked: bytes, free: MEMORY - before }),
            }
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

        unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), GpuError> {
            match self.launches.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Ok(()),
                n => Err(GpuError::Kernel { kernel: launch.kernel.name.into(), reason: format!("launch {n}") }),
            }
        }

        fn synchronize(&self) -> Result<(), GpuError> {
            Ok(())
        }

        fn time(&self, work: &mut dyn FnMut()) -> Result<f64, GpuError> {
            work();
            Ok(1.0)
        }
    }

    #[test]
    fn the_first_error_stays_and_nothing_is_launched_after_it() {
        let driver = Failing::default();
        let launches = driver.launches.clone();
        let gpu = Gpu::with_driver(Box::new(driver));
        let buffer = gpu.zeros::<f32>(256);
        let args = [buffer.all(), buffer.all(), Arg::U32(256)];
        // SAFETY: the driver does nothing.
        let launch = |kernel| unsafe { gpu.launch(kernel, [1, 1, 1], 0, &args) };
        (0..2).for_each(|_| launch(&kernel::ADD));
        gpu.check().unwrap();
        buffer.download().unwrap();
        launch(&kernel::MULTIPLY);
        (0..3).for_each(|_| launch(&kernel::ADD));
        let error = GpuError::Kernel { kernel: "multiply".into(), reason: "launch 2".into() };
        assert_eq!(gpu.check(), Err(error.clone()));
        assert_eq!(buffer.download(), Err(error.clone()));
        assert_eq!(gpu.time(|| launch(&kernel::ADD)), Err(error));
        assert_eq!(launches.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn memory_is_used_again_and_its_end_is_an_error() {
        let gpu = Gpu::with_driver(Box::<Failing>::default());
        let first = gpu.buffer::<f32>(1000);
        let address = first.address;
        drop(first);
        let again = gpu.buffer::<u32>(1000);
        assert_eq!((again.address, gpu.allocations(), gpu.used()), (address, 1, 4096));
        let other = gpu.buffer::<u8>(1);
        assert_eq!(other.address, address + 4096);
        gpu.check().unwrap();
        let huge = gpu.buffer::<u8>(MEMORY);
        assert!(huge.address == 0 && huge.len() == MEMORY);
        assert_eq!(huge.download(), Err(GpuError::OutOfMemory { asked: MEMORY, free: MEMORY - ARENA }));
        assert!(gpu.reserve(1).is_err(), "the first error stays");
    }

    #[test]
    #[should_panic(expected = "arguments of add")]
    fn arguments_are_compared_with_the_list() {
        let gpu = Gpu::with_driver(Box::<Failing>::default());
        // SAFETY: the driver does nothing.
        unsafe { gpu.launch(&kernel::ADD, [1, 1, 1], 0, &[Arg::U32(1)]) };
    }
}
