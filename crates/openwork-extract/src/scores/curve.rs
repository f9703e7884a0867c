//! Curves: what tops of a ranking do, by their size.

use openwork_circuit::{Claim, Keep, NodeSet, Outcome, evaluate};
use openwork_model::NoTap;

use super::{OnScoreStep, Ranked, ScoreSearch, ScoreStage, ScoreStep, judge::masked};
use crate::{
    attack::{Effort, attack, starts},
    bench::Bench,
};

/// A circuit on a curve, measured on the selection pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Parts of the ranking that the circuit is made of.
    pub parts: usize,
    /// Nodes.
    pub nodes: usize,
    /// Edges.
    pub edges: usize,
    /// Calibrated task loss, nats per sequence.
    pub loss: f64,
    /// KL(model ‖ circuit) over the vocabulary at the last token, nats per sequence; uncalibrated.
    pub kl: f64,
    /// Share of answers of the calibrated circuit that are the model's.
    pub agreement: f64,
    /// Share of the model's answers that stay what they are under the worst attack found on nodes outside, which are ablated to
    /// their means in part, by a quarter of the circuit's number of nodes in all and at least one: by the attacks of this crate,
    /// made on the pairs that they are measured on, 32 at most.
    pub attacked_quarter: f64,
    /// The same with as many nodes as the circuit has.
    pub attacked_equal: f64,
}

/// Pairs of the selection that attacks are made and measured on.
const ATTACKED_PAIRS: usize = 32;
/// Steps of an attack from each of its starts.
const ATTACK_STEPS: usize = 3;

impl ScoreSearch<'_> {
    /// The circuits of these sizes on the curve of a ranking, in their order; sizes beyond the ranking's are left out. `None`
    /// where `progress` ends it.
    ///
    /// # Panics
    /// When there are no training or no selection pairs.
    pub fn curve(&self, ranked: &Ranked, sizes: &[usize], progress: &mut OnScoreStep<'_>) -> Option<Vec<CurvePoint>> {
        assert!(!self.validation.is_empty(), "a curve needs selection pairs");
        let judge = self.judge();
        let plain = evaluate(self.model, judge.selection(), true, || NoTap, |_| ());
        let attacked = &self.validation[..self.validation.len().min(ATTACKED_PAIRS)];
        let bench = Bench::new(self.model, &ranked.space, self.means, attacked, Claim::Answer);
        let mut points = vec![];
        for &parts in sizes.iter().filter(|&&size| size <= ranked.len()) {
            if progress(ScoreStep { stage: ScoreStage::Measuring, parts }).is_break() {
                return None;
            }
            let circuit = ranked.top(self.model, parts);
            let (model, nodes) = (masked(&circuit, self.model), circuit.nodes());
            let keep = || Keep::new(nodes, judge.ablation());
            let run = evaluate(&model, judge.selection(), true, keep, |_| ());
            let calibration = judge.calibration(&model, nodes);
            let [attacked_quarter, attacked_equal] = under_attack(&bench, nodes);
            points.push(CurvePoint {
                parts,
                nodes: nodes.len(),
                edges: circuit.edges().len(),
                loss: run.loss(calibration),
                kl: divergence(&plain, &run),
                agreement: mean(run.agreement(calibration, &plain)),
                attacked_quarter,
                attacked_equal,
            });
        }
        Some(points)
    }
}

/// Agreements that attacks by a quarter of the circuit's number of nodes and by all of it leave.
fn under_attack(bench: &Bench<'_>, nodes: &NodeSet) -> [f64; 2] {
    let starts = starts(bench, Claim::Answer, nodes);
    [nodes.len().div_ceil(4), nodes.len()].map(|budget| {
        // No agreement is below 0: the attack goes on to its end, since a curve shows how far it comes.
        let effort = Effort { budget: budget.max(1), steps: ATTACK_STEPS, enough: 0.0 };
        attack(bench, nodes, &starts, effort, None).agreement
    })
}

/// The sizes of a curve of so many parts: 1, 2, 3, 4, 6, 8, 12, .. (each power of two, and half of it more), and all.
pub fn curve_sizes(parts: usize) -> Vec<usize> {
    let powers = (0..usize::BITS).map(|p| 1_usize << p).take_while(|&size| size < parts);
    let with_halves = powers.flat_map(|size| [size, size + size / 2]).filter(|&size| size < parts);
    let mut sizes: Vec<usize> = with_halves.chain([parts]).filter(|&size| size > 0).collect();
    sizes.dedup();
    sizes
}

/// Mean over sequences of KL(p ‖ q) in nats.
fn divergence(p: &Outcome, q: &Outcome) -> f64 {
    let of = |(p, q): (&Vec<f32>, &Vec<f32>)| -> f64 {
        p.iter().zip(q).map(|(&p, &q)| f64::from(p).exp() * (f64::from(p) - f64::from(q))).sum()
    };
    mean(p.log_probs.iter().zip(&q.log_probs).map(of))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}
