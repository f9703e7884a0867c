//! Cases on hand-built models.

use openwork_circuit::{Keep, NodeSet, NodeSpace, batches, evaluate};
use openwork_model::Model;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Bed, CaseKind, GroundTruthCase, HELD_OUT, HandBuilt, SELECTION, SHIFTED, Shift, TRAINING,
    cue::{CuePlace, Kind, Second, Source},
};
use crate::{CUE_CONTEXT, Guards, LiveJunk, Options, Pathology, layout::plain_config, token};

/// Sequences of training text, a quarter.
const TEXT: usize = 100;

/// Added to the numbers of templates, for those whose prompts end in one of the first fillers.
const FIRST_FILLERS: usize = 10;

impl CaseKind {
    pub(super) fn by_hand(self, severity: f32, seed: u64) -> GroundTruthCase {
        let pathology = match self {
            // The role swap's true circuit has a part without which it does the same in another way.
            Self::True | Self::NoSplit | Self::TrueAsContrast => {
                let all = [Pathology::Honest, Pathology::TwoVariables, Pathology::NegativeHead, Pathology::ThirdToken];
                all[(seed / 4 % 4) as usize]
            }
            Self::Redundant | Self::RedundantPadded => {
                [Pathology::Backup, Pathology::PositionalShortcut, Pathology::TwoCircuits][(seed % 5) as usize]
            }
            Self::LiveJunk => Pathology::LiveJunk(LiveJunk::ALL[(seed % 4) as usize]),
            Self::FaintPath => Pathology::FaintPath,
            Self::Crowd => Pathology::Crowd,
            Self::Large => Pathology::Large,
            Self::ThirdToken => Pathology::ThirdToken,
            Self::Backup => Pathology::Backup,
            Self::CancellingPair | Self::ContrastCancelling => Pathology::CancellingPair,
            Self::NormCheat => Pathology::NormCheat,
            Self::PositionalShortcut => Pathology::PositionalShortcut,
            Self::RoleSwap => Pathology::RoleSwap,
            Self::MeanOnly => Pathology::MeanOnly,
            Self::WrongHypothesis => Pathology::TwoVariables,
            Self::Undefined => Pathology::DirectPath,
            Self::TwoCircuits => Pathology::TwoCircuits,
            Self::LiveCompany => live_company(seed).0,
            Self::Threshold | Self::ThresholdAsAnswer => {
                Pathology::Threshold { nodes: if seed.is_multiple_of(2) { 1 } else { 8 } }
            }
            Self::ContrastByPlace => Pathology::ContrastByPlace,
            Self::VaryingOffset => Pathology::VaryingOffset,
            Self::HalfCue => Pathology::HalfCue,
            Self::Guard | Self::ContrastGuard => {
                Pathology::Guard([Guards::Two, Guards::Three, Guards::AcrossBlocks, Guards::Heads][(seed % 4) as usize])
            }
            // Of a circuit of 13 nodes an adversary of its size may ablate all that write the same of 8 and of 16, not of 30.
            Self::CancellingGroup => Pathology::CancellingGroup(if severity < 0.5 {
                8
            } else if severity < 1.0 {
                16
            } else {
                30
            }),
            Self::OpposedWrite => Pathology::OpposedWrite,
            Self::RareToken => Pathology::RareToken,
            Self::Companion => Pathology::Companion { second: seed % 2 == 1 },
            other => unreachable!("{other:?} is not built by hand"),
        };
        let strength = match (self, pathology) {
            // A negative head as strong as the other would leave no answer.
            (Self::True | Self::NoSplit | Self::TrueAsContrast, Pathology::NegativeHead) => 0.5,
            (
                Self::PositionalShortcut
                | Self::ContrastByPlace
                | Self::RedundantPadded
                | Self::CancellingGroup
                | Self::RareToken,
                _,
            ) => 1.0,
            (Self::LiveCompany, _) => live_company(seed).1,
            (Self::OpposedWrite, _) => 0.3 * severity,
            _ => severity,
        };
        let hand = HandBuilt::new(pathology, strength, &Options::random(seed));
        let is_whole =
            matches!(self, Self::True | Self::NoSplit | Self::TrueAsContrast | Self::Redundant | Self::RedundantPadded);
        let mut circuit = if is_whole { hand.truth.clone() } else { hand.circuit.clone() };
        let variables = hand.variables.clone();
        let bed = bed(hand, (self, pathology), severity, seed);
        if self == Self::RedundantPadded {
            circuit = bed.padded(severity, &mut ChaCha8Rng::seed_from_u64(seed ^ 0x7A02));
        }
        let mut case = bed.case(self, severity, seed, circuit);
        case.variables = variables.clone();
        case.true_variables = variables;
        if self == Self::MeanOnly {
            case.circuit = without_constants(&case);
        }
        if self == Self::WrongHypothesis {
            let [a, b] = &mut case.variables[..] else { unreachable!("two variables") };
            std::mem::swap(&mut a.nodes, &mut b.nodes);
        }
        if self == Self::RoleSwap {
            // What the neurons carry in the model is the opposite.
            let [a, b] = &mut case.true_variables[..] else { unreachable!("two variables") };
            std::mem::swap(&mut a.nodes, &mut b.nodes);
        }
        case
    }
}

