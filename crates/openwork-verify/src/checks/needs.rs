//! The checks that every pass needs: each must be there and have passed, whatever else a run made.

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
    /// Checks that must have passed for a level to be reached. Accuracy on other templates is none of them: it is not
    /// asked where the model itself is wrong there, and agreement is.
    pub(crate) fn at(self, level: u8) -> Vec<CheckId> {
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

    /// Checks that a pass needs, in the order of the levels.
    pub(crate) fn for_pass(self) -> Vec<CheckId> {
        let hypothesis = self.hypothesis.then_some(CheckId::Hypothesis);
        (1..=PASS_LEVEL).flat_map(|level| self.at(level)).chain(hypothesis).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Role;

    #[test]
    fn what_a_pass_needs_can_refute_and_is_asked_at_its_level() {
        let all = Needs { frozen_norms: true, hypothesis: true };
        for check in all.for_pass() {
            assert!(matches!(check.role(), Role::Gate | Role::Required), "{check}");
        }
        for level in 1..=5 {
            assert!(all.at(level).iter().all(|c| c.level() == level || *c == CheckId::SelfChecks), "level {level}");
        }
        assert_eq!(all.for_pass().len(), Needs::default().for_pass().len() + Quantity::ALL.len() + 2);
    }
}
