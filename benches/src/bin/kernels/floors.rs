//! Floors of operations: rates measured on the spot, and the least time that the
//! operations and the memory traffic of a kernel take at these rates.

use std::{hint::black_box, time::Instant};

use openwork_sparse::simd::dispatch;
use pulp::{Simd, WithSimd};

/// Tokens of a chunk in the benches of the crates, and turns that streaming operands take.
const TOKENS: f64 = 256.0;
/// Bytes of the buffers that bandwidths are measured on: well within the first, the second and the third cache of
/// today's processors, and beyond all of them.
const LEVELS: [(&str, usize); 4] =
    [("first cache", 16 << 10), ("second cache", 384 << 10), ("third cache", 6 << 20), ("memory", 256 << 20)];

/// Rate of one core, in billions per second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// f32 operations of fused multiply-adds in registers, two each.
    pub operations: f64,
    /// Bytes read from each of [`LEVELS`].
    pub read: [f64; 4],
    /// Bytes of a copy in memory, read and written.
    pub copy: f64,
}

impl Rates {
    /// Measures them: best of several tries, a second or so.
    pub fn measure() -> Self {
        let operations = best(|| dispatch(MultiplyAdds { times: 4096 }));
        let read = LEVELS.map(|(_, bytes)| {
            let buffer = vec![1.0_f32; bytes / 4];
            let times = ((64 << 20) / bytes).max(1);
            best(|| dispatch(Read { buffer: &buffer, times }))
        });
        let (from, mut to) = (vec![1.0_f32; LEVELS[3].1 / 4], vec![0.0_f32; LEVELS[3].1 / 4]);
        let copy = best(|| {
            to.copy_from_slice(black_box(&from));
            8 * black_box(&to).len()
        });
        Self { operations, read, copy }
    }

    /// Lines that say them.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("one core: {:.0} Gop/s of f32 multiply-adds (two each)", self.operations)];
        lines.extend(
            LEVELS.iter().zip(self.read).map(|((name, bytes), rate)| {
                format!("one core: {rate:.0} GB/s read from {} KiB ({name})", bytes >> 10)
            }),
        );
        lines.push(format!("one core: {:.0} GB/s of a copy in memory, read and written", self.copy));
        lines
    }

    /// Nanoseconds that reading takes of `bytes` from a working set of `set` bytes.
    fn reading(&self, bytes: f64, set: f64) -> f64 {
        // The level whose buffer is nearest in size, by ratio.
        let nearer = |i: &usize| set * set <= LEVELS[*i].1 as f64 * LEVELS[*i + 1].1 as f64;
        bytes / self.read[(0..3).find(nearer).unwrap_or(3)]
    }

    /// The floor of a benchmark by its name, in nanoseconds; none where arithmetic that has no common rate
    /// (exponentials, comparisons) decides.
    pub fn floor(&self, name: &str) -> Option<f64> {
        let parts: Vec<&str> = name.split('/').collect();
        let group = parts[0].trim_end_matches("_hot").trim_end_matches("_streaming");
        let streaming = parts[0].ends_with("_streaming");
        let shape = |i: usize| -> Option<[f64; 2]> {
            let (rows, cols) = parts.get(i)?.split_once('x')?;
            Some([rows.parse().ok()?, cols.parse().ok()?])
        };
        // Operands and results of a streaming product come from memory and go there, once each.
        let passing = |bytes: f64| if streaming { bytes / self.copy } else { 0.0 };
        let product = |bytes_each: f64, reads: f64, writes: f64, [rows, cols]: [f64; 2], density: f64| {
            let pairs = rows * cols * density * TOKENS;
            let loads = self.reading(bytes_each * pairs, reads * TOKENS);
            (2.0 * pairs / self.operations).max(loads).max(passing((reads + writes) * TOKENS))
        };
        match (group, &parts[1..]) {
            ("matmul", _) => shape(parts.len() - 1)
                .map(|[r, c]| (2.0 * r * c * TOKENS / self.operations).max(passing(4.0 * (r + c) * TOKENS))),
            ("spmm" | "sddmm" | "spmm_bf16" | "sddmm_bf16", [_, density]) => {
                let [rows, cols] = shape(1)?;
                let each = if group.ends_with("bf16") { 2.0 } else { 4.0 };
                // SpMM writes f32 whatever it reads; SDDMM reads both.
                let of_rows = if group.starts_with("spmm") { 4.0 } else { each };
                Some(product(each, each * cols, of_rows * rows, [rows, cols], fraction(density)?))
            }
            ("transpose", [_]) => {
                shape(1).map(|[r, c]| self.reading(8.0 * r * c, 8.0 * r * c).max(passing(8.0 * r * c)))
            }
            ("pack", [_]) => shape(1).map(|[r, c]| self.reading(6.0 * r * c, 6.0 * r * c).max(passing(6.0 * r * c))),
            ("copy" | "residual" | "rms_norm" | "abs_top_k_backward", [features]) => {
                let elements = features.parse::<f64>().ok()? * TOKENS;
                let each = match group {
                    "copy" | "rms_norm" => 8.0,
                    "residual" => 12.0,
                    _ => 9.0,
                };
                Some(self.reading(each * elements, each * elements))
            }
            // Weight, moments and gradient are read, all but the gradient written; projecting reads and writes the
            // weight once more.
            ("adam", [_, _]) => shape(1).map(|[r, c]| self.reading(28.0 * r * c, 16.0 * r * c)),
            ("update" | "update_sparse", [_, _]) => shape(1).map(|[r, c]| self.reading(36.0 * r * c, 16.0 * r * c)),
            _ => None,
        }
    }
}

