//! Bounds over all partial ablations: no ablation beats them, both implementations find them, and none can be improved
//! with a pen.

use std::ops::ControlFlow;

use openwork_circuit::{Domain, NodeSet, NodeSpace};
use openwork_model::{Matrix, Model, Site, Tap, Tokens};
use openwork_truth::{AblationValue, Compiled, Options, Truth, reaching};
use openwork_verify::certificate::{About, Certificate, Relax, Rivals, relaxation};
use rand::{Rng, RngExt};
use serde_json::{Value, json};

use crate::{Desk, parity::configurations, random_model, random_nodes, rng};

/// Fades the nodes that are not kept, each at each token by its own coefficient.
struct Fade<'a, R> {
    kept: &'a NodeSet,
    value: &'a [f32],
    coefficient: R,
}

impl<R: FnMut() -> f32> Tap for Fade<'_, R> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let Some(range) = self.kept.space().range(site) else { return ControlFlow::Continue(()) };
        for (mut row, node) in value.rows_mut().into_iter().zip(range) {
            if !self.kept.kept()[node] {
                row.iter_mut().for_each(|x| *x = self.value[node] + (self.coefficient)() * (*x - self.value[node]));
            }
        }
        ControlFlow::Continue(())
    }
}

/// Least lead of `answer` over random partial ablations, half of them at the corners of the box.
fn least_lead(
    model: &Model,
    kept: &NodeSet,
    value: &[f32],
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
        let mut tap = Fade { kept, value, coefficient };
        let pass = model.forward(Tokens::new(prompt, prompt.len()), Some(&[prompt.len() - 1]), &mut tap);
        let logits = pass.logits.column(0).to_vec();
        let rival = (0..logits.len()).filter(|&i| i != answer).map(|i| logits[i]).fold(f32::NEG_INFINITY, f32::max);
        least = least.min(f64::from(logits[answer]) - f64::from(rival));
    }
    least
}

fn all_tokens(frozen_norms: bool, symbols: usize) -> Relax {
    Relax { rivals: Rivals::AllTokens, frozen_norms, symbols, inputs: usize::MAX, splits: 0 }
}

/// Bounds and the model's answers, as the certificate has them.
fn bounds(certificate: &Certificate) -> Vec<(usize, f64)> {
    let json: Value = serde_json::from_str(&certificate.to_json()).unwrap();
    let claim = &json["claim"]["relaxation"];
    let list = |key: &str| claim[key].as_array().unwrap().clone();
    let bounds = list("bounds").into_iter().map(|b| b.as_f64().unwrap_or(f64::NEG_INFINITY));
    list("answers").into_iter().map(|a| a.as_u64().unwrap() as usize).zip(bounds).collect()
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
        let value: Vec<f32> = (0..space.len()).map(|_| rng.random_range(0.0..1.0_f32) - 0.5).collect();
        let prompts: Vec<Vec<u16>> =
            [1, 3, 5].iter().map(|&n| (0..n).map(|_| rng.random_range(0..11)).collect()).collect();
        let inputs = Domain::listed(&prompts).unwrap();
        let about = About {
            model: &model,
            model_sha256: &desk.sha256,
            circuit: &circuit,
            constants: (i % 3 > 0).then_some(&value[..]),
            inputs: &inputs,
            answers: None,
            candidates: None,
        };
        let value = if i % 3 > 0 { value.clone() } else { vec![0.0; space.len()] };
        // As many symbols as it takes, too few, none; with splits.
        let found = [(2000, 0), (7, 0), (0, 0), (300, 2)].map(|(symbols, splits)| {
            let relax = Relax { splits, ..all_tokens(false, symbols) };
            let (certificate, _) = relaxation(&about, relax, &|| false).unwrap();
            desk.accepted(&certificate);
            bounds(&certificate)
        });
        let (frozen, _) = relaxation(&about, all_tokens(true, 2000), &|| false).unwrap();
        desk.accepted(&frozen);
        frozen_differs += usize::from(bounds(&frozen) != found[0]);
        for (input, prompt) in prompts.iter().enumerate() {
            let (answer, bound) = found[0][input];
            let least = least_lead(&model, &circuit, &value, prompt, answer, 300, &mut rng);
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
    assert!(positive >= 20 && tight >= 25 && frozen_differs >= 8, "{positive} {tight} {frozen_differs}");
}

/// A compiled program with its model file, and some of its prompts: noise takes part in all of them alike.
struct Program {
    compiled: Compiled,
    desk: Desk,
    inputs: Domain,
}

impl Program {
    fn new(program: openwork_truth::Program, seed: u64) -> Self {
        let compiled = Compiled::new(program, &Options::random(seed));
        let desk = Desk::new(&compiled.model);
        let prompts: Vec<Vec<u16>> = compiled.domain().into_iter().map(|p| p.tokens).step_by(7).take(10).collect();
        Self { compiled, desk, inputs: Domain::listed(&prompts).unwrap() }
    }

    fn about<'a>(&'a self, circuit: &'a NodeSet, constants: Option<&'a [f32]>) -> About<'a> {
        let (model, model_sha256, inputs) = (&self.compiled.model, &self.desk.sha256, &self.inputs);
        About { model, model_sha256, circuit, constants, inputs, answers: None, candidates: None }
    }

    /// Share of inputs certified; the checker has to find the same.
    fn certified(&self, about: &About<'_>, symbols: usize) -> f64 {
        let (certificate, certified) = relaxation(about, all_tokens(false, symbols), &|| false).unwrap();
        self.desk.accepted(&certificate);
        certified.share
    }
}

