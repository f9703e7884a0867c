//! The transpose of a dense matrix.

use crate::{InstructionSet, Panel, PanelMut};

/// Rows and columns of a block.
const BLOCK: usize = 16;

/// `y = xᵀ` for `x [m, n]` with contiguous rows, `y [n, m]`.
///
/// Floor: one load and one store an element, and with AVX-512 a quarter of a shuffle.
///
/// # Panics
/// When the shapes do not fit, or rows of `x` are not contiguous.
#[track_caller]
pub fn transpose<'a>(x: impl Into<Panel<'a>>, y: impl Into<PanelMut<'a>>) {
    let (x, y) = (x.into(), y.into());
    assert!(x.col_stride == 1, "transpose: rows of x are not contiguous");
    assert!(y.shape() == [x.cols, x.rows], "transpose: x is {:?} and y is {:?}", x.shape(), y.shape());
    transpose_with(InstructionSet::current(), x, y);
}

fn transpose_with(set: InstructionSet, x: Panel<'_>, mut y: PanelMut<'_>) {
    #[cfg(target_arch = "x86_64")]
    if set == InstructionSet::Avx512
        && let Some(simd) = pulp::x86::V4::try_new()
    {
        return pulp::Simd::vectorize(simd, Avx512 { simd, x, y });
    }
    let _ = set;
    for r0 in (0..x.rows).step_by(BLOCK) {
        for c0 in (0..x.cols).step_by(BLOCK) {
            block(&x, &mut y, r0, c0);
        }
    }
}

/// The block at `(r0, c0)` of x, as much of it as there is.
#[inline(always)]
fn block(x: &Panel<'_>, y: &mut PanelMut<'_>, r0: usize, c0: usize) {
    let (height, width) = (BLOCK.min(x.rows - r0), BLOCK.min(x.cols - c0));
    let mut block = [[0.0_f32; BLOCK]; BLOCK];
    for (r, block) in block.iter_mut().enumerate().take(height) {
        block[..width].copy_from_slice(&x.data[(r0 + r) * x.row_stride + c0..][..width]);
    }
    for c in 0..width {
        let out = &mut y.data[(c0 + c) * y.stride + r0..][..height];
        out.iter_mut().zip(&block).for_each(|(out, row)| *out = row[c]);
    }
}

#[cfg(target_arch = "x86_64")]
struct Avx512<'a> {
    simd: pulp::x86::V4,
    x: Panel<'a>,
    y: PanelMut<'a>,
}

#[cfg(target_arch = "x86_64")]
impl pulp::WithSimd for Avx512<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(mut self, _: S) {
        for r0 in (0..self.x.rows).step_by(BLOCK) {
            for c0 in (0..self.x.cols).step_by(BLOCK) {
                match r0 + BLOCK <= self.x.rows && c0 + BLOCK <= self.x.cols {
                    true => self.whole_block(r0, c0),
                    false => block(&self.x, &mut self.y, r0, c0),
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Avx512<'_> {
    /// Sixteen registers: pairs of rows are woven into each other by elements, then pairs of pairs by two
    /// elements, and quarters of registers are gathered in two rounds.
    #[inline(always)]
    fn whole_block(&mut self, r0: usize, c0: usize) {
        use std::array::from_fn;

        use pulp::cast;

        let f = self.simd.avx512f;
        let row = |r: usize| {
            let x: [f32; BLOCK] = self.x.data[(r0 + r) * self.x.row_stride + c0..][..BLOCK].try_into().expect("16");
            cast(x)
        };
        let x: [std::arch::x86_64::__m512; BLOCK] = from_fn(row);
        // Within quarters: element i of rows 2j and 2j + 1 side by side, then of rows 4j to 4j + 3.
        let pairs: [_; BLOCK] = from_fn(|i| match i % 2 {
            0 => f._mm512_unpacklo_ps(x[i], x[i + 1]),
            _ => f._mm512_unpackhi_ps(x[i - 1], x[i]),
        });
        let fours: [std::arch::x86_64::__m512; BLOCK] = from_fn(|i| {
            let (group, element) = (i / 4 * 4, i % 4);
            let (a, b) = (pairs[group + element / 2], pairs[group + 2 + element / 2]);
            cast(match element % 2 {
                0 => f._mm512_unpacklo_pd(cast(a), cast(b)),
                _ => f._mm512_unpackhi_pd(cast(a), cast(b)),
            })
        });
        // Quarter q of `fours[4g + e]` holds column 4q + e of rows 4g to 4g + 3.
        for e in 0..4 {
            let low = f._mm512_shuffle_f32x4::<0x88>(fours[e], fours[4 + e]);
            let high = f._mm512_shuffle_f32x4::<0xdd>(fours[e], fours[4 + e]);
            let low2 = f._mm512_shuffle_f32x4::<0x88>(fours[8 + e], fours[12 + e]);
            let high2 = f._mm512_shuffle_f32x4::<0xdd>(fours[8 + e], fours[12 + e]);
            let columns = [
                f._mm512_shuffle_f32x4::<0x88>(low, low2),
                f._mm512_shuffle_f32x4::<0x88>(high, high2),
                f._mm512_shuffle_f32x4::<0xdd>(low, low2),
                f._mm512_shuffle_f32x4::<0xdd>(high, high2),
            ];
            for (q, column) in columns.into_iter().enumerate() {
                let out: [f32; BLOCK] = cast(column);
                self.y.data[(c0 + 4 * q + e) * self.y.stride + r0..][..BLOCK].copy_from_slice(&out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn moves_every_element_with_every_instruction_set() {
        for (rows, cols) in [(1, 1), (3, 50), (16, 16), (33, 17), (48, 64)] {
            let x = Array2::from_shape_fn((rows, cols), |(r, c)| (r * 100 + c) as f32);
            for set in InstructionSet::available() {
                let mut y = Array2::zeros((cols, rows));
                transpose_with(set, (&x).into(), (&mut y).into());
                assert_eq!(y, x.t(), "{set}");
            }
        }
    }
}
