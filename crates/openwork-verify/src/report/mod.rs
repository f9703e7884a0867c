//! Report on a circuit: verdict, reasons, and every number behind them.

pub mod counter_example;
pub mod fault;
pub mod findings;
pub mod levels;
pub mod replay;
pub mod text;
pub mod verdict;

use std::collections::BTreeSet;

use openwork_circuit::Claim;
use serde::{Deserialize, Serialize};

use crate::{
    checks::{
        Check, Status, Unfinished,
        id::{CheckId, Family},
        needs::Needs,
    },
    methods::random_sets::RandomSets,
    report::{
        findings::{Curve, Declaration, Findings, Size},
        verdict::{Reason, Verdict},
    },
    run::{
        measures::Cell,
        scheme::{Kept, Scheme, Split},
    },
    settings::Settings,
};

/// Report on a circuit: the verdict and every number behind it. [`verify`](crate::verify) makes it and nobody changes it;
/// its [`Contents`] can be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Report(Contents);

impl std::ops::Deref for Report {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        &self.0
    }
}

/// Contents of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    /// Claim of the circuit, which decides the form of the checks that count.
    pub claim: Claim,
    /// The judgement.
    pub verdict: Verdict,
    /// Its reasons, the decisive ones first.
    pub reasons: Vec<Reason>,
    /// The level that was asked for, 1 to 6.
    pub level: u8,
    /// Facts that decide which checks a pass needs.
    pub needs: Needs,
    /// The highest level whose required checks, and those of all levels below it, were made and passed.
    pub level_reached: u8,
    /// Steps that were left out or not finished.
    pub unfinished: Vec<Unfinished>,
    /// Size of the circuit; absent after an early error.
    pub size: Option<Size>,
    /// Every check, in the order it was made.
    pub checks: Vec<Check>,
    /// Every run on every split.
    pub matrix: Vec<Cell>,
    /// The circuit among random sets.
    pub random_sets: Vec<RandomSets>,
    /// Curves to be drawn.
    pub curves: Vec<Curve>,
    /// Results of searches and knock-outs, in full.
    pub findings: Findings,
    /// The ten choices behind the numbers.
    pub declarations: Vec<Declaration>,
    /// The thresholds.
    pub settings: Settings,
}

impl Contents {
    /// A check, if it was made.
    pub fn check(&self, id: CheckId) -> Option<&Check> {
        self.checks.iter().find(|c| c.id == id)
    }

    /// The run of this kind, if it was made.
    pub fn cell(&self, split: Split, kept: Kept, ablation: Option<Scheme>) -> Option<&Cell> {
        cell(&self.matrix, split, kept, ablation)
    }

    /// Families of the checks that failed.
    pub fn failed_families(&self) -> BTreeSet<Family> {
        let leaks = matches!(&self.verdict, Verdict::Error { fault } if fault.is_leak());
        let family = |check: &Check| match check.id {
            CheckId::SelfChecks if leaks => Family::Leak,
            // Known of attacks on circuits that claim the answer, too, and of no weight there.
            CheckId::AdversaryShifted | CheckId::LargerAdversaryShifted if self.claim == Claim::Answer => Family::Other,
            id => id.family(),
        };
        let counts = |c: &&Check| {
            let attack = matches!(c.id, CheckId::AdversaryShifted | CheckId::LargerAdversaryShifted);
            c.status == Status::Failed && (c.id.belongs_to(self.claim) || attack)
        };
        self.checks.iter().filter(counts).map(family).collect()
    }

    /// The verdict in a line, as it stands wherever a verdict is shown: with the claim where it is the weaker one, the level where
    /// the run is incomplete, the settings that are looser than the defaults, and whether the circuit is as good as the whole model.
    pub fn headline(&self) -> String {
        let mut line = self.verdict.word().to_owned();
        if self.claim == Claim::Contrast && !self.verdict.passed() {
            line += " (contrast)";
        }
        if let Verdict::Incomplete = self.verdict {
            line += &format!(" (level {} reached)", self.level_reached);
        }
        if self.check(CheckId::NotTrivial).is_some_and(|c| c.status == Status::Failed) {
            line += ", trivial: the circuit keeps nearly all that is active";
        }
        let loosened: Vec<String> = self.settings.loosened().iter().map(ToString::to_string).collect();
        if !loosened.is_empty() {
            line += &format!(", thresholds loosened: {}", loosened.join(", "));
        }
        line
    }

    /// True if a step was left out.
    pub(crate) fn is_left_out(&self, check: CheckId) -> bool {
        self.unfinished.iter().any(|u| u.check == check)
    }
}

/// The run of a kind in a table of runs.
fn cell(matrix: &[Cell], split: Split, kept: Kept, ablation: Option<Scheme>) -> Option<&Cell> {
    matrix.iter().find(|c| c.split == split && c.kept == kept && c.ablation == ablation)
}

/// A report in the making: all but the verdict, its reasons and the level reached.
pub(crate) struct Draft {
    pub claim: Claim,
    pub level: u8,
    pub needs: Needs,
    pub unfinished: Vec<Unfinished>,
    pub size: Option<Size>,
    pub checks: Vec<Check>,
    pub matrix: Vec<Cell>,
    pub random_sets: Vec<RandomSets>,
    pub curves: Vec<Curve>,
    pub findings: Findings,
    pub declarations: Vec<Declaration>,
    pub settings: Settings,
}

impl Draft {
    pub fn new((claim, level): (Claim, u8), needs: Needs, declarations: Vec<Declaration>, settings: Settings) -> Self {
        Self {
            claim,
            level,
            needs,
            unfinished: vec![],
            size: None,
            checks: vec![],
            matrix: vec![],
            random_sets: vec![],
            curves: vec![],
            findings: Findings::default(),
            declarations,
            settings,
        }
    }

    /// The run of this kind, if it was made.
    pub fn cell(&self, split: Split, kept: Kept, ablation: Option<Scheme>) -> Option<&Cell> {
        cell(&self.matrix, split, kept, ablation)
    }

    /// The report with its judgement. Nothing is added to a report after this.
    pub fn seal(self, verdict: Verdict, reasons: Vec<Reason>, level_reached: u8) -> Report {
        let Self {
            claim,
            level,
            needs,
            unfinished,
            size,
            checks,
            matrix,
            random_sets,
            curves,
            findings,
            declarations,
            settings,
        } = self;
        Report(Contents {
            claim,
            verdict,
            reasons,
            level,
            needs,
            level_reached,
            unfinished,
            size,
            checks,
            matrix,
            random_sets,
            curves,
            findings,
            declarations,
            settings,
        })
    }
}
