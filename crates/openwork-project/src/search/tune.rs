//! Tuning of a search, with a trace on disk that it goes on from.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
};

use openwork_circuit::{
    CircuitFile, Claim, LearnedMasks, Node, NodeSet, NodeSpace, Sampler, SearchSettings, Tuned, batches,
};
use openwork_extract::{OnTuneStep, PruneError, Pruned, Search, Settings, Trial, Tuning, best_trial};
use openwork_tasks::Splits;
use openwork_tensor::{sha256_bytes, write_atomic};
use serde::{Deserialize, Serialize};

use super::SearchError;
use crate::{Project, tasks::check_finite};

/// Format of traces.
const FORMAT: &str = "openwork-tune 1";

/// Tuning that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct TuneRequest<'a> {
    /// Name of the task.
    pub task: &'a str,
    /// Pairs of the task.
    pub splits: &'a Splits,
    /// Claim of the circuit.
    pub claim: Claim,
    /// Target, seed, and the settings that the first search has.
    pub settings: &'a Settings,
    /// Sampler of the settings of the others.
    pub sampler: Sampler,
    /// Number of searches.
    pub runs: usize,
    /// Trace: written after every round, and gone on from where it is there.
    pub trace: &'a Path,
}

/// Result of a tuning.
#[derive(Clone, Debug)]
pub struct TunedSearch {
    /// Circuit of the best search that reached the target; none where none did.
    pub circuit: Option<CircuitFile>,
    /// Searches that are finished.
    pub trials: Vec<Trial>,
}

/// Reason that a tuning failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// The search cannot be made.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// The trace cannot be read or written.
    #[error("cannot use the trace {}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A line of the trace is none.
    #[error("{}, line {line}: {fault}; --force begins anew", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The fault.
        fault: String,
    },
    /// The trace is of another tuning.
    #[error(
        "{} is the trace of another tuning: its {field} is {found}, and {expected} is asked for; name another circuit with --name, or \
         begin anew with --force", path.display()
    )]
    OtherTuning {
        /// The file.
        path: PathBuf,
        /// Field that differs.
        field: &'static str,
        /// Its value there.
        found: String,
        /// The value that is asked for.
        expected: String,
    },
    /// The trace has more searches than are asked for.
    #[error("{} has {found} searches, more than the {asked} of --runs: ask for at least {found}, or begin anew with --force", path.display())]
    Fewer {
        /// The file.
        path: PathBuf,
        /// Searches there.
        found: usize,
        /// Searches that are asked for.
        asked: usize,
    },
}

/// First line of a trace.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    task: String,
    model_sha256: String,
    means_sha256: String,
    target_loss: f64,
    seed: u64,
    sampler: Sampler,
    masks: LearnedMasks,
}

/// Line of a search.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    trial: usize,
    masks: LearnedMasks,
    reached: bool,
    loss: f64,
    edges: usize,
    nodes: Vec<String>,
}

/// Name of a field of the header and its value in words.
type Field = (&'static str, fn(&Header) -> String);

impl Header {
    fn new(project: &Project, request: &TuneRequest<'_>) -> Self {
        Self {
            format: FORMAT.into(),
            task: request.task.into(),
            model_sha256: project.model_sha256.clone(),
            means_sha256: project.means.sha256(),
            target_loss: request.settings.target_loss,
            seed: request.settings.seed,
            sampler: request.sampler,
            masks: request.settings.masks.clone(),
        }
    }

    /// The first field that differs, with both values.
    fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let masks = |h: &Self| serde_json::to_string(&h.masks).expect("plain values");
        let fields: [Field; 7] = [
            ("format", |h| h.format.clone()),
            ("task", |h| h.task.clone()),
            ("model_sha256", |h| h.model_sha256.clone()),
            ("means_sha256", |h| h.means_sha256.clone()),
            ("target_loss", |h| h.target_loss.to_string()),
            ("seed", |h| h.seed.to_string()),
            ("sampler", |h| h.sampler.to_string()),
        ];
        let found = fields.into_iter().map(|(name, of)| (name, of(self), of(other)));
        found.chain([("masks", masks(self), masks(other))]).find(|(_, a, b)| a != b)
    }
}

