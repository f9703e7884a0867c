//! Everything that was opened: models, circuits with their standing, runs.

use openwork_project::Standing;
use openwork_verify::Verdict;
use serde::Serialize;

use crate::{View, ViewError, open::OpenedCircuit};

/// Everything that was opened.
#[derive(Clone, Debug, Serialize)]
pub struct Catalogue {
    /// Models.
    pub models: Vec<ModelEntry>,
    /// Circuits of all models.
    pub circuits: Vec<CircuitEntry>,
    /// Training runs.
    pub runs: Vec<RunEntry>,
    /// Number of the circuit that a page opens on.
    pub first: Option<usize>,
    /// Notices of opening.
    pub notices: Vec<String>,
    /// True if the circuit is a published one, without its model.
    pub published: bool,
}

/// A model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelEntry {
    /// Name of its folder.
    pub name: String,
    /// First 12 digits of its hash.
    pub hash: String,
    /// Blocks.
    pub layers: usize,
    /// Channels of the residual stream.
    pub channels: usize,
    /// Attention heads of a block, and channels of a head.
    pub heads: [usize; 2],
    /// Neurons of a block.
    pub neurons: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Most tokens of a prompt.
    pub context: usize,
    /// Parameters that are not zero, the bigram table aside, and all of these.
    pub nonzero: [usize; 2],
    /// True if ablation means are at hand.
    pub means: bool,
    /// True if a sample of the training data is at hand.
    pub sample: bool,
}

/// Kind of a circuit's standing, the word of its badge beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// The circuit passes.
    Passed,
    /// It passes weakly, or as a contrast alone.
    Weak,
    /// It is refuted.
    Refuted,
    /// The verdict says nothing for it or against it.
    Open,
    /// There is no verdict about it.
    None,
}

/// A circuit.
#[derive(Clone, Debug, Serialize)]
pub struct CircuitEntry {
    /// Number of its model.
    pub model: usize,
    /// Name of its file.
    pub name: String,
    /// Its task.
    pub task: String,
    /// Question of the task, where it is one of the program's.
    pub description: Option<&'static str>,
    /// Its nodes and edges.
    pub size: [usize; 2],
    /// Its claim.
    pub claim: String,
    /// Its loss on the pairs that it was selected on, nats per sequence.
    pub loss: Option<f64>,
    /// Kind of its standing.
    pub mark: Mark,
    /// The verdict in words.
    pub verdict: String,
    /// Level that was reached, of 6.
    pub level: Option<u8>,
}

/// A training run.
#[derive(Clone, Debug, Serialize)]
pub struct RunEntry {
    /// Name of its folder.
    pub name: String,
    /// Number of its model, if it has finished.
    pub model: Option<usize>,
    /// Steps in its log.
    pub steps: u64,
}

/// Curves of a training run. Every list has an entry for each step of `steps`.
#[derive(Clone, Debug, Serialize)]
pub struct Curves {
    /// Name of the run.
    pub name: String,
    /// Steps.
    pub steps: Vec<u64>,
    /// Training loss, nats per token.
    pub loss: Vec<f64>,
    /// Validation loss where it was measured.
    pub validation_loss: Vec<Option<f64>>,
    /// Nonzeros over all sparsified parameters.
    pub nonzero: Vec<usize>,
    /// Learning rate.
    pub learning_rate: Vec<f64>,
    /// Dead neurons.
    pub dead_neurons: Vec<usize>,
    /// Mean fraction of the supports that is new.
    pub churn: Vec<f64>,
}

/// Most points of a curve: more than a drawing has pixels.
const POINTS: usize = 2000;

