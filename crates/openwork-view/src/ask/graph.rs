//! Graph of a circuit: nodes in rows of sites, weights, channels of the residual stream, and query-key pairs.

use std::collections::BTreeMap;

use openwork_circuit::{CircuitFile, Node};
use openwork_model::{Model, Record, SiteKind, Tokens};
use openwork_project::{Standing, find_task};
use openwork_tasks::{Pair, Split};
use serde::Serialize;

use crate::{
    View, ViewError,
    open::{OpenedCircuit, OpenedModel},
};

/// Pairs of the task over which values are averaged.
pub(crate) const PAIRS: usize = 16;

/// Graph of a circuit.
#[derive(Clone, Debug, Serialize)]
pub struct Graph {
    /// Name of the circuit.
    pub name: String,
    /// Its rows from the tokens up.
    pub rows: Vec<Row>,
    /// Its nodes, in the order of the forward pass.
    pub nodes: Vec<GraphNode>,
    /// Its edges, by kind.
    pub edges: Vec<GraphEdge>,
    /// Groups of nodes.
    pub groups: Vec<GraphGroup>,
    /// Words on the averages behind `carried`; none where they could not be taken.
    pub carried_over: Option<String>,
}

/// A row of nodes: sites that stand side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Block.
    pub layer: usize,
    /// Name.
    pub name: &'static str,
}

/// A node of the graph.
#[derive(Clone, Debug, Serialize)]
pub struct GraphNode {
    /// Printed name.
    pub name: String,
    /// Number of its row.
    pub row: usize,
    /// Short name of its site: `read`, `q`, `k`, `v`, `write` or `neuron`.
    pub kind: &'static str,
    /// Attention head, of queries, keys and values.
    pub head: Option<usize>,
    /// Feature.
    pub index: usize,
    /// Label.
    pub label: Option<String>,
    /// Note of the label.
    pub note: Option<String>,
    /// Rise of the circuit's loss without it, nats, with its 95 % interval, by the verdict.
    pub worth: Option<[f64; 3]>,
    /// Mean magnitude of its value over the task's tokens.
    pub mean_magnitude: Option<f64>,
}

/// Kind of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// A weight.
    Weight,
    /// A channel of the residual stream.
    Residual,
    /// A query and the key of the same channel, whose product is part of a score.
    Attention,
}

/// An edge of the graph.
#[derive(Clone, Debug, Serialize)]
pub struct GraphEdge {
    /// Number of the node that it begins at.
    pub from: usize,
    /// Number of the node that it ends at.
    pub to: usize,
    /// Its kind.
    pub kind: EdgeKind,
    /// The weight.
    pub weight: Option<f32>,
    /// Mean of `|weight · value|` over the task's tokens, in units of the node that it ends at; of a channel, of the value written.
    pub carried: Option<f64>,
}

/// A group of nodes.
#[derive(Clone, Debug, Serialize)]
pub struct GraphGroup {
    /// Name.
    pub name: String,
    /// Note.
    pub note: Option<String>,
    /// Printed names of its nodes.
    pub nodes: Vec<String>,
}

/// Rows of a block, from its inputs on.
pub(crate) const ROWS: [&str; 6] =
    ["attention reads", "queries, keys, values", "attention writes", "MLP reads", "neurons", "MLP writes"];

pub(crate) fn row_in_block(kind: SiteKind) -> usize {
    match kind {
        SiteKind::AttnRead => 0,
        SiteKind::Query | SiteKind::Key | SiteKind::Value => 1,
        SiteKind::AttnWrite => 2,
        SiteKind::MlpRead => 3,
        SiteKind::Neuron => 4,
        _ => 5,
    }
}

/// Short name of a site of nodes.
pub(crate) fn kind_name(kind: SiteKind) -> &'static str {
    match kind {
        SiteKind::AttnRead | SiteKind::MlpRead => "read",
        SiteKind::Query => "q",
        SiteKind::Key => "k",
        SiteKind::Value => "v",
        SiteKind::Neuron => "neuron",
        _ => "write",
    }
}

/// Attention head of a node.
pub(crate) fn head_of(node: Node, d_head: usize) -> Option<usize> {
    matches!(node.site.kind, SiteKind::Query | SiteKind::Key | SiteKind::Value).then(|| node.index / d_head)
}

