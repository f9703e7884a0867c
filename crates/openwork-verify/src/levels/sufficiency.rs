//! Levels 1 and 2: the model does the task, and the circuit alone does what the model does, under every ablation.

use openwork_circuit::{Calibration, Claim, NodeSet, Outcome};

use super::{Evaluators, Shown, Stop, Verifier, has_norms, is_frozen, other_schemes, worst_pair};
use crate::{
    checks::{Check, Role, Status, form::Raw, id::CheckId},
    levels::rules,
    methods::size_curve,
    report::{
        counter_example::Change,
        findings::{Curve, CurveKind},
    },
    run::{
        error::RunError,
        evaluator::Evaluator,
        measures::{Cell, Faithfulness, Measured, argmax, calibrate, faithfulness, losses_at_best_shift, mean},
        scheme::{AblationValue, Kept, Scheme, Split},
        shift_free::ShiftFree,
    },
    stats::{
        equivalence,
        intervals::{Resamples, fraction, quantile},
    },
};

/// Reason that a check of the contrast decides nothing.
pub(super) const NO_CONTRASTS: &str =
    "the model gives one answer to the two prompts of every pair: there is no contrast";

/// A scheme with what was measured under it: the circuit alone and nothing.
pub(super) struct Measurement {
    pub scheme: Scheme,
    pub circuit: Measured,
    pub calibration: Calibration,
    /// The circuit's run after the best common shift.
    pub shifted: ShiftFree,
    nothing: Measured,
    nothing_shifted: ShiftFree,
    /// Standard deviation of the uncalibrated logit differences.
    spread: f64,
    /// Likeliest token after every sequence, of the circuit's run.
    likeliest: Vec<usize>,
}

