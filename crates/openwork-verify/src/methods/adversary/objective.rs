//! Objectives of attacks.

use std::collections::BTreeSet;

use openwork_circuit::{Calibration, Outcome, softplus};
use openwork_tasks::Pair;

use super::{Effect, VALUE};
use crate::run::{
    context::Weights,
    evaluator::Evaluator,
    measures::mean,
    shift_free::{ToAnswers, shift_to_signs, signs},
};

/// Quantity that an attack maximises over the coefficients r of nodes outside the circuit; `a_i = ±1` is the model's answer after prompt i,
/// `d_i(r)` the attacked run's logit difference.
#[derive(Clone, Debug)]
pub(crate) enum Objective {
    /// `max_r mean softplus(−a_i d_i)`: answers as they are.
    Raw {
        /// The model's answers.
        signs: Vec<f64>,
    },
    /// `max_r min_s mean softplus(−a_i (d_i + s))`: what no common shift s repairs, over pairs to whose prompts the model gives
    /// different answers. By the envelope theorem its gradient is that at the best s, which is bisected anew at every r.
    ShiftFree {
        /// The model's answers, 0 after prompts of other pairs.
        signs: Vec<f64>,
    },
}

impl Objective {
    /// Answers as they are.
    pub fn raw(model: &Outcome) -> Self {
        Self::Raw { signs: model.differences.iter().map(|d| if *d < 0.0 { -1.0 } else { 1.0 }).collect() }
    }

    /// The part that no common shift repairs.
    pub fn shift_free(model: &Outcome) -> Self {
        Self::ShiftFree { signs: signs(model) }
    }

    fn signs(&self) -> &[f64] {
        match self {
            Self::Raw { signs } | Self::ShiftFree { signs } => signs,
        }
    }

    /// The model's answer after a prompt, ±1; 0 after those that do not count.
    pub fn sign(&self, sequence: usize) -> f64 {
        self.signs()[sequence]
    }

    /// The best common shift of a run; none is taken where answers count as they are.
    fn shift(&self, run: &Outcome) -> f64 {
        match self {
            Self::Raw { .. } => 0.0,
            Self::ShiftFree { signs } => shift_to_signs(&run.differences, signs),
        }
    }

    /// Loss at coefficients r, and its gradient with respect to them.
    pub fn gradient(&self, evaluator: &Evaluator<'_>, r: &[f32]) -> (f64, Vec<f64>) {
        let shift = match self {
            Self::Raw { .. } => 0.0,
            Self::ShiftFree { .. } => self.shift(&evaluator.partial(Weights::Model, r, VALUE, false)),
        };
        let signs = self.signs();
        let loss = |s: usize, d: f64| softplus(-signs[s] * (d + shift));
        let slope = |s: usize, d: f64| -signs[s] / (1.0 + (signs[s] * (d + shift)).exp());
        evaluator.partial_gradient(Weights::Model, r, VALUE, &|s, d| (loss(s, d), slope(s, d)))
    }

    /// Fraction of answers that a run turns, and its loss.
    pub fn effect(&self, run: &Outcome, model: &Outcome) -> Effect {
        let shift = self.shift(run);
        let turned = match self {
            Self::Raw { .. } => 1.0 - mean(&run.agreement(Calibration::NONE, model).collect::<Vec<_>>()),
            Self::ShiftFree { .. } => match ToAnswers::new(run, 1.0, model).agree {
                agree if agree.is_empty() => 0.0,
                agree => 1.0 - mean(&agree),
            },
        };
        let losses = run.differences.iter().zip(self.signs()).map(|(d, s)| softplus(-s * (d + shift)));
        Effect { turned, loss: losses.sum::<f64>() / run.differences.len() as f64 }
    }

    /// Directions in which logit differences part so that no common shift brings them together, each both ways: those of the
    /// prompts of one template from all others, and of some pairs from the rest. At the model an offset that varies has no slope
    /// against the margins, where it raises as many as it lowers. None where answers count as they are.
    pub fn directions(&self, pairs: &[Pair]) -> Vec<Vec<f64>> {
        /// Templates, and partings of pairs by the digits of their numbers.
        const TEMPLATES: usize = 4;
        const PARTINGS: u32 = 3;
        let Self::ShiftFree { signs } = self else { return vec![] };
        let templates: BTreeSet<usize> = pairs.iter().map(|p| p.template).collect();
        let by_template = templates.iter().filter(|_| templates.len() > 1).take(TEMPLATES);
        let part = |is_one: &dyn Fn(usize) -> bool| -> Vec<f64> {
            (0..signs.len()).map(|s| signs[s].abs() * if is_one(s / 2) { 1.0 } else { -1.0 }).collect()
        };
        let mut parted: Vec<Vec<f64>> = by_template.map(|t| part(&|pair| pairs[pair].template == *t)).collect();
        parted.extend((0..PARTINGS).map(|digit| part(&|pair| pair >> digit & 1 == 0)));
        parted.iter().flat_map(|d| [d.clone(), d.iter().map(|x| -x).collect()]).collect()
    }
}
