//! Runs of a model with nodes ablated, wholly or in part, on a fixed list of pairs, and what they are measured by.

use openwork_circuit::{
    Ablation, Batch, Calibration, Claim, Frozen, Keep, Means, NodeSet, NodeSpace, NormScales, Outcome, Partial,
    batches, contrast, credit, evaluate, softplus,
};
use openwork_model::{Model, NoTap, Tokens};
use openwork_tasks::Pair;
use rayon::prelude::*;

/// Pairs of a forward pass.
const PAIRS_PER_BATCH: usize = 4;

/// A model on some pairs of a task.
pub(crate) struct Bench<'a> {
    pub model: &'a Model,
    pub space: &'a NodeSpace,
    pub means: &'a Means,
    pub pairs: &'a [Pair],
    batches: Vec<Batch>,
    /// Scales of the plain model's norms, batch by batch.
    scales: Vec<NormScales>,
    /// The plain model.
    pub plain: Outcome,
    pub measure: Measure,
}

/// Value and slope of every sequence, by all logit differences of a run.
pub(crate) type Slopes<'a> = dyn Fn(&[f64]) -> Vec<(f64, f64)> + Sync + 'a;

/// Mean over sequences of a function of the logit differences, and its gradient by the nodes' coefficients.
pub(crate) struct Gradient {
    pub value: f64,
    pub by_coefficient: Vec<f64>,
    pub differences: Vec<f64>,
}

impl<'a> Bench<'a> {
    pub fn new(model: &'a Model, space: &'a NodeSpace, means: &'a Means, pairs: &'a [Pair], claim: Claim) -> Self {
        let batches = batches(pairs, PAIRS_PER_BATCH, model.config.n_ctx);
        let recorded = batches.par_iter().map(|batch| {
            let mut scales = NormScales::new(model);
            model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut scales);
            scales
        });
        let scales = recorded.collect();
        let plain = evaluate(model, &batches, false, || NoTap, |_| ());
        let measure = Measure::new(claim, &plain.differences);
        Self { model, space, means, pairs, batches, scales, plain, measure }
    }

    /// The mean ablation of this model.
    pub fn mean(&self) -> Ablation<'a> {
        Ablation::Mean(self.means)
    }

    /// Run with `nodes` kept and all others ablated.
    pub fn alone(&self, nodes: &NodeSet, ablation: Ablation<'_>) -> Outcome {
        evaluate(self.model, &self.batches, false, || Keep::new(nodes, ablation), |_| ())
    }

    /// [`Bench::alone`] with the scales of the norms frozen at those of the plain model.
    pub fn frozen(&self, nodes: &NodeSet, ablation: Ablation<'_>) -> Outcome {
        let one = |(batch, scales): (&Batch, &NormScales)| {
            let mut tap = Frozen::new(Keep::new(nodes, ablation), self.model, scales, &batch.readout);
            let tokens = Tokens::new(&batch.tokens, batch.seq_len);
            batch.outcome(&self.model.forward(tokens, Some(&batch.readout), &mut tap).logits, false)
        };
        let parts: Vec<Outcome> = self.batches.par_iter().zip(&self.scales).map(one).collect();
        let mut all = Outcome::default();
        parts.into_iter().for_each(|part| all.append(part));
        all
    }

    /// Mean over sequences of `slopes(d)` with node n kept to the part `r[n]`, and its gradient with respect to r.
    pub fn gradient(&self, r: &[f32], ablation: Ablation<'_>, slopes: &Slopes<'_>) -> Gradient {
        // Forward passes first: the slope of a sequence may depend on all others, by their best common shift.
        let forward = |batch: &Batch| {
            let mut tap = Partial::new(self.space, r, ablation);
            let pass = self.model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
            (pass, tap)
        };
        let passes: Vec<_> = self.batches.par_iter().map(forward).collect();
        let of_batch = |(batch, (pass, _)): (&Batch, &(openwork_model::Pass, Partial<'_>))| {
            batch.outcome(&pass.logits, false).differences
        };
        let differences: Vec<f64> = self.batches.iter().zip(&passes).flat_map(of_batch).collect();
        let of_sequence = slopes(&differences);
        let n = differences.len() as f64;
        let backward = |(i, (pass, mut tap)): (usize, (openwork_model::Pass, Partial<'_>))| {
            let first = 2 * PAIRS_PER_BATCH * i;
            let slope = |sequence: usize, _| (0.0, of_sequence[first + sequence].1 / n);
            let (_, by_logit) = contrast(&pass.logits, &self.batches[i], slope);
            self.model.backward(&pass, &by_logit, &mut tap, None);
            tap.gradient
        };
        let parts: Vec<Vec<f32>> = passes.into_par_iter().enumerate().map(backward).collect();
        // Added up in the order of the batches: the number of threads does not matter.
        let mut by_coefficient = vec![0.0; r.len()];
        for part in &parts {
            by_coefficient.iter_mut().zip(part).for_each(|(sum, &g)| *sum += f64::from(g));
        }
        Gradient { value: of_sequence.iter().map(|v| v.0).sum::<f64>() / n, by_coefficient, differences }
    }
}

/// Measure of runs by the model's answers: as they are, or after the best shift that is common to all prompts.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    claim: Claim,
    /// The model's answer after every prompt, ±1; 0 after prompts that do not count.
    signs: Vec<f64>,
    of_model: Vec<f64>,
}

