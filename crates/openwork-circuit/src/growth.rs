//! Growth of a circuit by counter-examples, as the circuit file records it: settings, start, and a trace of the rounds.

use serde::{Deserialize, Serialize};

use crate::SearchSettings;

/// A circuit that grew by counter-examples in a model that stayed as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grown {
    /// Circuit that growth began from.
    pub start: GrowthStart,
    /// True if all agreements, the loss and the gap were reached on the pairs that decide.
    pub reached: bool,
    /// Settings.
    pub settings: Growth,
    /// State after each round, and after each removal that stayed.
    pub rounds: Vec<GrowthRound>,
}

/// Circuit that growth began from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrowthStart {
    /// Hash of the circuit ([`Circuit::sha256`](crate::Circuit::sha256)).
    pub circuit_sha256: String,
    /// Its nodes.
    pub nodes: usize,
    /// Its weights.
    pub edges: usize,
    /// Search that found it.
    pub search: Box<SearchSettings>,
}

/// Settings of growth; target loss, claim and seed are fields of the circuit file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// Least agreement with the model in every check.
    pub agreement: f64,
    /// Largest gap between the losses of circuit and model without the same nodes, as a share of what the model's answers are worth
    /// (`ln 2 − loss`).
    pub max_gap: f64,
    /// Most nodes of the circuit.
    pub max_nodes: usize,
    /// Most rounds of growth.
    pub rounds: usize,
    /// Nodes that a violation adds, as a share of the circuit's; 2 at least.
    pub add_share: f64,
    /// Nodes that attacks ablate, as shares of the circuit's nodes: at the start, and now.
    pub attack_shares: Vec<f64>,
    /// Steps of an attack from each of its starts.
    pub attack_steps: usize,
    /// Training pairs that nodes are added by.
    pub pairs: usize,
    /// Other training pairs that decide whether the circuit stands.
    pub check_pairs: usize,
}

impl Default for Growth {
    /// Agreement and gap are stricter than what the verifier asks for (0.9 and 0.5), since it has other pairs and attacks.
    fn default() -> Self {
        Self {
            agreement: 0.985,
            max_gap: 0.35,
            max_nodes: 400,
            rounds: 60,
            add_share: 0.1,
            attack_shares: vec![0.25, 0.5],
            attack_steps: 4,
            pairs: 24,
            // Two sequences each: of 80 answers one may differ at 0.985, of fewer than 67 none.
            check_pairs: 40,
        }
    }
}

impl Growth {
    /// The first setting that no growth can have, in words.
    pub fn fault(&self) -> Option<&'static str> {
        let share = |x: f64| x > 0.0 && x.is_finite();
        match self {
            Self { agreement, .. } if !(0.5..=1.0).contains(agreement) => Some("agreement is not between 0.5 and 1"),
            Self { max_gap, .. } if !share(*max_gap) => Some("max_gap is not above 0"),
            Self { max_nodes: 0, .. } => Some("max_nodes is 0"),
            Self { rounds: 0, .. } => Some("rounds is 0"),
            Self { add_share, .. } if !share(*add_share) => Some("add_share is not above 0"),
            Self { attack_shares, .. } if attack_shares.is_empty() || !attack_shares.iter().all(|x| share(*x)) => {
                Some("attack_shares must be above 0, and one at least")
            }
            Self { attack_steps: 0, .. } => Some("attack_steps is 0"),
            Self { pairs: 0, .. } | Self { check_pairs: 0, .. } => Some("pairs or check_pairs is 0"),
            _ => None,
        }
    }
}

impl Grown {
    /// The first setting that no growth can have, in words; of the search before it, too; or a trace that denies what the file says.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        self.settings.fault().or_else(|| self.start.search.fault()).or_else(|| self.fault_of_trace())
    }

    fn fault_of_trace(&self) -> Option<&'static str> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let possible = |r: &GrowthRound| {
            let Agreements { at_means, frozen_norms, at_zero, attacked } = &r.agreements;
            let shares = [*at_means, *at_zero].into_iter().chain(*frozen_norms);
            shares.chain(attacked.iter().map(|a| a.agreement)).all(share) && r.loss >= 0.0 && r.gap >= 0.0
        };
        let Growth { agreement, max_gap, .. } = self.settings;
        match self.rounds.last() {
            None => Some("it has no rounds"),
            Some(_) if !self.rounds.iter().all(possible) => {
                Some("a round has an agreement beyond 0 and 1, or a loss or a gap below 0")
            }
            Some(last) if self.reached && (last.agreements.least() < agreement || last.gap > max_gap) => {
                Some("it says that every check holds, and its last round misses the agreement or the gap")
            }
            Some(_) => None,
        }
    }
}

