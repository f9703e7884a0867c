//! Searches for circuits: of a task, from several seeds, and the control searches a circuit is compared with.

mod growth;
mod scores;
mod tune;

use std::ops::ControlFlow;

use openwork_circuit::{
    Calibration, Circuit, CircuitFile, Claim, Combination, Combined, Growth, LearnedMasks, Means, Scored,
    SearchSettings, Size, batches,
};
use openwork_extract::{
    GrowError, GrowthStep, Progress, PruneError, Pruned, ScoreStep, Search, Settings, Stability, nonsense_labels,
    random_weights,
};
use openwork_model::{Model, NotFinite};
use openwork_ops::Device;
use openwork_tasks::{Splits, Task};
use openwork_verify::{Control, ControlKind};

use self::growth::by_growth;
pub use self::growth::{GrowthFrom, GrowthMethod, NotGrown};
pub use self::scores::ScoreMethod;
use self::scores::by_scores;
pub use self::tune::{TuneError, TuneRequest, TunedSearch, read_trace, trace_sha256, tune};
use crate::{Project, ProjectError, tasks::check_finite};

/// Tokens that the means of a model of random weights are taken over: their last digits decide nothing.
const RANDOM_MODEL_TOKENS: usize = 1 << 18;

/// Method of a search for a circuit, with its settings; one variant per method.
#[derive(Clone, Debug)]
pub enum Method {
    /// Masks over nodes, learned by gradient descent.
    Masks(Settings),
    /// Growth by counter-examples.
    Grow(Box<GrowthMethod>),
    /// The top of a ranking by attribution scores.
    Scores(ScoreMethod),
}

/// Circuit that is searched for.
#[derive(Clone, Copy, Debug)]
pub struct SearchRequest<'a> {
    /// Name of the task.
    pub task: &'a str,
    /// Pairs of the task.
    pub splits: &'a Splits,
    /// Claim of the circuit.
    pub claim: Claim,
    /// Method and settings.
    pub method: &'a Method,
}

/// One step of a running search.
#[derive(Clone, Copy, Debug)]
pub struct SearchStep<'a> {
    /// Task that is searched for.
    pub task: &'a str,
    /// Control that the search is for; none where it is for the circuit itself.
    pub control: Option<ControlKind>,
    /// State of the search, by its method.
    pub state: SearchState<'a>,
}

/// State of a running search.
#[derive(Clone, Copy, Debug)]
pub enum SearchState<'a> {
    /// A step of learned masks, or of the selection after them.
    Masks {
        /// Settings of the search.
        settings: &'a LearnedMasks,
        /// The step.
        progress: Progress,
    },
    /// A step of growth.
    Growth {
        /// Settings of the growth.
        settings: &'a Growth,
        /// The step.
        step: GrowthStep<'a>,
    },
    /// A step of scoring, or of the selection after it.
    Scores {
        /// Settings of the scores.
        settings: &'a Scored,
        /// The step.
        step: ScoreStep,
    },
}

/// Observer of a search, told after every step; its `Break` ends the search, which keeps what finished restarts found.
pub type OnSearchStep<'a> = dyn FnMut(SearchStep<'_>) -> ControlFlow<()> + 'a;

/// Reason that no circuit was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The search could not run to its end.
    #[error("no circuit for {task}")]
    Prune {
        /// Name of the task.
        task: String,
        /// The fault.
        source: PruneError,
    },
    /// No mask reached the target loss.
    #[error(
        "no circuit for {task}: the best mask has a loss of {loss:.3} nats, the target is {target}; try more --steps or \
         --restarts"
    )]
    NotReached {
        /// Name of the task.
        task: String,
        /// Loss of the best mask, nats per sequence.
        loss: f64,
        /// The target.
        target: f64,
    },
    /// No top of a ranking reached the target loss.
    #[error(
        "no circuit for {task}: no top of the ranking reaches the target of {target} nats, and the whole ranking, calibrated, has \
         a loss of {loss:.3}; try another --score or a larger --target-loss"
    )]
    NoTop {
        /// Name of the task.
        task: String,
        /// Loss of the whole ranking, nats per sequence.
        loss: f64,
        /// The target.
        target: f64,
    },
    /// Growth could not run to its end.
    #[error("no circuit for {task}")]
    Grow {
        /// Name of the task.
        task: String,
        /// The fault.
        source: GrowError,
    },
    /// Growth ended before every check held.
    #[error("no circuit for {task}: {state}")]
    NotGrown {
        /// Name of the task.
        task: String,
        /// State that it reached.
        state: Box<NotGrown>,
    },
    /// A value of the model is not finite on a prompt of the task.
    #[error("no circuit for {task}")]
    NotFinite {
        /// Name of the task.
        task: String,
        /// The value.
        source: NotFinite,
    },
    /// The task, its pairs or a file.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The search of one seed of several.
    #[error("seed {seed}")]
    Seed {
        /// The seed.
        seed: u64,
        /// The fault.
        source: Box<SearchError>,
    },
}

