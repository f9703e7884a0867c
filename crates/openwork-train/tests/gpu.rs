//! Whole training steps on a GPU, held to those of the CPU: on the simulator, and on a GPU where there is one. Without
//! one that part is skipped, aloud, unless OPENWORK_REQUIRE_GPU is set: then it fails.

use openwork_cuda::Gpu;
use openwork_cuda_sim::Simulator;
use openwork_model::{Activation, ActivationDtype, Config, Model, NormKind, Positions};
use openwork_train::{Anneal, BatchShape, GpuTrainer, GradientMode, Schedule, StepReport, Trainer};

const SEQ_LEN: usize = 12;
const SEQUENCES: usize = 8;
const BATCH: BatchShape = BatchShape { seq_len: SEQ_LEN, sequences: SEQUENCES, chunk_sequences: 4 };
/// Shared memory of a block and blocks at once: as on a real device, and so little that no tile fits.
const LARGE: (usize, usize) = (227 << 10, 6);
const SMALL: (usize, usize) = (600, 3);

fn config() -> Config {
    Config {
        vocab_size: 20,
        n_ctx: SEQ_LEN,
        n_layer: 2,
        n_head: 2,
        d_head: 8,
        d_model: 16,
        d_mlp: 32,
        ..Config::default()
    }
}

fn schedule() -> Schedule {
    Schedule {
        steps: 40,
        peak_lr: 0.05,
        warmup_steps: 2.0,
        adam: (0.9, 0.95, 0.1),
        weight_decay: 0.1,
        expansion_factor: 2.0,
        pfrac: 0.5,
        anneal: Anneal::Linear,
        anneal_start: 2.0,
        anneal_stop: 15.0,
        sharkfin: true,
        min_per_unit: 1,
        gradient: GradientMode::Exact,
        dtype: ActivationDtype::F32,
        sparse_biases: false,
    }
}

fn batch(seed: u64) -> Vec<u16> {
    // Counting with a stride per sequence: learnable.
    let token = |i: usize| (seed as usize + i / SEQ_LEN + i % SEQ_LEN * (1 + i / SEQ_LEN % 3)) % 20;
    (0..SEQUENCES * SEQ_LEN).map(|i| token(i) as u16).collect()
}

fn trainer(config: Config, schedule: Schedule) -> Trainer {
    Trainer::new(Model::init(config, 4), schedule, 1, BATCH.chunk_sequences)
}

fn on_gpu(trainer: &Trainer, (shared, multiprocessors): (usize, usize), crossover: f64) -> GpuTrainer {
    trainer.on_gpu_in(Simulator::gpu(shared, multiprocessors, 2), BATCH, crossover).unwrap()
}

/// The GPU of this machine.
fn real() -> Option<Gpu> {
    match Gpu::open(0) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            assert!(std::env::var_os("OPENWORK_REQUIRE_GPU").is_none(), "{error}");
            println!("skipped on a GPU: {error}");
            None
        }
    }
}

/// [`compare_on`] on the simulator, and on a GPU where there is one.
fn compare(config: Config, schedule: Schedule, device: (usize, usize), crossover: f64, steps: u64, tolerance: f64) {
    let simulated = Simulator::gpu(device.0, device.1, 2);
    for gpu in [Some(simulated), real()].into_iter().flatten() {
        compare_on(gpu, config.clone(), schedule.clone(), crossover, steps, tolerance);
    }
}

/// Steps on both; the losses are as close as `tolerance`.
fn compare_on(gpu: Gpu, config: Config, schedule: Schedule, crossover: f64, steps: u64, tolerance: f64) {
    let mut cpu = trainer(config.clone(), schedule.clone());
    let mut gpu = cpu.on_gpu_in(gpu, BATCH, crossover).unwrap();
    let allocations = gpu.gpu().allocations();
    for step in 0..steps {
        let (a, b) = (cpu.step(&batch(step), SEQ_LEN).unwrap(), gpu.step(&batch(step), SEQ_LEN).unwrap());
        let what = |report: &StepReport| format!("{report:?}");
        assert!((a.loss_nats - b.loss_nats).abs() <= tolerance, "step {step}: {} {}", a.loss_nats, b.loss_nats);
        assert!(
            (a.grad_rms / b.grad_rms - 1.0).abs() <= 50.0 * tolerance,
            "step {step}: {} {}",
            a.grad_rms,
            b.grad_rms
        );
        assert_eq!((a.step, a.lr, a.pfrac, a.tokens), (b.step, b.lr, b.pfrac, b.tokens), "{} {}", what(&a), what(&b));
        assert_eq!(a.sparsity.l0, b.sparsity.l0, "step {step}");
        assert_eq!(a.sparsity.lowered_floors, b.sparsity.lowered_floors);
        for (a, b) in a.sparsity.matrices.iter().zip(&b.sparsity.matrices) {
            assert_eq!((&a.name, a.l0), (&b.name, b.l0), "step {step}");
        }
    }
    assert_eq!(gpu.gpu().allocations(), allocations, "a step allocates nothing");
    let mut after = trainer(config, schedule);
    gpu.download(&mut after).unwrap();
    assert_eq!(after.step_count(), steps);
    let loss = gpu.loss(&batch(99), SEQ_LEN).unwrap();
    assert!((loss - after.loss(&batch(99), SEQ_LEN).unwrap()).abs() < 1e-5, "{loss}");
}

