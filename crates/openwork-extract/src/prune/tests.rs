//! Searches on models whose circuits are known.

use std::ops::ControlFlow;

use openwork_circuit::LearnedMasks;
use openwork_cuda_sim::Simulator;
use openwork_model::{Bigram, Config};

use super::*;
use crate::Progress;

/// A model in which neuron 3 alone tells token 1 from token 2: channel 0 of the embedding carries the
/// cue, the neuron reads it, channel 1 takes it to the logits of tokens 3 and 4.
pub(crate) fn planted() -> Model {
    let config = Config {
        vocab_size: 8,
        n_ctx: 4,
        n_layer: 1,
        n_head: 1,
        d_head: 8,
        d_model: 8,
        d_mlp: 16,
        act_density: None,
        bigram: Bigram::None,
        ..Config::default()
    };
    let mut model = Model::init(config, 1);
    let params = &mut model.params;
    params.embed.update(|w| {
        w.column_mut(0).fill(0.0);
        w.column_mut(1).fill(0.0);
        // Equal but for the sign of the cue: of equal norm, too.
        let row = w.row(1).to_owned();
        w.row_mut(2).assign(&row);
        (w[[1, 0]], w[[2, 0]]) = (1.0, -1.0);
        w.column_mut(2).fill(1.0);
    });
    params.blocks[0].fc.weight.update(|w| w[[3, 0]] = 2.0);
    params.blocks[0].proj.weight.update(|w| w[[1, 3]] = 4.0);
    // The two answers differ in channel 1 only, or calibration would amplify what the embedding itself
    // sends to the logits, which no mask can remove.
    params.unembed.as_mut().expect("untied").update(|w| {
        let row = w.row(3).to_owned();
        w.row_mut(4).assign(&row);
        (w[[3, 1]], w[[4, 1]]) = (2.0, -2.0);
    });
    model
}

/// Pairs that the planted neuron decides.
pub(crate) fn cues() -> Vec<Pair> {
    let pair = |i: u16| Pair {
        positive: vec![5 + i % 3, i / 3, 1],
        negative: vec![5 + i % 3, i / 3, 2],
        answer: 3,
        alternative: 4,
        template: 0,
    };
    (0..16).map(pair).collect()
}

fn on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn finds_the_planted_neuron_and_little_else() {
    let model = planted();
    let means = Means::compute(&model, &[0, 1, 2, 5, 6, 7, 1, 2, 3, 4, 2, 1], 4);
    let pairs = cues();
    let settings = Settings {
        masks: LearnedMasks { restarts: 2, steps: 150, batch_pairs: 8, ..LearnedMasks::default() },
        ..Settings::default()
    };
    let search =
        |settings| Search { model: &model, means: &means, train: &pairs[..10], validation: &pairs[10..], settings };
    let run = || search(&settings).prune(&Device::Cpu, &mut on).unwrap();
    let pruned = run();
    let few =
        Settings { masks: LearnedMasks { restarts: 1, steps: 25, ..settings.masks.clone() }, ..Settings::default() };
    let gpu = Device::Cuda(Simulator::gpu(100 << 10, 4, 2));
    let on_gpu = search(&few).prune(&gpu, &mut on).unwrap();
    let on_cpu = search(&few).prune(&Device::Cpu, &mut on).unwrap();
    assert_eq!(on_gpu.circuit, on_cpu.circuit);
    let names: Vec<String> = pruned.circuit.nodes().nodes().map(|n| n.to_string()).collect();
    for needed in ["0.mlp.act_in[0]", "0.mlp.post_act[3]", "0.mlp.resid_delta[1]"] {
        assert!(names.iter().any(|n| n == needed), "{needed} is not in {names:?}");
    }
    assert!(pruned.circuit.edges().len() <= 4 && pruned.loss <= 0.15, "{names:?} {}", pruned.loss);
    assert_eq!(pruned.circuit, run().circuit);
}

