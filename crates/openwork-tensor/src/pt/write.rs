//! Writing a state dict as `torch.save` does, for `torch.load(.., weights_only=True)`.
//!
//! A zip file of stored entries: the pickle of a dictionary of tensors, and the bytes of each tensor. Data begin at
//! multiples of 64 bytes, as PyTorch aligns them. The same tensors give the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use crate::atomic::write_atomic;
use crate::tensor::{Dtype, Tensor};
use crate::write::{WriteError, write_data};

/// Folder inside the archive.
const FOLDER: &str = "final_model";
/// Multiple at which the data of an entry begin.
const ALIGN: u64 = 64;

/// Writes tensors as a PyTorch checkpoint, a dictionary by name, through [`write_atomic`].
///
/// # Errors
/// See [`WriteError`]; the old file, if any, is then untouched.
pub fn write_pt(path: impl AsRef<Path>, tensors: &BTreeMap<String, Tensor>) -> Result<(), WriteError> {
    let path = path.as_ref();
    write_atomic(path, |out| archive(tensors, out)).map_err(|source| WriteError::Io { path: path.to_owned(), source })
}

fn archive(tensors: &BTreeMap<String, Tensor>, out: &mut impl Write) -> io::Result<()> {
    let mut zip = Zip { out, at: 0, directory: Vec::new(), entries: 0 };
    zip.entry("data.pkl", &pickle(tensors)?)?;
    zip.entry("byteorder", b"little")?;
    for (i, tensor) in tensors.values().enumerate() {
        let mut data = Vec::new();
        write_data(tensor, &mut data)?;
        zip.entry(&format!("data/{i}"), &data)?;
    }
    zip.entry("version", b"3\n")?;
    zip.finish()
}

/// The pickle (protocol 2) of `{name: _rebuild_tensor_v2(storage i, 0, shape, strides, False, OrderedDict())}`.
fn pickle(tensors: &BTreeMap<String, Tensor>) -> io::Result<Vec<u8>> {
    let mut ops = b"\x80\x02}(".to_vec();
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        let shape = tensor.shape();
        let len: usize = shape.iter().product();
        text(&mut ops, name)?;
        ops.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut ops, "storage")?;
        ops.extend(format!("ctorch\n{}\n", storage(tensor.dtype())?).bytes());
        text(&mut ops, &i.to_string())?;
        text(&mut ops, "cpu")?;
        integer(&mut ops, len)?;
        ops.extend(b"tQK\0");
        for sizes in [shape.to_vec(), strides(shape)] {
            ops.push(b'(');
            sizes.iter().try_for_each(|&n| integer(&mut ops, n))?;
            ops.push(b't');
        }
        ops.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    ops.extend(b"u.");
    Ok(ops)
}

/// Strides of a row-major array, in elements.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}

/// PyTorch's storage class of a kind.
fn storage(dtype: Dtype) -> io::Result<&'static str> {
    match dtype {
        Dtype::F64 => Ok("DoubleStorage"),
        Dtype::F32 => Ok("FloatStorage"),
        Dtype::F16 => Ok("HalfStorage"),
        Dtype::Bf16 => Ok("BFloat16Storage"),
        Dtype::I64 => Ok("LongStorage"),
        Dtype::I32 => Ok("IntStorage"),
        Dtype::U16 => Err(invalid("torch.save has no storage class for U16; widen to I32")),
    }
}

fn text(ops: &mut Vec<u8>, text: &str) -> io::Result<()> {
    ops.push(b'X');
    ops.extend(u32::try_from(text.len()).map_err(|_| invalid("a name of 4 GB"))?.to_le_bytes());
    ops.extend(text.bytes());
    Ok(())
}

/// `LONG1` of eight bytes, the first of which says how many follow.
fn integer(ops: &mut Vec<u8>, n: usize) -> io::Result<()> {
    let n = i64::try_from(n).map_err(|_| invalid("a size beyond 63 bits"))?;
    ops.extend([0x8a, 8]);
    ops.extend(n.to_le_bytes());
    Ok(())
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// A zip file that is being written. Lengths and offsets stand in zip64 fields throughout: one form for all sizes.
struct Zip<'a, W> {
    out: &'a mut W,
    /// Bytes written.
    at: u64,
    directory: Vec<u8>,
    entries: u64,
}

impl<W: Write> Zip<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// One stored entry `FOLDER/name`.
    fn entry(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        let (name, offset, len) = (format!("{FOLDER}/{name}"), self.at, (data.len() as u64).to_le_bytes());
        let crc = crc32fast::hash(data).to_le_bytes();
        // Version 4.5 (zip64), no flags, stored, midnight of 1 January 1980.
        let common =
            [&[45, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..], &crc, &[0xff; 8], &(name.len() as u16).to_le_bytes()].concat();
        // Padding in an extra field of PyTorch's own ("FB") moves the data to a multiple of ALIGN.
        let before = self.at + 30 + name.len() as u64 + 20 + 4;
        let padding = vec![b'Z'; (before.next_multiple_of(ALIGN) - before) as usize];
        let local = [&[1, 0, 16, 0][..], &len, &len, b"FB", &(padding.len() as u16).to_le_bytes(), &padding].concat();
        self.write(
            &[b"PK\x03\x04", &common[..], &(local.len() as u16).to_le_bytes(), name.as_bytes(), &local].concat(),
        )?;
        self.write(data)?;
        let extra = [&[1, 0, 24, 0][..], &len, &len, &offset.to_le_bytes()].concat();
        let head =
            [b"PK\x01\x02\x2d\0", &common[..], &(extra.len() as u16).to_le_bytes(), &[0; 10], &[0xff; 4]].concat();
        self.directory.extend([head, name.into_bytes(), extra].concat());
        self.entries += 1;
        Ok(())
    }

    /// The directory, the zip64 record with its locator, and the end record.
    fn finish(mut self) -> io::Result<()> {
        let (start, size) = (self.at, self.directory.len() as u64);
        let directory = std::mem::take(&mut self.directory);
        self.write(&directory)?;
        let (record, count) = (self.at.to_le_bytes(), self.entries.to_le_bytes());
        let record64 = [
            b"PK\x06\x06",
            &44u64.to_le_bytes()[..],
            &[45, 0, 45, 0],
            &[0; 8],
            &count,
            &count,
            &size.to_le_bytes(),
            &start.to_le_bytes(),
        ];
        self.write(&record64.concat())?;
        self.write(&[b"PK\x06\x07\0\0\0\0", &record[..], &[1, 0, 0, 0]].concat())?;
        self.write(&[&b"PK\x05\x06\0\0\0\0"[..], &[0xff; 12], &[0, 0]].concat())
    }
}
