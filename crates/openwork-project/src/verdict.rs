//! Verdict file: a verifier's report with what it is about, and the files that lie beside a circuit.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use openwork_circuit::{CircuitFile, Claim, JsonError, SearchSettings};
use openwork_verify::{
    Control, Edited, Report, Verdict,
    certificate::{Certificate, Kind},
};
use serde::{Deserialize, Serialize};

use crate::{OutputKind, Project, verdict_log::LoggedVerdict, verification::Request};

const FORMAT: &str = "openwork-verdict 6";

/// Report on a circuit, with all that it is about.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictFile {
    format: String,
    /// The subject of the report, by hash.
    pub about: About,
    /// Search that found the circuit, as its file says. None of it sets a term of the verification.
    pub found: Found,
    /// Hash of the file of pairs beside this one.
    pub pairs_sha256: String,
    /// Earlier verdicts in this folder on circuits of the task, the first ones first.
    pub earlier: Vec<LoggedVerdict>,
    /// Outcome of the control searches.
    pub controls: Vec<Control>,
    /// Report of the verifier.
    pub report: Report,
}

/// Subject of a verdict, by hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Task of the circuit.
    pub task: String,
    /// Claim of the circuit.
    pub claim: Claim,
    /// Hash of the claim ([`CircuitFile::claim_sha256`]).
    pub circuit_sha256: String,
    /// Hash of the model.
    pub model_sha256: String,
    /// Hash of the means.
    pub means_sha256: String,
    /// Hash of the data that the means are taken over.
    pub sample_sha256: String,
    /// Hash of the tokenizer.
    pub tokenizer_sha256: String,
}

/// Search that found a circuit, as the circuit's file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Loss that the search was asked for, nats per sequence.
    pub target_loss: f64,
    /// Seed of the search.
    pub seed: u64,
    /// Method and settings.
    pub search: SearchSettings,
    /// Hash of the model before, where the model's own file says that circuits were trained into it: an edited circuit file does not hide
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localised_from: Option<String>,
}

/// A part in which a verdict and what lies beside it differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Task.
    Task,
    /// Claim.
    Claim,
    /// Nodes, edges, claim, calibration, target, seed or search of the circuit.
    Circuit,
    /// Model.
    Model,
    /// Means.
    Means,
    /// Sample that the means are taken over.
    Sample,
    /// Tokenizer.
    Tokenizer,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Task => "task",
            Self::Claim => "claim",
            Self::Circuit => "circuit",
            Self::Model => "model",
            Self::Means => "means",
            Self::Sample => "sample",
            Self::Tokenizer => "tokenizer",
        })
    }
}

impl About {
    /// The subject of a verdict on a circuit of a project.
    pub fn new(project: &Project, circuit: &CircuitFile) -> Self {
        Self {
            task: circuit.task.clone(),
            claim: circuit.claim,
            circuit_sha256: circuit.claim_sha256(),
            model_sha256: project.model_sha256.clone(),
            means_sha256: project.means.sha256(),
            sample_sha256: project.means.data_sha256().to_owned(),
            tokenizer_sha256: project.tokenizer.sha256().to_owned(),
        }
    }

    /// The parts in which this subject and a circuit file differ; means and tokenizer are those that the file names.
    pub fn differs_from(&self, circuit: &CircuitFile) -> Vec<Part> {
        let parts = [
            (Part::Task, self.task != circuit.task),
            (Part::Claim, self.claim != circuit.claim),
            (Part::Circuit, self.circuit_sha256 != circuit.claim_sha256()),
            (Part::Model, self.model_sha256 != circuit.model_sha256),
            (Part::Means, self.means_sha256 != circuit.means_sha256),
            (Part::Tokenizer, self.tokenizer_sha256 != circuit.tokenizer_sha256),
        ];
        parts.into_iter().filter(|(_, differs)| *differs).map(|(part, _)| part).collect()
    }

    /// The parts in which this subject and a project differ.
    pub fn differs_from_project(&self, project: &Project) -> Vec<Part> {
        let parts = [
            (Part::Model, self.model_sha256 != project.model_sha256),
            (Part::Means, self.means_sha256 != project.means.sha256()),
            (Part::Sample, self.sample_sha256 != project.means.data_sha256()),
            (Part::Tokenizer, self.tokenizer_sha256 != project.tokenizer.sha256()),
        ];
        parts.into_iter().filter(|(_, differs)| *differs).map(|(part, _)| part).collect()
    }

