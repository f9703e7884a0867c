//! Watch: a verified circuit beside its model on prompts as they come.
//!
//! A verdict is about the prompts it was reached on. [`Watch`] learns from those how far circuit and model ever were
//! apart and between which values every circuit node stayed, and then raises an [`Alarm`] on each prompt that lies
//! outside. Without any shift, a quantity of a fresh prompt exceeds the largest of n held-out prompts with probability
//! 1/(n + 1); a margin makes up for there being many nodes.

use std::{borrow::Cow, ops::ControlFlow};

use openwork_circuit::{Ablation, Calibration, Circuit, Keep, Means, NodeSet, NodeSpace, ResidualMaskError};
use openwork_model::{Matrix, Model, Site, Tap};
use openwork_tasks::Pair;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    run::{
        measures::kl_binary,
        prompts::{self, Chunk, PromptError, chunks, seen},
    },
    stats::intervals::quantile,
};

/// Settings of the alarms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchSettings {
    /// A node has two ranges, at the last token and before it, each widened at both ends by this share of its width.
    /// With hundreds of nodes some node is always a little beyond what was seen, so if nothing is given the margin is
    /// learned: leave every held-out pair out in turn, see by how many widths it then lies outside the ranges of the
    /// others, and take what is enough for `quiet` of the pairs. It is at most 1.
    pub margin: Option<f32>,
    /// See `margin`: 0.99 lets about one prompt in a hundred of the same kind raise a false alarm.
    pub quiet: f64,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self { margin: None, quiet: 0.99 }
    }
}

/// Reason that nothing can be watched.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum WatchError {
    /// Circuit or means are of another model.
    #[error("circuit or means belong to a model of another shape")]
    OtherModel,
    /// The circuit leaves out a residual edge.
    #[error(transparent)]
    ResidualEdge(#[from] ResidualMaskError),
    /// No held-out pairs.
    #[error("there are no held-out pairs to take ranges and limits from")]
    NoPairs,
    /// A margin that widens nothing.
    #[error("the margin is {margin}, it must be 0 or more")]
    Margin {
        /// The margin.
        margin: f32,
    },
    /// A share that is none.
    #[error("quiet is {quiet}, it must be a share from 0 to 1")]
    Quiet {
        /// The share.
        quiet: f64,
    },
    /// A held-out pair has an unknown answer.
    #[error("a held-out pair has an answer outside the vocabulary")]
    Answer,
    /// A prompt cannot be run.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// Logits that are no numbers.
    #[error("the logits after prompt {prompt} are not finite")]
    NotFinite {
        /// Number of the prompt.
        prompt: usize,
    },
}

/// A reason to distrust the circuit on a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "alarm", rename_all = "snake_case")]
pub enum Alarm {
    /// Circuit and model prefer different candidates.
    Answers {
        /// The model's.
        model: u16,
        /// The circuit's.
        circuit: u16,
    },
    /// They are further apart than ever on the held-out prompts.
    Divergence {
        /// KL(model ‖ circuit) over the two candidates in nats.
        kl: f64,
        /// The largest on the held-out prompts.
        limit: f64,
    },
    /// A node of the circuit, in the model, has a value outside its range. The one that is furthest outside, measured
    /// in widths of its range.
    Range {
        /// The node, such as `2.mlp.post_act[118]`.
        node: String,
        /// Its value.
        value: f32,
        /// Its range, margin included.
        range: (f32, f32),
        /// Token of the prompt at which it has it, from 0; tokens that the model did not see count.
        position: usize,
        /// Number of nodes of the circuit that are out of their range anywhere.
        nodes: usize,
    },
    /// The model gives the candidates less probability than it ever did: the prompt may not be one of the task.
    OffTask {
        /// Probability of both candidates.
        probability: f64,
        /// The least on the held-out prompts.
        limit: f64,
    },
}

/// Comparison of circuit and model on one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    /// Answer and alternative that were compared: of those of the held-out pairs the likeliest two in the model.
    pub candidates: (u16, u16),
    /// Logit of the answer above the alternative: model, and circuit (calibrated).
    pub differences: [f64; 2],
    /// KL(model ‖ circuit) over the two candidates in nats.
    pub kl: f64,
    /// Tokens on the left of the prompt that the model did not see: they are beyond its context.
    pub unseen: usize,
    /// Reasons for alarm; none if all is as it was verified.
    pub alarms: Vec<Alarm>,
}

