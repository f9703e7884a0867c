//! Compiled programs against their interpreter, on all inputs.

use openwork_model::NoTap;
use openwork_truth::{Behaviour, Compiled, Options, Program, PromptBatch, SCORE};

fn margin(compiled: &Compiled) -> f64 {
    let domain = compiled.domain();
    Behaviour::of(&compiled.model, &PromptBatch::new(&domain), &mut NoTap).margin(&domain)
}

#[test]
fn every_program_answers_every_input_with_a_clear_margin() {
    for program in Program::all() {
        let compiled = Compiled::new(program, &Options::default());
        // LOGIT is 10; what leaks from keys that are not selected costs less than 1e-3.
        let margin = margin(&compiled);
        assert!(margin > 9.99, "{}: {margin}", program.name());
        assert!(compiled.domain().len() >= 200, "{}: {} inputs", program.name(), compiled.domain().len());
    }
    assert!((-SCORE).exp() < 1e-6, "softmax must be as good as exact");
}

#[test]
fn order_names_and_company_change_no_answer() {
    for program in Program::all() {
        let plain = Compiled::new(program, &Options::default());
        for seed in 0..3 {
            let compiled = Compiled::new(program, &Options::random(seed));
            assert!(margin(&compiled) > 9.99, "{} with seed {seed}", program.name());
            assert!(compiled.ids != plain.ids && compiled.model.config.d_model > plain.model.config.d_model);
            // Names follow the ids.
            for (logical, name) in program.vocabulary().iter().enumerate() {
                assert_eq!(compiled.vocabulary[usize::from(compiled.ids[logical])], *name);
            }
        }
        let weights = |seed| {
            let model = Compiled::new(program, &Options::random(seed)).model;
            model.params.values().iter().flat_map(|w| w.dense().iter().map(|x| x.to_bits())).collect::<Vec<_>>()
        };
        assert!(weights(1) == weights(1) && weights(1) != weights(2), "a seed is a model");
    }
}

#[test]
fn a_wrong_weight_is_noticed() {
    // The test above can fail: without any one neuron or head some answer is wrong.
    let mut compiled = Compiled::new(Program::Reverse, &Options::default());
    compiled.model.params.blocks[0].proj.weight.update(|w| w.column_mut(3).fill(0.0));
    assert!(margin(&compiled) < 1.0);
}
