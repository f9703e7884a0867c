//! Trace: every value of one run of a model on a prompt.

use std::{collections::BTreeMap, ops::ControlFlow};

use ndarray::ArrayView1;
use openwork_circuit::Node;
use openwork_model::{Matrix, Model, PassState, Record, Site, SiteKind, Tap, Tokens};

use crate::{Place, Quantity, Target, backtrace::attention::score};

/// A value that a run takes at a node and a position in place of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The node, a feature of any site.
    pub node: Node,
    /// Position of the token, from 0.
    pub position: usize,
    /// The value.
    pub value: f32,
}

/// The tap that makes changes, and keeps the values that they replace. Of several changes of one entry the last holds.
struct Changes {
    by_site: BTreeMap<Site, Vec<Change>>,
    /// Values that the model gave at changed entries.
    given: BTreeMap<(Node, usize), f32>,
}

impl Changes {
    fn new(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut by_site: BTreeMap<Site, Vec<Change>> = BTreeMap::new();
        changes.into_iter().for_each(|change| by_site.entry(change.node.site).or_default().push(change));
        Self { by_site, given: BTreeMap::new() }
    }
}

impl Tap for Changes {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        for &Change { node, position, value: new } in self.by_site.get(&site).into_iter().flatten() {
            let entry = &mut value[[node.index, position]];
            self.given.entry((node, position)).or_insert(*entry);
            *entry = new;
        }
        ControlFlow::Continue(())
    }

    fn sees_gradients(&self) -> bool {
        false
    }
}

/// Every value of a run: the sites `[features, positions]` as the changes left them, and the logits `[vocab, positions]`.
/// The same model, tokens and changes give the same bits.
#[derive(Clone, Debug)]
pub struct Trace {
    tokens: Vec<u16>,
    record: Record,
    logits: Matrix,
    given: BTreeMap<(Node, usize), f32>,
}

impl Trace {
    /// Runs `model` on `tokens` with `changes`.
    ///
    /// # Panics
    /// When there are no tokens, more than `n_ctx`, or one outside the vocabulary; or a change names an entry that the
    /// model does not have.
    #[track_caller]
    pub fn run(model: &Model, tokens: &[u16], changes: &[Change]) -> Self {
        let mut tap = (Changes::new(changes.iter().copied()), Record::default());
        let logits = model.forward(Tokens::new(tokens, tokens.len()), None, &mut tap).logits;
        let (Changes { given, .. }, record) = tap;
        Self { tokens: tokens.to_vec(), record, logits, given }
    }

    /// Logits `[vocab]` at `position` of the run with `changes` and then `more`: bit for bit those of [`Trace::run`] with
    /// both. Only what follows the first site of `more` is computed; `changes` are those of this trace.
    ///
    /// # Panics
    /// As [`Trace::run`].
    #[track_caller]
    pub fn logits_with(&self, model: &Model, changes: &[Change], more: &[Change], position: usize) -> Vec<f32> {
        let Some(first) = more.iter().map(|change| change.node.site).min() else {
            return self.logits.column(position).to_vec();
        };
        let tokens = Tokens::new(&self.tokens, self.tokens.len());
        let all = changes.iter().chain(more).copied();
        // Final reads are recorded at all positions, and a resumed pass has those that are read out.
        if first.kind == SiteKind::FinalRead {
            let logits = Self::run(model, &self.tokens, &all.collect::<Vec<_>>()).logits;
            return logits.column(position).to_vec();
        }
        // Queries, keys and values are given together, so their changes are made here.
        let value = |site: Site| {
            let mut value = self.record.at(site)?.clone();
            for change in more.iter().filter(|change| change.node.site == site) {
                value[[change.node.index, change.position]] = change.value;
            }
            Some(value)
        };
        let state = PassState::new(first, value).expect("every site of a trace is recorded");
        // The tap sees the later sites at all positions but the final read, which has one column.
        let seen = all.filter_map(|change| match change.node.site.kind {
            SiteKind::FinalRead => (change.position == position).then_some(Change { position: 0, ..change }),
            _ => Some(change),
        });
        let mut tap = Changes::new(seen);
        model.resume(tokens, Some(&[position]), state, &mut tap).column(0).to_vec()
    }

    /// Tokens of the prompt.
    pub fn tokens(&self) -> &[u16] {
        &self.tokens
    }

    /// Values `[features, positions]` at a site.
    ///
    /// # Panics
    /// When the model has no such site.
    #[track_caller]
    pub fn site(&self, site: Site) -> &Matrix {
        self.record.at(site).unwrap_or_else(|| panic!("the model has no site {site}"))
    }

    /// Values of all features at a site and a position.
    ///
    /// # Panics
    /// When the model has no such site or the prompt no such position.
    #[track_caller]
    pub fn column(&self, site: Site, position: usize) -> ArrayView1<'_, f32> {
        self.site(site).column(position)
    }

    /// Value of a node at a position.
    ///
    /// # Panics
    /// When the model has no such node or the prompt no such position.
    #[track_caller]
    pub fn value(&self, node: Node, position: usize) -> f32 {
        self.site(node.site)[[node.index, position]]
    }

    /// Values `[rows, positions]` at a place: features of a site, or logits.
    pub fn place(&self, place: Place) -> &Matrix {
        match place {
            Place::Site(site) => self.site(site),
            Place::Logits => &self.logits,
        }
    }

    /// Logits, `[vocab, positions]`.
    pub fn logits(&self) -> &Matrix {
        &self.logits
    }

    /// Value of a quantity at a position. A lead is `logit(a) − logit(b)` in f64, a score `q · k / √d_head` with the f32
    /// roundings of the forward pass.
    ///
    /// # Panics
    /// When the model has no such quantity or the prompt no such position.
    #[track_caller]
    pub fn quantity(&self, model: &Model, target: Target) -> f64 {
        let Target { quantity, position } = target;
        let logit = |token: u16| f64::from(self.logits[[usize::from(token), position]]);
        match quantity {
            Quantity::Node(node) => f64::from(self.value(node, position)),
            Quantity::Logit(token) => logit(token),
            Quantity::Lead(first, second) => logit(first) - logit(second),
            Quantity::Score { layer, head, key, .. } => {
                f64::from(score(&model.config, self, layer, head, position, key))
            }
        }
    }

    /// Value that the model gave at an entry, if that was changed.
    pub fn given(&self, node: Node, position: usize) -> Option<f32> {
        self.given.get(&(node, position)).copied()
    }

    /// Changed entries of a site at a position, with the values that the model gave.
    pub(crate) fn given_at(&self, site: Site, position: usize) -> impl Iterator<Item = (Node, f32)> + '_ {
        let of = move |((node, at), value): (&(Node, usize), &f32)| {
            (node.site == site && *at == position).then_some((*node, *value))
        };
        self.given.iter().filter_map(of)
    }

    /// Token of the largest logit at a position; ties by index.
    pub fn answer(&self, position: usize) -> u16 {
        let column = self.logits.column(position);
        let mut best = 0;
        for (token, logit) in column.iter().enumerate() {
            if *logit > column[best] {
                best = token;
            }
        }
        best as u16
    }
}
