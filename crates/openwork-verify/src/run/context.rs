//! Evaluation context: a model and its ablation values.

use std::sync::OnceLock;

use openwork_circuit::{Ablation, Means, NodeSet, NodeSpace, batches, tasks::Pair};
use openwork_model::{Model, Record, Tokens};
use rayon::prelude::*;

use crate::run::{ablator::Ablator, optimal, scheme::AblationValue};

/// Sixteen sequences a pass: wide enough for the kernels, small enough to spread over threads.
pub(crate) const PAIRS_PER_BATCH: usize = 8;

/// Evaluation context: a model and its ablation values.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub model: &'a Model,
    pub means: &'a Means,
    pub constants: &'a Constants,
    pub seed: u64,
    pub ablator: &'a dyn Ablator,
}

/// Constants that are worked out when they are first asked for: on the selection pairs, for the circuit.
pub(crate) struct Constants {
    circuit: NodeSet,
    selection: Vec<Pair>,
    task_means: OnceLock<Vec<f32>>,
    optimal: OnceLock<Vec<f32>>,
}

impl Constants {
    pub fn new(circuit: &NodeSet, selection: &[Pair]) -> Self {
        let (circuit, selection) = (circuit.clone(), selection.to_vec());
        Self { circuit, selection, task_means: OnceLock::new(), optimal: OnceLock::new() }
    }
}

impl<'a> Context<'a> {
    /// The constants of a value, by node number; `None` where values are resampled.
    pub fn constants(self, value: AblationValue) -> Option<Ablation<'a>> {
        let Constants { circuit, selection, task_means, optimal } = self.constants;
        match value {
            AblationValue::Mean => Some(Ablation::Mean(self.means)),
            AblationValue::Zero => Some(Ablation::Zero),
            AblationValue::TaskMean => {
                Some(Ablation::Constant(task_means.get_or_init(|| mean_values(self.model, selection))))
            }
            AblationValue::Optimal => Some(Ablation::Constant(
                optimal.get_or_init(|| optimal::constants(self.model, self.means, circuit, selection, self.seed)),
            )),
            AblationValue::SameTemplate | AblationValue::AnyTemplate => None,
        }
    }
}

/// Mean of every node over the tokens of the pairs' prompts.
fn mean_values(model: &Model, pairs: &[Pair]) -> Vec<f32> {
    let space = NodeSpace::new(&model.config);
    let batches = batches(pairs, PAIRS_PER_BATCH, model.config.n_ctx);
    let parts: Vec<(Vec<f64>, usize)> = batches
        .par_iter()
        .map(|batch| {
            let mut values = Record::of_kinds(&NodeSpace::KINDS);
            model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut values);
            let real: Vec<usize> =
                batch.readout.iter().enumerate().flat_map(|(i, &last)| i * batch.seq_len..=last).collect();
            let sum = |row: ndarray::ArrayView1<'_, f32>| real.iter().map(|&t| f64::from(row[t])).sum::<f64>();
            let of_site = |site| values.at(site).expect("recorded").rows().into_iter().map(sum).collect::<Vec<f64>>();
            (space.sites().iter().flat_map(|(site, _)| of_site(*site)).collect(), real.len())
        })
        .collect();
    let mut total = vec![0.0; space.len()];
    let tokens: usize = parts.iter().map(|p| p.1).sum();
    for (part, _) in parts {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    total.into_iter().map(|t| (t / tokens as f64) as f32).collect()
}