#[test]
fn true_circuits_of_compiled_programs_are_certified() {
    let mut intervals = Vec::new();
    for (i, program) in openwork_truth::Program::all().into_iter().enumerate() {
        let p = Program::new(program, i as u64);
        let model = &p.compiled.model;
        // Everything else is noise that never reaches the output: intervals do.
        assert_eq!(p.certified(&p.about(&reaching(model), None), 0), 1.0, "{}", program.name());
        for value in [AblationValue::Zero, AblationValue::Mean] {
            let domain = p.compiled.domain();
            let means = openwork_truth::means(model, &domain, p.compiled.bos());
            let truth = Truth::nodes(model, &domain, value.ablation(&means));
            let constants = (value == AblationValue::Mean).then_some(means.values());
            let about = p.about(&truth, constants);
            // What leaks cancels only where linear forms remember what it is.
            let share = p.certified(&about, 1024);
            assert_eq!(share, 1.0, "{} {value:?}", program.name());
            intervals.push(p.certified(&about, 0));
        }
    }
    assert!(intervals.iter().any(|&share| share < 1.0), "linear forms are for something");
}

#[test]
fn a_circuit_that_lacks_a_node_loses_its_bound() {
    let p = Program::new(openwork_truth::Program::QuoteClosing, 3);
    let model = &p.compiled.model;
    let domain = p.compiled.domain();
    let truth = Truth::nodes(model, &domain, openwork_circuit::Ablation::Zero);
    let all = Domain::listed(&domain.iter().map(|prompt| prompt.tokens.clone()).collect::<Vec<_>>()).unwrap();
    let bound = |circuit: &NodeSet| {
        let about = About { inputs: &all, ..p.about(circuit, None) };
        relaxation(&about, all_tokens(false, 256), &|| false).unwrap().1.bound
    };
    // Answers lead by 10 logits. A true node moves the model by 0.01 nats or more on some input: there all rivals
    // together get 1 % at least, and one of them is less than ln(100 · vocabulary) < 8 behind.
    assert!(bound(&truth) > 9.9 && model.config.vocab_size < 29);
    for node in truth.numbers() {
        let lacking = NodeSet::of(truth.space().clone(), truth.numbers().filter(|&n| n != node));
        assert!(bound(&lacking) < 8.0, "{}", truth.space().node(node));
    }
}