/// A circuit and what it was like where it was verified.
pub struct Watch<'a> {
    model: &'a Model,
    /// The model without the weights that the circuit leaves out.
    masked: Cow<'a, Model>,
    means: &'a Means,
    circuit: &'a NodeSet,
    calibration: Calibration,
    candidates: Vec<(u16, u16)>,
    /// Numbers of the circuit's nodes.
    numbers: Vec<usize>,
    /// Ranges of each of them before the last token and at it, margin included.
    ranges: Vec<[(f32, f32); 2]>,
    margin: f32,
    max_kl: f64,
    min_probability: f64,
}

impl<'a> Watch<'a> {
    /// Learns from held-out pairs, on which the circuit was verified under mean ablation with this calibration.
    pub fn new(
        model: &'a Model,
        means: &'a Means,
        circuit: &'a Circuit,
        calibration: Calibration,
        held_out: &[Pair],
        settings: WatchSettings,
    ) -> Result<Self, WatchError> {
        let space = NodeSpace::new(&model.config);
        if *circuit.nodes().space() != space || means.values().len() != space.len() {
            return Err(WatchError::OtherModel);
        }
        if held_out.is_empty() {
            return Err(WatchError::NoPairs);
        }
        if let Some(margin) = settings.margin.filter(|m| !m.is_finite() || *m < 0.0) {
            return Err(WatchError::Margin { margin });
        }
        if !(0.0..=1.0).contains(&settings.quiet) {
            return Err(WatchError::Quiet { quiet: settings.quiet });
        }
        let mut candidates: Vec<(u16, u16)> = held_out.iter().map(|p| (p.answer, p.alternative)).collect();
        candidates.sort_unstable();
        candidates.dedup();
        if candidates.iter().any(|(a, b)| usize::from(*a.max(b)) >= model.config.vocab_size) {
            return Err(WatchError::Answer);
        }
        let masked = circuit.masked(model)?;
        let circuit = circuit.nodes();
        let numbers: Vec<usize> = circuit.numbers().collect();
        let ranges = vec![[(f32::INFINITY, f32::NEG_INFINITY); 2]; numbers.len()];
        let (max_kl, min_probability, margin) = (f64::INFINITY, 0.0, 0.0);
        let mut watch = Self {
            model,
            masked,
            means,
            circuit,
            calibration,
            candidates,
            numbers,
            ranges,
            margin,
            max_kl,
            min_probability,
        };
        let prompts: Vec<&[u16]> = held_out.iter().flat_map(|p| [&p.positive[..], &p.negative]).collect();
        watch.learn(&watch.seen(&prompts)?, settings);
        Ok(watch)
    }

