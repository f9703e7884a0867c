//! The update of one parameter on the CPU.

use openwork_model::{Gradient, Matrix, Weight};
use openwork_ops::{Adam, adam_step_at, adam_step_then};
use openwork_sparse::{Keep, Kept, Pattern, Support, top_magnitude};
use rayon::prelude::*;

use crate::{Move, Outcome, Rule};

/// Adam, top magnitude and decay of one parameter.
pub(crate) struct Update {
    pub adam: Adam,
    pub gradient_scale: f32,
    /// None where all entries stay.
    pub rule: Option<Rule>,
    pub decay: Option<f32>,
    /// True if zero weights have gradients, too.
    pub exact: bool,
    /// Nonzeros that [`move_nonzeros`] let in in this step.
    pub moved: usize,
}

impl Update {
    pub fn apply(
        &self,
        weight: &mut Weight,
        gradient: &Gradient,
        (m, v): (&mut Matrix, &mut Matrix),
        support: &mut Support,
    ) -> Outcome {
        let mut least_kept = 0.0;
        let kept = weight.update_on(support, |w, support| {
            let mut kept = match gradient {
                Gradient::Dense(g) => self.everywhere(w, g, (&mut *m, &mut *v), support, &mut least_kept),
                Gradient::Support { pattern, values } => {
                    self.at_support(w, (pattern, values), (&mut *m, &mut *v), support)
                }
            };
            kept.changed |= self.moved > 0;
            kept.entered += self.moved;
            if kept.changed && !self.exact {
                // What left starts from nothing if it ever returns, and does not move while it is out.
                support.mask(flat_mut(m));
                support.mask(flat_mut(v));
            }
            kept
        });
        Outcome { nonzero: kept.nonzero, entered: kept.entered, least_kept }
    }

    /// One pass does Adam and finds out which weights stay, one more keeps those. Both go over pieces of whole
    /// rows, so that one large table does not keep a single thread busy.
    fn everywhere(
        &self,
        w: &mut Matrix,
        gradient: &Matrix,
        (m, v): (&mut Matrix, &mut Matrix),
        support: &mut Support,
        least_kept: &mut f32,
    ) -> Kept {
        let (n_rows, cols) = w.dim();
        let rows = support.rows_of_a_piece();
        let piece = (rows * cols).max(1);
        let Some(rule) = self.rule else {
            let pieces = flat_mut(w)
                .par_chunks_mut(piece)
                .zip(flat(gradient).par_chunks(piece))
                .zip(flat_mut(m).par_chunks_mut(piece).zip(flat_mut(v).par_chunks_mut(piece)));
            let nonzero = pieces.map(|((w, g), (m, v))| {
                let mut nonzero = 0;
                adam_step_then(self.adam, self.gradient_scale, w, g, m, v, |w| {
                    if let Some(decay) = self.decay {
                        w.iter_mut().for_each(|w| *w -= decay * *w);
                    }
                    nonzero += w.iter().filter(|&&w| w != 0.0).count();
                });
                nonzero
            });
            return Kept { nonzero: nonzero.sum(), ..support.keep_all() };
        };
        let keep = Keep { nnz: rule.nnz, floor: rule.fitting_floor((n_rows, cols)), decay: self.decay };
        let others = flat(gradient).chunks(piece).zip(flat_mut(m).chunks_mut(piece).zip(flat_mut(v).chunks_mut(piece)));
        let kept;
        (kept, *least_kept) = support.update(
            flat_mut(w),
            keep,
            rows,
            others,
            |(g, (m, v)), w, done| adam_step_then(self.adam, self.gradient_scale, w, g, m, v, done),
            &in_parallel,
        );
        kept
    }

    /// Adam at the support; a selection only where fewer entries are to stay.
    fn at_support(
        &self,
        w: &mut Matrix,
        (pattern, gradient): (&Pattern, &[f32]),
        (m, v): (&mut Matrix, &mut Matrix),
        support: &mut Support,
    ) -> Kept {
        adam_step_at(self.adam, self.gradient_scale, pattern, flat_mut(w), gradient, flat_mut(m), flat_mut(v));
        let (n_rows, cols) = w.dim();
        if let Some(rule) = self.rule
            && rule.nnz < support.nnz()
        {
            let keep = Keep { nnz: rule.nnz, floor: rule.fitting_floor((n_rows, cols)), decay: self.decay };
            let scan = |(), w: &mut [f32], done: &mut dyn FnMut(&mut [f32])| w.chunks_mut(SCANNED).for_each(done);
            let rows = support.rows_of_a_piece();
            return support.update(flat_mut(w), keep, rows, std::iter::repeat(()), scan, &in_parallel).0;
        }
        let w = flat_mut(w);
        let mut nonzero = 0;
        for r in 0..n_rows {
            for &c in &pattern.col_idx()[pattern.row(r)] {
                let w = &mut w[r * cols + c as usize];
                if let Some(decay) = self.decay {
                    *w -= decay * *w;
                }
                nonzero += usize::from(*w != 0.0);
            }
        }
        Kept { nonzero, entered: 0, changed: false }
    }
}

