//! What the judge says: a verdict, why, and every number behind it.

use openwork_circuit::Calibration;
use serde::{Deserialize, Serialize};

use crate::{Estimate, Settings};

/// Which pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Fresh pairs of the templates the circuit was selected on.
    HeldOut,
    /// Pairs of other templates.
    HeldOutTemplates,
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Split::HeldOut => "held-out pairs",
            Split::HeldOutTemplates => "held-out templates",
        })
    }
}

/// What a removed node's value is replaced by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// Its mean over training data.
    Mean,
    /// Zero.
    Zero,
}

impl std::fmt::Display for Fill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fill::Mean => "mean",
            Fill::Zero => "zero",
        })
    }
}

/// Which nodes a run keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// All: the model.
    Model,
    /// The circuit.
    Circuit,
    /// None.
    Nothing,
    /// All but the circuit.
    AllButCircuit,
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kept::Model => "model",
            Kept::Circuit => "circuit",
            Kept::Nothing => "nothing kept",
            Kept::AllButCircuit => "all but the circuit",
        })
    }
}

/// `(L(∅) − L(C)) / (L(∅) − L(M))`: 0 where the circuit is as bad as nothing, 1 where it is as good as the model.
/// Neither clamped nor always defined; beyond 1 the circuit does better than what it should explain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Faithfulness {
    /// The denominator is large enough.
    Defined {
        /// Ratio of the means over pairs.
        ratio_of_means: Estimate,
        /// 5th, 50th and 95th percentile of the ratio pair by pair, over pairs with a positive denominator.
        by_pair: [f64; 3],
    },
    /// Ablating everything costs too little to divide by.
    Undefined {
        /// Mean and standard error of the denominator in nats.
        denominator: (f64, f64),
    },
}

/// How one run did on one split; losses and divergences in nats, means over pairs of the mean over their two
/// sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// On which pairs.
    pub split: Split,
    /// Which nodes were kept.
    pub kept: Kept,
    /// By what the others were replaced; none for the model.
    pub ablation: Option<Fill>,
    /// Scale and shift of the logit difference. The circuit's own under mean ablation; refitted on the selection
    /// pairs under zero ablation and where nothing is kept; none for the model and all but the circuit.
    pub calibration: Calibration,
    /// Task loss, calibrated (chance ln 2).
    pub loss: Estimate,
    /// Task loss without calibration.
    pub loss_uncalibrated: Estimate,
    /// Fraction of sequences whose right candidate is preferred (calibrated).
    pub accuracy: Estimate,
    /// Fraction of sequences on which the run (calibrated) prefers the model's candidate.
    pub agreement: Estimate,
    /// Fraction of sequences with the model's most likely token of the whole vocabulary.
    pub agreement_vocabulary: Estimate,
    /// KL(model ‖ run) over the two candidates (calibrated).
    pub kl_candidates: Estimate,
    /// KL(model ‖ run) over the whole vocabulary.
    pub kl: Estimate,
    /// 99th percentile over sequences of that.
    pub kl_p99: f64,
    /// Largest.
    pub kl_max: f64,
    /// Normalised faithfulness, for the circuit.
    pub faithfulness: Option<Faithfulness>,
}

/// What a check means for the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Failing it ends the run: nothing else would mean anything.
    Gate,
    /// Failing it refutes the circuit.
    Required,
    /// Failing or missing it leaves at most a weak pass.
    ForStrong,
    /// For the reader.
    Reported,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Met.
    Passed,
    /// Not met.
    Failed,
    /// Could not be made; a required one then leaves at most a weak pass.
    NotApplicable,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Such as `sufficiency: loss`.
    pub name: String,
    /// What it means for the verdict.
    pub role: Role,
    /// On which pairs.
    pub split: Option<Split>,
    /// Under which ablation.
    pub ablation: Option<Fill>,
    /// The quantity, with its interval.
    pub estimate: Option<Estimate>,
    /// Its p-value, corrected where several decide.
    pub p_value: Option<f64>,
    /// What the quantity (or the p-value) is compared with.
    pub threshold: Option<f64>,
    /// What came of it.
    pub status: Status,
    /// In plain words.
    pub explanation: String,
}

