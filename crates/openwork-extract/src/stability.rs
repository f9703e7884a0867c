//! Stability: likeness of the circuits that one search finds from several seeds.
//!
//! A circuit that another seed of pairs and masks does not find again is one of many that would do, and what is read off
//! it is chance. Source: Méloux et al. 2025, who ask for a Jaccard index of 0.8 or more over resampled data.

use openwork_circuit::{Circuit, Combination, Node, NodeSet};
use serde::Serialize;

/// Median and range of some sizes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub least: usize,
    /// The one in the middle, or the mean of the two there.
    pub median: f64,
    /// The largest.
    pub most: usize,
}

impl Spread {
    /// # Panics
    /// When there is no size.
    fn of(mut sizes: Vec<usize>) -> Self {
        sizes.sort_unstable();
        let n = sizes.len();
        let median = (sizes[(n - 1) / 2] + sizes[n / 2]) as f64 / 2.0;
        Self { least: sizes[0], median, most: sizes[n - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} to {})", self.median, self.least, self.most)
    }
}

/// Likeness of several circuits of one task in one model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stability {
    /// Number of circuits.
    pub circuits: usize,
    /// Their sizes in nodes.
    pub size_in_nodes: Spread,
    /// Their sizes in edges.
    pub size_in_edges: Spread,
    /// Mean over pairs of circuits of the Jaccard index `|A ∩ B| / |A ∪ B|`, in nodes.
    pub jaccard: f64,
    /// The least of them.
    pub least_jaccard: f64,
    /// Every node of any of them and in how many it is, most first, then by number.
    pub nodes: Vec<(String, usize)>,
}

impl Stability {
    /// Compares circuits; `None` for fewer than two.
    ///
    /// # Panics
    /// When they belong to models of different shapes.
    pub fn of(found: &[Circuit]) -> Option<Self> {
        let circuits: Vec<&NodeSet> = found.iter().map(Circuit::nodes).collect();
        let space = circuits.first().filter(|_| circuits.len() > 1)?.space();
        assert!(circuits.iter().all(|c| c.space() == space), "circuits of one model");
        let pairs = (0..circuits.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        let indices: Vec<f64> = pairs.map(|(a, b)| jaccard(circuits[a], circuits[b])).collect();
        let mut nodes: Vec<(Node, usize)> = (0..space.len())
            .map(|n| (space.node(n), circuits.iter().filter(|c| c.kept()[n]).count()))
            .filter(|(_, count)| *count > 0)
            .collect();
        nodes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Some(Self {
            circuits: circuits.len(),
            size_in_nodes: Spread::of(circuits.iter().map(|c| c.len()).collect()),
            size_in_edges: Spread::of(found.iter().map(|c| c.edges().len()).collect()),
            jaccard: indices.iter().sum::<f64>() / indices.len() as f64,
            least_jaccard: indices.iter().copied().fold(1.0, f64::min),
            nodes: nodes.into_iter().map(|(node, count)| (node.to_string(), count)).collect(),
        })
    }

    /// Nodes of a combination of circuits.
    ///
    /// # Panics
    /// When there is no circuit, or they belong to models of different shapes.
    pub fn combined(circuits: &[Circuit], of: Combination) -> NodeSet {
        let space = circuits[0].nodes().space().clone();
        assert!(circuits.iter().all(|c| *c.nodes().space() == space), "circuits of one model");
        let within = |n: &usize| match of {
            Combination::Union => circuits.iter().any(|c| c.nodes().kept()[*n]),
            Combination::Core => circuits.iter().all(|c| c.nodes().kept()[*n]),
        };
        NodeSet::of(space.clone(), (0..space.len()).filter(within))
    }

    /// Nodes that are in all circuits.
    pub fn core(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|(_, count)| *count == self.circuits).map(|(node, _)| node.as_str())
    }
}

/// `|A ∩ B| / |A ∪ B|`; two empty circuits are alike.
fn jaccard(a: &NodeSet, b: &NodeSet) -> f64 {
    let both = a.numbers().filter(|&n| b.kept()[n]).count();
    let any = a.len() + b.len() - both;
    if any == 0 { 1.0 } else { both as f64 / any as f64 }
}

#[cfg(test)]
mod tests {
    use openwork_circuit::NodeSpace;
    use openwork_model::{Config, Model};

    use super::*;

    #[test]
    fn by_hand() {
        let model = Model::init(Config::default(), 1);
        let space = NodeSpace::new(&model.config);
        let set = |numbers: &[usize]| Circuit::new(&model, NodeSet::of(space.clone(), numbers.iter().copied()));
        let three = [set(&[1, 2, 3]), set(&[2, 3, 4]), set(&[2])];
        let found = Stability::of(&three).unwrap();
        // 2 of 4, 1 of 3, 1 of 3.
        assert!((found.jaccard - (0.5 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
        assert_eq!((found.circuits, found.least_jaccard), (3, 1.0 / 3.0));
        assert_eq!(found.core().collect::<Vec<_>>(), [space.node(2).to_string()]);
        let counts: Vec<usize> = found.nodes.iter().map(|n| n.1).collect();
        assert_eq!(counts, [3, 2, 1, 1]);
        assert_eq!(found.size_in_nodes, Spread { least: 1, median: 3.0, most: 3 });
        assert_eq!(Spread::of(vec![8, 2, 4, 5]), Spread { least: 2, median: 4.5, most: 8 });
        let numbers = |of| Stability::combined(&three, of).numbers().collect::<Vec<_>>();
        assert_eq!((numbers(Combination::Union), numbers(Combination::Core)), (vec![1, 2, 3, 4], vec![2]));
        assert_eq!(Stability::of(&three[..1]), None);
        assert_eq!(Stability::of(&[set(&[]), set(&[])]).unwrap().jaccard, 1.0);
    }
}
