//! The adversary of training: it ablates a few nodes outside a circuit, and goes on from step to step.
//!
//! It shares no code with the attacks of the verifier, which judge what it trained.

use openwork_circuit::{Batch, NodeSet};
use openwork_model::Cpu;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::objective::{Context, Values, sigmoid};

/// Budgets of attacks as shares of the circuit's size: a little more than those of the verifier.
pub(crate) const SHARES: [f64; 2] = [0.3, 1.2];

/// Goal of an attack on the logit differences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Aim {
    /// Towards the answer on all prompts.
    Up,
    /// Towards the alternative on all prompts.
    Down,
    /// Against the original model's answer on every prompt.
    Against,
}

impl Aim {
    pub const ALL: [Self; 3] = [Self::Up, Self::Down, Self::Against];

    /// Slope of what the attack raises, by the logit difference.
    fn slope(self, of_original: f64) -> f64 {
        match self {
            Self::Up => 1.0,
            Self::Down => -1.0,
            Self::Against => -of_original.signum(),
        }
    }
}

/// Scheme of an adversary on one circuit: `1 − r` of every node.
#[derive(Clone, Debug)]
pub(crate) struct Adversary {
    ablated: Vec<f64>,
}

impl Adversary {
    pub fn new(nodes: usize) -> Self {
        Self { ablated: vec![0.0; nodes] }
    }

    /// Coefficients of its scheme.
    pub fn coefficients(&self) -> Vec<f32> {
        self.ablated.iter().map(|a| (1.0 - a) as f32).collect()
    }

    /// Before a run: three times in four it goes most of the way to the best whole nodes for an aim, by slopes at the model.
    pub fn aim(
        &mut self,
        (context, batch): (Context<'_>, &Batch),
        (circuit, of_original): (&NodeSet, &[f64]),
        budget: usize,
        rng: &mut ChaCha8Rng,
        cpu: &mut Cpu,
    ) {
        let Some(&aim) = Aim::ALL.get(rng.random_range(0..=Aim::ALL.len())) else { return };
        let whole = vec![1.0; self.ablated.len()];
        self.towards(aimed(context, batch, (&whole, circuit), (aim, of_original), budget, cpu), 0.7);
    }

    /// After a run with this gradient of its requirement with respect to r: half of the way to the nodes that hurt most there.
    pub fn follow(&mut self, by_coefficient: &[f64], circuit: &NodeSet, budget: usize) {
        self.towards(vertex(by_coefficient, circuit, budget), 0.5);
    }

    fn towards(&mut self, vertex: Vec<f64>, part: f64) {
        self.ablated.iter_mut().zip(vertex).for_each(|(a, v)| *a += part * (v - *a));
    }
}

/// Whole nodes outside the circuit, `budget` at most, whose ablation at coefficients `r` moves the mean logit difference most as `aim` says.
fn aimed(
    context: Context<'_>,
    batch: &Batch,
    (r, circuit): (&[f32], &NodeSet),
    (aim, of_original): (Aim, &[f64]),
    budget: usize,
    cpu: &mut Cpu,
) -> Vec<f64> {
    let slopes = |d: &[f64]| -> Vec<(f64, f64)> {
        d.iter().zip(of_original).map(|(d, p)| (aim.slope(*p) * d, aim.slope(*p))).collect()
    };
    let ran = context.gradient(batch, (r, &Values::Means), &slopes, None, cpu);
    vertex(&ran.by_coefficient, circuit, budget)
}

/// Nodes outside the circuit of most negative slope: whose ablation raises the objective most.
fn vertex(by_coefficient: &[f64], circuit: &NodeSet, budget: usize) -> Vec<f64> {
    let outside = |n: &usize| !circuit.kept()[*n] && by_coefficient[*n] < 0.0;
    let mut order: Vec<usize> = (0..by_coefficient.len()).filter(outside).collect();
    order.sort_by(|&a, &b| by_coefficient[a].total_cmp(&by_coefficient[b]).then(a.cmp(&b)));
    let mut vertex = vec![0.0; by_coefficient.len()];
    order.iter().take(budget).for_each(|&n| vertex[n] = 1.0);
    vertex
}

/// Nodes that an attack may ablate.
pub(crate) fn budget(share: f64, circuit: &NodeSet) -> usize {
    ((share * circuit.len() as f64).ceil() as usize).max(2)
}

/// Coefficients of the worst attack of a few on a batch: each aim, climbed by Frank and Wolfe's method on the loss of the original
/// model's answers.
pub(crate) fn worst(
    (context, batch): (Context<'_>, &Batch),
    (circuit, of_original): (&NodeSet, &[f64]),
    budget: usize,
    cpu: &mut Cpu,
) -> Vec<f32> {
    const STEPS: usize = 3;
    let signs: Vec<f64> = of_original.iter().map(|d| if *d < 0.0 { -1.0 } else { 1.0 }).collect();
    let loss = |d: &[f64]| -> Vec<(f64, f64)> {
        let of = |(d, s): (&f64, &f64)| (openwork_circuit::softplus(-s * d), -s * sigmoid(-s * d));
        d.iter().zip(&signs).map(of).collect()
    };
    let whole = vec![1.0_f32; circuit.kept().len()];
    let mut best = (f64::NEG_INFINITY, whole.clone());
    for aim in Aim::ALL {
        let mut adversary =
            Adversary { ablated: aimed(context, batch, (&whole, circuit), (aim, of_original), budget, cpu) };
        for step in 0..=STEPS {
            let r = adversary.coefficients();
            let ran = context.gradient(batch, (&r, &Values::Means), &loss, None, cpu);
            if ran.value > best.0 {
                best = (ran.value, r);
            }
            adversary.towards(vertex(&ran.by_coefficient, circuit, budget), 2.0 / (step as f64 + 3.0));
        }
    }
    best.1
}
