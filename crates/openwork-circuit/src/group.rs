//! Groups: named sets of nodes that count as one.

use openwork_model::{Config, Site, SiteKind};

use crate::Node;

/// A named set of nodes, such as an attention head or the MLP of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name; one of a kind within a circuit.
    pub name: String,
    /// An explanation.
    pub note: Option<String>,
    /// Nodes of the group, kept or not.
    pub nodes: Vec<Node>,
}

impl Group {
    /// Queries, keys and values of attention head `head` of block `layer`, called such as `1.head.3`.
    ///
    /// # Panics
    /// When the configuration has no such head.
    #[track_caller]
    pub fn head(config: &Config, layer: usize, head: usize) -> Self {
        assert!(layer < config.n_layer && head < config.n_head, "no head {head} in block {layer}");
        let channels = head * config.d_head..(head + 1) * config.d_head;
        let nodes = [SiteKind::Query, SiteKind::Key, SiteKind::Value]
            .into_iter()
            .flat_map(|kind| channels.clone().map(move |index| Node { site: Site { layer, kind }, index }))
            .collect();
        Self { name: format!("{layer}.head.{head}"), note: None, nodes }
    }

    /// Reads, neurons and writes of the MLP of block `layer`, called such as `1.mlp`.
    ///
    /// # Panics
    /// When the configuration has no such block.
    #[track_caller]
    pub fn mlp(config: &Config, layer: usize) -> Self {
        assert!(layer < config.n_layer, "no block {layer}");
        let nodes = [SiteKind::MlpRead, SiteKind::Neuron, SiteKind::MlpWrite]
            .into_iter()
            .flat_map(|kind| (0..config.width(kind)).map(move |index| Node { site: Site { layer, kind }, index }))
            .collect();
        Self { name: format!("{layer}.mlp"), note: None, nodes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_share_the_channels_of_a_block_among_them() {
        let config = Config::default();
        let heads: Vec<Node> = (0..config.n_head).flat_map(|head| Group::head(&config, 1, head).nodes).collect();
        let mut distinct = heads.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!((heads.len(), distinct.len()), (3 * config.n_head * config.d_head, heads.len()));
        let second = Group::head(&config, 1, 1);
        assert_eq!((second.name.as_str(), second.nodes[0].index), ("1.head.1", config.d_head));
        assert_eq!(second.nodes[0].to_string(), format!("1.attn.q[{}]", config.d_head));
    }

    #[test]
    fn an_mlp_is_its_reads_neurons_and_writes() {
        let config = Config::default();
        let mlp = Group::mlp(&config, 0);
        assert_eq!(mlp.nodes.len(), config.width(SiteKind::MlpRead) + config.d_mlp + config.d_model);
        assert_eq!(mlp.name, "0.mlp");
    }
}
