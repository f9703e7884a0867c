//! Page of a node: label, worth, weights in and out, neighbours in the residual stream.

use openwork_circuit::{Label, Node, NodeSet, ResidualEdge, edges, residual_edges};
use openwork_model::SiteKind;
use openwork_project::Standing;
use serde::Serialize;

use crate::{
    View, ViewError,
    ask::graph::{head_of, kind_name},
    open::OpenedModel,
};

/// Page of a node.
#[derive(Clone, Debug, Serialize)]
pub struct NodePage {
    /// Printed name.
    pub name: String,
    /// Block.
    pub layer: usize,
    /// Short name of its site.
    pub kind: &'static str,
    /// Attention head.
    pub head: Option<usize>,
    /// Words on its site.
    pub site: &'static str,
    /// True if the circuit keeps it.
    pub in_circuit: bool,
    /// Label.
    pub label: Option<Label>,
    /// Names of the groups that it belongs to.
    pub groups: Vec<String>,
    /// Mean over training data, its ablation value.
    pub mean: Option<f32>,
    /// Rise of the loss of circuit and model without it, by the verdict.
    pub worth: Option<Worth>,
    /// Number that a link has: `weight`, or `effect` in a published circuit.
    pub links: &'static str,
    /// Nonzero weights into it, the largest first.
    pub inputs: Vec<Link>,
    /// Nonzero weights from it, the largest first.
    pub outputs: Vec<Link>,
    /// Kept nodes that share its channel of the residual stream: writes that it reads, or reads of what it writes.
    pub channel: Vec<Neighbour>,
}

/// Worth of a node, by the verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Worth {
    /// Rise of the circuit's loss without it, nats, with its 95 % interval.
    pub in_circuit: [f64; 3],
    /// Rise of the model's loss without it, nats.
    pub in_model: f64,
    /// Correlation of its values in circuit and model.
    pub role: Option<f64>,
}

/// A weight between the node and another.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    /// The other node.
    pub node: String,
    /// Its label.
    pub label: Option<String>,
    /// The weight, or the change of the loss without the edge, nats per sequence.
    pub weight: f32,
    /// True if it is an edge of the circuit.
    pub in_circuit: bool,
}

/// A node on the same channel of the residual stream.
#[derive(Clone, Debug, Serialize)]
pub struct Neighbour {
    /// The node.
    pub node: String,
    /// Its label.
    pub label: Option<String>,
    /// True if it writes what the node reads.
    pub writes: bool,
}

/// Words on a site.
pub(crate) fn words(kind: SiteKind) -> &'static str {
    match kind {
        SiteKind::AttnRead => "Channel of the residual stream that attention reads, after the norm.",
        SiteKind::Query => "Query channel: it is multiplied with the key of the same channel at earlier tokens.",
        SiteKind::Key => "Key channel: it is multiplied with the query of the same channel at later tokens.",
        SiteKind::Value => "Value channel: its average over the tokens that are attended to is written.",
        SiteKind::AttnWrite => "Channel of the residual stream that attention adds to.",
        SiteKind::MlpRead => "Channel of the residual stream that the MLP reads, after the norm.",
        SiteKind::Neuron => "Neuron of the MLP, after its nonlinearity.",
        _ => "Channel of the residual stream that the MLP adds to.",
    }
}

/// All nodes at the sites of a node and of those beside it in its block.
fn near(opened: &OpenedModel, node: Node) -> NodeSet {
    let ranges = opened.space.sites().iter().filter(|(site, _)| site.layer == node.site.layer);
    NodeSet::of(opened.space.clone(), ranges.flat_map(|(_, range)| range.clone()))
}

impl View {
    /// The page of a node of a circuit's model.
    ///
    /// # Errors
    /// When there is no such circuit, or the model has no such node.
    pub fn node(&self, number: usize, name: &str) -> Result<NodePage, ViewError> {
        let (circuit, opened) = self.circuit(number)?;
        let node = opened.parse_node(name)?;
        let file = circuit.file();
        let own = &file.circuit;
        let label = |node: Node| own.labels().get(&node).map(|label| label.name.clone());
        let kept = |from: Node, to: Node| own.edges().iter().any(|e| (e.from, e.to) == (from, to));
        let (mut inputs, mut outputs) = (vec![], vec![]);
        for edge in edges(&opened.open.model, &near(opened, node)) {
            let (list, other) = match (edge.to == node, edge.from == node) {
                (true, _) => (&mut inputs, edge.from),
                (_, true) => (&mut outputs, edge.to),
                _ => continue,
            };
            let in_circuit = kept(edge.from, edge.to);
            list.push(Link { node: other.to_string(), label: label(other), weight: edge.weight, in_circuit });
        }
        for list in [&mut inputs, &mut outputs] {
            list.sort_by(|a, b| b.in_circuit.cmp(&a.in_circuit).then(b.weight.abs().total_cmp(&a.weight.abs())));
        }
        let worth = match &circuit.standing {
            Ok(Standing::Judged(verdict)) => verdict.report.findings.nodes.iter().find(|worth| worth.node == name),
            _ => None,
        };
        let channel = residual_edges(own.nodes()).into_iter().filter_map(|ResidualEdge { from, to }| {
            let (other, writes) = match (to == node, from == node) {
                (true, _) => (from, true),
                (_, true) => (to, false),
                _ => return None,
            };
            Some(Neighbour { node: other.to_string(), label: label(other), writes })
        });
        Ok(NodePage {
            name: node.to_string(),
            layer: node.site.layer,
            kind: kind_name(node.site.kind),
            head: head_of(node, opened.open.model.config.d_head),
            site: words(node.site.kind),
            in_circuit: own.nodes().contains(node),
            label: own.labels().get(&node).cloned(),
            groups: own.groups().iter().filter(|g| g.nodes.contains(&node)).map(|g| g.name.clone()).collect(),
            mean: opened.means.as_ref().map(|means| means.values()[opened.space.number(node).expect("it was found")]),
            worth: worth.map(|worth| Worth {
                in_circuit: [worth.in_circuit.mean, worth.in_circuit.ci95.0, worth.in_circuit.ci95.1],
                in_model: worth.in_model,
                role: worth.role,
            }),
            links: "weight",
            inputs,
            outputs,
            channel: channel.collect(),
        })
    }
}
