//! The parameters of a model in training on a GPU: the model's pass on the device, kernels for the update.
//!
//! Differs from `cpu.rs` in the order of some sums only, and in the entries that count as having entered where nonzeros
//! move by gradient (an entry that leaves and returns in the same step does).

use std::ops::ControlFlow;

use openwork_cuda::{self as cuda, Array, Buffer, Floor, Gpu, GpuError, Parameter, Parameters, Selection, Shape};
use openwork_model::{
    ActivationDtype, Config, Matrix, Model, NoTap, ParamInfo, Params, Role, Site, SiteKind, Tap, Tokens,
};
use openwork_ops::{Cuda, CudaGradient, DENSE_GRADIENT_ABOVE, Engine};
use openwork_sparse::Unit;

use crate::{
    BatchSums, GradientMode, Move, Outcome, ParameterPlan, Rule, StepPlan, Store, Trainer,
    plan::{multiplies, n_targets, next_tokens},
    step::RMS_EPS,
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

/// Weights, gradients and moments on a GPU.
pub struct CudaStore {
    engine: Cuda,
    /// Engine of losses without a step: activations are f32 whatever the schedule says.
    evaluation: Cuda,
    parameters: Parameters,
    /// Handles to the parameters as they are now.
    model: Model<Parameter>,
    batch: BatchShape,
    /// Entries that each parameter may have now: its support.
    nnz: Vec<usize>,
    /// Density below which parameters have their sparse forms: a sparse product takes less time than a dense one there,
    /// or gradients of nonzeros are wanted.
    sparse_below: f64,
    active: Active,
}

/// A model in training on a GPU.
pub type GpuTrainer = Trainer<CudaStore>;

impl Trainer {
    /// A trainer that continues on `gpu` from where this one is, in steps of so many sequences; everything that a step
    /// needs is allocated here. As many sequences go through at once as fit the device: a half, a quarter, … of them
    /// where not all do. How many depends on the size of its memory, never on the part that is free.
    ///
    /// # Errors
    /// When there is no kernel for a size of the model, or the device has too little memory.
    pub fn on_gpu(&self, gpu: Gpu, seq_len: usize, sequences: usize) -> Result<GpuTrainer, GpuError> {
        let crossover = Cuda::new(gpu.clone(), self.schedule.dtype).crossover()?;
        let batch = self.batch_that_fits(&gpu, seq_len, sequences, crossover)?;
        self.on_gpu_in(gpu, batch, crossover)
    }

    /// [`Trainer::on_gpu`] with a given density below which products are sparse ([`Cuda::crossover`]), and a number of
    /// sequences that go through at once.
    ///
    /// # Errors
    /// As there.
    pub fn on_gpu_in(&self, gpu: Gpu, batch: BatchShape, crossover: f64) -> Result<GpuTrainer, GpuError> {
        gpu.reserve(self.gpu_memory(&gpu, batch, crossover)?)?;
        let trainer = self.copy_to(gpu, batch, crossover)?;
        trainer.gpu().check()?;
        Ok(trainer)
    }

    fn batch_that_fits(
        &self,
        gpu: &Gpu,
        seq_len: usize,
        sequences: usize,
        crossover: f64,
    ) -> Result<BatchShape, GpuError> {
        let mut batch = BatchShape { seq_len, sequences, chunk_sequences: sequences };
        // A tenth is for the driver, kernels and the arrays of earlier measurements.
        let most = gpu.memory() / 10 * 9;
        while batch.chunk_sequences > 1 && self.gpu_memory(gpu, batch, crossover)? > most {
            batch.chunk_sequences = batch.chunk_sequences.div_ceil(2);
        }
        Ok(batch)
    }

    /// Bytes of device memory that steps need: found by steps on a device that only counts.
    fn gpu_memory(&self, gpu: &Gpu, batch: BatchShape, crossover: f64) -> Result<usize, GpuError> {
        let rehearsal = gpu.rehearsal();
        let mut trainer = self.copy_to(rehearsal.clone(), batch, crossover)?;
        let tokens = vec![0; batch.sequences * batch.seq_len];
        // With all weights, and with as few as there will be; there with tables for nonzeros that move.
        trainer.step(&tokens, batch.seq_len)?;
        trainer.step = self.schedule.steps.saturating_sub(1);
        trainer.thin_out(trainer.step);
        trainer.store.move_nonzeros(&vec![None; trainer.store.nnz.len()]);
        trainer.step(&tokens, batch.seq_len)?;
        trainer.loss(&tokens[..batch.chunk_sequences.min(batch.sequences) * batch.seq_len], batch.seq_len)?;
        Ok(rehearsal.used())
    }

    fn copy_to(&self, gpu: Gpu, batch: BatchShape, crossover: f64) -> Result<GpuTrainer, GpuError> {
        let (model, schedule) = (&self.store.model, &self.schedule);
        let config = &model.config;
        Cuda::supports(config.d_head, config.d_mlp.max(config.d_read()))?;
        if schedule.min_per_unit > cuda::MOST_PER_UNIT {
            return Err(GpuError::Unsupported {
                what: format!("a floor of {} entries a unit (sparsity.min_per_unit)", schedule.min_per_unit),
                instead: format!("there is one for up to {}", cuda::MOST_PER_UNIT),
            });
        }
        let most = crossover.max(DENSE_GRADIENT_ABOVE);
        let shape = |info: &ParamInfo, [rows, cols]: [usize; 2]| {
            let room = if has_products(config, info.role) { (most * (rows * cols) as f64) as usize } else { 0 };
            Shape { rows, cols, room }
        };
        let shapes = Params::build(config, shape).into_values();
        let parameters = Parameters::new(&gpu, &shapes);
        let moments = self.store.moments.0.values().into_iter().zip(self.store.moments.1.values());
        for (i, (weight, (m, v))) in model.params.values().into_iter().zip(moments).enumerate() {
            parameters.set_weights(i, flat(weight.dense()));
            parameters.set_moments(i, flat(m), flat(v));
        }
        let exact = schedule.gradient == GradientMode::Exact;
        let store = CudaStore {
            engine: Cuda::new(gpu.clone(), schedule.dtype),
            evaluation: Cuda::new(gpu.clone(), ActivationDtype::F32),
            model: Model::of(config.clone(), &parameters),
            parameters,
            batch,
            nnz: shapes.iter().map(|s| s.rows * s.cols).collect(),
            sparse_below: if exact { crossover } else { most },
            active: Active::new(&gpu, config.n_layer, config.d_mlp),
        };
        let mut trainer = GpuTrainer::with_store(store, schedule.clone(), self.step);
        if self.step > 0 {
            trainer.thin_out(self.step - 1);
        }
        Ok(trainer)
    }
}

impl GpuTrainer {
    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        self.store.engine.gpu()
    }

    /// Brings `trainer` to where this one is.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn download(&self, trainer: &mut Trainer) -> Result<(), GpuError> {
        let (mut weights, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..self.store.nnz.len() {
            let [m, v] = self.store.parameters.moments(i)?;
            weights.push(self.store.parameters.weights(i)?);
            first.push(m);
            second.push(v);
        }
        for (weight, values) in trainer.store.model.params.values_mut().into_iter().zip(&weights) {
            weight.update(|w| flat_mut(w).copy_from_slice(values));
        }
        let tree = |values: Vec<Vec<f32>>| {
            let mut values = values.into_iter();
            let matrix = |[rows, cols]: [usize; 2], values| {
                Matrix::from_shape_vec((rows, cols), values).expect("as many as the parameter has")
            };
            Params::build(&self.store.model.config, |_, shape| matrix(shape, values.next().expect("same tree")))
        };
        trainer.resume(self.step, (tree(first), tree(second)));
        Ok(())
    }

    /// Sets supports and sparse forms to those after `step`.
    fn thin_out(&mut self, step: u64) {
        let plan = StepPlan::new(&self.store.model.config, &self.schedule, step);
        self.store.nnz = wanted(&plan);
        let sparse = self.store.sparse(&plan);
        self.store.parameters.build_sparse(&self.store.nnz, &sparse);
        self.store.renew_handles();
    }
}