#[test]
fn nothing_in_a_bound_can_be_changed() {
    let p = Program::new(openwork_truth::Program::Dyck1, 1);
    let truth = Truth::nodes(&p.compiled.model, &p.compiled.domain(), openwork_circuit::Ablation::Zero);
    let (certificate, certified) = relaxation(&p.about(&truth, None), all_tokens(false, 2048), &|| false).unwrap();
    assert_eq!(certified.share, 1.0);
    let statement = p.desk.accepted(&certificate);
    assert!(statement.contains("on 10 of 10 inputs"), "{statement}");
    let rejected = |change: &dyn Fn(&mut Value)| p.desk.rejected(&certificate, change);
    let claim = |j: &mut Value, key: &str, value: Value| j["claim"]["relaxation"][key] = value;
    let raised = |j: &mut Value| {
        let bound = &mut j["claim"]["relaxation"]["bounds"][2];
        *bound = json!(bound.as_f64().unwrap() + 1e-3);
    };
    assert!(rejected(&raised).contains("`bounds` does not hold"));
    assert!(rejected(&|j| claim(j, "least_bound", json!(11.0))).contains("`least_bound`"));
    assert!(rejected(&|j| claim(j, "least_bound", Value::Null)).contains("`least_bound`"));
    assert!(rejected(&|j| claim(j, "certified", json!(9))).contains("`certified`"));
    assert!(rejected(&|j| j["claim"]["relaxation"]["bounds"][2] = Value::Null).contains("`certified`"));
    assert!(rejected(&|j| claim(j, "inputs", json!(11))).contains("`inputs`"));
    assert!(rejected(&|j| claim(j, "symbols", json!(0))).contains("`bounds`"));
    let answer = |j: &mut Value| {
        let answer = &mut j["claim"]["relaxation"]["answers"][0];
        *answer = json!((answer.as_u64().unwrap() + 1) % 3);
    };
    assert!(rejected(&answer).contains("`answers`"));
    assert!(rejected(&|j| claim(j, "rivals", json!("other_candidate"))).contains("no candidates"));
    assert!(rejected(&|j| drop(j["circuit"].as_array_mut().unwrap().drain(20..))).contains("`bounds`"));
    let fewer = |j: &mut Value| {
        j["domain"]["inputs"]["prompts"].as_array_mut().unwrap().pop();
    };
    assert!(rejected(&fewer).contains("`inputs` does not hold: claimed 10, found 9"));
    let constants = |j: &mut Value| {
        // One constant too few for the nodes that are ablated.
        j["fills"] = json!({ "constants": {} });
    };
    assert!(rejected(&constants).contains("0 constants for"));
}

#[test]
fn candidates_and_part_of_the_inputs() {
    let p = Program::new(openwork_truth::Program::Dyck1, 1);
    let truth = Truth::nodes(&p.compiled.model, &p.compiled.domain(), openwork_circuit::Ablation::Zero);
    let candidates: Vec<(u16, u16)> = (0..10).map(|i| (i % 2, 2)).collect();
    let about = About { candidates: Some(&candidates), ..p.about(&truth, None) };
    let relax = Relax { rivals: Rivals::OtherCandidate, inputs: 4, ..all_tokens(false, 64) };
    let (certificate, certified) = relaxation(&about, relax, &|| false).unwrap();
    assert_eq!(certified.unfinished, ["bounds of 6 of 10 inputs"]);
    assert_eq!(certified.bound, f64::NEG_INFINITY);
    p.desk.accepted(&certificate);
    for (&(answer, _), pair) in bounds(&certificate).iter().zip(&candidates) {
        assert!([usize::from(pair.0), usize::from(pair.1)].contains(&answer));
    }
    let swapped = |j: &mut Value| j["domain"]["candidates"][0] = json!([5, 6]);
    assert!(p.desk.rejected(&certificate, swapped).contains("`answers`"));
    let error = relaxation(&p.about(&truth, None), relax, &|| false).err().unwrap().to_string();
    assert_eq!(error, "candidates: 0, expected two an input, for a margin between them");
}
