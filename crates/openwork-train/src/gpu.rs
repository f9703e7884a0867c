//! Training steps on a GPU: the algorithm of `step.rs`, with weights, gradients and moments in device memory.
//!
//! Differs from it in the order of some sums only, and in what counts as having entered where nonzeros move by gradient
//! (an entry that leaves and returns in the same step does).

use std::{ops::ControlFlow, time::Instant};

use openwork_cuda::{
    self as cuda, Adam, Array, Buffer, Gpu, GpuError, Outcome, Parameter, Parameters, Selection, Shape, Unit,
};
use openwork_model::{ActivationDtype, Matrix, Model, NoTap, Params, Role, Site, SiteKind, Tap, Tokens};
use openwork_ops::{Cuda, CudaGradient, DENSE_GRADIENT_ABOVE, Engine};
use openwork_sparse as sparse;

use crate::{
    GradientMode, Rule, Schedule, SparsityReport, StepReport, Trainer,
    step::{RMS_EPS, next_tokens, rules, trained},
    update::{flat, flat_mut},
};

/// Columns whose logits are there at a time.
const TILE: usize = 8192;

/// Size of the batches of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Sequences of a step.
    pub sequences: usize,
    /// Sequences that go through forward and backward at once.
    pub chunk_sequences: usize,
}

/// A model in training on a GPU.
pub struct GpuTrainer {
    engine: Cuda,
    /// For losses without a step, whose activations are f32 in any case.
    evaluation: Cuda,
    parameters: Parameters,
    /// Handles to the parameters as they are now.
    model: Model<Parameter>,
    schedule: Schedule,
    step: u64,
    batch: BatchShape,
    /// Entries that each parameter may have now: its support.
    nnz: Vec<usize>,
    /// Density below which a sparse product takes less time than a dense one.
    crossover: f64,
    active: Active,
}

impl GpuTrainer {
    /// Continues what `trainer` has done, on `gpu`, in steps of so many sequences; everything that a step needs is
    /// allocated here. As many sequences go through at once as fit the device: a half, a quarter, … of them where not
    /// all do. How many depends on the size of its memory, never on what is free.
    ///
    /// # Errors
    /// When there is no kernel for a size of the model, or the device has too little memory.
    pub fn new(trainer: &Trainer, gpu: Gpu, seq_len: usize, sequences: usize) -> Result<Self, GpuError> {
        let crossover = Cuda::new(gpu.clone(), trainer.schedule().dtype).crossover()?;
        let batch = Self::batch_that_fits(trainer, &gpu, seq_len, sequences, crossover)?;
        Self::with_crossover(trainer, gpu, batch, crossover)
    }

    fn batch_that_fits(
        trainer: &Trainer,
        gpu: &Gpu,
        seq_len: usize,
        sequences: usize,
        crossover: f64,
    ) -> Result<BatchShape, GpuError> {
        let mut batch = BatchShape { seq_len, sequences, chunk_sequences: sequences };
        // A tenth is for the driver, kernels and what was measured before.
        let most = gpu.memory() / 10 * 9;
        while batch.chunk_sequences > 1 && Self::memory(trainer, gpu, batch, crossover)? > most {
            batch.chunk_sequences = batch.chunk_sequences.div_ceil(2);
        }
        Ok(batch)
    }

    /// [`GpuTrainer::new`] with a given density below which products are sparse ([`Cuda::crossover`]).
    pub fn with_crossover(trainer: &Trainer, gpu: Gpu, batch: BatchShape, crossover: f64) -> Result<Self, GpuError> {
        let bytes = Self::memory(trainer, &gpu, batch, crossover)?;
        gpu.reserve(bytes)?;
        let this = Self::build(trainer, gpu, batch, crossover)?;
        this.engine.gpu().check()?;
        Ok(this)
    }

