//! Pruning: learn a mask, rank nodes by it, keep the fewest that reach the target loss.
//!
//! Source: Gao et al. 2025, A.5 and Table 2; steps, clipping and batch order as decided in the project's
//! specification, where the paper is silent.

use std::{collections::BTreeMap, convert::Infallible, ops::ControlFlow};

use openwork_circuit::{Calibration, Means, NodeSet, NodeSpace, batches, edges};
use openwork_cuda::GpuError;
use openwork_model::Model;
use openwork_ops::Device;
use openwork_tasks::Pair;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use crate::{
    mask::{MaskedOnGpu, loss_and_gates},
    objective::{Objective, Target},
    select::Selection,
};

/// Settings of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Loss to reach, in nats per sequence.
    pub target_loss: f64,
    /// Independent searches; the circuit with the fewest edges is kept.
    pub restarts: usize,
    /// Optimizer steps of each.
    pub steps: usize,
    /// Contrast pairs a step.
    pub batch_pairs: usize,
    /// Price of a kept node in nats.
    pub k_coef: f64,
    /// Learning rate, decaying linearly to 0.
    pub lr: f64,
    /// Fraction of the steps over which the learning rate rises.
    pub warmup_fraction: f64,
    /// Adam's β₂ (β₁ is 0.9).
    pub beta2: f64,
    /// Decoupled weight decay of τ.
    pub weight_decay: f64,
    /// Temperature of the surrogate gradient.
    pub temperature: f64,
    /// τ starts at this plus noise.
    pub init_bias: f64,
    /// Deviation of that noise.
    pub init_noise: f64,
    /// Seed of noise and batches.
    pub seed: u64,
    /// What masks are learned for, and circuits selected by.
    pub objective: Objective,
    /// Nodes that the adversary of [`Objective::Adversarial`] ablates, as a share of the open ones.
    pub adversary_share: f64,
}

impl Default for Settings {
    /// The centres of the paper's Table 2, with fewer and larger steps: the paper searches around them with
    /// hundreds of runs, a laptop cannot.
    fn default() -> Self {
        Self {
            target_loss: 0.15,
            restarts: 3,
            steps: 600,
            batch_pairs: 32,
            k_coef: 1e-3,
            lr: 2e-2,
            warmup_fraction: 0.05,
            beta2: 0.95,
            weight_decay: 1e-3,
            temperature: 1.0,
            init_bias: 0.1,
            init_noise: 0.01,
            seed: 0,
            objective: Objective::Task,
            adversary_share: 0.25,
        }
    }
}

impl Settings {
    /// The settings that [`Settings::by_name`] wrote; `None` where one is missing or no number of its kind.
    pub fn from_names(names: &BTreeMap<String, f64>, target_loss: f64, seed: u64) -> Option<Self> {
        let real = |name: &str| names.get(name).copied().filter(|x| x.is_finite());
        let whole = |name: &str| real(name).filter(|x| (0.0..1e9).contains(x) && x.fract() == 0.0).map(|x| x as usize);
        Some(Self {
            target_loss,
            restarts: whole("restarts")?,
            steps: whole("steps")?,
            batch_pairs: whole("batch_pairs").filter(|&n| n > 0)?,
            k_coef: real("k_coef")?,
            lr: real("lr")?,
            warmup_fraction: real("warmup_fraction")?,
            beta2: real("beta2")?,
            weight_decay: real("weight_decay")?,
            temperature: real("temperature").filter(|&t| t > 0.0)?,
            init_bias: real("init_bias")?,
            init_noise: real("init_noise")?,
            seed,
            // Files from before there were others.
            objective: *Objective::ALL.get(names.get("objective").map_or(Some(0), |_| whole("objective"))?)?,
            adversary_share: names.get("adversary_share").map_or(Some(0.25), |_| real("adversary_share"))?,
        })
    }

    /// Every setting by name, for circuit files.
    pub fn by_name(&self) -> BTreeMap<String, f64> {
        [
            ("restarts", self.restarts as f64),
            ("steps", self.steps as f64),
            ("batch_pairs", self.batch_pairs as f64),
            ("k_coef", self.k_coef),
            ("lr", self.lr),
            ("warmup_fraction", self.warmup_fraction),
            ("beta2", self.beta2),
            ("weight_decay", self.weight_decay),
            ("temperature", self.temperature),
            ("init_bias", self.init_bias),
            ("init_noise", self.init_noise),
            ("objective", self.objective.number()),
            ("adversary_share", self.adversary_share),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into()
    }
}

/// A circuit and how it was selected.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// Kept nodes.
    pub nodes: NodeSet,
    /// Number of nonzero weights between them.
    pub n_edges: usize,
    /// Calibration fitted on the training pairs.
    pub calibration: Calibration,
    /// Calibrated loss on the validation pairs, in nats per sequence.
    pub loss: f64,
    /// Whether that is within the target.
    pub reached: bool,
    /// Restarts that were finished: fewer than asked for where the search was ended early.
    pub restarts: usize,
}

