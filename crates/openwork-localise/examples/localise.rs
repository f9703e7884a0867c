//! Trains a small model on a cue, and every second node of it into a circuit that decides alone: `cargo run --release --example localise`.

use std::{convert::Infallible, ops::ControlFlow};

use openwork_circuit::{Localisation, Means, NodeSet, NodeSpace};
use openwork_localise::{Goal, Localiser};
use openwork_model::{Config, Model};
use openwork_tasks::Pair;
use openwork_train::{Recipe, SHIPPED, Schedule, Trainer};

const SEQ_LEN: usize = 8;

/// Text of a step: after 2 1 comes 3, after 4 1 comes 5, and something else between.
fn text(step: u64) -> Vec<u16> {
    let block = |i: u64| {
        let x = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let (cue, answer) = if x.is_multiple_of(2) { (2, 3) } else { (4, 5) };
        [(6 + x / 2 % 14) as u16, cue, 1, answer]
    };
    (0..64).flat_map(|i| block(step * 64 + i)).collect()
}

/// Contrast pairs: the cue is 2 or 4, and 3 or 5 is right.
fn pairs(first: u16) -> Vec<Pair> {
    let prompt = |before: u16, cue: u16| vec![before, cue, 1];
    let pair = |i: u16| {
        let before = 6 + (first + i) % 14;
        Pair { positive: prompt(before, 2), negative: prompt(before, 4), answer: 3, alternative: 5, template: 0 }
    };
    (0..32).map(pair).collect()
}

fn main() {
    let recipe = Recipe::parse(SHIPPED[0].1).expect("a shipped recipe");
    let schedule = Schedule { steps: 200, warmup_steps: 5.0, anneal_start: 5.0, anneal_stop: 100.0, ..recipe.schedule };
    let schedule = Schedule { expansion_factor: 2.0, pfrac: 1.0, min_per_unit: 1, ..schedule };
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
    let mut trainer = Trainer::new(Model::init(config, 4), schedule.clone(), 2, 2);
    for step in 0..200 {
        let Ok(_) = trainer.step(&text(step), SEQ_LEN);
    }
    let model = trainer.model();
    let (sample, space) = (text(7), NodeSpace::new(&model.config));
    let means = Means::compute(model, &sample, SEQ_LEN);
    let nodes = NodeSet::of(space.clone(), (0..space.len()).step_by(2));
    let goals = [Goal { task: "cue".into(), nodes, train: pairs(0), selection: pairs(7) }];
    let settings = Localisation { steps: 300, weight: 1.0, ..Localisation::default() };
    let localiser = Localiser {
        original: model,
        means: &means,
        sample: &sample,
        seq_len: SEQ_LEN,
        goals: &goals,
        preserved: &[],
        schedule: &schedule,
        lanes: (2, 2),
        settings: &settings,
    };
    let Ok(localised) = localiser.run::<Infallible>(&mut |step| Ok(text(step)), &mut |_| ControlFlow::Continue(()));
    let localised = localised.expect("nobody ended it");
    let goal = &localised.goals[0];
    println!("{} of {} nodes, {:?} steps", goal.nodes.len(), goals[0].nodes.len(), localised.phases);
    println!("before: {:?}\nafter:  {:?}", goal.before, goal.after);
    let Ok(twin) =
        localiser.twin::<Infallible>(localised.phases, &mut |step| Ok(text(step)), &mut |_| ControlFlow::Continue(()));
    let changed = twin.expect("nobody ended it").sha256() != localised.model.sha256();
    println!("the twin, which saw the same text, is another model: {changed}");
}
