//! NVIDIA's driver, loaded at run time through cudarc.

use std::{
    collections::HashMap,
    ffi::{c_int, c_void},
    sync::{Arc, Mutex, PoisonError},
};

use cudarc::{
    cublas::{result as blas, sys as blas_sys},
    driver::{
        CudaContext, CudaFunction, CudaStream, DriverError, result,
        sys::{self, CUdevice_attribute_enum as Attribute, CUfunction_attribute_enum as FunctionAttribute},
    },
    nvrtc::Ptx,
};

use crate::{Address, Driver, Factor, Gemm, GpuError, Kernel, Launch, OpenError, kernel, loader};

/// The CUDA version that the PTX is of.
const CUDA_MAJOR: i32 = 13;

/// A GPU that the driver sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number, from 0.
    pub ordinal: usize,
    /// Its name.
    pub name: String,
    /// Major and minor compute capability.
    pub capability: (i32, i32),
    /// Bytes of its memory.
    pub memory: usize,
}

/// The GPUs that the driver sees.
///
/// # Errors
/// When there is no driver, or it does not start.
pub fn devices() -> Result<Vec<DeviceInfo>, OpenError> {
    start()?;
    (0..count()?).map(|ordinal| info(ordinal).map_err(|e| device_error(ordinal, &e))).collect()
}

/// Starts the driver, if there is one and it is new enough.
#[allow(unsafe_code)]
fn start() -> Result<(), OpenError> {
    loader::driver()?;
    result::init().map_err(|e| match e.0 {
        sys::CUresult::CUDA_ERROR_STUB_LIBRARY => OpenError::Stub,
        _ => OpenError::Driver { reason: text(&e) },
    })?;
    let mut version: c_int = 0;
    // SAFETY: writes one integer, which outlives the call.
    let status = unsafe { sys::cuDriverGetVersion(&mut version) };
    status.result().map_err(|e| OpenError::Driver { reason: text(&e) })?;
    match version / 1000 >= CUDA_MAJOR {
        true => Ok(()),
        false => {
            let found = format!("{}.{}", version / 1000, version % 1000 / 10);
            Err(OpenError::OldDriver { found, needed: CUDA_MAJOR })
        }
    }
}

fn count() -> Result<usize, OpenError> {
    let count = result::device::get_count().map_err(|e| OpenError::Driver { reason: text(&e) })?;
    Ok(count as usize)
}

#[allow(unsafe_code)]
fn info(ordinal: usize) -> Result<DeviceInfo, DriverError> {
    let device = result::device::get(ordinal as c_int)?;
    // SAFETY: `device` is a device: the driver has just named it.
    let (major, minor, memory) = unsafe {
        (
            result::device::get_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            result::device::get_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            result::device::total_mem(device)?,
        )
    };
    Ok(DeviceInfo { ordinal, name: name(device)?, capability: (major, minor), memory })
}

/// Name of a device. cudarc panics where a driver does not end it.
#[allow(unsafe_code)]
fn name(device: sys::CUdevice) -> Result<String, DriverError> {
    let mut bytes = [0_u8; 128];
    // SAFETY: the driver writes at most as many bytes as it is told that there are.
    unsafe { sys::cuDeviceGetName(bytes.as_mut_ptr().cast(), bytes.len() as c_int, device) }.result()?;
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

fn text(error: &DriverError) -> String {
    let name = error.error_name().map(|name| name.to_string_lossy().into_owned());
    let words = error.error_string().map(|words| words.to_string_lossy().into_owned());
    match (name, words) {
        (Ok(name), Ok(words)) => format!("{words} ({name})"),
        _ => format!("error {}", error.0 as u32),
    }
}

fn device_error(ordinal: usize, error: &DriverError) -> OpenError {
    OpenError::Device { ordinal, reason: text(error) }
}

fn call(action: &'static str) -> impl Fn(DriverError) -> GpuError {
    move |error| GpuError::Call { action, reason: text(&error) }
}

/// A GPU behind NVIDIA's driver.
pub(crate) struct Nvidia {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    info: DeviceInfo,
    shared_memory: usize,
    multiprocessors: usize,
    /// Kernels that have been used, by name: a file is compiled for the device when the first of it is.
    functions: Mutex<HashMap<&'static str, CudaFunction>>,
    /// cuBLAS, which is no part of a driver and may be missing.
    blas: Option<Blas>,
}

/// A handle of cuBLAS.
struct Blas(blas_sys::cublasHandle_t);

// SAFETY: cuBLAS says that a handle may be used from several threads, one call at a time; calls are made in the order of
// the stream by whoever holds the GPU, and the library itself locks its handle.
#[allow(unsafe_code)]
unsafe impl Send for Blas {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Blas {}

#[allow(unsafe_code)]
impl Blas {
    /// None where there is no library, or it does not start.
    fn open(stream: &CudaStream) -> Option<Self> {
        if !loader::blas() {
            return None;
        }
        let handle = blas::create_handle().ok()?;
        // SAFETY: the handle has just been made, and the stream lives as long as the device.
        unsafe { blas::set_stream(handle, stream.cu_stream().cast()) }.ok()?;
        Some(Self(handle))
    }
}

#[allow(unsafe_code)]
impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and not used afterwards; an error leaves it until the process ends.
        let _ = unsafe { blas::destroy_handle(self.0) };
    }
}

