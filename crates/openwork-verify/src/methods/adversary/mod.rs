//! Adversaries: partial ablations of nodes outside the circuit that turn the model's answers.
//!
//! A circuit is said to be what matters, so ablating a few *other* nodes, in part and alike on all inputs, must not turn the
//! answers. An unbounded adversary turns the answers of nearly every circuit ever found (Bushnaq in the discussion of Drori
//! 2026), random and true ones alike; so it has a budget and one scheme for all inputs, and is also tried on random circuits.
//!
//! An attack maximises an [`Objective`]: the loss of the model's answers as they are, against circuits that claim the answer;
//! against circuits that claim the contrast, what of it no common shift repairs.
//!
//! A search that follows slopes does not see nodes that do something only together. So the adversary also tries large
//! random sets of nodes and cuts those that turn answers down to a few ([`sets`]), and groups of nodes as one ([`units`]).

mod objective;
mod prompts;
mod sets;
mod units;

pub(crate) use objective::Objective;
pub(crate) use prompts::{per_pair, per_prompt};

use openwork_circuit::{Calibration, Claim, NodeSet};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    methods::random_sets::Subset,
    run::{
        context::Weights,
        evaluator::Evaluator,
        measures::{Measured, best_shift},
        scheme::AblationValue,
        shift_free::ToAnswers,
    },
    settings::Settings,
    stats::intervals::{Estimate, Resamples, fraction},
    streams::Stream,
};

/// The worst partial ablation of nodes outside a circuit that was found within a budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attack {
    /// The nodes that were safe.
    pub on: Subset,
    /// Freedom of the adversary.
    pub attacker: Attacker,
    /// Search that found it.
    pub search: Search,
    /// Nodes that may be ablated: the sum of `1 − r`.
    pub budget: f64,
    /// KL(model ‖ attacked) over the candidates on pairs that the attack was not made on, nats.
    pub kl: Estimate,
    /// Fraction of those sequences on which it prefers the model's candidate.
    pub agreement: Estimate,
    /// The same after a common shift of its logit difference. Where this is high and `agreement` low, the attack moves the threshold
    /// between the two answers; where both are low, it destroys what tells the two prompts of a pair apart. In a report on a
    /// circuit that claims the answer the shift is the one that suits the task best; in one on a contrast the one that suits
    /// the model's answers best, and only pairs to whose prompts the model gives different answers count.
    pub agreement_shifted: Estimate,
    /// Nodes it ablates most, and to what part.
    pub nodes: Vec<(String, f32)>,
}

/// Freedom of an adversary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attacker {
    /// Ablates nodes within the budget, alike on all prompts.
    OneScheme,
    /// Ablates one group of nodes as a whole, alike on all prompts.
    Group {
        /// Property that the nodes share.
        name: String,
    },
    /// Ablates nodes within the budget, on every prompt others; judged on the prompts that it was made on.
    PerPrompt,
    /// Ablates nodes within the budget, on every pair others, of which a common shift of its two prompts is no part; judged likewise.
    PerPair,
}

impl std::fmt::Display for Attacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OneScheme => f.write_str("one scheme for all prompts"),
            Self::Group { name } => write!(f, "a group: {name}"),
            Self::PerPrompt => f.write_str("a scheme for every prompt"),
            Self::PerPair => f.write_str("a scheme for every pair"),
        }
    }
}

/// Search that found an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// None did: nothing is ablated.
    Nothing,
    /// Slopes of the answers.
    Slopes,
    /// Single knock-outs.
    KnockOuts,
    /// Activity of the nodes.
    Activity,
    /// Random starts.
    Random,
    /// Restarts from what all earlier ones found.
    Restarts,
    /// Large sets, cut down.
    Sets,
    /// Groups of nodes, as they are.
    Groups,
}

impl std::fmt::Display for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "no search",
            Self::Slopes => "slopes",
            Self::KnockOuts => "single knock-outs",
            Self::Activity => "activity",
            Self::Random => "random starts",
            Self::Restarts => "restarts",
            Self::Sets => "large sets cut down",
            Self::Groups => "groups as they are",
        })
    }
}

