//! One training step: gradient, normalisation, Adam, top magnitude, decay.
//!
//! Source: Gao et al. 2025, §2.1 and A.2, and the order of the released training code. Differs from it
//! in precision only (f32 throughout instead of fp16 autocast with a loss scaler), unless
//! [`GradientMode::Support`] asks for more.

use std::{ops::ControlFlow, sync::Arc, time::Instant};

use openwork_model::{Cpu, Gradient, Matrix, Model, Params, Positions, Role, Site, SiteKind, Tap, Tokens, Weight};
use openwork_ops::{Adam, DENSE_GRADIENT_ABOVE, sum_of_squares};
use openwork_sparse::{Pattern, Support};
use rayon::prelude::*;

use crate::{
    GradientMode, Rule, Schedule, SparsityReport,
    update::{Update, flat_mut, move_nonzeros},
};

/// Added to the gradient's RMS before dividing by it (released code).
pub(crate) const RMS_EPS: f64 = 1e-5;

/// A model in training: weights, Adam's moments and the step count.
pub struct Trainer {
    /// The model as it is after [`Trainer::step_count`] steps.
    pub model: Model,
    /// Adam's first and second moments.
    pub moments: (Params<Matrix>, Params<Matrix>),
    schedule: Schedule,
    step: u64,
    n_lanes: usize,
    /// Of the lanes that are worked on; the first holds the sum of all in the end.
    gradients: Vec<Params<Gradient>>,
    /// Memory to work in, one per thread.
    spaces: Vec<Cpu>,
    supports: Vec<Support>,
}

/// What one step did.
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
    /// What sparsification did.
    pub sparsity: SparsityReport,
    /// Neurons that no token of the batch activated.
    pub dead_neurons: usize,
    /// Tokens of the batch.
    pub tokens: usize,
    /// Seconds the step took.
    pub seconds: f64,
}

impl StepReport {
    /// Of `step`, that of `schedule`, with `(loss_nats, grad_rms)`, of a batch that was begun at a time.
    pub(crate) fn new(
        schedule: &Schedule,
        step: u64,
        (loss_nats, grad_rms): (f64, f64),
        sparsity: SparsityReport,
        dead_neurons: usize,
        (batch, start): (&[u16], Instant),
    ) -> Self {
        Self {
            step,
            loss_nats,
            lr: schedule.lr_at(step),
            pfrac: schedule.pfrac_at(step),
            grad_rms,
            sparsity,
            dead_neurons,
            tokens: batch.len(),
            seconds: start.elapsed().as_secs_f64(),
        }
    }
}

impl Trainer {
    /// Starts from `model`. A batch is dealt to `n_lanes` gradient sums, which are added up in a fixed order:
    /// the result depends on their number, never on the number of threads that work on them.
    ///
    /// # Panics
    /// When `n_lanes` is 0.
    pub fn new(model: Model, schedule: Schedule, n_lanes: usize) -> Self {
        assert!(n_lanes > 0, "a trainer needs at least one lane");
        let zeros = || Params::build(&model.config, |_, shape| Matrix::zeros(shape));
        let moments = (zeros(), zeros());
        let all = |w: &&Weight| Support::all(w.dense().nrows(), w.dense().ncols());
        let supports = model.params.values().iter().map(all).collect();
        Self { model, moments, schedule, step: 0, n_lanes, gradients: Vec::new(), spaces: Vec::new(), supports }
    }

    /// Continues a run after `step` steps with the moments it had.
    pub(crate) fn resume(&mut self, step: u64, moments: (Params<Matrix>, Params<Matrix>)) {
        self.step = step;
        self.moments = moments;
        if step > 0 {
            let rules = rules(&self.model, &self.schedule, step - 1);
            for ((support, weight), rule) in self.supports.iter_mut().zip(self.model.params.values_mut()).zip(rules) {
                // The support is where the weights are; a kept weight is zero only by accident.
                if let Some(rule) = rule.filter(|rule| rule.nnz < weight.dense().len()) {
                    let floor = rule.fitting_floor(weight.dense().dim());
                    weight.update_on(support, |w, support| support.project(flat_mut(w), rule.nnz, floor));
                }
            }
        }
    }

    /// Steps done.
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// The schedule of the run.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Bytes that gradients take, and bytes that the last step's chunks worked in.
    pub fn working_memory(&self) -> (usize, usize) {
        let gradients = |lane: &Params<Gradient>| lane.values().iter().map(|g| 4 * g.values().len()).sum::<usize>();
        (self.gradients.iter().map(gradients).sum(), self.spaces.iter().map(Cpu::bytes).sum())
    }

