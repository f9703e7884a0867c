//! Level 4: attacks on the nodes outside the circuit.

use openwork_circuit::{Calibration, NodeSet};

use super::{Evaluators, Shown, Verifier, worst_pair};
use crate::{
    checks::{Check, Status, id::CheckId},
    methods::{
        adversary::{self, Adversary, Attack, Attacker, Candidate, Effort},
        random_sets::{Draw, Subset, draw},
    },
    report::counter_example::Change,
    run::{
        error::RunError,
        evaluator::Evaluator,
        measures::Measured,
        scheme::{Scheme, Split},
    },
    stats::intervals::Estimate,
    streams::Stream,
};

/// All checks on attacks.
const ATTACKS: [CheckId; 6] = [
    CheckId::Adversary,
    CheckId::AdversaryShifted,
    CheckId::LargerAdversary,
    CheckId::LargerAdversaryShifted,
    CheckId::Groups,
    CheckId::AdversaryPerPrompt,
];

impl Verifier<'_> {
    /// Ablation of the rest: by an adversary with a budget, in part; of groups of nodes; and on every prompt by itself.
    pub(super) fn attacks(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        let (circuit, settings, clock) = (self.case.circuit.nodes(), self.settings, self.clock);
        if circuit.is_empty() || circuit.complement().is_empty() {
            let words = "a circuit of no nodes or of all leaves an adversary nothing to compare";
            ATTACKS.into_iter().for_each(|id| self.push(Check::not_asked(id, words)));
            return Ok(());
        }
        if !self.has_time_for(&ATTACKS) {
            return Ok(());
        }
        let small = (settings.adversary_share * circuit.len() as f64).ceil().max(1.0);
        let large = circuit.len() as f64;
        let (made_on, out_of_time) = (&evaluators.few_selection, || clock.is_over());
        let mut adversary = Adversary::new(made_on, circuit, Effort::of(settings), settings.seed, &out_of_time);
        let parts = adversary.parts_of_the_model();
        let of_parts: Vec<Vec<usize>> = parts.iter().map(|unit| unit.nodes.clone()).collect();
        let searched = adversary.search_sets(&of_parts, small);
        let ids = [
            (small, CheckId::Adversary, CheckId::AdversaryShifted),
            (large, CheckId::LargerAdversary, CheckId::LargerAdversaryShifted),
        ];
        for (budget, id, shifted) in ids {
            let (found, finished) = adversary.attack(budget);
            let what = (Subset::Circuit, Attacker::OneScheme, budget);
            let (attack, measured) = adversary::outcome_of(what, &found, &evaluators.held_out, &evaluators.resamples);
            let words = format!(
                "nodes outside the circuit ablated in whole or in part, at most {budget} whole ones in sum, the same for all inputs"
            );
            let failed = !self.judge_attack(&attack, &words, (id, Some(shifted)), searched && finished);
            if failed && id == CheckId::Adversary {
                self.refute_by_attack(&evaluators.held_out, &measured, &found.r);
            }
            self.report.findings.attacks.push(attack);
        }
        let (worst, finished) = adversary.worst_unit(&parts);
        self.groups(evaluators, worst, finished);
        self.per_prompt(evaluators, circuit, small)?;
        self.attacks_on_random_sets(evaluators, small);
        Ok(())
    }

    /// The checks on an attack: answers as they are, which decide, and after the best common shift. True if the first passes. An
    /// attack that turned nothing before time ran out passes nothing.
    fn judge_attack(
        &mut self,
        attack: &Attack,
        with: &str,
        (id, shifted): (CheckId, Option<CheckId>),
        finished: bool,
    ) -> bool {
        let least = self.settings.min_accuracy;
        let passes = |agreement: Estimate| agreement.ci95.0 >= least;
        let (raw, moved) = (passes(attack.agreement), passes(attack.agreement_shifted));
        if raw && !finished {
            [Some(id), shifted].into_iter().flatten().for_each(|id| self.left_out(id));
            return true;
        }
        const SHOWN: usize = 4;
        let mut most: Vec<String> = attack.nodes.iter().take(SHOWN).map(|(n, r)| format!("{n} {r:.2}")).collect();
        if let Some(more @ 1..) = attack.nodes.len().checked_sub(SHOWN) {
            most.push(format!("{more} more"));
        }
        let words = format!(
            "with {with}, the worst found (by {}) leaves {} of the model's answers and KL {} nats over the candidates; the \
             lower end must be at least {least} (share of each that is kept: {})",
            attack.search,
            attack.agreement,
            attack.kl,
            most.join(", ")
        );
        let meaning = match (raw, moved) {
            (true, _) => "the attack turns few answers either way",
            (false, true) => {
                "the attack moves the threshold between the two answers; what tells the prompts apart is left"
            }
            (false, false) => "the attack destroys what tells the prompts apart",
        };
        let after = format!(
            "after the common shift of the two answers that suits the task best, the same attack leaves {} of the model's \
             answers: {meaning}",
            attack.agreement_shifted
        );
        let mut one = |id: CheckId, estimate: Estimate, passed: bool, words: String| {
            self.push(Check {
                split: Some(Split::HeldOut),
                ablation: Some(Scheme::MEAN),
                estimate: Some(estimate),
                threshold: Some(least),
                ..Check::new(id, Status::of(passed), words)
            });
        };
        match shifted {
            Some(shifted) => {
                one(id, attack.agreement, raw, words);
                one(shifted, attack.agreement_shifted, moved, after);
            }
            None => one(id, attack.agreement, raw, format!("{words}; {after}")),
        }
        raw
    }

    /// The group whose ablation turns most answers.
    fn groups(&mut self, evaluators: &Evaluators<'_>, worst: Option<(String, Candidate)>, finished: bool) {
        let id = CheckId::Groups;
        let Some((name, found)) = worst else {
            return match finished {
                true => self.push(Check::not_asked(id, "no two nodes outside the circuit belong together")),
                false => self.left_out(id),
            };
        };
        let size = found.r.iter().filter(|r| **r < 1.0).count();
        let words = format!("one group of nodes outside the circuit ablated ({size} nodes: {name})");
        let what = (Subset::Circuit, Attacker::Group { name }, size as f64);
        let (attack, _) = adversary::outcome_of(what, &found, &evaluators.held_out, &evaluators.resamples);
        self.judge_attack(&attack, &words, (id, None), finished);
        self.report.findings.attacks.push(attack);
    }

    /// An adversary that chooses its nodes anew for every prompt. It decides nothing: it needs no mechanism that prompts share,
    /// and there are no other prompts to judge it on.
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
        self.push(Check {
            split: Some(Split::HeldOut),
            ablation: Some(Scheme::MEAN),
            estimate: Some(attack.agreement),
            ..Check::new(id, Status::Passed, words)
        });
        self.report.findings.attacks.push(attack);
        Ok(())
    }

    /// The same attack where random nodes of the same number and kind are safe: what a circuit that is none suffers.
    fn attacks_on_random_sets(&mut self, evaluators: &Evaluators<'_>, budget: f64) {
        const SETS: u64 = 3;
        for set in 0..SETS {
            if self.clock.is_over() {
                return self.unfinished(CheckId::AttacksOnRandomSets);
            }
            let mut rng = Stream::AttackedSet(set).rng(self.settings.seed);
            let (nodes, _) = draw(self.case.circuit.nodes(), Draw::Others, &evaluators.active, &mut rng);
            let (settings, clock) = (self.settings, self.clock);
            let out_of_time = || clock.is_over();
            let mut adversary =
                Adversary::new(&evaluators.few_selection, &nodes, Effort::of(settings), settings.seed, &out_of_time);
            adversary.search_sets(&[], budget);
            let (found, _) = adversary.attack(budget);
            let what = (Subset::Random, Attacker::OneScheme, budget);
            let (attack, _) = adversary::outcome_of(what, &found, &evaluators.held_out, &evaluators.resamples);
            self.report.findings.attacks.push(attack);
        }
    }

    fn refute_by_attack(&mut self, evaluator: &Evaluator<'_>, measured: &Measured, r: &[f32]) {
        let pair = worst_pair(measured.agree.len(), |i| 1e6 * (1.0 - measured.agree[i]) + measured.kl_candidates[i]);
        let shown = Shown {
            check: CheckId::Adversary,
            split: Split::HeldOut,
            pair,
            evaluator,
            run: &measured.differences,
            calibration: Calibration::NONE,
        };
        self.refute_by(|| shown.example(shown.partly(Change::Attack, r, Scheme::MEAN)));
    }
}
