//! The directory of a stored (uncompressed) zip file, as `torch.save` writes it; zip64 included.
//!
//! Deliberately narrow: whatever two zip readers could understand differently (duplicate names, overlapping
//! entries, names that differ between directory and entry, trailing bytes) is refused.

use std::collections::BTreeMap;
use std::ops::Range;

use super::PtProblem;

const END: &[u8] = b"PK\x05\x06";
const END64: &[u8] = b"PK\x06\x06";
const LOCATOR64: &[u8] = b"PK\x06\x07";
const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";

/// Range of each entry's contents.
pub(super) type Directory = BTreeMap<String, Range<usize>>;

/// Reads the directory of a whole file.
pub(super) fn directory(bytes: &[u8]) -> Result<Directory, PtProblem> {
    if !bytes.starts_with(LOCAL) {
        // A pickle starts with 0x80 and its protocol: the format of torch.save before 1.6.
        let legacy = matches!(bytes, [0x80, 0..=5, ..]);
        return Err(if legacy { PtProblem::Legacy } else { PtProblem::NotZip });
    }
    let (count, size, mut at) = end_record(bytes)?;
    let end = at.checked_add(size).filter(|&end| end <= bytes.len());
    let end = end.ok_or(PtProblem::Truncated)?;
    let first = at;
    let mut entries = BTreeMap::new();
    let mut spans = Vec::new();
    for _ in 0..count {
        let central = Central::read(&bytes[..end], at)?;
        at = central.next;
        let data = local_data(&bytes[..first], &central)?;
        spans.push((central.offset, data.end));
        if entries.contains_key(&central.name) {
            return Err(PtProblem::DuplicateEntry { entry: central.name });
        }
        entries.insert(central.name, data);
    }
    if at != end {
        return Err(bad("the directory is longer than its entries"));
    }
    spans.sort_unstable();
    if spans.windows(2).any(|pair| pair[1].0 < pair[0].1) {
        return Err(bad("two entries overlap"));
    }
    Ok(entries)
}

/// Number of entries, length and start of the directory.
fn end_record(bytes: &[u8]) -> Result<(u64, usize, usize), PtProblem> {
    let last = bytes.len().checked_sub(22).ok_or(PtProblem::Truncated)?;
    let lowest = last.saturating_sub(usize::from(u16::MAX));
    // The comment's length has to lead exactly to the end of the file.
    let is_end = |&at: &usize| bytes[at..].starts_with(END) && number(bytes, at + 20, 2) == Ok((last - at) as u64);
    let at = (lowest..=last).rev().find(is_end);
    let at = at.ok_or(PtProblem::Truncated)?;
    let read = |field: usize, len| number(bytes, at + field, len);
    if read(4, 2)? != 0 && read(4, 2)? != 0xffff {
        return Err(bad("it is one part of several"));
    }
    let (mut count, mut size, mut start) = (read(10, 2)?, read(12, 4)?, read(16, 4)?);
    if count == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff {
        let locator = at.checked_sub(20).ok_or(PtProblem::Truncated)?;
        if !bytes[locator..].starts_with(LOCATOR64) {
            return Err(bad("the zip64 record is missing"));
        }
        let record = index(number(bytes, locator + 8, 8)?)?;
        if !tail(bytes, record)?.starts_with(END64) {
            return Err(bad("the zip64 record is missing"));
        }
        count = number(bytes, record + 32, 8)?;
        size = number(bytes, record + 40, 8)?;
        start = number(bytes, record + 48, 8)?;
    }
    Ok((count, index(size)?, index(start)?))
}

/// One entry of the directory.
struct Central {
    name: String,
    offset: usize,
    len: usize,
    /// Offset of the next one.
    next: usize,
}

