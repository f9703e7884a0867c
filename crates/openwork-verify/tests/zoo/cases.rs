//! Circuits of known truth in a hand-built model.

use openwork_circuit::{Node, NodeSet, NodeSpace};
use openwork_model::{Config, Model, Site, SiteKind};
use openwork_verify::{Change, Control, ControlKind, Faithfulness, Kept, Scheme, Split, Status, Verdict};
use rand::RngExt;

use crate::{
    check, expect,
    micro::{Bed, CUE, OTHER_CUE, Plan, config, model, pairs, path_nodes, rng, set},
    refuted_by,
};

#[test]
fn the_true_circuit_passes_strongly() {
    for seed in 0..20 {
        let report = Bed::with(model(Plan::default()), seed).judge(&set(&path_nodes(&[0], false)));
        expect(&report, &Verdict::Strong);
        assert_eq!(report.size.unwrap().nodes, 7);
        assert_eq!(report.size.unwrap().edges, 6);
    }
}

#[test]
fn all_nodes_are_called_trivial_and_leave_nothing_to_compare_them_with() {
    let report = Bed::new(Plan::default()).judge(&NodeSet::all(NodeSpace::new(&config())));
    expect(&report, &Verdict::Incomplete);
    assert_eq!(check(&report, "not trivial", None).status, Status::Failed);
    let cell = report.cell(Split::HeldOut, Kept::Circuit, Some(Scheme::MEAN)).unwrap();
    assert_eq!((cell.kl.mean, cell.agreement.mean), (0.0, 1.0));
}

#[test]
fn no_nodes_are_refuted_by_sufficiency() {
    let report = Bed::new(Plan::default()).judge(&NodeSet::empty(NodeSpace::new(&config())));
    let by = refuted_by(&report);
    assert!(
        by.contains(&"sufficiency: loss".to_owned())
            && by.contains(&"sufficiency: nearer to the model than nothing".to_owned()),
        "{by:?}"
    );
}

#[test]
fn each_missing_link_is_noticed() {
    let nodes = path_nodes(&[0], false);
    let bed = Bed::new(Plan::default());
    for missing in 0..nodes.len() {
        let mut fewer = nodes.clone();
        let node = fewer.remove(missing);
        let report = bed.judge(&set(&fewer));
        if node.site.kind == SiteKind::Neuron {
            // Either neuron alone will do, since its silence means the other sign, once calibrated. But then the model
            // can do without it and the circuit can not.
            assert_eq!(refuted_by(&report), ["completeness"], "without {node}");
        } else {
            assert!(refuted_by(&report).iter().any(|c| c.starts_with("sufficiency")), "without {node}");
        }
    }
}

#[test]
fn random_circuits_are_refuted() {
    let truth = set(&path_nodes(&[0], false));
    let bed = Bed::new(Plan::default());
    for seed in 0..20 {
        let mut rng = rng(seed);
        let mut numbers = Vec::new();
        for ((_, range), count) in truth.space().sites().iter().zip(truth.count_by_site()) {
            let mut pool: Vec<usize> = range.clone().collect();
            (0..count).for_each(|_| numbers.push(pool.swap_remove(rng.random_range(0..pool.len()))));
        }
        let report = bed.judge(&NodeSet::of(truth.space().clone(), numbers));
        assert!(refuted_by(&report).contains(&"sufficiency: loss".to_owned()));
    }
}

#[test]
fn one_of_two_redundant_paths_is_sufficient_but_not_necessary() {
    let bed = Bed::new(Plan { second_path: 1.0, both_channels: true, ..Plan::default() });
    let report = bed.judge(&set(&path_nodes(&[0], false)));
    let by = refuted_by(&report);
    assert_eq!(by, ["necessity: effect", "necessity: against random sets", "completeness"], "{}", report.text());
    let Verdict::Refuted { counter_example: Some(example), .. } = &report.verdict else { panic!("none given") };
    // Without the circuit the model still tells the two prompts apart.
    assert!(example.intervention.what == Change::OnlyCircuitAblated && example.run[0] > 1.0 && example.run[1] < -1.0);
    // Both together are the circuit.
    expect(&bed.judge(&set(&path_nodes(&[0, 1], false))), &Verdict::Strong);
}

