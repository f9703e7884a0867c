//! Bounds on models made by hand: what leaks weakly is certified, and where ablations can be tried out one by one the
//! bound is what the worst of them does.

use std::ops::ControlFlow;

use openwork_circuit::{Domain, Means, NodeSet, NodeSpace};
use openwork_model::{Activation, Bigram, Config, Matrix, Model, NormKind, Positions, Site, Tap, Tokens};
use openwork_tasks::Pair;
use openwork_verify::certificate::{About, Certificate, Certified, Relax, Rivals, relaxation};
use rand::RngExt;
use serde_json::{Value, json};

use crate::{
    Desk,
    micro::{self, CUE, Plan},
    rng,
};

fn prompts(pairs: &[Pair]) -> Vec<Vec<u16>> {
    pairs.iter().flat_map(|p| [p.positive.clone(), p.negative.clone()]).collect()
}

fn certify(plan: Plan, relax: Relax) -> Certified {
    certificate(plan, relax).2
}

/// Certificate of the true path of the hand-made model.
fn certificate(plan: Plan, relax: Relax) -> (Desk, Certificate, Certified) {
    let model = micro::model(plan);
    let desk = Desk::new(&model);
    let text: Vec<u16> = (0..600).map(|i| if i % 7 == 0 { i % 2 } else { 4 + i % 10 }).collect();
    let means = Means::compute(&model, &text, 12);
    let inputs = Domain::listed(&prompts(&micro::pairs(6, 0, CUE, 1))).unwrap();
    let candidates = vec![micro::ANSWERS; inputs.len()];
    let circuit = micro::set(&micro::path_nodes(&[0], false));
    let about = About {
        model: &model,
        model_sha256: &desk.sha256,
        circuit: &circuit,
        constants: Some(means.values()),
        inputs: &inputs,
        answers: None,
        candidates: Some(&candidates),
    };
    let (certificate, certified) = relaxation(&about, relax, &|| false).unwrap();
    desk.accepted(&certificate);
    (desk, certificate, certified)
}

#[test]
fn the_path_of_the_hand_made_model_is_certified_though_noise_leaks() {
    let relax = |rivals, frozen_norms| Relax { rivals, frozen_norms, symbols: 2048, inputs: usize::MAX, splits: 0 };
    let (quiet, loud) = (Plan::default(), Plan { noise: 0.05, ..Plan::default() });
    for plan in [quiet, loud] {
        // Between the two candidates with norms as they are; against the whole vocabulary with frozen scales.
        assert_eq!(certify(plan, relax(Rivals::OtherCandidate, false)).share, 1.0);
        assert_eq!(certify(plan, relax(Rivals::AllTokens, true)).share, 1.0);
    }
    // Whoever lets noise in has less to show, up to nothing.
    let bounds = [0.0, 0.05, 0.8]
        .map(|noise| certify(Plan { noise, ..Plan::default() }, relax(Rivals::OtherCandidate, false)).bound);
    assert!(bounds[0] > bounds[1] && bounds[1] > 0.0 && bounds[2] < 0.0, "{bounds:?}");
}

/// One block without norms whose output is a sum of what single nodes write, so that the worst ablation is a corner and
/// no bound need be loose: five values of a head that looks everywhere alike, five neurons.
fn sum_of_parts(activation: Activation, seed: u64) -> Model {
    let mut rng = rng(seed);
    let config = Config {
        vocab_size: 4,
        n_ctx: 3,
        n_layer: 1,
        n_head: 1,
        d_head: 5,
        d_model: 6,
        d_mlp: 5,
        norm: NormKind::None,
        activation,
        act_density: None,
        positions: Positions::None,
        bigram: Bigram::None,
        ..Config::default()
    };
    let mut model = Model::init(config, 0);
    let params = &mut model.params;
    let mut random = |w: &mut Matrix| w.iter_mut().for_each(|x| *x = rng.random_range(0.0..2.0_f32) - 1.0);
    params.embed.update(&mut random);
    params.unembed.as_mut().unwrap().update(&mut random);
    let block = &mut params.blocks[0];
    block.qkv.weight.update(|w| {
        random(w);
        w.slice_mut(ndarray::s![..10, ..]).fill(0.0); // no scores
    });
    block.attn_out.weight.update(&mut random);
    // Neurons read channel 0, which the attention does not write.
    block.attn_out.weight.update(|w| w.row_mut(0).fill(0.0));
    block.fc.weight.update(|w| {
        random(w);
        w.slice_mut(ndarray::s![.., 1..]).fill(0.0);
    });
    block.proj.weight.update(&mut random);
    model
}

