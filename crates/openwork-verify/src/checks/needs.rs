//! The checks that every pass needs: each must be there and have passed, whatever else a run made.

use openwork_circuit::Claim;
use serde::{Deserialize, Serialize};

use crate::{
    checks::{
        control::ControlKind,
        id::{CheckId, Quantity},
    },
    run::scheme::{AblationValue, Norms, Scheme, Split},
};

/// Facts about a claim that decide which checks a pass needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// True if the model has norms that can be frozen.
    pub frozen_norms: bool,
    /// True if the claim comes with a hypothesis.
    pub hypothesis: bool,
}

/// The last level that every pass needs; of the one above, a pass needs the hypothesis, where one is given.
pub(crate) const PASS_LEVEL: u8 = 4;

impl Needs {
    /// Checks that must have passed for a level to be reached, in the form of the claim. Accuracy on other templates is none of
    /// them: it is not asked where the model itself is wrong there, and agreement is.
    pub(crate) fn at(self, level: u8, claim: Claim) -> Vec<CheckId> {
        self.raw_at(level).into_iter().map(|id| id.of_claim(claim)).collect()
    }

    fn raw_at(self, level: u8) -> Vec<CheckId> {
        let every = |scheme: Scheme| Quantity::ALL.map(|quantity| CheckId::Sufficiency { scheme, quantity });
        match level {
            1 => vec![CheckId::SelfChecks, CheckId::Task, CheckId::ThroughNodes],
            2 => {
                let mut checks = every(Scheme::MEAN).to_vec();
                if self.frozen_norms {
                    checks.extend(every(Scheme { value: AblationValue::Mean, norms: Norms::Frozen }));
                    checks.push(CheckId::Amplification);
                }
                checks
            }
            3 => {
                let controls = ControlKind::ALL.map(|kind| CheckId::Control { kind });
                let checks = [
                    CheckId::Necessity,
                    CheckId::NecessityAgainstRandomSets,
                    CheckId::SufficiencyAgainstRandomSets,
                    CheckId::Completeness,
                    CheckId::MinimalityNodes,
                ];
                checks.into_iter().chain(controls).collect()
            }
            4 => {
                let (split, scheme) = (Split::HeldOutTemplates, Scheme::MEAN);
                let templates = CheckId::Shift { split, scheme, quantity: Quantity::Agreement };
                vec![templates, CheckId::Adversary, CheckId::Roles]
            }
            5 if self.hypothesis => vec![CheckId::Scrubbing, CheckId::Hypothesis],
            5 => vec![CheckId::Scrubbing],
            _ => vec![],
        }
    }

    /// Checks that a pass needs, in the order of the levels and the form of the claim.
    pub(crate) fn for_pass(self, claim: Claim) -> Vec<CheckId> {
        let hypothesis = self.hypothesis.then_some(CheckId::Hypothesis);
        (1..=PASS_LEVEL).flat_map(|level| self.at(level, claim)).chain(hypothesis).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Role;

    #[test]
    fn what_a_pass_needs_can_refute_and_is_asked_at_its_level() {
        let all = Needs { frozen_norms: true, hypothesis: true };
        for claim in Claim::ALL {
            for check in all.for_pass(claim) {
                assert!(matches!(check.role_in(claim), Role::Gate | Role::Required), "{check}");
            }
            for level in 1..=5 {
                let of_level = |c: &CheckId| c.level() == level || *c == CheckId::SelfChecks;
                assert!(all.at(level, claim).iter().all(of_level), "level {level}");
            }
            assert_eq!(all.for_pass(claim).len(), Needs::default().for_pass(claim).len() + Quantity::ALL.len() + 2);
        }
        let shifted = all.for_pass(Claim::Contrast).iter().filter(|id| !id.belongs_to(Claim::Answer)).count();
        // Loss, accuracy, agreement and nearness under free and frozen norms; random sets, templates, adversary, roles.
        assert_eq!(shifted, 2 * 4 + 4);
    }
}