#[test]
fn an_ended_search_keeps_what_was_finished() {
    let model = planted();
    let means = Means::compute(&model, &[0, 1, 2, 5, 6, 7, 1, 2, 3, 4, 2, 1], 4);
    let pair = |i: u16| Pair {
        positive: vec![5 + i % 3, 1],
        negative: vec![5 + i % 3, 2],
        answer: 3,
        alternative: 4,
        template: 0,
    };
    let pairs: Vec<Pair> = (0..6).map(pair).collect();
    let settings = Settings {
        masks: LearnedMasks { restarts: 3, steps: 20, batch_pairs: 4, ..LearnedMasks::default() },
        ..Settings::default()
    };
    let search = Search { model: &model, means: &means, train: &pairs, validation: &pairs, settings: &settings };
    let until = |restart, step| {
        let mut progress = |p: Progress| match (p.restart, p.step) == (restart, step) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        search.search(&mut progress)
    };
    // While it learns, and while it drops nodes one by one.
    assert!(until(0, 19).is_none() && until(0, 20).is_none());
    let (one, all) = (until(1, 3).unwrap(), until(3, 0).unwrap());
    assert_eq!(until(1, 20).unwrap().restarts, 1);
    assert_eq!((one.restarts, all.restarts), (1, 3));
    assert!(all.circuit.edges().len() <= one.circuit.edges().len());
    let mut at_once = |_: Progress| ControlFlow::Break(());
    assert!(matches!(search.prune(&Device::Cpu, &mut at_once), Err(PruneError::Ended)));
}

#[test]
fn a_model_that_cannot_do_the_task_is_said_so() {
    let model = Model::init(planted().config, 1);
    let means = Means::compute(&model, &[0, 1, 2, 3], 4);
    let pair = Pair { positive: vec![1], negative: vec![1], answer: 3, alternative: 4, template: 0 };
    let (pairs, settings) = ([pair], Settings::default());
    let search = Search { model: &model, means: &means, train: &pairs, validation: &pairs, settings: &settings };
    match search.prune(&Device::Cpu, &mut on).unwrap_err() {
        PruneError::NotReached(NotReached { loss, .. }) => assert!(loss > 0.69),
        other => panic!("{other}"),
    }
}

#[test]
fn an_adversary_makes_the_search_take_in_what_cancels() {
    // Neurons 5 and 6 cancel each other in the channel that answers; neuron 4 is for the other cue what 3 is for
    // the one.
    let mut model = planted();
    let block = &mut model.params.blocks[0];
    model.params.embed.update(|w| {
        w.column_mut(3).fill(0.0);
        (w[[1, 3]], w[[2, 3]]) = (1.5, 1.5);
    });
    block.fc.weight.update(|w| {
        (4..7).for_each(|neuron| w.row_mut(neuron).fill(0.0));
        (w[[4, 0]], w[[5, 3]], w[[6, 3]]) = (-2.0, 3.0, 3.0);
    });
    block.proj.weight.update(|w| {
        (4..7).for_each(|neuron| w.column_mut(neuron).fill(0.0));
        (w[[1, 4]], w[[1, 5]], w[[1, 6]]) = (-4.0, 6.0, -6.0);
    });
    let means = Means::compute(&model, &[0, 1, 2, 5, 6, 7, 1, 2, 3, 4, 2, 1, 0, 0, 5, 5], 4);
    let pairs: Vec<Pair> = (0..24)
        .map(|i| Pair {
            positive: vec![5 + i % 3, i % 8, 1],
            negative: vec![5 + i % 3, i % 8, 2],
            answer: 3,
            alternative: 4,
            template: 0,
        })
        .collect();
    let find = |objective| {
        let settings = Settings {
            masks: LearnedMasks { restarts: 1, steps: 150, batch_pairs: 8, objective, ..LearnedMasks::default() },
            ..Settings::default()
        };
        let (train, validation) = (&pairs[..12], &pairs[12..]);
        let search = Search { model: &model, means: &means, train, validation, settings: &settings };
        let found = search.prune(&Device::Cpu, &mut on).unwrap();
        assert!(found.reached, "{objective}");
        let gpu = Device::Cuda(Simulator::gpu(100 << 10, 4, 2));
        if objective != Objective::Task {
            assert!(matches!(search.prune(&gpu, &mut on), Err(PruneError::OnCpuOnly(o)) if o == objective));
        }
        found.circuit.nodes().nodes().map(|n| n.to_string()).collect::<Vec<_>>()
    };
    let [task, kl, adversarial] = Objective::ALL.map(find);
    for found in [&task, &kl, &adversarial] {
        assert!(["0.mlp.post_act[3]", "0.mlp.post_act[4]"].iter().any(|c| found.iter().any(|n| n == c)), "{found:?}");
    }
    let cancelling = ["0.mlp.post_act[5]", "0.mlp.post_act[6]"];
    let holds = |found: &[String]| cancelling.iter().all(|c| found.iter().any(|n| n == c));
    assert!(!holds(&task) && holds(&adversarial), "{task:?}\n{adversarial:?}");
    assert!(adversarial.len() > task.len());
}
