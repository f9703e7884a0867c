//! The circuit: kept nodes, kept edges, groups and labels.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use openwork_model::Model;
use serde::{Deserialize, Serialize};

use crate::{Edge, Group, Node, NodeSet, ResidualEdge, edges, edges::cut, residual_edges};

/// A circuit of a model: found by a search or written by hand, judged, drawn and kept in a file.
///
/// Every edge joins two kept nodes. By default a circuit has all edges that its nodes allow: every nonzero weight between
/// two kept nodes ([`edges`]) and every channel of the residual stream from a kept write to a later kept read
/// ([`residual_edges`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Circuit {
    nodes: NodeSet,
    edges: Vec<Edge>,
    residual_edges: Vec<ResidualEdge>,
    groups: Vec<Group>,
    labels: BTreeMap<Node, Label>,
}

/// A name that a person gave to a node, with an optional note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The name, such as `opening quote`.
    pub name: String,
    /// A longer explanation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Size of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Kept nodes.
    pub nodes: usize,
    /// Kept nonzero weights; residual edges do not count (Gao et al. 2025, §2.2).
    pub edges: usize,
    /// Groups with a kept node, and kept nodes of no group.
    pub units: usize,
}

/// Errors of edges, groups and labels that do not belong to a circuit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// An end of an edge is not kept.
    #[error("edge {from} -> {to}: node {missing} is not in the circuit")]
    EndNotKept {
        /// Start of the edge.
        from: Node,
        /// End of the edge.
        to: Node,
        /// The end that is not kept.
        missing: Node,
    },
    /// The model has no nonzero weight from the one node to the other.
    #[error("edge {from} -> {to}: the model has no nonzero weight there")]
    NoWeight {
        /// Start of the edge.
        from: Node,
        /// End of the edge.
        to: Node,
    },
    /// The one node does not write a channel of the residual stream that the other reads later.
    #[error("residual edge {from} -> {to}: an edge goes from a write to a later read of the same channel")]
    NoChannel {
        /// Start of the edge.
        from: Node,
        /// End of the edge.
        to: Node,
    },
    /// An edge is listed twice.
    #[error("edge {from} -> {to} is listed twice")]
    Twice {
        /// Start of the edge.
        from: Node,
        /// End of the edge.
        to: Node,
    },
    /// Two groups have one name.
    #[error("two groups are called {name:?}")]
    GroupTwice {
        /// The name.
        name: String,
    },
    /// No node of a group is kept.
    #[error("group {name:?} has no node in the circuit")]
    GroupEmpty {
        /// The name.
        name: String,
    },
    /// A label is for a node that is not kept.
    #[error("the label {name:?} is for node {node}, which is not in the circuit")]
    LabelNotKept {
        /// The node.
        node: Node,
        /// Name in the label.
        name: String,
    },
}

impl MemberError {
    /// The edge that is wrong; none of a group or a label.
    pub fn edge(&self) -> Option<(Node, Node)> {
        match *self {
            Self::EndNotKept { from, to, .. }
            | Self::NoWeight { from, to }
            | Self::NoChannel { from, to }
            | Self::Twice { from, to } => Some((from, to)),
            Self::GroupTwice { .. } | Self::GroupEmpty { .. } | Self::LabelNotKept { .. } => None,
        }
    }
}

/// Error of [`Circuit::masked`]: a residual edge cannot be ablated by weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the circuit leaves out the residual edge {from} -> {to}, and no weight of the model belongs to that edge alone: \
     ablate the write or the read instead"
)]
pub struct ResidualMaskError {
    /// The write.
    pub from: Node,
    /// The read.
    pub to: Node,
}

impl Circuit {
    /// The circuit of `nodes` with all edges that they allow in `model`, without groups and labels.
    pub fn new(model: &Model, nodes: NodeSet) -> Self {
        let (edges, residual_edges) = (edges(model, &nodes), residual_edges(&nodes));
        Self { nodes, edges, residual_edges, groups: vec![], labels: BTreeMap::new() }
    }

