//! Arguments that say what a document is, and what was left out in words.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use openwork_data::{LeftOut, Sources};

use super::show::{count, say, table};

/// Rules for documents.
#[derive(clap::Args)]
pub struct DocumentArgs {
    /// Extensions of the files that are one document each; they may be compressed (.gz, .zst), as rows may (.jsonl)
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "from", default_value = "py,txt,md")]
    extensions: Vec<String>,
    /// Field of a row of JSON that holds the document
    #[arg(long, value_name = "NAME", requires = "from", default_value = "text")]
    field: String,
    /// Longer documents are left out
    #[arg(long, value_name = "BYTES", requires = "from", default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    max_file_bytes: u64,
    /// Follow links inside the folders; no folder is visited twice
    #[arg(long, requires = "from")]
    follow_symlinks: bool,
}

impl DocumentArgs {
    /// The sources `from` under these rules.
    pub fn sources(self, from: Vec<PathBuf>) -> Sources {
        let Self { extensions, field, max_file_bytes, follow_symlinks } = self;
        let extensions = extensions.iter().map(|extension| extension.trim_start_matches('.').to_owned()).collect();
        Sources { from, extensions, field, max_file_bytes, follow_symlinks }
    }
}

/// Shows what was left out: a table of counts, and the first cases of each reason on standard error.
pub fn show_left_out(left_out: &LeftOut) -> Result<()> {
    if left_out.is_empty() {
        return Ok(());
    }
    say!();
    let rows: Vec<_> = left_out.iter().map(|(reason, cases)| [reason.to_string(), count(cases.count)]).collect();
    table(["left out", "number"], &rows)?;
    eprintln!("left out:{left_out}");
    Ok(())
}

/// Refuses an output that is one of the inputs, under whatever name, or a file inside one that may be read. Files of JSON
/// are not.
pub fn refuse_overwrite<'a>(out: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let Ok(out_file) = std::fs::canonicalize(out) else { return Ok(()) };
    for input in inputs {
        let same = std::fs::canonicalize(input).is_ok_and(|input| {
            out_file == input || out_file.starts_with(input) && out_file.extension().is_none_or(|e| e != "json")
        });
        ensure!(!same, "{} is an input of this command; write to another file with --out", out.display());
    }
    Ok(())
}
