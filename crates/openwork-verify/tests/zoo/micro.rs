//! A model made by hand, whose circuits are known.
//!
//! One block. A cue token carries +1 or −1 in a channel; a head that attends everywhere alike brings it to the
//! last token; two neurons, for plus and for minus, write it where the unembedding reads it:
//!
//! `embed[0] → attn read 0 → value 0 → attn write 4 → MLP read 4 → neurons 0, 1 → MLP write 5 → ± logit`
//!
//! Channels 8 to 15, the second head and neurons 8 to 15 are filled with noise, so that other nodes live too.

use std::{borrow::Cow, ops::Range};

use openwork_circuit::{Calibration, Circuit, Claim, Means, Node, NodeSet, NodeSpace, evaluate};
use openwork_model::{Activation, Bigram, Config, Model, Site, SiteKind};
use openwork_tasks::Pair;
use openwork_verify::{Case, Control, ControlKind, Controls, Limits, Report, Settings, Shift, Split, verify};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const CUE: [u16; 2] = [0, 1];
pub const OTHER_CUE: [u16; 2] = [14, 15];
pub const ANSWERS: (u16, u16) = (2, 3);
const FILLERS: Range<u16> = 4..14;
/// Fillers that prompts seldom consist of.
const SOME_FILLERS: Range<u16> = 8..14;

/// Parts to build in.
#[derive(Clone, Copy, Default)]
pub struct Plan {
    /// A second path from channel 1 over 6 to 7, with this sign and strength.
    pub second_path: f32,
    /// True if the cue also goes into channel 1.
    pub both_channels: bool,
    /// The neurons of the first path live on a constant that another node brings.
    pub constant: bool,
    /// Noise neurons also write, with this strength, where the second path ends: the model errs, the first path not.
    pub noise: f32,
    /// Neurons 4 and 5, 6 and 7 cancel each other where the second path ends, with this strength.
    pub cancel: f32,
    /// Neurons 4 and 5 cancel each other in channel 2, which speaks for another token.
    pub cancel_elsewhere: f32,
    /// The unembedding reads channel 0 of the last token, past all nodes.
    pub direct: bool,
}

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub fn config() -> Config {
    Config {
        vocab_size: 16,
        n_ctx: 12,
        n_layer: 1,
        n_head: 2,
        d_head: 4,
        d_model: 16,
        d_mlp: 16,
        activation: Activation::Relu,
        act_density: None,
        bigram: Bigram::None,
        ..Config::default()
    }
}