    /// The same circuit with only these weights as edges, given as pairs `(from, to)`.
    ///
    /// # Errors
    /// When an end is not kept, the model has no nonzero weight there, or an edge is listed twice.
    pub fn with_edges(mut self, model: &Model, pairs: &[(Node, Node)]) -> Result<Self, MemberError> {
        let wanted = self.ends(pairs)?;
        self.edges = edges(model, &self.nodes);
        let there: HashSet<(Node, Node)> = self.edges.iter().map(|e| (e.from, e.to)).collect();
        if let Some(&(from, to)) = pairs.iter().find(|pair| !there.contains(pair)) {
            return Err(MemberError::NoWeight { from, to });
        }
        self.edges.retain(|e| wanted.contains(&(e.from, e.to)));
        Ok(self)
    }

    /// The same circuit with only these residual edges, given as pairs `(write, read)`.
    ///
    /// # Errors
    /// When an end is not kept, the pair is not a write and a later read of its channel, or an edge is listed twice.
    pub fn with_residual_edges(mut self, pairs: &[(Node, Node)]) -> Result<Self, MemberError> {
        let wanted = self.ends(pairs)?;
        self.residual_edges = residual_edges(&self.nodes);
        let there: HashSet<(Node, Node)> = self.residual_edges.iter().map(|e| (e.from, e.to)).collect();
        if let Some(&(from, to)) = pairs.iter().find(|pair| !there.contains(pair)) {
            return Err(MemberError::NoChannel { from, to });
        }
        self.residual_edges.retain(|e| wanted.contains(&(e.from, e.to)));
        Ok(self)
    }

    /// The pairs as a set, if both ends of each are kept and none is there twice.
    fn ends(&self, pairs: &[(Node, Node)]) -> Result<HashSet<(Node, Node)>, MemberError> {
        let mut set = HashSet::new();
        for &(from, to) in pairs {
            if let Some(missing) = [from, to].into_iter().find(|&node| !self.nodes.contains(node)) {
                return Err(MemberError::EndNotKept { from, to, missing });
            }
            if !set.insert((from, to)) {
                return Err(MemberError::Twice { from, to });
            }
        }
        Ok(set)
    }

    /// The same circuit with these groups in place of its own.
    ///
    /// # Errors
    /// When two groups have one name, or none of a group's nodes is kept.
    pub fn with_groups(self, mut groups: Vec<Group>) -> Result<Self, MemberError> {
        for group in &mut groups {
            group.nodes.sort_unstable();
            group.nodes.dedup();
        }
        for (i, group) in groups.iter().enumerate() {
            let name = || group.name.clone();
            if groups[..i].iter().any(|other| other.name == group.name) {
                return Err(MemberError::GroupTwice { name: name() });
            }
            if !group.nodes.iter().any(|&node| self.nodes.contains(node)) {
                return Err(MemberError::GroupEmpty { name: name() });
            }
        }
        Ok(Self { groups, ..self })
    }

    /// The same circuit with these labels of nodes in place of its own.
    ///
    /// # Errors
    /// When a labelled node is not kept.
    pub fn with_labels(self, labels: BTreeMap<Node, Label>) -> Result<Self, MemberError> {
        if let Some((&node, label)) = labels.iter().find(|(node, _)| !self.nodes.contains(**node)) {
            return Err(MemberError::LabelNotKept { node, name: label.name.clone() });
        }
        Ok(Self { labels, ..self })
    }

    /// The same circuit with the groups and labels of `other`, as far as their nodes are kept here.
    pub fn annotated_as(self, other: &Self) -> Self {
        let kept = |node: &Node| self.nodes.contains(*node);
        let groups = other.groups.iter().filter(|g| g.nodes.iter().any(kept)).cloned().collect();
        let labels = other.labels.iter().filter(|(node, _)| kept(node)).map(|(n, l)| (*n, l.clone())).collect();
        Self { groups, labels, ..self }
    }

    /// Kept nodes.
    pub fn nodes(&self) -> &NodeSet {
        &self.nodes
    }

    /// Kept nonzero weights, block after block.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Kept channels of the residual stream, by write.
    pub fn residual_edges(&self) -> &[ResidualEdge] {
        &self.residual_edges
    }

