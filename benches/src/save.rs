//! Files of results: `benches/runs/DATE-DEVICE/`, a text for people and a CSV with every sample.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};

use crate::{Csv, Machine, Record, machine};

/// Folder of the repository: that of the sources, or the one in OPENWORK_ROOT where they are elsewhere.
pub fn repository() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| match env::var_os("OPENWORK_ROOT") {
        Some(root) => root.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the benches lie in the repository").into(),
    })
}

/// The date in UTC, `2026-11-22`.
pub fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date((seconds / 86400) as i64)
}

/// The commit that is checked out, and whether anything was changed since.
pub fn commit() -> String {
    let git = |args: &[&str]| machine::output("git", &[&["-C", &repository().to_string_lossy()], args].concat());
    match (git(&["rev-parse", "HEAD"]), git(&["status", "--porcelain", "--untracked-files=no"])) {
        (Some(commit), Some(changes)) if changes.is_empty() => commit,
        (Some(commit), _) => format!("{commit} with uncommitted changes"),
        (None, _) => "unknown".into(),
    }
}

/// The last of the folders `benches/runs/*-DEVICE` that holds `name`.
pub fn latest_folder(device: &str, name: &str) -> Option<PathBuf> {
    let runs = fs::read_dir(repository().join("benches/runs")).ok()?;
    let folders = runs.filter_map(|entry| Some(entry.ok()?.path()));
    let of_device = |path: &PathBuf| path.to_string_lossy().ends_with(&format!("-{device}"));
    folders.filter(of_device).filter(|path| path.join(name).exists()).max()
}

/// A benchmark's place on disk.
pub struct Save {
    folder: PathBuf,
    name: String,
    heading: String,
    peers: Vec<String>,
}

impl Save {
    /// The place of today's results of the program `bench` (`step`) on `machine`, in files called `name`.
    pub fn new(bench: &str, name: &str, machine: &Machine) -> Self {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let mut lines = vec![
            ("date", today()),
            ("commit", commit()),
            ("command", format!("cargo xtask bench {bench} {}", args.join(" ")).trim_end().into()),
        ];
        lines.extend(machine.lines());
        lines.push(("load", format!("{} at the start", machine::load())));
        let heading = lines.iter().map(|(name, value)| line(name, value)).collect();
        let folder = repository().join(format!("benches/runs/{}-{}", today(), machine.device()));
        Self { folder, name: name.into(), heading, peers: vec![] }
    }

    /// Notes with what it is compared, and in which version.
    pub fn peer(&mut self, version: &str) {
        if !self.peers.iter().any(|known| known == version) {
            self.peers.push(version.to_owned());
        }
    }

    /// Writes what there is so far, whole.
    pub fn write(&self, record: &Record, csv: &Csv) -> Result<()> {
        let peers: String = self.peers.iter().map(|version| line("peer", version)).collect();
        let heading = self.heading.clone() + &line("load", &format!("{} at the end", machine::load())) + &peers + "\n";
        self.file("txt", &(heading + record.text()))?;
        self.file("csv", &csv.text())
    }

    /// File of the samples.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name).with_extension("csv")
    }

    fn file(&self, extension: &str, text: &str) -> Result<()> {
        write(&self.folder.join(&self.name).with_extension(extension), text)
    }
}

/// A line of the heading.
fn line(name: &str, value: &str) -> String {
    format!("# {name:8} {value}\n")
}

/// Writes a file atomically, and its folder where it is missing.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    openwork_tensor::write_atomic(path, |w| w.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The date `days` after 1970-01-01 in the Gregorian calendar (Howard Hinnant's `civil_from_days`, for
/// years after 1970).
fn date(days: i64) -> String {
    let shifted = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        let dates = [0, 59, 11_016, 11_017, 20_779].map(date);
        assert_eq!(dates, ["1970-01-01", "1970-03-01", "2000-02-29", "2000-03-01", "2026-11-22"]);
    }
}
