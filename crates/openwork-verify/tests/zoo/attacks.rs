//! Ways of getting a good verdict that are not a good circuit, and properties of the report.

use std::ops::ControlFlow;

use openwork_circuit::{Calibration, Circuit, Keep, Means, NodeSet, NodeSpace};
use openwork_model::{Matrix, Site, SiteKind, Tap};
use openwork_verify::{
    Ablator, Case, Controls, Family, Fault, InputError, Limits, Reason, Report, RunError, Settings, Split, Status,
    Verdict, verify_through,
};
use rand::RngExt;

use crate::{
    check, expect,
    micro::{Bed, CUE, Plan, config, pairs, path_nodes, rng, set},
    refuted_by,
};

fn bed() -> Bed {
    Bed::new(Plan::default())
}

fn truth() -> NodeSet {
    set(&path_nodes(&[0], false))
}

fn error(spoil: impl FnOnce(&mut Bed), words: &str) {
    let mut bed = bed();
    bed.calibration = Some(Calibration::NONE);
    spoil(&mut bed);
    let report = bed.judge(&truth());
    let Verdict::Error { fault } = &report.verdict else { panic!("{}", report.text()) };
    assert!(fault.to_string().contains(words), "{fault}");
    assert_eq!(report.reasons, [Reason::Fault(fault.clone())]);
}

#[test]
fn judging_on_the_pairs_of_the_search_is_an_error() {
    error(
        |b| b.held_out[3] = b.selection[5].clone(),
        "held-out pairs: pair 3 has a prompt that the circuit was selected on",
    );
    // One prompt of the pair is enough.
    error(|b| b.held_out[3].negative = b.selection[5].negative.clone(), "held-out pairs: pair 3");
    error(|b| b.held_out_templates[0].positive = b.selection[5].positive.clone(), "held-out templates: pair 0");
    error(|b| b.held_out_templates[2].template = 0, "the template of pair 2");
    // Beyond the context of 12 the model sees nothing.
    error(
        |b| {
            let long: Vec<u16> = (0..12).map(|t| 4 + t % 7).collect();
            b.selection[0].positive = long.clone();
            b.held_out[0].positive = [vec![CUE[0], 5], long].concat();
        },
        "held-out pairs: pair 0",
    );
}

#[test]
fn repeating_pairs_is_an_error_and_few_pairs_decide_nothing() {
    error(|b| b.held_out[9] = b.held_out[8].clone(), "held-out pairs: pair 9 occurs twice");
    let mut few = bed();
    few.held_out.truncate(39);
    expect(&few.judge(&truth()), &Verdict::Undefined);
    few.held_out.clear();
    expect(&few.judge(&truth()), &Verdict::Undefined);
}

#[test]
fn inputs_that_do_not_fit_are_errors() {
    error(|b| b.held_out[0].answer = b.held_out[0].alternative, "equal answers");
    error(|b| b.selection[1].positive[0] = 16, "unknown token");
    error(|b| b.held_out_templates[1].negative.clear(), "empty prompt");
    error(|b| b.selection.clear(), "no selection pairs");
    error(|b| b.calibration = Some(Calibration { scale: f64::NAN, shift: 0.0 }), "not finite");
    error(|b| b.settings.random_sets = 99, "99 random sets are too few");
    error(|b| b.settings.alpha = f64::NAN, "not finite");
    let other = openwork_model::Model::init(openwork_model::Config { d_mlp: 8, ..config() }, 1);
    error(|b| b.means = Means::compute(&other, &[4; 12], 12), "means belong to a model of another shape");
    let larger = openwork_model::Model::init(openwork_model::Config { d_mlp: 17, ..config() }, 1);
    let circuit = Circuit::new(&larger, NodeSet::all(NodeSpace::new(&larger.config)));
    let mut other = bed();
    other.calibration = Some(Calibration::NONE);
    let report = other.judge_circuit(&circuit, &Limits::level(5));
    assert_eq!(report.verdict, Verdict::Error { fault: Fault::Input(InputError::OtherModel) });
    // Weights that overflow.
    error(|b| b.model.params.unembed.as_mut().unwrap().update(|u| u.fill(f32::INFINITY)), "not finite");
}

#[test]
fn a_generous_target_and_a_false_calibration_do_not_help() {
    // Calibrated to certainty in the wrong direction, and to a constant answer.
    for calibration in [Calibration { scale: -3.0, shift: 0.0 }, Calibration { scale: 1.0, shift: 30.0 }] {
        let mut bed = bed();
        bed.calibration = Some(calibration);
        assert!(refuted_by(&bed.judge(&truth())).contains(&"sufficiency: accuracy".to_owned()));
    }
    let limit = |target_loss| Settings { target_loss, ..bed().settings }.loss_limit();
    assert!(limit(0.69) < 0.35 && limit(0.1) == 0.2);
}