impl Nvidia {
    pub fn open(ordinal: usize) -> Result<Self, OpenError> {
        start()?;
        let count = count()?;
        if ordinal >= count {
            return Err(OpenError::NoDevice { ordinal, count });
        }
        let failed = |e: DriverError| device_error(ordinal, &e);
        let info = info(ordinal).map_err(failed)?;
        if info.capability.0 < 8 {
            let found = format!("{}.{}", info.capability.0, info.capability.1);
            return Err(OpenError::OldDevice { ordinal, name: info.name, found });
        }
        let context = CudaContext::new(ordinal).map_err(failed)?;
        let stream = context.new_stream().map_err(failed)?;
        let attribute = |attribute| context.attribute(attribute).map(|n| n as usize).map_err(failed);
        Ok(Self {
            shared_memory: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            info,
            functions: Mutex::default(),
            blas: Blas::open(&stream),
            stream,
            context,
        })
    }

    /// Makes the context that of this thread.
    fn bind(&self) -> Result<(), GpuError> {
        self.context.bind_to_thread().map_err(call("cannot use the device from this thread"))
    }

    fn function(&self, kernel: &'static Kernel) -> Result<CudaFunction, GpuError> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(kernel.name) {
            return Ok(function.clone());
        }
        let failed = |e: DriverError| GpuError::Kernel { kernel: kernel.name.to_owned(), reason: text(&e) };
        let ptx = kernel::ptx(kernel.file).expect("every kernel of the list has PTX");
        let module = self.context.load_module(Ptx::from_src(ptx)).map_err(failed)?;
        for other in kernel::KERNELS.iter().filter(|k| k.file == kernel.file) {
            let function = module.load_function(other.name).map_err(failed)?;
            let shared = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // What a kernel has of its own counts, too.
            let own = function.shared_size_bytes().map_err(failed)? as usize;
            function.set_attribute(shared, (self.shared_memory - own) as i32).map_err(failed)?;
            functions.insert(other.name, function);
        }
        Ok(functions[kernel.name].clone())
    }
}

#[allow(unsafe_code)]
impl Driver for Nvidia {
    fn name(&self) -> String {
        self.info.name.clone()
    }

    fn shared_memory(&self) -> usize {
        self.shared_memory
    }

    fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    fn memory(&self) -> usize {
        self.info.memory
    }

    fn free_memory(&self) -> Result<usize, GpuError> {
        Ok(self.context.mem_get_info().map_err(call("cannot ask for free memory"))?.0)
    }

