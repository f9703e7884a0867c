#![doc = include_str!("../README.md")]

mod curves;
mod forward;
mod fsck;
mod localise;
mod model;
mod outputs;
mod pairs;
mod project;
mod prompts;
mod recipe;
mod refine;
mod replay;
mod report;
mod sample;
mod search;
mod shipped;
mod tasks;
mod tokens;
mod training;
mod verdict;
mod verdict_log;
mod verification;

pub use curves::{CURVES_HEADER, OnCurveStep, ScoreCurve, curves_csv, score_curves};
pub use forward::{TokenBatch, TokenFileError, named_pass};
pub use fsck::{Finding, FsckError, State, fsck};
pub use localise::{
    LOCALISED_FROM_KEY, LocaliseError, LocaliseRequest, LocaliseStep, LocalisedCircuit, LocalisedRun, OnLocaliseStep,
    TaskChange, TextCosts, localise,
};
pub use model::{OpenModel, OpenModelError, TOKENIZER_KEY, TRAINED_CONTEXT_KEY, model_file};
pub use outputs::{DRAWING_MARK, OutputError, OutputKind, PAGE_MARK, check_free, check_outputs};
pub use project::{Beside, Notice, Project, ProjectError, find_task, splits};
pub use prompts::{BadLine, LONGEST_LINE, LineFault, LineFormat, PromptError, PromptLine, PromptLines};
pub use recipe::{FindRecipeError, find_recipe};
pub use refine::{RefineError, refine_circuit};
pub use replay::{ReplayError, Replayed, replay_verdict};
pub use report::{CircuitReport, Example, ModelReport, ReportError, TaskRow, UnjudgedCircuit, Writing};
pub use sample::{SAMPLE_TOKENS, Sample, SampleError};
pub use search::{
    GrowthFrom, GrowthMethod, Method, NotGrown, OnSearchStep, ScoreMethod, SearchError, SearchRequest, SearchState,
    SearchStep, SeedStudy, TuneError, TuneRequest, TunedSearch, combined_circuit, control_searches, find_circuit,
    read_trace, study_seeds, trace_sha256, tune,
};
pub use shipped::{
    DEFAULT_MODEL, MODELS_VARIABLE, circuits_in, models_folder, shipped_model, shipped_models, verdicts_in,
};
pub use tasks::{TaskScore, TaskScoreError, task_scores};
pub use tokens::{Answer, FoundTokenizer, NextToken, answer, find_tokenizer};
pub use training::{LogError, TrainingError, TrainingLog, TrainingRun, read_log};
pub use verdict::{
    About, Found, Part, Standing, VerdictError, VerdictFile, circuit_of_verdict, files_beside, files_of_verification,
    pairs_path, stale, verdict_path, write_certificates,
};
pub use verdict_log::{LoggedVerdict, earlier_verdicts};
pub use verification::{DEFAULT_LEVEL, Recorded, Request, Stage, Verification, verify_circuit};
