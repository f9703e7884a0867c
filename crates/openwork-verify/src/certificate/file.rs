//! The certificate file, `openwork-certificate 1`; its form is described in `openwork-check`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{about::About, claim::Claim};

/// A certificate, ready to be written.
#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    format: &'static str,
    model_sha256: String,
    circuit: Vec<String>,
    fills: Fills,
    inputs: Inputs,
    answers: Option<Vec<u16>>,
    candidates: Option<Vec<(u16, u16)>>,
    tolerance: f64,
    claim: Claim,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fills {
    Zero,
    Constants(BTreeMap<String, f32>),
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Inputs {
    Products(Vec<Vec<Vec<u16>>>),
    Prompts(Vec<Vec<u16>>),
}

/// Tolerance of the numbers, relative to `1 + |value|`. Runs are f32: 2⁻²⁴ an operation, over some 30
/// operations in sequence that sum up to 1,000 terms whose errors add up as their root, is 6e-5 of the logits.
const TOLERANCE: f64 = 1e-4;

impl Certificate {
    pub(super) fn new(about: &About<'_>, claim: Claim) -> Self {
        let (circuit, products) = (about.circuit, about.inputs.products());
        let ablated = circuit.complement();
        let listed = products.iter().flatten().all(|tokens| tokens.len() == 1);
        let constants =
            || ablated.numbers().map(|n| (circuit.space().node(n).to_string(), about.ablation_value(n))).collect();
        Self {
            format: "openwork-certificate 1",
            model_sha256: about.model_sha256.into(),
            circuit: circuit.nodes().map(|node| node.to_string()).collect(),
            fills: if about.constants.is_some() { Fills::Constants(constants()) } else { Fills::Zero },
            inputs: match listed {
                true => Inputs::Prompts(about.inputs.iter().collect()),
                false => Inputs::Products(products.to_vec()),
            },
            answers: about.answers.map(<[_]>::to_vec),
            candidates: about.candidates.map(<[_]>::to_vec),
            tolerance: TOLERANCE,
            claim,
        }
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain values") + "\n"
    }
}