    /// The parts in which this subject differs from a circuit file, or from a project where one is at hand, each once.
    pub fn differs(&self, circuit: &CircuitFile, project: Option<&Project>) -> Vec<Part> {
        let mut differs = self.differs_from(circuit);
        let others = project.map(|project| self.differs_from_project(project)).unwrap_or_default();
        differs.extend(others.into_iter().filter(|part| !self.differs_from(circuit).contains(part)));
        differs
    }
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
    /// There is a verdict that tells more than the new one would.
    #[error(
        "{} holds a verdict of level {level} on this circuit ({headline}), and this verification asks for less: write to another \
         file with --out, or replace it with --force", path.display()
    )]
    Stronger {
        /// The file.
        path: PathBuf,
        /// Level that was asked for.
        level: u8,
        /// The verdict.
        headline: String,
    },
    /// There is a verdict on a circuit that claims the answer, and the new one would be on a contrast.
    #[error(
        "{} holds a verdict on a circuit that claims the answer ({headline}), and this circuit claims the contrast only: write to \
         another file with --out, or replace it with --force", path.display()
    )]
    OfTheStrongerClaim {
        /// The file.
        path: PathBuf,
        /// The verdict.
        headline: String,
    },
    /// There is a verdict on another circuit.
    #[error("{} is about another circuit: write to another file with --out, or replace it with --force", path.display())]
    OfAnother {
        /// The file.
        path: PathBuf,
    },
    /// The file would hold what is refused when it is read.
    #[error("{} is not written, as it could not be read back: a number of the report is not finite", path.display())]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// The reader's fault.
        source: Box<VerdictError>,
    },
    /// The file is not a verdict file.
    #[error("{} is not a verdict file", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The fault and its line.
        source: JsonError,
    },
    /// The file is of another version.
    #[error(
        "{} has format {found:?}, expected {FORMAT:?}: {}", path.display(),
        if found.starts_with("openwork-verdict ") { "verify the circuit again with `openwork verify`" } else { "name a verdict file" }
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that it names.
        found: String,
    },
    /// The file was edited: one part does not follow from the others.
    #[error("{} was edited: verify the circuit again with `openwork verify`", path.display())]
    Edited {
        /// The file.
        path: PathBuf,
        /// The part.
        source: Edited,
    },
}

impl VerdictFile {
    /// The report on a circuit, whose pairs have the hash `pairs_sha256`.
    pub fn new(
        project: &Project,
        circuit: &CircuitFile,
        (controls, report): (Vec<Control>, Report),
        pairs_sha256: String,
        earlier: Vec<LoggedVerdict>,
    ) -> Self {
        let CircuitFile { target_loss, seed, search, .. } = circuit.clone();
        Self {
            format: FORMAT.into(),
            about: About::new(project, circuit),
            found: Found { target_loss, seed, search, localised_from: project.localised_from.clone() },
            pairs_sha256,
            earlier,
            controls,
            report,
        }
    }

