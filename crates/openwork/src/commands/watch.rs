//! `openwork watch`: run a circuit beside its model on a stream of prompts and say where it can no longer be trusted.

use std::{
    io::{BufReader, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, ensure};
use openwork_circuit::Circuit;
use openwork_data::Tokenizer;
use openwork_project::{BadLine, LineFormat, PromptLine, PromptLines};
use openwork_tensor::quoted;
use openwork_verify::{Alarm, Sighting, Watch, WatchSettings};

use crate::ui::{
    args::{ProjectArgs, note_standing},
    ranges::not_negative,
    show::{count, say},
};

/// Text that `--help` adds.
const ALARMS: &str = "\
A prompt is flagged where
  - model and circuit prefer different answers,
  - they are further apart (KL) than on any held-out prompt of the circuit's task,
  - a circuit node has a value that it had on no held-out prompt (and beyond the margin),
  - the model gives the answers less probability than on any held-out prompt: it may be another task.

A line that is no prompt is reported and counted, and the next ones are watched. Positions are those
of the prompt as given; the model sees its last tokens, as many as its context has.

Exit code 0: no prompt was flagged; 1: some were, or some lines were no prompts.";

/// Arguments of the command.
#[derive(clap::Args)]
#[command(after_help = ALARMS)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Circuit file that `openwork prune` wrote
    circuit: PathBuf,
    /// Prompts, one per line; blank lines are skipped [default: standard input, which is also -]
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Lines are JSON: texts, or objects with a text `prompt` (so prompts can be of several lines)
    #[arg(long)]
    jsonl: bool,
    /// Write one line of JSON for every prompt, flagged or not
    #[arg(long)]
    json: bool,
    /// Distance that a node may leave its range, in widths of the range [default: learned, so that about one prompt in a
    /// hundred of the same kind is flagged for it]
    #[arg(long, value_parser = not_negative::<f32>())]
    margin: Option<f32>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let project = args.project.open()?;
    let circuit = project.circuit(&args.circuit)?;
    project.check_means(&circuit)?;
    note_standing(&args.circuit, &circuit, Some(&project));
    let splits = project.splits_of(&circuit)?;
    let held_out = [splits.held_out, splits.held_out_templates].concat();
    let settings = WatchSettings { margin: args.margin, ..WatchSettings::default() };
    let watch = Watch::new(&project.model, &project.means, &circuit.circuit, circuit.calibration, &held_out, settings)?;
    eprintln!("ranges of {} nodes, widened by {:.2} of their width", circuit.circuit.nodes().len(), watch.margin());
    let (mut seen, mut flagged, mut bad) = (0, 0, 0);
    let mut lines = prompts(args.prompts.as_deref(), if args.jsonl { LineFormat::Json } else { LineFormat::Text })?;
    for line in lines.by_ref() {
        let PromptLine { number, prompt } = match line? {
            Ok(line) => line,
            Err(BadLine { number, fault }) => {
                show_bad(number, &fault, args.json)?;
                bad += 1;
                continue;
            }
        };
        let tokens = project.tokenizer.encode(&prompt);
        let sighting = match watch.look(&[&tokens]) {
            Ok(mut sightings) => sightings.remove(0),
            Err(fault) => {
                show_bad(number, &fault, args.json)?;
                bad += 1;
                continue;
            }
        };
        seen += 1;
        flagged += u64::from(!sighting.alarms.is_empty());
        let reasons: Vec<String> =
            sighting.alarms.iter().map(|alarm| reason(alarm, &circuit.circuit, &project.tokenizer, &tokens)).collect();
        show((number, &prompt), &sighting, reasons, args.json)?;
    }
    let blank = lines.blank() as u64;
    ensure!(seen + bad > 0, "there is no prompt: {blank} lines were read, all blank");
    let of = |n: u64, what: &str| if n > 0 { format!(", {} {what}", count(n)) } else { String::new() };
    eprintln!(
        "{} of {} prompts flagged{}{}",
        count(flagged),
        count(seen),
        of(bad, "bad lines"),
        of(blank, "blank lines skipped")
    );
    Ok(ExitCode::from(u8::from(flagged + bad > 0)))
}

/// Prompts of a file, or of standard input as they come.
fn prompts(path: Option<&Path>, format: LineFormat) -> Result<PromptLines> {
    if let Some(path) = path.filter(|path| path.as_os_str() != "-") {
        return Ok(PromptLines::open(path, format)?);
    }
    if std::io::stdin().is_terminal() {
        eprintln!("reading prompts from standard input, one per line");
    }
    Ok(PromptLines::new(BufReader::new(std::io::stdin()), "standard input".into(), format))
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

/// A line that is no prompt, in JSON.
#[derive(serde::Serialize)]
struct JsonBadLine {
    line: usize,
    error: String,
}

/// Says that a line is no prompt.
fn show_bad(line: usize, fault: &dyn std::fmt::Display, json: bool) -> Result<()> {
    eprintln!("line {line}: not watched: {fault}");
    if json {
        say!("{}", serde_json::to_string(&JsonBadLine { line, error: fault.to_string() })?);
    }
    Ok(std::io::stdout().flush()?)
}

/// Shows the sighting on a line, with its alarms as text.
fn show((line, prompt): (usize, &str), sighting: &Sighting, reasons: Vec<String>, json: bool) -> Result<()> {
    if sighting.unseen > 0 {
        eprintln!("line {line}: the first {} tokens are beyond the model's context and were not seen", sighting.unseen);
    }
    if json {
        say!("{}", serde_json::to_string(&JsonLine { line, prompt, sighting, reasons })?);
    } else if !reasons.is_empty() {
        say!("line {line}: {}", reasons.join("; "));
    }
    // A prompt's line is out before the next prompt is waited for.
    Ok(std::io::stdout().flush()?)
}

/// An alarm in words.
fn reason(alarm: &Alarm, circuit: &Circuit, tokenizer: &Tokenizer, tokens: &[u16]) -> String {
    let text = |token: u16| quoted(&tokenizer.decode(&[token]));
    match alarm {
        Alarm::Answers { model, circuit } => {
            format!("the model answers {}, the circuit {}", text(*model), text(*circuit))
        }
        Alarm::Divergence { kl, limit } => {
            format!("model and circuit are {kl:.3} nats apart, at most {limit:.3} on held-out prompts")
        }
        Alarm::Range { node, value, range, position, nodes } => format!(
            "node {} is {value:.3} at token {position} ({}), outside {:.3} to {:.3}{}",
            circuit.describe_name(node),
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
