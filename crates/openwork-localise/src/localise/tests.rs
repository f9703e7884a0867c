use openwork_model::{ActivationDtype, Config};
use openwork_train::{Anneal, GradientMode};

use super::*;

const SEQ_LEN: usize = 8;
const STEPS: u64 = 200;

fn schedule() -> Schedule {
    Schedule {
        steps: STEPS,
        peak_lr: 0.05,
        warmup_steps: 2.0,
        adam: (0.9, 0.95, 0.1),
        weight_decay: 0.1,
        expansion_factor: 2.0,
        pfrac: 1.0,
        anneal: Anneal::Linear,
        anneal_start: 2.0,
        anneal_stop: 100.0,
        sharkfin: true,
        min_per_unit: 1,
        gradient: GradientMode::Exact,
        dtype: ActivationDtype::F32,
        sparse_biases: false,
    }
}

/// Text of the step: after 2 1 comes 3, after 4 1 comes 5, and something else between.
fn text(step: u64) -> Vec<u16> {
    let block = |i: u64| {
        let x = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let (cue, answer) = if x.is_multiple_of(2) { (2, 3) } else { (4, 5) };
        [(6 + x / 2 % 14) as u16, cue, 1, answer]
    };
    (0..64).flat_map(|i| block(step * 64 + i)).collect()
}

/// Pairs: after 1 2 comes 3, after 1 4 comes 5.
fn pairs(first: u16) -> Vec<Pair> {
    let pair = |i: u16| {
        let before = [6 + (first + i) % 14];
        let prompt = |cue: u16| before.iter().copied().chain([cue, 1]).collect();
        Pair { positive: prompt(2), negative: prompt(4), answer: 3, alternative: 5, template: 0 }
    };
    (0..32).map(pair).collect()
}

/// A small trained sparse model, its means, and a goal of every second node.
fn subject() -> (Model, Means, Vec<Goal>) {
    let config = Config {
        vocab_size: 20,
        n_ctx: SEQ_LEN,
        n_layer: 1,
        n_head: 2,
        d_head: 4,
        d_model: 16,
        d_mlp: 32,
        ..Config::default()
    };
    let mut trainer = Trainer::new(Model::init(config, 4), schedule(), 2, 2);
    (0..STEPS).for_each(|step| {
        let Ok(_) = trainer.step(&text(step), SEQ_LEN);
    });
    let model = trainer.model().clone();
    let means = Means::compute(&model, &text(7), SEQ_LEN);
    let space = NodeSpace::new(&model.config);
    let nodes = NodeSet::of(space.clone(), (0..space.len()).step_by(2));
    let right = evaluate(&model, &batches(&pairs(0), 8, SEQ_LEN), false, || NoTap, |_| ());
    assert!(right.accuracy(openwork_circuit::Calibration::NONE) > 0.95, "the model performs the task");
    let goals = vec![Goal { task: "cue".into(), nodes, train: pairs(0), selection: pairs(7) }];
    (model, means, goals)
}

fn settings(steps: u64) -> Localisation {
    Localisation { steps, extra_steps: 4, pairs: 4, means_every: 5, check_every: 10, ..Localisation::default() }
}

/// Runs a localisation; the model, the goals and the mean distances of its steps.
fn localised(steps: u64, threads: usize) -> (Model, Localised, Vec<f64>) {
    let (model, means, goals) = subject();
    let (settings, schedule, sample, preserved) = (settings(steps), schedule(), text(7), vec![pairs(3)]);
    let localiser = Localiser {
        original: &model,
        means: &means,
        sample: &sample,
        seq_len: SEQ_LEN,
        goals: &goals,
        preserved: &preserved,
        schedule: &schedule,
        lanes: (2, 2),
        settings: &settings,
    };
    let mut distances = vec![];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let Ok(localised) = pool.install(|| {
        localiser.run::<Infallible>(&mut |step| Ok(text(step)), &mut |p| {
            distances.push(p.distance);
            ControlFlow::Continue(())
        })
    });
    (model, localised.unwrap(), distances)
}

fn bits(model: &Model) -> Vec<u32> {
    let values = model.params.values().into_iter();
    values.flat_map(|w| w.dense().iter().map(|x| x.to_bits()).collect::<Vec<_>>()).collect()
}

