//! Exhaustive and statistical certificates: honest ones are accepted, changed ones are not.

use openwork_circuit::{Ablation, Domain, NodeSet, NodeSpace};
use openwork_model::{ActDensity, Bigram, Config, Model, Positions};
use openwork_truth::{Compiled, Options, Program, Truth};
use openwork_verify::certificate::{About, Certified, Event, Sample, Scheme, exhaustive, statistical};
use rand::RngExt;
use serde_json::{Value, json};

use crate::{Desk, random_model, random_nodes, rng};

/// A model of everything at once, a circuit of most of its nodes, constants for the rest, and a domain.
struct Setting {
    model: Model,
    circuit: NodeSet,
    constants: Vec<f32>,
    inputs: Domain,
    answers: Vec<u16>,
    candidates: Vec<(u16, u16)>,
    desk: Desk,
}

impl Setting {
    fn new(seed: u64, inputs: Domain) -> Self {
        let mut rng = rng(seed);
        let config = Config {
            vocab_size: 9,
            n_ctx: 4,
            n_layer: 2,
            n_head: 2,
            d_head: 3,
            d_model: 8,
            d_mlp: 12,
            positions: Positions::Added,
            act_density: Some(ActDensity::everywhere(0.6)),
            bigram: Bigram::None,
            sink: true,
            ..Config::default()
        };
        let mut model = random_model(config, &mut rng);
        // Nodes must matter: no gain is zero, and everything writes loudly.
        for weight in model.params.values_mut() {
            let vector = weight.dense().ncols() == 1;
            weight.update(|w| {
                w.iter_mut().for_each(|x| *x = rng.random_range(0.0..2.0_f32) - if vector { 0.0 } else { 1.0 })
            });
        }
        let space = NodeSpace::new(&model.config);
        let circuit = random_nodes(&space, 0.8, &mut rng);
        let constants = (0..space.len()).map(|_| rng.random_range(0.0..1.0_f32) - 0.5).collect();
        let desk = Desk::new(&model);
        // What the model says, but for every third input.
        let answer = |(i, prompt): (usize, Vec<u16>)| {
            let wide: Vec<usize> = prompt.iter().map(|&t| usize::from(t)).collect();
            let logits = openwork_check::logits(desk.model(), &wide, &[]).unwrap();
            let top = (0..9).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            ((top + usize::from(i % 3 == 2)) % 9) as u16
        };
        let answers = inputs.iter().enumerate().map(answer).collect();
        let candidates = (0..inputs.len()).map(|i| (i as u16 % 4, 4 + i as u16 % 5)).collect();
        Self { model, circuit, constants, inputs, answers, candidates, desk }
    }

    fn about(&self) -> About<'_> {
        About {
            model: &self.model,
            model_sha256: &self.desk.sha256,
            circuit: &self.circuit,
            constants: Some(&self.constants),
            inputs: &self.inputs,
            answers: Some(&self.answers),
            candidates: Some(&self.candidates),
        }
    }
}

fn products() -> Domain {
    Domain::new(vec![vec![vec![0, 3]], vec![vec![1, 2], vec![0, 4, 5], vec![8, 1]], vec![vec![7, 6], vec![0, 3]]])
        .unwrap()
}

/// Adds to a number of the claim.
fn shift(kind: &'static str, key: &'static str, by: f64) -> impl Fn(&mut Value) {
    move |json| {
        let value = &mut json["claim"][kind][key];
        *value = match value.as_u64() {
            Some(n) => json!((n as f64 + by) as u64),
            None => json!(value.as_f64().unwrap() + by),
        };
    }
}

const SCHEMES: [Scheme; 3] = [Scheme::Zero, Scheme::Constants, Scheme::Resample { sources: usize::MAX }];