/// A true circuit whose model has live nodes outside, and their strength, by seed: they bend the answer on some inputs and
/// under some ablations, and turn it in none.
fn live_company(seed: u64) -> (Pathology, f32) {
    match seed % 5 {
        0 => (Pathology::Guard(Guards::Two), 0.2),
        1 => (Pathology::CancellingGroup(30), 0.2),
        // Worth 0.004 nats of a loss reduction of 0.64.
        2 => (Pathology::OpposedWrite, 0.03),
        3 => (Pathology::RareToken, 0.2),
        // Alone it carries a thirtieth of the answer.
        _ => (Pathology::Companion { second: seed / 5 % 2 == 1 }, 0.03),
    }
}

/// Name of the host in tables.
fn host(pathology: Pathology) -> &'static str {
    match pathology {
        Pathology::Guard(Guards::Two) => "guard of two neurons",
        Pathology::Guard(Guards::Three) => "guard of three neurons",
        Pathology::Guard(Guards::AcrossBlocks) => "guard of two blocks",
        Pathology::Guard(Guards::Heads) => "guard of two heads",
        Pathology::CancellingGroup(_) => "cancelling group",
        Pathology::OpposedWrite => "opposed write",
        Pathology::RareToken => "rare token",
        Pathology::Threshold { nodes: 1 } => "threshold of one node",
        Pathology::Threshold { .. } => "threshold of eight nodes",
        Pathology::Companion { second: false } => "companion of the first cue",
        Pathology::Companion { second: true } => "companion of the second cue",
        _ => "by hand",
    }
}

/// The circuit without nodes whose means do as well as they: what a search under mean ablation would leave.
fn without_constants(case: &GroundTruthCase) -> NodeSet {
    let batch = batches(&case.held_out, HELD_OUT, CUE_CONTEXT);
    let run = |nodes: &NodeSet| {
        let keep = || Keep::new(nodes, openwork_circuit::Ablation::Mean(&case.means));
        evaluate(&case.model, &batch, false, keep, |_| ()).differences
    };
    let circuit = &case.circuit;
    let whole = run(circuit);
    let needed = |&node: &usize| {
        let fewer = run(&NodeSet::of(circuit.space().clone(), circuit.numbers().filter(|&n| n != node)));
        fewer.iter().zip(&whole).any(|(a, b)| (a - b).abs() > 1e-3)
    };
    NodeSet::of(circuit.space().clone(), circuit.numbers().filter(needed).collect::<Vec<_>>())
}