/// Coefficients r (1 = whole) of all nodes, and what they do to the pairs that the search is made on.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub r: Vec<f32>,
    pub search: Search,
    pub effect: Effect,
}

/// Fraction of answers turned, then mean loss of the model's answers; both as the objective has them.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Effect {
    pub turned: f64,
    pub loss: f64,
}

/// Effort of an adversary.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Steps from each start.
    pub steps: usize,
    /// Random starts, and as many restarts.
    pub restarts: usize,
    /// Runs for sets of nodes.
    pub runs: usize,
}

impl Effort {
    pub fn of(settings: &Settings) -> Self {
        Self { steps: settings.adversary_steps, restarts: settings.adversary_restarts, runs: settings.adversary_runs }
    }
}

/// An adversary that ablates by means. What it finds at one budget it keeps for the next.
pub(crate) struct Adversary<'a> {
    evaluator: &'a Evaluator<'a>,
    safe: &'a NodeSet,
    effort: Effort,
    out_of_time: &'a dyn Fn() -> bool,
    rng: ChaCha8Rng,
    objective: Objective,
    /// Slopes at the model, with respect to r: against the margins, and of the mean logit difference.
    against: Vec<f64>,
    upwards: Vec<f64>,
    /// Slopes, likewise, of differences between groups of prompts, where the objective has them.
    apart: Vec<Vec<f64>>,
    /// Steepest slope of the loss anywhere so far, by node; below zero where ablation raises it.
    steepest: Vec<f64>,
    /// Nodes outside that are not still.
    live: Vec<usize>,
    /// Sets that turn answers, none of whose nodes is needless.
    small_sets: Vec<Vec<usize>>,
    best: Option<Candidate>,
}

const VALUE: AblationValue = AblationValue::Mean;

impl<'a> Adversary<'a> {
    pub fn new(
        evaluator: &'a Evaluator<'a>,
        safe: &'a NodeSet,
        (effort, objective): (Effort, Objective),
        seed: u64,
        out_of_time: &'a dyn Fn() -> bool,
    ) -> Self {
        let whole = vec![1.0_f32; safe.kept().len()];
        let gradient = |slope: &(dyn Fn(usize) -> f64 + Sync)| {
            evaluator.partial_gradient(Weights::Model, &whole, VALUE, &|s, _| (0.0, slope(s))).1
        };
        let against = gradient(&|s| -objective.sign(s));
        let upwards = gradient(&|_| 1.0);
        let apart = objective.directions(&evaluator.pairs).iter().map(|d| gradient(&|s| d[s])).collect();
        let live = |n: &usize| !safe.kept()[*n] && evaluator.activity.deviation[*n] > 0.0;
        Self {
            live: (0..whole.len()).filter(live).collect(),
            steepest: against.clone(),
            rng: Stream::Adversary.rng(seed),
            small_sets: vec![],
            best: None,
            evaluator,
            safe,
            effort,
            out_of_time,
            objective,
            against,
            upwards,
            apart,
        }
    }

