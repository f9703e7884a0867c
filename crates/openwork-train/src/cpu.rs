//! The parameters of a model in training on the CPU: gradients by lanes of threads, and the update parameter by
//! parameter.

use std::{convert::Infallible, ops::ControlFlow, sync::Arc};

use openwork_model::{Config, Cpu, Gradient, Matrix, Model, NoTap, Params, Site, SiteKind, Tap, Tokens, Weight};
use openwork_ops::sum_of_squares;
use openwork_sparse::{Pattern, Support};
use rayon::prelude::*;

use crate::{
    BatchSums, Move, Outcome, Schedule, StepPlan, Store, Trainer,
    plan::{n_targets, next_tokens},
    step::RMS_EPS,
    update::{Update, flat_mut, move_nonzeros},
};

/// Weights, gradients and moments on the CPU.
pub struct CpuStore {
    pub(crate) model: Model,
    /// Adam's first and second moments.
    pub(crate) moments: (Params<Matrix>, Params<Matrix>),
    pub(crate) supports: Vec<Support>,
    n_lanes: usize,
    chunk_sequences: usize,
    /// Of the lanes that are worked on; the first holds the sum of all in the end.
    gradients: Vec<Params<Gradient>>,
    /// Memory to work in, one per thread.
    cpus: Vec<Cpu>,
    /// Nonzeros of each parameter that came in by [`Store::restrict_to_support`] in this step.
    moved: Vec<usize>,
}

impl Trainer {
    /// Starts from `model`, on the CPU. A batch is cut into chunks of `chunk_sequences` sequences, each of which goes
    /// through forward and backward on one thread; they are dealt to `n_lanes` gradient sums, which are added up in a
    /// fixed order: the result depends on their number, never on the number of threads that work on them.
    ///
    /// # Panics
    /// When `n_lanes` is 0.
    pub fn new(model: Model, schedule: Schedule, n_lanes: usize, chunk_sequences: usize) -> Self {
        assert!(n_lanes > 0, "a trainer needs at least one lane");
        let zeros = || Params::build(&model.config, |_, shape| Matrix::zeros(shape));
        let moments = (zeros(), zeros());
        let all = |w: &&Weight| Support::all(w.dense().nrows(), w.dense().ncols());
        let supports: Vec<Support> = model.params.values().iter().map(all).collect();
        let (moved, gradients, cpus) = (vec![0; supports.len()], vec![], vec![]);
        let store = CpuStore { model, moments, supports, n_lanes, chunk_sequences, gradients, cpus, moved };
        Self::with_store(store, schedule, 0)
    }

    /// The model as it is after [`Trainer::step_count`] steps.
    pub fn model(&self) -> &Model {
        &self.store.model
    }

    /// Adam's first and second moments.
    pub fn moments(&self) -> &(Params<Matrix>, Params<Matrix>) {
        &self.store.moments
    }

    /// Bytes that gradients take, and bytes that the last step's chunks worked in.
    pub fn working_memory(&self) -> (usize, usize) {
        let gradients = |lane: &Params<Gradient>| lane.values().iter().map(|g| 4 * g.values().len()).sum::<usize>();
        (self.store.gradients.iter().map(gradients).sum(), self.store.cpus.iter().map(Cpu::bytes).sum())
    }

    /// Goes on from a trained model, on the CPU: as [`Trainer::new`], with the support of the first step of the schedule where the
    /// largest weights are ([`Schedule::fine_tuning`] has that of a trained model, and keeps it).
    ///
    /// # Panics
    /// When `n_lanes` is 0.
    pub fn fine_tuning(model: Model, schedule: Schedule, n_lanes: usize, chunk_sequences: usize) -> Self {
        let mut trainer = Self::new(model, schedule, n_lanes, chunk_sequences);
        trainer.find_supports(0);
        trainer
    }

    /// Continues a run after `step` steps with the moments it had.
    pub(crate) fn resume(&mut self, step: u64, moments: (Params<Matrix>, Params<Matrix>)) {
        self.step = step;
        self.store.moments = moments;
        if step > 0 {
            self.find_supports(step - 1);
        }
    }

    /// Supports of the plan of `step`: they are where the weights are; a kept weight is zero only by accident.
    fn find_supports(&mut self, step: u64) {
        let plan = StepPlan::new(&self.store.model.config, &self.schedule, step);
        let weights = self.store.model.params.values_mut();
        for ((support, weight), parameter) in self.store.supports.iter_mut().zip(weights).zip(&plan.parameters) {
            if let Some(rule) = parameter.selects() {
                let floor = rule.fitting_floor(weight.dense().dim());
                weight.update_on(support, |w, support| support.project(flat_mut(w), rule.nnz, floor));
            }
        }
    }
}

