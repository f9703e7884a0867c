//! Level 5: causal scrubbing of what every circuit claims, and the hypothesis about this one, if there is one.

use super::{Evaluators, Stop, Verifier, sufficiency::NO_CONTRASTS};
use crate::{
    checks::{Check, Status, form::Raw, id::CheckId},
    hypothesis::{HypothesisSettings, HypothesisVerdict, Prompts, examine, list},
    methods::scrub::{ScrubSettings, scrub_with},
    report::fault::Fault,
    run::{context::Weights, measures::Faithfulness, scheme::Split},
    stats::intervals::Estimate,
};

impl Verifier<'_> {
    /// Level 5.
    pub(super) fn meaning(&mut self, evaluators: &Evaluators<'_>) -> Result<(), Stop> {
        self.scrubbing(evaluators)?;
        self.hypothesis()?;
        Ok(())
    }

    /// Everything outside the circuit resampled, independently per path.
    fn scrubbing(&mut self, evaluators: &Evaluators<'_>) -> Result<(), Fault> {
        let id = CheckId::Scrubbing;
        if !self.has_time(id) {
            return Ok(());
        }
        let settings =
            ScrubSettings { seed: self.settings.seed, bootstrap: self.settings.bootstrap, ..ScrubSettings::default() };
        let pairs = super::some_of(&evaluators.held_out.pairs, settings.max_pairs);
        let masked = self.context.model_with(Weights::Circuit);
        let found = scrub_with(self.case.model, masked, self.case.circuit.nodes(), &pairs, &settings)
            .map_err(|e| Fault::Scrubbing { reason: e.to_string() })?;
        let raw = (&found.score_loss, Some(found.circuit.agreement));
        let shifted = (&found.at_best_shift.score_loss, found.at_best_shift.agreement);
        for (id, after, outcome) in
            [(id, "", raw), (CheckId::ShiftFree { of: Raw::Scrubbing }, " after the best common shift", shifted)]
        {
            let check = self.scrubbed(id, after, outcome, found.circuit.kl);
            self.push(check);
        }
        self.report.findings.scrubbed = Some(found);
        Ok(())
    }

    /// The check on scrubbed runs: their score and how often they have the model's answer.
    fn scrubbed(
        &self,
        id: CheckId,
        after: &str,
        (score_loss, agreement): (&Faithfulness, Option<Estimate>),
        kl: Estimate,
    ) -> Check {
        let (least, agrees) = (self.settings.min_scrubbed, self.settings.min_template);
        let (status, score) = match (score_loss, agreement) {
            (Faithfulness::Defined { ratio_of_means, .. }, Some(agreement)) => {
                let passed = ratio_of_means.ci95.0 >= least && agreement.ci95.0 >= agrees;
                (Status::of(passed), format!("{ratio_of_means} of the model's loss is kept"))
            }
            (Faithfulness::Undefined { denominator: (mean, se) }, _) => (
                Status::NotApplicable,
                format!("the score is undefined, with a denominator of {mean:.4} ± {se:.4} nats"),
            ),
            (_, None) => return Check::new(id, Status::NotApplicable, NO_CONTRASTS),
        };
        let agreement = agreement.map_or("none".into(), |agreement| agreement.to_string());
        let words = format!(
            "with everything outside the circuit resampled from other prompts, for every path on its own, {score}{after} (at \
             least {least}), the answer is the model's in {agreement} of runs (at least {agrees}) and KL from the model {kl} nats"
        );
        let estimate = match score_loss {
            Faithfulness::Defined { ratio_of_means, .. } => Some(*ratio_of_means),
            Faithfulness::Undefined { .. } => None,
        };
        Check { split: Some(Split::HeldOut), estimate, threshold: Some(least), ..Check::new(id, status, words) }
    }

    /// Tests the hypothesis of the case, if it has one. All runs are of the model with nodes set to other values; the circuit only
    /// says which nodes are tried together.
    fn hypothesis(&mut self) -> Result<(), Fault> {
        let id = CheckId::Hypothesis;
        let Some(meaning) = self.case.meaning else {
            self.push(Check::not_asked(id, "none came with the circuit"));
            return Ok(());
        };
        if !self.has_time(id) {
            return Ok(());
        }
        let prompts: Vec<Vec<u16>> =
            self.case.held_out.iter().flat_map(|p| [p.positive.clone(), p.negative.clone()]).collect();
        let settings = HypothesisSettings { seed: self.settings.seed, ..HypothesisSettings::default() };
        let prompts = Prompts { tokens: &prompts, text: meaning.text };
        let found = examine(self.case.model, Some(self.case.circuit.nodes()), meaning.hypothesis, prompts, &settings)
            .map_err(|e| Fault::Hypothesis { reason: e.to_string() })?;
        let (status, words) = match &found.verdict {
            HypothesisVerdict::Supported => (Status::Passed, "every test of the hypothesis passed".to_owned()),
            HypothesisVerdict::Undecided { by } => {
                (Status::NotApplicable, format!("too few prompts decide about: {}", list(by, ", ")))
            }
            HypothesisVerdict::Refuted { by } => (Status::Failed, format!("refuted by: {}", list(by, ", "))),
        };
        let words = format!("{}: {words}", meaning.hypothesis.name);
        self.push(Check::new(id, status, words));
        self.report.findings.hypothesis = Some(found);
        Ok(())
    }
}
