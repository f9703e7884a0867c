//! Junk: nodes of a circuit that add nothing in the end.
//!
//! A node of a circuit C is needed if for *some* set K of its other nodes, taking it out of C∖K changes an answer (Wang et al.
//! 2023, §4, minimality). Asked of single nodes, that calls live junk needed: of nodes that cancel each other, each changes
//! answers as long as the others stay. Junk is therefore a set: J ⊂ C is junk if in every context K ⊂ C∖J that is tried, taking J
//! out of C∖K changes no logit difference by more than `least`, and taking it out of C turns no likeliest token from a candidate
//! to a third token: a node may do nothing for the choice and still be what keeps other tokens down. Of two parts that stand in for each other neither is junk, by the
//! context that lacks the other one; idle nodes are, and so are live ones whose effects add up to nothing. Of a circuit that claims
//! the contrast, nodes that only move all logit differences alike are junk, too.

use std::collections::BTreeMap;

use openwork_circuit::{Claim, NodeSet};
use openwork_model::SiteKind;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{
    methods::random_sets::shuffle,
    run::{
        context::Weights,
        error::RunError,
        evaluator::Evaluator,
        measures::lead_over_others,
        scheme::{AblationValue, Scheme},
    },
};

/// Pairs, and the values of what is left out.
pub(crate) type Place<'a> = (&'a Evaluator<'a>, Scheme);

/// Search for junk among some nodes of a circuit.
pub(crate) struct JunkSearch<'a> {
    pub circuit: &'a NodeSet,
    /// Places where nothing may change while the whole circuit is there: one prompt is all that it takes to be needed. Cheap ones
    /// first.
    pub places: Vec<Place<'a>>,
    /// Number of those, from the first, where nothing may change in any context. They also say which nodes cancel each other.
    pub in_contexts: usize,
    /// Largest change of a logit difference that counts as none, in nats.
    pub least: f64,
    /// Claim of the circuit. Of a contrast, a change that is common to all prompts of a place counts as none.
    pub claim: Claim,
    pub out_of_time: &'a dyn Fn() -> bool,
}

/// Junk, and how hard it was looked for contexts in which it is none.
#[derive(Debug, Default)]
pub(crate) struct Junk {
    pub nodes: Vec<usize>,
    /// Contexts in which it was taken out and changed nothing.
    pub contexts: usize,
}

/// A context K, and the answers of C∖K at each of its places.
struct Context<'a> {
    knocked_out: Vec<usize>,
    whole: Vec<(Place<'a>, Answers)>,
}

/// Answers of a run.
struct Answers {
    /// Logit difference of every sequence.
    differences: Vec<f64>,
    /// Lead of the likelier candidate over every other token, in nats, where the vocabulary was asked for.
    leads: Vec<f64>,
}

/// A context in which junk mattered, and the nodes that are none by it.
struct Revealing {
    context: Vec<usize>,
    given_back: Vec<usize>,
}

/// Contexts of one node, and random ones, that are tried.
const SINGLES: usize = 48;
const RANDOM: usize = 16;
/// Rounds of adding the node that makes most of the junk.
const GREEDY: usize = 1;
/// Nodes that are tried as the first of a group that cancels.
const SEEDS: usize = 32;

impl<'a> JunkSearch<'a> {
    /// The junk among `candidates`; `None` where time ran out. It is built up in the whole circuit, and then every context
    /// in which it matters takes away from it, until it survives all that are tried.
    pub fn find(&self, candidates: &[usize], rng: &mut ChaCha8Rng) -> Result<Option<Junk>, RunError> {
        let Some(mut nodes) = self.grow(&self.context(&[])?, candidates)? else { return Ok(None) };
        let mut revealing: Vec<Revealing> = Vec::new();
        loop {
            let mut contexts = 0;
            match self.refute(&nodes, &revealing, rng, &mut contexts)? {
                Refuted::OutOfTime => return Ok(None),
                Refuted::No => return Ok(Some(Junk { nodes, contexts })),
                Refuted::By(context) => {
                    let Some(less) = self.grow(&context, &nodes)? else { return Ok(None) };
                    let given_back = nodes.into_iter().filter(|n| !less.contains(n)).collect();
                    revealing.push(Revealing { context: context.knocked_out, given_back });
                    nodes = less;
                }
            }
        }
    }

