//! The certificate file, `openwork-certificate 2`, and the domain file that it names; `openwork-check` describes both.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{about::About, claim::Claim};

/// A certificate and its domain file, ready to be written side by side.
#[derive(Clone, Debug)]
pub struct Certificate {
    file: File,
    domain: DomainFile,
}

#[derive(Clone, Debug, Serialize)]
struct File {
    format: &'static str,
    model_sha256: String,
    task: String,
    circuit: Vec<String>,
    fills: Fills,
    inputs: DomainName,
    claim: Claim,
}

#[derive(Clone, Debug, Serialize)]
struct DomainName {
    file: String,
    sha256: String,
}

#[derive(Clone, Debug, Serialize)]
struct DomainFile {
    format: &'static str,
    task: String,
    inputs: Inputs,
    answers: Option<Vec<u16>>,
    candidates: Option<Vec<(u16, u16)>>,
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

impl Certificate {
    pub(super) fn new(about: &About<'_>, claim: Claim) -> Self {
        let (circuit, products) = (about.circuit, about.inputs.products());
        let ablated = circuit.complement();
        let listed = products.iter().flatten().all(|tokens| tokens.len() == 1);
        let constants =
            || ablated.numbers().map(|n| (circuit.space().node(n).to_string(), about.ablation_value(n))).collect();
        let file = File {
            format: "openwork-certificate 2",
            model_sha256: about.model_sha256.into(),
            task: "not named".into(),
            circuit: circuit.nodes().map(|node| node.to_string()).collect(),
            fills: if about.constants.is_some() { Fills::Constants(constants()) } else { Fills::Zero },
            inputs: DomainName { file: "domain.json".into(), sha256: about.inputs_sha256() },
            claim,
        };
        let domain = DomainFile {
            format: "openwork-domain 1",
            task: file.task.clone(),
            inputs: match listed {
                true => Inputs::Prompts(about.inputs.iter().collect()),
                false => Inputs::Products(products.to_vec()),
            },
            answers: about.answers.map(<[_]>::to_vec),
            candidates: about.candidates.map(<[_]>::to_vec),
        };
        Self { file, domain }
    }

    /// The same with the task in words, and the name of the domain file, which is to lie beside the certificate.
    pub fn named(mut self, task: &str, domain_file: &str) -> Self {
        (self.file.task, self.domain.task) = (task.into(), task.into());
        self.file.inputs.file = domain_file.into();
        self
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.file).expect("plain values") + "\n"
    }

    /// The text of the domain file.
    pub fn domain_json(&self) -> String {
        serde_json::to_string(&self.domain).expect("plain values") + "\n"
    }

    /// Name of the domain file.
    pub fn domain_file(&self) -> &str {
        &self.file.inputs.file
    }
}