    /// Bytes of device memory that steps need: found by steps on a device that only counts.
    fn memory(trainer: &Trainer, gpu: &Gpu, batch: BatchShape, crossover: f64) -> Result<usize, GpuError> {
        let rehearsal = gpu.rehearsal();
        let mut this = Self::build(trainer, rehearsal.clone(), batch, crossover)?;
        let tokens = vec![0; batch.sequences * batch.seq_len];
        // With all weights, and with as few as there will be; there with tables for nonzeros that move.
        this.step(&tokens)?;
        this.step = trainer.schedule().steps.saturating_sub(1);
        this.thin_out(this.step);
        this.parameters.move_nonzeros(&vec![None; this.nnz.len()], &vec![0; this.nnz.len()]);
        this.step(&tokens)?;
        this.loss(&tokens[..batch.chunk_sequences.min(batch.sequences) * batch.seq_len])?;
        Ok(rehearsal.used())
    }

    fn build(trainer: &Trainer, gpu: Gpu, batch: BatchShape, crossover: f64) -> Result<Self, GpuError> {
        let (model, schedule) = (&trainer.model, trainer.schedule());
        let config = &model.config;
        Cuda::supports(config.d_head, config.d_mlp.max(config.d_read()))?;
        if schedule.min_per_unit > cuda::MOST_PER_UNIT {
            return Err(GpuError::Unsupported {
                what: format!("a floor of {} entries a unit (sparsity.min_per_unit)", schedule.min_per_unit),
                instead: format!("there is one for up to {}", cuda::MOST_PER_UNIT),
            });
        }
        let engine = Cuda::new(gpu.clone(), schedule.dtype);
        let evaluation = Cuda::new(gpu.clone(), ActivationDtype::F32);
        let most = crossover.max(DENSE_GRADIENT_ABOVE);
        let shape = |info: &openwork_model::ParamInfo, [rows, cols]: [usize; 2]| {
            let room =
                if multiplies(config.tied_unembed, info.role) { (most * (rows * cols) as f64) as usize } else { 0 };
            Shape { rows, cols, room }
        };
        let shapes = Params::build(config, shape).into_values();
        let parameters = Parameters::new(&gpu, &shapes);
        let moments = trainer.moments.0.values().into_iter().zip(trainer.moments.1.values());
        for (i, (weight, (m, v))) in model.params.values().into_iter().zip(moments).enumerate() {
            parameters.set_weights(i, flat(weight.dense()));
            parameters.set_moments(i, flat(m), flat(v));
        }
        let nnz = shapes.iter().map(|s| s.rows * s.cols).collect();
        let active = Active::new(&gpu, config.n_layer, config.d_mlp);
        let step = trainer.step_count();
        let model = Model::of(config.clone(), &parameters);
        let mut this = Self {
            engine,
            evaluation,
            parameters,
            model,
            schedule: schedule.clone(),
            step,
            batch,
            nnz,
            crossover,
            active,
        };
        if step > 0 {
            this.thin_out(step - 1);
        }
        Ok(this)
    }

    /// Takes note that the weights are those after `step`.
    fn thin_out(&mut self, step: u64) {
        self.nnz = self.wanted(step);
        let sparse = self.sparse(&self.nnz);
        self.parameters.build_sparse(&self.nnz, &sparse);
        self.model = Model::of(self.model.config.clone(), &self.parameters);
    }