#[test]
fn a_path_that_works_backwards_is_refuted_though_calibration_turns_it_round() {
    let bed = Bed::new(Plan { second_path: -0.4, both_channels: true, ..Plan::default() });
    let report = bed.judge(&set(&path_nodes(&[1], false)));
    let by = refuted_by(&report);
    assert!(by.contains(&"sufficiency: direction".to_owned()), "{}", report.text());
    assert!(!by.contains(&"sufficiency: accuracy".to_owned()), "the flaw is subtle: {by:?}");
}

#[test]
fn a_circuit_that_misses_other_templates_is_refuted_by_them_alone() {
    let mut bed = Bed::new(Plan { second_path: 1.0, ..Plan::default() });
    bed.held_out_templates = pairs(60, 1, OTHER_CUE, 5);
    let report = bed.judge(&set(&path_nodes(&[0], false)));
    assert_eq!(refuted_by(&report), ["held-out templates: accuracy", "held-out templates: agreement"]);
    let Verdict::Refuted { counter_example: Some(example), .. } = &report.verdict else { panic!("none given") };
    assert_eq!(example.split, Split::HeldOutTemplates);
    assert_eq!(example.intervention.what, Change::OnlyCircuitKept);
    expect(&bed.judge(&set(&path_nodes(&[0, 1], false))), &Verdict::Strong);
}

#[test]
fn a_circuit_that_beats_the_model_is_not_what_the_model_does() {
    let bed = Bed::new(Plan { noise: 4.0, ..Plan::default() });
    let report = bed.judge(&set(&path_nodes(&[0], false)));
    let cell = |kept, value| report.cell(Split::HeldOut, kept, value).unwrap();
    let (model, circuit) = (cell(Kept::Model, None), cell(Kept::Circuit, Some(Scheme::MEAN)));
    assert!(model.accuracy.mean < 0.95 && circuit.accuracy.mean == 1.0, "{}", report.text());
    assert!(refuted_by(&report).contains(&"sufficiency: agreement".to_owned()), "{}", report.text());
    let Some(Faithfulness::Defined { ratio_of_means, .. }) = &circuit.faithfulness else { panic!("undefined") };
    assert!(ratio_of_means.ci95.0 > 1.0, "not clamped");
}

#[test]
fn a_circuit_right_on_the_candidates_and_wrong_on_everything_else_is_refuted() {
    let bed = Bed::new(Plan { cancel_elsewhere: 4.0, ..Plan::default() });
    let mut nodes = path_nodes(&[0], false);
    expect(&bed.judge(&set(&nodes)), &Verdict::Strong);
    // One of two neurons that cancel, so that a token that is no candidate takes over.
    let at = |kind, index| Node { site: Site { layer: 0, kind }, index };
    nodes.extend([
        at(SiteKind::MlpRead, 8),
        at(SiteKind::MlpRead, 9),
        at(SiteKind::Neuron, 4),
        at(SiteKind::MlpWrite, 2),
    ]);
    let report = bed.judge(&set(&nodes));
    let nearer = ["sufficiency", "frozen norms"].map(|family| format!("{family}: nearer to the model than nothing"));
    assert_eq!(refuted_by(&report), nearer);
}

#[test]
fn a_circuit_is_not_necessary_where_random_nodes_matter_as_much() {
    let bed = Bed::new(Plan { cancel: 12.0, ..Plan::default() });
    let report = bed.judge(&set(&path_nodes(&[0], false)));
    // One of two that cancel is what an adversary looks for.
    assert_eq!(refuted_by(&report), ["necessity: against random sets", "adversary"]);
    assert!(report.random_sets[1].p_value >= report.random_sets[0].p_value, "active nodes are the stricter control");
}

#[test]
fn random_nodes_that_matter_enough_count_even_if_the_circuit_matters_a_little_more() {
    let bed = Bed::new(Plan { cancel: 4.0, ..Plan::default() });
    let report = bed.judge(&set(&path_nodes(&[0], false)));
    assert_eq!(refuted_by(&report), ["necessity: against random sets", "adversary"]);
    let active = &report.random_sets[1];
    let count = |bar: f64| active.random.iter().filter(|&&l| l >= bar).count();
    assert!(count(active.circuit) < 5 && count(0.36) > 10, "{active:?}");
}

