//! Groups of nodes outside the circuit that are ablated as one: what cancels in a group is seen when a half of it is gone.
//!
//! Nodes belong together by block, head and site, by a node that they read or write, and by correlated activity. Of every group
//! there are also the nodes whose value raises the mean logit difference, and those whose value lowers it.

use std::collections::BTreeMap;

use openwork_model::{Matrix, Record, SiteKind, Tokens};

use super::{Adversary, Candidate, Effect, Search};

/// A group of nodes.
pub(crate) struct Unit {
    /// Property that they share.
    pub name: String,
    pub nodes: Vec<usize>,
}

/// Groups by weights and activity that are tried, by the size of their slopes.
const MOST: usize = 96;

/// Correlation of two nodes that are active together, in either sense.
const TOGETHER: f64 = 0.95;

/// First nodes of groups of activity, at every site.
const LEADERS: usize = 64;

impl Adversary<'_> {
    /// Groups by block, head and site.
    pub fn parts_of_the_model(&self) -> Vec<Unit> {
        let space = self.safe.space();
        let d_head = self.evaluator.context.model.config.d_head;
        let mut groups = BTreeMap::<String, Vec<usize>>::new();
        for &n in &self.live {
            let node = space.node(n);
            groups.entry(format!("block {}", node.site.layer)).or_default().push(n);
            groups.entry(format!("site {}", node.site)).or_default().push(n);
            if matches!(node.site.kind, SiteKind::Query | SiteKind::Key | SiteKind::Value) {
                groups.entry(format!("head {} of block {}", node.index / d_head, node.site.layer)).or_default().push(n);
            }
        }
        groups.into_iter().map(|(name, nodes)| Unit { name, nodes }).collect()
    }

    /// The group whose ablation turns most answers, alone or in one of its halves. False beside it if time ran out.
    pub fn worst_unit(&self, parts: &[Unit]) -> (Option<(String, Candidate)>, bool) {
        let mut others = self.by_weights();
        others.extend(self.by_activity_together());
        let mut ranked: Vec<(f64, Unit)> = others.into_iter().flat_map(|u| self.halves(&u)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.nodes.cmp(&b.1.nodes)));
        ranked.dedup_by(|a, b| a.1.nodes == b.1.nodes);
        let parts = parts.iter().flat_map(|u| self.halves(u));
        let mut worst: Option<(String, Candidate)> = None;
        for (_, unit) in parts.chain(ranked.into_iter().take(MOST)) {
            if (self.out_of_time)() {
                return (worst, false);
            }
            let r = self.ablating(&unit.nodes);
            let effect = self.effect(&r);
            let least = worst.as_ref().map_or(Effect { turned: -1.0, loss: 0.0 }, |w| w.1.effect);
            if effect > least {
                worst = Some((unit.name, Candidate { r, search: Search::Groups, effect }));
            }
        }
        (worst, true)
    }

    /// A group, those of it that raise the mean logit difference, and those that lower it; each with the size of its slopes.
    fn halves(&self, unit: &Unit) -> Vec<(f64, Unit)> {
        let half = |what: &str, sign: f64| {
            let nodes: Vec<usize> = unit.nodes.iter().copied().filter(|&n| sign * self.upwards[n] > 0.0).collect();
            let size = nodes.iter().map(|&n| self.upwards[n].abs()).sum::<f64>();
            let name = format!("{}, as far as it {what} the answer", unit.name);
            (nodes.len() > 1 && nodes.len() < unit.nodes.len()).then_some((size, Unit { name, nodes }))
        };
        let size = |slopes: &[f64]| unit.nodes.iter().map(|&n| slopes[n]).sum::<f64>().abs();
        let whole = Unit { name: unit.name.clone(), nodes: unit.nodes.clone() };
        let whole = (unit.nodes.len() > 1).then(|| (size(&self.against).max(size(&self.upwards)), whole));
        [whole, half("raises", 1.0), half("lowers", -1.0)].into_iter().flatten().collect()
    }

    /// Nodes that read one node, and nodes that write one.
    fn by_weights(&self) -> Vec<Unit> {
        use SiteKind::{AttnRead, AttnWrite, Key, MlpRead, MlpWrite, Neuron, Query, Value};
        let (model, space) = (self.evaluator.context.model, self.safe.space());
        let d_attn = model.config.n_head * model.config.d_head;
        let mut live = vec![false; space.len()];
        self.live.iter().for_each(|&n| live[n] = true);
        let mut units = vec![];
        for (layer, block) in model.params.blocks.iter().enumerate() {
            let first = |kind| space.range(openwork_model::Site { layer, kind }).expect("a kind of node").start;
            let mut add = |w: &Matrix, rows: std::ops::Range<usize>, from: SiteKind, to: SiteKind| {
                let w = w.slice(ndarray::s![rows, ..]);
                let members = |values: ndarray::ArrayView1<'_, f32>, kind: SiteKind| -> Vec<usize> {
                    let nodes = values.iter().enumerate().filter(|(_, w)| **w != 0.0).map(|(i, _)| first(kind) + i);
                    nodes.filter(|&n| live[n]).collect()
                };
                for (row, values) in w.rows().into_iter().enumerate() {
                    let name = format!("writers of {}", space.node(first(to) + row));
                    units.push(Unit { name, nodes: members(values, from) });
                }
                for (column, values) in w.columns().into_iter().enumerate() {
                    let name = format!("readers of {}", space.node(first(from) + column));
                    units.push(Unit { name, nodes: members(values, to) });
                }
            };
            let qkv = block.qkv.weight.dense();
            for (part, to) in [Query, Key, Value].into_iter().enumerate() {
                add(qkv, part * d_attn..(part + 1) * d_attn, AttnRead, to);
            }
            let rows = |w: &Matrix| 0..w.nrows();
            let [attn_out, fc, proj] = [&block.attn_out, &block.fc, &block.proj].map(|l| l.weight.dense());
            add(attn_out, rows(attn_out), Value, AttnWrite);
            add(fc, rows(fc), MlpRead, Neuron);
            add(proj, rows(proj), Neuron, MlpWrite);
        }
        units.retain(|u| u.nodes.len() > 1);
        units
    }

    /// Nodes of one site whose values correlate, on some of the pairs, with those of one of them.
    fn by_activity_together(&self) -> Vec<Unit> {
        let space = self.safe.space();
        let Some(batch) = self.evaluator.batches().first() else { return vec![] };
        let mut values = Record::of_kinds(&openwork_circuit::NodeSpace::KINDS);
        let tokens = Tokens::new(&batch.tokens, batch.seq_len);
        self.evaluator.context.model.forward(tokens, Some(&batch.readout), &mut values);
        let real: Vec<usize> =
            batch.readout.iter().enumerate().flat_map(|(i, &last)| i * batch.seq_len..=last).collect();
        let standard = |n: usize| -> Option<Vec<f64>> {
            let node = space.node(n);
            let row = values.at(node.site).expect("recorded").row(node.index);
            let mut row: Vec<f64> = real.iter().map(|&t| f64::from(row[t])).collect();
            let mean = row.iter().sum::<f64>() / row.len() as f64;
            row.iter_mut().for_each(|x| *x -= mean);
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
            (norm > 1e-6).then_some(row)
        };
        let mut units = vec![];
        for (_, range) in space.sites() {
            let mut leaders: Vec<(Vec<f64>, Unit)> = vec![];
            for &n in self.live.iter().filter(|n| range.contains(n)) {
                let Some(row) = standard(n) else { continue };
                let correlation = |other: &[f64]| row.iter().zip(other).map(|(a, b)| a * b).sum::<f64>().abs();
                match leaders.iter().position(|(leader, _)| correlation(leader) >= TOGETHER) {
                    Some(i) => leaders[i].1.nodes.push(n),
                    None if leaders.len() < LEADERS => {
                        let name = format!("active with {}", space.node(n));
                        leaders.push((row, Unit { name, nodes: vec![n] }));
                    }
                    None => {}
                }
            }
            units.extend(leaders.into_iter().map(|l| l.1).filter(|u| u.nodes.len() > 1));
        }
        units
    }
}
