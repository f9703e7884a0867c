//! Ground-truth cases: many kinds of circuits, true ones and flawed ones, each with everything that a verifier needs and
//! the verdict that it should reach. Refuting a true circuit is a false alarm; passing a flawed one is a miss.

mod cue;
mod hand;
mod programs;

use openwork_circuit::{Claim, Means, NodeSet};
use openwork_model::Model;
use openwork_tasks::Pair;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{Carrier, HandBuilt, Prompt, Shuffle, reaching};

/// Kind of a ground-truth case. Numbers are those of the calibration card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CaseKind {
    /// 1. All nodes: exact, and says nothing.
    AllNodes,
    /// 2. The true circuit.
    True,
    /// 3. No nodes.
    Empty,
    /// 4. The true circuit without one node; the more severe, the more the node does.
    OneMissing,
    /// 5. The true circuit and idle nodes, as many as the severity's share of its size.
    Padded,
    /// 6. The severity's share of the true nodes exchanged for random ones of the same sites.
    Random,
    /// 7. One of two heads that do the same; the other is as strong as the severity.
    Backup,
    /// 8. Two strong nodes that cancel each other, both left out.
    CancellingPair,
    /// 9. The true circuit of a model, for labels that have nothing to do with it.
    Nonsense,
    /// 10. A model that was never trained, and the best of some random circuits.
    DeadSalmon,
    /// 11. A circuit that is amplified by a norm because all else is gone.
    NormCheat,
    /// 12. A head that looks at the place where the cue happens to be in the data.
    PositionalShortcut,
    /// 13. What is true for prompts of the longest lengths alone; the model does all lengths.
    FixedLength,
    /// 14. Two neurons that mean something else in the model than in the circuit.
    RoleSwap,
    /// 15. A circuit that needs the mean of a node that it leaves out.
    MeanOnly,
    /// 16. The true circuit with two variables of its hypothesis exchanged.
    WrongHypothesis,
    /// 17. The true circuit, judged by a harness one of whose hooks does nothing.
    DeadHook,
    /// 18. The true circuit, judged on pairs of which the severity's share are those it was selected on.
    Leak,
    /// 19. A model whose answer bypasses all nodes, so that nothing can be said of any.
    Undefined,
    /// 20. One of two paths that share nothing.
    TwoCircuits,
    /// 21. A true circuit with parts that stand in for each other; a second head or path is as strong as the severity.
    Redundant,
    /// 22. The same with idle nodes, as many as the severity's share of its size.
    RedundantPadded,
    /// 23. The true circuit and live nodes that add nothing in the end; the more severe, the more of them.
    LiveJunk,
    /// 24. A path that carries all but the severity's share of the lead; the circuit leaves out the other one.
    FaintPath,
    /// 25. The true circuit and hundreds of idle neurons.
    Crowd,
    /// 26. A true circuit of hundreds of neurons that share the answer.
    Large,
    /// 27. A circuit that is right between the candidates and has a third token above both.
    ThirdToken,
    /// 28. The true circuit, judged without pairs of other lengths or of other words.
    NoSplit,
    /// 29. A true circuit beside live nodes that bend the answer under some ablations and on some inputs, and never turn it.
    LiveCompany,
    /// 30. Nodes outside keep others outside quiet that would turn the answer: two or three together, no one alone; the
    ///     severity is how far it turns.
    Guard,
    /// 31. Groups of 8, 16 and 30 nodes outside that cancel each other.
    CancellingGroup,
    /// 32. A node of the circuit that means the opposite in the model; the more severe, the more it is worth.
    OpposedWrite,
    /// 33. A rare token turns the model's answer, by nodes outside: on one pair in ten at full severity.
    RareToken,
    /// 34. The circuit follows one of two cues that agree in all data, the model the other.
    Companion,
    /// 35. A true circuit of the contrast: nodes outside, one or eight, set the threshold between the two answers; the severity is how
    ///     far ablating them moves it.
    Threshold,
    /// 36. The same, claimed to produce the answer.
    ThresholdAsAnswer,
    /// 37. The true circuit of an answer, claimed to be one of the contrast.
    TrueAsContrast,
    /// 38. A contrast that a head reads off the first place, where the cue happens to be in the data, beside a threshold outside.
    ContrastByPlace,
    /// 39. A circuit that tells the two prompts of every pair apart by an offset that varies with the prompt, or with the template:
    ///     nodes outside make up for it.
    VaryingOffset,
    /// 40. A circuit of one half of the cue, which after a shift says as much as the whole; the severity is what the other half does.
    HalfCue,
    /// 41. A true contrast beside two strong nodes that cancel each other, and of which each alone moves prompts by what differs.
    ContrastCancelling,
    /// 42. A contrast that needs guards outside: without them it turns round.
    ContrastGuard,
}

