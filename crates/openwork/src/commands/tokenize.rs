//! `openwork tokenize`: the tokens of texts, with their ids and positions.

use std::{
    io::Cursor,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use openwork_project::{FoundTokenizer, LineFormat, PromptLine, PromptLines, find_tokenizer};
use openwork_tensor::quoted_bytes;

use crate::ui::show::{count, say, table, token_text};

/// Text that `--help` adds.
const INPUT: &str = "\
INPUT is read as `openwork watch` reads prompts: `-` is standard input and the name of a file that is there is that file,
one prompt per line; anything else is the prompt itself. Special tokens in a prompt are text, as in training.

Exit code 0: every line is a prompt; 1: some are not.";

/// Arguments of the command.
#[derive(clap::Args)]
#[command(after_help = INPUT)]
pub struct Args {
    /// A tokenizer.json, a folder with one, or a model
    tokenizer_of: PathBuf,
    /// A text, a file of prompts, or - for standard input
    input: String,
    /// INPUT is a text, though a file has that name
    #[arg(long, conflicts_with = "jsonl")]
    text: bool,
    /// Lines are JSON: texts, or objects with a text `prompt` (so prompts can be of several lines)
    #[arg(long)]
    jsonl: bool,
    /// Write one line of JSON for every prompt
    #[arg(long)]
    json: bool,
    /// The tokenizer of the model [default: tokenizer.json beside the model]
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

/// One line of JSON.
#[derive(serde::Serialize)]
struct JsonLine<'a> {
    line: usize,
    prompt: &'a str,
    ids: &'a [u16],
    pieces: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let FoundTokenizer { tokenizer, n_ctx } = find_tokenizer(&args.tokenizer_of, args.tokenizer.as_deref())?;
    let mut lines = prompts(&args)?;
    let (mut seen, mut bad) = (0_u64, 0_u64);
    for line in lines.by_ref() {
        let PromptLine { number, prompt } = match line? {
            Ok(line) => line,
            Err(fault) => {
                eprintln!("{fault}");
                bad += 1;
                continue;
            }
        };
        let ids = tokenizer.encode(&prompt);
        if args.json {
            let pieces = ids.iter().map(|&id| token_text(&tokenizer.bytes(id))).collect();
            say!("{}", serde_json::to_string(&JsonLine { line: number, prompt: &prompt, ids: &ids, pieces })?);
        } else {
            if seen > 0 {
                say!();
            }
            say!("line {number}: {} tokens", count(ids.len() as u64));
            let pieces: Vec<String> = ids.iter().map(|&id| quoted_bytes(&tokenizer.bytes(id))).collect();
            let row = |(i, piece): (usize, String)| [i.to_string(), ids[i].to_string(), piece];
            table(["position", "id", "token"], &pieces.into_iter().enumerate().map(row).collect::<Vec<_>>())?;
        }
        if let Some(unseen) = n_ctx.and_then(|n_ctx| ids.len().checked_sub(n_ctx)).filter(|&unseen| unseen > 0) {
            eprintln!("line {number}: the model sees the last tokens only; the first {unseen} are beyond its context");
        }
        seen += 1;
    }
    if bad > 0 || lines.blank() > 0 {
        eprintln!("{} prompts, {} bad lines, {} blank lines", count(seen), count(bad), count(lines.blank() as u64));
    }
    Ok(ExitCode::from(u8::from(bad > 0)))
}

/// The prompts that INPUT names.
fn prompts(args: &Args) -> Result<PromptLines> {
    let format = if args.jsonl { LineFormat::Json } else { LineFormat::Text };
    let path = Path::new(&args.input);
    if !args.text && (args.input == "-" || path.is_file()) {
        if args.input != "-" {
            eprintln!("reading the file {} (--text takes the name for a text)", path.display());
        }
        return Ok(PromptLines::open(path, format)?);
    }
    // One prompt, whatever it holds.
    let line = if args.jsonl { args.input.clone() } else { serde_json::to_string(&args.input)? };
    Ok(PromptLines::new(Cursor::new(line.into_bytes()), "INPUT".into(), LineFormat::Json))
}