    /// Ranges of every circuit node before the last token and at it, margin included.
    pub fn ranges(&self) -> impl Iterator<Item = (openwork_circuit::Node, [(f32, f32); 2])> + '_ {
        self.numbers.iter().map(|&n| self.circuit.space().node(n)).zip(self.ranges.iter().copied())
    }

    /// By what share of their width the ranges were widened.
    pub fn margin(&self) -> f32 {
        self.margin
    }

    /// Largest KL(model ‖ circuit) and least probability of the candidates on the held-out prompts.
    pub fn limits(&self) -> (f64, f64) {
        (self.max_kl, self.min_probability)
    }

    /// Looks at some prompts. The result does not depend on threads.
    ///
    /// # Errors
    /// When a prompt is empty or has a token outside the vocabulary, or logits after one are not finite.
    pub fn look(&self, prompts: &[&[u16]]) -> Result<Vec<Sighting>, WatchError> {
        let unseen = prompts.iter().map(|prompt| prompt.len().saturating_sub(self.model.config.n_ctx));
        Ok(self.seen(prompts)?.into_iter().zip(unseen).map(|(seen, unseen)| self.sighting(seen, unseen)).collect())
    }

    fn learn(&mut self, all: &[Seen], settings: WatchSettings) {
        for seen in all {
            for (range, extremes) in self.ranges.as_flattened_mut().iter_mut().zip(seen.extremes.as_flattened()) {
                *range = (range.0.min(extremes.low.0), range.1.max(extremes.high.0));
            }
        }
        self.margin =
            settings.margin.unwrap_or_else(|| learned_margin(self.ranges.as_flattened(), all, settings.quiet));
        for (low, high) in self.ranges.as_flattened_mut() {
            // Prompts of one token have nothing before the last.
            if low <= high {
                let wider = self.margin * (*high - *low);
                (*low, *high) = (*low - wider, *high + wider);
            }
        }
        self.max_kl = all.iter().map(|s| s.kl).fold(0.0, f64::max);
        self.min_probability = all.iter().map(|s| s.probability).fold(1.0, f64::min);
    }

    fn seen(&self, given: &[&[u16]]) -> Result<Vec<Seen>, WatchError> {
        let given: Vec<&[u16]> = given.iter().map(|p| seen(p, self.model.config.n_ctx)).collect();
        prompts::check(&given, self.model.config.vocab_size)?;
        let parts: Result<Vec<Vec<Seen>>, WatchError> = chunks(&given).par_iter().map(|c| self.chunk(c)).collect();
        Ok(parts?.concat())
    }

    fn chunk(&self, chunk: &Chunk) -> Result<Vec<Seen>, WatchError> {
        let mut tap = Extremes::new(self.circuit.space(), &self.numbers, chunk);
        let model = chunk.log_probs(self.model, &mut tap);
        let mut keep = Keep::new(self.circuit, Ablation::Mean(self.means));
        let circuit = chunk.log_probs(&self.masked, &mut keep);
        let mut all = Vec::new();
        for (i, extremes) in tap.extremes.into_iter().enumerate() {
            let seen = self.compare(&model[i], &circuit[i], extremes);
            if !seen.differences.iter().all(|d| d.is_finite()) {
                return Err(WatchError::NotFinite { prompt: chunk.first + i });
            }
            all.push(seen);
        }
        Ok(all)
    }

    fn compare(&self, model: &[f32], circuit: &[f32], extremes: Vec<[Extreme; 2]>) -> Seen {
        let p = |token: u16| f64::from(model[usize::from(token)]).exp();
        let of = |c: &(u16, u16)| p(c.0) + p(c.1);
        let first = self.candidates[0];
        let candidates = self.candidates.iter().fold(first, |best, c| if of(c) > of(&best) { *c } else { best });
        let difference = |l: &[f32]| f64::from(l[usize::from(candidates.0)]) - f64::from(l[usize::from(candidates.1)]);
        let Calibration { scale, shift } = self.calibration;
        let differences = [difference(model), scale * difference(circuit) + shift];
        let kl = kl_binary(differences[0], differences[1]);
        Seen { candidates, differences, kl, probability: of(&candidates), extremes }
    }

    fn sighting(&self, seen: Seen, unseen: usize) -> Sighting {
        let Seen { candidates, differences, kl, probability, .. } = seen;
        let answer = |d: f64| if d >= 0.0 { candidates.0 } else { candidates.1 };
        let [model, circuit] = differences.map(answer);
        let mut alarms = Vec::new();
        if model != circuit {
            alarms.push(Alarm::Answers { model, circuit });
        }
        if kl > self.max_kl {
            alarms.push(Alarm::Divergence { kl, limit: self.max_kl });
        }
        alarms.extend(self.out_of_range(&seen.extremes, unseen));
        if probability < self.min_probability {
            alarms.push(Alarm::OffTask { probability, limit: self.min_probability });
        }
        Sighting { candidates, differences, kl, unseen, alarms }
    }

    fn out_of_range(&self, extremes: &[[Extreme; 2]], unseen: usize) -> Option<Alarm> {
        let (mut nodes, mut furthest, mut alarm) = (0, 0.0, None);
        for ((&number, ranges), extremes) in self.numbers.iter().zip(&self.ranges).zip(extremes) {
            let mut out = false;
            for (&range, extreme) in ranges.iter().zip(extremes) {
                let excess = excess(range, extreme);
                out |= excess > 0.0;
                if excess > furthest {
                    furthest = excess;
                    let (value, position) = if extreme.low.0 < range.0 { extreme.low } else { extreme.high };
                    let node = self.circuit.space().node(number).to_string();
                    alarm = Some((node, value, range, position));
                }
            }
            nodes += usize::from(out);
        }
        alarm.map(|(node, value, range, position)| Alarm::Range {
            node,
            value,
            range,
            position: position + unseen,
            nodes,
        })
    }
}

