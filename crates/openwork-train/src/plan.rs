//! The settings of one step: learning rate, entries that stay, entries that have gradients.

use openwork_model::{ActivationDtype, Config, ParamInfo, Params, Positions, Role};
use openwork_ops::{Adam, DENSE_GRADIENT_ABOVE};

use crate::{GradientMode, Outcome, Rule, Schedule, SparsityReport};

/// The settings of one step, as the schedule gives them.
#[derive(Clone, Debug)]
pub struct StepPlan {
    /// Number of the step, from 0.
    pub step: u64,
    /// Learning rate.
    pub lr: f64,
    /// Nonzeros relative to the base model.
    pub pfrac: f64,
    /// Adam's settings.
    pub adam: Adam,
    /// Fraction that decay takes from a weight.
    pub decay: f32,
    /// True if zero weights have gradients ([`GradientMode::Exact`]).
    pub exact: bool,
    /// Fraction of the nonzeros that move in this step.
    pub regrow: Option<f64>,
    /// Number format in which matrices read activations and gradients.
    pub dtype: ActivationDtype,
    /// Settings of every parameter, in the order of [`Params::values`].
    pub parameters: Vec<ParameterPlan>,
}

/// The settings of one step for one parameter.
#[derive(Clone, Debug)]
pub struct ParameterPlan {
    /// Name and role.
    pub info: ParamInfo,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// True if it is trained.
    pub trained: bool,
    /// Entries that stay; `None` where all do.
    pub rule: Option<Rule>,
    /// True if the entries that stay decay.
    pub decays: bool,
}

impl StepPlan {
    /// The settings of `step` for a model of this configuration.
    pub fn new(config: &Config, schedule: &Schedule, step: u64) -> Self {
        let concatenated = !matches!(config.positions, Positions::None | Positions::Added);
        let parameter = |info: &ParamInfo, shape| {
            let trained = config.is_trained(info.role);
            ParameterPlan {
                info: info.clone(),
                shape,
                trained,
                rule: Rule::of(info.role, shape, concatenated, schedule, step).filter(|_| trained),
                // Matrices decay, vectors and the bigram table do not (released code).
                decays: info.n_dim > 1 && info.role != Role::Bigram,
            }
        };
        let lr = schedule.lr_at(step);
        let (beta1, beta2, eps) = schedule.adam;
        Self {
            step,
            lr,
            pfrac: schedule.pfrac_at(step),
            adam: Adam { lr: lr as f32, beta1, beta2, eps, step: step + 1 },
            decay: (schedule.weight_decay * lr) as f32,
            exact: schedule.gradient == GradientMode::Exact,
            regrow: schedule.regrow_at(step),
            dtype: schedule.dtype,
            parameters: Params::build(config, parameter).into_values(),
        }
    }

    /// True if only the nonzeros of a parameter with a support of `nnz` entries get gradients: in support mode, between
    /// refreshes, of a matrix that multiplies activations and has so few of them that dot products take less time than
    /// the dense gradient.
    pub fn gradient_at_support(&self, parameter: &ParameterPlan, nnz: usize) -> bool {
        let dense = self.exact || self.regrow.is_some();
        let few = nnz as f64 <= DENSE_GRADIENT_ABOVE * parameter.len() as f64;
        // The tied table has gradients of its rows, too.
        !dense && few && multiplies(parameter.info.role)
    }

    /// The report of a step whose update had these outcomes.
    pub(crate) fn report(&self, outcomes: &[Outcome]) -> SparsityReport {
        let mut report = SparsityReport::default();
        for (parameter, outcome) in self.parameters.iter().zip(outcomes) {
            if let Some(rule) = &parameter.rule {
                let closed = self.exact && self.adam.largest_step() < outcome.least_kept;
                report.add(parameter, rule, outcome, closed);
            }
        }
        report
    }
}

impl ParameterPlan {
    /// Number of entries.
    #[allow(clippy::len_without_is_empty, reason = "a parameter has entries")]
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// The rule, where it leaves some entries out.
    pub fn selects(&self) -> Option<Rule> {
        self.rule.filter(|rule| rule.nnz < self.len())
    }
}

/// True if parameters of a role are matrices that multiply activations, apart from a tied embedding.
pub(crate) fn multiplies(role: Role) -> bool {
    matches!(role, Role::Qkv | Role::AttnOut | Role::Fc | Role::Proj | Role::Unembed)
}

/// Number of predicted tokens: all but the first of every sequence.
pub(crate) fn n_targets(batch: &[u16], seq_len: usize) -> usize {
    batch.len() / seq_len * (seq_len - 1)
}

/// The columns that predict and the tokens that they predict: every token but the last of each sequence.
pub(crate) fn next_tokens(chunk: &[u16], seq_len: usize) -> (Vec<usize>, Vec<u16>) {
    let readout: Vec<usize> = (0..chunk.len()).filter(|t| t % seq_len != seq_len - 1).collect();
    let targets = readout.iter().map(|&t| chunk[t + 1]).collect();
    (readout, targets)
}
