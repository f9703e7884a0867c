//! The circuit among random node sets of its size and kind.

use std::fmt;

use openwork_circuit::NodeSet;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use serde::{Deserialize, Serialize};

use crate::{
    run::{
        error::RunError,
        evaluator::Evaluator,
        measures::{calibrate, losses_at_best_shift, mean},
        scheme::Scheme,
        shift_free::best_shift_at,
    },
    settings::Settings,
    stats::intervals::p_value,
    streams::Stream,
};

/// Pool of random node sets; always as many per site as the circuit has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Draw {
    /// From all nodes, the circuit's included.
    Any,
    /// From the nodes outside the circuit.
    Others,
    /// From the active nodes outside the circuit, inactive ones only where those run out.
    ActiveOthers,
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "of all nodes",
            Self::Others => "of nodes outside",
            Self::ActiveOthers => "of active nodes outside",
        })
    }
}

/// A circuit among random node sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RandomSets {
    /// Pool that they were drawn from.
    pub draw: Draw,
    /// True: the sets alone were ablated (necessity). False: they alone were kept (sufficiency).
    pub ablated: bool,
    /// Task loss in nats of the circuit's run: at the best common shift where it was ablated, calibrated where kept.
    pub circuit: f64,
    /// The same of each random set.
    pub random: Vec<f64>,
    /// `(1 + #{random at least as good}) / (R + 1)`; what meets the bar that the circuit itself has to meet counts as
    /// at least as good.
    pub p_value: f64,
    /// Sites at which too few other (active) nodes exist, and how many are shortfall in all.
    pub shortfall: (usize, usize),
}

/// The circuit, or a random node set beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subset {
    /// The circuit.
    Circuit,
    /// As many random nodes at every site.
    Random,
}

impl std::fmt::Display for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Circuit => "circuit",
            Self::Random => "random",
        })
    }
}

/// Random sets a progress message.
const ROUND: usize = 20;

/// Setting in which random sets are compared with the circuit.
pub(crate) struct Comparison<'a> {
    /// Pairs the losses are taken on.
    pub evaluator: &'a Evaluator<'a>,
    /// Pairs that a kept set is calibrated on.
    pub selection: &'a Evaluator<'a>,
    pub circuit: &'a NodeSet,
    /// Without it the loss must be this high for the circuit to be necessary. A random set of which the same is
    /// true counts as at least as necessary, by however little the circuit exceeds it.
    pub necessary: f64,
    /// With it alone the loss must be this low for the circuit to be sufficient; likewise.
    pub sufficient: f64,
    pub active: &'a [bool],
    pub settings: &'a Settings,
    /// Once true, no further sets are drawn.
    pub out_of_time: &'a dyn Fn() -> bool,
}

/// A set with as many nodes per site as `circuit`, and how many of them could not be drawn as asked, by site.
///
/// `Others` and `ActiveOthers` stay outside the circuit: a set that shares nodes with it would speak for it. The
/// price: under the hypothesis that the circuit itself is a random set, p-values are exact only up to the
/// fraction of a site that the circuit constants; `Any` is exact.
pub(crate) fn draw(circuit: &NodeSet, how: Draw, active: &[bool], rng: &mut ChaCha8Rng) -> (NodeSet, Vec<usize>) {
    let mut numbers = Vec::new();
    let mut shortfall = Vec::new();
    for ((_, range), count) in circuit.space().sites().iter().zip(circuit.count_by_site()) {
        let mut pool: Vec<usize> = range.clone().filter(|&n| how == Draw::Any || !circuit.kept()[n]).collect();
        shuffle(&mut pool, rng);
        let mut good = pool.len();
        if how == Draw::ActiveOthers {
            pool.sort_by_key(|&n| !active[n]);
            good = pool.iter().filter(|&&n| active[n]).count();
        }
        shortfall.push(count.saturating_sub(good));
        numbers.extend(pool.into_iter().take(count));
    }
    (NodeSet::of(circuit.space().clone(), numbers), shortfall)
}

/// Puts numbers into a random order (Fisher and Yates).
pub(crate) fn shuffle(numbers: &mut [usize], rng: &mut ChaCha8Rng) {
    (1..numbers.len()).rev().for_each(|i| numbers.swap(i, rng.random_range(0..=i)));
}

