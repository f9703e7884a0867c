//! `openwork watch`: run a circuit beside its model on a stream of prompts and say where it can no longer be trusted.

use std::{
    io::{BufRead, BufReader, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use openwork_circuit::CircuitFile;
use openwork_data::Tokenizer;
use openwork_verify::{Alarm, Sighting, Watch, WatchSettings};

use crate::{
    prune::{self, Subject},
    show::{count, say},
    tasks,
    verify::{VerdictFile, report_path},
};

/// What `--help` adds.
const ALARMS: &str = "\
A prompt is flagged where
  - model and circuit prefer different answers,
  - they are further apart (KL) than on any held-out prompt of the circuit's task,
  - a circuit node has a value that it had on no held-out prompt (and beyond the margin),
  - the model gives the answers less probability than on any held-out prompt: it may be another task.

Exit code 0: no prompt was flagged; 1: some were.";

/// Arguments of the command.
#[derive(clap::Args)]
#[command(after_help = ALARMS)]
pub struct Args {
    /// Model file or folder of a finished run
    model: PathBuf,
    /// Circuit file that `openwork prune` wrote
    circuit: PathBuf,
    /// Prompts, one per line; empty lines are skipped [default: standard input]
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Lines are JSON: texts, or objects with a text `prompt` (so prompts can be of several lines)
    #[arg(long)]
    jsonl: bool,
    /// Write one line of JSON for every prompt, flagged or not
    #[arg(long)]
    json: bool,
    /// How far a node may leave its range, in widths of the range [default: learned, so that about one prompt in a
    /// hundred of the same kind is flagged for it]
    #[arg(long)]
    margin: Option<f32>,
    /// Data the model was trained on; needed once if the model has no sample of it beside it
    #[arg(long)]
    data: Option<PathBuf>,
    /// The model's tokenizer [default: tokenizer.json beside the model]
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let subject = Subject::open(&args.model, args.tokenizer.as_deref(), args.data.as_deref())?;
    let circuit = CircuitFile::load(&args.circuit, &subject.model, &subject.sha256)?;
    ensure!(
        circuit.means_sha256 == subject.means.sha256(),
        "the circuit was found with other means ({}) than those beside the model ({})",
        circuit.means_sha256,
        subject.means.sha256()
    );
    prune::ensure_all_edges(&circuit, &subject.model)?;
    notice(&args.circuit);
    let pairs = tasks::splits(tasks::find(&circuit.task)?, &subject.tokenizer, circuit.seed)?;
    let held_out = [pairs.held_out, pairs.held_out_templates].concat();
    let settings = WatchSettings { margin: args.margin, ..WatchSettings::default() };
    let watch =
        Watch::new(&subject.model, &subject.means, circuit.circuit.nodes(), circuit.calibration, &held_out, settings)?;
    eprintln!("ranges of {} nodes, widened by {:.2} of their width", circuit.circuit.nodes().len(), watch.margin());
    let (mut seen, mut flagged) = (0, 0);
    for line in prompts(args.prompts.as_deref(), args.jsonl)? {
        let (number, prompt) = line?;
        let mut tokens = subject.tokenizer.encode(&prompt);
        // Cut on the left, as everywhere: positions are those that the model sees.
        tokens.drain(..tokens.len().saturating_sub(subject.model.config.n_ctx));
        let sighting = watch.look(&[&tokens]).with_context(|| format!("line {number}"))?.remove(0);
        seen += 1;
        flagged += u64::from(!sighting.alarms.is_empty());
        show(&subject.tokenizer, (number, &prompt), &tokens, &sighting, args.json)?;
    }
    eprintln!("{} of {} prompts flagged", count(flagged), count(seen));
    Ok(ExitCode::from(u8::from(flagged > 0)))
}

/// Says so if the circuit did not pass or was never judged.
fn notice(circuit: &Path) {
    let path = report_path(circuit);
    match VerdictFile::read(&path) {
        Ok(file) if file.report.verdict.passed() => (),
        Ok(file) => {
            eprintln!("note: the verdict on this circuit is {} ({})", file.report.verdict.word(), path.display())
        }
        Err(_) if !path.exists() => eprintln!("note: this circuit has not been verified; `openwork verify` does it"),
        Err(error) => eprintln!("note: the verdict on this circuit cannot be read: {error:#}"),
    }
}

/// Numbers and prompts of the lines of a file, or of standard input as they come; empty lines are skipped.
pub fn prompts(path: Option<&Path>, jsonl: bool) -> Result<impl Iterator<Item = Result<(usize, String)>>> {
    let lines: Box<dyn Iterator<Item = std::io::Result<String>>> = match path {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            Box::new(BufReader::new(file).lines())
        }
        None => {
            if std::io::stdin().is_terminal() {
                eprintln!("reading prompts from standard input, one per line");
            }
            Box::new(std::io::stdin().lines())
        }
    };
    let name = path.map_or("standard input".to_owned(), |path| path.display().to_string());
    Ok(lines.enumerate().filter_map(move |(i, line)| {
        let place = || format!("{name}, line {}", i + 1);
        match line {
            Ok(line) if line.trim().is_empty() => None,
            Ok(line) => Some(prompt(&line, jsonl).with_context(place).map(|prompt| (i + 1, prompt))),
            Err(error) => Some(Err(error).with_context(place)),
        }
    }))
}

/// The prompt that a line holds.
fn prompt(line: &str, jsonl: bool) -> Result<String> {
    if !jsonl {
        return Ok(line.to_owned());
    }
    let value: serde_json::Value = serde_json::from_str(line).context("not JSON")?;
    let text = value.as_str().or_else(|| value.get("prompt").and_then(|p| p.as_str()));
    let text = text.context("neither a text nor an object with a text `prompt`")?;
    ensure!(!text.is_empty(), "the prompt is empty");
    Ok(text.to_owned())
}

/// One line of JSON.
#[derive(serde::Serialize)]
struct JsonLine<'a> {
    line: usize,
    prompt: &'a str,
    #[serde(flatten)]
    sighting: &'a Sighting,
    /// The alarms in words.
    reasons: Vec<String>,
}

