//! Nodes: the neurons, attention channels and residual reads and writes of a model.
//!
//! Source: Gao et al. 2025, A.5: masks sit right after each norm (`act_in`), after queries, keys and
//! values, after the nonlinearity, and at the end of each block before the residual addition. A node is
//! one feature at one of these sites, shared over all tokens.

use std::{fmt, ops::Range, str::FromStr};

use openwork_model::{Config, Site, SiteError, SiteKind};

/// One feature at one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Site of the feature.
    pub site: Site,
    /// Row of the feature at the site.
    pub index: usize,
}

impl fmt::Display for Node {
    /// Such as `2.mlp.post_act[118]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.site, self.index)
    }
}

impl FromStr for Node {
    type Err = NodeError;

    fn from_str(text: &str) -> Result<Self, NodeError> {
        let unknown = || NodeError::NotANode { text: text.to_owned() };
        let (site, index) = text.strip_suffix(']').and_then(|t| t.split_once('[')).ok_or_else(unknown)?;
        Ok(Self { site: site.parse()?, index: index.parse().map_err(|_| unknown())? })
    }
}

/// A text that names no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The text is not a site with an index.
    #[error("{text:?} is not a node; nodes look like 2.mlp.post_act[118]")]
    NotANode {
        /// The text.
        text: String,
    },
    /// No site has the name before the index.
    #[error(transparent)]
    Site(#[from] SiteError),
}

/// A node that a model does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoNode {
    /// The node.
    pub node: Node,
    /// Nodes of its site; 0 for a site that the model does not have.
    pub width: usize,
}

impl std::error::Error for NoNode {}

impl fmt::Display for NoNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, width } = self;
        write!(f, "the model has no node {node}: ")?;
        match width {
            0 => write!(f, "it has no nodes at {}", node.site),
            1 => write!(f, "{} has only node 0", node.site),
            _ => write!(f, "{} has nodes 0 to {}", node.site, width - 1),
        }
    }
}

/// All nodes of a configuration, numbered in the order of the forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSpace {
    sites: Vec<(Site, Range<usize>)>,
}

impl NodeSpace {
    /// The kinds of node, in the order of the forward pass.
    pub const KINDS: [SiteKind; 8] = [
        SiteKind::AttnRead,
        SiteKind::Query,
        SiteKind::Key,
        SiteKind::Value,
        SiteKind::AttnWrite,
        SiteKind::MlpRead,
        SiteKind::Neuron,
        SiteKind::MlpWrite,
    ];

    /// The nodes of a model of this configuration.
    pub fn new(config: &Config) -> Self {
        let mut start = 0;
        let sites = (0..config.n_layer)
            .flat_map(|layer| Self::KINDS.map(|kind| Site { layer, kind }))
            .map(|site| {
                let range = start..start + config.width(site.kind);
                start = range.end;
                (site, range)
            })
            .collect();
        Self { sites }
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.sites.last().map_or(0, |s| s.1.end)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sites and the numbers of their nodes, in the order of the forward pass.
    pub fn sites(&self) -> &[(Site, Range<usize>)] {
        &self.sites
    }

    /// Numbers of the nodes at a site; `None` for a site that has no nodes.
    pub fn range(&self, site: Site) -> Option<Range<usize>> {
        let kind = Self::KINDS.iter().position(|&at| at == site.kind)?;
        self.sites.get(site.layer * Self::KINDS.len() + kind).map(|s| s.1.clone())
    }

    /// The node of a number.
    ///
    /// # Panics
    /// When `number` is not below [`NodeSpace::len`].
    pub fn node(&self, number: usize) -> Node {
        let at = self.sites.partition_point(|s| s.1.end <= number);
        let (site, range) = &self.sites[at];
        Node { site: *site, index: number - range.start }
    }

    /// The number of a node.
    ///
    /// # Errors
    /// When the model has no such node.
    pub fn find(&self, node: Node) -> Result<usize, NoNode> {
        let width = self.range(node.site).map_or(0, |range| range.len());
        self.number(node).ok_or(NoNode { node, width })
    }

    /// The number of a node; `None` if the model has no such node.
    pub fn number(&self, node: Node) -> Option<usize> {
        let range = self.range(node.site)?;
        (node.index < range.len()).then(|| range.start + node.index)
    }
}

/// Set of kept nodes (true); the others are ablated.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSet {
    space: NodeSpace,
    kept: Vec<bool>,
}

