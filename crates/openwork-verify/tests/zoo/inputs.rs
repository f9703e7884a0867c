//! The search for inputs on which circuit and model part.

use openwork_model::Model;
use openwork_tasks::Pair;
use openwork_verify::{Check, CheckId, Report, Status};
use rand::RngExt;

use crate::micro::{ANSWERS, Bed, CUE, Plan, model, path_nodes, rng, set};

/// Two fillers that never meet in the data.
const STRANGERS: [u16; 2] = [4, 5];

/// The model of one path, in which a neuron outside it fires where the two strangers meet and then says the first answer.
fn model_of_strangers() -> Model {
    let mut model = model(Plan::default());
    let params = &mut model.params;
    params.embed.update(|e| {
        (4..14).for_each(|token| e.row_mut(token).fill(0.0));
        (6..14).for_each(|token| e[[token, 3]] = 1.0);
        (e[[4, 8]], e[[5, 9]]) = (1.0, 1.0);
        // Cues are there once a prompt: a measure for "both".
        (e[[0, 10]], e[[1, 10]]) = (1.0, 1.0);
    });
    let block = &mut params.blocks[0];
    // The second head, of width 4, takes means over the prompt of channels 8, 9 and 10 to channels 12, 13 and 14.
    block.qkv.weight.update(|w| {
        for row in [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23] {
            w.row_mut(row).fill(0.0);
        }
        (w[[20, 8]], w[[21, 9]], w[[22, 10]]) = (1.0, 1.0, 1.0);
    });
    block.attn_out.weight.update(|w| {
        (8..16).for_each(|row| w.row_mut(row).fill(0.0));
        (w[[12, 4]], w[[13, 5]], w[[14, 6]]) = (1.0, 1.0, 1.0);
    });
    block.fc.weight.update(|w| {
        (8..16).for_each(|row| w.row_mut(row).fill(0.0));
        // A stranger brings 4, a cue with its sign and its channel of constants 4/√3 = 2.3: above one stranger, below two.
        (w[[8, 12]], w[[8, 13]], w[[8, 14]]) = (20.0, 20.0, -20.0 * 1.5 * 3.0_f32.sqrt());
    });
    block.proj.weight.update(|w| {
        (8..16).for_each(|column| w.column_mut(column).fill(0.0));
        w[[7, 8]] = 40.0;
    });
    model
}

/// Pairs of one length in which every second prompt has one stranger, every other the other.
fn pairs(n: usize, seed: u64, template: usize) -> Vec<Pair> {
    let mut rng = rng(seed);
    let mut one = |i: usize| {
        let mut positive: Vec<u16> = (0..8).map(|_| rng.random_range(6..14)).collect();
        let at = rng.random_range(0..6);
        positive[(at + 1 + rng.random_range(0..5)) % 6] = STRANGERS[i % 2];
        positive[at] = CUE[0];
        let mut negative = positive.clone();
        negative[at] = CUE[1];
        Pair { positive, negative, answer: ANSWERS.0, alternative: ANSWERS.1, template }
    };
    (0..n).map(&mut one).collect()
}

fn of_inputs(report: &Report) -> Check {
    let found = report.checks.iter().find(|c| c.id == CheckId::WorstInputs);
    found.unwrap_or_else(|| panic!("{}", report.text())).clone()
}

fn worst_inputs(model: Model) -> Check {
    let mut bed = Bed::with(model, 7);
    (bed.held_out, bed.selection) = (pairs(60, 1, 0), pairs(40, 2, 0));
    bed.held_out_templates = pairs(60, 3, 1);
    of_inputs(&bed.judge(&set(&path_nodes(&[0], false))))
}

#[test]
fn what_never_met_in_the_data_meets_in_the_search() {
    let found = worst_inputs(model_of_strangers());
    assert_eq!(found.status, Status::Failed, "{}", found.explanation);
    // Nothing happens where the neuron says nothing.
    let mut silent = model_of_strangers();
    silent.params.blocks[0].proj.weight.update(|w| w[[7, 8]] = 0.0);
    let found = worst_inputs(silent);
    assert_eq!(found.status, Status::Passed, "{}", found.explanation);
}

#[test]
fn without_anything_to_exchange_nothing_is_searched() {
    let mut bed = Bed::new(Plan::default());
    // A template a pair: its two prompts differ in their cues alone.
    bed.held_out = (0..60).map(|n| Pair { template: n, ..pairs(60, 1, 0).swap_remove(n) }).collect();
    let found = of_inputs(&bed.judge(&set(&path_nodes(&[0], false))));
    assert_eq!(found.status, Status::NotApplicable, "{}", found.explanation);
}
