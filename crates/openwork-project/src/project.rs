//! Model with everything that circuits of it need: tokenizer, sample of its training data, and ablation means.

use std::path::{Path, PathBuf};

use openwork_circuit::{CircuitError, CircuitFile, Means, MeansError, ResidualMaskError};
use openwork_data::Tokenizer;
use openwork_model::{Model, NotFinite};
use openwork_tasks::{Splits, Task, TaskError};
use openwork_tensor::{FolderLock, LockError, WriteError};

use crate::{OpenModel, OpenModelError, OutputError, Sample, SampleError, check_outputs, files_beside};

/// Model, tokenizer, sample and means, and the folder that they and their circuits lie in.
pub struct Project {
    /// The model.
    pub model: Model,
    /// Hash of the model.
    pub model_sha256: String,
    /// Hash of the model before, where circuits were trained into this one, as the model's file says.
    pub localised_from: Option<String>,
    /// Folder of the model.
    pub dir: PathBuf,
    /// The model's tokenizer.
    pub tokenizer: Tokenizer,
    /// Sample of the model's training data.
    pub sample: Sample,
    /// Means of the model's nodes over the sample.
    pub means: Means,
    /// Keeps training runs out of the folder.
    _lock: FolderLock,
}

/// Something that a person who opens a project should hear.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Keys of a published configuration that were ignored.
    Ignored(String),
    /// Means are taken over so many tokens, which takes a while.
    TakingMeans {
        /// Tokens of the sample.
        tokens: usize,
        /// Tokens of a sequence.
        seq_len: usize,
    },
}

/// Files and facts that belong to a model and that somebody names.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// The tokenizer; `None`: `tokenizer.json` beside the model.
    pub tokenizer: Option<&'a Path>,
    /// Data to draw the sample from, where none lies beside the model.
    pub data: Option<&'a Path>,
    /// Tokens of the sequences that the model was trained on, where the model does not say it.
    pub trained_context: Option<usize>,
}

/// Reason that a project cannot be opened, or that a circuit does not fit it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// The model or its tokenizer.
    #[error(transparent)]
    Model(#[from] OpenModelError),
    /// The model does not say on which sequences it was trained, and nobody else does.
    #[error(
        "the model does not say on sequences of how many tokens it was trained, which ablation means need; its n_ctx of \
         {n_ctx} is only the most that it takes. Name it with --trained-context (256 for the published models)"
    )]
    UnknownContext {
        /// Longest sequence of the model.
        n_ctx: usize,
    },
    /// Two lengths of training sequences.
    #[error("--trained-context is {given}, but {holder} {found}")]
    OtherContext {
        /// Length that was asked for.
        given: usize,
        /// Who says otherwise.
        holder: &'static str,
        /// Length that is recorded, or the most that the model takes.
        found: usize,
    },
    /// A value of the model is not finite on its training data or on a prompt.
    #[error("the model cannot be run")]
    NotFinite(#[from] NotFinite),
    /// The sample of training data.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The file of means cannot be read.
    #[error(transparent)]
    Means(#[from] MeansError),
    /// The file of means cannot be written.
    #[error(transparent)]
    WriteMeans(#[from] WriteError),
    /// A training run works in the folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Files that killed processes left in the folder cannot be removed.
    #[error("cannot clear {}", path.display())]
    Clear {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The circuit was found with another tokenizer than the model's.
    #[error("{} was found with tokenizer {found}, and the model's is {expected}", path.display())]
    OtherTokenizer {
        /// The circuit file.
        path: PathBuf,
        /// Hash of the tokenizer that the circuit names.
        found: String,
        /// Hash of the model's tokenizer.
        expected: String,
    },
    /// The circuit file.
    #[error(transparent)]
    Circuit(#[from] CircuitError),
    /// The folder of a circuit file cannot be made.
    #[error("cannot create {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The circuit leaves out a residual edge, so that it cannot be run.
    #[error("the circuit of {task} cannot be run")]
    ResidualEdge {
        /// Task of the circuit.
        task: String,
        /// The edge.
        source: ResidualMaskError,
    },
    /// The circuit was found with other means than those beside the model.
    #[error("the circuit was found with other means ({found}) than those beside the model ({expected})")]
    OtherMeans {
        /// Hash of the means that the circuit names.
        found: String,
        /// Hash of the means beside the model.
        expected: String,
    },
    /// The means are taken over other data than the sample beside them.
    #[error(
        "{} holds means over other data ({found}) than the sample beside it ({expected}); without the file they are taken again",
        path.display()
    )]
    OtherSample {
        /// File of the means.
        path: PathBuf,
        /// Hash of the data that the means name.
        found: String,
        /// Hash of the sample.
        expected: String,
    },
    /// A file beside the circuit is not of the kind that its name says.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A circuit lies there already.
    #[error(
        "{} holds a circuit already; --force replaces it, with its verdict, pairs and certificates, and another name (prune --name) or folder (--out) keeps both",
        path.display()
    )]
    Taken {
        /// The circuit file.
        path: PathBuf,
    },
    /// A file that belongs to a circuit which is replaced cannot be removed.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The circuit's own search had far more effort than control searches have by default.
    #[error(
        "the circuit of {task} comes from a search of {restarts} restarts of {steps} steps, and its controls are owed as much: say \
         --control-restarts {restarts} --control-steps {steps}, or --no-controls"
    )]
    ControlEffort {
        /// Task of the circuit.
        task: String,
        /// Restarts of its search.
        restarts: usize,
        /// Steps of each.
        steps: usize,
    },
    /// No task has this name.
    #[error("there is no task {name:?}; there are {}", task_names())]
    NoTask {
        /// The name.
        name: String,
    },
    /// The pairs of a task cannot be drawn.
    #[error("task {task}")]
    Pairs {
        /// Name of the task.
        task: String,
        /// The fault.
        source: TaskError,
    },
}

