//! `openwork view`: models, circuits and runs in a browser.

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::Result;
use openwork_project::{OutputKind, check_free, check_outputs};
use openwork_view::{Server, View, export};

use crate::ui::{interrupt, ranges::between, show::say};

/// Model that is opened where nothing is named: it comes with the program.
const SHIPPED: &str = "quickstart-localised";

/// Text that `--help` adds.
const NOTES: &str = "\
The page is served on 127.0.0.1 alone, under an address with a random token, until Ctrl-C. docs/viewer.md shows
it. --export writes the page as one file that needs no server, with the answers to what it can ask.";

/// Arguments of the command.
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    /// Models, runs or circuit files [default: quickstart-localised, which comes with the program]
    targets: Vec<PathBuf>,
    /// Port to listen on; 0 takes any that is free
    #[arg(long, default_value_t = 0, value_parser = between::<usize>(0, 65_535), conflicts_with = "export")]
    port: usize,
    /// Do not open a browser
    #[arg(long, conflicts_with = "export")]
    no_open: bool,
    /// Write the page to one HTML file, and serve nothing
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Replace the file of --export where it exists
    #[arg(long, requires = "export")]
    force: bool,
}

/// Runs the command.
pub fn run(mut args: Args) -> Result<ExitCode> {
    if args.targets.is_empty() {
        args.targets.push(SHIPPED.into());
    }
    if let Some(path) = &args.export {
        check_free(path, args.force)?;
        check_outputs(&[(OutputKind::Page, path)], &[])?;
    }
    let view = View::open(&args.targets)?;
    view.notices().iter().for_each(|notice| eprintln!("note: {}", notice.0));
    if let Some(path) = &args.export {
        export(&view, path)?;
        say!("{}", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    let server = Server::listen(args.port as u16)?;
    let url = server.address().url();
    say!("{url}");
    eprintln!("Ctrl-C ends it");
    interrupt::listen()?;
    if !args.no_open {
        open_browser(&url);
    }
    server.serve(&view, &interrupt::requested);
    Ok(ExitCode::SUCCESS)
}

/// Opens the address in a browser, where there is a screen and a program that does it.
fn open_browser(url: &str) {
    let screen =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
    if screen {
        let mut command = Command::new("xdg-open");
        // Without the program the address that was printed is there.
        let _ = command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}