/// The search cannot succeed: with every node kept the loss is above the target.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "the model itself has a loss of {loss:.3} nats on the task, above the target of {target:.3}: no circuit of it can do better by design"
)]
pub struct NotReached {
    /// Loss of the whole model on the validation pairs, as it is or calibrated.
    pub loss: f64,
    /// The target.
    pub target: f64,
}

/// Why there is no circuit.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The model does not do the task.
    #[error(transparent)]
    NotReached(#[from] NotReached),
    /// The caller ended the search before its first restart was finished.
    #[error("the search was ended before it had a first circuit")]
    Ended,
    /// Masks for another objective than the task loss are learned on the CPU only.
    #[error("masks for the objective {0} are learned on the CPU: leave out --device or say --device cpu")]
    OnCpuOnly(Objective),
    /// The GPU.
    #[error("the search on the GPU stopped")]
    Gpu(#[from] GpuError),
}

/// What the search tells its caller after every step; [`ControlFlow::Break`] ends it.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Restart, from 0.
    pub restart: usize,
    /// Step in it, from 0.
    pub step: usize,
    /// Mean loss of the step's batch under the mask, in nats per sequence.
    pub loss: f64,
    /// Open gates.
    pub kept: usize,
}

/// Is told of every step.
pub type OnStep<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// A search for a circuit of `model`: masks are learned on `train`, and a circuit is selected on `validation`.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// The model.
    pub model: &'a Model,
    /// Means of its nodes over training data.
    pub means: &'a Means,
    /// Pairs of the task that masks are learned on.
    pub train: &'a [Pair],
    /// Pairs that a circuit is selected on.
    pub validation: &'a [Pair],
    /// How hard to search.
    pub settings: &'a Settings,
}

/// The mean loss of a batch's sequences under the mask that τ is, and its gradient with respect to every gate.
type Gates<'a, E> = dyn FnMut(&[f32], &[Pair]) -> Result<(f64, Vec<f64>), E> + 'a;

