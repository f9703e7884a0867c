//! A split of pairs, and what is measured on it.

use openwork_circuit::{
    Ablation, Batch, Calibration, Means, NodeSet, NodeSpace, Outcome, batches, evaluate, tasks::Pair,
};
use openwork_model::{Matrix, Model, NoTap, Site, Tap, Tokens};
use rayon::prelude::*;

use crate::{
    Cell, Faithfulness, Fill, Kept, Settings, Split, audit,
    stats::{Resamples, fraction, quantile},
};

/// Sixteen sequences a pass: wide enough for the kernels, small enough to spread over threads.
const PAIRS_PER_BATCH: usize = 8;

/// The parts of a case that every run needs.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub model: &'a Model,
    pub means: &'a Means,
}

impl<'a> Subject<'a> {
    pub fn ablation(self, fill: Fill) -> Ablation<'a> {
        match fill {
            Fill::Mean => Ablation::Mean(self.means),
            Fill::Zero => Ablation::Zero,
        }
    }
}

/// Pairs made ready to run: their batches, the plain model's outcome, and what its nodes do on them.
pub(crate) struct Bench<'a> {
    subject: Subject<'a>,
    batches: Vec<Batch>,
    pub model: Outcome,
    pub activity: Activity,
}

impl<'a> Bench<'a> {
    pub fn new(subject: Subject<'a>, pairs: &[Pair]) -> Result<Self, String> {
        let batches = batches(pairs, PAIRS_PER_BATCH, subject.model.config.n_ctx);
        let model = evaluate(subject.model, &batches, true, || NoTap, |_| ());
        audit::finite(&model)?;
        let activity = Activity::measure(subject, &batches);
        Ok(Self { subject, batches, model, activity })
    }

    /// Runs with only `nodes` kept; see [`audit::watched_run`].
    pub fn run(&self, nodes: &NodeSet, fill: Fill) -> Result<Outcome, String> {
        self.watched(nodes, fill, true)
    }

    /// The same without the distribution over the vocabulary.
    pub fn run_differences(&self, nodes: &NodeSet, fill: Fill) -> Result<Outcome, String> {
        self.watched(nodes, fill, false)
    }

    fn watched(&self, nodes: &NodeSet, fill: Fill, with_log_probs: bool) -> Result<Outcome, String> {
        let deviates = match fill {
            Fill::Mean => &self.activity.off_mean,
            Fill::Zero => &self.activity.off_zero,
        };
        let ablation = self.subject.ablation(fill);
        audit::watched_run(self.subject.model, &self.batches, nodes, ablation, deviates, with_log_probs)
    }

    /// Keeping all nodes must be the plain model, under either ablation.
    pub fn check_identity(&self) -> Result<(), String> {
        let all = NodeSet::all(NodeSpace::new(&self.subject.model.config));
        [Fill::Mean, Fill::Zero].into_iter().try_for_each(|fill| audit::same(&self.model, &self.run(&all, fill)?))
    }
}

/// What every node does in the plain model.
pub(crate) struct Activity {
    /// Mean over the pairs' tokens of |value − mean|.
    pub deviation: Vec<f64>,
    /// Whether the value is anywhere (padding included) another than the mean.
    off_mean: Vec<bool>,
    /// Whether it is anywhere another than zero.
    off_zero: Vec<bool>,
}

