//! Growth: a circuit takes in the nodes that counter-examples name, until none is found on other pairs, and gives back those that it does
//! not need.
//!
//! The model stays as it is. Attacks, knock-outs and ablations of this search share no code with those of the verifier, which judges
//! what comes out.

mod check;
mod gap;

use std::ops::ControlFlow;

use openwork_circuit::{Calibration, Claim, Growth, GrowthRound, Means, NodeSet, NodeSpace, Phase, edges};
use openwork_model::Model;
use openwork_tasks::Pair;

use self::check::{Checks, Violation};
use crate::bench::{Bench, coefficients};

/// Growth of a circuit on the training pairs of its task.
#[derive(Clone, Copy, Debug)]
pub struct Grow<'a> {
    /// The model.
    pub model: &'a Model,
    /// Means of its nodes over training data.
    pub means: &'a Means,
    /// Training pairs of the task: the first of them name nodes, the next decide.
    pub train: &'a [Pair],
    /// Claim of the circuit: agreements of a contrast are those after the best common shift.
    pub claim: Claim,
    /// Nodes to begin from.
    pub start: &'a NodeSet,
    /// Largest loss of the circuit with all else at its mean, nats per sequence; twice as much with all else zero or norms frozen.
    pub target_loss: f64,
    /// Seed of knock-outs.
    pub seed: u64,
    /// Settings.
    pub settings: &'a Growth,
}

/// Circuit that growth ended with.
#[derive(Clone, Debug)]
pub struct GrownCircuit {
    /// Its nodes.
    pub nodes: NodeSet,
    /// Reason that growth ended.
    pub stopped: Stop,
    /// State after every round.
    pub rounds: Vec<GrowthRound>,
}

/// Reason that growth ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Every check holds on the pairs that decide.
    Reached,
    /// The circuit has as many nodes as it may.
    Nodes,
    /// All rounds were made.
    Rounds,
    /// A check fails, and no slope names a node outside that could mend it.
    NothingToAdd,
}

/// State of a growth that runs.
#[derive(Clone, Copy, Debug)]
pub struct GrowthStep<'a> {
    /// Part of the search.
    pub phase: Phase,
    /// Round, from 0; in pruning the number of sets that were tried.
    pub round: usize,
    /// Nodes of the circuit.
    pub nodes: usize,
    /// The last state that was measured whole.
    pub last: Option<&'a GrowthRound>,
}

/// Callback before every check; [`ControlFlow::Break`] ends the search.
pub type OnGrowthStep<'a> = dyn FnMut(GrowthStep<'_>) -> ControlFlow<()> + 'a;

/// Reason that nothing grew.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GrowError {
    /// The caller ended the search.
    #[error("the search was ended before it had a circuit")]
    Ended,
    /// Too few training pairs.
    #[error("growth takes {expected} training pairs (pairs and check_pairs), and the task has {found}")]
    TooFewPairs {
        /// Pairs of the task.
        found: usize,
        /// Pairs that the settings ask for.
        expected: usize,
    },
    /// The model tells the prompts of too few pairs apart for a contrast.
    #[error(
        "the model answers the two prompts of a pair differently in only {found} of {pairs} training pairs: there is no contrast"
    )]
    NoContrast {
        /// Pairs with a contrast.
        found: usize,
        /// Pairs that decide.
        pairs: usize,
    },
    /// The starting circuit has no nodes, or more than the most.
    #[error("the circuit to grow has {found} nodes, and growth begins with 1 to {most} (max_nodes)")]
    Start {
        /// Nodes of the circuit.
        found: usize,
        /// Most nodes.
        most: usize,
    },
}

/// A node of the circuit is idle if nothing that it does, by slopes in three states, moves the answers by this share of the model's mean
/// logit difference: a tenth of what the verifier calls junk.
const IDLE: f64 = 1e-3;

/// Removals of single nodes in a row that may fail before pruning ends.
const MOST_FAILURES: usize = 16;