impl Verifier<'_> {
    /// Level 1: the model does the task, and through nodes.
    pub(super) fn task(&mut self, evaluators: &Evaluators<'_>) -> Result<Measurement, Stop> {
        let (evaluator, resamples) = (&evaluators.held_out, &evaluators.resamples);
        let model = self.model_cell(Split::HeldOut, evaluator, resamples);
        let cell = self.report.cell(Split::HeldOut, Kept::Model, None).expect("measured");
        let task = rules::task(cell, &model.loss, resamples, self.settings);
        let done = task.status == Status::Passed;
        self.push(task);
        if !done {
            return Err(Stop::Gate);
        }
        let published = self.measure(Split::HeldOut, evaluator, &evaluators.selection, resamples, Scheme::MEAN)?;
        let cell = self.report.cell(Split::HeldOut, Kept::Circuit, Some(published.scheme)).expect("measured");
        let through = rules::through_nodes(cell.faithfulness.as_ref().expect("a circuit has one"), self.settings);
        let defined = through.status == Status::Passed;
        self.push(through);
        if !defined {
            return Err(Stop::Gate);
        }
        Ok(published)
    }

    /// Level 2, from what was measured under the published ablation on.
    pub(super) fn sufficiency(&mut self, evaluators: &Evaluators<'_>, published: &Measurement) -> Result<(), Stop> {
        let (evaluator, resamples) = (&evaluators.held_out, &evaluators.resamples);
        self.sufficient(Split::HeldOut, evaluator, published, resamples);
        self.push(rules::claimed_target(self.case.target_loss, self.settings));
        self.turned_pairs(Split::HeldOut, published);
        self.equivalence(evaluator, published, resamples);
        self.vocabulary(evaluator, published, resamples);
        let has_norms = has_norms(self.case);
        for scheme in other_schemes() {
            let mut asked = vec![CheckId::SufficiencyUnder { scheme }];
            asked.extend((is_frozen(scheme) && scheme.value == AblationValue::Mean).then_some(CheckId::Amplification));
            if is_frozen(scheme) && !has_norms {
                // Frozen norms are free ones, which are asked above.
                let not_asked = |id| Check::not_asked(id, "the model has no norms to freeze");
                asked.into_iter().for_each(|id| self.push(not_asked(id)));
            } else if self.has_time_for(&asked) {
                let measured = self.measure(Split::HeldOut, evaluator, &evaluators.selection, resamples, scheme)?;
                self.sufficient(Split::HeldOut, evaluator, &measured, resamples);
                if scheme.value == AblationValue::Mean {
                    self.amplification(published, &measured);
                }
            }
        }
        self.size_curve(&evaluators.few)?;
        self.push(rules::selective(self.report.size.expect("known by now"), self.settings));
        Ok(())
    }

    pub(super) fn model_cell(&mut self, split: Split, evaluator: &Evaluator<'_>, resamples: &Resamples) -> Measured {
        let model = Measured::new(&evaluator.model, Calibration::NONE, &evaluator.model);
        self.report.matrix.push(model.cell((split, Kept::Model, None), Calibration::NONE, None, resamples));
        model
    }

    /// Runs circuit and nothing under a scheme and adds the cells.
    pub(super) fn measure(
        &mut self,
        split: Split,
        evaluator: &Evaluator<'_>,
        selection: &Evaluator<'_>,
        resamples: &Resamples,
        scheme: Scheme,
    ) -> Result<Measurement, RunError> {
        let circuit = self.case.circuit.nodes();
        let empty = NodeSet::empty(circuit.space().clone());
        let calibrated = |nodes: &NodeSet, c: Option<Calibration>| -> Result<_, RunError> {
            let run = evaluator.run(nodes, scheme)?;
            let c = c.map_or_else(|| Ok::<_, RunError>(calibrate(&selection.run_differences(nodes, scheme)?)), Ok)?;
            let shifted = ShiftFree::new(&run, c.scale, &evaluator.model, &evaluator.pairs);
            Ok(((Measured::new(&run, c, &evaluator.model), shifted), c, likeliest(&run)))
        };
        let own = (scheme == Scheme::MEAN).then_some(self.case.calibration);
        let ((kept, shifted), calibration, likeliest) = calibrated(circuit, own)?;
        let ((nothing, nothing_shifted), nothing_calibration, _) = calibrated(&empty, None)?;
        let model = evaluator.model.pair_losses(Calibration::NONE);
        // Under constants that suit the circuit, nothing is not what the circuit is added to.
        let f = (scheme.value != AblationValue::Optimal)
            .then(|| faithfulness(&nothing.loss, &kept.loss, &model, resamples, self.settings));
        let cell = kept.cell((split, Kept::Circuit, Some(scheme)), calibration, f, resamples);
        self.report.matrix.push(Cell { at_best_shift: Some(shifted.table(resamples)), ..cell });
        let of_nothing = (split, Kept::Nothing, Some(scheme));
        self.report.matrix.push(nothing.cell(of_nothing, nothing_calibration, None, resamples));
        let spread = spread(&kept.differences) / calibration.scale.abs().max(1e-12);
        Ok(Measurement { scheme, circuit: kept, calibration, shifted, nothing, nothing_shifted, spread, likeliest })
    }

    /// The checks on a measurement, and the worst pair if one of them refutes.
    pub(super) fn sufficient(
        &mut self,
        split: Split,
        evaluator: &Evaluator<'_>,
        m: &Measurement,
        resamples: &Resamples,
    ) {
        let cell = |kept, ablation| self.report.cell(split, kept, ablation).expect("measured");
        let (model, of_circuit) = (cell(Kept::Model, None), cell(Kept::Circuit, Some(m.scheme)));
        let mut checks = rules::sufficiency((model, of_circuit), (&m.circuit, &m.nothing), resamples, self.settings);
        let of_model = ShiftFree::new(&evaluator.model, 1.0, &evaluator.model, &evaluator.pairs);
        let shifted = rules::Shifted { circuit: &m.shifted, nothing: &m.nothing_shifted, model: &of_model };
        let table = of_circuit.at_best_shift.as_ref().expect("a circuit's run has one");
        checks.extend(rules::sufficiency_shifted(of_circuit, table, &shifted, resamples, self.settings));
        checks.extend(of_circuit.faithfulness.as_ref().map(|f| reported_faithfulness(f, split, m.scheme)));
        let claim = self.case.claim;
        let refutes = |c: &&Check| c.id.role_in(claim) == Role::Required && c.status == Status::Failed;
        let failed = checks.iter().find(refutes);
        if let Some(failed) = failed {
            let id = failed.id;
            // Most disagreement first, then most loss.
            let raw = |i: usize| 1e6 * (1.0 - m.circuit.agree[i]) + m.circuit.loss[i];
            let (pair, calibration) = match id.belongs_to(Claim::Answer) {
                true => (worst_pair(m.circuit.loss.len(), raw), m.calibration),
                false => {
                    let pair =
                        worst_pair(m.shifted.loss.len(), |i| 1e6 * (1.0 - m.shifted.right[i]) + m.shifted.loss[i]);
                    (pair, Calibration { shift: m.shifted.shift, ..m.calibration })
                }
            };
            let moved = calibration.shift - m.calibration.shift;
            let run: Vec<f64> = m.circuit.differences.iter().map(|d| d + moved).collect();
            let shown = Shown { check: id, split, pair, evaluator, run: &run, calibration };
            let circuit = self.case.circuit.nodes();
            self.refute_by(|| shown.example(shown.kept(Change::OnlyCircuitKept, circuit, m.scheme)));
        }
        checks.into_iter().for_each(|check| self.push(check));
    }

    /// Amplification: the factor by which the circuit's logits spread more because all else is gone from the stream that norms divide by.
    fn amplification(&mut self, free: &Measurement, frozen: &Measurement) {
        let factor = free.spread / frozen.spread.max(1e-12);
        let limit = self.settings.max_amplification;
        let words = format!(
            "with the model's own norms the circuit's logit differences spread {:.3} nats, with its own {:.3}: {factor:.2} times \
             as much; beyond {limit} it owes most of its answer to what it leaves out",
            frozen.spread, free.spread
        );
        let status = Status::of(factor <= limit);
        self.push(Check {
            ablation: Some(frozen.scheme),
            threshold: Some(limit),
            ..Check::new(CheckId::Amplification, status, words)
        });
    }

    /// Pairs that the circuit may turn, for all that these say; and after the best common shift.
    pub(super) fn turned_pairs(&mut self, split: Split, m: &Measurement) {
        self.push(rules::turned_pairs(split, (CheckId::TurnedPairs { split }, &m.circuit.agree)));
        let id = CheckId::ShiftFree { of: Raw::TurnedPairs { split } };
        match m.shifted.answers.agree.is_empty() {
            true => self.push(Check::new(id, Status::NotApplicable, NO_CONTRASTS)),
            false => self.push(rules::turned_pairs(split, (id, &m.shifted.answers.agree))),
        }
    }

    /// Equivalence of the scores of circuit and model: null hypotheses under which *passing* needs evidence.
    fn equivalence(&mut self, evaluator: &Evaluator<'_>, m: &Measurement, resamples: &Resamples) {
        let model = evaluator.model.pair_losses(Calibration::NONE);
        let difference =
            self.equivalent(CheckId::Equivalence, (&m.circuit.loss, &m.circuit.kl_candidates), &model, m, resamples);
        let at_best = losses_at_best_shift(&evaluator.model);
        let id = CheckId::ShiftFree { of: Raw::Equivalence };
        self.equivalent(id, (&m.shifted.loss, &m.shifted.kl_candidates), &at_best, m, resamples);
        self.sign_test(&difference);
    }

    /// Equivalence of the circuit's losses and those of the model, both as they are or both at their best shifts; returns how far
    /// the circuit's are above the model's.
    fn equivalent(
        &mut self,
        id: CheckId,
        (loss, kl_candidates): (&[f64], &[f64]),
        model: &[f64],
        m: &Measurement,
        resamples: &Resamples,
    ) -> Vec<f64> {
        let margin = self.settings.equivalence_margin;
        let difference: Vec<f64> = loss.iter().zip(model).map(|(c, m)| c - m).collect();
        let negative: Vec<f64> = difference.iter().map(|d| -d).collect();
        let p = resamples
            .p_below(&difference, margin)
            .max(resamples.p_below(&negative, margin))
            .max(resamples.p_below(kl_candidates, margin));
        let estimate = resamples.mean(&difference);
        let after = if id.belongs_to(Claim::Answer) { "" } else { "each at its best common shift, " };
        let words = format!(
            "{after}the circuit's loss is {estimate} nats above the model's and KL over the candidates {}; that both are within \
             {margin} nats: p = {p:.3} (two one-sided tests, and one on KL)",
            resamples.mean(kl_candidates)
        );
        self.push(Check {
            split: Some(Split::HeldOut),
            ablation: Some(m.scheme),
            estimate: Some(estimate),
            p_value: Some(p),
            threshold: Some(margin),
            ..Check::new(id, Status::of(p <= self.settings.alpha), words)
        });
        difference
    }

    /// The distribution over the vocabulary, as the circuit's run has it: a calibration is about two tokens, and what it does to
    /// others nobody claims.
    fn vocabulary(&mut self, evaluator: &Evaluator<'_>, m: &Measurement, resamples: &Resamples) {
        let plain = (CheckId::VocabularyDivergence, "");
        self.push(rules::divergence(plain, (&m.circuit.kl, &m.nothing.kl), resamples, self.settings));
        // A threshold elsewhere moves the odds of the candidates, and nothing else of the vocabulary: neither what other tokens have
        // nor whether the likeliest one is a candidate.
        let shifted = (
            CheckId::ShiftFree { of: Raw::VocabularyDivergence },
            ", each with the odds of the two candidates shifted as suits it best",
        );
        let kl = (&m.shifted.kl[..], &m.nothing_shifted.kl[..]);
        self.push(rules::divergence(shifted, kl, resamples, self.settings));
        let of_model = likeliest(&evaluator.model);
        let is_candidate = |sequence: usize, token: usize| {
            let pair = &evaluator.pairs[sequence / 2];
            [pair.answer, pair.alternative].map(usize::from).contains(&token)
        };
        let asks = (0..of_model.len()).any(|i| is_candidate(i, of_model[i]));
        // Where the model's is never a candidate, the circuit's must be the model's.
        let follows = |i: usize| match asks {
            true => is_candidate(i, of_model[i]).then(|| is_candidate(i, m.likeliest[i])),
            false => Some(of_model[i] == m.likeliest[i]),
        };
        let by_pair = |pair: usize| {
            let asked: Vec<f64> = [2 * pair, 2 * pair + 1].into_iter().filter_map(follows).map(f64::from).collect();
            (!asked.is_empty()).then(|| mean(&asked))
        };
        let share = fraction(&(0..evaluator.pairs.len()).filter_map(by_pair).collect::<Vec<_>>());
        self.push(rules::likeliest_token(share, asks, self.settings));
    }

    /// Sign test: the circuit's loss is above the model's as often as below, but for a tenth. A circuit can be equivalent within the
    /// margin and still always be a little less sure, so this is reported and decides nothing.
    fn sign_test(&mut self, difference: &[f64]) {
        const EPSILON: f64 = 0.1;
        let Some(test) = equivalence::sign_test(difference, EPSILON) else {
            return self.not_applicable(&[CheckId::SignTest], "a difference of losses is not finite");
        };
        let words = format!(
            "the fraction of pairs on which the circuit's loss is above the model's, ties counted half, is {:.3} from a half; \
             that it is less than {EPSILON} from it: p = {:.3}",
            test.statistic, test.p_value
        );
        self.push(Check { p_value: Some(test.p_value), ..Check::new(CheckId::SignTest, Status::Passed, words) });
    }

    /// Independence of the model's scores and those of all but the circuit (Shi et al. 2024). Reported: the
    /// token itself reaches the logits past all nodes, and tells as well.
    pub(super) fn independence(&mut self, evaluator: &Evaluator<'_>, without: &[f64]) {
        const PERMUTATIONS: usize = 199;
        let scores = |d: &[f64]| d.iter().step_by(2).copied().collect::<Vec<f64>>();
        let (model, rest) = (scores(&evaluator.model.differences), scores(without));
        let id = CheckId::Independence;
        let check = match equivalence::hsic(&model, &rest, PERMUTATIONS, self.settings.seed) {
            None => Check::new(id, Status::NotApplicable, "undefined: a score is constant"),
            Some(test) => Check {
                p_value: Some(test.p_value),
                ..Check::new(
                    id,
                    Status::Passed,
                    format!(
                        "between the logit differences after positive prompts of the model and of all but the circuit HSIC is \
                         {:.4}; of independence p = {:.3}: a small p says that the rest still carries some of it",
                        test.statistic, test.p_value
                    ),
                )
            },
        };
        self.push(check);
    }

    /// CPR, CMD, and the curve they are areas of.
    fn size_curve(&mut self, evaluator: &Evaluator<'_>) -> Result<(), RunError> {
        if !self.has_time(CheckId::FaithfulnessBySize) {
            return Ok(());
        }
        let ranking = size_curve::ranking(evaluator, self.case.circuit.nodes());
        let margin =
            |nodes: &NodeSet| Ok::<_, RunError>(size_curve::margin(&evaluator.run_differences(nodes, Scheme::MEAN)?));
        let model = size_curve::margin(&evaluator.model);
        let Some(points) = size_curve::faithfulness_by_size(&evaluator.space(), &ranking, model, margin)? else {
            let words = "ablating every node changes the mean logit difference no more than rounding does";
            self.not_applicable(&[CheckId::FaithfulnessBySize], words);
            return Ok(());
        };
        let (cpr, cmd) = size_curve::cpr_cmd(&points);
        self.report.findings.cpr_cmd = Some((cpr, cmd));
        let words = format!(
            "keeping the circuit's nodes first and then others by their attribution: CPR {cpr:.3}, CMD {cmd:.3} over the \
             shares of nodes of the Mechanistic Interpretability Benchmark"
        );
        self.push(Check::new(CheckId::FaithfulnessBySize, Status::Passed, words));
        self.report.curves.push(Curve { kind: CurveKind::NodesKept, points });
        Ok(())
    }
}