impl Store for CpuStore {
    type Error = Infallible;

    fn config(&self) -> &Config {
        &self.model.config
    }

    /// Lanes go through in waves of as many as there are threads, so that there is one gradient per thread and
    /// the sum, however many lanes the recipe has.
    fn gradient(&mut self, batch: &[u16], seq_len: usize, plan: &StepPlan) -> Result<BatchSums, Infallible> {
        let (n_lanes, supports) = (self.n_lanes, self.gradient_supports(plan));
        let wave = n_lanes.min(rayon::current_num_threads());
        let buffers = wave + usize::from(n_lanes > wave);
        self.gradients.resize_with(buffers, || self.model.zero_gradients());
        self.cpus.resize_with(wave, || Cpu::new(plan.dtype));
        self.moved.fill(0);
        let model = &self.model;
        let scale = 1.0 / n_targets(batch, seq_len) as f32;
        let chunks: Vec<&[u16]> = batch.chunks(seq_len * self.chunk_sequences.max(1)).collect();
        let (mut loss_nats, mut active) = (0.0, Active::new(&model.config));
        for first in (0..n_lanes).step_by(wave) {
            let from = usize::from(first > 0);
            let lanes = from..from + wave.min(n_lanes - first);
            let results: Vec<(f64, Active)> = self.gradients[lanes.clone()]
                .par_iter_mut()
                .zip(&mut self.cpus)
                .zip(first..n_lanes)
                .map(|((gradients, cpu), number)| {
                    reset(gradients, &supports);
                    let (mut loss, mut active) = (0.0, Active::new(&model.config));
                    for chunk in chunks.iter().skip(number).step_by(n_lanes) {
                        loss += chunk_gradient(model, chunk, seq_len, scale, &mut active, gradients, cpu);
                    }
                    (loss, active)
                })
                .collect();
            for (lane_loss, lane_active) in results {
                loss_nats += lane_loss;
                active.merge(&lane_active);
            }
            add_lanes(&mut self.gradients[..lanes.end]);
        }
        Ok(BatchSums { loss_nats, dead_neurons: active.dead() })
    }

    fn support_sizes(&self) -> Vec<usize> {
        self.supports.iter().map(Support::nnz).collect()
    }

    fn restrict_to_support(&mut self, moves: Option<&[Option<Move>]>) {
        let (m, v) = (&mut self.moments.0, &mut self.moments.1);
        self.model
            .params
            .values_mut()
            .into_par_iter()
            .zip(self.gradients[0].values_mut())
            .zip(m.values_mut().into_par_iter().zip(v.values_mut()))
            .zip(self.supports.par_iter_mut().zip(&mut self.moved))
            .enumerate()
            .for_each(|(i, (((weight, gradient), (m, v)), (support, moved)))| {
                let Gradient::Dense(gradient) = gradient else { return };
                if let Some(exchange) = moves.and_then(|moves| moves[i]) {
                    *moved = move_nonzeros(&exchange, gradient, weight, (m, v), support);
                }
                support.mask(flat_mut(gradient));
            });
    }

    fn gradient_rms(&mut self, entries: usize, plan: &StepPlan) -> Result<f64, Infallible> {
        let square = |(g, trained): (&Gradient, bool)| if trained { sum_of_squares(g.values()) } else { 0.0 };
        let trained = plan.parameters.par_iter().map(|p| p.trained);
        let squares: Vec<f64> = self.gradients[0].values().into_par_iter().zip(trained).map(square).collect();
        let sum = squares.into_iter().fold(0.0, |sum, square| sum + square);
        Ok((sum / entries as f64).sqrt())
    }

    fn update(&mut self, rms: f64, plan: &StepPlan) -> Result<Vec<Outcome>, Infallible> {
        let gradient_scale = (1.0 / (rms + RMS_EPS)) as f32;
        let (m, v) = (&mut self.moments.0, &mut self.moments.1);
        let work = self
            .model
            .params
            .values_mut()
            .into_par_iter()
            .zip(self.gradients[0].values())
            .zip(m.values_mut().into_par_iter().zip(v.values_mut()))
            .zip(self.supports.par_iter_mut())
            .zip(plan.parameters.par_iter().zip(&self.moved));
        let outcomes = work.map(|((((weight, gradient), (m, v)), support), (parameter, &moved))| {
            if !parameter.trained {
                return Outcome::default();
            }
            let (adam, exact, rule) = (plan.adam, plan.exact, parameter.selects());
            let decay = parameter.decays.then_some(plan.decay);
            let update = Update { adam, gradient_scale, rule, decay, exact, moved };
            update.apply(weight, gradient, (m, v), support)
        });
        Ok(outcomes.collect())
    }