#[test]
fn padding_the_circuit_does_not_make_it_stronger() {
    // Nearly everything, the true path included: no random set outside it can be as large.
    let mut rng = rng(3);
    let truth = truth();
    let space = truth.space().clone();
    let padded =
        NodeSet::of(space.clone(), (0..space.len()).filter(|&n| truth.kept()[n] || rng.random_range(0..10) > 0));
    let report = bed().judge(&padded);
    assert_ne!(report.verdict, Verdict::Strong, "{}", report.text());
    assert_eq!(check(&report, "not trivial", None).status, Status::Failed);
    // Random sets so large contain the path by chance, and outside the circuit there are too few nodes for them.
    let of = |name| check(&report, name, Some(openwork_verify::Scheme::MEAN)).status;
    assert_eq!(of("necessity: against random sets"), Status::NotApplicable);
    assert_eq!(of("sufficiency: against random sets"), Status::Failed);
}

#[test]
fn without_other_templates_no_circuit_passes() {
    let mut bed = bed();
    // One pair is no more than none.
    for n in [1, 0] {
        bed.held_out_templates.truncate(n);
        let report = bed.judge(&truth());
        expect(&report, &Verdict::Incomplete);
        assert_eq!(report.level_reached, 3);
        assert!(report.reasons[1].to_string().starts_with("held-out templates"));
    }
}

#[test]
fn templates_the_model_itself_fails_on_are_not_held_against_the_circuit() {
    let mut bed = bed();
    // A cue that the model does not know: it says the same twice.
    bed.held_out_templates = pairs(60, 1, [14, 15], 5);
    let report = bed.judge(&truth());
    let check = check(&report, "held-out templates: accuracy", Some(openwork_verify::Scheme::MEAN));
    assert_eq!(check.status, Status::NotApplicable, "{}", report.text());
    assert_ne!(report.verdict, Verdict::Strong);
}

#[test]
fn the_report_depends_on_the_seed_and_not_on_threads_and_survives_json() {
    let judge = |threads: usize, seed: u64| -> Report {
        let mut bed = bed();
        bed.settings.seed = seed;
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| bed.judge(&truth()))
    };
    let one = judge(1, 4);
    assert_eq!(one, judge(3, 4));
    assert_ne!(one.random_sets[0].random, judge(1, 5).random_sets[0].random);
    let refuted = bed().judge(&NodeSet::empty(NodeSpace::new(&config())));
    for report in [one, refuted] {
        let text = serde_json::to_string(&report).unwrap();
        let back: Report = serde_json::from_str(&text).unwrap();
        assert_eq!((&back.verdict, back.text()), (&report.verdict, report.text()));
    }
}

#[test]
fn the_words_name_verdict_reasons_and_every_choice() {
    let bed = bed();
    let report = bed.judge(&set(&path_nodes(&[0], false)[..5]));
    let words = report.text();
    for expected in
        ["VERDICT: REFUTED", "for example pair", "on held-out pairs", "scales of norms: free", "SHA-256: circuit"]
    {
        assert!(words.contains(expected), "{expected} is not in\n{words}");
    }
    assert_eq!(report.declarations.len(), 12);
    let hashes = &report.declarations.iter().find(|d| d.what == "SHA-256").unwrap().value;
    for part in [&bed.selection, &bed.held_out, &bed.held_out_templates] {
        assert!(hashes.contains(&openwork_tasks::sha256(part)), "{hashes}");
    }
    assert!(report.checks.iter().all(|c| !c.explanation.is_empty()));
    assert!(report.cell(Split::HeldOutTemplates, openwork_verify::Kept::Model, None).is_some());
}

/// An ablation that leaves out one site.
struct Skips(Site);

impl Ablator for Skips {
    fn ablate(&self, keep: &mut Keep<'_>, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        if site == self.0 { ControlFlow::Continue(()) } else { keep.forward(site, value) }
    }
}

#[test]
fn an_ablation_that_leaves_out_any_site_is_an_error_that_names_it() {
    let (bed, truth) = (bed(), truth());
    let run = |ablator: &dyn Ablator| {
        let controls = Controls { done: &bed.controls, cut_short: &[] };
        let judged =
            |case: &Case<'_>| verify_through(ablator, case, controls, &bed.settings, &Limits::level(1), &mut |_| ());
        bed.with_case(&bed.circuit(&truth), judged).report
    };
    for (site, _) in truth.space().sites() {
        let report = run(&Skips(*site));
        // The counter of calls sees it first where nothing else is wrong with the pass.
        let named = Fault::Run(RunError::NotAblated { site: site.to_string() });
        let expected = [Fault::Run(RunError::HookNotCalled), named].map(|fault| Verdict::Error { fault });
        assert!(expected.contains(&report.verdict), "{site}: {:?}", report.verdict);
        assert_eq!((report.level_reached, report.failed_families()), (0, [Family::SelfCheck].into()));
    }
    // No node is read from what heads mix.
    let elsewhere = Site { layer: 0, kind: SiteKind::AttnMix };
    assert_ne!(run(&Skips(elsewhere)).level_reached, 0);
}
