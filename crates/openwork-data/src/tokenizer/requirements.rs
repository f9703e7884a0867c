//! Requirements on a tokenizer: every text comes back, and has the same ids every time.
//!
//! A tokenizer that loses text, or that draws lots, is refused by the property that makes it so. [`check_parts`] knows the
//! parts of a `tokenizer.json` that keep all text and refuses others by name; [`check_ids`] and [`check_texts`] then hold
//! the tokenizer as it was parsed to its promise, on texts that are hard to keep.

use serde_json::Value;

use super::{END_OF_TEXT, Tokenizer, byte_symbol};

/// Property that makes a tokenizer useless here.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// Texts are cut at a length.
    #[error("it cuts texts (`truncation` is set); set it to null")]
    Truncation,
    /// Tokens are added up to a length.
    #[error("it adds tokens (`padding` is set); set it to null")]
    Padding,
    /// Merges are left out at random.
    #[error("it draws lots, so that a text has other ids every time (`model.dropout` is {0}); set it to null")]
    Dropout(f64),
    /// The model is of another kind.
    #[error("its model is {0}; only byte-level BPE keeps every text")]
    Model(String),
    /// A normalizer changes text.
    #[error("its normalizer {0} changes the text; set `normalizer` to null")]
    Normalizer(String),
    /// A pre-tokenizer changes text, or is not known to keep it.
    #[error("its pre-tokenizer {0}; ByteLevel, Split, Digits, Punctuation and UnicodeScripts keep it")]
    PreTokenizer(String),
    /// No decoder, or one that is not the inverse of the byte table.
    #[error(
        "its decoder is {0}, so that tokens do not give the text back; set `decoder` to {{\"type\": \"ByteLevel\", ..}}"
    )]
    Decoder(String),
    /// A token takes the blanks beside it.
    #[error("its added token `{token}` takes the blanks beside it (`{property}`); set `{property}` to false")]
    AddedToken {
        /// The token.
        token: String,
        /// `lstrip` or `rstrip`.
        property: &'static str,
    },
    /// The ids have a gap.
    #[error("no token has id {id}, of {vocab_size} tokens; ids have to run from 0 without a gap")]
    Gap {
        /// The id.
        id: u32,
        /// Number of tokens.
        vocab_size: usize,
    },
    /// An added token gets another id than the file says.
    #[error("its added token `{token}` cannot have id {id}, which is taken or leaves a gap; correct `added_tokens`")]
    AddedTokenId {
        /// The token.
        token: String,
        /// Its id in the file.
        id: u64,
    },
    /// An id does not fit in 16 bits.
    #[error("its token `{token}` has id {id}; ids have to run from 0 to 65535 at most")]
    LargeId {
        /// The token.
        token: String,
        /// The id.
        id: u64,
    },
    /// There is no token for the end of a document.
    #[error("it has no token {END_OF_TEXT}; add it with the last id, as `tokenizer train` does")]
    NoEndOfText,
    /// The end of a document has another id than the last.
    #[error("{END_OF_TEXT} has id {found}, not the last one ({last})")]
    EndOfTextNotLast {
        /// Its id.
        found: u32,
        /// The last id.
        last: u32,
    },
    /// The end of a document, written in a text, would end the document.
    #[error("{END_OF_TEXT} in a text becomes the end of a document; mark it as special in `added_tokens`")]
    EndOfTextInText,
    /// A byte cannot be encoded.
    #[error("byte {0} is not in its vocabulary; byte-level BPE has all 256")]
    NoByte(u8),
    /// A text does not come back.
    #[error("it loses text: {} comes back as {}", shown(text), shown(back))]
    Lossy {
        /// The text.
        text: String,
        /// Decoded ids of it.
        back: String,
    },
    /// A text has other ids the second time.
    #[error("{} has other ids the second time", shown(text))]
    Unstable {
        /// The text.
        text: String,
    },
    /// The library under this module failed at it.
    #[error("the tokenizer library fails at it: {0}; make the file anew (`tokenizer train`, or Python's tokenizers)")]
    Panic(String),
}

/// The beginning of a text, with everything escaped that cannot be seen.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(40).flat_map(char::escape_default).collect();
    let more = if text.chars().nth(40).is_some() { ".." } else { "" };
    format!("`{start}`{more}")
}

