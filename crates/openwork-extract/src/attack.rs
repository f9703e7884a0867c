//! Attacks by gradient on nodes outside a circuit, by one scheme for all prompts.
//!
//! They shape circuits and judge none: `openwork-verify` has attacks of its own.

use std::collections::BTreeSet;

use openwork_circuit::{Claim, NodeSet};

use crate::bench::{Bench, coefficients};

/// Attack on a circuit: nodes outside ablated in part, whose shares add up to its budget at most.
#[derive(Clone, Debug)]
pub(crate) struct Attack {
    /// Part that is kept of every node.
    pub r: Vec<f32>,
    /// Share of the model's answers that are left.
    pub agreement: f64,
    /// Mean loss of the model's answers, nats.
    pub loss: f64,
}

/// Size and effort of an attack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Nodes that it may ablate.
    pub budget: usize,
    /// Steps from each start.
    pub steps: usize,
    /// Agreement below which it has succeeded, and looks no further.
    pub enough: f64,
}

/// Templates whose prompts an attack tries to part from all others.
const TEMPLATES: usize = 2;

/// Nodes outside that starts ablate a little, all alike: at the model itself the answers are sure, and their loss is flat.
const LITTLE: [f32; 2] = [0.7, 0.3];

/// Starts of attacks on a circuit, which no budget changes: a slope by node each, negative where ablation helps the attack.
pub(crate) fn starts(bench: &Bench<'_>, claim: Claim, circuit: &NodeSet) -> Vec<Vec<f64>> {
    let whole = vec![1.0; circuit.kept().len()];
    let losses = |d: &[f64]| bench.measure.losses(d);
    let slope_at = |r: &[f32]| bench.gradient(r, bench.mean(), &losses).by_coefficient;
    let mut starts: Vec<Vec<f64>> = LITTLE.map(|outside| slope_at(&coefficients(circuit, outside))).into();
    // Pushes at the model: against its answers; of an answer all prompts one way; of a contrast, which such a push leaves as it is, the
    // prompts of one template one way and all others the other.
    let sides = |sequence: usize| match claim {
        Claim::Answer => vec![1.0],
        Claim::Contrast => {
            let templates: BTreeSet<usize> = bench.pairs.iter().map(|p| p.template).collect();
            let parted = templates.iter().filter(|_| templates.len() > 1).take(TEMPLATES);
            parted.map(|t| if bench.pairs[sequence / 2].template == *t { 1.0 } else { -1.0 }).collect()
        }
    };
    let push = |towards: &(dyn Fn(usize) -> f64 + Sync)| {
        let slopes = |d: &[f64]| (0..d.len()).map(|i| (towards(i) * d[i], towards(i))).collect::<Vec<_>>();
        bench.gradient(&whole, bench.mean(), &slopes).by_coefficient
    };
    starts.push(push(&|i| -bench.measure.sign(i)));
    for direction in 0..sides(0).len() {
        let one = push(&|i| bench.measure.sign(i).abs() * sides(i)[direction]);
        starts.push(one.iter().map(|g| -g).collect());
        starts.push(one);
    }
    starts
}

