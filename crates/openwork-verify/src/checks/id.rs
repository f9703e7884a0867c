//! Identity of every check: its printed name, level, role and family.

use openwork_circuit::Claim;
use serde::{Deserialize, Serialize};

use crate::{
    certificate::Kind,
    checks::{Role, control::ControlKind, form::Raw},
    run::scheme::{AblationValue, Norms, Scheme, Split},
};

/// The quantity of a sufficiency check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Sign of the calibration's scale.
    Direction,
    /// Task loss.
    Loss,
    /// Fraction of right answers.
    Accuracy,
    /// Fraction of answers that are the model's.
    Agreement,
    /// KL(model ‖ circuit) beside KL(model ‖ nothing kept).
    NearerThanNothing,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Direction, Self::Loss, Self::Accuracy, Self::Agreement, Self::NearerThanNothing];
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Direction => "direction",
            Self::Loss => "loss",
            Self::Accuracy => "accuracy",
            Self::Agreement => "agreement",
            Self::NearerThanNothing => "nearer to the model than nothing",
        })
    }
}

/// Identity of a check, or of a step of a level. Reports hold it as a tag that does not change with the printed name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckId {
    /// Level 0: the measurement can be trusted and the inputs fit.
    SelfChecks,
    /// Level 0: enough held-out pairs.
    EnoughPairs,
    /// Level 1: the model does the task.
    Task,
    /// Level 1: ablating every node costs the model the task.
    ThroughNodes,
    /// Level 2: one quantity of the circuit on held-out pairs under a scheme.
    Sufficiency {
        /// Ablation.
        scheme: Scheme,
        /// Quantity.
        quantity: Quantity,
    },
    /// Level 2: all quantities under a scheme, where they are not measured.
    SufficiencyUnder {
        /// Ablation.
        scheme: Scheme,
    },
    /// Level 2: the circuit was asked to reach no looser target than the verifier's.
    ClaimedTarget,
    /// Levels 2 and 4: share of pairs that the circuit may turn, for all that is seen.
    TurnedPairs {
        /// Pairs.
        split: Split,
    },
    /// Level 2: spread of the circuit's logits under its own norms beside that under the model's.
    Amplification,
    /// Levels 2 and 4: normalised faithfulness.
    Faithfulness {
        /// Pairs.
        split: Split,
        /// Ablation.
        scheme: Scheme,
    },
    /// Level 2: losses of circuit and model are equivalent.
    Equivalence,
    /// Level 2: the circuit's loss is above the model's as often as below.
    SignTest,
    /// Level 2: CPR and CMD.
    FaithfulnessBySize,
    /// Level 2: the circuit leaves out part of the active nodes.
    NotTrivial,
    /// Level 2: KL(model ‖ circuit) over the vocabulary beside KL(model ‖ nothing kept).
    VocabularyDivergence,
    /// Level 2: the circuit's likeliest token is a candidate where the model's is one.
    VocabularyTop,
    /// Level 3: dependence between the model's scores and those of all but the circuit.
    Independence,
    /// Level 3: rise of the model's loss without the circuit.
    Necessity,
    /// Level 3: that rise beside random node sets.
    NecessityAgainstRandomSets,
    /// Level 3: the circuit's loss beside random node sets.
    SufficiencyAgainstRandomSets,
    /// Level 3, a step: drawing the random node sets.
    RandomSets,
    /// Level 3: the search that found the circuit fails on a control.
    Control {
        /// Control.
        kind: ControlKind,
    },
    /// Level 3: knock-outs change circuit and model alike.
    Completeness,
    /// Level 3: the same for random circuits.
    CompletenessBesideRandom,
    /// Level 3: every node is needed.
    MinimalityNodes,
    /// Level 3: greedy search for a smaller subset.
    MinimalitySubsets,
    /// Level 3: edges that can be cut.
    MinimalityEdges,
    /// Level 4: all quantities on pairs from elsewhere, where they are not measured.
    ShiftPairs {
        /// Pairs.
        split: Split,
    },
    /// Level 4: one quantity of the circuit on pairs from elsewhere.
    Shift {
        /// Pairs.
        split: Split,
        /// Ablation.
        scheme: Scheme,
        /// Quantity.
        quantity: Quantity,
    },
    /// Level 4: partial ablation of nodes outside the circuit, within the required budget.
    Adversary,
    /// Level 4: the same with a budget of the circuit's size.
    LargerAdversary,
    /// Level 4: the worst attack within the first of these budgets, after the best common shift of the two answers.
    AdversaryShifted,
    /// Level 4: the same within the second of them.
    LargerAdversaryShifted,
    /// Level 4: ablation of groups of nodes outside the circuit as one.
    Groups,
    /// Level 4: partial ablation with a scheme of its own for every prompt.
    AdversaryPerPrompt,
    /// Level 4, a step: the same attack on random node sets.
    AttacksOnRandomSets,
    /// Level 4: nodes carry in the circuit what they carry in the model.
    Roles,
    /// Level 4: the circuit's run as its nodes take the model's values.
    Interchange,
    /// Level 4: prompts made by exchanging tokens.
    WorstInputs,
    /// Level 4: tokens that few pairs or none have.
    RareTokens,
    /// Level 4: pairs that differ in several places.
    Companions,
    /// Level 4: no other circuit does as well.
    Identified,
    /// Level 5: causal scrubbing.
    Scrubbing,
    /// Level 5: the hypothesis that comes with the circuit.
    Hypothesis,
    /// A check after the common shift of the answers that suits the run best, of its level: what decides where a circuit claims the
    /// contrast.
    ShiftFree {
        /// The check that has no shift.
        of: Raw,
    },
    /// Level 6: circuit and model agree on every input.
    Exhaustive,
    /// Level 6, a step: one certificate.
    Certificate {
        /// Kind of certificate.
        kind: Kind,
    },
}

