//! State of a view: models, circuits with their verdicts, and runs, as they lie on disk.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
};

use openwork_circuit::{CircuitError, CircuitFile, Means, NodeSpace};
use openwork_data::Tokenizer;
use openwork_project::{OpenModel, OpenModelError, ProjectError, Sample, Standing, circuits_in, read_log};
use openwork_train::LogLine;

use crate::{ViewError, ask::effects::Effects, published::Published};

/// Something that a person who opens a view should hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenNotice(pub String);

/// A model with what lies beside it.
pub(crate) struct OpenedModel {
    pub name: String,
    pub open: OpenModel,
    pub tokenizer: Tokenizer,
    pub means: Option<Means>,
    pub sample: Option<Sample>,
    pub space: NodeSpace,
}

/// A circuit of one of the models.
pub(crate) struct OpenedCircuit {
    pub model: usize,
    pub name: String,
    pub path: PathBuf,
    /// Labels are edited while the view is open.
    pub file: Mutex<CircuitFile>,
    pub standing: Result<Standing, String>,
    pub effects: OnceLock<Effects>,
}

/// The log of a training run.
pub(crate) struct OpenedRun {
    pub name: String,
    pub model: Option<usize>,
    pub log: Vec<LogLine>,
}

/// Models, circuits and runs that are looked at together. Questions about them are answered by [`View::answer`].
#[derive(Default)]
pub struct View {
    pub(crate) models: Vec<OpenedModel>,
    pub(crate) circuits: Vec<OpenedCircuit>,
    pub(crate) runs: Vec<OpenedRun>,
    /// A published circuit, in place of all others.
    pub(crate) published: Option<Box<Published>>,
    pub(crate) notices: Vec<OpenNotice>,
}

impl View {
    /// Opens what `targets` name, in their order: models and finished runs with all circuits beside them, runs that have not
    /// finished with their curves, and circuit files (`.json`), whose model is one that was named or lies above their folder.
    ///
    /// # Errors
    /// When a target cannot be opened. A circuit beside a model that cannot be read is a notice.
    pub fn open(targets: &[PathBuf]) -> Result<Self, ViewError> {
        let mut view = Self::default();
        let is_circuit = |path: &&PathBuf| path.extension().is_some_and(|end| end == "json");
        for path in targets.iter().filter(|path| !is_circuit(path)) {
            view.open_model(path, true)?;
        }
        for path in targets.iter().filter(is_circuit) {
            view.open_circuit(path)?;
        }
        Ok(view)
    }

    /// Notices of opening.
    pub fn notices(&self) -> &[OpenNotice] {
        &self.notices
    }

    /// Number of the circuit that a page opens on: the first that passes, else the first with a verdict, else the first.
    pub fn first_circuit(&self) -> Option<usize> {
        let judged = |circuit: &OpenedCircuit| matches!(circuit.standing, Ok(Standing::Judged(_)));
        let passed = |circuit: &OpenedCircuit| match &circuit.standing {
            Ok(Standing::Judged(verdict)) => verdict.report.verdict.passed(),
            _ => false,
        };
        let of = |test: &dyn Fn(&OpenedCircuit) -> bool| self.circuits.iter().position(test);
        of(&passed).or_else(|| of(&judged)).or_else(|| (!self.circuits.is_empty()).then_some(0))
    }

    fn open_model(&mut self, path: &Path, with_circuits: bool) -> Result<(), ViewError> {
        let name = name_of(path);
        let open = match OpenModel::open(path) {
            // A run in training has curves and no model.
            Err(OpenModelError::Unfinished { dir }) if dir.join("log.jsonl").exists() => {
                self.runs.push(OpenedRun { name, model: None, log: read_log(&dir)?.steps });
                return Ok(());
            }
            open => open?,
        };
        if self.models.iter().any(|model| model.open.sha256 == open.sha256 && model.open.dir == open.dir) {
            return Ok(());
        }
        self.notices.extend(open.notices.iter().cloned().map(OpenNotice));
        let number = self.models.len();
        if open.dir.join("log.jsonl").exists() {
            self.runs.push(OpenedRun { name: name.clone(), model: Some(number), log: read_log(&open.dir)?.steps });
        }
        let tokenizer = open.tokenizer(None)?;
        let means_path = open.dir.join("means.safetensors");
        let means = match means_path.exists() {
            true => Some(Means::load(&means_path, &open.model, &open.sha256)?),
            false => None,
        };
        let sample = match open.trained_context {
            Some(context) if open.dir.join("sample").exists() => {
                let shape = [context, open.model.config.vocab_size];
                Some(Sample::open(&open.dir, None, tokenizer.sha256(), shape).map_err(ProjectError::from)?)
            }
            _ => None,
        };
        let (space, dir) = (NodeSpace::new(&open.model.config), open.dir.clone());
        self.models.push(OpenedModel { name, open, tokenizer, means, sample, space });
        if !with_circuits {
            return Ok(());
        }
        let failed = |source| ViewError::Io { path: dir.join("circuits"), source };
        for path in circuits_in(&dir).map_err(failed)? {
            if let Err(error) = self.add_circuit(&path, number) {
                self.notices.push(OpenNotice(format!("{}: {}", path.display(), error.words())));
            }
        }
        Ok(())
    }

    fn open_circuit(&mut self, path: &Path) -> Result<(), ViewError> {
        if self.circuits.iter().any(|circuit| same(&circuit.path, path)) {
            return Ok(());
        }
        for number in 0..self.models.len() {
            match self.add_circuit(path, number) {
                Err(ViewError::Project(error)) if is_of_another(&error) => (),
                other => return other,
            }
        }
        // A circuit lies in `circuits` beside its model, or beside the model itself.
        let path = path.canonicalize().map_err(|source| ViewError::Io { path: path.to_owned(), source })?;
        let folder = path.ancestors().skip(1).take(2).find(|dir| dir.join("model.safetensors").is_file());
        let dir = folder.ok_or_else(|| ViewError::NoModelOf { path: path.clone() })?;
        self.open_model(dir, false)?;
        self.add_circuit(&path, self.models.len() - 1)
    }

    fn add_circuit(&mut self, path: &Path, model: usize) -> Result<(), ViewError> {
        let file = self.models[model].open.circuit(path)?;
        let standing = Standing::of(path, &file, None).map_err(|error| ViewError::from(error).words());
        let circuit = OpenedCircuit {
            model,
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            path: path.to_owned(),
            file: Mutex::new(file),
            standing,
            effects: OnceLock::new(),
        };
        self.circuits.push(circuit);
        Ok(())
    }

    pub(crate) fn circuit(&self, number: usize) -> Result<(&OpenedCircuit, &OpenedModel), ViewError> {
        let count = self.circuits.len();
        let circuit = self.circuits.get(number).ok_or(ViewError::NoNumber { kind: "circuit", number, count })?;
        Ok((circuit, &self.models[circuit.model]))
    }
}

impl OpenedCircuit {
    /// The circuit file as it is now.
    pub fn file(&self) -> CircuitFile {
        self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

fn is_of_another(error: &ProjectError) -> bool {
    matches!(error, ProjectError::Circuit(CircuitError::OtherModel { .. }))
}

/// Last part of a path.
fn name_of(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let part = match full.file_name() {
        // A model file is named as its folder.
        Some(name) if name == "model.safetensors" => full.parent().and_then(Path::file_name).unwrap_or(name),
        Some(name) => name,
        None => full.as_os_str(),
    };
    part.to_string_lossy().into_owned()
}

fn same(a: &Path, b: &Path) -> bool {
    a == b || a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}
