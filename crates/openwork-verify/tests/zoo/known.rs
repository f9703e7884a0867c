//! Judgement of ground-truth cases.

use openwork_circuit::{Ablation, Circuit, Keep, batches, evaluate};
use openwork_truth::zoo::{self, GroundTruthCase};
use openwork_verify::{Case, Control, ControlKind, Controls, Limits, Report, Settings, Shift, Split, verify};

/// The report on a case up to a level, calibrated on training pairs as the search would, with controls that found nothing.
pub fn judge(given: &GroundTruthCase, level: u8) -> Report {
    let settings =
        Settings { random_sets: 100, random_pairs: 32, bootstrap: 400, seed: given.seed, ..Settings::default() };
    let control = |kind| Control { kind, reached_target: false, loss: std::f64::consts::LN_2, nodes: 0, edges: 0 };
    let controls = ControlKind::ALL.map(control);
    let split = |shift| match shift {
        zoo::Shift::Lengths => Split::Lengths,
        zoo::Shift::Vocabulary => Split::Vocabulary,
        zoo::Shift::Templates => Split::HeldOutTemplates,
    };
    let shifts: Vec<Shift<'_>> =
        given.shifted.iter().map(|(shift, pairs)| Shift { split: split(*shift), pairs }).collect();
    let keep = || Keep::new(&given.circuit, Ablation::Mean(&given.means));
    let training = batches(&given.training, 8, given.model.config.n_ctx);
    let case = Case {
        model: &given.model,
        means: &given.means,
        circuit: &Circuit::new(&given.model, given.circuit.clone()),
        claim: given.claim,
        calibration: evaluate(&given.model, &training, false, keep, |_| ()).calibrate(),
        target_loss: given.target_loss,
        held_out: &given.held_out,
        shifts: &shifts,
        selection: &given.selection,
        meaning: None,
        model_sha256: "",
        domain: None,
    };
    let controls = Controls { done: &controls, cut_short: &[] };
    verify(&case, controls, &settings, &Limits::level(level), &mut |_| ()).report
}
