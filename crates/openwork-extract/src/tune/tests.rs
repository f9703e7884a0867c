use std::convert::Infallible;

use openwork_circuit::Means;

use super::*;
use crate::prune::tests::{cues, planted};

fn on(_: TuneStep) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn kept(_: &[Trial]) -> Result<(), Infallible> {
    Ok(())
}

/// Calls `f` with a search for the planted circuit.
fn with_search<R>(f: impl FnOnce(Search<'_>) -> R) -> R {
    let model = planted();
    let means = Means::compute(&model, &[0, 1, 2, 5, 6, 7, 1, 2, 3, 4, 2, 1], 4);
    let (pairs, masks) = (cues(), LearnedMasks { batch_pairs: 8, steps: 150, ..LearnedMasks::default() });
    let settings = Settings { masks, ..Settings::default() };
    f(Search { model: &model, means: &means, train: &pairs[..10], validation: &pairs[10..], settings: &settings })
}

#[test]
fn a_tuning_that_goes_on_has_the_trials_of_one_that_was_not_ended_on_any_number_of_threads() {
    with_search(|search| {
        let tuning = |runs| Tuning { search, sampler: Sampler::Tpe, runs };
        let run = |runs, from| {
            let Ok(trials) = tuning(runs).run(from, &on, &mut kept);
            trials
        };
        let whole = run(14, vec![]);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| run(14, vec![]));
        assert_eq!(whole, one);
        // Ended within a round and between two.
        for first in [6, 12] {
            assert_eq!(run(14, run(first, vec![])), whole, "after {first}");
        }
        assert_eq!(whole[0].masks, LearnedMasks { restarts: 1, ..search.settings.masks.clone() });
        let (number, best) = best_trial(&whole).unwrap();
        assert!(best.reached && best.edges <= whole[0].edges, "{number} {}", best.edges);
        let pruned = tuning(14).circuit(best);
        assert_eq!((pruned.circuit.nodes(), pruned.loss, pruned.reached), (&best.nodes, best.loss, true));
    });
}

#[test]
fn an_ended_round_is_given_up_and_what_was_finished_is_kept() {
    with_search(|search| {
        let tuning = Tuning { search, sampler: Sampler::Random, runs: 12 };
        let until_second_round = |step: TuneStep| match step.trial {
            5 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let mut saved = vec![];
        let Ok(trials) = tuning.run(vec![], &until_second_round, &mut |trials| {
            saved.push(trials.len());
            Ok::<_, Infallible>(())
        });
        assert_eq!((trials.len(), saved), (4, vec![4]));
        let failed = tuning.run(vec![], &on, &mut |_| Err("full"));
        assert_eq!(failed, Err("full"));
    });
}

#[test]
fn trials_that_miss_the_target_come_after_all_others_by_loss() {
    with_search(|search| {
        let nodes = NodeSet::all(NodeSpace::new(&search.model.config));
        let trial =
            |reached, loss, edges| Trial { masks: LearnedMasks::default(), reached, loss, nodes: nodes.clone(), edges };
        let trials = [trial(false, 0.5, 1), trial(false, 0.3, 900), trial(true, 0.1, 40), trial(true, 0.15, 12)];
        let order = |of: &[Trial]| best_trial(of).unwrap().0;
        assert_eq!((order(&trials), order(&trials[..3]), order(&trials[..2])), (3, 2, 1));
        assert_eq!(best_trial(&[]), None);
    });
}
