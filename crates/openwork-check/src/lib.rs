#![doc = include_str!("../README.md")]
//!
//! # The file (`openwork-certificate 1`, JSON)
//!
//! | key | meaning |
//! |---|---|
//! | `model_sha256` | hash of the model by content: see `content_sha256` in `model.rs` |
//! | `circuit` | names of the kept nodes, such as `0.attn.q[3]`; all others are ablated |
//! | `fills` | ablation values: `"zero"`, or `{"constants": {node: value}}` with one for each |
//! | `inputs` | `{"products": [[[token, …] a position] a product]}` (disjoint) or `{"prompts": [[token, …], …]}` |
//! | `answers`, `candidates` | the right token, two candidate tokens, of every input; or `null` |
//! | `tolerance` | tolerance of the claims, relative to `1 + |value|`: they were computed in f32 |
//! | `claim` | one of the three kinds below |
//!
//! *Exhaustive*: every input under every scheme (`"zero"`, `"constants"`, `{"resample": {"sources": n}}`): worst and mean
//! KL(model ‖ circuit) over the vocabulary at the last token in nats, how often the most likely token agrees, how often it
//! is right. *Statistical*: a seed, a number of samples, how many of them failed, and the exact binomial (Clopper–Pearson)
//! bound that follows; the stream of random numbers is in `statistical.rs`. *Relaxation*: for every input a lower
//! bound, over all partial ablations, of the margin of the model's answer above its rivals; `relaxation.rs`.

mod certificate;
mod exhaustive;
mod form;
mod forward;
mod model;
mod relaxation;
mod statistical;

use std::path::{Path, PathBuf};

use certificate::{Certificate, Claim};

/// Statement of a certificate that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The statement in words, with the numbers found here.
    pub statement: String,
}

/// Reason that a certificate is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// A file cannot be read as what it should be; says nothing about the claim.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Cause.
        reason: String,
    },
    /// The certificate is about another model.
    #[error("the certificate is about model {expected}, this is model {found}")]
    OtherModel {
        /// SHA-256 in the certificate.
        expected: String,
        /// SHA-256 of the model at hand.
        found: String,
    },
    /// A part contradicts the model or another part.
    #[error("`{part}` makes no sense: {reason}")]
    Malformed {
        /// The key.
        part: &'static str,
        /// Cause.
        reason: String,
    },
    /// A claim does not hold.
    #[error("`{claim}` does not hold: claimed {claimed}, found {found}")]
    Claim {
        /// The key.
        claim: &'static str,
        /// Value in the certificate.
        claimed: String,
        /// Value derived here.
        found: String,
    },
}

/// Checks the certificate at `certificate` against the model file at `model`.
///
/// # Errors
/// [`Rejected`]: the first thing that does not hold.
pub fn check(certificate: impl AsRef<Path>, model: impl AsRef<Path>) -> Result<Checked, Rejected> {
    let model = read(model.as_ref())?;
    let (case, claim) = Certificate::read(certificate.as_ref())?.resolve(&model)?;
    let statement = match claim {
        Claim::Exhaustive(claim) => exhaustive::check(&model, &case, &claim)?,
        Claim::Statistical(claim) => statistical::check(&model, &case, &claim)?,
        Claim::Relaxation(claim) => relaxation::check(&model, &case, &claim)?,
    };
    Ok(Checked { statement })
}

/// Logits at the last token of a prompt, with the nodes named in `set` held at constants: the forward pass that every
/// check here goes through, for those who want to compare it with another.
///
/// # Errors
/// When the model cannot be read, lacks a node, or does not take the prompt.
pub fn logits(model: impl AsRef<Path>, prompt: &[usize], set: &[(&str, f64)]) -> Result<Vec<f64>, Rejected> {
    let model = read(model.as_ref())?;
    if prompt.is_empty() || prompt.len() > model.n_ctx || prompt.iter().any(|&t| t >= model.vocab) {
        return Err(certificate::malformed("prompt", "it is empty, too long, or has unknown tokens".into()));
    }
    let mut values = vec![None; model.nodes()];
    for (name, value) in set {
        let node = model.node(name);
        values[node.ok_or_else(|| certificate::malformed("set", format!("no node {name:?}")))?] = Some(*value);
    }
    Ok(model.logits(prompt, &mut |_, first, x| {
        x.iter_mut().zip(&values[first..]).for_each(|(x, value)| *x = value.unwrap_or(*x));
    }))
}

fn read(path: &Path) -> Result<model::Model, Rejected> {
    model::Model::read(path).map_err(|e| Rejected::Unreadable { path: path.into(), reason: e.to_string() })
}
