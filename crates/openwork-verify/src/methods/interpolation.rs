//! Interpolation curves: the circuit's run as the rest is restored in steps, and as the circuit's own nodes take the values
//! that they have in the model.

use openwork_circuit::{Ablation, Batch, Keep, NodeSet, NodeSpace, Outcome};
use openwork_model::{Record, Tokens};
use rayon::prelude::*;

use crate::{
    methods::random_sets::shuffle,
    run::{evaluator::Evaluator, measures::kl_binary, scheme::AblationValue},
    streams::Stream,
};

/// KL(model ‖ run) over the candidates, mean over sequences, nats, with nodes outside the circuit restored to the part r,
/// for r from 0 to 1 in tenths: it should fall steadily. Where it rises, what is restored cancels something. Weights that the
/// circuit leaves out stay left out for every r.
pub(crate) fn relaxation(evaluator: &Evaluator<'_>, circuit: &NodeSet) -> Vec<(f64, f64)> {
    let weights = evaluator.context.weights(circuit);
    let at = |tenth: usize| {
        let part = tenth as f32 / 10.0;
        let r: Vec<f32> = circuit.kept().iter().map(|&kept| if kept { 1.0 } else { part }).collect();
        (f64::from(part), kl(evaluator, &evaluator.partial(weights, &r, AblationValue::Mean, false)))
    };
    (0..=10).map(at).collect()
}

/// Steps of the interchange curve, and random orders of nodes that it is averaged over.
const STEPS: usize = 8;
const ORDERS: usize = 4;

/// The same KL with a share f of the circuit's nodes given the values that they have in the model's run of the same
/// prompt, for f from 0 to 1 in eighths: `(f, KL)`.
///
/// Node v of the circuit is `a_v^M` if it is among the first `round(f·|C|)` of a random order, and else what its inputs make
/// of it; all other nodes are their means throughout. Mean over four orders. (After the code of Drori 2026, which exchanges
/// shares of the nodes of a learned mask.)
///
/// A node that is computed in the circuit as it is in the model has the same value either way: a flat curve. A falling
/// one says that nodes hold other values than in the model, for want of something upstream. At f = 1 what is left is
/// what other nodes write for the answer themselves: a circuit that has all writes is the model there.
pub(crate) fn interchange(evaluator: &Evaluator<'_>, circuit: &NodeSet, seed: u64) -> Vec<(f64, f64)> {
    let mut rng = Stream::Interchange.rng(seed);
    let mut order = || {
        let mut order: Vec<usize> = circuit.numbers().collect();
        shuffle(&mut order, &mut rng);
        order
    };
    let orders: Vec<Vec<usize>> = (0..ORDERS).map(|_| order()).collect();
    let count = |step: usize| (step * circuit.len() + STEPS / 2) / STEPS;
    // By step and order: the nodes that are not given the model's values.
    let own: Vec<NodeSet> = (0..=STEPS)
        .flat_map(|step| orders.iter().map(move |order| (order, count(step))))
        .map(|(order, given)| NodeSet::of(circuit.space().clone(), order[..given].iter().copied()).complement())
        .collect();
    let ablation = evaluator.context.constants(AblationValue::Mean).expect("constants");
    let context = evaluator.context;
    let model = context.model_with(context.weights(circuit));
    // The model's values are kept for one batch at a time.
    let one = |batch: &Batch| -> Vec<Outcome> {
        let tokens = Tokens::new(&batch.tokens, batch.seq_len);
        let mut values = Record::of_kinds(&NodeSpace::KINDS);
        context.model.forward(tokens, Some(&batch.readout), &mut values);
        let run = |own: &NodeSet| {
            let mut tap = (Keep::new(circuit, ablation), Keep::new(own, Ablation::Recorded(&values)));
            batch.outcome(&model.forward(tokens, Some(&batch.readout), &mut tap).logits, false)
        };
        own.iter().map(run).collect()
    };
    let mut runs = vec![Outcome::default(); own.len()];
    for batch in evaluator.batches().par_iter().map(one).collect::<Vec<_>>() {
        runs.iter_mut().zip(batch).for_each(|(run, part)| run.append(part));
    }
    let at = |(step, runs): (usize, &[Outcome])| {
        let mean = runs.iter().map(|run| kl(evaluator, run)).sum::<f64>() / runs.len() as f64;
        (step as f64 / STEPS as f64, mean)
    };
    runs.chunks(ORDERS).enumerate().map(at).collect()
}

fn kl(evaluator: &Evaluator<'_>, run: &Outcome) -> f64 {
    let each = run.differences.iter().zip(&evaluator.model.differences).map(|(&q, &p)| kl_binary(p, q));
    each.sum::<f64>() / run.differences.len() as f64
}
