//! The context of a certificate: model, circuit, ablation values and inputs.

use std::collections::HashMap;

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
    /// The right token of every input. Where the task declares them, they judge the circuit, and not the model's answers.
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
    /// A prompt is listed twice, which would count twice.
    #[error("input {second} is input {first} again; every input counts once")]
    Twice {
        /// Number of the first.
        first: usize,
        /// Number of the second.
        second: usize,
    },
    /// A right answer that is neither of the two candidates of its input.
    #[error("the right answer to input {input} is neither of its two candidates")]
    NoCandidate {
        /// Number of the input.
        input: usize,
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
        if let (Some(answers), Some(candidates)) = (self.answers, self.candidates) {
            let neither = |(answer, (a, b)): (&u16, &(u16, u16))| answer != a && answer != b;
            if let Some(input) = answers.iter().zip(candidates).position(neither) {
                return Err(CertificateError::NoCandidate { input });
            }
        }
        self.check_distinct()
    }

    /// Products do not overlap; what is left are prompts that are listed twice.
    fn check_distinct(&self) -> Result<(), CertificateError> {
        let mut seen: HashMap<&Vec<Vec<u16>>, usize> = HashMap::new();
        for (second, product) in self.inputs.products().iter().enumerate() {
            if let Some(first) = seen.insert(product, second) {
                return Err(CertificateError::Twice { first, second });
            }
        }
        Ok(())
    }

    /// Ablation value of a node.
    pub fn ablation_value(&self, node: usize) -> f32 {
        self.constants.map_or(0.0, |constants| constants[node])
    }

    /// Key of the draws of a statistical claim; `openwork-check` says what is hashed and why.
    pub(super) fn key(&self, event: &str) -> [u8; 32] {
        let fills = match self.constants {
            Some(constants) => {
                let ablated = self.circuit.complement();
                let bytes: Vec<u8> = ablated.numbers().flat_map(|n| constants[n].to_le_bytes()).collect();
                openwork_tensor::sha256_bytes(&bytes)
            }
            None => "zero".into(),
        };
        let text = format!(
            "openwork-certificate 2\nmodel {}\ncircuit {}\nfills {fills}\ninputs {}\nevent {event}\n",
            self.model_sha256,
            self.circuit.sha256(),
            self.inputs_sha256()
        );
        let hash = openwork_tensor::sha256_bytes(text.as_bytes());
        std::array::from_fn(|i| u8::from_str_radix(&hash[2 * i..2 * i + 2], 16).expect("hexadecimal"))
    }

    /// Hash of inputs, answers and candidates, as `openwork-check` defines it.
    pub(super) fn inputs_sha256(&self) -> String {
        let mut bytes: Vec<u8> = Vec::new();
        let mut push = |n: usize| bytes.extend((n as u64).to_le_bytes());
        push(self.inputs.products().len());
        for product in self.inputs.products() {
            push(product.len());
            for tokens in product {
                push(tokens.len());
                tokens.iter().for_each(|&t| push(usize::from(t)));
            }
        }
        let answers = self.answers.map(<[_]>::to_vec);
        let candidates = self.candidates.map(|c| c.iter().flat_map(|&(a, b)| [a, b]).collect::<Vec<u16>>());
        for list in [answers, candidates] {
            push(usize::from(list.is_some()));
            if let Some(list) = list {
                push(list.len());
                list.into_iter().for_each(|t| push(usize::from(t)));
            }
        }
        openwork_tensor::sha256_bytes(&bytes)
    }

    /// Ablation values as text.
    pub fn ablation_value_text(&self) -> &'static str {
        if self.constants.is_some() { "given constants" } else { "zero" }
    }
}
