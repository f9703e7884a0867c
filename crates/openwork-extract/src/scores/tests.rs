//! Scores against finite differences, on a model that is linear, and on models whose circuits are known.

use std::ops::ControlFlow;

use openwork_circuit::Partial;
use openwork_model::{Bigram, Config, NormKind, Record, Site, SiteKind, Tap, Tokens};
use openwork_truth::{Prompt, Truth, zoo::CaseKind};

use super::*;

mod found;

fn on(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A small model without AbsTopK, whose choice jumps, its means, and pairs of two lengths.
pub(crate) fn smooth() -> (Model, Means, Vec<Pair>) {
    let config = Config {
        vocab_size: 20,
        n_ctx: 10,
        n_layer: 2,
        n_head: 2,
        d_head: 8,
        d_model: 16,
        d_mlp: 24,
        act_density: None,
        ..Config::default()
    };
    let mut model = Model::init(config, 3);
    model.params.values_mut().into_iter().for_each(|w| w.update(|w| *w *= 4.0));
    let means = Means::compute(&model, &(0..40).map(|t| t * 7 % 20).collect::<Vec<u16>>(), 10);
    let pair = |i| Pair { positive: vec![i, 2, 3], negative: vec![4, i], answer: 6, alternative: 7, template: 0 };
    (model, means, (8..19).map(pair).collect())
}

/// The logit difference under a tap of each batch.
fn difference_under<T: Tap>(scorer: &Scorer<'_>, model: &Model, tap: impl Fn(&Batch) -> T) -> f64 {
    let sum = scorer.batches.iter().map(|batch| {
        let tokens = Tokens::new(&batch.tokens, batch.seq_len);
        let pass = model.forward(tokens, Some(&batch.readout), &mut tap(batch));
        towards_right(&pass.logits, batch).0
    });
    sum.sum::<f64>() / scorer.sequences()
}

/// Largest magnitude.
fn scale(scores: &[f64]) -> f64 {
    scores.iter().fold(0.0, |most: f64, s| most.max(s.abs()))
}

#[test]
fn gradient_scores_are_finite_differences_of_a_nodes_scale() {
    let (model, means, pairs) = smooth();
    let scorer = Scorer::new(&model, &means, &pairs);
    let scores = scorer.gradient(&mut on).unwrap();
    let (n, h) = (scores.len(), 0.015625_f32);
    let most = scale(&scores);
    assert!(most > 0.02, "{most}");
    for node in (0..n).step_by(3) {
        let at = |by: f32| {
            let mut r = vec![1.0; n];
            r[node] += by;
            difference_under(&scorer, &model, |_| Partial::new(scorer.space(), &r, Ablation::Mean(&means)))
        };
        let slope = (at(h) - at(-h)) / f64::from(2.0 * h);
        // f32 logits of some 10: 1e-6 / h of noise; h² of truncation.
        assert!((slope - scores[node]).abs() < 1e-2 * most, "{} {slope} {}", scorer.space.node(node), scores[node]);
    }
}

/// Moves embeddings as the path of inputs does, and one node by a part of its deviation in the plain run.
struct Moved<'a> {
    base: &'a [f32],
    alpha: f32,
    node: (Site, usize),
    by: f32,
    plain: Record,
    mean: f32,
}

impl Tap for Moved<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        if site == (Site { layer: 0, kind: SiteKind::ResidIn }) {
            value
                .rows_mut()
                .into_iter()
                .zip(self.base)
                .for_each(|(mut row, b)| row.mapv_inplace(|x| b + self.alpha * (x - b)));
        }
        if site == self.node.0 {
            let plain = self.plain.at(site).unwrap().row(self.node.1).mapv(|x| x - self.mean);
            value.row_mut(self.node.1).scaled_add(self.by, &plain);
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn input_scores_are_finite_differences_along_the_path() {
    let (model, means, pairs) = smooth();
    let scorer = Scorer::new(&model, &means, &pairs);
    let (points, h) = (3, 0.0078125_f32);
    let (scores, base) = (scorer.inputs(points, &mut on).unwrap(), scorer.mean_embedding());
    // Worked out along another path: over all tokens of all prompts.
    let tokens: Vec<u16> = pairs.iter().flat_map(Pair::prompts).flatten().copied().collect();
    let by_hand = |c: usize| {
        let values = tokens.iter().map(|&t| f64::from(model.params.embed.dense()[[usize::from(t), c]]));
        values.sum::<f64>() / tokens.len() as f64
    };
    (0..base.len()).for_each(|c| assert!((by_hand(c) - f64::from(base[c])).abs() < 1e-5, "channel {c}"));
    let most = scale(&scores);
    for node in (0..scores.len()).step_by(7) {
        let place = scorer.space.node(node);
        let at = |alpha: f32, by: f32| {
            difference_under(&scorer, &model, |batch| {
                let mut plain = Record::of_kinds(&NodeSpace::KINDS);
                model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut plain);
                let node_at = (place.site, place.index);
                Moved { base: &base, alpha, node: node_at, by, plain, mean: means.values()[node] }
            })
        };
        let slopes = [1.0 / 6.0, 0.5, 5.0 / 6.0].map(|a| (at(a, h) - at(a, -h)) / f64::from(2.0 * h));
        let slope = slopes.iter().sum::<f64>() / points as f64;
        assert!((slope - scores[node]).abs() < 1e-2 * most, "{place} {slope} {}", scores[node]);
    }
}

