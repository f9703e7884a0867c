//! Search over the settings of learned masks: for one model and one task, the settings that give the fewest edges.
//!
//! Source: Gao et al. 2025, A.5 (hundreds of pruning runs a task, by CARBS); ranges of Drori's replication. Differs from both: settings are drawn by
//! tree-structured Parzen estimators, since CARBS has no implementation in Rust.

mod space;

use std::ops::ControlFlow;

use openwork_circuit::{LearnedMasks, NodeSet, NodeSpace, Sampler};
use rayon::prelude::*;

use self::space::{centre, draw};
use crate::{Pruned, Search, Settings, prune::Attempt};

/// Trials whose settings are drawn before any of them is run: threads work on them, and their number changes nothing.
const AT_ONCE: usize = 4;

/// Circuits of more nodes than this, and than twice those of the best so far, are not freed of single nodes that they do not need: every
/// node is a run, and they have lost.
const HOPELESS: usize = 64;

/// One search with settings of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Settings.
    pub masks: LearnedMasks,
    /// True if the circuit is within the target.
    pub reached: bool,
    /// Its calibrated loss on the selection pairs, nats per sequence.
    pub loss: f64,
    /// Its nodes.
    pub nodes: NodeSet,
    /// Number of its edges.
    pub edges: usize,
}

impl Trial {
    /// Order of trials, the best one first: those that reach the target by edges, then by nodes; after them the others, by loss.
    pub fn rank(&self) -> (bool, usize, usize, u64) {
        let by_loss = (self.loss.max(0.0) * 1e12) as u64;
        match self.reached {
            true => (false, self.edges, self.nodes.len(), by_loss),
            false => (true, 0, 0, by_loss),
        }
    }
}

/// The best of some trials and its number; the first of equals.
pub fn best_trial(trials: &[Trial]) -> Option<(usize, &Trial)> {
    trials.iter().enumerate().min_by_key(|(_, trial)| trial.rank())
}

/// Place of a search among those of a tuning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TuneStep {
    /// Number of the search, from 0.
    pub trial: usize,
    /// Step of it.
    pub step: usize,
    /// Steps that it has.
    pub steps: usize,
}

/// Observer of all searches at once, called from several threads; its `Break` ends the tuning.
pub type OnTuneStep<'a> = dyn Fn(TuneStep) -> ControlFlow<()> + Sync + 'a;

/// A search over settings.
#[derive(Clone, Copy)]
pub struct Tuning<'a> {
    /// Search whose settings are tuned: its target, its seed, and what the space leaves as it is.
    pub search: Search<'a>,
    /// Sampler of the settings.
    pub sampler: Sampler,
    /// Number of trials.
    pub runs: usize,
}

impl Tuning<'_> {
    /// Goes on from `trials`, those of a tuning that was ended, up to the number of runs. The first trial has the centre of the space; settings of trial n
    /// follow from the seed, n, and the trials of the rounds of four before that of n, so that a tuning that was ended
    /// and goes on has the trials of one that was not, whatever the number of threads. `saved` is given all trials after every round and returns
    /// an error that ends the tuning. A round that `on_step` ends is given up.
    ///
    /// # Errors
    /// Those of `saved`.
    pub fn run<E>(
        &self,
        mut trials: Vec<Trial>,
        on_step: &OnTuneStep<'_>,
        saved: &mut dyn FnMut(&[Trial]) -> Result<(), E>,
    ) -> Result<Vec<Trial>, E> {
        while trials.len() < self.runs {
            let (from, to) = (trials.len(), (trials.len() / AT_ONCE * AT_ONCE + AT_ONCE).min(self.runs));
            let known = &trials[..from / AT_ONCE * AT_ONCE];
            let most = best_trial(known).filter(|(_, best)| best.reached).map(|(_, best)| 2 * best.nodes.len());
            let most = most.unwrap_or(0).max(HOPELESS);
            let round: Vec<LearnedMasks> = (from..to).map(|number| self.settings(number, known)).collect();
            let found: Option<Vec<Trial>> = round
                .into_par_iter()
                .enumerate()
                .map(|(i, masks)| self.trial(from + i, masks, most, on_step))
                .collect();
            let Some(found) = found else { break };
            trials.extend(found);
            saved(&trials)?;
        }
        Ok(trials)
    }

    /// Settings of a trial.
    fn settings(&self, number: usize, known: &[Trial]) -> LearnedMasks {
        let Settings { seed, masks, .. } = self.search.settings;
        match number {
            0 => centre(masks),
            _ => draw(masks, self.sampler, (*seed, number), known),
        }
    }

    fn trial(&self, number: usize, masks: LearnedMasks, most: usize, on_step: &OnTuneStep<'_>) -> Option<Trial> {
        let steps = masks.steps;
        let settings = Settings { masks: masks.clone(), ..self.search.settings.clone() };
        let search = Search { settings: &settings, ..self.search };
        let mut step = |p: crate::Progress| on_step(TuneStep { trial: number, step: p.step, steps });
        let Pruned { circuit, loss, reached, .. } = search.attempt(Attempt { most }, &mut step)?;
        let edges = circuit.edges().len();
        Some(Trial { masks, reached, loss, nodes: circuit.nodes().clone(), edges })
    }

    /// The circuit of a trial, measured anew.
    ///
    /// # Panics
    /// When the trial is of a model of another shape.
    pub fn circuit(&self, trial: &Trial) -> Pruned {
        assert_eq!(trial.nodes.space(), &NodeSpace::new(&self.search.model.config), "a trial of this model");
        let settings = Settings { masks: trial.masks.clone(), ..self.search.settings.clone() };
        Search { settings: &settings, ..self.search }.measured(trial.nodes.clone())
    }
}

#[cfg(test)]
mod tests;