impl Search<'_> {
    /// [`Search::search`], if the whole model does the task; masks are learned on `device`.
    ///
    /// # Errors
    /// When the whole model does not reach the target, there is no kernel for a size of it, the GPU fails, or `progress`
    /// ends the search too early.
    pub fn prune(&self, device: &Device, progress: &mut OnStep<'_>) -> Result<Pruned, PruneError> {
        let Self { model, means, settings, .. } = *self;
        let loss = self.selection().model_loss(NodeSpace::new(&model.config));
        if loss > settings.target_loss {
            return Err(NotReached { loss, target: settings.target_loss }.into());
        }
        let Device::Cuda(gpu) = device else { return self.search(progress).ok_or(PruneError::Ended) };
        if settings.objective != Objective::Task {
            return Err(PruneError::OnCpuOnly(settings.objective));
        }
        let space = NodeSpace::new(&model.config);
        let mut masked = MaskedOnGpu::new(model, gpu)?;
        let mut gates = |tau: &[f32], pairs: &[Pair]| {
            // All pairs at once: a GPU wants them so.
            let batch = &batches(pairs, pairs.len(), model.config.n_ctx)[0];
            let (loss, gates) = masked.loss_and_gates(&space, means, tau, batch)?;
            let sequences = 2.0 * pairs.len() as f64;
            Ok::<_, GpuError>((loss / sequences, gates.into_iter().map(|x| f64::from(x) / sequences).collect()))
        };
        self.search_with(&mut gates, progress)?.ok_or(PruneError::Ended)
    }

    /// The search alone, whether or not the model does the task: what controls need, since a mask can find
    /// "circuits" for tasks that the model does not do.
    ///
    /// Each restart minimises `task loss + k_coef · kept nodes` over τ by AdamW, then bisects on the number of
    /// top-τ nodes for the fewest whose calibrated loss is within the target, then drops single nodes that the
    /// target does not need. `None` where `progress` ends the search before the first restart is finished; later, the
    /// restart that runs is given up and the best of the finished ones is returned.
    pub fn search(&self, progress: &mut OnStep<'_>) -> Option<Pruned> {
        let Self { model, means, settings, .. } = *self;
        let space = NodeSpace::new(&model.config);
        let mut adversary = Vec::new();
        let mut gates = |tau: &[f32], pairs: &[Pair]| {
            let target = || Target::new(model, &space, means, pairs);
            match settings.objective {
                Objective::Task => (),
                Objective::Kl => return Ok::<_, Infallible>(target().kl(tau)),
                Objective::Adversarial => return Ok(target().adversarial(tau, &mut adversary, settings)),
            }
            // A fixed split into chunks, added up in order: the number of threads does not matter.
            let parts: Vec<(f64, Vec<f32>)> = batches(pairs, settings.batch_pairs.div_ceil(4), model.config.n_ctx)
                .par_iter()
                .map(|chunk| loss_and_gates(model, &space, means, tau, chunk))
                .collect();
            let sequences = 2.0 * pairs.len() as f64;
            let mut gradient = vec![0.0_f64; tau.len()];
            for (_, gates) in &parts {
                gradient.iter_mut().zip(gates).for_each(|(g, &x)| *g += f64::from(x) / sequences);
            }
            Ok((parts.iter().map(|p| p.0).sum::<f64>() / sequences, gradient))
        };
        match self.search_with(&mut gates, progress) {
            Ok(pruned) => pruned,
            Err(never) => match never {},
        }
    }

    fn selection(&self) -> Selection<'_> {
        Selection::new(self.model, self.means, self.train, self.validation, self.settings)
    }

    fn search_with<E>(&self, gates: &mut Gates<'_, E>, progress: &mut OnStep<'_>) -> Result<Option<Pruned>, E> {
        let (space, selection) = (NodeSpace::new(&self.model.config), self.selection());
        let mut found = Vec::new();
        for restart in 0..self.settings.restarts.max(1) {
            let learned = learn(gates, space.len(), self.train, self.settings, restart, progress)?;
            let Some(tau) = learned else { break };
            let nodes = selection.fewest(&space, &tau);
            let (loss, calibration) = selection.loss(&nodes);
            let n_edges = edges(self.model, &nodes).len();
            let reached = selection.reaches(&nodes);
            found.push(Pruned { n_edges, calibration, loss, reached, nodes, restarts: 0 });
        }
        let restarts = found.len();
        // One that reached the target before one that did not, then the fewest edges, then the fewest nodes.
        let rank = |p: &Pruned| (!p.reached, p.n_edges, p.nodes.len());
        Ok(found.into_iter().min_by_key(rank).map(|best| Pruned { restarts, ..best }))
    }
}

/// Learns τ: one per node; `None` where `progress` ended it.
fn learn<E>(
    gates: &mut Gates<'_, E>,
    n_nodes: usize,
    train: &[Pair],
    s: &Settings,
    restart: usize,
    progress: &mut OnStep<'_>,
) -> Result<Option<Vec<f32>>, E> {
    let mut rng = ChaCha8Rng::seed_from_u64(s.seed);
    rng.set_stream(restart as u64);
    let mut tau: Vec<f32> = (0..n_nodes)
        .map(|_| {
            let noise: f64 = StandardNormal.sample(&mut rng);
            (s.init_bias + s.init_noise * noise).clamp(-1.0, 1.0) as f32
        })
        .collect();
    let (mut m, mut v) = (vec![0.0_f64; tau.len()], vec![0.0_f64; tau.len()]);
    let mut order: Vec<usize> = vec![];
    for step in 0..s.steps {
        let mut batch = Vec::with_capacity(s.batch_pairs);
        while batch.len() < s.batch_pairs.min(train.len()) {
            if order.is_empty() {
                order = (0..train.len()).collect();
                for last in (1..order.len()).rev() {
                    order.swap(last, rng.random_range(0..=last));
                }
            }
            batch.push(train[order.pop().expect("just filled")].clone());
        }
        let (loss, mut gradient) = gates(&tau, &batch)?;
        for (g, &t) in gradient.iter_mut().zip(&tau) {
            let sigmoid = 1.0 / (1.0 + (-f64::from(t) / s.temperature).exp());
            *g = (*g + s.k_coef) * sigmoid * (1.0 - sigmoid) / s.temperature;
        }
        // Clip to a root mean square of 1, only where larger.
        let rms = (gradient.iter().map(|g| g * g).sum::<f64>() / gradient.len() as f64).sqrt();
        let clip = 1.0 / rms.max(1.0);
        let warmup = (step as f64 + 1.0) / (s.warmup_fraction * s.steps as f64).max(1.0);
        let lr = s.lr * warmup.min(1.0 - step as f64 / s.steps as f64);
        let (c1, c2) = (1.0 - 0.9_f64.powi(step as i32 + 1), 1.0 - s.beta2.powi(step as i32 + 1));
        for (((t, g), m), v) in tau.iter_mut().zip(&gradient).zip(&mut m).zip(&mut v) {
            let g = g * clip;
            *m += (g - *m) * 0.1;
            *v += (g * g - *v) * (1.0 - s.beta2);
            let update = (*m / c1) / ((*v / c2).sqrt() + 1e-8) + s.weight_decay * f64::from(*t);
            *t = (f64::from(*t) - lr * update).clamp(-1.0, 1.0) as f32;
        }
        let kept = tau.iter().filter(|&&t| t > 0.0).count();
        if progress(Progress { restart, step, loss, kept }).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(tau))
}

