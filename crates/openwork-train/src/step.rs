//! One training step: gradient, normalisation, Adam, top magnitude, decay.
//!
//! The algorithm stands here once. The [`Store`] of the parameters does each part of it where they lie: [`CpuStore`]
//! (`cpu.rs`) on the CPU, [`CudaStore`](crate::CudaStore) (`cuda.rs`) on a GPU.
//!
//! Source: Gao et al. 2025, §2.1 and A.2, and the order of the released training code. Differs from it
//! in precision only (f32 throughout instead of fp16 autocast with a loss scaler), unless
//! [`GradientMode::Support`](crate::GradientMode::Support) asks for more.

use std::time::Instant;

use openwork_model::Config;

use crate::{CpuStore, ParameterPlan, Rule, Schedule, SparsityReport, StepPlan, plan::n_targets};

/// Added to the gradient's RMS before dividing by it (released code).
pub const RMS_EPS: f64 = 1e-5;

/// A model in training: its parameters in a store, the schedule and the step count.
pub struct Trainer<S = CpuStore> {
    /// Weights, gradients and Adam's moments.
    pub(crate) store: S,
    pub(crate) schedule: Schedule,
    pub(crate) step: u64,
}

/// A place for the parameters of a model in training: weights, gradients and Adam's moments, and the operations of a
/// step on all of them. Parameters are numbered in the order of [`Params::values`](openwork_model::Params::values).
///
/// A store whose parameters lie in several places (threads' gradient sums, devices, processes) adds gradients up in
/// [`Store::gradient`], in an order that does not depend on timing; everything after it sees one gradient.
pub trait Store {
    /// Reason that an operation fails for.
    type Error;

    /// Shape of the model.
    fn config(&self) -> &Config;

    /// Leaves the gradient of the mean cross-entropy over the predicted tokens of `batch`, whole sequences of `seq_len`
    /// tokens, and returns the sums that belong to it. Every token but the last of a sequence predicts the next.
    ///
    /// Order of the reduction: parts of a batch are dealt to lanes in turn (part i to lane i mod lanes), a lane adds its
    /// parts up in their order, and lanes are added up in theirs, 0 + 1, + 2, … A store over several processes gives each
    /// a range of lanes and continues the same chain.
    ///
    /// # Errors
    /// Those of the store.
    fn gradient(&mut self, batch: &[u16], seq_len: usize, plan: &StepPlan) -> Result<BatchSums, Self::Error>;

    /// Entries that each parameter may have now: the size of its support.
    fn support_sizes(&self) -> Vec<usize>;

    /// Sets gradients outside the support to zero. With `moves`, first moves nonzeros: where a parameter has a [`Move`],
    /// its smallest nonzeros leave, their moments become zero, and the zero weights with the largest gradients come in.
    fn restrict_to_support(&mut self, moves: Option<&[Option<Move>]>);

    /// Root mean square of the gradient of all trained parameters over `entries` entries.
    ///
    /// # Errors
    /// Those of the store.
    fn gradient_rms(&mut self, entries: usize, plan: &StepPlan) -> Result<f64, Self::Error>;

    /// Adam with the gradient over `rms + RMS_EPS`, where `rms` is the latest [`Store::gradient_rms`]; then the selection
    /// of the largest weights, and decay of those that stay. Returns an outcome for every parameter.
    ///
    /// # Errors
    /// Those of the store.
    fn update(&mut self, rms: f64, plan: &StepPlan) -> Result<Vec<Outcome>, Self::Error>;

    /// Mean cross-entropy in nats over the predicted tokens of `batch`, with f32 activations, without a step.
    ///
    /// # Errors
    /// Those of the store.
    fn loss(&mut self, batch: &[u16], seq_len: usize) -> Result<f64, Self::Error>;
}

/// Sums over a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchSums {
    /// Cross-entropies in nats.
    pub loss_nats: f64,
    /// Neurons that no token activated.
    pub dead_neurons: usize,
}

/// Exchange of a parameter's smallest nonzeros for as many zero weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Move {
    /// Entries that stay.
    pub stay: Rule,
    /// Number of entries that come in.
    pub grow: usize,
}

/// Result of an update of one parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Entries that are not zero.
    pub nonzero: usize,
    /// Of these, the ones that were outside the support before.
    pub entered: usize,
    /// The least magnitude that stayed, before decay; 0 where all stay.
    pub least_kept: f32,
}

