//! y = W x + b, on a dense or a sparse W.

use std::{sync::OnceLock, time::Instant};

use openwork_sparse::{
    Csr, Kept, Panel, Start, Support, Transposed, matmul, sddmm, sddmm_packed, spmm, spmm_packed, transpose,
};

use crate::{Activations, Cpu, Gradient, Matrix, math, row, simd};

/// A parameter: the dense f32 master, and its nonzeros where it is sparse enough for the sparse products to
/// take less time. Which of the two is used never changes a bit of a result (see [`openwork_sparse::spmm`]).
#[derive(Clone, Debug)]
pub struct Weight {
    dense: Matrix,
    sparse: Option<Sparse>,
}

/// The nonzeros of W, and those of Wᵀ for the backward product.
#[derive(Clone, Debug)]
struct Sparse {
    forward: Csr,
    backward: Csr,
    /// Index of each nonzero of Wᵀ among those of W.
    source: Vec<u32>,
}

impl Sparse {
    fn new(forward: Csr) -> Self {
        let Transposed { pattern, source } = forward.pattern().transpose();
        let values = source.iter().map(|&i| forward.values()[i as usize]).collect();
        Self { forward, backward: Csr::new(pattern, values), source }
    }

    /// The same positions with the values that `w` has there now.
    fn refreshed(self, w: &Matrix) -> Self {
        let forward = Csr::gather(self.forward.pattern().clone(), w.view());
        let values = self.source.iter().map(|&i| forward.values()[i as usize]).collect();
        let backward = Csr::new(self.backward.pattern().clone(), values);
        Self { forward, backward, source: self.source }
    }
}

impl Weight {
    /// Wraps a dense matrix; counts its nonzeros to choose the product.
    pub fn new(dense: Matrix) -> Self {
        let mut weight = Self { dense, sparse: None };
        weight.update(|_| ());
        weight
    }

    /// The dense values.
    pub fn dense(&self) -> &Matrix {
        &self.dense
    }

    /// The nonzeros, where the sparse product is the faster one.
    pub fn csr(&self) -> Option<&Csr> {
        self.sparse.as_ref().map(|sparse| &sparse.forward)
    }

    /// Number of nonzero entries.
    pub fn nnz(&self) -> usize {
        match &self.sparse {
            Some(sparse) => sparse.forward.pattern().nnz(),
            None => self.dense.iter().filter(|&&x| x != 0.0).count(),
        }
    }

    /// Changes the values and brings the sparse form up to date.
    pub fn update<R>(&mut self, f: impl FnOnce(&mut Matrix) -> R) -> R {
        let result = f(&mut self.dense);
        let nnz = self.dense.iter().filter(|&&x| x != 0.0).count();
        self.sparse = self.is_sparse(nnz).then(|| Sparse::new(Csr::from_dense(self.dense.view())));
        result
    }

    /// [`Weight::update`] where `support` is kept: `f` brings it up to date and says what became of it.
    pub fn update_on(&mut self, support: &mut Support, f: impl FnOnce(&mut Matrix, &mut Support) -> Kept) -> Kept {
        let kept = f(&mut self.dense, support);
        self.sparse = match self.sparse.take() {
            _ if !self.is_sparse(kept.nonzero) => None,
            Some(sparse) if !kept.changed => Some(sparse.refreshed(&self.dense)),
            _ => Some(Sparse::new(Csr::gather(support.pattern(), self.dense.view()))),
        };
        kept
    }

    fn is_sparse(&self, nnz: usize) -> bool {
        self.dense.ncols() > 1 && (nnz as f64) < crossover() * self.dense.len() as f64
    }
}

