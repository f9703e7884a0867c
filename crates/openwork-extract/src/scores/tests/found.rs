//! Circuits from rankings, curves, attacks and refinement.

use openwork_circuit::{Calibration, Circuit, Hold, Parts, Score, Scored, softplus};
use openwork_truth::zoo::GroundTruthCase;

use super::{super::attack::*, *};

/// Quote closing, compiled, with every setting at its default but these.
fn search<'a>(case: &'a GroundTruthCase, settings: &'a Scored) -> ScoreSearch<'a> {
    ScoreSearch {
        model: &case.model,
        means: &case.means,
        train: &case.training,
        validation: &case.selection,
        target_loss: case.target_loss,
        seed: 3,
        settings,
    }
}

fn quotes() -> GroundTruthCase {
    CaseKind::True.build(1.0, 8)
}

fn on_step(_: ScoreStep) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn the_smallest_top_is_what_a_slow_scan_finds() {
    let case = quotes();
    for (score, parts) in [
        (Score::Gradient, Parts::Nodes),
        (Score::Acdc, Parts::Nodes),
        (Score::Random, Parts::Nodes),
        (Score::Acdc, Parts::Edges),
        (Score::Gradient, Parts::Edges),
    ] {
        let settings = Scored { score, parts, ..Scored::default() };
        let search = search(&case, &settings);
        let found = search.prune(&mut on_step).unwrap();
        assert!(found.reached && found.loss <= case.target_loss, "{score} {parts}");
        let ranked = search.ranked(&mut on_step).unwrap();
        let loss = |size: usize| search.judge().loss_of(&ranked.top(&case.model, size)).0;
        let smallest = (0..=ranked.len()).find(|&size| loss(size) <= case.target_loss).unwrap();
        assert_eq!(found.circuit, ranked.top(&case.model, smallest), "{score} {parts}");
        let truth = case.truth.as_ref().unwrap();
        match score {
            Score::Acdc => assert!(found.circuit.nodes().numbers().all(|n| truth.kept()[n]), "{parts}"),
            Score::Random => assert!(found.circuit.nodes().len() > 2 * truth.len()),
            _ => (),
        }
    }
}