impl Activity {
    fn measure(subject: Subject<'_>, batches: &[Batch]) -> Self {
        struct Watch<'a> {
            space: &'a NodeSpace,
            means: &'a [f32],
            real: Vec<bool>,
            activity: Activity,
        }
        impl Tap for Watch<'_> {
            fn forward(&mut self, site: Site, value: &mut Matrix) {
                let Some(range) = self.space.range(site) else { return };
                for (row, node) in value.rows().into_iter().zip(range) {
                    let mean = self.means[node];
                    self.activity.off_mean[node] |= row.iter().any(|&x| x != mean);
                    self.activity.off_zero[node] |= row.iter().any(|&x| x != 0.0);
                    let real = row.iter().zip(&self.real).filter(|(_, real)| **real);
                    self.activity.deviation[node] += real.map(|(&x, _)| f64::from((x - mean).abs())).sum::<f64>();
                }
            }
        }
        let space = NodeSpace::new(&subject.model.config);
        let none = || Activity {
            deviation: vec![0.0; space.len()],
            off_mean: vec![false; space.len()],
            off_zero: vec![false; space.len()],
        };
        let parts: Vec<(Activity, usize)> = batches
            .par_iter()
            .map(|batch| {
                let mut real = vec![false; batch.tokens.len()];
                for (i, &last) in batch.readout.iter().enumerate() {
                    real[i * batch.seq_len..=last].fill(true);
                }
                let n = real.iter().filter(|&&r| r).count();
                let mut tap = Watch { space: &space, means: subject.means.values(), real, activity: none() };
                subject.model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
                (tap.activity, n)
            })
            .collect();
        let (mut all, mut tokens) = (none(), 0);
        for (part, n) in parts {
            tokens += n;
            all.deviation.iter_mut().zip(part.deviation).for_each(|(a, b)| *a += b);
            all.off_mean.iter_mut().zip(part.off_mean).for_each(|(a, b)| *a |= b);
            all.off_zero.iter_mut().zip(part.off_zero).for_each(|(a, b)| *a |= b);
        }
        all.deviation.iter_mut().for_each(|d| *d /= tokens.max(1) as f64);
        all
    }

    /// Nodes that deviate by at least `share` of the largest deviation at their site.
    pub fn active(&self, space: &NodeSpace, share: f64) -> Vec<bool> {
        let mut active = vec![false; self.deviation.len()];
        for (_, range) in space.sites() {
            let largest = self.deviation[range.clone()].iter().fold(0.0_f64, |m, &d| m.max(d));
            for node in range.clone() {
                active[node] = self.deviation[node] > 0.0 && self.deviation[node] >= share * largest;
            }
        }
        active
    }
}

/// One value a pair of everything a [`Cell`] reports.
pub(crate) struct Measured {
    pub loss: Vec<f64>,
    pub loss_uncalibrated: Vec<f64>,
    pub right: Vec<f64>,
    pub agree: Vec<f64>,
    pub agree_vocabulary: Vec<f64>,
    pub kl_candidates: Vec<f64>,
    pub kl: Vec<f64>,
    kl_sequences: Vec<f64>,
    /// Calibrated logit difference of every sequence.
    pub differences: Vec<f64>,
}

impl Measured {
    /// Measures `run`, calibrated by `c`, beside the plain model on the same sequences.
    pub fn new(run: &Outcome, c: Calibration, model: &Outcome) -> Self {
        let differences: Vec<f64> = run.differences.iter().map(|d| c.scale * d + c.shift).collect();
        let both = || differences.iter().zip(&model.differences);
        let right = differences.iter().enumerate().map(|(i, d)| above_zero(if i % 2 == 0 { *d } else { -d }));
        let agree = both().map(|(a, b)| 1.0 - (above_zero(*a) - above_zero(*b)).abs());
        let kl_candidates = both().map(|(&run, &model)| kl_binary(model, run));
        let distributions = || model.log_probs.iter().zip(&run.log_probs);
        let kl_sequences: Vec<f64> = distributions().map(|(p, q)| kl(p, q)).collect();
        let top = distributions().map(|(p, q)| f64::from(u8::from(argmax(p) == argmax(q))));
        Self {
            loss: run.pair_losses(c),
            loss_uncalibrated: run.pair_losses(Calibration::NONE),
            right: by_pair(right),
            agree: by_pair(agree),
            agree_vocabulary: by_pair(top),
            kl_candidates: by_pair(kl_candidates),
            kl: by_pair(kl_sequences.iter().copied()),
            kl_sequences,
            differences,
        }
    }

