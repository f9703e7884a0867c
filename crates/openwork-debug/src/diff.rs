//! Difference of two prompts: the first point at which they part, the nodes that carry it, and a small set of nodes that
//! decides the answer.

use openwork_circuit::{Node, NodeSpace};
use openwork_model::Model;
use rayon::prelude::*;
use serde::{Serialize, Serializer};

use crate::{Change, Trace};

/// For every position of `a` the position of `b` that it is compared with.
///
/// Prompts of one length are compared position by position. Otherwise tokens that both begin with are compared from the
/// start, those that both end with from the end, and always the last ones; others have no counterpart.
pub fn align(a: &[u16], b: &[u16]) -> Vec<Option<usize>> {
    if a.len() == b.len() {
        return (0..a.len()).map(Some).collect();
    }
    let shorter = a.len().min(b.len());
    let same = |pairs: &mut dyn Iterator<Item = (&u16, &u16)>| pairs.take_while(|(a, b)| a == b).count();
    let prefix = same(&mut a.iter().zip(b));
    let suffix = same(&mut a.iter().rev().zip(b.iter().rev())).min(shorter - prefix).max(1);
    (0..a.len())
        .map(|at| match at {
            _ if at + suffix >= a.len() => Some(at + b.len() - a.len()),
            _ if at < prefix => Some(at),
            _ => None,
        })
        .collect()
}

/// A run that is compared.
#[derive(Clone, Copy)]
pub struct Compared<'a> {
    /// Name of the prompt.
    pub name: &'a str,
    /// The run.
    pub trace: &'a Trace,
    /// Changes that it was made with.
    pub changes: &'a [Change],
}

/// A node at which two runs have different values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parting {
    /// The node, a feature of any site.
    #[serde(serialize_with = "as_text")]
    pub node: Node,
    /// Position in the first prompt.
    pub position: usize,
    /// Value in the first run.
    pub from: f32,
    /// Value in the second run.
    pub to: f32,
}

/// A node whose exchange changes the output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Carrier {
    /// The node.
    #[serde(serialize_with = "as_text")]
    pub node: Node,
    /// Positions at which its values differ.
    pub positions: usize,
    /// Logit difference of the first run with the values of the second at this node.
    pub lead: f64,
    /// Part of the way from the first run's logit difference to the second's: 1 is all of it.
    pub share: f64,
}

/// Set of nodes whose exchange flips the answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Flip {
    /// Both runs have the same answer, or one of them is tied.
    SameAnswer,
    /// The exchange of all nodes does not flip it: the difference is in positions that have no counterpart, or in paths
    /// that go through no node.
    NotByAll {
        /// Logit difference with all nodes exchanged.
        lead: f64,
    },
    /// The exchange of these nodes flips it, and that of none of the sets with one node less.
    Set {
        /// The nodes, in the order of the forward pass.
        #[serde(serialize_with = "as_texts")]
        nodes: Vec<Node>,
        /// Logit difference with these nodes exchanged.
        lead: f64,
        /// Nodes that the greedy search had taken before the reduction.
        taken: usize,
    },
}

/// Difference of two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Name of the first prompt, which is changed.
    pub from: String,
    /// Name of the second prompt, whose values are taken.
    pub to: String,
    /// Tokens of the first prompt, and those of them with a counterpart.
    pub positions: [usize; 2],
    /// First position at which the tokens differ.
    pub first_token: Option<usize>,
    /// First point in the order of the forward pass at which values differ.
    pub parting: Option<Parting>,
    /// The same at the last position.
    pub parting_at_end: Option<Parting>,
    /// Tokens of the logit difference: that of the first less that of the second.
    pub tokens: [u16; 2],
    /// Logit difference of both runs at their last positions, in nats.
    pub lead: [f64; 2],
    /// Number of nodes with different values.
    pub differing: usize,
    /// Nodes whose exchange changes the logit difference, the largest change towards the second run first.
    pub carriers: Vec<Carrier>,
    /// Smallest set that was found.
    pub flip: Flip,
    /// Runs that were made.
    pub runs: usize,
}

fn as_text<S: Serializer>(node: &Node, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(node)
}

fn as_texts<S: Serializer>(nodes: &[Node], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(nodes.iter().map(ToString::to_string))
}

