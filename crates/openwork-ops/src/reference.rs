//! The formulas of this crate as plain f64 loops: no blocking, no saved values, no shared code with the
//! fast versions. Tests compare against these, and finite differences go through them.

use ndarray::{Array2, Axis};

use crate::{Activation, Attention, NormKind};

/// `W x + b`.
pub fn linear(w: &Array2<f64>, b: Option<&Array2<f64>>, x: &Array2<f64>) -> Array2<f64> {
    Array2::from_shape_fn((w.nrows(), x.ncols()), |(o, t)| {
        let product: f64 = (0..w.ncols()).map(|i| w[[o, i]] * x[[i, t]]).sum();
        product + b.map_or(0.0, |b| b[[o, 0]])
    })
}

/// `gain · normalised(x) + bias`.
pub fn norm(kind: NormKind, gain: &Array2<f64>, bias: Option<&Array2<f64>>, x: &Array2<f64>) -> Array2<f64> {
    let centred = match kind {
        NormKind::Rms | NormKind::None => x.clone(),
        NormKind::Layer => x - &x.mean_axis(Axis(0)).expect("features"),
    };
    let second = centred.mapv(|c| c * c).mean_axis(Axis(0)).expect("features");
    let normalised = match kind {
        NormKind::None => centred,
        NormKind::Rms | NormKind::Layer => centred / second.mapv(|s| (s + f64::from(kind.eps())).sqrt()),
    };
    let y = normalised * gain;
    match bias {
        Some(bias) => y + bias,
        None => y,
    }
}

/// Φ(x), from the series of erf (all terms of one sign after factoring out the Gaussian).
pub fn normal_cdf(x: f64) -> f64 {
    // erf(z) = 2/√π · e^{−z²} Σ_n 2ⁿ z^{2n+1} / (1·3·5···(2n+1))
    let z = x.abs() / std::f64::consts::SQRT_2;
    if z > 6.0 {
        return if x > 0.0 { 1.0 } else { 0.0 }; // 1 − Φ < 1e-17
    }
    let (mut term, mut sum, mut n) = (z, z, 0.0);
    while term > sum * 1e-18 {
        n += 1.0;
        term *= 2.0 * z * z / (2.0 * n + 1.0);
        sum += term;
    }
    let erf = 2.0 / std::f64::consts::PI.sqrt() * (-z * z).exp() * sum;
    0.5 * (1.0 + erf.copysign(x))
}

/// GELU or ReLU.
pub fn activate(f: Activation, x: &Array2<f64>) -> Array2<f64> {
    x.mapv(|x| match f {
        Activation::Gelu => x * normal_cdf(x),
        Activation::Relu => x.max(0.0),
    })
}

/// Keeps the k entries of largest magnitude of every column, ties by index, by sorting.
pub fn abs_top_k(k: usize, x: &Array2<f64>) -> Array2<f64> {
    let mut y = Array2::zeros(x.dim());
    for t in 0..x.ncols() {
        let mut order: Vec<usize> = (0..x.nrows()).collect();
        order.sort_by(|&a, &b| x[[b, t]].abs().total_cmp(&x[[a, t]].abs())); // stable
        for &f in order.iter().take(k) {
            y[[f, t]] = x[[f, t]];
        }
    }
    y
}

/// Causal attention with an optional sink.
pub fn attention(
    shape: Attention,
    q: &Array2<f64>,
    k: &Array2<f64>,
    v: &Array2<f64>,
    sink: Option<&Array2<f64>>,
) -> Array2<f64> {
    let mut y = Array2::zeros(q.dim());
    for query in 0..q.ncols() {
        let start = query / shape.seq_len * shape.seq_len;
        for head in 0..shape.n_head {
            let rows = head * shape.d_head..(head + 1) * shape.d_head;
            let weights: Vec<f64> = (start..=query)
                .map(|key| {
                    let score: f64 = rows.clone().map(|r| q[[r, query]] * k[[r, key]]).sum();
                    (score / (shape.d_head as f64).sqrt()).exp()
                })
                .collect();
            let total = weights.iter().sum::<f64>() + sink.map_or(0.0, |s| s[[head, 0]].exp());
            for r in rows {
                for (i, w) in weights.iter().enumerate() {
                    y[[r, query]] += w / total * v[[r, start + i]];
                }
            }
        }
    }
    y
}

/// Loss of every column in nats.
pub fn cross_entropy(logits: &Array2<f64>, targets: &[u16]) -> Vec<f64> {
    targets
        .iter()
        .enumerate()
        .map(|(t, &target)| {
            let max = logits.column(t).fold(f64::NEG_INFINITY, |m, &x| m.max(x));
            let sum: f64 = logits.column(t).iter().map(|x| (x - max).exp()).sum();
            max + sum.ln() - logits[[usize::from(target), t]]
        })
        .collect()
}
