//! The element kinds and their little-endian encoding, shared by both readers and the writer.

use std::io::{self, Write};

use bytemuck::Pod;
use half::{bf16, f16};

use crate::source::Source;

/// A number that lies in files as its little-endian bytes.
pub(crate) trait Element: Pod {
    /// Bytes of one element.
    const SIZE: usize = size_of::<Self>();
    /// Reads one element; `bytes` has exactly `SIZE` of them.
    fn from_le(bytes: &[u8]) -> Self;
    /// Writes one element.
    fn write_le(self, out: &mut impl Write) -> io::Result<()>;
}

macro_rules! element {
    ($($t:ty),*) => {$(
        impl Element for $t {
            fn from_le(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("SIZE bytes"))
            }
            fn write_le(self, out: &mut impl Write) -> io::Result<()> {
                out.write_all(&self.to_le_bytes())
            }
        }
    )*};
}
element!(f64, f32, f16, bf16, i64, i32, u16);

/// Reads `count` elements that lie from byte `start` of `source` on. The caller has checked that the source holds them.
pub(crate) fn read<T: Element>(source: &Source, start: u64, count: usize) -> io::Result<Vec<T>> {
    let mut elements = vec![T::zeroed(); count];
    source.read_at(start, bytemuck::cast_slice_mut(&mut elements))?;
    if cfg!(target_endian = "big") {
        elements.iter_mut().for_each(|x| *x = T::from_le(bytemuck::bytes_of(x)));
    }
    Ok(elements)
}

/// Writes elements as little-endian bytes.
pub(crate) fn encode<T: Element>(elements: &[T], out: &mut impl Write) -> io::Result<()> {
    if cfg!(target_endian = "little") {
        return out.write_all(bytemuck::cast_slice(elements));
    }
    elements.iter().try_for_each(|x| x.write_le(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_at_any_offset_are_the_same() {
        let values = [1.5f32, f32::from_bits(0x7fa0_0001), -0.0, f32::INFINITY];
        let mut bytes = vec![0u8; 9];
        for at in 0..8 {
            bytes.truncate(at);
            bytes.resize(at, 0);
            encode(&values, &mut bytes).unwrap();
            let source = Source::Memory(bytes.clone());
            let back: Vec<u32> = read::<f32>(&source, at as u64, 4).unwrap().into_iter().map(f32::to_bits).collect();
            assert_eq!(back, values.map(f32::to_bits));
        }
    }

    #[test]
    fn fast_and_slow_encodings_agree() {
        let values = [i64::MIN, -1, 0, 0x0123_4567_89ab_cdef];
        let (mut fast, mut slow) = (Vec::new(), Vec::new());
        encode(&values, &mut fast).unwrap();
        values.iter().for_each(|x| x.write_le(&mut slow).unwrap());
        assert_eq!(fast, slow);
    }
}
