//! Runs, models, circuits and verdicts on disk: what the program, benches and notebooks share.
//!
//! A [`Project`] is a model with everything that circuits of it need: its tokenizer, a [`Sample`] of its training data, and
//! ablation means over that sample. On a project one finds circuits ([`find_circuit`]), runs the searches that they are
//! compared with ([`control_searches`]), verifies them ([`verify_circuit`]), keeps verdicts ([`VerdictFile`]) and replays their
//! counter-examples ([`replay_verdict`]), and gathers a report ([`ModelReport`]). [`TrainingRun`] makes the model in the first
//! place.
//!
//! Nothing is printed: long work reports its steps to a callback, which may also end it.

mod forward;
mod model;
mod project;
mod prompts;
mod recipe;
mod replay;
mod report;
mod sample;
mod search;
mod tasks;
mod training;
mod verdict;
mod verification;

pub use forward::{TokenBatch, TokenFileError, named_pass};
pub use model::{OpenModel, OpenModelError, TOKENIZER_KEY, model_file};
pub use project::{Notice, Project, ProjectError, find_task, splits};
pub use prompts::{LineFormat, PromptError, PromptLine, prompt_lines, read_prompts};
pub use recipe::{FindRecipeError, find_recipe};
pub use replay::{ReplayError, Replayed, replay_verdict};
pub use report::{CircuitReport, Example, ModelReport, ReportError, TaskRow, Writing};
pub use sample::{SAMPLE_TOKENS, Sample, SampleError};
pub use search::{OnSearchStep, SearchError, SearchStep, SeedStudy, control_searches, find_circuit, study_seeds};
pub use tasks::{TaskScore, task_scores};
pub use training::{LogError, TrainingError, TrainingRun, read_log};
pub use verdict::{VerdictError, VerdictFile, verdict_path, write_certificates};
pub use verification::{DEFAULT_LEVEL, Request, Stage, Verification, verify_circuit};
