//! Edits of a session.

use openwork_circuit::Node;

use crate::{
    Change, Session, SessionError,
    edit::{Edit, EditKind, set_weight, weight_mut},
    language::{At, Replacement, WeightPlace},
};

impl Session {
    /// Makes an edit of a node on the prompt at hand.
    pub(crate) fn set_node(&mut self, node: Node, at: Option<At>, to: &Replacement) -> Result<String, SessionError> {
        let prompt = self.prompt()?;
        let positions = match at {
            Some(at) => {
                let position = self.position_in(prompt, at)?;
                position..position + 1
            }
            None => 0..prompt.tokens.len(),
        };
        let mut changes = vec![];
        for position in positions {
            let value = match to {
                Replacement::Number(number) => *number,
                Replacement::Mean => {
                    let means = self.means.as_ref().ok_or(SessionError::NoMeans)?;
                    means[self.space.number(node).ok_or(SessionError::NoMean { node })?]
                }
                Replacement::Of(name) => {
                    let other = self.prompt_named(name)?;
                    match self.counterpart(position, other)? {
                        Some(there) => self.trace(name)?.value(node, there),
                        // All positions means all that can be compared.
                        None if at.is_none() => continue,
                        None => return Err(SessionError::NoCounterpart { name: name.clone(), position }),
                    }
                }
            };
            changes.push(Change { node, position, value });
        }
        let place = at.map_or(String::new(), |at| at.to_string());
        let to = match to {
            Replacement::Number(number) => number.to_string(),
            Replacement::Mean => "mean".into(),
            Replacement::Of(name) => format!("of {name}"),
        };
        let prompt = prompt.name.clone();
        let text = format!("{node}{place} = {to} on {prompt}");
        self.traces.borrow_mut().remove(&prompt);
        self.edits.push(Edit { text: text.clone(), kind: EditKind::Changes { prompt, changes } });
        Ok(text)
    }

    /// Makes an edit of a weight.
    pub(crate) fn set_weight(&mut self, place: &WeightPlace, to: f32) -> String {
        let before = set_weight(&mut self.model, place, to);
        self.traces.borrow_mut().clear();
        let text = format!("{place} = {to} (was {before})");
        self.edits.push(Edit { text: text.clone(), kind: EditKind::Weight { place: place.clone(), before } });
        text
    }

    /// Value of a weight.
    pub(crate) fn weight(&mut self, place: &WeightPlace) -> f32 {
        let (weight, entry) = weight_mut(&mut self.model, place);
        weight.dense()[entry]
    }

    /// Takes the last edit back.
    pub(crate) fn undo(&mut self) -> Result<String, SessionError> {
        let edit = self.edits.pop().ok_or(SessionError::NothingToUndo)?;
        match edit.kind {
            EditKind::Changes { prompt, .. } => {
                self.traces.borrow_mut().remove(&prompt);
            }
            EditKind::Weight { place, before } => {
                set_weight(&mut self.model, &place, before);
                self.traces.borrow_mut().clear();
            }
        }
        Ok(edit.text)
    }
}
