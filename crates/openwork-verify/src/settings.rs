//! Settings of a verification. Every threshold has its reason beside it.

use serde::{Deserialize, Serialize};

/// Numbers the verdict depends on. They travel in the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Seed of the bootstrap and of the random node sets.
    pub seed: u64,
    /// Random node sets of each kind, at least 100. With 200 the smallest p-value is 1/201.
    pub random_sets: usize,
    /// Pairs that random sets are tried on. The circuit is compared with them on the same pairs, so that few do.
    pub random_pairs: usize,
    /// Bootstrap resamples.
    pub bootstrap: usize,
    /// Fewest held-out pairs, and pairs of held-out templates: with 40, an accuracy of 1 has the 95 % lower end 0.912; with fewer than 36 no
    /// circuit could show 0.9.
    pub min_pairs: usize,
    /// The model must be better than chance at this level, or there is no task to explain.
    pub task_p: f64,
    /// Level of the random-set tests, after Holm's correction.
    pub alpha: f64,
    /// The circuit's loss may be this many times the target: the target was met on the pairs the circuit was
    /// selected on, and some optimism is owed. 0.15 nats allow 0.30, about the loss of a circuit that is
    /// right 91 times in 100 and knows it, in line with `min_accuracy`.
    pub loss_factor: f64,
    /// Whatever the target, the loss must stay below this (nats): half of chance, so that no generous target
    /// lets a circuit pass that lost more than half a bit.
    pub max_loss: f64,
    /// Lower end of the circuit's accuracy on held-out pairs.
    pub min_accuracy: f64,
    /// Lower end of how often circuit and model prefer the same candidate on held-out pairs.
    pub min_agreement: f64,
    /// The same two on held-out templates: halfway between chance and certainty, since other templates may
    /// rightly use other nodes too, yet a circuit at 0.5 there explains nothing.
    pub min_template: f64,
    /// Ablating the circuit must take at least this share of the model's loss reduction `ln 2 − loss`: with less,
    /// the rest of the model does most of the task without it.
    pub min_necessity: f64,
    /// KL(model ‖ circuit) over the vocabulary may be this share of KL(model ‖ nothing kept): of what the model knows beyond the
    /// text's means, a circuit of half knows more than it lacks.
    pub max_divergence: f64,
    /// A normalised faithfulness needs a denominator of so many standard errors; below, it is undefined.
    pub min_denominator_se: f64,
    /// And it must be at least this share of the model's loss reduction `ln 2 − loss`: a tiny denominator can be
    /// precise.
    pub min_denominator_share: f64,
    /// A node is active if its mean deviation from its mean is at least this share of the largest at its site.
    /// Only nodes that AbsTopK never selects, and dead neurons, fall far below.
    pub active_share: f64,
    /// Random sets may be smaller than the circuit by this share before the comparison is dropped.
    pub max_shortage: f64,
    /// A circuit that keeps more than this share of the active nodes is called trivial.
    pub max_share: f64,
    /// A node must be worth this share of the model's loss reduction, in the circuit, to be needed: Wang et al. 2023 ask
    /// for 1 % of the logit difference.
    pub min_worth: f64,
    /// So many of the circuit's nodes may not be seen to matter: what only rare inputs need cannot be told from what
    /// none needs by a few hundred of them.
    pub max_needless: f64,
    /// Knocking the same nodes out of circuit and model may part their losses by at most this share of the model's loss
    /// reduction: beyond a half, circuit and model are nearer to not sharing the mechanism than to sharing it.
    pub max_incompleteness: f64,
    /// Nodes outside that an adversary may ablate, as a share of the circuit's nodes, without turning the answers.
    pub adversary_share: f64,
    /// Steps of an attack from each of its starts.
    pub adversary_steps: usize,
    /// Random starts of an attack, and restarts from what it found before.
    pub adversary_restarts: usize,
    /// Runs in which large sets of nodes are cut down to those that turn answers.
    pub adversary_runs: usize,
    /// A rival that shares at most this part of the circuit's nodes makes it one of several.
    pub rival_overlap: f64,
    /// Steps of the search for a rival.
    pub rival_steps: usize,
    /// A circuit is equivalent to the model if their mean losses differ by less than this (nats), and KL stays below
    /// it: a tenth of a nat is a seventh of what there is to know about a binary answer.
    pub equivalence_margin: f64,
    /// The circuit's logits may spread this many times as much under its own norms as under the model's: with more, most
    /// of its answer comes from what it leaves out.
    pub max_amplification: f64,
    /// Inputs that a search for the worst tries.
    pub inputs: usize,
    /// Tokens that are tried in places where prompts may have others.
    pub tokens: usize,
    /// Causal scrubbing must leave this share of what the model gains over nothing: more than it takes.
    pub min_scrubbed: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            random_sets: 200,
            random_pairs: 64,
            bootstrap: 2000,
            min_pairs: 40,
            task_p: 0.01,
            alpha: 0.05,
            loss_factor: 2.0,
            max_loss: std::f64::consts::LN_2 / 2.0,
            min_accuracy: 0.9,
            min_agreement: 0.9,
            min_template: 0.75,
            min_necessity: 0.5,
            max_divergence: 0.5,
            min_denominator_se: 5.0,
            min_denominator_share: 0.1,
            active_share: 0.01,
            max_shortage: 0.1,
            max_share: 0.5,
            min_worth: 0.01,
            max_needless: 0.1,
            max_incompleteness: 0.5,
            adversary_share: 0.25,
            adversary_steps: 4,
            adversary_restarts: 4,
            adversary_runs: 384,
            rival_overlap: 0.5,
            rival_steps: 120,
            equivalence_margin: 0.1,
            max_amplification: 2.0,
            inputs: 512,
            tokens: 2048,
            min_scrubbed: 0.5,
        }
    }
}