impl Store for CudaStore {
    type Error = GpuError;

    fn config(&self) -> &Config {
        &self.model.config
    }

    /// One lane: chunks add to the gradient in their order.
    ///
    /// # Panics
    /// When sequences are longer, or there are more of them, than the memory was reserved for.
    fn gradient(&mut self, batch: &[u16], seq_len: usize, plan: &StepPlan) -> Result<BatchSums, GpuError> {
        let BatchShape { seq_len: most, sequences, chunk_sequences } = self.batch;
        let fits = seq_len <= most && batch.len() <= most * sequences;
        assert!(fits, "a batch of {} tokens exceeds the {sequences} sequences of {most} reserved for", batch.len());
        self.parameters.zero_gradients();
        self.active.clear();
        let factor = 1.0 / n_targets(batch, seq_len) as f32;
        let mut gradients = self.gradients(plan);
        let mut losses = Vec::new();
        for chunk in batch.chunks(seq_len * chunk_sequences.max(1)) {
            let (readout, targets) = next_tokens(chunk, seq_len);
            let (active, engine) = (&mut self.active, &mut self.engine);
            let (tokens, wanted) = (Tokens::new(chunk, seq_len), (&readout[..], &targets[..]));
            losses.extend(self.model.gradient_in(tokens, wanted, factor, TILE, active, &mut gradients, engine));
        }
        let mut loss_nats = 0.0;
        for chunk in losses {
            loss_nats += chunk.download()?.iter().map(|&l| f64::from(l)).sum::<f64>();
        }
        Ok(BatchSums { loss_nats, dead_neurons: self.active.dead()? })
    }

