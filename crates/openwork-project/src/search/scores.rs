//! Circuits from rankings by scores.

use openwork_circuit::{CircuitFile, Scored, SearchSettings};
use openwork_extract::{PruneError, Pruned, ScoreSearch};
use openwork_tasks::Splits;

use super::{OnSearchStep, SearchError, SearchRequest, SearchState, SearchStep, file};
use crate::Project;

/// The smallest top of a ranking that reaches a target loss.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreMethod {
    /// Loss to reach, in nats per sequence.
    pub target_loss: f64,
    /// Seed of a random ranking.
    pub seed: u64,
    /// Settings.
    pub settings: Scored,
}

pub(super) fn by_scores(
    project: &Project,
    request: &SearchRequest<'_>,
    method: &ScoreMethod,
    on_step: &mut OnSearchStep<'_>,
) -> Result<Option<CircuitFile>, SearchError> {
    let (Project { model, means, .. }, Splits { train, selection, .. }) = (project, request.splits);
    let &ScoreMethod { target_loss, seed, ref settings } = method;
    let task = || request.task.to_owned();
    let search = ScoreSearch { model, means, train, validation: selection, target_loss, seed, settings };
    let mut progress = |step| {
        let state = SearchState::Scores { settings, step };
        on_step(SearchStep { task: request.task, control: None, state })
    };
    let Pruned { circuit, calibration, loss, reached, .. } = match search.prune(&mut progress) {
        Err(PruneError::Ended) => return Ok(None),
        pruned => pruned.map_err(|source| SearchError::Prune { task: task(), source })?,
    };
    if !reached {
        return Err(SearchError::NoTop { task: task(), loss, target: target_loss });
    }
    let of_search = (target_loss, seed, SearchSettings::Scored(settings.clone()));
    Ok(Some(file(project, request, (circuit, calibration, loss), of_search)))
}
