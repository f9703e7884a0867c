//! Sequences as a tree of their common beginnings, and passes over it that compute nothing twice.
//!
//! Attention is causal: what a model computes at a token follows from the tokens up to it. Sequences that begin alike share
//! those columns, the first block's reads follow from the token alone (and its position, where the model has any), and the last block
//! is needed only where logits are read out. A pass over contrast pairs takes a fifth of the columns of one over
//! padded sequences. Passes are for taps that treat every token alike (masks, ablation by constants, coefficients):
//! columns of a site are not those of another.

mod pass;

use std::collections::HashMap;

use openwork_ops::Paths;

pub use self::pass::PrefixPass;
use crate::{Config, Positions};

/// Sequences as a tree of prefixes: a column for every one that is different, and those that each block computes.
#[derive(Clone, Debug)]
pub struct Prefixes {
    /// Tokens and positions of the columns that enter the first block.
    tokens: Vec<u16>,
    positions: Vec<u16>,
    /// Tokens of the columns that leave the last block.
    last_tokens: Vec<u16>,
    /// Column of every sequence among those.
    readout: Vec<usize>,
    layers: Vec<Layer>,
}

/// Columns of a block.
#[derive(Clone, Debug)]
struct Layer {
    /// Number of columns that enter it: their keys and values are computed.
    inputs: usize,
    /// Columns that leave it, as columns of its input.
    outputs: Vec<usize>,
    /// Positions of both.
    input_positions: Vec<u16>,
    output_positions: Vec<u16>,
    /// True if queries are computed at the inputs, else at the outputs, whichever are fewer.
    queries_at_inputs: bool,
    paths: Paths,
}

/// A node of the tree.
struct Prefix {
    token: u16,
    depth: u16,
    /// Columns from the first token to this one.
    path: Vec<usize>,
}

impl Prefixes {
    /// The tree of `sequences` for models of `config`; those longer than its context lose tokens on the left.
    ///
    /// # Panics
    /// When there is no sequence, one is empty, or one is longer than 65,536 tokens.
    #[track_caller]
    pub fn new<'s>(sequences: impl IntoIterator<Item = &'s [u16]>, config: &Config) -> Self {
        let sequences = sequences.into_iter().map(|s| &s[s.len().saturating_sub(config.n_ctx)..]);
        let (tree, ends) = tree(sequences);
        assert!(!ends.is_empty(), "a pass needs sequences");

        // Columns that enter the first block: a token, with its position where that matters.
        let mut first: HashMap<(u16, u16), usize> = HashMap::new();
        let (mut tokens, mut positions) = (vec![], vec![]);
        let mut first_of = Vec::with_capacity(tree.len());
        for prefix in &tree {
            let position = if config.positions == Positions::None { 0 } else { prefix.depth };
            first_of.push(*first.entry((prefix.token, position)).or_insert_with(|| {
                tokens.push(prefix.token);
                positions.push(position);
                tokens.len() - 1
            }));
        }
        let (mut last, mut readout) = (vec![], vec![]);
        for end in ends {
            readout.push(last.iter().position(|&l| l == end).unwrap_or_else(|| {
                last.push(end);
                last.len() - 1
            }));
        }
        let last_tokens = last.iter().map(|&prefix| tree[prefix].token).collect();
        let identity: Vec<usize> = (0..tree.len()).collect();
        let depths: Vec<u16> = tree.iter().map(|p| p.depth).collect();
        let layers = (0..config.n_layer).map(|layer| {
            let (inputs, of) = if layer == 0 { (tokens.len(), &first_of) } else { (tree.len(), &identity) };
            let leaving = if layer + 1 == config.n_layer { &last } else { &identity };
            let input_positions = if layer == 0 { positions.clone() } else { depths.clone() };
            Layer::new(&tree, (inputs, of, input_positions), leaving)
        });
        let layers = layers.collect();
        Self { tokens, positions, last_tokens, readout, layers }
    }

    /// Number of columns of every block's input and output, in order.
    pub fn columns(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.layers.iter().map(|layer| (layer.inputs, layer.outputs.len()))
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.readout.len()
    }
}

impl Layer {
    fn new(tree: &[Prefix], (inputs, of, input_positions): (usize, &[usize], Vec<u16>), leaving: &[usize]) -> Self {
        let queries_at_inputs = inputs <= leaving.len();
        let mut paths = Paths::default();
        for (output, &prefix) in leaving.iter().enumerate() {
            let query = if queries_at_inputs { of[prefix] } else { output };
            paths.push(query, tree[prefix].path.iter().map(|&p| of[p]));
        }
        let outputs = leaving.iter().map(|&prefix| of[prefix]).collect();
        let output_positions = leaving.iter().map(|&prefix| tree[prefix].depth).collect();
        Self { inputs, outputs, input_positions, output_positions, queries_at_inputs, paths }
    }
}

/// Every prefix that is different, in the order in which sequences bring them, and the one that each sequence ends at.
#[track_caller]
fn tree<'s>(sequences: impl Iterator<Item = &'s [u16]>) -> (Vec<Prefix>, Vec<usize>) {
    let mut children: HashMap<(usize, u16), usize> = HashMap::new();
    let (mut tree, mut ends): (Vec<Prefix>, Vec<usize>) = (vec![], vec![]);
    for sequence in sequences {
        assert!(!sequence.is_empty(), "sequences have tokens");
        let mut at = usize::MAX;
        for (depth, &token) in sequence.iter().enumerate() {
            let parent = at;
            at = *children.entry((parent, token)).or_insert_with(|| {
                let number = tree.len();
                let before = tree.get(parent).map_or(&[][..], |p| &p.path);
                let path = before.iter().copied().chain([number]).collect();
                let depth = u16::try_from(depth).expect("sequences of at most 65,536 tokens");
                tree.push(Prefix { token, depth, path });
                number
            });
        }
        ends.push(at);
    }
    (tree, ends)
}

#[cfg(test)]
mod tests;
