//! The page of a view: served until Ctrl-C, or written to one file.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Result;
use openwork_project::{OutputKind, check_free, check_outputs};
use openwork_view::{Server, View, export};

use super::{interrupt, ranges::between, show::say};

/// The page: served, or written to a file.
#[derive(clap::Args)]
pub struct PageArgs {
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

impl PageArgs {
    /// Refuses a file of --export that cannot be written or is not to be replaced, or is one of `inputs`.
    pub fn check(&self, inputs: &[&Path]) -> Result<()> {
        if let Some(path) = &self.export {
            check_free(path, self.force)?;
            check_outputs(&[(OutputKind::Page, path)], inputs)?;
        }
        Ok(())
    }

    /// Writes the page, or serves it until Ctrl-C.
    pub fn show(&self, view: &View) -> Result<()> {
        view.notices().iter().for_each(|notice| eprintln!("note: {}", notice.0));
        if let Some(path) = &self.export {
            export(view, path)?;
            say!("{}", path.display());
            return Ok(());
        }
        let server = Server::listen(self.port as u16)?;
        let url = server.address().url();
        say!("{url}");
        eprintln!("Ctrl-C ends it");
        interrupt::listen()?;
        if !self.no_open {
            open_browser(&url);
        }
        server.serve(view, &interrupt::requested);
        Ok(())
    }
}

/// Opens the address in a browser, where there is a screen and a program that does it.
fn open_browser(url: &str) {
    let is_set = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    if ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(is_set) {
        let mut command = Command::new("xdg-open");
        // Without the program the address that was printed is there.
        let _ = command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}
