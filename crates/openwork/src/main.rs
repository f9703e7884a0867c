//! The `openwork` program: parse, call, show. A module per command; what they compute lives in the library crates.

mod commands;
mod page;
mod screen;
mod ui;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use commands::{
    check_certificate, config, curves, data, debug, devices, dissociate, exchange, forward, fsck, generate, hypothesis,
    localise, models, plot, prune, quickstart, recipe, refine, replay, report, stability, tasks, tokenize, tokenizer,
    train, tune, verdict, verify, view, watch,
};

/// Rows of matrices begin at cache lines with it, which the kernels gain by, and memory comes back warm.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Train transformers whose weights are almost all zero, extract circuits from them, and verify those.
#[derive(Parser)]
#[command(name = "openwork", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make token shards, from generated programs or from files
    #[command(subcommand)]
    Data(data::Command),
    /// Make a tokenizer, by training or from published files
    #[command(subcommand)]
    Tokenizer(tokenizer::Command),
    /// Show the tokens of a text, with their ids and positions
    Tokenize(tokenize::Args),
    /// Train a model from a recipe
    Train(train::Args),
    /// Draw the curves of a training run
    Plot(plot::Args),
    /// Continue a text
    Generate(generate::Args),
    /// Show what a model finds likeliest after a prompt, or write logits, activations and gradients over given tokens
    Forward(forward::Args),
    /// Name, show and measure the tasks that circuits are for
    #[command(subcommand)]
    Tasks(tasks::Command),
    /// Find the circuit of a task
    Prune(prune::Args),
    /// Remove the edges and nodes that a circuit does not need
    Refine(refine::Args),
    /// Draw what circuits of growing size do, by the score that ranks their nodes or edges
    Curves(curves::Args),
    /// Train circuits into a model, so that they alone decide their tasks
    Localise(localise::Args),
    /// Find the settings of a search that give the smallest circuit of a task
    Tune(tune::Args),
    /// Find the circuit of a task from several seeds, and compare the circuits
    Stability(stability::Args),
    /// Verify a circuit, or refute it: exit code 0 if it passes, 1 if it is refuted, 3 if not all was tested
    Verify(verify::Args),
    /// Show a verdict that was written before, as verify does
    Verdict(verdict::Args),
    /// Run the counter-example of a refuted circuit again: exit code 0 if it is as the report says
    Replay(replay::Args),
    /// Derive a certificate anew with code that shares nothing with its writer: exit code 0 if it holds, 1 if not
    CheckCertificate(check_certificate::Args),
    /// Test a hypothesis about nodes: exit code 0 if it is supported
    Hypothesis(hypothesis::Args),
    /// Ablate the circuits of several tasks on each of them: exit code 0 if each is of its own task
    Dissociate(dissociate::Args),
    /// Run a circuit beside its model on prompts as they come: exit code 1 if one is flagged
    Watch(watch::Args),
    /// Step through a run of a model, open its values into their causes, edit it and go on; check claims about mechanisms: exit code
    /// 1 if one falls
    Debug(debug::Args),
    /// Look at models, circuits and runs in a browser, with the model live; or write that page to one file
    View(view::Args),
    /// Look at a published circuit (viz_data.pt) as view does
    ImportViz(view::VizArgs),
    /// Write a page on a run's circuits and their verdicts
    Report(report::Args),
    /// Run the whole pipeline on generated programs: data, training, circuits, verdicts, a page
    Quickstart(quickstart::Args),
    /// Name and print recipes
    #[command(subcommand)]
    Recipe(recipe::Command),
    /// List the models that come with the program, with the verdicts on their circuits
    Models(models::Args),
    /// Print the configuration of a model, and what its file records
    Config(config::Args),
    /// Compare the files of a run with the hashes that they record: exit code 0 if none is damaged, 1 if one is
    Fsck(fsck::Args),
    /// List the devices, and the reason that one cannot be used
    Devices,
    /// Read a published model
    Import(exchange::ImportArgs),
    /// Write a model in the published format
    Export(exchange::ExportArgs),
}

fn main() -> ExitCode {
    ui::show::explain_panics();
    let matches = ui::options::with_signs(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    ui::show::finish(run(cli.command))
}

/// Exit codes: 0 done, 1 a circuit that fails verification, 2 an error, 3 a verification that is not complete, 130 interrupted.
fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Data(command) => data::run(command),
        Command::Tokenizer(command) => tokenizer::run(command),
        Command::Tokenize(args) => tokenize::run(args),
        Command::Train(args) => train::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Forward(args) => forward::run(args),
        Command::Tasks(command) => tasks::run(command),
        Command::Prune(args) => prune::run(args),
        Command::Refine(args) => refine::run(args),
        Command::Curves(args) => curves::run(args),
        Command::Localise(args) => localise::run(args),
        Command::Tune(args) => tune::run(args),
        Command::Stability(args) => stability::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Verdict(args) => verdict::run(args),
        Command::Replay(args) => replay::run(args),
        Command::CheckCertificate(args) => check_certificate::run(args),
        Command::Hypothesis(args) => hypothesis::run(args),
        Command::Dissociate(args) => dissociate::run(args),
        Command::Watch(args) => watch::run(args),
        Command::Debug(args) => debug::run(args),
        Command::View(args) => view::run(args),
        Command::ImportViz(args) => view::import_viz(args),
        Command::Report(args) => report::run(args),
        Command::Quickstart(args) => quickstart::run(args),
        Command::Recipe(command) => recipe::run(command),
        Command::Models(args) => models::run(args),
        Command::Config(args) => config::run(args),
        Command::Fsck(args) => fsck::run(args),
        Command::Devices => devices::run(),
        Command::Import(args) => exchange::import(args),
        Command::Export(args) => exchange::export(args),
    }
}
