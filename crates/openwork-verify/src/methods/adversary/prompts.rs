//! An adversary with a scheme of its own for every prompt, or for every pair.

use openwork_circuit::{Calibration, NodeSet, Outcome};
use openwork_tasks::Pair;
use rayon::prelude::*;

use super::{Adversary, Attack, Attacker, Candidate, Effort, Objective, VALUE, most_ablated};
use crate::{
    methods::random_sets::Subset,
    run::{
        context::Weights,
        error::RunError,
        evaluator::Evaluator,
        measures::{Measured, best_shift},
        shift_free::{ToAnswers, contrasts},
    },
    settings::Settings,
    stats::intervals::{Resamples, fraction},
};

/// Pairs whose prompts are attacked.
const PAIRS: usize = 8;

/// The worst that was found on each of a few prompts with `budget` nodes of its own choice, from slopes, knock-outs and activity.
/// Judged on the prompts that it was made on: there are no others like it. `None` if time ran out.
pub(crate) fn per_prompt(
    evaluator: &Evaluator<'_>,
    circuit: &NodeSet,
    budget: f64,
    settings: &Settings,
    out_of_time: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Attack>, RunError> {
    let n = PAIRS.min(evaluator.pairs.len());
    let one = |sequence: usize| -> Result<Option<(f64, Candidate)>, RunError> {
        let pair = &evaluator.pairs[sequence / 2];
        let prompt = evaluator.prompt(sequence).to_vec();
        let twice = Pair { positive: prompt.clone(), negative: prompt, ..pair.clone() };
        let alone = Evaluator::new(evaluator.context, &[twice])?;
        let out_of_time = || out_of_time();
        let mut adversary = Adversary::new(
            &alone,
            circuit,
            (Effort { restarts: 0, ..Effort::of(settings) }, Objective::raw(&alone.model)),
            settings.seed,
            &out_of_time,
        );
        let (found, finished) = adversary.attack(budget);
        let difference = alone.partial(Weights::Model, &found.r, VALUE, false).differences[0];
        Ok(finished.then_some((difference, found)))
    };
    let found: Vec<Option<(f64, Candidate)>> = (0..2 * n).into_par_iter().map(one).collect::<Result<_, _>>()?;
    let Some(found) = found.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    let run = Outcome { differences: found.iter().map(|f| f.0).collect(), log_probs: vec![] };
    let model = Outcome { differences: evaluator.model.differences[..2 * n].to_vec(), log_probs: vec![] };
    let measured = Measured::new(&run, Calibration::NONE, &model);
    let worst = found.iter().map(|f| &f.1).max_by(|a, b| a.effect.partial_cmp(&b.effect).expect("finite"));
    let worst = worst.expect("a split has pairs");
    let labels: Vec<Vec<usize>> = evaluator.pairs[..n].iter().map(|p| vec![p.template]).collect();
    Ok(Some(Attack {
        on: Subset::Circuit,
        attacker: Attacker::PerPrompt,
        search: worst.search,
        budget,
        kl: Resamples::grouped(&labels, settings.bootstrap, settings.seed).mean(&measured.kl_candidates),
        agreement: fraction(&measured.agree),
        agreement_shifted: fraction(&Measured::new(&run, best_shift(&run), &model).agree),
        nodes: most_ablated(evaluator, &worst.r),
    }))
}

/// The worst that was found on each of a few pairs with `budget` nodes of its own choice, up to a shift that is common to the two
/// prompts of the pair: one prompt alone has no shift in common with another. What is left is whether the run still has the two in the
/// order of the model. Judged on the pairs that it was made on, each at its own shift; `Some(None)` where the model answers the
/// two prompts of none differently, `None` if time ran out.
pub(crate) fn per_pair(
    evaluator: &Evaluator<'_>,
    circuit: &NodeSet,
    budget: f64,
    settings: &Settings,
    out_of_time: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Option<Attack>>, RunError> {
    let with_contrast = contrasts(&evaluator.model);
    let chosen: Vec<usize> = (0..evaluator.pairs.len()).filter(|&pair| with_contrast[pair]).take(PAIRS).collect();
    let one = |&pair: &usize| -> Result<Option<(Outcome, Evaluator<'_>, Candidate)>, RunError> {
        let alone = Evaluator::new(evaluator.context, &evaluator.pairs[pair..=pair])?;
        let out_of_time = || out_of_time();
        let effort = Effort { restarts: 0, ..Effort::of(settings) };
        let objective = Objective::shift_free(&alone.model);
        let (found, finished) =
            Adversary::new(&alone, circuit, (effort, objective), settings.seed, &out_of_time).attack(budget);
        let run = alone.partial(Weights::Model, &found.r, VALUE, false);
        Ok(finished.then_some((run, alone, found)))
    };
    let found: Vec<Option<_>> = chosen.par_iter().map(one).collect::<Result<_, RunError>>()?;
    let Some(found) = found.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    let worst = found.iter().map(|f| &f.2).max_by(|a, b| a.effect.partial_cmp(&b.effect).expect("finite"));
    let Some(worst) = worst else { return Ok(Some(None)) };
    let raw = found.iter().map(|(run, alone, _)| Measured::new(run, Calibration::NONE, &alone.model));
    let raw: Vec<Measured> = raw.collect();
    let shifted: Vec<f64> =
        found.iter().flat_map(|(run, alone, _)| ToAnswers::new(run, 1.0, &alone.model).agree).collect();
    let labels: Vec<Vec<usize>> = chosen.iter().map(|&pair| vec![evaluator.pairs[pair].template]).collect();
    let of_pairs = |value: &dyn Fn(&Measured) -> f64| raw.iter().map(value).collect::<Vec<f64>>();
    Ok(Some(Some(Attack {
        on: Subset::Circuit,
        attacker: Attacker::PerPair,
        search: worst.search,
        budget,
        kl: Resamples::grouped(&labels, settings.bootstrap, settings.seed).mean(&of_pairs(&|m| m.kl_candidates[0])),
        agreement: fraction(&of_pairs(&|m| m.agree[0])),
        agreement_shifted: fraction(&shifted),
        nodes: most_ablated(evaluator, &worst.r),
    })))
}
