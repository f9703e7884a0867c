//! Settings of a verification. Every threshold has its reason beside it.

use serde::{Deserialize, Serialize};

/// Numbers the verdict depends on. They travel in the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Seed of the bootstrap and of the random node sets.
    pub seed: u64,
    /// Loss that a circuit must reach, nats per sequence: the paper's. It is the verifier's, whatever a circuit file says it was
    /// found for; control searches are asked for the same.
    pub target_loss: f64,
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
    /// The circuit's loss may be this many times [`Settings::target_loss`]: a target was met on the pairs the circuit was
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
    /// Restarts of a control search at least. A circuit whose own search had more gives its controls as many.
    pub control_restarts: usize,
    /// Steps of each restart at least, likewise: a few hundred find circuits of tens of edges.
    pub control_steps: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            target_loss: 0.15,
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
            control_restarts: 2,
            control_steps: 300,
        }
    }
}

impl Settings {
    /// Largest loss that a circuit may have, in nats.
    pub fn loss_limit(&self) -> f64 {
        (self.loss_factor * self.target_loss).min(self.max_loss)
    }

    /// The settings that are not the defaults.
    pub fn changed(&self) -> Vec<ChangedSetting> {
        self.unlike_defaults(|_, _, _| true)
    }

    /// The settings that are looser than the defaults, by the side that is looser of each.
    pub fn loosened(&self) -> Vec<ChangedSetting> {
        self.unlike_defaults(|value, default, side| match side {
            Looser::Above => value > default,
            Looser::Below => value < default,
            Looser::Neither => false,
        })
    }

    fn unlike_defaults(&self, wanted: impl Fn(f64, f64, Looser) -> bool) -> Vec<ChangedSetting> {
        let both = numbers(self).into_iter().zip(numbers(&Self::default()));
        let changed =
            both.map(|((name, value, side), (_, default, _))| (ChangedSetting { name, default, value }, side));
        let unlike = |(c, side): &(ChangedSetting, Looser)| c.value != c.default && wanted(c.value, c.default, *side);
        changed.filter(unlike).map(|(changed, _)| changed).collect()
    }

    /// Fails on settings under which a verdict would mean nothing.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.random_sets < LEAST_RANDOM_SETS {
            return Err(SettingsError::RandomSets { found: self.random_sets, least: LEAST_RANDOM_SETS });
        }
        if self.random_pairs == 0 || self.bootstrap < 200 || self.min_pairs < 2 {
            return Err(SettingsError::TooSmall);
        }
        if self.control_restarts == 0 || self.control_steps == 0 {
            return Err(SettingsError::NoControlSearch);
        }
        let numbers = [
            self.target_loss,
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

/// A setting that is not its default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangedSetting {
    /// Its name.
    pub name: &'static str,
    /// Its default.
    pub default: f64,
    /// Its value.
    pub value: f64,
}

impl std::fmt::Display for ChangedSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |x: f64| (x * 1e4).round() / 1e4;
        write!(f, "{} {} -> {}", self.name, short(self.default), short(self.value))
    }
}

/// Values of a setting that let more circuits pass than its default does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looser {
    Above,
    Below,
    /// It moves no threshold: the seed, and numbers of draws that only make a p-value or an interval finer.
    Neither,
}

/// Every setting by name, with its value and the side on which it is looser.
fn numbers(s: &Settings) -> Vec<(&'static str, f64, Looser)> {
    use Looser::{Above, Below, Neither};
    vec![
        ("seed", s.seed as f64, Neither),
        ("target_loss", s.target_loss, Above),
        ("random_sets", s.random_sets as f64, Neither),
        // Fewer pairs make intervals wider, and completeness passes what it cannot tell.
        ("random_pairs", s.random_pairs as f64, Below),
        ("bootstrap", s.bootstrap as f64, Neither),
        ("min_pairs", s.min_pairs as f64, Below),
        ("task_p", s.task_p, Above),
        ("alpha", s.alpha, Above),
        ("loss_factor", s.loss_factor, Above),
        ("max_loss", s.max_loss, Above),
        ("min_accuracy", s.min_accuracy, Below),
        ("min_agreement", s.min_agreement, Below),
        ("min_template", s.min_template, Below),
        ("min_necessity", s.min_necessity, Below),
        ("max_divergence", s.max_divergence, Above),
        ("min_denominator_se", s.min_denominator_se, Below),
        ("min_denominator_share", s.min_denominator_share, Below),
        // The more is called idle, the weaker are random sets of active nodes.
        ("active_share", s.active_share, Above),
        ("max_shortage", s.max_shortage, Above),
        ("max_share", s.max_share, Above),
        ("min_worth", s.min_worth, Below),
        ("max_needless", s.max_needless, Above),
        ("max_incompleteness", s.max_incompleteness, Above),
        ("adversary_share", s.adversary_share, Below),
        ("adversary_steps", s.adversary_steps as f64, Below),
        ("adversary_restarts", s.adversary_restarts as f64, Below),
        ("adversary_runs", s.adversary_runs as f64, Below),
        ("rival_overlap", s.rival_overlap, Below),
        ("rival_steps", s.rival_steps as f64, Below),
        ("equivalence_margin", s.equivalence_margin, Above),
        ("max_amplification", s.max_amplification, Above),
        ("inputs", s.inputs as f64, Below),
        ("tokens", s.tokens as f64, Below),
        ("min_scrubbed", s.min_scrubbed, Below),
        ("control_restarts", s.control_restarts as f64, Below),
        ("control_steps", s.control_steps as f64, Below),
    ]
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
    /// A control search of no steps, which finds nothing.
    #[error("control_restarts and control_steps must be 1 at least: a search of no steps is no control")]
    NoControlSearch,
    /// A threshold that nothing can be compared with.
    #[error("a threshold is negative or not finite")]
    Threshold,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_side_that_is_looser() {
        let serde_json::Value::Object(fields) = serde_json::to_value(Settings::default()).unwrap() else { panic!() };
        let mut listed: Vec<&str> = numbers(&Settings::default()).iter().map(|n| n.0).collect();
        let mut known: Vec<&str> = fields.keys().map(String::as_str).collect();
        listed.sort_unstable();
        known.sort_unstable();
        assert_eq!(listed, known);
        assert!(Settings::default().loosened().is_empty());
    }

    #[test]
    fn a_looser_setting_is_named_with_both_values_and_a_stricter_one_is_not() {
        let settings = Settings { min_accuracy: 0.5, max_loss: 0.69, alpha: 0.01, seed: 7, ..Settings::default() };
        let words: Vec<String> = settings.loosened().iter().map(ToString::to_string).collect();
        assert_eq!(words, ["max_loss 0.3466 -> 0.69", "min_accuracy 0.9 -> 0.5"]);
    }
}