    /// A set of candidates, as large as it finds one, that changes nothing in a context when it is taken out: by halves, then
    /// by groups that cancel.
    fn grow(&self, context: &Context<'a>, candidates: &[usize]) -> Result<Option<Vec<usize>>, RunError> {
        let mut junk = Vec::new();
        let mut left = vec![candidates.to_vec()];
        loop {
            let (before, mut needed) = (junk.len(), Vec::new());
            while let Some(some) = left.pop() {
                if (self.out_of_time)() {
                    return Ok(None);
                }
                if !self.matters(context, &[&junk[..], &some].concat())? {
                    junk.extend(some);
                    continue;
                }
                match some.split_at(some.len() / 2) {
                    ([], _) => needed.extend(some),
                    (first, second) => left.extend([second.to_vec(), first.to_vec()]),
                }
            }
            // Without what was taken out, what it lived on may be idle.
            if junk.len() > before && !needed.is_empty() {
                left.push(needed);
                continue;
            }
            match self.cancelling(context, &junk, &needed)? {
                Cancelling::OutOfTime => return Ok(None),
                Cancelling::None => return Ok(Some(junk)),
                Cancelling::Group(group) => {
                    left.push(needed.into_iter().filter(|n| !group.contains(n)).collect());
                    junk.extend(group);
                }
            }
        }
    }

    /// A group that can be taken out beside `junk` though none of it alone can. From each of the nodes that do most, nodes are
    /// added so that the sum of single effects becomes least; where that is nothing, the group is taken out as a whole.
    fn cancelling(&self, context: &Context<'a>, junk: &[usize], needed: &[usize]) -> Result<Cancelling, RunError> {
        // Differences by place.
        let without = |more: &[usize]| -> Result<Vec<Vec<f64>>, RunError> {
            let without = [&context.knocked_out, junk, more].concat();
            let places = self.places[..self.in_contexts].iter();
            places.map(|&place| Ok(self.run(place, &without, false)?.differences)).collect()
        };
        let whole = without(&[])?;
        let mut effects: Vec<(usize, Vec<f64>)> = Vec::new();
        for &node in needed {
            if (self.out_of_time)() {
                return Ok(Cancelling::OutOfTime);
            }
            let parts = without(&[node])?;
            let effect: Vec<f64> =
                parts.iter().zip(&whole).flat_map(|(less, whole)| self.changes(less, whole)).collect();
            if largest(&effect) > 0.0 {
                effects.push((node, effect));
            }
        }
        effects.sort_by(|a, b| largest(&b.1).total_cmp(&largest(&a.1)).then(a.0.cmp(&b.0)));
        for seed in 0..effects.len().min(SEEDS) {
            let (mut group, mut sum) = (vec![effects[seed].0], effects[seed].1.clone());
            let mut rest: Vec<&(usize, Vec<f64>)> = effects.iter().filter(|e| e.0 != group[0]).collect();
            while !rest.is_empty() {
                let size = |e: &Vec<f64>| e.iter().zip(&sum).map(|(a, b)| (a + b).powi(2)).sum::<f64>();
                let nearest = (0..rest.len()).min_by(|&a, &b| size(&rest[a].1).total_cmp(&size(&rest[b].1)));
                let (node, effect) = rest.remove(nearest.expect("some are left"));
                group.push(*node);
                sum.iter_mut().zip(effect).for_each(|(s, e)| *s += e);
                if (self.out_of_time)() {
                    return Ok(Cancelling::OutOfTime);
                }
                // Effects add up where nothing saturates; whether they do is what the run says.
                if largest(&sum) <= 2.0 * self.least && !self.matters(context, &[junk, &group[..]].concat())? {
                    return Ok(Cancelling::Group(group));
                }
            }
        }
        Ok(Cancelling::None)
    }

