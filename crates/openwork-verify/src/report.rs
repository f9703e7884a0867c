//! What the judge says: a verdict, why, and every number behind it.

use std::collections::BTreeSet;

use openwork_circuit::{Calibration, NodeSet};
use serde::{Deserialize, Serialize};

use crate::{
    Check, CheckId, Estimate, Family, Fault, Scrubbed, Settings, Status, Unfinished, Why, certificate::Certified,
    hypothesis::HypothesisReport,
};

/// Which pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Fresh pairs of the templates the circuit was selected on.
    HeldOut,
    /// Pairs of other templates.
    HeldOutTemplates,
    /// Pairs longer (or shorter) than nearly all that the circuit was selected on.
    Lengths,
    /// Pairs of words that the circuit was not selected on.
    Vocabulary,
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Split::HeldOut => "held-out pairs",
            Split::HeldOutTemplates => "held-out templates",
            Split::Lengths => "other lengths",
            Split::Vocabulary => "other words",
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
    /// Its mean over the pairs the circuit was selected on.
    TaskMean,
    /// Its value on another prompt of the same template; one prompt for all nodes, aligned at the last token.
    SameTemplate,
    /// The same with a prompt of any template.
    AnyTemplate,
    /// The constant under which the circuit does the task best, learned on the selection pairs (Li and Janson 2024):
    /// the most permissive.
    Optimal,
}

/// Whether norms are computed from the ablated residual stream or divide by what they divide by in the plain model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norms {
    /// Recomputed.
    Free,
    /// Those of the plain model on the same tokens.
    Frozen,
}

/// How nodes are ablated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scheme {
    /// What they are replaced by.
    pub fill: Fill,
    /// What the norms do.
    pub norms: Norms,
}

impl Fill {
    /// All of them.
    pub const ALL: [Fill; 6] =
        [Fill::Mean, Fill::Zero, Fill::TaskMean, Fill::SameTemplate, Fill::AnyTemplate, Fill::Optimal];
}

impl Scheme {
    /// The published ablation: means over training data, free norms.
    pub const MEAN: Self = Self { fill: Fill::Mean, norms: Norms::Free };
    /// Zeros, free norms.
    pub const ZERO: Self = Self { fill: Fill::Zero, norms: Norms::Free };

    /// All of them, the published one first.
    pub fn all() -> impl Iterator<Item = Self> {
        Fill::ALL.into_iter().flat_map(|fill| [Norms::Free, Norms::Frozen].map(|norms| Self { fill, norms }))
    }
}

impl std::fmt::Display for Fill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fill::Mean => "mean",
            Fill::Zero => "zero",
            Fill::TaskMean => "task mean",
            Fill::SameTemplate => "same template",
            Fill::AnyTemplate => "any template",
            Fill::Optimal => "optimal",
        })
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.fill)?;
        if self.norms == Norms::Frozen { f.write_str(", frozen norms") } else { Ok(()) }
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
    pub ablation: Option<Scheme>,
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

/// A pair on which the circuit fails, with the intervention that shows it: enough to run it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CounterExample {
    /// The check that it speaks against.
    pub check: CheckId,
    /// Its split.
    pub split: Split,
    /// Its index there; none for a pair that was made by a search over inputs.
    pub pair: Option<usize>,
    /// The prompts and their answers.
    pub prompts: [Vec<u16>; 2],
    /// Answer (right for the first prompt) and alternative.
    pub candidates: (u16, u16),
    /// What was done to the model.
    pub intervention: Intervention,
    /// Scale and shift of the run's logit difference.
    pub calibration: Calibration,
    /// The model's `l_answer − l_alternative` after the two prompts.
    pub model: [f64; 2],
    /// The run's (calibrated).
    pub run: [f64; 2],
}

/// The change of the model that a counter-example shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Everything outside the circuit is ablated.
    OnlyCircuitKept,
    /// The circuit is ablated.
    OnlyCircuitAblated,
    /// Some nodes of the circuit are ablated.
    KnockOut,
    /// Nodes outside the circuit are ablated in part.
    Attack,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OnlyCircuitKept => "only the circuit is kept",
            Self::OnlyCircuitAblated => "only the circuit is ablated",
            Self::KnockOut => "nodes of the circuit are knocked out of the model",
            Self::Attack => "an adversary ablates nodes outside the circuit, in part",
        })
    }
}

