//! Verdicts: levels, the matrix of runs, controls, and the counter-example with its replay.

use openwork_project::{Replayed, Standing, VerdictFile};
use openwork_verify::{
    Cell, CounterExample, Estimate, Faithfulness, LevelReport, LevelState, NodeWorth, Verdict, replay,
};
use serde::Serialize;

use crate::{
    View, ViewError,
    ask::Token,
    open::{OpenedCircuit, OpenedModel},
};

/// The verdict on a circuit.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictPage {
    /// The verdict in a line.
    pub headline: String,
    /// Its claim, and what that says.
    pub claim: [String; 2],
    /// Reasons, the decisive ones first.
    pub reasons: Vec<String>,
    /// Level that was reached, and that was asked for.
    pub level: [u8; 2],
    /// The six levels.
    pub levels: Vec<Level>,
    /// Every run on every split.
    pub matrix: Vec<MatrixCell>,
    /// Control searches.
    pub controls: Vec<ControlRow>,
    /// Worth of nodes.
    pub nodes: Vec<WorthRow>,
    /// Curves.
    pub curves: Vec<CurveRow>,
    /// The choices behind the numbers: choice and value.
    pub declarations: Vec<[String; 2]>,
    /// The search that found the circuit, and earlier verdicts, in words.
    pub provenance: Vec<String>,
    /// The pair on which it fails.
    pub counter_example: Option<Counter>,
}

/// A level.
#[derive(Clone, Debug, Serialize)]
pub struct Level {
    /// 1 to 6.
    pub number: u8,
    /// Its question.
    pub question: &'static str,
    /// `passed`, `weak`, `failed`, `unfinished`, `not_reached` or `not_asked`.
    pub state: &'static str,
    /// The state in words.
    pub words: String,
    /// Checks that stand in the way: check and explanation.
    pub against: Vec<[String; 2]>,
    /// Steps that were left out.
    pub left_out: Option<String>,
}

/// A number with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Pairs.
    pub n: usize,
}

impl From<Estimate> for Interval {
    fn from(estimate: Estimate) -> Self {
        Self { mean: estimate.mean, low: estimate.ci95.0, high: estimate.ci95.1, n: estimate.n }
    }
}

/// A run on a split.
#[derive(Clone, Debug, Serialize)]
pub struct MatrixCell {
    /// Pairs.
    pub split: String,
    /// Nodes that were kept.
    pub kept: String,
    /// Ablation of the others.
    pub ablation: Option<String>,
    /// Task loss, nats per sequence.
    pub loss: Interval,
    /// Fraction of sequences whose right candidate is preferred.
    pub accuracy: Interval,
    /// Fraction on which the run prefers the model's candidate.
    pub agreement: Interval,
    /// KL(model ‖ run) over the vocabulary, nats.
    pub kl: Interval,
    /// Normalised faithfulness.
    pub faithfulness: Option<Interval>,
}

/// A control search.
#[derive(Clone, Debug, Serialize)]
pub struct ControlRow {
    /// Its kind.
    pub kind: String,
    /// True if it reached the target, which it should not.
    pub reached_target: bool,
    /// Its loss, nats per sequence.
    pub loss: f64,
    /// Its nodes and edges.
    pub size: [usize; 2],
}

/// Worth of a node.
#[derive(Clone, Debug, Serialize)]
pub struct WorthRow {
    /// The node.
    pub node: String,
    /// Rise of the circuit's loss without it, nats.
    pub in_circuit: Interval,
    /// Rise of the model's loss without it, nats.
    pub in_model: f64,
}

/// A curve.
#[derive(Clone, Debug, Serialize)]
pub struct CurveRow {
    /// Quantity along the axis.
    pub axis: &'static str,
    /// Quantity that is measured.
    pub measure: &'static str,
    /// Reading of its shape.
    pub reading: &'static str,
    /// Points.
    pub points: Vec<(f64, f64)>,
}

/// A counter-example.
#[derive(Clone, Debug, Serialize)]
pub struct Counter {
    /// Check that it speaks against.
    pub check: String,
    /// Pairs that it is from, and its number there.
    pub from: String,
    /// Intervention in words.
    pub intervention: String,
    /// The two prompts.
    pub prompts: [Vec<Token>; 2],
    /// Answer (right for the first prompt) and alternative.
    pub candidates: [Token; 2],
    /// Logit of the answer less that of the alternative in the model, after both prompts.
    pub model: [f64; 2],
    /// The same in the run under the intervention.
    pub run: [f64; 2],
    /// Prompts whose values ablated nodes take.
    pub sources: Option<[Vec<Token>; 2]>,
    /// Nodes that are ablated in part, the most ablated first, and the part that is kept of each.
    pub partly: Vec<(String, f32)>,
}

/// A counter-example that was run again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReplayAnswer {
    /// The model's differences of logits now.
    pub model: [f64; 2],
    /// Those of the run under the intervention now.
    pub run: [f64; 2],
    /// True if both are as the verdict says, up to rounding.
    pub agrees: bool,
}

/// Nodes of an attack that are shown.
const PARTLY: usize = 40;

