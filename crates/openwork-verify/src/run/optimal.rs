//! The constants under which a circuit does its task best (Li and Janson 2024, *Optimal ablation*): what the most
//! permissive ablation puts in the place of removed nodes.

use std::ops::ControlFlow;

use openwork_circuit::{Ablation, Batch, Keep, Means, NodeSet, batches, evaluate};
use openwork_model::{Matrix, Model, Site, Tap, Tokens};
use openwork_tasks::Pair;
use rand::RngExt;
use rayon::prelude::*;

use crate::streams::Stream;

/// Steps of Adam, and pairs a step.
const STEPS: usize = 60;
const PAIRS: usize = 16;
/// Rates that are tried: thousands of constants that all move by too much at once do harm.
const RATES: [f64; 3] = [0.05, 0.01, 0.002];

/// Learns one constant per ablated node by the task loss of the circuit on `pairs`, from the means on; the best of a
/// few rates, and never worse there than the means.
pub(crate) fn constants(model: &Model, means: &Means, circuit: &NodeSet, pairs: &[Pair], seed: u64) -> Vec<f32> {
    let batches = batches(pairs, PAIRS / 2, model.config.n_ctx);
    let loss = |values: &[f32]| {
        let run = evaluate(model, &batches, false, || Keep::new(circuit, Ablation::Constant(values)), |_| ());
        run.loss(crate::run::measures::calibrate(&run))
    };
    let candidates = RATES.into_iter().map(|rate| learn(model, means, circuit, pairs, rate, seed));
    let start = means.values().to_vec();
    let scored = std::iter::once(start).chain(candidates).map(|values| (loss(&values), values));
    scored.min_by(|a, b| a.0.total_cmp(&b.0)).expect("the means are one").1
}

fn learn(model: &Model, means: &Means, circuit: &NodeSet, pairs: &[Pair], rate: f64, seed: u64) -> Vec<f32> {
    let mut values = means.values().to_vec();
    let (mut m, mut v) = (vec![0.0_f64; values.len()], vec![0.0_f64; values.len()]);
    let mut rng = Stream::OptimalConstants.rng(seed);
    for step in 0..STEPS {
        let chosen: Vec<Pair> = (0..PAIRS).map(|_| pairs[rng.random_range(0..pairs.len())].clone()).collect();
        // A fixed split, added up in order: the number of threads does not matter.
        let parts: Vec<Vec<f32>> = batches(&chosen, PAIRS / 4, model.config.n_ctx)
            .par_iter()
            .map(|batch| gradient(model, circuit, &values, batch))
            .collect();
        let rate = rate * (1.0 - step as f64 / STEPS as f64);
        let correction = (1.0 - 0.9_f64.powi(step as i32 + 1), 1.0 - 0.99_f64.powi(step as i32 + 1));
        for node in (0..values.len()).filter(|&n| !circuit.kept()[n]) {
            let g = parts.iter().map(|p| f64::from(p[node])).sum::<f64>() / (2 * PAIRS) as f64;
            m[node] += 0.1 * (g - m[node]);
            v[node] += 0.01 * (g * g - v[node]);
            values[node] -= (rate * (m[node] / correction.0) / ((v[node] / correction.1).sqrt() + 1e-8)) as f32;
        }
    }
    values
}

/// Gradient of the batch's summed task losses with respect to every node's constant.
fn gradient(model: &Model, circuit: &NodeSet, values: &[f32], batch: &Batch) -> Vec<f32> {
    struct AblationValue<'a> {
        circuit: &'a NodeSet,
        values: &'a [f32],
        gradient: Vec<f32>,
    }
    impl Tap for AblationValue<'_> {
        fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
            let Some(range) = self.circuit.space().range(site) else { return ControlFlow::Continue(()) };
            for (mut row, node) in value.rows_mut().into_iter().zip(range) {
                if !self.circuit.kept()[node] {
                    row.fill(self.values[node]);
                }
            }
            ControlFlow::Continue(())
        }

        fn backward(&mut self, site: Site, gradient: &mut Matrix) {
            let Some(range) = self.circuit.space().range(site) else { return };
            for (mut row, node) in gradient.rows_mut().into_iter().zip(range) {
                if !self.circuit.kept()[node] {
                    self.gradient[node] = row.sum();
                    row.fill(0.0);
                }
            }
        }
    }
    let mut tap = AblationValue { circuit, values, gradient: vec![0.0; values.len()] };
    let pass = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
    let mut dlogits = Matrix::zeros(pass.logits.dim());
    for (i, &(answer, alternative)) in batch.candidates.iter().enumerate() {
        let (right, wrong) = if i.is_multiple_of(2) { (answer, alternative) } else { (alternative, answer) };
        let (right, wrong) = ([usize::from(right), i], [usize::from(wrong), i]);
        let error = 1.0 / (1.0 + (pass.logits[right] - pass.logits[wrong]).exp());
        dlogits[right] -= error;
        dlogits[wrong] += error;
    }
    model.backward(&pass, &dlogits, &mut tap, None);
    tap.gradient
}

#[cfg(test)]
mod tests {
    use openwork_circuit::{Calibration, NodeSpace};
    use openwork_model::Config;

    use super::*;

    #[test]
    fn learned_constants_do_better_than_means_and_leave_the_circuit_alone() {
        let config = Config { vocab_size: 20, n_ctx: 8, n_layer: 1, act_density: None, ..Config::default() };
        let mut model = Model::init(config, 5);
        model.params.values_mut().into_iter().for_each(|w| w.update(|w| *w *= 3.0));
        let means = Means::compute(&model, &(0..16).collect::<Vec<u16>>(), 8);
        let pair = |i: u16| Pair {
            positive: vec![3 + i % 5, 1],
            negative: vec![9 + i % 7, 2],
            answer: 17,
            alternative: 18,
            template: 0,
        };
        let pairs: Vec<Pair> = (0..30).map(pair).collect();
        let space = NodeSpace::new(&model.config);
        let circuit = NodeSet::of(space.clone(), (0..space.len()).step_by(2));
        let learned = constants(&model, &means, &circuit, &pairs, 1);
        let loss = |ablation| {
            let keep = || Keep::new(&circuit, ablation);
            evaluate(&model, &batches(&pairs, 8, 8), false, keep, |_| ()).loss(Calibration::NONE)
        };
        let (by_mean, by_learned) = (loss(Ablation::Mean(&means)), loss(Ablation::Constant(&learned)));
        assert!(by_learned < 0.9 * by_mean, "{by_learned} {by_mean}");
        assert!(circuit.numbers().all(|n| learned[n] == means.values()[n]));
        assert_eq!(learned, constants(&model, &means, &circuit, &pairs, 1));
    }
}
