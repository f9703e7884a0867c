//! Rankings, scores that need no run, and sums of scores beside what they estimate.

use openwork_circuit::{NodeSet, edges};
use openwork_model::Site;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Scorer;

/// Parts by falling magnitude of their scores, ties by index. Parts that a task suffers from are as much a part of what the model
/// does as those that it needs, hence magnitudes (Syed et al. 2023).
///
/// # Panics
/// When a score is NaN.
#[track_caller]
pub fn ranking(scores: &[f64]) -> Vec<usize> {
    assert!(!scores.iter().any(|s| s.is_nan()), "a score is NaN");
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].abs().total_cmp(&scores[a].abs()).then(a.cmp(&b)));
    order
}

/// Sum of the scores of a site's nodes, and the effect that they would sum to if no node changed the effect of another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiteSum {
    /// The site.
    pub site: Site,
    /// Sum of the scores of its nodes, in nats.
    pub sum: f64,
    /// Effect of ablating all of its nodes, `m(model) − m(the site at its means)`, in nats.
    pub effect: f64,
}

impl Scorer<'_> {
    /// The check that scores sum to totals, site by site: the nodes of one site are parallel, so that in a model that is linear
    /// from the site on the two numbers of each row are equal. Nodes of different sites lie on the same paths, and what a path
    /// carries is counted at each of its nodes: the sum over all sites is no estimate of [`Scorer::total`].
    pub fn site_sums(&self, scores: &[f64]) -> Vec<SiteSum> {
        let plain = self.logit_difference(&NodeSet::all(self.space.clone()));
        let sites = self.space.sites().iter();
        let sum = |(site, range): &(Site, std::ops::Range<usize>)| {
            let others = (0..self.space.len()).filter(|n| !range.contains(n));
            let without = self.logit_difference(&NodeSet::of(self.space.clone(), others));
            SiteSum { site: *site, sum: scores[range.clone()].iter().sum(), effect: plain - without }
        };
        sites.map(sum).collect()
    }

    /// Weight magnitude: `s_n = √(Σ w²)` over the nonzero weights of the four matrices of a block that end or begin at node n, by
    /// node number. Knows nothing of the task.
    pub fn weights(&self) -> Vec<f64> {
        let mut squares = vec![0.0; self.space.len()];
        for edge in edges(self.model, &NodeSet::all(self.space.clone())) {
            for node in [edge.from, edge.to] {
                squares[self.space.number(node).expect("a node of the model")] += f64::from(edge.weight).powi(2);
            }
        }
        squares.into_iter().map(f64::sqrt).collect()
    }

    /// Random scores in (0, 1], by node number: ranks are a random order.
    pub fn random(&self, seed: u64) -> Vec<f64> {
        random(self.space.len(), seed)
    }
}

/// `n` random scores in (0, 1].
pub(super) fn random(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| 1.0 - rng.random::<f64>()).collect()
}
