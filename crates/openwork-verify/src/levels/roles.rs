//! Level 4: whether the circuit's nodes carry in its own run what they carry in the model.

use super::Verifier;
use crate::{
    checks::{Check, Status, form::Raw, id::CheckId},
    methods::roles,
    run::{error::RunError, evaluator::Evaluator},
    stats::intervals::holm,
};

impl Verifier<'_> {
    /// A node is opposed if its values in the circuit's run correlate negatively with those in the model's: Fisher's z, one-sided,
    /// corrected after Holm for all nodes that vary in both runs. Opposed nodes fail the check if one of them, or all together,
    /// are worth at least `min_worth` of the loss reduction: what decides nothing may be left to others. Of a contrast, what only
    /// moves the threshold decides nothing.
    pub(super) fn roles(&mut self, evaluator: &Evaluator<'_>) -> Result<(), RunError> {
        let (id, circuit, settings) = (CheckId::Roles, self.case.circuit.nodes(), self.settings);
        if circuit.is_empty() {
            self.not_applicable(&[id], "a circuit of no nodes has no roles");
            return Ok(());
        }
        if !self.has_time(id) {
            return Ok(());
        }
        let correlations = roles::correlations(evaluator, circuit);
        let space = circuit.space();
        for (node, role) in &correlations {
            let node = space.node(*node).to_string();
            self.report.findings.nodes.iter_mut().filter(|w| w.node == node).for_each(|w| w.role = *role);
        }
        let defined: Vec<(usize, f64)> = correlations.iter().filter_map(|(n, r)| r.map(|r| (*n, r))).collect();
        let p: Vec<f64> = defined.iter().map(|(_, r)| roles::p_opposed(*r, 2 * evaluator.pairs.len())).collect();
        let opposed = defined.iter().zip(holm(&p)).filter(|(_, p)| *p <= settings.alpha).map(|(node, _)| *node);
        let bar = settings.min_worth * self.loss_reduction(evaluator);
        let worth = |nodes: &[usize]| roles::worth(evaluator, circuit, self.case.calibration, nodes);
        let mut turned: Vec<(usize, f64, [f64; 2])> = vec![];
        for (node, r) in opposed {
            turned.push((node, r, worth(&[node])?));
        }
        let together = worth(&turned.iter().map(|t| t.0).collect::<Vec<_>>())?;
        let least = defined.iter().map(|(_, r)| *r).fold(1.0, f64::min);
        let forms = [(id, ""), (CheckId::ShiftFree { of: Raw::Roles }, " after the best common shift")];
        for (form, (id, after)) in forms.into_iter().enumerate() {
            let together = together[form];
            let alone = turned.iter().map(|t| t.2[form]).fold(0.0, f64::max);
            let passed = alone.max(together) < bar;
            let node = |(n, r, worth): &(usize, f64, [f64; 2])| {
                format!("{} ({r:.2}, worth {:.4} nats)", space.node(*n), worth[form])
            };
            let listed = turned.iter().map(node).collect::<Vec<_>>().join(", ");
            let against = match (turned.is_empty(), passed) {
                (true, _) => String::new(),
                (false, true) => format!(
                    "; against them{after}: {listed}, together worth {together:.4} nats, below the {bar:.4} that count"
                ),
                (false, false) => format!(
                    "; against them{after}: {listed}, together worth {together:.4} nats, and {bar:.4} count. Such a node means the \
                     opposite of what it means in the model"
                ),
            };
            let words = format!(
                "the values of the {} nodes that vary correlate in the circuit's own run with those in the model's by {least:.2} or \
                 more{against}",
                defined.len()
            );
            self.push(Check::new(id, Status::of(passed), words));
        }
        Ok(())
    }
}