fn reported_faithfulness(faithfulness: &Faithfulness, split: Split, scheme: Scheme) -> Check {
    let (estimate, status, words) = match faithfulness {
        Faithfulness::Defined { ratio_of_means, by_pair: [low, median, high] } => (
            Some(*ratio_of_means),
            Status::Passed,
            format!(
                "on {split} under {scheme} ablation the circuit recovers {ratio_of_means} of what the model gains over \
                 nothing; pair by pair {low:.2}, {median:.2}, {high:.2} (5 %, 50 %, 95 %){}",
                if ratio_of_means.ci95.0 > 1.0 { "; above 1: it does better than what it should explain" } else { "" }
            ),
        ),
        Faithfulness::Undefined { denominator: (mean, se) } => (
            None,
            Status::NotApplicable,
            format!("undefined on {split} under {scheme} ablation: its denominator is {mean:.4} ± {se:.4} nats"),
        ),
    };
    let check = Check::new(CheckId::Faithfulness { split, scheme }, status, words);
    Check { split: Some(split), ablation: Some(scheme), estimate, ..check }
}

/// Least, median and largest.
pub(super) fn range(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |p| quantile(&sorted, p);
    format!("from {:.4} to {:.4}, median {:.4}", at(0.0), at(1.0), at(0.5))
}

/// Likeliest token of the vocabulary after every sequence.
fn likeliest(run: &Outcome) -> Vec<usize> {
    run.log_probs.iter().map(|p| argmax(p)).collect()
}

fn spread(values: &[f64]) -> f64 {
    let centre = mean(values);
    (values.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}