    /// Looks for a context in which junk matters: none; those in which more of it mattered, with what was given back; groups of
    /// the other nodes; single ones; greedily; at random; by gradient.
    fn refute(
        &self,
        junk: &[usize],
        revealing: &[Revealing],
        rng: &mut ChaCha8Rng,
        tried: &mut usize,
    ) -> Result<Refuted<'a>, RunError> {
        if junk.is_empty() {
            return Ok(Refuted::No);
        }
        let others: Vec<usize> = self.circuit.numbers().filter(|n| !junk.contains(n)).collect();
        let mut singles = others.clone();
        shuffle(&mut singles, rng);
        singles.truncate(SINGLES);
        let mut contexts = vec![vec![]];
        for Revealing { context, given_back } in revealing {
            let with = |more: &[usize]| [&context[..], more].concat();
            contexts.extend([context.clone(), with(given_back)]);
            contexts.extend(given_back.iter().map(|&n| with(&[n])));
        }
        contexts.extend(groups(self.circuit, self.places[0].0.context.model.config.d_head, &others));
        for i in 0..RANDOM {
            let share = if i % 2 == 0 { 0.5 } else { 0.25 };
            contexts.push(others.iter().copied().filter(|_| rng.random_bool(share)).collect());
        }
        contexts.push(self.learned(junk, &others));
        let mut attempt = |knocked_out: Vec<usize>| -> Result<Attempt<'a>, RunError> {
            if (self.out_of_time)() {
                return Ok(Attempt::End(Refuted::OutOfTime));
            }
            *tried += 1;
            let context = self.context(&knocked_out)?;
            let effect = self.effect(&context, junk)?;
            Ok(if effect > self.least { Attempt::End(Refuted::By(context)) } else { Attempt::Effect(effect) })
        };
        for context in contexts {
            if let Attempt::End(end) = attempt(context)? {
                return Ok(end);
            }
        }
        let mut greedy = Vec::new();
        for _ in 0..=GREEDY {
            let mut best: Option<(f64, usize)> = None;
            for &node in singles.iter().filter(|n| !greedy.contains(*n)) {
                match attempt([&greedy[..], &[node]].concat())? {
                    Attempt::End(end) => return Ok(end),
                    Attempt::Effect(effect) if best.is_none_or(|(most, _)| effect > most) => {
                        best = Some((effect, node));
                    }
                    Attempt::Effect(_) => (),
                }
            }
            // Where no node makes anything of the junk, none is better than another.
            let Some((_, node)) = best.filter(|(effect, _)| *effect > 0.0) else { break };
            greedy.push(node);
        }
        Ok(Refuted::No)
    }

    fn context(&self, knocked_out: &[usize]) -> Result<Context<'a>, RunError> {
        let places = if knocked_out.is_empty() { &self.places[..] } else { &self.places[..self.in_contexts] };
        let with_others = knocked_out.is_empty();
        let whole = places.iter().map(|&place| Ok((place, self.run(place, knocked_out, with_others)?)));
        Ok(Context { knocked_out: knocked_out.to_vec(), whole: whole.collect::<Result<_, RunError>>()? })
    }

    /// True if taking out nodes changes a logit difference by more than `least` somewhere, or turns a likeliest token.
    fn matters(&self, context: &Context<'a>, nodes: &[usize]) -> Result<bool, RunError> {
        Ok(self.effect(context, nodes)? > self.least)
    }

    /// Largest change of a logit difference when nodes are taken out of C∖K, at the first place where it is more than `least`,
    /// or at all; infinite where a likeliest token turns.
    fn effect(&self, context: &Context<'a>, nodes: &[usize]) -> Result<f64, RunError> {
        let mut most: f64 = 0.0;
        for (place, whole) in &context.whole {
            let run = self.run(*place, &[&context.knocked_out, nodes].concat(), context.knocked_out.is_empty())?;
            most = most.max(largest(&self.changes(&whole.differences, &run.differences)));
            if whole.leads.iter().zip(&run.leads).any(|(a, b)| *a > 0.0 && *b < 0.0 && a - b > self.least) {
                most = f64::INFINITY;
            }
            if most > self.least {
                break;
            }
        }
        Ok(most)
    }

    /// Changes of logit differences at one place that the claim is about: of a contrast, less the shift common to all that makes the
    /// largest least.
    fn changes(&self, of: &[f64], from: &[f64]) -> Vec<f64> {
        let changes: Vec<f64> = of.iter().zip(from).map(|(a, b)| a - b).collect();
        let ends = || changes.iter().fold((f64::MAX, f64::MIN), |(low, high), &c| (low.min(c), high.max(c)));
        let common = match self.claim {
            Claim::Answer => 0.0,
            Claim::Contrast => (ends().0 + ends().1) / 2.0,
        };
        changes.iter().map(|c| c - common).collect()
    }

    /// Answers of the circuit without some of its nodes, `with_others` beside the candidates.
    fn run(&self, (evaluator, scheme): Place<'_>, without: &[usize], with_others: bool) -> Result<Answers, RunError> {
        let mut out = vec![false; self.circuit.kept().len()];
        without.iter().for_each(|&n| out[n] = true);
        let kept = NodeSet::of(self.circuit.space().clone(), self.circuit.numbers().filter(|&n| !out[n]));
        if !with_others {
            let differences = evaluator.run_differences(&kept, scheme)?.differences;
            return Ok(Answers { differences, leads: vec![] });
        }
        let run = evaluator.run(&kept, scheme)?;
        let lead = |(i, log_probs): (usize, &Vec<f32>)| lead_over_others(log_probs, &evaluator.pairs[i / 2]);
        Ok(Answers { leads: run.log_probs.iter().enumerate().map(lead).collect(), differences: run.differences })
    }

    /// A context that makes most of the junk, by ascending the squared change of logit differences in coefficients of the other
    /// nodes, under means.
    fn learned(&self, junk: &[usize], others: &[usize]) -> Vec<usize> {
        const STEPS: usize = 8;
        let evaluator = self.places[0].0;
        let weights: Weights = evaluator.context.weights(self.circuit);
        let mut r = vec![0.0_f32; self.circuit.kept().len()];
        others.iter().for_each(|&n| r[n] = 0.5);
        let with_junk = |r: &[f32]| {
            let mut r = r.to_vec();
            junk.iter().for_each(|&n| r[n] = 1.0);
            r
        };
        for _ in 0..STEPS {
            let whole = with_junk(&r);
            let differences = |r: &[f32]| evaluator.partial(weights, r, AblationValue::Mean, false).differences;
            let (a, b) = (differences(&whole), differences(&r));
            let up = |s: usize, d: f64| (0.0, d - b[s]);
            let down = |s: usize, d: f64| (0.0, d - a[s]);
            let (_, of_whole) = evaluator.partial_gradient(weights, &whole, AblationValue::Mean, &up);
            let (_, of_less) = evaluator.partial_gradient(weights, &r, AblationValue::Mean, &down);
            for &node in others {
                let slope = of_whole[node] + of_less[node];
                let step = 0.15 * slope.signum() as f32 * f32::from(u8::from(slope != 0.0));
                r[node] = (r[node] + step).clamp(0.0, 1.0);
            }
        }
        others.iter().copied().filter(|&n| r[n] < 0.5).collect()
    }
}

