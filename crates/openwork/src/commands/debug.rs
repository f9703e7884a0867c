//! `openwork debug`: a debugger of a model, driven from a terminal, a script or standard input.

use std::{
    io::{IsTerminal, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use openwork_circuit::Means;
use openwork_data::Tokenizer;
use openwork_debug::{
    Answered, AuditOptions, Contexts, Index, IndexData, IndexError, Reply, Session, SessionCircuit,
    claims::{Checked, CircuitFacts, Claims, Outcome, Rank, Strength, Unreadable, VerdictFacts, World, draft},
};
use openwork_project::{DEFAULT_MODEL, OpenModel, Sample, Standing, VerdictFile, circuits_in, verdict_path};
use openwork_tensor::TokenShards;
use openwork_verify::Verdict;

use crate::{
    screen,
    ui::{
        args::{note_standing, open_model, tokenizer_of},
        editor::LineEditor,
        interrupt,
        progress::Progress,
        ranges::{between, seed},
        show::{count, say},
    },
};

/// Text that `--help` adds.
const COMMANDS: &str = "\
On a terminal a full screen opens, whose F1 lists commands and keys; --plain has a prompt. Else commands come
a line each: from --script, or from standard input. `help` lists them, and docs/debugging.md has the grammar. A script ends at the first line
that is no command or cannot be done, with exit code 2; a terminal goes on.

With --check, exit code 0: every claim holds; 1: one falls, or is not decided or not tested. Files of
circuits in claims are looked for from the folder of the model.";

/// Arguments of the command.
#[derive(clap::Args)]
#[command(after_help = COMMANDS)]
pub struct Args {
    /// Model file, folder of a finished run, or published folder [default: quickstart-localised, which comes with the program, with its
    /// circuits]
    model: Option<PathBuf>,
    /// Circuit files, whose labels and verdicts are shown
    circuits: Vec<PathBuf>,
    /// The model's tokenizer [default: tokenizer.json beside the model]
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Commands, one a line; - is standard input
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Test the claims of a file on the model
    #[arg(long, value_name = "FILE", conflicts_with_all = ["script", "draft", "circuits"])]
    check: Option<PathBuf>,
    /// Draft claims from the file of a circuit
    #[arg(long, value_name = "CIRCUIT", conflicts_with_all = ["script", "json", "circuits"])]
    draft: Option<PathBuf>,
    /// Draw nodes from the whole model, search explanations for them, and say which share is explained
    #[arg(long, conflicts_with_all = ["script", "draft", "check", "circuits", "plain", "index"])]
    audit: bool,
    /// Nodes that the audit draws
    #[arg(long, default_value_t = 100, requires = "audit", value_parser = between(1_usize, 1_000_000))]
    nodes: usize,
    /// Seed of the audit's draw
    #[arg(long, default_value_t = 0, requires = "audit", value_parser = seed)]
    seed: u64,
    /// A prompt of one line on a terminal, in place of the full screen
    #[arg(long)]
    plain: bool,
    /// Look for contexts in all of these token shards, such as data/validation: the index of every node is made once and lies
    /// beside the model (activations.index)
    #[arg(long, value_name = "SHARDS", conflicts_with_all = ["check", "draft"])]
    index: Option<PathBuf>,
    /// Write one line of JSON for every command or claim
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let open = open_model(args.model.as_deref().unwrap_or(Path::new(DEFAULT_MODEL)))?;
    let circuits = match args.model {
        Some(_) => args.circuits.clone(),
        None => own_circuits(&open)?,
    };
    let mut session = session(args.tokenizer.as_deref(), &circuits, &open)?;
    if args.audit {
        return audit(
            &session,
            AuditOptions { nodes: args.nodes, seed: args.seed, ..AuditOptions::default() },
            args.json,
        );
    }
    if let Some(file) = &args.check {
        return check(&open, &session, file, args.json);
    }
    if let Some(file) = &args.draft {
        return draft_claims(&open, &session, file);
    }
    if let Some(shards) = &args.index
        && let Some(ended) = open_index(&open, &mut session, shards, args.tokenizer.as_deref())?
    {
        return Ok(ended);
    }
    let script = args.script.as_deref().filter(|path| path.as_os_str() != "-");
    if let Some(path) = script {
        let text = openwork_tensor::read_text(path).with_context(|| format!("cannot read {}", path.display()))?;
        run_lines(&mut session, text.lines().map(|line| Ok(line.to_owned())), args.json)?;
    } else if args.script.is_none() && std::io::stdin().is_terminal() {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if args.plain || args.json || dumb || !std::io::stdout().is_terminal() {
            run_terminal(&mut session, args.json)?;
        } else {
            screen::run(session)?;
        }
    } else {
        run_lines(&mut session, std::io::stdin().lines(), args.json)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Circuits beside the model, those that pass first.
fn own_circuits(open: &OpenModel) -> Result<Vec<PathBuf>> {
    let found = circuits_in(&open.dir);
    let mut circuits = found.with_context(|| format!("cannot list the circuits in {}", open.dir.display()))?;
    let passes =
        |path: &PathBuf| VerdictFile::read(&verdict_path(path)).is_ok_and(|verdict| strength(&verdict).is_some());
    circuits.sort_by_cached_key(|path| !passes(path));
    Ok(circuits)
}

/// A session of the model with its tokenizer, the means beside it where there are any, and the circuits.
fn session(tokenizer: Option<&Path>, circuits: &[PathBuf], open: &OpenModel) -> Result<Session> {
    let tokenizer = tokenizer_of(open, tokenizer)?;
    let means = means(open)?.map(|means| means.values().to_vec());
    let decoder = tokenizer.clone();
    let sample = sample(open, &tokenizer)?;
    let encode = move |text: &str| tokenizer.encode(text);
    let decode = move |tokens: &[u16]| decoder.decode(tokens);
    let mut session = Session::new(open.model.clone(), open.sha256.clone(), Box::new((encode, decode)), means);
    if let Some(Sample { tokens, n_ctx }) = sample {
        session.set_contexts(Contexts::new(tokens, n_ctx));
    }
    for path in circuits {
        let file = open.circuit(path)?;
        note_standing(path, &file, None);
        let verdict = match Standing::of(path, &file, None) {
            Ok(Standing::Judged(verdict)) => Some(verdict.report.headline()),
            _ => None,
        };
        let name = path.display().to_string();
        session.add_circuit(SessionCircuit { name, task: file.task, circuit: file.circuit, verdict });
    }
    Ok(session)
}

/// File of the index, beside the model.
const INDEX: &str = "activations.index";

/// Gives the session the index of the shards, and makes it where there is none; an exit code where Ctrl-C ended that.
fn open_index(
    open: &OpenModel,
    session: &mut Session,
    shards: &Path,
    tokenizer: Option<&Path>,
) -> Result<Option<ExitCode>> {
    let length = open.trained_context.context(
        "--index reads windows as long as in training, and the model does not say how long they were (its key trained_context)",
    )?;
    let tokenizer = open.tokenizer(tokenizer)?;
    let data = || -> Result<IndexData> { Ok(IndexData::new(TokenShards::open(shards, tokenizer.sha256())?, length)?) };
    let path = open.dir.join(INDEX);
    if !path.exists() {
        interrupt::listen()?;
        let data = data()?;
        let windows = data.windows() as u64;
        let progress = Progress::new(Some(windows), 0);
        let built = Index::build(&path, &open.model, &open.sha256, &data, |done| {
            progress.update(done as u64, || format!("index: {} of {} windows", count(done as u64), count(windows)));
            if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        drop(progress);
        match built {
            Err(error @ IndexError::Interrupted) => {
                eprintln!("{error}");
                return Ok(Some(ExitCode::from(interrupt::INTERRUPTED)));
            }
            built => built?,
        }
        eprintln!("{} windows are in {}", count(windows), path.display());
    }
    session.set_index(Index::open(&path, &open.model, &open.sha256, data()?)?);
    Ok(None)
}

/// Means beside the model.
fn means(open: &OpenModel) -> Result<Option<Means>> {
    let path = open.dir.join("means.safetensors");
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(Means::load(&path, &open.model, &open.sha256)?))
}

/// Sample of the training data beside the model, in windows as long as in training.
fn sample(open: &OpenModel, tokenizer: &Tokenizer) -> Result<Option<Sample>> {
    match open.trained_context {
        Some(context) if open.dir.join("sample").exists() => {
            let shape = [context, open.model.config.vocab_size];
            Ok(Some(Sample::open(&open.dir, None, tokenizer.sha256(), shape)?))
        }
        _ => Ok(None),
    }
}

/// A circuit of the model in a file, which claims name from the folder of the model.
fn circuit_facts(open: &OpenModel, name: &str) -> Result<CircuitFacts, Unreadable> {
    let words = |error: anyhow::Error| Unreadable(format!("{error:#}"));
    let path = open.dir.join(name);
    let file = open.circuit(&path).map_err(|error| words(error.into()))?;
    let circuit_sha256 = file.claim_sha256();
    let verdict = match verdict_path(&path) {
        path if path.exists() => Some(VerdictFile::read(&path).map_err(|error| words(error.into()))?),
        _ => None,
    };
    let verdict = verdict.map(|verdict| VerdictFacts {
        strength: strength(&verdict),
        words: verdict.report.headline(),
        model_sha256: verdict.about.model_sha256,
        circuit_sha256: verdict.about.circuit_sha256,
    });
    Ok(CircuitFacts { circuit: file.circuit, calibration: file.calibration, task: file.task, circuit_sha256, verdict })
}

/// Strength of a verdict that passes. One under thresholds that were loosened is none.
fn strength(verdict: &VerdictFile) -> Option<Strength> {
    if !verdict.report.settings.loosened().is_empty() {
        return None;
    }
    let (rank, contrast) = match verdict.report.verdict {
        Verdict::Weak => (Rank::Weak, false),
        Verdict::Strong => (Rank::Strong, false),
        Verdict::Certified { .. } => (Rank::Certified, false),
        Verdict::ContrastWeak => (Rank::Weak, true),
        Verdict::ContrastStrong => (Rank::Strong, true),
        Verdict::Error { .. }
        | Verdict::NoTask
        | Verdict::Undefined
        | Verdict::Refuted { .. }
        | Verdict::Incomplete => {
            return None;
        }
    };
    Some(Strength { rank, contrast })
}

/// Model and files as claims see them, for the time of a call.
fn in_world<R>(open: &OpenModel, session: &Session, f: impl FnOnce(&World<'_>) -> R) -> R {
    let circuit = |name: &str| circuit_facts(open, name);
    f(&World {
        model: &open.model,
        model_sha256: &open.sha256,
        vocabulary: session.names().vocabulary,
        means: session.means(),
        circuit: &circuit,
    })
}

/// An audit in JSON.
#[derive(serde::Serialize)]
struct JsonAudit<'a> {
    context: openwork_debug::Context,
    #[serde(flatten)]
    audit: &'a openwork_debug::Audit,
}

/// Audits the model; Ctrl-C ends it with the nodes that were scored until then.
fn audit(session: &Session, options: AuditOptions, json: bool) -> Result<ExitCode> {
    interrupt::listen()?;
    let progress = Progress::new(Some(options.nodes as u64), 0);
    let mut explained = 0;
    let audit = session.audit(options, &mut |done, audited| {
        explained += usize::from(audited.explained);
        progress.update(done as u64, || format!("{done} of {} nodes, {explained} explained", options.nodes));
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    drop(progress);
    match json {
        true => say!("{}", serde_json::to_string(&JsonAudit { context: session.context(), audit: &audit })?),
        false => say!("{}\n{audit}", session.context()),
    }
    Ok(if audit.stopped { ExitCode::from(interrupt::INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// One claim in JSON.
#[derive(serde::Serialize)]
struct JsonClaim<'a> {
    model_sha256: &'a str,
    #[serde(flatten)]
    checked: &'a Checked,
}

/// Tests the claims of a file.
fn check(open: &OpenModel, session: &Session, path: &Path, json: bool) -> Result<ExitCode> {
    let text = openwork_tensor::read_text(path).with_context(|| format!("cannot read {}", path.display()))?;
    let claims = Claims::parse(&text, session.names()).with_context(|| path.display().to_string())?;
    let checked = in_world(open, session, |world| claims.check(world));
    if !json {
        say!("[model {}]", session.context().model);
    }
    for checked in &checked {
        match json {
            true => say!("{}", serde_json::to_string(&JsonClaim { model_sha256: &open.sha256, checked })?),
            false => show_claim(checked)?,
        }
    }
    let holds = checked.iter().filter(|checked| checked.outcome == Outcome::Holds).count();
    eprintln!("{holds} of {} claims hold", checked.len());
    Ok(ExitCode::from(u8::from(holds < checked.len())))
}

fn show_claim(checked: &Checked) -> Result<()> {
    let outcome = match checked.outcome {
        Outcome::Holds => "holds",
        Outcome::Falls => "FALLS",
        Outcome::Undecided => "UNDECIDED",
        Outcome::Untested => "UNTESTED",
    };
    say!("{outcome:<9}  line {}: {}", checked.line, checked.claim);
    say!("           {}", checked.reason);
    if let Some(against) = checked.against.as_ref().filter(|_| checked.outcome != Outcome::Holds) {
        say!("           on pair {}, {}: {}", against.pair, against.prompt, against.observed);
    }
    Ok(())
}

/// Drafts claims from a circuit.
fn draft_claims(open: &OpenModel, session: &Session, path: &Path) -> Result<ExitCode> {
    let path = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let own = open.dir.canonicalize().unwrap_or_else(|_| open.dir.clone());
    let name = path.strip_prefix(&own).unwrap_or(&path).display().to_string();
    let facts = circuit_facts(open, &name)?;
    if facts.verdict.as_ref().is_none_or(|verdict| verdict.strength.is_none()) {
        eprintln!("note: the circuit has no verdict that passes, and the draft none to state");
    }
    write!(std::io::stdout(), "{}", in_world(open, session, |world| draft(world, &name, &facts))?)?;
    Ok(ExitCode::SUCCESS)
}

/// One line of JSON.
#[derive(serde::Serialize)]
struct JsonLine<'a> {
    line: usize,
    command: &'a str,
    #[serde(flatten)]
    answered: &'a Answered,
}

fn show(number: usize, line: &str, answered: &Answered, json: bool) -> Result<()> {
    match json {
        true => say!("{}", serde_json::to_string(&JsonLine { line: number, command: line, answered })?),
        false => say!("{answered}"),
    }
    // An answer is out before the next command is waited for.
    Ok(std::io::stdout().flush()?)
}

/// Carries out lines up to the first that fails.
fn run_lines(session: &mut Session, lines: impl Iterator<Item = std::io::Result<String>>, json: bool) -> Result<()> {
    for (number, line) in (1..).zip(lines) {
        let line = line.with_context(|| format!("line {number}"))?;
        let Some(answered) = session.line(&line).with_context(|| format!("line {number}"))? else { continue };
        if let Reply::Quit = answered.reply {
            break;
        }
        if !json {
            say!("> {}", line.trim());
        }
        show(number, &line, &answered, json)?;
    }
    Ok(())
}

/// Carries out lines from a terminal.
fn run_terminal(session: &mut Session, json: bool) -> Result<()> {
    let mut editor = LineEditor::new(session.line_words())?;
    say!("model {}, {} circuits; `help` lists the commands", session.context().model, session.circuits().len());
    for number in 1.. {
        let Some(line) = editor.line("(debug) ")? else { break };
        match session.line(&line) {
            Ok(None) => (),
            Ok(Some(answered)) if matches!(answered.reply, Reply::Quit) => break,
            Ok(Some(answered)) => show(number, &line, &answered, json)?,
            Err(error) => eprintln!("error: {error}"),
        }
        editor.set_words(session.line_words());
    }
    Ok(())
}
