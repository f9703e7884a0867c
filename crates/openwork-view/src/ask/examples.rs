//! Contexts of the training data around tokens at which a node is large, active, or hardly active.

use std::ops::ControlFlow;

use openwork_circuit::Node;
use openwork_debug::draw;
use openwork_model::{Cpu, Matrix, Site, Tap, Tokens};
use rayon::prelude::*;
use serde::Serialize;

use crate::{View, ViewError, ask::Token, open::OpenedModel};

/// Windows of the sample that are run.
const WINDOWS: usize = 512;
/// Tokens that are shown before and after the one in question.
const AROUND: [usize; 2] = [20, 8];
/// Contexts of each kind.
const SHOWN: usize = 6;

/// Contexts of a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Examples {
    /// The node.
    pub node: String,
    /// Windows and tokens that were read.
    pub read: [usize; 2],
    /// Tokens at which it is not zero.
    pub active: usize,
    /// Largest magnitude of its value.
    pub largest: f32,
    /// Contexts: those of the largest values and of the most negative ones, one a window each; tokens at which it is active, drawn
    /// with seed 0; and tokens at which it is active and nearest to zero.
    pub lists: Vec<Contexts>,
}

/// Contexts of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contexts {
    /// Their kind, in words.
    pub title: String,
    /// The contexts.
    pub examples: Vec<Example>,
}

/// A context.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// Window of the sample.
    pub window: usize,
    /// Position in it of the token in question.
    pub position: usize,
    /// Number of that token in `tokens`.
    pub at: usize,
    /// Tokens around it.
    pub tokens: Vec<Token>,
    /// Value of the node at each.
    pub values: Vec<f32>,
}

/// The rows of some nodes, up to the last of their sites, where the pass ends.
struct Rows<'a> {
    nodes: &'a [Node],
    last: Option<Site>,
    values: Vec<Vec<f32>>,
}

impl Tap for Rows<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        for (node, values) in self.nodes.iter().zip(&mut self.values).filter(|(node, _)| node.site == site) {
            *values = value.row(node.index).to_vec();
        }
        if Some(site) == self.last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn sees_gradients(&self) -> bool {
        false
    }
}

impl View {
    /// Contexts of a node in the first windows of the sample beside the model, each a run of its own.
    ///
    /// # Errors
    /// When there is no such circuit, its model has no such node, or no sample lies beside it.
    pub fn examples(&self, circuit: usize, name: &str) -> Result<Examples, ViewError> {
        let (_, opened) = self.circuit(circuit)?;
        let node = opened.parse_node(name)?;
        Ok(self.examples_of(circuit, &[node])?.remove(0))
    }

    /// [`View::examples`] of several nodes, in one pass over the sample.
    ///
    /// # Errors
    /// When there is no such circuit, or no sample lies beside its model.
    ///
    /// # Panics
    /// When the model has no such node.
    pub fn examples_of(&self, circuit: usize, nodes: &[Node]) -> Result<Vec<Examples>, ViewError> {
        let (_, opened) = self.circuit(circuit)?;
        let sample = opened.sample.as_ref().ok_or(ViewError::NoSample)?;
        let length = sample.n_ctx;
        let tokens = &sample.tokens[..sample.tokens.len().min(WINDOWS * length)];
        let last = nodes.iter().map(|node| node.site).max();
        let windows: Vec<Vec<Vec<f32>>> = tokens
            .par_chunks(length)
            .map(|window| {
                let mut tap = Rows { nodes, last, values: vec![vec![]; nodes.len()] };
                let model = &opened.open.model;
                let _ = model.forward_until(Tokens::new(window, length), Some(&[0]), &mut tap, &mut Cpu::default());
                tap.values
            })
            .collect();
        let of = |(i, node): (usize, &Node)| {
            let values = windows.iter().flat_map(|rows| rows[i].iter().copied()).collect();
            Found { opened, tokens, values, length }.examples(&node.to_string())
        };
        Ok(nodes.iter().enumerate().map(of).collect())
    }
}

struct Found<'a> {
    opened: &'a OpenedModel,
    tokens: &'a [u16],
    values: Vec<f32>,
    length: usize,
}

impl Found<'_> {
    fn examples(&self, name: &str) -> Examples {
        let values = &self.values;
        let active: Vec<usize> = (0..values.len()).filter(|&at| values[at] != 0.0).collect();
        let mut least = active.clone();
        least.sort_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()).then(a.cmp(&b)));
        let shown = |title: &str, list: &[usize]| Contexts {
            title: title.to_owned(),
            examples: list.iter().take(SHOWN).map(|&at| self.example(at)).collect(),
        };
        Examples {
            node: name.to_owned(),
            read: [values.len() / self.length, values.len()],
            active: active.len(),
            largest: active.iter().map(|&at| values[at].abs()).fold(0.0, f32::max),
            lists: vec![
                shown("Largest", &self.best(&active, 1.0)),
                shown("Most negative", &self.best(&active, -1.0)),
                shown("Drawn at random", &draw(&active, SHOWN)),
                shown("Nearest to zero", &least),
            ],
        }
    }

    /// Tokens of the largest `sign · value` above zero, one a window, the largest first.
    fn best(&self, active: &[usize], sign: f32) -> Vec<usize> {
        let value = |at: usize| sign * self.values[at];
        let mut best: Vec<usize> = active
            .chunk_by(|a, b| a / self.length == b / self.length)
            .filter_map(|window| window.iter().copied().max_by(|&a, &b| value(a).total_cmp(&value(b)).then(b.cmp(&a))))
            .filter(|&at| value(at) > 0.0)
            .collect();
        best.sort_by(|&a, &b| value(b).total_cmp(&value(a)).then(a.cmp(&b)));
        best
    }

    fn example(&self, at: usize) -> Example {
        let window = at / self.length;
        let from = (window * self.length).max(at.saturating_sub(AROUND[0]));
        let to = ((window + 1) * self.length).min(at + AROUND[1] + 1);
        Example {
            window,
            position: at % self.length,
            at: at - from,
            tokens: self.opened.texts(&self.tokens[from..to]),
            values: self.values[from..to].to_vec(),
        }
    }
}