/// The margin that leaves `quiet` of the pairs inside the ranges of the others. Prompts 2i and 2i + 1 are pair i.
fn learned_margin(ranges: &[(f32, f32)], all: &[Seen], quiet: f64) -> f32 {
    let mut outside = vec![0.0_f64; all.len() / 2];
    for (r, range) in ranges.iter().enumerate().filter(|(_, range)| range.0 < range.1) {
        for sign in [1.0, -1.0] {
            // Only the pair that has the end lies outside the others' range, by as much as the next falls short of it.
            let (mut end, mut next, mut owner) = (f32::NEG_INFINITY, f32::NEG_INFINITY, 0);
            for (pair, prompts) in all.chunks_exact(2).enumerate() {
                let extremes = prompts.iter().map(|p| p.extremes.as_flattened()[r]);
                let own =
                    extremes.map(|e| if sign > 0.0 { e.high.0 } else { -e.low.0 }).fold(f32::NEG_INFINITY, f32::max);
                if own > end {
                    (next, end, owner) = (end, own, pair);
                } else {
                    next = next.max(own);
                }
            }
            let share = f64::from((end - next) / (range.1 - range.0)).min(1.0);
            outside[owner] = outside[owner].max(share);
        }
    }
    outside.sort_by(f64::total_cmp);
    quantile(&outside, quiet) as f32
}

/// Distance of a node from its range, in widths of it; 0 inside, and where no range was learned.
fn excess(range: (f32, f32), extreme: &Extreme) -> f32 {
    let outside = (range.0 - extreme.low.0).max(extreme.high.0 - range.1);
    if range.0 > range.1 || outside <= 0.0 {
        return 0.0;
    }
    // A node that was constant has no width; rounding of its value is the least there is.
    let rounding = range.0.abs().max(range.1.abs()) * f32::EPSILON;
    outside / (range.1 - range.0).max(rounding).max(f32::MIN_POSITIVE)
}

/// Least and largest value of a node on a prompt, each with the token where it has it.
#[derive(Clone, Copy)]
struct Extreme {
    low: (f32, usize),
    high: (f32, usize),
}

/// Result of one prompt.
#[derive(Clone)]
struct Seen {
    candidates: (u16, u16),
    differences: [f64; 2],
    kl: f64,
    probability: f64,
    /// By node of the circuit, before the last token and at it.
    extremes: Vec<[Extreme; 2]>,
}

/// The tap that finds them on every prompt of a chunk, padding left out.
struct Extremes<'a> {
    space: &'a NodeSpace,
    /// The circuit's nodes, rising.
    numbers: &'a [usize],
    chunk: &'a Chunk,
    extremes: Vec<Vec<[Extreme; 2]>>,
}

impl<'a> Extremes<'a> {
    fn new(space: &'a NodeSpace, numbers: &'a [usize], chunk: &'a Chunk) -> Self {
        let none = Extreme { low: (f32::INFINITY, 0), high: (f32::NEG_INFINITY, 0) };
        Self { space, numbers, chunk, extremes: vec![vec![[none; 2]; numbers.len()]; chunk.columns().count()] }
    }
}

impl Tap for Extremes<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let Some(range) = self.space.range(site) else { return ControlFlow::Continue(()) };
        let first = self.numbers.partition_point(|&n| n < range.start);
        let here = self.numbers[first..].iter().take_while(|&&n| n < range.end);
        for (node, number) in here.enumerate().map(|(i, n)| (first + i, n)) {
            let row = value.row(number - range.start);
            for (columns, extremes) in self.chunk.columns().zip(&mut self.extremes) {
                let last = columns.len() - 1;
                for (position, column) in columns.enumerate() {
                    let extreme = &mut extremes[node][usize::from(position == last)];
                    let value = row[column];
                    if value < extreme.low.0 {
                        extreme.low = (value, position);
                    }
                    if value > extreme.high.0 {
                        extreme.high = (value, position);
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }
}