fn task_names() -> String {
    openwork_tasks::all().iter().map(Task::name).collect::<Vec<_>>().join(", ")
}

impl Project {
    /// Opens the model that `path` names with its tokenizer and its sample, which is drawn from `beside.data` where none lies
    /// beside the model. Means are read, or taken and written beside the model, in sequences as long as in training.
    ///
    /// # Errors
    /// When one of these is missing, is of another model, or cannot be written, or a value of the model is not finite.
    pub fn open(path: &Path, beside: Beside<'_>, notice: &mut dyn FnMut(Notice)) -> Result<Self, ProjectError> {
        let open = OpenModel::open(path)?;
        let tokenizer = open.tokenizer(beside.tokenizer)?;
        let OpenModel { model, sha256: model_sha256, dir, trained_context, localised_from, notices, .. } = open;
        notices.into_iter().for_each(|text| notice(Notice::Ignored(text)));
        let lock = lock(&dir)?;
        let means_path = dir.join("means.safetensors");
        let known = match means_path.exists() {
            true => Some(Means::load(&means_path, &model, &model_sha256)?),
            false => None,
        };
        let recorded = [
            ("the model records", trained_context),
            ("means beside it are taken at", known.as_ref().map(Means::seq_len)),
        ];
        let context = one_context(beside.trained_context, recorded, model.config.n_ctx)?;
        let sample = Sample::open(&dir, beside.data, tokenizer.sha256(), [context, model.config.vocab_size])?;
        let means = match known {
            Some(means) => means,
            None => {
                // Before the work: the folder may take no files.
                openwork_tensor::check_writable(&means_path)
                    .map_err(|source| OutputError::Unwritable { path: means_path.clone(), source })?;
                notice(Notice::TakingMeans { tokens: sample.tokens.len(), seq_len: context });
                let means = sample.means(&model)?;
                means.save(&means_path, &model_sha256)?;
                means
            }
        };
        let (found, expected) = (means.data_sha256().to_owned(), sample.sha256());
        match found == expected {
            true => Ok(Self { model, model_sha256, localised_from, dir, tokenizer, sample, means, _lock: lock }),
            false => Err(ProjectError::OtherSample { path: means_path, found, expected }),
        }
    }

