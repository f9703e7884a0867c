//! Edits of a session, which can be taken back.

use openwork_circuit::weights_of;
use openwork_model::{Model, Weight};

use crate::{Change, language::WeightPlace};

/// An edit in force.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    /// The edit as it is shown.
    pub text: String,
    pub kind: EditKind,
}

#[derive(Clone, Debug)]
pub(crate) enum EditKind {
    /// Values of nodes in the runs of a prompt.
    Changes { prompt: String, changes: Vec<Change> },
    /// A weight, and its value before.
    Weight { place: WeightPlace, before: f32 },
}

/// The matrix and the entry of it that a place names.
pub(crate) fn weight_mut<'m>(model: &'m mut Model, place: &WeightPlace) -> (&'m mut Weight, [usize; 2]) {
    match place {
        WeightPlace::Edge { from, to } => {
            let (linear, row) = weights_of(model, *to);
            (&mut linear.weight, [row, from.index])
        }
        WeightPlace::Parameter { number, entry, .. } => {
            let weight = model.params.values_mut().into_iter().nth(*number).expect("a parameter of the tree");
            (weight, *entry)
        }
    }
}

/// Sets a weight and returns its value before.
pub(crate) fn set_weight(model: &mut Model, place: &WeightPlace, value: f32) -> f32 {
    let (weight, entry) = weight_mut(model, place);
    let before = weight.dense()[entry];
    weight.update(|w| w[entry] = value);
    before
}