impl CheckId {
    /// Checks that a level makes of every circuit, 1 to 5: a report of the level has an outcome of each ([`CheckId::answers`]), if only
    /// that it was not made and why. Level 6 writes certificates, and `unfinished` has those that it left out.
    pub fn asked_at(level: u8) -> Vec<Self> {
        let mut asked = Self::raw_at(level);
        let shifted = asked.iter().filter_map(|id| id.shift_free()).filter(|id| !asked.contains(id));
        asked.extend(shifted.collect::<Vec<_>>());
        asked
    }

    /// The same without what is asked after the best common shift, but for attacks.
    fn raw_at(level: u8) -> Vec<Self> {
        match level {
            1 => vec![Self::Task, Self::ThroughNodes],
            2 => Scheme::all()
                .map(|scheme| Self::SufficiencyUnder { scheme })
                .chain([
                    Self::ClaimedTarget,
                    Self::Amplification,
                    Self::Equivalence,
                    Self::SignTest,
                    Self::FaithfulnessBySize,
                    Self::NotTrivial,
                    Self::VocabularyDivergence,
                    Self::VocabularyTop,
                    Self::TurnedPairs { split: Split::HeldOut },
                    Self::ClaimedTarget,
                ])
                .collect(),
            3 => ControlKind::ALL
                .map(|kind| Self::Control { kind })
                .into_iter()
                .chain([
                    Self::Independence,
                    Self::Necessity,
                    Self::NecessityAgainstRandomSets,
                    Self::SufficiencyAgainstRandomSets,
                    Self::Completeness,
                    Self::CompletenessBesideRandom,
                    Self::MinimalityNodes,
                    Self::MinimalitySubsets,
                    Self::MinimalityEdges,
                ])
                .collect(),
            4 => Split::ELSEWHERE
                .map(|split| Self::ShiftPairs { split })
                .into_iter()
                .chain([
                    Self::Adversary,
                    Self::AdversaryShifted,
                    Self::LargerAdversary,
                    Self::LargerAdversaryShifted,
                    Self::Groups,
                    Self::AdversaryPerPrompt,
                    Self::Roles,
                    Self::Interchange,
                    Self::WorstInputs,
                    Self::RareTokens,
                    Self::Companions,
                    Self::Identified,
                ])
                .collect(),
            5 => vec![Self::Scrubbing, Self::Hypothesis],
            _ => vec![],
        }
    }

    /// True if a check of this identity is an outcome of `asked`: the same, or a quantity of it.
    pub fn answers(self, asked: Self) -> bool {
        match self {
            Self::ShiftFree { of: Raw::Sufficiency { .. } | Raw::Shift { .. } } => self.of_raw().answers(asked),
            Self::ShiftFree { of: Raw::TurnedPairs { split } } if split != Split::HeldOut => {
                self.of_raw().answers(asked)
            }
            Self::Sufficiency { scheme, .. } | Self::Faithfulness { split: Split::HeldOut, scheme } => {
                asked == Self::SufficiencyUnder { scheme }
            }
            Self::Shift { split, .. } | Self::Faithfulness { split, .. } => asked == Self::ShiftPairs { split },
            Self::TurnedPairs { split } if split != Split::HeldOut => asked == Self::ShiftPairs { split },
            _ => self == asked,
        }
    }

