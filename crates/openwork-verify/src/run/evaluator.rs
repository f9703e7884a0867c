//! A split of pairs made ready to run: under any scheme, with any nodes kept, whole or in part.

use openwork_circuit::{
    Ablation, Batch, NodeSet, NodeSpace, NormScales, Outcome, Partial, batches, contrast, evaluate,
};
use openwork_model::{Padded, Record, Tokens};
use openwork_tasks::{Pair, Side};
use rand::RngExt;
use rayon::prelude::*;

use crate::{
    run::{
        activity::{Activity, ActivityTap},
        audit,
        context::{Context, PAIRS_PER_BATCH, Weights},
        error::RunError,
        scheme::{AblationValue, Norms, Scheme},
    },
    streams::Stream,
};

/// Pairs made ready to run: their batches, the plain model's outcome, and what its nodes do on them.
pub(crate) struct Evaluator<'a> {
    pub context: Context<'a>,
    pub pairs: Vec<Pair>,
    batches: Vec<Batch>,
    scales: Vec<NormScales>,
    pub model: Outcome,
    pub activity: Activity,
    /// Activity in the model without the weights that the circuit leaves out, where it leaves out some.
    masked_activity: Option<Activity>,
}

impl<'a> Evaluator<'a> {
    pub fn new(context: Context<'a>, pairs: &[Pair]) -> Result<Self, RunError> {
        let batches = batches(pairs, PAIRS_PER_BATCH, context.model.config.n_ctx);
        let one = |batch: &Batch| {
            let mut tap = (ActivityTap::new(context, batch), NormScales::new(context.model));
            let tokens = Tokens::new(&batch.tokens, batch.seq_len);
            let pass = context.model.forward(tokens, Some(&batch.readout), &mut tap);
            (batch.outcome(&pass.logits, true), tap)
        };
        let parts: Vec<(Outcome, (ActivityTap<'_>, NormScales))> = batches.par_iter().map(one).collect();
        let (mut model, mut taps, mut scales) = (Outcome::default(), vec![], vec![]);
        for (outcome, (tap, norms)) in parts {
            model.append(outcome);
            taps.push(tap);
            scales.push(norms);
        }
        audit::finite(&model)?;
        let space = NodeSpace::new(&context.model.config);
        let activity = Activity::of(&space, taps);
        let masked_activity = context.judged.is_masked().then(|| {
            let one = |batch: &Batch| {
                let mut tap = ActivityTap::new(context, batch);
                let tokens = Tokens::new(&batch.tokens, batch.seq_len);
                context.model_with(Weights::Circuit).forward(tokens, Some(&batch.readout), &mut tap);
                tap
            };
            Activity::of(&space, batches.par_iter().map(one).collect::<Vec<_>>())
        });
        Ok(Self { context, pairs: pairs.to_vec(), batches, scales, model, activity, masked_activity })
    }

    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    pub fn space(&self) -> NodeSpace {
        NodeSpace::new(&self.context.model.config)
    }

    /// Runs with only `nodes` kept, watched; see [`audit`]. The circuit and parts of it run without the weights that the
    /// circuit leaves out; see [`Context::weights`].
    pub fn run(&self, nodes: &NodeSet, scheme: Scheme) -> Result<Outcome, RunError> {
        self.watched(self.context.weights(nodes), nodes, scheme, true)
    }

    /// The same without the distribution over the vocabulary.
    pub fn run_differences(&self, nodes: &NodeSet, scheme: Scheme) -> Result<Outcome, RunError> {
        self.watched(self.context.weights(nodes), nodes, scheme, false)
    }

    /// Runs with all weights of the model and only `nodes` kept, watched.
    pub fn run_in_model(&self, nodes: &NodeSet, scheme: Scheme) -> Result<Outcome, RunError> {
        self.watched(Weights::Model, nodes, scheme, true)
    }

    /// Runs the model with only `nodes` ablated, watched, without the distribution over the vocabulary.
    pub fn run_without(&self, nodes: &NodeSet, scheme: Scheme) -> Result<Outcome, RunError> {
        self.watched(Weights::Model, &nodes.complement(), scheme, false)
    }

    fn watched(
        &self,
        weights: Weights,
        nodes: &NodeSet,
        scheme: Scheme,
        with_log_probs: bool,
    ) -> Result<Outcome, RunError> {
        let context = Context { model: self.context.model_with(weights), ..self.context };
        let constants = self.context.constants(scheme.value);
        let one = |i: usize| {
            let batch = &self.batches[i];
            let frozen = (scheme.norms == Norms::Frozen).then(|| &self.scales[i]);
            let recorded = constants.is_none().then(|| self.resampled(i, scheme.value));
            let ablation = match (constants, &recorded) {
                (Some(constants), _) => constants,
                (None, Some(values)) => Ablation::Recorded(values),
                (None, None) => unreachable!("one of the two is there"),
            };
            audit::watched_run(context, batch, nodes, ablation, frozen, with_log_probs)
        };
        let parts: Result<Vec<(Outcome, usize)>, RunError> = (0..self.batches.len()).into_par_iter().map(one).collect();
        let (mut all, mut changed) = (Outcome::default(), 0);
        for (part, n) in parts? {
            changed += n;
            all.append(part);
        }
        let activity = match (weights, &self.masked_activity) {
            (Weights::Circuit, Some(masked)) => masked,
            _ => &self.activity,
        };
        let deviates = match scheme.value {
            AblationValue::Mean => Some(&activity.off_mean),
            AblationValue::Zero => Some(&activity.off_zero),
            _ => None,
        };
        // Under frozen norms an ablated node may be rescaled away from its constant, so only free ones tell.
        if let Some(deviates) = deviates.filter(|_| scheme.norms == Norms::Free) {
            audit::must_change(nodes, deviates, changed)?;
        }
        audit::finite(&all)?;
        Ok(all)
    }

    /// The prompt whose values a sequence takes under a resampling value: sequence number in this split.
    pub fn source(&self, sequence: usize, value: AblationValue) -> usize {
        let pair = sequence / 2;
        let template = self.pairs[pair].template;
        let others = |same: bool| -> Vec<usize> {
            (0..self.pairs.len()).filter(|&p| p != pair && (!same || self.pairs[p].template == template)).collect()
        };
        let same_template = value == AblationValue::SameTemplate;
        let mut rng = Stream::Source { sequence: sequence as u64, same_template }.rng(self.context.seed);
        let mut pool = others(same_template);
        if pool.is_empty() {
            pool = others(false);
        }
        match pool.len() {
            0 => sequence,
            n => 2 * pool[rng.random_range(0..n)] + rng.random_range(0..2_usize),
        }
    }

    /// The prompt of a sequence, as the model sees it.
    pub fn prompt(&self, sequence: usize) -> &[u16] {
        let prompt = self.pairs[sequence / 2].prompt(Side::of_sequence(sequence));
        &prompt[prompt.len().saturating_sub(self.context.model.config.n_ctx)..]
    }

    /// Values of all nodes in the plain runs of the sources of batch `i`, aligned with it at the last token; where
    /// the source is shorter, its first token's value stands for what would be before it.
    fn resampled(&self, i: usize, value: AblationValue) -> Record {
        let batch = &self.batches[i];
        let first = 2 * PAIRS_PER_BATCH * i;
        let sources: Vec<&[u16]> =
            (0..batch.readout.len()).map(|s| self.prompt(self.source(first + s, value))).collect();
        let padded = Padded::new(sources.iter().copied(), self.context.model.config.n_ctx);
        let mut values = Record::of_kinds(&NodeSpace::KINDS);
        self.context.model.forward(padded.tokens(), Some(&[0]), &mut values);
        let column = |column: usize| {
            let (sequence, at) = (column / batch.seq_len, column % batch.seq_len);
            let (last, source) = (batch.readout[sequence] - sequence * batch.seq_len, sources[sequence].len());
            let from_end = last.saturating_sub(at);
            sequence * padded.seq_len + (source - 1).saturating_sub(from_end)
        };
        values.rearranged(&(0..batch.tokens.len()).map(column).collect::<Vec<_>>())
    }

    /// Runs with these weights and node n kept to the part `r[n]`, under means or zeros.
    pub fn partial(&self, weights: Weights, r: &[f32], value: AblationValue, with_log_probs: bool) -> Outcome {
        let (space, ablation) = (self.space(), self.context.constants(value).expect("a constant value"));
        evaluate(
            self.context.model_with(weights),
            &self.batches,
            with_log_probs,
            || Partial::new(&space, r, ablation),
            |_| (),
        )
    }

    /// The mean over sequences of a function of the logit difference in such a run, and its gradient with respect
    /// to r. `f(sequence, difference)` returns its value and its slope.
    pub fn partial_gradient(
        &self,
        weights: Weights,
        r: &[f32],
        value: AblationValue,
        f: &(dyn Fn(usize, f64) -> (f64, f64) + Sync),
    ) -> (f64, Vec<f64>) {
        let (space, ablation) = (self.space(), self.context.constants(value).expect("a constant value"));
        let model = self.context.model_with(weights);
        let parts: Vec<(f64, Vec<f32>)> = self
            .batches
            .par_iter()
            .enumerate()
            .map(|(i, batch)| {
                let mut tap = Partial::new(&space, r, ablation);
                let pass = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
                let first = 2 * PAIRS_PER_BATCH * i;
                let (value, dlogits) = contrast(&pass.logits, batch, |sequence, d| f(first + sequence, d));
                model.backward(&pass, &dlogits, &mut tap, None);
                (value, tap.gradient)
            })
            .collect();
        let n = self.model.differences.len() as f64;
        let mut gradient = vec![0.0; space.len()];
        for (_, part) in &parts {
            gradient.iter_mut().zip(part).for_each(|(g, &p)| *g += f64::from(p) / n);
        }
        (parts.iter().map(|p| p.0).sum::<f64>() / n, gradient)
    }

    /// Keeping all nodes must be the plain model bit for bit, under any scheme; keeping none must be what ablating
    /// every node to the full is, by the code that ablates in part. All with the model's own weights.
    pub fn check_identity(&self) -> Result<(), RunError> {
        let (all, none) = (NodeSet::all(self.space()), NodeSet::empty(self.space()));
        for value in [AblationValue::Mean, AblationValue::Zero, AblationValue::SameTemplate] {
            for norms in [Norms::Free, Norms::Frozen] {
                let run = self.run_in_model(&all, Scheme { value, norms })?;
                audit::same(&self.model, &run, |distance| RunError::NotTheModel { distance })?;
            }
        }
        let ablated = self.partial(Weights::Model, &vec![0.0; self.space().len()], AblationValue::Mean, true);
        let none = self.run_in_model(&none, Scheme::MEAN)?;
        audit::same(&none, &ablated, |distance| RunError::NotFullAblation { distance })
    }

    /// The gradient of partial ablation against finite differences: at several places with several steps, of which one must
    /// fit, since AbsTopK's choice jumps, ReLUs have kinks and sharp attention bends; a wrong gradient fits nowhere.
    pub fn check_gradient(&self) -> Result<(), RunError> {
        let places = [0.8_f32, 0.98, 0.2].map(|least| {
            let mut rng = Stream::GradientCheck.rng(self.context.seed);
            (0..self.space().len()).map(|_| rng.random_range(least..1.0)).collect::<Vec<f32>>()
        });
        if places.iter().any(|r| self.gradient_fits(r)) {
            return Ok(());
        }
        Err(RunError::Gradient)
    }

    /// Along the gradient itself, where the slope is largest beside the rounding of the pass.
    fn gradient_fits(&self, r: &[f32]) -> bool {
        let (_, gradient) = self.partial_gradient(Weights::Model, r, AblationValue::Mean, &|_, d| (d, 1.0));
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let mean = |r: &[f32]| {
            let d = self.partial(Weights::Model, r, AblationValue::Mean, false).differences;
            d.iter().sum::<f64>() / d.len() as f64
        };
        if norm == 0.0 {
            // Then nothing may change either, whatever is ablated a little more.
            let less: Vec<f32> = r.iter().enumerate().map(|(n, r)| r - 0.1 * (n % 3) as f32).collect();
            return (mean(&less) - mean(r)).abs() <= 1e-4;
        }
        [3e-2, 1e-2, 3e-3, 1e-3, 3e-4].into_iter().any(|h: f64| {
            let moved = |sign: f64| -> Vec<f32> {
                r.iter().zip(&gradient).map(|(&r, g)| (f64::from(r) + sign * h * g / norm) as f32).collect()
            };
            let slope = (mean(&moved(1.0)) - mean(&moved(-1.0))) / (2.0 * h);
            (slope - norm).abs() <= 0.1 * norm + 1e-4
        })
    }
}
