//! Refinement: edges and nodes that a circuit does not need are removed until nothing can be.

use openwork_circuit::{Circuit, Edge, Node, NodeSet};
use openwork_model::Model;

use super::{
    EdgeScores, GoesOn, ScoreSearch,
    edges::set,
    judge::{Judge, masked},
};

/// What must hold of a circuit that parts are removed from, on the selection pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hold {
    /// The calibrated task loss is at most this, nats per sequence.
    Loss(f64),
    /// The share of answers of the calibrated circuit that are the model's is at least this.
    Agreement(f64),
}

impl Hold {
    fn holds(self, judge: &Judge<'_>, model: &Model, nodes: &NodeSet) -> bool {
        match self {
            Self::Loss(target) => judge.reaches(model, nodes, target),
            Self::Agreement(share) => judge.agreement(model, nodes) >= share,
        }
    }
}

impl ScoreSearch<'_> {
    /// The circuit less edges and nodes that it does not need: every edge is tried once, those of least
    /// [gradient score](super::Scorer::edge_gradient) *in the circuit* first, then every node with the edges that it has, the last
    /// of the forward pass first; a part is removed for good where `hold` still holds without it; and that is repeated until
    /// nothing was removed. An edge of this project is a single weight, so that what is left is minimal weight by weight: it may
    /// be one of many minimal circuits, and two weights that only together can go stay. A removed edge's weight is zero, as
    /// the verifier takes it; weights of removed nodes are the model's again, since means pass through them.
    ///
    /// `None` where `goes_on`, which is told the number of edges, breaks.
    pub fn refine(&self, circuit: Circuit, hold: Hold, goes_on: &mut GoesOn<'_>) -> Option<Circuit> {
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

    fn without_edges(
        &self,
        circuit: Circuit,
        hold: Hold,
        judge: &Judge<'_>,
        goes_on: &mut GoesOn<'_>,
    ) -> Option<Circuit> {
        let nodes = circuit.nodes();
        let mut model = masked(&circuit, self.model).into_owned();
        let EdgeScores { edges, scores } = self.scorer().edge_gradient_in(&model, nodes);
        let mut kept: Vec<bool> = vec![true; edges.len()];
        for (tried, &index) in super::ranking(&scores).iter().rev().enumerate() {
            if goes_on(edges.len() - tried).is_break() {
                return None;
            }
            set(&mut model, &edges[index], 0.0);
            kept[index] = !hold.holds(judge, &model, nodes);
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
            if hold.holds(judge, &masked(&without, self.model), without.nodes()) {
                circuit = without;
            }
        }
        Some(circuit)
    }
}

/// The circuit with only these edges.
fn with(circuit: Circuit, model: &Model, edges: &[&Edge]) -> Circuit {
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