#[test]
fn edge_scores_are_finite_differences_of_a_weights_scale() {
    let (model, means, pairs) = smooth();
    let scorer = Scorer::new(&model, &means, &pairs);
    let nodes = NodeSet::of(scorer.space.clone(), (0..scorer.space.len()).filter(|n| n % 4 != 1));
    let EdgeScores { edges, scores } = scorer.edge_gradient(&nodes);
    let (most, h) = (scale(&scores), 0.03125_f32);
    assert!(most > 0.02 && edges.len() > 300, "{most} {}", edges.len());
    for (edge, score) in edges.iter().zip(&scores).step_by(29) {
        let at = |by: f32| {
            let mut model = model.clone();
            let (linear, row) = openwork_circuit::weights_of(&mut model, edge.to);
            linear.weight.update(|w| w[[row, edge.from.index]] *= 1.0 + by);
            difference_under(&scorer, &model, |_| Keep::new(&nodes, Ablation::Mean(&means)))
        };
        let slope = (at(h) - at(-h)) / f64::from(2.0 * h);
        assert!((slope - score).abs() < 1e-2 * most, "{} -> {} {slope} {score}", edge.from, edge.to);
    }
}

/// A linear model: no norm, no AbsTopK, attention that looks at all tokens alike, neurons far above zero.
fn linear() -> (Model, Means, Vec<Pair>) {
    let (smooth, _, pairs) = smooth();
    let config = Config { norm: NormKind::None, bigram: Bigram::None, ..smooth.config };
    let mut model = Model::init(config, 5);
    for block in &mut model.params.blocks {
        let d_attn = 16;
        block.qkv.weight.update(|w| {
            *w *= 8.0;
            (0..2 * d_attn).for_each(|row| w.row_mut(row).fill(0.0));
        });
        block.attn_out.weight.update(|w| *w *= 8.0);
        block.proj.weight.update(|w| *w *= 8.0);
        // GELU is the identity to 1e-7 beyond 6.
        block.fc.bias.as_mut().expect("biases").update(|b| b.fill(20.0));
    }
    model.params.embed.update(|w| *w *= 8.0);
    model.params.unembed.as_mut().expect("untied").update(|w| *w *= 100.0);
    let means = Means::compute(&model, &(0..40).map(|t| t * 7 % 20).collect::<Vec<u16>>(), 10);
    (model, means, pairs)
}

#[test]
fn on_a_linear_model_all_estimates_agree_and_sum_to_the_total() {
    let (model, means, pairs) = linear();
    let scorer = Scorer::new(&model, &means, &pairs);
    let exact = scorer.patching(&mut on).unwrap();
    let most = scale(&exact);
    assert!(most > 1e-2, "{most}");
    for (name, scores) in [
        ("gradient", scorer.gradient(&mut on).unwrap()),
        ("integrated", scorer.integrated(2, &mut on).unwrap()),
        ("inputs", scorer.inputs(2, &mut on).unwrap()),
    ] {
        for (node, (a, b)) in scores.iter().zip(&exact).enumerate() {
            // Differences of f32 logits of size 10.
            assert!((a - b).abs() < 2e-3 * most + 2e-6, "{name} {}: {a} {b}", scorer.space.node(node));
        }
        for SiteSum { site, sum, effect } in scorer.site_sums(&scores) {
            assert!((sum - effect).abs() < 2e-3 * most + 2e-6, "{name} {site}: {sum} {effect}");
        }
    }
    let sums = scorer.site_sums(&exact);
    assert!(sums.iter().any(|s| s.effect.abs() > most), "no site does more than one node: {sums:?}");
}

#[test]
fn integrated_gradients_of_a_site_sum_to_its_effect_and_gradients_do_not() {
    let (model, means, pairs) = smooth();
    let scorer = Scorer::new(&model, &means, &pairs);
    let worst = |scores: &[f64]| {
        let sums = scorer.site_sums(scores);
        let most = sums.iter().fold(0.0_f64, |most, s| most.max(s.effect.abs()));
        sums.iter().fold(0.0_f64, |worst, s| worst.max((s.sum - s.effect).abs())) / most
    };
    let (rough, fine) =
        (worst(&scorer.integrated(4, &mut on).unwrap()), worst(&scorer.integrated(48, &mut on).unwrap()));
    let gradient = worst(&scorer.gradient(&mut on).unwrap());
    // The midpoint rule's error falls with the square of the number of points, down to that of f32 logits.
    assert!(fine < 1e-2 && fine < rough / 4.0 && gradient > 10.0 * fine, "{rough} {fine} {gradient}");
}