#[test]
fn exhaustive_certificates_hold_and_no_number_in_them_can_be_changed() {
    let s = Setting::new(1, products());
    let (certificate, certified) = exhaustive(&s.about(), &SCHEMES, 10_000).unwrap();
    let n = 2 + 12 + 4;
    assert_eq!(s.inputs.len(), n);
    assert_eq!(certified.unfinished, Vec::<String>::new());
    assert!(certified.bound > 0.01 && certified.share < 1.0, "{certified:?}");
    let statement = s.desk.accepted(&certificate);
    assert!(statement.contains(&format!("all {n} inputs and {} runs", n * (n + 2))), "{statement}");

    let claim = "exhaustive";
    let rejected = |change: &dyn Fn(&mut Value)| s.desk.rejected(&certificate, change);
    for (key, by) in [("worst_kl_nats", -0.01), ("mean_kl_nats", -0.01), ("agreeing", 1.0), ("agreeing", -1.0)] {
        assert!(rejected(&shift(claim, key, by)).contains(&format!("`{key}` does not hold")), "{key}");
    }
    for key in ["right", "model_right", "inputs", "runs"] {
        assert!(rejected(&shift(claim, key, 1.0)).contains(&format!("`{key}` does not hold")), "{key}");
    }
    assert!(rejected(&|j| j["claim"][claim]["schemes"] = json!(["zero", "constants"])).contains("`runs`"));
    assert!(rejected(&|j| j["claim"][claim]["schemes"][0] = json!("constants")).contains("listed twice"));
    assert!(rejected(&|j| j["claim"][claim]["schemes"][2]["resample"]["sources"] = json!(17)).contains("`runs`"));
    assert!(rejected(&|j| j["claim"][claim]["worst"]["input"] = json!(n)).contains("no such run"));
    let other_worst = |j: &mut Value| {
        let input = &mut j["claim"][claim]["worst"]["input"];
        *input = json!((input.as_u64().unwrap() + 1) % n as u64);
    };
    assert!(rejected(&other_worst).contains("`worst`"));
}

#[test]
fn what_a_certificate_is_about_cannot_be_changed() {
    let s = Setting::new(1, products());
    let (certificate, _) = exhaustive(&s.about(), &SCHEMES, 10_000).unwrap();
    let sample = Sample { event: Event::SameArgmax, seed: 5, samples: 300, confidence: 0.95 };
    let (sampled, _) = statistical(&s.about(), sample, &|| false).unwrap();
    let kept = s.circuit.nodes().nth(40).unwrap().to_string();
    for certificate in [&certificate, &sampled] {
        let rejected = |change: &dyn Fn(&mut Value)| s.desk.rejected(certificate, change);
        // A circuit of one node more, which then needs no constant.
        let more = |j: &mut Value| {
            let constants = j["fills"]["constants"].as_object_mut().unwrap();
            let (name, _) = constants.iter().map(|(k, v)| (k.clone(), v.clone())).next_back().unwrap();
            constants.remove(&name);
            j["circuit"].as_array_mut().unwrap().push(json!(name));
        };
        assert!(rejected(&more).contains("does not hold"));
        assert!(rejected(&|j| drop(j["circuit"].as_array_mut().unwrap().pop())).contains("constants for"));
        assert!(rejected(&|j| j["circuit"][3] = json!("0.attn.q[99]")).contains("no node \"0.attn.q[99]\""));
        assert!(rejected(&|j| j["circuit"][3] = j["circuit"][4].clone()).contains("listed twice"));
        let constants = |j: &mut Value| {
            let all = j["fills"]["constants"].as_object_mut().unwrap();
            all.values_mut().for_each(|value| *value = json!(value.as_f64().unwrap() + 1.5));
        };
        assert!(rejected(&constants).contains("does not hold"));
        rejected(&|j| j["fills"] = json!("zero"));
        let kept = kept.clone();
        assert!(rejected(&|j| j["fills"]["constants"][&kept] = json!(0.0)).contains("constants for"));
        assert!(rejected(&|j| drop(j["inputs"]["products"].as_array_mut().unwrap().pop())).contains("inputs"));
        assert!(rejected(&|j| j["inputs"]["products"][1][0][0] = json!(6)).contains("does not hold"));
        assert!(rejected(&|j| j["inputs"]["products"][1][0][0] = json!(9)).contains("outside the vocabulary"));
        assert!(rejected(&|j| j["inputs"]["products"][0][0] = json!([0, 0])).contains("twice"));
        assert!(rejected(&|j| j["tolerance"] = json!(0.5)).contains("tolerance"));
        assert!(rejected(&|j| j["format"] = json!("openwork-certificate 2")).contains("expected"));
        assert!(rejected(&|j| j["note"] = json!("trust me")).contains("unknown field `note`"));
        assert!(rejected(&|j| j["model_sha256"] = json!("0")).contains("about model 0"));
        // The same certificate beside another model.
        let other = Desk::new(&random_model(s.model.config.clone(), &mut rng(9)));
        assert!(s.desk.check_text(&certificate.to_json(), &other.model()).unwrap_err().contains("this is model"));
    }
}