    /// The check without a shift.
    fn of_raw(self) -> Self {
        match self {
            Self::ShiftFree { of } => of.id(),
            raw => raw,
        }
    }

    /// The level that asks it, 0 to 6.
    pub fn level(self) -> u8 {
        match self {
            Self::ShiftFree { of } => of.id().level(),
            Self::SelfChecks | Self::EnoughPairs => 0,
            Self::Task | Self::ThroughNodes => 1,
            Self::Faithfulness { split, .. } | Self::TurnedPairs { split } if split != Split::HeldOut => 4,
            Self::Sufficiency { .. }
            | Self::SufficiencyUnder { .. }
            | Self::ClaimedTarget
            | Self::Amplification
            | Self::Faithfulness { .. }
            | Self::TurnedPairs { .. }
            | Self::Equivalence
            | Self::SignTest
            | Self::FaithfulnessBySize
            | Self::NotTrivial
            | Self::VocabularyDivergence
            | Self::VocabularyTop => 2,
            Self::Independence
            | Self::Necessity
            | Self::NecessityAgainstRandomSets
            | Self::SufficiencyAgainstRandomSets
            | Self::RandomSets
            | Self::Control { .. }
            | Self::Completeness
            | Self::CompletenessBesideRandom
            | Self::MinimalityNodes
            | Self::MinimalitySubsets
            | Self::MinimalityEdges => 3,
            Self::ShiftPairs { .. }
            | Self::Shift { .. }
            | Self::Adversary
            | Self::LargerAdversary
            | Self::AdversaryShifted
            | Self::LargerAdversaryShifted
            | Self::Groups
            | Self::AdversaryPerPrompt
            | Self::AttacksOnRandomSets
            | Self::Roles
            | Self::Interchange
            | Self::WorstInputs
            | Self::RareTokens
            | Self::Companions
            | Self::Identified => 4,
            Self::Scrubbing | Self::Hypothesis => 5,
            Self::Exhaustive | Self::Certificate { .. } => 6,
        }
    }

    /// Its part in the verdict on a circuit of this claim, where a check does not say otherwise of itself: some are only reported of
    /// circuits that they cannot be asked of, and the form of a check that belongs to the other claim decides nothing.
    pub fn role_in(self, claim: Claim) -> Role {
        match self.belongs_to(claim) {
            true => self.role(),
            false => Role::Reported,
        }
    }

    /// Its part in the verdict where it is in the form of the circuit's claim.
    pub fn role(self) -> Role {
        match self {
            Self::ShiftFree { of } => of.id().role(),
            Self::SelfChecks | Self::EnoughPairs | Self::Task | Self::ThroughNodes => Role::Gate,
            Self::Sufficiency { scheme, .. } | Self::SufficiencyUnder { scheme } | Self::Shift { scheme, .. } => {
                role_under(scheme)
            }
            Self::ShiftPairs { split: Split::HeldOutTemplates }
            | Self::Amplification
            | Self::Necessity
            | Self::NecessityAgainstRandomSets
            | Self::SufficiencyAgainstRandomSets
            | Self::Control { .. }
            | Self::Completeness
            | Self::MinimalityNodes
            | Self::Adversary
            | Self::AdversaryShifted
            | Self::Roles
            | Self::Hypothesis
            | Self::Exhaustive => Role::Required,
            // Pairs of other templates are what every pass needs, of other lengths and words a strong one.
            Self::ShiftPairs { .. }
            | Self::ClaimedTarget
            | Self::Equivalence
            | Self::NotTrivial
            | Self::VocabularyDivergence
            | Self::VocabularyTop
            | Self::LargerAdversary
            | Self::LargerAdversaryShifted
            | Self::Groups
            | Self::WorstInputs
            | Self::RareTokens
            | Self::Companions
            | Self::Identified
            | Self::Scrubbing => Role::ForStrong,
            Self::Faithfulness { .. }
            | Self::TurnedPairs { .. }
            | Self::SignTest
            | Self::FaithfulnessBySize
            | Self::Independence
            | Self::RandomSets
            | Self::CompletenessBesideRandom
            | Self::MinimalitySubsets
            | Self::MinimalityEdges
            | Self::AdversaryPerPrompt
            | Self::AttacksOnRandomSets
            | Self::Interchange
            | Self::Certificate { .. } => Role::Reported,
        }
    }

