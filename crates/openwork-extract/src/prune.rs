//! Pruning: learn a mask, rank nodes by it, keep the fewest that reach the target loss.
//!
//! Source: Gao et al. 2025, A.5 and Table 2; steps, clipping and batch order as decided in the project's
//! specification, where the paper is silent.

use std::convert::Infallible;

use openwork_circuit::{Calibration, Circuit, Means, NodeSet, NodeSpace, Objective, batches};
use openwork_cuda::GpuError;
use openwork_model::Model;
use openwork_ops::Device;
use openwork_tasks::Pair;
use rayon::prelude::*;

use crate::{
    Settings,
    learn::{At, Gates, OnStep, Progress, learn},
    mask::{MaskedOnGpu, loss_and_gates},
    objective::{Adversary, Target},
    prompts::{CHUNKS, Runner, prompts},
    select::{Selection, with_queries},
};

/// A circuit and how it was selected.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// The circuit: the kept nodes with all edges between them.
    pub circuit: Circuit,
    /// Calibration fitted on the training pairs.
    pub calibration: Calibration,
    /// Calibrated loss on the validation pairs, in nats per sequence.
    pub loss: f64,
    /// True if `loss` is within the target.
    pub reached: bool,
    /// Restarts that were finished: fewer than asked for where the search was ended early.
    pub restarts: usize,
}

/// The search cannot succeed: with every node kept the loss is above the target.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "the model itself has a loss of {loss:.3} nats on the task, above the target of {target:.3}: no circuit of it can do better by design"
)]
pub struct NotReached {
    /// Loss of the whole model on the validation pairs, as it is or calibrated.
    pub loss: f64,
    /// The target.
    pub target: f64,
}

/// Errors of a search.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The model does not do the task.
    #[error(transparent)]
    NotReached(#[from] NotReached),
    /// The caller ended the search before its first restart was finished.
    #[error("the search was ended before it had a first circuit")]
    Ended,
    /// Masks for another objective than the task loss are learned on the CPU only.
    #[error("masks for the objective {0} are learned on the CPU: leave out --device or say --device cpu")]
    OnCpuOnly(Objective),
    /// The GPU.
    #[error("the search on the GPU stopped")]
    Gpu(#[from] GpuError),
}

/// A search for a circuit of `model`: masks are learned on `train`, and a circuit is selected on `validation`.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// The model.
    pub model: &'a Model,
    /// Means of its nodes over training data.
    pub means: &'a Means,
    /// Pairs of the task that masks are learned on.
    pub train: &'a [Pair],
    /// Pairs that a circuit is selected on.
    pub validation: &'a [Pair],
    /// Settings of the search.
    pub settings: &'a Settings,
}

