//! Roles: do the circuit's nodes carry in its own run what they carry in the model?

use openwork_circuit::{Batch, Calibration, Keep, NodeSet, NodeSpace};
use openwork_model::{Record, Tokens};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::run::{
    error::RunError,
    evaluator::Evaluator,
    measures::mean,
    scheme::{AblationValue, Scheme},
    shift_free::best_shift_at,
};

/// p-value of "the correlation of a node's values in the two runs is not below zero", by Fisher's z: `Φ(atanh(r) √(n − 3))`
/// with a prompt as the unit, since the tokens of a prompt are dependent.
pub(crate) fn p_opposed(correlation: f64, prompts: usize) -> f64 {
    let z = correlation.clamp(-0.999_999, 0.999_999).atanh() * (prompts as f64 - 3.0).max(1.0).sqrt();
    Normal::standard().cdf(z)
}

/// Worth of some nodes of the circuit together: by how much its mean loss changes without them, in either direction,
/// nats; as it is, and with either run at its best common shift. The circuit's answer is not magnified for it: what a node is worth
/// would vanish in certainty.
pub(crate) fn worth(
    evaluator: &Evaluator<'_>,
    circuit: &NodeSet,
    calibration: Calibration,
    nodes: &[usize],
) -> Result<[f64; 2], RunError> {
    let part = (1.0 / calibration.scale.abs()).min(1.0);
    let calibration = Calibration { scale: part * calibration.scale, shift: part * calibration.shift };
    let losses = |nodes: &NodeSet| -> Result<[f64; 2], RunError> {
        let run = evaluator.run_differences(nodes, Scheme::MEAN)?;
        let at_best = best_shift_at(&run, calibration.scale);
        Ok([calibration, at_best].map(|calibration| mean(&run.pair_losses(calibration))))
    };
    let rest = NodeSet::of(circuit.space().clone(), circuit.numbers().filter(|n| !nodes.contains(n)));
    let (rest, whole) = (losses(&rest)?, losses(circuit)?);
    Ok([0, 1].map(|form| (rest[form] - whole[form]).abs()))
}

/// For every node of the circuit: the correlation, over real tokens, of its values in the circuit's run with those in
/// the model's; `None` where it is constant in either.
pub(crate) fn correlations(evaluator: &Evaluator<'_>, circuit: &NodeSet) -> Vec<(usize, Option<f64>)> {
    let context = evaluator.context;
    let record = |in_circuit: bool| -> Vec<(Record, Vec<usize>)> {
        let one = |batch: &Batch| {
            let mut values = Record::of_kinds(&NodeSpace::KINDS);
            let tokens = Tokens::new(&batch.tokens, batch.seq_len);
            if in_circuit {
                let ablation = context.constants(AblationValue::Mean).expect("constants");
                // The kept node's own value is what it would be before the next ablation: record after keeping.
                let mut both = (Keep::new(circuit, ablation), values);
                let model = context.model_with(context.weights(circuit));
                model.forward(tokens, Some(&batch.readout), &mut both);
                values = both.1;
            } else {
                context.model.forward(tokens, Some(&batch.readout), &mut values);
            }
            let real = batch.readout.iter().enumerate().flat_map(|(i, &last)| i * batch.seq_len..=last).collect();
            (values, real)
        };
        evaluator.batches().iter().map(one).collect()
    };
    let (plain, ablated) = (record(false), record(true));
    let space = evaluator.space();
    let correlation = |number: usize| {
        let node = space.node(number);
        let (mut n, mut sums) = (0.0, [0.0_f64; 5]);
        for ((a, real), (b, _)) in plain.iter().zip(&ablated) {
            let (a, b) = (
                a.at(node.site).expect("recorded").row(node.index).to_owned(),
                b.at(node.site).expect("recorded").row(node.index).to_owned(),
            );
            for &t in real {
                let (x, y) = (f64::from(a[t]), f64::from(b[t]));
                n += 1.0;
                [x, y, x * x, y * y, x * y].into_iter().zip(&mut sums).for_each(|(v, s)| *s += v);
            }
        }
        let [x, y, xx, yy, xy] = sums.map(|s| s / n);
        let (vx, vy) = (xx - x * x, yy - y * y);
        // Variances at the level of rounding are none.
        let still = |variance: f64, square: f64| variance <= 1e-9 * square.max(1e-12);
        (!still(vx, xx) && !still(vy, yy)).then(|| ((xy - x * y) / (vx * vy).sqrt()).clamp(-1.0, 1.0))
    };
    circuit.numbers().map(|n| (n, correlation(n))).collect()
}
