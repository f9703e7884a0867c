//! Scores by gradients: at the model itself, along paths of activations, and along a path of inputs.

use std::ops::ControlFlow;

use openwork_circuit::{Batch, NodeSpace, Partial};
use openwork_model::{Matrix, Record, Site, SiteKind, Tap, Tokens};
use rayon::prelude::*;

use super::{GoesOn, Scorer, towards_right};

/// Batches that run before somebody is asked whether to go on.
const BATCHES_AT_ONCE: usize = 8;

impl Scorer<'_> {
    /// Gradient times difference: `s_n = Σ_tokens ∂m/∂x_n (x_n − a_n)` at the model itself, `a_n` the mean of node n; in nats, by
    /// node number. One forward and one backward pass a batch. `None` where `goes_on`, which is asked between some batches, breaks. Source:
    /// Nanda 2023, *Attribution patching*; Syed et al. 2023.
    pub fn gradient(&self, goes_on: &mut GoesOn<'_>) -> Option<Vec<f64>> {
        self.slopes(&vec![1.0; self.space.len()], 0, goes_on)
    }

    /// Integrated gradients on activations: of each site by itself, the others as the model computes them,
    /// `s_n = (1/K) Σ_k Σ_tokens ∂m/∂x'_n (x_n − a_n)` with the whole site at `x' = a + α_k (x − a)`, `α_k = (k − ½)/K`; in nats,
    /// by node number. The scores of a site sum to the effect of ablating it, up to the error of the midpoint rule
    /// ([`Scorer::site_sums`]). K forward and backward passes a site and batch. `None` where `goes_on`, which is told how many nodes have scores,
    /// breaks. Source: Sundararajan et al. 2017;
    /// Marks et al. 2024.
    ///
    /// # Panics
    /// When `points` is 0.
    pub fn integrated(&self, points: usize, goes_on: &mut GoesOn<'_>) -> Option<Vec<f64>> {
        assert!(points > 0, "a path has points");
        let mut scores = vec![0.0; self.space.len()];
        for (_, range) in self.space.sites() {
            for k in 0..points {
                let mut r = vec![1.0; self.space.len()];
                r[range.clone()].fill(midpoint(k, points));
                let slopes = self.slopes(&r, range.start, goes_on)?;
                let of_site = scores[range.clone()].iter_mut().zip(&slopes[range.clone()]);
                of_site.for_each(|(score, slope)| *score += slope / points as f64);
            }
        }
        Some(scores)
    }

    /// Integrated gradients on inputs: `s_n = Σ_tokens (x_n − a_n) · (1/K) Σ_k ∂m/∂x_n`, the gradients taken in runs whose
    /// embeddings are `e' = b + α_k (e − b)`, `b` the mean embedding of the pairs' tokens, `α_k = (k − ½)/K`, and the difference
    /// `x_n − a_n` that of the model itself; in nats, by node number. Logits of a bigram table stay those of the tokens. The
    /// scores of nodes sum to nothing in particular: what is complete here is the attribution of inputs. K forward and
    /// backward passes a batch. `None` where `goes_on`, which is asked between some batches, breaks. Source: Hanna et al. 2024, *Have faith in faithfulness*, with means in place of the other
    /// prompt, whose tokens do not line up.
    ///
    /// # Panics
    /// When `points` is 0.
    pub fn inputs(&self, points: usize, goes_on: &mut GoesOn<'_>) -> Option<Vec<f64>> {
        assert!(points > 0, "a path has points");
        let base = self.mean_embedding();
        let one = |batch: &Batch| {
            let tokens = Tokens::new(&batch.tokens, batch.seq_len);
            let mut plain = Record::of_kinds(&NodeSpace::KINDS);
            self.model.forward(tokens, Some(&batch.readout), &mut plain);
            let mut tap = InputPath::new(&self.space, &base, self.means.values(), &plain);
            for k in 0..points {
                tap.alpha = midpoint(k, points);
                let pass = self.model.forward(tokens, Some(&batch.readout), &mut tap);
                let (_, dlogits) = towards_right(&pass.logits, batch);
                self.model.backward(&pass, &dlogits, &mut tap, None);
            }
            tap.gradient
        };
        Some(self.mean_of(self.by_batch(one, 0, goes_on)?, points as f64))
    }

    /// `∂m/∂r` of every node under `x' = a + r (x − a)`, in nats.
    fn slopes(&self, r: &[f32], scored: usize, goes_on: &mut GoesOn<'_>) -> Option<Vec<f64>> {
        let one = |batch: &Batch| {
            let mut tap = Partial::new(&self.space, r, self.ablation());
            let pass = self.model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
            let (_, dlogits) = towards_right(&pass.logits, batch);
            self.model.backward(&pass, &dlogits, &mut tap, None);
            tap.gradient.into_iter().map(f64::from).collect()
        };
        Some(self.mean_of(self.by_batch(one, scored, goes_on)?, 1.0))
    }

    /// `one` of every batch, in their order; `None` where `goes_on`, asked before every few, breaks.
    fn by_batch(
        &self,
        one: impl Fn(&Batch) -> Vec<f64> + Sync,
        scored: usize,
        goes_on: &mut GoesOn<'_>,
    ) -> Option<Vec<Vec<f64>>> {
        let mut parts = Vec::with_capacity(self.batches.len());
        for batches in self.batches.chunks(BATCHES_AT_ONCE) {
            if goes_on(scored).is_break() {
                return None;
            }
            parts.par_extend(batches.par_iter().map(&one));
        }
        Some(parts)
    }

    /// Sum of the batches' sums in their order, over the number of sequences and of points.
    fn mean_of(&self, parts: Vec<Vec<f64>>, points: f64) -> Vec<f64> {
        let mut scores = vec![0.0; self.space.len()];
        for part in parts {
            scores.iter_mut().zip(part).for_each(|(s, x)| *s += x / (self.sequences() * points));
        }
        scores
    }

    /// Mean over the prompts' tokens of what enters the first block, by channel.
    pub(super) fn mean_embedding(&self) -> Vec<f32> {
        let mut sum = vec![0.0_f64; self.model.config.d_model];
        let mut tokens = 0;
        for batch in &self.batches {
            let mut first = Record::of_kinds(&[SiteKind::ResidIn]);
            self.model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut first);
            let embedding = &first.values[0].1;
            // Columns after a prompt's last token are padding.
            for column in batch.readout.iter().enumerate().flat_map(|(i, &last)| i * batch.seq_len..=last) {
                sum.iter_mut().zip(embedding.column(column)).for_each(|(s, &x)| *s += f64::from(x));
                tokens += 1;
            }
        }
        sum.into_iter().map(|s| (s / f64::from(tokens)) as f32).collect()
    }
}