/// Searches the circuit of a task; masks are learned on `device`. `None` where `on_step` ended the search before there was a circuit.
///
/// # Errors
/// When the model itself misses the target, no mask reaches it, growth does not reach what is asked for, or the device fails.
pub fn find_circuit(
    project: &Project,
    request: &SearchRequest<'_>,
    device: &Device,
    on_step: &mut OnSearchStep<'_>,
) -> Result<Option<CircuitFile>, SearchError> {
    let Splits { train, selection, .. } = request.splits;
    let prompts = batches(&[&train[..], selection].concat(), 8, project.model.config.n_ctx);
    let not_finite = |source| SearchError::NotFinite { task: request.task.to_owned(), source };
    check_finite(&project.model, &prompts).map_err(not_finite)?;
    match request.method {
        Method::Masks(settings) => by_masks(project, request, settings, device, on_step),
        Method::Grow(method) => by_growth(project, request, method, device, on_step),
        Method::Scores(method) => by_scores(project, request, method, on_step),
    }
}

/// Learned masks.
fn by_masks(
    project: &Project,
    request: &SearchRequest<'_>,
    settings: &Settings,
    device: &Device,
    on_step: &mut OnSearchStep<'_>,
) -> Result<Option<CircuitFile>, SearchError> {
    let (Project { model, means, .. }, Splits { train, selection, .. }) = (project, request.splits);
    let task = || request.task.to_owned();
    let search = Search { model, means, train, validation: selection, settings };
    let pruned = search.prune(device, &mut |p| on_step(step(request.task, None, settings, p)));
    let pruned = match pruned {
        Err(PruneError::Ended) => return Ok(None),
        pruned => pruned.map_err(|source| SearchError::Prune { task: task(), source })?,
    };
    if !pruned.reached {
        let (loss, target) = (pruned.loss, settings.target_loss);
        return Err(SearchError::NotReached { task: task(), loss, target });
    }
    // As many restarts as it took, which is what controls get, too.
    let search = SearchSettings::LearnedMasks(LearnedMasks { restarts: pruned.restarts, ..settings.masks.clone() });
    let Pruned { circuit, calibration, loss, .. } = pruned;
    let of_search = (settings.target_loss, settings.seed, search);
    Ok(Some(file(project, request, (circuit, calibration, loss), of_search)))
}

/// The file of a circuit that was found.
fn file(
    project: &Project,
    request: &SearchRequest<'_>,
    (circuit, calibration, loss): (Circuit, Calibration, f64),
    (target_loss, seed, search): (f64, u64, SearchSettings),
) -> CircuitFile {
    CircuitFile {
        task: request.task.into(),
        model_sha256: project.model_sha256.clone(),
        means_sha256: project.means.sha256(),
        tokenizer_sha256: project.tokenizer.sha256().into(),
        circuit,
        claim: request.claim,
        calibration,
        target_loss,
        loss,
        seed,
        search,
    }
}

/// Circuits of one task from several seeds, and how alike they are.
pub struct SeedStudy {
    /// Circuits of the seeds whose search was finished, in the order of the seeds.
    pub circuits: Vec<CircuitFile>,
    /// Similarity of the circuits; none of fewer than two.
    pub stability: Option<Stability>,
}

