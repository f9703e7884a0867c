//! `openwork replay`: run the counter-example of a verdict again.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use openwork_project::{VerdictFile, replay_verdict};
use openwork_tensor::quoted;

use crate::ui::{
    args::{ProjectArgs, note_if_stale},
    show::{say, table},
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Report that `openwork verify` wrote on a circuit that it refuted
    verdict: PathBuf,
}

/// Runs the command. Exit code 0: model and run part as the report says; 1: they do not.
pub fn run(args: Args) -> Result<ExitCode> {
    let project = args.project.open()?;
    let file = VerdictFile::read(&args.verdict)?;
    note_if_stale(&project, &args.verdict, &file);
    let replayed = replay_verdict(&project, &file).with_context(|| args.verdict.display().to_string())?;
    let example = replayed.example;
    say!("refuted by {}: {} ({} ablation)", example.check, example.intervention.what, example.intervention.scheme);
    let text = |tokens: &[u16]| project.tokenizer.decode(tokens);
    let token = |t: u16| quoted(&text(&[t]));
    let (answer, alternative) = example.candidates;
    say!("logit of {} above {}:", token(answer), token(alternative));
    let number = |x: f64| format!("{x:+.3}");
    let row = |i: usize| {
        let told = [example.model[i], example.run[i]].map(number).join(" / ");
        [quoted(&text(&example.prompts[i])), number(replayed.model[i]), number(replayed.run[i]), told]
    };
    table(["prompt", "model", "run", "report: model / run"], &[row(0), row(1)])?;
    let partly = &example.intervention.partly;
    if !partly.is_empty() {
        say!("{} nodes are kept in part", partly.len());
    }
    let agrees = replayed.agrees();
    say!("{}", if agrees { "as the report says" } else { "not as the report says" });
    Ok(ExitCode::from(u8::from(!agrees)))
}
