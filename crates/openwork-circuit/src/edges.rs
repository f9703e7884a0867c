//! Edges: nonzero weights between kept nodes, and channels of the residual stream between kept writes and reads.
//!
//! Weights are those of the four matrices of a block, without biases and embeddings; they alone count as edges in a
//! circuit's size (Gao et al. 2025, §2.2 and footnote 3; its counting of other links is not stated).

use openwork_model::{Linear, Matrix, Model, Site, SiteKind, Weight};

use crate::{MemberError, Node, NodeSet, NodeSpace};

/// A nonzero weight between two kept nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// The node that is read.
    pub from: Node,
    /// The node that reads it.
    pub to: Node,
    /// The weight.
    pub weight: f32,
}

/// A channel of the residual stream from a write to a later read of the same channel. Embedding and unembedding are no
/// nodes, so a channel's links to them are no edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResidualEdge {
    /// The write.
    pub from: Node,
    /// The read.
    pub to: Node,
}

/// All residual edges between kept nodes: by write, then by read, in the order of the forward pass.
pub fn residual_edges(nodes: &NodeSet) -> Vec<ResidualEdge> {
    let of = |kinds: [SiteKind; 2]| nodes.nodes().filter(|n| kinds.contains(&n.site.kind)).collect::<Vec<Node>>();
    let (writes, reads) = (of([SiteKind::AttnWrite, SiteKind::MlpWrite]), of([SiteKind::AttnRead, SiteKind::MlpRead]));
    let number = |node: Node| nodes.space().number(node).expect("a node of the set");
    let later =
        |from: Node| reads.iter().filter(move |to| to.index == from.index && number(**to) > number(from)).copied();
    writes.iter().flat_map(|&from| later(from).map(move |to| ResidualEdge { from, to })).collect()
}

/// All weights between kept nodes, block after block.
pub fn edges(model: &Model, nodes: &NodeSet) -> Vec<Edge> {
    let d_attn = model.config.n_head * model.config.d_head;
    let mut out = Vec::new();
    for (layer, block) in model.params.blocks.iter().enumerate() {
        let mut add = |w: &Matrix, first_row: usize, from: SiteKind, to: SiteKind| {
            let kept = |kind: SiteKind| -> Vec<usize> {
                let range = nodes.space().range(Site { layer, kind }).expect("a kind of node");
                (0..range.len()).filter(|i| nodes.kept()[range.start + i]).collect()
            };
            let inputs = kept(from);
            for row in kept(to) {
                for &column in &inputs {
                    let weight = w[[first_row + row, column]];
                    if weight != 0.0 {
                        out.push(Edge {
                            from: Node { site: Site { layer, kind: from }, index: column },
                            to: Node { site: Site { layer, kind: to }, index: row },
                            weight,
                        });
                    }
                }
            }
        };
        let qkv = block.qkv.weight.dense();
        for (part, to) in [SiteKind::Query, SiteKind::Key, SiteKind::Value].into_iter().enumerate() {
            add(qkv, part * d_attn, SiteKind::AttnRead, to);
        }
        add(block.attn_out.weight.dense(), 0, SiteKind::Value, SiteKind::AttnWrite);
        add(block.fc.weight.dense(), 0, SiteKind::MlpRead, SiteKind::Neuron);
        add(block.proj.weight.dense(), 0, SiteKind::Neuron, SiteKind::MlpWrite);
    }
    out
}

/// The model without some of its weights, given as pairs `(from, to)` of nodes: each is zero.
///
/// # Errors
/// [`MemberError::NoWeight`] where the model has no nonzero weight from the one node to the other.
pub fn without_edges(model: &Model, pairs: &[(Node, Node)]) -> Result<Model, MemberError> {
    let space = NodeSpace::new(&model.config);
    let number = |node| space.number(node);
    let ends = pairs.iter().flat_map(|&(from, to)| [from, to]).filter_map(number).collect::<Vec<_>>();
    let mut found = edges(model, &NodeSet::of(space.clone(), ends));
    found.retain(|e| pairs.contains(&(e.from, e.to)));
    match pairs.iter().find(|&&(from, to)| !found.iter().any(|e| (e.from, e.to) == (from, to))) {
        Some(&(from, to)) => Err(MemberError::NoWeight { from, to }),
        None => Ok(cut(model, &found)),
    }
}

/// The model with the weights of these edges zero.
pub(crate) fn cut(model: &Model, edges: &[Edge]) -> Model {
    let mut cut = model.clone();
    // One update a site: each brings the sparse form of a matrix up to date.
    for of_site in edges.chunk_by(|a, b| a.to.site == b.to.site) {
        let (linear, first_row) = weights_of(&mut cut, Node { site: of_site[0].to.site, index: 0 });
        linear.weight.update(|w| of_site.iter().for_each(|e| w[[first_row + e.to.index, e.from.index]] = 0.0));
    }
    cut
}

