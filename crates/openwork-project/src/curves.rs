//! Curves of rankings: what circuits of growing size do, by score, and the table of them.

use std::{fmt::Write, ops::ControlFlow};

use openwork_circuit::{Parts, Score, Scored, batches};
use openwork_extract::{CurvePoint, ScoreSearch, ScoreStep, SiteSum, curve_sizes};
use openwork_tasks::Splits;

use crate::{Project, SearchError, tasks::check_finite};

/// Curve of one score.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreCurve {
    /// Settings of the score.
    pub settings: Scored,
    /// Circuits by rising size.
    pub points: Vec<CurvePoint>,
    /// Sums of the scores beside what they estimate, site by site; none of scores that estimate no effect of nodes.
    pub sums: Vec<SiteSum>,
}

/// First line of the table of curves, by which such a file is known.
pub const CURVES_HEADER: &str =
    "score,ranked,parts,nodes,edges,loss_nats,kl_nats,agreement,agreement_attacked_quarter,agreement_attacked_equal";

/// Observer of curves, told the score at every step; its `Break` ends the work.
pub type OnCurveStep<'a> = dyn FnMut(&Scored, ScoreStep) -> ControlFlow<()> + 'a;

/// Curves of these scores for a task: scores are taken on training pairs, and circuits are measured on selection pairs. `None`
/// where `on_step` ended them.
///
/// # Errors
/// When a value of the model is not finite on a prompt of the task.
pub fn score_curves(
    project: &Project,
    task: &str,
    splits: &Splits,
    scores: &[Scored],
    seed: u64,
    on_step: &mut OnCurveStep<'_>,
) -> Result<Option<Vec<ScoreCurve>>, SearchError> {
    let Project { model, means, .. } = project;
    let prompts = batches(&[&splits.train[..], &splits.selection].concat(), 8, model.config.n_ctx);
    check_finite(model, &prompts).map_err(|source| SearchError::NotFinite { task: task.to_owned(), source })?;
    let mut curves = vec![];
    for settings in scores {
        let (train, validation) = (&splits.train[..], &splits.selection[..]);
        // No target: a curve has all sizes.
        let search = ScoreSearch { model, means, train, validation, target_loss: f64::INFINITY, seed, settings };
        let mut step = |step| on_step(settings, step);
        let Some(ranked) = search.ranked(&mut step) else { return Ok(None) };
        let Some(points) = search.curve(&ranked, &curve_sizes(ranked.len()), &mut step) else { return Ok(None) };
        let sums = match estimates_effects_of_nodes(settings) {
            true => search.scorer().site_sums(ranked.scores()),
            false => vec![],
        };
        curves.push(ScoreCurve { settings: settings.clone(), points, sums });
    }
    Ok(Some(curves))
}

/// True for estimates of the effect of ablating a node, in nats: those of a site's nodes sum to the effect of the site as far as the model
/// is linear.
fn estimates_effects_of_nodes(settings: &Scored) -> bool {
    let estimates = matches!(settings.score, Score::Gradient | Score::Integrated | Score::Inputs | Score::Patching);
    estimates && settings.parts == Parts::Nodes
}

/// The curves as a table of comma-separated values with a heading: a line for each circuit. Losses are in nats per sequence,
/// agreements are shares.
pub fn curves_csv(curves: &[ScoreCurve]) -> String {
    let mut text = format!("{CURVES_HEADER}\n");
    for ScoreCurve { settings: Scored { score, parts: ranked, .. }, points, .. } in curves {
        for p in points {
            let CurvePoint { parts, nodes, edges, loss, kl, agreement, attacked_quarter, attacked_equal } = p;
            writeln!(
                text,
                "{score},{ranked},{parts},{nodes},{edges},{loss:.6},{kl:.6},{agreement:.6},{attacked_quarter:.6},{attacked_equal:.6}"
            )
            .expect("a string takes everything");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_every_circuit_and_a_column_for_every_figure() {
        let point = CurvePoint {
            parts: 3,
            nodes: 4,
            edges: 5,
            loss: 0.25,
            kl: 1.5,
            agreement: 0.75,
            attacked_quarter: 0.5,
            attacked_equal: 0.125,
        };
        let settings = Scored { score: Score::Acdc, parts: Parts::Edges, ..Scored::default() };
        let text = curves_csv(&[
            ScoreCurve { settings, points: vec![point], sums: vec![] },
            ScoreCurve { settings: Scored::default(), points: vec![], sums: vec![] },
        ]);
        assert_eq!(text, format!("{CURVES_HEADER}\nacdc,edges,3,4,5,0.250000,1.500000,0.750000,0.500000,0.125000\n"));
    }
}