    /// One step on `batch`, whole sequences of `seq_len` tokens. Every token but the last of a sequence
    /// predicts the next; chunks of `chunk_sequences` go through forward and backward on one thread.
    ///
    /// A loss that is not finite leaves the model as it was; the caller sees it in the report.
    pub fn step(&mut self, batch: &[u16], seq_len: usize, chunk_sequences: usize) -> StepReport {
        let start = Instant::now();
        let (loss_nats, dead_neurons) = self.gradient(batch, seq_len, chunk_sequences);
        let trained = trained(&self.model);
        let moved = match loss_nats.is_finite() {
            true => self.restrict_to_support(),
            false => vec![],
        };
        let grad_rms = self.grad_rms(&trained);
        let lr = self.schedule.lr_at(self.step);
        let sparsity = match loss_nats.is_finite() && grad_rms.is_finite() {
            true => self.update(lr, (1.0 / (grad_rms + RMS_EPS)) as f32, &trained, &moved),
            false => SparsityReport::default(),
        };
        self.step += 1;
        StepReport::new(&self.schedule, self.step - 1, (loss_nats, grad_rms), sparsity, dead_neurons, (batch, start))
    }

    /// Leaves the gradient of the mean loss in `gradients[0]`; returns that loss and the number of neurons
    /// that stayed silent.
    ///
    /// Lanes go through in waves of as many as there are threads, so that there is one gradient per thread and
    /// the sum, however many lanes the recipe has.
    fn gradient(&mut self, batch: &[u16], seq_len: usize, chunk_sequences: usize) -> (f64, usize) {
        let (n_lanes, supports) = (self.n_lanes, self.gradient_supports());
        let wave = n_lanes.min(rayon::current_num_threads());
        let buffers = wave + usize::from(n_lanes > wave);
        self.gradients.resize_with(buffers, || self.model.zero_gradients());
        self.spaces.resize_with(wave, || Cpu::new(self.schedule.dtype));
        let model = &self.model;
        let n_targets = batch.len() / seq_len * (seq_len - 1);
        let chunks: Vec<&[u16]> = batch.chunks(seq_len * chunk_sequences.max(1)).collect();
        let (mut loss, mut active) = (0.0, Active::new(model));
        for first in (0..n_lanes).step_by(wave) {
            let from = usize::from(first > 0);
            let lanes = from..from + wave.min(n_lanes - first);
            let results: Vec<(f64, Active)> = self.gradients[lanes.clone()]
                .par_iter_mut()
                .zip(&mut self.spaces)
                .zip(first..n_lanes)
                .map(|((gradients, space), number)| {
                    reset(gradients, &supports);
                    let (mut loss, mut active) = (0.0, Active::new(model));
                    for chunk in chunks.iter().skip(number).step_by(n_lanes) {
                        let scale = 1.0 / n_targets as f32;
                        loss += chunk_gradient(model, chunk, seq_len, scale, &mut active, gradients, space);
                    }
                    (loss, active)
                })
                .collect();
            for (lane_loss, lane_active) in results {
                loss += lane_loss;
                active.merge(&lane_active);
            }
            let (sum, rest) = self.gradients.split_at_mut(1);
            let rest: Vec<Vec<&Gradient>> = rest[..lanes.end - 1].iter().map(Params::values).collect();
            sum[0].values_mut().into_par_iter().enumerate().for_each(|(i, sum)| {
                for lane in &rest {
                    sum.values_mut().iter_mut().zip(lane[i].values()).for_each(|(s, g)| *s += g);
                }
            });
        }
        (loss / n_targets as f64, active.silent())
    }

    /// Where gradients are wanted: the support of a parameter, or everywhere. Support mode asks for the support
    /// of matrices that multiply activations, where dot products take less time than the dense gradient.
    fn gradient_supports(&self) -> Vec<Option<Arc<Pattern>>> {
        let dense = self.schedule.gradient == GradientMode::Exact || self.schedule.regrow_at(self.step).is_some();
        let multiplies = |role| matches!(role, Role::Qkv | Role::AttnOut | Role::Fc | Role::Proj | Role::Unembed);
        let infos = Params::<()>::infos(&self.model.config);
        let support = |((info, weight), support): ((&openwork_model::ParamInfo, &Weight), &Support)| {
            let few = support.nnz() as f64 <= DENSE_GRADIENT_ABOVE * weight.dense().len() as f64;
            let wanted = !dense && multiplies(info.role) && few;
            // The weight has the pattern already where its products are sparse, which depends on the machine.
            wanted.then(|| weight.csr().map_or_else(|| support.pattern().into(), |csr| csr.pattern().clone()))
        };
        infos.iter().zip(self.model.params.values()).zip(&self.supports).map(support).collect()
    }

