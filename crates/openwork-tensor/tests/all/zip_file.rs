//! A zip writer for tests: just enough to build checkpoints, sound and hostile.

/// One stored entry, and the lies to tell about it.
pub struct Entry<'a> {
    pub name: &'a str,
    pub data: &'a [u8],
    pub method: u16,
    pub flags: u16,
    /// The length to claim instead of the true one.
    pub len: Option<u32>,
    /// True if the checksum is recorded, and not 0.
    pub summed: bool,
}

/// An honest entry.
pub fn entry<'a>(name: &'a str, data: &'a [u8]) -> Entry<'a> {
    Entry { name, data, method: 0, flags: 0, len: None, summed: false }
}

/// A zip file with these entries.
pub fn zip(entries: &[Entry<'_>]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = file.len() as u32;
        let len = entry.len.unwrap_or(entry.data.len() as u32);
        let mut common = Vec::new();
        for field in [20, entry.flags, entry.method, 0, 0] {
            common.extend(u16::to_le_bytes(field));
        }
        let crc = if entry.summed { crc32(entry.data) } else { 0 };
        for field in [crc, len, len] {
            common.extend(u32::to_le_bytes(field));
        }
        common.extend((entry.name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(entry.name.as_bytes());
        file.extend(entry.data);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let (start, len) = (file.len() as u32, directory.len() as u32);
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    let count = (entries.len() as u16).to_le_bytes();
    file.extend(count);
    file.extend(count);
    file.extend(len.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

/// CRC-32, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

/// The same file as its writer would make it beyond 4 GiB: every length and offset of the directory stands in
/// zip64 fields.
pub fn zip64(file: &[u8]) -> Vec<u8> {
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let end = file.len() - 22;
    let (start, count) = (number(end + 16) as usize, file[end + 10]);
    let (mut out, mut at) = (file[..start].to_vec(), start);
    while at < end {
        let name_end = at + 46 + usize::from(file[at + 28]);
        let len = u64::from(number(at + 24));
        let offset = u64::from(number(at + 42));
        out.extend(&file[at..at + 20]);
        out.extend([0xff; 8]);
        out.extend(&file[at + 28..at + 30]);
        out.extend([28, 0]);
        out.extend(&file[at + 32..at + 42]);
        out.extend([0xff; 4]);
        out.extend(&file[at + 46..name_end]);
        out.extend([1, 0, 24, 0]);
        for field in [len, len, offset] {
            out.extend(field.to_le_bytes());
        }
        at = name_end;
    }
    let (size, record) = ((out.len() - start) as u64, out.len() as u64);
    out.extend(b"PK\x06\x06");
    out.extend([0; 20]);
    for field in [u64::from(count), u64::from(count), size, start as u64] {
        out.extend(field.to_le_bytes());
    }
    out.extend(b"PK\x06\x07\0\0\0\0");
    out.extend(record.to_le_bytes());
    out.extend([1, 0, 0, 0]);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([0xff; 12]);
    out.extend([0, 0]);
    out
}

/// A checkpoint with this pickle and one storage, `data/0`.
pub fn checkpoint(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    zip(&[entry("a/data.pkl", pickle), entry("a/data/0", storage)])
}

/// The opcodes of one float32 tensor in storage `0` of `stored` elements.
pub fn tensor(stored: u32, offset: u32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let mut ops =
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ"
            .to_vec();
    ops.extend(stored.to_le_bytes());
    ops.extend(b"tQJ");
    ops.extend(offset.to_le_bytes());
    for sizes in [shape, strides] {
        ops.push(b'(');
        for size in sizes {
            ops.push(b'J');
            ops.extend(size.to_le_bytes());
        }
        ops.push(b't');
    }
    ops.extend(b"\x89)tR");
    ops
}

/// The pickle of a dictionary with these keys and values, each given as opcodes.
pub fn dict(items: &[(&str, &[u8])]) -> Vec<u8> {
    let mut ops = b"}(".to_vec();
    for (key, value) in items {
        ops.push(b'X');
        ops.extend((key.len() as u32).to_le_bytes());
        ops.extend(key.as_bytes());
        ops.extend(*value);
    }
    ops.push(b'u');
    ops
}

/// A whole pickle from the opcodes of its value.
pub fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}
