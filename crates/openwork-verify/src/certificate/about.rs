//! The context of a certificate: model, circuit, ablation values and inputs.

use openwork_circuit::{Domain, NodeSet};
use openwork_model::Model;

/// Subject of a certificate: a circuit, its ablation values and the inputs.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// The model.
    pub model: &'a Model,
    /// Hash of its contents (`Model::sha256`).
    pub model_sha256: &'a str,
    /// The kept nodes.
    pub circuit: &'a NodeSet,
    /// Ablation values by node number (kept ones are not looked at); `None`: zero.
    pub constants: Option<&'a [f32]>,
    /// The inputs.
    pub inputs: &'a Domain,
    /// The right token of every input.
    pub answers: Option<&'a [u16]>,
    /// Two tokens of every input that the task chooses between.
    pub candidates: Option<&'a [(u16, u16)]>,
}

/// Reason that no certificate can be written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CertificateError {
    /// Something does not fit the model or the inputs.
    #[error("{what}: {found}, expected {expected}")]
    Misfit {
        /// The part.
        what: &'static str,
        /// Amount, or the entry.
        found: usize,
        /// Amount or entry that fits.
        expected: String,
    },
    /// The inputs alone are more than the budget.
    #[error("{inputs} inputs are more than the budget of {budget} runs; raise it, or certify by a sample")]
    Budget {
        /// Number of inputs.
        inputs: usize,
        /// Runs allowed.
        budget: usize,
    },
}

impl About<'_> {
    /// Checks that all parts fit each other.
    pub fn check(&self) -> Result<(), CertificateError> {
        let misfit = |what, found, expected| Err(CertificateError::Misfit { what, found, expected });
        let (config, nodes) = (&self.model.config, self.circuit.space().len());
        if *self.circuit.space() != openwork_circuit::NodeSpace::new(config) {
            return misfit("nodes of the circuit's model", nodes, "those of the model".into());
        }
        if let Some(constants) = self.constants.filter(|c| c.len() != nodes) {
            return misfit("constants for ablated nodes", constants.len(), format!("{nodes}, one a node"));
        }
        let n = self.inputs.len();
        for (what, len) in [("answers", self.answers.map(<[_]>::len)), ("candidates", self.candidates.map(<[_]>::len))]
        {
            if let Some(len) = len.filter(|&len| len != n) {
                return misfit(what, len, format!("{n}, one an input"));
            }
        }
        let products = self.inputs.products();
        if let Some(long) = products.iter().find(|p| p.len() > config.n_ctx) {
            return misfit("tokens of an input", long.len(), format!("at most n_ctx = {}", config.n_ctx));
        }
        let tokens = products.iter().flatten().flatten().chain(self.answers.into_iter().flatten());
        let mut tokens = tokens.chain(self.candidates.into_iter().flatten().flat_map(|(a, b)| [a, b]));
        if let Some(&token) = tokens.find(|&&t| usize::from(t) >= config.vocab_size) {
            return misfit("token", usize::from(token), format!("below the vocabulary of {}", config.vocab_size));
        }
        Ok(())
    }

    /// Ablation value of a node.
    pub fn ablation_value(&self, node: usize) -> f32 {
        self.constants.map_or(0.0, |constants| constants[node])
    }

    /// Ablation values as text.
    pub fn ablation_value_text(&self) -> &'static str {
        if self.constants.is_some() { "given constants" } else { "zero" }
    }
}