/// The density below which the sparse product takes less time than the dense one on this machine. Measured
/// at the first call (a few milliseconds): the time of one nonzero in [`spmm`] against that of one entry in
/// [`matmul`], on a matrix of 256 × 256 and 256 tokens.
pub fn crossover() -> f64 {
    static CROSSOVER: OnceLock<f64> = OnceLock::new();
    *CROSSOVER.get_or_init(|| {
        const SIZE: usize = 256;
        let x = Matrix::from_shape_fn((SIZE, SIZE), |(r, c)| 1.0 + ((r * 7 + c) % 13) as f32);
        // A quarter of the entries, nowhere regular.
        let keep = |(r, c): (usize, usize)| (r * 2_654_435_761 + c * 40_503) >> 3 & 3 == 0;
        let w = Csr::from_dense(Matrix::from_shape_fn((SIZE, SIZE), |at| if keep(at) { 0.5 } else { 0.0 }).view());
        let mut y = Matrix::zeros((SIZE, SIZE));
        let mut least = [f64::INFINITY; 2];
        for _ in 0..5 {
            let start = Instant::now();
            spmm(&w, Start::Zero, &x, &mut y);
            let middle = Instant::now();
            matmul(Start::Zero, &x, &x, &mut y);
            least[0] = least[0].min((middle - start).as_secs_f64());
            least[1] = least[1].min(middle.elapsed().as_secs_f64());
        }
        let (per_nonzero, per_entry) = (least[0] / w.pattern().nnz() as f64, least[1] / (SIZE * SIZE) as f64);
        (per_entry / per_nonzero).clamp(0.05, 0.95)
    })
}

/// Above this density of the support its gradient is taken from the dense product: there the dot products
/// of [`sddmm`] take more time. A constant and not measured, because the two sum in different orders.
pub const DENSE_GRADIENT_ABOVE: f64 = 0.2;

/// `y = W x + b` (Gao et al. 2025, released `nn.Linear`).
///
/// `W [out, in]`, `b [out, 1]` or none, `x [in, tokens]`, `y [out, tokens]` overwritten.
///
/// # Panics
/// When shapes differ.
#[track_caller]
pub fn linear(w: &Weight, b: Option<&Weight>, x: &Activations, y: &mut Matrix, cpu: &mut Cpu) {
    let (out, input) = w.dense.dim();
    let [features, tokens] = x.shape();
    assert!(
        features == input && y.dim() == (out, tokens),
        "linear: W is [{out}, {input}] but x is {:?} and y is {:?}",
        x.shape(),
        y.shape()
    );
    let start = b.map_or(Start::Zero, |b| Start::Bias(b.dense.as_slice().expect("row-major")));
    match (&w.sparse, x) {
        (Some(sparse), Activations::F32(x)) => spmm(&sparse.forward, start, x, y),
        (Some(sparse), Activations::Bf16(x)) => spmm_packed(&sparse.forward, start, x, y),
        (None, x) => x.as_f32(cpu, |x, _| matmul(start, &w.dense, x, y)),
    }
}