/// Shows what was seen on a line; `tokens` are those that the model saw.
fn show(
    tokenizer: &Tokenizer,
    (line, prompt): (usize, &str),
    tokens: &[u16],
    sighting: &Sighting,
    json: bool,
) -> Result<()> {
    let reasons: Vec<String> = sighting.alarms.iter().map(|alarm| reason(alarm, tokenizer, tokens)).collect();
    if json {
        say!("{}", serde_json::to_string(&JsonLine { line, prompt, sighting, reasons })?);
    } else if !reasons.is_empty() {
        say!("line {line}: {}", reasons.join("; "));
    }
    // A prompt's line is out before the next prompt is waited for.
    Ok(std::io::stdout().flush()?)
}

/// An alarm in words.
fn reason(alarm: &Alarm, tokenizer: &Tokenizer, tokens: &[u16]) -> String {
    let text = |token: u16| tokenizer.decode(&[token]);
    match alarm {
        Alarm::Answers { model, circuit } => {
            format!("the model answers {:?}, the circuit {:?}", text(*model), text(*circuit))
        }
        Alarm::Divergence { kl, limit } => {
            format!("model and circuit are {kl:.3} nats apart, at most {limit:.3} on held-out prompts")
        }
        Alarm::Range { node, value, range, position, nodes } => format!(
            "node {node} is {value:.3} at token {position} ({:?}), outside {:.3} to {:.3}{}",
            text(tokens[*position]),
            range.0,
            range.1,
            if *nodes > 1 { format!(" (and {} other nodes)", nodes - 1) } else { String::new() }
        ),
        Alarm::OffTask { probability, limit } => format!(
            "the model gives the answers a probability of {probability:.1e}, at least {limit:.1e} on held-out prompts: \
             another task?"
        ),
    }
}
