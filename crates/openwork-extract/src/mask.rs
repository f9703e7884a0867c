//! A learned mask: one number τ per node, its Heaviside step in the forward pass, a sigmoid's slope in the
//! backward pass.
//!
//! `x ← mean + H(τ) (x − mean)`, `dH/dτ ≈ σ(τ/T)(1 − σ(τ/T))/T` (Gao et al. 2025, A.5; the scale 1/T is that
//! of Drori's replication).

use std::ops::ControlFlow;

use openwork_circuit::{Batch, Means, NodeSpace};
use openwork_cuda::{Array, Buffer, Gpu, GpuError, Mask};
use openwork_model::{ActivationDtype, GpuModel, Matrix, Model, Site, Tap, Tokens};
use openwork_ops::Cuda;

use crate::prompts::{Blend, Prompts, Runner};

/// Sum over the sequences of `prompts` of `−log p(right | two candidates)` under the mask (node n open where `tau[n] > 0`), in nats, and its gradient with
/// respect to every gate.
pub(crate) fn loss_and_gates(
    runner: &Runner<'_>,
    space: &NodeSpace,
    means: &Means,
    tau: &[f32],
    prompts: &Prompts,
) -> (f64, Vec<f32>) {
    let r: Vec<f32> = tau.iter().map(|&t| heaviside(t)).collect();
    runner.gradient(prompts, Blend::new(space, &r, means), |logits| prompts.batch.task_loss(logits))
}

/// H(τ): 1 where a gate is open (τ > 0), else 0.
pub(crate) fn heaviside(tau: f32) -> f32 {
    f32::from(u8::from(tau > 0.0))
}

/// A model on a GPU whose masks are learned.
pub(crate) struct MaskedOnGpu {
    model: GpuModel,
    engine: Cuda,
}

impl MaskedOnGpu {
    pub fn new(model: &Model, gpu: &Gpu) -> Result<Self, GpuError> {
        Ok(Self { model: model.upload(gpu)?, engine: Cuda::new(gpu.clone(), ActivationDtype::F32) })
    }

    /// [`loss_and_gates`] on the GPU.
    pub fn loss_and_gates(
        &mut self,
        space: &NodeSpace,
        means: &Means,
        tau: &[f32],
        batch: &Batch,
    ) -> Result<(f64, Vec<f32>), GpuError> {
        let gpu = self.engine.gpu().clone();
        let mut tap = GpuMaskTap { gpu: &gpu, space, means: means.values(), tau, passed: vec![], gates: vec![] };
        let (tokens, engine) = (Tokens::new(&batch.tokens, batch.seq_len), &mut self.engine);
        let pass = self.model.model.forward_in(tokens, Some(&batch.readout), &mut tap, engine);
        let [rows, cols] = pass.logits.shape();
        let logits = Matrix::from_shape_vec((rows, cols), pass.logits.download()?).expect("as many as the shape says");
        let (loss, dlogits) = batch.task_loss(&logits);
        let dlogits = Array::upload(&gpu, [rows, cols], dlogits.as_slice().expect("row-major"));
        self.model.model.backward_in(&pass, &dlogits, &mut tap, None, engine);
        let mut gates = vec![0.0; tau.len()];
        for (site, of_site) in &tap.gates {
            let range = space.range(*site).expect("a site with nodes");
            gates[range].copy_from_slice(&of_site.download()?);
        }
        Ok((loss, gates))
    }
}

/// [`Partial`] on a GPU, of coefficients 0 and 1.
struct GpuMaskTap<'a> {
    gpu: &'a Gpu,
    space: &'a NodeSpace,
    means: &'a [f32],
    tau: &'a [f32],
    /// Mask and `x − mean` of every site, pushed in forward and popped in backward.
    passed: Vec<(Mask, Array)>,
    /// ∂loss/∂H of the nodes of every site.
    gates: Vec<(Site, Buffer<f32>)>,
}