/// What a run does to the model. Nodes are numbered in the order of the forward pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervention {
    /// Kind of change.
    pub what: Change,
    /// How nodes are ablated.
    pub scheme: Scheme,
    /// Nodes that are kept whole, as runs of numbers `(first, length)`; all others are ablated, unless `partly`
    /// says in what part.
    pub kept: Vec<(usize, usize)>,
    /// `(node, r)` of nodes of which a part r is kept.
    pub partly: Vec<(usize, f32)>,
    /// The prompts whose values take the place of those of ablated nodes, under a resampling scheme.
    pub sources: Option<[Vec<u16>; 2]>,
    /// Constants of the ablated nodes, in the order of their numbers, under a scheme of constants other than the
    /// means over training data and zero.
    pub constants: Option<Vec<f32>>,
}

impl Intervention {
    /// Keeps `nodes` and ablates all others by their means.
    pub(crate) fn keeping(what: Change, nodes: &NodeSet) -> Self {
        Self { what, scheme: Scheme::MEAN, kept: runs(nodes.numbers()), partly: vec![], sources: None, constants: None }
    }
}

/// Rising numbers as runs `(first, length)`.
pub(crate) fn runs(numbers: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for n in numbers {
        match runs.last_mut() {
            Some((first, length)) if *first + *length == n => *length += 1,
            _ => runs.push((n, 1)),
        }
    }
    runs
}

/// The judgement, from worst to best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The run itself cannot be trusted: a self-check failed or the inputs are unfit.
    Error {
        /// Cause.
        fault: Fault,
    },
    /// The model does not do the task, so that nothing is there to explain.
    NoTask,
    /// The question has no answer: too few pairs, or ablating everything costs the model nothing.
    Undefined,
    /// A required check failed.
    Refuted {
        /// The checks.
        by: Vec<CheckId>,
        /// The worst pair, where a pair can show it.
        counter_example: Option<Box<CounterExample>>,
    },
    /// Every required check passed, but something needed for `Strong` failed or is missing.
    Weak,
    /// Everything that can be tried was tried, and passed, under every ablation. Not a proof: see the declarations for
    /// what was tried.
    Strong,
    /// That, and a certificate that anyone can check covers the whole of what is stated.
    Certified {
        /// What the certificate covers.
        scope: String,
    },
}

impl Verdict {
    /// Whether the circuit passes: weak, strong or certified.
    pub fn passed(&self) -> bool {
        matches!(self, Verdict::Weak | Verdict::Strong | Verdict::Certified { .. })
    }

    /// One word for a headline.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Error { .. } => "ERROR",
            Verdict::NoTask => "NO TASK",
            Verdict::Undefined => "UNDEFINED",
            Verdict::Refuted { .. } => "REFUTED",
            Verdict::Weak => "PASS (WEAK)",
            Verdict::Strong => "PASS (STRONG)",
            Verdict::Certified { .. } => "PASS (CERTIFIED)",
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

/// Which curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CurveKind {
    /// Nodes outside the circuit are restored in part.
    RestRestored,
    /// Nodes of the circuit take the values that they have in the model.
    ModelValues,
    /// The first nodes of a ranking are kept.
    NodesKept,
}

impl CurveKind {
    /// The quantity along the axis.
    pub fn axis(self) -> &'static str {
        match self {
            Self::RestRestored => "part of the rest restored",
            Self::ModelValues => "share of the circuit's nodes given the model's values",
            Self::NodesKept => "share of nodes kept",
        }
    }

    /// The quantity that is measured, with its unit.
    pub fn measure(self) -> &'static str {
        match self {
            Self::RestRestored | Self::ModelValues => "KL(model ‖ run) over the candidates, nats",
            Self::NodesKept => "faithfulness of the logit difference",
        }
    }

    /// How to read its shape.
    pub fn reading(self) -> &'static str {
        match self {
            Self::RestRestored => "It should fall steadily: where it rises, what is restored cancels something.",
            Self::ModelValues => {
                "Flat where the circuit computes what the model computes; as far as it falls, its nodes hold other values \
                 than in the model. What is left at 1 is what other nodes write."
            }
            Self::NodesKept => "The circuit's nodes come first, then others by their attribution.",
        }
    }
}

/// A measure along one quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Which curve.
    pub kind: CurveKind,
    /// Quantity along the axis, and measure.
    pub points: Vec<(f64, f64)>,
}

