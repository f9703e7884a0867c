//! Level 4: adversaries, the worst inputs, changed roles, rivals, and inputs from elsewhere.

use openwork_circuit::Calibration;

use super::{Evaluators, Shown, Stop, Verifier, resamples, weights_of, worst_pair};
use crate::{
    checks::{Check, Status, id::CheckId},
    methods::{
        adversary, interpolation,
        knockouts::whole_scale,
        random_sets::{Draw, Subset, draw},
        rival,
    },
    report::{
        counter_example::{Change, CounterExample, Intervention},
        findings::{Curve, CurveKind, Rival},
    },
    run::{
        error::RunError,
        evaluator::Evaluator,
        measures::{Measured, calibrate_within},
        scheme::{AblationValue, Kept, Scheme, Split},
    },
    stats::intervals::fraction,
    streams::Stream,
};

impl Verifier<'_> {
    /// Level 4.
    pub(super) fn adversaries(&mut self, evaluators: &Evaluators<'_>) -> Result<(), Stop> {
        self.shifts(evaluators)?;
        self.attacks(evaluators);
        self.roles(&evaluators.few);
        self.interpolation_curves(evaluators);
        self.inputs(evaluators);
        self.rivals(evaluators)?;
        Ok(())
    }

    /// Inputs that differ from those of the search in one respect.
    fn shifts(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        for split in Split::ELSEWHERE {
            let evaluator = evaluators.shifts.iter().find(|(s, _)| *s == split).map(|(_, evaluator)| evaluator);
            let n = evaluator.map_or(0, |evaluator| evaluator.pairs.len());
            let id = CheckId::ShiftPairs { split };
            let Some(evaluator) = evaluator.filter(|_| n >= self.settings.min_pairs) else {
                let words = format!(
                    "there are {n} pairs of {split}, at least {} are needed: nothing is known about them",
                    self.settings.min_pairs
                );
                self.not_applicable(&[id], &words);
                continue;
            };
            if !self.has_time(id) {
                continue;
            }
            let resamples = resamples(&evaluator.pairs, self.settings);
            self.model_cell(split, evaluator, &resamples);
            for scheme in [Scheme::MEAN, Scheme::ZERO] {
                let measured = self.measure(split, evaluator, &evaluators.selection, &resamples, scheme)?;
                self.sufficient(split, evaluator, &measured, &resamples);
            }
        }
        Ok(())
    }

    /// The circuit's run as the rest is restored, and as the circuit's own nodes get the model's values.
    fn interpolation_curves(&mut self, evaluators: &Evaluators<'_>) {
        let (id, circuit) = (CheckId::Interchange, self.case.circuit.nodes());
        if circuit.is_empty() || circuit.complement().is_empty() {
            return self.not_applicable(&[id], "a circuit of no nodes or of all has nothing to interpolate to");
        }
        if !self.has_time(id) {
            return;
        }
        let points = interpolation::relaxation(&evaluators.few, circuit);
        self.report.curves.push(Curve { kind: CurveKind::RestRestored, points });
        let points = interpolation::interchange(&evaluators.few, circuit, self.settings.seed);
        let kl = |share: f64| points.iter().find(|p| p.0 == share).expect("a point of the curve").1;
        let words = format!(
            "KL goes from {:.3} to {:.3} nats with the model's values in the circuit's nodes ({:.3} in half of them); as far \
             as it falls, nodes hold other values than in the model",
            kl(0.0),
            kl(1.0),
            kl(0.5)
        );
        self.push(Check::new(id, Status::Passed, words));
        self.report.curves.push(Curve { kind: CurveKind::ModelValues, points });
    }

    /// Partial ablation of the rest by an adversary with a budget.
    fn attacks(&mut self, evaluators: &Evaluators<'_>) {
        let (circuit, settings) = (self.case.circuit.nodes(), self.settings);
        let (id, evaluator) = (CheckId::Adversary, &evaluators.held_out);
        if circuit.is_empty() || circuit.complement().is_empty() {
            let words = "a circuit of no nodes or of all leaves an adversary nothing to compare";
            let both = [id, CheckId::LargerAdversary];
            return both.into_iter().for_each(|id| self.push(Check::not_asked(id, words)));
        }
        if !self.has_time_for(&[id, CheckId::LargerAdversary]) {
            return;
        }
        let small = (settings.adversary_share * circuit.len() as f64).ceil().max(1.0);
        let large = circuit.len() as f64;
        for (budget, id) in [(small, CheckId::Adversary), (large, CheckId::LargerAdversary)] {
            let r = adversary::attack(
                &evaluators.few_selection,
                circuit,
                budget,
                AblationValue::Mean,
                settings.adversary_steps,
            );
            let (attack, measured) = adversary::outcome_of(
                Subset::Circuit,
                evaluator,
                &r,
                (budget, AblationValue::Mean),
                &evaluators.resamples,
            );
            let passed = attack.agreement.ci95.0 >= settings.min_accuracy;
            let most: Vec<String> = attack.nodes.iter().take(4).map(|(n, r)| format!("{n} to {r:.2}")).collect();
            let words = format!(
                "with at most {budget} nodes outside the circuit ablated, the same for all inputs, the worst found leaves \
                 {} of the model's answers and KL {} nats over the candidates; the lower end must be at least {} ({})",
                attack.agreement,
                attack.kl,
                settings.min_accuracy,
                most.join(", ")
            );
            if !passed && id == CheckId::Adversary {
                self.refute_by_attack(evaluator, &measured, &r);
            }
            self.push(Check {
                split: Some(Split::HeldOut),
                ablation: Some(Scheme::MEAN),
                estimate: Some(attack.agreement),
                threshold: Some(settings.min_accuracy),
                ..Check::new(id, Status::of(passed), words)
            });
            self.report.findings.attacks.push(attack);
        }
        self.attacks_on_random_sets(evaluators, small);
    }

    /// The same attack where random nodes of the same number and kind are safe: what a circuit that is none suffers.
    fn attacks_on_random_sets(&mut self, evaluators: &Evaluators<'_>, budget: f64) {
        const SETS: u64 = 3;
        for set in 0..SETS {
            if self.clock.is_over() {
                return self.unfinished(CheckId::AttacksOnRandomSets);
            }
            let mut rng = Stream::AttackedSet(set).rng(self.settings.seed);
            let (nodes, _) = draw(self.case.circuit.nodes(), Draw::Others, &evaluators.active, &mut rng);
            let steps = self.settings.adversary_steps;
            let r = adversary::attack(&evaluators.few_selection, &nodes, budget, AblationValue::Mean, steps);
            let how = (budget, AblationValue::Mean);
            let (attack, _) =
                adversary::outcome_of(Subset::Random, &evaluators.held_out, &r, how, &evaluators.resamples);
            self.report.findings.attacks.push(attack);
        }
    }

    fn refute_by_attack(&mut self, evaluator: &Evaluator<'_>, measured: &Measured, r: &[f32]) {
        let pair = worst_pair(measured.agree.len(), |i| 1e6 * (1.0 - measured.agree[i]) + measured.kl_candidates[i]);
        let shown = Shown {
            check: CheckId::Adversary,
            split: Split::HeldOut,
            pair,
            evaluator,
            run: &measured.differences,
            calibration: Calibration::NONE,
        };
        self.refute_by(|| shown.example(Shown::partly(Change::Attack, r, Scheme::MEAN)));
    }

    /// Roles: correlation of every node's values in the circuit's run with those in the model's.
    fn roles(&mut self, evaluator: &Evaluator<'_>) {
        let (id, circuit) = (CheckId::Roles, self.case.circuit.nodes());
        if circuit.is_empty() {
            return self.not_applicable(&[id], "a circuit of no nodes has no roles");
        }
        if !self.has_time(id) {
            return;
        }
        let roles = adversary::roles(evaluator, circuit);
        let space = circuit.space();
        for (node, role) in &roles {
            let node = space.node(*node).to_string();
            self.report.findings.nodes.iter_mut().filter(|w| w.node == node).for_each(|w| w.role = *role);
        }
        // Fisher's z with a prompt as the unit: tokens of a prompt are dependent.
        let margin = 1.96 / (2.0 * evaluator.pairs.len() as f64 - 3.0).max(1.0).sqrt();
        let defined = || roles.iter().filter_map(|(n, r)| r.map(|r| (*n, r)));
        let turned: Vec<String> = defined()
            .filter(|(_, r)| (r.clamp(-0.999_999, 0.999_999).atanh() + margin).tanh() < 0.0)
            .map(|(n, r)| format!("{} ({r:.2})", space.node(n)))
            .collect();
        let least = defined().map(|(_, r)| r).fold(1.0, f64::min);
        let words = format!(
            "the values of the circuit's nodes in its own run correlate with those in the model's by {least:.2} or more{}",
            if turned.is_empty() {
                String::new()
            } else {
                format!(
                    "; against them: {}. Such a node means the opposite of what it means in the model",
                    turned.join(", ")
                )
            }
        );
        self.push(Check::new(id, Status::of(turned.is_empty()), words));
    }

    /// The worst input among those seen, and a search for worse.
    fn inputs(&mut self, evaluators: &Evaluators<'_>) {
        let (id, evaluator) = (CheckId::WorstInputs, &evaluators.held_out);
        if !self.has_time(id) {
            return;
        }
        // Whatever is drawn like the held-out prompts is worse than the worst of those in at most this share, at 95 %
        // confidence. Of searched ones no such thing can be said.
        let n = 2 * evaluator.pairs.len();
        let share = 1.0 - 0.05_f64.powf(1.0 / n as f64);
        let published =
            self.report.cell(Split::HeldOut, Kept::Circuit, Some(Scheme::MEAN)).expect("measured at level 1");
        let seen = published.kl_max;
        self.report.findings.worst_input = Some((share, seen));
        let (circuit, calibration) = (self.case.circuit.nodes(), self.case.calibration);
        let found = adversary::worst_input(evaluator, circuit, calibration, self.settings.inputs, self.settings.seed);
        let Some((worst, turned)) = found else {
            let words = "no two prompts of one template have one length and differ in more than their cues: there is nothing \
                         to exchange between them";
            return self.push(Check::not_asked(id, words));
        };
        let words = format!(
            "of {} prompts made by exchanging tokens other than the cues between prompts of one template, {turned} have an answer of the \
             model, sure by a nat or more, that the circuit turns; the worst KL over the candidates is {:.4} nats. Of the {n} \
             held-out prompts as they are, the worst has KL {seen:.4} over the vocabulary, which bounds all but a share \
             {share:.4} of their kind, at 95 % confidence",
            self.settings.inputs, worst.kl
        );
        // One in a hundred may be no prompt of the task any more, for all that it keeps its cue.
        let passed = turned * 100 <= self.settings.inputs;
        self.push(Check { ablation: Some(Scheme::MEAN), ..Check::new(id, Status::of(passed), words) });
        if !passed {
            let what = Change::OnlyCircuitKept;
            let cut_edges = evaluator.context.cut_edges(weights_of(what));
            let intervention = Intervention { cut_edges, ..Intervention::keeping(what, circuit) };
            self.refute_by(|| CounterExample {
                check: id,
                split: Split::HeldOut,
                pair: None,
                prompts: worst.prompts,
                candidates: worst.candidates,
                intervention,
                calibration,
                model: worst.model,
                run: worst.run,
            });
        }
    }

    /// Rivals: other circuits that do as well.
    fn rivals(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        let (id, circuit, settings) = (CheckId::Identified, self.case.circuit.nodes(), self.settings);
        if circuit.is_empty() {
            self.not_applicable(&[id], "a circuit of no nodes has none that a rival could share");
            return Ok(());
        }
        if !self.has_time(id) {
            return Ok(());
        }
        let clock = self.clock;
        let out_of_time = || clock.is_over();
        let loss = settings.loss_limit(self.case.target_loss);
        let limit = rival::Limit { loss, scale: whole_scale(self.case.calibration) };
        let (evaluator, selection) = (&evaluators.few, &evaluators.few_selection);
        let Some(core) = rival::core(selection, circuit, limit, &out_of_time)? else {
            self.left_out(id);
            return Ok(());
        };
        self.report.findings.core = Some(core.len());
        // Exhaustion: forbid what is not in the core, then what its rivals use beyond the core, until nothing is left.
        let mut forbidden: Vec<usize> = circuit.numbers().filter(|n| !core.contains(n)).collect();
        const DEPTH: usize = 3;
        for _ in 0..DEPTH {
            if forbidden.is_empty() {
                break;
            }
            let steps = settings.rival_steps;
            let Some(found) = rival::search(selection, &forbidden, limit, steps, settings.seed, &out_of_time)? else {
                break;
            };
            let run = evaluator.run_in_model(&found, Scheme::MEAN)?;
            let calibration = calibrate_within(&selection.run_without(&found.complement(), Scheme::MEAN)?, limit.scale);
            let measured = Measured::new(&run, calibration, &evaluator.model);
            let shared = found.numbers().filter(|&n| circuit.kept()[n]).count();
            self.report.findings.rivals.push(Rival {
                nodes: found.len(),
                shared,
                loss: evaluators.few_resamples.mean(&measured.loss),
                agreement: fraction(&measured.agree),
            });
            forbidden.extend(found.numbers().filter(|n| !core.contains(n)));
        }
        let overlap = settings.rival_overlap * circuit.len() as f64;
        let good = |r: &&Rival| {
            r.shared as f64 <= overlap && r.loss.mean <= limit.loss && r.agreement.ci95.0 >= settings.min_template
        };
        let rivals = &self.report.findings.rivals;
        let rival = rivals.iter().find(good);
        if rival.is_none() && self.clock.is_over() {
            // The search that found none was cut short.
            self.left_out(id);
            return Ok(());
        }
        let words = format!(
            "{} of the circuit's {} nodes are irreplaceable: without any one of them nothing else in the model does the \
             task; {}",
            core.len(),
            circuit.len(),
            match rival {
                Some(r) => format!(
                    "a rival of {} nodes that shares {} with the circuit has a loss of {} nats: the circuit is one of \
                     several",
                    r.nodes, r.shared, r.loss
                ),
                None =>
                    format!("no rival that shares at most {overlap:.0} of them was found ({} were tried)", rivals.len()),
            }
        );
        let passed = rival.is_none();
        self.push(Check::new(id, Status::of(passed), words));
        Ok(())
    }
}