#[test]
fn nonzeros_and_the_bigram_table_stay_and_the_number_of_threads_leaves_no_trace() {
    let (before, one, _) = localised(12, 1);
    let (_, four, _) = localised(12, 4);
    assert_eq!(bits(&one.model), bits(&four.model));
    assert_eq!(one.goals[0].nodes, four.goals[0].nodes);
    assert_ne!(bits(&one.model), bits(&before));
    assert_eq!(one.model.config, before.config);
    assert_eq!(one.model.params.bigram.as_ref().unwrap().dense(), before.params.bigram.as_ref().unwrap().dense());
    let infos = Params::<()>::infos(&before.config);
    for ((old, new), info) in before.params.values().iter().zip(one.model.params.values()).zip(infos) {
        let moved = old.dense().iter().zip(new.dense()).filter(|(old, new)| **old == 0.0 && **new != 0.0).count();
        assert!(info.n_dim == 1 || moved == 0, "{}: {moved} zero weights have moved", info.name);
    }
}

#[test]
fn training_brings_the_interventions_nearer_to_the_original() {
    let (_, _, distances) = localised(80, 2);
    let mean = |d: &[f64]| d.iter().sum::<f64>() / d.len() as f64;
    let (first, last) = (mean(&distances[..10]), mean(&distances[distances.len() - 10..]));
    assert!(last < 0.6 * first, "{first} -> {last}");
}

#[test]
fn the_twin_sees_the_same_text_and_no_circuit() {
    let (model, means, goals) = subject();
    let (settings, schedule, sample) = (settings(6), schedule(), text(7));
    let localiser = Localiser {
        original: &model,
        means: &means,
        sample: &sample,
        seq_len: SEQ_LEN,
        goals: &goals,
        preserved: &[],
        schedule: &schedule,
        lanes: (2, 2),
        settings: &settings,
    };
    let read = std::cell::RefCell::new(vec![]);
    let mut own = |step| {
        read.borrow_mut().push(step);
        Ok::<_, Infallible>(text(step))
    };
    let Ok(twin) = localiser.twin([6, 4], &mut own, &mut |p| {
        assert_eq!(p.distance, 0.0);
        ControlFlow::Continue(())
    });
    assert_eq!(*read.borrow(), (0..10).collect::<Vec<_>>());
    let Ok(localised) = localiser.run(&mut own, &mut |_| ControlFlow::Continue(()));
    let localised = localised.unwrap();
    assert_eq!(localised.phases, [6, 4]);
    assert_ne!(bits(&twin.unwrap()), bits(&localised.model));
}

#[test]
fn whoever_ends_it_gets_nothing_and_errors_of_the_text_are_passed_on() {
    let (model, means, goals) = subject();
    let (settings, schedule, sample) = (settings(6), schedule(), text(7));
    let localiser = Localiser {
        original: &model,
        means: &means,
        sample: &sample,
        seq_len: SEQ_LEN,
        goals: &goals,
        preserved: &[],
        schedule: &schedule,
        lanes: (1, 4),
        settings: &settings,
    };
    let mut stop = |p: Progress<'_>| if p.step < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
    let Ok(ended) = localiser.run::<Infallible>(&mut |step| Ok(text(step)), &mut stop);
    assert_eq!(ended.err(), Some(Ended));
    let mut broken = |step| if step < 2 { Ok(text(step)) } else { Err("cut off") };
    assert_eq!(localiser.run(&mut broken, &mut |_| ControlFlow::Continue(())).err(), Some("cut off"));
}

