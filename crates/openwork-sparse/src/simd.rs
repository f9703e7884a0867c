//! Which vector instructions the kernels use.

use std::{env, fmt, str::FromStr, sync::OnceLock};

use pulp::{Arch, WithSimd};

/// A set of vector instructions. Every kernel of the workspace gives the same bits with each: sums have an
/// order that the source fixes, and products are fused with additions exactly where the source says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// What every machine of the target has (NEON on aarch64). Without a fused multiply-add in hardware it
    /// is computed in software, correctly and slowly.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, CD, VL, DQ and BW.
    Avx512,
}

impl InstructionSet {
    /// All sets that this machine has, the widest last.
    pub fn available() -> Vec<Self> {
        [Self::Portable, Self::Avx2, Self::Avx512].into_iter().filter(|set| set.arch().is_some()).collect()
    }

    /// The set in use: the widest there is, or what the environment variable `OPENWORK_SIMD` names
    /// (`portable`, `avx2`, `avx512`; for tests). Read once.
    ///
    /// # Panics
    /// When the variable names no set, or one that this machine does not have.
    pub fn current() -> Self {
        static CURRENT: OnceLock<InstructionSet> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let widest = *Self::available().last().expect("portable is always there");
            let Some(name) = env::var_os("OPENWORK_SIMD") else { return widest };
            let set: Self = name.to_string_lossy().parse().unwrap_or_else(|e| panic!("OPENWORK_SIMD: {e}"));
            assert!(set.arch().is_some(), "OPENWORK_SIMD={set}: this machine does not have it; it has {widest}");
            set
        })
    }

    /// Runs `op` compiled for this set.
    ///
    /// # Panics
    /// When the machine does not have it.
    #[inline(always)]
    pub fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        self.arch().expect("the machine has this instruction set").dispatch(op)
    }

    #[cfg(target_arch = "x86_64")]
    fn arch(self) -> Option<Arch> {
        match self {
            Self::Portable => Some(Arch::Scalar),
            Self::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            Self::Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn arch(self) -> Option<Arch> {
        (self == Self::Portable).then(Arch::new)
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

impl FromStr for InstructionSet {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Portable, Self::Avx2, Self::Avx512]
            .into_iter()
            .find(|set| set.to_string() == name)
            .ok_or_else(|| format!("{name:?} is not portable, avx2 or avx512"))
    }
}

/// Runs `op` with the instructions in use.
#[inline(always)]
pub fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    InstructionSet::current().run(op)
}
