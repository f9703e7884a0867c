//! Settings of the search that found a circuit, as the circuit file records them.

use serde::{Deserialize, Serialize};

use crate::{Combined, Grown, Refined, Scored, Tuned};

/// The method that found a circuit and its settings; one variant per method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum SearchSettings {
    /// Masks over nodes, learned by gradient descent (Gao et al. 2025, A.5).
    LearnedMasks(LearnedMasks),
    /// A circuit that grew by counter-examples, in the model as it is.
    Grown(Grown),
    /// The top of a ranking by attribution scores.
    Scored(Scored),
    /// The best of several searches by learned masks, with other settings each.
    Tuned(Tuned),
    /// Union or core of the circuits of several seeds.
    Combined(Combined),
    /// A circuit that was found before, less what it did not need.
    Refined(Refined),
    /// A person chose the nodes. There is no search to repeat.
    ByHand {},
    /// The nodes are those of a circuit of another model, and were trained into this one.
    Localised(Localised),
}

impl SearchSettings {
    /// The first setting that no search can have, in words.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::LearnedMasks(masks) => masks.fault(),
            Self::Grown(grown) => grown.fault(),
            Self::Scored(scored) => scored.fault(),
            Self::Tuned(tuned) => tuned.fault(),
            Self::Combined(combined) => combined.fault(),
            Self::Refined(refined) => refined.fault(),
            Self::Localised(localised) => localised.settings.fault(),
            Self::ByHand {} => None,
        }
    }

    /// The learned masks that the circuit comes from: its own, or those of the circuit that it was made from.
    pub fn masks(&self) -> Option<&LearnedMasks> {
        match self {
            Self::LearnedMasks(masks) => Some(masks),
            Self::Grown(grown) => grown.start.search.masks(),
            Self::Tuned(tuned) => Some(&tuned.masks),
            Self::Combined(combined) => Some(&combined.masks),
            Self::Refined(refined) => refined.search.masks(),
            Self::Scored(_) | Self::ByHand {} | Self::Localised(_) => None,
        }
    }
}

/// Training that made a model's circuit out of the nodes of a circuit of the model before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Localised {
    /// Hash of the model before.
    pub original_sha256: String,
    /// Task loss of the circuit there, nats per sequence.
    pub original_loss: f64,
    /// Steps that were made.
    pub steps: u64,
    /// Seed of the random draw, where the nodes were drawn and not found: a control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<u64>,
    /// Settings.
    pub settings: Localisation,
}

/// Settings of a localisation: fine-tuning at fixed supports, after which circuits are to decide their tasks alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Localisation {
    /// Most steps until the circuits are to stand.
    pub steps: u64,
    /// Steps after that, at half of the learning rate, once nodes that do nothing have been dropped.
    pub extra_steps: u64,
    /// Largest learning rate.
    pub lr: f64,
    /// Steps over which it rises.
    pub warmup_steps: u64,
    /// Weight of the circuit's terms beside the cross-entropy of text.
    pub weight: f64,
    /// Contrast pairs a step.
    pub pairs: usize,
    /// Steps after which ablation means are taken anew.
    pub means_every: u64,
    /// Steps after which the circuits' state is looked at.
    pub check_every: u64,
    /// Least share of answers that must stay the original's, on selection pairs, for training to end.
    pub agreement: f64,
    /// Largest loss of a circuit in the untouched model and at the end, nats per sequence.
    pub target_loss: f64,
    /// Seed of text, pairs and interventions.
    pub seed: u64,
}

impl Default for Localisation {
    fn default() -> Self {
        Self {
            steps: 400,
            extra_steps: 100,
            lr: 1e-2,
            warmup_steps: 20,
            weight: 0.3,
            pairs: 12,
            means_every: 25,
            check_every: 25,
            agreement: 0.985,
            target_loss: 0.15,
            seed: 0,
        }
    }
}

