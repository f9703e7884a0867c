//! Recomputation of a report: whether its verdict follows from its checks, and its checks from its numbers and settings.

use openwork_circuit::Claim;

use crate::{
    certificate,
    checks::{
        Check, Status,
        control::Control,
        form::Raw,
        id::{CheckId, Quantity},
        rule::Threshold,
    },
    hypothesis::HypothesisVerdict,
    levels::{
        rules,
        seal::{Evidence, Judged, Kind},
    },
    methods::{adversary::Attacker, random_sets::Subset},
    report::{Contents, Report, findings::Size, verdict::Verdict},
    run::{
        measures::{Cell, Faithfulness},
        scheme::{Kept, Scheme, Split},
    },
    settings::SettingsError,
};

/// Part of a report that does not follow from the rest: somebody changed one of them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Edited {
    /// Role or level of a check are not those of its kind.
    #[error("{check}: its level or its part in the verdict is not that of this check")]
    Role {
        /// The check.
        check: CheckId,
    },
    /// The report is on another claim than the circuit's.
    #[error("the report is about the {found}, and the circuit claims the {claim}")]
    Claim {
        /// The claim that it is about.
        found: Claim,
        /// Claim of the circuit.
        claim: Claim,
    },
    /// A check that every run up to the level asked for makes, or leaves undecided with a reason, is not there.
    #[error("{check} is missing")]
    Missing {
        /// The check.
        check: CheckId,
    },
    /// A check is listed twice.
    #[error("{check} is listed twice")]
    Twice {
        /// The check.
        check: CheckId,
    },
    /// A threshold is not the settings'.
    #[error("{check}: its threshold is {found}, and the settings say {expected}")]
    Threshold {
        /// The check.
        check: CheckId,
        /// Threshold in the report.
        found: String,
        /// Threshold that follows from the settings.
        expected: f64,
    },
    /// A check lacks a number that decides it, or has another one than the table of runs.
    #[error("{check}: its numbers are not those of the run that it is about")]
    Numbers {
        /// The check.
        check: CheckId,
    },
    /// The outcome of a check does not follow from its numbers.
    #[error("{check}: it is said to have {found}, and its numbers say that it {expected}")]
    Outcome {
        /// The check.
        check: CheckId,
        /// Outcome in the report.
        found: &'static str,
        /// Outcome that follows.
        expected: &'static str,
    },
    /// The verdict does not follow from the checks.
    #[error("the verdict is {found}, and the checks say {expected}")]
    Verdict {
        /// Verdict in the report.
        found: String,
        /// Verdict that follows.
        expected: String,
    },
    /// The level reached does not follow from the checks.
    #[error("level {found} is said to be reached, and the checks say level {expected}")]
    Level {
        /// Level in the report.
        found: u8,
        /// Level that follows.
        expected: u8,
    },
    /// A check is of a level that was not asked for.
    #[error("{check} is of level {level}, and level {asked} was asked for")]
    Beyond {
        /// The check.
        check: CheckId,
        /// Its level.
        level: u8,
        /// Level that was asked for.
        asked: u8,
    },
    /// No run has these settings.
    #[error("no verification has its settings: {0}")]
    Settings(#[from] SettingsError),
    /// Counts of nodes contradict each other.
    #[error("its counts of nodes contradict each other")]
    Size,
    /// The reasons do not follow from the checks.
    #[error("the reasons of the verdict are not those that follow from the checks")]
    Reasons,
}

impl Report {
    /// Recomputes outcomes of checks from their numbers, thresholds from the settings, and verdict, reasons and level from the
    /// checks.
    ///
    /// # Errors
    /// The first part that does not follow.
    pub fn recompute(&self) -> Result<(), Edited> {
        // Settings that no verification has end in an error, which is a report, too.
        if !matches!(self.verdict, Verdict::Error { .. }) {
            self.settings.check()?;
        }
        if self.size.is_some_and(|size| !is_possible(size)) {
            return Err(Edited::Size);
        }
        for (i, check) in self.checks.iter().enumerate() {
            if self.checks[..i].iter().any(|other| other.id == check.id) {
                return Err(Edited::Twice { check: check.id });
            }
            recompute_check(self, check)?;
            let other = check.id.shift_free();
            if let Some(other) = other.filter(|other| self.check(*other).is_none()) {
                return Err(Edited::Missing { check: other });
            }
        }
        if let Some(found) = self.verdict.passed_claim().filter(|found| *found != self.claim) {
            return Err(Edited::Claim { found, claim: self.claim });
        }
        let judged = Evidence::of(self, is_certified(self)).judge();
        let found = kind(&self.verdict);
        // A list of prompts is no domain: its certificates raise nothing.
        let same = found == judged.kind || (found == Kind::Strong && judged.kind == Kind::Certified);
        if !same {
            let (found, expected) = (word(&found), word(&judged.kind));
            return Err(Edited::Verdict { found, expected });
        }
        let ended_early = matches!(self.verdict, Verdict::Error { .. } | Verdict::NoTask | Verdict::Undefined);
        let asked = (1..=self.level).filter(|_| !ended_early).flat_map(CheckId::asked_at);
        for check in asked {
            if !self.checks.iter().any(|c| c.id.answers(check)) {
                return Err(Edited::Missing { check });
            }
        }
        let Judged { reasons, level_reached, .. } = Evidence::of(self, found == Kind::Certified).judge();
        if self.level_reached != level_reached {
            return Err(Edited::Level { found: self.level_reached, expected: level_reached });
        }
        match self.reasons == reasons {
            true => Ok(()),
            false => Err(Edited::Reasons),
        }
    }