impl Comparison<'_> {
    /// Necessity: what does ablating only these nodes (by their mean) cost? More random sets at least as costly
    /// as the circuit mean a larger p.
    pub fn ablated(&self, how: Draw, progress: &mut dyn FnMut(&str)) -> Result<RandomSets, RunError> {
        let loss = |nodes: &NodeSet| {
            let run = self.evaluator.run_without(nodes, Scheme::MEAN)?;
            Ok(mean(&losses_at_best_shift(&run)))
        };
        let circuit = loss(self.circuit)?;
        let (random, shortfall) = self.random(how, loss, "ablated", progress)?;
        let bar = circuit.min(self.necessary);
        let p_value = p_value(random.iter().filter(|&&l| l >= bar).count(), random.len());
        Ok(RandomSets { draw: how, ablated: true, circuit, random, p_value, shortfall })
    }

    /// Sufficiency: losses of random sets kept alone, each with the calibration that suits it best; and the same with the common
    /// shifts that suit each best on the pairs of the losses themselves. `circuit` has the circuit's own losses.
    pub fn kept(&self, circuit: [f64; 2], progress: &mut dyn FnMut(&str)) -> Result<[RandomSets; 2], RunError> {
        let loss = |nodes: &NodeSet| {
            let calibration = calibrate(&self.selection.run_differences(nodes, Scheme::MEAN)?);
            let run = self.evaluator.run_differences(nodes, Scheme::MEAN)?;
            Ok([run.loss(calibration), run.loss(best_shift_at(&run, calibration.scale))])
        };
        let (random, shortfall) = self.random(Draw::Any, loss, "kept", progress)?;
        Ok([0, 1].map(|form| {
            let random: Vec<f64> = random.iter().map(|losses| losses[form]).collect();
            let circuit = circuit[form];
            let bar = circuit.max(self.sufficient);
            let p_value = p_value(random.iter().filter(|&&l| l <= bar).count(), random.len());
            RandomSets { draw: Draw::Any, ablated: false, circuit, random, p_value, shortfall }
        }))
    }

    /// Losses of random sets. Set i depends on the seed and i alone, not on threads.
    fn random<L: Send>(
        &self,
        how: Draw,
        loss: impl Fn(&NodeSet) -> Result<L, RunError> + Sync,
        what: &str,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(Vec<L>, (usize, usize)), RunError> {
        let count = self.settings.random_sets;
        let set = |i: usize| {
            let mut rng = Stream::RandomSet(i as u64).rng(self.settings.seed);
            draw(self.circuit, how, self.active, &mut rng)
        };
        let mut losses = Vec::with_capacity(count);
        while losses.len() < count && (losses.is_empty() || !(self.out_of_time)()) {
            let end = (losses.len() + ROUND).min(count);
            let round: Result<Vec<L>, RunError> =
                (losses.len()..end).into_par_iter().map(|i| loss(&set(i).0)).collect();
            losses.extend(round?);
            progress(&format!("random sets {how} {what}: {end} of {count}"));
        }
        let shortfall = set(0).1;
        Ok((losses, (shortfall.iter().filter(|&&w| w > 0).count(), shortfall.iter().sum())))
    }
}

#[cfg(test)]
mod tests {
    use openwork_circuit::{Means, NodeSpace};
    use openwork_model::{Config, Model};
    use openwork_tasks::Pair;
    use rand::SeedableRng;

    use super::*;
    use crate::run::{
        ablator::KeepOnly,
        context::{Context, Judged},
    };

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    #[test]
    fn sets_match_the_circuit_site_by_site() {
        let space = NodeSpace::new(&Config::default());
        // Sites of 64: 3 read channels, 40 queries (of 64), and 2 nodes of the last site.
        let last = space.len() - 1;
        let circuit = NodeSet::of(space.clone(), (0..3).chain(64..104).chain([last - 1, last]));
        let mut active = vec![true; space.len()];
        (10..64).for_each(|n| active[n] = false);
        (last - 40..last - 1).for_each(|n| active[n] = false);
        active[last - 63..last - 40].fill(false);
        for seed in 0..20 {
            let (any, shortfall) = draw(&circuit, Draw::Any, &active, &mut rng(seed));
            assert_eq!((any.count_by_site(), shortfall.iter().sum()), (circuit.count_by_site(), 0));
            let (others, shortfall) = draw(&circuit, Draw::Others, &active, &mut rng(seed));
            assert!(others.numbers().all(|n| !circuit.kept()[n]));
            // 24 other queries for 40.
            assert_eq!((others.len(), shortfall[1], shortfall.iter().sum()), (3 + 24 + 2, 16, 16));
            let (active_others, shortfall) = draw(&circuit, Draw::ActiveOthers, &active, &mut rng(seed));
            assert!(active_others.numbers().take(3).all(|n| (3..10).contains(&n)));
            assert_eq!(active_others.count_by_site(), others.count_by_site());
            assert_eq!((shortfall[0], shortfall[1], shortfall[15]), (0, 16, 2));
        }
        assert_ne!(
            draw(&circuit, Draw::Others, &active, &mut rng(1)),
            draw(&circuit, Draw::Others, &active, &mut rng(2))
        );
    }

