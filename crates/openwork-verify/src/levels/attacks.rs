//! Level 4: attacks on the nodes outside the circuit.

use openwork_circuit::{Calibration, Claim, NodeSet};

use super::{Evaluators, Shown, Verifier, sufficiency::NO_CONTRASTS, worst_pair};
use crate::{
    checks::{Check, Status, form::Raw, id::CheckId},
    methods::{
        adversary::{self, Adversary, Attack, Attacker, Candidate, Effort, Objective, Outcome},
        random_sets::{Draw, Subset, draw},
    },
    report::counter_example::Change,
    run::{
        error::RunError,
        evaluator::Evaluator,
        scheme::{Scheme, Split},
    },
    stats::intervals::Estimate,
    streams::Stream,
};

/// Checks on attacks, as answers are.
const ATTACKS: [CheckId; 4] =
    [CheckId::Adversary, CheckId::LargerAdversary, CheckId::Groups, CheckId::AdversaryPerPrompt];

/// Attacks of one kind: the worst for the answers as they are, and after the best common shift.
struct Worst {
    /// Found for the answers as they are.
    raw: (Candidate, Outcome),
    /// The worse of that and of one found for what no shift repairs, after the shift; none where the raw one is it.
    shifted: Option<(Candidate, Outcome)>,
    /// False where time ran out before a search was finished.
    finished: bool,
}

impl Worst {
    fn after_shift(&self) -> &(Candidate, Outcome) {
        self.shifted.as_ref().unwrap_or(&self.raw)
    }
}