/// What searches and knock-outs found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// CPR and CMD (Mueller et al. 2025): areas under faithfulness and under its distance from 1, over the share of
    /// nodes kept. Not clamped.
    pub cpr_cmd: Option<(f64, f64)>,
    /// What each node of the circuit is worth.
    pub nodes: Vec<NodeWorth>,
    /// Edges that can be cut without loss, `from → to`, and how many there are.
    pub needless_edges: Option<(Vec<String>, usize)>,
    /// Nodes of the smallest part of the circuit that a greedy search found to do as well.
    pub smallest_subset: Option<usize>,
    /// The loss without the circuit over the sum of what its nodes cost one by one: far above 1, they stand in for
    /// each other.
    pub joint_over_sum: Option<f64>,
    /// How far knock-outs part the circuit and the model, beside random sets of its size.
    pub incompleteness: Vec<Incompleteness>,
    /// What attacks on the nodes outside achieved.
    pub attacks: Vec<Attack>,
    /// Circuits for the same task that share little with this one.
    pub rivals: Vec<Rival>,
    /// Nodes of the circuit without which nothing else in the model does the task.
    pub core: Option<usize>,
    /// Of inputs drawn like the held-out ones at most a share p have a KL(model ‖ circuit) over the vocabulary above the
    /// largest seen on those, at 95 % confidence: (p, nats).
    pub worst_input: Option<(f64, f64)>,
    /// What causal scrubbing found.
    pub scrubbed: Option<Scrubbed>,
    /// What became of the hypothesis that came with the circuit.
    pub hypothesis: Option<HypothesisReport>,
    /// Certificates, each in a file of its own.
    pub certificates: Vec<Certified>,
}

/// What one node of the circuit is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeWorth {
    /// The node.
    pub node: String,
    /// Rise of the circuit's loss without it, nats.
    pub in_circuit: Estimate,
    /// p-value of "it is worth less than the margin", after Holm.
    pub p_value: f64,
    /// Rise of the model's loss (at its best shift) without it, nats.
    pub in_model: f64,
    /// Correlation of its values in the circuit's run with those in the model's, over tokens; none where it is
    /// constant in one of them.
    pub role: Option<f64>,
}

/// The circuit, or a random node set beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subset {
    /// The circuit.
    Circuit,
    /// As many random nodes at every site.
    Random,
}

impl std::fmt::Display for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Circuit => "circuit",
            Self::Random => "random",
        })
    }
}

/// How far the same knock-outs K of its nodes part a set C and the model: `L(M_{C∖K}) − L(M_{∖K})`, each at its best scale
/// and shift, nats (Wang et al. 2023: incompleteness without the absolute value).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incompleteness {
    /// The set; a random one has active nodes as far as there are.
    pub on: Subset,
    /// Its nodes.
    pub nodes: usize,
    /// Knock-outs that were tried, that of no node included. Only rows that tried alike compare.
    pub tried: usize,
    /// How the worst of them was found.
    pub how: String,
    /// Nodes that it knocks out.
    pub knocked_out: usize,
    /// The difference there, on held-out pairs; the worst was searched on selection pairs.
    pub gap: Estimate,
    /// The same with nothing knocked out, in the mean.
    pub gap_of_none: f64,
}

/// The worst partial ablation of nodes outside a circuit that was found within a budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attack {
    /// The nodes that were safe.
    pub on: Subset,
    /// Nodes that may be ablated: the sum of `1 − r`.
    pub budget: f64,
    /// KL(model ‖ attacked) over the candidates on pairs that the attack was not made on, nats.
    pub kl: Estimate,
    /// Fraction of those sequences on which it prefers the model's candidate.
    pub agreement: Estimate,
    /// Nodes it ablates most, and to what part.
    pub nodes: Vec<(String, f32)>,
}

/// Another circuit for the same task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rival {
    /// Its nodes.
    pub nodes: usize,
    /// Those that it shares with the circuit.
    pub shared: usize,
    /// Its loss on held-out pairs, nats.
    pub loss: Estimate,
    /// How often it agrees with the model there.
    pub agreement: Estimate,
}

/// A reason of a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Every check that a strong pass needs passed.
    AllPassed,
    /// Every required check passed; what follows did not.
    OnlyRequiredPassed,
    /// The fault that ended the run.
    Fault(Fault),
    /// The failed gate that ended the run.
    Gate {
        /// The check.
        check: CheckId,
        /// What it says.
        explanation: String,
    },
    /// A check that refutes or weakens the circuit.
    Check {
        /// The check.
        check: CheckId,
        /// What it says.
        explanation: String,
    },
    /// A check that was left out.
    NotMade {
        /// The check.
        check: CheckId,
        /// Reason.
        why: Why,
    },
    /// A step that was left out or not finished.
    Unfinished(Unfinished),
    /// Levels that were not asked for.
    NotAsked {
        /// The first of them.
        from: u8,
        /// The last that a strong pass needs.
        to: u8,
    },
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AllPassed => f.write_str("every check that a strong pass needs was made and passed"),
            Self::OnlyRequiredPassed => f.write_str("every required check passed, but not all is well:"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Gate { explanation, .. } => f.write_str(explanation),
            Self::Check { check, explanation } => write!(f, "{check}: {explanation}"),
            Self::NotMade { check, why } => write!(f, "{check}: not made: {why}"),
            Self::Unfinished(what) => write!(f, "not finished: {what}"),
            Self::NotAsked { from, to } if from == to => write!(f, "level {to} was not asked for"),
            Self::NotAsked { from, to } => write!(f, "levels {from} to {to} were not asked for"),
        }
    }
}

