#![doc = include_str!("../README.md")]
//!
//! Stands on `openwork-ops` (the formulas) and under everything that trains, prunes, verifies or inspects.

mod backward;
mod checkpoint;
mod config;
mod exchange;
mod finite;
mod forward;
mod gpu;
mod identity;
mod init;
mod padded;
mod params;
mod pass;
mod prefixes;
pub mod reference;
mod resume;
mod sample;
mod site;

pub use checkpoint::{LoadError, Loaded, SaveError, WITH_NOT_FINITE};
pub use config::{ActDensity, Bigram, Config, ConfigError, Positions};
pub use finite::{NotFinite, Place};
pub use gpu::GpuModel;
pub use openwork_ops::{Activation, ActivationDtype, Cpu, Engine, Gradient, Matrix, NormKind, Ties, Weight};
pub use padded::Padded;
pub use params::{Block, Linear, Norm, ParamInfo, Params, Role};
pub use pass::{Pass, Tokens};
pub use prefixes::{PrefixPass, Prefixes};
pub use resume::{PassState, StateError};
pub use sample::Sampling;
pub use site::{NoTap, Record, Site, SiteError, SiteKind, Tap};

/// A transformer: its configuration and its weights, which lie where the model runs: on the CPU, if nothing else is said.
#[derive(Clone, Debug)]
pub struct Model<W = Weight> {
    /// Shape and switches.
    pub config: Config,
    /// Weights, in the tree every other per-parameter quantity shares.
    pub params: Params<W>,
    /// Choice of AbsTopK among equal magnitudes; not part of a checkpoint.
    pub ties: Ties,
}

impl Model {
    /// Gradients of the shape of this model's parameters, all zero.
    pub fn zero_gradients(&self) -> Params<Gradient> {
        let mut weights = self.params.values().into_iter();
        Params::build(&self.config, |_, _| Gradient::zeros(weights.next().expect("same tree").dense().dim()))
    }
}
