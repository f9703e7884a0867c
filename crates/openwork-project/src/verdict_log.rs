//! Log of verdicts: a line for every verification of a circuit in a folder, so that nobody forgets how often one was tried.
//!
//! Lines are only added. A verdict file can be replaced, its line cannot.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

use openwork_circuit::Claim;
use openwork_verify::Settings;
use serde::{Deserialize, Serialize};

use crate::{VerdictError, VerdictFile};

/// Name of the log in the folder of circuits.
const FILE: &str = "verdicts.jsonl";

/// One verification of a circuit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedVerdict {
    /// Name of the circuit file.
    pub name: String,
    /// Task.
    pub task: String,
    /// Claim of the circuit; a line of before there were two claims is on an answer.
    #[serde(default)]
    pub claim: Claim,
    /// Hash of the claim.
    pub circuit_sha256: String,
    /// Hash of the model.
    pub model_sha256: String,
    /// Verdict in a line, with the settings that are looser than the defaults.
    pub headline: String,
    /// Level that was asked for.
    pub level: u8,
    /// Settings.
    pub settings: Settings,
}

impl LoggedVerdict {
    /// The verdict, the level that was asked for and the settings that are not the defaults, in words.
    pub fn words(&self) -> String {
        let changed: Vec<String> = self.settings.changed().iter().map(ToString::to_string).collect();
        let settings = if changed.is_empty() { "default settings".into() } else { changed.join(", ") };
        format!("{}; level {} was asked for; {settings}", self.headline, self.level)
    }
}

/// The log beside a circuit file.
fn path_of(circuit: &Path) -> PathBuf {
    circuit.with_file_name(FILE)
}

/// Earlier verdicts on circuits of a task in the folder of a circuit file, the first ones first. What cannot be read as a line of
/// the log, such as the last one of a machine that went down, is counted.
///
/// # Errors
/// When there is a log that cannot be read.
pub fn earlier_verdicts(circuit: &Path, task: &str) -> Result<(Vec<LoggedVerdict>, usize), VerdictError> {
    let path = path_of(circuit);
    let text = match std::fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((vec![], 0)),
        text => text.map_err(|source| VerdictError::Read { path, source })?,
    };
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let (mut found, mut unreadable) = (vec![], 0);
    for line in lines {
        match serde_json::from_str::<LoggedVerdict>(line) {
            Ok(verdict) if verdict.task == task => found.push(verdict),
            Ok(_) => (),
            Err(_) => unreadable += 1,
        }
    }
    Ok((found, unreadable))
}

/// Adds a verdict to the log beside a circuit file, in one write.
///
/// # Errors
/// When it cannot be written.
pub fn log_verdict(circuit: &Path, verdict: &VerdictFile) -> Result<(), VerdictError> {
    let path = path_of(circuit);
    let report = &verdict.report;
    let line = LoggedVerdict {
        name: circuit.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        task: verdict.about.task.clone(),
        claim: report.claim,
        circuit_sha256: verdict.about.circuit_sha256.clone(),
        model_sha256: verdict.about.model_sha256.clone(),
        headline: report.headline(),
        level: report.level,
        settings: report.settings.clone(),
    };
    let line = serde_json::to_string(&line).expect("plain values");
    let append = || -> io::Result<()> {
        // A line that was cut short stays a line of its own.
        let torn = std::fs::read(&path).is_ok_and(|text| text.last().is_some_and(|&b| b != b'\n'));
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.write_all(format!("{}{line}\n", if torn { "\n" } else { "" }).as_bytes())?;
        file.sync_all()
    };
    append().map_err(|source| VerdictError::Write { path: path.clone(), source })
}