    fn loss(&mut self, batch: &[u16], seq_len: usize) -> Result<f64, Infallible> {
        let model = &self.model;
        let losses = batch.par_chunks(seq_len).map(|sequence| {
            let (readout, targets) = next_tokens(sequence, seq_len);
            let pass = model.forward(Tokens::new(sequence, seq_len), Some(&readout), &mut NoTap);
            let log_sum = openwork_ops::log_sum_exp(&pass.logits);
            let loss = |(t, &v): (usize, &u16)| f64::from(log_sum[t] - pass.logits[[usize::from(v), t]]);
            targets.iter().enumerate().map(loss).sum()
        });
        let losses: Vec<f64> = losses.collect();
        Ok(losses.iter().sum::<f64>() / n_targets(batch, seq_len) as f64)
    }
}

impl CpuStore {
    /// The model, and the gradient of the batch before it is restricted to the support: what the hook of [`Trainer::step_with`] adds
    /// to.
    pub fn model_and_gradient(&mut self) -> (&Model, &mut Params<Gradient>) {
        (&self.model, &mut self.gradients[0])
    }

    /// Supports at whose positions gradients are wanted; `None` where every entry has one.
    fn gradient_supports(&self, plan: &StepPlan) -> Vec<Option<Arc<Pattern>>> {
        let parameters = plan.parameters.iter().zip(self.model.params.values()).zip(&self.supports);
        let support = parameters.map(|((parameter, weight), support)| {
            // The weight has the pattern already where its products are sparse, which depends on the machine.
            let pattern = || weight.csr().map_or_else(|| support.pattern().into(), |csr| csr.pattern().clone());
            plan.gradient_at_support(parameter, support.nnz()).then(pattern)
        });
        support.collect()
    }
}

/// Adds the other lanes to the first, in their order: every entry is the chain `(lane 0 + lane 1) + lane 2 + …`.
fn add_lanes(lanes: &mut [Params<Gradient>]) {
    let Some((sum, rest)) = lanes.split_first_mut() else { return };
    let rest: Vec<Vec<&Gradient>> = rest.iter().map(Params::values).collect();
    sum.values_mut().into_par_iter().enumerate().for_each(|(i, sum)| {
        for lane in &rest {
            sum.values_mut().iter_mut().zip(lane[i].values()).for_each(|(s, g)| *s += g);
        }
    });
}

/// Makes gradients zero, of everything or at the supports given.
fn reset(gradients: &mut Params<Gradient>, supports: &[Option<Arc<Pattern>>]) {
    for (gradient, support) in gradients.values_mut().into_iter().zip(supports) {
        match (&mut *gradient, support) {
            (Gradient::Dense(g), None) => g.fill(0.0),
            (Gradient::Support { pattern, values }, Some(support)) if Arc::ptr_eq(pattern, support) => values.fill(0.0),
            (Gradient::Support { pattern, .. }, None) => *gradient = Gradient::zeros((pattern.rows(), pattern.cols())),
            (_, Some(support)) => *gradient = Gradient::on(support.clone()),
        }
    }
}

/// Forward and backward of one chunk; adds to `gradients` and returns the sum of the losses.
fn chunk_gradient(
    model: &Model,
    chunk: &[u16],
    seq_len: usize,
    scale: f32,
    active: &mut Active,
    gradients: &mut Params<Gradient>,
    cpu: &mut Cpu,
) -> f64 {
    let tokens = Tokens::new(chunk, seq_len);
    let (readout, targets) = next_tokens(chunk, seq_len);
    // One tile: a chunk is small.
    let losses = model.gradient_in(tokens, (&readout, &targets), scale, readout.len().max(1), active, gradients, cpu);
    losses.iter().flatten().map(|&l| f64::from(l)).sum()
}

/// Tap that marks the neurons that some token activates.
struct Active {
    neurons: Vec<Vec<bool>>,
}

impl Active {
    fn new(config: &Config) -> Self {
        Self { neurons: vec![vec![false; config.d_mlp]; config.n_layer] }
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.neurons.iter_mut().flatten().zip(other.neurons.iter().flatten()) {
            *mine |= theirs;
        }
    }

    fn dead(&self) -> usize {
        self.neurons.iter().flatten().filter(|active| !**active).count()
    }
}

impl Tap for Active {
    fn sees_gradients(&self) -> bool {
        false
    }

    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        if site.kind == SiteKind::Neuron {
            for (active, row) in self.neurons[site.layer].iter_mut().zip(value.rows()) {
                *active = *active || row.iter().any(|&x| x != 0.0);
            }
        }
        ControlFlow::Continue(())
    }
}