/// How random node sets were drawn; always as many per site as the circuit has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Draw {
    /// From all nodes, the circuit's included.
    Any,
    /// From the nodes outside the circuit.
    Others,
    /// From the active nodes outside the circuit, silent ones only where those run out.
    ActiveOthers,
}

/// A circuit among random node sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RandomSets {
    /// How they were drawn.
    pub draw: Draw,
    /// True: the sets alone were ablated (necessity). False: they alone were kept (sufficiency).
    pub ablated: bool,
    /// Task loss in nats of the circuit's run: at the best common shift where it was ablated, calibrated where kept.
    pub circuit: f64,
    /// The same of each random set.
    pub random: Vec<f64>,
    /// `(1 + #{random at least as good}) / (R + 1)`; what meets the bar that the circuit itself has to meet counts as
    /// at least as good.
    pub p_value: f64,
    /// Sites at which too few other (active) nodes exist, and how many are wanting in all.
    pub wanting: (usize, usize),
}

/// A pair on which the circuit fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CounterExample {
    /// Its split.
    pub split: Split,
    /// Its index there.
    pub pair: usize,
    /// Which nodes the run kept.
    pub kept: Kept,
    /// The model's `l_answer − l_alternative` after the positive and the negative prompt.
    pub model: [f64; 2],
    /// The run's (calibrated).
    pub run: [f64; 2],
}

/// The judgement, from worst to best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The run itself cannot be trusted: a self-check failed or the inputs are unfit.
    Error,
    /// The model does not do the task, so that nothing is there to explain.
    NoTask,
    /// The question has no answer: too few pairs, or ablating everything costs the model nothing.
    Undefined,
    /// A required check failed.
    Refuted {
        /// Names of the checks.
        by: Vec<String>,
        /// The worst pair, where a pair can show it.
        counter_example: Option<CounterExample>,
    },
    /// Every required check passed, but something needed for `Strong` failed or is missing.
    Weak,
    /// Everything passed, under zero ablation as well. Not a proof: see the declarations for what was tried.
    Strong,
}

impl Verdict {
    /// Whether the circuit passes: weak or strong.
    pub fn passed(&self) -> bool {
        matches!(self, Verdict::Weak | Verdict::Strong)
    }

    /// One word for a headline.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Error => "ERROR",
            Verdict::NoTask => "NO TASK",
            Verdict::Undefined => "UNDEFINED",
            Verdict::Refuted { .. } => "REFUTED",
            Verdict::Weak => "PASS (WEAK)",
            Verdict::Strong => "PASS (STRONG)",
        }
    }
}

/// Size of the circuit and of the model it is cut from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Nodes of the circuit.
    pub nodes: usize,
    /// Weights between them.
    pub edges: usize,
    /// Nodes of the model.
    pub model_nodes: usize,
    /// Nodes of the model that are active on the held-out pairs.
    pub active_nodes: usize,
    /// Active nodes of the circuit.
    pub active_in_circuit: usize,
}

/// One of the choices without which numbers cannot be compared (Miller et al. 2024 and four more).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declaration {
    /// The choice.
    pub what: String,
    /// What was chosen.
    pub value: String,
}

/// Everything the judge has to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The judgement.
    pub verdict: Verdict,
    /// Why, in plain words, the decisive ones first.
    pub reasons: Vec<String>,
    /// Size of the circuit; absent after an early error.
    pub size: Option<Size>,
    /// Every check, in the order it was made.
    pub checks: Vec<Check>,
    /// Every run on every split.
    pub matrix: Vec<Cell>,
    /// The circuit among random sets.
    pub random_sets: Vec<RandomSets>,
    /// The ten choices behind the numbers.
    pub declarations: Vec<Declaration>,
    /// The thresholds.
    pub settings: Settings,
}

impl Report {
    /// The check of this name (and ablation), if it was made.
    pub fn check(&self, name: &str, ablation: Option<Fill>) -> Option<&Check> {
        self.checks.iter().find(|c| c.name == name && c.ablation == ablation)
    }

    /// The run of this kind, if it was made.
    pub fn cell(&self, split: Split, kept: Kept, ablation: Option<Fill>) -> Option<&Cell> {
        self.matrix.iter().find(|c| c.split == split && c.kept == kept && c.ablation == ablation)
    }
}