/// Returns `dx = Wᵀ dy`; where `gradient` is given, `dW += dy xᵀ` (of every entry, or at the support: whatever it
/// holds), and `db += Σ_tokens dy`.
///
/// `dy [out, tokens]`, `x`, `dx [in, tokens]`, `dW [out, in]`, `db [out, 1]`. Where x is in bf16, both products
/// have dy rounded to it, too.
///
/// AbsTopK leaves most of dy zero; dense products go over its nonzeros then, which changes no bit (see
/// [`openwork_sparse::spmm`]).
#[track_caller]
pub fn linear_backward(
    w: &Weight,
    dy: &Matrix,
    x: &Activations,
    gradient: Option<(&mut Gradient, Option<&mut Gradient>)>,
    cpu: &mut Cpu,
) -> Matrix {
    // Both factors in bf16, and, where a dense product needs it, dy as it is then in f32.
    let packed = match x {
        Activations::F32(_) => None,
        Activations::Bf16(x) => Some((cpu.pack(dy), x)),
    };
    let dense = w.sparse.is_none() || matches!(gradient, Some((Gradient::Dense(_), _)));
    let rounded = packed.as_ref().filter(|_| dense).map(|(dy, _)| cpu.unpacked(dy));
    if let Some((dw, db)) = gradient {
        if let Some(db) = db {
            simd(
                #[inline(always)]
                || db.values_mut().iter_mut().enumerate().for_each(|(r, db)| *db += math::sum(row(dy, r))),
            );
        }
        match (dw, &packed) {
            (Gradient::Dense(dw), _) => dense_gradient(rounded.as_ref().unwrap_or(dy), x, dw, cpu),
            (Gradient::Support { pattern, values }, Some((dy, x))) => sddmm_packed(pattern, dy, x, values),
            (Gradient::Support { pattern, values }, None) => x.as_f32(cpu, |x, _| sddmm(pattern, dy, x, values)),
        }
    }
    let mut dx = cpu.matrix(x.shape().into());
    match (&w.sparse, &packed) {
        (Some(sparse), None) => spmm(&sparse.backward, Start::Zero, dy, &mut dx),
        (Some(sparse), Some((dy, _))) => spmm_packed(&sparse.backward, Start::Zero, dy, &mut dx),
        (None, _) => dense_input(&w.dense, rounded.as_ref().unwrap_or(dy), &mut dx, cpu),
    }
    packed.into_iter().for_each(|(dy, _)| cpu.recycle_packed(dy));
    rounded.into_iter().for_each(|x| cpu.recycle(x));
    dx
}

/// `dx = Wᵀ dy` over all entries of W, or over the nonzeros of dy where they are few.
fn dense_input(w: &Matrix, dy: &Matrix, dx: &mut Matrix, cpu: &mut Cpu) {
    let mut dy_tokens = cpu.matrix((dy.ncols(), dy.nrows()));
    transpose(dy, &mut dy_tokens);
    if cpu.nonzeros.collect_below(crossover(), &dy_tokens) {
        let mut dx_tokens = cpu.matrix((dx.ncols(), dx.nrows()));
        spmm(cpu.nonzeros.rows(), Start::Zero, w, &mut dx_tokens);
        transpose(&dx_tokens, &mut *dx);
        cpu.recycle(dx_tokens);
    } else {
        matmul(Start::Zero, Panel::from(w).t(), dy, dx);
    }
    cpu.recycle(dy_tokens);
}

