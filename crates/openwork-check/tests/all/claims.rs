//! Exhaustive and statistical certificates: honest ones are accepted, changed ones are not.

use openwork_circuit::{Ablation, Domain, NodeSet, NodeSpace};
use openwork_model::{ActDensity, Bigram, Config, Model, Positions};
use openwork_truth::{Compiled, Options, Program, Truth};
use openwork_verify::certificate::{
    About, Certified, Event, Relax, Rivals, Sample, Scheme, exhaustive, relaxation, statistical,
};
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
        // The right answer and the next token, in turn first and second.
        let pair = |(i, &a): (usize, &u16)| if i % 2 == 0 { (a, (a + 1) % 9) } else { ((a + 1) % 9, a) };
        let answers: Vec<u16> = answers;
        let candidates = answers.iter().enumerate().map(pair).collect();
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
    let sample = Sample { event: Event::RightAnswer, samples: 400, confidence: 0.95 };
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
        assert!(
            rejected(&|j| drop(j["domain"]["inputs"]["products"].as_array_mut().unwrap().pop())).contains("inputs")
        );
        assert!(rejected(&|j| j["domain"]["inputs"]["products"][1][0][0] = json!(6)).contains("does not hold"));
        assert!(
            rejected(&|j| j["domain"]["inputs"]["products"][1][0][0] = json!(9)).contains("outside the vocabulary")
        );
        assert!(rejected(&|j| j["domain"]["inputs"]["products"][0][0] = json!([0, 0])).contains("twice"));
        assert!(rejected(&|j| j["tolerance"] = json!(0.5)).contains("tolerance"));
        assert!(rejected(&|j| j["format"] = json!("openwork-certificate 1")).contains("expected"));
        assert!(rejected(&|j| j["task"] = json!("something harder")).contains("the domain file is about"));
        assert!(rejected(&|j| j["inputs"]["file"] = json!("../domain.json")).contains("no name of a file"));
        assert!(rejected(&|j| j["inputs"]["file"] = json!("none.json")).contains("none.json"));
        assert!(rejected(&|j| j["note"] = json!("trust me")).contains("unknown field `note`"));
        assert!(rejected(&|j| j["model_sha256"] = json!("0")).contains("about model 0"));
        // The same certificate beside another model.
        let other = Desk::new(&random_model(s.model.config.clone(), &mut rng(9)));
        assert!(
            s.desk
                .check_text(&certificate.to_json(), &certificate.domain_json(), &other.model())
                .unwrap_err()
                .contains("this is model")
        );
    }
}

#[test]
fn answers_and_lists_of_prompts() {
    let prompts = [vec![1, 2, 3], vec![4, 5, 6], vec![1, 2], vec![8]];
    let s = Setting::new(3, Domain::listed(&prompts).unwrap());
    let (certificate, certified) = exhaustive(&s.about(), &SCHEMES, 1000).unwrap();
    assert!(certified.scope.starts_with("all 4 inputs"));
    s.desk.accepted(&certificate);
    let rejected = |change: &dyn Fn(&mut Value)| s.desk.rejected(&certificate, change);
    assert!(rejected(&|j| drop(j["domain"]["inputs"]["prompts"].as_array_mut().unwrap().pop())).contains("4 answers"));
    let fewer = |j: &mut Value| {
        for list in ["answers", "candidates"] {
            j["domain"][list].as_array_mut().unwrap().pop();
        }
        j["domain"]["inputs"]["prompts"].as_array_mut().unwrap().pop();
    };
    assert!(rejected(&fewer).contains("`inputs` does not hold: claimed 4, found 3"));
    assert!(rejected(&|j| j["domain"]["answers"] = Value::Null).contains("go with a list of answers"));
    assert!(rejected(&|j| j["domain"]["inputs"]["prompts"][3] = json!([1, 2, 3, 4, 5])).contains("the model takes 4"));
    let wrong = |j: &mut Value| {
        // The other candidate of every input.
        let candidates = j["domain"]["candidates"].as_array().unwrap().clone();
        let answers = j["domain"]["answers"].as_array_mut().unwrap();
        for (answer, pair) in answers.iter_mut().zip(candidates) {
            *answer = pair.as_array().unwrap().iter().find(|t| *t != answer).unwrap().clone();
        }
    };
    assert!(rejected(&wrong).contains("right"));
    let neither = |j: &mut Value| {
        let pair = j["domain"]["candidates"][0].clone();
        let other = (0..9).find(|t| !pair.as_array().unwrap().contains(&json!(t))).unwrap();
        j["domain"]["answers"][0] = json!(other);
    };
    assert!(rejected(&neither).contains("neither"));
    // What is listed twice would count twice, for the writer too.
    assert!(
        rejected(&|j| j["domain"]["inputs"]["prompts"][2] = json!([1, 2, 3])).contains("prompt 2 is prompt 0 again")
    );
    let twice = Domain::listed(&[vec![1], vec![1]]).unwrap();
    let about = About { inputs: &twice, answers: None, candidates: None, ..s.about() };
    assert!(exhaustive(&about, &SCHEMES, 1000).err().unwrap().to_string().contains("input 1 is input 0 again"));
}