impl Search<'_> {
    /// [`Search::search`], if the whole model does the task; masks are learned on `device`.
    ///
    /// # Errors
    /// When the whole model does not reach the target, there is no kernel for a size of it, the GPU fails, or `progress`
    /// ends the search too early.
    pub fn prune(&self, device: &Device, progress: &mut OnStep<'_>) -> Result<Pruned, PruneError> {
        let Self { model, means, settings, .. } = *self;
        self.check()?;
        let Device::Cuda(gpu) = device else { return self.search(progress).ok_or(PruneError::Ended) };
        if settings.masks.objective != Objective::Task {
            return Err(PruneError::OnCpuOnly(settings.masks.objective));
        }
        let space = NodeSpace::new(&model.config);
        let mut masked = MaskedOnGpu::new(model, gpu)?;
        let mut gates = |_: At, tau: &[f32], pairs: &[Pair]| {
            // All pairs at once: a GPU wants them so.
            let batch = &batches(pairs, pairs.len(), model.config.n_ctx)[0];
            let (loss, gates) = masked.loss_and_gates(&space, means, tau, batch)?;
            let sequences = 2.0 * pairs.len() as f64;
            Ok::<_, GpuError>((loss / sequences, gates.into_iter().map(|x| f64::from(x) / sequences).collect()))
        };
        self.search_with(&mut gates, Attempt { most: usize::MAX }, progress)?.ok_or(PruneError::Ended)
    }

    /// Checks that the whole model does the task.
    ///
    /// # Errors
    /// When its loss is above the target.
    pub fn check(&self) -> Result<(), NotReached> {
        let loss = self.selection().model_loss(NodeSpace::new(&self.model.config));
        match loss > self.settings.target_loss {
            true => Err(NotReached { loss, target: self.settings.target_loss }),
            false => Ok(()),
        }
    }

    /// The search alone, whether or not the model does the task: what controls need, since a mask can find
    /// "circuits" for tasks that the model does not do.
    ///
    /// Each restart minimises `task loss + k_coef · kept nodes` over τ by AdamW, then bisects on the number of
    /// top-τ nodes for the fewest whose calibrated loss is within the target, then drops single nodes that the
    /// target does not need. `None` where `progress` ends the search before the first restart is finished; later, the
    /// restart that runs is given up and the best of the finished ones is returned.
    pub fn search(&self, progress: &mut OnStep<'_>) -> Option<Pruned> {
        self.attempt(Attempt { most: usize::MAX }, progress)
    }

    /// [`Search::search`] as one of several: see [`Attempt`].
    pub(crate) fn attempt(&self, attempt: Attempt, progress: &mut OnStep<'_>) -> Option<Pruned> {
        let Self { model, means, settings, .. } = *self;
        let space = NodeSpace::new(&model.config);
        let (masks, runner, mut adversary) = (&settings.masks, Runner::new(model), Adversary::default());
        let mut gates = |at: At, tau: &[f32], pairs: &[Pair]| {
            let target = || Target::new(&runner, &space, means, pairs);
            match settings.masks.objective {
                Objective::Task => (),
                Objective::Kl => return Ok::<_, Infallible>(target().kl(tau)),
                Objective::Adversarial => {
                    if at.step == 0 {
                        adversary = Adversary::default();
                    }
                    return Ok(target().adversarial(tau, &mut adversary, masks));
                }
            }
            // A fixed split into chunks, added up in order: the number of threads does not matter.
            let parts: Vec<(f64, Vec<f32>)> =
                prompts(pairs, settings.masks.batch_pairs.div_ceil(CHUNKS), &model.config)
                    .par_iter()
                    .map(|chunk| loss_and_gates(&runner, &space, means, tau, chunk))
                    .collect();
            let sequences = 2.0 * pairs.len() as f64;
            let mut gradient = vec![0.0_f64; tau.len()];
            for (_, gates) in &parts {
                gradient.iter_mut().zip(gates).for_each(|(g, &x)| *g += f64::from(x) / sequences);
            }
            Ok((parts.iter().map(|p| p.0).sum::<f64>() / sequences, gradient))
        };
        match self.search_with(&mut gates, attempt, progress) {
            Ok(pruned) => pruned,
            Err(never) => match never {},
        }
    }

    fn selection(&self) -> Selection<'_> {
        Selection::new(self.model, self.means, self.train, self.validation, self.settings)
    }

    /// A circuit of these nodes: calibrated on training pairs, measured on validation pairs, and compared with the target; of no restart.
    pub fn measured(&self, nodes: NodeSet) -> Pruned {
        measured(&self.selection(), self.model, nodes)
    }

    fn search_with<E>(
        &self,
        gates: &mut Gates<'_, E>,
        attempt: Attempt,
        progress: &mut OnStep<'_>,
    ) -> Result<Option<Pruned>, E> {
        let (space, selection) = (NodeSpace::new(&self.model.config), self.selection());
        let mut found = Vec::new();
        for restart in 0..self.settings.masks.restarts.max(1) {
            let learned =
                learn(gates, space.len(), self.train, (&self.settings.masks, self.settings.seed), restart, progress)?;
            let Some(tau) = learned else { break };
            let steps = self.settings.masks.steps;
            let mut goes_on = |kept| progress(Progress { restart, step: steps, loss: self.settings.target_loss, kept });
            let Some(nodes) = selection.fewest(&space, &tau, attempt.most, &mut goes_on) else { break };
            let nodes = if self.settings.masks.queries_with_keys { with_queries(&nodes) } else { nodes };
            found.push(measured(&selection, self.model, nodes));
        }
        let restarts = found.len();
        // One that reached the target before one that did not, then the fewest edges, then the fewest nodes.
        let rank = |p: &Pruned| (!p.reached, p.circuit.edges().len(), p.circuit.nodes().len());
        Ok(found.into_iter().min_by_key(rank).map(|best| Pruned { restarts, ..best }))
    }
}

/// A search as one of several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// Most nodes of a circuit whose single nodes are worth a try: one of more has lost already.
    pub most: usize,
}

fn measured(selection: &Selection<'_>, model: &Model, nodes: NodeSet) -> Pruned {
    let (loss, calibration) = selection.loss(&nodes);
    let reached = selection.reaches(&nodes);
    Pruned { circuit: Circuit::new(model, nodes), calibration, loss, reached, restarts: 0 }
}

#[cfg(test)]
pub(crate) mod tests;
