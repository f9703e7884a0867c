//! `openwork forward`: a model's answer to a prompt, or one forward (and backward) pass over given tokens, written under
//! published names.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::ArgGroup;
use openwork_model::Ties;
use openwork_project::{Answer, OutputKind, TokenBatch, TokenFileError, answer, check_outputs, named_pass};
use openwork_tensor::quoted_bytes;

use crate::ui::{
    args::{check_count, open_model, tokenizer_of},
    ranges::between,
    show::{count, say, table, token_text},
};

/// Text that `--help` adds.
const NAMES: &str = "\
With --prompt, shown are the tokens that the model finds likeliest to come next, and how well it
foresaw the prompt itself.

With --tokens, written are
  logits          [batch, time, vocab]
  loss            [1], the mean cross-entropy in nats, where FILE has `targets`
  act.HOOK        [batch, time, features], as values pass the hooks of the published code
  grad.PARAMETER  of the loss, for trained parameters under their published names

Where AbsTopK meets equal magnitudes --tokens chooses as PyTorch does, so that gradients agree
with the original implementation. --prompt and all other commands choose by index.";

/// Arguments of the command.
#[derive(clap::Args)]
#[command(after_help = NAMES, group(ArgGroup::new("input").required(true).args(["tokens", "prompt"])))]
pub struct Args {
    /// A model file, a finished run's folder or a published folder
    model: PathBuf,
    /// A text to go on from; an empty one begins a document
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Number of likeliest tokens to show
    #[arg(long, default_value_t = 10, requires = "prompt", conflicts_with = "tokens", value_parser = between::<usize>(1, 1 << 16))]
    top: usize,
    /// Write one line of JSON
    #[arg(long, requires = "prompt", conflicts_with = "tokens")]
    json: bool,
    /// The tokenizer [default: tokenizer.json beside the model]
    #[arg(long, requires = "prompt", conflicts_with = "tokens")]
    tokenizer: Option<PathBuf>,
    /// A safetensors file with `tokens` (and `targets`), [batch, time], I64, I32 or U16
    #[arg(long, value_name = "FILE", requires = "out", conflicts_with = "prompt")]
    tokens: Option<PathBuf>,
    /// The safetensors file to write
    #[arg(long, requires = "tokens", conflicts_with = "prompt")]
    out: Option<PathBuf>,
    /// Also write activations
    #[arg(long, requires = "tokens", conflicts_with = "prompt")]
    activations: bool,
    /// Also write gradients of the loss against `targets`
    #[arg(long, requires = "tokens", conflicts_with = "prompt")]
    gradients: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    match (&args.prompt, &args.tokens, &args.out) {
        (Some(prompt), ..) => show_answer(&args, prompt)?,
        (None, Some(tokens), Some(out)) => write_pass(&args, tokens.clone(), out.clone())?,
        _ => unreachable!("the parser asks for a prompt, or for tokens and a file to write"),
    }
    Ok(ExitCode::SUCCESS)
}

/// A next token in JSON.
#[derive(serde::Serialize)]
struct JsonToken {
    id: u16,
    token: String,
    probability: f64,
    logit: f32,
}

/// One line of JSON.
#[derive(serde::Serialize)]
struct JsonAnswer<'a> {
    prompt: &'a str,
    ids: &'a [u16],
    unseen: usize,
    loss_nats: Option<f64>,
    probabilities: &'a [f64],
    next: Vec<JsonToken>,
}

fn show_answer(args: &Args, prompt: &str) -> Result<()> {
    let open = open_model(&args.model)?;
    let tokenizer = tokenizer_of(&open, args.tokenizer.as_deref())?;
    check_count("--top", args.top, &tokenizer)?;
    let found = answer(&open.model, &tokenizer, prompt, args.top)?;
    let piece = |id: u16| quoted_bytes(&tokenizer.bytes(id));
    if found.unseen > 0 {
        eprintln!(
            "note: the first {} of {} tokens are beyond the model's context and were not seen",
            found.unseen,
            found.tokens.len()
        );
    }
    if args.json {
        let next = found.next.iter();
        let next = next.map(|n| JsonToken {
            id: n.token,
            token: token_text(&tokenizer.bytes(n.token)),
            probability: n.probability,
            logit: n.logit,
        });
        let loss_nats = found.loss_nats();
        let Answer { tokens: ids, unseen, probabilities, .. } = &found;
        let line = JsonAnswer { prompt, ids, unseen: *unseen, loss_nats, probabilities, next: next.collect() };
        say!("{}", serde_json::to_string(&line)?);
        return Ok(());
    }
    let loss = found.loss_nats().map_or(String::new(), |loss| format!(", {loss:.3} nats per token"));
    say!("prompt: {} tokens{loss}", count(found.tokens.len() as u64));
    let row = |i: usize, id: u16| {
        let foreseen = i.checked_sub(found.unseen + 1).map_or("-".into(), |i| format!("{:.4}", found.probabilities[i]));
        [piece(id), i.to_string(), id.to_string(), foreseen]
    };
    let rows: Vec<_> = found.tokens.iter().enumerate().skip(found.unseen).map(|(i, &id)| row(i, id)).collect();
    table(["token", "position", "id", "foreseen with"], &rows)?;
    say!("\nnext:");
    let rows: Vec<_> = found
        .next
        .iter()
        .map(|n| [piece(n.token), n.token.to_string(), format!("{:.4}", n.probability), format!("{:.3}", n.logit)])
        .collect();
    table(["token", "id", "probability", "logit"], &rows)
}

fn write_pass(args: &Args, tokens: PathBuf, out: PathBuf) -> Result<()> {
    check_outputs(&[(OutputKind::Tensors, &out)], &[&tokens, &args.model])?;
    let mut model = open_model(&args.model)?.model;
    model.ties = Ties::AsPyTorch;
    let batch = TokenBatch::read(&tokens, &model)?;
    if args.gradients && !batch.has_targets() {
        return Err(TokenFileError::NoTargets { path: tokens }.into());
    }
    let tensors = named_pass(&model, &batch, args.activations, args.gradients)?;
    openwork_tensor::write(&out, &tensors, &BTreeMap::new())?;
    say!("{}: {} tensors", out.display(), count(tensors.len() as u64));
    Ok(())
}
