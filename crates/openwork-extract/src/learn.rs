//! Learning of a mask: AdamW over one number τ a node.

use std::ops::ControlFlow;

use openwork_circuit::LearnedMasks;
use openwork_tasks::Pair;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// State of a search after a step.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Number of the restart, from 0.
    pub restart: usize,
    /// Number of the step in it, from 0; the number of all steps while nodes are dropped one by one from the learned mask.
    pub step: usize,
    /// Mean loss of the step's batch under the mask, in nats per sequence; while nodes are dropped, the loss that may be reached.
    pub loss: f64,
    /// Number of open gates, or of nodes that are left.
    pub kept: usize,
}

/// Callback after every step; [`ControlFlow::Break`] ends the search.
pub type OnStep<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// The mean loss of a batch's sequences under the mask that τ is, and its gradient with respect to every gate, in a step of a restart.
pub(crate) type Gates<'a, E> = dyn FnMut(At, &[f32], &[Pair]) -> Result<(f64, Vec<f64>), E> + 'a;

/// Place in a search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// Step of the restart, from 0: where it is 0, nothing is left of the restart before.
    pub step: usize,
}

/// Learns τ, one number a node; `None` where `progress` ended it.
///
/// Each step minimises the gates' loss plus `k_coef · (open nodes)`, the price rising to `k_coef` over the first steps ([`rise`]), with the slope `σ(τ/T)(1 − σ(τ/T))/T` in place of that
/// of the step function (Gao et al. 2025, A.5).
pub(crate) fn learn<E>(
    gates: &mut Gates<'_, E>,
    n_nodes: usize,
    train: &[Pair],
    (masks, seed): (&LearnedMasks, u64),
    restart: usize,
    progress: &mut OnStep<'_>,
) -> Result<Option<Vec<f32>>, E> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(restart as u64);
    let mut tau: Vec<f32> = (0..n_nodes)
        .map(|_| {
            let noise: f64 = StandardNormal.sample(&mut rng);
            (masks.init_bias + masks.init_noise * noise).clamp(-1.0, 1.0) as f32
        })
        .collect();
    let mut adam = Adam { m: vec![0.0; n_nodes], v: vec![0.0; n_nodes] };
    let mut order: Vec<usize> = vec![];
    for step in 0..masks.steps {
        let batch = draw(train, masks.batch_pairs, &mut order, &mut rng);
        let (loss, mut gradient) = gates(At { step }, &tau, &batch)?;
        let price = masks.k_coef * rise(step, masks);
        for (g, &t) in gradient.iter_mut().zip(&tau) {
            let sigmoid = 1.0 / (1.0 + (-f64::from(t) / masks.temperature).exp());
            *g = (*g + price) * sigmoid * (1.0 - sigmoid) / masks.temperature;
        }
        adam.step(&mut tau, &gradient, step, masks);
        let kept = tau.iter().filter(|&&t| t > 0.0).count();
        if progress(Progress { restart, step, loss, kept }).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(tau))
}

/// Part of the price in a step: from 0 to 1 over `price_rise` of the steps, 1 after that. With an adversary that still learns, a full price closes
/// the nodes that it would need to be kept from.
fn rise(step: usize, masks: &LearnedMasks) -> f64 {
    let over = masks.price_rise * masks.steps as f64;
    if over > 0.0 { ((step as f64 + 1.0) / over).min(1.0) } else { 1.0 }
}

/// The next pairs of a random order; a new order begins where one ends.
fn draw(train: &[Pair], pairs: usize, order: &mut Vec<usize>, rng: &mut ChaCha8Rng) -> Vec<Pair> {
    let mut batch = Vec::with_capacity(pairs);
    while batch.len() < pairs.min(train.len()) {
        if order.is_empty() {
            *order = (0..train.len()).collect();
            for last in (1..order.len()).rev() {
                order.swap(last, rng.random_range(0..=last));
            }
        }
        batch.push(train[order.pop().expect("just filled")].clone());
    }
    batch
}

/// First and second moments of AdamW with β₁ = 0.9.
struct Adam {
    m: Vec<f64>,
    v: Vec<f64>,
}

impl Adam {
    /// One step on τ, which stays in [−1, 1]; the gradient is clipped to a root mean square of 1, only where larger.
    fn step(&mut self, tau: &mut [f32], gradient: &[f64], step: usize, masks: &LearnedMasks) {
        let rms = (gradient.iter().map(|g| g * g).sum::<f64>() / gradient.len() as f64).sqrt();
        let clip = 1.0 / rms.max(1.0);
        let warmup = (step as f64 + 1.0) / (masks.warmup_fraction * masks.steps as f64).max(1.0);
        let lr = masks.lr * warmup.min(1.0 - step as f64 / masks.steps as f64);
        let (c1, c2) = (1.0 - 0.9_f64.powi(step as i32 + 1), 1.0 - masks.beta2.powi(step as i32 + 1));
        for (((t, g), m), v) in tau.iter_mut().zip(gradient).zip(&mut self.m).zip(&mut self.v) {
            let g = g * clip;
            *m += (g - *m) * 0.1;
            *v += (g * g - *v) * (1.0 - masks.beta2);
            let update = (*m / c1) / ((*v / c2).sqrt() + 1e-8) + masks.weight_decay * f64::from(*t);
            *t = (f64::from(*t) - lr * update).clamp(-1.0, 1.0) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_rises_to_the_whole_and_is_the_whole_by_default() {
        let default = LearnedMasks { steps: 10, ..LearnedMasks::default() };
        assert!((0..10).all(|step| rise(step, &default) == 1.0));
        let half = LearnedMasks { price_rise: 0.5, ..default };
        let found: Vec<f64> = (0..7).map(|step| rise(step, &half)).collect();
        assert_eq!(found, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0]);
    }
}