    /// The worst found of the attacks that ablate at most `budget = Σ(1 − r)` nodes outside `safe`: fewest answers left, then
    /// largest loss. False beside it if time ran out.
    ///
    /// From every start it climbs the mean of `−log p(the model's answer)` by Frank and Wolfe's method, whose every step goes
    /// towards the best vertex of the budget's polytope: whole nodes. At the model the loss of sure answers has no slope, and
    /// what moves all answers one way has none in the mean; so there are several starts: slopes against the margins, against
    /// one answer and against the other; under a shift-free objective, of some prompts against the rest; the nodes that cost most when they are knocked out one by one; the most active
    /// nodes; random ones; and again what all of these found, with random parts exchanged.
    pub fn attack(&mut self, budget: f64) -> (Candidate, bool) {
        let downwards: Vec<f64> = self.upwards.iter().map(|g| -g).collect();
        let mut starts = vec![
            (Search::Slopes, self.against.clone()),
            (Search::Slopes, self.upwards.clone()),
            (Search::Slopes, downwards),
            (Search::KnockOuts, self.knock_outs()),
            (Search::Activity, self.by_activity()),
        ];
        starts.extend(self.apart.iter().map(|slopes| (Search::Slopes, slopes.clone())));
        let nothing = self.candidate(Search::Nothing, vec![1.0; self.safe.kept().len()]);
        let mut best = self.best.take().unwrap_or(nothing);
        for set in self.small_sets.clone().into_iter().filter(|set| set.len() as f64 <= budget) {
            let found = self.candidate(Search::Sets, self.ablating(&set));
            keep_worse(&mut best, found);
        }
        for restart in 0..2 * self.effort.restarts {
            let search = if restart < self.effort.restarts { Search::Random } else { Search::Restarts };
            starts.push((search, vec![]));
        }
        let mut finished = true;
        for (search, scores) in starts {
            if (self.out_of_time)() {
                finished = false;
                break;
            }
            let scores = match search {
                Search::Random => self.random_scores(),
                Search::Restarts => self.remembered(&best),
                _ => scores,
            };
            let found = self.climb(&scores, budget);
            let found = self.candidate(search, found);
            keep_worse(&mut best, found);
        }
        self.best = Some(best.clone());
        (best, finished)
    }

    /// The coefficients of largest loss on the way from the vertex of some scores.
    fn climb(&mut self, scores: &[f64], budget: f64) -> Vec<f32> {
        let evaluator = self.evaluator;
        let mut ablated = vertex(scores, self.safe, budget);
        let mut best = (f64::NEG_INFINITY, vec![]);
        for step in 0..=self.effort.steps {
            let r = coefficients(&ablated);
            let (loss, gradient) = self.objective.gradient(evaluator, &r);
            if loss > best.0 {
                best = (loss, r);
            }
            self.steepest.iter_mut().zip(&gradient).for_each(|(m, g)| *m = m.min(*g));
            let towards = 2.0 / (step as f64 + 3.0);
            let vertex = vertex(&gradient, self.safe, budget);
            ablated.iter_mut().zip(vertex).for_each(|(a, v)| *a += towards * (v - *a));
        }
        best.1
    }

    fn candidate(&self, search: Search, r: Vec<f32>) -> Candidate {
        Candidate { effect: self.effect(&r), r, search }
    }

    fn effect(&self, r: &[f32]) -> Effect {
        self.objective.effect(&self.evaluator.partial(Weights::Model, r, VALUE, false), &self.evaluator.model)
    }

    /// Coefficients that ablate these nodes to the full.
    fn ablating(&self, set: &[usize]) -> Vec<f32> {
        let mut r = vec![1.0; self.safe.kept().len()];
        set.iter().for_each(|&n| r[n] = 0.0);
        r
    }

    /// Minus the loss without each of the few nodes of largest slopes, 0 for all others.
    fn knock_outs(&self) -> Vec<f64> {
        const TRIED: usize = 32;
        let slope = |n: usize| self.against[n].abs() + self.upwards[n].abs();
        let mut order = self.live.clone();
        order.sort_by(|&x, &y| slope(y).total_cmp(&slope(x)).then(x.cmp(&y)));
        let mut losses = vec![0.0; self.against.len()];
        for &node in order.iter().take(TRIED).filter(|&&n| slope(n) > 0.0) {
            losses[node] = -self.effect(&self.ablating(&[node])).loss;
        }
        losses
    }

    /// Minus every node's activity, as a share of the largest at its site.
    fn by_activity(&self) -> Vec<f64> {
        let deviation = &self.evaluator.activity.deviation;
        let mut scores = vec![0.0; deviation.len()];
        for (_, range) in self.safe.space().sites() {
            let largest = deviation[range.clone()].iter().fold(1e-300_f64, |m, &d| m.max(d));
            range.clone().for_each(|n| scores[n] = -deviation[n] / largest);
        }
        scores
    }

