//! Model with everything that circuits of it need: tokenizer, sample of its training data, and ablation means.

use std::path::{Path, PathBuf};

use openwork_circuit::{CircuitError, CircuitFile, Means, MeansError, ResidualMaskError};
use openwork_data::Tokenizer;
use openwork_model::Model;
use openwork_tasks::{Splits, Task, TaskError};
use openwork_tensor::WriteError;

use crate::{OpenModel, OpenModelError, Sample, SampleError};

/// Model, tokenizer, sample and means, and the folder that they and their circuits lie in.
pub struct Project {
    /// The model.
    pub model: Model,
    /// Hash of the model.
    pub model_sha256: String,
    /// Folder of the model.
    pub dir: PathBuf,
    /// The model's tokenizer.
    pub tokenizer: Tokenizer,
    /// Sample of the model's training data.
    pub sample: Sample,
    /// Means of the model's nodes over the sample.
    pub means: Means,
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
    },
}

/// Reason that a project cannot be opened, or that a circuit does not fit it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// The model or its tokenizer.
    #[error(transparent)]
    Model(#[from] OpenModelError),
    /// The sample of training data.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The file of means cannot be read.
    #[error(transparent)]
    Means(#[from] MeansError),
    /// The file of means cannot be written.
    #[error(transparent)]
    WriteMeans(#[from] WriteError),
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
    /// No search found the circuit, so that no control search can have the same budget.
    #[error("no search found the circuit of {task}, so that none can be its control: say --no-controls")]
    NoSettings {
        /// Task of the circuit.
        task: String,
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
    /// Opens the model that `path` names with its tokenizer (`given`, or the one beside the model) and its sample, which is
    /// drawn from `data` where none lies beside the model. Means are read, or taken and written beside the model.
    ///
    /// # Errors
    /// When one of these is missing, is of another model, or cannot be written.
    pub fn open(
        path: &Path,
        tokenizer: Option<&Path>,
        data: Option<&Path>,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<Self, ProjectError> {
        let open = OpenModel::open(path)?;
        let tokenizer = open.tokenizer(tokenizer)?;
        let OpenModel { model, sha256: model_sha256, dir, notices, .. } = open;
        notices.into_iter().for_each(|text| notice(Notice::Ignored(text)));
        let sample = Sample::open(&dir, data, tokenizer.sha256(), model.config.n_ctx)?;
        let means_path = dir.join("means.safetensors");
        let means = match means_path.exists() {
            true => Means::load(&means_path, &model, &model_sha256)?,
            false => {
                notice(Notice::TakingMeans { tokens: sample.tokens.len() });
                let means = sample.means(&model);
                means.save(&means_path, &model_sha256)?;
                means
            }
        };
        Ok(Self { model, model_sha256, dir, tokenizer, sample, means })
    }

    /// Reads a circuit of the model.
    ///
    /// # Errors
    /// When the file cannot be read, is of another model, or leaves out a residual edge.
    pub fn circuit(&self, path: &Path) -> Result<CircuitFile, ProjectError> {
        load_circuit(path, &self.model, &self.model_sha256)
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

    /// Writes a circuit and makes its folder. Groups and labels of the circuit that the file held go over to it, as far as
    /// their nodes are kept.
    ///
    /// # Errors
    /// When folder or file cannot be written.
    pub fn save_circuit(&self, circuit: &CircuitFile, path: &Path) -> Result<(), ProjectError> {
        if let Some(dir) = path.parent() {
            let failed = |source| ProjectError::Folder { path: dir.to_owned(), source };
            std::fs::create_dir_all(dir).map_err(failed)?;
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