/// `dW += dy xᵀ` of all entries, over the nonzeros of dy where they are few.
fn dense_gradient(dy: &Matrix, x: &Activations, dw: &mut Matrix, cpu: &mut Cpu) {
    let [features, tokens] = x.shape();
    let mut x_tokens = cpu.matrix((tokens, features));
    x.as_f32(cpu, |x, _| transpose(x, &mut x_tokens));
    match cpu.nonzeros.collect_below(crossover(), dy) {
        true => spmm(cpu.nonzeros.rows(), Start::Add, &x_tokens, dw),
        false => matmul(Start::Add, dy, &x_tokens, dw),
    }
    cpu.recycle(x_tokens);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ActivationDtype;
    use crate::check::{close, gradient, random, random_sparse};

    /// Output, gradient of the input and, as the support says, of the weight and the bias.
    fn run(
        w: &Weight,
        b: &Weight,
        x: &Matrix,
        dy: &Matrix,
        dw: Gradient,
        dtype: ActivationDtype,
    ) -> (Matrix, Matrix, Gradient, Matrix) {
        let mut cpu = Cpu::new(dtype);
        let (mut y, mut dw, mut db) = (Matrix::ones(dy.dim()), dw, Gradient::zeros((w.dense().nrows(), 1)));
        let x = cpu.keep(x.clone());
        linear(w, Some(b), &x, &mut y, &mut cpu);
        let dx = linear_backward(w, dy, &x, Some((&mut dw, Some(&mut db))), &mut cpu);
        (y, dx, dw, db.dense().clone())
    }

    #[test]
    fn matches_the_reference_dense_and_sparse() {
        for density in [1.0, 0.3, 0.05, 0.0] {
            let w = Weight::new(random_sparse(24, 13, density, 1));
            assert_eq!(w.csr().is_some(), (w.nnz() as f64) < crossover() * 312.0);
            let (b, x, dy) = (Weight::new(random(24, 1, 2)), random(13, 37, 3), random(24, 37, 4));
            let plain = |w: &_, b: &_, x: &_| crate::reference::linear(w, Some(b), x);
            let (wd, bd, xd) = (w.dense().mapv(f64::from), b.dense().mapv(f64::from), x.mapv(f64::from));
            let (y, dx, dw, db) = run(&w, &b, &x, &dy, Gradient::zeros((24, 13)), ActivationDtype::F32);
            close(&y, &plain(&wd, &bd, &xd), 13.0);
            gradient(&dx, &xd, &dy, |x| plain(&wd, &bd, x));
            gradient(dw.dense(), &wd, &dy, |w| plain(w, &bd, &xd));
            gradient(&db, &bd, &dy, |b| plain(&wd, b, &xd));

            // Few and no nonzeros of dy.
            for above in [0.5, 1.0] {
                let masked = dy.mapv(|x| if x > above { x } else { 0.0 });
                let (_, dx, dw, _) = run(&w, &b, &x, &masked, Gradient::zeros((24, 13)), ActivationDtype::F32);
                gradient(&dx, &xd, &masked, |x| plain(&wd, &bd, x));
                gradient(dw.dense(), &wd, &masked, |w| plain(w, &bd, &xd));
            }

            let support = std::sync::Arc::new(Csr::from_dense(w.dense().view()).pattern().as_ref().clone());
            let (_, _, at_support, _) = run(&w, &b, &x, &dy, Gradient::on(support.clone()), ActivationDtype::F32);
            let expected = Csr::gather(support, dw.dense().view());
            for (a, b) in at_support.values().iter().zip(expected.values()) {
                // Two orders of the same 37 terms, each below 1.
                assert!((a - b).abs() <= 37.0 * f32::EPSILON, "{a} {b}");
            }
        }
    }

    #[test]
    fn bf16_is_f32_of_rounded_activations_and_gradients() {
        let rounded = |x: &Matrix| {
            let mut cpu = Cpu::new(ActivationDtype::Bf16);
            let x = cpu.keep(x.clone());
            x.as_f32(&mut cpu, |x, _| x.clone())
        };
        for density in [1.0, 0.05] {
            let w = Weight::new(random_sparse(24, 13, density, 1));
            let (b, x, dy) = (Weight::new(random(24, 1, 2)), random(13, 37, 3), random(24, 37, 4));
            let (x_rounded, dy_rounded) = (rounded(&x), rounded(&dy));
            assert!(x != x_rounded && dy != dy_rounded);
            let (y, dx, dw, db) = run(&w, &b, &x, &dy, Gradient::zeros((24, 13)), ActivationDtype::Bf16);
            let expected = run(&w, &b, &x_rounded, &dy_rounded, Gradient::zeros((24, 13)), ActivationDtype::F32);
            assert_eq!((&y, &dx, dw.dense()), (&expected.0, &expected.1, expected.2.dense()));
            assert_eq!(db, run(&w, &b, &x, &dy, Gradient::zeros((24, 13)), ActivationDtype::F32).3);

            let support = std::sync::Arc::new(Csr::from_dense(w.dense().view()).pattern().as_ref().clone());
            let (_, _, at_support, _) = run(&w, &b, &x, &dy, Gradient::on(support.clone()), ActivationDtype::Bf16);
            for (a, b) in at_support.values().iter().zip(Csr::gather(support, dw.dense().view()).values()) {
                assert!((a - b).abs() <= 37.0 * f32::EPSILON, "{a} {b}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "linear: W is [2, 3] but x is [4, 1]")]
    fn shape_mismatch_panics() {
        let (w, x) = (Weight::new(Matrix::zeros((2, 3))), Matrix::zeros((4, 1)).into());
        linear(&w, None, &x, &mut Matrix::zeros((2, 1)), &mut Cpu::default());
    }
}