#[test]
fn answers_and_lists_of_prompts() {
    let prompts = [vec![1, 2, 3], vec![4, 5, 6], vec![1, 2, 3], vec![8]];
    let s = Setting::new(3, Domain::listed(&prompts).unwrap());
    let (certificate, certified) = exhaustive(&s.about(), &SCHEMES, 1000).unwrap();
    assert!(certified.scope.starts_with("all 4 inputs"));
    s.desk.accepted(&certificate);
    let rejected = |change: &dyn Fn(&mut Value)| s.desk.rejected(&certificate, change);
    assert!(rejected(&|j| drop(j["inputs"]["prompts"].as_array_mut().unwrap().pop())).contains("4 answers"));
    let fewer = |j: &mut Value| {
        for list in ["answers", "candidates"] {
            j[list].as_array_mut().unwrap().pop();
        }
        j["inputs"]["prompts"].as_array_mut().unwrap().pop();
    };
    assert!(rejected(&fewer).contains("`inputs` does not hold: claimed 4, found 3"));
    assert!(rejected(&|j| j["answers"] = Value::Null).contains("go with a list of answers"));
    assert!(rejected(&|j| j["inputs"]["prompts"][3] = json!([1, 2, 3, 4, 5])).contains("the model takes 4"));
    let wrong = |j: &mut Value| {
        let answers = j["answers"].as_array_mut().unwrap();
        answers.iter_mut().for_each(|a| *a = json!((a.as_u64().unwrap() + 1) % 9));
    };
    assert!(rejected(&wrong).contains("right"));
}

#[test]
fn statistical_certificates_hold_and_no_number_in_them_can_be_changed() {
    let s = Setting::new(1, products());
    for event in [Event::SameArgmax, Event::SameCandidate] {
        let sample = Sample { event, seed: 5, samples: 300, confidence: 0.95 };
        let (certificate, certified) = statistical(&s.about(), sample, &|| false).unwrap();
        assert!(certified.share < 1.0 && certified.bound < certified.share && certified.bound > 0.0, "{certified:?}");
        s.desk.accepted(&certificate);
        let claim = "statistical";
        let rejected = |change: &dyn Fn(&mut Value)| s.desk.rejected(&certificate, change);
        for (key, by, falls) in [
            ("failures", -1.0, "failures"),
            ("failures", 1.0, "failures"),
            ("samples", -50.0, "failures"),
            ("samples", 1.0, ""),
            ("lower_bound", 0.001, "lower_bound"),
            ("confidence", 0.01, "lower_bound"),
            ("confidence", 1.0, "samples"),
            ("inputs", -1.0, "inputs"),
        ] {
            assert!(rejected(&shift(claim, key, by)).contains(falls), "{key} {by}");
        }
        let seeds = (6..12).filter(|seed| {
            let error = s
                .desk
                .check_text(&certificate.to_json().replace("\"seed\":5", &format!("\"seed\":{seed}")), &s.desk.model());
            error.is_err()
        });
        // Another seed draws another sample, which may by chance fail as often.
        assert!(seeds.count() >= 4);
        let name = if event == Event::SameArgmax { "same_candidate" } else { "same_argmax" };
        assert!(rejected(&|j| j["claim"][claim]["event"] = json!(name)).contains("failures"));
    }
}

