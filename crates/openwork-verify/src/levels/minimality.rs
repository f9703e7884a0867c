//! Level 3: minimality, the nodes and edges of the circuit that are needed.

use openwork_circuit::{Claim, NodeSet, edges};

use super::{Evaluators, Verifier};
use crate::{
    checks::{Check, Status, Unfinished, id::CheckId},
    methods::{
        junk::{Junk, JunkSearch},
        knockouts,
        random_sets::shuffle,
    },
    report::findings::NodeWorth,
    run::{
        error::RunError,
        evaluator::Evaluator,
        measures::{losses_at_best_shift, mean},
        scheme::Scheme,
    },
    stats::intervals::{Resamples, holm, marked, p_not_above},
    streams::Stream,
};

/// The share of active nodes beyond which a circuit is the model.
const NEARLY_ALL: f64 = 0.95;

/// Nodes and edges that are asked one by one; of more, so many are drawn at random. 256 nodes without junk say that at most 1.5 %
/// of all are junk, at 95 % confidence.
const MOST_NODES: usize = 256;
const MOST_EDGES: usize = 1000;

impl Verifier<'_> {
    /// Minimality: which nodes and edges are needed.
    pub(super) fn minimality(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        let circuit = self.case.circuit.nodes();
        let all = [CheckId::MinimalityNodes, CheckId::MinimalitySubsets, CheckId::MinimalityEdges];
        if circuit.is_empty() {
            self.not_applicable(&all, "a circuit of no nodes has none that could be left out");
            return Ok(());
        }
        // What keeps all of the model, or all but, is called trivial elsewhere, and of course not all of it is needed.
        let size = self.report.size.expect("known by now");
        if size.active_in_circuit as f64 > NEARLY_ALL * size.active_nodes as f64 {
            let not_asked =
                |id| Check::not_asked(id, "the circuit is nearly all of the model, which is called trivial");
            all.into_iter().for_each(|id| self.push(not_asked(id)));
            return Ok(());
        }
        if !self.has_time_for(&all) {
            return Ok(());
        }
        let mut nodes: Vec<usize> = circuit.numbers().collect();
        if nodes.len() > MOST_NODES {
            shuffle(&mut nodes, &mut Stream::Minimality.rng(self.settings.seed));
            nodes.truncate(MOST_NODES);
            nodes.sort_unstable();
        }
        if !self.junk(evaluators, &nodes)? {
            all.into_iter().for_each(|id| self.left_out(id));
            return Ok(());
        }
        let evaluator = &evaluators.few;
        let margin = self.settings.min_worth * self.loss_reduction(evaluator);
        let calibration = self.case.calibration;
        let with_all = evaluator.run_differences(circuit, Scheme::MEAN)?.pair_losses(calibration);
        let worth = |&node: &usize| knockouts::worth(evaluator, circuit, calibration, &with_all, node);
        let worths = nodes.iter().map(worth).collect::<Result<Vec<_>, RunError>>()?;
        let p = holm(&worths.iter().map(|w| p_not_above(w, margin)).collect::<Vec<_>>());
        self.node_worths(evaluator, &evaluators.few_resamples, &nodes, &worths, &p)?;
        self.subset(evaluator, &nodes, &worths, margin)?;
        self.edges(evaluator, margin);
        Ok(())
    }

    /// The check on junk among `nodes`, all of the circuit's or some drawn from them; false where time ran out. An effect on one
    /// prompt is all it takes to be needed, and it is computed and not estimated: on held-out pairs under mean and under zero
    /// ablation (which needs what is constant too), on selection pairs, and on pairs from elsewhere (which may take other ways).
    fn junk(&mut self, evaluators: &Evaluators<'_>, nodes: &[usize]) -> Result<bool, RunError> {
        let (circuit, settings, clock) = (self.case.circuit.nodes(), self.settings, self.clock);
        let (answers, claim) = (&evaluators.held_out.model.differences, self.case.claim);
        let least = settings.min_worth * answers.iter().map(|d| d.abs()).sum::<f64>() / answers.len() as f64;
        let mut places = vec![(&evaluators.few, Scheme::MEAN), (&evaluators.few, Scheme::ZERO)];
        places.extend(evaluators.shifts.iter().map(|(_, evaluator)| (evaluator, Scheme::MEAN)));
        places.extend([
            (&evaluators.held_out, Scheme::MEAN),
            (&evaluators.selection, Scheme::MEAN),
            (&evaluators.held_out, Scheme::ZERO),
        ]);
        let search = JunkSearch { circuit, places, in_contexts: 2, least, claim, out_of_time: &|| clock.is_over() };
        let mut rng = Stream::Minimality.rng(settings.seed);
        let Some(Junk { nodes: junk, contexts }) = search.find(nodes, &mut rng)? else { return Ok(false) };
        let share = marked(circuit.len(), nodes.len(), junk.len());
        let passed = share.ci95.1 <= settings.max_needless;
        let names: Vec<String> = junk.iter().map(|&n| circuit.space().node(n).to_string()).collect();
        let asked = match circuit.len() {
            n if n == nodes.len() => format!("of {n} nodes"),
            n => format!("of {} nodes drawn from the circuit's {n}", nodes.len()),
        };
        let found = match junk.len() {
            0 => "none adds nothing".into(),
            n => format!(
                "{n} add nothing, not even together, in any of {contexts} contexts of other nodes knocked out: {}",
                shortened(&names)
            ),
        };
        let words = format!(
            "{asked} {found} (a change of {least:.4} of a logit difference, {} of the model's, or a turned likeliest token, on one \
             prompt is something{}); the upper end of their share {share} must be at most {}",
            settings.min_worth,
            match claim {
                Claim::Answer => "",
                Claim::Contrast => ", but for what is common to all prompts",
            },
            settings.max_needless
        );
        self.push(Check {
            estimate: Some(share),
            threshold: Some(settings.max_needless),
            ..Check::new(CheckId::MinimalityNodes, Status::of(passed), words)
        });
        Ok(true)
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
        // Sums at the level of rounding divide to anything, and those of some nodes are no sums of all.
        self.report.findings.joint_over_sum = (sum > 1e-3 && nodes.len() == circuit.len()).then_some(joint / sum);
        Ok(())
    }

    fn subset(
        &mut self,
        evaluator: &Evaluator<'_>,
        nodes: &[usize],
        worths: &[Vec<f64>],
        margin: f64,
    ) -> Result<(), RunError> {
        let (id, clock) = (CheckId::MinimalitySubsets, self.clock);
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by(|&a, &b| mean(&worths[a]).total_cmp(&mean(&worths[b])).then(a.cmp(&b)));
        let by_worth: Vec<usize> = order.into_iter().map(|i| nodes[i]).collect();
        let (circuit, calibration) = (self.case.circuit.nodes(), self.case.calibration);
        let out_of_time = || clock.is_over();
        let smallest = knockouts::smallest_subset(evaluator, circuit, calibration, &by_worth, margin, &out_of_time)?;
        let Some(smallest) = smallest else {
            self.left_out(id);
            return Ok(());
        };
        self.report.findings.smallest_subset = Some(smallest);
        let words = format!(
            "dropping nodes greedily, {smallest} of {} keep the circuit's loss within {margin:.4} nats: an upper bound \
             on the smallest part, which is hard to find exactly",
            circuit.len()
        );
        self.push(Check::new(id, Status::Passed, words));
        Ok(())
    }

    fn edges(&mut self, evaluator: &Evaluator<'_>, margin: f64) {
        let (id, clock) = (CheckId::MinimalityEdges, self.clock);
        if !self.has_time(id) {
            return;
        }
        let (circuit, calibration) = (self.case.circuit.nodes(), self.case.calibration);
        let all = edges(evaluator.context.model_with(evaluator.context.weights(circuit)), circuit);
        let mut order: Vec<usize> = (0..all.len()).collect();
        if all.len() > MOST_EDGES {
            shuffle(&mut order, &mut Stream::Minimality.rng(self.settings.seed));
            order.truncate(MOST_EDGES);
            order.sort_unstable();
        }
        let asked: Vec<_> = order.into_iter().map(|i| all[i]).collect();
        let out_of_time = || clock.is_over();
        let (needless, tried) =
            knockouts::needless_edges(evaluator, circuit, calibration, &asked, margin, &out_of_time);
        if tried < asked.len() {
            let step = Unfinished::new(id, self.clock.limits.why());
            self.report.unfinished.push(Unfinished { done: Some((tried, asked.len())), ..step });
        }
        let names: Vec<String> = needless.iter().map(|e| format!("{} → {}", e.from, e.to)).collect();
        let share = match tried < all.len() {
            true if tried > 0 => format!(" of {}, a share {}", all.len(), marked(all.len(), tried, names.len())),
            _ => String::new(),
        };
        let words = format!(
            "{} of {tried} edges{share} can be cut one at a time (their reader gets the mean) at no more than {margin:.4} \
             nats{}",
            names.len(),
            if names.is_empty() { String::new() } else { format!(": {}", shortened(&names)) }
        );
        self.push(Check::new(id, Status::Passed, words));
        self.report.findings.needless_edges = Some((names, tried));
    }
}

fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 8 { format!("{shown} and {} more", names.len() - 8) } else { shown }
}
