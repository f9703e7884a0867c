//! Contrast pairs as trees of their prefixes: what masks are learned and selected on.
//!
//! A pass over a tree computes every common beginning once, the first reads once a token, and the last block at the last
//! tokens alone ([`Prefixes`]); sums run in another order than over padded sequences.

use std::{ops::ControlFlow, sync::Mutex};

use openwork_circuit::{Batch, Means, NodeSpace, Outcome, batches};
use openwork_model::{Config, Cpu, Matrix, Model, Prefixes, Site, Tap};
use openwork_tasks::Pair;
use rayon::prelude::*;

/// Chunks that a step's pairs are cut into: threads work on them, and their sums are added up in order.
pub(crate) const CHUNKS: usize = 4;

/// A few pairs.
pub(crate) struct Prompts {
    /// Their sequences and candidates.
    pub batch: Batch,
    prefixes: Prefixes,
}

/// `pairs` in order of their tokens, so that those that begin alike come together, `at_once` of them to an element.
pub(crate) fn prompts(pairs: &[Pair], at_once: usize, config: &Config) -> Vec<Prompts> {
    let mut sorted: Vec<&Pair> = pairs.iter().collect();
    sorted.sort_by(|a, b| (&a.positive, &a.negative).cmp(&(&b.positive, &b.negative)));
    let sorted: Vec<Pair> = sorted.into_iter().cloned().collect();
    sorted.par_chunks(at_once.max(1)).map(|pairs| Prompts::new(pairs, config)).collect()
}

impl Prompts {
    /// # Panics
    /// When there is no pair.
    pub fn new(pairs: &[Pair], config: &Config) -> Self {
        let prefixes = Prefixes::new(pairs.iter().flat_map(Pair::prompts), config);
        Self { batch: batches(pairs, pairs.len(), config.n_ctx).swap_remove(0), prefixes }
    }
}

/// A model that runs on prompts, with the memory of passes that are over; no result depends on which of it a pass gets.
pub(crate) struct Runner<'a> {
    pub model: &'a Model,
    free: Mutex<Vec<Cpu>>,
}

impl<'a> Runner<'a> {
    pub fn new(model: &'a Model) -> Self {
        Self { model, free: Mutex::default() }
    }

    /// Logits `[vocab, sequences]` at the last tokens.
    pub fn logits(&self, prompts: &Prompts, tap: &mut dyn Tap) -> Matrix {
        self.with_memory(|cpu| {
            let pass = self.model.forward_prefixes(&prompts.prefixes, tap, cpu);
            let logits = pass.logits.clone();
            pass.recycle(cpu);
            logits
        })
    }

    /// A loss, which is given the logits and returns its value and its gradient by them, and its gradient by every
    /// node's coefficient.
    pub fn gradient(
        &self,
        prompts: &Prompts,
        mut blend: Blend<'_>,
        loss: impl FnOnce(&Matrix) -> (f64, Matrix),
    ) -> (f64, Vec<f32>) {
        self.with_memory(|cpu| {
            let pass = self.model.forward_prefixes(&prompts.prefixes, &mut blend, cpu);
            let (loss, dlogits) = loss(&pass.logits);
            self.model.backward_prefixes(&prompts.prefixes, &pass, &dlogits, &mut blend, cpu);
            pass.recycle(cpu);
            (loss, blend.gradient)
        })
    }

    /// Logit differences of every sequence, each element of `prompts` under a tap of its own.
    pub fn outcome<T: Tap>(&self, prompts: &[Prompts], tap: impl Fn() -> T + Sync) -> Outcome {
        let one = |prompts: &Prompts| prompts.batch.outcome(&self.logits(prompts, &mut tap()), false);
        let parts: Vec<Outcome> = prompts.par_iter().map(one).collect();
        let mut all = Outcome::default();
        parts.into_iter().for_each(|part| all.append(part));
        all
    }

    fn with_memory<R>(&self, f: impl FnOnce(&mut Cpu) -> R) -> R {
        let mut cpu = self.free.lock().expect("no pass panics while it holds the list").pop().unwrap_or_default();
        let result = f(&mut cpu);
        self.free.lock().expect("no pass panics while it holds the list").push(cpu);
        result
    }
}

/// [`Partial`](openwork_circuit::Partial) ablation at means, `x ← mean + r (x − mean)`, for passes over prefixes; sums of gradients run in sixteen lanes.
pub(crate) struct Blend<'a> {
    space: &'a NodeSpace,
    r: &'a [f32],
    means: &'a [f32],
    /// `x − mean` of every site, pushed in forward and popped in backward.
    deviations: Vec<Vec<f32>>,
    /// `∂loss/∂r`, by node number.
    gradient: Vec<f32>,
}

impl<'a> Blend<'a> {
    /// # Panics
    /// When `r` has not one coefficient a node.
    pub fn new(space: &'a NodeSpace, r: &'a [f32], means: &'a Means) -> Self {
        assert_eq!(r.len(), space.len(), "one coefficient a node");
        Self { space, r, means: means.values(), deviations: vec![], gradient: vec![0.0; r.len()] }
    }
}

