//! Effects: the rise of a circuit's loss when a node or an edge of it is ablated.

use openwork_circuit::{Ablation, Batch, Calibration, Edge, Keep, Means, Node, NodeSet, batches, evaluate, weights_of};
use openwork_model::Model;
use serde::Serialize;

use crate::{View, ViewError, ask::graph::pairs_of};

/// Nodes and edges of the largest circuit whose effects are measured: a few seconds on small models.
const MOST_PARTS: usize = 800;
/// Pairs of the task on which losses are taken.
const PAIRS: usize = 32;

/// Effects of a circuit's parts: the loss of the circuit without the part less that of the circuit, nats per sequence, the others
/// ablated by their means.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effects {
    /// Loss of the circuit, where it is known.
    pub loss: Option<f64>,
    /// Number of pairs.
    pub pairs: usize,
    /// Effects of its nodes, in their order, as far as they are known.
    pub nodes: Vec<Option<f64>>,
    /// Effects of its weights, in their order.
    pub edges: Vec<f64>,
}

struct Bench<'a> {
    batches: Vec<Batch>,
    means: &'a Means,
    calibration: Calibration,
}

impl Bench<'_> {
    /// Loss of the circuit of `nodes` in `model`, nats per sequence.
    fn loss(&self, model: &Model, nodes: &NodeSet) -> f64 {
        let keep = || Keep::new(nodes, Ablation::Mean(self.means));
        evaluate(model, &self.batches, false, keep, |_| ()).loss(self.calibration)
    }
}

impl View {
    /// Effects of the parts of a circuit on its own loss, on pairs that it was selected among. They are measured once.
    ///
    /// # Errors
    /// When there is no such circuit, it is too large, its task is unknown, or there are no means.
    pub fn effects(&self, number: usize) -> Result<Effects, ViewError> {
        let (circuit, opened) = self.circuit(number)?;
        if let Some(known) = circuit.effects.get() {
            return Ok(known.clone());
        }
        let file = circuit.file();
        let parts = file.circuit.nodes().len() + file.circuit.edges().len();
        if parts > MOST_PARTS {
            return Err(ViewError::TooLarge { parts, most: MOST_PARTS });
        }
        let means = opened.means.as_ref().ok_or(ViewError::NoMeans)?;
        let pairs = pairs_of(&file, opened, PAIRS)?;
        let model = &opened.open.model;
        let bench = Bench { batches: batches(&pairs, 8, model.config.n_ctx), means, calibration: file.calibration };
        let residual = |source| openwork_project::ProjectError::ResidualEdge { task: file.task.clone(), source };
        let mut masked = file.circuit.masked(model).map_err(residual)?.into_owned();
        let kept = file.circuit.nodes();
        let loss = bench.loss(&masked, kept);
        let without_node = |node: Node| {
            let number = kept.space().number(node).expect("a node of the circuit");
            let rest = (0..kept.space().len()).filter(|&n| kept.kept()[n] && n != number);
            bench.loss(&masked, &NodeSet::of(kept.space().clone(), rest)) - loss
        };
        let nodes = kept.nodes().map(|node| Some(without_node(node))).collect();
        let edges =
            file.circuit.edges().iter().map(|edge| without_edge(&bench, &mut masked, kept, edge) - loss).collect();
        let effects = Effects { loss: Some(loss), pairs: pairs.len(), nodes, edges };
        Ok(circuit.effects.get_or_init(|| effects).clone())
    }
}

/// Loss without a weight, which is put back.
fn without_edge(bench: &Bench<'_>, model: &mut Model, kept: &NodeSet, edge: &Edge) -> f64 {
    let set = |model: &mut Model, to: f32| {
        let (linear, row) = weights_of(model, edge.to);
        linear.weight.update(|w| w[[row, edge.from.index]] = to);
    };
    set(model, 0.0);
    let loss = bench.loss(model, kept);
    set(model, edge.weight);
    loss
}