pub fn model(plan: Plan) -> Model {
    let mut model = Model::init(config(), 0);
    let params = &mut model.params;
    for weight in params.values_mut() {
        weight.update(|w| w.fill(0.0));
    }
    let mut rng = rng(42);
    let mut noise = move |scale: f32| scale * (rng.random_range(0.0..2.0_f32) - 1.0);
    let block = &mut params.blocks[0];
    for gain in [&mut block.attn_norm.gain, &mut block.mlp_norm.gain, &mut params.final_norm.gain] {
        gain.update(|w| w.fill(1.0));
    }
    params.embed.update(|e| {
        for token in FILLERS {
            (8..16).for_each(|c| e[[usize::from(token), c]] = noise(0.8));
        }
        for (tokens, first) in [(CUE, true), (OTHER_CUE, false)] {
            for (token, sign) in tokens.into_iter().zip([1.0, -1.0]) {
                let token = usize::from(token);
                e[[token, 3]] = 1.0;
                e[[token, 0]] = if first { sign } else { 0.0 };
                e[[token, 1]] = if !first || plan.both_channels { sign } else { 0.0 };
            }
        }
        if plan.constant {
            (0..16).for_each(|token| e[[token, 2]] = 1.5);
        }
    });
    let constant = if plan.constant { 5.0 } else { 0.0 };
    // Rows of queries, keys and values are 0..8, 8..16, 16..24; the second head has the last four of each.
    block.qkv.weight.update(|w| {
        (w[[16, 0]], w[[17, 1]]) = (1.0, 1.0);
        for row in [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23] {
            (8..16).for_each(|c| w[[row, c]] = noise(0.5));
        }
    });
    block.attn_out.weight.update(|w| {
        (w[[4, 0]], w[[6, 1]]) = (6.0, 6.0);
        (8..16).for_each(|row| (4..8).for_each(|c| w[[row, c]] = noise(0.3)));
    });
    block.fc.weight.update(|w| {
        (w[[0, 4]], w[[1, 4]], w[[2, 6]], w[[3, 6]]) = (1.0, -1.0, 1.0, -1.0);
        (w[[0, 2]], w[[1, 2]]) = (constant, constant);
        (8..16).for_each(|row| (8..16).for_each(|c| w[[row, c]] = noise(0.5)));
    });
    block.fc.weight.update(|w| {
        // The same positive function of the last token, four times.
        (4..8).for_each(|row| (w[[row, 8]], w[[row, 9]]) = (2.0, 2.0));
    });
    block.fc.bias.as_mut().unwrap().update(|b| (b[[0, 0]], b[[1, 0]]) = (-constant, -constant));
    block.proj.weight.update(|w| {
        (w[[5, 0]], w[[5, 1]]) = (1.0, -1.0);
        (w[[7, 2]], w[[7, 3]]) = (plan.second_path, -plan.second_path);
        for (i, sign) in [(4, 1.0), (5, -1.0), (6, 1.0), (7, -1.0)] {
            w[[7, i]] = sign * plan.cancel;
            w[[2, i]] = if i < 6 { sign * plan.cancel_elsewhere } else { 0.0 };
        }
        (8..16).for_each(|c| w[[7, c]] = if c % 2 == 0 { plan.noise } else { -plan.noise });
        (8..16).for_each(|row| (8..16).for_each(|c| w[[row, c]] = noise(0.3)));
    });
    params.unembed.as_mut().unwrap().update(|u| {
        for (token, sign) in [(ANSWERS.0, 1.2), (ANSWERS.1, -1.2)] {
            let token = usize::from(token);
            (u[[token, 5]], u[[token, 7]]) = (sign, sign);
            u[[token, 0]] = if plan.direct { sign } else { 0.0 };
        }
        (0..16).for_each(|token| (8..16).for_each(|c| u[[token, c]] += noise(0.1)));
        u[[13, 2]] = if plan.cancel_elsewhere > 0.0 { 4.0 } else { 0.0 };
    });
    model
}

/// Pairs of a cue among fillers. Templates differ in length.
pub fn pairs(n: usize, template: usize, cue: [u16; 2], seed: u64) -> Vec<Pair> {
    let lengths = 5 + template % 2..8 + template % 2;
    pairs_of(n, template, cue, (lengths, FILLERS), seed)
}

/// Pairs with these lengths and fillers.
fn pairs_of(
    n: usize,
    template: usize,
    cue: [u16; 2],
    (lengths, fillers): (Range<usize>, Range<u16>),
    seed: u64,
) -> Vec<Pair> {
    let mut rng = rng(seed);
    let mut one = |_| {
        let len = rng.random_range(lengths.clone());
        let mut positive: Vec<u16> = (0..len).map(|_| rng.random_range(fillers.clone())).collect();
        let at = rng.random_range(0..len - 1);
        positive[at] = cue[0];
        let mut negative = positive.clone();
        negative[at] = cue[1];
        Pair { positive, negative, answer: ANSWERS.0, alternative: ANSWERS.1, template }
    };
    (0..n).map(&mut one).collect()
}

/// The nodes of both paths, of which the first `paths` are kept; `constant` adds the one the constant needs.
pub fn path_nodes(paths: &[usize], constant: bool) -> Vec<Node> {
    let node = |kind, index| Node { site: Site { layer: 0, kind }, index };
    let mut nodes: Vec<Node> = paths
        .iter()
        .flat_map(|&p| {
            [
                node(SiteKind::AttnRead, p),
                node(SiteKind::Value, p),
                node(SiteKind::AttnWrite, 4 + 2 * p),
                node(SiteKind::MlpRead, 4 + 2 * p),
                node(SiteKind::Neuron, 2 * p),
                node(SiteKind::Neuron, 2 * p + 1),
                node(SiteKind::MlpWrite, 5 + 2 * p),
            ]
        })
        .collect();
    if constant {
        nodes.push(node(SiteKind::MlpRead, 2));
    }
    nodes
}

pub fn set(nodes: &[Node]) -> NodeSet {
    let space = NodeSpace::new(&config());
    let numbers: Vec<usize> = nodes.iter().map(|&n| space.number(n).unwrap()).collect();
    NodeSet::of(space, numbers)
}

