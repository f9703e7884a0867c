//! Running a model with only some of its nodes.

use openwork_model::{Matrix, Site, Tap};

use crate::{Means, NodeSet};

/// What a removed node's value is replaced by, at every token.
#[derive(Clone, Copy, Debug)]
pub enum Ablation<'a> {
    /// Zero.
    Zero,
    /// Its mean over training data.
    Mean(&'a Means),
}

/// The tap that keeps some nodes and ablates the others: `x ← x` where kept, the ablation's value elsewhere.
pub struct Keep<'a> {
    nodes: &'a NodeSet,
    ablation: Ablation<'a>,
    /// Sites of the set that the forward pass visited; a caller checks it against [`Keep::expected`].
    pub visited: usize,
    /// Entries whose value the ablation changed.
    pub changed: usize,
}

impl<'a> Keep<'a> {
    /// Keeps `nodes` and ablates all others.
    pub fn new(nodes: &'a NodeSet, ablation: Ablation<'a>) -> Self {
        Self { nodes, ablation, visited: 0, changed: 0 }
    }

    /// Sites a forward pass must visit.
    pub fn expected(&self) -> usize {
        self.nodes.space().sites().len()
    }
}

impl Tap for Keep<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) {
        let Some(range) = self.nodes.space().range(site) else { return };
        assert_eq!(value.nrows(), range.len(), "{site} has another width than the node set");
        self.visited += 1;
        for (mut row, node) in value.rows_mut().into_iter().zip(range) {
            if !self.nodes.kept()[node] {
                let fill = match self.ablation {
                    Ablation::Zero => 0.0,
                    Ablation::Mean(means) => means.values()[node],
                };
                self.changed += row.iter().filter(|&&x| x != fill).count();
                row.fill(fill);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use openwork_model::{Config, Model, NoTap, Record, Tokens};

    use super::*;
    use crate::NodeSpace;

    #[test]
    fn all_kept_is_the_model_and_none_kept_forgets_the_input() {
        let model = Model::init(Config { vocab_size: 40, ..Config::default() }, 1);
        let tokens: Vec<u16> = (0..40).map(|t| t * 3 % 40).collect();
        let batch = Tokens::new(&tokens, 20);
        let means = Means::compute(&model, &tokens, 20);
        let space = NodeSpace::new(&model.config);
        let run = |nodes: &NodeSet, ablation| {
            let mut keep = Keep::new(nodes, ablation);
            let logits = model.forward(batch, None, &mut keep).logits;
            assert_eq!(keep.visited, keep.expected());
            (logits, keep.changed)
        };
        let plain = model.forward(batch, None, &mut NoTap).logits;
        assert_eq!(run(&NodeSet::all(space.clone()), Ablation::Zero), (plain.clone(), 0));
        for ablation in [Ablation::Zero, Ablation::Mean(&means)] {
            let (logits, changed) = run(&NodeSet::empty(space.clone()), ablation);
            assert!(changed > 0 && logits != plain);
        }

        // One node removed: exactly that feature takes the mean.
        let only = 70;
        let without = NodeSet::of(space.clone(), (0..space.len()).filter(|&n| n != only));
        struct Both<'a>(Keep<'a>, Record);
        impl Tap for Both<'_> {
            fn forward(&mut self, site: Site, value: &mut Matrix) {
                self.0.forward(site, value);
                self.1.forward(site, value);
            }
        }
        let mut tap = Both(Keep::new(&without, Ablation::Mean(&means)), Record::default());
        model.forward(batch, None, &mut tap);
        let node = space.node(only);
        let value = &tap.1.values.iter().find(|v| v.0 == node.site).unwrap().1;
        assert!(value.row(node.index).iter().all(|&x| x == means.values()[only]));
    }
}
