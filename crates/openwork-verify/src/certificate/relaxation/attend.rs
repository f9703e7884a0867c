//! Attention on zones: bounds of the weights, then the worst weights within them.

use ndarray::{Array2, s};

use super::zone::{SLACK, Symbols, Vector, Zone};

/// Inputs of a head.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    pub n_head: usize,
    pub d_head: usize,
    pub sink: Option<&'a Vector>,
}

/// The mixture of `values` that `query` asks for, all heads after each other.
pub(super) fn attend(heads: Heads<'_>, query: &Zone, keys: &[Zone], values: &[Zone], symbols: &mut Symbols) -> Zone {
    let mut mixed: Option<Zone> = None;
    for head in 0..heads.n_head {
        let rows = head * heads.d_head..(head + 1) * heads.d_head;
        let query = query.rows(rows.clone());
        let parts: Vec<Zone> = keys.iter().map(|key| score(&query, &key.rows(rows.clone()))).collect();
        let mut scores = parts.into_iter().reduce(|all, one| all.beside(&one)).expect("a query sees itself");
        if let Some(sink) = heads.sink {
            scores = scores.beside(&Zone::point(Vector::from_elem(1, sink[head])));
        }
        let mut values: Vec<Zone> = values.iter().map(|value| value.rows(rows.clone())).collect();
        values.extend(heads.sink.map(|_| Zone::point(Vector::zeros(heads.d_head))));
        let one = mixture(&weights(&scores), &values, symbols);
        mixed = Some(match mixed {
            Some(before) => before.beside(&one),
            None => one,
        });
    }
    mixed.expect("a head")
}

/// `q · k / √d`: a product of zones, the product of the deviations lumped.
fn score(q: &Zone, k: &Zone) -> Zone {
    let columns = q.shared.ncols().max(k.shared.ncols());
    let (rq, rk) = (q.radius(), k.radius());
    let mut sum = Zone::point(Vector::zeros(1));
    sum.shared = Array2::zeros((1, columns));
    let factor = 1.0 / (q.len() as f64).sqrt();
    let (mut reach, mut ends) = (0.0, 0.0);
    for i in 0..q.len() {
        let (cq, ck) = (q.centre[i], k.centre[i]);
        sum.centre[0] += factor * cq * ck;
        for (from, w) in [(&q.shared, ck), (&k.shared, cq)] {
            let mut to = sum.shared.slice_mut(s![0, ..from.ncols()]);
            to.scaled_add(factor * w, &from.row(i));
        }
        sum.own[0] += factor * (cq.abs() * k.own[i] + ck.abs() * q.own[i] + rq[i] * rk[i]);
        reach += factor * (cq.abs() + rq[i]) * (ck.abs() + rk[i]);
        let corners = [q.low[i] * k.low[i], q.low[i] * k.high[i], q.high[i] * k.low[i], q.high[i] * k.high[i]];
        let least = corners.into_iter().fold(f64::INFINITY, f64::min);
        let most = corners.into_iter().fold(f64::NEG_INFINITY, f64::max);
        // The zonotope of one product may be narrower than its box.
        let radius = cq.abs() * rk[i] + ck.abs() * rq[i] + rq[i] * rk[i];
        sum.low[0] += factor * least.max(cq * ck - radius);
        sum.high[0] += factor * most.min(cq * ck + radius);
        ends += factor * least.abs().max(most.abs()).max(cq.abs() * ck.abs() + radius);
    }
    let relative = (q.len() + 12) as f64 * f64::EPSILON;
    sum.own[0] += relative * reach;
    sum.low[0] -= relative * ends;
    sum.high[0] += relative * ends;
    sum.narrowed()
}

