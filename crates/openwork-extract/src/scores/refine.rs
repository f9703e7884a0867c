//! Refinement: edges and nodes that a circuit does not need are removed until nothing can be.

use openwork_circuit::{Calibration, Circuit, Edge, Hold, Means, Node, NodeSet};
use openwork_model::Model;
use openwork_tasks::Pair;

use super::{
    EdgeScores, GoesOn, Scorer,
    edges::set,
    judge::{Judge, masked},
    ranking,
};

/// Refinement of a circuit of `model`: importance of edges and calibrations are taken on `train`, and what must hold is
/// measured on `validation`.
#[derive(Clone, Copy)]
pub struct Refinement<'a> {
    /// The model.
    pub model: &'a Model,
    /// Means of its nodes over training data.
    pub means: &'a Means,
    /// Pairs of the task that edges are scored and calibrations are fitted on.
    pub train: &'a [Pair],
    /// Pairs that decide.
    pub validation: &'a [Pair],
}

/// Training pairs that edges are scored on.
const SCORE_PAIRS: usize = 64;

impl Refinement<'_> {
    /// The circuit less edges and nodes that it does not need: every edge is tried once, those of least
    /// [gradient score](Scorer::edge_gradient) *in the circuit* first, then every node with the edges that it has, the last
    /// of the forward pass first; a part is removed for good where `hold` still holds without it; and that is repeated until
    /// nothing was removed. An edge of this project is a single weight, so that what is left is minimal weight by weight: it may
    /// be one of many minimal circuits, and two weights that only together can go stay. A removed edge's weight is zero, as
    /// the verifier takes it; weights of removed nodes are the model's again, since means pass through them.
    ///
    /// `None` where `goes_on`, which is told the number of edges, breaks.
    ///
    /// # Panics
    /// When the circuit leaves out a channel of the residual stream, or there are no pairs.
    pub fn run(&self, circuit: Circuit, hold: Hold, goes_on: &mut GoesOn<'_>) -> Option<Circuit> {
        let judge = self.judge();
        let mut circuit = circuit;
        loop {
            let before = (circuit.edges().len(), circuit.nodes().len());
            circuit = self.without_edges(circuit, hold, &judge, goes_on)?;
            circuit = self.without_nodes(circuit, hold, &judge, goes_on)?;
            if (circuit.edges().len(), circuit.nodes().len()) == before {
                return Some(circuit);
            }
        }
    }

    /// True if `hold` holds of a circuit.
    pub fn holds(&self, circuit: &Circuit, hold: Hold) -> bool {
        holds(hold, &self.judge(), &masked(circuit, self.model), circuit.nodes())
    }

    /// Calibrated loss of a circuit on the pairs that decide, in nats per sequence, and the calibration.
    pub fn loss(&self, circuit: &Circuit) -> (f64, Calibration) {
        self.judge().loss_of(circuit)
    }

    pub(super) fn judge(&self) -> Judge<'_> {
        Judge::new(self.model, self.means, self.train, self.validation)
    }

    fn without_edges(
        &self,
        circuit: Circuit,
        hold: Hold,
        judge: &Judge<'_>,
        goes_on: &mut GoesOn<'_>,
    ) -> Option<Circuit> {
        let nodes = circuit.nodes();
        let mut model = masked(&circuit, self.model).into_owned();
        let scorer = Scorer::new(self.model, self.means, &self.train[..self.train.len().min(SCORE_PAIRS)]);
        let EdgeScores { edges, scores } = scorer.edge_gradient_in(&model, nodes);
        let mut kept: Vec<bool> = vec![true; edges.len()];
        for &index in ranking(&scores).iter().rev() {
            if goes_on(kept.iter().filter(|&&kept| kept).count()).is_break() {
                return None;
            }
            set(&mut model, &edges[index], 0.0);
            kept[index] = !holds(hold, judge, &model, nodes);
            if kept[index] {
                set(&mut model, &edges[index], edges[index].weight);
            }
        }
        let left: Vec<&Edge> = edges.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(e, _)| e).collect();
        Some(with(circuit, self.model, &left))
    }

    fn without_nodes(
        &self,
        circuit: Circuit,
        hold: Hold,
        judge: &Judge<'_>,
        goes_on: &mut GoesOn<'_>,
    ) -> Option<Circuit> {
        let mut circuit = circuit;
        let nodes: Vec<Node> = circuit.nodes().nodes().collect();
        for &node in nodes.iter().rev() {
            if goes_on(circuit.edges().len()).is_break() {
                return None;
            }
            let without = less(&circuit, self.model, node);
            if holds(hold, judge, &masked(&without, self.model), without.nodes()) {
                circuit = without;
            }
        }
        Some(circuit)
    }
}

pub(super) fn holds(hold: Hold, judge: &Judge<'_>, model: &Model, nodes: &NodeSet) -> bool {
    match hold {
        Hold::Loss(target) => judge.reaches(model, nodes, target),
        Hold::Agreement(share) => judge.agreement(model, nodes) >= share,
    }
}

/// The circuit with only these edges.
pub(super) fn with(circuit: Circuit, model: &Model, edges: &[&Edge]) -> Circuit {
    let ends: Vec<(Node, Node)> = edges.iter().map(|e| (e.from, e.to)).collect();
    circuit.with_edges(model, &ends).expect("edges of the circuit")
}

/// The circuit without a node and its edges.
fn less(circuit: &Circuit, model: &Model, node: Node) -> Circuit {
    let space = circuit.nodes().space();
    let number = space.number(node).expect("a node of the model");
    let others = NodeSet::of(space.clone(), circuit.nodes().numbers().filter(|&n| n != number));
    let left: Vec<&Edge> = circuit.edges().iter().filter(|e| e.from != node && e.to != node).collect();
    with(Circuit::new(model, others).annotated_as(circuit), model, &left)
}
