//! Checks of a growth: what a circuit must withstand on the pairs of a bench, and the nodes that a failed one names.

use std::ops::ControlFlow;

use openwork_circuit::{Ablation, Agreements, Attacked, Growth, NodeSet, Outcome, SizedBy};
use openwork_model::NormKind;

use super::{Grow, gap};
use crate::{
    attack::{Effort, attack, culprits, outside_by, starts},
    bench::{Bench, best_shift, coefficients},
};

/// Checks of one bench, with what they found before: attacks and knock-outs go on from round to round beside those made afresh.
pub(crate) struct Checks<'a> {
    grow: &'a Grow<'a>,
    /// Schemes of the worst attacks before, by share and size.
    attacks: Vec<Option<Vec<f32>>>,
    knock_outs: Vec<gap::KnockOut>,
    /// Starts of attacks on the circuit at hand.
    starts: Option<(NodeSet, Vec<Vec<f64>>)>,
}

/// Outcome of the checks on one circuit.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Loss at means, and the largest under frozen norms and at zero; nats.
    pub loss: f64,
    other_loss: [f64; 2],
    pub agreements: Agreements,
    /// Largest gap as a share of what the model's answers are worth.
    pub gap: f64,
    knock_out: gap::KnockOut,
}

/// A check that fails.
#[derive(Clone, Debug)]
pub(crate) enum Violation {
    /// The circuit with all else ablated does not do as the model does: nodes outside whose restoration lowers the loss of the model's answers
    /// are named, by its slope in that state.
    Alone {
        /// True where all else is zero.
        at_zero: bool,
    },
    /// An attack of this budget turns answers: the nodes that make its loss are named ([`culprits`]).
    Attacked {
        /// Nodes that it may ablate.
        budget: usize,
    },
    /// Circuit and model part without the same nodes: those that stand in or oppose are named ([`gap::stand_ins`]).
    Gap(gap::KnockOut),
}

/// Knock-outs that are kept from round to round.
const KEPT_KNOCK_OUTS: usize = 4;

impl<'a> Checks<'a> {
    pub fn new(grow: &'a Grow<'a>) -> Self {
        Self { grow, attacks: vec![None; 2 * grow.settings.attack_shares.len()], knock_outs: vec![], starts: None }
    }