impl Central {
    fn read(bytes: &[u8], at: usize) -> Result<Self, PtProblem> {
        if !tail(bytes, at)?.starts_with(CENTRAL) {
            return Err(bad("an entry of the directory is missing"));
        }
        let read = |field: usize, len| number(bytes, at + field, len);
        let (flags, method) = (read(8, 2)?, read(10, 2)?);
        let (mut packed, mut len, mut offset) = (read(20, 4)?, read(24, 4)?, read(42, 4)?);
        let name_end = at + 46 + index(read(28, 2)?)?;
        let extra_end = name_end + index(read(30, 2)?)?;
        let next = extra_end + index(read(32, 2)?)?;
        if next > bytes.len() {
            return Err(PtProblem::Truncated);
        }
        let name = checked_name(&bytes[at + 46..name_end])?;
        wide(&bytes[name_end..extra_end], [&mut len, &mut packed, &mut offset])?;
        if flags & 1 != 0 {
            return Err(PtProblem::Encrypted { entry: name });
        }
        if method != 0 {
            return Err(PtProblem::Compressed { entry: name });
        }
        if packed != len {
            return Err(bad("a stored entry has two different lengths"));
        }
        match (usize::try_from(len), usize::try_from(offset)) {
            (Ok(len), Ok(offset)) => Ok(Self { name, offset, len, next }),
            _ => Err(PtProblem::EntryPastEnd { entry: name }),
        }
    }
}

/// Takes 64-bit values from the zip64 extra field for those that do not fit 32 bits, in the format's order.
fn wide(mut extra: &[u8], values: [&mut u64; 3]) -> Result<(), PtProblem> {
    if values.iter().all(|value| **value != 0xffff_ffff) {
        return Ok(());
    }
    while !extra.is_empty() {
        let (id, len) = (number(extra, 0, 2)?, index(number(extra, 2, 2)?)?);
        let field = extra.get(4..4 + len).ok_or(PtProblem::Truncated)?;
        if id == 1 {
            let narrow = values.into_iter().filter(|value| **value == 0xffff_ffff);
            for (i, value) in narrow.enumerate() {
                *value = number(field, 8 * i, 8)?;
            }
            return Ok(());
        }
        extra = &extra[4 + len..];
    }
    Err(bad("the zip64 field of an entry is missing"))
}

/// Range of an entry's contents; `bytes` ends at the start of the directory.
fn local_data(bytes: &[u8], central: &Central) -> Result<Range<usize>, PtProblem> {
    let past_end = || PtProblem::EntryPastEnd { entry: central.name.clone() };
    let header = bytes.get(central.offset..).ok_or_else(past_end)?;
    if !header.starts_with(LOCAL) {
        return Err(bad("the directory points to something that is no entry"));
    }
    let name_end = 30 + index(number(header, 26, 2)?)?;
    let start = name_end + index(number(header, 28, 2)?)?;
    if header.get(30..name_end) != Some(central.name.as_bytes()) {
        return Err(bad("the directory and an entry differ in its name"));
    }
    let start = central.offset + start;
    let end = start.checked_add(central.len);
    let end = end.filter(|&end| end <= bytes.len()).ok_or_else(past_end)?;
    Ok(start..end)
}

/// Refuses names that would leave a folder they were unpacked into. We never unpack; other tools do, and a
/// file with such a name is an attack.
fn checked_name(name: &[u8]) -> Result<String, PtProblem> {
    let lossy = String::from_utf8_lossy(name).into_owned();
    let escapes = lossy.starts_with('/')
        || lossy.as_bytes().get(1) == Some(&b':') // a drive letter
        || lossy.contains(['\\', '\0', char::REPLACEMENT_CHARACTER])
        || lossy.split('/').any(|part| part == "..");
    if escapes || lossy.is_empty() {
        return Err(PtProblem::UnsafeName { entry: lossy });
    }
    Ok(lossy)
}

/// A little-endian number of at most eight bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Result<u64, PtProblem> {
    let end = at.checked_add(len).ok_or(PtProblem::Truncated)?;
    let bytes = bytes.get(at..end).ok_or(PtProblem::Truncated)?;
    Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
}

fn tail(bytes: &[u8], at: usize) -> Result<&[u8], PtProblem> {
    bytes.get(at..).ok_or(PtProblem::Truncated)
}

fn index(n: u64) -> Result<usize, PtProblem> {
    usize::try_from(n).map_err(|_| PtProblem::Truncated)
}

fn bad(reason: &'static str) -> PtProblem {
    PtProblem::BadZip { reason }
}