/// Measurements of one step.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Number of the step, from 0.
    pub step: u64,
    /// Mean cross-entropy over the batch before the update, in nats.
    pub loss_nats: f64,
    /// Learning rate used.
    pub lr: f64,
    /// Nonzeros relative to the base model.
    pub pfrac: f64,
    /// Root mean square of the gradient over all entries that have one, before it is normalised to 1.
    pub grad_rms: f64,
    /// Nonzeros after the step, and changes of support.
    pub sparsity: SparsityReport,
    /// Neurons that no token of the batch activated.
    pub dead_neurons: usize,
    /// Tokens of the batch.
    pub tokens: usize,
    /// Seconds the step took.
    pub seconds: f64,
}

impl<S: Store> Trainer<S> {
    /// Training that goes on after `step` steps, on parameters in a store that is in that state.
    pub fn with_store(store: S, schedule: Schedule, step: u64) -> Self {
        Self { store, schedule, step }
    }

    /// The parameters.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Steps done.
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// The schedule of the run.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// One step on `batch`, whole sequences of `seq_len` tokens. Every token but the last of a sequence predicts the
    /// next.
    ///
    /// A loss that is not finite leaves the model as it was; the caller sees it in the report.
    ///
    /// # Errors
    /// Those of the store; the CPU has none.
    ///
    /// # Panics
    /// When `batch` is not a whole number of sequences.
    pub fn step(&mut self, batch: &[u16], seq_len: usize) -> Result<StepReport, S::Error> {
        self.step_with(batch, seq_len, &mut |_| ())
    }

    /// [`Trainer::step`] with a hook between the gradient of the batch and everything after it: `add` sees the store and may add the
    /// gradient of another objective.
    ///
    /// # Errors
    /// Those of the store; the CPU has none.
    ///
    /// # Panics
    /// As [`Trainer::step`].
    pub fn step_with(
        &mut self,
        batch: &[u16],
        seq_len: usize,
        add: &mut dyn FnMut(&mut S),
    ) -> Result<StepReport, S::Error> {
        let start = Instant::now();
        let plan = StepPlan::new(self.store.config(), &self.schedule, self.step);
        let sums = self.store.gradient(batch, seq_len, &plan)?;
        add(&mut self.store);
        let loss_nats = sums.loss_nats / n_targets(batch, seq_len) as f64;
        if loss_nats.is_finite() && !plan.exact {
            self.store.restrict_to_support(self.moves(&plan).as_deref());
        }
        let grad_rms = self.store.gradient_rms(self.entries(&plan), &plan)?;
        let sparsity = match loss_nats.is_finite() && grad_rms.is_finite() {
            true => plan.report(&self.store.update(grad_rms, &plan)?),
            false => SparsityReport::default(),
        };
        self.step += 1;
        Ok(StepReport {
            step: plan.step,
            loss_nats,
            lr: plan.lr,
            pfrac: plan.pfrac,
            grad_rms,
            sparsity,
            dead_neurons: sums.dead_neurons,
            tokens: batch.len(),
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Mean cross-entropy in nats over the predicted tokens of `batch`, with f32 activations, without a step.
    ///
    /// # Errors
    /// Those of the store; the CPU has none.
    pub fn loss(&mut self, batch: &[u16], seq_len: usize) -> Result<f64, S::Error> {
        self.store.loss(batch, seq_len)
    }

    /// Nonzeros that move in this step; `None` in the steps between refreshes.
    fn moves(&self, plan: &StepPlan) -> Option<Vec<Option<Move>>> {
        let fraction = plan.regrow?;
        let sizes = self.store.support_sizes();
        let one = |(parameter, nnz): (&ParameterPlan, usize)| {
            let (rule, len) = (parameter.rule.filter(|_| nnz < parameter.len())?, parameter.len());
            let grow = ((fraction * nnz as f64) as usize).min(len - nnz);
            Some(Move { stay: Rule { nnz: nnz - grow, ..rule }, grow })
        };
        Some(plan.parameters.iter().zip(sizes).map(one).collect())
    }

    /// Entries that have a gradient, over all trained parameters.
    fn entries(&self, plan: &StepPlan) -> usize {
        let sizes = self.store.support_sizes();
        let entries = |(p, nnz): (&ParameterPlan, usize)| if plan.exact { p.len() } else { nnz };
        plan.parameters.iter().zip(sizes).filter(|(p, _)| p.trained).map(entries).sum()
    }
}

#[cfg(test)]
mod tests;
