//! Sums of causes on random models of every configuration.

use openwork_circuit::Node;
use openwork_model::{ActDensity, Activation, Bigram, Config, Matrix, Model, NormKind, Positions, Site, SiteKind};
use proptest::prelude::*;

use super::*;

/// A random configuration: every norm, activation, way of positions, AbsTopK at any sites, with and without biases, sinks,
/// bigram table and tied unembedding.
pub(crate) fn config() -> impl Strategy<Value = Config> {
    let norm = prop::sample::select(vec![NormKind::Rms, NormKind::Layer, NormKind::None]);
    let activation = prop::sample::select(vec![Activation::Gelu, Activation::Relu]);
    let positions = prop::sample::select(vec![
        Positions::None,
        Positions::Added,
        Positions::Concat { width: 4 },
        Positions::Sinusoidal { width: 4 },
    ]);
    let bigram = prop::sample::select(vec![Bigram::None, Bigram::Learned, Bigram::Fixed]);
    let sites = prop::collection::vec(any::<bool>(), 8);
    (norm, activation, positions, bigram, sites, any::<[bool; 4]>(), 1..3_usize).prop_map(
        |(norm, activation, positions, bigram, sites, [norm_bias, linear_bias, sink, tied_unembed], n_layer)| {
            let all = ActDensity::everywhere(0.4).sites;
            let sites: Vec<SiteKind> = all.into_iter().zip(sites).filter(|(_, on)| *on).map(|(site, _)| site).collect();
            let act_density = (!sites.is_empty()).then_some(ActDensity { fraction: 0.4, sites });
            Config {
                vocab_size: 12,
                n_ctx: 6,
                n_layer,
                n_head: 2,
                d_head: 3,
                d_model: 8,
                d_mlp: 10,
                norm,
                norm_bias,
                linear_bias,
                activation,
                act_density,
                positions,
                sink,
                bigram,
                tied_unembed,
            }
        },
    )
}

/// A model whose parameters are all of order one, so that every nonlinearity does something; half of the weights of
/// matrices are zero.
pub(crate) fn model(config: Config, seed: u64) -> Model {
    let mut model = Model::init(config, seed);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    for weight in model.params.values_mut() {
        weight.update(|w: &mut Matrix| {
            let matrix = w.ncols() > 1;
            w.iter_mut().for_each(|x| *x = if matrix && draw() < 0.0 { 0.0 } else { draw() });
        });
    }
    model
}

/// Every value of a run that a backtrace can begin at.
fn targets(config: &Config, positions: usize) -> Vec<Target> {
    let mut found = Vec::new();
    for position in 0..positions {
        for site in config.sites() {
            found.extend((0..config.width(site.kind)).map(|index| Target::node(Node { site, index }, position)));
        }
        found.extend((0..config.vocab_size as u16).map(|t| Target { quantity: Quantity::Logit(t), position }));
        found.push(Target { quantity: Quantity::Lead(1, 5), position });
        for (layer, head, key) in [(0, 0, 0), (0, 1, position)] {
            for side in [ScoreSide::Query, ScoreSide::Key] {
                found.push(Target { quantity: Quantity::Score { layer, head, key, side }, position });
            }
        }
    }
    found
}

/// Every set of causes of a tree.
fn all<'a>(causes: &'a Causes, found: &mut Vec<&'a Causes>) {
    found.push(causes);
    for branch in &causes.shown {
        let attention = branch.attention.iter().flat_map(|a| a.by_query.iter().chain(&a.by_key));
        branch.causes.iter().chain(attention).for_each(|causes| all(causes, found));
    }
}

