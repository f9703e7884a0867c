//! From checks to the verdict.

use openwork_circuit::Claim;

use crate::{
    checks::{
        Check, Role, Status, Unfinished, Why,
        id::CheckId,
        needs::{Needs, PASS_LEVEL},
    },
    report::{
        Contents, Draft, Report,
        counter_example::CounterExample,
        fault::Fault,
        verdict::{Reason, Verdict},
    },
};

/// The last level that tries to refute; the one above certifies.
pub(crate) const STRONG_LEVEL: u8 = 5;

/// The level that certifies.
pub(crate) const CERTIFIED_LEVEL: u8 = 6;

/// The end of a run.
pub(crate) enum End {
    /// After its last check, or at a gate that failed; where every input of a domain is certified, what the certificates cover.
    Whole {
        /// Scope of the certificates.
        certified: Option<String>,
    },
    /// At a fault.
    Fault(Fault),
}

/// Judges a draft: the one place where a verdict, its reasons and the level reached are decided, from checks, steps left
/// out and certificates; explanations are for people.
pub(crate) fn seal(draft: Draft, end: End, counter_example: Option<CounterExample>) -> Report {
    let (fault, certified) = match end {
        End::Fault(fault) => (Some(fault), None),
        End::Whole { certified } => (None, certified),
    };
    let claim = draft.claim;
    let evidence = Evidence {
        claim,
        checks: &draft.checks,
        unfinished: &draft.unfinished,
        level: draft.level,
        needs: draft.needs,
        fault: fault.as_ref(),
        certified: certified.is_some(),
    };
    let Judged { kind, reasons, level_reached } = evidence.judge();
    let verdict = match kind {
        Kind::Weak if claim == Claim::Contrast => Verdict::ContrastWeak,
        Kind::Strong if claim == Claim::Contrast => Verdict::ContrastStrong,
        Kind::Error => Verdict::Error { fault: fault.expect("only a fault is an error") },
        Kind::NoTask => Verdict::NoTask,
        Kind::Undefined => Verdict::Undefined,
        Kind::Refuted(by) => Verdict::Refuted { by, counter_example: counter_example.map(Box::new) },
        Kind::Incomplete => Verdict::Incomplete,
        Kind::Weak => Verdict::Weak,
        Kind::Strong => Verdict::Strong,
        Kind::Certified => Verdict::Certified { scope: certified.expect("only certificates certify") },
    };
    let report = draft.seal(verdict, reasons, level_reached);
    debug_assert_eq!(report.recompute(), Ok(()), "a report follows from its own numbers");
    report
}

/// Verdict without what it carries along.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Error,
    NoTask,
    Undefined,
    Refuted(Vec<CheckId>),
    Incomplete,
    Weak,
    Strong,
    Certified,
}

/// Judgement that follows from evidence.
#[derive(Debug, PartialEq)]
pub(super) struct Judged {
    pub kind: Kind,
    pub reasons: Vec<Reason>,
    pub level_reached: u8,
}

/// The parts of a report that decide its verdict.
pub(super) struct Evidence<'a> {
    pub claim: Claim,
    pub checks: &'a [Check],
    pub unfinished: &'a [Unfinished],
    pub level: u8,
    pub needs: Needs,
    pub fault: Option<&'a Fault>,
    /// True if certificates cover every input of a domain.
    pub certified: bool,
}

impl<'a> Evidence<'a> {
    /// The evidence of a report that was sealed.
    pub fn of(report: &'a Contents, certified: bool) -> Self {
        let fault = match &report.verdict {
            Verdict::Error { fault } => Some(fault),
            _ => None,
        };
        let Contents { claim, checks, unfinished, level, needs, .. } = report;
        Self { claim: *claim, checks, unfinished, level: *level, needs: *needs, fault, certified }
    }

