//! Contexts of data on which a node fires.

use std::ops::ControlFlow;

use openwork_circuit::Node;
use openwork_model::{Cpu, Matrix, Model, Site, Tap, Tokens};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::Vocabulary;

/// Data in windows, such as the sample of training tokens beside a model.
#[derive(Clone, Debug)]
pub struct Contexts {
    tokens: Vec<u16>,
    length: usize,
}

/// Tokens of a context that are shown before its own.
const BEFORE: usize = 16;
/// Contexts of each kind.
const SHOWN: usize = 5;
/// Seed of the contexts that are drawn.
const SEED: u64 = 0;

impl Contexts {
    /// Windows of `length` tokens; what is left at the end is not used.
    ///
    /// # Panics
    /// When `length` is 0.
    pub fn new(mut tokens: Vec<u16>, length: usize) -> Self {
        assert!(length > 0, "windows have tokens");
        tokens.truncate(tokens.len() / length * length);
        Self { tokens, length }
    }

    /// The windows, in their order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[u16]> {
        self.tokens.chunks_exact(self.length)
    }

    /// Number of windows.
    pub fn windows(&self) -> usize {
        self.tokens.len() / self.length
    }
}

/// A position of the data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fired {
    /// Window.
    pub window: usize,
    /// Position in it.
    pub position: usize,
    /// Value of the node there.
    pub value: f32,
    /// Text before the token.
    pub before: String,
    /// The token, in quotes.
    pub token: String,
}

/// Contexts on which a node fires.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhereFires {
    /// The node.
    pub node: String,
    /// It fires where its value is above this.
    pub above: f32,
    /// Windows that were read.
    pub windows: usize,
    /// Their positions, and those at which it fires.
    pub positions: [usize; 2],
    /// Largest values, one a window.
    pub top: Vec<Fired>,
    /// Some of those at which it fires, drawn with seed 0.
    pub drawn: Vec<Fired>,
    /// Values that are nearest to the bound, on either side.
    pub near: Vec<Fired>,
}

/// The row of one node, and then the end of the pass.
struct Row {
    node: Node,
    values: Vec<f32>,
}

impl Tap for Row {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        if site != self.node.site {
            return ControlFlow::Continue(());
        }
        self.values = value.row(self.node.index).to_vec();
        ControlFlow::Break(())
    }

    fn sees_gradients(&self) -> bool {
        false
    }
}

impl WhereFires {
    /// Looks for `node` in the first `windows` windows of `contexts`. Every window is a run of its own.
    ///
    /// # Panics
    /// When the model has no such node, or windows are longer than its context.
    pub fn new(
        model: &Model,
        vocabulary: &dyn Vocabulary,
        contexts: &Contexts,
        node: Node,
        above: f32,
        windows: usize,
    ) -> Self {
        let length = contexts.length;
        let windows = windows.min(contexts.windows());
        let tokens = &contexts.tokens[..windows * length];
        let rows: Vec<Vec<f32>> = tokens
            .par_chunks(length)
            .map(|window| {
                let mut tap = Row { node, values: vec![] };
                let _ = model.forward_until(Tokens::new(window, length), Some(&[0]), &mut tap, &mut Cpu::default());
                tap.values
            })
            .collect();
        let values: Vec<f32> = rows.concat();
        let fired = |at: usize| {
            let window = at / length;
            let before = &tokens[(window * length).max(at.saturating_sub(BEFORE))..at];
            Fired {
                window,
                position: at % length,
                value: values[at],
                before: vocabulary.decode(before),
                token: vocabulary.quoted(tokens[at]),
            }
        };
        let firing: Vec<usize> = (0..values.len()).filter(|&at| values[at] > above).collect();
        let best = |window: usize| {
            let in_window = firing.iter().copied().filter(|at| at / length == window);
            in_window.max_by(|&a, &b| values[a].total_cmp(&values[b]).then(b.cmp(&a)))
        };
        let mut top: Vec<usize> = (0..windows).filter_map(best).collect();
        top.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
        let drawn = draw(&firing, SHOWN);
        let mut near: Vec<usize> = (0..values.len()).filter(|&at| values[at] != 0.0 && values[at] != above).collect();
        near.sort_by(|&a, &b| (values[a] - above).abs().total_cmp(&(values[b] - above).abs()).then(a.cmp(&b)));
        let shown = |list: &[usize]| list.iter().take(SHOWN).map(|&at| fired(at)).collect();
        Self {
            node: node.to_string(),
            above,
            windows,
            positions: [values.len(), firing.len()],
            top: shown(&top),
            drawn: shown(&drawn),
            near: shown(&near),
        }
    }
}

/// `count` entries of a list, or all where there are fewer: drawn without replacement, the same for the same list, in the order of their
/// values.
pub fn draw(list: &[usize], count: usize) -> Vec<usize> {
    let (mut rng, mut pool) = (ChaCha8Rng::seed_from_u64(SEED), list.to_vec());
    let count = count.min(pool.len());
    for at in 0..count {
        let other = rng.random_range(at..pool.len());
        pool.swap(at, other);
    }
    pool.truncate(count);
    pool.sort_unstable();
    pool
}
