//! The objectives beside the task loss: the divergence of the circuit from the model, alone or with that under an
//! adversary.
//!
//! The adversary ablates a few closed nodes, by one scheme for the whole batch (after VPD's adversarial masks).

use openwork_circuit::{LearnedMasks, Means, NodeSpace, contrast, differences, log_softmax, softplus};
use openwork_model::{Matrix, NoTap};
use openwork_tasks::Pair;
use rayon::prelude::*;

use crate::{
    mask::heaviside,
    prompts::{Blend, CHUNKS, Prompts, Runner, prompts},
};

/// KL(model ‖ run) in nats, summed over sequences, and its gradient with respect to every node's coefficient.
struct Divergence {
    kl: f64,
    gradient: Vec<f64>,
}

/// A batch of pairs with the model's own distributions on it.
pub(crate) struct Target<'a> {
    runner: &'a Runner<'a>,
    space: &'a NodeSpace,
    means: &'a Means,
    chunks: Vec<(Prompts, Matrix)>,
    sequences: f64,
}

impl<'a> Target<'a> {
    /// A fixed split into chunks, added up in order: the number of threads does not matter.
    pub fn new(runner: &'a Runner<'a>, space: &'a NodeSpace, means: &'a Means, pairs: &[Pair]) -> Self {
        let chunks =
            prompts(pairs, pairs.len().div_ceil(CHUNKS), &runner.model.config).into_par_iter().map(|prompts| {
                let mut p = runner.logits(&prompts, &mut NoTap);
                softmax(&mut p);
                (prompts, p)
            });
        Self { runner, space, means, chunks: chunks.collect(), sequences: 2.0 * pairs.len() as f64 }
    }

    /// With node n kept to the part `r[n]` and its mean for the rest.
    fn divergence(&self, r: &[f32]) -> Divergence {
        let one = |(prompts, p): &(Prompts, Matrix)| {
            self.runner.gradient(prompts, Blend::new(self.space, r, self.means), |logits| {
                let mut q = logits.clone();
                softmax(&mut q);
                let kl = p
                    .iter()
                    .zip(&q)
                    .map(|(&p, &q)| f64::from(p) * (f64::from(p.max(1e-30)) / f64::from(q.max(1e-30))).ln());
                (kl.sum(), q - p)
            })
        };
        let parts: Vec<(f64, Vec<f32>)> = self.chunks.par_iter().map(one).collect();
        let mut gradient = vec![0.0; r.len()];
        for (_, part) in &parts {
            gradient.iter_mut().zip(part).for_each(|(g, &x)| *g += f64::from(x) / self.sequences);
        }
        Divergence { kl: parts.iter().map(|p| p.0).sum::<f64>() / self.sequences, gradient }
    }

    /// The objective [`Objective::Kl`](openwork_circuit::Objective::Kl) under a mask (node n open where `tau[n] > 0`), and its gradient by gate.
    pub fn kl(&self, tau: &[f32]) -> (f64, Vec<f64>) {
        let r: Vec<f32> = tau.iter().map(|&t| heaviside(t)).collect();
        let Divergence { kl, gradient } = self.divergence(&r);
        (kl, gradient)
    }

    /// The objective [`Objective::Adversarial`](openwork_circuit::Objective::Adversarial).
    ///
    /// The adversary goes on from step to step: every move goes part of the way to the closed nodes that hurt most by the slope of the run before,
    /// of the last step's for the first move. The run after the last move is also the one whose gradient the gates get.
    pub fn adversarial(&self, tau: &[f32], adversary: &mut Adversary, masks: &LearnedMasks) -> (f64, Vec<f64>) {
        let (kl, mut gradient) = self.kl(tau);
        let closed: Vec<bool> = tau.iter().map(|&t| t <= 0.0).collect();
        let open = closed.iter().filter(|c| !**c).count();
        let budget = (masks.adversary_share * open as f64).max(1.0);
        adversary.ablated.resize(tau.len(), 0.0);
        let ablated = &mut adversary.ablated;
        // Nodes that have opened since are safe.
        ablated.iter_mut().zip(&closed).for_each(|(a, closed)| *a *= f64::from(u8::from(*closed)));
        let mut attacked = None;
        for ascent in 0..masks.adversary_ascents {
            // At the model itself KL is flat: then the gradient at a small ablation, not the same for all nodes, or
            // those that cancel each other would go on doing so.
            if ablated.iter().all(|a| *a == 0.0) || adversary.slope.len() != tau.len() {
                let little = closed.iter().enumerate().map(|(n, c)| f64::from(u8::from(*c)) * 0.2 * uneven(n));
                adversary.slope = self.divergence(&whole_but(&little.collect::<Vec<_>>())).gradient;
            }
            let vertex = vertex(&adversary.slope, &closed, budget);
            let towards = if ascent == 0 { FIRST_MOVE } else { NEXT_MOVES };
            ablated.iter_mut().zip(vertex).for_each(|(a, v)| *a += towards * (v - *a));
            let run = self.divergence(&whole_but(ablated));
            adversary.slope.clone_from(&run.gradient);
            attacked = Some(run);
        }
        let attacked = attacked.expect("an adversary makes a move");
        // Opening a node takes it from the adversary: its coefficient goes from r to 1.
        for ((g, by_coefficient), a) in gradient.iter_mut().zip(&attacked.gradient).zip(ablated.iter()) {
            *g += by_coefficient * a;
        }
        (kl + attacked.kl, gradient)
    }
}

/// State of the adversary, which goes on from step to step of one restart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adversary {
    /// Its scheme, `1 − r` of every node.
    ablated: Vec<f64>,
    /// Slope of the divergence by r in its last run.
    slope: Vec<f64>,
}

