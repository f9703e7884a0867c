//! The act of ablation.

use std::ops::ControlFlow;

use openwork_circuit::Keep;
use openwork_model::{Matrix, Site, Tap};

/// Puts ablation values in the place of nodes, one site at a time. Self-checks watch whether it does.
pub trait Ablator: Sync {
    /// Ablates `value` at `site`; calling `keep` there is what has to be done.
    fn ablate(&self, keep: &mut Keep<'_>, site: Site, value: &mut Matrix) -> ControlFlow<()>;
}

/// The ablation of verdicts: [`Keep`] at every site.
pub(crate) struct KeepOnly;

impl Ablator for KeepOnly {
    fn ablate(&self, keep: &mut Keep<'_>, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        keep.forward(site, value)
    }
}
