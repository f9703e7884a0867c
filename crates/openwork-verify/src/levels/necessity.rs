//! Level 3: necessity of the circuit for the model, beside random node sets; controls; and minimality of its nodes and edges.

use openwork_circuit::{Calibration, NodeSet, edges};

use super::{Evaluators, Shown, Stop, Verifier, sufficiency::range, worst_pair};
use crate::{
    checks::{
        Check, Status, Unfinished,
        control::{ControlKind, Controls},
        id::CheckId,
    },
    levels::rules,
    methods::{
        knockouts,
        random_sets::{Comparison, Draw, RandomSets},
    },
    report::{
        counter_example::Change,
        findings::{NodeWorth, Size},
    },
    run::{
        error::RunError,
        evaluator::Evaluator,
        measures::{Measured, losses_at_best_shift, mean},
        scheme::{Kept, Scheme, Split},
    },
    settings::Settings,
    stats::intervals::{Resamples, holm, p_not_above},
};

impl Verifier<'_> {
    /// Level 3.
    pub(super) fn necessity(&mut self, evaluators: &Evaluators<'_>, controls: Controls<'_>) -> Result<(), Stop> {
        self.effect(evaluators)?;
        self.random_sets(evaluators)?;
        for kind in ControlKind::ALL {
            if controls.cut_short.contains(&kind) && !controls.done.iter().any(|c| c.kind == kind) {
                self.unfinished(CheckId::Control { kind });
            }
            self.control(kind, controls);
        }
        self.completeness(evaluators)?;
        self.minimality(evaluators)?;
        self.beside_random_circuits(evaluators)?;
        Ok(())
    }

    /// One control. The circuits that its search finds have all edges between their nodes, and are compared with as many of
    /// this one: an edge that is left out afterwards makes no search better.
    fn control(&mut self, kind: ControlKind, controls: Controls<'_>) {
        let size = self.report.size.expect("known by now");
        let all = edges(self.case.model, self.case.circuit.nodes()).len();
        let mut check = rules::control(kind, controls.done, Size { edges: all, ..size });
        if all != size.edges {
            check.explanation += "; the edges that the circuit leaves out count, since a search leaves out none";
        }
        self.push(check);
    }

    /// Necessity: the loss of the model with only the circuit ablated.
    fn effect(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        let (evaluator, resamples, circuit) = (&evaluators.held_out, &evaluators.resamples, self.case.circuit.nodes());
        let others = circuit.complement();
        let run = evaluator.run_in_model(&others, Scheme::MEAN)?;
        let without = Measured::new(&run, Calibration::NONE, &evaluator.model);
        let kept = (Split::HeldOut, Kept::AllButCircuit, Some(Scheme::MEAN));
        self.report.matrix.push(without.cell(kept, Calibration::NONE, None, resamples));
        self.independence(evaluator, &without.differences);
        let (shifted, model) = (losses_at_best_shift(&run), losses_at_best_shift(&evaluator.model));
        let check = rules::necessity(&shifted, &model, resamples, self.settings);
        if check.status == Status::Failed {
            // Where the model does best without the circuit.
            let pair = worst_pair(shifted.len(), |i| -shifted[i]);
            let shown = Shown {
                check: check.id,
                split: Split::HeldOut,
                pair,
                evaluator,
                run: &without.differences,
                calibration: Calibration::NONE,
            };
            self.refute_by(|| shown.example(shown.kept(Change::OnlyCircuitAblated, &others, Scheme::MEAN)));
        }
        self.push(check);
        Ok(())
    }

    /// Necessity and sufficiency against random sets, on part of the pairs.
    fn random_sets(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        let (circuit, settings) = (self.case.circuit.nodes(), self.settings);
        let (necessity, sufficiency) = (CheckId::NecessityAgainstRandomSets, CheckId::SufficiencyAgainstRandomSets);
        if circuit.is_empty() || circuit.complement().is_empty() {
            let words = "a circuit of no nodes or of all has no random sets of its size to be compared with";
            for id in [necessity, sufficiency] {
                self.push(Check::new(id, Status::NotApplicable, words));
            }
            return Ok(());
        }
        if !self.has_time(necessity) {
            return Ok(());
        }
        let evaluator = &evaluators.few;
        let own = evaluator.run_differences(circuit, Scheme::MEAN)?.loss(self.case.calibration);
        let limit = settings.loss_limit();
        let model = mean(&losses_at_best_shift(&evaluator.model));
        let clock = self.clock;
        let comparison = Comparison {
            evaluator,
            selection: &evaluators.few_selection,
            circuit,
            necessary: model + settings.min_necessity * (std::f64::consts::LN_2 - model),
            sufficient: limit,
            active: &evaluators.active,
            settings,
            out_of_time: &|| clock.is_over(),
        };
        let counted = comparison.ablated(Draw::Others, self.progress)?;
        let activity = comparison.ablated(Draw::ActiveOthers, self.progress)?;
        let kept = comparison.kept(own, self.progress)?;
        let adjusted = holm(&[counted.p_value.max(activity.p_value), kept.p_value]);

        let too_short = counted.shortfall.1 as f64 > settings.max_shortage * circuit.len() as f64;
        let mut first = rank(necessity, adjusted[0], settings, necessity_text(&counted, &activity));
        if too_short {
            first.status = Status::NotApplicable;
            first.explanation = format!(
                "the circuit constants its sites so far that random sets outside it lack {} of its {} nodes",
                counted.shortfall.1,
                circuit.len()
            );
        }
        let reached = kept.random.iter().filter(|&&l| l <= limit).count();
        let words = format!(
            "kept alone, random sets of the circuit's size have losses {} nats; the circuit {:.4}; {reached} of {} reach \
             {limit:.4}",
            range(&kept.random),
            kept.circuit,
            kept.random.len()
        );
        let mut checks = [first, rank(sufficiency, adjusted[1], settings, words)];
        let fewest = [&counted, &activity, &kept].map(|s| s.random.len()).into_iter().min().expect("three");
        if fewest < settings.random_sets {
            let step = Unfinished::new(CheckId::RandomSets, self.clock.limits.why());
            self.report.unfinished.push(Unfinished { done: Some((fewest, settings.random_sets)), ..step });
            // Fewer sets than were asked for decide nothing, neither for the circuit nor against it.
            checks.iter_mut().for_each(|c| c.status = Status::NotApplicable);
        }
        checks.into_iter().for_each(|check| self.push(check));
        self.report.random_sets.extend([counted, activity, kept]);
        Ok(())
    }

    /// Minimality: which nodes and edges are needed.
    fn minimality(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        let (id, circuit, evaluator) = (CheckId::MinimalityNodes, self.case.circuit.nodes(), &evaluators.few);
        // What keeps all of the model, or all but, is called trivial elsewhere, and of course not all of it is needed.
        let size = self.report.size.expect("known by now");
        let trivial = size.active_in_circuit as f64 > NEARLY_ALL * size.active_nodes as f64;
        if circuit.is_empty() || circuit.len() > MOST_NODES || trivial {
            let words =
                format!("not asked of a circuit of no nodes, of more than {MOST_NODES} or of nearly all of the model");
            self.push(Check::not_asked(id, words));
            return Ok(());
        }
        if !self.has_time(id) {
            return Ok(());
        }
        let clock = self.clock;
        let out_of_time = || clock.is_over();
        let nodes: Vec<usize> = circuit.numbers().collect();
        let margin = self.settings.min_worth * self.loss_reduction(evaluator);
        let answers = &evaluators.held_out.model.differences;
        let least = self.settings.min_worth * answers.iter().map(|d| d.abs()).sum::<f64>() / answers.len() as f64;
        let Some(needless) = self.needless(evaluators, &nodes, least, &out_of_time)? else {
            self.left_out(id);
            return Ok(());
        };
        let names: Vec<String> = needless.iter().map(|&n| circuit.space().node(n).to_string()).collect();
        let words = format!(
            "leaving out any one of {} of {} nodes changes the circuit's logit difference somewhere by more than {least:.4}, \
             {} of the model's, on pairs seen or from elsewhere under mean ablation or on held-out ones under zero ablation{}; \
             at most {} of them may not be seen to matter",
            nodes.len() - names.len(),
            nodes.len(),
            self.settings.min_worth,
            if names.is_empty() { String::new() } else { format!("; not so: {}", shortened(&names)) },
            self.settings.max_needless
        );
        let passed = names.len() as f64 <= self.settings.max_needless * nodes.len() as f64;
        self.push(Check { threshold: Some(least), ..Check::new(id, Status::of(passed), words) });
        let calibration = self.case.calibration;
        let with_all = evaluator.run_differences(circuit, Scheme::MEAN)?.pair_losses(calibration);
        let worth = |&node: &usize| knockouts::worth(evaluator, circuit, calibration, &with_all, node);
        let worths = nodes.iter().map(worth).collect::<Result<Vec<_>, RunError>>()?;
        let p = holm(&worths.iter().map(|w| p_not_above(w, margin)).collect::<Vec<_>>());
        self.node_worths(evaluator, &evaluators.few_resamples, &nodes, &worths, &p)?;
        self.subset(evaluator, &nodes, &worths, margin, &out_of_time)?;
        self.edges(evaluator, margin, &out_of_time);
        Ok(())
    }

    /// Nodes whose leaving out changes nothing that was seen: on held-out pairs under mean and under zero ablation (which
    /// needs what is constant too), and on pairs from elsewhere (which may take other ways). An effect on one prompt is
    /// all it takes to be needed; it is computed and not estimated.
    fn needless(
        &mut self,
        evaluators: &Evaluators<'_>,
        nodes: &[usize],
        least: f64,
        out_of_time: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<usize>>, RunError> {
        let circuit = self.case.circuit.nodes();
        let mut left = nodes.to_vec();
        // Few pairs first: most nodes show there.
        let here = [(&evaluators.few, Scheme::MEAN), (&evaluators.few, Scheme::ZERO)];
        let more = [
            (&evaluators.held_out, Scheme::MEAN),
            (&evaluators.selection, Scheme::MEAN),
            (&evaluators.held_out, Scheme::ZERO),
        ];
        let elsewhere = evaluators.shifts.iter().map(|(_, evaluator)| (evaluator, Scheme::MEAN));
        let places = here.into_iter().chain(elsewhere).chain(more);
        for (evaluator, scheme) in places {
            if left.is_empty() {
                break;
            }
            let whole = evaluator.run_differences(circuit, scheme)?;
            let mut still = Vec::new();
            for node in left {
                if out_of_time() {
                    return Ok(None);
                }
                if knockouts::largest_effect(evaluator, circuit, scheme, &whole, node)? <= least {
                    still.push(node);
                }
            }
            left = still;
        }
        Ok(Some(left))
    }

    /// Cost of each node's removal in the circuit and in the model, and of removing all together.
    fn node_worths(
        &mut self,
        evaluator: &Evaluator<'_>,
        resamples: &Resamples,
        nodes: &[usize],
        worths: &[Vec<f64>],
        p: &[f64],
    ) -> Result<(), RunError> {
        let circuit = self.case.circuit.nodes();
        let model = mean(&losses_at_best_shift(&evaluator.model));
        let without = |removed: &dyn Fn(usize) -> bool| -> Result<f64, RunError> {
            let removed = NodeSet::of(circuit.space().clone(), (0..circuit.space().len()).filter(|&n| removed(n)));
            Ok(mean(&losses_at_best_shift(&evaluator.run_without(&removed, Scheme::MEAN)?)) - model)
        };
        let mut sum = 0.0;
        for ((&node, worth), &p_value) in nodes.iter().zip(worths).zip(p) {
            let in_model = without(&|n| n == node)?;
            sum += in_model;
            self.report.findings.nodes.push(NodeWorth {
                node: circuit.space().node(node).to_string(),
                in_circuit: resamples.mean(worth),
                p_value,
                in_model,
                role: None,
            });
        }
        let joint = without(&|n| circuit.kept()[n])?;
        // Sums at the level of rounding divide to anything.
        self.report.findings.joint_over_sum = (sum > 1e-3).then_some(joint / sum);
        Ok(())
    }

    fn subset(
        &mut self,
        evaluator: &Evaluator<'_>,
        nodes: &[usize],
        worths: &[Vec<f64>],
        margin: f64,
        out_of_time: &dyn Fn() -> bool,
    ) -> Result<(), RunError> {
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by(|&a, &b| mean(&worths[a]).total_cmp(&mean(&worths[b])).then(a.cmp(&b)));
        let by_worth: Vec<usize> = order.into_iter().map(|i| nodes[i]).collect();
        let (circuit, calibration) = (self.case.circuit.nodes(), self.case.calibration);
        let smallest = knockouts::smallest_subset(evaluator, circuit, calibration, &by_worth, margin, out_of_time)?;
        let Some(smallest) = smallest else {
            self.unfinished(CheckId::MinimalitySubsets);
            return Ok(());
        };
        self.report.findings.smallest_subset = Some(smallest);
        let words = format!(
            "dropping nodes greedily, {smallest} of {} keep the circuit's loss within {margin:.4} nats: an upper bound \
             on the smallest part, which is hard to find exactly",
            nodes.len()
        );
        self.push(Check::new(CheckId::MinimalitySubsets, Status::Passed, words));
        Ok(())
    }

    fn edges(&mut self, evaluator: &Evaluator<'_>, margin: f64, out_of_time: &dyn Fn() -> bool) {
        let id = CheckId::MinimalityEdges;
        if self.report.size.is_some_and(|s| s.edges > MOST_EDGES) || !self.has_time(id) {
            return;
        }
        let (circuit, calibration) = (self.case.circuit.nodes(), self.case.calibration);
        let (needless, tried) = knockouts::needless_edges(evaluator, circuit, calibration, margin, out_of_time);
        let names: Vec<String> = needless.iter().map(|e| format!("{} → {}", e.from, e.to)).collect();
        let words = format!(
            "{} of {tried} edges can be cut one at a time (their reader gets the mean) at no more than {margin:.4} nats{}",
            names.len(),
            if names.is_empty() { String::new() } else { format!(": {}", shortened(&names)) }
        );
        self.push(Check::new(id, Status::Passed, words));
        self.report.findings.needless_edges = Some((names, tried));
    }
}

