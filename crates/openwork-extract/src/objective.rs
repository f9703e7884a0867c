//! What a mask is learned for: the published task loss, nearness to the model, or that nobody can break the circuit
//! from outside.
//!
//! Task loss alone can be had without doing what the model does (Drori 2026). KL(model ‖ circuit) asks for the model's
//! own distribution; the adversarial objective adds that to what the worst ablation of a few closed nodes does, one
//! scheme for the whole batch (after VPD's adversarial masks).

use openwork_circuit::{Batch, Means, NodeSpace, Partial, batches};
use openwork_model::{Matrix, Model, NoTap, Tokens};
use openwork_tasks::Pair;
use rayon::prelude::*;

use crate::Settings;

/// What a mask is learned for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objective {
    /// The two-way cross-entropy of the right answer (Gao et al. 2025).
    #[default]
    Task,
    /// KL(model ‖ circuit) over the vocabulary, at the last token.
    Kl,
    /// That, and the same under an adversary who ablates a few closed nodes of the model.
    Adversarial,
}

impl Objective {
    /// All, in the order of their numbers in circuit files.
    pub const ALL: [Self; 3] = [Self::Task, Self::Kl, Self::Adversarial];

    /// As numbers in circuit files.
    pub(crate) fn number(self) -> f64 {
        Self::ALL.iter().position(|o| *o == self).expect("one of all") as f64
    }
}

impl std::fmt::Display for Objective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Task => "task",
            Self::Kl => "kl",
            Self::Adversarial => "adversarial",
        })
    }
}

impl std::str::FromStr for Objective {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|o| o.to_string() == name);
        named.ok_or_else(|| format!("there is no objective {name:?}; there are task, kl and adversarial"))
    }
}

/// KL(model ‖ run) in nats, summed over sequences, and its gradient with respect to every node's coefficient.
struct Divergence {
    kl: f64,
    gradient: Vec<f64>,
}

/// A batch of pairs with the model's own distributions on it.
pub(crate) struct Target<'a> {
    model: &'a Model,
    space: &'a NodeSpace,
    means: &'a Means,
    chunks: Vec<(Batch, Matrix)>,
    sequences: f64,
}

impl<'a> Target<'a> {
    /// A fixed split into chunks, added up in order: the number of threads does not matter.
    pub fn new(model: &'a Model, space: &'a NodeSpace, means: &'a Means, pairs: &[Pair]) -> Self {
        let chunks = batches(pairs, pairs.len().div_ceil(4), model.config.n_ctx).into_par_iter().map(|batch| {
            let tokens = Tokens::new(&batch.tokens, batch.seq_len);
            let mut p = model.forward(tokens, Some(&batch.readout), &mut NoTap).logits;
            softmax(&mut p);
            (batch, p)
        });
        Self { model, space, means, chunks: chunks.collect(), sequences: 2.0 * pairs.len() as f64 }
    }

    /// With node n kept to the part `r[n]` and its mean for the rest.
    fn divergence(&self, r: &[f32]) -> Divergence {
        let one = |(batch, p): &(Batch, Matrix)| {
            let mut tap = Partial::new(self.space, r, openwork_circuit::Ablation::Mean(self.means));
            let tokens = Tokens::new(&batch.tokens, batch.seq_len);
            let pass = self.model.forward(tokens, Some(&batch.readout), &mut tap);
            let mut q = pass.logits.clone();
            softmax(&mut q);
            let kl: f64 = p
                .iter()
                .zip(&q)
                .map(|(&p, &q)| f64::from(p) * (f64::from(p.max(1e-30)) / f64::from(q.max(1e-30))).ln())
                .sum();
            self.model.backward(&pass, &(q - p), &mut tap, None);
            (kl, tap.gradient)
        };
        let parts: Vec<(f64, Vec<f32>)> = self.chunks.par_iter().map(one).collect();
        let mut gradient = vec![0.0; r.len()];
        for (_, part) in &parts {
            gradient.iter_mut().zip(part).for_each(|(g, &x)| *g += f64::from(x) / self.sequences);
        }
        Divergence { kl: parts.iter().map(|p| p.0).sum::<f64>() / self.sequences, gradient }
    }

    /// The objective [`Objective::Kl`] under a mask (node n open where `tau[n] > 0`), and its gradient by gate.
    pub fn kl(&self, tau: &[f32]) -> (f64, Vec<f64>) {
        let r: Vec<f32> = tau.iter().map(|&t| f32::from(u8::from(t > 0.0))).collect();
        let Divergence { kl, gradient } = self.divergence(&r);
        (kl, gradient)
    }

