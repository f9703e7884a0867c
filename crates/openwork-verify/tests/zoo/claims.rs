//! Claims: a true contrast passes as one and falls as an answer, flawed ones fall, nothing passes by a shift, and no verdict on a
//! contrast can be taken for one on an answer.

use openwork_circuit::{Ablation, Circuit, Claim, Keep, NodeSet, batches, evaluate};
use openwork_truth::zoo::{CaseKind, GroundTruthCase};
use openwork_verify::{
    CheckId, Edited, Kept, Limits, Quantity, Raw, Report, Role, Scheme, Split, Status, Verdict, Why, certificate,
};
use serde_json::{Value, json};

use crate::{
    check,
    known::judge,
    micro::{Bed, Plan, path_nodes, rng, set},
    refuted_by,
};

/// The report on a case of a kind, on level 5.
fn judged(kind: CaseKind, severity: f32, seed: u64) -> Report {
    judge(&kind.build(severity, seed), 5)
}

/// Fails unless every severity and seed is refuted by a check whose name begins with one of some words.
#[track_caller]
fn refuted(kind: CaseKind, seeds: [u64; 2], by: &[&str]) {
    for &severity in kind.severities() {
        for seed in seeds {
            let report = judged(kind, severity, seed);
            let names = refuted_by(&report);
            let found = names.iter().any(|name| by.iter().any(|word| name.starts_with(word)));
            assert!(found, "{} at {severity}, seed {seed}: {names:?}", kind.name());
            let forms = report.checks.iter().filter(|c| names.contains(&c.id.to_string()));
            assert!(forms.clone().count() >= names.len(), "refuted by checks of the report");
            assert!(forms.filter(|c| c.role == Role::Required).all(|c| c.id.belongs_to(report.claim)));
            assert!(report.headline().starts_with("REFUTED (contrast)"), "{}", report.headline());
        }
    }
}

#[test]
fn a_threshold_outside_passes_as_a_contrast_and_is_refuted_as_an_answer() {
    for seed in [0, 1] {
        for &severity in CaseKind::Threshold.severities() {
            let contrast = judged(CaseKind::Threshold, severity, seed);
            assert_eq!(contrast.verdict, Verdict::ContrastStrong, "{severity} {seed}: {}", contrast.text());
            // The attack that turns the answers is found, and told of.
            let adversary = check(&contrast, "adversary", Some(Scheme::MEAN));
            assert_eq!((adversary.status, adversary.role), (Status::Failed, Role::Reported));
            let shifted = check(&contrast, "adversary, answers shifted", Some(Scheme::MEAN));
            assert_eq!((shifted.status, shifted.role), (Status::Passed, Role::Required));
            let answer = judged(CaseKind::ThresholdAsAnswer, severity, seed);
            assert!(refuted_by(&answer).contains(&"adversary".to_owned()), "{}", answer.text());
        }
    }
}

#[test]
fn a_true_circuit_passes_as_a_contrast_too() {
    for seed in 0..4 {
        let report = judged(CaseKind::TrueAsContrast, 1.0, seed);
        assert_eq!(report.verdict, Verdict::ContrastStrong, "{seed}: {}", report.text());
        assert_eq!(report.failed_families(), [].into(), "{seed}");
    }
}

#[test]
fn a_contrast_by_place_is_refuted_on_other_templates() {
    refuted(CaseKind::ContrastByPlace, [0, 1], &["held-out templates", "completeness"]);
    let report = judged(CaseKind::ContrastByPlace, 1.0, 0);
    let agreement = check(&report, "held-out templates: agreement, answers shifted", Some(Scheme::MEAN));
    assert_eq!((agreement.status, agreement.role), (Status::Failed, Role::Required), "{}", agreement.explanation);
}

#[test]
fn an_offset_that_varies_by_prompt_or_template_is_repaired_by_no_shift() {
    refuted(CaseKind::VaryingOffset, [0, 1], &["sufficiency"]);
    for seed in [0, 1] {
        // Though the two prompts of every pair are in the right order.
        let report = judged(CaseKind::VaryingOffset, 1.0, seed);
        let table =
            report.cell(Split::HeldOut, Kept::Circuit, Some(Scheme::MEAN)).unwrap().at_best_shift.clone().unwrap();
        assert!(table.accuracy.mean < 0.8 && table.agreement.unwrap().mean < 0.8, "{:?}", table.accuracy);
    }
}

#[test]
fn half_of_the_cue_is_refuted_by_completeness_however_well_it_does_after_a_shift() {
    refuted(CaseKind::HalfCue, [0, 1], &["completeness"]);
    let report = judged(CaseKind::HalfCue, 1.0, 0);
    let table = report.cell(Split::HeldOut, Kept::Circuit, Some(Scheme::MEAN)).unwrap().at_best_shift.clone().unwrap();
    assert_eq!(table.agreement.unwrap().mean, 1.0);
}

