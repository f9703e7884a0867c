#![doc = include_str!("../README.md")]
//!
//! # The file (`openwork-certificate 2`, JSON)
//!
//! | key | meaning |
//! |---|---|
//! | `model_sha256` | hash of the model by content: see `content_sha256` in `model.rs` |
//! | `task` | what is claimed, in words; those of the domain file |
//! | `circuit` | names of the kept nodes, such as `0.attn.q[3]`; all others are ablated |
//! | `fills` | ablation values: `"zero"`, or `{"constants": {node: value}}` with one for each |
//! | `inputs` | name of the domain file, which lies beside the certificate, and the hash of its contents |
//! | `claim` | one of the three kinds below |
//!
//! # The domain file (`openwork-domain 1`, JSON)
//!
//! | key | meaning |
//! |---|---|
//! | `task` | the task, in words |
//! | `inputs` | `{"products": [[[token, …] a position] a product]}` or `{"prompts": [[token, …], …]}`; no prompt twice |
//! | `answers`, `candidates` | the right token, two candidate tokens, of every input; or `null` |
//!
//! Inputs, answers and candidates are derived from that file alone. Where it declares right answers, these judge, and not
//! the model's. A lead of less than [`TOLERANCE`] of the logits is a tie, and a tie counts for nothing.
//!
//! *Exhaustive*: every input under every scheme (`"zero"`, `"constants"`, `{"resample": {"sources": n}}`): worst and mean
//! KL(model ‖ circuit) over the vocabulary at the last token in nats, how often the most likely token agrees, how often it
//! is right. *Statistical*: a number of samples, how many of them failed, and the exact binomial (Clopper–Pearson)
//! bound that follows; the random numbers follow from a hash of all that the claim is about, see `statistical.rs`.
//! *Relaxation*: for every input a lower bound, over all partial ablations, of the margin of the answer above its rivals;
//! `relaxation.rs`.
//!
//! Work is bounded before any is done: a certificate that asks for more inputs, samples, symbols or multiplications than the
//! checker's limits is refused.

mod certificate;
mod exhaustive;
mod form;
mod forward;
mod model;
mod relaxation;
mod statistical;

use std::path::{Path, PathBuf};

use certificate::{Certificate, Claim};

pub use certificate::TOLERANCE;

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
    /// It asks for more work than a check may take.
    #[error("it takes some {:.1e} multiplications to check, and the checker does {:.1e} at most", *work as f64, *most as f64)]
    TooMuch {
        /// Multiplications.
        work: u128,
        /// Most of them.
        most: u64,
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
    let (case, claim) = Certificate::open(certificate.as_ref(), &model)?;
    let words = match claim {
        Claim::Exhaustive(claim) => exhaustive::check(&model, &case, &claim)?,
        Claim::Statistical(claim) => statistical::check(&model, &case, &claim)?,
        Claim::Relaxation(claim) => relaxation::check(&model, &case, &claim)?,
    };
    Ok(Checked { statement: format!("{words}. {}", case.subject) })
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