/// Outcome of looking for a group that cancels.
enum Cancelling {
    None,
    Group(Vec<usize>),
    OutOfTime,
}

/// Outcome of looking for a context in which junk matters.
enum Refuted<'a> {
    No,
    By(Context<'a>),
    OutOfTime,
}

/// Outcome of one context: the end of the search, or the effect of the junk there.
enum Attempt<'a> {
    End(Refuted<'a>),
    Effect(f64),
}

/// Nodes by site, by attention head, by block.
fn groups(circuit: &NodeSet, d_head: usize, nodes: &[usize]) -> Vec<Vec<usize>> {
    let space = circuit.space();
    let mut groups: BTreeMap<(usize, usize, usize), Vec<usize>> = BTreeMap::new();
    for &number in nodes {
        let node = space.node(number);
        let site = space.sites().iter().position(|(site, _)| *site == node.site).expect("a site of the space");
        let head = match node.site.kind {
            SiteKind::Query | SiteKind::Key | SiteKind::Value => Some((1, node.site.layer, node.index / d_head)),
            _ => None,
        };
        for group in [Some((0, site, 0)), head, Some((2, node.site.layer, 0))].into_iter().flatten() {
            groups.entry(group).or_default().push(number);
        }
    }
    groups.into_values().collect()
}

fn largest(changes: &[f64]) -> f64 {
    changes.iter().fold(0.0, |most, c| most.max(c.abs()))
}