    /// In support mode: moves nonzeros if it is time to, and sets gradients outside the support to zero.
    /// Returns how many nonzeros of each parameter moved.
    fn restrict_to_support(&mut self) -> Vec<usize> {
        if self.schedule.gradient == GradientMode::Exact {
            return vec![0; self.supports.len()];
        }
        let fraction = self.schedule.regrow_at(self.step);
        let rules = rules(&self.model, &self.schedule, self.step);
        self.model
            .params
            .values_mut()
            .into_par_iter()
            .zip(self.gradients[0].values_mut())
            .zip(self.moments.0.values_mut().into_par_iter().zip(self.moments.1.values_mut()))
            .zip(self.supports.par_iter_mut().zip(&rules))
            .map(|(((weight, gradient), (m, v)), (support, rule))| {
                let Gradient::Dense(gradient) = gradient else { return 0 };
                let mut moved = 0;
                if let (Some(fraction), Some(rule)) = (fraction, rule)
                    && support.nnz() < gradient.len()
                {
                    moved = move_nonzeros(fraction, rule, gradient, weight, (m, v), support);
                }
                support.mask(flat_mut(gradient));
                moved
            })
            .collect()
    }

    /// Root mean square of the gradient over the entries that have one.
    fn grad_rms(&self, trained: &[bool]) -> f64 {
        let exact = self.schedule.gradient == GradientMode::Exact;
        let square = |((g, support), &trained): ((&Gradient, &Support), &bool)| {
            let count = if exact { g.values().len() } else { support.nnz() };
            if trained { (sum_of_squares(g.values()), count) } else { (0.0, 0) }
        };
        let parameters = self.gradients[0].values().into_par_iter().zip(&self.supports).zip(trained);
        let squares: Vec<(f64, usize)> = parameters.map(square).collect();
        let (sum, count) = squares.into_iter().fold((0.0, 0), |(s, n), (square, len)| (s + square, n + len));
        (sum / count as f64).sqrt()
    }

    /// Adam, top magnitude and decay of every trained parameter.
    fn update(&mut self, lr: f64, gradient_scale: f32, trained: &[bool], moved: &[usize]) -> SparsityReport {
        let s = &self.schedule;
        let (beta1, beta2, eps) = s.adam;
        let adam = Adam { lr: lr as f32, beta1, beta2, eps, step: self.step + 1 };
        let decay = (s.weight_decay * lr) as f32;
        let exact = s.gradient == GradientMode::Exact;
        let infos = Params::<()>::infos(&self.model.config);
        let rules = rules(&self.model, &self.schedule, self.step);
        let work = self
            .model
            .params
            .values_mut()
            .into_par_iter()
            .zip(self.gradients[0].values())
            .zip(self.moments.0.values_mut().into_par_iter().zip(self.moments.1.values_mut()))
            .zip(self.supports.par_iter_mut())
            .zip(infos.par_iter().zip(&rules))
            .zip(trained.par_iter().zip(moved));
        let kept: Vec<_> = work
            .map(|(((((weight, gradient), (m, v)), support), (info, rule)), (&trained, &moved))| {
                if !trained {
                    return Default::default();
                }
                let update = Update {
                    adam,
                    gradient_scale,
                    rule: rule.filter(|rule| rule.nnz < weight.dense().len()),
                    // Matrices decay, vectors and the bigram table do not (released code).
                    decay: (info.n_dim > 1 && info.role != Role::Bigram).then_some(decay),
                    exact,
                    moved,
                };
                update.apply(weight, gradient, (m, v), support)
            })
            .collect();
        let mut report = SparsityReport::default();
        for (((info, rule), weight), kept) in infos.iter().zip(&rules).zip(self.model.params.values()).zip(kept) {
            if let Some(rule) = rule {
                report.add(info, rule, weight.dense().dim(), kept);
            }
        }
        report
    }

    /// Mean cross-entropy in nats of the model on `batch`, without a step.
    pub fn loss(model: &Model, batch: &[u16], seq_len: usize) -> f64 {
        let losses: Vec<f64> = batch
            .par_chunks(seq_len)
            .map(|sequence| {
                let (readout, targets) = next_tokens(sequence, seq_len);
                let pass = model.forward(Tokens::new(sequence, seq_len), Some(&readout), &mut openwork_model::NoTap);
                let log_sum = openwork_ops::log_sum_exp(&pass.logits);
                let loss = |(t, &v): (usize, &u16)| f64::from(log_sum[t] - pass.logits[[usize::from(v), t]]);
                targets.iter().enumerate().map(loss).sum()
            })
            .collect();
        losses.iter().sum::<f64>() / (batch.len() / seq_len * (seq_len - 1)) as f64
    }
}

