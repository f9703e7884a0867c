//! Activity of every node in the plain model.

use std::ops::ControlFlow;

use openwork_circuit::{Batch, NodeSpace};
use openwork_model::{Matrix, Site, Tap};

use crate::run::context::Context;

/// Activity of every node in the plain model.
pub(crate) struct Activity {
    /// Mean over the pairs' tokens of |value − mean|.
    pub deviation: Vec<f64>,
    /// Largest |value − mean| on the pairs' tokens.
    pub peak: Vec<f32>,
    /// True if the value is anywhere (padding included) another than the mean.
    pub off_mean: Vec<bool>,
    /// True if it is anywhere another than zero.
    pub off_zero: Vec<bool>,
}

/// The tap that watches what nodes do on one batch; [`Activity::of`] sums up.
pub(crate) struct ActivityTap<'a> {
    space: NodeSpace,
    means: &'a [f32],
    /// True for tokens that are no padding.
    real: Vec<bool>,
    /// Deviations are sums over those.
    activity: Activity,
}

impl<'a> ActivityTap<'a> {
    pub fn new(context: Context<'a>, batch: &Batch) -> Self {
        let mut real = vec![false; batch.tokens.len()];
        for (i, &last) in batch.readout.iter().enumerate() {
            real[i * batch.seq_len..=last].fill(true);
        }
        let space = NodeSpace::new(&context.model.config);
        let activity = Activity::none(space.len());
        Self { space, means: context.means.values(), real, activity }
    }
}

impl Tap for ActivityTap<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let Some(range) = self.space.range(site) else { return ControlFlow::Continue(()) };
        for (row, node) in value.rows().into_iter().zip(range) {
            let mean = self.means[node];
            self.activity.off_mean[node] |= row.iter().any(|&x| x != mean);
            self.activity.off_zero[node] |= row.iter().any(|&x| x != 0.0);
            let real = row.iter().zip(&self.real).filter(|(_, real)| **real);
            for (&x, _) in real {
                let deviation = (x - mean).abs();
                self.activity.deviation[node] += f64::from(deviation);
                self.activity.peak[node] = self.activity.peak[node].max(deviation);
            }
        }
        ControlFlow::Continue(())
    }
}

impl Activity {
    fn none(nodes: usize) -> Self {
        Self {
            deviation: vec![0.0; nodes],
            peak: vec![0.0; nodes],
            off_mean: vec![false; nodes],
            off_zero: vec![false; nodes],
        }
    }

    /// Over all batches.
    pub fn of<'a>(space: &NodeSpace, batches: impl IntoIterator<Item = ActivityTap<'a>>) -> Self {
        let (mut all, mut tokens) = (Self::none(space.len()), 0);
        for ActivityTap { real, activity, .. } in batches {
            tokens += real.iter().filter(|&&r| r).count();
            all.deviation.iter_mut().zip(activity.deviation).for_each(|(a, b)| *a += b);
            all.peak.iter_mut().zip(activity.peak).for_each(|(a, b)| *a = a.max(b));
            all.off_mean.iter_mut().zip(activity.off_mean).for_each(|(a, b)| *a |= b);
            all.off_zero.iter_mut().zip(activity.off_zero).for_each(|(a, b)| *a |= b);
        }
        all.deviation.iter_mut().for_each(|d| *d /= tokens.max(1) as f64);
        all
    }

    /// Nodes that deviate by at least `share` of the largest deviation at their site.
    pub fn active(&self, space: &NodeSpace, share: f64) -> Vec<bool> {
        let mut active = vec![false; self.deviation.len()];
        for (_, range) in space.sites() {
            let largest = self.deviation[range.clone()].iter().fold(0.0_f64, |m, &d| m.max(d));
            for node in range.clone() {
                active[node] = self.deviation[node] > 0.0 && self.deviation[node] >= share * largest;
            }
        }
        active
    }
}

#[cfg(test)]
mod tests {
    use openwork_circuit::{Means, NodeSet};
    use openwork_model::Model;
    use openwork_tasks::Pair;

    use super::*;
    use crate::run::{ablator::KeepOnly, context::Judged, evaluator::Evaluator};

    #[test]
    fn nodes_that_barely_move_are_not_active() {
        let model = Model::init(openwork_model::Config { vocab_size: 20, ..Default::default() }, 1);
        let space = NodeSpace::new(&model.config);
        let [reads, queries] = [&space.sites()[0].1, &space.sites()[1].1];
        let mut activity = Activity {
            deviation: vec![0.0; space.len()],
            peak: vec![0.0; space.len()],
            off_mean: vec![true; space.len()],
            off_zero: vec![true; space.len()],
        };
        (activity.deviation[reads.start], activity.deviation[reads.start + 1]) = (2.0, 0.019);
        (activity.deviation[queries.start], activity.deviation[queries.start + 1]) = (1e-3, 1e-5);
        let active = activity.active(&space, 0.01);
        // The share is of the largest at the same site.
        assert_eq!(
            (0..space.len()).filter(|&n| active[n]).collect::<Vec<_>>(),
            [reads.start, queries.start, queries.start + 1]
        );
        activity.deviation[queries.start + 1] = 0.9e-5;
        assert!(!activity.active(&space, 0.01)[queries.start + 1]);
    }

    #[test]
    fn activity_is_taken_over_real_tokens_only() {
        // The negative prompt is padded; its padding must not count.
        let model = Model::init(openwork_model::Config { vocab_size: 20, n_ctx: 8, ..Default::default() }, 1);
        let means = Means::compute(&model, &[4, 5, 6, 7, 8, 9, 10, 11], 8);
        let pair = |positive: &[u16], negative: &[u16]| Pair {
            positive: positive.to_vec(),
            negative: negative.to_vec(),
            answer: 1,
            alternative: 2,
            template: 0,
        };
        let deviation = |pairs: &[Pair]| {
            let judged = Judged::new(&NodeSet::empty(NodeSpace::new(&model.config)), pairs);
            let context = Context { model: &model, means: &means, judged: &judged, seed: 1, ablator: &KeepOnly };
            Evaluator::new(context, pairs).unwrap().activity.deviation
        };
        let whole = deviation(&[pair(&[3, 4, 5, 6], &[7, 8])]);
        let (long, short) = (deviation(&[pair(&[3, 4, 5, 6], &[3, 4, 5, 6])]), deviation(&[pair(&[7, 8], &[7, 8])]));
        for node in 0..whole.len() {
            let expected = (4.0 * long[node] + 2.0 * short[node]) / 6.0;
            assert!((whole[node] - expected).abs() <= 1e-5 * expected.max(1e-3), "node {node}");
        }
    }
}
