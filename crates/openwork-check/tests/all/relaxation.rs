//! Bounds over all partial ablations: no ablation beats them, both implementations find them, and none can be improved
//! with a pen.

use openwork_circuit::{Domain, NodeSet, NodeSpace};
use openwork_model::{Matrix, Model, Site, Tap, Tokens};
use openwork_truth::{Compiled, Options, Program, reaching};
use openwork_verify::certificate::{About, Certificate, Relax, Rivals, relaxation};
use rand::{Rng, RngExt};
use serde_json::{Value, json};

use crate::{Desk, parity::configurations, random_model, random_nodes, rng};

/// Fades the nodes that are not kept, each at each token by its own coefficient.
struct Fade<'a, R> {
    kept: &'a NodeSet,
    fill: &'a [f32],
    coefficient: R,
}

impl<R: FnMut() -> f32> Tap for Fade<'_, R> {
    fn forward(&mut self, site: Site, value: &mut Matrix) {
        let Some(range) = self.kept.space().range(site) else { return };
        for (mut row, node) in value.rows_mut().into_iter().zip(range) {
            if !self.kept.kept()[node] {
                row.iter_mut().for_each(|x| *x = self.fill[node] + (self.coefficient)() * (*x - self.fill[node]));
            }
        }
    }
}

/// Least lead of `answer` over random partial ablations, half of them at the corners of the box.
fn least_lead(
    model: &Model,
    kept: &NodeSet,
    fill: &[f32],
    prompt: &[u16],
    answer: usize,
    n: usize,
    rng: &mut impl Rng,
) -> f64 {
    let mut least = f64::INFINITY;
    for i in 0..n {
        let corner = i % 2 == 0;
        let share = rng.random_range(0.0..1.0_f64);
        let coefficient = || if corner { f32::from(rng.random_bool(share)) } else { rng.random_range(0.0..1.0_f32) };
        let mut tap = Fade { kept, fill, coefficient };
        let pass = model.forward(Tokens::new(prompt, prompt.len()), Some(&[prompt.len() - 1]), &mut tap);
        let logits = pass.logits.column(0).to_vec();
        let rival = (0..logits.len()).filter(|&i| i != answer).map(|i| logits[i]).fold(f32::NEG_INFINITY, f32::max);
        least = least.min(f64::from(logits[answer]) - f64::from(rival));
    }
    least
}

fn all_tokens(frozen_norms: bool, symbols: usize) -> Relax {
    Relax { rivals: Rivals::AllTokens, frozen_norms, symbols, inputs: usize::MAX }
}

/// Bounds and the model's answers, as the certificate has them.
fn bounds(certificate: &Certificate) -> Vec<(usize, f64)> {
    let json: Value = serde_json::from_str(&certificate.to_json()).unwrap();
    let claim = &json["claim"]["relaxation"];
    let list = |key: &str| claim[key].as_array().unwrap().clone();
    let bounds = list("bounds").into_iter().map(|b| b.as_f64().unwrap_or(f64::NEG_INFINITY));
    list("model_answers").into_iter().map(|a| a.as_u64().unwrap() as usize).zip(bounds).collect()
}

#[test]
fn both_find_the_same_bounds_and_no_ablation_beats_them() {
    let mut rng = rng(2);
    let (mut positive, mut tight, mut frozen_differs) = (0, 0, 0);
    for (i, config) in configurations().into_iter().enumerate() {
        let model = random_model(config, &mut rng);
        let desk = Desk::new(&model);
        let space = NodeSpace::new(&model.config);
        let circuit = random_nodes(&space, [0.99, 0.9][i % 2], &mut rng);
        let fill: Vec<f32> = (0..space.len()).map(|_| rng.random_range(0.0..1.0_f32) - 0.5).collect();
        let prompts: Vec<Vec<u16>> =
            [1, 3, 5].iter().map(|&n| (0..n).map(|_| rng.random_range(0..11)).collect()).collect();
        let inputs = Domain::listed(&prompts).unwrap();
        let about = About {
            model: &model,
            model_sha256: &desk.sha256,
            circuit: &circuit,
            constants: (i % 3 > 0).then_some(&fill[..]),
            inputs: &inputs,
            answers: None,
            candidates: None,
        };
        let fill = if i % 3 > 0 { fill.clone() } else { vec![0.0; space.len()] };
        // As many symbols as it takes, too few, none.
        let found = [2000, 7, 0].map(|symbols| {
            let (certificate, _) = relaxation(&about, all_tokens(false, symbols)).unwrap();
            desk.accepted(&certificate);
            bounds(&certificate)
        });
        let (frozen, _) = relaxation(&about, all_tokens(true, 2000)).unwrap();
        desk.accepted(&frozen);
        frozen_differs += usize::from(bounds(&frozen) != found[0]);
        for (input, prompt) in prompts.iter().enumerate() {
            let (answer, bound) = found[0][input];
            let least = least_lead(&model, &circuit, &fill, prompt, answer, 300, &mut rng);
            for found in &found {
                // The runs are f32.
                assert!(
                    found[input].1 <= least + 1e-4 * (1.0 + least.abs()),
                    "{} > {least}: {:?}",
                    found[input].1,
                    model.config
                );
            }
            positive += usize::from(bound > 0.0);
            tight += usize::from(least - bound < 0.3 * (1.0 + least.abs()));
        }
    }
    // Not idle: bounds are often near what sampling finds, and prove something now and then.
    println!("{positive} {tight} {frozen_differs}");
    assert!(positive >= 8 && tight >= 20 && frozen_differs >= 6, "{positive} {tight} {frozen_differs}");
}

/// A circuit that ignores what it is said to: the model of a compiled program, its true nodes, and all prompts.
fn compiled(program: Program, seed: u64) -> (Compiled, Vec<Vec<u16>>) {
    let compiled = Compiled::new(program, &Options::random(seed));
    let prompts = compiled.domain().into_iter().map(|p| p.tokens).collect();
    (compiled, prompts)
}

#[test]
fn compiled_programs_are_certified_on_every_input_from_the_nodes_that_reach_the_output() {
    for (i, program) in Program::all().into_iter().enumerate() {
        let (compiled, prompts) = compiled(program, i as u64);
        // Every seventh prompt: noise takes part in all of them alike.
        let prompts: Vec<Vec<u16>> = prompts.into_iter().step_by(7).take(12).collect();
        let desk = Desk::new(&compiled.model);
        let circuit = reaching(&compiled.model);
        let inputs = Domain::listed(&prompts).unwrap();
        let about = About {
            model: &compiled.model,
            model_sha256: &desk.sha256,
            circuit: &circuit,
            constants: None,
            inputs: &inputs,
            answers: None,
            candidates: None,
        };
        let (certificate, certified) = relaxation(&about, all_tokens(false, 256)).unwrap();
        println!("{} {certified:?} {}", program.name(), circuit.len());
        assert_eq!(certified.share, 1.0, "{}", program.name());
        desk.accepted(&certificate);

        let truth = openwork_truth::Truth::nodes(&compiled.model, &compiled.domain(), openwork_circuit::Ablation::Zero);
        let about = About { circuit: &truth, ..about };
        for symbols in [0, 1024] {
            let (certificate, certified) = relaxation(&about, all_tokens(false, symbols)).unwrap();
            println!("   truth {symbols} {certified:?} {}", truth.len());
            desk.accepted(&certificate);
        }
    }
}