/// Searches the circuit of a task from each of `seeds`: seed of pairs, masks and batches. `found` sees every circuit. Ends
/// early, with what there is, once `on_step` breaks: a search of fewer restarts is not the same search.
///
/// # Errors
/// As [`find_circuit`], with the seed, and whatever `found` returns.
pub fn study_seeds<E: From<SearchError>>(
    project: &Project,
    task: &Task,
    seeds: std::ops::Range<u64>,
    settings: &Settings,
    device: &Device,
    on_step: &mut OnSearchStep<'_>,
    found: &mut dyn FnMut(&CircuitFile) -> Result<(), E>,
) -> Result<SeedStudy, E> {
    let mut circuits: Vec<CircuitFile> = vec![];
    for seed in seeds {
        let method = Method::Masks(Settings { seed, ..settings.clone() });
        let mut ended = false;
        let mut watched = |step: SearchStep<'_>| {
            let flow = on_step(step);
            ended |= flow.is_break();
            flow
        };
        let circuit = project
            .splits(task, seed)
            .map_err(SearchError::from)
            .and_then(|splits| {
                let request =
                    SearchRequest { task: task.name(), splits: &splits, claim: Claim::Answer, method: &method };
                find_circuit(project, &request, device, &mut watched)
            })
            .map_err(|source| SearchError::Seed { seed, source: Box::new(source) })?;
        let Some(circuit) = circuit.filter(|_| !ended) else { break };
        found(&circuit)?;
        circuits.push(circuit);
    }
    let found: Vec<_> = circuits.iter().map(|c| c.circuit.clone()).collect();
    Ok(SeedStudy { stability: Stability::of(&found), circuits })
}

/// Union or core of the circuits of several seeds as a circuit: calibrated and measured on the pairs of the first seed. It may miss the target,
/// which its file has.
///
/// # Errors
/// When the task of the circuits has no pairs.
///
/// # Panics
/// When there are fewer than two circuits, or their search was not by learned masks.
pub fn combined_circuit(
    project: &Project,
    circuits: &[CircuitFile],
    of: Combination,
) -> Result<CircuitFile, ProjectError> {
    assert!(circuits.len() > 1, "a combination is of several circuits");
    let first = &circuits[0];
    let masks: Vec<&LearnedMasks> = circuits.iter().filter_map(|c| c.search.masks()).collect();
    assert_eq!(masks.len(), circuits.len(), "circuits of learned masks");
    let restarts = masks.iter().map(|m| m.restarts).sum();
    let settings = Settings { target_loss: first.target_loss, seed: first.seed, masks: masks[0].clone() };
    let Splits { train, selection, .. } = &project.splits_of(first)?;
    let Project { model, means, .. } = project;
    let search = Search { model, means, train, validation: selection, settings: &settings };
    let found: Vec<Circuit> = circuits.iter().map(|c| c.circuit.clone()).collect();
    let Pruned { circuit, calibration, loss, .. } = search.measured(Stability::combined(&found, of));
    let circuits_sha256 = found.iter().map(Circuit::sha256).collect();
    let masks = LearnedMasks { restarts, ..settings.masks.clone() };
    let search = SearchSettings::Combined(Combined { of, circuits_sha256, masks });
    Ok(CircuitFile { circuit, calibration, loss, search, ..first.clone() })
}

/// Most that a circuit file can raise the effort of its control searches, in multiples of the verifier's own.
const MOST_RAISED: usize = 10;

/// Settings of the control searches: target, seed and effort are the verifier's. A circuit whose own masks, or those of the circuit that
/// it grew from, had more restarts or steps gives its controls as many; nothing else in its file counts, and nothing in it makes a control
/// weaker.
fn control_settings(circuit: &CircuitFile, verifier: &openwork_verify::Settings) -> Result<Settings, ProjectError> {
    let (mut restarts, mut steps) = (verifier.control_restarts, verifier.control_steps);
    if let Some(own) = circuit.search.masks() {
        let too_many = |own: usize, least: usize| own > least.saturating_mul(MOST_RAISED);
        if too_many(own.restarts, restarts) || too_many(own.steps, steps) {
            let task = circuit.task.clone();
            return Err(ProjectError::ControlEffort { task, restarts: own.restarts, steps: own.steps });
        }
        (restarts, steps) = (restarts.max(own.restarts), steps.max(own.steps));
    }
    let masks = LearnedMasks { restarts, steps, ..LearnedMasks::default() };
    Ok(Settings { target_loss: verifier.target_loss, seed: verifier.seed, masks })
}

