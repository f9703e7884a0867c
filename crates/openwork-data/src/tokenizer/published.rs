//! Vocabularies in the format of GPT-2: `vocab.bpe` (or `merges.txt`) and `encoder.json` (or `vocab.json`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::{END_OF_TEXT, SPLIT_REGEX, Tokenizer, TokenizerError};

/// Rule by which a text is split before merges are applied. The two files do not tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitRule {
    /// The rule of the published models, [`SPLIT_REGEX`].
    TinyPython,
    /// The rule of GPT-2.
    Gpt2,
}

impl fmt::Display for SplitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TinyPython => "tinypython",
            Self::Gpt2 => "gpt2",
        })
    }
}

/// A tokenizer made of a published vocabulary.
pub struct Imported {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Its rule.
    pub split: SplitRule,
    /// Tokens of the vocabulary that the rule leaves in one piece, and all that are text. A vocabulary that was learned
    /// under the rule has few others.
    pub whole: (usize, usize),
}

impl Tokenizer {
    /// Imports a published vocabulary. Where no rule is given, it is the one that leaves more of the vocabulary's tokens in
    /// one piece: tokens were merged within pieces.
    ///
    /// # Errors
    /// As [`Tokenizer::load`]; a bad line of the merges is named.
    pub fn import_published(
        vocab_bpe: &Path,
        encoder_json: &Path,
        split: Option<SplitRule>,
    ) -> Result<Imported, TokenizerError> {
        let merges = read_merges(vocab_bpe)?;
        let malformed = |reason: String| TokenizerError::Malformed { path: encoder_json.to_owned(), reason };
        let text = super::read(encoder_json)?;
        let vocab: BTreeMap<String, u32> = openwork_tensor::parse_json(&text)
            .and_then(serde_json::from_value)
            .map_err(|error| malformed(format!("it is no object of ids by token: {error}")))?;
        let rules = split.map_or(vec![SplitRule::TinyPython, SplitRule::Gpt2], |rule| vec![rule]);
        let mut best: Option<Imported> = None;
        for split in rules {
            let json = tokenizer_json(&vocab, &merges, split);
            let tokenizer = Self::from_json(json, encoder_json)?;
            let whole = tokenizer.whole_tokens();
            if best.as_ref().is_none_or(|best| whole.0 > best.whole.0) {
                best = Some(Imported { tokenizer, split, whole });
            }
        }
        Ok(best.expect("there is at least one rule"))
    }

    /// Number of tokens that the pre-tokenizer leaves in one piece, and of all that are text.
    fn whole_tokens(&self) -> (usize, usize) {
        let texts = (0..self.end_of_text()).map(|id| self.decode(&[id])).filter(|text| !text.contains('\u{fffd}'));
        texts.fold((0, 0), |(whole, all), text| (whole + usize::from(self.is_one_piece(&text)), all + 1))
    }

    fn is_one_piece(&self, text: &str) -> bool {
        let mut pieces = PreTokenizedString::from(text);
        let Some(rule) = self.inner.get_pre_tokenizer() else { return true };
        rule.pre_tokenize(&mut pieces).is_ok()
            && pieces.get_splits(OffsetReferential::Original, OffsetType::Byte).len() == 1
    }
}

/// Pairs of a file of merges, in order.
fn read_merges(path: &Path) -> Result<Vec<[String; 2]>, TokenizerError> {
    let text = super::read(path)?;
    let mut merges = Vec::new();
    for (i, line) in
        text.lines().enumerate().filter(|(i, line)| !(line.is_empty() || *i == 0 && line.starts_with("#version")))
    {
        let Some((left, right)) =
            line.split_once(' ').filter(|(l, r)| !l.is_empty() && !r.is_empty() && !r.contains(' '))
        else {
            let reason = format!("line {} is no merge: two tokens with a blank between them", i + 1);
            return Err(TokenizerError::Malformed { path: path.to_owned(), reason });
        };
        merges.push([left.to_owned(), right.to_owned()]);
    }
    Ok(merges)
}

/// The `tokenizer.json` of a vocabulary under a rule.
fn tokenizer_json(vocab: &BTreeMap<String, u32>, merges: &[[String; 2]], split: SplitRule) -> String {
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let pre_tokenizer = match split {
        SplitRule::Gpt2 => byte_level(true),
        SplitRule::TinyPython => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT_REGEX}, "behavior": "Isolated", "invert": false},
            byte_level(false),
        ]}),
    };
    let end = vocab.get(END_OF_TEXT).map(|id| {
        json!({"id": id, "content": END_OF_TEXT, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    });
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": end.into_iter().collect::<Vec<Value>>(),
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": merges},
    });
    serde_json::to_string_pretty(&json).expect("a tree of JSON")
}
