#![doc = include_str!("../README.md")]

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
mod tokens;
mod training;
mod verdict;
mod verification;

pub use forward::{TokenBatch, TokenFileError, named_pass};
pub use model::{OpenModel, OpenModelError, TOKENIZER_KEY, model_file};
pub use project::{Notice, Project, ProjectError, find_task, splits};
pub use prompts::{BadLine, LONGEST_LINE, LineFault, LineFormat, PromptError, PromptLine, PromptLines};
pub use recipe::{FindRecipeError, find_recipe};
pub use replay::{ReplayError, Replayed, replay_verdict};
pub use report::{CircuitReport, Example, ModelReport, ReportError, TaskRow, Writing};
pub use sample::{SAMPLE_TOKENS, Sample, SampleError};
pub use search::{OnSearchStep, SearchError, SearchStep, SeedStudy, control_searches, find_circuit, study_seeds};
pub use tasks::{TaskScore, task_scores};
pub use tokens::{Answer, AnswerError, FoundTokenizer, NextToken, answer, find_tokenizer};
pub use training::{LogError, TrainingError, TrainingRun, read_log};
pub use verdict::{VerdictError, VerdictFile, verdict_path, write_certificates};
pub use verification::{DEFAULT_LEVEL, Request, Stage, Verification, verify_circuit};
