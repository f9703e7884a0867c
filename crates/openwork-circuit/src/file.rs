//! The circuit file: JSON with a circuit, its model, its task and the search that found it.

use std::{
    collections::{BTreeMap, HashSet},
    io::Write,
    path::{Path, PathBuf},
};

use openwork_model::Model;
use serde::{Deserialize, Serialize};

use crate::{
    Calibration, Circuit, Claim, Group, Label, MemberError, NoNode, Node, NodeError, NodeSet, NodeSpace, SearchSettings,
};

const FORMAT: &str = "openwork-circuit 2";
/// Largest scale and shift of a calibration, in magnitude: far beyond what is searched for, and far from what overflows.
const MOST_CALIBRATION: f64 = 1e6;

/// A circuit with its provenance.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitFile {
    /// Task the circuit is for.
    pub task: String,
    /// Hash of the model.
    pub model_sha256: String,
    /// Hash of the means it was found with.
    pub means_sha256: String,
    /// Hash of the tokenizer.
    pub tokenizer_sha256: String,
    /// The circuit.
    pub circuit: Circuit,
    /// Its claim. A file that names no claim claims the answer, so that none is read as the weaker one.
    pub claim: Claim,
    /// Calibration fitted with the circuit.
    pub calibration: Calibration,
    /// Target loss, in nats per sequence.
    pub target_loss: f64,
    /// Loss on the pairs that the circuit was selected on, in nats per sequence.
    pub loss: f64,
    /// Seed of the search and of the pairs.
    pub seed: u64,
    /// Method and settings of the search.
    pub search: SearchSettings,
}

/// Errors of circuit files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CircuitError {
    /// The file cannot be read or written.
    #[error("cannot access {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file has another format.
    #[error(
        "{} has format {found:?}, and this version reads {FORMAT:?}: {}",
        path.display(), advice(found, "openwork-circuit ", "find the circuit again with `openwork prune`", "name a circuit file")
    )]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Format in the file.
        found: String,
    },
    /// The file is not JSON of this format; the reason shows where.
    #[error("{} is not a circuit file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// A node name cannot be read.
    #[error("{}: {place} names no node", path.display())]
    NodeName {
        /// The file.
        path: PathBuf,
        /// Place in the file, such as `edges[3]`.
        place: String,
        /// The name.
        source: NodeError,
    },
    /// The model has no such node.
    #[error("{}: {place}: {source}", path.display())]
    NoNode {
        /// The file.
        path: PathBuf,
        /// Place in the file.
        place: String,
        /// The node.
        source: NoNode,
    },
    /// A node is listed twice.
    #[error("{}: nodes: {node} is listed twice", path.display())]
    NodeTwice {
        /// The file.
        path: PathBuf,
        /// The node.
        node: Node,
    },
    /// An edge, a group or a label does not belong to the circuit.
    #[error("{}: {place} does not belong to this circuit{}", path.display(), hint(place))]
    Member {
        /// The file.
        path: PathBuf,
        /// Place in the file.
        place: String,
        /// The edge, group or label.
        source: MemberError,
    },
    /// The model has another weight at an edge.
    #[error(
        "{}: {place}: edge {from} -> {to} has weight {found}, and the model's is {expected}; the weight may be left out",
        path.display()
    )]
    OtherWeight {
        /// The file.
        path: PathBuf,
        /// Place in the file.
        place: String,
        /// Start of the edge.
        from: Node,
        /// End of the edge.
        to: Node,
        /// Weight in the file.
        found: f32,
        /// Weight of the model.
        expected: f32,
    },
    /// The circuit belongs to another model.
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

/// Advice on a file of another format: of another version of ours, or of another kind.
fn advice(found: &str, own: &str, again: &'static str, other: &'static str) -> &'static str {
    if found.starts_with(own) { again } else { other }
}

/// Advice on a wrong edge.
fn hint(place: &str) -> &'static str {
    match place.contains("edges[") {
        true => "; without the list the circuit has all edges between its nodes",
        false => "",
    }
}