impl Localisation {
    /// The first setting that no training can have, in words.
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            Self { steps: 0, .. } => Some("steps is 0"),
            Self { pairs: 0, .. } => Some("pairs is 0"),
            Self { means_every: 0, .. } | Self { check_every: 0, .. } => Some("means_every or check_every is 0"),
            Self { lr, weight, .. } if !(*lr > 0.0 && lr.is_finite() && *weight > 0.0 && weight.is_finite()) => {
                Some("lr and weight must be above 0")
            }
            Self { agreement, .. } if !(0.5..=1.0).contains(agreement) => Some("agreement is not between 0.5 and 1"),
            Self { target_loss, .. } if !(*target_loss > 0.0 && target_loss.is_finite()) => {
                Some("target_loss is not above 0")
            }
            _ => None,
        }
    }
}

/// Settings of learned masks; the target loss and the seed are fields of the circuit file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnedMasks {
    /// Objective of masks and selection.
    pub objective: Objective,
    /// Independent searches; the circuit with the fewest edges is kept.
    pub restarts: usize,
    /// Optimizer steps of each.
    pub steps: usize,
    /// Contrast pairs a step.
    pub batch_pairs: usize,
    /// Price of a kept node in nats.
    pub k_coef: f64,
    /// Learning rate, decaying linearly to 0.
    pub lr: f64,
    /// Fraction of the steps over which the learning rate rises.
    pub warmup_fraction: f64,
    /// Adam's β₂ (β₁ is 0.9).
    pub beta2: f64,
    /// Decoupled weight decay of τ.
    pub weight_decay: f64,
    /// Temperature of the surrogate gradient.
    pub temperature: f64,
    /// Mean of τ at the start.
    pub init_bias: f64,
    /// Standard deviation of τ at the start.
    pub init_noise: f64,
    /// Nodes that the adversary of [`Objective::Adversarial`] ablates, as a share of the open ones.
    pub adversary_share: f64,
    /// Moves of that adversary in a step.
    #[serde(default = "ascents", skip_serializing_if = "is_ascents")]
    pub adversary_ascents: usize,
    /// Fraction of the steps over which the price rises from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub price_rise: f64,
    /// True if a query of the same channel comes with every key that is selected, so that a head which is kept lives with all else at zero, too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub queries_with_keys: bool,
}

// Fields that older files lack are left out where they have the values of then: the hash of such a file's claim stays.
const ASCENTS: usize = 2;

fn ascents() -> usize {
    ASCENTS
}

fn is_ascents(n: &usize) -> bool {
    *n == ASCENTS
}

fn is_zero(x: &f64) -> bool {
    *x == 0.0
}

fn is_false(x: &bool) -> bool {
    !x
}

impl Default for LearnedMasks {
    /// The centres of the paper's Table 2, with fewer and larger steps: the paper searches around them with
    /// hundreds of runs, a laptop cannot.
    fn default() -> Self {
        Self {
            objective: Objective::Task,
            restarts: 3,
            steps: 600,
            batch_pairs: 32,
            k_coef: 1e-3,
            lr: 2e-2,
            warmup_fraction: 0.05,
            beta2: 0.95,
            weight_decay: 1e-3,
            temperature: 1.0,
            init_bias: 0.1,
            init_noise: 0.01,
            adversary_share: 0.25,
            adversary_ascents: ASCENTS,
            price_rise: 0.0,
            queries_with_keys: false,
        }
    }
}

impl LearnedMasks {
    /// Most restarts and most steps of a search.
    pub const MOST: usize = 1 << 20;

    /// The first setting that no search can have, in words.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            Self { batch_pairs: 0, .. } => Some("batch_pairs is 0"),
            Self { restarts, steps, .. } if *restarts > Self::MOST || *steps > Self::MOST => {
                Some("restarts or steps are more than 1048576")
            }
            Self { temperature, .. } if *temperature <= 0.0 => Some("temperature is not above 0"),
            Self { adversary_ascents: 0, .. } => Some("adversary_ascents is 0"),
            Self { price_rise, .. } if !(0.0..=1.0).contains(price_rise) => Some("price_rise is not from 0 to 1"),
            _ => None,
        }
    }
}

