//! The file: its form, and what it means for a model at hand.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use crate::{Rejected, model::Model};

/// Claims may be off by this much at most, relative to `1 + |value|`: more would let anything pass. Certificates
/// are written from f32 passes; 2⁻²⁴ per operation, over some 30 layers of sums of 1,000 terms whose errors add
/// up as √1,000, is 6e-5 of the logits.
pub const LARGEST_TOLERANCE: f64 = 1e-3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    format: String,
    model_sha256: String,
    circuit: Vec<String>,
    fills: Fills,
    inputs: Listed,
    answers: Option<Vec<usize>>,
    candidates: Option<Vec<[usize; 2]>>,
    tolerance: f64,
    claim: Claim,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fills {
    Zero,
    Constants(BTreeMap<String, f32>),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Listed {
    Products(Vec<Vec<Vec<usize>>>),
    Prompts(Vec<Vec<usize>>),
}

/// Claim, by kind.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    Exhaustive(Exhaustive),
    Statistical(Statistical),
    Relaxation(Relaxation),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exhaustive {
    pub inputs: usize,
    pub schemes: Vec<Scheme>,
    pub runs: usize,
    pub worst_kl_nats: f64,
    pub worst: Run,
    pub mean_kl_nats: f64,
    pub agreeing: usize,
    pub right: Option<usize>,
    pub model_right: Option<usize>,
}

/// Source of ablation values.
#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scheme {
    /// Zero.
    Zero,
    /// The constants under `fills`.
    Constants,
    /// The model's run on another input: each of `sources` inputs, spread evenly (all, if as many as inputs).
    Resample { sources: usize },
}