#[test]
fn dense_steps_are_those_of_the_cpu() {
    // Never sparse: every product is dense.
    compare(config(), schedule(), LARGE, 0.0, 6, 2e-5);
}

#[test]
fn sparse_steps_are_those_of_the_cpu() {
    for (device, steps) in [(LARGE, 22), (SMALL, 17)] {
        compare(config(), schedule(), device, 0.4, steps, 1e-3);
    }
}

#[test]
fn two_hundred_steps_on_a_gpu() {
    let Some(gpu) = real() else { return };
    let schedule = Schedule { steps: 200, anneal_start: 20.0, anneal_stop: 120.0, ..schedule() };
    // Rounding grows along a run; what stays a hundredth of the loss is the same curve.
    compare_on(gpu, config(), schedule, 0.4, 200, 2e-2);
}

#[test]
fn dense_products_may_be_a_librarys() {
    for dtype in [ActivationDtype::F32, ActivationDtype::Bf16] {
        let device = Gpu::with_driver(Box::new(Simulator::new(LARGE.0, LARGE.1, 2).with_library()));
        compare_on(device, config(), Schedule { dtype, ..schedule() }, 0.4, 4, 1e-3);
    }
}

#[test]
fn gradients_of_nonzeros_train_as_on_the_cpu() {
    let gradient = GradientMode::Support { refresh_every: 10, regrow: 0.3 };
    compare(config(), Schedule { gradient, ..schedule() }, LARGE, 0.4, 22, 1e-3);
}

#[test]
fn other_models_train_as_on_the_cpu() {
    let models = [
        Config { positions: Positions::Concat { width: 4 }, norm: NormKind::Layer, ..config() },
        Config { sink: true, activation: Activation::Relu, tied_unembed: true, ..config() },
        Config { positions: Positions::Sinusoidal { width: 4 }, linear_bias: false, n_head: 1, d_head: 16, ..config() },
        Config { positions: Positions::Added, act_density: None, ..config() },
    ];
    for model in models {
        compare(model, schedule(), LARGE, 0.4, 4, 1e-4);
    }
}

#[test]
fn bf16_activations_train_as_on_the_cpu() {
    let schedule = Schedule { dtype: ActivationDtype::Bf16, ..schedule() };
    compare(config(), schedule, LARGE, 0.4, 6, 1e-3);
}

#[test]
fn a_run_goes_on_where_it_was() {
    for gradient in [GradientMode::Exact, GradientMode::Support { refresh_every: 10, regrow: 0.3 }] {
        let schedule = Schedule { gradient, ..schedule() };
        let start = trainer(config(), schedule.clone());
        let mut whole = on_gpu(&start, LARGE, 0.4);
        (0..12).for_each(|s| drop(whole.step(&batch(s), SEQ_LEN).unwrap()));
        let mut half = trainer(config(), schedule);
        whole.download(&mut half).unwrap();
        let mut rest = on_gpu(&half, LARGE, 0.4);
        for s in 12..15 {
            let (a, b) = (whole.step(&batch(s), SEQ_LEN).unwrap(), rest.step(&batch(s), SEQ_LEN).unwrap());
            assert_eq!((a.loss_nats, a.grad_rms, a.sparsity.l0), (b.loss_nats, b.grad_rms, b.sparsity.l0), "step {s}");
        }
    }
}

#[test]
fn the_order_of_threads_leaves_no_trace() {
    let run = |schedule_of_threads| {
        let gradient = GradientMode::Support { refresh_every: 4, regrow: 0.3 };
        let cpu = trainer(config(), Schedule { gradient, anneal_stop: 6.0, ..schedule() });
        let device = Simulator::gpu(LARGE.0, LARGE.1, schedule_of_threads);
        let mut gpu = cpu.on_gpu_in(device, BATCH, 0.4).unwrap();
        (0..8).map(|s| gpu.step(&batch(s), SEQ_LEN).unwrap().loss_nats).collect::<Vec<f64>>()
    };
    let upwards = run(0);
    assert_eq!(upwards, run(1));
    assert_eq!(upwards, run(7));
}

#[test]
fn models_without_kernels_are_refused() {
    let refused = |config, schedule| {
        let cpu = trainer(config, schedule);
        cpu.on_gpu_in(Simulator::gpu(LARGE.0, LARGE.1, 0), BATCH, 0.4).err().unwrap().to_string()
    };
    let heads = refused(Config { d_head: 4, ..config() }, schedule());
    assert_eq!(
        heads,
        "the GPU has no kernel for attention heads of 4 channels; there are kernels for 8, 16, 32 and 64"
    );
    assert!(refused(config(), Schedule { min_per_unit: 9, ..schedule() }).contains("sparsity.min_per_unit"));
}

#[test]
#[should_panic = "a batch of 108 tokens exceeds the 8 sequences of 12 reserved for"]
fn a_batch_beyond_the_reserved_memory_is_refused() {
    let mut gpu = on_gpu(&trainer(config(), schedule()), LARGE, 0.4);
    drop(gpu.step(&[1; 9 * SEQ_LEN], SEQ_LEN));
}
