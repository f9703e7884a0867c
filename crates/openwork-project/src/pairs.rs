//! File of the pairs that a verdict was made on, so that anybody can recompute its numbers.

use std::{io::Write, path::Path};

use openwork_tasks::{Pair, Splits};
use serde::Serialize;

use crate::VerdictError;

const FORMAT: &str = "openwork-pairs 1";

#[derive(Serialize)]
struct Json<'a> {
    format: &'static str,
    task: &'a str,
    tokenizer_sha256: &'a str,
    selection: Vec<JsonPair<'a>>,
    held_out: Vec<JsonPair<'a>>,
    held_out_templates: Vec<JsonPair<'a>>,
    lengths: Vec<JsonPair<'a>>,
}

/// Tokens of both prompts, and the tokens that are right after the positive and after the negative one.
#[derive(Serialize)]
struct JsonPair<'a> {
    positive: &'a [u16],
    negative: &'a [u16],
    answer: u16,
    alternative: u16,
    template: usize,
}

fn pairs(pairs: &[Pair]) -> Vec<JsonPair<'_>> {
    let json = pairs.iter().map(|p| JsonPair {
        positive: &p.positive,
        negative: &p.negative,
        answer: p.answer,
        alternative: p.alternative,
        template: p.template,
    });
    json.collect()
}

/// The pairs that a verdict was made on, as JSON.
pub(crate) fn pairs_json(task: &str, tokenizer_sha256: &str, splits: &Splits) -> String {
    let json = Json {
        format: FORMAT,
        task,
        tokenizer_sha256,
        selection: pairs(&splits.selection),
        held_out: pairs(&splits.held_out),
        held_out_templates: pairs(&splits.held_out_templates),
        lengths: pairs(&splits.lengths),
    };
    serde_json::to_string(&json).expect("plain values") + "\n"
}

/// Writes a text, atomically.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), VerdictError> {
    openwork_tensor::write_atomic(path, |w| w.write_all(text.as_bytes()))
        .map_err(|source| VerdictError::Write { path: path.to_owned(), source })
}
