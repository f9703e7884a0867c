//! The benches of the crates, and what criterion found out.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};
use openwork_benches::{Csv, Record, Table, repository};
use serde::Deserialize;

use crate::floors::Rates;

/// The packages whose benches are run.
const PACKAGES: [&str; 2] = ["openwork-sparse", "openwork-ops"];

/// Runs the benches that `ops` name; prints and returns what they measured.
pub fn run(ops: &[String], record: &mut Record) -> Result<Csv> {
    let metadata = metadata()?;
    let (targets, filter) = select(&metadata.benches(), ops);
    let started = SystemTime::now();
    let mut csv = Csv::new(["name", "value", "low", "high", "unit"]);
    for line in cargo_bench(&targets, &filter)? {
        let line = line.context("cannot read what cargo bench prints")?;
        if line.starts_with("Benchmarking ") {
            // Criterion's progress, which is no result.
            eprintln!("{line}");
            continue;
        }
        record.line(&line);
        // The benches have measurements of their own beside criterion's.
        if let Some([name, value, unit]) = metric(&line) {
            csv.row(vec![name.into(), value.into(), String::new(), String::new(), unit.into()]);
        }
    }
    let mut results = Vec::new();
    find(&metadata.target_directory.join("criterion"), started, &mut results)?;
    results.sort_by(|a, b| a.0.full_id.cmp(&b.0.full_id));
    eprintln!("measuring what the machine could do");
    let rates = Rates::measure();
    rates.lines().iter().for_each(|line| record.line(line));
    let mut shares = Table::new(["", "us", "floor us", "share of floor"]);
    for (benchmark, estimates) in &results {
        let time = estimates.median.point_estimate;
        for (name, [value, low, high], unit) in benchmark.rows(&estimates.median) {
            record.metric(&name, value, unit);
            csv.row(vec![name, value.to_string(), low.to_string(), high.to_string(), unit.into()]);
        }
        if let Some(floor) = rates.floor(&benchmark.full_id) {
            let name = format!("{}_share_of_floor", benchmark.full_id);
            record.metric(&name, floor / time, "ratio");
            csv.row(vec![name, (floor / time).to_string(), String::new(), String::new(), "ratio".into()]);
            let microseconds = |ns: f64| format!("{:.1}", ns / 1e3);
            let share = format!("{:.0} %", 100.0 * floor / time);
            shares.row(vec![benchmark.full_id.clone(), microseconds(time), microseconds(floor), share]);
        }
    }
    if !shares.is_empty() {
        record.line(&shares);
    }
    if csv.is_empty() {
        record.line(format!("no benchmark of {} matches {}", PACKAGES.join(" or "), ops.join(" ")));
    }
    Ok(csv)
}

/// The part of `cargo metadata` that is read.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Metadata {
    /// Names of the bench targets.
    fn benches(&self) -> Vec<String> {
        let packages = self.packages.iter().filter(|package| PACKAGES.contains(&package.name.as_str()));
        let targets = packages.flat_map(|package| &package.targets);
        targets.filter(|target| target.kind.iter().any(|kind| kind == "bench")).map(|t| t.name.clone()).collect()
    }
}

fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(repository());
    cargo
}

fn metadata() -> Result<Metadata> {
    let output =
        cargo().args(["metadata", "--no-deps", "--format-version=1"]).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("cargo metadata is not what was expected")
}

/// The targets to run, and the pattern that criterion filters by: names of targets choose those, other
/// words choose benchmarks.
fn select(benches: &[String], ops: &[String]) -> (Vec<String>, Option<String>) {
    let (targets, words): (Vec<&String>, Vec<&String>) = ops.iter().partition(|op| benches.contains(op));
    let targets = if targets.is_empty() { benches.to_vec() } else { targets.into_iter().cloned().collect() };
    let filter = words.into_iter().cloned().collect::<Vec<_>>().join("|");
    (targets, (!filter.is_empty()).then_some(filter))
}

/// Lines that the benches print while they run.
fn cargo_bench(targets: &[String], filter: &Option<String>) -> Result<impl Iterator<Item = std::io::Result<String>>> {
    let mut command = cargo();
    command.arg("bench");
    command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    command.args(targets.iter().flat_map(|target| ["--bench", target]));
    command.arg("--").args(filter).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo bench")?;
    let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    Ok(std::iter::from_fn(move || {
        lines.next().or_else(|| match child.wait() {
            Ok(status) if status.success() => None,
            Ok(status) => Some(Err(std::io::Error::other(format!("cargo bench failed ({status})")))),
            Err(error) => Some(Err(error)),
        })
    }))
}

