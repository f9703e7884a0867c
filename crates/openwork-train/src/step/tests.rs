use openwork_model::{ActivationDtype, Config, Model, Params};
use openwork_sparse::{Pattern, Support};

use super::*;
use crate::GradientMode;

fn trainer(lanes: usize, chunk_sequences: usize) -> Trainer {
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
    Trainer::new(Model::init(config, 4), schedule, lanes, chunk_sequences)
}

fn step(t: &mut Trainer, batch: &[u16]) -> StepReport {
    let Ok(report) = t.step(batch, 12);
    report
}

fn batch(seed: u16) -> Vec<u16> {
    // Counting with a stride per sequence: learnable.
    (0..8 * 12).map(|i| (seed + i / 12 + i % 12 * (1 + i / 12 % 3)) % 20).collect()
}

fn weights(t: &Trainer) -> Vec<u32> {
    t.store
        .model
        .params
        .values()
        .iter()
        .flat_map(|w| w.dense().iter().map(|x| x.to_bits()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn same_bytes_whatever_the_number_of_threads() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut t = trainer(3, 1);
            (0..6).for_each(|s| drop(step(&mut t, &batch(s))));
            weights(&t)
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn learns_and_keeps_exactly_the_nonzeros_asked_for() {
    let mut t = trainer(2, 2);
    let reports: Vec<StepReport> = (0..30).map(|s| step(&mut t, &batch(s))).collect();
    assert!(reports[29].loss_nats < reports[0].loss_nats - 0.5, "{} {}", reports[0].loss_nats, reports[29].loss_nats);
    for m in &reports[29].sparsity.matrices {
        let density = if m.name.contains(".h.") { 1.0 / 8.0 } else { 1.0 / 4.0 };
        assert!((m.density - density).abs() < 0.01, "{} {}", m.name, m.density);
    }
    assert!(reports[0].sparsity.matrices.iter().all(|m| m.density == 1.0 && m.churn == 0.0));
    let floors =
        t.store.model.params.blocks[0].fc.weight.dense().rows().into_iter().all(|r| r.iter().any(|&x| x != 0.0));
    assert!(floors, "every neuron keeps an input");
}

#[test]
fn while_all_entries_stay_the_support_is_everything() {
    let run = |gradient| {
        let mut t = trainer(2, 2);
        (t.schedule.gradient, t.schedule.pfrac) = (gradient, 4.0);
        (0..5).for_each(|s| drop(step(&mut t, &batch(s))));
        weights(&t)
    };
    assert_eq!(run(GradientMode::Exact), run(GradientMode::Support { refresh_every: 2, regrow: 0.3 }));
}

#[test]
fn gradients_of_the_support_train_it_and_nothing_else() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut t = trainer(3, 1);
        t.schedule.gradient = GradientMode::Support { refresh_every: 10, regrow: 0.3 };
        let mut losses = Vec::new();
        for s in 0..30 {
            let before: Vec<Pattern> = t.store.supports.iter().map(Support::pattern).collect();
            let report = pool.install(|| step(&mut t, &batch(s)));
            losses.push(report.loss_nats);
            let moments = t.store.moments.0.values().into_iter().zip(t.store.moments.1.values());
            for ((support, before), (weight, (m, v))) in
                t.store.supports.iter().zip(&before).zip(t.store.model.params.values().into_iter().zip(moments))
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
            let mut t = trainer(3, 1);
            (t.schedule.dtype, t.schedule.gradient) = (dtype, gradient);
            let losses: Vec<f64> = (0..30).map(|s| pool.install(|| step(&mut t, &batch(s))).loss_nats).collect();
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
    let mut t = trainer(1, 2);
    t.schedule.sharkfin = false;
    let (mut closed, mut open) = (0, 0);
    for s in 0..30 {
        t.schedule.peak_lr = if s < 20 { 0.05 } else { 1e-4 };
        for m in step(&mut t, &batch(s)).sparsity.matrices {
            closed += usize::from(m.closed);
            open += usize::from(!m.closed);
            assert!(!m.closed || m.churn == 0.0, "{} at step {s}", m.name);
        }
    }
    assert!(closed > 0 && open > 0, "{closed} {open}");
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing() {
    let mut t = trainer(1, 1);
    t.store.model.params.embed.update(|w| w[[3, 3]] = f32::NAN);
    let before = weights(&t);
    let report = step(&mut t, &batch(0));
    assert!(!report.loss_nats.is_finite());
    assert_eq!(weights(&t), before);
}

#[test]
fn sparse_biases_are_a_switch() {
    let mut t = trainer(1, 2);
    t.schedule.sparse_biases = true;
    (0..20).for_each(|s| drop(step(&mut t, &batch(s))));
    let bias = t.store.model.params.blocks[0].fc.bias.as_ref().unwrap();
    assert_eq!(bias.nnz(), 32 / 4);
}

/// A store that notes the order in which a step uses it.
struct Noted {
    inner: CpuStore,
    calls: Vec<&'static str>,
}

impl Store for Noted {
    type Error = std::convert::Infallible;

    fn config(&self) -> &Config {
        self.inner.config()
    }

    fn gradient(&mut self, batch: &[u16], seq_len: usize, plan: &StepPlan) -> Result<BatchSums, Self::Error> {
        self.calls.push("gradient");
        self.inner.gradient(batch, seq_len, plan)
    }

    fn support_sizes(&self) -> Vec<usize> {
        self.inner.support_sizes()
    }

    fn restrict_to_support(&mut self, moves: Option<&[Option<Move>]>) {
        self.calls.push(if moves.is_some() { "move" } else { "restrict" });
        self.inner.restrict_to_support(moves);
    }

    fn gradient_rms(&mut self, entries: usize, plan: &StepPlan) -> Result<f64, Self::Error> {
        self.calls.push("rms");
        self.inner.gradient_rms(entries, plan)
    }

    fn update(&mut self, rms: f64, plan: &StepPlan) -> Result<Vec<Outcome>, Self::Error> {
        self.calls.push("update");
        self.inner.update(rms, plan)
    }

    fn loss(&mut self, batch: &[u16], seq_len: usize) -> Result<f64, Self::Error> {
        self.inner.loss(batch, seq_len)
    }
}

#[test]
fn a_step_on_any_store_has_one_order_and_the_same_bytes() {
    let support = GradientMode::Support { refresh_every: 10, regrow: 0.3 };
    for (gradient, at_refresh, otherwise) in
        [(GradientMode::Exact, None, None), (support, Some("move"), Some("restrict"))]
    {
        let (mut plain, mut noted) = (trainer(2, 2), trainer(2, 2));
        (plain.schedule.gradient, noted.schedule.gradient) = (gradient, gradient);
        let (schedule, step) = (noted.schedule.clone(), noted.step);
        let mut noted = Trainer::with_store(Noted { inner: noted.store, calls: vec![] }, schedule, step);
        for s in 0..22 {
            let (Ok(a), Ok(b)) = (plain.step(&batch(s), 12), noted.step(&batch(s), 12));
            assert_eq!((a.loss_nats, a.grad_rms), (b.loss_nats, b.grad_rms));
            let restricted = if s == 20 { at_refresh } else { otherwise };
            let expected: Vec<&str> = ["gradient"].into_iter().chain(restricted).chain(["rms", "update"]).collect();
            assert_eq!(std::mem::take(&mut noted.store.calls), expected, "step {s}");
        }
        noted.store.inner.model.params.embed.update(|w| w[[3, 3]] = f32::NAN);
        let Ok(report) = noted.step(&batch(0), 12);
        assert!(!report.loss_nats.is_finite());
        assert_eq!(noted.store.calls, ["gradient", "rms"], "a loss that is not finite changes nothing");
    }
}

#[test]
fn fine_tuning_keeps_every_nonzero_where_it_is_and_a_hook_adds_to_the_gradient() {
    let mut trained = trainer(2, 2);
    (0..30).for_each(|i| drop(step(&mut trained, &batch(i))));
    let model = trained.model().clone();
    let zeros = |model: &Model| -> Vec<bool> {
        let matrices = Params::<()>::infos(&model.config);
        let sparse = model.params.values().into_iter().zip(matrices).filter(|(_, info)| info.n_dim > 1);
        sparse.flat_map(|(w, _)| w.dense().iter().map(|x| *x == 0.0).collect::<Vec<_>>()).collect()
    };
    let schedule = trained.schedule().fine_tuning(6, 0.01, 2.0);
    let fresh = || Trainer::fine_tuning(model.clone(), schedule.clone(), 2, 2);
    let (mut plain, mut hooked) = (fresh(), fresh());
    let mut calls = 0;
    for i in 0..6 {
        step(&mut plain, &batch(i));
        let Ok(_) = hooked.step_with(&batch(i), 12, &mut |store| {
            calls += 1;
            let (_, gradients) = store.model_and_gradient();
            gradients.values_mut().into_iter().for_each(|g| g.values_mut().iter_mut().for_each(|x| *x += 1e-3));
        });
    }
    assert!(zeros(&model).iter().filter(|z| **z).count() > 500, "the model is sparse");
    assert!(zeros(plain.model()) == zeros(&model) && zeros(hooked.model()) == zeros(&model));
    assert!(weights(&plain) != weights(&hooked) && weights(&plain) != weights(&trained));
    assert_eq!(calls, 6);
    // Without a hook's addition it is the step itself.
    let mut same = fresh();
    for i in 0..6 {
        let Ok(_) = same.step_with(&batch(i), 12, &mut |_| ());
    }
    assert_eq!(weights(&same), weights(&plain));
}