#[test]
fn a_search_that_is_ended_finds_nothing_and_a_model_that_cannot_do_the_task_is_said_so() {
    let (case, settings) = (quotes(), Scored { score: Score::Patching, ..Scored::default() });
    let search = search(&case, &settings);
    for stage in [ScoreStage::Scoring, ScoreStage::Selecting] {
        let ended = search.prune(&mut |step: ScoreStep| match step.stage == stage {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        assert!(matches!(ended, Err(crate::PruneError::Ended)), "{stage:?}");
    }
    let impossible = ScoreSearch { target_loss: 1e-9, ..search };
    assert!(matches!(impossible.prune(&mut on_step), Err(crate::PruneError::NotReached(_))));
}

#[test]
fn refinement_leaves_nothing_that_can_go_and_everything_that_holds() {
    let case = CaseKind::Padded.build(1.0, 8);
    let refinement =
        Refinement { model: &case.model, means: &case.means, train: &case.training, validation: &case.selection };
    let padded = Circuit::new(&case.model, case.circuit.clone());
    for hold in [Hold::Loss(case.target_loss), Hold::Agreement(1.0)] {
        let refined = refinement.run(padded.clone(), hold, &mut on).unwrap();
        let holds = |circuit: &Circuit| refinement.holds(circuit, hold);
        assert!(holds(&refined), "{hold:?}");
        assert!(refined.nodes().len() < case.truth.as_ref().unwrap().len() + 1 && !refined.edges().is_empty());
        // Along a slower path: no edge and no node can go.
        let ends: Vec<_> = refined.edges().iter().map(|e| (e.from, e.to)).collect();
        for gone in 0..ends.len() {
            let mut left = ends.clone();
            left.remove(gone);
            assert!(!holds(&refined.clone().with_edges(&case.model, &left).unwrap()), "{hold:?} edge {gone}");
        }
        for node in refined.nodes().nodes() {
            let space = refined.nodes().space().clone();
            let gone = space.number(node).unwrap();
            let others = NodeSet::of(space, refined.nodes().numbers().filter(|&n| n != gone));
            let left: Vec<_> = ends.iter().copied().filter(|&(from, to)| from != node && to != node).collect();
            let without = Circuit::new(&case.model, others).with_edges(&case.model, &left).unwrap();
            assert!(!holds(&without), "{hold:?} {node}");
        }
    }
    assert_eq!(refinement.run(padded, Hold::Loss(0.15), &mut |_| ControlFlow::Break(())), None);
}

#[test]
fn curves_end_at_the_model_and_have_the_figures_of_a_slow_path() {
    let (case, settings) = (quotes(), Scored::default());
    let search = search(&case, &settings);
    let ranked = search.ranked(&mut on_step).unwrap();
    let sizes = curve_sizes(ranked.len());
    assert_eq!(curve_sizes(7), [1, 2, 3, 4, 6, 7]);
    let curve = search.curve(&ranked, &sizes, &mut on_step).unwrap();
    assert_eq!(curve.iter().map(|p| p.parts).collect::<Vec<_>>(), sizes);
    let last = curve.last().unwrap();
    assert!(
        last.kl.abs() < 1e-6 && last.agreement == 1.0 && last.attacked_equal == 1.0 && last.loss < 1e-2,
        "{last:?}"
    );
    assert!(curve[0].kl > 0.1 && curve[0].loss > 0.5, "{:?}", curve[0]);
    for point in [curve[1], curve[5]] {
        let circuit = ranked.top(&case.model, point.parts);
        assert_eq!((point.nodes, point.edges), (circuit.nodes().len(), circuit.edges().len()));
        let (loss, calibration) = search.judge().loss_of(&circuit);
        assert_eq!(point.loss, loss);
        // One sequence at a time.
        let (mut kl, mut agree, mut n) = (0.0, 0.0, 0.0);
        for pair in &case.selection {
            for prompt in pair.prompts() {
                let (tokens, readout) = (Tokens::new(prompt, prompt.len()), [prompt.len() - 1]);
                let logits = |tap: &mut dyn Tap| case.model.forward(tokens, Some(&readout), tap).logits;
                let whole = logits(&mut openwork_model::NoTap);
                let kept = logits(&mut Keep::new(circuit.nodes(), Ablation::Mean(&case.means)));
                let log = |l: &Matrix| -> Vec<f64> {
                    let sum: f64 = l.iter().map(|&x| f64::from(x).exp()).sum();
                    l.iter().map(|&x| f64::from(x) - sum.ln()).collect()
                };
                let (p, q) = (log(&whole), log(&kept));
                kl += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
                let d =
                    |l: &Matrix| f64::from(l[[usize::from(pair.answer), 0]] - l[[usize::from(pair.alternative), 0]]);
                let Calibration { scale, shift } = calibration;
                agree += f64::from(u8::from((d(&whole) > 0.0) == (scale * d(&kept) + shift > 0.0)));
                n += 1.0;
            }
        }
        assert!(
            (point.kl - kl / n).abs() < 1e-4 * point.kl.max(1.0) && (point.agreement - agree / n).abs() < 1e-9,
            "{point:?} {kl} {agree} {n}"
        );
    }
}

#[test]
fn the_attack_finds_what_a_circuit_lacks_and_nothing_where_it_lacks_nothing() {
    let case = quotes();
    let truth = Truth::nodes(&case.model, &prompts(&case.selection), Ablation::Mean(&case.means));
    let all = batches(&case.selection, 8, case.model.config.n_ctx);
    let under = |nodes: &NodeSet, budget| agreement_under_attack(&case.model, &case.means, nodes, &all, budget);
    assert_eq!(under(&truth, 20), 1.0);
    // No node alone turns an answer; the worst pair is among all pairs, of which those of true nodes are run here.
    let plain = evaluate(&case.model, &all, false, || openwork_model::NoTap, |_| ());
    let agreement = |gone: [usize; 2]| {
        let others = NodeSet::of(truth.space().clone(), (0..truth.space().len()).filter(|n| !gone.contains(n)));
        let run = evaluate(&case.model, &all, false, || Keep::new(&others, Ablation::Mean(&case.means)), |_| ());
        run.agreement(Calibration::NONE, &plain).sum::<f64>() / plain.differences.len() as f64
    };
    let of_truth: Vec<usize> = truth.numbers().collect();
    let pairs = of_truth.iter().flat_map(|&a| of_truth.iter().map(move |&b| [a, b]));
    let worst = pairs.map(agreement).fold(1.0, f64::min);
    let found = under(&NodeSet::empty(truth.space().clone()), 2);
    assert!(worst < 0.8 && found >= worst && found < worst + 0.1, "{found} {worst}");
    assert_eq!(under(&NodeSet::all(truth.space().clone()), 5), 1.0);
}

#[test]
fn slopes_of_the_attack_are_finite_differences() {
    let (model, means, pairs) = smooth();
    let space = NodeSpace::new(&model.config);
    let (nodes, batches) = (NodeSet::empty(space.clone()), batches(&pairs, 4, 10));
    let attack = Attack::new(&model, &means, &nodes, &batches, 3);
    let ablated: Vec<f64> = (0..space.len()).map(|n| 0.3 * ((n * 7 % 11) as f64 / 11.0)).collect();
    // Of Σ softplus(−sign d) over the sequences of all batches.
    let slopes = attack.slopes(&ablated, &|sequence, d| {
        let sign = attack.sign(sequence);
        -sign / (1.0 + (sign * d).exp())
    });
    let value = |ablated: &[f64]| -> f64 {
        let r: Vec<f32> = ablated.iter().map(|a| (1.0 - a) as f32).collect();
        let run = evaluate(
            &model,
            &batches,
            false,
            || openwork_circuit::Partial::new(&space, &r, Ablation::Mean(&means)),
            |_| (),
        );
        run.differences.iter().enumerate().map(|(i, d)| softplus(-attack.sign(i) * d)).sum()
    };
    let (most, h) = (scale(&slopes), 0.0078125);
    for node in (0..space.len()).step_by(5) {
        let at = |by: f64| {
            let mut ablated = ablated.clone();
            ablated[node] += by;
            value(&ablated)
        };
        let slope = (at(h) - at(-h)) / (2.0 * h);
        assert!((slope - slopes[node]).abs() < 1e-2 * most, "{} {slope} {}", space.node(node), slopes[node]);
    }
}