    fn support_sizes(&self) -> Vec<usize> {
        self.nnz.clone()
    }

    fn restrict_to_support(&mut self, moves: Option<&[Option<Move>]>) {
        match moves {
            Some(moves) => self.move_nonzeros(moves),
            None => {
                let len = |p: &Parameter| p.shape().iter().product::<usize>();
                let lengths = self.model.params.values().into_iter().map(len);
                let restricted: Vec<bool> = self.nnz.iter().zip(lengths).map(|(&nnz, len)| nnz < len).collect();
                self.parameters.mask_gradients(&restricted);
            }
        }
    }

    /// Gradients of parameters that are not trained are zero. The scale of the update stays on the device.
    fn gradient_rms(&mut self, entries: usize, _: &StepPlan) -> Result<f64, GpuError> {
        Ok(f64::from(self.parameters.gradient_rms(entries, RMS_EPS as f32)?))
    }

    fn update(&mut self, _: f64, plan: &StepPlan) -> Result<Vec<Outcome>, GpuError> {
        let select = |p: &ParameterPlan| selection(p.rule, p.shape, p.decays, p.trained);
        let selections: Vec<Selection> = plan.parameters.iter().map(select).collect();
        self.nnz = wanted(plan);
        let sparse = self.sparse(plan);
        self.parameters.update(plan.adam.constants(), plan.decay, &selections, &sparse, !plan.exact);
        self.renew_handles();
        let outcomes = self.parameters.outcomes()?.into_iter();
        Ok(outcomes
            .map(|cuda::Outcome { nonzero, entered, least }| Outcome { nonzero, entered, least_kept: least })
            .collect())
    }

    fn loss(&mut self, batch: &[u16], seq_len: usize) -> Result<f64, GpuError> {
        let mut sum = 0.0;
        for chunk in batch.chunks(seq_len * self.batch.chunk_sequences.max(1)) {
            let (readout, targets) = next_tokens(chunk, seq_len);
            let engine = &mut self.evaluation;
            let mut pass = self.model.forward_in(Tokens::new(chunk, seq_len), Some(&readout), &mut NoTap, engine);
            let losses = engine.cross_entropy(&mut pass.logits, &targets, 1.0);
            sum += losses.download()?.iter().map(|&l| f64::from(l)).sum::<f64>();
        }
        Ok(sum / n_targets(batch, seq_len) as f64)
    }
}

impl CudaStore {
    /// Handles to the parameters that know which of them have sparse forms now.
    fn renew_handles(&mut self) {
        self.model = Model::of(self.model.config.clone(), &self.parameters);
    }

    /// Handles to gradients: of every entry, or of the nonzeros where the plan wants those and the sparse form is there.
    fn gradients(&self, plan: &StepPlan) -> Params<CudaGradient> {
        let mut parameters = plan.parameters.iter().zip(&self.nnz).enumerate();
        Params::build(&self.model.config, |_, _| {
            let (i, (planned, &nnz)) = parameters.next().expect("same tree");
            let parameter = self.parameters.get(i);
            let at_nonzeros = plan.gradient_at_support(planned, nnz) && parameter.is_sparse();
            CudaGradient { at_nonzeros, parameter }
        })
    }

