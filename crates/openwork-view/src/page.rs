//! The page: one document with its script, its style sheet and, where it is exported, its data.

use std::fmt::Write as _;

use openwork_project::PAGE_MARK;
use sha2::{Digest, Sha256};

use crate::{CSS, JS};

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 of bytes, padded (RFC 4648, §4).
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_u32, |group, i| group << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let digit = BASE64[(group >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Policy under which the page runs: its own script and style sheet by their hashes, and nothing from elsewhere (its empty icon is a `data:` address); `live` also lets it ask
/// the server that it came from.
pub fn content_security_policy(live: bool) -> String {
    let hash = |text: &str| format!("'sha256-{}'", base64(&Sha256::digest(text.as_bytes())));
    let connect = if live { "'self'" } else { "'none'" };
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src {connect}; img-src data:; base-uri 'none'; form-action 'none'",
        hash(JS),
        hash(CSS)
    )
}

/// The page as HTML. `data` is JSON with the answers that an exported page holds; without it the page asks its server.
pub fn page(data: Option<&str>) -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>{PAGE_MARK}\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"referrer\" content=\"no-referrer\"/><link rel=\"icon\" href=\"data:,\"/><title>Openwork</title>\
         <style>{CSS}</style></head><body><div id=\"app\"><noscript>This page needs its script.</noscript></div>",
        content_security_policy(data.is_none()),
    );
    if let Some(data) = data {
        let _ = write!(out, "<script type=\"application/json\" id=\"data\">{}</script>", contained(data));
    }
    let _ = writeln!(out, "<script>{JS}</script></body></html>");
    out
}

/// JSON whose text cannot end the element that it stands in, nor begin a comment there: every `<` is an escape. A `<` of JSON
/// stands in strings alone.
fn contained(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, §10.
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (text, expected) in cases {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn data_cannot_leave_their_element() {
        let hostile = serde_json::to_string("</script><script>alert(1)</script><!--<script").unwrap();
        let html = page(Some(&hostile));
        let data = html.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
        assert_eq!(serde_json::from_str::<String>(data).unwrap(), "</script><script>alert(1)</script><!--<script");
        assert!(!data.contains('<'));
    }

    #[test]
    fn script_and_style_sheet_end_nowhere_within() {
        // Either would end its element early, and the hash would no longer be that of what runs.
        assert!(!JS.to_lowercase().contains("</script") && !JS.contains("<!--"));
        assert!(!CSS.to_lowercase().contains("</style"));
    }
}
