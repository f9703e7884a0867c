//! Interventions of one step: what is ablated, and what the run is asked for.

use openwork_circuit::{Batch, NodeSet};
use openwork_model::{Cpu, Gradient, Params};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{
    adversary::{self, Adversary, SHARES},
    objective::{Context, Ran, Requirement, Values},
};

/// Kinds of intervention, in the order of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing is ablated.
    Clean,
    /// All but the circuit takes its mean.
    AtMeans,
    /// All but the circuit is zero.
    AtZero,
    /// All but the circuit takes its values on other prompts.
    OtherPrompts,
    /// A random part of the rest is ablated, wholly or in part.
    RandomRest,
    /// The adversary ablates nodes of the rest.
    Attack,
    /// Nodes of the circuit are ablated in the model, which may then do no better than the circuit without them.
    KnockOut,
}

/// A run of the model: coefficients of all nodes, values of ablated ones, and what is asked of it.
pub(crate) struct Intervention {
    pub kind: Kind,
    r: Vec<f32>,
    values: Values,
    requirement: Requirement,
}

/// The interventions of a step on one circuit, with the adversary aimed. `of_original` are the logit differences of the original model on
/// the batch.
pub(crate) fn interventions(
    (context, batch): (Context<'_>, &Batch),
    (circuit, of_original): (&NodeSet, &[f64]),
    (adversary, budget): (&mut Adversary, usize),
    [rng, of_knock_outs]: [&mut ChaCha8Rng; 2],
) -> Vec<Intervention> {
    let kept = coefficients(circuit);
    let random = random_rest(circuit, rng);
    let columns = other_prompts(batch, rng);
    let of_knock_out = || knock_out((context, batch), circuit, of_knock_outs);
    let aim = || {
        adversary.aim((context, batch), (circuit, of_original), budget, rng, &mut Cpu::default());
        adversary.coefficients()
    };
    let ((without, of_circuit), attacked) = rayon::join(of_knock_out, aim);
    let answers =
        |kind, r, values| Intervention { kind, r, values, requirement: Requirement::Answers(of_original.to_vec()) };
    vec![
        answers(Kind::Clean, vec![1.0; kept.len()], Values::Means),
        answers(Kind::AtMeans, kept.clone(), Values::Means),
        answers(Kind::AtZero, kept.clone(), Values::Zero),
        answers(Kind::OtherPrompts, kept, Values::OtherPrompts(columns)),
        answers(Kind::RandomRest, random, Values::Means),
        answers(Kind::Attack, attacked, Values::Means),
        Intervention {
            kind: Kind::KnockOut,
            r: without,
            values: Values::Means,
            requirement: Requirement::Contrast(of_circuit),
        },
    ]
}

/// An intervention that ablates nothing and asks for the original's answers.
pub(crate) fn untouched(of_original: Vec<f64>, nodes: usize) -> Intervention {
    Intervention {
        kind: Kind::Clean,
        r: vec![1.0; nodes],
        values: Values::Means,
        requirement: Requirement::Answers(of_original),
    }
}

/// Lanes of gradients: a fixed number, so that sums do not depend on the number of threads.
const LANES: usize = 2;

/// Runs interventions, each on its batch, and adds `factor` times the gradient of the mean of each requirement to `gradients`. Lane by
/// lane in a fixed order, whatever the number of threads.
pub(crate) fn run(
    context: Context<'_>,
    interventions: &[(&Batch, Intervention)],
    factor: f64,
    gradients: &mut Params<Gradient>,
) -> Vec<Ran> {
    let lane = |lane: usize| {
        let (mut own, mut cpu) = (zeros_like(context.model, gradients), Cpu::default());
        let mine = interventions.iter().skip(lane).step_by(LANES);
        let ran = mine.map(|(batch, Intervention { r, values, requirement, .. })| {
            let slopes = |d: &[f64]| requirement.of(d);
            context.gradient(batch, (r, values), &slopes, Some((factor, &mut own)), &mut cpu)
        });
        (ran.collect::<Vec<_>>(), own)
    };
    let lanes: Vec<(Vec<Ran>, Params<Gradient>)> = (0..LANES).into_par_iter().map(lane).collect();
    let mut ran: Vec<std::vec::IntoIter<Ran>> = Vec::new();
    for (of_lane, own) in lanes {
        ran.push(of_lane.into_iter());
        for (sum, g) in gradients.values_mut().into_iter().zip(own.values()) {
            sum.values_mut().iter_mut().zip(g.values()).for_each(|(s, g)| *s += g);
        }
    }
    (0..interventions.len()).filter_map(|i| ran[i % LANES].next()).collect()
}

/// Zeros at the same positions.
fn zeros_like(model: &openwork_model::Model, gradients: &Params<Gradient>) -> Params<Gradient> {
    let mut like = gradients.values().into_iter();
    Params::build(&model.config, |_, _| match like.next().expect("the same tree") {
        Gradient::Dense(g) => Gradient::zeros(g.dim()),
        Gradient::Support { pattern, .. } => Gradient::on(pattern.clone()),
    })
}

fn coefficients(nodes: &NodeSet) -> Vec<f32> {
    nodes.kept().iter().map(|&kept| f32::from(u8::from(kept))).collect()
}

/// Every node of the rest is ablated with a probability of its own step, half of these in part.
fn random_rest(circuit: &NodeSet, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let share: f64 = rng.random_range(0.0..1.0);
    let one = |&kept: &bool| {
        if kept || !rng.random_bool(share) {
            1.0
        } else if rng.random_bool(0.5) {
            0.0
        } else {
            rng.random_range(0.0..1.0_f32)
        }
    };
    circuit.kept().iter().map(one).collect()
}

/// For every column of the batch one of another sequence, drawn once a sequence and aligned at the last token.
fn other_prompts(batch: &Batch, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let sequences = batch.readout.len();
    let last: Vec<usize> = batch.readout.iter().enumerate().map(|(i, &column)| column - i * batch.seq_len).collect();
    let source: Vec<usize> = (0..sequences).map(|_| rng.random_range(0..sequences)).collect();
    let one = |column: usize| {
        let (sequence, at) = (column / batch.seq_len, column % batch.seq_len);
        let from = source[sequence];
        from * batch.seq_len + last[from].saturating_sub(last[sequence].saturating_sub(at))
    };
    (0..batch.tokens.len()).map(one).collect()
}

/// Nodes of the circuit to ablate: by turns of chance one, a random share, or the two or three that part circuit and model most, found
/// greedily. Returns the coefficients of the model without them, and the logit differences of the circuit without them.
fn knock_out((context, batch): (Context<'_>, &Batch), circuit: &NodeSet, rng: &mut ChaCha8Rng) -> (Vec<f32>, Vec<f64>) {
    let nodes: Vec<usize> = circuit.numbers().collect();
    let out = match rng.random_range(0..4) {
        0 => vec![nodes[rng.random_range(0..nodes.len())]],
        1 => {
            let share = rng.random_range(0.1..0.9);
            nodes.iter().copied().filter(|_| rng.random_bool(share)).collect()
        }
        _ => worst_knock_out((context, batch), circuit, rng.random_range(1..=3), rng),
    };
    let (of_circuit, of_model) = without(circuit, &out);
    let differences = context.differences(batch, &of_circuit, &Values::Means, &mut Cpu::default());
    (of_model, differences)
}

/// Coefficients of the circuit and of the model without some nodes.
fn without(circuit: &NodeSet, out: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let (mut of_circuit, mut of_model) = (coefficients(circuit), vec![1.0; circuit.kept().len()]);
    for &node in out {
        (of_circuit[node], of_model[node]) = (0.0, 0.0);
    }
    (of_circuit, of_model)
}

/// Nodes of the circuit, `most` of them, added one at a time: whichever parts the contrasts of circuit and model most. At most a dozen are tried
/// in each round, so that large circuits take no longer.
pub(crate) fn worst_knock_out(
    (context, batch): (Context<'_>, &Batch),
    circuit: &NodeSet,
    most: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<usize> {
    const TRIED: usize = 12;
    let mut left: Vec<usize> = circuit.numbers().collect();
    let mut out: Vec<usize> = vec![];
    for _ in 0..most.min(left.len()) {
        let first = if left.len() > TRIED { rng.random_range(0..left.len()) } else { 0 };
        let tried: Vec<usize> = (0..left.len().min(TRIED)).map(|i| left[(first + i) % left.len()]).collect();
        let gaps: Vec<f64> = tried
            .par_iter()
            .map(|&node| {
                let more: Vec<usize> = out.iter().copied().chain([node]).collect();
                contrast_gap((context, batch), circuit, &more)
            })
            .collect();
        let worst = (0..tried.len()).max_by(|&a, &b| gaps[a].total_cmp(&gaps[b])).expect("a node is left");
        out.push(tried[worst]);
        left.retain(|&node| node != tried[worst]);
    }
    out
}

/// Mean over pairs of `|d₊ − d₋|` of the model less that of the circuit, both without some nodes, in nats: above 0 where the model still tells
/// the prompts apart and the circuit does not.
pub(crate) fn contrast_gap((context, batch): (Context<'_>, &Batch), circuit: &NodeSet, out: &[usize]) -> f64 {
    let (of_circuit, of_model) = without(circuit, out);
    let [circuit, model] = [of_circuit, of_model].map(|r| {
        let d = context.differences(batch, &r, &Values::Means, &mut Cpu::default());
        d.chunks(2).map(|pair| (pair[0] - pair[1]).abs().min(6.0)).sum::<f64>() / (d.len() / 2) as f64
    });
    (model - circuit).abs()
}

/// Budget of this step's attack.
pub(crate) fn budget(circuit: &NodeSet, rng: &mut ChaCha8Rng) -> usize {
    adversary::budget(SHARES[rng.random_range(0..SHARES.len())], circuit)
}