/// The respect in which pairs differ from those that the circuit was selected on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// Other templates.
    Templates,
    /// Other lengths.
    Lengths,
    /// Other words.
    Vocabulary,
}

/// The verdict that a case should get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// As good as can be.
    Pass,
    /// Not the circuit it is said to be.
    Refuted,
    /// The model does not do the task.
    NoTask,
    /// Something is wrong with the measurement.
    Error,
    /// Nothing can be said.
    Undefined,
    /// A pass with a reservation.
    Weak(&'static str),
    /// A pass with a reservation or none: weak or refuted.
    NotStrong(&'static str),
}

/// A circuit to be judged.
pub struct GroundTruthCase {
    /// Its kind.
    pub kind: CaseKind,
    /// Program or pathology that the model was made from, for tables.
    pub host: &'static str,
    /// Severity of the flaw, in (0, 1].
    pub severity: f32,
    /// Seed it was made from.
    pub seed: u64,
    /// The model.
    pub model: Model,
    /// Means of its nodes over `text`.
    pub means: Means,
    /// Training text, sequences of `seq_len`.
    pub text: Vec<u16>,
    /// Length of a sequence of the text.
    pub seq_len: usize,
    /// The circuit that is claimed.
    pub circuit: NodeSet,
    /// Claim that is made of it.
    pub claim: Claim,
    /// The true circuit, where there is one.
    pub truth: Option<NodeSet>,
    /// Loss that the circuit claims, nats per sequence.
    pub target_loss: f64,
    /// Pairs that the search trains its masks and fits its calibration on. None of their prompts is in `held_out` or
    /// `shifted`, but for a leak.
    pub training: Vec<Pair>,
    /// Pairs it was selected on.
    pub selection: Vec<Pair>,
    /// Pairs of the same kind to judge it on, none of whose prompts is in `selection`.
    pub held_out: Vec<Pair>,
    /// Pairs that differ from these in one respect. None of their prompts is in `selection`, and templates
    /// have numbers of their own.
    pub shifted: Vec<(Shift, Vec<Pair>)>,
    /// All prompts there are, where they are few.
    pub domain: Option<Vec<Prompt>>,
    /// Variables of the hypothesis that is claimed. With two cues the answer is `yes` where the first is true and the second
    /// false; with one, where the first is true.
    pub variables: Vec<Carrier>,
    /// The same variables and the nodes that do carry them in the model.
    pub true_variables: Vec<Carrier>,
    /// True if the ablation has to skip a site: the flaw is in the measurement.
    pub dead_hook: bool,
    /// The verdict that it should get.
    pub expected: Expected,
}

impl CaseKind {
    /// All, in order.
    pub fn all() -> [Self; 42] {
        use CaseKind::*;
        [
            AllNodes,
            True,
            Empty,
            OneMissing,
            Padded,
            Random,
            Backup,
            CancellingPair,
            Nonsense,
            DeadSalmon,
            NormCheat,
            PositionalShortcut,
            FixedLength,
            RoleSwap,
            MeanOnly,
            WrongHypothesis,
            DeadHook,
            Leak,
            Undefined,
            TwoCircuits,
            Redundant,
            RedundantPadded,
            LiveJunk,
            FaintPath,
            Crowd,
            Large,
            ThirdToken,
            NoSplit,
            LiveCompany,
            Guard,
            CancellingGroup,
            OpposedWrite,
            RareToken,
            Companion,
            Threshold,
            ThresholdAsAnswer,
            TrueAsContrast,
            ContrastByPlace,
            VaryingOffset,
            HalfCue,
            ContrastCancelling,
            ContrastGuard,
        ]
    }

    /// Its number in the list, from 1.
    pub fn number(self) -> usize {
        self as usize + 1
    }

    /// Its name, for files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllNodes => "all nodes",
            Self::True => "true circuit",
            Self::Empty => "no nodes",
            Self::OneMissing => "one node missing",
            Self::Padded => "padded",
            Self::Random => "random circuit",
            Self::Backup => "backup head",
            Self::CancellingPair => "cancelling pair",
            Self::Nonsense => "nonsense labels",
            Self::DeadSalmon => "dead salmon",
            Self::NormCheat => "norm cheat",
            Self::PositionalShortcut => "positional shortcut",
            Self::FixedLength => "fixed length",
            Self::RoleSwap => "role swap",
            Self::MeanOnly => "mean only",
            Self::WrongHypothesis => "wrong hypothesis",
            Self::DeadHook => "dead hook",
            Self::Leak => "leak",
            Self::Undefined => "bypass",
            Self::TwoCircuits => "two circuits",
            Self::Redundant => "redundant circuit",
            Self::RedundantPadded => "redundant, padded",
            Self::LiveJunk => "live junk",
            Self::FaintPath => "faint path left out",
            Self::Crowd => "crowd of idle nodes",
            Self::Large => "large circuit",
            Self::ThirdToken => "right between candidates only",
            Self::NoSplit => "no other lengths or words",
            Self::LiveCompany => "true among live nodes",
            Self::Guard => "guard",
            Self::CancellingGroup => "cancelling group",
            Self::OpposedWrite => "opposed write",
            Self::RareToken => "rare token",
            Self::Companion => "companion cue",
            Self::Threshold => "threshold outside",
            Self::ThresholdAsAnswer => "threshold outside, as an answer",
            Self::TrueAsContrast => "true circuit, as a contrast",
            Self::ContrastByPlace => "contrast by place",
            Self::VaryingOffset => "varying offset",
            Self::HalfCue => "half of the cue",
            Self::ContrastCancelling => "cancelling pair, as a contrast",
            Self::ContrastGuard => "guard, as a contrast",
        }
    }

    /// Severities of the flaw, ascending; the last is the full one.
    pub fn severities(self) -> &'static [f32] {
        match self {
            // By how much the missing node does.
            Self::OneMissing => &[0.25, 0.5, 1.0],
            Self::Padded | Self::Random | Self::CancellingPair | Self::Leak => &[0.25, 0.5, 1.0],
            Self::Backup | Self::TwoCircuits => &[0.25, 0.5, 1.0],
            // Copies kept of eight: 4, 2, 1.
            Self::NormCheat => &[0.5, 0.75, 1.0],
            Self::PositionalShortcut => &[0.25, 0.5, 1.0],
            Self::FixedLength => &[0.5, 1.0],
            // Below one half roles are weaker, not swapped.
            Self::RoleSwap => &[0.75, 1.0],
            Self::MeanOnly => &[0.5, 1.0],
            Self::Redundant | Self::RedundantPadded | Self::LiveJunk => &[0.25, 0.5, 1.0],
            Self::FaintPath => &[0.003, 0.01, 0.05, 0.2, 0.6],
            Self::Crowd => &[0.25, 1.0],
            Self::ThirdToken => &[0.75, 1.0],
            // Answers turn from one half on.
            Self::Guard => &[0.6, 0.8, 1.0],
            Self::Companion => &[0.75, 1.0],
            // 8, 16 and 30 nodes.
            Self::CancellingGroup => &[0.25, 0.5, 1.0],
            Self::OpposedWrite => &[0.5, 0.75, 1.0],
            // 15, 20 and 40 logits, of a lead of 10.
            Self::Threshold | Self::ThresholdAsAnswer => &[0.375, 0.5, 1.0],
            Self::ContrastByPlace => &[0.25, 0.5, 1.0],
            // Beyond a half the two prompts of one pair lie on one side of those of another.
            Self::VaryingOffset => &[0.6, 0.8, 1.0],
            Self::HalfCue => &[0.5, 1.0],
            Self::ContrastGuard => &[0.6, 0.8, 1.0],
            // 0.3, 1, 3 and 10 % of pairs.
            Self::RareToken => &[0.03, 0.1, 0.3, 1.0],
            _ => &[1.0],
        }
    }

    /// The severity that shows the flaw most.
    pub fn full(self) -> f32 {
        *self.severities().last().expect("a kind has a severity")
    }

    /// The verdict that it should get.
    pub fn expected(self, severity: f32) -> Expected {
        match self {
            // A twentieth of the lead is a logit of 0.5 of 10, which alone would be right 62 times in 100.
            Self::FaintPath if severity <= 0.05 => Expected::Pass,
            Self::Redundant | Self::Large | Self::Threshold | Self::TrueAsContrast => Expected::Pass,
            Self::ThirdToken => Expected::Weak("between the candidates only"),
            // Refuted where what is missing is what more than a tenth of its nodes are for.
            Self::NoSplit => Expected::NotStrong("splits missing"),
            Self::AllNodes => Expected::Weak("trivial"),
            Self::MeanOnly => Expected::Weak("mean-dependent"),
            Self::True | Self::LiveCompany => Expected::Pass,
            Self::CancellingGroup => Expected::NotStrong("cancelling outside"),
            Self::RareToken => Expected::NotStrong("rare inputs"),
            Self::Companion => Expected::NotStrong("companion cues"),
            Self::Nonsense | Self::DeadSalmon => Expected::NoTask,
            Self::DeadHook | Self::Leak => Expected::Error,
            Self::Undefined => Expected::Undefined,
            Self::Empty
            | Self::OneMissing
            | Self::Padded
            | Self::Random
            | Self::Backup
            | Self::CancellingPair
            | Self::NormCheat
            | Self::PositionalShortcut
            | Self::FixedLength
            | Self::RoleSwap
            | Self::WrongHypothesis
            | Self::TwoCircuits
            | Self::RedundantPadded
            | Self::LiveJunk
            | Self::FaintPath
            | Self::Crowd
            | Self::Guard
            | Self::OpposedWrite
            | Self::ThresholdAsAnswer
            | Self::ContrastByPlace
            | Self::VaryingOffset
            | Self::HalfCue
            | Self::ContrastCancelling
            | Self::ContrastGuard => Expected::Refuted,
        }
    }

    /// Claim that is made of the circuit.
    pub fn claim(self) -> Claim {
        match self {
            Self::Threshold
            | Self::TrueAsContrast
            | Self::ContrastByPlace
            | Self::VaryingOffset
            | Self::HalfCue
            | Self::ContrastCancelling
            | Self::ContrastGuard => Claim::Contrast,
            _ => Claim::Answer,
        }
    }

    /// The circuit of this kind. The same arguments give the same circuit; seeds give different programs, orders, names, noise
    /// and data.
    ///
    /// # Panics
    /// When `severity` is not in (0, 1].
    pub fn build(self, severity: f32, seed: u64) -> GroundTruthCase {
        assert!(severity > 0.0 && severity <= 1.0, "a severity is in (0, 1], not {severity}");
        match self {
            Self::AllNodes | Self::Empty | Self::OneMissing | Self::Padded | Self::Random | Self::Nonsense => {
                self.of_program(severity, seed)
            }
            Self::FixedLength | Self::DeadHook | Self::Leak => self.of_program(severity, seed),
            // One true circuit in four is built by hand.
            Self::True | Self::NoSplit | Self::TrueAsContrast if seed % 4 != 3 => self.of_program(severity, seed),
            Self::Redundant | Self::RedundantPadded if seed % 5 > 2 => self.of_program(severity, seed),
            Self::DeadSalmon => hand::dead_salmon(seed),
            _ => self.by_hand(severity, seed),
        }
    }
}