    pub fn judge(&self) -> Judged {
        let judged = |kind, reasons| Judged { kind, reasons, level_reached: self.level_reached() };
        if let Some(fault) = self.fault {
            return Judged { level_reached: 0, ..judged(Kind::Error, vec![Reason::Fault(fault.clone())]) };
        }
        let gates: Vec<&Check> = self.with(Role::Gate, Status::Failed).collect();
        if let Some(gate) = gates.first() {
            let kind = if gate.id == CheckId::Task { Kind::NoTask } else { Kind::Undefined };
            let reason = |c: &&Check| Reason::Gate { check: c.id, explanation: c.explanation.clone() };
            return judged(kind, gates.iter().map(reason).collect());
        }
        let refuting: Vec<&Check> = self.with(Role::Required, Status::Failed).collect();
        if !refuting.is_empty() {
            let by = refuting.iter().map(|c| c.id).collect();
            return judged(Kind::Refuted(by), refuting.into_iter().map(|c| self.reason(c)).collect());
        }
        let missing = self.missing();
        if !missing.is_empty() {
            return judged(Kind::Incomplete, std::iter::once(Reason::NotAllMade).chain(missing).collect());
        }
        let reservations = self.reservations();
        if !reservations.is_empty() {
            let reasons = std::iter::once(Reason::OnlyRequiredPassed).chain(reservations).collect();
            return judged(Kind::Weak, reasons);
        }
        match self.certified && self.claim == Claim::Answer {
            true => Judged { level_reached: CERTIFIED_LEVEL, ..judged(Kind::Certified, vec![Reason::AllPassed]) },
            false => judged(Kind::Strong, vec![Reason::AllPassed]),
        }
    }

    /// The highest level of which all checks that it needs, and those of all levels below, were made and passed, and no
    /// required check was left undecided.
    fn level_reached(&self) -> u8 {
        let good = |level: u8| {
            let needed = self.needs.at(level, self.claim);
            let of_level = |c: &&Check| c.level == level && matches!(c.role, Role::Gate | Role::Required);
            !needed.is_empty()
                && needed.into_iter().all(|id| self.has_passed(id))
                && self.checks.iter().filter(of_level).all(|c| c.status == Status::Passed)
        };
        (1..=self.level).take_while(|&level| good(level)).last().unwrap_or(0)
    }