    /// Recomputes the checks of controls from the outcomes of their searches.
    ///
    /// # Errors
    /// The first check that does not follow.
    pub fn recompute_controls(&self, controls: &[Control]) -> Result<(), Edited> {
        for check in &self.checks {
            let CheckId::Control { kind } = check.id else { continue };
            let Some(size) = self.size else { return Err(Edited::Numbers { check: check.id }) };
            let edges = check.threshold.map_or(size.edges, |edges| edges as usize);
            // A circuit that leaves out edges is compared with all of them.
            if edges < size.edges {
                return Err(Edited::Numbers { check: check.id });
            }
            let again = rules::control(kind, controls, Size { edges, ..size });
            same_outcome(check, again.status)?;
        }
        Ok(())
    }
}

fn same_outcome(check: &Check, expected: Status) -> Result<(), Edited> {
    match check.status == expected {
        true => Ok(()),
        false => Err(Edited::Outcome { check: check.id, found: past(check.status), expected: past(expected) }),
    }
}

fn past(status: Status) -> &'static str {
    match status {
        Status::Passed => "passed",
        Status::Failed => "failed",
        Status::NotApplicable => "decides nothing",
    }
}

fn recompute_check(report: &Contents, check: &Check) -> Result<(), Edited> {
    let id = check.id;
    // What cannot be asked of a circuit may decide less than its kind does; a pass needs what it needs all the same.
    let role = id.role_in(report.claim);
    let not_asked = check.status == Status::NotApplicable && check.role >= role;
    if check.level != id.level() || (check.role != role && !not_asked) {
        return Err(Edited::Role { check: id });
    }
    if check.level > report.level && check.level > 0 {
        return Err(Edited::Beyond { check: id, level: check.level, asked: report.level });
    }
    if check.p_value.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
        return Err(Edited::Numbers { check: id });
    }
    if check.status == Status::NotApplicable {
        return Ok(());
    }
    if let (Some(found), Threshold::Given(expected)) = (check.threshold, id.threshold(&report.settings))
        && found != expected
    {
        return Err(Edited::Threshold { check: id, found: found.to_string(), expected });
    }
    if check.lacks_numbers() || !agrees_with_table(report, check) || !agrees_with_findings(report, check) {
        return Err(Edited::Numbers { check: id });
    }
    let recomputed = check.recomputed(&report.settings).or_else(|| from_findings(report, id));
    recomputed.map_or(Ok(()), |expected| same_outcome(check, expected))
}

/// True if the counts can be those of a circuit in a model.
fn is_possible(size: Size) -> bool {
    let Size { nodes, model_nodes, active_nodes, active_in_circuit, .. } = size;
    nodes <= model_nodes && active_nodes <= model_nodes && active_in_circuit <= nodes.min(active_nodes)
}

/// True if the check's estimate is that of the attack or the knock-out that the report lists, where it is one.
fn agrees_with_findings(report: &Contents, check: &Check) -> bool {
    let findings = &report.findings;
    let of_attack = |attacker: &Attacker, is_shifted: bool| {
        let kind = std::mem::discriminant(attacker);
        let attacks = findings.attacks.iter().filter(|a| a.on == Subset::Circuit);
        let mut same = attacks.filter(|a| std::mem::discriminant(&a.attacker) == kind);
        same.any(|a| check.estimate == Some(if is_shifted { a.agreement_shifted } else { a.agreement }))
    };
    match check.id {
        CheckId::Adversary | CheckId::LargerAdversary => of_attack(&Attacker::OneScheme, false),
        CheckId::AdversaryShifted | CheckId::LargerAdversaryShifted => of_attack(&Attacker::OneScheme, true),
        CheckId::Groups => of_attack(&Attacker::Group { name: String::new() }, false),
        CheckId::Completeness => {
            let mut rows = findings.incompleteness.iter().filter(|row| row.on == Subset::Circuit);
            rows.any(|row| check.estimate == Some(row.gap))
        }
        _ => true,
    }
}