impl GroundTruthCase {
    /// The same in another order and with other token ids: verdicts must be the same.
    pub fn shuffled(&self, seed: u64) -> Self {
        let shuffle = Shuffle::new(&self.model.config, seed);
        let variables = |list: &[Carrier]| {
            let one =
                |v: &Carrier| Carrier { token: shuffle.token(v.token), nodes: shuffle.nodes(&v.nodes), ..v.clone() };
            list.iter().map(one).collect()
        };
        let model = shuffle.model(&self.model);
        let text = shuffle.tokens(&self.text);
        Self {
            means: Means::compute(&model, &text, self.seq_len),
            model,
            text,
            circuit: shuffle.nodes(&self.circuit),
            truth: self.truth.as_ref().map(|truth| shuffle.nodes(truth)),
            training: shuffle.pairs(&self.training),
            selection: shuffle.pairs(&self.selection),
            held_out: shuffle.pairs(&self.held_out),
            shifted: self.shifted.iter().map(|(shift, pairs)| (*shift, shuffle.pairs(pairs))).collect(),
            domain: self.domain.as_ref().map(|domain| shuffle.prompts(domain)),
            variables: variables(&self.variables),
            true_variables: variables(&self.true_variables),
            ..*self
        }
    }
}

/// Common part of the two ways of building: data, and a circuit that is the truth.
struct Bed {
    host: &'static str,
    model: Model,
    text: Vec<u16>,
    seq_len: usize,
    truth: NodeSet,
    training: Vec<Pair>,
    selection: Vec<Pair>,
    held_out: Vec<Pair>,
    shifted: Vec<(Shift, Vec<Pair>)>,
    domain: Option<Vec<Prompt>>,
}

