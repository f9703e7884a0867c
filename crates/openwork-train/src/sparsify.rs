//! Which entries of each parameter survive a step.
//!
//! Source: the released training code (paper §2.1, A.2): every block matrix keeps the same fraction with a
//! floor per neuron and attention channel; embeddings keep their own fraction; norms, sinks and the bigram
//! table stay dense.

use openwork_model::{Matrix, ParamInfo, Role};
use openwork_sparse::{MinPerUnit, Pattern, Unit, floor_that_fits, top_magnitude};
use serde::Serialize;

use crate::Schedule;

/// How many entries a parameter keeps at a step, and the floor asked for.
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

    /// Zeroes everything but the top magnitudes of `w`; returns their positions, or `None` where all stay.
    pub fn apply(&self, w: &mut Matrix) -> Option<Pattern> {
        if self.nnz >= w.len() {
            return None;
        }
        let pattern = top_magnitude(w.view(), self.nnz, self.fitting_floor(w.dim()));
        pattern.project(w);
        Some(pattern)
    }

    /// The floor that this number of entries can hold.
    pub fn fitting_floor(&self, (rows, cols): (usize, usize)) -> Option<MinPerUnit> {
        self.floor.map(|f| floor_that_fits(rows, cols, self.nnz, f))
    }
}

/// Positions of `new` that are not in `old`; `None` stands for all positions.
pub(crate) fn entered(old: Option<&Pattern>, new: Option<&Pattern>) -> usize {
    let (Some(old), Some(new)) = (old, new) else {
        return match old {
            None => 0,
            Some(old) => old.rows() * old.cols() - old.nnz(),
        };
    };
    (0..new.rows())
        .map(|r| {
            let mut before = old.col_idx()[old.row(r)].iter().peekable();
            let is_new = |c: &&u32| {
                while before.next_if(|b| *b < *c).is_some() {}
                before.next_if(|b| *b == *c).is_none()
            };
            new.col_idx()[new.row(r)].iter().filter(is_new).count()
        })
        .sum()
}

/// What sparsification did to one parameter in one step.
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
}

/// What sparsification did to all parameters.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SparsityReport {
    /// One entry per sparsified parameter.
    pub matrices: Vec<MatrixReport>,
    /// Nonzeros of all sparsified parameters.
    pub l0: usize,
    /// Where the floor per unit could not hold: name and what it was lowered to.
    pub lowered_floors: Vec<(String, usize)>,
}

impl SparsityReport {
    pub(crate) fn add(&mut self, info: &ParamInfo, rule: &Rule, w: &Matrix, entered: usize) {
        let l0 = w.iter().filter(|&&x| x != 0.0).count();
        self.l0 += l0;
        self.matrices.push(MatrixReport {
            name: info.name.clone(),
            l0,
            density: l0 as f64 / w.len() as f64,
            churn: entered as f64 / rule.nnz.max(1) as f64,
        });
        if let (Some(asked), Some(held)) = (rule.floor, rule.fitting_floor(w.dim()))
            && held.count < asked.count
        {
            self.lowered_floors.push((info.name.clone(), held.count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn churn_counts_what_entered() {
        let p = |row_ptr: &[u32], cols: &[u32]| Pattern::new(2, 4, row_ptr.to_vec(), cols.to_vec()).unwrap();
        let (a, b) = (p(&[0, 2, 3], &[0, 2, 1]), p(&[0, 2, 4], &[2, 3, 0, 1]));
        assert_eq!(entered(Some(&a), Some(&b)), 2);
        assert_eq!(entered(Some(&b), Some(&a)), 1);
        assert_eq!(entered(None, Some(&a)), 0);
        assert_eq!(entered(Some(&a), None), 5);
    }
}
