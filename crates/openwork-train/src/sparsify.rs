//! Selection of the entries of each parameter that survive a step.
//!
//! Source: the released training code (paper §2.1, A.2): every block matrix keeps the same fraction with a
//! floor per neuron and attention channel; embeddings keep their own fraction; norms, sinks and the bigram
//! table stay dense.

use openwork_model::Role;
use openwork_sparse::{MinPerUnit, Unit, floor_that_fits};
use serde::Serialize;

use crate::{Outcome, ParameterPlan, Schedule};

/// Number of entries that a parameter keeps at a step, and the floor asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Entries that stay.
    pub nnz: usize,
    /// Floor per unit before it is lowered to what fits.
    pub floor: Option<MinPerUnit>,
}

impl Rule {
    /// The rule for a parameter of `[rows, cols]`; `None` where it stays dense.
    ///
    /// Units are output rows of the matrices into neurons and attention channels, and input columns of the
    /// matrices out of them.
    pub fn of(
        role: Role,
        [rows, cols]: [usize; 2],
        concatenated_positions: bool,
        s: &Schedule,
        step: u64,
    ) -> Option<Self> {
        let (density, unit) = match role {
            Role::Qkv | Role::Fc => (s.matrix_density(step), Some(Unit::Row)),
            Role::AttnOut | Role::Proj => (s.matrix_density(step), Some(Unit::Column)),
            Role::Position if !concatenated_positions => (s.matrix_density(step), None),
            Role::Embed | Role::Unembed => (s.embed_density(step), None),
            Role::Bias if s.sparse_biases => (s.embed_density(step), None),
            _ => return None,
        };
        let floor = unit.map(|unit| MinPerUnit { unit, count: s.min_per_unit });
        Some(Self { nnz: (density * (rows * cols) as f64) as usize, floor })
    }

    /// The floor that this number of entries can hold.
    pub fn fitting_floor(&self, (rows, cols): (usize, usize)) -> Option<MinPerUnit> {
        self.floor.map(|f| floor_that_fits(rows, cols, self.nnz, f))
    }
}

/// Sparsification of one parameter in one step.
#[derive(Clone, Debug, Serialize)]
pub struct MatrixReport {
    /// Name in the published state dict.
    pub name: String,
    /// Nonzero entries.
    pub l0: usize,
    /// `l0` over all entries.
    pub density: f64,
    /// Positions that became nonzero in this step, over `l0`.
    pub churn: f64,
    /// True if no zero weight could have entered in this step: the least weight kept exceeds the largest step that
    /// Adam can take (exact gradients only).
    pub closed: bool,
}

/// Sparsification of all parameters in one step.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SparsityReport {
    /// One entry per sparsified parameter.
    pub matrices: Vec<MatrixReport>,
    /// Nonzeros of all sparsified parameters.
    pub l0: usize,
    /// Parameters whose floor per unit could not hold: name and the lower floor used.
    pub lowered_floors: Vec<(String, usize)>,
}

impl SparsityReport {
    pub(crate) fn add(&mut self, parameter: &ParameterPlan, rule: &Rule, outcome: &Outcome, closed: bool) {
        let (name, [rows, cols]) = (&parameter.info.name, parameter.shape);
        self.l0 += outcome.nonzero;
        self.matrices.push(MatrixReport {
            name: name.clone(),
            l0: outcome.nonzero,
            density: outcome.nonzero as f64 / parameter.len() as f64,
            churn: outcome.entered as f64 / rule.nnz.max(1) as f64,
            closed,
        });
        if let (Some(asked), Some(held)) = (rule.floor, rule.fitting_floor((rows, cols)))
            && held.count < asked.count
        {
            self.lowered_floors.push((name.clone(), held.count));
        }
    }
}
