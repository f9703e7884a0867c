//! Size of a circuit in parameters of the model.

use std::collections::BTreeSet;

use openwork_model::{Model, SiteKind, Weight};

use crate::{Circuit, Node};

/// Nonzero parameters of a model that a circuit uses. The published size is [`Parameters::edges`] alone (Gao et al. 2025, §2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Weights between kept nodes that the circuit has.
    pub edges: usize,
    /// Biases of kept nodes.
    pub biases: usize,
    /// Entries of the embedding, over all tokens, in channels that a kept node reads.
    pub embedding: usize,
    /// Entries of the unembedding, over all tokens, in channels that a kept node writes.
    pub unembedding: usize,
}

impl Parameters {
    /// Edges and biases.
    pub fn with_biases(self) -> usize {
        self.edges + self.biases
    }

    /// All weights: edges, biases, and the links of the circuit's channels to tokens.
    pub fn weights(self) -> usize {
        self.with_biases() + self.embedding + self.unembedding
    }
}

impl Circuit {
    /// The nonzero parameters of `model` that the circuit uses. Gains of norms, sinks and bigram tables count nowhere.
    ///
    /// # Panics
    /// When `model` has other nodes than the circuit's.
    pub fn parameters(&self, model: &Model) -> Parameters {
        let channels = |kinds: [SiteKind; 2]| -> BTreeSet<usize> {
            let of = self.nodes().nodes().filter(|n| kinds.contains(&n.site.kind)).map(|n| n.index);
            // Position channels, which lie after those of the residual stream, have no embedding.
            of.filter(|&channel| channel < model.config.d_model).collect()
        };
        let entries = |w: &Weight, channels: &BTreeSet<usize>| {
            channels.iter().map(|&c| w.dense().column(c).iter().filter(|&&x| x != 0.0).count()).sum()
        };
        let unembed = model.params.unembed.as_ref().unwrap_or(&model.params.embed);
        Parameters {
            edges: self.edges().len(),
            biases: self.nodes().nodes().filter(|&node| bias(model, node) != 0.0).count(),
            embedding: entries(&model.params.embed, &channels([SiteKind::AttnRead, SiteKind::MlpRead])),
            unembedding: entries(unembed, &channels([SiteKind::AttnWrite, SiteKind::MlpWrite])),
        }
    }
}

/// Bias of a node; 0 where it has none.
fn bias(model: &Model, node: Node) -> f32 {
    let d_attn = model.config.n_head * model.config.d_head;
    let block = &model.params.blocks[node.site.layer];
    let (linear, row) = match node.site.kind {
        SiteKind::Query => (&block.qkv, node.index),
        SiteKind::Key => (&block.qkv, d_attn + node.index),
        SiteKind::Value => (&block.qkv, 2 * d_attn + node.index),
        SiteKind::AttnWrite => (&block.attn_out, node.index),
        SiteKind::Neuron => (&block.fc, node.index),
        SiteKind::MlpWrite => (&block.proj, node.index),
        _ => return 0.0,
    };
    linear.bias.as_ref().map_or(0.0, |bias| bias.dense()[[row, 0]])
}

#[cfg(test)]
mod tests {
    use openwork_model::{Config, Site};

    use super::*;
    use crate::{NodeSet, NodeSpace};

    #[test]
    fn parameters_by_hand() {
        let mut model = Model::init(Config { vocab_size: 8, n_layer: 1, ..Config::default() }, 1);
        let node = |kind, index| Node { site: Site { layer: 0, kind }, index };
        let space = NodeSpace::new(&model.config);
        let kept = [
            node(SiteKind::AttnRead, 5),
            node(SiteKind::MlpRead, 5),
            node(SiteKind::MlpRead, 6),
            node(SiteKind::Neuron, 100),
            node(SiteKind::MlpWrite, 7),
            node(SiteKind::Value, 3),
        ];
        let nodes = NodeSet::of(space.clone(), kept.map(|n| space.number(n).unwrap()));
        model.params.values_mut().into_iter().for_each(|w| {
            if w.dense().ncols() == 1 {
                w.update(|w| w.fill(0.0));
            }
        });
        let block = &mut model.params.blocks[0];
        block.fc.bias.as_mut().unwrap().update(|b| (b[[100, 0]], b[[101, 0]]) = (1.0, 1.0));
        block.qkv.bias.as_mut().unwrap().update(|b| (b[[2 * 64 + 3, 0]], b[[3, 0]]) = (1.0, 1.0));
        block.fc.weight.update(|w| w[[100, 6]] = 0.0);
        model.params.embed.update(|w| (w[[0, 5]], w[[3, 6]]) = (0.0, 0.0));
        model.params.unembed.as_mut().unwrap().update(|w| w[[2, 7]] = 0.0);
        let all = Circuit::new(&model, nodes);
        // Read 5 to the value and to the neuron, the neuron to its write; channels 5 and 6, each without one of 8 tokens.
        let expected = Parameters { edges: 3, biases: 2, embedding: 14, unembedding: 7 };
        assert_eq!(all.parameters(&model), expected);
        assert_eq!((expected.with_biases(), expected.weights()), (5, 26));
        let fewer = all.with_edges(&model, &[(kept[3], kept[4])]).unwrap();
        assert_eq!(fewer.parameters(&model), Parameters { edges: 1, ..expected });
    }
}