/// A case with everything in order, to be spoilt by a test.
pub struct Bed {
    pub model: Model,
    pub means: Means,
    pub held_out: Vec<Pair>,
    pub held_out_templates: Vec<Pair>,
    pub lengths: Vec<Pair>,
    pub words: Vec<Pair>,
    pub selection: Vec<Pair>,
    pub settings: Settings,
    pub controls: Vec<Control>,
    pub claim: Claim,
    /// In place of the one that suits the circuit.
    pub calibration: Option<Calibration>,
}

impl Bed {
    pub fn new(plan: Plan) -> Self {
        Self::with(model(plan), 7)
    }

    pub fn with(model: Model, seed: u64) -> Self {
        let mut rng = rng(seed);
        // Training text: cues here and there among fillers.
        let text: Vec<u16> =
            (0..2400).map(|_| rng.random_range(0..14_u16)).map(|t| if t < 4 { t % 2 } else { t }).collect();
        let means = Means::compute(&model, &text, 12);
        let control = |kind| Control { kind, reached_target: false, loss: 0.69, nodes: 0, edges: 0 };
        Self {
            model,
            means,
            held_out: pairs(60, 0, CUE, 100 + seed),
            held_out_templates: pairs(60, 1, CUE, 200 + seed),
            lengths: pairs_of(60, 2, CUE, (9..12, FILLERS), 400 + seed),
            words: pairs_of(60, 3, CUE, (7..10, SOME_FILLERS), 500 + seed),
            selection: pairs(40, 0, CUE, 300 + seed),
            settings: Settings { random_sets: 100, random_pairs: 24, bootstrap: 400, seed, ..Settings::default() },
            controls: vec![control(ControlKind::NonsenseLabels), control(ControlKind::RandomWeights)],
            claim: Claim::Answer,
            calibration: None,
        }
    }

    /// The circuit of some nodes with all edges between them.
    pub fn circuit(&self, nodes: &NodeSet) -> Circuit {
        Circuit::new(&self.model, nodes.clone())
    }

    /// Judges a circuit of nodes with all edges, calibrated on the selection pairs as the search would.
    pub fn judge(&self, nodes: &NodeSet) -> Report {
        self.judge_within(nodes, &Limits::level(5))
    }

    /// The same, within limits.
    pub fn judge_within(&self, nodes: &NodeSet, limits: &Limits<'_>) -> Report {
        self.judge_circuit(&self.circuit(nodes), limits)
    }

    /// The same of a circuit that may leave out edges.
    pub fn judge_circuit(&self, circuit: &Circuit, limits: &Limits<'_>) -> Report {
        let mut messages = 0;
        let controls = Controls { done: &self.controls, cut_short: &[] };
        let judged = |case: &Case<'_>| verify(case, controls, &self.settings, limits, &mut |_| messages += 1).report;
        let report = self.with_case(circuit, judged);
        assert!(messages > 0, "progress is told");
        report
    }

    /// The report on a circuit that may not get as far as to tell progress.
    pub fn judge_circuit_silently(&self, circuit: &Circuit) -> Report {
        let controls = Controls { done: &self.controls, cut_short: &[] };
        let level = Limits::level(5);
        self.with_case(circuit, |case| verify(case, controls, &self.settings, &level, &mut |_| ()).report)
    }

    /// Does something with what is judged.
    pub fn with_case<R>(&self, circuit: &Circuit, f: impl FnOnce(&Case<'_>) -> R) -> R {
        let batches = openwork_circuit::batches(&self.selection, 8, 12);
        let keep = || openwork_circuit::Keep::new(circuit.nodes(), openwork_circuit::Ablation::Mean(&self.means));
        let fitted = || {
            let model = circuit.masked(&self.model).unwrap_or(Cow::Borrowed(&self.model));
            evaluate(&model, &batches, false, keep, |_| ()).calibrate()
        };
        let case = Case {
            model: &self.model,
            means: &self.means,
            circuit,
            claim: self.claim,
            calibration: self.calibration.unwrap_or_else(fitted),
            target_loss: 0.15,
            held_out: &self.held_out,
            shifts: &[
                Shift { split: Split::HeldOutTemplates, pairs: &self.held_out_templates },
                Shift { split: Split::Lengths, pairs: &self.lengths },
                Shift { split: Split::Vocabulary, pairs: &self.words },
            ],
            selection: &self.selection,
            meaning: None,
            model_sha256: "",
            domain: None,
        };
        f(&case)
    }
}