    /// Steps done.
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        self.engine.gpu()
    }

    /// Brings `trainer` to where this one is.
    pub fn download(&self, trainer: &mut Trainer) -> Result<(), GpuError> {
        let (mut weights, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..self.nnz.len() {
            let [m, v] = self.parameters.moments(i)?;
            weights.push(self.parameters.weights(i)?);
            first.push(m);
            second.push(v);
        }
        for (weight, values) in trainer.model.params.values_mut().into_iter().zip(&weights) {
            weight.update(|w| flat_mut(w).copy_from_slice(values));
        }
        let tree = |values: Vec<Vec<f32>>| {
            let mut values = values.into_iter();
            let matrix = |[rows, cols]: [usize; 2], values| {
                Matrix::from_shape_vec((rows, cols), values).expect("as many as the parameter has")
            };
            Params::build(&self.model.config, |_, shape| matrix(shape, values.next().expect("same tree")))
        };
        trainer.resume(self.step, (tree(first), tree(second)));
        Ok(())
    }

    /// One step, see [`Trainer::step`].
    pub fn step(&mut self, batch: &[u16]) -> Result<StepReport, GpuError> {
        let start = Instant::now();
        let loss_nats = self.gradient(batch)?;
        let dead_neurons = self.active.silent()?;
        if loss_nats.is_finite() && self.schedule.gradient != GradientMode::Exact {
            self.restrict_to_support();
        }
        let trained = trained(&self.model);
        let entries = match self.schedule.gradient {
            GradientMode::Exact => self.lengths(),
            GradientMode::Support { .. } => self.nnz.clone(),
        };
        let entries = entries.iter().zip(&trained).filter(|(_, trained)| **trained).map(|(n, _)| n).sum();
        let grad_rms = f64::from(self.parameters.gradient_rms(entries, RMS_EPS as f32)?);
        let lr = self.schedule.lr_at(self.step);
        let sparsity = match loss_nats.is_finite() && grad_rms.is_finite() {
            true => self.update(lr, &trained)?,
            false => SparsityReport::default(),
        };
        self.step += 1;
        let (numbers, measured) = ((loss_nats, grad_rms), (batch, start));
        Ok(StepReport::new(&self.schedule, self.step - 1, numbers, sparsity, dead_neurons, measured))
    }

    /// Leaves the gradient of the mean loss with the parameters; returns that loss.
    fn gradient(&mut self, batch: &[u16]) -> Result<f64, GpuError> {
        let BatchShape { seq_len, chunk_sequences, .. } = self.batch;
        self.parameters.zero_gradients();
        self.active.clear();
        let n_targets = batch.len() / seq_len * (seq_len - 1);
        let mut gradients = self.gradients();
        let mut losses = Vec::new();
        for chunk in batch.chunks(seq_len * chunk_sequences.max(1)) {
            let (readout, targets) = next_tokens(chunk, seq_len);
            let (active, engine) = (&mut self.active, &mut self.engine);
            let (tokens, factor) = (Tokens::new(chunk, seq_len), 1.0 / n_targets as f32);
            let wanted = (&readout[..], &targets[..]);
            losses.extend(self.model.gradient_in(tokens, wanted, factor, TILE, active, &mut gradients, engine));
        }
        let mut sum = 0.0;
        for chunk in losses {
            sum += chunk.download()?.iter().map(|&l| f64::from(l)).sum::<f64>();
        }
        Ok(sum / n_targets as f64)
    }

    /// Where gradients go, and of which entries: in support mode those of nonzeros, but for the steps that move them.
    fn gradients(&self) -> Params<CudaGradient> {
        let dense = self.schedule.gradient == GradientMode::Exact || self.schedule.regrow_at(self.step).is_some();
        let mut number = 0..;
        Params::build(&self.model.config, |info, [rows, cols]| {
            let parameter = self.parameters.get(number.next().expect("endless"));
            let few = self.nnz[number.start - 1] as f64 <= DENSE_GRADIENT_ABOVE * (rows * cols) as f64;
            // The tied table has gradients of its rows, too.
            let multiplies = multiplies(false, info.role);
            CudaGradient { at_nonzeros: !dense && few && multiplies && parameter.is_sparse(), parameter }
        })
    }

    /// In support mode: moves nonzeros if it is time to, and makes gradients outside the support zero.
    fn restrict_to_support(&mut self) {
        let restricted: Vec<bool> = self.nnz.iter().zip(self.lengths()).map(|(&nnz, len)| nnz < len).collect();
        let Some(fraction) = self.schedule.regrow_at(self.step) else {
            return self.parameters.mask_gradients(&restricted);
        };
        let rules = rules(&self.model, &self.schedule, self.step);
        let shapes = self.model.params.values().iter().map(|p| p.shape()).collect::<Vec<_>>();
        let mut grow = vec![0; self.nnz.len()];
        let stay = |i: usize| {
            let (rule, [rows, cols]) = (rules[i].filter(|_| restricted[i])?, shapes[i]);
            let n = ((fraction * self.nnz[i] as f64) as usize).min(rows * cols - self.nnz[i]);
            grow[i] = n;
            Some(selection(Some(Rule { nnz: self.nnz[i] - n, ..rule }), [rows, cols], false, true))
        };
        let stay: Vec<Option<Selection>> = (0..self.nnz.len()).map(stay).collect();
        self.parameters.move_nonzeros(&stay, &grow);
    }

    /// Adam, top magnitude and decay of every trained parameter.
    fn update(&mut self, lr: f64, trained: &[bool]) -> Result<SparsityReport, GpuError> {
        let s = &self.schedule;
        let (beta1, beta2, eps) = s.adam;
        let adam = openwork_ops::Adam { lr: lr as f32, beta1, beta2, eps, step: self.step + 1 };
        let (rate, root) = adam.rate_and_root();
        let decay = (s.weight_decay * lr) as f32;
        let infos = Params::<()>::infos(&self.model.config);
        let rules = rules(&self.model, s, self.step);
        let shapes: Vec<[usize; 2]> = self.model.params.values().iter().map(|p| p.shape()).collect();
        let selections: Vec<Selection> = infos
            .iter()
            .zip(rules.iter().zip(&shapes))
            .zip(trained)
            // Matrices decay, vectors and the bigram table do not (released code).
            .map(|((info, (rule, &shape)), &trained)| {
                selection(*rule, shape, info.n_dim > 1 && info.role != Role::Bigram, trained)
            })
            .collect();
        self.nnz = self.wanted(self.step);
        let sparse = self.sparse(&self.nnz);
        let forget = s.gradient != GradientMode::Exact;
        self.parameters.update(Adam { beta1, beta2, rate, root, eps }, decay, &selections, &sparse, forget);
        self.model = Model::of(self.model.config.clone(), &self.parameters);
        let mut report = SparsityReport::default();
        let outcomes = self.parameters.outcomes()?;
        for (((info, rule), [rows, cols]), Outcome { nonzero, entered, least }) in
            infos.iter().zip(&rules).zip(shapes).zip(outcomes)
        {
            if let Some(rule) = rule {
                let kept = sparse::Kept { nonzero, entered, changed: entered > 0 };
                report.add(info, rule, (rows, cols), (kept, !forget && adam.largest_step() < least));
            }
        }
        Ok(report)
    }

    /// Entries of every parameter.
    fn lengths(&self) -> Vec<usize> {
        self.model.params.values().iter().map(|p| p.shape().iter().product()).collect()
    }

    /// How many entries of each parameter stay at `step`.
    fn wanted(&self, step: u64) -> Vec<usize> {
        let rules = rules(&self.model, &self.schedule, step);
        rules.iter().zip(self.lengths()).map(|(rule, len)| rule.map_or(len, |rule| rule.nnz.min(len))).collect()
    }

    /// Which parameters have their sparse forms when they have so many nonzeros: where products with them take less
    /// time, or gradients of nonzeros are wanted.
    fn sparse(&self, nnz: &[usize]) -> Vec<bool> {
        let support = self.schedule.gradient != GradientMode::Exact;
        let below = if support { self.crossover.max(DENSE_GRADIENT_ABOVE) } else { self.crossover };
        let infos = Params::<()>::infos(&self.model.config);
        let tied = self.model.config.tied_unembed;
        let sparse = |((info, &nnz), len): ((&openwork_model::ParamInfo, &usize), usize)| {
            multiplies(tied, info.role) && nnz as f64 <= (below * len as f64).floor()
        };
        infos.iter().zip(nnz).zip(self.lengths()).map(sparse).collect()
    }

    /// Mean cross-entropy in nats on `batch`, without a step; see [`Trainer::loss`].
    pub fn loss(&mut self, batch: &[u16]) -> Result<f64, GpuError> {
        let BatchShape { seq_len, chunk_sequences, .. } = self.batch;
        let mut sum = 0.0;
        for chunk in batch.chunks(seq_len * chunk_sequences.max(1)) {
            let (readout, targets) = next_tokens(chunk, seq_len);
            let engine = &mut self.evaluation;
            let mut pass = self.model.forward_in(Tokens::new(chunk, seq_len), Some(&readout), &mut NoTap, engine);
            let losses = engine.cross_entropy(&mut pass.logits, &targets, 1.0);
            sum += losses.download()?.iter().map(|&l| f64::from(l)).sum::<f64>();
        }
        Ok(sum / (batch.len() / seq_len * (seq_len - 1)) as f64)
    }
}