impl Grow<'_> {
    /// Grows the circuit, and prunes it where every check holds.
    ///
    /// In every round the checks are made on `check_pairs`, with attacks and knock-outs made afresh there. Each that fails is made on `pairs`,
    /// and adds the outside nodes that its slopes name (`Violation`), `add_share` of the circuit's nodes at most. Then nodes of the circuit that
    /// do nothing are dropped, each once. Once every check holds, sets of nodes of least effect are removed as long as all still do.
    ///
    /// An `on_step` that ends the search while nodes are removed leaves the circuit of the last removal.
    ///
    /// # Errors
    /// When there are too few pairs or contrasts, the start is empty or too large, or `on_step` ends the search before every check holds.
    pub fn run(&self, on_step: &mut OnGrowthStep<'_>) -> Result<GrownCircuit, GrowError> {
        let Self { model, means, settings, claim, .. } = *self;
        let space = NodeSpace::new(&model.config);
        let (pairs, all) = (settings.pairs, settings.pairs + settings.check_pairs);
        if self.train.len() < all {
            return Err(GrowError::TooFewPairs { found: self.train.len(), expected: all });
        }
        if !(1..=settings.max_nodes).contains(&self.start.len()) {
            return Err(GrowError::Start { found: self.start.len(), most: settings.max_nodes });
        }
        let bench = |pairs| Bench::new(model, &space, means, pairs, claim);
        let benches = [bench(&self.train[..pairs]), bench(&self.train[pairs..all])];
        for bench in &benches {
            let (found, pairs) = (bench.measure.counted() / 2, bench.pairs.len());
            if claim == Claim::Contrast && 2 * found < pairs {
                return Err(GrowError::NoContrast { found, pairs });
            }
        }
        let [naming, deciding] = benches;
        let mut growing = Growing { grow: self, naming, deciding, rounds: vec![], dropped: vec![false; space.len()] };
        let (nodes, stopped) = growing.grow(on_step)?;
        let nodes = match stopped {
            Stop::Reached => growing.prune(nodes, on_step),
            _ => nodes,
        };
        Ok(GrownCircuit { nodes, stopped, rounds: growing.rounds })
    }
}

/// A growth that runs.
struct Growing<'a> {
    grow: &'a Grow<'a>,
    /// Pairs on which slopes name nodes.
    naming: Bench<'a>,
    /// Pairs on which checks are made.
    deciding: Bench<'a>,
    rounds: Vec<GrowthRound>,
    /// Nodes that were dropped as idle once: they stay if they come again.
    dropped: Vec<bool>,
}