/// `1_64` is 1/64.
fn fraction(name: &str) -> Option<f64> {
    match name.split_once('_') {
        Some((one, of)) => Some(one.parse::<f64>().ok()? / of.parse::<f64>().ok()?),
        None => name.parse().ok(),
    }
}

/// The best rate of `f`, which returns how much it did, in billions a second.
fn best(mut f: impl FnMut() -> usize) -> f64 {
    let rate = |_| {
        let start = Instant::now();
        let done = f();
        done as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..8).map(rate).fold(0.0, f64::max)
}

/// Chains of multiply-adds, enough of them to hide the latency of one.
struct MultiplyAdds {
    times: usize,
}

impl WithSimd for MultiplyAdds {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        const CHAINS: usize = 12;
        let (a, b) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(1.0)));
        let mut sums = [b; CHAINS];
        for _ in 0..64 * self.times {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(a, *sum, b);
            }
        }
        black_box(sums.map(|sum| simd.reduce_sum_f32s(sum)));
        2 * 64 * self.times * CHAINS * S::F32_LANES
    }
}

/// Adds up a buffer, over and over.
struct Read<'a> {
    buffer: &'a [f32],
    times: usize,
}

impl WithSimd for Read<'_> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        const CHAINS: usize = 8;
        let mut sums = [simd.splat_f32s(0.0); CHAINS];
        for _ in 0..self.times {
            let (registers, _) = S::as_simd_f32s(black_box(self.buffer));
            let (blocks, _) = pulp::as_arrays::<CHAINS, _>(registers);
            for block in blocks {
                for i in 0..CHAINS {
                    sums[i] = simd.add_f32s(sums[i], block[i]);
                }
            }
        }
        black_box(sums.map(|sum| simd.reduce_sum_f32s(sum)));
        4 * self.buffer.len() * self.times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_follow_from_names() {
        let rates = Rates { operations: 100.0, read: [200.0, 100.0, 50.0, 10.0], copy: 20.0 };
        let floor = |name: &str| rates.floor(name).unwrap();
        assert_eq!(floor("matmul_hot/64x32"), 2.0 * 64.0 * 32.0 * 256.0 / 100.0);
        assert_eq!(floor("matmul_hot/gradient/64x32"), floor("matmul_hot/64x32"));
        // 256 KiB of x: the second cache, four bytes for two operations.
        assert_eq!(floor("spmm_hot/1024x256/1_64"), 4.0 * 4096.0 * 256.0 / 100.0);
        // 4 MiB of it: the third.
        assert_eq!(floor("sddmm_hot/256x4096/1_4"), 4.0 * 262_144.0 * 256.0 / 50.0);
        assert_eq!(floor("spmm_bf16_hot/1024x256/1_64"), 2.0 * 4096.0 * 256.0 / 100.0);
        // So few nonzeros that x and y from memory decide.
        assert_eq!(floor("spmm_streaming/1024x256/1_256"), 4.0 * 1280.0 * 256.0 / 20.0);
        // 64 MiB of weights, gradients and moments: memory.
        assert_eq!(floor("adam/1024x4096/1"), 28.0 * 4_194_304.0 / 10.0);
        assert_eq!(floor("update/1024x4096/1_64 rows"), 36.0 * 4_194_304.0 / 10.0);
        assert_eq!((rates.floor("attention/16"), rates.floor("matmul_hot/what")), (None, None));
    }
}
