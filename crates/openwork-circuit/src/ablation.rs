//! Ablation: runs of a model with only some of its nodes.

use std::ops::ControlFlow;

use ndarray::Zip;
use openwork_model::{Matrix, Record, Site, Tap};

use crate::{Means, NodeSet, NodeSpace};

/// Ablation values: the value that takes the place of an ablated node, at every token.
#[derive(Clone, Copy, Debug)]
pub enum Ablation<'a> {
    /// Zero.
    Zero,
    /// Mean of the node over training data.
    Mean(&'a Means),
    /// A constant for each node, by node number.
    Constant(&'a [f32]),
    /// Value of the node in other runs, token by token of the batch.
    Recorded(&'a Record),
}

impl Ablation<'_> {
    /// Ablation value of a node at every token of a batch: its constant, or its row of the recorded values.
    fn of(&self, site: Site, node: usize, index: usize) -> Replacement<'_> {
        match self {
            Self::Zero => Replacement::Constant(0.0),
            Self::Mean(means) => Replacement::Constant(means.values()[node]),
            Self::Constant(values) => Replacement::Constant(values[node]),
            Self::Recorded(record) => Replacement::Row(record.at(site).expect("the site was recorded").row(index)),
        }
    }
}

enum Replacement<'a> {
    Constant(f32),
    Row(ndarray::ArrayView1<'a, f32>),
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
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let Some(range) = self.nodes.space().range(site) else { return ControlFlow::Continue(()) };
        assert_eq!(value.nrows(), range.len(), "{site} has another width than the node set");
        self.visited += 1;
        for (index, (mut row, node)) in value.rows_mut().into_iter().zip(range).enumerate() {
            if self.nodes.kept()[node] {
                continue;
            }
            match self.ablation.of(site, node, index) {
                Replacement::Constant(value) => {
                    self.changed += row.iter().filter(|&&x| x != value).count();
                    row.fill(value);
                }
                Replacement::Row(values) => {
                    self.changed += row.iter().zip(values).filter(|(x, v)| x != v).count();
                    row.assign(&values);
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// The tap that ablates nodes in part: `x ← a + r (x − a)` with the ablation value a, one `r ∈ [0, 1]` per node, the same
/// at every token of every sequence. r = 1 keeps a node bit for bit and r = 0 is [`Keep`]'s ablation; a learned mask is
/// r = H(τ).
///
/// Backward collects `∂loss/∂r = Σ ∂loss/∂x' (x − a)` over the tokens of the batch.
pub struct Partial<'a> {
    space: &'a NodeSpace,
    r: &'a [f32],
    ablation: Ablation<'a>,
    /// `x − a` of every site, pushed in forward and popped in backward.
    deviations: Vec<Matrix>,
    /// The gradient, by node number.
    pub gradient: Vec<f32>,
}

impl<'a> Partial<'a> {
    /// Ablates node n to the part `1 − r[n]`.
    pub fn new(space: &'a NodeSpace, r: &'a [f32], ablation: Ablation<'a>) -> Self {
        assert_eq!(r.len(), space.len(), "one coefficient a node");
        Self { space, r, ablation, deviations: vec![], gradient: vec![0.0; r.len()] }
    }
}

impl Tap for Partial<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let Some(range) = self.space.range(site) else { return ControlFlow::Continue(()) };
        let mut deviations = Matrix::zeros(value.dim());
        let rows = value.rows_mut().into_iter().zip(deviations.rows_mut()).zip(range).enumerate();
        for (index, ((mut row, mut deviation), node)) in rows {
            let r = self.r[node];
            let blend = |x: &mut f32, d: &mut f32, value: f32| {
                *d = *x - value;
                *x = if r == 1.0 {
                    *x
                } else if r == 0.0 {
                    value
                } else {
                    r.mul_add(*d, value)
                };
            };
            let row = Zip::from(&mut row).and(&mut deviation);
            match self.ablation.of(site, node, index) {
                Replacement::Constant(value) => row.for_each(|x, d| blend(x, d, value)),
                Replacement::Row(values) => row.and(values).for_each(|x, d, &value| blend(x, d, value)),
            }
        }
        self.deviations.push(deviations);
        ControlFlow::Continue(())
    }

    fn backward(&mut self, site: Site, gradient: &mut Matrix) {
        let Some(range) = self.space.range(site) else { return };
        let deviations = self.deviations.pop().expect("backward mirrors forward");
        for ((mut row, deviation), node) in gradient.rows_mut().into_iter().zip(deviations.rows()).zip(range) {
            self.gradient[node] += row.iter().zip(deviation).map(|(g, d)| g * d).sum::<f32>();
            let r = self.r[node];
            if r == 0.0 {
                row.fill(0.0);
            } else {
                row.iter_mut().for_each(|g| *g *= r);
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
        let mut tap = (Keep::new(&without, Ablation::Mean(&means)), Record::default());
        model.forward(batch, None, &mut tap);
        let node = space.node(only);
        let value = &tap.1.values.iter().find(|v| v.0 == node.site).unwrap().1;
        assert!(value.row(node.index).iter().all(|&x| x == means.values()[only]));
    }

    #[test]
    fn recorded_values_of_the_same_run_change_nothing_and_those_of_another_do() {
        let model = Model::init(Config { vocab_size: 40, ..Config::default() }, 1);
        let space = NodeSpace::new(&model.config);
        let run = |tokens: &[u16], tap: &mut dyn Tap| model.forward(Tokens::new(tokens, 5), None, tap).logits;
        let (a, b): (Vec<u16>, Vec<u16>) = ((0..10).collect(), (10..20).collect());
        let [mut of_a, mut of_b] = [(); 2].map(|()| Record::of_kinds(&NodeSpace::KINDS));
        let (plain, _) = (run(&a, &mut of_a), run(&b, &mut of_b));
        let nodes = NodeSet::of(space.clone(), (0..space.len()).step_by(2));
        assert_eq!(run(&a, &mut Keep::new(&nodes, Ablation::Recorded(&of_a))), plain);
        assert_ne!(run(&a, &mut Keep::new(&nodes, Ablation::Recorded(&of_b))), plain);
        // Sequences exchanged: with nothing kept, the first reads out what the second had, but for the token itself.
        let exchanged: Vec<usize> = (5..10).chain(0..5).collect();
        let swapped = of_a.rearranged(&exchanged);
        let site = space.sites()[3].0;
        assert_eq!(swapped.at(site).unwrap().column(1), of_a.at(site).unwrap().column(6));
        let constant = vec![0.25; space.len()];
        let mut tap = Keep::new(&nodes, Ablation::Constant(&constant));
        run(&a, &mut tap);
        assert!(tap.changed > 0);
    }

    #[test]
    fn partial_ablation_ends_at_the_model_and_at_the_ablation_and_has_the_gradient_between() {
        // Without AbsTopK, whose choice jumps.
        let config = Config { vocab_size: 12, n_layer: 1, act_density: None, ..Config::default() };
        let mut model = Model::init(config, 3);
        model.params.values_mut().into_iter().for_each(|w| w.update(|w| *w *= 3.0));
        let space = NodeSpace::new(&model.config);
        let tokens: Vec<u16> = (0..12).collect();
        let batch = Tokens::new(&tokens, 6);
        let values: Vec<f32> = (0..space.len()).map(|n| (n % 7) as f32 * 0.1 - 0.3).collect();
        let ablation = Ablation::Constant(&values);
        let logits = |r: &[f32]| model.forward(batch, None, &mut Partial::new(&space, r, ablation)).logits;
        let nodes = NodeSet::of(space.clone(), (0..space.len()).step_by(3));
        let ends: Vec<f32> = nodes.kept().iter().map(|&k| f32::from(u8::from(k))).collect();
        assert_eq!(logits(&ends), model.forward(batch, None, &mut Keep::new(&nodes, ablation)).logits);
        assert_eq!(logits(&vec![1.0; space.len()]), model.forward(batch, None, &mut NoTap).logits);

        let r: Vec<f32> = (0..space.len()).map(|n| 0.2 + 0.6 * ((n * 7 % 11) as f32 / 11.0)).collect();
        let weights = Matrix::from_shape_fn((12, 12), |(i, j)| ((i * 5 + j * 3) % 7) as f32 / 7.0 - 0.4);
        let mut tap = Partial::new(&space, &r, ablation);
        let pass = model.forward(batch, None, &mut tap);
        model.backward(&pass, &weights, &mut tap, None);
        let loss = |r: &[f32]| logits(r).iter().zip(&weights).map(|(l, w)| f64::from(l * w)).sum::<f64>();
        // Along a direction that moves every node; the f32 pass is good to some 1e-6 of its terms.
        let h = 1e-2;
        let step = |sign: f32| -> Vec<f32> {
            r.iter().enumerate().map(|(n, r)| r + sign * h * (((n * 13) % 5) as f32 - 2.0)).collect()
        };
        let slope = (loss(&step(1.0)) - loss(&step(-1.0))) / (2.0 * f64::from(h));
        let along: f64 =
            tap.gradient.iter().enumerate().map(|(n, g)| f64::from(*g) * (((n * 13) % 5) as f64 - 2.0)).sum();
        assert!((slope - along).abs() < 2e-2 * slope.abs().max(1e-2), "{slope} {along}");
    }
}
