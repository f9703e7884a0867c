//! The six levels of a report, and the state of each.

use crate::{
    checks::{Check, Role, Status, Unfinished},
    report::{Contents, verdict::Verdict},
};

/// State of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelState {
    /// Nothing in it speaks against the circuit.
    Passed,
    /// Nothing in it refutes the circuit, but a strong pass needs more.
    Weak,
    /// It refutes the circuit, or ends the run.
    Failed,
    /// A step was left out, or a check that must decide was not made. The level may still be the level that was reached,
    /// where only steps that a strong pass needs are missing.
    Unfinished,
    /// The run ended on a lower level.
    NotReached,
    /// The run was to end on a lower level.
    NotAsked,
}

impl std::fmt::Display for LevelState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LevelState::Passed => "passed",
            LevelState::Weak => "not refuted, but weak",
            LevelState::Failed => "failed",
            LevelState::Unfinished => "unfinished",
            LevelState::NotReached => "not reached",
            LevelState::NotAsked => "not asked",
        })
    }
}

/// One level of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelReport<'a> {
    /// 1 to 6.
    pub number: u8,
    /// Its question.
    pub question: &'static str,
    /// Its state.
    pub state: LevelState,
    /// Its checks that stand in the way of a strong pass: failed or not decided, the refuting ones first.
    pub against: Vec<&'a Check>,
    /// Its steps that were left out.
    pub unfinished: Vec<Unfinished>,
}

/// Questions of the levels.
const QUESTIONS: [&str; 6] = [
    "Does the model do the task?",
    "Does the circuit alone do it, as the model does?",
    "Does the model need the circuit, all of it and no other?",
    "Does that hold against adversaries and on other inputs?",
    "Is the rest irrelevant, and does the circuit mean what is said?",
    "Is it certified?",
];

impl LevelReport<'_> {
    /// The steps that were left out, and why, in a sentence.
    pub fn left_out(&self) -> Option<String> {
        let steps: Vec<String> = self.unfinished.iter().map(Unfinished::step).collect();
        let mut why: Vec<String> = self.unfinished.iter().map(|u| u.why.to_string()).collect();
        why.dedup();
        (!steps.is_empty()).then(|| format!("not finished, {}: {}", why.join(", "), steps.join("; ")))
    }
}

impl Contents {
    /// The six levels, from the first.
    pub fn levels(&self) -> [LevelReport<'_>; 6] {
        [1, 2, 3, 4, 5, 6].map(|level| self.level_at(level))
    }

    fn level_at(&self, level: u8) -> LevelReport<'_> {
        let of_level = || self.checks.iter().filter(move |c| c.level == level);
        let mut against: Vec<&Check> =
            of_level().filter(|c| c.role != Role::Reported && c.status != Status::Passed).collect();
        let refutes = |c: &Check| c.status == Status::Failed && c.role != Role::ForStrong;
        against.sort_by_key(|c| (!refutes(c), c.status == Status::NotApplicable));
        let unfinished: Vec<Unfinished> = self.unfinished.iter().copied().filter(|u| u.level == level).collect();
        // What was left out is told once.
        against.retain(|c| c.status != Status::NotApplicable || !self.is_left_out(c.id));
        let undecided = |c: &Check| c.status == Status::NotApplicable && c.role != Role::ForStrong;
        let decided = |id| self.check(id).is_some_and(|c| c.status != Status::NotApplicable);
        let absent = self.verdict == Verdict::Incomplete && !self.needs.at(level, self.claim).into_iter().all(decided);
        let made = match level {
            6 => !self.findings.certificates.is_empty(),
            _ => of_level().next().is_some(),
        };
        let state = if level > self.level {
            LevelState::NotAsked
        } else if against.iter().any(|c| refutes(c)) {
            LevelState::Failed
        } else if !unfinished.is_empty() || against.iter().any(|c| undecided(c)) {
            LevelState::Unfinished
        } else if !made {
            LevelState::NotReached
        } else if absent {
            LevelState::Unfinished
        } else if !against.is_empty() || (level == 6 && !matches!(self.verdict, Verdict::Certified { .. })) {
            LevelState::Weak
        } else {
            LevelState::Passed
        };
        LevelReport { number: level, question: QUESTIONS[usize::from(level) - 1], state, against, unfinished }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checks::{Why, id::CheckId, needs::Needs},
        report::{Draft, Report},
        settings::Settings,
    };

    fn report(level: u8, checks: Vec<Check>, unfinished: Vec<Unfinished>) -> Report {
        Draft {
            checks,
            unfinished,
            ..Draft::new((openwork_circuit::Claim::Answer, level), Needs::default(), vec![], Settings::default())
        }
        .seal(Verdict::Weak, vec![], 0)
    }

    fn check(level: u8, role: Role, status: Status) -> Check {
        Check { level, role, ..Check::new(CheckId::Necessity, status, format!("{role:?} {status:?}")) }
    }

    #[test]
    fn every_level_says_what_became_of_it() {
        let checks = vec![
            check(1, Role::Gate, Status::Passed),
            check(2, Role::Required, Status::Passed),
            check(2, Role::ForStrong, Status::Failed),
            check(2, Role::Reported, Status::Failed),
            check(3, Role::ForStrong, Status::Failed),
            check(3, Role::Required, Status::NotApplicable),
            check(3, Role::Required, Status::Failed),
            check(4, Role::Required, Status::Passed),
            Check::new(CheckId::Roles, Status::NotApplicable, ""),
        ];
        let report = report(5, checks, vec![Unfinished::new(CheckId::Roles, Why::OutOfTime)]);
        let levels = report.levels();
        use LevelState as S;
        let expected = [S::Passed, S::Weak, S::Failed, S::Unfinished, S::NotReached, S::NotAsked];
        assert_eq!(levels.each_ref().map(|r| r.state), expected);
        assert_eq!(levels[1].against.len(), 1, "what is only reported stands in no way");
        assert_eq!(levels[2].against[0].explanation, "Required Failed");
        assert!(levels[3].against.is_empty(), "what was left out is told once");
        assert_eq!(levels[3].left_out().unwrap(), "not finished, no time was left: roles");
        assert_eq!(levels[4].left_out(), None);
    }
}