    /// The file as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is plain values")
    }

    /// The report as text for people, how the circuit was found, and how often its task was tried before.
    pub fn text(&self) -> String {
        let lines = self.provenance();
        format!("{}\nHow it was found, and tried before\n  {}", self.report.text(), lines.join("\n  "))
    }

    /// Search that found the circuit, and earlier verdicts on circuits of its task, a sentence each.
    pub fn provenance(&self) -> Vec<String> {
        let how = self.found.words();
        let own = self.earlier.iter().filter(|e| e.circuit_sha256 == self.about.circuit_sha256).count();
        let count = match self.earlier.len() {
            0 => "no circuit of this task was verified in this folder before".to_owned(),
            1 if own == 1 => {
                "one earlier verdict in this folder on a circuit of this task, on this very circuit:".into()
            }
            1 => "one earlier verdict in this folder on a circuit of this task, on another circuit:".into(),
            all => format!(
                "{all} earlier verdicts in this folder on circuits of this task, {own} of them on this very circuit:"
            ),
        };
        let earlier = self.earlier.iter().map(|e| {
            let which = if e.circuit_sha256 == self.about.circuit_sha256 { "this circuit" } else { "another circuit" };
            format!("{} ({which}): {}", e.name, e.words())
        });
        [how, count].into_iter().chain(earlier).collect()
    }

    /// Writes the file, atomically.
    ///
    /// # Errors
    /// When it cannot be written, or would not be read back: JSON has no form for a number that is not finite.
    pub fn write(&self, path: &Path) -> Result<(), VerdictError> {
        let text = self.to_json();
        Self::parse(&text, path)
            .map_err(|source| VerdictError::NotWritten { path: path.to_owned(), source: Box::new(source) })?;
        openwork_tensor::write_atomic(path, |w| writeln!(w, "{text}"))
            .map_err(|source| VerdictError::Write { path: path.to_owned(), source })
    }

    /// Reads a verdict file and recomputes what follows from its own numbers.
    ///
    /// # Errors
    /// When the file cannot be read, is not a verdict file, is of another version, or was edited.
    pub fn read(path: &Path) -> Result<Self, VerdictError> {
        let text =
            openwork_tensor::read_text(path).map_err(|source| VerdictError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Fails where `path` holds a verdict that one of `request` should not replace: about another circuit, unless the file lies beside
    /// the circuit at `circuit_path` and takes its verdict; or a finished one about this circuit that was asked for a higher level, had
    /// controls that are left out now, or stricter thresholds. Wherever it lies, a verdict on an answer is not replaced by one on a
    /// contrast.
    ///
    /// # Errors
    /// [`VerdictError::OfTheStrongerClaim`], [`VerdictError::OfAnother`] and [`VerdictError::Stronger`].
    pub fn check_replaceable(
        project: &Project,
        circuit_path: &Path,
        request: &Request<'_>,
        path: &Path,
    ) -> Result<(), VerdictError> {
        // What cannot be read, or is of another version, tells nothing.
        let Ok(old) = Self::read(path) else { return Ok(()) };
        if (old.report.claim, request.circuit.claim) == (Claim::Answer, Claim::Contrast) {
            let (path, headline) = (path.to_owned(), old.report.headline());
            return Err(VerdictError::OfTheStrongerClaim { path, headline });
        }
        if About::new(project, request.circuit) != old.about {
            return match path == verdict_path(circuit_path) {
                true => Ok(()),
                false => Err(VerdictError::OfAnother { path: path.to_owned() }),
            };
        }
        let looser = !request.settings.loosened().is_empty() && *request.settings != old.report.settings;
        let less =
            request.limits.level < old.report.level || (!request.with_controls && !old.controls.is_empty()) || looser;
        match less && old.report.verdict != Verdict::Incomplete {
            true => Err(VerdictError::Stronger {
                path: path.to_owned(),
                level: old.report.level,
                headline: old.report.headline(),
            }),
            false => Ok(()),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, VerdictError> {
        let json = |source| VerdictError::Json { path: path.to_owned(), source };
        // The format first: files of another version have other fields.
        let Format { format: found } = openwork_circuit::from_json(text).map_err(json)?;
        if found != FORMAT {
            return Err(VerdictError::Format { path: path.to_owned(), found });
        }
        let file: Self = openwork_circuit::from_json(text).map_err(json)?;
        let (found, claim) = (file.report.claim, file.about.claim);
        let same_claim = || if found == claim { Ok(()) } else { Err(Edited::Claim { found, claim }) };
        let recomputed = file.report.recompute().and_then(|()| file.report.recompute_controls(&file.controls));
        let recomputed = recomputed.and_then(|()| same_claim());
        match recomputed {
            Ok(()) => Ok(file),
            Err(source) => Err(VerdictError::Edited { path: path.to_owned(), source }),
        }
    }
}

/// Verdict that lies beside a circuit.
pub enum Standing {
    /// There is none.
    Unverified,
    /// There is one, and it is about something else.
    Stale {
        /// The verdict file.
        path: PathBuf,
        /// The parts that differ.
        differs: Vec<Part>,
    },
    /// There is one of an earlier version of the program, which this version does not read.
    Outdated {
        /// The verdict file.
        path: PathBuf,
        /// Its format.
        format: String,
    },
    /// There is one about this circuit.
    Judged(Box<VerdictFile>),
}

impl Standing {
    /// The verdict beside the circuit file at `path`, if it is about `circuit`, and about `project` where one is at hand.
    ///
    /// # Errors
    /// When there is a verdict file that cannot be used.
    pub fn of(path: &Path, circuit: &CircuitFile, project: Option<&Project>) -> Result<Self, VerdictError> {
        let path = verdict_path(path);
        if !path.exists() {
            return Ok(Self::Unverified);
        }
        let file = match VerdictFile::read(&path) {
            Err(VerdictError::Format { path, found }) if is_earlier(&found) => {
                return Ok(Self::Outdated { path, format: found });
            }
            file => file?,
        };
        let differs = file.about.differs(circuit, project);
        Ok(match differs.is_empty() {
            true => Self::Judged(Box::new(file)),
            false => Self::Stale { path, differs },
        })
    }

    /// Sentence on a circuit that did not pass, or passed as a contrast alone, whose verdict is about something else, or that has none.
    pub fn reservation(&self) -> Option<String> {
        match self {
            Self::Unverified => Some("this circuit has not been verified; `openwork verify` does it".into()),
            Self::Stale { path, differs } => Some(stale(path, differs)),
            Self::Outdated { path, format } => Some(format!(
                "{} has format {format:?}, that of an earlier version of the program: verify the circuit again with `openwork verify`",
                path.display()
            )),
            Self::Judged(file)
                if file.report.verdict.passed_claim() == Some(Claim::Answer)
                    && file.report.settings.loosened().is_empty() =>
            {
                None
            }
            Self::Judged(file) => Some(format!("the verdict on this circuit is {}", file.report.headline())),
        }
    }
}

/// True for the formats of verdict files that earlier versions wrote: a name and a whole number below this version's.
pub(crate) fn is_earlier(format: &str) -> bool {
    let number = |format: &str| format.strip_prefix("openwork-verdict ").and_then(|n| n.parse::<u32>().ok());
    number(format).is_some_and(|found| Some(found) < number(FORMAT))
}

/// Sentence on a verdict that is about something else.
pub fn stale(path: &Path, differs: &[Part]) -> String {
    let parts: Vec<String> = differs.iter().map(ToString::to_string).collect();
    format!(
        "{} is about something else than what lies beside it now ({} differs): verify the circuit again with `openwork verify`",
        path.display(),
        parts.join(", ")
    )
}

/// Default verdict file of a circuit file: `NAME.verdict.json` beside it.
pub fn verdict_path(circuit: &Path) -> PathBuf {
    circuit.with_extension("verdict.json")
}

/// Circuit file of a verdict file that has its default name.
pub fn circuit_of_verdict(verdict: &Path) -> Option<PathBuf> {
    let name = verdict.file_name()?.to_str()?.strip_suffix(".verdict.json")?;
    Some(verdict.with_file_name(format!("{name}.json")))
}

/// File of the pairs that a verdict was made on: `NAME.pairs.json` beside the verdict file.
pub fn pairs_path(verdict: &Path) -> PathBuf {
    let bare = circuit_of_verdict(verdict).unwrap_or_else(|| verdict.to_owned());
    bare.with_extension("pairs.json")
}

/// Files that belong to the circuit file at `path`, with their kinds: verdict, pairs and certificates, whether or not they exist.
pub fn files_beside(path: &Path) -> Vec<(OutputKind, PathBuf)> {
    let verdict = verdict_path(path);
    let certificates = Kind::ALL.map(|kind| (OutputKind::Certificate, certificate_path(path, kind)));
    let others = [
        (OutputKind::Pairs, pairs_path(&verdict)),
        (OutputKind::Verdict, verdict),
        (OutputKind::Domain, domain_path(path)),
    ];
    others.into_iter().chain(certificates).collect()
}

/// Files that a verification of the circuit at `circuit` writes where its verdict goes to `verdict`, with their kinds.
pub fn files_of_verification(circuit: &Path, verdict: &Path) -> Vec<(OutputKind, PathBuf)> {
    let mut files = vec![(OutputKind::Verdict, verdict.to_owned()), (OutputKind::Pairs, pairs_path(verdict))];
    let certificates = |(kind, _): &(OutputKind, PathBuf)| matches!(kind, OutputKind::Certificate | OutputKind::Domain);
    files.extend(files_beside(circuit).into_iter().filter(certificates));
    files
}

fn certificate_path(circuit: &Path, kind: Kind) -> PathBuf {
    circuit.with_extension(format!("{kind}.certificate.json"))
}

fn domain_path(circuit: &Path) -> PathBuf {
    circuit.with_extension("domain.json")
}

/// Writes the certificates of a circuit beside its file, as `NAME.KIND.certificate.json`, and the domain that they are over, as
/// `NAME.domain.json`; returns the paths of the certificates. `task` says what is claimed, in words.
///
/// # Errors
/// When one cannot be written.
pub fn write_certificates(
    circuit: &Path,
    task: &str,
    certificates: &[(Kind, Certificate)],
) -> Result<Vec<PathBuf>, VerdictError> {
    let domain = domain_path(circuit);
    let name = domain.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let write = |path: &Path, text: String| {
        openwork_tensor::write_atomic(path, |w| w.write_all(text.as_bytes()))
            .map_err(|source| VerdictError::Write { path: path.to_owned(), source })
    };
    let certificate = |(kind, certificate): &(Kind, Certificate)| {
        let (path, certificate) = (certificate_path(circuit, *kind), certificate.clone().named(task, &name));
        write(&domain, certificate.domain_json())?;
        write(&path, certificate.to_json())?;
        Ok(path)
    };
    certificates.iter().map(certificate).collect()
}

impl Found {
    /// Search that found the circuit, and the origin of its model, in words.
    fn words(&self) -> String {
        let Self { target_loss, seed, search, localised_from } = self;
        let how = how_found(search, Some((*target_loss, *seed)));
        match (localised_from, search) {
            (None, _) | (_, SearchSettings::Localised(_)) => how,
            (Some(before), _) => format!(
                "circuits were trained into this model, as its own file says, which was model {before} before: the verdict is about this model. Of \
                 this circuit {how}"
            ),
        }
    }
}

/// Search that found a circuit, in words; `asked` are its target loss and seed, which of a circuit that another came from are not known.
fn how_found(search: &SearchSettings, asked: Option<(f64, u64)>) -> String {
    let of_pairs = asked.map_or(String::new(), |(loss, seed)| format!(" for a loss of {loss} nats with seed {seed}"));
    match search {
        SearchSettings::ByHand {} => "a person chose its nodes".to_owned(),
        SearchSettings::Localised(localised) => {
            let nodes = match localised.random {
                None => "they were found in model",
                Some(_) => "they are a connected random circuit, a control, of model",
            };
            format!(
                "its nodes were trained into this model by {} steps of localisation; {nodes} {}, where they had a loss of {:.3} nats: the \
                 verdict is about this model",
                localised.steps, localised.original_sha256, localised.original_loss
            )
        }
        SearchSettings::LearnedMasks(masks) => {
            format!("its file says: found{of_pairs} in {} restarts of {} steps", masks.restarts, masks.steps)
        }
        SearchSettings::Combined(combined) => format!(
            "its file says: the {} of the circuits of {} seeds{of_pairs}, found in {} restarts of {} steps together",
            combined.of,
            combined.circuits_sha256.len(),
            combined.masks.restarts,
            combined.masks.steps
        ),
        SearchSettings::Tuned(tuned) => format!(
            "its file says: found{of_pairs} in {} steps, as number {} of {} searches with other settings each, drawn by {}",
            tuned.masks.steps, tuned.won, tuned.masks.restarts, tuned.sampler
        ),
        SearchSettings::Grown(grown) => {
            let reached = match grown.reached {
                true => "every check of its own search holds",
                false => "it does not reach what its own search asks for",
            };
            format!(
                "its file says: grown by counter-examples from a circuit of {} nodes, for an agreement of {}{of_pairs}; {reached}. Of the \
                 circuit before it: {}",
                grown.start.nodes,
                grown.settings.agreement,
                how_found(&grown.start.search, None)
            )
        }
        SearchSettings::Scored(scored) => {
            format!(
                "its file says: the smallest top of the ranking of {} by the score {}{of_pairs}",
                scored.parts, scored.score
            )
        }
        SearchSettings::Refined(refined) => format!(
            "its file says: what is left of a circuit of {} nodes and {} edges once all went without which it had {}{}. Of the circuit \
             before it: {}",
            refined.nodes,
            refined.edges,
            refined.hold,
            if refined.edge_masks.is_some() { ", in the order of masks over its edges" } else { "" },
            how_found(&refined.search, None)
        ),
    }
}

#[cfg(test)]
mod tests {
    use openwork_circuit::{Localisation, Localised};

    use super::*;

    #[test]
    fn an_edited_circuit_does_not_hide_that_circuits_were_trained_into_its_model() {
        let found = |search, localised_from: Option<&str>| Found {
            target_loss: 0.15,
            seed: 1,
            search,
            localised_from: localised_from.map(str::to_owned),
        };
        let by_hand = |from| found(SearchSettings::ByHand {}, from).words();
        assert!(!by_hand(None).contains("trained into"));
        let edited = by_hand(Some("0a1b"));
        assert!(
            edited.contains("trained into this model") && edited.contains("0a1b") && edited.contains("a person chose")
        );
        // A file that says so itself says it once.
        let (original_sha256, settings) = ("0a1b".to_owned(), Localisation::default());
        let localised = Localised { original_sha256, original_loss: 0.1, steps: 3, random: None, settings };
        let own = found(SearchSettings::Localised(localised), Some("0a1b")).words();
        assert_eq!(own.matches("trained into this model").count(), 1);
        // Verdicts of before read as they were written.
        let text = serde_json::to_string(&found(SearchSettings::ByHand {}, None)).unwrap();
        assert!(!text.contains("localised_from"));
        assert_eq!(serde_json::from_str::<Found>(&text).unwrap(), found(SearchSettings::ByHand {}, None));
    }
}
