//! Compressed files: all members of a gzip file, all frames of a zstd file, and nothing beside them.

use std::io::{self, BufRead, BufReader, Chain, Cursor, ErrorKind, Read};
use std::mem;

use flate2::bufread::GzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// The largest window of a zstd frame that is read, as for the `zstd` program: it is memory.
const MAX_ZSTD_WINDOW: u64 = 128 << 20;

const ZSTD_FRAME: u32 = 0xFD2F_B528;
/// Frames whose content is not data, as `pzstd` and seekable writers make them.
const ZSTD_SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;

/// Form in which a file holds its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// As they are.
    None,
    /// Members of gzip (RFC 1952). Zeros after the last one are padding, as `gzip` takes them.
    Gzip,
    /// Frames of Zstandard (RFC 8878), skippable ones among them.
    Zstd,
}

impl Compression {
    /// The compression that the first four bytes of a stream tell.
    pub(super) fn of_magic(magic: &[u8]) -> Self {
        let word = magic.try_into().map_or(0, u32::from_le_bytes);
        match magic {
            [0x1F, 0x8B, ..] => Self::Gzip,
            _ if word == ZSTD_FRAME || ZSTD_SKIPPABLE.contains(&word) => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The bytes that `source` holds. Errors of the reader name the byte of `source` at which the part begins that is
    /// damaged, cut off, or no part of such a file.
    pub(super) fn open(self, source: Box<dyn BufRead + Send>) -> Box<dyn BufRead + Send> {
        let source = Counted { source, position: 0 };
        match self {
            Self::None => source.source,
            Self::Gzip | Self::Zstd => {
                Box::new(BufReader::new(Parts { compression: self, next: Next::Start(source), begin: 0 }))
            }
        }
    }
}

/// Bytes of the parts of a compressed file, one part after the other.
struct Parts {
    compression: Compression,
    next: Next,
    /// Place in the file at which the current part begins.
    begin: u64,
}

enum Next {
    /// The first part.
    Start(Counted),
    /// Another part, or the end.
    Between(Counted),
    Member(GzDecoder<Counted>),
    Frame(Box<Frame>),
    End,
}

/// A frame that is being read. Its header was read before, to see what it asks for.
struct Frame {
    decoder: StreamingDecoder<Chain<Cursor<Vec<u8>>, Counted>, FrameDecoder>,
    produced: u64,
}

impl Read for Parts {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !out.is_empty() {
            match mem::replace(&mut self.next, Next::End) {
                Next::Start(source) => self.next = self.begin_part(source, true)?,
                Next::Between(source) => self.next = self.begin_part(source, false)?,
                Next::Member(mut member) => match member.read(out).map_err(|error| self.damaged(&error))? {
                    0 => self.next = Next::Between(member.into_inner()),
                    n => {
                        self.next = Next::Member(member);
                        return Ok(n);
                    }
                },
                Next::Frame(mut frame) => match frame.decoder.read(out).map_err(|error| self.damaged(&error))? {
                    0 => self.next = Next::Between(self.end_frame(*frame)?),
                    n => {
                        frame.produced += n as u64;
                        self.next = Next::Frame(frame);
                        return Ok(n);
                    }
                },
                Next::End => break,
            }
        }
        Ok(0)
    }
}

impl Parts {
    fn begin_part(&mut self, mut source: Counted, first: bool) -> io::Result<Next> {
        self.begin = source.position;
        if !first && source.fill_buf()?.is_empty() {
            return Ok(Next::End);
        }
        match self.compression {
            Compression::Gzip => self.begin_member(source, first),
            _ => self.begin_frame(source, first),
        }
    }

    fn begin_member(&self, mut source: Counted, first: bool) -> io::Result<Next> {
        match source.fill_buf()?.first() {
            Some(0x1F) => Ok(Next::Member(GzDecoder::new(source))),
            Some(0) if !first => match source.bytes().find(|byte| !matches!(byte, Ok(0))) {
                None => Ok(Next::End),
                Some(Err(error)) => Err(error),
                Some(Ok(_)) => Err(self.foreign()),
            },
            _ => Err(if first { invalid("the file is not gzip".into()) } else { self.foreign() }),
        }
    }