impl View {
    /// The graph of a circuit.
    ///
    /// # Errors
    /// When there is no such circuit.
    pub fn graph(&self, number: usize) -> Result<Graph, ViewError> {
        let (circuit, opened) = self.circuit(number)?;
        let file = circuit.file();
        let nodes: Vec<Node> = file.circuit.nodes().nodes().collect();
        let number_of: BTreeMap<Node, usize> = nodes.iter().enumerate().map(|(i, &node)| (node, i)).collect();
        let magnitudes = pairs_of(&file, opened, PAIRS).map(|pairs| Magnitudes::new(&opened.open.model, &pairs)).ok();
        let rows_of = |node: &Node| node.site.layer * ROWS.len() + row_in_block(node.site.kind);
        let mut rows: Vec<usize> = nodes.iter().map(rows_of).collect();
        rows.sort_unstable();
        rows.dedup();
        let worth = worths(circuit);
        let node = |node: &Node| {
            let label = file.circuit.labels().get(node);
            GraphNode {
                name: node.to_string(),
                row: rows.binary_search(&rows_of(node)).expect("every node has a row"),
                kind: kind_name(node.site.kind),
                head: head_of(*node, opened.open.model.config.d_head),
                index: node.index,
                label: label.map(|label| label.name.clone()),
                note: label.and_then(|label| label.note.clone()),
                worth: worth.get(&node.to_string()).copied(),
                mean_magnitude: magnitudes.as_ref().map(|m| m.of(*node)),
            }
        };
        let group = |group: &openwork_circuit::Group| GraphGroup {
            name: group.name.clone(),
            note: group.note.clone(),
            nodes: group.nodes.iter().map(ToString::to_string).collect(),
        };
        Ok(Graph {
            name: circuit.name.clone(),
            nodes: nodes.iter().map(node).collect(),
            edges: edges(&file, &number_of, magnitudes.as_ref()),
            groups: file.circuit.groups().iter().map(group).collect(),
            carried_over: magnitudes
                .map(|m| format!("{} tokens of {PAIRS} pairs of {}, in the whole model", m.tokens, file.task)),
            rows: rows.iter().map(|row| Row { layer: row / ROWS.len(), name: ROWS[row % ROWS.len()] }).collect(),
        })
    }
}

fn edges(file: &CircuitFile, number: &BTreeMap<Node, usize>, magnitudes: Option<&Magnitudes>) -> Vec<GraphEdge> {
    let weight = |edge: &openwork_circuit::Edge| GraphEdge {
        from: number[&edge.from],
        to: number[&edge.to],
        kind: EdgeKind::Weight,
        weight: Some(edge.weight),
        carried: magnitudes.map(|m| f64::from(edge.weight.abs()) * m.of(edge.from)),
    };
    let residual = |edge: &openwork_circuit::ResidualEdge| GraphEdge {
        from: number[&edge.from],
        to: number[&edge.to],
        kind: EdgeKind::Residual,
        weight: None,
        carried: magnitudes.map(|m| m.of(edge.from)),
    };
    let key_of = |node: &Node| match node.site.kind {
        SiteKind::Query => {
            let site = openwork_model::Site { kind: SiteKind::Key, ..node.site };
            number.get(&Node { site, ..*node })
        }
        _ => None,
    };
    let attention = number.iter().filter_map(|(node, &to)| Some((to, *key_of(node)?)));
    let attention =
        attention.map(|(to, from)| GraphEdge { from, to, kind: EdgeKind::Attention, weight: None, carried: None });
    let (weights, channels) = (file.circuit.edges(), file.circuit.residual_edges());
    weights.iter().map(weight).chain(channels.iter().map(residual)).chain(attention).collect()
}

/// Worth of every node by the verdict: mean and interval, nats.
fn worths(circuit: &OpenedCircuit) -> BTreeMap<String, [f64; 3]> {
    let Ok(Standing::Judged(verdict)) = &circuit.standing else { return BTreeMap::new() };
    let of = |worth: &openwork_verify::NodeWorth| {
        let estimate = worth.in_circuit;
        (worth.node.clone(), [estimate.mean, estimate.ci95.0, estimate.ci95.1])
    };
    verdict.report.findings.nodes.iter().map(of).collect()
}

/// Pairs of a circuit's task that the circuit was not fitted on: those that it was selected among.
pub(crate) fn pairs_of(file: &CircuitFile, opened: &OpenedModel, count: usize) -> Result<Vec<Pair>, ViewError> {
    let task = find_task(&file.task)?;
    let encode = |text: &str| opened.tokenizer.encode(text);
    let pairs = task.pairs(&encode, Split::Validation, count, file.seed);
    let named = |source| openwork_project::ProjectError::Pairs { task: file.task.clone(), source };
    let mut pairs = pairs.map_err(named)?;
    let n_ctx = opened.open.model.config.n_ctx;
    pairs.retain(|pair| pair.prompts().iter().all(|prompt| prompt.len() <= n_ctx));
    Ok(pairs)
}

/// Mean magnitude of every node over the tokens of some pairs, each prompt a run of its own.
struct Magnitudes {
    sums: BTreeMap<openwork_model::Site, Vec<f64>>,
    tokens: usize,
}

impl Magnitudes {
    fn new(model: &Model, pairs: &[Pair]) -> Self {
        let mut all = Self { sums: BTreeMap::new(), tokens: 0 };
        for prompt in pairs.iter().flat_map(|pair| pair.prompts()) {
            let mut record = Record::of_kinds(&openwork_circuit::NodeSpace::KINDS);
            model.forward(Tokens::new(prompt, prompt.len()), Some(&[prompt.len() - 1]), &mut record);
            all.tokens += prompt.len();
            for site in model.config.sites() {
                let Some(values) = record.at(site) else { continue };
                let sums = all.sums.entry(site).or_insert_with(|| vec![0.0; values.nrows()]);
                for (sum, row) in sums.iter_mut().zip(values.rows()) {
                    *sum += row.iter().map(|x| f64::from(x.abs())).sum::<f64>();
                }
            }
        }
        all
    }

    /// Mean of `|x|` over tokens.
    fn of(&self, node: Node) -> f64 {
        self.sums.get(&node.site).map_or(0.0, |sums| sums[node.index] / self.tokens.max(1) as f64)
    }
}