/// Text of a trace.
fn text(header: &Header, trials: &[Trial]) -> String {
    let mut text = serde_json::to_string(header).expect("plain values") + "\n";
    for (number, trial) in trials.iter().enumerate() {
        let line = Line {
            trial: number,
            masks: trial.masks.clone(),
            reached: trial.reached,
            loss: trial.loss,
            edges: trial.edges,
            nodes: trial.nodes.nodes().map(|n| n.to_string()).collect(),
        };
        writeln!(text, "{}", serde_json::to_string(&line).expect("plain values")).expect("text takes text");
    }
    text
}

/// Header and searches of a trace.
fn parsed(path: &Path, text: &str, space: &NodeSpace) -> Result<(Header, Vec<Trial>), TuneError> {
    let at = |line: usize, fault: String| TuneError::Line { path: path.to_owned(), line: line + 1, fault };
    let mut lines = text.lines().enumerate();
    let (_, first) = lines.next().ok_or_else(|| at(0, "it is empty".into()))?;
    let header: Header = serde_json::from_str(first).map_err(|e| at(0, e.to_string()))?;
    let mut trials = vec![];
    for (i, line) in lines {
        let line: Line = serde_json::from_str(line).map_err(|e| at(i, e.to_string()))?;
        if line.trial != trials.len() {
            return Err(at(i, format!("trial is {} and must be {}", line.trial, trials.len())));
        }
        let number = |name: &String| {
            let node: Node = name.parse().map_err(|e: openwork_circuit::NodeError| at(i, e.to_string()))?;
            space.find(node).map_err(|e| at(i, e.to_string()))
        };
        let numbers: Vec<usize> = line.nodes.iter().map(number).collect::<Result<_, _>>()?;
        let nodes = NodeSet::of(space.clone(), numbers);
        let Line { masks, reached, loss, edges, .. } = line;
        trials.push(Trial { masks, reached, loss, nodes, edges });
    }
    Ok((header, trials))
}

/// Searches of a trace of a model, in their order, and the sampler of their settings.
///
/// # Errors
/// When the file cannot be read or a line of it is none.
pub fn read_trace(project: &Project, path: &Path) -> Result<(Sampler, Vec<Trial>), TuneError> {
    let text = openwork_tensor::read_text(path).map_err(|source| TuneError::Trace { path: path.to_owned(), source })?;
    let (header, trials) = parsed(path, &text, &NodeSpace::new(&project.model.config))?;
    if header.model_sha256 != project.model_sha256 {
        let (found, expected) = (header.model_sha256, project.model_sha256.clone());
        return Err(TuneError::OtherTuning { path: path.to_owned(), field: "model_sha256", found, expected });
    }
    Ok((header.sampler, trials))
}

/// SHA-256 of a trace; none where there is no file.
pub fn trace_sha256(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| sha256_bytes(&bytes))
}

/// Searches of a trace that a tuning goes on from: none where there is no trace.
fn before(project: &Project, request: &TuneRequest<'_>, header: &Header) -> Result<Vec<Trial>, TuneError> {
    let path = || request.trace.to_owned();
    let text = match openwork_tensor::read_text(request.trace) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        text => text.map_err(|source| TuneError::Trace { path: path(), source })?,
    };
    let (found, trials) = parsed(request.trace, &text, &NodeSpace::new(&project.model.config))?;
    if let Some((field, found, expected)) = found.difference(header) {
        return Err(TuneError::OtherTuning { path: path(), field, found, expected });
    }
    match trials.len() > request.runs {
        true => Err(TuneError::Fewer { path: path(), found: trials.len(), asked: request.runs }),
        false => Ok(trials),
    }
}

