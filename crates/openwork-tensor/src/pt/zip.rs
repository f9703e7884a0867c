//! The directory of a stored (uncompressed) zip file, as `torch.save` writes it; zip64 included.
//!
//! Deliberately narrow: whatever two zip readers could understand differently (duplicate names, overlapping
//! entries, a directory and an entry that differ, trailing bytes) is refused, and so is an entry whose bytes do not have
//! the checksum that the directory records.

use std::collections::BTreeMap;
use std::ops::Range;

use super::PtProblem;
use crate::source::Source;

const END: &[u8] = b"PK\x05\x06";
const END64: &[u8] = b"PK\x06\x06";
const LOCATOR64: &[u8] = b"PK\x06\x07";
const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";

/// Bytes of an end record without its comment, of the zip64 locator before it, and of an entry's header.
const END_LEN: u64 = 22;
const LOCATOR_LEN: u64 = 20;
const LOCAL_LEN: u64 = 30;
/// Bytes that the end record, with a comment of any length, and the locator take at most.
const TAIL_LEN: u64 = END_LEN + u16::MAX as u64 + LOCATOR_LEN;

/// Flag of an entry whose lengths and checksum stand behind its data; those in its header may be 0.
const DESCRIPTOR: u64 = 8;
/// Value of a 32-bit field whose number stands in the zip64 extra field.
const IN_ZIP64: u64 = 0xffff_ffff;

/// Range of each entry's contents.
pub(super) type Directory = BTreeMap<String, Range<u64>>;

/// Reads the directory of a file and compares the checksum of every entry.
pub(super) fn directory(source: &Source) -> Result<Directory, PtProblem> {
    let (count, size, start) = end_record(source)?;
    let end = start.checked_add(size).filter(|&end| end <= source.len());
    let directory = source.bytes(start..end.ok_or(PtProblem::Truncated)?)?;
    let mut entries: BTreeMap<String, (Range<u64>, u64)> = BTreeMap::new();
    let mut spans = Vec::new();
    let mut at = 0;
    for _ in 0..count {
        let central = Central::read(&directory, at)?;
        at = central.next;
        let data = local_data(source, start, &central)?;
        spans.push((central.offset, data.end));
        if entries.contains_key(&central.name) {
            return Err(PtProblem::DuplicateEntry { entry: central.name });
        }
        entries.insert(central.name, (data, central.crc));
    }
    if at != directory.len() {
        return Err(bad("the directory is longer than its entries"));
    }
    spans.sort_unstable();
    if spans.windows(2).any(|pair| pair[1].0 < pair[0].1) {
        return Err(bad("two entries overlap"));
    }
    // PyTorch can be told to leave checksums out; all of them are 0 then.
    if entries.values().any(|(_, crc)| *crc != 0) {
        for (entry, (data, expected)) in &entries {
            let mut hash = crc32fast::Hasher::new();
            source.for_each_part(data.clone(), |part| hash.update(part))?;
            if u64::from(hash.finalize()) != *expected {
                return Err(PtProblem::Checksum { entry: entry.clone() });
            }
        }
    }
    Ok(entries.into_iter().map(|(name, (data, _))| (name, data)).collect())
}

/// Number of entries, length and start of the directory.
fn end_record(source: &Source) -> Result<(u64, u64, u64), PtProblem> {
    // The last record, with a comment of any length behind it and a zip64 locator before it.
    let base = source.len().saturating_sub(TAIL_LEN);
    let bytes = source.bytes(base..source.len())?;
    let last = bytes.len().checked_sub(END_LEN as usize).ok_or(PtProblem::Truncated)?;
    // The comment's length has to lead exactly to the end of the file.
    let is_end =
        |&at: &usize| bytes[at..].starts_with(END) && number(&bytes, at, 20, 2) == Ok(last.abs_diff(at) as u64);
    let at = (0..=last).rev().find(is_end).ok_or(PtProblem::Truncated)?;
    let read = |field, len| number(&bytes, at, field, len);
    if read(4, 2)? != 0 && read(4, 2)? != 0xffff {
        return Err(bad("it is one part of several"));
    }
    let (mut count, mut size, mut start) = (read(10, 2)?, read(12, 4)?, read(16, 4)?);
    if count == 0xffff || size == IN_ZIP64 || start == IN_ZIP64 {
        let locator = at.checked_sub(LOCATOR_LEN as usize).ok_or(PtProblem::Truncated)?;
        if !bytes[locator..].starts_with(LOCATOR64) {
            return Err(bad("the zip64 record is missing"));
        }
        let record = number(&bytes, locator, 8, 8)?;
        let end = record.checked_add(56).filter(|&end| end <= source.len()).ok_or(PtProblem::Truncated)?;
        let record = source.bytes(record..end)?;
        if !record.starts_with(END64) {
            return Err(bad("the zip64 record is missing"));
        }
        (count, size, start) = (number(&record, 0, 32, 8)?, number(&record, 0, 40, 8)?, number(&record, 0, 48, 8)?);
    }
    Ok((count, size, start))
}

