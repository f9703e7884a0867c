//! Two circuits beside each other.

use std::collections::BTreeSet;

use openwork_circuit::{CircuitFile, Node};
use serde::Serialize;

use crate::{View, ViewError};

/// Two circuits beside each other. Nodes of two models compare by their names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// True if both are of one model.
    pub same_model: bool,
    /// Nodes of both, of the first alone and of the second alone.
    pub nodes: Parts,
    /// Weights likewise, as `from → to`.
    pub edges: Parts,
}

/// Parts of two sets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parts {
    /// In both.
    pub both: Vec<String>,
    /// In the first alone.
    pub first: Vec<String>,
    /// In the second alone.
    pub second: Vec<String>,
    /// `|both| / |either|`; none where both sets are empty.
    pub jaccard: Option<f64>,
}

impl Parts {
    fn of<T: Ord>(a: &BTreeSet<T>, b: &BTreeSet<T>, name: impl Fn(&T) -> String) -> Self {
        let both: Vec<String> = a.intersection(b).map(&name).collect();
        let either = a.union(b).count();
        Self {
            jaccard: (either > 0).then(|| both.len() as f64 / either as f64),
            first: a.difference(b).map(&name).collect(),
            second: b.difference(a).map(&name).collect(),
            both,
        }
    }
}

impl View {
    /// Compares two circuits by their parts.
    ///
    /// # Errors
    /// When there is no such circuit.
    pub fn compare(&self, first: usize, second: usize) -> Result<Comparison, ViewError> {
        let ((a, model), (b, other)) = (self.circuit(first)?, self.circuit(second)?);
        let (a, b) = (a.file(), b.file());
        let nodes = |file: &CircuitFile| file.circuit.nodes().nodes().collect::<BTreeSet<Node>>();
        let edges = |file: &CircuitFile| {
            file.circuit.edges().iter().map(|e| (e.from, e.to)).collect::<BTreeSet<(Node, Node)>>()
        };
        Ok(Comparison {
            same_model: model.open.sha256 == other.open.sha256,
            nodes: Parts::of(&nodes(&a), &nodes(&b), ToString::to_string),
            edges: Parts::of(&edges(&a), &edges(&b), |(from, to)| format!("{from} → {to}")),
        })
    }
}
