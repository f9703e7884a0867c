//! Verifies a ground-truth case and prints the report:
//!
//! `cargo run --release -p openwork-verify --example verify -- "one node missing"`
//!
//! Without a name it is the true circuit of a compiled program.

use openwork_circuit::{Ablation, Circuit, Keep, batches, evaluate};
use openwork_truth::zoo::{self, CaseKind, GroundTruthCase};
use openwork_verify::{Case, Control, ControlKind, Controls, Limits, Settings, Shift, Split, verify};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| CaseKind::True.name().into());
    let names = CaseKind::all().map(CaseKind::name).join(", ");
    let kind = CaseKind::all().into_iter().find(|kind| kind.name() == name);
    let given = kind.ok_or_else(|| format!("there is no case {name:?}; there are {names}"))?.build(1.0, 0);
    let GroundTruthCase { model, means, circuit, training, held_out, selection, target_loss, .. } = &given;
    let nodes = circuit;
    let circuit = &Circuit::new(model, nodes.clone());
    println!("{} in a model of {} nodes; expected: {:?}", name, nodes.space().len(), given.expected);

    // Scale and shift of the circuit's logit difference, as a search fits them.
    let keep = || Keep::new(nodes, Ablation::Mean(means));
    let calibration = evaluate(model, &batches(training, 8, model.config.n_ctx), false, keep, |_| ()).calibrate();
    let split = |shift| match shift {
        zoo::Shift::Templates => Split::HeldOutTemplates,
        zoo::Shift::Lengths => Split::Lengths,
        zoo::Shift::Vocabulary => Split::Vocabulary,
    };
    let shifts: Vec<Shift<'_>> =
        given.shifted.iter().map(|(shift, pairs)| Shift { split: split(*shift), pairs }).collect();
    let case = Case {
        model,
        means,
        circuit,
        claim: given.claim,
        calibration,
        target_loss: *target_loss,
        held_out,
        shifts: &shifts,
        selection,
        meaning: None,
        model_sha256: "",
        domain: None,
    };
    // A search that finds nothing where there is nothing.
    let control = |kind| Control { kind, reached_target: false, loss: std::f64::consts::LN_2, nodes: 0, edges: 0 };
    let done = ControlKind::ALL.map(control);
    let controls = Controls { done: &done, cut_short: &[] };
    let settings = Settings { random_sets: 100, random_pairs: 32, bootstrap: 400, ..Settings::default() };
    let judged = verify(&case, controls, &settings, &Limits::level(5), &mut |step| eprintln!("{step}"));
    println!("{}", judged.report.text());
    Ok(())
}