/// True if the check's estimate is that of the table of runs, where it is one of its columns.
fn agrees_with_table(report: &Contents, check: &Check) -> bool {
    if let CheckId::ShiftFree { of } = check.id {
        return agrees_with_shifted_table(report, check, of);
    }
    let Some((cell, quantity)) = cell_of(report, check.id) else { return true };
    let column = match (cell, quantity) {
        (None, _) => return false,
        (Some(cell), Quantity::Loss) => cell.loss,
        (Some(cell), Quantity::Accuracy) => cell.accuracy,
        (Some(cell), Quantity::Agreement) => cell.agreement,
        (Some(_), Quantity::Direction | Quantity::NearerThanNothing) => return true,
    };
    check.estimate == Some(column)
}

/// The same of a check after the best common shift.
fn agrees_with_shifted_table(report: &Contents, check: &Check, of: Raw) -> bool {
    let Some((cell, quantity)) = cell_of(report, of.id()) else { return true };
    let Some(shifted) = cell.and_then(|cell| cell.at_best_shift.as_ref()) else { return false };
    let column = match quantity {
        Quantity::Loss => Some(shifted.loss),
        Quantity::Accuracy => Some(shifted.accuracy),
        Quantity::Agreement => shifted.agreement,
        Quantity::Direction | Quantity::NearerThanNothing => return true,
    };
    check.estimate.is_some() && check.estimate == column
}

/// The run that a check of sufficiency is about (none if the table lacks it), and its quantity.
fn cell_of(report: &Contents, id: CheckId) -> Option<(Option<&Cell>, Quantity)> {
    let (split, scheme, quantity) = match id {
        CheckId::Sufficiency { scheme, quantity } => (Split::HeldOut, scheme, quantity),
        CheckId::Shift { split, scheme, quantity } => (split, scheme, quantity),
        _ => return None,
    };
    Some((report.cell(split, Kept::Circuit, Some(scheme)), quantity))
}

/// The outcome of a check that follows from other parts of the report.
fn from_findings(report: &Contents, id: CheckId) -> Option<Status> {
    let passed = match id {
        CheckId::Sufficiency { quantity: Quantity::Direction, .. } => rules::scales_well(cell_of(report, id)?.0?),
        CheckId::ThroughNodes => {
            let cell = report.cell(Split::HeldOut, Kept::Circuit, Some(Scheme::MEAN))?;
            matches!(cell.faithfulness, Some(Faithfulness::Defined { .. }))
        }
        CheckId::NotTrivial => {
            let size = report.size?;
            size.active_in_circuit as f64 <= report.settings.max_share * size.active_nodes as f64
        }
        CheckId::Hypothesis => match report.findings.hypothesis.as_ref()?.verdict {
            HypothesisVerdict::Supported => true,
            HypothesisVerdict::Refuted { .. } => false,
            HypothesisVerdict::Undecided { .. } => return Some(Status::NotApplicable),
        },
        _ => return None,
    };
    Some(Status::of(passed))
}

/// True if a certificate of the report covers all of its inputs.
fn is_certified(report: &Contents) -> bool {
    use certificate::Kind::{Exhaustive, Relaxation};
    let whole = |c: &certificate::Certified| {
        matches!(c.kind, Exhaustive | Relaxation) && c.share == 1.0 && c.unfinished.is_empty()
    };
    report.findings.certificates.iter().any(whole)
}

fn kind(verdict: &Verdict) -> Kind {
    match verdict {
        Verdict::Error { .. } => Kind::Error,
        Verdict::NoTask => Kind::NoTask,
        Verdict::Undefined => Kind::Undefined,
        Verdict::Refuted { by, .. } => Kind::Refuted(by.clone()),
        Verdict::Incomplete => Kind::Incomplete,
        Verdict::Weak | Verdict::ContrastWeak => Kind::Weak,
        Verdict::Strong | Verdict::ContrastStrong => Kind::Strong,
        Verdict::Certified { .. } => Kind::Certified,
    }
}

fn word(kind: &Kind) -> String {
    match kind {
        Kind::Error => "an error".into(),
        Kind::NoTask => "that the model does not do the task".into(),
        Kind::Undefined => "undefined".into(),
        Kind::Refuted(by) => {
            format!("refuted by {}", by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
        Kind::Incomplete => "incomplete".into(),
        Kind::Weak => "a weak pass".into(),
        Kind::Strong => "a strong pass".into(),
        Kind::Certified => "certified".into(),
    }
}