/// The middle of part k of n equal parts of [0, 1].
fn midpoint(k: usize, n: usize) -> f32 {
    ((k as f64 + 0.5) / n as f64) as f32
}

/// A run with embeddings moved towards their mean, which collects `Σ_tokens ∂m/∂x (x_plain − a)` of every node.
struct InputPath<'a> {
    space: &'a NodeSpace,
    base: &'a [f32],
    alpha: f32,
    /// `x − a` of the plain run, by site.
    deviations: Vec<Matrix>,
    gradient: Vec<f64>,
}

const FIRST: Site = Site { layer: 0, kind: SiteKind::ResidIn };

impl<'a> InputPath<'a> {
    fn new(space: &'a NodeSpace, base: &'a [f32], means: &[f32], plain: &Record) -> Self {
        let deviation = |(site, range): &(Site, std::ops::Range<usize>)| {
            let mut values = plain.at(*site).expect("recorded").clone();
            values.rows_mut().into_iter().zip(&means[range.clone()]).for_each(|(mut row, mean)| row -= *mean);
            values
        };
        let deviations = space.sites().iter().map(deviation).collect();
        Self { space, base, alpha: 1.0, deviations, gradient: vec![0.0; space.len()] }
    }
}

impl Tap for InputPath<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        if site == FIRST {
            for (mut row, &base) in value.rows_mut().into_iter().zip(self.base) {
                row.mapv_inplace(|x| self.alpha.mul_add(x - base, base));
            }
        }
        ControlFlow::Continue(())
    }

    fn backward(&mut self, site: Site, gradient: &mut Matrix) {
        if site == FIRST {
            *gradient *= self.alpha;
        }
        let Some(at) = self.space.sites().iter().position(|(s, _)| *s == site) else { return };
        let rows = gradient.rows().into_iter().zip(self.deviations[at].rows()).zip(self.space.sites()[at].1.clone());
        for ((gradient, deviation), node) in rows {
            let products = gradient.iter().zip(deviation).map(|(&g, &d)| f64::from(g) * f64::from(d));
            self.gradient[node] += products.sum::<f64>();
        }
    }
}