    /// Means and intervals.
    pub fn cell(
        &self,
        (split, kept, ablation): (Split, Kept, Option<Fill>),
        calibration: Calibration,
        faithfulness: Option<Faithfulness>,
        resamples: &Resamples,
    ) -> Cell {
        let mut sorted = self.kl_sequences.clone();
        sorted.sort_by(f64::total_cmp);
        Cell {
            split,
            kept,
            ablation,
            calibration,
            loss: resamples.mean(&self.loss),
            loss_uncalibrated: resamples.mean(&self.loss_uncalibrated),
            accuracy: fraction(&self.right),
            agreement: fraction(&self.agree),
            agreement_vocabulary: fraction(&self.agree_vocabulary),
            kl_candidates: resamples.mean(&self.kl_candidates),
            kl: resamples.mean(&self.kl),
            kl_p99: quantile(&sorted, 0.99),
            kl_max: *sorted.last().expect("a split has pairs"),
            faithfulness,
        }
    }
}

/// Normalised faithfulness of losses, one a pair; see [`Faithfulness`].
///
/// Undefined where the mean of the denominator is below `min_denominator_se` standard errors, below
/// `min_denominator_share` of what the model knows, or below 1e-6 nats (rounding).
pub(crate) fn faithfulness(
    nothing: &[f64],
    circuit: &[f64],
    model: &[f64],
    resamples: &Resamples,
    settings: &Settings,
) -> Faithfulness {
    let under: Vec<f64> = nothing.iter().zip(model).map(|(e, m)| e - m).collect();
    let over: Vec<f64> = nothing.iter().zip(circuit).map(|(e, c)| e - c).collect();
    let n = under.len() as f64;
    let mean = under.iter().sum::<f64>() / n;
    let se = (under.iter().map(|u| (u - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0) / n).sqrt();
    let known = std::f64::consts::LN_2 - model.iter().sum::<f64>() / n;
    let least = (settings.min_denominator_se * se).max(settings.min_denominator_share * known).max(1e-6);
    if mean < least {
        return Faithfulness::Undefined { denominator: (mean, se) };
    }
    let mut ratios: Vec<f64> = over.iter().zip(&under).filter(|(_, u)| **u >= 1e-6).map(|(o, u)| o / u).collect();
    ratios.sort_by(f64::total_cmp);
    let by_pair = [0.05, 0.5, 0.95].map(|p| quantile(&ratios, p));
    Faithfulness::Defined { ratio_of_means: resamples.ratio(&over, &under), by_pair }
}

/// Task loss of every pair after the common shift of the logit difference that makes the mean loss least.
///
/// An ablation that merely moves both logits apart everywhere has destroyed nothing that tells a positive prompt
/// from a negative one. The slope of the convex mean loss `Σ σ(d + s) − ½` is bisected.
pub(crate) fn losses_at_best_shift(run: &Outcome) -> Vec<f64> {
    let d = &run.differences;
    let slope = |shift: f64| d.iter().map(|d| 1.0 / (1.0 + (-(d + shift)).exp()) - 0.5).sum::<f64>();
    let (mut low, mut high) = d.iter().fold((0.0_f64, 0.0_f64), |(l, h), d| (l.min(-d), h.max(-d)));
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    run.pair_losses(Calibration { scale: 1.0, shift: (low + high) / 2.0 })
}

/// 1 above zero, 0 below, ½ at it.
pub(crate) fn above_zero(d: f64) -> f64 {
    if d == 0.0 { 0.5 } else { f64::from(u8::from(d > 0.0)) }
}

/// KL divergence in nats of two-way distributions of log odds `p` and `q`.
pub(crate) fn kl_binary(p: f64, q: f64) -> f64 {
    let log_sigmoid = |x: f64| x.min(0.0) - (-x.abs()).exp().ln_1p();
    let term = |p: f64, q: f64| log_sigmoid(p).exp() * (log_sigmoid(p) - log_sigmoid(q));
    term(p, q) + term(-p, -q)
}

/// `Σ p (log p − log q)` of log-probabilities.
pub(crate) fn kl(p: &[f32], q: &[f32]) -> f64 {
    p.iter().zip(q).map(|(&p, &q)| f64::from(p).exp() * (f64::from(p) - f64::from(q))).sum()
}

pub(crate) fn argmax(x: &[f32]) -> usize {
    (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

fn by_pair(sequences: impl Iterator<Item = f64>) -> Vec<f64> {
    let all: Vec<f64> = sequences.collect();
    all.chunks_exact(2).map(|s| (s[0] + s[1]) / 2.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(differences: &[f64], log_probs: Vec<Vec<f32>>) -> Outcome {
        Outcome { differences: differences.to_vec(), log_probs }
    }

    #[test]
    fn measures_by_hand() {
        let quarter = vec![0.25_f32.ln(), 0.75_f32.ln()];
        let half = vec![0.5_f32.ln(); 2];
        let model = outcome(&[2.0, -2.0, 2.0, 3.0], vec![quarter.clone(), half.clone(), half.clone(), quarter.clone()]);
        let run = outcome(&[1.0, -1.0, -1.0, 0.0], vec![half.clone(), quarter, half.clone(), half]);
        let m = Measured::new(&run, Calibration { scale: 2.0, shift: 0.0 }, &model);
        assert_eq!((&m.right, &m.agree), (&vec![1.0, 0.25], &vec![1.0, 0.25]));
        // Ties of the vocabulary go to the first token.
        assert_eq!(m.agree_vocabulary, [0.0, 0.5]);
        let forward = 0.25 * (0.25_f64 / 0.5).ln() + 0.75 * (0.75_f64 / 0.5).ln();
        let back = 0.5 * (0.5_f64 / 0.25).ln() + 0.5 * (0.5_f64 / 0.75).ln();
        assert!((m.kl[0] - (forward + back) / 2.0).abs() < 1e-6 && (m.kl[1] - forward / 2.0).abs() < 1e-6);
        assert!(m.kl_candidates[0].abs() < 1e-12);
        let p = |d: f64| 1.0 / (1.0 + (-d).exp());
        let by_hand = |a: f64, b: f64| p(a) * (p(a) / p(b)).ln() + p(-a) * (p(-a) / p(-b)).ln();
        assert!((m.kl_candidates[1] - (by_hand(2.0, -2.0) + by_hand(3.0, 0.0)) / 2.0).abs() < 1e-12);
        assert_eq!(m.differences, [2.0, -2.0, -2.0, 0.0]);
        // Far out nothing overflows.
        assert!((kl_binary(800.0, -800.0) - 800.0).abs() < 1e-9 && kl_binary(800.0, 800.0) == 0.0);
    }

    #[test]
    fn nodes_that_barely_move_are_not_active() {
        let model = Model::init(openwork_model::Config { vocab_size: 20, ..Default::default() }, 1);
        let space = NodeSpace::new(&model.config);
        let [reads, queries] = [&space.sites()[0].1, &space.sites()[1].1];
        let mut activity = Activity {
            deviation: vec![0.0; space.len()],
            off_mean: vec![true; space.len()],
            off_zero: vec![true; space.len()],
        };
        (activity.deviation[reads.start], activity.deviation[reads.start + 1]) = (2.0, 0.019);
        (activity.deviation[queries.start], activity.deviation[queries.start + 1]) = (1e-3, 1e-5);
        let active = activity.active(&space, 0.01);
        // The share is of the largest at the same site.
        assert_eq!(
            (0..space.len()).filter(|&n| active[n]).collect::<Vec<_>>(),
            [reads.start, queries.start, queries.start + 1]
        );
        activity.deviation[queries.start + 1] = 0.9e-5;
        assert!(!activity.active(&space, 0.01)[queries.start + 1]);
    }

    #[test]
    fn activity_is_taken_over_real_tokens_only() {
        // The negative prompt is padded; its padding must not count.
        let model = Model::init(openwork_model::Config { vocab_size: 20, n_ctx: 8, ..Default::default() }, 1);
        let means = Means::compute(&model, &[4, 5, 6, 7, 8, 9, 10, 11], 8);
        let pair = |positive: &[u16], negative: &[u16]| Pair {
            positive: positive.to_vec(),
            negative: negative.to_vec(),
            answer: 1,
            alternative: 2,
            template: 0,
        };
        let deviation =
            |pairs: &[Pair]| Bench::new(Subject { model: &model, means: &means }, pairs).unwrap().activity.deviation;
        let whole = deviation(&[pair(&[3, 4, 5, 6], &[7, 8])]);
        let (long, short) = (deviation(&[pair(&[3, 4, 5, 6], &[3, 4, 5, 6])]), deviation(&[pair(&[7, 8], &[7, 8])]));
        for node in 0..whole.len() {
            let expected = (4.0 * long[node] + 2.0 * short[node]) / 6.0;
            assert!((whole[node] - expected).abs() <= 1e-5 * expected.max(1e-3), "node {node}");
        }
    }

    #[test]
    fn a_common_shift_destroys_nothing_and_a_lost_difference_does() {
        let moved: Vec<f64> = (0..20).map(|i| 40.0 + if i % 2 == 0 { 6.0 } else { -6.0 }).collect();
        let loss = |d: &[f64]| losses_at_best_shift(&outcome(d, vec![])).iter().sum::<f64>() / (d.len() / 2) as f64;
        assert!(loss(&moved) < 0.003, "{}", loss(&moved));
        assert!((loss(&[7.0; 20]) - std::f64::consts::LN_2).abs() < 1e-9);
        let tiny: Vec<f64> = (0..20).map(|i| if i % 2 == 0 { 1e-6 } else { 0.0 }).collect();
        assert!(loss(&tiny) > 0.69, "a difference of 1e-6 is not the task");
    }

    #[test]
    fn faithfulness_is_neither_clamped_nor_always_defined() {
        let settings = Settings::default();
        let resamples = Resamples::new(50, 500, 1);
        let wobble = |base: f64| (0..50).map(|i| base + 0.01 * f64::from(i % 5)).collect::<Vec<f64>>();
        let of = |nothing: f64, circuit: f64, model: f64| {
            faithfulness(&wobble(nothing), &wobble(circuit), &vec![model; 50], &resamples, &settings)
        };
        let ratio = |f: Faithfulness| match f {
            Faithfulness::Defined { ratio_of_means, .. } => ratio_of_means.mean,
            Faithfulness::Undefined { .. } => panic!("undefined"),
        };
        assert!((ratio(of(1.0, 0.52, 0.02)) - 0.48).abs() < 1e-9);
        assert!(ratio(of(1.0, 0.0, 0.5)) > 1.9, "better than the model is more than 1");
        assert!(ratio(of(1.0, 1.5, 0.5)) < -0.9, "worse than nothing is below 0");
        for (nothing, model) in [(0.5, 0.56), (0.1, 0.4)] {
            assert!(matches!(of(nothing, 0.2, model), Faithfulness::Undefined { .. }), "{nothing} {model}");
        }
        // A mean of 0.1 with a standard error of 0.14.
        let noisy: Vec<f64> = (0..50).map(|i| if i % 2 == 0 { 1.1 } else { -0.9 }).collect();
        let of_noisy = faithfulness(&noisy, &[0.0; 50], &[0.0; 50], &resamples, &settings);
        assert!(matches!(of_noisy, Faithfulness::Undefined { .. }));
        // Precise, but a twentieth of the 0.69 nats that the model knows.
        assert!(matches!(
            faithfulness(&[0.035; 50], &[0.0; 50], &[0.0; 50], &resamples, &settings),
            Faithfulness::Undefined { .. }
        ));
        let same = [0.3; 50];
        assert!(matches!(
            faithfulness(&same, &same, &same, &resamples, &settings),
            Faithfulness::Undefined { denominator: (0.0, 0.0) }
        ));
    }
}