    fn begin_frame(&self, mut source: Counted, first: bool) -> io::Result<Next> {
        let mut magic = [0; 4];
        let whole = source.read_exact(&mut magic).is_ok();
        let word = u32::from_le_bytes(magic);
        if whole && ZSTD_SKIPPABLE.contains(&word) {
            let mut length = [0; 4];
            source.read_exact(&mut length).map_err(|error| self.damaged(&error))?;
            let length = u64::from(u32::from_le_bytes(length));
            if io::copy(&mut source.by_ref().take(length), &mut io::sink())? < length {
                return Err(self.damaged(&ErrorKind::UnexpectedEof.into()));
            }
            return Ok(Next::Between(source));
        }
        if !whole || word != ZSTD_FRAME {
            return Err(if first { invalid("the file is not zstd".into()) } else { self.foreign() });
        }
        let mut header = magic.to_vec();
        let window = zstd_window(&mut source, &mut header).map_err(|error| self.damaged(&error))?;
        if window > MAX_ZSTD_WINDOW {
            return Err(invalid(format!(
                "the zstd frame at byte {} wants a window of {} MiB, and at most {} are read: compress it anew without --long",
                self.begin,
                window >> 20,
                MAX_ZSTD_WINDOW >> 20
            )));
        }
        let decoder = StreamingDecoder::new(Cursor::new(header).chain(source));
        let decoder = decoder
            .map_err(|_| invalid(format!("the zstd frame at byte {} needs a dictionary, or is damaged", self.begin)))?;
        Ok(Next::Frame(Box::new(Frame { decoder, produced: 0 })))
    }

    /// Compares a frame that has been read with its checksum and its length; gives back the rest of the file.
    fn end_frame(&self, frame: Frame) -> io::Result<Counted> {
        let Frame { decoder, produced } = frame;
        let header = &decoder.decoder;
        let checksum = header.get_checksum_from_data();
        let differs = checksum.is_some() && checksum != header.get_calculated_checksum();
        if differs || ![0, produced].contains(&header.content_size()) {
            return Err(invalid(format!(
                "the zstd frame at byte {} is damaged: its checksum or length is another",
                self.begin
            )));
        }
        Ok(decoder.into_inner().into_inner().1)
    }

    /// Error of a part that cannot be read to its end.
    fn damaged(&self, error: &io::Error) -> io::Error {
        let part = if self.compression == Compression::Gzip { "gzip member" } else { "zstd frame" };
        let fault = if cut_off(error) { "cut off" } else { "damaged" };
        invalid(format!("the {part} at byte {} is {fault}", self.begin))
    }

    /// Error of bytes after a part that are no part.
    fn foreign(&self) -> io::Error {
        let name = if self.compression == Compression::Gzip { "gzip" } else { "zstd" };
        invalid(format!("the bytes from byte {} on are not {name}", self.begin))
    }
}

/// True if the error, or what it wraps, is that the file ends too early.
fn cut_off(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::UnexpectedEof) {
            return true;
        }
        // What an `io::Error` wraps is not its source, but its source's parent.
        let wrapped = error.downcast_ref::<io::Error>().and_then(|e| e.get_ref());
        cause = wrapped.map(|e| e as &(dyn std::error::Error + 'static)).or_else(|| error.source());
    }
    false
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}

/// Reads the rest of a frame's header on to `header`; returns the bytes of the window that the frame asks for
/// (RFC 8878, 3.1.1.1).
fn zstd_window(source: &mut impl Read, header: &mut Vec<u8>) -> io::Result<u64> {
    let mut take = |n: usize| -> io::Result<u64> {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes[..n])?;
        header.extend_from_slice(&bytes[..n]);
        Ok(u64::from_le_bytes(bytes))
    };
    let descriptor = take(1)?;
    let single_segment = descriptor & 0x20 != 0;
    let window = if single_segment { 0 } else { take(1)? };
    take([0, 1, 2, 4][(descriptor & 3) as usize])?;
    let content_size_bytes = match descriptor >> 6 {
        0 => usize::from(single_segment),
        n => 1 << n,
    };
    let content_size = take(content_size_bytes)? + if content_size_bytes == 2 { 256 } else { 0 };
    let base = 1_u64 << (10 + (window >> 3));
    Ok(if single_segment { content_size } else { base + base / 8 * (window & 7) })
}

