//! Ablation with the scales of the norms frozen.
//!
//! Ablating a node changes the length of the residual stream, and the norm that follows rescales everything that was
//! kept: a circuit can owe its logits to nodes that it leaves out (Drori 2026). Here every norm divides by what it
//! divides by in the plain model on the same tokens.

use std::ops::ControlFlow;

use openwork_model::{Matrix, Model, NormKind, Site, SiteKind, Tap};

/// Divisors of every norm of a model on a batch, one number a token: `√(mean x² + ε)`, or for LayerNorm
/// `√(var x + ε)`. A tap that records them in the plain model's pass.
#[derive(Clone, Debug)]
pub struct NormScales {
    kind: NormKind,
    norms: Vec<Vec<f32>>,
}

impl NormScales {
    /// Nothing recorded yet.
    pub fn new(model: &Model) -> Self {
        Self { kind: model.config.norm, norms: Vec::with_capacity(2 * model.config.n_layer + 1) }
    }
}

impl Tap for NormScales {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        if matches!(site.kind, SiteKind::ResidIn | SiteKind::ResidMid | SiteKind::FinalResid) {
            self.norms.push(scales(self.kind, value));
        }
        ControlFlow::Continue(())
    }
}

/// Runs another tap under frozen norms: what a block (or the unembedding) reads is multiplied by the scale of the run
/// over that of the plain model before the inner tap sees it.
///
/// AbsTopK chooses before that, by magnitudes that share one factor a token, so it chooses the same. Entries of a
/// LayerNorm with a bias are chosen at the free scale. There is no backward pass.
pub struct Frozen<'a, T> {
    /// The tap that runs under frozen norms.
    pub inner: T,
    model: &'a Model,
    scales: &'a NormScales,
    readout: &'a [usize],
    /// Norms passed so far, and the scales of this run at the latest.
    passed: usize,
    now: Vec<f32>,
}

impl<'a, T> Frozen<'a, T> {
    /// `scales` are those of the plain model on the same batch, whose columns `readout` are read out.
    pub fn new(inner: T, model: &'a Model, scales: &'a NormScales, readout: &'a [usize]) -> Self {
        Self { inner, model, scales, readout, passed: 0, now: vec![] }
    }

    fn rescale(&self, site: Site, value: &mut Matrix) {
        let params = &self.model.params;
        let bias = match site.kind {
            SiteKind::AttnRead => &params.blocks[site.layer].attn_norm.bias,
            SiteKind::MlpRead => &params.blocks[site.layer].mlp_norm.bias,
            _ => &params.final_norm.bias,
        };
        let model = &self.scales.norms[self.passed - 1];
        let factor: Vec<f32> = match site.kind {
            SiteKind::FinalRead => self.readout.iter().map(|&c| self.now[c] / model[c]).collect(),
            _ => self.now.iter().zip(model).map(|(now, model)| now / model).collect(),
        };
        // Position channels, below the residual stream's, have norms of their own that nothing changes.
        for (feature, mut row) in value.rows_mut().into_iter().take(self.model.config.d_model).enumerate() {
            let b = bias.as_ref().map_or(0.0, |b| b.dense()[[feature, 0]]);
            // What AbsTopK dropped stays dropped, and a factor of 1 leaves every bit.
            for (x, f) in row.iter_mut().zip(&factor).filter(|(x, f)| **x != 0.0 && **f != 1.0) {
                *x = b + (*x - b) * f;
            }
        }
    }
}

impl<T: Tap> Tap for Frozen<'_, T> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        match site.kind {
            SiteKind::ResidIn | SiteKind::ResidMid | SiteKind::FinalResid => {
                self.inner.forward(site, value)?;
                self.now = scales(self.scales.kind, value);
                self.passed += 1;
            }
            SiteKind::AttnRead | SiteKind::MlpRead | SiteKind::FinalRead => {
                self.rescale(site, value);
                self.inner.forward(site, value)?;
            }
            _ => self.inner.forward(site, value)?,
        }
        ControlFlow::Continue(())
    }
}

