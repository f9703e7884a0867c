//! Runs the CUDA kernels of the workspace on the CPU, for tests.
//!
//! `cpp/simulator.hpp` is the language: threads of a block are fibres, which a schedule lets go on in one order or
//! another; `build.rs` compiles `kernels/*.cu` under it. This side gives each argument memory of its own with guards
//! around it, runs a kernel under several schedules, and tells what a GPU would have hidden: writes beside an
//! argument, entries that were never written, results that depend on the order of threads, and whatever the
//! simulator found (barriers and collectives that diverge).
//!
//! Built with `OPENWORK_SANITIZE=1`, the address sanitizer also finds reads out of bounds.

mod device;

pub use device::Simulator;

use std::ffi::{CStr, CString, c_char, c_uint, c_void};

/// An argument of a kernel.
#[derive(Debug)]
pub enum Arg<'a> {
    /// Memory that the kernel reads. It must not change.
    In(&'a [u8]),
    /// Memory that the kernel reads and writes.
    InOut(&'a mut [u8]),
    /// Memory that the kernel writes, every byte of it: what it holds before is poison.
    Out(&'a mut [u8]),
    /// [`Arg::InOut`] whose bytes may depend on the order of threads.
    Scratch(&'a mut [u8]),
    /// A pointer to nothing.
    Null,
    /// A number.
    U32(u32),
    /// A number.
    F32(f32),
}

impl<'a> Arg<'a> {
    /// [`Arg::In`] of numbers.
    pub fn read<T: bytemuck::NoUninit>(x: &'a [T]) -> Self {
        Self::In(bytemuck::cast_slice(x))
    }

    /// [`Arg::InOut`] of numbers.
    pub fn update<T: bytemuck::Pod>(x: &'a mut [T]) -> Self {
        Self::InOut(bytemuck::cast_slice_mut(x))
    }

    /// [`Arg::Out`] of numbers.
    pub fn write<T: bytemuck::Pod>(x: &'a mut [T]) -> Self {
        Self::Out(bytemuck::cast_slice_mut(x))
    }

    /// [`Arg::Scratch`] of numbers.
    pub fn scratch<T: bytemuck::Pod>(x: &'a mut [T]) -> Self {
        Self::Scratch(bytemuck::cast_slice_mut(x))
    }

    fn letter(&self) -> char {
        match self {
            Self::In(_) | Self::InOut(_) | Self::Out(_) | Self::Scratch(_) | Self::Null => 'p',
            Self::U32(_) => 'u',
            Self::F32(_) => 'f',
        }
    }
}

/// Number of threads of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Blocks, in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: usize,
}

/// Fault of a kernel, or of its call.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// There is no such kernel.
    #[error("there is no kernel {0}")]
    NoKernel(String),
    /// The arguments are not those of the kernel.
    #[error("{kernel} takes arguments {expected:?} and not {given:?} (p pointer, u 32-bit integer, f float)")]
    Arguments {
        /// Its name.
        kernel: String,
        /// A letter for every argument.
        expected: String,
        /// The same of those given.
        given: String,
    },
    /// The simulator stopped it.
    #[error("{kernel}: {what}")]
    Stopped {
        /// Its name.
        kernel: String,
        /// The event, and its place.
        what: String,
    },
    /// It wrote where it must not.
    #[error("{kernel}: argument {argument} was changed at byte {at}, {place}")]
    Stray {
        /// Its name.
        kernel: String,
        /// Number of the argument, from 0.
        argument: usize,
        /// Offset from the beginning of the argument.
        at: isize,
        /// "before it", "behind it" or "which is only to be read".
        place: &'static str,
    },
    /// It left part of an [`Arg::Out`] unwritten.
    #[error("{kernel}: byte {at} of argument {argument} was not written")]
    Unwritten {
        /// Its name.
        kernel: String,
        /// Number of the argument, from 0.
        argument: usize,
        /// The first such byte.
        at: usize,
    },
    /// Two schedules gave different results: something is not ordered by a barrier.
    #[error("{kernel}: argument {argument} depends on the order of threads (byte {at}): is a barrier missing?")]
    DependsOnOrder {
        /// Its name.
        kernel: String,
        /// Number of the argument, from 0.
        argument: usize,
        /// The first byte that differs.
        at: usize,
    },
}

/// Schedules that [`launch`] runs a kernel under: upwards, downwards and two shuffles.
const SCHEDULES: [u64; 4] = [0, 1, 2, 3];
/// Bytes around an argument, and what they hold. The address sanitizer has guards of its own, which see reads, too.
const GUARD: usize = if cfg!(sanitized) { 0 } else { 256 };
const GUARD_BYTE: u8 = 0xa5;
/// Contents of an [`Arg::Out`] before a launch: NaN as a float.
const POISON: u8 = 0xff;
/// A second poison tells a byte that was not written from one that happens to look like the first.
const OTHER_POISON: u8 = 0x7f;

/// Runs a kernel under several schedules, which must give the same bytes; the arguments receive them.
///
/// # Errors
/// When there is no such kernel, its arguments are others, or it does something wrong under one of the schedules.
pub fn launch(kernel: &str, config: Config, args: &mut [Arg<'_>]) -> Result<(), Error> {
    let mut first: Option<Vec<Memory>> = None;
    for (schedule, poison) in SCHEDULES.into_iter().zip([POISON, OTHER_POISON].into_iter().cycle()) {
        let memories = run(kernel, config, args, schedule, poison)?;
        let Some(expected) = &first else {
            first = Some(memories);
            continue;
        };
        for (argument, (memory, expected)) in memories.iter().zip(expected).enumerate() {
            if matches!(args[argument], Arg::Scratch(_)) {
                continue;
            }
            let differs = memory.bytes().iter().zip(expected.bytes()).position(|(a, b)| a != b);
            let Some(at) = differs else { continue };
            let kernel = kernel.to_owned();
            let unwritten = (memory.bytes()[at], expected.bytes()[at]) == (OTHER_POISON, POISON);
            return Err(match (unwritten, &args[argument]) {
                (true, Arg::Out(_)) => Error::Unwritten { kernel, argument, at },
                _ => Error::DependsOnOrder { kernel, argument, at },
            });
        }
    }
    for (arg, memory) in args.iter_mut().zip(first.expect("there are schedules")) {
        if let Arg::InOut(x) | Arg::Out(x) | Arg::Scratch(x) = arg {
            x.copy_from_slice(memory.bytes());
        }
    }
    Ok(())
}

/// Memory of an argument with guards around it; of a number, the number.
struct Memory {
    words: Vec<u128>,
    len: usize,
}

impl Memory {
    fn new(contents: &[u8]) -> Self {
        // Aligned as device memory would be for the widest loads.
        let mut words = vec![0_u128; (2 * GUARD + contents.len()).div_ceil(16)];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        bytes.fill(GUARD_BYTE);
        bytes[GUARD..][..contents.len()].copy_from_slice(contents);
        Self { words, len: contents.len() }
    }

    fn all(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }

    fn bytes(&self) -> &[u8] {
        &self.all()[GUARD..][..self.len]
    }

    /// A byte of the guards that was changed, from the beginning of the contents.
    fn stray(&self) -> Option<isize> {
        let guard = |at: &usize| !(GUARD..GUARD + self.len).contains(at);
        let changed = |at: &usize| guard(at) && self.all()[*at] != GUARD_BYTE;
        (0..self.all().len()).find(changed).map(|at| at as isize - GUARD as isize)
    }
}

/// Runs a kernel once.
fn run(kernel: &str, config: Config, args: &[Arg<'_>], schedule: u64, poison: u8) -> Result<Vec<Memory>, Error> {
    let expected = signature(kernel).ok_or_else(|| Error::NoKernel(kernel.to_owned()))?;
    let given: String = args.iter().map(Arg::letter).collect();
    if given != expected {
        return Err(Error::Arguments { kernel: kernel.to_owned(), expected, given });
    }
    let mut memories: Vec<Memory> = args
        .iter()
        .map(|arg| match arg {
            Arg::In(x) => Memory::new(x),
            Arg::InOut(x) | Arg::Scratch(x) => Memory::new(x),
            Arg::Out(x) => Memory::new(&vec![poison; x.len()]),
            Arg::Null => Memory::new(&[]),
            Arg::U32(x) => Memory::new(&x.to_ne_bytes()),
            Arg::F32(x) => Memory::new(&x.to_ne_bytes()),
        })
        .collect();
    let what = call(kernel, config, args, &mut memories, schedule);
    let name = || kernel.to_owned();
    if !what.is_empty() {
        return Err(Error::Stopped { kernel: name(), what });
    }
    for (argument, (arg, memory)) in args.iter().zip(&memories).enumerate() {
        if let Some(at) = memory.stray() {
            let place = if at < 0 { "before it" } else { "behind it" };
            return Err(Error::Stray { kernel: name(), argument, at, place });
        }
        if let Arg::In(x) = arg
            && let Some(at) = memory.bytes().iter().zip(*x).position(|(a, b)| a != b)
        {
            let (at, place) = (at as isize, "which is only to be read");
            return Err(Error::Stray { kernel: name(), argument, at, place });
        }
    }
    Ok(memories)
}

#[allow(unsafe_code)]
unsafe extern "C" {
    fn openwork_simulator_signature(name: *const c_char, signature: *mut c_char, size: usize) -> bool;
    fn openwork_simulator_launch(
        name: *const c_char,
        grid: *const c_uint,
        block: *const c_uint,
        dynamic_bytes: usize,
        schedule: u64,
        arguments: *mut *mut c_void,
        error: *mut c_char,
        size: usize,
    );
}

/// A letter for every argument of a kernel: `p` a pointer, `u` a 32-bit integer, `f` a float.
#[allow(unsafe_code)]
pub fn signature(kernel: &str) -> Option<String> {
    let name = CString::new(kernel).ok()?;
    let mut text = [0; 64];
    // SAFETY: `name` ends with a zero and outlives the call; `text` is written within its size and ends with a zero.
    let found = unsafe { openwork_simulator_signature(name.as_ptr(), text.as_mut_ptr(), text.len()) };
    // SAFETY: the call above wrote a string that ends within `text`.
    found.then(|| unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())
}

/// Runs a kernel whose signature is that of `args`; returns what the simulator found.
#[allow(unsafe_code)]
fn call(kernel: &str, config: Config, args: &[Arg<'_>], memories: &mut [Memory], schedule: u64) -> String {
    let name = CString::new(kernel).expect("a kernel of this name was found");
    // A kernel gets the addresses of its arguments: of a pointer the pointer's, of a number the number's.
    let mut pointers: Vec<*mut u8> = memories
        .iter_mut()
        .map(|memory| bytemuck::cast_slice_mut::<u128, u8>(&mut memory.words)[GUARD..].as_mut_ptr())
        .collect();
    for (pointer, _) in pointers.iter_mut().zip(args).filter(|(_, arg)| matches!(arg, Arg::Null)) {
        *pointer = std::ptr::null_mut();
    }
    let mut arguments: Vec<*mut c_void> = pointers
        .iter_mut()
        .zip(args)
        .map(|(pointer, arg)| match arg {
            Arg::U32(_) | Arg::F32(_) => pointer.cast(),
            _ => std::ptr::from_mut(pointer).cast(),
        })
        .collect();
    let mut error = [0; 512];
    // SAFETY: the types and the order of arguments are those of the kernel (its signature was compared); every
    // pointer is to memory of this call alone that may be written; what the kernel touches beyond it is the bug that
    // guards and sanitizer are there for. Strings end with zeros, and `error` is written within its size.
    unsafe {
        openwork_simulator_launch(
            name.as_ptr(),
            config.grid.as_ptr(),
            config.block.as_ptr(),
            config.shared,
            schedule,
            arguments.as_mut_ptr(),
            error.as_mut_ptr(),
            error.len(),
        );
    }
    // SAFETY: the call above wrote a string that ends within `error`.
    unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy().into_owned()
}