/// Entries scanned at once.
const SCANNED: usize = 4096;

/// Calls `f` with every number below `n`, on all threads.
fn in_parallel(n: usize, f: &(dyn Fn(usize) + Sync)) {
    (0..n).into_par_iter().for_each(f);
}

/// Takes the smallest of the nonzeros out and puts as many zero weights in, those with the largest gradient (some
/// may be the same); their moments start at zero, and the step that follows moves them off zero. Returns how many
/// were not in before.
pub(crate) fn move_nonzeros(
    &Move { stay, grow }: &Move,
    gradient: &Matrix,
    weight: &mut Weight,
    (m, v): (&mut Matrix, &mut Matrix),
    support: &mut Support,
) -> usize {
    let (rows, cols) = gradient.dim();
    let floor = stay.fitting_floor((rows, cols));
    let before = support.clone();
    weight.update(|w| support.project(flat_mut(w), stay.nnz, floor));
    support.mask(flat_mut(m));
    support.mask(flat_mut(v));
    let mut outside = gradient.clone();
    let kept = support.pattern();
    for r in 0..rows {
        kept.col_idx()[kept.row(r)].iter().for_each(|&c| outside[[r, c as usize]] = 0.0);
    }
    let grown = top_magnitude(outside.view(), grow, None);
    support.grow(&grown);
    let new = |r: usize| grown.col_idx()[grown.row(r)].iter().filter(|&&c| !before.keeps(r, c as usize)).count();
    (0..rows).map(new).sum()
}

pub(crate) fn flat(x: &Matrix) -> &[f32] {
    x.as_slice().expect("row-major")
}

pub(crate) fn flat_mut(x: &mut Matrix) -> &mut [f32] {
    x.as_slice_mut().expect("row-major")
}

#[cfg(test)]
mod tests {
    use openwork_ops::adam_step;
    use openwork_sparse::{MinPerUnit, Unit};

    use super::*;

    #[test]
    fn pieces_and_threads_leave_no_trace() {
        // Three pieces by columns, with a floor; a few steps, so that the selection is warm.
        let (rows, cols) = (300, 550);
        let wave = |a: f32| Matrix::from_shape_fn((rows, cols), |(r, c)| ((r * cols + c) as f32 * a).sin());
        let rule = Rule { nnz: 9000, floor: Some(MinPerUnit { unit: Unit::Column, count: 3 }) };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (mut w, mut m, mut v) = (Weight::new(wave(0.7)), wave(0.0), wave(0.0));
            let mut support = Support::all(rows, cols);
            let mut kept = Vec::new();
            for step in 1..5 {
                let adam = Adam { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 0.1, step };
                let update =
                    Update { adam, gradient_scale: 1.0, rule: Some(rule), decay: Some(0.1), exact: true, moved: 0 };
                let gradient = Gradient::Dense(wave(step as f32));
                kept.push(pool.install(|| update.apply(&mut w, &gradient, (&mut m, &mut v), &mut support)));
            }
            assert_eq!(*w.csr().unwrap(), openwork_sparse::Csr::from_dense(w.dense().view()));
            (w.dense().clone(), kept)
        };
        let (w, kept) = run(1);
        assert_eq!((w.clone(), kept), run(4));

        let (mut expected, mut m, mut v) = (wave(0.7), wave(0.0), wave(0.0));
        for step in 1..5 {
            let adam = Adam { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 0.1, step };
            let gradient = wave(step as f32);
            adam_step(adam, 1.0, flat_mut(&mut expected), flat(&gradient), flat_mut(&mut m), flat_mut(&mut v));
            top_magnitude(expected.view(), rule.nnz, rule.floor).project(&mut expected);
            expected.mapv_inplace(|w| w - 0.1 * w);
        }
        assert_eq!(w, expected);
    }
}
