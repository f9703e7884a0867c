//! The two forms of a check: as the answers are, and after the common shift of the answers that suits the run best.
//!
//! A circuit that claims the answer is judged by the first, one that claims the contrast by the second; reports have both. Checks
//! that no common shift changes have one form, which decides whatever is claimed.

use openwork_circuit::Claim;
use serde::{Deserialize, Serialize};

use crate::{
    checks::id::{CheckId, Quantity},
    run::scheme::{Scheme, Split},
};

/// A check that has another outcome after a common shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Raw {
    /// [`CheckId::Sufficiency`], but for the direction, which is a matter of scale.
    Sufficiency {
        /// Ablation.
        scheme: Scheme,
        /// Quantity.
        quantity: Quantity,
    },
    /// [`CheckId::Shift`].
    Shift {
        /// Pairs.
        split: Split,
        /// Ablation.
        scheme: Scheme,
        /// Quantity.
        quantity: Quantity,
    },
    /// [`CheckId::TurnedPairs`].
    TurnedPairs {
        /// Pairs.
        split: Split,
    },
    /// [`CheckId::Equivalence`].
    Equivalence,
    /// [`CheckId::VocabularyDivergence`].
    VocabularyDivergence,
    /// [`CheckId::SufficiencyAgainstRandomSets`].
    SufficiencyAgainstRandomSets,
    /// [`CheckId::Groups`].
    Groups,
    /// [`CheckId::AdversaryPerPrompt`]: one prompt has no shift that is common to several, so that pairs are attacked.
    AdversaryPerPrompt,
    /// [`CheckId::Roles`].
    Roles,
    /// [`CheckId::WorstInputs`].
    WorstInputs,
    /// [`CheckId::RareTokens`].
    RareTokens,
    /// [`CheckId::Companions`].
    Companions,
    /// [`CheckId::Scrubbing`].
    Scrubbing,
}

impl Raw {
    /// The check without a shift.
    pub fn id(self) -> CheckId {
        match self {
            Self::Sufficiency { scheme, quantity } => CheckId::Sufficiency { scheme, quantity },
            Self::Shift { split, scheme, quantity } => CheckId::Shift { split, scheme, quantity },
            Self::TurnedPairs { split } => CheckId::TurnedPairs { split },
            Self::Equivalence => CheckId::Equivalence,
            Self::VocabularyDivergence => CheckId::VocabularyDivergence,
            Self::SufficiencyAgainstRandomSets => CheckId::SufficiencyAgainstRandomSets,
            Self::Groups => CheckId::Groups,
            Self::AdversaryPerPrompt => CheckId::AdversaryPerPrompt,
            Self::Roles => CheckId::Roles,
            Self::WorstInputs => CheckId::WorstInputs,
            Self::RareTokens => CheckId::RareTokens,
            Self::Companions => CheckId::Companions,
            Self::Scrubbing => CheckId::Scrubbing,
        }
    }
}

impl CheckId {
    /// The same check after the best common shift; none of a check that no shift changes.
    pub fn shift_free(self) -> Option<Self> {
        let of = match self {
            Self::Sufficiency { quantity: Quantity::Direction, .. } => return None,
            Self::Adversary => return Some(Self::AdversaryShifted),
            Self::LargerAdversary => return Some(Self::LargerAdversaryShifted),
            Self::Sufficiency { scheme, quantity } => Raw::Sufficiency { scheme, quantity },
            Self::Shift { split, scheme, quantity } => Raw::Shift { split, scheme, quantity },
            Self::TurnedPairs { split } => Raw::TurnedPairs { split },
            Self::Equivalence => Raw::Equivalence,
            Self::VocabularyDivergence => Raw::VocabularyDivergence,
            Self::SufficiencyAgainstRandomSets => Raw::SufficiencyAgainstRandomSets,
            Self::Groups => Raw::Groups,
            Self::AdversaryPerPrompt => Raw::AdversaryPerPrompt,
            Self::Roles => Raw::Roles,
            Self::WorstInputs => Raw::WorstInputs,
            Self::RareTokens => Raw::RareTokens,
            Self::Companions => Raw::Companions,
            Self::Scrubbing => Raw::Scrubbing,
            _ => return None,
        };
        Some(Self::ShiftFree { of })
    }

    /// True if the check is in the form that decides where this is claimed.
    pub fn belongs_to(self, claim: Claim) -> bool {
        match claim {
            Claim::Answer => {
                !matches!(self, Self::ShiftFree { .. } | Self::AdversaryShifted | Self::LargerAdversaryShifted)
            }
            Claim::Contrast => self.shift_free().is_none(),
        }
    }

    /// The check in the form of a claim.
    pub fn of_claim(self, claim: Claim) -> Self {
        match claim {
            Claim::Answer => self,
            Claim::Contrast => self.shift_free().unwrap_or(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Role;

    #[test]
    fn every_check_decides_in_one_form_and_in_that_of_its_claim() {
        let asked = (1..=5).flat_map(CheckId::asked_at);
        let quantities = Quantity::ALL.map(|quantity| CheckId::Sufficiency { scheme: Scheme::MEAN, quantity });
        for raw in asked.chain(quantities).filter(|id| id.belongs_to(Claim::Answer)) {
            let own = raw.of_claim(Claim::Contrast);
            assert!(own.belongs_to(Claim::Contrast), "{own}");
            assert_eq!((own.level(), own.role(), own.family()), (raw.level(), raw.role(), raw.family()), "{own}");
            assert_eq!(own.role_in(Claim::Contrast), raw.role_in(Claim::Answer), "{own}");
            if own != raw {
                assert_eq!([own.role_in(Claim::Answer), raw.role_in(Claim::Contrast)], [Role::Reported; 2], "{own}");
            }
            if let CheckId::ShiftFree { of } = own {
                assert_eq!(of.id(), raw);
                assert_eq!((own.rule(), format!("{own}").contains("shifted")), (raw.rule(), true), "{own}");
            }
        }
    }
}
