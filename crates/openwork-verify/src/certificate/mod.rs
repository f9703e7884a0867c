//! Certificates: statements about *all* inputs or *all* ablations, in a file that `openwork-check` re-derives.
//!
//! - [`exhaustive`]: every input of a finite [`Domain`](openwork_circuit::Domain) under every scheme; exact.
//! - [`statistical`]: a declared sample of inputs and partial ablations; an exact binomial bound.
//! - [`relaxation`]: for every input a sound lower bound over all partial ablations.
//!
//! ```
//! use openwork_circuit::{Domain, NodeSet, NodeSpace};
//! use openwork_model::{Config, Model};
//! use openwork_verify::certificate::{About, Scheme, exhaustive};
//!
//! let config = Config { vocab_size: 8, n_ctx: 4, n_layer: 1, d_model: 8, d_mlp: 8, ..Config::default() };
//! let model = Model::init(config, 0);
//! let about = About {
//!     model: &model,
//!     model_sha256: &model.sha256(),
//!     circuit: &NodeSet::all(NodeSpace::new(&model.config)),
//!     constants: None,
//!     inputs: &Domain::all(&[0, 1, 2], 1..=3).unwrap(),
//!     answers: None,
//!     candidates: None,
//! };
//! let (certificate, certified) = exhaustive(&about, &[Scheme::Zero], 1000).unwrap();
//! assert_eq!(certified.bound, 0.0); // the whole model is itself on all 39 inputs
//! assert!(certificate.to_json().contains("exhaustive"));
//! ```
//!
//! The checker shares no code with this: what both do is written down in `openwork-check`, and done here in f32 and
//! on all threads, there in f64 and one token at a time.

mod about;
mod claim;
mod exhaustive;
mod file;
mod relaxation;
mod run;
mod statistical;

pub use about::{About, CertificateError};
pub use claim::{Certified, Event, Kind, Rivals, Scheme};
pub use exhaustive::exhaustive;
pub use file::Certificate;
pub use relaxation::{Relax, relaxation};
pub use statistical::{Sample, statistical};