    fn random_scores(&mut self) -> Vec<f64> {
        let mut scores = vec![0.0; self.against.len()];
        for &n in &self.live {
            scores[n] = -self.rng.random_range(0.5..1.0);
        }
        scores
    }

    /// The steepest slopes so far, by random factors, and first of all about half of what the best attack ablates.
    fn remembered(&mut self, best: &Candidate) -> Vec<f64> {
        let steepest = self.steepest.iter().fold(0.0_f64, |m, g| m.min(*g));
        let one = |(n, slope): (usize, &f64)| {
            let (factor, keep) = (self.rng.random_range(0.2..1.0), self.rng.random_bool(0.5));
            if best.r[n] < 0.5 && keep { 2.0 * steepest - 1.0 } else { slope * factor }
        };
        self.steepest.iter().enumerate().map(one).collect()
    }
}

fn keep_worse(best: &mut Candidate, other: Candidate) {
    if other.effect > best.effect {
        *best = other;
    }
}

fn coefficients(ablated: &[f64]) -> Vec<f32> {
    ablated.iter().map(|a| (1.0 - a) as f32).collect()
}

/// Whole nodes outside `safe` whose ablation raises the objective most (the gradient is with respect to r), the last
/// one in part if the budget is no whole number.
fn vertex(gradient: &[f64], safe: &NodeSet, budget: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..gradient.len()).filter(|&n| !safe.kept()[n] && gradient[n] < 0.0).collect();
    order.sort_by(|&a, &b| gradient[a].total_cmp(&gradient[b]).then(a.cmp(&b)));
    let mut vertex = vec![0.0; gradient.len()];
    let mut left = budget;
    for node in order {
        if left <= 0.0 {
            break;
        }
        vertex[node] = left.min(1.0);
        left -= 1.0;
    }
    vertex
}

/// An attack as it is judged on pairs that it was not made on.
pub(crate) struct Outcome {
    pub attack: Attack,
    /// Its run as it is.
    pub measured: Measured,
    /// Agreement after the common shift that suits the model's answers best, of pairs with a contrast; none without such pairs.
    pub contrast: Option<Estimate>,
    /// That shift.
    pub shift: Calibration,
}

/// Effect of an attack on pairs that it was not made on.
pub(crate) fn outcome_of(
    (on, attacker, budget): (Subset, Attacker, f64),
    (claim, found): (Claim, &Candidate),
    evaluator: &Evaluator<'_>,
    resamples: &Resamples,
) -> Outcome {
    let run = evaluator.partial(Weights::Model, &found.r, VALUE, true);
    let measured = Measured::new(&run, Calibration::NONE, &evaluator.model);
    let to_answers = ToAnswers::new(&run, 1.0, &evaluator.model);
    let contrast = to_answers.agreement();
    let to_task = || fraction(&Measured::new(&run, best_shift(&run), &evaluator.model).agree);
    let attack = Attack {
        on,
        attacker,
        search: found.search,
        budget,
        kl: resamples.mean(&measured.kl_candidates),
        agreement: fraction(&measured.agree),
        agreement_shifted: contrast.filter(|_| claim == Claim::Contrast).unwrap_or_else(to_task),
        nodes: most_ablated(evaluator, &found.r),
    };
    Outcome { attack, measured, contrast, shift: to_answers.calibration }
}

/// The dozen nodes that are ablated most, by name, and the part that is left of each.
fn most_ablated(evaluator: &Evaluator<'_>, r: &[f32]) -> Vec<(String, f32)> {
    let space = evaluator.space();
    let mut nodes: Vec<(usize, f32)> = r.iter().copied().enumerate().filter(|(_, r)| *r < 1.0).collect();
    nodes.sort_by(|a, b| a.1.total_cmp(&b.1));
    nodes.iter().take(12).map(|&(n, r)| (space.node(n).to_string(), r)).collect()
}