#[test]
fn statistical_certificates_hold_and_no_number_in_them_can_be_changed() {
    let s = Setting::new(1, products());
    for event in [Event::RightAnswer, Event::RightCandidate, Event::SameArgmax, Event::SameCandidate] {
        let answers = event.is_right().then_some(&s.answers[..]);
        let about = About { answers, ..s.about() };
        let sample = Sample { event, samples: 400, confidence: 0.95 };
        let (certificate, certified) = statistical(&about, sample, &|| false).unwrap();
        assert!(certified.share < 1.0 && certified.bound < certified.share && certified.bound > 0.0, "{certified:?}");
        s.desk.accepted(&certificate);
        let claim = "statistical";
        let rejected = |change: &dyn Fn(&mut Value)| s.desk.rejected(&certificate, change);
        for (key, by, falls) in [
            ("failures", -1.0, "failures"),
            ("samples", -50.0, "samples"),
            ("samples", 400.0, ""),
            ("samples", -200.0, ""),
            ("lower_bound", 0.001, "lower_bound"),
            ("confidence", 0.01, "lower_bound"),
            ("confidence", -0.06, "confidence"),
            ("confidence", 1.0, "confidence"),
            ("inputs", -1.0, "inputs"),
        ] {
            assert!(rejected(&shift(claim, key, by)).contains(falls), "{key} {by}");
        }
        let name = if event == Event::SameArgmax { "same_candidate" } else { "same_argmax" };
        rejected(&|j| j["claim"][claim]["event"] = json!(name));
        assert!(rejected(&|j| j["claim"][claim]["seed"] = json!(7)).contains("unknown field `seed`"));
    }
    // Where the task says what is right, the model does not judge.
    let sample = |event, samples, confidence| Sample { event, samples, confidence };
    let error = |sample| statistical(&s.about(), sample, &|| false).err().unwrap().to_string();
    assert!(error(sample(Event::SameArgmax, 400, 0.95)).contains("an event about right answers"));
    assert!(error(sample(Event::RightAnswer, 399, 0.95)).contains("100 times a power of two"));
    assert!(error(sample(Event::RightAnswer, 50, 0.95)).contains("100 times a power of two"));
    assert!(error(sample(Event::RightAnswer, 400, 0.8)).contains("90 at least"));
}

#[test]
fn a_sample_follows_from_what_it_is_about() {
    let s = Setting::new(1, products());
    let failures = |about: &About<'_>, samples| {
        let sample = Sample { event: Event::RightAnswer, samples, confidence: 0.95 };
        let text = statistical(about, sample, &|| false).unwrap().0.to_json();
        serde_json::from_str::<Value>(&text).unwrap()["claim"]["statistical"]["failures"].as_u64().unwrap()
    };
    // More samples go on with the same ones, and confidence draws nothing.
    let first = failures(&s.about(), 400);
    assert!(failures(&s.about(), 800) >= first);
    let other: Vec<f32> = s.constants.iter().map(|c| c + 1e-6).collect();
    let constants = failures(&About { constants: Some(&other), ..s.about() }, 400);
    let fewer = Domain::new(s.inputs.products()[1..].to_vec()).unwrap();
    let about = About { inputs: &fewer, answers: Some(&s.answers[2..]), candidates: None, ..s.about() };
    assert!(constants != first || failures(&about, 400) != first, "another subject has another sample");
}

#[test]
fn a_statement_names_all_that_it_is_about() {
    let s = Setting::new(1, products());
    let (certificate, _) = exhaustive(&s.about(), &SCHEMES, 10_000).unwrap();
    let certificate = certificate.named("the quote that closes", "domain.json");
    let statement = s.desk.accepted(&certificate);
    let edges = openwork_circuit::Circuit::new(&s.model, s.circuit.clone()).edges().len();
    let (nodes, all) = (s.circuit.len(), s.circuit.space().len());
    for words in [
        "task \"the quote that closes\"",
        &format!("the circuit of {nodes} of {all} nodes and {edges} edges (SHA-256 {})", s.circuit.sha256()),
        &format!("of model {}", s.desk.sha256),
        "ablated nodes at the constants ",
        "18 distinct inputs of domain.json (SHA-256 ",
        "declares the right one of two candidates after each",
    ] {
        assert!(statement.contains(words), "{words} is not in {statement}");
    }
    for (circuit, words) in [
        (NodeSet::empty(s.circuit.space().clone()), "the empty circuit, which keeps no node"),
        (NodeSet::all(s.circuit.space().clone()), "the circuit of all nodes, which is the model itself"),
    ] {
        let about = About { circuit: &circuit, constants: None, ..s.about() };
        let statement = s.desk.accepted(&exhaustive(&about, &[Scheme::Zero], 100).unwrap().0);
        assert!(statement.contains(words) && statement.contains("ablated nodes at zero"), "{statement}");
    }
}