    /// All checks; `None` where `goes_on`, which is asked before each, breaks.
    pub fn all(
        &mut self,
        bench: &Bench<'_>,
        nodes: &NodeSet,
        goes_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Option<Found> {
        match self.make(bench, nodes, false, goes_on) {
            ControlFlow::Continue(found) => found,
            ControlFlow::Break(()) => None,
        }
    }

    /// All checks, up to the first that fails: then `Some(None)`.
    pub fn until_one_fails(
        &mut self,
        bench: &Bench<'_>,
        nodes: &NodeSet,
        goes_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Option<Option<Found>> {
        match self.make(bench, nodes, true, goes_on) {
            ControlFlow::Continue(found) => Some(found.filter(|found| found.violations(self.grow).is_empty())),
            ControlFlow::Break(()) => None,
        }
    }

    fn make(
        &mut self,
        bench: &Bench<'_>,
        nodes: &NodeSet,
        early: bool,
        goes_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<(), Option<Found>> {
        goes_on()?;
        let mut found = self.alone(bench, nodes);
        let fails = |found: &Found| early && !found.violations(self.grow).is_empty();
        if fails(&found) {
            return ControlFlow::Continue(None);
        }
        goes_on()?;
        let calibration = super::calibration(bench, nodes);
        let worst = gap::worst(bench, nodes, calibration, &self.knock_outs, self.grow.seed);
        found.gap = worst.gap.abs() / gap::worth(bench).max(f64::MIN_POSITIVE);
        found.knock_out = worst.clone();
        self.knock_outs.insert(0, worst);
        self.knock_outs.truncate(KEPT_KNOCK_OUTS);
        if fails(&found) {
            return ControlFlow::Continue(None);
        }
        goes_on()?;
        // The largest first: it is the likeliest to succeed.
        let least = self.grow.settings.agreement;
        for slot in (0..self.attacks.len()).rev() {
            let (share, sized_by, budget) = self.size(slot, nodes);
            // An attack that a circuit withstands at its own size it withstands at that of a smaller start: the start's size is for telling
            // a circuit that runs after its own budget from one that does not.
            let others = &found.agreements.attacked;
            let withstood = |a: &Attacked| a.share == share && a.sized_by == SizedBy::Circuit && a.agreement >= least;
            if sized_by == SizedBy::Start && (early || others.iter().any(withstood)) {
                continue;
            }
            goes_on()?;
            let agreement = match others.iter().find(|a| a.budget == budget) {
                Some(same) => same.agreement,
                None => {
                    let (before, starts) = (self.attacks[slot].take(), self.starts(bench, nodes));
                    let effort = self.effort(budget);
                    let worst = attack(bench, nodes, &starts, effort, before.as_deref());
                    self.attacks[slot] = Some(worst.r);
                    worst.agreement
                }
            };
            found.agreements.attacked.push(Attacked { share, sized_by, budget, agreement });
            if fails(&found) {
                return ControlFlow::Continue(None);
            }
        }
        found.agreements.attacked.reverse();
        ControlFlow::Continue(Some(found))
    }

    fn effort(&self, budget: usize) -> Effort {
        let Growth { attack_steps: steps, agreement: enough, .. } = *self.grow.settings;
        Effort { budget, steps, enough }
    }

    /// The starts of attacks on a circuit, which all budgets share.
    fn starts(&mut self, bench: &Bench<'_>, nodes: &NodeSet) -> Vec<Vec<f64>> {
        match &self.starts {
            Some((of, starts)) if of == nodes => starts.clone(),
            _ => {
                let found = starts(bench, self.grow.claim, nodes);
                self.starts = Some((nodes.clone(), found.clone()));
                found
            }
        }
    }

    /// Share, size and budget of the attack of a slot: by share, and by what sizes it.
    fn size(&self, slot: usize, nodes: &NodeSet) -> (f64, SizedBy, usize) {
        let share = self.grow.settings.attack_shares[slot / 2];
        let (sized_by, size) = match slot % 2 {
            0 => (SizedBy::Start, self.grow.start.len()),
            _ => (SizedBy::Circuit, nodes.len()),
        };
        (share, sized_by, ((share * size as f64).ceil() as usize).max(1))
    }

    /// The circuit with all else ablated, each run calibrated by itself: a scale above 0 and a shift.
    fn alone(&self, bench: &Bench<'_>, nodes: &NodeSet) -> Found {
        let judged = |run: Outcome| {
            let c = run.calibrate();
            let scaled: Vec<f64> = run.differences.iter().map(|d| c.scale.max(0.0) * d + c.shift).collect();
            (run.loss(c), bench.measure.agreement(&scaled))
        };
        let (loss, at_means) = judged(bench.alone(nodes, bench.mean()));
        let (at_zero_loss, at_zero) = judged(bench.alone(nodes, Ablation::Zero));
        let frozen = (bench.model.config.norm != NormKind::None).then(|| judged(bench.frozen(nodes, bench.mean())));
        Found {
            loss,
            other_loss: [frozen.map_or(0.0, |f| f.0), at_zero_loss],
            agreements: Agreements { at_means, frozen_norms: frozen.map(|f| f.1), at_zero, attacked: vec![] },
            gap: 0.0,
            knock_out: gap::KnockOut { nodes: vec![], gap: 0.0 },
        }
    }

    /// Nodes outside that a failed check names, most needed first, by slopes on the pairs of a bench.
    pub fn named(&mut self, bench: &Bench<'_>, nodes: &NodeSet, violation: &Violation) -> Vec<usize> {
        match violation {
            Violation::Alone { at_zero } => {
                let ablation = if *at_zero { Ablation::Zero } else { bench.mean() };
                let scale = bench.alone(nodes, ablation).calibrate().scale.max(1.0);
                let slopes = |d: &[f64]| -> Vec<(f64, f64)> {
                    // The shift is the calibration's, which suits the right answers best.
                    let shift = best_shift(&Outcome { differences: d.to_vec(), log_probs: vec![] }, scale);
                    let scaled: Vec<f64> = d.iter().map(|d| scale * d + shift).collect();
                    bench.measure.losses(&scaled)
                };
                let slope = bench.gradient(&coefficients(nodes, 0.0), ablation, &slopes).by_coefficient;
                outside_by(&slope, nodes)
            }
            Violation::Attacked { budget } => {
                let starts = self.starts(bench, nodes);
                let worst = attack(bench, nodes, &starts, self.effort(*budget), None);
                culprits(bench, nodes, &worst.r)
            }
            Violation::Gap(knock_out) => gap::stand_ins(bench, nodes, knock_out),
        }
    }
}

impl Found {
    /// The checks that fail.
    pub fn violations(&self, grow: &Grow<'_>) -> Vec<Violation> {
        let (least, a) = (grow.settings.agreement, &self.agreements);
        let mut violations = vec![];
        let (target, [frozen, zero]) = (grow.target_loss, self.other_loss);
        let at_mean = self.loss > target || frozen > 2.0 * target;
        if at_mean || a.at_means < least || a.frozen_norms.is_some_and(|f| f < least) {
            violations.push(Violation::Alone { at_zero: false });
        }
        if zero > 2.0 * target || a.at_zero < least {
            violations.push(Violation::Alone { at_zero: true });
        }
        let mut budgets: Vec<usize> = a.attacked.iter().filter(|a| a.agreement < least).map(|a| a.budget).collect();
        budgets.sort_unstable();
        budgets.dedup();
        violations.extend(budgets.into_iter().map(|budget| Violation::Attacked { budget }));
        if self.gap > grow.settings.max_gap {
            violations.push(Violation::Gap(self.knock_out.clone()));
        }
        violations
    }
}