/// One run: which input, under which scheme (by place in the list), with values of which other input.
#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub input: usize,
    pub scheme: usize,
    pub source: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistical {
    pub inputs: usize,
    pub event: Event,
    pub seed: u64,
    pub samples: u64,
    pub failures: u64,
    pub confidence: f64,
    pub lower_bound: f64,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Circuit and model have the same most likely token.
    SameArgmax,
    /// Circuit and model prefer the same one of the input's two candidates.
    SameCandidate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relaxation {
    pub inputs: usize,
    /// Tokens that the model's answer is compared with.
    pub rivals: Rivals,
    /// True if the scales of norms are those of the model's run.
    pub frozen_norms: bool,
    /// Most noise symbols of a linear form; what comes later is lumped together.
    pub symbols: usize,
    /// The model's answer to every input.
    pub model_answers: Vec<usize>,
    /// Lower bound of the margin of every input; `null` where there is none.
    pub bounds: Vec<Option<f64>>,
    /// Splits of the coefficients of every input into cases; `null` where they are not.
    pub splits: Vec<Option<Split>>,
    pub certified: usize,
    pub least_bound: Option<f64>,
}

/// Two cases: the coefficient of a node at a token is below or above a number; each may be split further.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    pub node: String,
    pub token: usize,
    pub at: f64,
    pub below: Option<Box<Split>>,
    pub above: Option<Box<Split>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Rivals {
    /// Every other token.
    AllTokens,
    /// The other one of the input's two candidates.
    OtherCandidate,
}

/// Subject of a certificate, made ready for a model.
pub struct Case {
    /// Kept or not, by node number.
    pub kept: Vec<bool>,
    /// Ablation values by node number.
    pub fill: Vec<f64>,
    pub has_constants: bool,
    inputs: Vec<Vec<Vec<usize>>>,
    pub answers: Option<Vec<usize>>,
    pub candidates: Option<Vec<[usize; 2]>>,
    pub tolerance: f64,
}

impl Certificate {
    pub fn read(path: &Path) -> Result<Self, Rejected> {
        let unreadable = |reason: String| Rejected::Unreadable { path: path.into(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text); // a byte order mark
        let certificate: Self = serde_json::from_str(text).map_err(|e| unreadable(e.to_string()))?;
        match certificate.format.as_str() {
            "openwork-certificate 1" => Ok(certificate),
            other => Err(unreadable(format!("its format is {other:?}, expected \"openwork-certificate 1\""))),
        }
    }

    /// Checks what can be checked without running anything.
    pub fn resolve(self, model: &Model) -> Result<(Case, Claim), Rejected> {
        if self.model_sha256 != model.sha256 {
            return Err(Rejected::OtherModel { expected: self.model_sha256, found: model.sha256.clone() });
        }
        let node = |name: &String| {
            model.node(name).ok_or_else(|| malformed("circuit", format!("the model has no node {name:?}")))
        };
        let mut kept = vec![false; model.nodes()];
        for name in &self.circuit {
            if std::mem::replace(&mut kept[node(name)?], true) {
                return Err(malformed("circuit", format!("{name} is listed twice")));
            }
        }
        let mut fill = vec![0.0; kept.len()];
        let has_constants = matches!(self.fills, Fills::Constants(_));
        if let Fills::Constants(constants) = &self.fills {
            let ablated = kept.iter().filter(|&&k| !k).count();
            if constants.len() != ablated {
                return Err(malformed("fills", format!("{} constants for {ablated} ablated nodes", constants.len())));
            }
            for (name, &value) in constants {
                let node = node(name)?;
                if kept[node] || !value.is_finite() {
                    return Err(malformed("fills", format!("{name} is kept, or its constant not finite")));
                }
                fill[node] = f64::from(value);
            }
        }
        if !(self.tolerance >= 0.0 && self.tolerance <= LARGEST_TOLERANCE) {
            return Err(malformed("tolerance", format!("{} is not from 0 to {LARGEST_TOLERANCE}", self.tolerance)));
        }
        let inputs = match self.inputs {
            Listed::Products(products) => disjoint(products)?,
            Listed::Prompts(prompts) => {
                prompts.into_iter().map(|prompt| prompt.into_iter().map(|t| vec![t]).collect()).collect()
            }
        };
        let (answers, candidates, tolerance) = (self.answers, self.candidates, self.tolerance);
        let case = Case { kept, fill, has_constants, inputs, answers, candidates, tolerance };
        case.check_tokens(model)?;
        Ok((case, self.claim))
    }
}

/// A part of the certificate that makes no sense.
pub fn malformed(part: &'static str, reason: String) -> Rejected {
    Rejected::Malformed { part, reason }
}

/// Products must not share prompts, else some would count twice.
fn disjoint(products: Vec<Vec<Vec<usize>>>) -> Result<Vec<Vec<Vec<usize>>>, Rejected> {
    let twice = |tokens: &Vec<usize>| tokens.iter().enumerate().any(|(i, t)| tokens[..i].contains(t));
    if products.iter().flatten().any(twice) {
        return Err(malformed("inputs", "a token is listed twice at a position".into()));
    }
    for (i, a) in products.iter().enumerate() {
        let meets = |b: &&Vec<Vec<usize>>| {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.iter().any(|t| b.contains(t)))
        };
        if products[..i].iter().any(|b| meets(&b)) {
            return Err(malformed("inputs", format!("product {i} shares prompts with an earlier one")));
        }
    }
    Ok(products)
}

impl Case {
    fn check_tokens(&self, model: &Model) -> Result<(), Rejected> {
        let empty = |product: &Vec<Vec<usize>>| product.is_empty() || product.iter().any(Vec::is_empty);
        if self.inputs.is_empty() || self.inputs.iter().any(empty) {
            return Err(malformed("inputs", "there are none, or a position has no token".into()));
        }
        if let Some(long) = self.inputs.iter().find(|p| p.len() > model.n_ctx) {
            return Err(malformed("inputs", format!("{} tokens, the model takes {}", long.len(), model.n_ctx)));
        }
        let tokens = self.inputs.iter().flatten().flatten().chain(self.answers.iter().flatten());
        let mut tokens = tokens.chain(self.candidates.iter().flatten().flatten());
        if let Some(token) = tokens.find(|&&t| t >= model.vocab) {
            return Err(malformed("inputs", format!("token {token} is outside the vocabulary of {}", model.vocab)));
        }
        let lengths = [self.answers.as_ref().map(Vec::len), self.candidates.as_ref().map(Vec::len)];
        match lengths.into_iter().flatten().find(|&n| n != self.len()) {
            Some(n) => Err(malformed("answers", format!("{n} answers or pairs of candidates, {} inputs", self.len()))),
            None => Ok(()),
        }
    }

    fn size(product: &[Vec<usize>]) -> usize {
        product.iter().fold(1, |n, tokens| n.saturating_mul(tokens.len()))
    }

    /// Number of inputs.
    pub fn len(&self) -> usize {
        self.inputs.iter().fold(0, |n, product| n.saturating_add(Self::size(product)))
    }

    /// Input of a number: product after product, the last position fastest.
    pub fn input(&self, mut number: usize) -> Vec<usize> {
        for product in &self.inputs {
            let mut size = Self::size(product);
            if number >= size {
                number -= size;
                continue;
            }
            let digit = |tokens: &Vec<usize>| {
                size /= tokens.len();
                tokens[number / size % tokens.len()]
            };
            return product.iter().map(digit).collect();
        }
        panic!("an input beyond the last")
    }

    /// True if two numbers are the same up to the certificate's tolerance.
    pub fn close(&self, claimed: f64, found: f64) -> bool {
        (claimed - found).abs() <= self.tolerance * (1.0 + found.abs())
    }

    /// Tolerance of logits of this size.
    pub fn slack(&self, logits: &[f64]) -> f64 {
        self.tolerance * (1.0 + logits.iter().fold(0.0_f64, |m, l| m.max(l.abs())))
    }
}

/// Index of the largest entry, the first of equal ones, and how far it is above the next.
pub fn argmax(x: &[f64]) -> (usize, f64) {
    let first = (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best });
    let next = (0..x.len()).filter(|&i| i != first).fold(f64::NEG_INFINITY, |m, i| m.max(x[i]));
    (first, x[first] - next)
}

/// Fails with the claim's name unless `holds`.
pub fn demand(
    holds: bool,
    claim: &'static str,
    claimed: impl std::fmt::Display,
    found: impl std::fmt::Display,
) -> Result<(), Rejected> {
    match holds {
        true => Ok(()),
        false => Err(Rejected::Claim { claim, claimed: claimed.to_string(), found: found.to_string() }),
    }
}