impl View {
    /// The verdict on a circuit.
    ///
    /// # Errors
    /// When there is no such circuit, or no verdict that is about it.
    pub fn verdict(&self, number: usize) -> Result<VerdictPage, ViewError> {
        let (circuit, opened) = self.circuit(number)?;
        let file = judged(circuit)?;
        let report = &file.report;
        let declaration = |d: &openwork_verify::Declaration| [d.what.clone(), d.value.clone()];
        let control = |control: &openwork_verify::Control| ControlRow {
            kind: control.kind.to_string(),
            reached_target: control.reached_target,
            loss: control.loss,
            size: [control.nodes, control.edges],
        };
        let worth = |worth: &NodeWorth| WorthRow {
            node: worth.node.clone(),
            in_circuit: worth.in_circuit.into(),
            in_model: worth.in_model,
        };
        let curve = |curve: &openwork_verify::Curve| CurveRow {
            axis: curve.kind.axis(),
            measure: curve.kind.measure(),
            reading: curve.kind.reading(),
            points: curve.points.clone(),
        };
        Ok(VerdictPage {
            headline: report.headline(),
            claim: [report.claim.to_string(), report.claim.words().to_owned()],
            reasons: report.reasons.iter().map(ToString::to_string).collect(),
            level: [report.level_reached, report.level],
            levels: report.levels().iter().map(level).collect(),
            matrix: report.matrix.iter().map(cell).collect(),
            controls: file.controls.iter().map(control).collect(),
            nodes: report.findings.nodes.iter().map(worth).collect(),
            curves: report.curves.iter().map(curve).collect(),
            declarations: report.declarations.iter().map(declaration).collect(),
            provenance: file.provenance(),
            counter_example: example(file).map(|example| counter(opened, example)),
        })
    }

    /// Runs the counter-example of a verdict again, from what its file says alone.
    ///
    /// # Errors
    /// When there is none, or no means, or it does not fit the model.
    pub fn replay(&self, number: usize) -> Result<ReplayAnswer, ViewError> {
        let (circuit, opened) = self.circuit(number)?;
        let example = example(judged(circuit)?).ok_or(ViewError::NoCounterExample)?;
        let means = opened.means.as_ref().ok_or(ViewError::NoMeans)?;
        let (model, run) = replay(&opened.open.model, means, example)?;
        let replayed = Replayed { example, model, run };
        Ok(ReplayAnswer { model, run, agrees: replayed.agrees() })
    }
}

fn judged(circuit: &OpenedCircuit) -> Result<&VerdictFile, ViewError> {
    match &circuit.standing {
        Ok(Standing::Judged(file)) => Ok(file),
        _ => Err(ViewError::NoVerdict),
    }
}

fn example(file: &VerdictFile) -> Option<&CounterExample> {
    match &file.report.verdict {
        Verdict::Refuted { counter_example, .. } => counter_example.as_deref(),
        _ => None,
    }
}

fn level(level: &LevelReport<'_>) -> Level {
    let state = match level.state {
        LevelState::Passed => "passed",
        LevelState::Weak => "weak",
        LevelState::Failed => "failed",
        LevelState::Unfinished => "unfinished",
        LevelState::NotReached => "not_reached",
        LevelState::NotAsked => "not_asked",
    };
    Level {
        number: level.number,
        question: level.question,
        state,
        words: level.state.to_string(),
        against: level.against.iter().map(|check| [check.id.to_string(), check.explanation.clone()]).collect(),
        left_out: level.left_out(),
    }
}

fn cell(cell: &Cell) -> MatrixCell {
    let faithfulness = match &cell.faithfulness {
        Some(Faithfulness::Defined { ratio_of_means, .. }) => Some((*ratio_of_means).into()),
        _ => None,
    };
    MatrixCell {
        split: cell.split.to_string(),
        kept: cell.kept.to_string(),
        ablation: cell.ablation.map(|scheme| scheme.to_string()),
        loss: cell.loss.into(),
        accuracy: cell.accuracy.into(),
        agreement: cell.agreement.into(),
        kl: cell.kl.into(),
        faithfulness,
    }
}

fn counter(opened: &OpenedModel, example: &CounterExample) -> Counter {
    let both = |prompts: &[Vec<u16>; 2]| prompts.each_ref().map(|prompt| opened.texts(prompt));
    let (answer, alternative) = example.candidates;
    let intervention = &example.intervention;
    let mut partly = intervention.partly.clone();
    partly.sort_by(|a, b| a.1.total_cmp(&b.1));
    partly.truncate(PARTLY);
    Counter {
        check: example.check.to_string(),
        from: match example.pair {
            Some(pair) => format!("pair {pair} of {}", example.split),
            None => "a pair that a search over inputs made".into(),
        },
        intervention: format!("{} ({} ablation)", intervention.what, intervention.scheme),
        prompts: both(&example.prompts),
        candidates: [answer, alternative].map(|id| opened.texts(&[id]).remove(0)),
        model: example.model,
        run: example.run,
        sources: intervention.sources.as_ref().map(both),
        partly,
    }
}