/// The worst attack found on a circuit: the nodes that each start names, and the scheme `before`; from the two that are worst of these the
/// method of Frank and Wolfe on the mean of the [`losses`](crate::bench::Measure::losses) of the model's answers, `a ← a + 2/(t + 3) (v − a)`
/// with `a = 1 − r` and v the nodes outside, as many as the budget, whose ablation raises the loss most by its slope at a. Of all schemes on
/// the way the one counts that turns most answers, then that of the largest loss; it climbs no further once that is enough.
pub(crate) fn attack(
    bench: &Bench<'_>,
    circuit: &NodeSet,
    starts: &[Vec<f64>],
    effort: Effort,
    before: Option<&[f32]>,
) -> Attack {
    let losses = |d: &[f64]| bench.measure.losses(d);
    let run = |ablated: Vec<f64>| {
        let r: Vec<f32> = ablated.iter().map(|a| (1.0 - a) as f32).collect();
        let ran = bench.gradient(&r, bench.mean(), &losses);
        let agreement = bench.measure.agreement(&ran.differences);
        Tried { attack: Attack { r, agreement, loss: ran.value }, ablated, slope: ran.by_coefficient }
    };
    let again = before.map(|r| within(r, circuit, effort.budget));
    let mut firsts: Vec<Vec<f64>> = vec![];
    for first in starts.iter().map(|slope| vertex(slope, circuit, effort.budget)).chain(again) {
        if !firsts.contains(&first) {
            firsts.push(first);
        }
    }
    let mut tried: Vec<Tried> = firsts.into_iter().map(run).collect();
    tried.sort_by(|a, b| a.attack.rank().partial_cmp(&b.attack.rank()).expect("finite"));
    let mut worst = tried[0].attack.clone();
    for mut at in tried.into_iter().take(CLIMBED) {
        for step in 0..effort.steps {
            if worst.agreement < effort.enough {
                return worst;
            }
            let towards = 2.0 / (step as f64 + 3.0);
            let best = vertex(&at.slope, circuit, effort.budget);
            at = run(at.ablated.iter().zip(best).map(|(a, v)| a + towards * (v - a)).collect());
            if at.attack.rank() < worst.rank() {
                worst = at.attack.clone();
            }
        }
    }
    worst
}

/// Starts from which an attack goes on.
const CLIMBED: usize = 2;

/// A scheme that was run, with the slope of its loss by r.
struct Tried {
    attack: Attack,
    ablated: Vec<f64>,
    slope: Vec<f64>,
}

impl Attack {
    /// Less for worse attacks on the answers.
    fn rank(&self) -> (f64, f64) {
        (self.agreement, -self.loss)
    }
}

/// Nodes outside by how much of the attack's loss they are for, most first: `gᵢ (1 − rᵢ)`, the slope of the loss by rᵢ, added up at the
/// attack, half of the way to the model and near the model, times the part that is ablated. Those that hold the loss down are left out.
pub(crate) fn culprits(bench: &Bench<'_>, circuit: &NodeSet, r: &[f32]) -> Vec<usize> {
    let losses = |d: &[f64]| bench.measure.losses(d);
    let mut score = vec![0.0; r.len()];
    for back in [0.0, 0.5, 0.8] {
        let at: Vec<f32> = r.iter().map(|r| r + back * (1.0 - r)).collect();
        let slope = bench.gradient(&at, bench.mean(), &losses).by_coefficient;
        score.iter_mut().zip(slope).zip(r).for_each(|((s, g), r)| *s += g * f64::from(1.0 - r));
    }
    outside_by(&score, circuit)
}

/// Nodes outside of negative score, least first, ties by number.
pub(crate) fn outside_by(score: &[f64], circuit: &NodeSet) -> Vec<usize> {
    let mut order: Vec<usize> = (0..score.len()).filter(|&n| !circuit.kept()[n] && score[n] < 0.0).collect();
    order.sort_by(|&a, &b| score[a].total_cmp(&score[b]).then(a.cmp(&b)));
    order
}

/// The scheme that ablates the first `budget` of them wholly.
fn vertex(slope: &[f64], circuit: &NodeSet, budget: usize) -> Vec<f64> {
    let mut vertex = vec![0.0; slope.len()];
    outside_by(slope, circuit).into_iter().take(budget).for_each(|n| vertex[n] = 1.0);
    vertex
}

/// A scheme of before on what is outside now, made smaller where it is beyond the budget.
fn within(r: &[f32], circuit: &NodeSet, budget: usize) -> Vec<f64> {
    let part = |(r, &kept): (&f32, &bool)| if kept { 0.0 } else { f64::from(1.0 - r) };
    let ablated: Vec<f64> = r.iter().zip(circuit.kept()).map(part).collect();
    let total: f64 = ablated.iter().sum();
    let factor = if total > budget as f64 { budget as f64 / total } else { 1.0 };
    ablated.iter().map(|a| a * factor).collect()
}