#[test]
fn ties_count_for_nothing() {
    // Embedding and unembedding of zeros: every logit is the bias, and two of them are one rounding apart.
    let mut s = Setting::new(1, Domain::all(&[0, 1], [2]).unwrap());
    for weight in s.model.params.values_mut() {
        weight.update(|w| w.fill(0.0));
    }
    let bias = |lead: f32| move |b: &mut openwork_model::Matrix| (b[[3, 0]], b[[5, 0]]) = (1.0 + lead, 1.0);
    for (lead, right) in [(0.0, 0), (1e-6, 0), (0.01, 4)] {
        s.model.params.logits_bias.update(bias(lead));
        s.desk = Desk::new(&s.model);
        let about = About { answers: Some(&[3; 4]), candidates: Some(&[(3, 5); 4]), ..s.about() };
        let (certificate, certified) = exhaustive(&about, &[Scheme::Zero], 100).unwrap();
        s.desk.accepted(&certificate);
        let json: Value = serde_json::from_str(&certificate.to_json()).unwrap();
        assert_eq!(json["claim"]["exhaustive"]["right"], json!(right), "a lead of {lead}");
        assert_eq!(certified.share, if right > 0 { 1.0 } else { 0.0 });
        let sample = Sample { event: Event::RightCandidate, samples: 100, confidence: 0.95 };
        let (certificate, certified) = statistical(&about, sample, &|| false).unwrap();
        s.desk.accepted(&certificate);
        assert_eq!(certified.share, if right > 0 { 1.0 } else { 0.0 });
        if right == 0 {
            let all = |j: &mut Value| j["claim"]["statistical"]["failures"] = json!(0);
            assert!(s.desk.rejected(&certificate, all).contains("`failures`"));
        }
    }
}

#[test]
fn work_without_end_is_refused_before_it_starts() {
    let s = Setting::new(1, products());
    let sample = Sample { event: Event::RightAnswer, samples: 100, confidence: 0.95 };
    let (sampled, _) = statistical(&s.about(), sample, &|| false).unwrap();
    for samples in [u64::MAX, 1 << 31, 65_536, 0, 6] {
        let many = |j: &mut Value| j["claim"]["statistical"]["samples"] = json!(samples);
        assert!(s.desk.rejected(&sampled, many).contains("100 times a power of two"), "{samples}");
    }
    let (all, _) = exhaustive(&s.about(), &SCHEMES, 10_000).unwrap();
    let huge = |j: &mut Value| {
        j["domain"]["inputs"]["products"] = json!([vec![vec![0, 1, 2, 3, 4, 5, 6, 7, 8]; 4], vec![vec![0, 1]; 4]]);
        (j["domain"]["answers"], j["domain"]["candidates"]) = (Value::Null, Value::Null);
    };
    assert!(s.desk.rejected(&all, huge).contains("shares prompts"));
    let text = s.desk.rejected(&all, |j| j["claim"]["exhaustive"]["inputs"] = json!(u64::MAX));
    assert!(text.contains("`inputs`"), "{text}");
    let about = About { answers: None, candidates: None, ..s.about() };
    let relax = Relax { rivals: Rivals::AllTokens, frozen_norms: false, symbols: 8, inputs: 1, splits: 0 };
    let (bounds, _) = relaxation(&about, relax, &|| false).unwrap();
    let symbols = |j: &mut Value| j["claim"]["relaxation"]["symbols"] = json!(1_u64 << 62);
    assert!(s.desk.rejected(&bounds, symbols).contains("`symbols`"));
    let mut split = json!({"node": "0.attn.q[0]", "token": 0, "at": 0.5, "below": null, "above": null});
    for depth in 0..13 {
        split = json!({"node": "0.attn.q[0]", "token": depth, "at": 0.5, "below": split, "above": split});
    }
    let splits = |j: &mut Value| j["claim"]["relaxation"]["splits"][0] = split.clone();
    assert!(s.desk.rejected(&bounds, splits).contains("cases of one input"));
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
    let sample = Sample { event: Event::SameArgmax, samples: 100, confidence: 0.95 };
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
    let sample = Sample { event: Event::SameArgmax, samples: 100, confidence: 0.99 };
    let about = About { answers: None, candidates: None, ..about };
    let (certificate, certified) = statistical(&about, sample, &|| false).unwrap();
    // (1 − 0.99)^(1/100)
    assert!((certified.bound - 0.01_f64.powf(0.01)).abs() < 1e-9 && certified.share == 1.0);
    s.desk.accepted(&certificate);

    let texts = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            exhaustive(&s.about(), &SCHEMES, 10_000).unwrap().0.to_json()
                + &statistical(&about, sample, &|| false).unwrap().0.to_json()
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
        let sample = Sample { event: Event::RightAnswer, samples: 400, confidence: 0.95 };
        let (certificate, certified) = statistical(&about, sample, &|| false).unwrap();
        assert!(certified.share == 1.0 && certified.bound > 0.99, "{certified:?}");
        desk.accepted(&certificate);
    }
}
