//! `cargo xtask bench step`: whole training steps beside PyTorch's.
//!
//! One process is busy at a time, and every contestant has its turn in every round. Five of them are ours:
//! exact gradients, gradients of nonzeros only, both with activations in bf16, and the dense path, which is the
//! same code on weights that are all there. What sparsity gains and what better code gains are therefore two numbers.

mod cases;
mod measure;
mod plot;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use openwork_benches::exit;

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask bench step",
    about = "Times whole training steps",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    measure: measure::Args,
}

#[derive(Subcommand)]
enum Command {
    /// Draw docs/bench/*.svg from saved samples
    Plot(plot::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit(match cli.command {
        Some(Command::Plot(args)) => plot::run(args),
        None => measure::run(cli.measure),
    })
}