#[test]
fn budgets_say_what_they_leave_out_and_misfits_are_named() {
    let s = Setting::new(1, products());
    let (certificate, Certified { unfinished, share, scope, .. }) = exhaustive(&s.about(), &SCHEMES, 100).unwrap();
    assert_eq!(unfinished, ["resampling from 3 of 18 inputs; the budget is 100 runs"]);
    assert!(share > 0.0 && scope.contains("each of 3 inputs"), "{scope}");
    assert!(s.desk.accepted(&certificate).contains("90 runs"));
    let error = exhaustive(&s.about(), &SCHEMES, 10).err().unwrap().to_string();
    assert!(error.contains("18 inputs are more than the budget of 10 runs"), "{error}");
    let about = About { answers: Some(&[1]), ..s.about() };
    assert_eq!(exhaustive(&about, &SCHEMES, 1000).err().unwrap().to_string(), "answers: 1, expected 18, one an input");
    let about = About { constants: None, ..s.about() };
    assert!(exhaustive(&about, &SCHEMES, 1000).is_err() && exhaustive(&about, &[], 1000).is_err());
    let long = Domain::all(&[0, 1], [5]).unwrap();
    let about = About { inputs: &long, answers: None, candidates: None, ..s.about() };
    let sample = Sample { event: Event::SameArgmax, seed: 5, samples: 9, confidence: 0.95 };
    assert!(statistical(&about, sample, &|| false).err().unwrap().to_string().contains("at most n_ctx = 4"));
}

#[test]
fn a_whole_model_is_certified_and_threads_do_not_matter() {
    let s = Setting::new(4, products());
    let whole = NodeSet::all(NodeSpace::new(&s.model.config));
    let about = About { circuit: &whole, constants: None, ..s.about() };
    let (certificate, certified) = exhaustive(&about, &[Scheme::Zero], 100).unwrap();
    assert_eq!((certified.bound, certified.share), (0.0, 1.0));
    s.desk.accepted(&certificate);
    let sample = Sample { event: Event::SameArgmax, seed: 1, samples: 100, confidence: 0.99 };
    let (certificate, certified) = statistical(&about, sample, &|| false).unwrap();
    // (1 − 0.99)^(1/100)
    assert!((certified.bound - 0.01_f64.powf(0.01)).abs() < 1e-9 && certified.share == 1.0);
    s.desk.accepted(&certificate);

    let texts = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            exhaustive(&s.about(), &SCHEMES, 10_000).unwrap().0.to_json()
                + &statistical(&s.about(), sample, &|| false).unwrap().0.to_json()
        })
    });
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn compiled_programs_are_exactly_right_on_all_inputs() {
    for (i, program) in [Program::QuoteClosing, Program::MostFrequent, Program::Dyck1].into_iter().enumerate() {
        let compiled = Compiled::new(program, &Options::random(i as u64));
        let domain = compiled.domain();
        let prompts: Vec<Vec<u16>> = domain.iter().map(|p| p.tokens.clone()).collect();
        let answers: Vec<u16> = domain.iter().map(|p| p.answer).collect();
        let desk = Desk::new(&compiled.model);
        let truth = Truth::nodes(&compiled.model, &domain, Ablation::Zero);
        let about = About {
            model: &compiled.model,
            model_sha256: &desk.sha256,
            circuit: &truth,
            constants: None,
            inputs: &Domain::listed(&prompts).unwrap(),
            answers: Some(&answers),
            candidates: None,
        };
        let (certificate, certified) = exhaustive(&about, &[Scheme::Zero], 100_000).unwrap();
        // What is true moves some answer by 0.01 nats; what is not, none.
        assert!(certified.share == 1.0 && certified.bound < openwork_truth::TOLERANCE, "{certified:?}");
        desk.accepted(&certificate);
        let json: Value = serde_json::from_str(&certificate.to_json()).unwrap();
        assert_eq!(json["claim"]["exhaustive"]["right"], json!(prompts.len()));
        let sample = Sample { event: Event::SameArgmax, seed: 1, samples: 500, confidence: 0.95 };
        let (certificate, certified) = statistical(&about, sample, &|| false).unwrap();
        assert!(certified.share == 1.0 && certified.bound > 0.99, "{certified:?}");
        desk.accepted(&certificate);
    }
}