impl Tap<Array> for GpuMaskTap<'_> {
    fn forward(&mut self, site: Site, value: &mut Array) -> ControlFlow<()> {
        let Some(range) = self.space.range(site) else { return ControlFlow::Continue(()) };
        let keep: Vec<bool> = self.tau[range.clone()].iter().map(|&tau| tau > 0.0).collect();
        let mask = Mask::new(self.gpu, &keep, &self.means[range]);
        let deviation = mask.ablate(value);
        self.passed.push((mask, deviation));
        ControlFlow::Continue(())
    }

    fn backward(&mut self, site: Site, gradient: &mut Array) {
        let Some(range) = self.space.range(site) else { return };
        let (mask, deviation) = self.passed.pop().expect("backward mirrors forward");
        let mut gates = self.gpu.zeros(range.len());
        mask.ablate_backward(&deviation, gradient, &mut gates);
        self.gates.push((site, gates));
    }
}

#[cfg(test)]
mod tests {
    use openwork_circuit::batches;
    use openwork_cuda_sim::Simulator;
    use openwork_model::{ActDensity, Config};
    use openwork_tasks::Pair;

    use super::*;

    /// Gates as real numbers, so that the gate's gradient can be checked by finite differences.
    struct RealGates<'a> {
        space: &'a NodeSpace,
        means: &'a [f32],
        gate: Vec<f32>,
    }

    impl Tap for RealGates<'_> {
        fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
            let Some(range) = self.space.range(site) else { return ControlFlow::Continue(()) };
            for (mut x, node) in value.rows_mut().into_iter().zip(range) {
                x.mapv_inplace(|x| self.means[node] + self.gate[node] * (x - self.means[node]));
            }
            ControlFlow::Continue(())
        }
    }

    #[test]
    fn gate_gradients_match_finite_differences() {
        let config = Config {
            vocab_size: 20,
            n_layer: 2,
            n_head: 2,
            d_head: 8,
            d_model: 16,
            d_mlp: 24,
            act_density: None::<ActDensity>,
            ..Config::default()
        };
        let mut model = Model::init(config, 3);
        for w in model.params.values_mut() {
            w.update(|w| w.mapv_inplace(|x| x * 8.0));
        }
        let space = NodeSpace::new(&model.config);
        let means = Means::compute(&model, &(0..40).map(|t| t * 7 % 20).collect::<Vec<u16>>(), 10);
        let pair = Pair { positive: vec![1, 2, 3], negative: vec![4, 5], answer: 6, alternative: 7, template: 0 };
        let batch = &batches(std::slice::from_ref(&pair), 1, 10)[0];
        let tau: Vec<f32> = (0..space.len()).map(|n| if n % 5 == 0 { -0.5 } else { 0.5 }).collect();
        let prompts = Prompts::new(std::slice::from_ref(&pair), &model.config);
        let (loss, gates) = loss_and_gates(&Runner::new(&model), &space, &means, &tau, &prompts);
        let run = |node: usize, by: f32| {
            let mut gate: Vec<f32> = tau.iter().map(|&t| f32::from(t > 0.0)).collect();
            gate[node] += by;
            let mut tap = RealGates { space: &space, means: means.values(), gate };
            let logits =
                model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap).logits;
            let d = [f64::from(logits[[6, 0]] - logits[[7, 0]]), f64::from(logits[[7, 1]] - logits[[6, 1]])];
            d.iter().map(|d| (1.0 + (-d).exp()).ln()).sum::<f64>()
        };
        assert!((run(0, 0.0) - loss).abs() < 1e-5);

        let mut on_gpu = MaskedOnGpu::new(&model, &Simulator::gpu(100 << 10, 4, 2)).unwrap();
        let (gpu_loss, gpu_gates) = on_gpu.loss_and_gates(&space, &means, &tau, batch).unwrap();
        assert!((gpu_loss - loss).abs() < 1e-5, "{gpu_loss} {loss}");
        for (a, b) in gpu_gates.iter().zip(&gates) {
            // Sums of a few hundred products in another order.
            assert!((a - b).abs() <= 1e-4 * gates.iter().fold(0.0_f32, |m, g| m.max(g.abs())), "{a} {b}");
        }
        let scale = gates.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
        assert!(scale > 1e-3);
        for node in (0..space.len()).step_by(3) {
            let slope = (run(node, 1e-2) - run(node, -1e-2)) / 2e-2;
            // f32 logits: 1e-6 / h of noise, h² of truncation.
            assert!(
                (slope - f64::from(gates[node])).abs() < 2e-2 * f64::from(scale),
                "{} {slope} {}",
                space.node(node),
                gates[node]
            );
        }
    }
}