/// Format of a file, with any other fields.
#[derive(Deserialize)]
struct Format {
    format: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    format: String,
    task: String,
    model_sha256: String,
    means_sha256: String,
    tokenizer_sha256: String,
    #[serde(default)]
    claim: Claim,
    target_loss_nats: f64,
    loss_nats: f64,
    calibration: Calibration,
    seed: u64,
    search: SearchSettings,
    /// Indices of kept features by site.
    nodes: BTreeMap<String, Vec<usize>>,
    /// All weights between the nodes where absent.
    edges: Option<Vec<JsonEdge>>,
    /// All channels between the nodes where absent.
    residual_edges: Option<Vec<JsonResidualEdge>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<JsonGroup>,
    /// Labels by node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, Label>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonEdge {
    from: String,
    to: String,
    /// For readers; checked where it is there.
    weight: Option<f32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonResidualEdge {
    from: String,
    to: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonGroup {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    nodes: BTreeMap<String, Vec<usize>>,
}

impl Json {
    /// Reads the fields, and checks those that need no model.
    fn parse(text: &str) -> Result<Self, String> {
        let json: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if ![json.calibration.scale, json.calibration.shift, json.target_loss_nats].iter().all(|x| x.is_finite()) {
            return Err("its calibration or target is not finite".into());
        }
        if json.calibration.scale.abs().max(json.calibration.shift.abs()) > MOST_CALIBRATION {
            return Err(format!("its calibration is beyond ±{MOST_CALIBRATION:e}, which no logit difference needs"));
        }
        if json.target_loss_nats <= 0.0 || json.loss_nats < 0.0 {
            return Err("target_loss_nats must be above 0, and loss_nats at least 0".into());
        }
        if let Some(fault) = json.search.fault() {
            return Err(format!("its search cannot be: {fault}"));
        }
        Ok(json)
    }
}

impl CircuitFile {
    /// Writes the file, atomically.
    ///
    /// # Errors
    /// The file cannot be written, or holds what [`CircuitFile::load`] would refuse, such as a number that is not finite.
    pub fn save(&self, path: &Path) -> Result<(), CircuitError> {
        let text = serde_json::to_string_pretty(&self.json()).expect("plain values");
        Json::parse(&text).map_err(|reason| CircuitError::Format { path: path.into(), reason })?;
        openwork_tensor::write_atomic(path, |w| writeln!(w, "{text}"))
            .map_err(|source| CircuitError::Io { path: path.into(), source })
    }

    /// Reads a circuit of `model`, whose hash is `model_sha256`.
    ///
    /// # Errors
    /// When the file cannot be read, has another format, belongs to another model, or names a node, an edge, a group or
    /// a label that the model or the circuit does not have.
    pub fn load(path: &Path, model: &Model, model_sha256: &str) -> Result<Self, CircuitError> {
        let text = openwork_tensor::read_text(path).map_err(|source| CircuitError::Io { path: path.into(), source })?;
        let wrong = |reason: String| CircuitError::Format { path: path.into(), reason };
        // The format first: files of another one have other fields.
        let Format { format } = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if format != FORMAT {
            return Err(CircuitError::OtherFormat { path: path.into(), found: format });
        }
        let json = Json::parse(&text).map_err(wrong)?;
        if json.model_sha256 != model_sha256 {
            let (found, expected) = (json.model_sha256, model_sha256.to_owned());
            return Err(CircuitError::OtherModel { path: path.into(), found, expected });
        }
        let circuit = Reader { path, model, space: NodeSpace::new(&model.config) }.circuit(&json)?;
        Ok(Self {
            task: json.task,
            model_sha256: json.model_sha256,
            means_sha256: json.means_sha256,
            tokenizer_sha256: json.tokenizer_sha256,
            circuit,
            claim: json.claim,
            calibration: json.calibration,
            target_loss: json.target_loss_nats,
            loss: json.loss_nats,
            seed: json.seed,
            search: json.search,
        })
    }

    /// Hash of the claim that the file makes, in lower-case hexadecimal: SHA-256 of what a verdict on it depends on, a line each:
    /// task, calibration, target, seed and search, the tokenizer, and the circuit ([`Circuit::sha256`]); and that it claims the
    /// contrast, where it does. Labels and groups are no part of it.
    pub fn claim_sha256(&self) -> String {
        let Calibration { scale, shift } = self.calibration;
        let numbers = [scale, shift, self.target_loss].map(|x| format!("{:016x}", x.to_bits())).join(" ");
        let search = serde_json::to_string(&self.search).expect("plain values");
        // The answer is what every file claimed before there were two claims.
        let claim = match self.claim {
            Claim::Answer => "",
            Claim::Contrast => "claim contrast\n",
        };
        let text = format!(
            "task {}\nnumbers {numbers}\nseed {}\nsearch {search}\ntokenizer {}\ncircuit {}\n{claim}",
            self.task,
            self.seed,
            self.tokenizer_sha256,
            self.circuit.sha256()
        );
        openwork_tensor::sha256_bytes(text.as_bytes())
    }

    fn json(&self) -> Json {
        let circuit = &self.circuit;
        let ends = |from: Node, to: Node| (from.to_string(), to.to_string());
        let edge = |e: &crate::Edge| {
            let (from, to) = ends(e.from, e.to);
            JsonEdge { from, to, weight: Some(e.weight) }
        };
        let residual = |e: &crate::ResidualEdge| {
            let (from, to) = ends(e.from, e.to);
            JsonResidualEdge { from, to }
        };
        let group = |g: &Group| JsonGroup {
            name: g.name.clone(),
            note: g.note.clone(),
            nodes: by_site(g.nodes.iter().copied()),
        };
        Json {
            format: FORMAT.into(),
            task: self.task.clone(),
            model_sha256: self.model_sha256.clone(),
            means_sha256: self.means_sha256.clone(),
            tokenizer_sha256: self.tokenizer_sha256.clone(),
            claim: self.claim,
            target_loss_nats: self.target_loss,
            loss_nats: self.loss,
            calibration: self.calibration,
            seed: self.seed,
            search: self.search.clone(),
            nodes: by_site(circuit.nodes().nodes()),
            edges: Some(circuit.edges().iter().map(edge).collect()),
            residual_edges: Some(circuit.residual_edges().iter().map(residual).collect()),
            groups: circuit.groups().iter().map(group).collect(),
            labels: circuit.labels().iter().map(|(node, label)| (node.to_string(), label.clone())).collect(),
        }
    }
}

/// Indices of nodes by the name of their site.
fn by_site(nodes: impl Iterator<Item = Node>) -> BTreeMap<String, Vec<usize>> {
    let mut sites: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    nodes.for_each(|node| sites.entry(node.site.to_string()).or_default().push(node.index));
    sites
}

/// Turns names in a file into nodes of a model.
struct Reader<'a> {
    path: &'a Path,
    model: &'a Model,
    space: NodeSpace,
}

impl Reader<'_> {
    fn circuit(&self, json: &Json) -> Result<Circuit, CircuitError> {
        let nodes = self.nodes("nodes", &json.nodes)?;
        let mut seen = HashSet::new();
        if let Some(&node) = nodes.iter().find(|node| !seen.insert(**node)) {
            return Err(CircuitError::NodeTwice { path: self.path.into(), node });
        }
        let numbers = nodes.into_iter().map(|n| self.space.number(n).expect("it was checked"));
        let mut circuit = Circuit::new(self.model, NodeSet::of(self.space.clone(), numbers));
        if let Some(edges) = &json.edges {
            let ends = self.ends("edges", edges.iter().map(|e| (&e.from, &e.to)))?;
            circuit = circuit.with_edges(self.model, &ends).map_err(|e| self.wrong_edge("edges", &ends, e))?;
            self.check_weights(&circuit, edges, &ends)?;
        }
        if let Some(edges) = &json.residual_edges {
            let ends = self.ends("residual_edges", edges.iter().map(|e| (&e.from, &e.to)))?;
            circuit = circuit.with_residual_edges(&ends).map_err(|e| self.wrong_edge("residual_edges", &ends, e))?;
        }
        let group = |(i, g): (usize, &JsonGroup)| {
            let nodes = self.nodes(&format!("groups[{i}]"), &g.nodes)?;
            Ok(Group { name: g.name.clone(), note: g.note.clone(), nodes })
        };
        let groups = json.groups.iter().enumerate().map(group).collect::<Result<_, CircuitError>>()?;
        let label = |(name, label): (&String, &Label)| Ok((self.node("labels", name)?, label.clone()));
        let labels = json.labels.iter().map(label).collect::<Result<_, CircuitError>>()?;
        let member = |place: &str| {
            let place = place.to_owned();
            |source| CircuitError::Member { path: self.path.into(), place, source }
        };
        circuit.with_groups(groups).map_err(member("groups"))?.with_labels(labels).map_err(member("labels"))
    }

