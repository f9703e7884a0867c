//! Distances that an intervention on the model is asked to keep small, and runs of the model under one.

use openwork_circuit::{Ablation, Batch, Means, NodeSpace, Partial, contrast, softplus};
use openwork_model::{Cpu, Gradient, Model, Params, Record, Tokens};

/// Weight of the distance of logit differences beside the divergence, which is flat where both answers are sure.
const PULL: f64 = 0.1;

/// Ablation values of an intervention.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// Means over training data.
    Means,
    /// Zero.
    Zero,
    /// Values of the same node in the plain runs of other prompts of the batch: at every column that of the column named.
    OtherPrompts(Vec<usize>),
}

/// Requirement on the logit differences d of a run, sequence by sequence.
#[derive(Clone, Debug)]
pub(crate) enum Requirement {
    /// The original model's: `KL(σ(d₀) ‖ σ(d)) + 0.1 · h(d − d₀)` with `h(x) = x²/2` up to 1 and `|x| − ½` beyond.
    Answers(Vec<f64>),
    /// To tell the prompts of a pair apart no better than another run does: `½ h((d₊ − d₋) − (d'₊ − d'₋))` of every pair.
    Contrast(Vec<f64>),
}

impl Requirement {
    /// Value and slope `∂value/∂d` of every sequence, in nats.
    pub fn of(&self, d: &[f64]) -> Vec<(f64, f64)> {
        let one = |i: usize| match self {
            Self::Answers(of_original) => {
                let (p, q) = (of_original[i], d[i]);
                let apart = q - p;
                (kl(p, q) + PULL * huber(apart), sigmoid(q) - sigmoid(p) + PULL * apart.clamp(-1.0, 1.0))
            }
            Self::Contrast(of_other) => {
                let (positive, negative) = (i & !1, i | 1);
                let apart = (d[positive] - d[negative]) - (of_other[positive] - of_other[negative]);
                let side = if i == positive { 1.0 } else { -1.0 };
                // Half of the pair's value to each of its sequences; the slope is that of the whole.
                (0.25 * huber(apart), 0.5 * apart.clamp(-1.0, 1.0) * side)
            }
        };
        (0..d.len()).map(one).collect()
    }
}

/// `KL(σ(p) ‖ σ(q))` of two log odds, nats.
fn kl(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| (-softplus(-p)).exp() * (softplus(-q) - softplus(-p));
    part(p, q) + part(-p, -q)
}

fn huber(x: f64) -> f64 {
    if x.abs() <= 1.0 { x * x / 2.0 } else { x.abs() - 0.5 }
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Model in training with the means of its nodes, which follow it from time to time.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub model: &'a Model,
    pub space: &'a NodeSpace,
    pub means: &'a Means,
    /// Values of all nodes in the plain run of the batch, where an intervention needs them.
    pub record: Option<&'a Record>,
}

/// Value and slope of every sequence, by its logit difference.
pub(crate) type Slopes<'a> = dyn Fn(&[f64]) -> Vec<(f64, f64)> + 'a;

/// Outcome of a run under an intervention.
pub(crate) struct Ran {
    /// Slope of the requirement with respect to every node's coefficient r.
    pub by_coefficient: Vec<f64>,
    /// Mean of the requirement over sequences, nats.
    pub value: f64,
}

impl Context<'_> {
    /// Logit differences with node n kept to the part `r[n]`.
    pub fn differences(&self, batch: &Batch, r: &[f32], values: &Values, cpu: &mut Cpu) -> Vec<f64> {
        self.with_ablation(values, |ablation| {
            let mut tap = Partial::new(self.space, r, ablation);
            let tokens = Tokens::new(&batch.tokens, batch.seq_len);
            let pass = self.model.forward_in(tokens, Some(&batch.readout), &mut tap, cpu);
            let differences = batch.outcome(&pass.logits, false).differences;
            pass.recycle(cpu);
            differences
        })
    }

    /// The same with the mean over sequences of `slopes(d)`, a value and a slope of every sequence, and its gradients: by
    /// coefficient, and `factor` times that of the parameters, which is added to `gradients`.
    pub fn gradient(
        &self,
        batch: &Batch,
        (r, values): (&[f32], &Values),
        slopes: &Slopes<'_>,
        gradients: Option<(f64, &mut Params<Gradient>)>,
        cpu: &mut Cpu,
    ) -> Ran {
        self.with_ablation(values, |ablation| {
            let mut tap = Partial::new(self.space, r, ablation);
            let tokens = Tokens::new(&batch.tokens, batch.seq_len);
            let pass = self.model.forward_in(tokens, Some(&batch.readout), &mut tap, cpu);
            let differences = batch.outcome(&pass.logits, false).differences;
            let (factor, gradients) = gradients.map_or((1.0, None), |(factor, gradients)| (factor, Some(gradients)));
            let n = differences.len() as f64;
            let of = slopes(&differences);
            let (sum, by_logit) = contrast(&pass.logits, batch, |i, _| (of[i].0, of[i].1 * factor / n));
            self.model.backward_in(&pass, &by_logit, &mut tap, gradients, cpu);
            let by_coefficient = tap.gradient.iter().map(|&g| f64::from(g)).collect();
            pass.recycle(cpu);
            Ran { by_coefficient, value: sum / n }
        })
    }

    fn with_ablation<T>(&self, values: &Values, f: impl FnOnce(Ablation<'_>) -> T) -> T {
        match values {
            Values::Means => f(Ablation::Mean(self.means)),
            Values::Zero => f(Ablation::Zero),
            Values::OtherPrompts(columns) => {
                let record = self.record.expect("recorded where a term asks for it").rearranged(columns);
                f(Ablation::Recorded(&record))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_values() {
        let original = vec![2.0, -1.0, 0.3, -4.0];
        let d = [1.4, -0.2, 3.0, 0.1];
        for requirement in [Requirement::Answers(original.clone()), Requirement::Contrast(original)] {
            let total = |d: &[f64]| requirement.of(d).iter().map(|x| x.0).sum::<f64>();
            for i in 0..d.len() {
                let step = |h: f64| -> Vec<f64> { (0..d.len()).map(|j| d[j] + if i == j { h } else { 0.0 }).collect() };
                let slope = (total(&step(1e-5)) - total(&step(-1e-5))) / 2e-5;
                assert!((slope - requirement.of(&d)[i].1).abs() < 1e-8, "{requirement:?} {i}: {slope}");
            }
        }
    }

    #[test]
    fn the_original_is_at_no_distance_and_a_common_shift_is_none_of_a_contrast() {
        let d = [2.0, -1.0];
        assert!(Requirement::Answers(d.to_vec()).of(&d).iter().all(|x| *x == (0.0, 0.0)));
        assert!(Requirement::Answers(vec![5.0, 2.0]).of(&d).iter().all(|x| x.0 > 0.1));
        assert!(Requirement::Contrast(vec![5.0, 2.0]).of(&d).iter().all(|x| *x == (0.0, 0.0)));
    }
}
