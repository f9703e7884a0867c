//! The space of settings: ranges of the replication, centres of the paper.

use openwork_circuit::{LearnedMasks, Sampler};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tpe::{TpeOptimizer, TpeOptimizerBuilder, parzen_estimator};

use super::Trial;

/// Trials that are drawn uniformly before the estimators have seen enough.
const UNIFORM: usize = 8;

/// Share of the trials that counts as good: the best 4 of 16, the best 16 of 64.
const GOOD: f64 = 0.25;

/// Scale on which a setting is drawn.
#[derive(Clone, Copy)]
enum Scale {
    Linear,
    Log,
    /// The logarithm of the distance from 1.
    LogBelowOne,
}

impl Scale {
    fn to(self, x: f64) -> f64 {
        match self {
            Self::Linear => x,
            Self::Log => x.ln(),
            Self::LogBelowOne => (1.0 - x).ln(),
        }
    }

    fn from(self, x: f64) -> f64 {
        match self {
            Self::Linear => x,
            Self::Log => x.exp(),
            Self::LogBelowOne => 1.0 - x.exp(),
        }
    }
}

/// One setting of the space.
#[derive(Clone, Copy)]
struct Dimension {
    /// Least and largest value.
    range: [f64; 2],
    scale: Scale,
    get: fn(&LearnedMasks) -> f64,
    set: fn(&mut LearnedMasks, f64),
}

/// Ranges of Drori's replication (the spec's §10.1): price, decay, learning rate, β₂ and temperature. Steps and noise at the start, which it fixes, are searched as well, around
/// what its best run had.
const SPACE: [Dimension; 8] = [
    Dimension { range: [1e-8, 1e-1], scale: Scale::Log, get: |m| m.k_coef, set: |m, x| m.k_coef = x },
    Dimension { range: [1e-5, 1e-1], scale: Scale::Log, get: |m| m.lr, set: |m, x| m.lr = x },
    Dimension { range: [1e-6, 1e-1], scale: Scale::Log, get: |m| m.weight_decay, set: |m, x| m.weight_decay = x },
    Dimension { range: [0.5, 0.999], scale: Scale::LogBelowOne, get: |m| m.beta2, set: |m, x| m.beta2 = x },
    Dimension { range: [0.1, 10.0], scale: Scale::Log, get: |m| m.temperature, set: |m, x| m.temperature = x },
    Dimension { range: [1e-3, 0.3], scale: Scale::Log, get: |m| m.init_noise, set: |m, x| m.init_noise = x },
    Dimension { range: [0.0, 0.5], scale: Scale::Linear, get: |m| m.init_bias, set: |m, x| m.init_bias = x },
    Dimension {
        range: [100.0, 1000.0],
        scale: Scale::Log,
        get: |m| m.steps as f64,
        set: |m, x| m.steps = x.round() as usize,
    },
];

impl Dimension {
    /// Ends of the range on its scale, the smaller one first.
    fn ends(&self) -> (f64, f64) {
        let [a, b] = self.range.map(|x| self.scale.to(x));
        (a.min(b), a.max(b))
    }

    /// Value of a setting on the scale, within the range: rounding may have put it beside.
    fn place(&self, masks: &LearnedMasks) -> f64 {
        let (low, high) = self.ends();
        self.scale.to((self.get)(masks)).clamp(low, high.next_down())
    }
}

/// The centre: the settings as they are, of one restart.
pub(super) fn centre(masks: &LearnedMasks) -> LearnedMasks {
    LearnedMasks { restarts: 1, ..masks.clone() }
}

/// Settings of trial `number`, drawn by the sampler after `known` trials.
pub(super) fn draw(
    masks: &LearnedMasks,
    sampler: Sampler,
    (seed, number): (u64, usize),
    known: &[Trial],
) -> LearnedMasks {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number as u64);
    let mut drawn = centre(masks);
    let ranked = ranked(known);
    for dimension in &SPACE {
        let (low, high) = dimension.ends();
        let place = match sampler {
            Sampler::Tpe if known.len() >= UNIFORM => asked(dimension, &ranked, &mut rng),
            Sampler::Tpe | Sampler::Random => rng.random_range(low..high),
        };
        let [least, most] = dimension.range;
        (dimension.set)(&mut drawn, dimension.scale.from(place).clamp(least, most));
    }
    drawn
}

/// Trials with their places in the order of the best: the estimators see places alone, so that no unit of the objective matters.
fn ranked(known: &[Trial]) -> Vec<(&Trial, f64)> {
    let mut sorted: Vec<&Trial> = known.iter().collect();
    sorted.sort_by_key(|trial| trial.rank());
    sorted.into_iter().zip(0..).map(|(trial, place)| (trial, f64::from(place))).collect()
}

/// A place on the dimension's scale that is likely among good trials and unlikely among others.
fn asked(dimension: &Dimension, ranked: &[(&Trial, f64)], rng: &mut ChaCha8Rng) -> f64 {
    let (low, high) = dimension.ends();
    let range = tpe::range(low, high).expect("ranges of the space are finite and not empty");
    let mut optimizer: TpeOptimizer =
        TpeOptimizerBuilder::new().gamma(GOOD).build(parzen_estimator(), range).expect("a share from 0 to 1");
    for (trial, place) in ranked {
        optimizer.tell(dimension.place(&trial.masks), *place).expect("a finite place, within the range");
    }
    let Ok(place) = optimizer.ask(rng);
    place
}

#[cfg(test)]
mod tests {
    use openwork_circuit::{NodeSet, NodeSpace};
    use openwork_model::Config;

    use super::*;

    fn trial(masks: LearnedMasks, edges: usize) -> Trial {
        let nodes = NodeSet::empty(NodeSpace::new(&Config::default()));
        Trial { masks, reached: true, loss: 0.1, nodes, edges }
    }

    #[test]
    fn draws_lie_in_their_ranges_and_follow_from_seed_and_number_alone() {
        let masks = LearnedMasks::default();
        for (seed, number) in [(0, 1), (0, 2), (7, 1), (7, 40)] {
            let drawn = draw(&masks, Sampler::Random, (seed, number), &[]);
            assert_eq!(drawn, draw(&masks, Sampler::Random, (seed, number), &[]));
            assert_eq!(drawn.restarts, 1);
            for dimension in &SPACE {
                let value = (dimension.get)(&drawn);
                assert!((dimension.range[0]..=dimension.range[1]).contains(&value), "{value}");
            }
        }
        let of = |seed, number| draw(&masks, Sampler::Random, (seed, number), &[]).k_coef;
        assert!(of(0, 1) != of(0, 2) && of(0, 1) != of(7, 1));
    }

    #[test]
    fn estimators_draw_near_good_settings_and_uniform_draws_do_not() {
        // Edges by the distance of the price from 1e-3 in factors of e; nothing else matters.
        let score = |masks: &LearnedMasks| ((masks.k_coef / 1e-3).ln().abs() * 100.0) as usize;
        let run = |sampler| {
            let mut trials: Vec<Trial> = vec![];
            for number in 1..80 {
                let masks = draw(&LearnedMasks::default(), sampler, (3, number), &trials);
                let edges = score(&masks);
                trials.push(trial(masks, edges));
            }
            let late: usize = trials[40..].iter().map(|t| t.edges).sum();
            late / trials[40..].len()
        };
        let (tpe, random) = (run(Sampler::Tpe), run(Sampler::Random));
        assert!(2 * tpe < random, "{tpe} {random}");
    }
}
