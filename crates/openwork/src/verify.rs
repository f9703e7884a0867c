//! `openwork verify`: judge a circuit.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use openwork_circuit::{CircuitFile, Means};
use openwork_extract::{Search, Settings as Budget, nonsense_labels, random_weights};
use openwork_model::Model;
use openwork_tasks::Splits;
use openwork_verify::{
    Case, Control, ControlKind, Effort, Limits, Meaning, Report, Settings, Verdict, certificate::Certificate, certify,
    hypothesis::Hypothesis,
};

use crate::{
    interrupt,
    prune::{self, Subject, with_progress},
    show::say,
    tasks,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Model file or folder of a finished run
    model: PathBuf,
    /// Circuit file that `openwork prune` wrote
    circuit: PathBuf,
    /// Where to write the report as JSON [default: beside the circuit, as NAME.verdict.json]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Data the model was trained on; needed once if the model has no sample of it beside it
    #[arg(long)]
    data: Option<PathBuf>,
    /// The model's tokenizer [default: tokenizer.json beside the model]
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Leave out the control searches, which take as long as the search for the circuit; the circuit can then
    /// pass as weak at most
    #[arg(long)]
    no_controls: bool,
    /// Random node sets of each kind
    #[arg(long, default_value_t = Settings::default().random_sets)]
    random_sets: usize,
    /// How far to go: 1 the model does the task, 2 sufficiency, 3 necessity and controls, 4 adversaries, 5 causal
    /// scrubbing and hypotheses, 6 certificates
    #[arg(long, default_value_t = DEFAULT_LEVEL, value_parser = clap::value_parser!(u8).range(1..=6))]
    level: u8,
    /// Time for all levels together, such as 90s or 10m, half of which the control searches may take; what does not
    /// fit is named in the report [default: as long as it takes]
    #[arg(long, value_parser = humantime::parse_duration)]
    budget: Option<Duration>,
    /// What the nodes mean, in a file as `openwork hypothesis --help` explains; tested at level 5
    #[arg(long, value_name = "FILE")]
    hypothesis: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Also write the report as a page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Everything that tries to refute; certificates are asked for.
pub const DEFAULT_LEVEL: u8 = 5;

/// Runs the command. Exit code 0: the circuit passes; 1: it does not.
pub fn run(args: Args) -> Result<ExitCode> {
    let subject = Subject::open(&args.model, args.tokenizer.as_deref(), args.data.as_deref())?;
    let circuit = CircuitFile::load(&args.circuit, &subject.model, &subject.sha256)?;
    let settings = Settings { random_sets: args.random_sets, ..Settings::default() };
    interrupt::listen()?;
    let until = args.budget.map(|budget| Instant::now() + budget);
    let limits = Limits { level: args.level, until, interrupted: &interrupt::requested, dead_hook: None };
    let hypothesis = match &args.hypothesis {
        Some(path) => Some(Hypothesis::load(path, &subject.model.config)?),
        None => None,
    };
    let Judged { controls, report, certificates } =
        judge(&subject, &circuit, hypothesis.as_ref(), !args.no_controls, &settings, &limits)?;
    for (kind, certificate) in certificates {
        let path = args.circuit.with_extension(format!("{kind}.certificate.json"));
        openwork_tensor::write_atomic(&path, |w| w.write_all(certificate.to_json().as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("{}: check it with openwork check-certificate {0} {}", path.display(), args.model.display());
    }
    let out = args.out.unwrap_or_else(|| report_path(&args.circuit));
    let file = VerdictFile::new(&circuit, controls, report);
    file.write(&out)?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&file)?);
    } else {
        say!("{}", file.report.words().trim_end());
        say!("{}", out.display());
        if let Verdict::Refuted { counter_example: Some(_), .. } = &file.report.verdict {
            say!("to see it again: {}", replay_command(&args.model, &out));
        }
    }
    let verdict = file.report.verdict.clone();
    if let Some(html) = &args.html {
        crate::report::write_one(&subject, circuit, file, replay_command(&args.model, &out), html)?;
        if !args.json {
            say!("{}", html.display());
        }
    }
    if interrupt::requested() {
        eprintln!("interrupted: the report holds what was found until then");
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    }
    Ok(ExitCode::from(match verdict {
        Verdict::Error => 2,
        verdict => u8::from(!verdict.passed()),
    }))
}

/// What runs the counter-example of a verdict again.
pub fn replay_command(model: &Path, verdict: &Path) -> String {
    let quoted = |path: &Path| {
        let text = path.display().to_string();
        let plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
        if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
    };
    format!("openwork replay {} {}", quoted(model), quoted(verdict))
}

/// Where the report on a circuit lies by default.
pub fn report_path(circuit: &Path) -> PathBuf {
    circuit.with_extension("verdict.json")
}

