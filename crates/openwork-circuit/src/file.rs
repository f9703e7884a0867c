//! The circuit file: JSON that names what was kept, of which model, for which task, found how.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use openwork_model::{Model, SiteError};
use serde::{Deserialize, Serialize};

use crate::{Calibration, Node, NodeSet, NodeSpace, edges};

const FORMAT: &str = "openwork-circuit 1";

/// A circuit with its provenance.
#[derive(Clone, Debug)]
pub struct CircuitFile {
    /// Task the circuit is for.
    pub task: String,
    /// SHA-256 of the model file.
    pub model_sha256: String,
    /// SHA-256 of the means it was found with.
    pub means_sha256: String,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// Kept nodes.
    pub nodes: NodeSet,
    /// Calibration fitted with the circuit.
    pub calibration: Calibration,
    /// Loss asked for, in nats per sequence.
    pub target_loss: f64,
    /// Loss reached on the pairs it was selected on.
    pub loss: f64,
    /// Seed of the search.
    pub seed: u64,
    /// Settings of the search, by name.
    pub settings: BTreeMap<String, f64>,
}

/// Why a circuit file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CircuitError {
    /// It cannot be read or written.
    #[error("cannot access {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not a circuit file; the message shows where.
    #[error("{} is not a circuit file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It belongs to another model.
    #[error("{} is a circuit of model {found}, this is model {expected}", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// Hash in the file.
        found: String,
        /// Hash of the model at hand.
        expected: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    format: String,
    task: String,
    model_sha256: String,
    means_sha256: String,
    tokenizer_sha256: String,
    target_loss_nats: f64,
    loss_nats: f64,
    calibration: Calibration,
    seed: u64,
    settings: BTreeMap<String, f64>,
    /// Indices of kept features by site.
    nodes: BTreeMap<String, Vec<usize>>,
    edges: Vec<JsonEdge>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct JsonEdge {
    from: String,
    to: String,
    weight: f32,
}

impl CircuitFile {
    /// Writes the file, atomically. Edges are written for readers; they follow from nodes and `model`.
    pub fn save(&self, path: &Path, model: &Model) -> Result<(), CircuitError> {
        let mut nodes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for node in self.nodes.nodes() {
            nodes.entry(node.site.to_string()).or_default().push(node.index);
        }
        let json = Json {
            format: FORMAT.into(),
            task: self.task.clone(),
            model_sha256: self.model_sha256.clone(),
            means_sha256: self.means_sha256.clone(),
            tokenizer_sha256: self.tokenizer_sha256.clone(),
            target_loss_nats: self.target_loss,
            loss_nats: self.loss,
            calibration: self.calibration,
            seed: self.seed,
            settings: self.settings.clone(),
            nodes,
            edges: json_edges(model, &self.nodes),
        };
        let text = serde_json::to_string_pretty(&json).expect("plain values");
        openwork_tensor::write_atomic(path, |w| writeln!(w, "{text}"))
            .map_err(|source| CircuitError::Io { path: path.into(), source })
    }

    /// Reads a circuit of `model`, whose file has the hash `model_sha256`. Its edges must be the model's.
    pub fn load(path: &Path, model: &Model, model_sha256: &str) -> Result<Self, CircuitError> {
        let text = std::fs::read_to_string(path).map_err(|source| CircuitError::Io { path: path.into(), source })?;
        let wrong = |reason: String| CircuitError::Format { path: path.into(), reason };
        let json: Json = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if json.format != FORMAT {
            return Err(wrong(format!("its format is {:?}, expected {FORMAT:?}", json.format)));
        }
        if json.model_sha256 != model_sha256 {
            let (found, expected) = (json.model_sha256, model_sha256.to_owned());
            return Err(CircuitError::OtherModel { path: path.into(), found, expected });
        }
        let space = NodeSpace::new(&model.config);
        let mut numbers = Vec::new();
        for (site, indices) in &json.nodes {
            let site = site.parse().map_err(|e: SiteError| wrong(e.to_string()))?;
            for &index in indices {
                let node = Node { site, index };
                numbers.push(space.number(node).ok_or_else(|| wrong(format!("the model has no node {node}")))?);
            }
        }
        let nodes = NodeSet::of(space, numbers);
        if json_edges(model, &nodes) != json.edges {
            return Err(wrong("its edges are not the model's weights between its nodes".into()));
        }
        if ![json.calibration.scale, json.calibration.shift, json.target_loss_nats].iter().all(|x| x.is_finite()) {
            return Err(wrong("its calibration or target is not finite".into()));
        }
        Ok(Self {
            task: json.task,
            model_sha256: json.model_sha256,
            means_sha256: json.means_sha256,
            tokenizer_sha256: json.tokenizer_sha256,
            nodes,
            calibration: json.calibration,
            target_loss: json.target_loss_nats,
            loss: json.loss_nats,
            seed: json.seed,
            settings: json.settings,
        })
    }
}

fn json_edges(model: &Model, nodes: &NodeSet) -> Vec<JsonEdge> {
    let edge = |e: crate::Edge| JsonEdge { from: e.from.to_string(), to: e.to.to_string(), weight: e.weight };
    edges(model, nodes).into_iter().map(edge).collect()
}

#[cfg(test)]
mod tests {
    use openwork_model::Config;

    use super::*;

    #[test]
    fn round_trip_and_tampering() {
        let model = Model::init(Config { vocab_size: 8, n_layer: 1, ..Config::default() }, 1);
        let space = NodeSpace::new(&model.config);
        let circuit = CircuitFile {
            task: "for_while".into(),
            model_sha256: "m".into(),
            means_sha256: "a".into(),
            tokenizer_sha256: "t".into(),
            nodes: NodeSet::of(space.clone(), [1, 70, 90, 140, 200, 300, 340, 600]),
            calibration: Calibration { scale: 1.5, shift: -0.1 },
            target_loss: 0.15,
            loss: 0.1,
            seed: 7,
            settings: BTreeMap::from([("lr".to_owned(), 0.01)]),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("circuit.json");
        circuit.save(&path, &model).unwrap();
        let read = CircuitFile::load(&path, &model, "m").unwrap();
        assert_eq!((&read.nodes, read.calibration, read.seed), (&circuit.nodes, circuit.calibration, 7));

        let text = std::fs::read_to_string(&path).unwrap();
        let error = |from: &str, to: &str| {
            assert!(text.contains(from), "{from} in {text}");
            std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
            CircuitFile::load(&path, &model, "m").err().unwrap().to_string()
        };
        let sign = if text.contains("\"weight\": -") { ("-", "") } else { ("", "-") };
        let weight = |sign: &str| format!("\"weight\": {sign}");
        assert!(error(&weight(sign.0), &weight(sign.1)).contains("edges are not"));
        assert!(
            error("0.attn.act_in\": [\n      1", "0.attn.act_in\": [\n      99").contains("no node 0.attn.act_in[99]")
        );
        assert!(error("\"seed\"", "\"sed\"").contains("unknown field `sed`"));
        assert!(error("\"m\"", "\"n\"").contains("circuit of model n, this is model m"));
    }
}
