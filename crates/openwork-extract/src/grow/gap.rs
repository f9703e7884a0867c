//! Completeness: nodes of the circuit that are knocked out in circuit and model alike should cost both the same.

use openwork_circuit::{Calibration, NodeSet, Outcome};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    attack::outside_by,
    bench::{Bench, coefficients, informed_loss, sigmoid},
};

/// Nodes of the circuit that are knocked out, and what that parts.
#[derive(Clone, Debug)]
pub(crate) struct KnockOut {
    /// Nodes K.
    pub nodes: Vec<usize>,
    /// Loss of the circuit without K less that of the model without K, nats: above 0 where nodes outside stand in for K.
    pub gap: f64,
}

/// Single nodes that are tried exactly, of those that slopes name.
const TRIED: usize = 4;
/// Nodes of a greedy knock-out.
const GREEDY: usize = 2;
/// Random shares of the circuit.
const RANDOM: [f64; 2] = [0.3, 0.7];

/// The gap `L(C∖K) − L(M∖K)` in nats, all else at its mean; L is the least loss over shifts and over scales from 0 to its side's own: 1
/// for the model, for the circuit the scale of its calibration where that is larger.
pub(crate) fn gap(bench: &Bench<'_>, circuit: &NodeSet, out: &[usize], most: f64) -> f64 {
    let less = |nodes: &NodeSet| {
        let kept = nodes.numbers().filter(|n| !out.contains(n));
        NodeSet::of(nodes.space().clone(), kept)
    };
    let all = NodeSet::all(circuit.space().clone());
    let of_circuit = informed_loss(&bench.alone(&less(circuit), bench.mean()), most).0;
    let of_model = informed_loss(&bench.alone(&less(&all), bench.mean()), 1.0).0;
    of_circuit - of_model
}

/// What the model's answers are worth: `ln 2 − L(M)` in nats.
pub(crate) fn worth(bench: &Bench<'_>) -> f64 {
    std::f64::consts::LN_2 - informed_loss(&bench.plain, 1.0).0
}

/// The knock-out of largest gap that is found: of nothing, of the whole circuit, of those of `before`, of random shares, of the nodes by
/// whose slope circuit and model part most (single ones, and the first two, four, … of them), and greedily from the worst of these.
pub(crate) fn worst(
    bench: &Bench<'_>,
    circuit: &NodeSet,
    calibration: Calibration,
    before: &[KnockOut],
    seed: u64,
) -> KnockOut {
    let most = calibration.scale.max(1.0);
    let all: Vec<usize> = circuit.numbers().collect();
    let ranked = by_slope(bench, circuit, most);
    let mut tried = vec![vec![], all.clone()];
    tried.extend(before.iter().map(|k| k.nodes.iter().copied().filter(|&n| circuit.kept()[n]).collect()));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    tried.extend(RANDOM.map(|share| all.iter().copied().filter(|_| rng.random_bool(share)).collect()));
    tried.extend(ranked.iter().take(TRIED).map(|&n| vec![n]));
    tried.extend((1..).map(|k| 1 << k).take_while(|&k| k < ranked.len()).map(|k| ranked[..k].to_vec()));
    let judged = |nodes: Vec<usize>| KnockOut { gap: gap(bench, circuit, &nodes, most), nodes };
    let worse = |a: KnockOut, b: KnockOut| if b.gap.abs() > a.gap.abs() { b } else { a };
    let mut worst = tried.into_iter().map(judged).reduce(worse).expect("there are some");
    for _ in 0..GREEDY {
        let more = ranked.iter().filter(|n| !worst.nodes.contains(n)).take(TRIED);
        let next: Vec<Vec<usize>> = more.map(|&n| [&worst.nodes[..], &[n]].concat()).collect();
        let Some(best) = next.into_iter().map(judged).reduce(worse).filter(|k| k.gap.abs() > worst.gap.abs()) else {
            break;
        };
        worst = best;
    }
    worst
}

/// Nodes of the circuit by how differently the mean contrast `±(d₊ − d₋)/2` of circuit and model follows them, most first.
fn by_slope(bench: &Bench<'_>, circuit: &NodeSet, scale: f64) -> Vec<usize> {
    let right = |i: usize| if i % 2 == 0 { 1.0 } else { -1.0 };
    let slopes = |d: &[f64]| (0..d.len()).map(|i| (right(i) * d[i], right(i))).collect::<Vec<_>>();
    let slope = |r: &[f32]| bench.gradient(r, bench.mean(), &slopes).by_coefficient;
    let (of_circuit, of_model) = (slope(&coefficients(circuit, 0.0)), slope(&coefficients(circuit, 1.0)));
    let apart = |n: usize| (scale * of_circuit[n] - of_model[n]).abs();
    let mut order: Vec<usize> = circuit.numbers().collect();
    order.sort_by(|&a, &b| apart(b).total_cmp(&apart(a)).then(a.cmp(&b)));
    order
}

/// Nodes outside that close a gap, by slopes of the task's loss in the model without K and half of the way from there to the circuit
/// without K: where the model does better, those that lower its loss; where it does worse, those that raise it.
pub(crate) fn stand_ins(bench: &Bench<'_>, circuit: &NodeSet, out: &KnockOut) -> Vec<usize> {
    let mut score = vec![0.0; circuit.kept().len()];
    for outside in [1.0, 0.5] {
        let mut r = coefficients(circuit, outside);
        out.nodes.iter().for_each(|&n| r[n] = 0.0);
        let slopes = |d: &[f64]| -> Vec<(f64, f64)> {
            let run = Outcome { differences: d.to_vec(), log_probs: vec![] };
            let c = informed_loss(&run, 1.0).1;
            let right = |i: usize| if i % 2 == 0 { 1.0 } else { -1.0 };
            let one = |(i, d): (usize, &f64)| (0.0, -right(i) * sigmoid(-right(i) * (c.scale * d + c.shift)));
            d.iter().enumerate().map(one).collect()
        };
        let slope = bench.gradient(&r, bench.mean(), &slopes).by_coefficient;
        score.iter_mut().zip(slope).for_each(|(s, g)| *s += out.gap.signum() * g);
    }
    outside_by(&score, circuit)
}
