//! Text files as editors and shells leave them: UTF-8, with or without a byte order mark.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// U+FEFF in UTF-8, which some programs put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Most bytes of a text file that is read as a whole: a device or a pipe may have no end.
const MOST_TEXT: u64 = 1 << 30;

/// Reads a text file; a byte order mark at its start is left out.
///
/// # Errors
/// The file cannot be read, is longer than 1 GiB, or is not UTF-8: the error names the line, or says that it is UTF-16.
pub fn read_text(path: &Path) -> io::Result<String> {
    read_text_up_to(path, MOST_TEXT)
}

fn read_text_up_to(path: &Path, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(
            ErrorKind::InvalidData,
            format!("it is longer than {most} bytes, the most that is read as one text"),
        )),
        false => text(&bytes),
    }
}

/// `bytes` as text; a byte order mark at the start is left out.
///
/// # Errors
/// The bytes are not UTF-8: the error names the line, or says that they are UTF-16.
pub fn text(bytes: &[u8]) -> io::Result<String> {
    let invalid = |reason: String| io::Error::new(ErrorKind::InvalidData, reason);
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err(invalid("the text is UTF-16; save it as UTF-8".into()));
    }
    let bytes = without_bom(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let line = 1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count();
        invalid(format!("the text is not UTF-8 (byte {:02X} in line {line}); save it as UTF-8", bytes[at]))
    })?;
    Ok(text.to_owned())
}

/// `bytes` after the byte order mark, if they begin with one.
#[must_use]
pub fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// A text in quotes, on one line: line ends, tabs and what cannot be seen are escaped.
#[must_use]
pub fn quoted(text: &str) -> String {
    quoted_bytes(text.as_bytes())
}

/// Texts as [`quoted`], in brackets.
#[must_use]
pub fn quoted_list(texts: &[impl AsRef<str>]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text.as_ref())).collect::<Vec<_>>().join(", "))
}

/// Bytes as text in quotes, as [`quoted`]; those that are not UTF-8 are `\xE9`.
#[must_use]
pub fn quoted_bytes(bytes: &[u8]) -> String {
    let mut shown = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => shown.push('"'),
                '\'' => shown.push('\''),
                c => shown.extend(c.escape_debug()),
            }
        }
        chunk.invalid().iter().for_each(|byte| shown.push_str(&format!("\\x{byte:02X}")));
    }
    shown + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_text_up_to(&path, 5).unwrap(), "12345");
        assert!(read_text_up_to(&path, 4).unwrap_err().to_string().contains("longer than 4 bytes"));
    }

    #[test]
    fn quoted_texts_are_on_one_line_and_say_what_cannot_be_seen() {
        assert_eq!(quoted("(\"a'\n\té\\\0"), "\"(\"a'\\n\\té\\\\\\0\"");
        assert_eq!(quoted_bytes(b"a\xC3"), "\"a\\xC3\"");
        assert_eq!(quoted_list(&["(\"", "b"]), "[\"(\"\", \"b\"]");
    }

    #[test]
    fn one_byte_order_mark_is_left_out() {
        assert_eq!(text(b"\xEF\xBB\xBFa\r\n").unwrap(), "a\r\n");
        assert_eq!(text(b"\xEF\xBB\xBF\xEF\xBB\xBFa").unwrap(), "\u{feff}a");
        assert_eq!(text("é".as_bytes()).unwrap(), "é");
        assert_eq!(text(b"").unwrap(), "");
    }

    #[test]
    fn other_encodings_are_named_with_the_line() {
        assert_eq!(
            text(b"a\nb\nc\xE9").unwrap_err().to_string(),
            "the text is not UTF-8 (byte E9 in line 3); save it as UTF-8"
        );
        for utf16 in [b"\xFF\xFEa\0", b"\xFE\xFF\0a"] {
            assert!(text(utf16).unwrap_err().to_string().contains("UTF-16"));
        }
    }
}