/// Report on a circuit: the verdict and every number behind it. [`verify`](crate::verify) makes it and nobody changes it;
/// its [`Contents`] can be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Report(Contents);

impl std::ops::Deref for Report {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        &self.0
    }
}

/// Contents of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    /// The judgement.
    pub verdict: Verdict,
    /// Its reasons, the decisive ones first.
    pub reasons: Vec<Reason>,
    /// The level that was asked for, 1 to 6.
    pub level: u8,
    /// The highest level whose required checks, and those of all levels below it, were made and passed.
    pub rung: u8,
    /// Steps that were left out or not finished.
    pub unfinished: Vec<Unfinished>,
    /// Size of the circuit; absent after an early error.
    pub size: Option<Size>,
    /// Every check, in the order it was made.
    pub checks: Vec<Check>,
    /// Every run on every split.
    pub matrix: Vec<Cell>,
    /// The circuit among random sets.
    pub random_sets: Vec<RandomSets>,
    /// Curves to be drawn.
    pub curves: Vec<Curve>,
    /// Results of searches and knock-outs, in full.
    pub findings: Findings,
    /// The ten choices behind the numbers.
    pub declarations: Vec<Declaration>,
    /// The thresholds.
    pub settings: Settings,
}

impl Contents {
    /// A check, if it was made.
    pub fn check(&self, id: CheckId) -> Option<&Check> {
        self.checks.iter().find(|c| c.id == id)
    }

    /// The run of this kind, if it was made.
    pub fn cell(&self, split: Split, kept: Kept, ablation: Option<Scheme>) -> Option<&Cell> {
        cell(&self.matrix, split, kept, ablation)
    }

    /// Families of the checks that failed.
    pub fn failed_families(&self) -> BTreeSet<Family> {
        let leaks = matches!(&self.verdict, Verdict::Error { fault } if fault.is_leak());
        let family = |check: &Check| match check.id {
            CheckId::SelfChecks if leaks => Family::Leak,
            id => id.family(),
        };
        self.checks.iter().filter(|c| c.status == Status::Failed).map(family).collect()
    }

    /// Whether a step was left out.
    pub(crate) fn is_left_out(&self, check: CheckId) -> bool {
        self.unfinished.iter().any(|u| u.check == check)
    }
}

/// The run of a kind in a table of runs.
fn cell(matrix: &[Cell], split: Split, kept: Kept, ablation: Option<Scheme>) -> Option<&Cell> {
    matrix.iter().find(|c| c.split == split && c.kept == kept && c.ablation == ablation)
}

/// A report in the making: all but the verdict, its reasons and the level reached.
pub(crate) struct Draft {
    pub level: u8,
    pub unfinished: Vec<Unfinished>,
    pub size: Option<Size>,
    pub checks: Vec<Check>,
    pub matrix: Vec<Cell>,
    pub random_sets: Vec<RandomSets>,
    pub curves: Vec<Curve>,
    pub findings: Findings,
    pub declarations: Vec<Declaration>,
    pub settings: Settings,
}

impl Draft {
    pub fn new(level: u8, declarations: Vec<Declaration>, settings: Settings) -> Self {
        Self {
            level,
            unfinished: vec![],
            size: None,
            checks: vec![],
            matrix: vec![],
            random_sets: vec![],
            curves: vec![],
            findings: Findings::default(),
            declarations,
            settings,
        }
    }

    /// The run of this kind, if it was made.
    pub fn cell(&self, split: Split, kept: Kept, ablation: Option<Scheme>) -> Option<&Cell> {
        cell(&self.matrix, split, kept, ablation)
    }

    /// The report with its judgement. Nothing is added to a report after this.
    pub fn seal(self, verdict: Verdict, reasons: Vec<Reason>, rung: u8) -> Report {
        let Self { level, unfinished, size, checks, matrix, random_sets, curves, findings, declarations, settings } =
            self;
        Report(Contents {
            verdict,
            reasons,
            level,
            rung,
            unfinished,
            size,
            checks,
            matrix,
            random_sets,
            curves,
            findings,
            declarations,
            settings,
        })
    }
}