impl View {
    /// Everything that was opened.
    pub fn catalogue(&self) -> Catalogue {
        let model = |opened: &crate::open::OpenedModel| {
            let (config, params) = (&opened.open.model.config, &opened.open.model.params);
            let table = params.bigram.as_ref().map(|table| table.dense());
            let size = |w: &ndarray::Array2<f32>| [w.iter().filter(|x| **x != 0.0).count(), w.len()];
            let all = params.values().into_iter().map(|w| size(w.dense()));
            let [nonzero, parameters] = all.fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]]);
            let [of_table, cells] = table.map_or([0, 0], size);
            ModelEntry {
                name: opened.name.clone(),
                hash: opened.open.sha256.chars().take(12).collect(),
                layers: config.n_layer,
                channels: config.d_model,
                heads: [config.n_head, config.d_head],
                neurons: config.d_mlp,
                vocabulary: config.vocab_size,
                context: config.n_ctx,
                nonzero: [nonzero - of_table, parameters - cells],
                means: opened.means.is_some(),
                sample: opened.sample.is_some(),
            }
        };
        let run = |run: &crate::open::OpenedRun| RunEntry {
            name: run.name.clone(),
            model: run.model,
            steps: run.log.last().map_or(0, |line| line.step + 1),
        };
        Catalogue {
            models: self.models.iter().map(model).collect(),
            circuits: self.circuits.iter().map(circuit_entry).collect(),
            runs: self.runs.iter().map(run).collect(),
            first: self.first_circuit(),
            notices: self.notices().iter().map(|notice| notice.0.clone()).collect(),
            published: false,
        }
    }

    /// The curves of a run, every so-manieth step of a long one.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn curves(&self, number: usize) -> Result<Curves, ViewError> {
        let count = self.runs.len();
        let run = self.runs.get(number).ok_or(ViewError::NoNumber { kind: "run", number, count })?;
        let stride = run.log.len().div_ceil(POINTS).max(1);
        // Validation losses are rare, and all of them stay.
        let last = run.log.len().saturating_sub(1);
        let kept = |(i, line): &(usize, &openwork_train::LogLine)| {
            i % stride == 0 || *i == last || line.validation_loss.is_some()
        };
        let log: Vec<_> = run.log.iter().enumerate().filter(kept).map(|(_, line)| line).collect();
        Ok(Curves {
            name: run.name.clone(),
            steps: log.iter().map(|line| line.step).collect(),
            loss: log.iter().map(|line| line.loss).collect(),
            validation_loss: log.iter().map(|line| line.validation_loss).collect(),
            nonzero: log.iter().map(|line| line.l0).collect(),
            learning_rate: log.iter().map(|line| line.lr).collect(),
            dead_neurons: log.iter().map(|line| line.dead_neurons).collect(),
            churn: log.iter().map(|line| line.churn).collect(),
        })
    }
}

fn circuit_entry(circuit: &OpenedCircuit) -> CircuitEntry {
    let file = circuit.file();
    let size = file.circuit.size();
    let (mark, verdict, level) = standing(circuit);
    CircuitEntry {
        model: circuit.model,
        name: circuit.name.clone(),
        description: openwork_tasks::find(&file.task).map(openwork_tasks::Task::description),
        task: file.task,
        size: [size.nodes, size.edges],
        claim: file.claim.to_string(),
        loss: Some(file.loss),
        mark,
        verdict,
        level,
    }
}

/// Mark, words and level of a circuit's standing.
fn standing(circuit: &OpenedCircuit) -> (Mark, String, Option<u8>) {
    match &circuit.standing {
        Ok(Standing::Judged(file)) => {
            let mark = match file.report.verdict {
                Verdict::Strong | Verdict::Certified { .. } => Mark::Passed,
                Verdict::Weak | Verdict::ContrastWeak | Verdict::ContrastStrong => Mark::Weak,
                Verdict::Refuted { .. } | Verdict::Error { .. } => Mark::Refuted,
                Verdict::NoTask | Verdict::Undefined | Verdict::Incomplete => Mark::Open,
            };
            (mark, file.report.headline(), Some(file.report.level_reached))
        }
        Ok(standing) => (Mark::None, standing.reservation().unwrap_or_default(), None),
        Err(words) => (Mark::None, words.clone(), None),
    }
}
