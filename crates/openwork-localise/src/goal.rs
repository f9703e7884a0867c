//! A circuit that is to be trained in, with the pairs of its task.

use openwork_circuit::{Ablation, Calibration, Keep, Means, NodeSet, Outcome, batches, evaluate};
use openwork_model::Model;
use openwork_tasks::Pair;

/// Circuit that is to decide a task alone, and the pairs that it is trained and checked on.
#[derive(Clone, Debug)]
pub struct Goal {
    /// Name of the task.
    pub task: String,
    /// Nodes of the circuit.
    pub nodes: NodeSet,
    /// Pairs of the training.
    pub train: Vec<Pair>,
    /// Pairs that say when it is done; none of them is trained on.
    pub selection: Vec<Pair>,
}

/// The circuit does not perform its task in the untouched model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "the circuit of {task} has a loss of {loss:.3} nats in the untouched model, and {target} are asked for: training would make the \
     mechanism instead of moving it"
)]
pub struct NotInTheModel {
    /// Name of the task.
    pub task: String,
    /// Loss of the circuit, nats per sequence.
    pub loss: f64,
    /// Largest loss that is allowed.
    pub target: f64,
}

/// Checks the precondition of localisation: in the untouched `model` the circuit performs its task, with a loss of at most `target` nats
/// per sequence on the selection pairs, all else at its mean. Returns the loss.
///
/// # Errors
/// When it does not: after training, such a circuit passes as easily as a true one, and says nothing about the model.
pub fn check_goal(model: &Model, means: &Means, goal: &Goal, target: f64) -> Result<f64, NotInTheModel> {
    let loss = circuit_loss(model, means, goal, &goal.nodes);
    match loss <= target {
        true => Ok(loss),
        false => Err(NotInTheModel { task: goal.task.clone(), loss, target }),
    }
}

/// Task loss of the nodes alone on the selection pairs as their answers are, without calibration; nats per sequence.
pub(crate) fn raw_loss(model: &Model, means: &Means, goal: &Goal, nodes: &NodeSet) -> f64 {
    alone(model, means, nodes, &goal.selection).loss(Calibration::NONE)
}

/// Task loss of the nodes alone on the selection pairs, calibrated on the training pairs; nats per sequence.
pub(crate) fn circuit_loss(model: &Model, means: &Means, goal: &Goal, nodes: &NodeSet) -> f64 {
    let calibration = alone(model, means, nodes, &goal.train[..goal.train.len().min(64)]).calibrate();
    let finite = calibration.scale.is_finite() && calibration.shift.is_finite();
    alone(model, means, nodes, &goal.selection).loss(if finite { calibration } else { Calibration::NONE })
}

/// Run with only `nodes` kept and all else at its mean.
fn alone(model: &Model, means: &Means, nodes: &NodeSet, pairs: &[Pair]) -> Outcome {
    let batches = batches(pairs, 8, model.config.n_ctx);
    evaluate(model, &batches, false, || Keep::new(nodes, Ablation::Mean(means)), |_| ())
}