/// Name, value and unit of a line `METRIC name value unit`.
fn metric(line: &str) -> Option<[&str; 3]> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["METRIC", name, value, unit] => Some([name, value, unit]),
        _ => None,
    }
}

/// `benchmark.json` of criterion.
#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
    throughput: Option<Throughput>,
}

/// Work of one call. Criterion has more kinds of it; the others have no rate here.
#[derive(Deserialize)]
enum Throughput {
    Bytes(u64),
    BytesDecimal(u64),
    Elements(u64),
    #[serde(untagged)]
    Other(serde::de::IgnoredAny),
}

/// `estimates.json` of criterion.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

impl Benchmark {
    /// Name, median with its interval, and unit: of the time, and of the rate where there is one.
    fn rows(&self, median: &Estimate) -> Vec<(String, [f64; 3], &'static str)> {
        let (low, high) = (median.confidence_interval.lower_bound, median.confidence_interval.upper_bound);
        let mut rows = vec![(self.full_id.clone(), [median.point_estimate, low, high], "ns")];
        let rate = match self.throughput {
            Some(Throughput::Elements(n)) => Some((n, "Gelem/s")),
            Some(Throughput::Bytes(n) | Throughput::BytesDecimal(n)) => Some((n, "GB/s")),
            Some(Throughput::Other(_)) | None => None,
        };
        if let Some((n, unit)) = rate {
            // Per nanosecond is billions per second; the interval turns around.
            let rates = [median.point_estimate, high, low].map(|ns| n as f64 / ns);
            rows.push((format!("{}_rate", self.full_id), rates, unit));
        }
        rows
    }
}

/// Everything below `folder` that criterion has written since `started`.
fn find(folder: &Path, started: SystemTime, found: &mut Vec<(Benchmark, Estimates)>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let estimates = path.join("estimates.json");
        let fresh = |path: &Path| path.metadata().and_then(|file| file.modified()).is_ok_and(|time| time >= started);
        if path.ends_with("new") && fresh(&estimates) {
            found.push((read(&path.join("benchmark.json"))?, read(&estimates)?));
        } else if path.is_dir() {
            find(&path, started, found)?;
        }
    }
    Ok(())
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not what criterion writes", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_targets_choose_targets_and_other_words_benchmarks() {
        let benches = ["linear".to_owned(), "update".to_owned()];
        let select = |ops: &[&str]| select(&benches, &ops.iter().map(|op| op.to_string()).collect::<Vec<_>>());
        assert_eq!(select(&[]), (benches.to_vec(), None));
        assert_eq!(select(&["update"]), (vec!["update".into()], None));
        assert_eq!(select(&["spmm", "adam"]), (benches.to_vec(), Some("spmm|adam".into())));
        assert_eq!(select(&["linear", "backward"]), (vec!["linear".into()], Some("backward".into())));
    }

    #[test]
    fn criterions_files_are_read_and_old_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |group: &str, throughput: &str| {
            let folder = dir.path().join(group).join("forward/new");
            fs::create_dir_all(&folder).unwrap();
            let benchmark = format!(r#"{{"full_id":"{group}/forward","throughput":{throughput}}}"#);
            fs::write(folder.join("benchmark.json"), benchmark).unwrap();
            let estimates = r#"{"median":{"confidence_interval":{"confidence_level":0.95,"lower_bound":100.0,
                "upper_bound":400.0},"point_estimate":200.0,"standard_error":1.0}}"#;
            fs::write(folder.join("estimates.json"), estimates).unwrap();
        };
        write("plain", "null");
        write("rate", r#"{"Elements":800}"#);
        write("other", r#"{"Bits":8}"#);
        let found = |since| {
            let mut found = Vec::new();
            find(dir.path(), since, &mut found).unwrap();
            found.sort_by(|a, b| a.0.full_id.cmp(&b.0.full_id));
            found.iter().flat_map(|(benchmark, e)| benchmark.rows(&e.median)).collect::<Vec<_>>()
        };
        let rows = found(SystemTime::UNIX_EPOCH);
        let names: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        assert_eq!(names, ["other/forward", "plain/forward", "rate/forward", "rate/forward_rate"]);
        assert_eq!((rows[2].1, rows[3].1), ([200.0, 100.0, 400.0], [4.0, 2.0, 8.0]));
        assert!(found(SystemTime::now() + std::time::Duration::from_secs(60)).is_empty());
    }

    #[test]
    fn lines_of_other_programs_are_understood() {
        assert_eq!(metric("METRIC a 1.5 ratio"), Some(["a", "1.5", "ratio"]));
        assert_eq!(metric("METRIC a 1.5"), None);
    }
}