/// State of the circuit on the training pairs that decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrowthRound {
    /// Part of the search.
    pub phase: Phase,
    /// Nodes of the circuit.
    pub nodes: usize,
    /// Its weights.
    pub edges: usize,
    /// Loss with all else at its mean, calibrated; nats per sequence.
    pub loss: f64,
    /// Shares of the answers that stay the model's.
    pub agreements: Agreements,
    /// Largest gap between the losses of circuit and model without the same nodes of the circuit, as a share of what the model's answers
    /// are worth.
    pub gap: f64,
}

/// Part of the search that a round belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nodes are added where a check fails.
    Grow,
    /// Nodes are removed while every check holds.
    Prune,
}

/// Shares of sequences on which a run prefers the model's answer; of a contrast, after the shift of all logit differences that suits the
/// model's answers best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreements {
    /// The circuit, all else at its mean, calibrated.
    pub at_means: f64,
    /// The same with the scales of the norms frozen; none for a model without norms.
    pub frozen_norms: Option<f64>,
    /// The circuit, all else zero, calibrated.
    pub at_zero: f64,
    /// The model under each attack on nodes outside.
    pub attacked: Vec<Attacked>,
}

impl Agreements {
    /// The least of them.
    pub fn least(&self) -> f64 {
        let attacked = self.attacked.iter().map(|a| a.agreement);
        [self.at_means, self.at_zero].into_iter().chain(self.frozen_norms).chain(attacked).fold(1.0, f64::min)
    }
}

/// Agreement that an attack leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attacked {
    /// Share of the nodes of a circuit that it may ablate.
    pub share: f64,
    /// The circuit of which it is a share.
    pub sized_by: SizedBy,
    /// Nodes that it may ablate.
    pub budget: usize,
    /// Share of sequences on which the model under attack prefers its own answer.
    pub agreement: f64,
}

/// Circuit that gives an attack its size.
///
/// Attacks that are sized by the circuit at hand grow with it, so that growth can run after its own budget; those sized by the start stay
/// as they are, and tell the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SizedBy {
    /// The circuit that growth began from.
    Start,
    /// The circuit as it is now.
    Circuit,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(reached: bool, rounds: Vec<GrowthRound>) -> Grown {
        let search = Box::new(SearchSettings::ByHand {});
        let start = GrowthStart { circuit_sha256: "0".repeat(64), nodes: 2, edges: 1, search };
        Grown { start, reached, settings: Growth::default(), rounds }
    }

    fn round(agreement: f64, gap: f64) -> GrowthRound {
        let agreements = Agreements { at_means: 1.0, frozen_norms: None, at_zero: agreement, attacked: vec![] };
        GrowthRound { phase: Phase::Grow, nodes: 3, edges: 2, loss: 0.1, agreements, gap }
    }

    #[test]
    fn a_trace_that_denies_its_file_is_a_fault() {
        let good = Growth::default().agreement;
        for (reached, last) in [(true, round(good, 0.3)), (false, round(0.2, 0.9)), (false, round(1.0, 0.0))] {
            assert_eq!(grown(reached, vec![round(0.5, 0.8), last]).fault(), None);
        }
        assert_eq!(grown(false, vec![]).fault(), Some("it has no rounds"));
        for last in [round(0.9, 0.3), round(1.0, 0.9)] {
            assert!(grown(true, vec![last]).fault().unwrap().contains("every check holds"));
        }
        for impossible in [round(9.0, 0.3), round(-0.1, 0.3), round(1.0, -1e308), round(f64::NAN, 0.3)] {
            assert!(grown(false, vec![impossible]).fault().unwrap().contains("beyond 0 and 1"));
        }
    }
}
