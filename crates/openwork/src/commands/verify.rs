//! `openwork verify`: verify a circuit, or refute it.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use openwork_project::{
    CircuitReport, DEFAULT_LEVEL, OutputKind, Recorded, Request, VerdictFile, check_outputs, files_of_verification,
    verdict_path, verify_circuit,
};
use openwork_verify::{Limits, Settings, Verdict, hypothesis::Hypothesis};

use crate::{
    page,
    ui::{
        args::{ProjectArgs, describe_annotations, replay_command},
        interrupt,
        progress::VerificationProgress,
        ranges::{between, duration, seed, up_to},
        show::say,
    },
};

/// Text that `--help` adds.
const EXIT_CODES: &str = "\
Exit codes:
  0  the circuit passes as what its file claims: every required check of levels 1 to 4 was made and passed (WEAK, STRONG,
     CERTIFIED; of a circuit that claims the contrast, as the verdict says, WEAK and STRONG)
  1  it does not: REFUTED, NO TASK or UNDEFINED
  2  an error: wrong input, or a self-check that failed
  3  INCOMPLETE: no required check failed, and not all were made, because of --level, --budget, --no-controls, Ctrl-C, or a
     check that this circuit leaves nothing to make of

Beside the verdict lie NAME.pairs.json, the pairs that it was made on (docs/recompute.py recomputes its numbers from files
alone), and verdicts.jsonl, a line for every verification in the folder.";

/// Exit code of an incomplete verdict.
const INCOMPLETE: u8 = 3;

/// Arguments of the command.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Circuit file that `openwork prune` wrote
    circuit: PathBuf,
    /// The verdict file to write, as JSON [default: beside the circuit, as NAME.verdict.json]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Leave out the control searches, which take as long as the search for the circuit; the verdict is then INCOMPLETE at
    /// best
    #[arg(long)]
    no_controls: bool,
    /// Restarts of a control search at least; a circuit whose own search had more gives its controls as many
    #[arg(long, default_value_t = Settings::default().control_restarts, value_parser = between::<usize>(1, 1 << 20))]
    control_restarts: usize,
    /// Steps of each restart at least, likewise
    #[arg(long, default_value_t = Settings::default().control_steps, value_parser = between::<usize>(1, 1 << 20))]
    control_steps: usize,
    /// Loss to ask of the circuit and of control searches, nats per sequence, whatever the circuit was found for
    #[arg(long, default_value_t = Settings::default().target_loss, value_parser = up_to(1.0))]
    target_loss: f64,
    /// Seed of pairs, node sets and control searches, whatever the circuit was found with
    #[arg(long, default_value_t = Settings::default().seed, value_parser = seed)]
    seed: u64,
    /// Random node sets of each kind, 100 at least
    #[arg(long, default_value_t = Settings::default().random_sets, value_parser = between::<usize>(100, 1 << 20))]
    random_sets: usize,
    /// Highest level: 1 the model performs the task, 2 sufficiency, 3 necessity and controls, 4 adversaries, 5 causal
    /// scrubbing and hypotheses, 6 certificates
    #[arg(long, default_value_t = DEFAULT_LEVEL, value_parser = between::<u8>(1, 6))]
    level: u8,
    /// Time for all levels together, such as 90s or 10m, half of which the control searches may take; what does not
    /// fit is named in the report [default: as long as it takes]
    #[arg(long, value_parser = duration)]
    budget: Option<Duration>,
    /// Hypothesis about the nodes, a file as `openwork hypothesis --help` explains; tested at level 5
    #[arg(long, value_name = "FILE")]
    hypothesis: Option<PathBuf>,
    /// Replace a verdict that tells more: of a higher level, with controls, or on another circuit
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Also write the report as a page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let out = args.out.unwrap_or_else(|| verdict_path(&args.circuit));
    let page = args.html.as_deref().map(|html| (OutputKind::Page, html));
    let written = files_of_verification(&args.circuit, &out);
    let outputs: Vec<_> = written.iter().map(|(kind, path)| (*kind, path.as_path())).chain(page).collect();
    check_outputs(&outputs, &[&args.circuit])?;
    let project = args.project.open()?;
    let circuit = project.circuit(&args.circuit)?;
    let settings = Settings {
        random_sets: args.random_sets,
        control_restarts: args.control_restarts,
        control_steps: args.control_steps,
        target_loss: args.target_loss,
        seed: args.seed,
        ..Settings::default()
    };
    settings.check()?;
    interrupt::listen()?;
    let until = args.budget.map(|budget| Instant::now() + budget);
    let limits = Limits { until, interrupted: &interrupt::requested, ..Limits::level(args.level) };
    let hypothesis = match &args.hypothesis {
        Some(path) => Some(Hypothesis::load(path, &project.model.config)?),
        None => None,
    };
    let request = Request {
        circuit: &circuit,
        hypothesis: hypothesis.as_ref(),
        with_controls: !args.no_controls,
        settings: &settings,
        limits: &limits,
    };
    if !args.force {
        VerdictFile::check_replaceable(&project, &args.circuit, &request, &out)?;
    }
    let mut progress = VerificationProgress::new(&circuit.task);
    let verification = verify_circuit(&project, request, &mut |stage| progress.show(stage))?;
    drop(progress);
    let Recorded { verdict: file, certificates, unreadable } =
        verification.record(&project, &request, &args.circuit, &out, args.force)?;
    for path in certificates {
        let model = args.project.model.display();
        eprintln!("{}: check it with openwork check-certificate {0} {model}", path.display());
    }
    if unreadable > 0 {
        eprintln!("note: lines of verdicts.jsonl beside the circuit that cannot be read: {unreadable}");
    }
    let verdict = file.report.verdict.clone();
    if args.json {
        say!("{}", file.to_json());
    } else {
        say!("{}", file.text());
        for line in describe_annotations(&circuit.circuit) {
            say!("{line}");
        }
        say!("{}", out.display());
        if let Verdict::Refuted { counter_example: Some(_), .. } = &verdict {
            say!("to see it again: {}", replay_command(&args.project.model, &out));
        }
    }
    if let Some(html) = &args.html {
        let report = CircuitReport::new(&project, circuit, file, out)?;
        page::Page::of_circuit(&project, report, &args.project.model).write(html)?;
        if !args.json {
            say!("{}", html.display());
        }
    }
    if interrupt::requested() {
        eprintln!("interrupted: the report holds what was found until then");
    }
    Ok(ExitCode::from(match verdict {
        Verdict::Weak | Verdict::Strong | Verdict::Certified { .. } => 0,
        Verdict::ContrastWeak | Verdict::ContrastStrong => 0,
        Verdict::Refuted { .. } | Verdict::NoTask | Verdict::Undefined => 1,
        Verdict::Error { .. } => 2,
        Verdict::Incomplete => INCOMPLETE,
    }))
}
