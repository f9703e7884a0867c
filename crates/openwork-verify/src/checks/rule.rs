//! The rule of every check: how its outcome follows from its numbers, for whoever reads a report and recomputes it.

use crate::{
    checks::{
        Check, Status,
        id::{CheckId, Quantity},
    },
    settings::Settings,
};

/// Comparison that decides a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The lower end of the interval is at least the threshold.
    LowerEndAtLeast,
    /// The upper end of the interval is at most the threshold.
    UpperEndAtMost,
    /// The upper end of the interval is below the threshold.
    UpperEndBelow,
    /// The interval reaches into the threshold on either side of zero: `low ≤ t` and `high ≥ −t`.
    Within,
    /// The p-value is below the threshold.
    PBelow,
    /// The p-value is at most the threshold.
    PAtMost,
    /// The p-value is at most the level of the settings; the threshold is what the test is about.
    PAtMostAlpha,
    /// The outcome does not follow from numbers of the check: its explanation tells of a search or a count.
    NotRecomputable,
}

/// Threshold of a check.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// A number that the settings give.
    Given(f64),
    /// A number that is measured in the run, or none.
    Measured,
}

impl CheckId {
    /// The comparison that decides this check.
    pub fn rule(self) -> Rule {
        match self {
            Self::ShiftFree { of } => of.id().rule(),
            Self::Task => Rule::PBelow,
            Self::Sufficiency { quantity, .. } | Self::Shift { quantity, .. } => match quantity {
                Quantity::Direction => Rule::NotRecomputable,
                Quantity::Loss => Rule::UpperEndAtMost,
                Quantity::Accuracy | Quantity::Agreement => Rule::LowerEndAtLeast,
                Quantity::NearerThanNothing => Rule::UpperEndBelow,
            },
            Self::Necessity
            | Self::Adversary
            | Self::AdversaryShifted
            | Self::LargerAdversary
            | Self::LargerAdversaryShifted
            | Self::Groups
            | Self::VocabularyTop => Rule::LowerEndAtLeast,
            Self::NecessityAgainstRandomSets | Self::SufficiencyAgainstRandomSets => Rule::PAtMost,
            Self::Completeness => Rule::Within,
            Self::VocabularyDivergence | Self::MinimalityNodes => Rule::UpperEndAtMost,
            Self::Equivalence => Rule::PAtMostAlpha,
            Self::SelfChecks
            | Self::EnoughPairs
            | Self::ThroughNodes
            | Self::SufficiencyUnder { .. }
            | Self::ClaimedTarget
            | Self::Amplification
            | Self::Faithfulness { .. }
            | Self::SignTest
            | Self::FaithfulnessBySize
            | Self::NotTrivial
            | Self::Independence
            | Self::RandomSets
            | Self::Control { .. }
            | Self::CompletenessBesideRandom
            | Self::MinimalitySubsets
            | Self::MinimalityEdges
            | Self::TurnedPairs { .. }
            | Self::ShiftPairs { .. }
            | Self::AdversaryPerPrompt
            | Self::AttacksOnRandomSets
            | Self::Roles
            | Self::Interchange
            | Self::WorstInputs
            | Self::RareTokens
            | Self::Companions
            | Self::Identified
            | Self::Scrubbing
            | Self::Hypothesis
            | Self::Exhaustive
            | Self::Certificate { .. } => Rule::NotRecomputable,
        }
    }

    /// The threshold that the settings give this check.
    pub fn threshold(self, settings: &Settings) -> Threshold {
        match self {
            Self::ShiftFree { of } => of.id().threshold(settings),
            Self::Task => Threshold::Given(settings.task_p),
            Self::Sufficiency { quantity, .. } => match quantity {
                Quantity::Direction | Quantity::NearerThanNothing => Threshold::Given(0.0),
                Quantity::Loss => Threshold::Given(settings.loss_limit()),
                Quantity::Accuracy => Threshold::Given(settings.min_accuracy),
                Quantity::Agreement => Threshold::Given(settings.min_agreement),
            },
            Self::Shift { quantity: Quantity::Accuracy | Quantity::Agreement, .. } => {
                Threshold::Given(settings.min_template)
            }
            Self::ClaimedTarget => Threshold::Given(settings.target_loss),
            Self::Amplification => Threshold::Given(settings.max_amplification),
            Self::NotTrivial => Threshold::Given(settings.max_share),
            Self::MinimalityNodes => Threshold::Given(settings.max_needless),
            Self::VocabularyDivergence => Threshold::Given(settings.max_divergence),
            Self::VocabularyTop => Threshold::Given(settings.min_agreement),
            Self::NecessityAgainstRandomSets | Self::SufficiencyAgainstRandomSets => Threshold::Given(settings.alpha),
            Self::Adversary
            | Self::AdversaryShifted
            | Self::LargerAdversary
            | Self::LargerAdversaryShifted
            | Self::Groups => Threshold::Given(settings.min_accuracy),
            Self::Equivalence => Threshold::Given(settings.equivalence_margin),
            Self::Scrubbing => Threshold::Given(settings.min_scrubbed),
            _ => Threshold::Measured,
        }
    }
}

impl Check {
    /// The outcome that follows from the numbers of the check; `None` where it does not follow from them, or where the check
    /// decides nothing.
    pub fn recomputed(&self, settings: &Settings) -> Option<Status> {
        if self.status == Status::NotApplicable {
            return None;
        }
        let ends = || self.estimate.map(|e| e.ci95);
        let holds = match self.id.rule() {
            Rule::LowerEndAtLeast => ends()?.0 >= self.threshold?,
            Rule::UpperEndAtMost => ends()?.1 <= self.threshold?,
            Rule::UpperEndBelow => ends()?.1 < self.threshold?,
            Rule::Within => ends()?.0 <= self.threshold? && ends()?.1 >= -self.threshold?,
            Rule::PBelow => self.p_value? < self.threshold?,
            Rule::PAtMost => self.p_value? <= self.threshold?,
            Rule::PAtMostAlpha => self.p_value? <= settings.alpha,
            Rule::NotRecomputable => return None,
        };
        Some(Status::of(holds))
    }

    /// True if the check lacks a number that its rule compares.
    pub(crate) fn lacks_numbers(&self) -> bool {
        let (estimate, p) = match self.id.rule() {
            Rule::LowerEndAtLeast | Rule::UpperEndAtMost | Rule::UpperEndBelow | Rule::Within => (true, false),
            Rule::PBelow | Rule::PAtMost | Rule::PAtMostAlpha => (false, true),
            Rule::NotRecomputable => return false,
        };
        self.status != Status::NotApplicable
            && ((estimate && self.estimate.is_none()) || (p && self.p_value.is_none()) || self.threshold.is_none())
    }
}