/// Whether a parameter is a matrix that multiplies activations.
fn multiplies(tied_unembed: bool, role: Role) -> bool {
    match role {
        Role::Qkv | Role::AttnOut | Role::Fc | Role::Proj | Role::Unembed => true,
        Role::Embed => tied_unembed,
        _ => false,
    }
}

/// What the kernels are told of a rule.
fn selection(rule: Option<Rule>, [rows, cols]: [usize; 2], decays: bool, trained: bool) -> Selection {
    let floor = rule.filter(|rule| rule.nnz < rows * cols).and_then(|rule| rule.fitting_floor((rows, cols)));
    let floor = floor.map(|floor| {
        let unit = match floor.unit {
            sparse::Unit::Row => Unit::Row,
            sparse::Unit::Column => Unit::Column,
        };
        (unit, floor.count)
    });
    Selection { wanted: rule.map_or(rows * cols, |rule| rule.nnz), floor, decays, trained }
}

/// Notes which neurons were active.
struct Active {
    neurons: Vec<Buffer<u32>>,
}

impl Active {
    fn new(gpu: &Gpu, n_layer: usize, d_mlp: usize) -> Self {
        Self { neurons: (0..n_layer).map(|_| gpu.zeros(d_mlp)).collect() }
    }

    fn clear(&mut self) {
        self.neurons.iter().for_each(Buffer::fill_zero);
    }