    fn with(&self, role: Role, status: Status) -> impl Iterator<Item = &'a Check> {
        self.checks.iter().filter(move |c| c.role == role && c.status == status)
    }

    fn check(&self, id: CheckId) -> Option<&'a Check> {
        self.checks.iter().find(|c| c.id == id)
    }

    fn has_passed(&self, id: CheckId) -> bool {
        self.check(id).is_some_and(|c| c.status == Status::Passed)
    }

    fn reason(&self, c: &Check) -> Reason {
        match self.unfinished.iter().find(|u| u.check == c.id) {
            Some(Unfinished { why, .. }) if c.status == Status::NotApplicable => {
                Reason::NotMade { check: c.id, why: *why }
            }
            _ => Reason::Check { check: c.id, explanation: c.explanation.clone() },
        }
    }

    /// Reason of a check without a result: the end of the run, where that came first.
    fn absent(&self, check: CheckId) -> Reason {
        let ended = |u: &&Unfinished| u.level <= check.level() && matches!(u.why, Why::Interrupted | Why::OutOfTime);
        match self.unfinished.iter().find(ended) {
            Some(&Unfinished { why, .. }) => Reason::NotMade { check, why },
            None => Reason::Absent { check },
        }
    }

    /// Checks that a pass needs and that did not pass, where none failed; levels that were not asked for stand as one reason.
    fn missing(&self) -> Vec<Reason> {
        let needed = self.needs.for_pass(self.claim);
        let asked = |id: &&CheckId| id.level() <= self.level;
        let mut missing: Vec<Reason> = needed
            .iter()
            .filter(asked)
            .filter(|id| !self.has_passed(**id))
            .map(|&id| self.check(id).map_or_else(|| self.absent(id), |c| self.reason(c)))
            .collect();
        let others = self.with(Role::Required, Status::NotApplicable).filter(|c| !needed.contains(&c.id));
        missing.extend(others.map(|c| self.reason(c)));
        let last = needed.iter().map(|id| id.level()).max().unwrap_or(PASS_LEVEL);
        if self.level < last {
            missing.push(Reason::NotAsked { from: self.level + 1, to: last });
        }
        missing
    }

    /// Reasons that a pass is weak.
    fn reservations(&self) -> Vec<Reason> {
        let checks =
            self.with(Role::ForStrong, Status::Failed).chain(self.with(Role::ForStrong, Status::NotApplicable));
        let mut weak: Vec<Reason> = checks.map(|c| self.reason(c)).collect();
        // Certificates are asked for beyond a strong pass.
        let needed = self.unfinished.iter().filter(|u| u.level <= STRONG_LEVEL);
        weak.extend(needed.map(|what| Reason::Unfinished(*what)));
        if self.level < STRONG_LEVEL {
            weak.push(Reason::NotAsked { from: self.level + 1, to: STRONG_LEVEL });
        }
        weak
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{
        certificate,
        checks::{Why, id::Quantity},
        run::{
            error::RunError,
            scheme::{Norms, Scheme, Split},
        },
    };

    const NEEDS: Needs = Needs { frozen_norms: true, hypothesis: true };

    /// Every check that a pass needs, and some that a strong one does, all passed.
    fn clean() -> Vec<Check> {
        let strong = [
            CheckId::NotTrivial,
            CheckId::Sufficiency { scheme: Scheme::ZERO, quantity: Quantity::Accuracy },
            CheckId::Shift { split: Split::Lengths, scheme: Scheme::ZERO, quantity: Quantity::Agreement },
            CheckId::Identified,
            CheckId::Scrubbing,
        ];
        let ids = NEEDS.for_pass(Claim::Answer).into_iter().chain(strong);
        ids.map(|id| Check::new(id, Status::Passed, "plain words")).collect()
    }

    fn evidence<'a>(checks: &'a [Check], unfinished: &'a [Unfinished], level: u8) -> Evidence<'a> {
        Evidence { claim: Claim::Answer, checks, unfinished, level, needs: NEEDS, fault: None, certified: false }
    }

    #[test]
    fn a_verdict_hangs_on_no_sentence() {
        let mut seen = [0; 4];
        for seed in 0..400 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut checks = clean();
            // Mostly passed, so that all verdicts come up.
            for _ in 0..rng.random_range(0..2) {
                let spoilt = rng.random_range(1..checks.len());
                checks[spoilt].status = [Status::Failed, Status::NotApplicable][rng.random_range(0..2)];
            }
            let left_out = checks.iter().filter(|c| c.status == Status::NotApplicable);
            let unfinished: Vec<Unfinished> = left_out.map(|c| Unfinished::new(c.id, Why::OutOfTime)).collect();
            let mut reworded = checks.clone();
            reworded.iter_mut().for_each(|c| c.explanation = "not finished: self-checks: not made: failed".into());
            let [a, b] = [&checks, &reworded].map(|checks| evidence(checks, &unfinished, 6).judge());
            assert_eq!((&a.kind, a.level_reached), (&b.kind, b.level_reached));
            let kinds = |judged: &Judged| judged.reasons.iter().map(std::mem::discriminant).collect::<Vec<_>>();
            assert_eq!(kinds(&a), kinds(&b));
            seen[match a.kind {
                Kind::Refuted(_) => 0,
                Kind::Incomplete => 1,
                Kind::Weak => 2,
                _ => 3,
            }] += 1;
        }
        assert!(seen.iter().all(|&n| n > 10), "{seen:?}: refuted, incomplete, weak and strong come up");
    }

    #[test]
    fn no_check_that_a_pass_needs_can_be_missing_undecided_or_only_reported() {
        assert_eq!(evidence(&clean(), &[], 6).judge().kind, Kind::Strong);
        for needed in NEEDS.for_pass(Claim::Answer) {
            let at = clean().iter().position(|c| c.id == needed).unwrap();
            let below = needed.level().max(1) - 1;
            let mut missing = clean();
            missing.remove(at);
            let mut undecided = clean();
            undecided[at].status = Status::NotApplicable;
            let mut not_asked = clean();
            not_asked[at] = Check::not_asked(needed, "");
            for checks in [missing, undecided, not_asked] {
                let judged = evidence(&checks, &[], 6).judge();
                assert_eq!((judged.kind, judged.level_reached), (Kind::Incomplete, below), "{needed}");
                assert_eq!(judged.reasons.len(), 2, "{needed}: {:?}", judged.reasons);
            }
        }
    }

    #[test]
    fn a_check_without_a_result_is_one_that_the_end_of_the_run_came_before() {
        let frozen = CheckId::Sufficiency {
            scheme: Scheme { norms: Norms::Frozen, ..Scheme::MEAN },
            quantity: Quantity::Accuracy,
        };
        let missing = |unfinished: &[Unfinished]| {
            let checks: Vec<Check> = clean().into_iter().filter(|c| c.id != frozen).collect();
            assert_eq!(checks.len() + 1, clean().len());
            let reasons = evidence(&checks, unfinished, 6).judge().reasons;
            reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert!(missing(&[]).contains("not made of this circuit"));
        for (why, words) in
            [(Why::Interrupted, "not made: interrupted"), (Why::OutOfTime, "not made: no time was left")]
        {
            let ended = missing(&[Unfinished::new(CheckId::NotTrivial, why)]);
            assert!(ended.contains(words) && !ended.contains("not made of this circuit"), "{ended}");
        }
        assert!(missing(&[Unfinished::new(CheckId::Scrubbing, Why::Interrupted)]).contains("not made of this circuit"));
    }

    #[test]
    fn levels_that_were_not_asked_for_are_not_passed() {
        for level in 1..=6 {
            let asked: Vec<Check> = clean().into_iter().filter(|c| c.level <= level).collect();
            let judged = evidence(&asked, &[], level).judge();
            let complete = level >= STRONG_LEVEL;
            assert_eq!(judged.kind, if complete { Kind::Strong } else { Kind::Incomplete }, "level {level}");
            assert_eq!(judged.level_reached, level.min(STRONG_LEVEL));
            let says = |words: &str| judged.reasons.iter().any(|r| r.to_string().contains(words));
            assert!(!says("every required check passed") && complete != says("not asked for"), "{:?}", judged.reasons);
        }
        // Without a hypothesis level 4 is enough for a weak pass.
        let asked: Vec<Check> = clean().into_iter().filter(|c| c.level <= 4).collect();
        let needs = Needs { hypothesis: false, ..NEEDS };
        assert_eq!(Evidence { needs, ..evidence(&asked, &[], 4) }.judge().kind, Kind::Weak);
        // What is refuted early stays refuted.
        let mut refuted: Vec<Check> = clean().into_iter().filter(|c| c.level <= 2).collect();
        refuted[5].status = Status::Failed;
        assert!(matches!(evidence(&refuted, &[], 2).judge().kind, Kind::Refuted(_)));
    }

    #[test]
    fn a_fault_is_an_error_whatever_passed_and_a_certificate_raises_only_a_strong_verdict() {
        let fault = Fault::Run(RunError::HookNotCalled);
        let checks = clean();
        let judged = Evidence { fault: Some(&fault), ..evidence(&checks, &[], 6) }.judge();
        assert_eq!((judged.kind, judged.level_reached), (Kind::Error, 0));
        let certified = |checks: &[Check]| Evidence { certified: true, ..evidence(checks, &[], 6) }.judge();
        let judged = certified(&checks);
        assert_eq!((judged.kind, judged.level_reached), (Kind::Certified, CERTIFIED_LEVEL));
        // A certificate that is missing is no reservation; a weak check is one that no certificate lifts.
        let step = CheckId::Certificate { kind: certificate::Kind::Statistical };
        let unfinished = [Unfinished::new(step, Why::OutOfTime)];
        assert_eq!(evidence(&checks, &unfinished, 6).judge().kind, Kind::Strong);
        let mut weak = clean();
        weak.iter_mut().filter(|c| c.id == CheckId::Identified).for_each(|c| c.status = Status::Failed);
        assert_eq!(certified(&weak).kind, Kind::Weak);
    }
}