#[test]
fn a_pair_that_cancels_and_a_guard_outside_are_found_by_what_no_shift_repairs() {
    refuted(CaseKind::ContrastCancelling, [0, 1], &["adversary, answers shifted"]);
    refuted(CaseKind::ContrastGuard, [0, 1], &["adversary, answers shifted"]);
}

#[test]
fn no_flawed_circuit_passes_by_being_claimed_as_a_contrast_unless_its_flaw_is_the_threshold() {
    use CaseKind::*;
    let kinds = [Empty, OneMissing, Padded, Random, Backup, NormCheat, PositionalShortcut, RoleSwap, TwoCircuits]
        .into_iter()
        .chain([FaintPath, LiveJunk, OpposedWrite, Companion, RareToken]);
    for kind in kinds {
        let given = GroundTruthCase { claim: Claim::Contrast, ..kind.build(kind.full(), 2) };
        let report = judge(&given, 5);
        // Of an answer these two cost STRONG at least.
        let may_be_weak = matches!(kind, Companion | RareToken) && report.verdict == Verdict::ContrastWeak;
        assert!(matches!(report.verdict, Verdict::Refuted { .. }) || may_be_weak, "{}: {}", kind.name(), report.text());
    }
}

#[test]
fn a_constant_never_passes_and_no_bar_is_near_what_it_reaches() {
    let given = CaseKind::Threshold.build(1.0, 0);
    let space = given.circuit.space().clone();
    let mut random = rng(3);
    use rand::RngExt;
    let some =
        (0..space.len()).filter(|_| random.random_bool(0.1)).filter(|n| !given.circuit.kept()[*n]).collect::<Vec<_>>();
    for nodes in [NodeSet::empty(space.clone()), NodeSet::of(space.clone(), some)] {
        let report = judge(&GroundTruthCase { circuit: nodes, ..CaseKind::Threshold.build(1.0, 0) }, 5);
        assert!(matches!(report.verdict, Verdict::Refuted { .. }), "{}", report.text());
        let cells = report.matrix.iter().filter(|c| c.kept == Kept::Circuit);
        for cell in cells {
            let table = cell.at_best_shift.as_ref().expect("a circuit's run has one");
            let agreement = table.agreement.expect("the model has contrasts");
            assert!(agreement.mean < 0.6 && table.accuracy.mean < 0.6, "{:?} {agreement}", cell.ablation);
            // The bar is 0.3; random nodes say a little of the answer on some pairs.
            assert!(table.loss.mean > 0.65, "{}", table.loss);
        }
        for check in report.checks.iter().filter(|c| !c.id.belongs_to(Claim::Answer)) {
            let CheckId::ShiftFree { of: Raw::Sufficiency { .. } | Raw::Shift { .. } } = check.id else { continue };
            assert_ne!(check.status, Status::Passed, "{}: {}", check.id, check.explanation);
        }
    }
}

#[test]
fn pairs_to_which_the_model_gives_one_answer_are_counted_and_decide_nothing() {
    let mut bed = Bed::new(Plan::default());
    bed.claim = Claim::Contrast;
    let truth = set(&path_nodes(&[0], false));
    let whole = bed.judge(&truth);
    assert_eq!(whole.verdict, Verdict::ContrastStrong, "{}", whole.text());
    // Most pairs of other templates have no cue that the model knows.
    let without = |pairs: &mut Vec<openwork_tasks::Pair>, n: usize| {
        for pair in pairs.iter_mut().take(n) {
            let at = pair.positive.iter().position(|t| crate::micro::CUE.contains(t)).unwrap();
            (pair.positive[at], pair.negative[at]) = (4, 5);
        }
    };
    without(&mut bed.held_out_templates, 35);
    let report = bed.judge(&truth);
    let agreement = check(&report, "held-out templates: agreement, answers shifted", Some(Scheme::MEAN));
    assert_eq!(agreement.status, Status::NotApplicable, "{}", agreement.explanation);
    assert!(agreement.explanation.contains("carry no contrast"), "{}", agreement.explanation);
    assert_eq!(report.verdict, Verdict::Incomplete, "{}", report.text());
    assert!(report.headline().starts_with("INCOMPLETE (contrast) (level 3 reached)"), "{}", report.headline());
}

#[test]
fn nodes_that_only_move_the_threshold_are_junk_of_a_contrast_and_not_of_an_answer() {
    // The circuit with the neuron that sets the threshold and its read: the nodes outside that move a logit difference.
    let given = CaseKind::Threshold.build(1.0, 0);
    let run = |nodes: &NodeSet| {
        let keep = || Keep::new(nodes, Ablation::Mean(&given.means));
        evaluate(&given.model, &batches(&given.held_out, 8, given.model.config.n_ctx), false, keep, |_| ()).differences
    };
    let space = given.circuit.space().clone();
    let whole = run(&NodeSet::all(space.clone()));
    let moves = |n: &usize| {
        let without = run(&NodeSet::of(space.clone(), (0..space.len()).filter(|m| m != n)));
        without.iter().zip(&whole).all(|(a, b)| (a - b).abs() > 1.0)
    };
    let threshold: Vec<usize> = given.circuit.complement().numbers().filter(moves).collect();
    assert_eq!(threshold.len(), 2);
    let judged = |claim| {
        let nodes = NodeSet::of(space.clone(), given.circuit.numbers().chain(threshold.iter().copied()));
        let report = judge(&GroundTruthCase { circuit: nodes, claim, ..CaseKind::Threshold.build(1.0, 0) }, 3);
        check(&report, "minimality: nodes", None).status
    };
    assert_eq!([Claim::Answer, Claim::Contrast].map(judged), [Status::Passed, Status::Failed]);
}