impl Measure {
    /// Of a contrast only those pairs count to whose two prompts the model gives different answers, neither of them a tie: a model that
    /// always says the same would agree with anything after a shift without end.
    pub fn new(claim: Claim, of_model: &[f64]) -> Self {
        let parted = |i: usize| (credit(of_model[i & !1]) - credit(of_model[i | 1])).abs() == 1.0;
        let sign = |(i, d): (usize, &f64)| match claim {
            Claim::Contrast if !parted(i) => 0.0,
            _ if *d < 0.0 => -1.0,
            _ => 1.0,
        };
        Self { claim, signs: of_model.iter().enumerate().map(sign).collect(), of_model: of_model.to_vec() }
    }

    /// Sequences that count.
    pub fn counted(&self) -> usize {
        self.signs.iter().filter(|sign| **sign != 0.0).count()
    }

    /// The model's answer after a prompt, ±1; 0 after those that do not count.
    pub fn sign(&self, sequence: usize) -> f64 {
        self.signs[sequence]
    }

    /// Shift of all logit differences that suits the model's answers best, in nats: of an answer none; of a contrast the s of least
    /// `Σ softplus(−aᵢ (dᵢ + s))`, bisected.
    pub fn shift(&self, differences: &[f64]) -> f64 {
        if self.claim == Claim::Answer {
            return 0.0;
        }
        let counted = || differences.iter().zip(&self.signs).filter(|(_, sign)| **sign != 0.0);
        let slope = |s: f64| counted().map(|(d, sign)| -sign * sigmoid(-sign * (d + s))).sum::<f64>();
        // As many answers are +1 as −1, so that the slope changes sign where all differences have one.
        let (least, most) = counted().fold((f64::MAX, f64::MIN), |(l, m), (d, _)| (l.min(*d), m.max(*d)));
        let (mut low, mut high) = (-most, -least);
        if low >= high {
            return if low.is_finite() && low == high { low } else { 0.0 };
        }
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if slope(middle) < 0.0 { low = middle } else { high = middle }
        }
        (low + high) / 2.0
    }

    /// Loss `softplus(−aᵢ (dᵢ + s))` of the model's answer in nats, s the [`Measure::shift`], and its slope by dᵢ, of every sequence; 0 of
    /// those that do not count. By the envelope theorem the slope of the sum is that at the best s.
    pub fn losses(&self, differences: &[f64]) -> Vec<(f64, f64)> {
        let shift = self.shift(differences);
        let one = |(d, &sign): (&f64, &f64)| match sign {
            0.0 => (0.0, 0.0),
            _ => (softplus(-sign * (d + shift)), -sign * sigmoid(-sign * (d + shift))),
        };
        differences.iter().zip(&self.signs).map(one).collect()
    }

    /// Share of the answers that count which are the model's, after the [`Measure::shift`]; a tie counts half. 1 where none counts.
    pub fn agreement(&self, differences: &[f64]) -> f64 {
        let shift = self.shift(differences);
        let one = |(i, d): (usize, &f64)| match self.signs[i] {
            0.0 => 0.0,
            _ => 1.0 - (credit(d + shift) - credit(self.of_model[i])).abs(),
        };
        let agree: f64 = differences.iter().enumerate().map(one).sum();
        if self.counted() == 0 { 1.0 } else { agree / self.counted() as f64 }
    }
}

/// Least task loss of a run in nats over shifts and scales from 0 to `most`: what its logit differences tell of the right answers.
/// ln 2 where they tell nothing, or the opposite.
pub(crate) fn informed_loss(run: &Outcome, most: f64) -> (f64, Calibration) {
    let at = |scale: f64| {
        let shift = best_shift(run, scale);
        Calibration { scale, shift }
    };
    // Convex in the scale: thirds of what is left.
    let (mut low, mut high) = (0.0, most);
    let loss = |scale: f64| run.loss(at(scale));
    for _ in 0..16 {
        let [a, b] = [low + (high - low) / 3.0, high - (high - low) / 3.0];
        if loss(a) <= loss(b) { high = b } else { low = a }
    }
    let best = [0.0, (low + high) / 2.0, most].map(at);
    let best = best.into_iter().min_by(|a, b| run.loss(*a).total_cmp(&run.loss(*b))).expect("there are three");
    (run.loss(best), best)
}

/// Shift of least task loss at a scale, bisected.
pub(crate) fn best_shift(run: &Outcome, scale: f64) -> f64 {
    let scaled: Vec<f64> = run.differences.iter().map(|d| scale * d).collect();
    let (least, most) = scaled.iter().fold((f64::MAX, f64::MIN), |(l, m), d| (l.min(*d), m.max(*d)));
    let (mut low, mut high) = (-most, -least);
    // Half of the sequences have the answer for their right candidate.
    let slope =
        |s: f64| scaled.iter().enumerate().map(|(i, d)| sigmoid(d + s) - f64::from(u8::from(i % 2 == 0))).sum::<f64>();
    for _ in 0..32 {
        let middle = (low + high) / 2.0;
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Coefficients of a circuit: 1 for its nodes and `outside` for others.
pub(crate) fn coefficients(nodes: &NodeSet, outside: f32) -> Vec<f32> {
    nodes.kept().iter().map(|&kept| if kept { 1.0 } else { outside }).collect()
}