    /// The family that calibration counts it in, where it is in the form of the circuit's claim.
    pub fn family(self) -> Family {
        match self {
            Self::ShiftFree { of } => of.id().family(),
            Self::SelfChecks => Family::SelfCheck,
            Self::EnoughPairs | Self::ThroughNodes => Family::Undefined,
            Self::Task => Family::Task,
            Self::Sufficiency { scheme, .. } | Self::SufficiencyUnder { scheme } => {
                match (scheme.value, scheme.norms) {
                    (AblationValue::Mean, Norms::Free) => Family::Sufficiency,
                    (AblationValue::Mean, Norms::Frozen) => Family::FrozenNorm,
                    _ => Family::AblationMatrix,
                }
            }
            Self::Amplification => Family::FrozenNorm,
            Self::Equivalence => Family::Equivalence,
            Self::NotTrivial => Family::Trivial,
            Self::VocabularyDivergence | Self::VocabularyTop => Family::Vocabulary,
            Self::Necessity | Self::NecessityAgainstRandomSets => Family::Necessity,
            Self::SufficiencyAgainstRandomSets => Family::Random,
            Self::Control { .. } => Family::Control,
            Self::Completeness => Family::Completeness,
            Self::MinimalityNodes => Family::Minimality,
            Self::ShiftPairs { .. } | Self::Shift { .. } => Family::Shift,
            Self::Adversary | Self::AdversaryShifted => Family::Adversary,
            Self::LargerAdversary | Self::LargerAdversaryShifted => Family::LargerAdversary,
            Self::Groups => Family::Groups,
            Self::Roles | Self::Hypothesis => Family::Interchange,
            Self::WorstInputs | Self::RareTokens | Self::Companions => Family::Inputs,
            Self::Identified => Family::Rival,
            Self::Scrubbing => Family::Scrubbing,
            Self::Exhaustive => Family::Exhaustive,
            Self::ClaimedTarget
            | Self::TurnedPairs { .. }
            | Self::Faithfulness { .. }
            | Self::SignTest
            | Self::FaithfulnessBySize
            | Self::Independence
            | Self::RandomSets
            | Self::CompletenessBesideRandom
            | Self::MinimalitySubsets
            | Self::MinimalityEdges
            | Self::AdversaryPerPrompt
            | Self::AttacksOnRandomSets
            | Self::Interchange
            | Self::Certificate { .. } => Family::Other,
        }
    }
}

/// Sufficiency under the published ablation decides. Resampling and zeros are asked of a strong circuit; constants that know
/// the task, and frozen norms beside another ablation than the published one, are reported.
fn role_under(scheme: Scheme) -> Role {
    match (scheme.value, scheme.norms) {
        (AblationValue::Mean, _) => Role::Required,
        (AblationValue::Zero | AblationValue::SameTemplate | AblationValue::AnyTemplate, Norms::Free) => {
            Role::ForStrong
        }
        _ => Role::Reported,
    }
}