#[cfg(test)]
mod tests {
    use openwork_cuda_sim::Simulator;
    use openwork_model::{Bigram, Config};

    use super::*;

    /// A model in which neuron 3 alone tells token 1 from token 2: channel 0 of the embedding carries the
    /// cue, the neuron reads it, channel 1 takes it to the logits of tokens 3 and 4.
    fn planted() -> Model {
        let config = Config {
            vocab_size: 8,
            n_ctx: 4,
            n_layer: 1,
            n_head: 1,
            d_head: 8,
            d_model: 8,
            d_mlp: 16,
            act_density: None,
            bigram: Bigram::None,
            ..Config::default()
        };
        let mut model = Model::init(config, 1);
        let params = &mut model.params;
        params.embed.update(|w| {
            w.column_mut(0).fill(0.0);
            w.column_mut(1).fill(0.0);
            // Equal but for the sign of the cue: of equal norm, too.
            let row = w.row(1).to_owned();
            w.row_mut(2).assign(&row);
            (w[[1, 0]], w[[2, 0]]) = (1.0, -1.0);
            w.column_mut(2).fill(1.0);
        });
        params.blocks[0].fc.weight.update(|w| w[[3, 0]] = 2.0);
        params.blocks[0].proj.weight.update(|w| w[[1, 3]] = 4.0);
        // The two answers differ in channel 1 only, or calibration would amplify what the embedding itself
        // sends to the logits, which no mask can remove.
        params.unembed.as_mut().expect("untied").update(|w| {
            let row = w.row(3).to_owned();
            w.row_mut(4).assign(&row);
            (w[[3, 1]], w[[4, 1]]) = (2.0, -2.0);
        });
        model
    }

