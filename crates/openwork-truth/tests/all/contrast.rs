//! Contrasts are what their kinds say: true ones carry all but the threshold, flawed ones have the flaw that they are named after.

use openwork_circuit::{Ablation, Claim, Keep, NodeSet, batches, evaluate};
use openwork_tasks::Pair;
use openwork_truth::{
    reaching,
    zoo::{CaseKind, Expected, GroundTruthCase, Shift},
};

/// Logit difference of the answer, prompt by prompt, with some nodes kept and means for the others.
fn keeping(case: &GroundTruthCase, pairs: &[Pair], nodes: &NodeSet) -> Vec<f64> {
    let keep = || Keep::new(nodes, Ablation::Mean(&case.means));
    evaluate(&case.model, &batches(pairs, 8, case.model.config.n_ctx), false, keep, |_| ()).differences
}

/// The same of the model.
fn plain(case: &GroundTruthCase, pairs: &[Pair]) -> Vec<f64> {
    keeping(case, pairs, &NodeSet::all(case.circuit.space().clone()))
}

/// The nodes on the way to the answer that are none of the circuit's.
fn outside(case: &GroundTruthCase) -> NodeSet {
    let kept = case.circuit.kept();
    NodeSet::of(case.circuit.space().clone(), reaching(&case.model).numbers().filter(|&n| !kept[n]))
}

/// Share of pairs whose two prompts are in the right order.
fn ordered(d: &[f64]) -> f64 {
    d.chunks_exact(2).filter(|p| p[0] > p[1]).count() as f64 / (d.len() / 2) as f64
}

/// Share of prompts on the right side of the best threshold that all of them have in common.
fn best_common(d: &[f64]) -> f64 {
    let right = |s: f64| d.iter().enumerate().filter(|(i, d)| (**d > s) == (i % 2 == 0)).count();
    d.iter().map(|d| right(d - 1e-6)).max().unwrap() as f64 / d.len() as f64
}

#[test]
fn a_threshold_outside_moves_all_prompts_alike() {
    for (seed, severity) in [(0, 0.375), (1, 0.5), (2, 1.0), (3, 1.0)] {
        let case = CaseKind::Threshold.build(severity, seed);
        assert_eq!((case.claim, case.expected), (Claim::Contrast, Expected::Pass));
        let (model, circuit) = (plain(&case, &case.held_out), keeping(&case, &case.held_out, &case.circuit));
        let moved: Vec<f64> = model.iter().zip(&circuit).map(|(m, c)| m - c).collect();
        // Eight nodes move it two and a half times as far as one.
        let more = if seed % 2 == 1 { 2.5 } else { 1.0 };
        for by in &moved {
            assert!((by - more * 40.0 * f64::from(severity)).abs() < 0.1, "{seed}: {by}");
        }
        // Of the circuit as it is one answer of two is wrong, and none after a shift.
        let right = circuit.iter().enumerate().filter(|(i, d)| (**d > 0.0) == (i % 2 == 0)).count();
        assert_eq!((right, best_common(&circuit)), (circuit.len() / 2, 1.0));
        // So is that of the model without the nodes that set the threshold.
        let without = keeping(&case, &case.held_out, &outside(&case).complement());
        assert!(without.iter().all(|d| *d < 0.0) && best_common(&without) == 1.0, "{seed}");
        let as_answer = CaseKind::ThresholdAsAnswer.build(severity, seed);
        assert_eq!((as_answer.claim, as_answer.circuit), (Claim::Answer, case.circuit));
    }
}

#[test]
fn an_offset_that_varies_keeps_every_order_and_has_no_common_threshold() {
    for seed in 0..4 {
        for &severity in CaseKind::VaryingOffset.severities() {
            let case = CaseKind::VaryingOffset.build(severity, seed);
            let d = keeping(&case, &case.held_out, &case.circuit);
            assert!(ordered(&d) == 1.0 && best_common(&d) < 0.9, "{seed} {severity}: {}", best_common(&d));
            let templates: std::collections::BTreeSet<usize> = case.held_out.iter().map(|p| p.template).collect();
            assert_eq!(templates.len(), if seed % 2 == 1 { 2 } else { 1 });
        }
    }
}

#[test]
fn a_contrast_by_place_is_one_only_where_the_cue_is_first() {
    let case = CaseKind::ContrastByPlace.build(1.0, 0);
    assert_eq!(best_common(&keeping(&case, &case.held_out, &case.circuit)), 1.0);
    let (_, elsewhere) = case.shifted.iter().find(|(shift, _)| *shift == Shift::Templates).unwrap();
    assert_eq!(ordered(&plain(&case, elsewhere)), 1.0);
    let d = keeping(&case, elsewhere, &case.circuit);
    assert!(d.chunks_exact(2).all(|p| (p[0] - p[1]).abs() < 1e-3), "it tells no two prompts apart there");
}

#[test]
fn half_of_a_cue_says_as_much_after_a_shift_and_the_other_half_goes_on_without_it() {
    for &severity in CaseKind::HalfCue.severities() {
        let case = CaseKind::HalfCue.build(severity, 0);
        assert_eq!(best_common(&keeping(&case, &case.held_out, &case.circuit)), 1.0);
        let of_neurons = |n: &usize| case.circuit.space().node(*n).site.kind == openwork_model::SiteKind::Neuron;
        let neurons: Vec<usize> = case.circuit.numbers().filter(of_neurons).collect();
        let without = NodeSet::of(case.circuit.space().clone(), neurons).complement();
        assert_eq!(best_common(&keeping(&case, &case.held_out, &without)), 1.0);
    }
}