    fn move_nonzeros(&mut self, moves: &[Option<Move>]) {
        let shapes = self.model.params.values().into_iter().map(Parameter::shape);
        let stay = |(exchange, shape): (&Option<Move>, [usize; 2])| {
            exchange.map(|exchange| selection(Some(exchange.stay), shape, false, true))
        };
        let stay: Vec<Option<Selection>> = moves.iter().zip(shapes).map(stay).collect();
        let grow: Vec<usize> = moves.iter().map(|exchange| exchange.map_or(0, |exchange| exchange.grow)).collect();
        self.parameters.move_nonzeros(&stay, &grow);
    }

    /// Parameters that have their sparse forms when they have as many nonzeros as now.
    fn sparse(&self, plan: &StepPlan) -> Vec<bool> {
        let sparse = |(parameter, &nnz): (&ParameterPlan, &usize)| {
            let few = nnz as f64 <= (self.sparse_below * parameter.len() as f64).floor();
            has_products(&self.model.config, parameter.info.role) && few
        };
        plan.parameters.iter().zip(&self.nnz).map(sparse).collect()
    }
}

/// Number of entries of each parameter that stay.
fn wanted(plan: &StepPlan) -> Vec<usize> {
    plan.parameters.iter().map(|p| p.rule.map_or(p.len(), |rule| rule.nnz.min(p.len()))).collect()
}

/// True if parameters of a role are matrices that multiply activations.
fn has_products(config: &Config, role: Role) -> bool {
    multiplies(role) || role == Role::Embed && config.tied_unembed
}

/// A rule in the form that the kernels read.
fn selection(rule: Option<Rule>, [rows, cols]: [usize; 2], decays: bool, trained: bool) -> Selection {
    let floor = rule.filter(|rule| rule.nnz < rows * cols).and_then(|rule| rule.fitting_floor((rows, cols)));
    let floor = floor.map(|floor| match floor.unit {
        Unit::Row => Floor::PerRow(floor.count),
        Unit::Column => Floor::PerColumn(floor.count),
    });
    Selection { wanted: rule.map_or(rows * cols, |rule| rule.nnz), floor, decays, trained }
}

/// Tap that marks the neurons that some token activates.
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

    fn dead(&self) -> Result<usize, GpuError> {
        let mut dead = 0;
        for layer in &self.neurons {
            dead += layer.download()?.iter().filter(|&&active| active == 0).count();
        }
        Ok(dead)
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
        let trainer = Trainer::new(Model::init(config, 1), schedule, 1, 1);
        let chunk = |memory: usize| {
            let gpu = Gpu::with_driver(Box::new(Simulator::new(1 << 16, 2, 0).with_memory(memory)));
            let batch = trainer.batch_that_fits(&gpu, 16, 64, 0.3).unwrap();
            let bytes = trainer.gpu_memory(&gpu, batch, 0.3).unwrap();
            assert!(batch.chunk_sequences == 1 || bytes <= memory / 10 * 9, "{batch:?} takes {bytes} of {memory}");
            batch.chunk_sequences
        };
        let bytes = |chunk_sequences| {
            let batch = BatchShape { seq_len: 16, sequences: 64, chunk_sequences };
            trainer.gpu_memory(&Simulator::gpu(1 << 16, 2, 0), batch, 0.3).unwrap()
        };
        let between = (bytes(1) + bytes(64)) / 2;
        let (all, less, least) = (chunk(1 << 30), chunk(between / 9 * 10), chunk(1 << 10));
        assert!(all == 64 && (2..64).contains(&less) && least == 1, "{all} {less} {least}");
        let small = Gpu::with_driver(Box::new(Simulator::new(1 << 16, 2, 0).with_memory(1 << 10)));
        let error = trainer.on_gpu_in(small, BatchShape { seq_len: 16, sequences: 2, chunk_sequences: 1 }, 0.3);
        assert!(matches!(error.err(), Some(GpuError::OutOfMemory { .. })));
    }
}
