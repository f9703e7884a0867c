//! Arguments that say what a document is, and what was left out in words.

use std::path::PathBuf;

use anyhow::Result;
use openwork_data::{LeftOut, Sources};

use super::{
    ranges::positive,
    show::{count, say, table},
};

/// Rules for documents; each has a default.
#[derive(clap::Args)]
pub struct DocumentArgs {
    /// Extensions of the files that are one document each; they may be compressed (.gz, .zst), as rows may (.jsonl)
    /// [default: py,txt,md]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = extension)]
    extensions: Option<Vec<String>>,
    /// Field of a row of JSON that holds the document [default: text]
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Longer documents are left out [default: 1048576]
    #[arg(long, value_name = "BYTES", value_parser = positive::<u64>())]
    max_file_bytes: Option<u64>,
    /// Follow links inside the folders; no folder is visited twice
    #[arg(long)]
    follow_symlinks: bool,
}

/// An extension, with or without its dot.
fn extension(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('.').unwrap_or(text);
    match !bare.is_empty() && bare.chars().all(|c| c.is_alphanumeric() || "_-+".contains(c)) {
        true => Ok(text.to_owned()),
        false => Err("expected extensions such as py,md: letters, digits, _, - and +".into()),
    }
}

impl DocumentArgs {
    /// Error of rules for documents where none are read.
    pub const UNUSED: &str = "--extensions, --field, --max-file-bytes and --follow-symlinks are about the documents of --from; leave them out";

    /// True if one of the rules was given.
    pub fn is_given(&self) -> bool {
        let Self { extensions, field, max_file_bytes, follow_symlinks } = self;
        extensions.is_some() || field.is_some() || max_file_bytes.is_some() || *follow_symlinks
    }

    /// The sources `from` under these rules.
    pub fn sources(self, from: Vec<PathBuf>) -> Sources {
        let Self { extensions, field, max_file_bytes, follow_symlinks } = self;
        let usual = Sources::new(from);
        let without_dot = |list: Vec<String>| list.iter().map(|e| e.trim_start_matches('.').to_owned()).collect();
        Sources {
            extensions: extensions.map_or(usual.extensions, without_dot),
            field: field.unwrap_or(usual.field),
            max_file_bytes: max_file_bytes.unwrap_or(usual.max_file_bytes),
            follow_symlinks,
            from: usual.from,
        }
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