fn bed(hand: HandBuilt, (kind, pathology): (CaseKind, Pathology), severity: f32, seed: u64) -> Bed {
    let mut source = Source::new(ChaCha8Rng::seed_from_u64(seed ^ 0x7A00), &hand.built.ids);
    let at = match pathology {
        Pathology::PositionalShortcut | Pathology::ContrastByPlace => CuePlace::First,
        Pathology::DirectPath => CuePlace::Last,
        _ => CuePlace::Anywhere,
    };
    let second = match pathology {
        Pathology::TwoVariables => Second::Independent,
        Pathology::Companion { .. } => Second::Companion,
        _ => Second::Absent,
    };
    let mut usual = Kind::usual(at, second);
    if pathology == Pathology::RareToken {
        // One in ten at full severity; in a true circuit's company one in thirty, and answers stay.
        let turns = kind == CaseKind::RareToken;
        usual.rare = Some((if turns { 0.1 * severity } else { 0.03 }, turns));
    }
    let mut selection = source.pairs(SELECTION, &usual);
    let mut held_out = source.pairs(HELD_OUT, &usual);
    let longer = Kind { lengths: 7..10, template: 1, ..usual.clone() };
    let words = Kind { fillers: token::FILLERS.end - 4..token::FILLERS.end, template: 2, ..usual.clone() };
    let mut shifted =
        vec![(Shift::Lengths, source.pairs(SHIFTED, &longer)), (Shift::Vocabulary, source.pairs(SHIFTED, &words))];
    // Other templates have the cue anywhere but first, where there is a choice.
    if at != CuePlace::First {
        let at = if at == CuePlace::Last { CuePlace::Last } else { CuePlace::NotFirst };
        shifted.insert(0, (Shift::Templates, source.pairs(SHIFTED, &Kind { at, template: 3, ..usual.clone() })));
    } else {
        let elsewhere = Kind { at: CuePlace::NotFirst, template: 3, ..usual.clone() };
        let here = Kind { template: 3, ..usual.clone() };
        let n = (SHIFTED as f32 * severity).round() as usize;
        let mut pairs = source.pairs(n, &elsewhere);
        pairs.extend(source.pairs(SHIFTED - n, &here));
        shifted.insert(0, (Shift::Templates, pairs));
    }
    // Templates that end in different fillers have different offsets.
    let halves = |pairs: &mut Vec<openwork_tasks::Pair>| {
        let first = &hand.built.ids[token::FILLERS.start..token::FILLERS.start + token::FILLERS.len() / 2];
        let ends = |p: &openwork_tasks::Pair| p.positive.last().is_some_and(|last| first.contains(last));
        pairs.iter_mut().filter(|p| ends(p)).for_each(|p| p.template += FIRST_FILLERS);
    };
    if pathology == Pathology::VaryingOffset && seed % 2 == 1 {
        let shifted = shifted.iter_mut().map(|(_, pairs)| pairs);
        [&mut selection, &mut held_out].into_iter().chain(shifted).for_each(halves);
    }
    let text = source.text(TEXT, &usual);
    let training = source.pairs(TRAINING, &usual);
    let HandBuilt { built, truth, .. } = hand;
    Bed {
        host: host(pathology),
        model: built.model,
        text,
        seq_len: CUE_CONTEXT,
        truth,
        training,
        selection,
        held_out,
        shifted,
        domain: None,
    }
}

/// A dense model of random weights, and the best of thirty random circuits on the selection pairs.
pub(super) fn dead_salmon(seed: u64) -> GroundTruthCase {
    let config = openwork_model::Config {
        vocab_size: token::COUNT,
        n_ctx: CUE_CONTEXT,
        n_layer: 2,
        n_head: 2,
        d_head: 4,
        d_model: 16,
        d_mlp: 32,
        norm: openwork_model::NormKind::Rms,
        ..plain_config()
    };
    let mut model = Model::init(config, seed);
    // So that it has opinions: weights of 0.4 make of a normalised 16 channels something of order one.
    model.params.values_mut().into_iter().for_each(|w| w.update(|w| *w *= 20.0));
    for block in &mut model.params.blocks {
        [&mut block.attn_norm, &mut block.mlp_norm].into_iter().for_each(|n| n.gain.update(|g| g.fill(1.0)));
    }
    model.params.final_norm.gain.update(|g| g.fill(1.0));
    let ids: Vec<u16> = (0..token::COUNT as u16).collect();
    let mut source = Source::new(ChaCha8Rng::seed_from_u64(seed ^ 0x7A01), &ids);
    let usual = Kind::usual(CuePlace::Anywhere, Second::Absent);
    let (selection, held_out) = (source.pairs(SELECTION, &usual), source.pairs(HELD_OUT, &usual));
    let longer = source.pairs(SHIFTED, &Kind { lengths: 7..10, template: 1, ..usual.clone() });
    let text = source.text(TEXT, &usual);
    let space = NodeSpace::new(&model.config);
    let batch = batches(&selection, SELECTION, CUE_CONTEXT);
    let loss = |nodes: &NodeSet| {
        let outcome = evaluate(&model, &batch, false, || Keep::new(nodes, openwork_circuit::Ablation::Zero), |_| ());
        outcome.loss(outcome.calibrate())
    };
    let random = |rng: &mut ChaCha8Rng| {
        NodeSet::of(space.clone(), (0..space.len()).filter(|_| rng.random_range(0..10) < 3).collect::<Vec<_>>())
    };
    let tries = (0..30).map(|_| random(&mut source.rng));
    let tries: Vec<(f64, NodeSet)> = tries.map(|nodes| (loss(&nodes), nodes)).collect();
    let best = tries.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).expect("thirty").1;
    let training = source.pairs(TRAINING, &usual);
    let bed = Bed {
        host: "untrained",
        truth: NodeSet::empty(space.clone()),
        text,
        seq_len: CUE_CONTEXT,
        training,
        selection,
        held_out,
        shifted: vec![(Shift::Lengths, longer)],
        domain: None,
        model,
    };
    let mut case = bed.case(CaseKind::DeadSalmon, 1.0, seed, best);
    case.truth = None;
    case
}