impl Bed {
    fn case(mut self, kind: CaseKind, severity: f32, seed: u64, circuit: NodeSet) -> GroundTruthCase {
        if kind == CaseKind::NoSplit {
            let missing = if seed.is_multiple_of(2) { Shift::Lengths } else { Shift::Vocabulary };
            self.shifted.retain(|(shift, _)| *shift != missing);
        }
        let means = Means::compute(&self.model, &self.text, self.seq_len);
        GroundTruthCase {
            kind,
            host: self.host,
            severity,
            seed,
            means,
            circuit,
            claim: kind.claim(),
            truth: Some(self.truth),
            target_loss: 0.15,
            model: self.model,
            text: self.text,
            seq_len: self.seq_len,
            training: self.training,
            selection: self.selection,
            held_out: self.held_out,
            shifted: self.shifted,
            domain: self.domain,
            variables: vec![],
            true_variables: vec![],
            dead_hook: false,
            expected: kind.expected(severity),
        }
    }
}

impl Bed {
    /// The truth and nodes from which nothing reaches the output, as many as a share of its size.
    fn padded(&self, share: f32, rng: &mut ChaCha8Rng) -> NodeSet {
        let reaching = reaching(&self.model);
        let mut idle: Vec<usize> = reaching.complement().numbers().collect();
        let n = ((self.truth.len() as f32 * share).ceil() as usize).min(idle.len());
        let idle: Vec<usize> = (0..n).map(|_| idle.swap_remove(rng.random_range(0..idle.len()))).collect();
        NodeSet::of(reaching.space().clone(), self.truth.numbers().chain(idle))
    }
}

/// Pairs to train and calibrate on, to select on, and to judge on.
const TRAINING: usize = 32;
const SELECTION: usize = 48;
const HELD_OUT: usize = 72;
/// Pairs of each shift.
const SHIFTED: usize = 64;
