//! Level 3: completeness, the distance of circuit and model when the same nodes are knocked out of both.

use openwork_circuit::{Calibration, NodeSet};

use super::{Evaluators, Shown, Verifier, worst_pair};
use crate::{
    checks::{Check, Status, id::CheckId},
    methods::{
        knockouts::{self, Budget, Knockout, Side},
        random_sets::{Draw, Subset, draw},
    },
    report::{counter_example::Change, findings::Incompleteness},
    run::{
        error::RunError,
        evaluator::Evaluator,
        measures::calibrate,
        scheme::{Scheme, Split},
    },
    streams::Stream,
};

/// Random sets beside the circuit.
const SETS: u64 = 4;

impl Verifier<'_> {
    /// The worst knock-out found must not part them.
    pub(super) fn completeness(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        let (id, circuit) = (CheckId::Completeness, self.case.circuit.nodes());
        if circuit.is_empty() {
            self.not_applicable(&[id], "a circuit of no nodes has none to knock out");
            return Ok(());
        }
        if !self.has_time(id) {
            return Ok(());
        }
        let side = Side::new(circuit, self.case.calibration);
        let found = self.search(evaluators, side, Budget::WHOLE)?;
        let Knockout { how, nodes, .. } = &found[0];
        let evaluator = &evaluators.few;
        let row = incompleteness(evaluators, Subset::Circuit, side, &found)?;
        let estimate = row.gap;
        self.report.findings.incompleteness.push(row);
        let threshold = self.bar(evaluator);
        let passed = estimate.ci95.0 <= threshold && estimate.ci95.1 >= -threshold;
        if passed && self.clock.is_over() {
            // The search that found no more was cut short.
            self.left_out(id);
            return Ok(());
        }
        let names: Vec<String> = nodes.iter().take(6).map(|&n| circuit.space().node(n).to_string()).collect();
        let more = if nodes.len() > 6 { format!(" and {} more", nodes.len() - 6) } else { String::new() };
        let which = if nodes.is_empty() { "no node".into() } else { format!("{}{more}", names.join(", ")) };
        let words = format!(
            "with {which} knocked out of both ({how}; the worst of {} tried), the circuit's loss is {estimate} nats above \
             the model's; beyond ±{threshold:.4} they do not share the mechanism{}",
            found.len(),
            match (passed, estimate.mean > 0.0) {
                (true, _) => "",
                (_, true) => ": something outside the circuit stands in for it",
                (_, false) => ": something outside the circuit works against it",
            }
        );
        if !passed {
            let set = NodeSet::of(circuit.space().clone(), nodes.iter().copied()).complement();
            let run = evaluator.run_in_model(&set, Scheme::MEAN)?;
            let (_, gaps) = knockouts::gap(evaluator, side, nodes)?;
            let pair = worst_pair(gaps.len(), |i| gaps[i]);
            let shown = Shown {
                check: id,
                split: Split::HeldOut,
                pair,
                evaluator,
                run: &run.differences,
                calibration: Calibration::NONE,
            };
            self.refute_by(|| shown.example(shown.kept(Change::KnockOut, &set, Scheme::MEAN)));
        }
        self.push(Check {
            split: Some(Split::HeldOut),
            ablation: Some(Scheme::MEAN),
            estimate: Some(estimate),
            threshold: Some(threshold),
            ..Check::new(id, Status::of(passed), words)
        });
        Ok(())
    }

    /// Knock-outs of nodes of a set, worst first: searched on selection pairs, and to be judged on held-out ones.
    fn search(&self, evaluators: &Evaluators<'_>, side: Side<'_>, budget: Budget) -> Result<Vec<Knockout>, RunError> {
        let clock = self.clock;
        knockouts::incompleteness(&evaluators.few_selection, side, budget, self.settings.seed, &|| clock.is_over())
    }

    /// Largest allowed distance of losses, nats.
    fn bar(&self, evaluator: &Evaluator<'_>) -> f64 {
        self.settings.max_incompleteness * self.loss_reduction(evaluator)
    }

    /// The same search, with a budget that several can have, on the circuit and on random sets of its size; the worst that
    /// each finds is judged on the same held-out pairs.
    ///
    /// No p-value follows, for that a circuit is nearer to the model than sets that know nothing is sufficiency once more:
    /// those part from the model by all that it knows before anything is knocked out, and knock-outs hardly add to that.
    /// Two things are to be read. Random sets are what sharing no mechanism looks like: where they stay within the bar,
    /// the check could tell nothing. And from its gap with nothing knocked out a set rises only where it or the model
    /// answers to knock-outs: by what the circuit rises, completeness saw more than sufficiency. Random sets are drawn from
    /// active nodes, for others answer to none.
    pub(super) fn beside_random_circuits(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        let (id, circuit, bar) =
            (CheckId::CompletenessBesideRandom, self.case.circuit.nodes(), self.bar(&evaluators.few));
        if circuit.is_empty() || circuit.complement().is_empty() {
            self.not_applicable(&[id], "there are no random sets beside a circuit of no nodes or of all");
            return Ok(());
        }
        if !self.has_time(id) {
            return Ok(());
        }
        let mut rows = Vec::new();
        for set in 0..=SETS {
            let (on, nodes, calibration) = if set == 0 {
                (Subset::Circuit, circuit.clone(), self.case.calibration)
            } else {
                let mut rng = Stream::CompletenessSet(set).rng(self.settings.seed);
                let nodes = draw(circuit, Draw::ActiveOthers, &evaluators.active, &mut rng).0;
                let calibration = calibrate(&evaluators.few_selection.run_differences(&nodes, Scheme::MEAN)?);
                (Subset::Random, nodes, calibration)
            };
            let side = Side::new(&nodes, calibration);
            let found = self.search(evaluators, side, Budget::SMALL)?;
            if self.clock.is_over() {
                self.left_out(id);
                return Ok(());
            }
            rows.push(incompleteness(evaluators, on, side, &found)?);
        }
        let (own, random) = rows.split_first().expect("the circuit's comes first");
        let between = |of: &dyn Fn(&Incompleteness) -> f64| {
            let (low, high) = random.iter().map(of).fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(x), h.max(x)));
            format!("{low:.3} to {high:.3}")
        };
        let beyond = random.iter().filter(|row| row.gap.mean.abs() > bar).count();
        let words = format!(
            "gap {:.3} nats; random circuits of its size: gaps {}, {beyond} of {SETS} beyond ±{bar:.3}; with nothing knocked \
             out {:.3} and {}; with up to {} knock-outs tried of each",
            own.gap.mean,
            between(&|row| row.gap.mean),
            own.gap_of_none,
            between(&|row| row.gap_of_none),
            own.tried
        );
        self.push(Check { split: Some(Split::HeldOut), ..Check::new(id, Status::Passed, words) });
        self.report.findings.incompleteness.extend(rows);
        Ok(())
    }
}

/// The worst of what a search found, on held-out pairs.
fn incompleteness(
    evaluators: &Evaluators<'_>,
    on: Subset,
    side: Side<'_>,
    found: &[Knockout],
) -> Result<Incompleteness, RunError> {
    let worst = &found[0];
    let gaps = |knocked_out: &[usize]| knockouts::gap(&evaluators.few, side, knocked_out);
    Ok(Incompleteness {
        on,
        nodes: side.nodes.len(),
        tried: found.len(),
        how: worst.how.into(),
        knocked_out: worst.nodes.len(),
        gap: evaluators.few_resamples.mean(&gaps(&worst.nodes)?.1),
        gap_of_none: gaps(&[])?.0,
    })
}
