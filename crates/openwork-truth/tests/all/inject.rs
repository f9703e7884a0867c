//! An injected circuit answers, is what is said to be the truth, and leaves the host alone.

use openwork_circuit::{Ablation, Keep, Means};
use openwork_model::{ActDensity, Activation, Bigram, Config, Model, NoTap, NormKind, Positions};
use openwork_truth::{Behaviour, InjectError, Injection, Prompt, PromptBatch};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const INJECTION: Injection = Injection { cues: [3, 4], answers: [5, 6], seed: 1 };

fn hosts() -> Vec<(&'static str, Config)> {
    let base = Config { vocab_size: 40, n_ctx: 12, d_model: 24, d_mlp: 48, n_head: 2, d_head: 6, ..Config::default() };
    let dense = Config { act_density: None, ..base.clone() };
    vec![
        ("AbsTopK, bigram table, GELU", base.clone()),
        (
            "AbsTopK, positions, sink",
            Config {
                act_density: Some(ActDensity::everywhere(0.25)),
                positions: Positions::Concat { width: 5 },
                sink: true,
                bigram: Bigram::None,
                ..base
            },
        ),
        ("RMSNorm", dense.clone()),
        (
            "no norm, ReLU, no biases",
            Config {
                norm: NormKind::None,
                activation: Activation::Relu,
                linear_bias: false,
                positions: Positions::Added,
                ..dense
            },
        ),
    ]
}

/// A host with opinions: its weights are ten times the initial ones.
fn host(config: Config) -> Model {
    let factor = if config.norm == NormKind::None { 4.0 } else { 10.0 };
    let mut model = Model::init(config, 3);
    model.params.values_mut().into_iter().filter(|w| w.dense().ncols() > 1).for_each(|w| w.update(|w| *w *= factor));
    model
}

fn prompts(cue: bool, seed: u64) -> Vec<Prompt> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let one = |i: usize| {
        let n = rng.random_range(2..12);
        let mut tokens: Vec<u16> = (0..n).map(|_| rng.random_range(7..40)).collect();
        if cue {
            tokens[rng.random_range(0..n)] = INJECTION.cues[i % 2];
        }
        Prompt { tokens, answer: INJECTION.answers[i % 2] }
    };
    (0..100).map(one).collect()
}

#[test]
fn it_answers_on_cues_and_its_circuit_does_so_alone() {
    for (name, config) in hosts() {
        let host = host(config);
        let injected = INJECTION.into_host(&host).unwrap();
        let (model, cued) = (&injected.model, prompts(true, 5));
        let batch = PromptBatch::new(&cued);
        let whole = Behaviour::of(model, &batch, &mut NoTap);
        assert!(whole.margin(&cued) > 5.0, "{name}: {}", whole.margin(&cued));
        assert_eq!(injected.truth.len(), 11);

        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let text: Vec<u16> = (0..12 * 200).map(|_| rng.random_range(0..40)).collect();
        let means = Means::compute(model, &text, 12);
        for ablation in [Ablation::Zero, Ablation::Mean(&means)] {
            let alone = Behaviour::of(model, &batch, &mut Keep::new(&injected.truth, ablation));
            let kl = whole.mean_kl(&alone);
            assert!(alone.margin(&cued) > 5.0 && kl < 0.05, "{name}: {} {kl}", alone.margin(&cued));
            let rest = injected.truth.complement();
            let without = Behaviour::of(model, &batch, &mut Keep::new(&rest, ablation));
            assert!(without.margin(&cued) < 0.0, "{name}: without it nothing answers");
        }
    }
}

#[test]
fn without_cues_the_host_says_what_it_said() {
    for (name, config) in hosts() {
        let top_k = config.act_density.is_some();
        let host = host(config);
        let model = INJECTION.into_host(&host).unwrap().model;
        let batch = PromptBatch::new(&prompts(false, 8));
        let (before, after) = (Behaviour::of(&host, &batch, &mut NoTap), Behaviour::of(&model, &batch, &mut NoTap));
        let kl = before.mean_kl(&after);
        // One channel that is the same everywhere is in the norm; AbsTopK also has other numbers to choose from.
        assert!(kl < if top_k { 0.5 } else { 0.02 }, "{name}: {kl}");
    }
}

#[test]
fn hosts_and_tokens_that_do_not_fit_are_refused() {
    let base = hosts().remove(0).1;
    let refused = |config: Config| INJECTION.into_host(&Model::init(config, 1)).err().unwrap();
    assert_eq!(refused(Config { norm: NormKind::Layer, ..base.clone() }), InjectError::LayerNorm);
    assert_eq!(refused(Config { tied_unembed: true, ..base.clone() }), InjectError::Tied);
    assert_eq!(refused(Config { n_layer: 0, ..base.clone() }), InjectError::NoBlocks);
    let model = Model::init(base, 1);
    for (cues, answers) in [([3, 3], [5, 6]), ([3, 4], [5, 40]), ([3, 4], [4, 6])] {
        let error = Injection { cues, answers, seed: 1 }.into_host(&model).err().unwrap();
        assert!(error.to_string().contains("different tokens below 40"), "{error}");
    }
}
