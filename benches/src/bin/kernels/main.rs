//! `cargo xtask bench kernels`: single operations.
//!
//! First the criterion benches beside the operations (`crates/*/benches`), whose results are read from
//! criterion's own files; with `--peers` then a comparison with PyTorch's and SciPy's kernels, by turns.
//! All on one thread, as operations run within a training step.

mod case;
mod criterion;
mod floors;
mod ours;
mod versus;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use openwork_benches::{Csv, Machine, Peers, Record, Save, exit};

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench kernels", about = "Times single operations")]
struct Args {
    /// Bench targets to run (products), or patterns of the names of benchmarks (spmm, gelu) [default: all]
    ops: Vec<String>,
    /// Write the results to benches/runs/DATE-DEVICE/
    #[arg(long)]
    save: bool,
    /// Compare with PyTorch and SciPy
    #[arg(long)]
    peers: bool,
    /// Not the benches of the crates, only the comparison; implies --peers
    #[arg(long)]
    peers_only: bool,
    /// In the comparison one width and two densities
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    exit(run(Args::parse()))
}

fn run(args: Args) -> Result<()> {
    let machine = Machine::here();
    let begin = |name: &str| {
        let mut record = Record::new();
        machine.warning().iter().for_each(|warning| record.line(warning));
        (record, Save::new("kernels", name, &machine))
    };
    if !args.peers_only {
        let (mut record, save) = begin("kernels");
        let csv = criterion::run(&args.ops, &mut record)?;
        keep(args.save, &save, &record, &csv)?;
    }
    if let Some(peers) = Peers::find(args.peers || args.peers_only) {
        let Some(peer) = peers.start("peers", "kernels.py", &["1".to_owned()]) else { return Ok(()) };
        let (mut record, mut save) = begin("kernels-peers");
        save.peer(&peer.version);
        let csv = versus::run(peer, &args.ops, args.quick, &mut record);
        keep(args.save, &save, &record, &csv)?;
    }
    Ok(())
}

fn keep(wanted: bool, save: &Save, record: &Record, csv: &Csv) -> Result<()> {
    if wanted {
        save.write(record, csv)?;
        eprintln!("{}", save.path().display());
    }
    Ok(())
}
