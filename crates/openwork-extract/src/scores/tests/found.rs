//! Circuits from rankings, curves, attacks and refinement.

use openwork_circuit::{Calibration, Circuit, Hold, Parts, Score, Scored};
use openwork_truth::zoo::GroundTruthCase;

use super::*;

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
fn attacks_on_a_curve_leave_a_true_circuit_and_the_whole_model_alone_and_nothing_else() {
    let (case, settings) = (quotes(), Scored { score: Score::Acdc, ..Scored::default() });
    let search = search(&case, &settings);
    let ranked = search.ranked(&mut on_step).unwrap();
    let kept = ranked.scores().iter().filter(|score| **score >= settings.threshold).count();
    let curve = search.curve(&ranked, &[4, kept, ranked.len()], &mut on_step).unwrap();
    let left: Vec<[f64; 2]> = curve.iter().map(|p| [p.attacked_quarter, p.attacked_equal]).collect();
    assert_eq!(left[1..], [[1.0; 2]; 2], "{curve:?}");
    // Four of the nodes are no circuit: without two others answers turn, as trying all pairs of what is kept shows.
    let judge = search.judge();
    let pairs = &judge.selection()[..4];
    let whole = evaluate(&case.model, pairs, false, || openwork_model::NoTap, |_| ());
    let (top, true_nodes) = (ranked.top(&case.model, 4), ranked.top(&case.model, kept));
    let outside: Vec<usize> = true_nodes.nodes().numbers().filter(|&n| !top.nodes().kept()[n]).collect();
    let without = |gone: [usize; 2]| {
        let others = NodeSet::of(ranked.space.clone(), (0..ranked.len()).filter(|n| !gone.contains(n)));
        let run = evaluate(&case.model, pairs, false, || Keep::new(&others, Ablation::Mean(&case.means)), |_| ());
        run.agreement(Calibration::NONE, &whole).sum::<f64>() / whole.differences.len() as f64
    };
    let least = outside.iter().flat_map(|&a| outside.iter().map(move |&b| [a, b])).map(without).fold(1.0, f64::min);
    assert!(least < 0.9 && left[0][1] <= least, "{left:?} {least}");
}