/// Tunes the search for a circuit of a task: up to the number of runs, on from the trace. Ends early, with what rounds were finished, once
/// `on_step` breaks.
///
/// # Errors
/// When the model itself misses the target, or the trace is of another tuning, damaged, or cannot be written.
pub fn tune(project: &Project, request: &TuneRequest<'_>, on_step: &OnTuneStep<'_>) -> Result<TunedSearch, TuneError> {
    let &TuneRequest { task, splits, settings, sampler, runs, trace, .. } = request;
    let (Project { model, means, .. }, Splits { train, selection, .. }) = (project, splits);
    let header = Header::new(project, request);
    let before = before(project, request, &header)?;
    let prompts = batches(&[&train[..], selection].concat(), 8, model.config.n_ctx);
    check_finite(model, &prompts).map_err(|source| SearchError::NotFinite { task: task.into(), source })?;
    let search = Search { model, means, train, validation: selection, settings };
    let unreachable = |e| SearchError::Prune { task: task.into(), source: PruneError::NotReached(e) };
    search.check().map_err(unreachable)?;
    let tuning = Tuning { search, sampler, runs };
    let trials = tuning.run(before, on_step, &mut |trials| {
        let text = text(&header, trials);
        write_atomic(trace, |w| w.write_all(text.as_bytes()))
            .map_err(|source| TuneError::Trace { path: trace.to_owned(), source })
    })?;
    let best = best_trial(&trials).filter(|(_, best)| best.reached);
    let circuit = best.map(|(won, best)| {
        let Pruned { circuit, calibration, loss, .. } = tuning.circuit(best);
        let masks = LearnedMasks { restarts: trials.len(), ..best.masks.clone() };
        let trace_sha256 = sha256_bytes(text(&header, &trials).as_bytes());
        CircuitFile {
            task: task.into(),
            model_sha256: header.model_sha256.clone(),
            means_sha256: header.means_sha256.clone(),
            tokenizer_sha256: project.tokenizer.sha256().into(),
            circuit,
            claim: request.claim,
            calibration,
            target_loss: settings.target_loss,
            loss,
            seed: settings.seed,
            search: SearchSettings::Tuned(Tuned { masks, sampler, won, trace_sha256 }),
        }
    });
    Ok(TunedSearch { circuit, trials })
}

#[cfg(test)]
mod tests {
    use openwork_model::Config;

    use super::*;

    fn header() -> Header {
        Header {
            format: FORMAT.into(),
            task: "with_as".into(),
            model_sha256: "m".into(),
            means_sha256: "a".into(),
            target_loss: 0.15,
            seed: 3,
            sampler: Sampler::Tpe,
            masks: LearnedMasks::default(),
        }
    }

    #[test]
    fn a_trace_reads_back_and_what_is_damaged_is_named() {
        let space = NodeSpace::new(&Config::default());
        let trial = |edges| Trial {
            masks: LearnedMasks { lr: 0.1 + 0.2, ..LearnedMasks::default() },
            reached: edges < 9,
            loss: 1.0 / 3.0,
            nodes: NodeSet::of(space.clone(), [1, 5, 700]),
            edges,
        };
        let trials = vec![trial(4), trial(9)];
        let (path, text) = (Path::new("with_as.tune.jsonl"), text(&header(), &trials));
        let (found, read) = parsed(path, &text, &space).unwrap();
        assert_eq!((found.difference(&header()), read), (None, trials));
        let fault = |text: &str| parsed(path, text, &space).unwrap_err().to_string();
        assert!(fault(&text[..text.len() - 9]).contains("with_as.tune.jsonl, line 3"));
        assert!(fault(&text.replace("\"trial\":1", "\"trial\":2")).contains("must be 1"));
        assert!(fault(&text.replace("\"edges\":9", "\"sides\":9")).contains("sides"));
        assert!(fault("").contains("empty"));
        let nodes = text.replace("[\"0.attn.act_in[1]\"", "[\"0.attn.act_in[99999]\"");
        assert!(nodes != text && fault(&nodes).contains("99999"), "{text}");
    }

    #[test]
    fn every_field_of_another_tuning_is_named() {
        let differs = |other: Header| header().difference(&other).expect("another tuning").0;
        assert_eq!(differs(Header { task: "for_while".into(), ..header() }), "task");
        assert_eq!(differs(Header { seed: 4, ..header() }), "seed");
        assert_eq!(differs(Header { target_loss: 0.1, ..header() }), "target_loss");
        assert_eq!(differs(Header { sampler: Sampler::Random, ..header() }), "sampler");
        assert_eq!(differs(Header { model_sha256: String::new(), ..header() }), "model_sha256");
        let masks = LearnedMasks { batch_pairs: 7, ..LearnedMasks::default() };
        assert_eq!(differs(Header { masks, ..header() }), "masks");
    }
}
