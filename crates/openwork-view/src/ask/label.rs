//! Labels: names that a person gives to nodes, saved to the circuit file.

use openwork_circuit::{CircuitFile, Label};
use serde::{Deserialize, Serialize};

use crate::{View, ViewError};

/// Most characters of a label's name and of its note.
const MOST: [usize; 2] = [200, 4000];

/// A label for a node; an empty name takes the node's label away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelQuestion {
    /// The circuit.
    pub circuit: usize,
    /// A node of it.
    pub node: String,
    /// The name.
    pub name: String,
    /// A longer explanation.
    pub note: Option<String>,
}

/// The label as it was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelAnswer {
    /// The node.
    pub node: String,
    /// Its label; none where it was taken away.
    pub label: Option<Label>,
    /// File that it was saved to.
    pub file: String,
}

impl View {
    /// Gives a node of a circuit a label and saves the circuit file, atomically. The file is read again first, so that labels of another
    /// program stay; a verdict is about nodes and edges, and stands.
    ///
    /// # Errors
    /// When the node is not in the circuit, the label is too long, or the file cannot be read or written.
    pub fn label(&self, question: &LabelQuestion) -> Result<LabelAnswer, ViewError> {
        let (circuit, opened) = self.circuit(question.circuit)?;
        let node = opened.parse_node(&question.node)?;
        let note = question.note.clone().filter(|note| !note.trim().is_empty());
        let texts = [("the name", Some(&question.name)), ("the note", note.as_ref())];
        for ((what, text), most) in texts.into_iter().zip(MOST) {
            let found = text.map_or(0, |text| text.chars().count());
            if found > most {
                return Err(ViewError::LongLabel { what, most, found });
            }
        }
        let name = question.name.trim().to_owned();
        let label = (!name.is_empty()).then_some(Label { name, note });
        let mut held = circuit.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let file = opened.open.circuit(&circuit.path)?;
        let mut labels = file.circuit.labels().clone();
        match &label {
            Some(label) => labels.insert(node, label.clone()),
            None => labels.remove(&node),
        };
        let file = CircuitFile { circuit: file.circuit.clone().with_labels(labels)?, ..file };
        file.save(&circuit.path)?;
        *held = file;
        Ok(LabelAnswer { node: node.to_string(), label, file: circuit.path.display().to_string() })
    }
}