    /// The objective [`Objective::Adversarial`]. `ablated` is the adversary's scheme, `1 − r` of every node, which goes
    /// on from step to step.
    pub fn adversarial(&self, tau: &[f32], ablated: &mut Vec<f64>, settings: &Settings) -> (f64, Vec<f64>) {
        let (kl, mut gradient) = self.kl(tau);
        let closed: Vec<bool> = tau.iter().map(|&t| t <= 0.0).collect();
        let open = closed.iter().filter(|c| !**c).count();
        let budget = (settings.adversary_share * open as f64).max(1.0);
        ablated.resize(tau.len(), 0.0);
        // Nodes that have opened since are safe.
        ablated.iter_mut().zip(&closed).for_each(|(a, closed)| *a *= f64::from(u8::from(*closed)));
        let mut attacked = self.divergence(&whole_but(ablated));
        for towards in ADVERSARY_STEPS {
            // At the model itself KL is flat: then the gradient at a small ablation, not the same for all nodes, or
            // those that cancel each other would go on doing so.
            if ablated.iter().all(|a| *a == 0.0) {
                let little = closed.iter().enumerate().map(|(n, c)| f64::from(u8::from(*c)) * 0.2 * uneven(n));
                attacked = self.divergence(&whole_but(&little.collect::<Vec<_>>()));
            }
            let vertex = vertex(&attacked.gradient, &closed, budget);
            ablated.iter_mut().zip(vertex).for_each(|(a, v)| *a += towards * (v - *a));
            attacked = self.divergence(&whole_but(ablated));
        }
        // Opening a node takes it from the adversary: its coefficient goes from r to 1.
        for ((g, by_coefficient), a) in gradient.iter_mut().zip(&attacked.gradient).zip(ablated.iter()) {
            *g += by_coefficient * a;
        }
        (kl + attacked.kl, gradient)
    }
}

/// How far the adversary goes towards the best vertex, step after step of a step of the mask.
const ADVERSARY_STEPS: [f64; 2] = [0.5, 0.3];

/// Spread evenly over [0, 1) and unlike for neighbours: multiples of the golden ratio.
fn uneven(n: usize) -> f64 {
    (n as f64 * 0.618_033_988_749_895).fract()
}

fn whole_but(ablated: &[f64]) -> Vec<f32> {
    ablated.iter().map(|a| (1.0 - a) as f32).collect()
}

/// The closed nodes whose ablation raises the divergence most, `budget` of them.
fn vertex(gradient: &[f64], closed: &[bool], budget: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..gradient.len()).filter(|&n| closed[n] && gradient[n] < 0.0).collect();
    order.sort_by(|&a, &b| gradient[a].total_cmp(&gradient[b]).then(a.cmp(&b)));
    let mut vertex = vec![0.0; gradient.len()];
    order.iter().take(budget.ceil() as usize).for_each(|&n| vertex[n] = 1.0);
    vertex
}

fn softmax(logits: &mut Matrix) {
    let log_sum = openwork_ops::log_sum_exp(logits);
    for mut row in logits.rows_mut() {
        row.iter_mut().zip(&log_sum).for_each(|(x, l)| *x = (*x - l).exp());
    }
}