impl Verifier<'_> {
    /// Ablation of the rest: by an adversary with a budget, in part; of groups of nodes; and on every prompt by itself. Where the circuit
    /// claims the contrast, each is searched twice: for the answers as they are, and for what no common shift repairs.
    pub(super) fn attacks(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        let (circuit, settings, clock) = (self.case.circuit.nodes(), self.settings, self.clock);
        if circuit.is_empty() || circuit.complement().is_empty() {
            let words = "a circuit of no nodes or of all leaves an adversary nothing to compare";
            ATTACKS.into_iter().for_each(|id| self.push_in_both_forms(Check::not_asked(id, words)));
            return Ok(());
        }
        if !self.has_time_for(&ATTACKS) {
            return Ok(());
        }
        let small = (settings.adversary_share * circuit.len() as f64).ceil().max(1.0);
        let large = circuit.len() as f64;
        let (made_on, out_of_time) = (&evaluators.few_selection, || clock.is_over());
        let adversary = |objective| {
            Adversary::new(made_on, circuit, (Effort::of(settings), objective), settings.seed, &out_of_time)
        };
        let mut raw = adversary(Objective::raw(&made_on.model));
        let mut shift_free = match self.case.claim {
            Claim::Answer => None,
            Claim::Contrast => Some(adversary(Objective::shift_free(&made_on.model))),
        };
        let parts = raw.parts_of_the_model();
        let of_parts: Vec<Vec<usize>> = parts.iter().map(|unit| unit.nodes.clone()).collect();
        let mut searched = raw.search_sets(&of_parts, small);
        if let Some(adversary) = &mut shift_free {
            searched &= adversary.search_sets(&of_parts, small);
        }
        for (budget, id) in [(small, CheckId::Adversary), (large, CheckId::LargerAdversary)] {
            let (found, mut finished) = raw.attack(budget);
            let other = shift_free.as_mut().map(|adversary| {
                let (other, whole) = adversary.attack(budget);
                finished &= whole;
                other
            });
            let worst = self.worst(evaluators, (Attacker::OneScheme, budget), found, other, searched && finished);
            let words = format!(
                "nodes outside the circuit ablated in whole or in part, at most {budget} whole ones in sum, the same for all inputs"
            );
            let failed =
                self.judge_attack(&worst, &words, (id, id.shift_free().expect("attacks have both forms")), false);
            if let Some(failed) = failed.filter(|_| id == CheckId::Adversary) {
                self.refute_by_attack(&evaluators.held_out, &worst, failed);
            }
            self.keep_attacks(worst);
        }
        let (found, mut finished) = raw.worst_unit(&parts);
        let other = shift_free.as_ref().and_then(|adversary| {
            let (other, whole) = adversary.worst_unit(&parts);
            finished &= whole;
            other
        });
        self.groups(evaluators, found, other, finished);
        self.per_prompt(evaluators, circuit, small)?;
        self.attacks_on_random_sets(evaluators, small);
        Ok(())
    }

    /// The two attacks as they are judged on held-out pairs. What was found for the answers as they are may also be the worst after the
    /// shift: of two the worse counts.
    fn worst(
        &self,
        evaluators: &Evaluators<'_>,
        (attacker, budget): (Attacker, f64),
        found: Candidate,
        other: Option<Candidate>,
        finished: bool,
    ) -> Worst {
        let outcome = |found: Candidate| {
            let what = (Subset::Circuit, attacker.clone(), budget);
            let of = (self.case.claim, &found);
            let outcome = adversary::outcome_of(what, of, &evaluators.held_out, &evaluators.resamples);
            (found, outcome)
        };
        let raw = outcome(found);
        let left = |(_, outcome): &(Candidate, Outcome)| outcome.attack.agreement_shifted.ci95.0;
        let shifted = other.map(outcome).filter(|other| left(other) < left(&raw));
        Worst { raw, shifted, finished }
    }

    /// Keeps attacks in the report.
    fn keep_attacks(&mut self, Worst { raw, shifted, .. }: Worst) {
        let attacks = [Some(raw), shifted].into_iter().flatten().map(|(_, outcome)| outcome.attack);
        self.report.findings.attacks.extend(attacks);
    }

    /// The checks on an attack, answers as they are and after the best common shift; of a group the first also tells of the second.
    /// Returns the check that fails of the form that decides. An attack that turned nothing before time ran out passes nothing.
    fn judge_attack(
        &mut self,
        worst: &Worst,
        with: &str,
        (id, shifted): (CheckId, CheckId),
        is_group: bool,
    ) -> Option<CheckId> {
        let (claim, least) = (self.case.claim, self.settings.min_accuracy);
        let passes = |agreement: Estimate| agreement.ci95.0 >= least;
        let (attack, after) = (&worst.raw.1.attack, &worst.after_shift().1);
        let raw = passes(attack.agreement);
        let moved = passes(after.attack.agreement_shifted);
        let decides = match claim {
            Claim::Answer => raw,
            Claim::Contrast => moved,
        };
        if decides && !worst.finished {
            self.left_out(id);
            return None;
        }
        let words = format!(
            "with {with}, the worst found (by {}) leaves {} of the model's answers and KL {} nats over the candidates; the \
             lower end must be at least {least} (share of each that is kept: {})",
            attack.search,
            attack.agreement,
            attack.kl,
            most_ablated(attack)
        );
        let told = match is_group {
            true => format!("{words}; {}", after_shift(claim, attack, (raw, passes(attack.agreement_shifted)))),
            false => words,
        };
        self.attack_check(id, attack.agreement, Status::of(raw), told);
        let decided = claim == Claim::Answer || after.contrast.is_some_and(|c| c.n >= self.settings.min_pairs);
        let status = if decided { Status::of(moved) } else { Status::NotApplicable };
        let mut told = after_shift(claim, &after.attack, (passes(after.attack.agreement), moved));
        if worst.shifted.is_some() {
            told += &format!(
                "; found (by {}) for what no shift repairs (share of each node that is kept: {})",
                after.attack.search,
                most_ablated(&after.attack)
            );
        }
        if !decided {
            told += "; too few pairs have different answers of the model to their two prompts to decide";
        }
        self.attack_check(shifted, after.attack.agreement_shifted, status, told);
        let failed = if claim == Claim::Answer { id } else { shifted };
        (!decides).then_some(failed)
    }

    fn attack_check(&mut self, id: CheckId, estimate: Estimate, status: Status, words: String) {
        self.push(Check {
            split: Some(Split::HeldOut),
            ablation: Some(Scheme::MEAN),
            estimate: Some(estimate),
            threshold: Some(self.settings.min_accuracy),
            ..Check::new(id, status, words)
        });
    }

    /// The group whose ablation turns most answers.
    fn groups(
        &mut self,
        evaluators: &Evaluators<'_>,
        worst: Option<(String, Candidate)>,
        other: Option<(String, Candidate)>,
        finished: bool,
    ) {
        let id = CheckId::Groups;
        let Some((name, found)) = worst else {
            return match finished {
                true => {
                    let words = "no two nodes outside the circuit belong together";
                    self.push_in_both_forms(Check::not_asked(id, words))
                }
                false => self.left_out(id),
            };
        };
        let size = |found: &Candidate| found.r.iter().filter(|r| **r < 1.0).count();
        let words = format!("one group of nodes outside the circuit ablated ({} nodes: {name})", size(&found));
        let nodes = size(&found) as f64;
        let mut worst = self.worst(evaluators, (Attacker::Group { name }, nodes), found, None, finished);
        if let Some((name, other)) = other {
            let nodes = size(&other) as f64;
            let other = self.worst(evaluators, (Attacker::Group { name }, nodes), other, None, finished).raw;
            let left = |(_, outcome): &(Candidate, Outcome)| outcome.attack.agreement_shifted.ci95.0;
            worst.shifted = (left(&other) < left(&worst.raw)).then_some(other);
        }
        self.judge_attack(&worst, &words, (id, CheckId::ShiftFree { of: Raw::Groups }), true);
        self.keep_attacks(worst);
    }

    /// An adversary that chooses its nodes anew for every prompt. It decides nothing: it needs no mechanism that prompts share,
    /// and there are no other prompts to judge it on. Where the contrast is claimed, every pair is attacked, too.
    fn per_prompt(&mut self, evaluators: &Evaluators<'_>, circuit: &NodeSet, budget: f64) -> Result<(), RunError> {
        let id = CheckId::AdversaryPerPrompt;
        if !self.has_time(id) {
            return Ok(());
        }
        let clock = self.clock;
        let found = adversary::per_prompt(&evaluators.few, circuit, budget, self.settings, &|| clock.is_over())?;
        let Some(attack) = found else {
            self.left_out(id);
            return Ok(());
        };
        let words = format!(
            "with nodes outside the circuit ablated, at most {budget} whole ones in sum, on every prompt others, the worst found on {} pairs leaves \
             {} of the model's answers as they are, and {} after the best common shift",
            attack.agreement.n, attack.agreement, attack.agreement_shifted
        );
        let reported = |id: CheckId, estimate: Option<Estimate>, words: String| Check {
            split: Some(Split::HeldOut),
            ablation: Some(Scheme::MEAN),
            estimate,
            ..Check::new(id, if estimate.is_some() { Status::Passed } else { Status::NotApplicable }, words)
        };
        self.push(reported(id, Some(attack.agreement), words));
        self.report.findings.attacks.push(attack);
        let of_pairs = CheckId::ShiftFree { of: Raw::AdversaryPerPrompt };
        if self.case.claim == Claim::Answer {
            let words = "pairs are attacked one by one where the contrast is claimed: it is a search of its own";
            self.push(Check::not_asked(of_pairs, words));
            return Ok(());
        }
        let found = adversary::per_pair(&evaluators.few, circuit, budget, self.settings, &|| clock.is_over())?;
        match found {
            None => {
                self.unfinished(of_pairs);
                self.push(reported(of_pairs, None, format!("not made: {}", clock.limits.why())));
            }
            Some(None) => self.push(reported(of_pairs, None, NO_CONTRASTS.into())),
            Some(Some(attack)) => {
                let words = format!(
                    "the same budget spent anew on each of {} pairs leaves {} of them in the model's order, up to a shift that is common \
                     to the two prompts",
                    attack.agreement_shifted.n, attack.agreement_shifted
                );
                self.push(reported(of_pairs, Some(attack.agreement_shifted), words));
                self.report.findings.attacks.push(attack);
            }
        }
        Ok(())
    }

    /// The same attack where random nodes of the same number and kind are safe: what a circuit that is none suffers.
    fn attacks_on_random_sets(&mut self, evaluators: &Evaluators<'_>, budget: f64) {
        const SETS: u64 = 3;
        let claim = self.case.claim;
        for set in 0..SETS {
            if self.clock.is_over() {
                return self.unfinished(CheckId::AttacksOnRandomSets);
            }
            let mut rng = Stream::AttackedSet(set).rng(self.settings.seed);
            let (nodes, _) = draw(self.case.circuit.nodes(), Draw::Others, &evaluators.active, &mut rng);
            let (settings, clock, made_on) = (self.settings, self.clock, &evaluators.few_selection);
            let out_of_time = || clock.is_over();
            let objective = match claim {
                Claim::Answer => Objective::raw(&made_on.model),
                Claim::Contrast => Objective::shift_free(&made_on.model),
            };
            let effort = (Effort::of(settings), objective);
            let mut adversary = Adversary::new(made_on, &nodes, effort, settings.seed, &out_of_time);
            adversary.search_sets(&[], budget);
            let (found, _) = adversary.attack(budget);
            let what = (Subset::Random, Attacker::OneScheme, budget);
            let of = (claim, &found);
            let outcome = adversary::outcome_of(what, of, &evaluators.held_out, &evaluators.resamples);
            self.report.findings.attacks.push(outcome.attack);
        }
    }

    /// Notes the pair that an attack harms most, in the form of the check that fails.
    fn refute_by_attack(&mut self, evaluator: &Evaluator<'_>, worst: &Worst, check: CheckId) {
        let is_raw = check == CheckId::Adversary;
        let (found, outcome) = if is_raw { &worst.raw } else { worst.after_shift() };
        let calibration = if is_raw { Calibration::NONE } else { outcome.shift };
        let run: Vec<f64> = outcome.measured.differences.iter().map(|d| d + calibration.shift).collect();
        let measured = &outcome.measured;
        let raw = |i: usize| 1e6 * (1.0 - measured.agree[i]) + measured.kl_candidates[i];
        // By how far the two prompts of a pair are on the wrong side of the shifted threshold.
        let model = &evaluator.model.differences;
        let wrong = |i: usize| [2 * i, 2 * i + 1].map(|s| (-model[s].signum() * run[s]).max(0.0)).iter().sum::<f64>();
        let pair = match is_raw {
            true => worst_pair(measured.agree.len(), raw),
            false => worst_pair(measured.agree.len(), wrong),
        };
        let shown = Shown { check, split: Split::HeldOut, pair, evaluator, run: &run, calibration };
        self.refute_by(|| shown.example(shown.partly(Change::Attack, &found.r, Scheme::MEAN)));
    }
}