/// Runs the verifier's search where it must fail: for nonsense labels and in a model of random weights. A search that `on_step`
/// cuts short is no control and is left out.
///
/// # Errors
/// When the circuit's own search had more than ten times the effort of the verifier's.
pub fn control_searches(
    project: &Project,
    circuit: &CircuitFile,
    splits: &Splits,
    verifier: &openwork_verify::Settings,
    on_step: &mut OnSearchStep<'_>,
) -> Result<Vec<Control>, ProjectError> {
    let settings = &control_settings(circuit, verifier)?;
    let mut search = |kind: ControlKind, model: &Model, means: &Means, splits: &Splits| {
        let search = Search { model, means, train: &splits.train, validation: &splits.selection, settings };
        let found = search.search(&mut |p| on_step(step(&circuit.task, Some(kind), settings, p)));
        let found = found.filter(|found| found.restarts >= settings.masks.restarts)?;
        let Size { nodes, edges, .. } = found.circuit.size();
        Some(Control { kind, reached_target: found.reached, loss: found.loss, nodes, edges })
    };
    let vocabulary = project.sample.frequent_tokens();
    let relabel = |pairs: &[openwork_tasks::Pair]| nonsense_labels(pairs, &vocabulary, settings.seed);
    let nonsense = Splits { train: relabel(&splits.train), selection: relabel(&splits.selection), ..Splits::default() };
    let random = random_weights(&project.model, settings.seed);
    let random_means = project.sample.first(RANDOM_MODEL_TOKENS).means(&random)?;
    let found = [
        search(ControlKind::NonsenseLabels, &project.model, &project.means, &nonsense),
        search(ControlKind::RandomWeights, &random, &random_means, splits),
    ];
    Ok(found.into_iter().flatten().collect())
}

fn step<'a>(task: &'a str, control: Option<ControlKind>, settings: &'a Settings, progress: Progress) -> SearchStep<'a> {
    SearchStep { task, control, state: SearchState::Masks { settings: &settings.masks, progress } }
}

#[cfg(test)]
mod tests {
    use openwork_circuit::{Grown, Growth, GrowthStart, NodeSet, NodeSpace};
    use openwork_model::Config;

    use super::*;

    fn file(search: SearchSettings) -> CircuitFile {
        let model = Model::init(Config { vocab_size: 8, n_layer: 1, ..Config::default() }, 1);
        CircuitFile {
            task: "for_while".into(),
            model_sha256: String::new(),
            means_sha256: String::new(),
            tokenizer_sha256: String::new(),
            circuit: Circuit::new(&model, NodeSet::empty(NodeSpace::new(&model.config))),
            claim: Claim::Answer,
            calibration: Calibration::NONE,
            target_loss: 1e-9,
            loss: 0.0,
            seed: 77,
            search,
        }
    }

    #[test]
    fn no_circuit_file_makes_its_controls_weaker() {
        let verifier = openwork_verify::Settings { seed: 5, ..openwork_verify::Settings::default() };
        let by_masks = |masks| control_settings(&file(SearchSettings::LearnedMasks(masks)), &verifier);
        let own = control_settings(&file(SearchSettings::ByHand {}), &verifier).unwrap();
        assert_eq!((own.target_loss, own.seed), (verifier.target_loss, 5));
        assert_eq!((own.masks.restarts, own.masks.steps), (verifier.control_restarts, verifier.control_steps));
        // A search that finds nothing, by no steps, no learning, or a price that closes every node.
        let nothing =
            LearnedMasks { restarts: 0, steps: 0, lr: 0.0, k_coef: 1e9, init_bias: -9.0, ..LearnedMasks::default() };
        assert_eq!(by_masks(nothing).unwrap(), own);
        // More effort is owed to the controls, too; not without end.
        let more = by_masks(LearnedMasks { steps: 900, ..LearnedMasks::default() }).unwrap();
        assert_eq!((more.masks.restarts, more.masks.steps), (LearnedMasks::default().restarts, 900));
        // Of a circuit that grew, the masks that it grew from count.
        let search = Box::new(SearchSettings::LearnedMasks(LearnedMasks { steps: 900, ..LearnedMasks::default() }));
        let start = GrowthStart { circuit_sha256: "0".repeat(64), nodes: 1, edges: 0, search };
        let grown = Grown { start, reached: true, settings: Growth::default(), rounds: vec![] };
        let of_grown = control_settings(&file(SearchSettings::Grown(grown)), &verifier).unwrap();
        assert_eq!(of_grown.masks.steps, 900);
        let error = by_masks(LearnedMasks { steps: 1_000_000, ..LearnedMasks::default() }).unwrap_err().to_string();
        assert!(error.contains("--control-steps"), "{error}");
    }
}