#[test]
fn scores_and_rankings_have_the_same_bytes_on_any_number_of_threads() {
    let (model, means, pairs) = smooth();
    let scorer = Scorer::new(&model, &means, &pairs);
    let all = || {
        let nodes = NodeSet::all(scorer.space.clone());
        let edges = scorer.edge_gradient(&nodes).scores;
        let few = NodeSet::of(scorer.space.clone(), (0..scorer.space.len()).step_by(5));
        let by_nodes = [
            scorer.gradient(&mut on).unwrap(),
            scorer.integrated(2, &mut on).unwrap(),
            scorer.inputs(2, &mut on).unwrap(),
            scorer.weights(),
            scorer.random(7),
            edges,
        ];
        let slow = [
            scorer.patching(&mut on).unwrap(),
            scorer.eliminate(0.01, &mut on).unwrap(),
            scorer.eliminate_edges(&few, 0.01, &mut on).unwrap().scores,
        ];
        by_nodes.into_iter().chain(slow).map(|s| (ranking(&s), s.iter().map(|x| x.to_bits()).collect::<Vec<_>>()))
    };
    let on_threads = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| all().collect::<Vec<_>>())
    };
    assert_eq!(on_threads(1), on_threads(2));
}

#[test]
fn gradient_scores_end_where_they_are_asked_to() {
    let (model, means, pairs) = smooth();
    let scorer = Scorer::new(&model, &means, &pairs);
    // At once, and after some of the passes.
    for after in [0, 3] {
        let ends = || {
            let mut asked = 0;
            move |_: usize| {
                asked += 1;
                if asked > after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
        };
        assert_eq!(scorer.integrated(4, &mut ends()), None);
        if after == 0 {
            assert_eq!((scorer.gradient(&mut ends()), scorer.inputs(4, &mut ends())), (None, None));
        }
    }
}

#[test]
fn rankings_are_by_magnitude_and_then_by_index() {
    assert_eq!(ranking(&[0.0, -2.0, 1.0, 2.0, -0.0]), [1, 3, 2, 0, 4]);
    let (model, means, pairs) = smooth();
    let scorer = Scorer::new(&model, &means, &pairs);
    assert_ne!(ranking(&scorer.random(1)), ranking(&scorer.random(2)));
    // By hand: neuron 5 of block 0 has a row of one matrix and a column of another.
    let block = &model.params.blocks[0];
    let squares = block.fc.weight.dense().row(5).mapv(|w| w * w).sum()
        + block.proj.weight.dense().column(5).mapv(|w| w * w).sum();
    let neuron = openwork_circuit::Node { site: Site { layer: 0, kind: SiteKind::Neuron }, index: 5 };
    let score = scorer.weights()[scorer.space.number(neuron).unwrap()];
    assert!((score.powi(2) - f64::from(squares)).abs() < 1e-4 * score.powi(2));
}

/// Prompts of pairs, with the answer of each.
fn prompts(pairs: &[Pair]) -> Vec<Prompt> {
    let both = |p: &Pair| {
        [(&p.positive, p.answer), (&p.negative, p.alternative)]
            .map(|(tokens, answer)| Prompt { tokens: tokens.clone(), answer })
    };
    pairs.iter().flat_map(both).collect()
}

#[test]
fn elimination_keeps_exactly_the_circuit_of_compiled_programs() {
    const THRESHOLD: f64 = 1e-2;
    for seed in 0..9 {
        let case = CaseKind::True.build(1.0, seed);
        let truth = Truth::find(&case.model, &prompts(&case.training), Ablation::Mean(&case.means));
        let scorer = Scorer::new(&case.model, &case.means, &case.training);
        let scores = scorer.eliminate(THRESHOLD, &mut on).unwrap();
        let kept: Vec<usize> = (0..scores.len()).filter(|&n| scores[n] >= THRESHOLD).collect();
        let of_truth: Vec<usize> = truth.nodes.numbers().collect();
        let mut leading = ranking(&scores)[..kept.len()].to_vec();
        leading.sort_unstable();
        assert_eq!(leading, kept, "what is kept leads the ranking");
        let edges = scorer.eliminate_edges(&truth.nodes, THRESHOLD, &mut on).unwrap();
        let kept_edges: Vec<_> =
            edges.edges.iter().zip(&edges.scores).filter(|e| *e.1 >= THRESHOLD).map(|e| *e.0).collect();
        // What moves other tokens than the pairs' two answers is true and nothing that a logit difference sees: in the programs that
        // sort and count.
        if matches!(case.host, "sort" | "histogram") {
            assert!(kept.iter().all(|n| of_truth.contains(n)) && kept.len() + 1 >= of_truth.len(), "{}", case.host);
        } else {
            assert_eq!(kept, of_truth, "{} of {} nodes", case.host, scores.len());
        }
        // An edge of the truth carries its mean where it is cut, a circuit's missing edge nothing: the same where means do nothing.
        if matches!(case.host, "reverse" | "by hand" | "induction" | "quote-closing") {
            assert_eq!(kept_edges, truth.edges, "{} of {} edges", case.host, edges.edges.len());
        }
    }
}
