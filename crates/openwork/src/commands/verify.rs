//! `openwork verify`: verify a circuit, or refute it.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use openwork_project::{
    CircuitReport, DEFAULT_LEVEL, Request, VerdictFile, Verification, verdict_path, verify_circuit, write_certificates,
};
use openwork_verify::{Limits, Settings, Verdict, hypothesis::Hypothesis};

use crate::{
    page,
    ui::{
        args::{ProjectArgs, check_outputs, describe_annotations, replay_command},
        interrupt,
        progress::VerificationProgress,
        ranges::{between, duration},
        show::say,
    },
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Circuit file that `openwork prune` wrote
    circuit: PathBuf,
    /// The verdict file to write, as JSON [default: beside the circuit, as NAME.verdict.json]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Leave out the control searches, which take as long as the search for the circuit; the circuit can then
    /// pass as weak at most
    #[arg(long)]
    no_controls: bool,
    /// Random node sets of each kind
    #[arg(long, default_value_t = Settings::default().random_sets, value_parser = between::<usize>(1, 1 << 20))]
    random_sets: usize,
    /// Highest level: 1 the model performs the task, 2 sufficiency, 3 necessity and controls, 4 adversaries, 5 causal
    /// scrubbing and hypotheses, 6 certificates
    #[arg(long, default_value_t = DEFAULT_LEVEL, value_parser = clap::value_parser!(u8).range(1..=6))]
    level: u8,
    /// Time for all levels together, such as 90s or 10m, half of which the control searches may take; what does not
    /// fit is named in the report [default: as long as it takes]
    #[arg(long, value_parser = duration)]
    budget: Option<Duration>,
    /// Hypothesis about the nodes, a file as `openwork hypothesis --help` explains; tested at level 5
    #[arg(long, value_name = "FILE")]
    hypothesis: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Also write the report as a page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs the command. Exit code 0: the circuit passes; 1: it does not.
pub fn run(args: Args) -> Result<ExitCode> {
    let out = args.out.unwrap_or_else(|| verdict_path(&args.circuit));
    check_outputs([out.as_path()].into_iter().chain(args.html.as_deref()))?;
    let project = args.project.open()?;
    let circuit = project.circuit(&args.circuit)?;
    let settings = Settings { random_sets: args.random_sets, ..Settings::default() };
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
    let mut progress = VerificationProgress::new(&circuit.task);
    let Verification { controls, report, certificates } =
        verify_circuit(&project, request, &mut |stage| progress.show(stage))?;
    drop(progress);
    for path in write_certificates(&args.circuit, &certificates)? {
        let model = args.project.model.display();
        eprintln!("{}: check it with openwork check-certificate {0} {model}", path.display());
    }
    let file = VerdictFile::new(&circuit, controls, report);
    file.write(&out)?;
    let verdict = file.report.verdict.clone();
    if args.json {
        say!("{}", file.to_json());
    } else {
        say!("{}", file.report.text().trim_end());
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
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    }
    Ok(ExitCode::from(match verdict {
        Verdict::Error { .. } => 2,
        verdict => u8::from(!verdict.passed()),
    }))
}