    fn silent(&self) -> Result<usize, GpuError> {
        let mut silent = 0;
        for layer in &self.neurons {
            silent += layer.download()?.iter().filter(|&&active| active == 0).count();
        }
        Ok(silent)
    }
}

impl Tap<Array> for Active {
    fn sees_gradients(&self) -> bool {
        false
    }

    fn forward(&mut self, site: Site, value: &mut Array) -> ControlFlow<()> {
        if site.kind == SiteKind::Neuron {
            cuda::mark_active(value, &mut self.neurons[site.layer]);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use openwork_cuda_sim::Simulator;
    use openwork_model::Config;

    use super::*;
    use crate::Recipe;

    #[test]
    fn as_many_sequences_at_once_as_fit() {
        let (_, text) = crate::SHIPPED[0];
        let schedule = Recipe::parse(text).unwrap().schedule;
        let config = Config {
            vocab_size: 20,
            n_ctx: 16,
            n_layer: 1,
            n_head: 1,
            d_head: 8,
            d_model: 16,
            d_mlp: 32,
            ..Config::default()
        };
        let trainer = Trainer::new(Model::init(config, 1), schedule, 1);
        let chunk = |memory: usize| {
            let gpu = Gpu::with_driver(Box::new(Simulator::new(1 << 16, 2, 0).with_memory(memory)));
            let batch = GpuTrainer::batch_that_fits(&trainer, &gpu, 16, 64, 0.3).unwrap();
            let bytes = GpuTrainer::memory(&trainer, &gpu, batch, 0.3).unwrap();
            assert!(batch.chunk_sequences == 1 || bytes <= memory / 10 * 9, "{batch:?} takes {bytes} of {memory}");
            batch.chunk_sequences
        };
        let bytes = |chunk_sequences| {
            let batch = BatchShape { seq_len: 16, sequences: 64, chunk_sequences };
            GpuTrainer::memory(&trainer, &Simulator::gpu(1 << 16, 2, 0), batch, 0.3).unwrap()
        };
        let between = (bytes(1) + bytes(64)) / 2;
        let (all, less, least) = (chunk(1 << 30), chunk(between / 9 * 10), chunk(1 << 10));
        assert!(all == 64 && (2..64).contains(&less) && least == 1, "{all} {less} {least}");
        let small = Gpu::with_driver(Box::new(Simulator::new(1 << 16, 2, 0).with_memory(1 << 10)));
        let error = GpuTrainer::with_crossover(
            &trainer,
            small,
            BatchShape { seq_len: 16, sequences: 2, chunk_sequences: 1 },
            0.3,
        );
        assert!(matches!(error.err(), Some(GpuError::OutOfMemory { .. })));
    }
}
