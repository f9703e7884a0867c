//! Faithfulness over circuits of growing size: CPR and CMD of the Mechanistic Interpretability Benchmark (Mueller et
//! al. 2025), comparable with its tables.

use openwork_circuit::{NodeSet, NodeSpace, Outcome};

use crate::run::{context::Weights, evaluator::Evaluator, scheme::AblationValue};

/// Shares of the nodes that are kept, as in the benchmark.
const SHARES: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// Mean logit difference towards the right answer.
pub fn margin(run: &Outcome) -> f64 {
    let towards = run.differences.iter().enumerate().map(|(i, d)| if i.is_multiple_of(2) { *d } else { -d });
    towards.sum::<f64>() / run.differences.len() as f64
}

/// Numbers of nodes of `total` that each share keeps.
pub fn sizes(total: usize) -> [(f64, usize); 10] {
    SHARES.map(|share| (share, ((share * total as f64).round() as usize).min(total)))
}

/// `F(C_k) = (m(C_k) − m(∅)) / (m(M) − m(∅))`, m the [`margin`] (`model` that of the whole model), of the first k nodes of a
/// ranking, for every share; `None` where the denominator is no larger than rounding.
pub fn faithfulness_by_size<E>(
    space: &NodeSpace,
    ranking: &[usize],
    model: f64,
    margin: impl Fn(&NodeSet) -> Result<f64, E>,
) -> Result<Option<Vec<(f64, f64)>>, E> {
    let kept = |k: usize| margin(&NodeSet::of(space.clone(), ranking[..k].iter().copied()));
    let nothing = kept(0)?;
    if (model - nothing).abs() < 1e-6 {
        return Ok(None);
    }
    let point = |(share, k)| Ok((share, (kept(k)? - nothing) / (model - nothing)));
    sizes(ranking.len()).into_iter().map(point).collect::<Result<Vec<_>, E>>().map(Some)
}

/// `CPR = ∫ F dk` and `CMD = ∫ |1 − F| dk` over the shares, by trapezoids. Neither is clamped.
pub fn cpr_cmd(points: &[(f64, f64)]) -> (f64, f64) {
    let area = |f: &dyn Fn(f64) -> f64| {
        points.windows(2).map(|w| (w[1].0 - w[0].0) * (f(w[0].1) + f(w[1].1)) / 2.0).sum::<f64>()
    };
    (area(&|f| f), area(&|f| (1.0 - f).abs()))
}

/// The circuit's nodes first, then all others; within each by what ablating them costs to first order,
/// `|∂m/∂r|` at the model, m the margin of the model's answers.
pub(crate) fn ranking(evaluator: &Evaluator<'_>, circuit: &NodeSet) -> Vec<usize> {
    let signs: Vec<f64> = evaluator.model.differences.iter().map(|d| if *d < 0.0 { -1.0 } else { 1.0 }).collect();
    let whole = vec![1.0; evaluator.space().len()];
    let (_, attribution) =
        evaluator.partial_gradient(Weights::Model, &whole, AblationValue::Mean, &|s, d| (signs[s] * d, signs[s]));
    let mut ranking: Vec<usize> = (0..whole.len()).collect();
    ranking.sort_by(|&a, &b| {
        let key = |n: usize| (!circuit.kept()[n], -attribution[n].abs());
        let (a_key, b_key) = (key(a), key(b));
        a_key.0.cmp(&b_key.0).then(a_key.1.total_cmp(&b_key.1)).then(a.cmp(&b))
    });
    ranking
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_by_hand() {
        // F rises to 1 at half of the nodes, and to 2 at all.
        let points = [(0.0, 0.0), (0.5, 1.0), (1.0, 2.0)];
        assert_eq!(cpr_cmd(&points), (0.25 + 0.75, 0.25 + 0.25));
        // Above 1 is no merit in CMD and below 0 is not forgiven in either.
        assert_eq!(cpr_cmd(&[(0.0, -1.0), (1.0, -1.0)]), (-1.0, 2.0));
    }
}