    fn node(&self, place: &str, name: &str) -> Result<Node, CircuitError> {
        let path = || self.path.to_owned();
        let unreadable = |source| CircuitError::NodeName { path: path(), place: place.into(), source };
        let node: Node = name.parse().map_err(unreadable)?;
        match self.space.find(node) {
            Ok(_) => Ok(node),
            Err(source) => Err(CircuitError::NoNode { path: path(), place: place.into(), source }),
        }
    }

    fn nodes(&self, place: &str, by_site: &BTreeMap<String, Vec<usize>>) -> Result<Vec<Node>, CircuitError> {
        let names = by_site.iter().flat_map(|(site, indices)| indices.iter().map(move |i| format!("{site}[{i}]")));
        names.map(|name| self.node(place, &name)).collect()
    }

    fn ends<'s>(
        &self,
        list: &str,
        pairs: impl Iterator<Item = (&'s String, &'s String)>,
    ) -> Result<Vec<(Node, Node)>, CircuitError> {
        let both = |(i, (from, to)): (usize, (&'s String, &'s String))| {
            let place = format!("{list}[{i}]");
            Ok((self.node(&place, from)?, self.node(&place, to)?))
        };
        pairs.enumerate().map(both).collect()
    }

    /// The error of a list of edges, with the place of the one that is wrong: of one that is listed twice, the second.
    fn wrong_edge(&self, list: &str, ends: &[(Node, Node)], source: MemberError) -> CircuitError {
        let at = source.edge().and_then(|edge| ends.iter().rposition(|e| *e == edge));
        let place = at.map_or(list.to_owned(), |i| format!("{list}[{i}]"));
        CircuitError::Member { path: self.path.into(), place, source }
    }

    /// Weights that the file names must be those of the model.
    fn check_weights(&self, circuit: &Circuit, edges: &[JsonEdge], ends: &[(Node, Node)]) -> Result<(), CircuitError> {
        let weights: BTreeMap<(Node, Node), f32> = circuit.edges().iter().map(|e| ((e.from, e.to), e.weight)).collect();
        for (i, (edge, &(from, to))) in edges.iter().zip(ends).enumerate() {
            let expected = weights[&(from, to)];
            if let Some(found) = edge.weight.filter(|&w| w != expected) {
                let (path, place) = (self.path.into(), format!("edges[{i}]"));
                return Err(CircuitError::OtherWeight { path, place, from, to, found, expected });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