/// The nodes that an attack ablates most, and what is left of each.
fn most_ablated(attack: &Attack) -> String {
    const SHOWN: usize = 4;
    let mut most: Vec<String> = attack.nodes.iter().take(SHOWN).map(|(n, r)| format!("{n} {r:.2}")).collect();
    if let Some(more @ 1..) = attack.nodes.len().checked_sub(SHOWN) {
        most.push(format!("{more} more"));
    }
    most.join(", ")
}

/// The outcome of an attack after the best common shift, and what it means; `raw` and `moved` tell whether enough answers are left
/// without the shift and with it.
fn after_shift(claim: Claim, attack: &Attack, (raw, moved): (bool, bool)) -> String {
    let meaning = match (raw, moved) {
        (true, true) => "the attack turns few answers either way",
        (true, false) if claim == Claim::Answer => "the attack turns few answers either way",
        (false, true) => "the attack moves the threshold between the two answers; what tells the prompts apart is left",
        (_, false) => "the attack destroys what tells the prompts apart",
    };
    let suits = match claim {
        Claim::Answer => "the task best, the same attack",
        Claim::Contrast => "the model's answers best, the worst attack found",
    };
    let left = attack.agreement_shifted;
    format!(
        "after the common shift of the two answers that suits {suits} leaves {left} of the model's answers: {meaning}"
    )
}