/// Part of the way to the best vertex that the adversary goes in its first move of a step, and in others.
const FIRST_MOVE: f64 = 0.5;
const NEXT_MOVES: f64 = 0.3;

/// Spread evenly over [0, 1) and unlike for neighbours: multiples of the golden ratio.
fn uneven(n: usize) -> f64 {
    (n as f64 * 0.618_033_988_749_895).fract()
}

fn whole_but(ablated: &[f64]) -> Vec<f32> {
    ablated.iter().map(|a| (1.0 - a) as f32).collect()
}

/// The closed nodes whose ablation raises the divergence most, `budget` of them.
fn vertex(gradient: &[f64], closed: &[bool], budget: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..gradient.len()).filter(|&n| closed[n] && gradient[n] < 0.0).collect();
    order.sort_by(|&a, &b| gradient[a].total_cmp(&gradient[b]).then(a.cmp(&b)));
    let mut vertex = vec![0.0; gradient.len()];
    order.iter().take(budget.ceil() as usize).for_each(|&n| vertex[n] = 1.0);
    vertex
}

/// `x ← exp x / Σ exp x`, by column.
fn softmax(logits: &mut Matrix) {
    log_softmax(logits);
    logits.mapv_inplace(f32::exp);
}

/// Cost to the model of the worst scheme that a short attack finds on closed nodes: the rise of the mean of
/// `−log p(the model's answer)` over the two candidates, in nats per sequence.
pub(crate) fn attack_cost(
    runner: &Runner<'_>,
    space: &NodeSpace,
    means: &Means,
    nodes: &openwork_circuit::NodeSet,
    pairs: &[Pair],
    masks: &LearnedMasks,
) -> f64 {
    const STEPS: usize = 3;
    let prompts = prompts(pairs, pairs.len().div_ceil(CHUNKS), &runner.model.config);
    let closed: Vec<bool> = nodes.kept().iter().map(|k| !k).collect();
    let budget = (masks.adversary_share * nodes.len() as f64).max(1.0);
    let signs_of = |p: &Prompts| differences(&runner.logits(p, &mut NoTap), &p.batch).map(f64::signum).collect();
    let signs: Vec<Vec<f64>> = prompts.par_iter().map(signs_of).collect();
    // The slope of the loss, or what all answers are pushed towards: at the model losses of sure answers have none.
    let loss = |ablated: &[f64], push: Option<f64>| -> (f64, Vec<f64>) {
        let r = whole_but(ablated);
        let one = |(prompts, signs): (&Prompts, &Vec<f64>)| {
            runner.gradient(prompts, Blend::new(space, &r, means), |logits| {
                contrast(logits, &prompts.batch, |sequence, d| {
                    let sign: f64 = signs[sequence];
                    let x = -sign * d;
                    (softplus(x), push.unwrap_or(-sign / (1.0 + (-x).exp())))
                })
            })
        };
        let parts: Vec<(f64, Vec<f32>)> = prompts.par_iter().zip(&signs).map(one).collect();
        let mut gradient = vec![0.0; r.len()];
        parts.iter().for_each(|(_, p)| gradient.iter_mut().zip(p).for_each(|(g, &x)| *g += f64::from(x)));
        (parts.iter().map(|p| p.0).sum::<f64>() / (2 * pairs.len()) as f64, gradient)
    };
    let whole = vec![0.0; closed.len()];
    let (clean, upwards) = loss(&whole, Some(1.0));
    let mut worst = clean;
    for direction in [1.0, -1.0] {
        let push: Vec<f64> = upwards.iter().map(|g| direction * g).collect();
        let mut ablated = vertex(&push, &closed, budget);
        for step in 0..STEPS {
            let (value, gradient) = loss(&ablated, None);
            worst = worst.max(value);
            let towards = 2.0 / (step as f64 + 3.0);
            let vertex = vertex(&gradient, &closed, budget);
            ablated.iter_mut().zip(vertex).for_each(|(a, v)| *a += towards * (v - *a));
        }
    }
    worst - clean
}

#[cfg(test)]
mod tests {
    use openwork_model::{Config, Model};

    use super::*;

    #[test]
    fn gradients_of_the_divergence_are_finite_differences() {
        let config = Config { vocab_size: 12, n_ctx: 6, n_layer: 1, act_density: None, ..Config::default() };
        let mut model = Model::init(config, 2);
        model.params.values_mut().into_iter().for_each(|w| w.update(|w| *w *= 3.0));
        let means = Means::compute(&model, &(0..12).collect::<Vec<u16>>(), 6);
        let space = NodeSpace::new(&model.config);
        let pairs: Vec<Pair> = (0..4)
            .map(|i| Pair { positive: vec![i, 5, 6], negative: vec![i, 7], answer: 9, alternative: 10, template: 0 })
            .collect();
        let runner = Runner::new(&model);
        let target = Target::new(&runner, &space, &means, &pairs);
        assert!(target.divergence(&vec![1.0; space.len()]).kl.abs() < 1e-6, "the model is the model");
        let r: Vec<f32> = (0..space.len()).map(|n| 0.3 + 0.4 * ((n * 5 % 7) as f32 / 7.0)).collect();
        let gradient = target.divergence(&r).gradient;
        let h = 3e-3_f32;
        let moved = |sign: f32| -> Vec<f32> {
            r.iter().enumerate().map(|(n, r)| r + sign * h * (((n * 11) % 5) as f32 - 2.0)).collect()
        };
        let slope = (target.divergence(&moved(1.0)).kl - target.divergence(&moved(-1.0)).kl) / (2.0 * f64::from(h));
        let along: f64 = gradient.iter().enumerate().map(|(n, g)| g * (((n * 11) % 5) as f64 - 2.0)).sum();
        assert!((slope - along).abs() < 0.02 * slope.abs().max(0.05), "{slope} {along}");
    }
}