    fn allocate(&self, bytes: usize) -> Result<Address, GpuError> {
        self.bind()?;
        // SAFETY: the context is bound; the memory is freed by `free` alone.
        unsafe { result::malloc_sync(bytes) }.map_err(|e| match e.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                GpuError::OutOfMemory { asked: bytes, free: self.free_memory().unwrap_or(0) }
            }
            _ => call("cannot allocate device memory")(e),
        })
    }

    unsafe fn free(&self, address: Address) {
        if self.bind().is_ok() {
            // SAFETY: the caller's: it comes from `allocate` and is not used afterwards. An error leaves it allocated
            // until the process ends.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    unsafe fn upload(&self, to: Address, bytes: &[u8]) -> Result<(), GpuError> {
        self.bind()?;
        // SAFETY: the caller's: there is room for `bytes`. Memory of the host that is not pinned is read before the
        // call returns.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream.cu_stream()) }.map_err(call("copy to the device"))
    }

    unsafe fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.bind()?;
        // SAFETY: the caller's: there are as many bytes. `bytes` lives until the copy is done: it is waited for.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) }
            .map_err(call("copy from the device"))?;
        self.synchronize()
    }

    unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), GpuError> {
        self.bind()?;
        // SAFETY: the caller's: both ranges are there and apart.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
            .map_err(call("copy on the device"))
    }

    unsafe fn zero(&self, at: Address, bytes: usize) -> Result<(), GpuError> {
        self.bind()?;
        // SAFETY: the caller's: the range is there.
        unsafe { result::memset_d8_async(at, 0, bytes, self.stream.cu_stream()) }.map_err(call("fill with zeros"))
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), GpuError> {
        self.bind()?;
        let function = self.function(launch.kernel)?;
        // The driver wants the address of every argument, and copies what is there.
        let mut values = launch.words();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|x| std::ptr::from_mut(x).cast()).collect();
        let [x, y, z] = launch.grid;
        // SAFETY: types and order of the arguments are the kernel's and its memory is there: the caller's. Every
        // pointer is to eight bytes that live until the call returns, of which the driver reads as many as the type
        // has, the lower ones first.
        let launched = unsafe {
            result::launch_kernel(
                function.cu_function(),
                (x, y, z),
                (launch.kernel.threads, 1, 1),
                launch.shared,
                self.stream.cu_stream(),
                &mut pointers,
            )
        };
        launched.map_err(|e| GpuError::Kernel { kernel: launch.kernel.name.to_owned(), reason: text(&e) })
    }

    fn has_library(&self) -> bool {
        self.blas.is_some()
    }

    unsafe fn gemm(&self, gemm: &Gemm) -> Option<Result<(), GpuError>> {
        let handle = self.blas.as_ref()?.0;
        if let Err(error) = self.bind() {
            return Some(Err(error));
        }
        // Row-major matrices are the transposes of column-major ones: C' = B' A'.
        let [m, n, k] = gemm.size.map(|n| n as c_int);
        let operation = |factor: &Factor| match factor.transposed {
            false => blas_sys::cublasOperation_t::CUBLAS_OP_N,
            true => blas_sys::cublasOperation_t::CUBLAS_OP_T,
        };
        let kind = match gemm.bf16 {
            false => blas_sys::cudaDataType::CUDA_R_32F,
            true => blas_sys::cudaDataType::CUDA_R_16BF,
        };
        let (alpha, beta) = (1.0_f32, if gemm.add { 1.0_f32 } else { 0.0 });
        // SAFETY: the matrices are there, the caller's; alpha and beta are f32, as the compute type asks, and outlive the
        // call, which reads them.
        let result = unsafe {
            blas::gemm_ex(
                handle,
                operation(&gemm.b),
                operation(&gemm.a),
                n,
                m,
                k,
                std::ptr::from_ref(&alpha).cast(),
                gemm.b.at as *const c_void,
                kind,
                gemm.b.stride as c_int,
                gemm.a.at as *const c_void,
                kind,
                gemm.a.stride as c_int,
                std::ptr::from_ref(&beta).cast(),
                gemm.c.0 as *mut c_void,
                blas_sys::cudaDataType::CUDA_R_32F,
                gemm.c.1 as c_int,
                blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        Some(
            result.map_err(|e| GpuError::Kernel {
                kernel: "cublasGemmEx".into(),
                reason: format!("error {}", e.0 as u32),
            }),
        )
    }

    fn synchronize(&self) -> Result<(), GpuError> {
        self.stream.synchronize().map_err(call("the device failed at what was asked for before"))
    }

    fn time(&self, work: &mut dyn FnMut()) -> Result<f64, GpuError> {
        let failed = call("cannot time the device");
        let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let start = self.stream.record_event(timed).map_err(&failed)?;
        work();
        let end = self.stream.record_event(timed).map_err(&failed)?;
        self.synchronize()?;
        Ok(f64::from(start.elapsed_ms(&end).map_err(&failed)?) / 1e3)
    }
}