#[test]
fn gradients_of_interventions_are_finite_differences() {
    let (mut model, means, goals) = subject();
    // Without AbsTopK, whose choice jumps, and with weights that matter.
    model.config.act_density = None;
    model.params.values_mut().into_iter().for_each(|w| w.update(|w| *w *= 1.5));
    let (space, goal) = (NodeSpace::new(&model.config), &goals[0]);
    let batch = &batches(&goal.train[..4], 4, SEQ_LEN)[0];
    let of_original: Vec<f64> = (0..8).map(|i| f64::from(i) * 0.4 - 1.0).collect();
    let built = |model: &Model| {
        let context = Context { model, space: &space, means: &means, record: None };
        let mut rngs = [1, 2].map(ChaCha8Rng::seed_from_u64);
        let [a, b] = &mut rngs;
        let mut adversary = Adversary::new(space.len());
        interventions((context, batch), (&goal.nodes, &of_original), (&mut adversary, 3), [a, b])
    };
    // Values of other prompts move with the weights, and what is recorded does not: that term is left out here.
    let all: Vec<(&Batch, terms::Intervention)> =
        built(&model).into_iter().filter(|i| i.kind != Kind::OtherPrompts).map(|i| (batch, i)).collect();
    assert_eq!(all.len(), 6);
    let value = |model: &Model| {
        let context = Context { model, space: &space, means: &means, record: None };
        let mut gradients = model.zero_gradients();
        let ran = terms::run(context, &all, 1.0, &mut gradients);
        (ran.iter().map(|r| r.value).sum::<f64>(), gradients)
    };
    let (_, gradients) = value(&model);
    let mut checked = 0;
    for which in 0..model.params.values().len() {
        let g = gradients.values()[which].values();
        let Some(at) = (0..g.len()).max_by(|&a, &b| g[a].abs().total_cmp(&g[b].abs())) else { continue };
        // The passes are in f32: a step of a hundredth moves the value by far more than their rounding where the slope is above a hundredth.
        if g[at].abs() < 2e-2 {
            continue;
        }
        let with = |h: f32| {
            let mut moved = model.clone();
            moved.params.values_mut().swap_remove(which).update(|w| w.as_slice_mut().expect("row-major")[at] += h);
            value(&moved).0
        };
        let h = 2e-3;
        let slope = (with(h) - with(-h)) / (2.0 * f64::from(h));
        let expected = f64::from(g[at]);
        assert!((slope - expected).abs() < 0.05 * expected.abs() + 2e-3, "parameter {which}: {slope} and {expected}");
        checked += 1;
    }
    assert!(checked >= 5, "{checked} parameters have slopes");
}

#[test]
fn a_circuit_that_does_not_perform_its_task_is_refused_with_its_loss() {
    let (model, means, goals) = subject();
    let error = crate::check_goal(&model, &means, &goals[0], 1e-6).unwrap_err();
    assert!(error.loss > 1e-6 && error.to_string().contains("in the untouched model"), "{error}");
    let loss = crate::check_goal(&model, &means, &goals[0], error.loss).unwrap();
    assert_eq!(loss, error.loss);
    // The loss is that of the circuit alone: with no nodes it is chance.
    let nothing = Goal { nodes: NodeSet::empty(NodeSpace::new(&model.config)), ..goals[0].clone() };
    let chance = crate::check_goal(&model, &means, &nothing, 0.1).unwrap_err().loss;
    assert!((chance - std::f64::consts::LN_2).abs() < 0.02, "{chance}");
}

#[test]
fn random_circuits_have_the_shape_share_nothing_and_hang_together() {
    let (model, _, _) = subject();
    let space = NodeSpace::new(&model.config);
    let like = &NodeSet::of(space.clone(), (0..space.len()).step_by(5));
    let drawn = crate::connected_random(&model, like, like, 3).unwrap();
    assert_eq!(drawn.len(), like.len());
    assert!(drawn.numbers().all(|n| !like.kept()[n]));
    for (_, range) in drawn.space().sites() {
        let of = |set: &NodeSet| range.clone().filter(|&n| set.kept()[n]).count();
        assert_eq!(of(&drawn), of(like));
    }
    assert_eq!(crate::connected_random(&model, like, like, 3), Some(drawn.clone()));
    assert_ne!(crate::connected_random(&model, like, like, 4), Some(drawn.clone()));
    let joined =
        |set: &NodeSet| openwork_circuit::edges(&model, set).len() + openwork_circuit::residual_edges(set).len();
    let loose: usize = (0..20)
        .map(|seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(100 + seed);
            let numbers = drawn.space().sites().iter().flat_map(|(_, range)| {
                let n = range.clone().filter(|&n| like.kept()[n]).count();
                let free: Vec<usize> = range.clone().filter(|&n| !like.kept()[n]).collect();
                (0..n).map(|_| free[rng.random_range(0..free.len())]).collect::<Vec<_>>()
            });
            joined(&NodeSet::of(drawn.space().clone(), numbers))
        })
        .sum();
    assert!(joined(&drawn) * 20 > loose, "{} against a mean of {}", joined(&drawn), loose as f64 / 20.0);
    assert_eq!(crate::connected_random(&model, &NodeSet::all(drawn.space().clone()), like, 0), None);
}
