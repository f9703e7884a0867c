//! An adversary with a scheme of its own for every prompt.

use openwork_circuit::{Calibration, NodeSet, Outcome};
use openwork_tasks::Pair;
use rayon::prelude::*;

use super::{Adversary, Attack, Attacker, Candidate, Effort, VALUE, most_ablated};
use crate::{
    methods::random_sets::Subset,
    run::{
        context::Weights,
        error::RunError,
        evaluator::Evaluator,
        measures::{Measured, best_shift},
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
            Effort { restarts: 0, ..Effort::of(settings) },
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