impl Settings {
    /// Largest loss a circuit found for `target_loss` may have, in nats.
    pub fn loss_limit(&self, target_loss: f64) -> f64 {
        (self.loss_factor * target_loss).min(self.max_loss)
    }

    /// Fails on settings under which a verdict would mean nothing.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        if self.random_sets < LEAST_RANDOM_SETS {
            return Err(SettingsError::RandomSets { found: self.random_sets, least: LEAST_RANDOM_SETS });
        }
        if self.random_pairs == 0 || self.bootstrap < 200 || self.min_pairs < 2 {
            return Err(SettingsError::TooSmall);
        }
        let numbers = [
            self.task_p,
            self.alpha,
            self.loss_factor,
            self.max_loss,
            self.min_accuracy,
            self.min_agreement,
            self.min_template,
            self.min_necessity,
            self.max_divergence,
            self.min_denominator_se,
            self.min_denominator_share,
            self.active_share,
            self.max_shortage,
            self.max_share,
            self.min_worth,
            self.max_needless,
            self.max_incompleteness,
            self.adversary_share,
            self.rival_overlap,
            self.equivalence_margin,
            self.min_scrubbed,
            self.max_amplification,
        ];
        if numbers.iter().any(|x| !x.is_finite() || *x < 0.0) {
            return Err(SettingsError::Threshold);
        }
        Ok(())
    }
}

/// Fewer random sets have no p-value below 1 %.
const LEAST_RANDOM_SETS: usize = 100;

/// Settings under which a verdict would mean nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingsError {
    /// Too few random sets for a small p-value.
    #[error("{found} random sets are too few, at least {least} are needed")]
    RandomSets {
        /// Random sets of each kind.
        found: usize,
        /// Fewest.
        least: usize,
    },
    /// Too few pairs or resamples.
    #[error("random_pairs, bootstrap or min_pairs is too small (1, 200, 2)")]
    TooSmall,
    /// A threshold that nothing can be compared with.
    #[error("a threshold is negative or not finite")]
    Threshold,
}