    /// Largest distance between the distribution of `p` and the uniform one (Kolmogorov and Smirnov).
    fn distance_from_uniform(mut p: Vec<f64>) -> f64 {
        p.sort_by(f64::total_cmp);
        let n = p.len() as f64;
        p.iter()
            .enumerate()
            .map(|(i, &p)| (p - i as f64 / n).abs().max((p - (i + 1) as f64 / n).abs()))
            .fold(0.0, f64::max)
    }

    #[test]
    fn p_values_of_random_circuits_are_uniform() {
        // A model of noise: a random "circuit" is no more necessary or sufficient than another random set.
        let config = Config {
            vocab_size: 16,
            n_ctx: 6,
            n_layer: 1,
            n_head: 2,
            d_head: 16,
            d_model: 32,
            d_mlp: 64,
            act_density: None,
            ..Config::default()
        };
        let mut model = Model::init(config, 3);
        for weight in model.params.values_mut() {
            weight.update(|w| *w *= 12.0);
        }
        let mut tokens = rng(9);
        let mut prompt = |first: u16| vec![first, tokens.random_range(4..16), tokens.random_range(4..16), 5];
        let pairs: Vec<Pair> = (0..8)
            .map(|_| Pair { positive: prompt(0), negative: prompt(1), answer: 2, alternative: 3, template: 0 })
            .collect();
        let text: Vec<u16> = (0..96).map(|_| tokens.random_range(0..16)).collect();
        let means = Means::compute(&model, &text, 6);
        let judged = Judged::new(&NodeSet::empty(NodeSpace::new(&model.config)), &pairs);
        let context = Context { model: &model, means: &means, judged: &judged, seed: 1, ablator: &KeepOnly };
        let evaluator = Evaluator::new(context, &pairs).unwrap();
        let space = NodeSpace::new(&model.config);
        let active = vec![true; space.len()];
        let (mut ablated, mut kept, mut after_shift) = (Vec::new(), Vec::new(), Vec::new());
        for seed in 0..120 {
            let mut rng = rng(1000 + seed);
            // One node at every site: 1/16 of the smallest site's count or less.
            let circuit = NodeSet::of(space.clone(), space.sites().iter().map(|(_, r)| rng.random_range(r.clone())));
            let settings = Settings { seed, random_sets: 99, ..Settings::default() };
            let comparison = Comparison {
                evaluator: &evaluator,
                selection: &evaluator,
                circuit: &circuit,
                necessary: f64::INFINITY,
                sufficient: 0.0,
                active: &active,
                settings: &settings,
                out_of_time: &|| false,
            };
            ablated.push(comparison.ablated(Draw::Others, &mut |_| ()).unwrap().p_value);
            let own = evaluator.run_differences(&circuit, Scheme::MEAN).unwrap();
            let scale = calibrate(&own).scale;
            let own = [own.loss(calibrate(&own)), own.loss(best_shift_at(&own, scale))];
            let [as_it_is, shifted] = comparison.kept(own, &mut |_| ()).unwrap();
            kept.push(as_it_is.p_value);
            after_shift.push(shifted.p_value);
        }
        for p in [ablated, kept, after_shift] {
            let low = p.iter().filter(|&&p| p <= 0.05).count();
            // Critical value at 1 % for n = 120, and 5 % of 120 plus three standard deviations.
            assert!(distance_from_uniform(p.clone()) < 1.63 / 120.0_f64.sqrt(), "{p:?}");
            assert!(low <= 13, "{low} of 120 below 0.05");
        }
        // The test of the test: p-values of a useless procedure are far from uniform.
        assert!(distance_from_uniform((0..120).map(|i| (f64::from(i) / 120.0).powi(2)).collect()) > 0.2);
    }
}