impl Growing<'_> {
    fn grow(&mut self, on_step: &mut OnGrowthStep<'_>) -> Result<(NodeSet, Stop), GrowError> {
        let Grow { settings, start, .. } = *self.grow;
        let [mut deciding, mut naming] = [(); 2].map(|()| Checks::new(self.grow));
        let mut nodes = start.clone();
        for round in 0..settings.rounds {
            let mut goes_on = |last: Option<&GrowthRound>, nodes: &NodeSet| {
                on_step(GrowthStep { phase: Phase::Grow, round, nodes: nodes.len(), last })
            };
            let last = self.rounds.last();
            let found = deciding.all(&self.deciding, &nodes, &mut || goes_on(last, &nodes)).ok_or(GrowError::Ended)?;
            self.rounds.push(self.round(Phase::Grow, &nodes, &found));
            let violations: Vec<Violation> = found.violations(self.grow);
            if violations.is_empty() {
                return Ok((nodes, Stop::Reached));
            }
            if nodes.len() >= settings.max_nodes {
                return Ok((nodes, Stop::Nodes));
            }
            let last = self.rounds.last();
            let most = ((settings.add_share * nodes.len() as f64) as usize).max(2);
            let mut added = nodes.kept().to_vec();
            for violation in violations {
                if goes_on(last, &nodes).is_break() {
                    return Err(GrowError::Ended);
                }
                let named = naming.named(&self.naming, &nodes, &violation);
                named.into_iter().take(most).for_each(|n| added[n] = true);
            }
            let more = self.capped(&nodes, &added);
            if more.len() == nodes.len() {
                return Ok((nodes, Stop::NothingToAdd));
            }
            nodes = self.without_idle(more);
        }
        Ok((nodes, Stop::Rounds))
    }

    /// The nodes with those that were added, as far as there may be so many: nodes of largest effect in the circuit's own state first.
    fn capped(&self, nodes: &NodeSet, added: &[bool]) -> NodeSet {
        let mut new: Vec<usize> = (0..added.len()).filter(|&n| added[n] && !nodes.kept()[n]).collect();
        let free = self.grow.settings.max_nodes - nodes.len();
        if new.len() > free {
            let effect = self.effects(nodes);
            new.sort_by(|&a, &b| effect[b].total_cmp(&effect[a]).then(a.cmp(&b)));
            new.truncate(free);
        }
        NodeSet::of(nodes.space().clone(), nodes.numbers().chain(new))
    }

    /// Drops nodes that do nothing in any state, each once.
    fn without_idle(&mut self, nodes: NodeSet) -> NodeSet {
        let effect = self.effects(&nodes);
        let differences = &self.naming.plain.differences;
        let least = IDLE * differences.iter().map(|d| d.abs()).sum::<f64>() / differences.len() as f64;
        let idle = |n: &usize| effect[*n] < least && !self.dropped[*n];
        let (gone, kept): (Vec<usize>, Vec<usize>) = nodes.numbers().partition(idle);
        if kept.is_empty() {
            return nodes;
        }
        gone.iter().for_each(|&n| self.dropped[n] = true);
        NodeSet::of(nodes.space().clone(), kept)
    }

    /// Effect of every node on the answers, nats: the largest magnitude, over states and directions, of the slope of the mean logit difference
    /// by its coefficient. States are the circuit with all else at its mean and zero, and the model;
    /// directions those towards the first candidate, and towards the model's answer.
    fn effects(&self, nodes: &NodeSet) -> Vec<f64> {
        let bench = &self.naming;
        let mut most = vec![0.0_f64; nodes.kept().len()];
        let states = [(0.0, true), (0.0, false), (1.0, true)];
        for (outside, at_mean) in states {
            let ablation = if at_mean { bench.mean() } else { openwork_circuit::Ablation::Zero };
            let r = coefficients(nodes, outside);
            for towards_answer in [true, false] {
                let side = |i: usize| if towards_answer { bench.measure.sign(i) } else { 1.0 };
                let slopes = |d: &[f64]| (0..d.len()).map(|i| (0.0, side(i))).collect::<Vec<_>>();
                let slope = bench.gradient(&r, ablation, &slopes).by_coefficient;
                most.iter_mut().zip(slope).for_each(|(m, g)| *m = m.max(g.abs()));
            }
        }
        most
    }

    /// Removes the nodes of least effect, a fifth of them at first and fewer where a check fails, as long as every check holds.
    fn prune(&mut self, mut nodes: NodeSet, on_step: &mut OnGrowthStep<'_>) -> NodeSet {
        let mut checks = Checks::new(self.grow);
        let mut needed = vec![false; nodes.kept().len()];
        let (mut at_once, mut failures, mut tried) = ((nodes.len() / 5).max(1), 0, 0);
        while failures < MOST_FAILURES {
            let effect = self.effects(&nodes);
            let mut gone: Vec<usize> = nodes.numbers().filter(|&n| !needed[n]).collect();
            gone.sort_by(|&a, &b| effect[a].total_cmp(&effect[b]).then(a.cmp(&b)));
            gone.truncate(at_once);
            if gone.is_empty() || gone.len() == nodes.len() {
                break;
            }
            at_once = gone.len();
            let fewer = NodeSet::of(nodes.space().clone(), nodes.numbers().filter(|n| !gone.contains(n)));
            let (last, round) = (self.rounds.last(), tried);
            let mut goes_on = || on_step(GrowthStep { phase: Phase::Prune, round, nodes: nodes.len(), last });
            // Every check holds for the nodes at hand: whoever ends the search has these.
            let Some(found) = checks.until_one_fails(&self.deciding, &fewer, &mut goes_on) else { break };
            tried += 1;
            match found {
                Some(found) => {
                    self.rounds.push(self.round(Phase::Prune, &fewer, &found));
                    (nodes, failures) = (fewer, 0);
                }
                None if at_once == 1 => {
                    needed[gone[0]] = true;
                    failures += 1;
                }
                None => at_once /= 2,
            }
        }
        nodes
    }

    fn round(&self, phase: Phase, nodes: &NodeSet, found: &check::Found) -> GrowthRound {
        GrowthRound {
            phase,
            nodes: nodes.len(),
            edges: edges(self.grow.model, nodes).len(),
            loss: found.loss,
            agreements: found.agreements.clone(),
            gap: found.gap,
        }
    }
}

/// Calibration of a circuit on the pairs of a bench, with a scale above 0.
fn calibration(bench: &Bench<'_>, nodes: &NodeSet) -> Calibration {
    bench.alone(nodes, bench.mean()).calibrate()
}

#[cfg(test)]
mod tests;