    /// Reads a circuit of the model.
    ///
    /// # Errors
    /// When the file cannot be read, is of another model or tokenizer, or leaves out a residual edge.
    pub fn circuit(&self, path: &Path) -> Result<CircuitFile, ProjectError> {
        let circuit = load_circuit(path, &self.model, &self.model_sha256)?;
        let expected = self.tokenizer.sha256();
        match circuit.tokenizer_sha256 == expected {
            true => Ok(circuit),
            false => Err(ProjectError::OtherTokenizer {
                path: path.to_owned(),
                found: circuit.tokenizer_sha256,
                expected: expected.to_owned(),
            }),
        }
    }

    /// Refuses a circuit that was found with other means.
    ///
    /// # Errors
    /// [`ProjectError::OtherMeans`].
    pub fn check_means(&self, circuit: &CircuitFile) -> Result<(), ProjectError> {
        let expected = self.means.sha256();
        match circuit.means_sha256 == expected {
            true => Ok(()),
            false => Err(ProjectError::OtherMeans { found: circuit.means_sha256.clone(), expected }),
        }
    }

    /// Default file of the circuit of a task: `circuits/TASK.json` beside the model.
    pub fn circuit_path(&self, task: &str) -> PathBuf {
        self.dir.join("circuits").join(format!("{task}.json"))
    }

    /// Fails where a circuit file lies already, before hours of work on another.
    ///
    /// # Errors
    /// [`ProjectError::Taken`].
    pub fn check_free(&self, path: &Path) -> Result<(), ProjectError> {
        // A device or a pipe holds nothing that could be lost.
        match path.is_file() {
            true => Err(ProjectError::Taken { path: path.to_owned() }),
            false => Ok(()),
        }
    }

    /// Fails where a file that would go with the circuit at `path`, since it has the name of its verdict, pairs or certificates, is none
    /// of these.
    ///
    /// # Errors
    /// [`ProjectError::Output`], with the file.
    pub fn check_beside(&self, path: &Path) -> Result<(), ProjectError> {
        let beside = files_beside(path);
        let there: Vec<_> =
            beside.iter().filter(|(_, path)| path.exists()).map(|(kind, path)| (*kind, &**path)).collect();
        Ok(check_outputs(&there, &[])?)
    }