/// The share of active nodes beyond which a circuit is the model.
const NEARLY_ALL: f64 = 0.95;

/// Nodes and edges beyond which single knock-outs are not tried.
const MOST_NODES: usize = 400;
const MOST_EDGES: usize = 1000;

fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 8 { format!("{shown} and {} more", names.len() - 8) } else { shown }
}

fn rank(id: CheckId, p: f64, settings: &Settings, words: String) -> Check {
    let passed = p <= settings.alpha;
    Check {
        split: Some(Split::HeldOut),
        ablation: Some(Scheme::MEAN),
        p_value: Some(p),
        threshold: Some(settings.alpha),
        ..Check::new(id, Status::of(passed), format!("{words}; p = {p:.3} after Holm"))
    }
}

fn necessity_text(counted: &RandomSets, active: &RandomSets) -> String {
    let shortfall = match active.shortfall {
        (0, _) => String::new(),
        (sites, nodes) => {
            format!("; at {sites} sites other active nodes run short, {nodes} had to be replaced by inactive ones")
        }
    };
    format!(
        "without the circuit the loss is {:.4} nats at the best shift; without as many other nodes {} (p = {:.3}), \
         without as many other active nodes {} (p = {:.3}){shortfall}; the larger p decides",
        counted.circuit,
        range(&counted.random),
        counted.p_value,
        range(&active.random),
        active.p_value
    )
}
