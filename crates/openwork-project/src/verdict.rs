//! Verdict file: a verifier's report with what it is about, and the files that lie beside a circuit.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use openwork_circuit::CircuitFile;
use openwork_verify::{
    Control, Report,
    certificate::{Certificate, Kind},
};
use serde::{Deserialize, Serialize};

const FORMAT: &str = "openwork-verdict 4";

/// Report on a circuit, with the model and means that it was verified on.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictFile {
    format: String,
    /// Task of the circuit.
    pub task: String,
    /// Hash of the model.
    pub model_sha256: String,
    /// Hash of the means.
    pub means_sha256: String,
    /// Outcome of the control searches.
    pub controls: Vec<Control>,
    /// Report of the verifier.
    pub report: Report,
}

/// Format of a file, whatever else is in it.
#[derive(Deserialize)]
struct Format {
    format: String,
}

/// Reason that a verdict file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerdictError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is not a verdict file.
    #[error("{} is not a verdict file", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The fault and its line.
        source: serde_json::Error,
    },
    /// The file is of another version.
    #[error(
        "{} has format {found:?}, expected {FORMAT:?}: verify the circuit again with `openwork verify`", path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that it names.
        found: String,
    },
}

impl VerdictFile {
    /// The report on `circuit`.
    pub fn new(circuit: &CircuitFile, controls: Vec<Control>, report: Report) -> Self {
        Self {
            format: FORMAT.into(),
            task: circuit.task.clone(),
            model_sha256: circuit.model_sha256.clone(),
            means_sha256: circuit.means_sha256.clone(),
            controls,
            report,
        }
    }

    /// The file as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is plain values")
    }

    /// Writes the file, atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), VerdictError> {
        let text = self.to_json();
        openwork_tensor::write_atomic(path, |w| writeln!(w, "{text}"))
            .map_err(|source| VerdictError::Write { path: path.to_owned(), source })
    }

    /// Reads a verdict file.
    ///
    /// # Errors
    /// When the file cannot be read, is not a verdict file or is of another version.
    pub fn read(path: &Path) -> Result<Self, VerdictError> {
        let text =
            openwork_tensor::read_text(path).map_err(|source| VerdictError::Read { path: path.to_owned(), source })?;
        let json = |source| VerdictError::Json { path: path.to_owned(), source };
        // The format first: files of another version have other fields.
        let Format { format: found } = serde_json::from_str(&text).map_err(json)?;
        if found != FORMAT {
            return Err(VerdictError::Format { path: path.to_owned(), found });
        }
        serde_json::from_str(&text).map_err(json)
    }
}

/// Default verdict file of a circuit file: `NAME.verdict.json` beside it.
pub fn verdict_path(circuit: &Path) -> PathBuf {
    circuit.with_extension("verdict.json")
}

/// Writes the certificates of a circuit beside its file, as `NAME.KIND.certificate.json`; returns their paths.
///
/// # Errors
/// When one cannot be written.
pub fn write_certificates(circuit: &Path, certificates: &[(Kind, Certificate)]) -> Result<Vec<PathBuf>, VerdictError> {
    let write = |(kind, certificate): &(Kind, Certificate)| {
        let path = circuit.with_extension(format!("{kind}.certificate.json"));
        openwork_tensor::write_atomic(&path, |w| w.write_all(certificate.to_json().as_bytes()))
            .map_err(|source| VerdictError::Write { path: path.clone(), source })?;
        Ok(path)
    };
    certificates.iter().map(write).collect()
}