#[test]
fn a_circuit_that_needs_the_mean_of_another_node_is_weak() {
    let bed = Bed::new(Plan { constant: true, ..Plan::default() });
    let report = bed.judge(&set(&path_nodes(&[0], false)));
    expect(&report, &Verdict::Weak);
    assert_eq!(check(&report, "sufficiency: loss", Some(Scheme::MEAN)).status, Status::Passed);
    assert_eq!(check(&report, "sufficiency: loss", Some(Scheme::ZERO)).status, Status::Failed);
    assert!(report.reasons.iter().any(|r| r.to_string().contains("zero ablation")), "{:?}", report.reasons);
    expect(&bed.judge(&set(&path_nodes(&[0], true))), &Verdict::Strong);
}

#[test]
fn nonsense_labels_and_wrong_labels_are_no_task() {
    for answers in [(6, 9), (3, 2)] {
        let mut bed = Bed::new(Plan::default());
        for pair in bed.held_out.iter_mut().chain(&mut bed.held_out_templates).chain(&mut bed.selection) {
            (pair.answer, pair.alternative) = answers;
        }
        let report = bed.judge(&set(&path_nodes(&[0], false)));
        expect(&report, &Verdict::NoTask);
        assert!(report.reasons[0].to_string().contains("does not do the task"), "{:?}", report.reasons);
        assert!(report.random_sets.is_empty(), "nothing else is asked");
    }
}

#[test]
fn untrained_models_do_no_task() {
    for (seed, scale) in [(1, 1.0), (2, 10.0), (3, 30.0)] {
        let mut model = Model::init(Config { act_density: None, ..config() }, seed);
        model.params.values_mut().into_iter().for_each(|w| w.update(|w| *w *= scale));
        let bed = Bed::with(model, seed);
        expect(&bed.judge(&set(&path_nodes(&[0], false))), &Verdict::NoTask);
    }
}

#[test]
fn a_task_that_bypasses_all_nodes_is_undefined() {
    let mut bed = Bed::new(Plan { direct: true, ..Plan::default() });
    // The cue is the last token.
    let cue_last = |pairs: &mut Vec<openwork_tasks::Pair>| {
        for pair in pairs {
            for (prompt, cue) in [(&mut pair.positive, CUE[0]), (&mut pair.negative, CUE[1])] {
                prompt.retain(|t| !CUE.contains(t));
                prompt.push(cue);
            }
        }
    };
    cue_last(&mut bed.held_out);
    cue_last(&mut bed.held_out_templates);
    cue_last(&mut bed.selection);
    let report = bed.judge(&set(&path_nodes(&[0], false)));
    expect(&report, &Verdict::Undefined);
    let cell = report.cell(Split::HeldOut, Kept::Circuit, Some(Scheme::MEAN)).unwrap();
    assert!(matches!(cell.faithfulness, Some(Faithfulness::Undefined { .. })));
}

#[test]
fn controls_that_reach_the_target_refute_and_without_one_the_verdict_is_incomplete() {
    let circuit = set(&path_nodes(&[0], false));
    let mut bed = Bed::new(Plan::default());
    for (i, kind) in [ControlKind::NonsenseLabels, ControlKind::RandomWeights].into_iter().enumerate() {
        let whole = bed.controls.clone();
        let reached = |edges| Control { kind, reached_target: true, loss: 0.1, nodes: 9, edges };
        bed.controls[i] = reached(6);
        assert_eq!(refuted_by(&bed.judge(&circuit)), [format!("control: {kind}")]);
        bed.controls[i] = reached(7);
        expect(&bed.judge(&circuit), &Verdict::Strong);
        // The best of several counts.
        bed.controls.push(reached(5));
        assert_eq!(refuted_by(&bed.judge(&circuit)), [format!("control: {kind}")]);
        bed.controls = whole.clone();
        bed.controls.remove(i);
        let report = bed.judge(&circuit);
        expect(&report, &Verdict::Incomplete);
        assert_eq!(report.level_reached, 2);
        assert!(report.reasons.iter().any(|r| r.to_string().contains("was not run")));
        bed.controls = whole;
    }
}