/// Objective of a search: the loss that masks are learned for and circuits are selected by.
///
/// A low task loss does not require the circuit to do what the model does (Drori 2026). `KL(model ‖ circuit)` asks for
/// the model's own distribution; the adversarial objective adds the same divergence under an attack on closed nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Two-way cross-entropy of the right answer (Gao et al. 2025).
    #[default]
    Task,
    /// KL(model ‖ circuit) over the vocabulary, at the last token.
    Kl,
    /// [`Objective::Kl`], and the same under an adversary that ablates a few closed nodes of the model.
    Adversarial,
}

impl Objective {
    /// All objectives.
    pub const ALL: [Self; 3] = [Self::Task, Self::Kl, Self::Adversarial];
}

impl std::fmt::Display for Objective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Task => "task",
            Self::Kl => "kl",
            Self::Adversarial => "adversarial",
        })
    }
}

/// Error of reading the name of an [`Objective`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no objective {name:?}; there are task, kl and adversarial")]
pub struct UnknownObjective {
    /// The name.
    pub name: String,
}

impl std::str::FromStr for Objective {
    type Err = UnknownObjective;

    fn from_str(name: &str) -> Result<Self, UnknownObjective> {
        let named = Self::ALL.into_iter().find(|o| o.to_string() == name);
        named.ok_or_else(|| UnknownObjective { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Agreements, Growth, Hold, Parts,
        growth::{Attacked, GrowthRound, GrowthStart, Phase, SizedBy},
    };

    fn grown(start: SearchSettings) -> Grown {
        let attacked = vec![Attacked { share: 0.25, sized_by: SizedBy::Start, budget: 3, agreement: 0.9 }];
        let agreements = Agreements { at_means: 1.0, frozen_norms: None, at_zero: 0.1 + 0.2, attacked };
        let round = GrowthRound { phase: Phase::Grow, nodes: 10, edges: 9, loss: 0.1, agreements, gap: 0.2 };
        let start = GrowthStart { circuit_sha256: "0".repeat(64), nodes: 10, edges: 9, search: Box::new(start) };
        Grown { start, reached: false, settings: Growth::default(), rounds: vec![round] }
    }

    #[test]
    fn a_grown_circuit_tells_of_the_masks_that_it_grew_from() {
        let masks = LearnedMasks { steps: 77, ..LearnedMasks::default() };
        let of_masks = SearchSettings::Grown(grown(SearchSettings::LearnedMasks(masks.clone())));
        assert_eq!(SearchSettings::Grown(grown(of_masks)).masks(), Some(&masks));
        assert_eq!(SearchSettings::Grown(grown(SearchSettings::ByHand {})).masks(), None);
        let never = LearnedMasks { batch_pairs: 0, ..masks };
        let of_never = SearchSettings::Grown(grown(SearchSettings::LearnedMasks(never)));
        assert_eq!(of_never.fault(), Some("batch_pairs is 0"));
        // Effort that no search has made, at any depth.
        for endless in [
            LearnedMasks { restarts: LearnedMasks::MOST + 1, ..LearnedMasks::default() },
            LearnedMasks { steps: usize::MAX, ..LearnedMasks::default() },
        ] {
            let nested = grown(SearchSettings::Grown(grown(SearchSettings::LearnedMasks(endless))));
            assert!(SearchSettings::Grown(nested).fault().unwrap().contains("1048576"));
        }
    }

    #[test]
    fn every_method_survives_json_and_an_unknown_one_is_named() {
        let masks = |objective| LearnedMasks { objective, steps: 77, lr: 0.1 + 0.2, ..LearnedMasks::default() };
        let methods = Objective::ALL.map(|o| SearchSettings::LearnedMasks(masks(o))).into_iter();
        let (original_sha256, settings) = ("0".repeat(64), Localisation::default());
        let localised = Localised { original_sha256, original_loss: 0.04, steps: 325, random: Some(3), settings };
        let refined = |hold| {
            SearchSettings::Refined(Refined {
                circuit_sha256: "0".repeat(64),
                nodes: 10,
                edges: 9,
                search: Box::new(SearchSettings::Scored(Scored::default())),
                hold,
                edge_masks: Some((LearnedMasks { lr: 0.1 + 0.2, ..LearnedMasks::default() }, 5)),
            })
        };
        for settings in methods.chain([
            SearchSettings::ByHand {},
            SearchSettings::Combined(Combined {
                of: crate::Combination::Union,
                circuits_sha256: vec!["0".repeat(64); 3],
                masks: masks(Objective::Kl),
            }),
            SearchSettings::Tuned(Tuned {
                masks: masks(Objective::Task),
                sampler: crate::Sampler::Random,
                won: 2,
                trace_sha256: "0".repeat(64),
            }),
            SearchSettings::Localised(localised),
            SearchSettings::Scored(Scored { threshold: 0.1 + 0.2, parts: Parts::Edges, ..Scored::default() }),
            refined(Hold::Loss(0.15)),
            refined(Hold::Agreement(0.985)),
            SearchSettings::Grown(grown(SearchSettings::ByHand {})),
        ]) {
            let text = serde_json::to_string(&settings).unwrap();
            assert_eq!(serde_json::from_str::<SearchSettings>(&text).unwrap(), settings, "{text}");
        }
        let read = |text: &str| serde_json::from_str::<SearchSettings>(text).unwrap_err().to_string();
        assert!(read(r#"{"method": "attribution"}"#).contains("unknown variant `attribution`"));
        let text = serde_json::to_string(&SearchSettings::LearnedMasks(masks(Objective::Kl))).unwrap();
        assert!(text.contains(r#""method":"learned_masks""#) && text.contains(r#""objective":"kl""#), "{text}");
        assert!(read(&text.replace("\"lr\"", "\"rate\"")).contains("unknown field `rate`"));
        assert!(read(&text.replace("77", "7.5")).contains("7.5"));
        assert!(read(r#"{"method": "learned_masks"}"#).contains("missing field"));
        // Settings that came later are left out at the values of before, and kept otherwise.
        for later in ["adversary_ascents", "price_rise", "queries_with_keys"] {
            assert!(!text.contains(later), "{text}");
        }
        let all =
            LearnedMasks { adversary_ascents: 3, price_rise: 0.5, queries_with_keys: true, ..masks(Objective::Kl) };
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<LearnedMasks>(&text).unwrap(), all);
    }

    #[test]
    fn a_refined_circuit_tells_of_the_search_before_it() {
        let refined = |hold, search| {
            let circuit_sha256 = "0".repeat(64);
            let search = Box::new(search);
            SearchSettings::Refined(Refined { circuit_sha256, nodes: 1, edges: 0, search, hold, edge_masks: None })
        };
        let masks = LearnedMasks { steps: 77, ..LearnedMasks::default() };
        let of_masks = refined(Hold::Loss(0.1), SearchSettings::LearnedMasks(masks.clone()));
        assert_eq!(refined(Hold::Loss(0.1), of_masks).masks(), Some(&masks));
        assert_eq!(refined(Hold::Agreement(0.9), SearchSettings::Scored(Scored::default())).masks(), None);
        let never = SearchSettings::Scored(Scored { points: 0, ..Scored::default() });
        assert_eq!(refined(Hold::Loss(0.1), never).fault(), Some("points is 0"));
        for hold in [Hold::Loss(0.0), Hold::Loss(f64::NAN), Hold::Agreement(0.2)] {
            assert!(refined(hold, SearchSettings::ByHand {}).fault().is_some(), "{hold:?}");
        }
    }

    #[test]
    fn names_of_objectives_round_trip() {
        for objective in Objective::ALL {
            assert_eq!(objective.to_string().parse(), Ok(objective));
        }
        assert!("loss".parse::<Objective>().unwrap_err().to_string().contains("adversarial"));
    }
}