/// Refuses parts of a `tokenizer.json` that change text, or are not known to keep it.
pub(super) fn check_parts(json: &Value) -> Result<(), Unusable> {
    if !json["truncation"].is_null() {
        return Err(Unusable::Truncation);
    }
    if !json["padding"].is_null() {
        return Err(Unusable::Padding);
    }
    let model = &json["model"];
    if model.get("type").is_some_and(|kind| kind != "BPE") {
        return Err(Unusable::Model(kind(model)));
    }
    if let Some(dropout) = model["dropout"].as_f64().filter(|&share| share != 0.0) {
        return Err(Unusable::Dropout(dropout));
    }
    for part in parts(&json["normalizer"], "normalizers") {
        if part["type"] != "ByteLevel" {
            return Err(Unusable::Normalizer(kind(part)));
        }
    }
    parts(&json["pre_tokenizer"], "pretokenizers").into_iter().try_for_each(check_pre_tokenizer)?;
    check_decoder(&json["decoder"])?;
    check_ids_fit(json)?;
    json["added_tokens"].as_array().into_iter().flatten().try_for_each(check_added_token)
}

/// Refuses ids of more than 16 bits before the library sees them: it makes room for the largest.
fn check_ids_fit(json: &Value) -> Result<(), Unusable> {
    let own = json["model"]["vocab"].as_object().into_iter().flatten().map(|(token, id)| (token.as_str(), id));
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let added = added.map(|token| (token["content"].as_str().unwrap_or_default(), &token["id"]));
    let mut ids = own.chain(added).filter_map(|(token, id)| Some((token, id.as_u64()?)));
    match ids.find(|&(_, id)| id > u64::from(u16::MAX)) {
        Some((token, id)) => Err(Unusable::LargeId { token: token.to_owned(), id }),
        None => Ok(()),
    }
}

fn check_pre_tokenizer(part: &Value) -> Result<(), Unusable> {
    let fault = match part["type"].as_str() {
        Some("ByteLevel") if part["add_prefix_space"] == true => "adds a blank to the text (`add_prefix_space`)",
        Some("Split" | "Punctuation") if part["behavior"] == "Removed" => "drops what it splits at (`Removed`)",
        Some("ByteLevel" | "Split" | "Digits" | "Punctuation" | "UnicodeScripts") => return Ok(()),
        _ => "is not known to keep the text",
    };
    Err(Unusable::PreTokenizer(format!("{} {fault}", kind(part))))
}

fn check_decoder(decoder: &Value) -> Result<(), Unusable> {
    let parts = parts(decoder, "decoders");
    if let Some(other) = parts.iter().find(|part| part["type"] != "ByteLevel" && part["type"] != "Fuse") {
        return Err(Unusable::Decoder(kind(other)));
    }
    match parts.iter().any(|part| part["type"] == "ByteLevel") {
        true => Ok(()),
        false => Err(Unusable::Decoder("missing".into())),
    }
}

fn check_added_token(token: &Value) -> Result<(), Unusable> {
    // Special tokens are not looked for in texts.
    let taken = ["lstrip", "rstrip"].into_iter().find(|&property| token["special"] != true && token[property] == true);
    let name = || token["content"].as_str().unwrap_or_default().to_owned();
    taken.map_or(Ok(()), |property| Err(Unusable::AddedToken { token: name(), property }))
}

/// A part, or the parts of a sequence of parts; none where there is nothing.
fn parts<'a>(part: &'a Value, key: &str) -> Vec<&'a Value> {
    match part {
        Value::Null => Vec::new(),
        sequence if sequence["type"] == "Sequence" => {
            sequence[key].as_array().into_iter().flatten().flat_map(|inner| parts(inner, key)).collect()
        }
        single => vec![single],
    }
}

fn kind(part: &Value) -> String {
    part["type"].as_str().unwrap_or("of no type").to_owned()
}