impl Difference {
    /// Compares two runs of `model`, by the logit of `tokens[0]` less that of `tokens[1]` at the last position.
    ///
    /// A node is exchanged at every position that has a counterpart and at which the values differ; everything after it is
    /// computed anew. Nodes are taken one by one, those with the largest effect of their own first, until the sign of the
    /// logit difference is that of the second run; then every node is left out that is not needed, those with the smallest
    /// effect first, until none of those that are left can be. The set is 1-minimal: there may be smaller ones.
    pub fn new(model: &Model, from: Compared<'_>, to: Compared<'_>, tokens: [u16; 2]) -> Self {
        let counterparts = align(from.trace.tokens(), to.trace.tokens());
        let last = from.trace.tokens().len() - 1;
        let lead =
            |logits: &[f32]| f64::from(logits[usize::from(tokens[0])]) - f64::from(logits[usize::from(tokens[1])]);
        let last_of = |trace: &Trace| trace.logits().column(trace.tokens().len() - 1).to_vec();
        let leads = [lead(&last_of(from.trace)), lead(&last_of(to.trace))];
        let exchanges = exchanges(model, from.trace, to.trace, &counterparts);
        let run = |more: &[Change]| lead(&from.trace.logits_with(model, from.changes, more, last));
        let singles: Vec<f64> = exchanges.par_iter().map(|(_, changes)| run(changes)).collect();
        let mut runs = singles.len();
        let way = leads[1] - leads[0];
        let mut carriers: Vec<(usize, Carrier)> = exchanges
            .iter()
            .zip(&singles)
            .enumerate()
            .map(|(i, ((node, changes), &lead))| {
                let share = if way == 0.0 { 0.0 } else { (lead - leads[0]) / way };
                (i, Carrier { node: *node, positions: changes.len(), lead, share })
            })
            .collect();
        carriers.sort_by(|a, b| b.1.share.total_cmp(&a.1.share));
        let order: Vec<usize> = carriers.iter().map(|(i, _)| *i).collect();
        let flip = flip(&exchanges, &order, leads, &run, &mut runs);
        let carriers: Vec<Carrier> = carriers.into_iter().map(|(_, c)| c).filter(|c| c.lead != leads[0]).collect();
        let first_token = counterparts
            .iter()
            .enumerate()
            .find(|(at, other)| other.is_none_or(|other| from.trace.tokens()[*at] != to.trace.tokens()[other]))
            .map(|(at, _)| at);
        Self {
            from: from.name.to_owned(),
            to: to.name.to_owned(),
            positions: [counterparts.len(), counterparts.iter().flatten().count()],
            first_token,
            parting: parting(model, from.trace, to.trace, &counterparts, None),
            parting_at_end: parting(model, from.trace, to.trace, &counterparts, Some(last)),
            tokens,
            lead: leads,
            differing: exchanges.len(),
            carriers,
            flip,
            runs,
        }
    }
}

/// Every node with different values, with the changes that give the first run those of the second.
fn exchanges(model: &Model, from: &Trace, to: &Trace, counterparts: &[Option<usize>]) -> Vec<(Node, Vec<Change>)> {
    let space = NodeSpace::new(&model.config);
    let of = |node: Node| -> Vec<Change> {
        let pairs = counterparts.iter().enumerate().filter_map(|(at, other)| other.map(|other| (at, other)));
        pairs
            .map(|(position, other)| Change { node, position, value: to.value(node, other) })
            .filter(|change| change.value != from.value(node, change.position))
            .collect()
    };
    (0..space.len()).map(|n| space.node(n)).map(|node| (node, of(node))).filter(|(_, c)| !c.is_empty()).collect()
}

/// The first entry in the order of the forward pass with different values, at `only` or any position.
fn parting(
    model: &Model,
    from: &Trace,
    to: &Trace,
    counterparts: &[Option<usize>],
    only: Option<usize>,
) -> Option<Parting> {
    let pairs = counterparts.iter().enumerate().filter_map(|(at, other)| other.map(|other| (at, other)));
    let pairs: Vec<(usize, usize)> = pairs.filter(|(at, _)| only.is_none_or(|only| only == *at)).collect();
    model.config.sites().into_iter().find_map(|site| {
        pairs.iter().find_map(|&(position, other)| {
            let (a, b) = (from.column(site, position), to.column(site, other));
            let index = (0..a.len()).find(|&i| a[i] != b[i])?;
            Some(Parting { node: Node { site, index }, position, from: a[index], to: b[index] })
        })
    })
}

fn flip(
    exchanges: &[(Node, Vec<Change>)],
    order: &[usize],
    [from, to]: [f64; 2],
    run: &dyn Fn(&[Change]) -> f64,
    runs: &mut usize,
) -> Flip {
    let flipped = |lead: f64| lead.signum() == to.signum() && lead != 0.0;
    if from == 0.0 || to == 0.0 || from.signum() == to.signum() {
        return Flip::SameAnswer;
    }
    let mut lead_of = |set: &[usize]| {
        *runs += 1;
        let changes: Vec<Change> = set.iter().flat_map(|&i| exchanges[i].1.iter().copied()).collect();
        run(&changes)
    };
    let all = lead_of(order);
    let mut set = Vec::new();
    let mut lead = from;
    for &i in order {
        set.push(i);
        lead = lead_of(&set);
        if flipped(lead) {
            break;
        }
    }
    if !flipped(lead) {
        return Flip::NotByAll { lead: all };
    }
    let taken = set.len();
    loop {
        let before = set.len();
        // The last ones have the smallest effect of their own.
        for at in (0..set.len()).rev() {
            let mut without = set.clone();
            without.remove(at);
            let found = lead_of(&without);
            if flipped(found) {
                (set, lead) = (without, found);
            }
        }
        if set.len() == before {
            break;
        }
    }
    let mut nodes: Vec<Node> = set.iter().map(|&i| exchanges[i].0).collect();
    nodes.sort_unstable();
    Flip::Set { nodes, lead, taken }
}