impl NodeSet {
    /// Every node.
    pub fn all(space: NodeSpace) -> Self {
        Self { kept: vec![true; space.len()], space }
    }

    /// No node.
    pub fn empty(space: NodeSpace) -> Self {
        Self { kept: vec![false; space.len()], space }
    }

    /// The nodes with these numbers.
    pub fn of(space: NodeSpace, numbers: impl IntoIterator<Item = usize>) -> Self {
        let mut set = Self::empty(space);
        numbers.into_iter().for_each(|n| set.kept[n] = true);
        set
    }

    /// The nodes of the model.
    pub fn space(&self) -> &NodeSpace {
        &self.space
    }

    /// Number of kept nodes.
    pub fn len(&self) -> usize {
        self.kept.iter().filter(|&&k| k).count()
    }

    /// True if no node is kept.
    pub fn is_empty(&self) -> bool {
        !self.kept.contains(&true)
    }

    /// Kept or not, by node number.
    pub fn kept(&self) -> &[bool] {
        &self.kept
    }

    /// Numbers of the kept nodes, rising.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        self.kept.iter().enumerate().filter(|(_, k)| **k).map(|(n, _)| n)
    }

    /// The kept nodes.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        self.numbers().map(|n| self.space.node(n))
    }

    /// True if `node` is kept.
    pub fn contains(&self, node: Node) -> bool {
        self.space.number(node).is_some_and(|n| self.kept[n])
    }

    /// SHA-256 of a byte for every node of the model, 1 where it is kept and 0 where not, in hexadecimal.
    pub fn sha256(&self) -> String {
        openwork_tensor::sha256_bytes(&self.kept.iter().map(|&k| u8::from(k)).collect::<Vec<_>>())
    }

    /// Keeps what this set ablates, and the reverse.
    pub fn complement(&self) -> Self {
        Self { space: self.space.clone(), kept: self.kept.iter().map(|k| !k).collect() }
    }

    /// Kept nodes per site, in the order of [`NodeSpace::sites`].
    pub fn count_by_site(&self) -> Vec<usize> {
        let count = |range: &Range<usize>| self.kept[range.clone()].iter().filter(|&&k| k).count();
        self.space.sites.iter().map(|(_, range)| count(range)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_round_trip() {
        let config = Config { positions: openwork_model::Positions::Concat { width: 3 }, ..Config::default() };
        let space = NodeSpace::new(&config);
        // Per layer: reads (64+3)·2, writes 64·2, q, k, v 64·3, neurons 256.
        assert_eq!(space.len(), 2 * (67 * 2 + 64 * 2 + 64 * 3 + 256));
        for number in [0, 66, 67, 400, space.len() - 1] {
            let node = space.node(number);
            assert_eq!(space.number(node), Some(number));
            assert_eq!(node.to_string().parse(), Ok(node));
        }
        let out = Node { site: Site { layer: 0, kind: SiteKind::Query }, index: 64 };
        assert_eq!(space.number(out), None);
        assert_eq!(space.number(Node { site: Site { layer: 2, kind: SiteKind::Query }, index: 0 }), None);
        assert!("2.mlp.post_act[x]".parse::<Node>().is_err() && "2.mlp.post_act".parse::<Node>().is_err());
    }

    #[test]
    fn complement_and_counts() {
        let set = NodeSet::of(NodeSpace::new(&Config::default()), [0, 1, 70]);
        assert_eq!((set.len(), set.complement().len()), (3, set.space().len() - 3));
        assert_eq!(&set.count_by_site()[..3], [2, 1, 0]);
        assert_eq!(set.nodes().last().unwrap().to_string(), "0.attn.q[6]");
    }
}