    /// True if the circuit has all edges that its nodes allow in `model`.
    pub fn has_all_edges(&self, model: &Model) -> bool {
        self.edges.len() == edges(model, &self.nodes).len()
            && self.residual_edges.len() == residual_edges(&self.nodes).len()
    }

    /// Named sets of nodes.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Labels of nodes.
    pub fn labels(&self) -> &BTreeMap<Node, Label> {
        &self.labels
    }

    /// Hash of the circuit by content, in lower-case hexadecimal: SHA-256 of its nodes, weights and residual edges, a line
    /// each, by their printed names. Labels and groups are no part of it.
    pub fn sha256(&self) -> String {
        let nodes = self.nodes.nodes().map(|node| format!("node {node}\n"));
        let edges = self.edges.iter().map(|e| format!("edge {} {} {:08x}\n", e.from, e.to, e.weight.to_bits()));
        let residual = self.residual_edges.iter().map(|e| format!("residual {} {}\n", e.from, e.to));
        openwork_tensor::sha256_bytes(nodes.chain(edges).chain(residual).collect::<String>().as_bytes())
    }

    /// Printed name of a node with its label, such as `0.mlp.post_act[3] (opening quote)`.
    pub fn describe(&self, node: Node) -> String {
        match self.labels.get(&node) {
            Some(label) => format!("{node} ({})", label.name),
            None => node.to_string(),
        }
    }

    /// [`Circuit::describe`] of the node with a printed name; a text that names no node stays as it is.
    pub fn describe_name(&self, name: &str) -> String {
        name.parse().map_or_else(|_| name.to_owned(), |node| self.describe(node))
    }

    /// Number of nodes, edges and units; a group counts as one unit however many of its nodes are kept.
    pub fn size(&self) -> Size {
        let kept = |group: &Group| group.nodes.iter().any(|&node| self.nodes.contains(node));
        let in_group = |node: &Node| self.groups.iter().any(|group| group.nodes.contains(node));
        let groups = self.groups.iter().filter(|group| kept(group)).count();
        let alone = self.nodes.nodes().filter(|node| !in_group(node)).count();
        Size { nodes: self.nodes.len(), edges: self.edges.len(), units: groups + alone }
    }

    /// The model with the circuit's missing edges ablated: a weight between two kept nodes that is not one of
    /// [`Circuit::edges`] is zero. Every other weight is as it was, those of ablated nodes too, since an ablation value
    /// passes through them. A circuit with all edges gives `model` itself, and its run under
    /// [`Keep`](crate::Keep) the same bits.
    ///
    /// # Errors
    /// When a residual edge is missing. All writers of a channel share it, and the readers' weights read their sum, so
    /// that no change of weights ablates one of these edges alone.
    ///
    /// # Panics
    /// When `model` has other nodes than the circuit's.
    pub fn masked<'m>(&self, model: &'m Model) -> Result<Cow<'m, Model>, ResidualMaskError> {
        self.check_residual_edges()?;
        let missing = self.missing_edges(model);
        Ok(if missing.is_empty() { Cow::Borrowed(model) } else { Cow::Owned(cut(model, &missing)) })
    }

    /// Fails unless the circuit has all residual edges that its nodes allow.
    ///
    /// # Errors
    /// As [`Circuit::masked`].
    pub fn check_residual_edges(&self) -> Result<(), ResidualMaskError> {
        let kept: HashSet<ResidualEdge> = self.residual_edges.iter().copied().collect();
        match residual_edges(&self.nodes).into_iter().find(|e| !kept.contains(e)) {
            Some(e) => Err(ResidualMaskError { from: e.from, to: e.to }),
            None => Ok(()),
        }
    }

    /// Nonzero weights of `model` between kept nodes that are no edges of the circuit, block after block.
    ///
    /// # Panics
    /// When `model` has other nodes than the circuit's.
    pub fn missing_edges(&self, model: &Model) -> Vec<Edge> {
        let kept: HashSet<(Node, Node)> = self.edges.iter().map(|e| (e.from, e.to)).collect();
        let mut missing = edges(model, &self.nodes);
        missing.retain(|e| !kept.contains(&(e.from, e.to)));
        missing
    }
}

#[cfg(test)]
mod tests;