/// The sparsification rule of every parameter at `step`.
pub(crate) fn rules<W>(model: &Model<W>, schedule: &Schedule, step: u64) -> Vec<Option<Rule>> {
    let config = &model.config;
    let concatenated = !matches!(config.positions, Positions::None | Positions::Added);
    let rule = |info: &openwork_model::ParamInfo, shape| {
        let rule = Rule::of(info.role, shape, concatenated, schedule, step);
        rule.filter(|_| model.is_trained(info.role))
    };
    Params::build(config, rule).into_values()
}

/// Which parameters are trained.
pub(crate) fn trained<W>(model: &Model<W>) -> Vec<bool> {
    Params::build(&model.config, |info, _| model.is_trained(info.role)).into_values()
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
    space: &mut Cpu,
) -> f64 {
    let tokens = Tokens::new(chunk, seq_len);
    let (readout, targets) = next_tokens(chunk, seq_len);
    // One tile: a chunk is small.
    let losses = model.gradient_in(tokens, (&readout, &targets), scale, readout.len().max(1), active, gradients, space);
    losses.iter().flatten().map(|&l| f64::from(l)).sum()
}

/// The columns that predict and what they predict: every token but the last of each sequence.
pub(crate) fn next_tokens(chunk: &[u16], seq_len: usize) -> (Vec<usize>, Vec<u16>) {
    let readout: Vec<usize> = (0..chunk.len()).filter(|t| t % seq_len != seq_len - 1).collect();
    let targets = readout.iter().map(|&t| chunk[t + 1]).collect();
    (readout, targets)
}

/// Notes which neurons were active.
struct Active {
    neurons: Vec<Vec<bool>>,
}

impl Active {
    fn new(model: &Model) -> Self {
        Self { neurons: vec![vec![false; model.config.d_mlp]; model.config.n_layer] }
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.neurons.iter_mut().flatten().zip(other.neurons.iter().flatten()) {
            *mine |= theirs;
        }
    }