    /// Writes a circuit and makes its folder. One that lies there already is kept, unless `replace`: then its verdict, pairs and
    /// certificates go before it does, since they are about it; its groups and labels go over, as far as their nodes are
    /// kept.
    ///
    /// # Errors
    /// When a circuit lies there that is not to be replaced, or folder or file cannot be written.
    pub fn save_circuit(&self, circuit: &CircuitFile, path: &Path, replace: bool) -> Result<(), ProjectError> {
        if !replace {
            self.check_free(path)?;
        }
        if let Some(dir) = path.parent() {
            let failed = |source| ProjectError::Folder { path: dir.to_owned(), source };
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        self.check_beside(path)?;
        for path in files_beside(path).into_iter().map(|(_, path)| path).filter(|path| path.exists()) {
            std::fs::remove_file(&path).map_err(|source| ProjectError::Remove { path, source })?;
        }
        let circuit = match self.circuit(path) {
            Ok(old) => &CircuitFile { circuit: circuit.circuit.clone().annotated_as(&old.circuit), ..circuit.clone() },
            Err(_) => circuit,
        };
        Ok(circuit.save(path)?)
    }

    /// Draws the splits of a task under the model's tokenizer.
    ///
    /// # Errors
    /// When the tokenizer lacks an answer or the task has too few pairs.
    pub fn splits(&self, task: &Task, seed: u64) -> Result<Splits, ProjectError> {
        splits(task, &self.tokenizer, self.model.config.n_ctx, seed)
    }

    /// The splits that a circuit was found and is judged on: those of its task and seed.
    ///
    /// # Errors
    /// As [`Project::splits`], and when no task has the circuit's name.
    pub fn splits_of(&self, circuit: &CircuitFile) -> Result<Splits, ProjectError> {
        self.splits(find_task(&circuit.task)?, circuit.seed)
    }
}

/// Locks the folder of a model against training runs, and removes what killed processes left there if nobody else works in
/// it.
fn lock(dir: &Path) -> Result<FolderLock, ProjectError> {
    match FolderLock::exclusive(dir) {
        Ok(_alone) => {
            for path in [dir.to_owned(), dir.join("circuits"), dir.join("sample")] {
                openwork_tensor::remove_leftovers_in(&path)
                    .map_err(|source| ProjectError::Clear { path: path.clone(), source })?;
            }
        }
        Err(LockError::Held { .. }) => (),
        Err(error) => return Err(error.into()),
    }
    Ok(FolderLock::shared(dir)?)
}

/// Tokens of the sequences that a model of `n_ctx` was trained on: `given`, or the first that is recorded. All that are known
/// have to agree.
fn one_context(
    given: Option<usize>,
    recorded: [(&'static str, Option<usize>); 2],
    n_ctx: usize,
) -> Result<usize, ProjectError> {
    let first = given.or(recorded[0].1).or(recorded[1].1).ok_or(ProjectError::UnknownContext { n_ctx })?;
    let limits = recorded.into_iter().filter_map(|(holder, found)| found.map(|found| (holder, found)));
    for (holder, found) in limits {
        if found != first {
            return Err(ProjectError::OtherContext { given: first, holder, found });
        }
    }
    match (2..=n_ctx).contains(&first) {
        true => Ok(first),
        false => Err(ProjectError::OtherContext {
            given: first,
            holder: "the model takes at least 2 and at most",
            found: n_ctx,
        }),
    }
}

/// Reads a circuit of a model whose hash is `model_sha256`.
///
/// # Errors
/// When the file cannot be read, is of another model, or leaves out a residual edge.
pub(crate) fn load_circuit(path: &Path, model: &Model, model_sha256: &str) -> Result<CircuitFile, ProjectError> {
    let circuit = CircuitFile::load(path, model, model_sha256)?;
    match circuit.circuit.check_residual_edges() {
        Ok(()) => Ok(circuit),
        Err(source) => Err(ProjectError::ResidualEdge { task: circuit.task, source }),
    }
}

/// Draws the splits of a task under a tokenizer, for a model that reads `context` tokens.
///
/// # Errors
/// When the tokenizer lacks an answer or the task has too few pairs.
pub fn splits(task: &Task, tokenizer: &Tokenizer, context: usize, seed: u64) -> Result<Splits, ProjectError> {
    let named = |source| ProjectError::Pairs { task: task.name().to_owned(), source };
    Splits::draw(task, &|text| tokenizer.encode(text), context, seed).map_err(named)
}

/// The task of this name.
///
/// # Errors
/// When there is none; the error lists the names.
pub fn find_task(name: &str) -> Result<&'static Task, ProjectError> {
    openwork_tasks::find(name).ok_or_else(|| ProjectError::NoTask { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_training_sequences_is_asked_for_where_nobody_knows_it_and_has_to_agree() {
        let recorded = |model, means| [("the model records", model), ("means are taken at", means)];
        let context = |given, model, means| one_context(given, recorded(model, means), 1024).map_err(|e| e.to_string());
        assert_eq!(context(Some(256), None, None), Ok(256));
        assert_eq!(context(None, Some(256), None), Ok(256));
        assert_eq!(context(None, None, Some(256)), Ok(256));
        assert_eq!(context(Some(256), Some(256), Some(256)), Ok(256));
        assert!(context(None, None, None).unwrap_err().contains("--trained-context"));
        let error = context(Some(128), Some(256), None).unwrap_err();
        assert_eq!(error, "--trained-context is 128, but the model records 256");
        assert!(context(None, Some(256), Some(1024)).unwrap_err().contains("means are taken at 1024"));
        assert!(context(Some(1025), None, None).unwrap_err().contains("at most 1024"));
    }
}
