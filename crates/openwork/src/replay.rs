//! `openwork replay`: run the counter-example of a verdict again.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, anyhow, ensure};
use openwork_verify::Verdict;

use crate::{
    prune::Subject,
    show::{say, table},
    verify::VerdictFile,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Model file or folder of a finished run
    model: PathBuf,
    /// Report that `openwork verify` wrote on a circuit that it refuted
    verdict: PathBuf,
    /// Data the model was trained on; needed once if the model has no sample of it beside it
    #[arg(long)]
    data: Option<PathBuf>,
    /// The model's tokenizer [default: tokenizer.json beside the model]
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

/// Differences of logits that are the same run on the same machine; another one rounds differently.
const ROUNDING: f64 = 1e-3;

/// Runs the command. Exit code 0: model and run part as the report says; 1: they do not.
pub fn run(args: Args) -> Result<ExitCode> {
    let subject = Subject::open(&args.model, args.tokenizer.as_deref(), args.data.as_deref())?;
    let file = VerdictFile::read(&args.verdict)?;
    let path = args.verdict.display();
    ensure!(file.model_sha256 == subject.sha256, "{path} is about another model ({})", file.model_sha256);
    ensure!(
        file.means_sha256 == subject.means.sha256(),
        "{path} was made with other means than those beside the model"
    );
    let Verdict::Refuted { by, counter_example } = &file.report.verdict else {
        return Err(anyhow!("{path} says {}, which comes without a counter-example", file.report.verdict.word()));
    };
    let by = || by.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let example =
        counter_example.as_ref().with_context(|| format!("{path} was refuted by {} without one pair", by()))?;
    let (model, run) =
        openwork_verify::replay(&subject.model, &subject.means, example).map_err(|e| anyhow!("{path}: {e}"))?;

    say!("refuted by {}: {} ({} ablation)", example.check, example.intervention.what, example.intervention.scheme);
    let text = |tokens: &[u16]| subject.tokenizer.decode(tokens);
    let token = |t: u16| format!("{:?}", text(&[t]));
    let (answer, alternative) = example.candidates;
    say!("logit of {} above {}:", token(answer), token(alternative));
    let number = |x: f64| format!("{x:+.3}");
    let row = |i: usize| {
        let told = [example.model[i], example.run[i]].map(number).join(" / ");
        [format!("{:?}", text(&example.prompts[i])), number(model[i]), number(run[i]), told]
    };
    table(["prompt", "model", "run", "report: model / run"], &[row(0), row(1)])?;
    let partly = &example.intervention.partly;
    if !partly.is_empty() {
        say!("{} nodes are kept in part", partly.len());
    }
    let same = (0..2).all(|i| {
        let near = |a: f64, b: f64| (a - b).abs() <= ROUNDING * a.abs().max(1.0);
        near(model[i], example.model[i]) && near(run[i], example.run[i])
    });
    say!("{}", if same { "as the report says" } else { "not as the report says" });
    Ok(ExitCode::from(u8::from(!same)))
}