#[test]
fn both_forms_are_in_every_report_and_that_of_the_claim_decides() {
    let mut bed = Bed::new(Plan::default());
    let truth = set(&path_nodes(&[0], false));
    let answer = bed.judge(&truth);
    bed.claim = Claim::Contrast;
    let contrast = bed.judge(&truth);
    assert_eq!((&answer.verdict, &contrast.verdict), (&Verdict::Strong, &Verdict::ContrastStrong));
    for (report, claim) in [(&answer, Claim::Answer), (&contrast, Claim::Contrast)] {
        assert_eq!(report.claim, claim);
        for c in &report.checks {
            assert!(c.role == Role::Reported || c.id.belongs_to(claim), "{}", c.id);
            let other = c.id.shift_free();
            assert!(other.is_none_or(|other| report.check(other).is_some()), "{}", c.id);
        }
    }
    // What answers are without a shift is the same number in both.
    for quantity in Quantity::ALL {
        let id = CheckId::Sufficiency { scheme: Scheme::MEAN, quantity };
        assert_eq!(answer.check(id).unwrap().estimate, contrast.check(id).unwrap().estimate, "{id}");
    }
    let [a, c] = [&answer, &contrast].map(|r| r.check(CheckId::Adversary).unwrap().estimate);
    assert_eq!(a, c, "the raw attack is the same");
}

#[test]
fn a_verdict_on_a_contrast_says_so_in_line_text_and_json() {
    let mut bed = Bed::new(Plan::default());
    bed.claim = Claim::Contrast;
    let report = bed.judge(&set(&path_nodes(&[0], false)));
    // The bed has fewer pairs than the default, which stands in the line of any verdict.
    assert_eq!(report.headline(), "PASS (STRONG, contrast), thresholds loosened: random_pairs 64 -> 24");
    let head = format!("VERDICT: {}\n  claim: contrast: ", report.headline());
    assert!(report.text().starts_with(&head), "{}", report.text());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["claim"], &json["verdict"]["verdict"]), (&json!("contrast"), &json!("contrast_strong")));
    let incomplete = bed.judge_within(&set(&path_nodes(&[0], false)), &Limits::level(2));
    assert!(incomplete.headline().starts_with("INCOMPLETE (contrast)"), "{}", incomplete.headline());
}

#[test]
fn a_report_whose_claim_was_edited_does_not_follow_from_its_checks() {
    let mut bed = Bed::new(Plan::default());
    bed.claim = Claim::Contrast;
    let report = bed.judge(&set(&path_nodes(&[0], false)));
    let edited = |change: &dyn Fn(&mut Value)| {
        let mut json = serde_json::to_value(&report).unwrap();
        change(&mut json);
        let edited: Report = serde_json::from_value(json).unwrap();
        edited.recompute().expect_err("the edit is not noticed")
    };
    assert!(matches!(edited(&|r| r["claim"] = json!("answer")), Edited::Role { .. }));
    assert!(matches!(edited(&|r| r["verdict"] = json!({"verdict": "strong"})), Edited::Claim { .. }));
    let removed = |r: &mut Value| {
        let shifted = |c: &Value| c["id"].to_string().contains("roles") && c["id"].to_string().contains("shift_free");
        r["checks"].as_array_mut().unwrap().retain(|c| !shifted(c));
    };
    assert!(matches!(edited(&removed), Edited::Missing { .. }));
    let better = |r: &mut Value| {
        let checks = r["checks"].as_array_mut().unwrap();
        let id =
            |c: &&mut Value| c["id"].to_string().contains("shift_free") && c["id"].to_string().contains("agreement");
        checks.iter_mut().find(id).unwrap()["estimate"]["mean"] = json!(0.99);
    };
    assert!(matches!(edited(&better), Edited::Numbers { .. }));
}

#[test]
fn no_certificate_is_written_of_a_contrast() {
    let mut bed = Bed::new(Plan::default());
    bed.claim = Claim::Contrast;
    let circuit: Circuit = bed.circuit(&set(&path_nodes(&[0], false)));
    let report = bed.judge_circuit(&circuit, &Limits::level(6));
    assert_eq!(report.verdict, Verdict::ContrastStrong, "{}", report.text());
    assert!(report.findings.certificates.is_empty());
    let why: Vec<Why> = report.unfinished.iter().map(|u| u.why).collect();
    assert_eq!(why, [Why::ContrastClaimed; certificate::Kind::ALL.len()]);
}