    fn silent(&self) -> usize {
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

#[cfg(test)]
mod tests {
    use openwork_model::{ActivationDtype, Config};

    use super::*;

    fn trainer(lanes: usize) -> Trainer {
        let config = Config {
            vocab_size: 20,
            n_ctx: 12,
            n_layer: 2,
            n_head: 2,
            d_head: 4,
            d_model: 16,
            d_mlp: 32,
            ..Config::default()
        };
        let schedule = Schedule {
            steps: 30,
            peak_lr: 0.05,
            warmup_steps: 2.0,
            adam: (0.9, 0.95, 0.1),
            weight_decay: 0.1,
            expansion_factor: 2.0,
            pfrac: 0.5,
            anneal: crate::Anneal::Linear,
            anneal_start: 2.0,
            anneal_stop: 15.0,
            sharkfin: true,
            min_per_unit: 1,
            gradient: GradientMode::Exact,
            dtype: ActivationDtype::F32,
            sparse_biases: false,
        };
        Trainer::new(Model::init(config, 4), schedule, lanes)
    }

    fn batch(seed: u16) -> Vec<u16> {
        // Counting with a stride per sequence: learnable.
        (0..8 * 12).map(|i| (seed + i / 12 + i % 12 * (1 + i / 12 % 3)) % 20).collect()
    }

    fn weights(t: &Trainer) -> Vec<u32> {
        t.model.params.values().iter().flat_map(|w| w.dense().iter().map(|x| x.to_bits()).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn same_bytes_whatever_the_number_of_threads() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut t = trainer(3);
                (0..6).for_each(|s| drop(t.step(&batch(s), 12, 1)));
                weights(&t)
            })
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }

    #[test]
    fn learns_and_keeps_exactly_the_nonzeros_asked_for() {
        let mut t = trainer(2);
        let reports: Vec<StepReport> = (0..30).map(|s| t.step(&batch(s), 12, 2)).collect();
        assert!(
            reports[29].loss_nats < reports[0].loss_nats - 0.5,
            "{} {}",
            reports[0].loss_nats,
            reports[29].loss_nats
        );
        for m in &reports[29].sparsity.matrices {
            let density = if m.name.contains(".h.") { 1.0 / 8.0 } else { 1.0 / 4.0 };
            assert!((m.density - density).abs() < 0.01, "{} {}", m.name, m.density);
        }
        assert!(reports[0].sparsity.matrices.iter().all(|m| m.density == 1.0 && m.churn == 0.0));
        let floors = t.model.params.blocks[0].fc.weight.dense().rows().into_iter().all(|r| r.iter().any(|&x| x != 0.0));
        assert!(floors, "every neuron keeps an input");
    }

    #[test]
    fn while_all_entries_stay_the_support_is_everything() {
        let run = |gradient| {
            let mut t = trainer(2);
            (t.schedule.gradient, t.schedule.pfrac) = (gradient, 4.0);
            (0..5).for_each(|s| drop(t.step(&batch(s), 12, 2)));
            weights(&t)
        };
        assert_eq!(run(GradientMode::Exact), run(GradientMode::Support { refresh_every: 2, regrow: 0.3 }));
    }

    #[test]
    fn gradients_of_the_support_train_it_and_nothing_else() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut t = trainer(3);
            t.schedule.gradient = GradientMode::Support { refresh_every: 10, regrow: 0.3 };
            let mut losses = Vec::new();
            for s in 0..30 {
                let before: Vec<Pattern> = t.supports.iter().map(Support::pattern).collect();
                let report = pool.install(|| t.step(&batch(s), 12, 1));
                losses.push(report.loss_nats);
                let moments = t.moments.0.values().into_iter().zip(t.moments.1.values());
                for ((support, before), (weight, (m, v))) in
                    t.supports.iter().zip(&before).zip(t.model.params.values().into_iter().zip(moments))
                {
                    let mut outside = [weight.dense().clone(), m.clone(), v.clone()];
                    let now = support.pattern();
                    for x in &mut outside {
                        let inside = x.clone();
                        now.project(x);
                        assert_eq!(*x, inside, "step {s}: nothing is outside the support");
                    }
                    // The anneal ends at step 15: nonzeros move at step 20 and at no other.
                    let grown = now != *before && now.nnz() == before.nnz();
                    assert!(!grown || s == 20, "step {s}");
                }
                let moved = report.sparsity.matrices.iter().map(|m| m.churn).sum::<f64>();
                assert_eq!(moved > 0.0, s == 20, "step {s}");
            }
            assert!(losses[29] < losses[0] - 0.5, "{losses:?}");
            weights(&t)
        };
        assert_eq!(run(1), run(4));
    }

    #[test]
    fn bf16_activations_train_as_well() {
        for gradient in [GradientMode::Exact, GradientMode::Support { refresh_every: 10, regrow: 0.3 }] {
            let run = |dtype, threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut t = trainer(3);
                (t.schedule.dtype, t.schedule.gradient) = (dtype, gradient);
                let losses: Vec<f64> = (0..30).map(|s| pool.install(|| t.step(&batch(s), 12, 1)).loss_nats).collect();
                (losses, weights(&t))
            };
            let (bf16, exact) = (run(ActivationDtype::Bf16, 1), run(ActivationDtype::F32, 1));
            assert_eq!(bf16, run(ActivationDtype::Bf16, 4));
            // Relative rounding of 2⁻⁹ in activations of order 1, whose sums are logits of order 1.
            assert!((bf16.0[0] - exact.0[0]).abs() < 4e-3, "{} {}", bf16.0[0], exact.0[0]);
            assert_ne!(bf16.1, exact.1);
            assert!(bf16.0[29] < bf16.0[0] - 0.5, "{:?}", bf16.0);
        }
    }

    #[test]
    fn nothing_enters_where_nothing_can() {
        let mut t = trainer(1);
        t.schedule.sharkfin = false;
        let (mut closed, mut open) = (0, 0);
        for s in 0..30 {
            t.schedule.peak_lr = if s < 20 { 0.05 } else { 1e-4 };
            for m in t.step(&batch(s), 12, 2).sparsity.matrices {
                closed += usize::from(m.closed);
                open += usize::from(!m.closed);
                assert!(!m.closed || m.churn == 0.0, "{} at step {s}", m.name);
            }
        }
        assert!(closed > 0 && open > 0, "{closed} {open}");
    }

    #[test]
    fn a_loss_that_is_not_finite_changes_nothing() {
        let mut t = trainer(1);
        t.model.params.embed.update(|w| w[[3, 3]] = f32::NAN);
        let before = weights(&t);
        let report = t.step(&batch(0), 12, 1);
        assert!(!report.loss_nats.is_finite());
        assert_eq!(weights(&t), before);
    }

    #[test]
    fn sparse_biases_are_a_switch() {
        let mut t = trainer(1);
        t.schedule.sparse_biases = true;
        (0..20).for_each(|s| drop(t.step(&batch(s), 12, 2)));
        let bias = t.model.params.blocks[0].fc.bias.as_ref().unwrap();
        assert_eq!(bias.nnz(), 32 / 4);
    }
}
