//! `openwork generate`: text from a model.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use openwork_model::Sampling;

use crate::ui::{
    args::{check_count, open_model, tokenizer_of},
    ranges::{between, not_negative, seed},
    show::say,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// A model file, a finished run's folder or a published folder
    model: PathBuf,
    /// Text to continue; an empty one begins a document
    #[arg(long, allow_hyphen_values = true)]
    prompt: String,
    /// Tokens to add at most; an end of text ends earlier
    #[arg(long, default_value_t = 100, value_parser = between::<usize>(0, 1 << 20))]
    tokens: usize,
    /// Temperature of the draws; 0 takes the most likely token
    #[arg(long, default_value_t = 0.8, value_parser = not_negative::<f32>())]
    temperature: f32,
    /// Draw among the K most likely tokens only; 0 means all
    #[arg(long, default_value_t = 0, value_parser = not_negative::<usize>())]
    top_k: usize,
    /// Seed of the draws
    #[arg(long, default_value_t = 0, value_parser = seed)]
    seed: u64,
    /// The tokenizer [default: tokenizer.json beside the model]
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

/// Runs the command: prints the prompt and what follows.
pub fn run(args: Args) -> Result<ExitCode> {
    let open = open_model(&args.model)?;
    let tokenizer = tokenizer_of(&open, args.tokenizer.as_deref())?;
    check_count("--top-k", args.top_k, &tokenizer)?;
    let end = tokenizer.end_of_text();
    let mut prompt = tokenizer.encode(&args.prompt);
    if prompt.is_empty() {
        prompt.push(end); // what stands before every document
    }
    let unseen = prompt.len().saturating_sub(open.model.config.n_ctx);
    if unseen > 0 {
        eprintln!(
            "note: the first {unseen} of {} tokens are beyond the model's context and are not seen",
            prompt.len()
        );
    }
    let sampling =
        Sampling { temperature: args.temperature, top_k: args.top_k, tokens: tokenizer.vocab_size(), seed: args.seed };
    let mut text = tokenizer.encode(&args.prompt);
    text.extend(open.model.generate(&prompt, args.tokens, Some(end), sampling)?);
    text.pop_if(|last| *last == end);
    // Together, since a character may begin in one token and end in the next.
    say!("{}", tokenizer.decode(&text));
    Ok(ExitCode::SUCCESS)
}