impl Tap for Blend<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let Some(range) = self.space.range(site) else { return ControlFlow::Continue(()) };
        let mut deviations = Vec::with_capacity(value.len());
        let columns = value.ncols();
        let values = value.as_slice_mut().expect("row-major");
        for (row, node) in values.chunks_exact_mut(columns).zip(range) {
            let (mean, r) = (self.means[node], self.r[node]);
            let first = deviations.len();
            deviations.extend(row.iter().map(|x| x - mean));
            if r == 0.0 {
                row.fill(mean);
            } else if r != 1.0 {
                row.iter_mut().zip(&deviations[first..]).for_each(|(x, d)| *x = r.mul_add(*d, mean));
            }
        }
        self.deviations.push(deviations);
        ControlFlow::Continue(())
    }

    fn backward(&mut self, site: Site, gradient: &mut Matrix) {
        let Some(range) = self.space.range(site) else { return };
        let deviations = self.deviations.pop().expect("backward mirrors forward");
        let columns = gradient.ncols();
        let rows = gradient.as_slice_mut().expect("row-major").chunks_exact_mut(columns);
        for ((row, deviation), node) in rows.zip(deviations.chunks_exact(columns)).zip(range) {
            self.gradient[node] += product(row, deviation);
            let r = self.r[node];
            if r == 0.0 {
                row.fill(0.0);
            } else if r != 1.0 {
                row.iter_mut().for_each(|g| *g *= r);
            }
        }
    }
}

/// `Σ a b`, in sixteen sums side by side whose number is no machine's.
fn product(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let ((whole_a, rest_a), (whole_b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for (a, b) in whole_a.iter().zip(whole_b) {
        for l in 0..LANES {
            sums[l] += a[l] * b[l];
        }
    }
    sums.iter().sum::<f32>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use openwork_circuit::{Ablation, Partial, evaluate};
    use openwork_model::{NoTap, Tokens};

    use super::*;

    fn pairs() -> Vec<Pair> {
        let pair = |i: u16| Pair {
            positive: vec![1, 2, i % 3, 4],
            negative: vec![1, 2, i % 3, 5, i],
            answer: 9,
            alternative: 10,
            template: 0,
        };
        (0..10).map(pair).collect()
    }

    #[test]
    fn the_gradient_is_that_of_partial_ablation_over_padded_sequences() {
        let config = Config { vocab_size: 12, n_ctx: 6, n_layer: 2, ..Config::default() };
        let mut model = Model::init(config, 3);
        model.params.values_mut().into_iter().for_each(|w| w.update(|w| *w *= 3.0));
        let space = NodeSpace::new(&model.config);
        let means = Means::compute(&model, &(0..12).collect::<Vec<u16>>(), 6);
        // Closed, open and between.
        let r: Vec<f32> = (0..space.len()).map(|n| [0.0, 1.0, 1.0, 0.6][n % 4]).collect();
        let batch = &batches(&pairs(), 10, 6)[0];
        let mut tap = Partial::new(&space, &r, Ablation::Mean(&means));
        let pass = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
        let (loss, dlogits) = batch.task_loss(&pass.logits);
        model.backward(&pass, &dlogits, &mut tap, None);
        let runner = Runner::new(&model);
        for at_once in [3, 10] {
            let parts = prompts(&pairs(), at_once, &model.config);
            let mut found = vec![0.0; space.len()];
            let mut sum = 0.0;
            for prompts in &parts {
                let blend = Blend::new(&space, &r, &means);
                let (loss, gradient) = runner.gradient(prompts, blend, |logits| prompts.batch.task_loss(logits));
                sum += loss;
                found.iter_mut().zip(gradient).for_each(|(f, g)| *f += g);
            }
            assert!((sum - loss).abs() < 1e-5 * loss, "{sum} {loss}");
            let scale = tap.gradient.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
            // Sums of some hundred products in another order.
            assert!(scale > 1e-3 && found.iter().zip(&tap.gradient).all(|(a, b)| (a - b).abs() < 1e-4 * scale));
        }
    }

    #[test]
    fn outcomes_are_those_of_padded_sequences_in_the_order_of_sorted_pairs() {
        let model = Model::init(Config { vocab_size: 12, n_ctx: 6, ..Config::default() }, 2);
        let found = Runner::new(&model).outcome(&prompts(&pairs(), 4, &model.config), || NoTap).differences;
        let expected = evaluate(&model, &batches(&pairs(), 4, 6), false, || NoTap, |_| ()).differences;
        let sorted = |mut x: Vec<f64>| {
            x.sort_by(f64::total_cmp);
            x
        };
        assert_eq!(found.len(), 20);
        for (a, b) in sorted(found).iter().zip(sorted(expected)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}
