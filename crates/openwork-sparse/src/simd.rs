//! The vector instructions that the kernels use.

use std::{env, fmt, str::FromStr, sync::OnceLock};

use pulp::{Arch, Simd, WithSimd};

/// A set of vector instructions. Every kernel of the workspace gives the same bits with each: sums have an
/// order that the source fixes, and products are fused with additions exactly where the source says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// Instructions of every machine of the target (NEON on aarch64). Without a fused multiply-add in hardware it
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
    type Err = UnknownInstructionSet;

    fn from_str(name: &str) -> Result<Self, UnknownInstructionSet> {
        let sets = [Self::Portable, Self::Avx2, Self::Avx512];
        let named = sets.into_iter().find(|set| set.to_string() == name);
        named.ok_or_else(|| UnknownInstructionSet { name: name.to_owned() })
    }
}

/// A text that names no [`InstructionSet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownInstructionSet {
    /// The text.
    pub name: String,
}

impl fmt::Display for UnknownInstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not portable, avx2 or avx512", self.name)
    }
}

impl std::error::Error for UnknownInstructionSet {}

/// Runs `op` with the instructions in use.
#[inline(always)]
pub fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    InstructionSet::current().run(op)
}

/// Loads at most one register; what is beyond the slice is 0. (A whole one directly: `pulp`'s partial loads and
/// stores are calls.)
#[inline(always)]
pub fn load<S: Simd>(simd: S, x: &[f32]) -> S::f32s {
    match S::as_simd_f32s(x).0 {
        [whole] => *whole,
        _ => simd.partial_load_f32s(x),
    }
}

/// [`load`] of words.
#[inline(always)]
pub(crate) fn load_words<S: Simd>(simd: S, x: &[u32]) -> S::u32s {
    match S::as_simd_u32s(x).0 {
        [whole] => *whole,
        _ => simd.partial_load_u32s(x),
    }
}

/// Stores at most one register.
#[inline(always)]
pub fn store<S: Simd>(simd: S, to: &mut [f32], x: S::f32s) {
    match S::as_mut_simd_f32s(to).0 {
        [whole] => *whole = x,
        _ => simd.partial_store_f32s(to, x),
    }
}

/// Chains of a dot product.
pub(crate) const PARTS: usize = 64;

/// `Σᵢ aᵢ bᵢ` of `a` with each of the `M` rows of `b`, as 64 chains of fused multiply-adds (element `i` goes to chain
/// `i mod 64`), folded by halves: the same bits with every instruction set and every M.
#[inline(always)]
pub fn dots<S: Simd, const M: usize>(simd: S, a: &[f32], b: [&[f32]; M]) -> [f32; M] {
    match S::F32_LANES {
        16 => dots_in::<S, M, 4>(simd, a, b),
        8 => dots_in::<S, M, 8>(simd, a, b),
        4 => dots_in::<S, M, 16>(simd, a, b),
        1 => dots_in::<S, M, PARTS>(simd, a, b),
        lanes => unreachable!("no instruction set has {lanes} lanes"),
    }
}

/// [`dots`] with the chains in `N` registers.
#[allow(clippy::needless_range_loop, reason = "registers of several arrays go by the same number")]
#[inline(always)]
fn dots_in<S: Simd, const M: usize, const N: usize>(simd: S, a: &[f32], b: [&[f32]; M]) -> [f32; M] {
    let lanes = S::F32_LANES;
    let n = a.len();
    let mut sum = [[simd.splat_f32s(0.0); N]; M];
    let whole = n / PARTS * PARTS;
    for from in (0..whole).step_by(PARTS) {
        let a: &[S::f32s; N] = S::as_simd_f32s(&a[from..][..PARTS]).0.try_into().expect("N registers");
        for m in 0..M {
            let b: &[S::f32s; N] = S::as_simd_f32s(&b[m][from..][..PARTS]).0.try_into().expect("N registers");
            for i in 0..N {
                sum[m][i] = simd.mul_add_f32s(a[i], b[i], sum[m][i]);
            }
        }
    }
    let mut from = whole;
    for i in 0..N {
        if from < n {
            let width = lanes.min(n - from);
            let a = load(simd, &a[from..][..width]);
            for m in 0..M {
                sum[m][i] = simd.mul_add_f32s(a, load(simd, &b[m][from..][..width]), sum[m][i]);
            }
            from += width;
        }
    }
    let mut out = [0.0; M];
    for m in 0..M {
        out[m] = fold(simd, sum[m]);
    }
    out
}

/// Adds the chains up, by halves: chain `i` gains chain `i + n/2`, then `i + n/4`, down to one. `N` and the lanes
/// of a register are powers of two.
#[inline(always)]
pub(crate) fn fold<S: Simd, const N: usize>(simd: S, mut sum: [S::f32s; N]) -> f32 {
    let mut width = N / 2;
    while width > 0 {
        for i in 0..width {
            sum[i] = simd.add_f32s(sum[i], sum[i + width]);
        }
        width /= 2;
    }
    let mut total = sum[0];
    let mut width = S::F32_LANES / 2;
    while width > 0 {
        // Lane 0 gains lane `width`: of what the others hold only lanes below `width` are read again.
        total = simd.add_f32s(total, simd.rotate_left_f32s(total, width));
        width /= 2;
    }
    let mut lane = [0.0_f32; 16];
    S::as_mut_simd_f32s(&mut lane[..S::F32_LANES]).0[0] = total;
    lane[0]
}