/// A reader that counts what was read.
struct Counted {
    source: Box<dyn BufRead + Send>,
    position: u64,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(out)?;
        self.position += n as u64;
        Ok(n)
    }
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.position += n as u64;
        self.source.consume(n);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &str) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn read(compression: Compression, bytes: &[u8]) -> Result<String, String> {
        let mut text = String::new();
        let mut reader = compression.open(Box::new(Cursor::new(bytes.to_vec())));
        reader.read_to_string(&mut text).map(|_| text).map_err(|error| error.to_string())
    }

    const SKIPPABLE: &[u8] = b"\x53\x2A\x4D\x18\x03\0\0\0abc";

    #[test]
    fn all_members_and_all_frames_are_read() {
        let all = [gzip("one "), gzip(""), gzip("two")].concat();
        assert_eq!(read(Compression::Gzip, &all).unwrap(), "one two");
        assert_eq!(read(Compression::Gzip, &[&all[..], &[0; 700]].concat()).unwrap(), "one two");
        let frames = [SKIPPABLE, &zstd("one "), &zstd(""), SKIPPABLE, &zstd("two"), SKIPPABLE].concat();
        assert_eq!(read(Compression::Zstd, &frames).unwrap(), "one two");
        let long = "0123456789".repeat(100_000);
        assert_eq!(read(Compression::Zstd, &[zstd(&long), zstd(&long)].concat()).unwrap(), long.repeat(2));
    }

    #[test]
    fn bytes_after_the_last_part_are_an_error_with_their_place() {
        for (compression, part, name) in
            [(Compression::Gzip, gzip("one"), "gzip"), (Compression::Zstd, zstd("one"), "zstd")]
        {
            for garbage in [&b"garbage"[..], b"\n", b"\0\0x"] {
                let error = read(compression, &[&part[..], garbage].concat()).unwrap_err();
                assert_eq!(error, format!("the bytes from byte {} on are not {name}", part.len()));
            }
            let whole = [&part[..], &part].concat();
            let error = read(compression, &whole[..whole.len() - 2]).unwrap_err();
            assert!(error.ends_with(&format!("at byte {} is cut off", part.len())), "{error}");
            assert!(read(compression, b"").unwrap_err().contains("is not"));
            assert!(read(compression, b"{\"text\": 1}").unwrap_err().contains("is not"));
        }
        assert!(read(Compression::Zstd, &SKIPPABLE[..9]).unwrap_err().contains("cut off"));
    }

    #[test]
    fn damage_is_found_by_the_checksum() {
        let text = "a text that is long enough to be kept as it is, in part";
        for (compression, mut part) in [(Compression::Gzip, gzip(text)), (Compression::Zstd, zstd(text))] {
            let last = part.len() - 1;
            part[last] ^= 1;
            assert!(read(compression, &part).unwrap_err().contains("is damaged"));
        }
    }

    #[test]
    fn a_frame_that_wants_gigabytes_is_refused() {
        let window = 21 << 3; // 2^31 bytes
        let error = read(Compression::Zstd, &[0x28, 0xB5, 0x2F, 0xFD, 0, window, 1, 0, 0]).unwrap_err();
        assert!(error.contains("a window of 2048 MiB"), "{error}");
    }

    proptest::proptest! {
        /// Whatever is done to a file, it is read or an error.
        #[test]
        fn damaged_files_never_panic(
            damages in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), 0..=255_u8), 1..4),
            cut in proptest::prelude::any::<proptest::sample::Index>(),
        ) {
            let text = "def f(x):\n    return x + 1\n".repeat(40);
            for (compression, part) in [(Compression::Gzip, gzip(&text)), (Compression::Zstd, zstd(&text))] {
                let mut bytes = [&part[..], &part].concat();
                for (place, value) in &damages {
                    let at = place.index(bytes.len());
                    bytes[at] = *value;
                }
                let _ = read(compression, &bytes);
                let _ = read(compression, &bytes[..cut.index(bytes.len())]);
            }
        }
    }

    #[test]
    fn streams_are_known_by_their_first_bytes() {
        assert_eq!(Compression::of_magic(&gzip("")[..4]), Compression::Gzip);
        assert_eq!(Compression::of_magic(&zstd("")[..4]), Compression::Zstd);
        assert_eq!(Compression::of_magic(&SKIPPABLE[..4]), Compression::Zstd);
        for other in [&b"{\"te"[..], b"", b"\x1F"] {
            assert_eq!(Compression::of_magic(other), Compression::None);
        }
    }
}