/// What became of a circuit.
pub struct Judged {
    /// Control searches.
    pub controls: Vec<Control>,
    /// What the judge says.
    pub report: Report,
    /// Certificates by kind, at level 6.
    pub certificates: Vec<(&'static str, Certificate)>,
}

/// Searches the controls and judges the circuit.
pub fn judge(
    subject: &Subject,
    circuit: &CircuitFile,
    hypothesis: Option<&Hypothesis>,
    with_controls: bool,
    settings: &Settings,
    limits: &Limits<'_>,
) -> Result<Judged> {
    let task = tasks::find(&circuit.task)?;
    prune::ensure_all_edges(circuit, &subject.model)?;
    ensure!(
        circuit.means_sha256 == subject.means.sha256(),
        "the circuit was found with other means ({}) than those beside the model ({})",
        circuit.means_sha256,
        subject.means.sha256()
    );
    let pairs = tasks::splits(task, &subject.tokenizer, circuit.seed)?;
    // Controls are what level 3 looks at.
    let controls = match with_controls && limits.level >= 3 {
        true => controls(subject, circuit, &pairs, limits)?,
        false => vec![],
    };
    let text = |token: u16| subject.tokenizer.decode(&[token]);
    let case = Case {
        model: &subject.model,
        means: &subject.means,
        circuit: circuit.circuit.nodes(),
        calibration: circuit.calibration,
        target_loss: circuit.target_loss,
        held_out: &pairs.held_out,
        shifts: &tasks::shifts(&pairs),
        selection: &pairs.selection,
        meaning: hypothesis.map(|hypothesis| Meaning { hypothesis, text: &text }),
    };
    let progress = crate::progress::Progress::new(None, 0);
    let mut stage = 0;
    let mut tell = |what: &str| {
        stage += 1;
        progress.update(stage, || format!("{}: {what}", circuit.task));
    };
    let mut report = openwork_verify::verify(&case, &controls, settings, limits, &mut tell);
    if with_controls && limits.level >= 3 {
        let missing = |kind: &ControlKind| !controls.iter().any(|c| c.kind == *kind);
        let unfinished = |kind: ControlKind| format!("control: {kind} (level 3): {}", limits.why());
        let left = ControlKind::ALL.into_iter().filter(missing);
        report.unfinished.extend(left.map(unfinished));
    }
    let judged = !matches!(report.verdict, Verdict::Error | Verdict::NoTask | Verdict::Undefined);
    let certificates = match limits.level >= 6 && judged {
        true => certify(&case, &subject.sha256, None, Effort::default(), limits, &mut report, &mut tell)?,
        false => vec![],
    };
    Ok(Judged { controls, report, certificates })
}

/// What the same budget finds for nonsense labels and in a model of random weights. Both together may take half of the
/// time there is; a search that is cut short is no control.
fn controls(subject: &Subject, circuit: &CircuitFile, pairs: &Splits, limits: &Limits<'_>) -> Result<Vec<Control>> {
    let budget = Budget::of_file(circuit).with_context(|| {
        format!("no search found the circuit of {}, so none can be a control: say --no-controls", circuit.task)
    })?;
    let started = Instant::now();
    let until = limits.until.map(|until| started + (until - started) / 2);
    let search = |kind: ControlKind, model: &Model, means: &Means, pairs: &Splits| {
        let name = format!("{}, control {kind}", circuit.task);
        let found = with_progress(&budget, &name, until, |progress| {
            let (train, validation) = (&pairs.train[..], &pairs.selection[..]);
            Search { model, means, train, validation, settings: &budget }.search(progress)
        });
        let found = found.filter(|found| found.restarts >= budget.masks.restarts)?;
        let openwork_circuit::Size { nodes, edges, .. } = found.circuit.size();
        Some(Control { kind, reached_target: found.reached, loss: found.loss, nodes, edges })
    };
    let vocabulary = frequent_tokens(&subject.sample.tokens);
    let relabel = |p: &[openwork_tasks::Pair]| nonsense_labels(p, &vocabulary, circuit.seed);
    let nonsense = Splits { train: relabel(&pairs.train), selection: relabel(&pairs.selection), ..Splits::default() };
    let random = random_weights(&subject.model, circuit.seed);
    let random_means = subject.sample.first(CONTROL_TOKENS).means(&random);
    let found = [
        search(ControlKind::NonsenseLabels, &subject.model, &subject.means, &nonsense),
        search(ControlKind::RandomWeights, &random, &random_means, pairs),
    ];
    Ok(found.into_iter().flatten().collect())
}

/// Tokens for the means of a model of random weights: nothing hangs on their last digit.
const CONTROL_TOKENS: usize = 1 << 18;

/// Tokens that make up at least one in ten thousand of the sample: nonsense that the model could at least say.
fn frequent_tokens(sample: &[u16]) -> Vec<u16> {
    let mut count = BTreeMap::new();
    sample.iter().for_each(|&t| *count.entry(t).or_insert(0_usize) += 1);
    count.into_iter().filter(|&(_, n)| n * 10_000 >= sample.len()).map(|(t, _)| t).collect()
}

/// The file a judgement is written to: what was judged around what the judge says.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictFile {
    format: String,
    /// Task of the circuit.
    pub task: String,
    /// SHA-256 of the model file.
    pub model_sha256: String,
    /// SHA-256 of the means.
    pub means_sha256: String,
    /// Control searches.
    pub controls: Vec<Control>,
    /// What the judge says.
    pub report: Report,
}

/// Which format a file has, whatever else is in it.
#[derive(serde::Deserialize)]
struct Format {
    format: String,
}

const FORMAT: &str = "openwork-verdict 3";

impl VerdictFile {
    /// A judgement on `circuit`.
    pub fn new(circuit: &CircuitFile, controls: Vec<Control>, report: Report) -> Self {
        Self {
            format: FORMAT.into(),
            task: circuit.task.clone(),
            model_sha256: circuit.model_sha256.clone(),
            means_sha256: circuit.means_sha256.clone(),
            controls,
            report,
        }
    }

    /// Writes the file, atomically.
    pub fn write(&self, out: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        let written = openwork_tensor::write_atomic(out, |w| writeln!(w, "{text}"));
        written.with_context(|| format!("cannot write {}", out.display()))
    }

    /// Reads a file that [`VerdictFile::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let fault = || format!("{} is not a verdict file", path.display());
        // The format first: files of another one have other fields.
        let Format { format } = serde_json::from_str(&text).with_context(fault)?;
        ensure!(
            format == FORMAT,
            "{} has format {format:?}, expected {FORMAT:?}: judge the circuit again with `openwork verify`",
            path.display()
        );
        serde_json::from_str(&text).with_context(fault)
    }
}