/// Checks the ids: as the file says, without gaps, all bytes, end-of-text last.
pub(super) fn check_ids(inner: &tokenizers::Tokenizer, json: &Value, vocab_size: usize) -> Result<(), Unusable> {
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let (content, id) = (token["content"].as_str().unwrap_or_default(), token["id"].as_u64().unwrap_or_default());
        if inner.token_to_id(content).map(u64::from) != Some(id) {
            return Err(Unusable::AddedTokenId { token: content.to_owned(), id });
        }
    }
    if let Some(id) = (0..vocab_size as u32).find(|&id| inner.id_to_token(id).is_none()) {
        return Err(Unusable::Gap { id, vocab_size });
    }
    let found = inner.token_to_id(END_OF_TEXT).ok_or(Unusable::NoEndOfText)?;
    let last = vocab_size as u32 - 1;
    if found != last {
        return Err(Unusable::EndOfTextNotLast { found, last });
    }
    match (0..=255).find(|&byte| inner.token_to_id(&byte_symbol(byte).to_string()).is_none()) {
        Some(byte) => Err(Unusable::NoByte(byte)),
        None => Ok(()),
    }
}

/// Encodes hard texts twice and decodes them: blanks, line ends, every byte of UTF-8, marks that combine, long runs, and
/// every added token as part of a text.
pub(super) fn check_texts(tokenizer: &Tokenizer) -> Result<(), Unusable> {
    for text in hard_texts(&tokenizer.inner) {
        let ids = tokenizer.encode(&text);
        if tokenizer.encode(&text) != ids {
            return Err(Unusable::Unstable { text });
        }
        if ids.contains(&tokenizer.end_of_text()) {
            return Err(Unusable::EndOfTextInText);
        }
        let back = tokenizer.decode(&ids);
        if back != text {
            return Err(Unusable::Lossy { text, back });
        }
    }
    Ok(())
}

fn hard_texts(inner: &tokenizers::Tokenizer) -> Vec<String> {
    const TEXTS: [&str; 22] = [
        "",
        " ",
        "a",
        "  a  ",
        "\ta\t\tb\n",
        "\n",
        "\r\n",
        "a\r\nb\rc\n\n\nd",
        "   \n  x = 1  \n",
        "if A:\n    Return(\"Ab\", 'c')\n",
        "don't we'll I'M",
        "0 12 345 6789 12345678901234567890",
        "?!.,;:()[]{}<>@#$%^&*-_=+|\\/~`\"'",
        "caf\u{e9} cafe\u{301} \u{c5} A\u{30a} \u{212b} \u{fb01} \u{2460} \u{130} \u{df} \u{1e9e}",
        "\u{65e5}\u{672c}\u{8a9e} \u{431}\u{443}\u{43a}\u{432}\u{44b} \u{627}\u{644}\u{639} \u{e01}\u{e33}",
        "\u{1f600} \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{1f1e9}\u{1f1ea} \u{270a}\u{1f3fd}",
        "\u{a0}\u{2003}\u{2028}\u{2029}\u{3000}\u{200b}\u{feff}x\u{ad}",
        "\0a\0\u{1}\u{7f}\u{80}\u{fffd}\u{10ffff}",
        "\u{120}\u{10a} \u{2581}a \u{2581} ##b </w> @@",
        "<unk> <s> </s> <pad> <mask> [CLS] [SEP] [UNK] <|im_start|>",
        "<0x0A><0x20>\\n\\t",
        "x\u{301}\u{302}\u{303}\u{304}",
    ];
    let two_bytes = (0..0x800).filter_map(char::from_u32).collect();
    // A character with each of the first bytes of three and four.
    let leads = (0..16).map(|lead| lead << 12 | 0xABC).chain((1..17).map(|lead| lead << 16 | 0x1F9A5));
    let more_bytes: String = leads.filter_map(char::from_u32).collect();
    let runs = [" ", "a", "\n", "\t", "=", "ab", "\u{e9}"].map(|piece| piece.repeat(200));
    let mut added: Vec<String> = inner.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
    added.push(END_OF_TEXT.to_owned());
    added.sort();
    let within =
        added.iter().flat_map(|t| [t.clone(), format!("x  {t}  y"), format!(" {t}\n{t}{t} "), format!("a{t}b")]);
    TEXTS.map(str::to_owned).into_iter().chain([two_bytes, more_bytes]).chain(runs).chain(within).collect()
}