/// Largest rest of the sums: f32 has 6e-8, over the ten or twenty additions and the two norms behind a value.
const TOLERANCE: f64 = 1e-5;

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_causes_of_every_value_add_up_to_it(
        config in config(),
        seed in 0..1000_u64,
        tokens in prop::collection::vec(0..12_u16, 1..6),
        differentiated in any::<bool>(),
        edited in any::<bool>(),
    ) {
        let model = model(config.clone(), seed);
        let site = |kind| Site { layer: 0, kind };
        let changes = [
            Change { node: Node { site: site(SiteKind::ResidIn), index: 1 }, position: 0, value: 0.7 },
            Change { node: Node { site: site(SiteKind::ResidMid), index: 2 }, position: 0, value: -0.4 },
            Change { node: Node { site: site(SiteKind::Value), index: 1 }, position: 0, value: 0.9 },
        ];
        let changes = if edited { &changes[..] } else { &[] };
        let trace = Trace::run(&model, &tokens, changes);
        let hold = if differentiated { Hold::Differentiated } else { Hold::Held };
        let opener = Opener::new(&model, &trace, hold);
        for target in targets(&config, tokens.len()) {
            let Opening { value, terms, .. } = opener.open(target);
            let sum: f64 = terms.iter().map(|term| term.amount).sum();
            let magnitude: f64 = terms.iter().map(|term| term.amount.abs()).sum();
            prop_assert!(
                (value - sum).abs() <= TOLERANCE * magnitude,
                "{}: {} but {} of {:?}", target, value, sum,
                terms.iter().map(|t| (t.cause.to_string(), t.amount)).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn trees_add_up_at_every_depth_and_share(
        config in config(),
        seed in 0..1000_u64,
        tokens in prop::collection::vec(0..12_u16, 3),
        share in 0.0..0.3_f64,
        depth in 1..6_usize,
    ) {
        let model = model(config.clone(), seed);
        let trace = Trace::run(&model, &tokens, &[]);
        let options = BacktraceOptions { depth, share, ..BacktraceOptions::default() };
        for quantity in [Quantity::Logit(3), Quantity::Lead(1, 5)] {
            let target = Target { quantity, position: 2 };
            let backtrace = Backtrace::new(&model, &trace, &[], target, &options, None);
            prop_assert!((backtrace.sum_of_leaves() - backtrace.value).abs() <= 1e-9 * (1.0 + backtrace.causes.magnitude));
            let mut sets = vec![];
            all(&backtrace.causes, &mut sets);
            for causes in sets {
                prop_assert!(causes.rest.abs() <= TOLERANCE * causes.magnitude, "{} of {}", causes.rest, causes.magnitude);
                prop_assert!(causes.shown.is_sorted_by(|a, b| a.contribution.abs() >= b.contribution.abs()));
            }
        }
    }

    #[test]
    fn resumed_runs_have_the_logits_of_whole_ones(
        config in config(), seed in 0..1000_u64, index in 0..6_usize, position in 0..4_usize, at in 0..100_usize,
    ) {
        let (model, tokens) = (model(config.clone(), seed), [3, 1, 4, 1]);
        let sites = config.sites();
        let changes = [Change { node: Node { site: Site { layer: 0, kind: SiteKind::Key }, index: 2 }, position: 1, value: 0.3 }];
        let more = [
            Change { node: Node { site: sites[at % sites.len()], index }, position, value: 0.5 },
            Change { node: Node { site: sites[(at * 7 + 1) % sites.len()], index }, position: 2, value: -0.5 },
        ];
        let trace = Trace::run(&model, &tokens, &changes);
        let whole = Trace::run(&model, &tokens, &[&changes[..], &more].concat());
        for position in 0..4 {
            let resumed = trace.logits_with(&model, &changes, &more, position);
            prop_assert_eq!(whole.logits().column(position).to_vec(), resumed);
        }
    }
}

#[test]
fn a_tree_without_end_is_cut_off_and_still_adds_up() {
    let model =
        model(Config { d_model: 16, d_mlp: 32, vocab_size: 12, n_ctx: 6, act_density: None, ..Config::default() }, 3);
    let trace = Trace::run(&model, &[1, 2, 3], &[]);
    let options = BacktraceOptions { depth: 32, share: 0.0, ..BacktraceOptions::default() };
    let target = Target { quantity: Quantity::Logit(4), position: 2 };
    let backtrace = Backtrace::new(&model, &trace, &[], target, &options, None);
    assert!((backtrace.sum_of_leaves() - backtrace.value).abs() < 1e-6 * backtrace.causes.magnitude);
}

#[test]
fn gates_are_those_of_the_activation() {
    let model =
        model(Config { d_model: 16, d_mlp: 32, vocab_size: 12, n_ctx: 6, act_density: None, ..Config::default() }, 3);
    let trace = Trace::run(&model, &[1, 2, 3], &[]);
    let opener = Opener::new(&model, &trace, Hold::Held);
    for index in 0..32 {
        let node = Node { site: Site { layer: 1, kind: SiteKind::Neuron }, index };
        let Opening { terms, held, .. } = opener.open(Target::node(node, 2));
        let Some(Held::Gate(found)) = held else { panic!("a neuron has a gate") };
        let input: f64 = terms.iter().map(|term| term.amount).sum::<f64>() / found;
        // The error of Φ in f32, and of the input.
        assert!((found - causes::gate(Activation::Gelu, input)).abs() < 2e-6, "{found} at {input}");
    }
}

#[test]
fn an_effect_is_the_difference_of_two_runs_and_a_direct_path_has_its_contribution() {
    // Without norms, AbsTopK and later blocks, a write of the last block reaches a logit through one product.
    let config = Config {
        vocab_size: 12,
        n_ctx: 6,
        n_layer: 1,
        d_model: 8,
        d_mlp: 12,
        n_head: 2,
        d_head: 3,
        norm: NormKind::None,
        act_density: None,
        ..Config::default()
    };
    let model = model(config, 5);
    let trace = Trace::run(&model, &[1, 2, 3], &[]);
    let target = Target { quantity: Quantity::Logit(4), position: 2 };
    let options =
        BacktraceOptions { depth: 2, share: 0.0, without: Some(Without::Zero), ..BacktraceOptions::default() };
    let backtrace = Backtrace::new(&model, &trace, &[], target, &options, None);
    let mut compared = 0;
    for read in &backtrace.causes.shown {
        let effect = read.effect.expect("logits' causes can all be left out");
        assert!((effect - read.contribution).abs() < 1e-5, "{}: {effect} {}", read.cause, read.contribution);
        for branch in read.causes.iter().flat_map(|causes| &causes.shown) {
            let Cause::Value(Target { quantity: Quantity::Node(node), position }) = branch.cause else { continue };
            let change = Change { node, position, value: 0.0 };
            let by_hand = backtrace.value - Trace::run(&model, &[1, 2, 3], &[change]).quantity(&model, target);
            assert_eq!(branch.effect, Some(by_hand));
            if node.site.kind == SiteKind::MlpWrite {
                assert!((by_hand - branch.contribution).abs() < 1e-5);
                compared += 1;
            }
        }
    }
    assert!(compared > 3, "{compared}");
}