fn scales(kind: NormKind, x: &Matrix) -> Vec<f32> {
    if kind == NormKind::None {
        return vec![1.0; x.ncols()];
    }
    let n = x.nrows() as f64;
    let one = |column: ndarray::ArrayView1<'_, f32>| {
        let sum = |f: &dyn Fn(f64) -> f64| column.iter().map(|&x| f(f64::from(x))).sum::<f64>();
        let mean = if kind == NormKind::Layer { sum(&|x| x) / n } else { 0.0 };
        (sum(&|x| (x - mean).powi(2)) / n + f64::from(kind.eps())).sqrt() as f32
    };
    x.columns().into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use openwork_model::{Config, NoTap, Tokens};

    use super::*;
    use crate::{Ablation, Keep, NodeSet, NodeSpace};

    fn setting(norm: NormKind) -> (Model, Vec<u16>) {
        let config = Config { vocab_size: 30, norm, act_density: None, ..Config::default() };
        let mut model = Model::init(config, 4);
        model.params.values_mut().into_iter().for_each(|w| w.update(|w| *w *= 2.0));
        (model, (0..12).collect())
    }

    #[test]
    fn frozen_at_its_own_scales_the_model_is_the_model() {
        for norm in [NormKind::Rms, NormKind::Layer, NormKind::None] {
            let (model, tokens) = setting(norm);
            let batch = Tokens::new(&tokens, 6);
            let readout = [5, 11];
            let mut scales = NormScales::new(&model);
            let plain = model.forward(batch, Some(&readout), &mut scales).logits;
            let frozen =
                model.forward(batch, Some(&readout), &mut Frozen::new(NoTap, &model, &scales, &readout)).logits;
            assert_eq!(plain, frozen);
        }
    }

    #[test]
    fn under_frozen_norms_the_model_is_linear_in_what_its_last_block_writes() {
        // With every node of a one-block model ablated to zero but the last writes, those scaled by the inner tap:
        // under frozen norms the logits follow in proportion, under free ones they hardly change.
        struct Scale(f32);
        impl Tap for Scale {
            fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
                if site.kind == SiteKind::FinalResid {
                    *value *= self.0;
                }
                ControlFlow::Continue(())
            }
        }
        let (mut model, tokens) = setting(NormKind::Rms);
        model.config.bigram = openwork_model::Bigram::None;
        model.params.bigram = None;
        let (batch, readout) = (Tokens::new(&tokens, 6), [3, 8]);
        let mut scales = NormScales::new(&model);
        model.forward(batch, Some(&readout), &mut scales);
        let frozen =
            |by| model.forward(batch, Some(&readout), &mut Frozen::new(Scale(by), &model, &scales, &readout)).logits;
        let (one, half) = (frozen(1.0), frozen(0.5));
        assert!(one.iter().zip(&half).all(|(a, b)| (a - 2.0 * b).abs() < 1e-4 * a.abs().max(1.0)));
        let free = model.forward(batch, Some(&readout), &mut Scale(0.5)).logits;
        assert!(one.iter().zip(&free).all(|(a, b)| (a - b).abs() < 1e-3 * a.abs().max(1.0)));
    }

    #[test]
    fn frozen_scales_change_an_ablated_run() {
        let (model, tokens) = setting(NormKind::Rms);
        let (batch, readout) = (Tokens::new(&tokens, 6), [5, 11]);
        let mut scales = NormScales::new(&model);
        model.forward(batch, Some(&readout), &mut scales);
        let nodes = NodeSet::of(NodeSpace::new(&model.config), (0..400).step_by(2));
        let keep = || Keep::new(&nodes, Ablation::Zero);
        let free = model.forward(batch, Some(&readout), &mut keep()).logits;
        let frozen = model.forward(batch, Some(&readout), &mut Frozen::new(keep(), &model, &scales, &readout)).logits;
        assert_ne!(free, frozen);
    }
}
