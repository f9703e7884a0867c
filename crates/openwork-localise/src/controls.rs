//! Circuits that localisation should not be able to train in.

use std::collections::BTreeSet;

use openwork_circuit::{NodeSet, edges, residual_edges};
use openwork_model::Model;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A connected circuit drawn at random: as many nodes at every kind of site and layer as `like`, none of them in `apart`, each joined to those drawn before by a weight
/// or a channel of the residual stream wherever one of them can be. The control of localisation: what can be trained in as fast as the true circuit says nothing about it.
///
/// `None` where a site has too few nodes outside `apart`.
pub fn connected_random(model: &Model, like: &NodeSet, apart: &NodeSet, seed: u64) -> Option<NodeSet> {
    let space = like.space().clone();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Neighbours by all weights and channels of the model, between nodes that may be drawn.
    let allowed = NodeSet::of(space.clone(), (0..space.len()).filter(|&n| !apart.kept()[n] && !like.kept()[n]));
    let mut neighbours: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); space.len()];
    let number = |node| space.number(node).expect("a node of the model");
    let by_weight = edges(model, &allowed).into_iter().map(|e| (number(e.from), number(e.to)));
    let by_channel = residual_edges(&allowed).into_iter().map(|e| (number(e.from), number(e.to)));
    for (a, b) in by_weight.chain(by_channel) {
        neighbours[a].insert(b);
        neighbours[b].insert(a);
    }
    let mut drawn: BTreeSet<usize> = BTreeSet::new();
    for (_, range) in space.sites() {
        for _ in 0..range.clone().filter(|&n| like.kept()[n]).count() {
            let free: Vec<usize> = range.clone().filter(|&n| allowed.kept()[n] && !drawn.contains(&n)).collect();
            let joined: Vec<usize> =
                free.iter().copied().filter(|&n| neighbours[n].iter().any(|m| drawn.contains(m))).collect();
            let pool = if joined.is_empty() { &free } else { &joined };
            let pick = *pool.get(rng.random_range(0..pool.len().max(1)))?;
            drawn.insert(pick);
        }
    }
    Some(NodeSet::of(space, drawn))
}