/// The matrix and the row of it that compute a node.
///
/// # Panics
/// When no matrix does: what attention and MLP read comes from norms.
#[track_caller]
pub fn weights_of(model: &mut Model, node: Node) -> (&mut Linear<Weight>, usize) {
    let d_attn = model.config.n_head * model.config.d_head;
    let block = &mut model.params.blocks[node.site.layer];
    match node.site.kind {
        SiteKind::Query => (&mut block.qkv, node.index),
        SiteKind::Key => (&mut block.qkv, d_attn + node.index),
        SiteKind::Value => (&mut block.qkv, 2 * d_attn + node.index),
        SiteKind::AttnWrite => (&mut block.attn_out, node.index),
        SiteKind::Neuron => (&mut block.fc, node.index),
        SiteKind::MlpWrite => (&mut block.proj, node.index),
        other => panic!("no edge ends at {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use openwork_model::Config;

    use super::*;

    #[test]
    fn one_neuron_between_two_channels_is_three_nodes_and_two_edges() {
        // The example of the paper's footnote 3.
        let mut model = Model::init(Config { vocab_size: 8, n_layer: 1, ..Config::default() }, 1);
        let space = NodeSpace::new(&model.config);
        let number = |kind, index| space.number(Node { site: Site { layer: 0, kind }, index }).unwrap();
        let nodes = NodeSet::of(
            space.clone(),
            [
                number(SiteKind::MlpRead, 5),
                number(SiteKind::Neuron, 100),
                number(SiteKind::MlpWrite, 7),
                number(SiteKind::Key, 3),
            ],
        );
        let found = edges(&model, &nodes);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].weight, model.params.blocks[0].fc.weight.dense()[[100, 5]]);
        assert_eq!(found[1].to.to_string(), "0.mlp.resid_delta[7]");
        model.params.blocks[0].proj.weight.update(|w| w[[7, 100]] = 0.0);
        assert_eq!(edges(&model, &nodes).len(), 1);
        // Keys are the second third of the rows.
        let nodes = NodeSet::of(space.clone(), [number(SiteKind::AttnRead, 2), number(SiteKind::Key, 3)]);
        assert_eq!(edges(&model, &nodes)[0].weight, model.params.blocks[0].qkv.weight.dense()[[64 + 3, 2]]);
    }

    #[test]
    fn a_channel_leads_from_a_write_to_every_later_read_of_it() {
        let config = Config { positions: openwork_model::Positions::Concat { width: 3 }, ..Config::default() };
        let space = NodeSpace::new(&config);
        let number = |layer, kind, index| space.number(Node { site: Site { layer, kind }, index }).unwrap();
        let kept = [
            number(0, SiteKind::AttnRead, 4),
            number(0, SiteKind::AttnWrite, 4),
            number(0, SiteKind::MlpRead, 4),
            number(0, SiteKind::MlpRead, 5),
            number(0, SiteKind::MlpWrite, 4),
            number(1, SiteKind::AttnRead, 4),
            // A position channel: no write reaches it.
            number(1, SiteKind::AttnRead, 65),
            number(1, SiteKind::MlpWrite, 4),
        ];
        let found = residual_edges(&NodeSet::of(space.clone(), kept));
        let names: Vec<String> = found.iter().map(|e| format!("{} -> {}", e.from, e.to)).collect();
        assert_eq!(
            names,
            [
                "0.attn.resid_delta[4] -> 0.mlp.act_in[4]",
                "0.attn.resid_delta[4] -> 1.attn.act_in[4]",
                "0.mlp.resid_delta[4] -> 1.attn.act_in[4]",
            ]
        );
    }

    #[test]
    fn all_nodes_have_all_weights() {
        let model = Model::init(Config { vocab_size: 8, ..Config::default() }, 1);
        let n: usize = model
            .params
            .blocks
            .iter()
            .map(|b| [&b.qkv, &b.attn_out, &b.fc, &b.proj].map(|l| l.weight.nnz()).iter().sum::<usize>())
            .sum();
        assert_eq!(edges(&model, &NodeSet::all(NodeSpace::new(&model.config))).len(), n);
    }

    #[test]
    fn every_edge_is_in_the_row_of_its_reader() {
        let mut model = Model::init(Config { vocab_size: 8, ..Config::default() }, 1);
        let all = edges(&model, &NodeSet::all(NodeSpace::new(&model.config)));
        for edge in all.iter().step_by(97) {
            let (linear, row) = weights_of(&mut model, edge.to);
            assert_eq!(linear.weight.dense()[[row, edge.from.index]], edge.weight, "{} -> {}", edge.from, edge.to);
        }
    }
}