/// Bounds of the softmax of scores, from bounds of their differences, in which what they share cancels.
fn weights(scores: &Zone) -> Vec<(f64, f64)> {
    let n = scores.len();
    let slack = SLACK * (n + 8) as f64;
    let radius = scores.radius();
    let bound = |k: usize| {
        let (mut most, mut least) = (1.0, 1.0);
        for j in (0..n).filter(|&j| j != k) {
            let shared: f64 = (scores.shared.row(j).iter().zip(scores.shared.row(k))).map(|(a, b)| (a - b).abs()).sum();
            let r = shared + scores.own[j] + scores.own[k];
            let c = scores.centre[j] - scores.centre[k];
            let reach = scores.centre[j].abs() + radius[j] + scores.centre[k].abs() + radius[k];
            let rounding = (scores.shared.ncols() + 8) as f64 * f64::EPSILON * reach;
            most += (c + r + rounding).min(scores.high[j] - scores.low[k] + rounding).exp();
            least += (c - r - rounding).max(scores.low[j] - scores.high[k] - rounding).exp();
        }
        ((1.0 - slack) / most, ((1.0 + slack) / least + f64::MIN_POSITIVE).min(1.0))
    };
    (0..n).map(bound).collect()
}

/// `Σ p v`: as a zone the mixture with the middle weights, widened by the worst that other weights do.
fn mixture(weights: &[(f64, f64)], values: &[Zone], symbols: &mut Symbols) -> Zone {
    let (n, width) = (values.len(), values[0].len());
    let total: f64 = weights.iter().map(|w| w.0 + w.1).sum();
    let middle: Vec<f64> = weights.iter().map(|w| (w.0 + w.1) / total).collect();
    let columns = values.iter().map(|v| v.shared.ncols()).max().expect("a value");
    let mut y = Zone::point(Vector::zeros(width));
    y.shared = Array2::zeros((width, columns));
    for (p, v) in middle.iter().zip(values) {
        y.shared.slice_mut(s![.., ..v.shared.ncols()]).scaled_add(*p, &v.shared);
        y.own.scaled_add(*p, &v.own);
    }
    let radii: Vec<Vector> = values.iter().map(Zone::radius).collect();
    let mut amounts = Vec::with_capacity(width);
    for i in 0..width {
        let centres: Vec<f64> = values.iter().map(|v| v.centre[i]).collect();
        let (low, high) = (least_average(weights, &centres), -least_average(weights, &negated(&centres)));
        y.centre[i] = (low + high) / 2.0;
        let off = |k: usize| (middle[k] - weights[k].0).abs().max((weights[k].1 - middle[k]).abs());
        let deviation: f64 = (0..n).map(|k| off(k) * radii[k][i]).sum();
        amounts.push((high - low) / 2.0 + deviation);
        let size = values.iter().zip(&radii).map(|(v, r)| v.centre[i].abs() + r[i]).fold(0.0_f64, f64::max);
        y.own[i] += 2.0 * SLACK * (n + 8) as f64 * size;
        let lows: Vec<f64> = values.iter().map(|v| v.low[i]).collect();
        let highs: Vec<f64> = values.iter().map(|v| v.high[i]).collect();
        y.low[i] = least_average(weights, &lows);
        y.high[i] = -least_average(weights, &negated(&highs));
    }
    y.add_noise(&amounts, &[], symbols);
    y.narrowed()
}

fn negated(values: &[f64]) -> Vec<f64> {
    values.iter().map(|v| -v).collect()
}

/// Least `Σ p v` over weights within bounds that sum up to 1: all take their least, and the rest of the 1 goes where
/// it costs least.
fn least_average(weights: &[(f64, f64)], values: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut rest = (1.0 - weights.iter().map(|w| w.0).sum::<f64>()).max(0.0);
    let mut sum = 0.0;
    for i in order {
        let (least, most) = weights[i];
        let more = rest.min(most - least);
        rest -= more;
        sum += (least + more) * values[i];
    }
    sum - SLACK * (values.len() + 1) as f64 * values.iter().fold(0.0_f64, |m, v| m.max(v.abs()))
}