/// One entry of the directory.
struct Central {
    name: String,
    flags: u64,
    crc: u64,
    offset: u64,
    len: u64,
    /// Offset of the next one in the directory.
    next: usize,
}

impl Central {
    fn read(bytes: &[u8], at: usize) -> Result<Self, PtProblem> {
        if !bytes.get(at..).ok_or(PtProblem::Truncated)?.starts_with(CENTRAL) {
            return Err(bad("an entry of the directory is missing"));
        }
        let read = |field, len| number(bytes, at, field, len);
        let (flags, method, crc) = (read(8, 2)?, read(10, 2)?, read(16, 4)?);
        let (mut packed, mut len, mut offset) = (read(20, 4)?, read(24, 4)?, read(42, 4)?);
        let mut end = at;
        let mut part = |len: u64| {
            let start = end;
            // At most three 16-bit lengths behind an offset into memory.
            end = start.saturating_add(len as usize);
            bytes.get(start..end).ok_or(PtProblem::Truncated)
        };
        part(46)?;
        let name = checked_name(part(read(28, 2)?)?)?;
        wide(part(read(30, 2)?)?, [&mut len, &mut packed, &mut offset])?;
        part(read(32, 2)?)?;
        if flags & 1 != 0 {
            return Err(PtProblem::Encrypted { entry: name });
        }
        if method != 0 {
            return Err(PtProblem::Compressed { entry: name });
        }
        if packed != len {
            return Err(bad("a stored entry has two different lengths"));
        }
        Ok(Self { name, flags, crc, offset, len, next: end })
    }
}

/// Takes 64-bit values from the zip64 extra field for those that do not fit 32 bits, in the format's order.
fn wide(mut extra: &[u8], values: [&mut u64; 3]) -> Result<(), PtProblem> {
    if values.iter().all(|value| **value != IN_ZIP64) {
        return Ok(());
    }
    while !extra.is_empty() {
        let (id, len) = (number(extra, 0, 0, 2)?, number(extra, 0, 2, 2)?);
        let (field, rest) = extra[4..].split_at_checked(len as usize).ok_or(PtProblem::Truncated)?;
        if id == 1 {
            let mut fields = field.chunks_exact(8);
            for value in values.into_iter().filter(|value| **value == IN_ZIP64) {
                *value = number(fields.next().ok_or(PtProblem::Truncated)?, 0, 0, 8)?;
            }
            return Ok(());
        }
        extra = rest;
    }
    Err(bad("the zip64 field of an entry is missing"))
}

/// Range of an entry's contents, which end before the directory does; its header has to say what the directory says.
fn local_data(source: &Source, directory: u64, central: &Central) -> Result<Range<u64>, PtProblem> {
    let past_end = || PtProblem::EntryPastEnd { entry: central.name.clone() };
    let part = |start: u64, len: u64| {
        let end = start.checked_add(len).filter(|&end| end <= directory).ok_or_else(past_end)?;
        Ok::<_, PtProblem>((source.bytes(start..end)?, end))
    };
    let (header, name_start) = part(central.offset, LOCAL_LEN)?;
    if !header.starts_with(LOCAL) {
        return Err(bad("the directory points to something that is no entry"));
    }
    let read = |field, len| number(&header, 0, field, len);
    let (name, extra_start) = part(name_start, read(26, 2)?)?;
    if name != central.name.as_bytes() {
        return Err(bad("the directory and an entry differ in its name"));
    }
    let (extra, start) = part(extra_start, read(28, 2)?)?;
    let (mut packed, mut len, mut no_offset) = (read(18, 4)?, read(22, 4)?, 0);
    wide(&extra, [&mut len, &mut packed, &mut no_offset])?;
    let behind = central.flags & DESCRIPTOR != 0;
    let same = |found: u64, expected: u64| found == expected || (behind && found == 0);
    let agrees = read(6, 2)? == central.flags
        && read(8, 2)? == 0
        && same(read(14, 4)?, central.crc)
        && same(packed, central.len)
        && same(len, central.len);
    if !agrees {
        return Err(bad("the directory and an entry differ in its flags, method, length or checksum"));
    }
    let end = start.checked_add(central.len);
    let end = end.filter(|&end| end <= directory).ok_or_else(past_end)?;
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

/// The little-endian number of at most eight bytes in the field `field` of the record at `at`.
fn number(bytes: &[u8], at: usize, field: usize, len: usize) -> Result<u64, PtProblem> {
    let bytes = bytes.get(at..).and_then(|record| record.get(field..)?.get(..len)).ok_or(PtProblem::Truncated)?;
    Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
}

fn bad(reason: &'static str) -> PtProblem {
    PtProblem::BadZip { reason }
}