/// What the worst scheme that a short attack finds on closed nodes costs the model: the rise of the mean of
/// `−log p(the model's answer)` over the two candidates, in nats per sequence.
pub(crate) fn attack_cost(
    model: &Model,
    space: &NodeSpace,
    means: &Means,
    nodes: &openwork_circuit::NodeSet,
    pairs: &[Pair],
    settings: &Settings,
) -> f64 {
    const STEPS: usize = 3;
    let batches = batches(pairs, pairs.len().div_ceil(4), model.config.n_ctx);
    let closed: Vec<bool> = nodes.kept().iter().map(|k| !k).collect();
    let budget = (settings.adversary_share * nodes.len() as f64).max(1.0);
    let signs: Vec<Vec<f64>> = batches
        .par_iter()
        .map(|b| {
            let pass = model.forward(Tokens::new(&b.tokens, b.seq_len), Some(&b.readout), &mut NoTap);
            differences(&pass.logits, b).into_iter().map(f64::signum).collect()
        })
        .collect();
    // The slope of the loss, or what all answers are pushed towards: at the model losses of sure answers have none.
    let loss = |ablated: &[f64], push: Option<f64>| -> (f64, Vec<f64>) {
        let r = whole_but(ablated);
        let one = |(batch, signs): (&Batch, &Vec<f64>)| {
            let mut tap = Partial::new(space, &r, openwork_circuit::Ablation::Mean(means));
            let pass = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
            let mut dlogits = Matrix::zeros(pass.logits.dim());
            let mut total = 0.0;
            for (i, (d, sign)) in differences(&pass.logits, batch).into_iter().zip(signs).enumerate() {
                let x = -sign * d;
                total += x.max(0.0) + (-x.abs()).exp().ln_1p();
                let slope = push.unwrap_or(-sign / (1.0 + (-x).exp())) as f32;
                let (answer, alternative) = batch.candidates[i];
                dlogits[[usize::from(answer), i]] += slope;
                dlogits[[usize::from(alternative), i]] -= slope;
            }
            model.backward(&pass, &dlogits, &mut tap, None);
            (total, tap.gradient)
        };
        let parts: Vec<(f64, Vec<f32>)> = batches.par_iter().zip(&signs).map(one).collect();
        let mut gradient = vec![0.0; r.len()];
        parts.iter().for_each(|(_, p)| gradient.iter_mut().zip(p).for_each(|(g, &x)| *g += f64::from(x)));
        (parts.iter().map(|p| p.0).sum::<f64>() / (2 * pairs.len()) as f64, gradient)
    };
    let whole = vec![0.0; closed.len()];
    let (clean, upwards) = loss(&whole, Some(1.0));
    let mut worst = clean;
    for direction in [1.0, -1.0] {
        let push: Vec<f64> = upwards.iter().map(|g| direction * g).collect();
        let mut ablated = vertex(&push, &closed, budget);
        for step in 0..STEPS {
            let (value, gradient) = loss(&ablated, None);
            worst = worst.max(value);
            let towards = 2.0 / (step as f64 + 3.0);
            let vertex = vertex(&gradient, &closed, budget);
            ablated.iter_mut().zip(vertex).for_each(|(a, v)| *a += towards * (v - *a));
        }
    }
    worst - clean
}

fn differences(logits: &Matrix, batch: &Batch) -> Vec<f64> {
    let at = |token: u16, i: usize| f64::from(logits[[usize::from(token), i]]);
    batch.candidates.iter().enumerate().map(|(i, c)| at(c.0, i) - at(c.1, i)).collect()
}

#[cfg(test)]
mod tests {
    use openwork_model::Config;

    use super::*;

    #[test]
    fn gradients_of_the_divergence_are_finite_differences() {
        let config = Config { vocab_size: 12, n_ctx: 6, n_layer: 1, act_density: None, ..Config::default() };
        let mut model = Model::init(config, 2);
        model.params.values_mut().into_iter().for_each(|w| w.update(|w| *w *= 3.0));
        let means = Means::compute(&model, &(0..12).collect::<Vec<u16>>(), 6);
        let space = NodeSpace::new(&model.config);
        let pairs: Vec<Pair> = (0..4)
            .map(|i| Pair { positive: vec![i, 5, 6], negative: vec![i, 7], answer: 9, alternative: 10, template: 0 })
            .collect();
        let target = Target::new(&model, &space, &means, &pairs);
        assert!(target.divergence(&vec![1.0; space.len()]).kl.abs() < 1e-6, "the model is the model");
        let r: Vec<f32> = (0..space.len()).map(|n| 0.3 + 0.4 * ((n * 5 % 7) as f32 / 7.0)).collect();
        let gradient = target.divergence(&r).gradient;
        let h = 3e-3_f32;
        let moved = |sign: f32| -> Vec<f32> {
            r.iter().enumerate().map(|(n, r)| r + sign * h * (((n * 11) % 5) as f32 - 2.0)).collect()
        };
        let slope = (target.divergence(&moved(1.0)).kl - target.divergence(&moved(-1.0)).kl) / (2.0 * f64::from(h));
        let along: f64 = gradient.iter().enumerate().map(|(n, g)| g * (((n * 11) % 5) as f64 - 2.0)).sum();
        assert!((slope - along).abs() < 0.02 * slope.abs().max(0.05), "{slope} {along}");
    }

    #[test]
    fn names_round_trip() {
        for objective in Objective::ALL {
            assert_eq!(objective.to_string().parse(), Ok(objective));
        }
        assert!("loss".parse::<Objective>().unwrap_err().contains("adversarial"));
    }
}
