//! Evaluation context: a model, the circuit under test, and ablation values.

use std::{borrow::Cow, sync::OnceLock};

use openwork_circuit::{Ablation, Circuit, Means, Node, NodeSet, NodeSpace, ResidualMaskError, batches};
use openwork_model::{Model, Record, Tokens};
use openwork_tasks::Pair;
use rayon::prelude::*;

use crate::run::{ablator::Ablator, optimal, scheme::AblationValue};

/// Sixteen sequences a pass: wide enough for the kernels, small enough to spread over threads.
pub(crate) const PAIRS_PER_BATCH: usize = 8;

/// Evaluation context: a model, the circuit under test, and ablation values.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub model: &'a Model,
    pub means: &'a Means,
    pub judged: &'a Judged,
    pub seed: u64,
    pub ablator: &'a dyn Ablator,
}

/// Weights of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// All weights of the model.
    Model,
    /// Those without the ones that the circuit under test leaves out.
    Circuit,
}

/// The circuit under test: its nodes, the model without the weights that it leaves out, and constants that are worked out
/// when they are first asked for: on the selection pairs, for the circuit.
pub(crate) struct Judged {
    nodes: NodeSet,
    /// The model without the weights that the circuit leaves out; `None` where it leaves out none.
    masked: Option<Model>,
    /// Those weights.
    cut: Vec<(Node, Node)>,
    selection: Vec<Pair>,
    task_means: OnceLock<Vec<f32>>,
    optimal: OnceLock<Vec<f32>>,
}

impl Judged {
    /// The circuit of `nodes` with all edges between them.
    pub fn new(nodes: &NodeSet, selection: &[Pair]) -> Self {
        let (nodes, selection) = (nodes.clone(), selection.to_vec());
        Self { nodes, masked: None, cut: vec![], selection, task_means: OnceLock::new(), optimal: OnceLock::new() }
    }

    /// A circuit of a model, which may leave out weights between its nodes.
    pub fn of_circuit(circuit: &Circuit, model: &Model, selection: &[Pair]) -> Result<Self, ResidualMaskError> {
        let masked = match circuit.masked(model)? {
            Cow::Borrowed(_) => None,
            Cow::Owned(masked) => Some(masked),
        };
        let cut = circuit.missing_edges(model).into_iter().map(|e| (e.from, e.to)).collect();
        Ok(Self { masked, cut, ..Self::new(circuit.nodes(), selection) })
    }

    /// Weights between its nodes that the circuit leaves out.
    pub fn cut(&self) -> &[(Node, Node)] {
        &self.cut
    }

    /// True if the circuit leaves out a weight between its nodes.
    pub fn is_masked(&self) -> bool {
        self.masked.is_some()
    }
}

impl<'a> Context<'a> {
    /// Weights of the run that keeps `nodes`: the circuit's where all of them are nodes of the circuit. Such a run is of the
    /// circuit or of a part of it; every other run is of the model. Runs of the model that keep few nodes (a rival, the
    /// model without a knock-out) ask for [`Weights::Model`] themselves.
    pub fn weights(self, nodes: &NodeSet) -> Weights {
        let Judged { nodes: circuit, masked, .. } = self.judged;
        let is_part = || nodes.kept().iter().zip(circuit.kept()).all(|(kept, in_circuit)| !kept || *in_circuit);
        if masked.is_some() && is_part() { Weights::Circuit } else { Weights::Model }
    }

    /// Weights of the model that a run with these is without, by the printed names of the nodes that they go from and to.
    pub fn cut_edges(self, weights: Weights) -> Vec<(String, String)> {
        match weights {
            Weights::Model => vec![],
            Weights::Circuit => self.judged.cut.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect(),
        }
    }

    /// The model with these weights.
    pub fn model_with(self, weights: Weights) -> &'a Model {
        match (weights, &self.judged.masked) {
            (Weights::Circuit, Some(masked)) => masked,
            _ => self.model,
        }
    }

    /// The constants of a value, by node number; `None` where values are resampled.
    pub fn constants(self, value: AblationValue) -> Option<Ablation<'a>> {
        let Judged { nodes, selection, task_means, optimal, .. } = self.judged;
        match value {
            AblationValue::Mean => Some(Ablation::Mean(self.means)),
            AblationValue::Zero => Some(Ablation::Zero),
            AblationValue::TaskMean => {
                Some(Ablation::Constant(task_means.get_or_init(|| mean_values(self.model, selection))))
            }
            AblationValue::Optimal => Some(Ablation::Constant(optimal.get_or_init(|| {
                let model = self.model_with(Weights::Circuit);
                optimal::constants(model, self.means, nodes, selection, self.seed)
            }))),
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
