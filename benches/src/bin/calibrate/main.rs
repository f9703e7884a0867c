//! `cargo xtask calibrate`: how often is the verifier wrong? It judges circuits whose truth is known, true ones and flawed ones of
//! many kinds, and writes down what it said: the calibration card.

mod card;
mod exchange;
mod injected;
mod judging;
mod peers;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use openwork_benches::{Csv, Machine, commit, exit, repository, today};
use openwork_truth::zoo::CaseKind;
use rayon::prelude::*;

use injected::Host;
use judging::{Judged, judge};

/// Judge circuits of known truth and write the calibration card
#[derive(Parser)]
#[command(name = "cargo xtask calibrate")]
struct Args {
    /// Seeds of every kind of case and severity
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them: thresholds were set on seeds from 0 on, so error rates are those of others
    #[arg(long, default_value_t = 1000)]
    first_seed: u64,
    /// Seeds of the true circuits, whose false alarms are rare and take many to see
    #[arg(long, default_value_t = 100)]
    honest: u64,
    /// Only cases with these names, such as `backup head`
    #[arg(long)]
    case: Vec<String>,
    /// Also inject known circuits into the trained model of this run's folder, as many as --seeds
    #[arg(long, value_name = "RUN")]
    host: Option<PathBuf>,
    /// Of every case at full severity, so many are judged again with nodes in another order and tokens renamed
    #[arg(long, default_value_t = 3)]
    shuffled: u64,
    /// Print the reasons of every verdict that is not the expected one
    #[arg(long)]
    explain: bool,
    /// Print every report
    #[arg(long)]
    report: bool,
    /// Ask other tools too, where they run: `cargo xtask` installs each in target/peers-NAME, of 1 to 7 GB, unless
    /// OPENWORK_PEERS_PYTHON names the Pythons that have them, as PATH names folders
    #[arg(long)]
    peers: bool,
    /// Seeds of every case that other tools are asked about
    #[arg(long, default_value_t = 10)]
    peers_seeds: u64,
    /// Write raw results to benches/runs and the card to docs/calibration.md
    #[arg(long)]
    save: bool,
    /// Write raw results to this file, and leave the card as it is: of some cases only
    #[arg(long, value_name = "FILE", conflicts_with = "save")]
    csv: Option<PathBuf>,
}

fn main() -> ExitCode {
    exit(run(Args::parse()))
}

fn run(args: Args) -> Result<()> {
    let known: Vec<&str> = CaseKind::all().iter().map(|p| p.name()).collect();
    for name in &args.case {
        ensure!(known.contains(&name.as_str()), "there is no case {name:?}; there are {}", known.join(", "));
    }
    let asked = |p: &CaseKind| args.case.is_empty() || args.case.iter().any(|n| n == p.name());
    let kinds: Vec<CaseKind> = CaseKind::all().into_iter().filter(asked).collect();
    let started = Instant::now();
    let mut all: Vec<Judged> = Vec::new();
    let mut invariant = Vec::new();
    let seeds_of = |kind: CaseKind| if kind == CaseKind::True { args.honest } else { args.seeds };
    for &kind in &kinds {
        let seeds = seeds_of(kind);
        for &severity in kind.severities() {
            // Cases side by side: their models are too small to keep a machine busy one by one.
            let judged: Vec<Judged> =
                (0..seeds).into_par_iter().map(|i| judge(kind.build(severity, args.first_seed + i))).collect();
            tell(&args, started, &judged);
            all.extend(judged);
        }
        // Judged as they are above, at full severity.
        let as_it_is = |seed: u64| all.iter().find(|j| j.kind == kind && j.severity == kind.full() && j.seed == seed);
        let again = |seed: u64| {
            let shuffled = judge(kind.build(kind.full(), seed).shuffled(seed + 1));
            Some((kind, as_it_is(seed)?.has_verdict_of(&shuffled)))
        };
        let seeds = args.first_seed..args.first_seed + args.shuffled.min(seeds_of(kind));
        invariant.extend(seeds.into_par_iter().filter_map(again).collect::<Vec<_>>());
    }
    let mut injected = Vec::new();
    if let Some(run) = &args.host {
        let host = Host::open(run)?;
        let one = |seed| Ok(judge(host.case(seed)?));
        injected =
            (args.first_seed..args.first_seed + args.seeds).into_par_iter().map(one).collect::<Result<Vec<_>>>()?;
        tell(&args, started, &injected);
    }
    let mut card = card::card(&all, &invariant, &injected);
    let comparison = if args.peers {
        peers::compare(&kinds, &all, args.first_seed..args.first_seed + args.peers_seeds)?
    } else {
        None
    };
    card.extend(comparison.iter().flat_map(|c| ["\n", &c.text]));
    all.extend(injected);
    println!("\n{card}");
    if let Some(path) = &args.csv {
        write(path, &raw(&all).text())?;
    }
    if args.save {
        save(&all, &card, comparison.as_ref().map(|c| &c.csv))?;
    }
    Ok(())
}

/// A line on cases of one kind and severity, and what else was asked for.
fn tell(args: &Args, started: Instant, judged: &[Judged]) {
    let Some(first) = judged.first() else { return };
    let right = judged.iter().filter(|j| j.is_right()).count();
    let caught = judged.iter().filter(|j| j.is_caught()).count();
    println!(
        "{:>6.0} s  {:<20} {:<30} severity {:<5} {right:>3} of {} verdicts as expected, {caught:>3} caught by the check for it",
        started.elapsed().as_secs_f64(),
        first.kind.name(),
        if judged.iter().all(|j| j.host == first.host) { first.host } else { "" },
        first.severity,
        judged.len(),
    );
    for j in judged.iter().filter(|j| args.explain && !(j.is_right() && j.is_caught())) {
        println!("    seed {} ({}): {} fired {:?}", j.seed, j.host, j.word(), j.fired);
        j.reasons.iter().for_each(|r| println!("      {r}"));
    }
    judged.iter().filter(|_| args.report).for_each(|j| println!("{}", j.words));
}

/// Every judgement, a row each.
fn raw(all: &[Judged]) -> Csv {
    let mut csv = Csv::new(["case", "host", "severity", "seed", "expected", "verdict", "fired", "seconds"]);
    for j in all {
        csv.row(vec![
            j.kind.name().into(),
            j.host.into(),
            j.severity.to_string(),
            j.seed.to_string(),
            format!("{:?}", j.expected),
            j.word().into(),
            j.fired.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + "),
            format!("{:.2}", j.seconds),
        ]);
    }
    csv
}

fn write(path: &Path, text: &str) -> Result<()> {
    openwork_tensor::write_atomic(path, |w| std::io::Write::write_all(w, text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

fn save(all: &[Judged], card: &str, peers: Option<&Csv>) -> Result<()> {
    let machine = Machine::here();
    let folder = repository().join("benches/runs").join(format!("{}-{}", today(), machine.device()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("calibration.csv");
    write(&path, &raw(all).text())?;
    if let Some(peers) = peers {
        write(&folder.join("calibration-peers.csv"), &peers.text())?;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let raw = path.strip_prefix(repository()).unwrap_or(&path).display();
    let heading = format!(
        "# The calibration card\n\nVerdicts on circuits of known truth, with the verifier's error rates. Made by `cargo xtask calibrate {}` at \
         commit {}; every verdict is in [`{raw}`](../{raw}).\n\n",
        args.join(" "),
        commit()
    );
    write(&repository().join("docs/calibration.md"), &(heading + card))
}