    fn on(_: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn finds_the_planted_neuron_and_little_else() {
        let model = planted();
        let means = Means::compute(&model, &[0, 1, 2, 5, 6, 7, 1, 2, 3, 4, 2, 1], 4);
        let pairs: Vec<Pair> = (0..16)
            .map(|i| Pair {
                positive: vec![5 + i % 3, i / 3, 1],
                negative: vec![5 + i % 3, i / 3, 2],
                answer: 3,
                alternative: 4,
                template: 0,
            })
            .collect();
        let settings = Settings { restarts: 2, steps: 150, batch_pairs: 8, ..Settings::default() };
        let search =
            |settings| Search { model: &model, means: &means, train: &pairs[..10], validation: &pairs[10..], settings };
        let run = || search(&settings).prune(&Device::Cpu, &mut on).unwrap();
        let pruned = run();
        let few = Settings { restarts: 1, steps: 25, ..settings.clone() };
        let gpu = Device::Cuda(Simulator::gpu(100 << 10, 4, 2));
        let on_gpu = search(&few).prune(&gpu, &mut on).unwrap();
        let on_cpu = search(&few).prune(&Device::Cpu, &mut on).unwrap();
        assert_eq!(on_gpu.nodes, on_cpu.nodes);
        let names: Vec<String> = pruned.nodes.nodes().map(|n| n.to_string()).collect();
        for needed in ["0.mlp.act_in[0]", "0.mlp.post_act[3]", "0.mlp.resid_delta[1]"] {
            assert!(names.iter().any(|n| n == needed), "{needed} is not in {names:?}");
        }
        assert!(pruned.n_edges <= 4 && pruned.loss <= 0.15, "{names:?} {}", pruned.loss);
        assert_eq!(pruned.nodes, run().nodes);
    }

    #[test]
    fn an_ended_search_keeps_what_was_finished() {
        let model = planted();
        let means = Means::compute(&model, &[0, 1, 2, 5, 6, 7, 1, 2, 3, 4, 2, 1], 4);
        let pair = |i: u16| Pair {
            positive: vec![5 + i % 3, 1],
            negative: vec![5 + i % 3, 2],
            answer: 3,
            alternative: 4,
            template: 0,
        };
        let pairs: Vec<Pair> = (0..6).map(pair).collect();
        let settings = Settings { restarts: 3, steps: 20, batch_pairs: 4, ..Settings::default() };
        let search = Search { model: &model, means: &means, train: &pairs, validation: &pairs, settings: &settings };
        let until = |restart, step| {
            let mut progress = |p: Progress| match (p.restart, p.step) == (restart, step) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            search.search(&mut progress)
        };
        assert!(until(0, 19).is_none());
        let (one, all) = (until(1, 3).unwrap(), until(3, 0).unwrap());
        assert_eq!((one.restarts, all.restarts), (1, 3));
        assert!(all.n_edges <= one.n_edges);
        let mut at_once = |_: Progress| ControlFlow::Break(());
        assert!(matches!(search.prune(&Device::Cpu, &mut at_once), Err(PruneError::Ended)));
    }

    #[test]
    fn settings_survive_the_circuit_file() {
        let settings = Settings { steps: 77, lr: 0.5, target_loss: 0.2, seed: 9, ..Settings::default() };
        let mut names = settings.by_name();
        assert_eq!(Settings::from_names(&names, 0.2, 9), Some(settings));
        names.insert("steps".into(), 1.5);
        assert_eq!(Settings::from_names(&names, 0.2, 9), None);
    }

    #[test]
    fn a_model_that_cannot_do_the_task_is_said_so() {
        let model = Model::init(planted().config, 1);
        let means = Means::compute(&model, &[0, 1, 2, 3], 4);
        let pair = Pair { positive: vec![1], negative: vec![1], answer: 3, alternative: 4, template: 0 };
        let (pairs, settings) = ([pair], Settings::default());
        let search = Search { model: &model, means: &means, train: &pairs, validation: &pairs, settings: &settings };
        match search.prune(&Device::Cpu, &mut on).unwrap_err() {
            PruneError::NotReached(NotReached { loss, .. }) => assert!(loss > 0.69),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_adversary_makes_the_search_take_in_what_cancels() {
        // Neurons 5 and 6 cancel each other in the channel that answers; neuron 4 is for the other cue what 3 is for
        // the one.
        let mut model = planted();
        let block = &mut model.params.blocks[0];
        model.params.embed.update(|w| {
            w.column_mut(3).fill(0.0);
            (w[[1, 3]], w[[2, 3]]) = (1.5, 1.5);
        });
        block.fc.weight.update(|w| {
            (4..7).for_each(|neuron| w.row_mut(neuron).fill(0.0));
            (w[[4, 0]], w[[5, 3]], w[[6, 3]]) = (-2.0, 3.0, 3.0);
        });
        block.proj.weight.update(|w| {
            (4..7).for_each(|neuron| w.column_mut(neuron).fill(0.0));
            (w[[1, 4]], w[[1, 5]], w[[1, 6]]) = (-4.0, 6.0, -6.0);
        });
        let means = Means::compute(&model, &[0, 1, 2, 5, 6, 7, 1, 2, 3, 4, 2, 1, 0, 0, 5, 5], 4);
        let pairs: Vec<Pair> = (0..24)
            .map(|i| Pair {
                positive: vec![5 + i % 3, i % 8, 1],
                negative: vec![5 + i % 3, i % 8, 2],
                answer: 3,
                alternative: 4,
                template: 0,
            })
            .collect();
        let find = |objective| {
            let settings = Settings { restarts: 1, steps: 150, batch_pairs: 8, objective, ..Settings::default() };
            let (train, validation) = (&pairs[..12], &pairs[12..]);
            let search = Search { model: &model, means: &means, train, validation, settings: &settings };
            let found = search.prune(&Device::Cpu, &mut on).unwrap();
            assert!(found.reached, "{objective}");
            let gpu = Device::Cuda(Simulator::gpu(100 << 10, 4, 2));
            if objective != Objective::Task {
                assert!(matches!(search.prune(&gpu, &mut on), Err(PruneError::OnCpuOnly(o)) if o == objective));
            }
            found.nodes.nodes().map(|n| n.to_string()).collect::<Vec<_>>()
        };
        let [task, kl, adversarial] = Objective::ALL.map(find);
        for found in [&task, &kl, &adversarial] {
            assert!(
                ["0.mlp.post_act[3]", "0.mlp.post_act[4]"].iter().any(|c| found.iter().any(|n| n == c)),
                "{found:?}"
            );
        }
        let cancelling = ["0.mlp.post_act[5]", "0.mlp.post_act[6]"];
        let holds = |found: &[String]| cancelling.iter().all(|c| found.iter().any(|n| n == c));
        assert!(!holds(&task) && holds(&adversarial), "{task:?}\n{adversarial:?}");
        assert!(adversarial.len() > task.len());
    }
}