/// Fades nodes by the coefficient of each (node, token) that a table has; others are kept.
struct Corner<'a> {
    space: &'a NodeSpace,
    ablated: &'a [usize],
    bits: u32,
}

impl Tap for Corner<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let Some(range) = self.space.range(site) else { return ControlFlow::Continue(()) };
        let tokens = value.ncols();
        for (i, &node) in self.ablated.iter().enumerate().filter(|(_, n)| range.contains(n)) {
            for t in (0..tokens).filter(|t| self.bits >> (i * tokens + t) & 1 == 1) {
                value[[node - range.start, t]] = 0.0;
            }
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn where_outputs_are_sums_the_bound_is_the_worst_corner() {
    for seed in 0..6 {
        let activation = if seed % 2 == 0 { Activation::Relu } else { Activation::Gelu };
        let model = sum_of_parts(activation, seed);
        let desk = Desk::new(&model);
        let space = NodeSpace::new(&model.config);
        let node = |name: &str| space.number(name.parse().unwrap()).unwrap();
        let ablated = ["0.attn.v[1]", "0.attn.v[3]", "0.mlp.post_act[0]", "0.mlp.post_act[4]"].map(node);
        let circuit = NodeSet::of(space.clone(), (0..space.len()).filter(|n| !ablated.contains(n)));
        let prompt = [seed as u16 % 4, 1, 3];
        let inputs = Domain::listed(&[prompt.to_vec()]).unwrap();
        let about = About {
            model: &model,
            model_sha256: &desk.sha256,
            circuit: &circuit,
            constants: None,
            inputs: &inputs,
            answers: None,
            candidates: None,
        };
        let relax = Relax { rivals: Rivals::AllTokens, frozen_norms: false, symbols: 100, inputs: 1, splits: 0 };
        let (certificate, certified) = relaxation(&about, relax, &|| false).unwrap();
        desk.accepted(&certificate);
        let json: serde_json::Value = serde_json::from_str(&certificate.to_json()).unwrap();
        let answer = json["claim"]["relaxation"]["answers"][0].as_u64().unwrap() as usize;
        let lead = |bits: u32| {
            let mut tap = Corner { space: &space, ablated: &ablated, bits };
            let logits = model.forward(Tokens::new(&prompt, 3), Some(&[2]), &mut tap).logits;
            let rivals = (0..4).filter(|&t| t != answer).map(|t| logits[[t, 0]]);
            f64::from(logits[[answer, 0]]) - f64::from(rivals.fold(f32::NEG_INFINITY, f32::max))
        };
        let worst = (0..1 << 12).map(lead).fold(f64::INFINITY, f64::min);
        // Logits of size 10 in f32, and what is taken off the bound.
        assert!((certified.bound - worst).abs() < 1e-4, "{} {worst}", certified.bound);
        assert!(worst < lead(0), "something is at stake");
    }
}

#[test]
fn splitting_coefficients_certifies_what_one_box_does_not() {
    let relax =
        |splits| Relax { rivals: Rivals::AllTokens, frozen_norms: false, symbols: 2048, inputs: usize::MAX, splits };
    let plan = Plan { noise: 0.05, ..Plan::default() };
    let (_, _, whole) = certificate(plan, relax(0));
    let (desk, certificate, split) = certificate(plan, relax(8));
    assert!(whole.share < split.share && whole.bound < split.bound, "{whole:?} {split:?}");

    let rejected = |change: &dyn Fn(&mut Value)| {
        desk.rejected(&certificate, |j| {
            let splits = j["claim"]["relaxation"]["splits"].as_array_mut().unwrap();
            change(splits.iter_mut().find(|split| !split.is_null()).unwrap());
        })
    };
    assert!(rejected(&|tree| *tree = Value::Null).contains("`bounds` does not hold"));
    assert!(rejected(&|tree| tree["at"] = json!(0.999)).contains("`bounds` does not hold"));
    assert!(rejected(&|tree| tree["at"] = json!(1.0)).contains("is not between 0 and 1"));
    assert!(rejected(&|tree| tree["node"] = json!("0.attn.act_in[0]")).contains("is no ablated node"));
    assert!(rejected(&|tree| tree["token"] = json!(0)).contains("`bounds` does not hold"));
    assert!(desk.rejected(&certificate, |j| j["claim"]["relaxation"]["splits"] = json!([])).contains("12 each"));
}