impl std::fmt::Display for CheckId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sufficiency { scheme, quantity } => {
                return match scheme.norms {
                    Norms::Free => write!(f, "sufficiency: {quantity}"),
                    Norms::Frozen => write!(f, "frozen norms: {quantity}"),
                };
            }
            Self::SufficiencyUnder { scheme } => return write!(f, "sufficiency under {scheme}"),
            Self::ShiftFree { of: Raw::AdversaryPerPrompt } => "adversary of every pair, answers shifted",
            Self::ShiftFree { of } => return write!(f, "{}, answers shifted", of.id()),
            Self::Control { kind } => return write!(f, "control: {kind}"),
            Self::ShiftPairs { split } => return split.fmt(f),
            Self::Shift { split, quantity, .. } => return write!(f, "{split}: {quantity}"),
            Self::TurnedPairs { split } => return write!(f, "{split}: pairs that may be turned"),
            Self::RareTokens => "rare tokens",
            Self::Companions => "companion cues",
            Self::SelfChecks => "self-checks",
            Self::EnoughPairs => "enough pairs",
            Self::Task => "the model does the task",
            Self::ThroughNodes => "the task goes through nodes",
            Self::ClaimedTarget => "target of the search",
            Self::Amplification => "frozen norms: amplification",
            Self::Faithfulness { .. } => "faithfulness",
            Self::Equivalence => "equivalence",
            Self::SignTest => "sign test",
            Self::FaithfulnessBySize => "faithfulness by size",
            Self::NotTrivial => "not trivial",
            Self::VocabularyDivergence => "vocabulary: divergence",
            Self::VocabularyTop => "vocabulary: likeliest token",
            Self::Independence => "independence of the rest",
            Self::Necessity => "necessity: effect",
            Self::NecessityAgainstRandomSets => "necessity: against random sets",
            Self::SufficiencyAgainstRandomSets => "sufficiency: against random sets",
            Self::RandomSets => "random sets",
            Self::Completeness => "completeness",
            Self::CompletenessBesideRandom => "completeness: beside random circuits",
            Self::MinimalityNodes => "minimality: nodes",
            Self::MinimalitySubsets => "minimality: subsets",
            Self::MinimalityEdges => "minimality: edges",
            Self::Adversary => "adversary",
            Self::LargerAdversary => "adversary of the circuit's size",
            Self::AdversaryShifted => "adversary, answers shifted",
            Self::LargerAdversaryShifted => "adversary of the circuit's size, answers shifted",
            Self::Groups => "groups outside",
            Self::AdversaryPerPrompt => "adversary of every prompt",
            Self::AttacksOnRandomSets => "attacks on random sets",
            Self::Roles => "roles",
            Self::Interchange => "interchange with the model",
            Self::WorstInputs => "worst inputs",
            Self::Identified => "identified",
            Self::Scrubbing => "causal scrubbing",
            Self::Hypothesis => "hypothesis",
            Self::Exhaustive => "exhaustive",
            Self::Certificate { kind: Kind::Exhaustive } => "certificate over all inputs",
            Self::Certificate { kind: Kind::Statistical } => {
                "certificate over a sample of inputs and partial ablations"
            }
            Self::Certificate { kind: Kind::Relaxation } => "bounds over all partial ablations",
        })
    }
}

/// A group of checks that calibration counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Other ablations than the published one.
    AblationMatrix,
    /// Attacks within the required budget.
    Adversary,
    /// Completeness.
    Completeness,
    /// Controls.
    Control,
    /// Equivalence.
    Equivalence,
    /// Agreement on every input.
    Exhaustive,
    /// The published ablation under the model's norms.
    FrozenNorm,
    /// Attacks with groups of nodes.
    Groups,
    /// Searched inputs.
    Inputs,
    /// Roles of nodes and hypotheses.
    Interchange,
    /// Attacks with a budget of the circuit's size.
    LargerAdversary,
    /// Pairs that were selected on, or occur twice.
    Leak,
    /// Minimality of nodes.
    Minimality,
    /// Necessity.
    Necessity,
    /// Checks that decide nothing.
    Other,
    /// Sufficiency beside random node sets.
    Random,
    /// Other circuits.
    Rival,
    /// Causal scrubbing.
    Scrubbing,
    /// Self-checks other than leaks.
    SelfCheck,
    /// Pairs from elsewhere.
    Shift,
    /// Sufficiency under the published ablation.
    Sufficiency,
    /// The model does the task.
    Task,
    /// Size beside the active nodes.
    Trivial,
    /// Nothing can be said of any circuit.
    Undefined,
    /// The distribution over the vocabulary.
    Vocabulary,
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AblationMatrix => "ablation matrix",
            Self::Adversary => "adversary",
            Self::Completeness => "completeness",
            Self::Control => "control",
            Self::Equivalence => "equivalence",
            Self::Exhaustive => "exhaustive",
            Self::FrozenNorm => "frozen norm",
            Self::Groups => "groups",
            Self::Inputs => "inputs",
            Self::Interchange => "interchange",
            Self::LargerAdversary => "larger adversary",
            Self::Leak => "leak",
            Self::Minimality => "minimality",
            Self::Necessity => "necessity",
            Self::Other => "other",
            Self::Random => "random",
            Self::Rival => "rival",
            Self::Scrubbing => "scrubbing",
            Self::SelfCheck => "self-check",
            Self::Shift => "shift",
            Self::Sufficiency => "sufficiency",
            Self::Task => "task",
            Self::Trivial => "trivial",
            Self::Undefined => "undefined",
            Self::Vocabulary => "vocabulary",
        })
    }
}
