//! Circuits less what they do not need.

use std::ops::ControlFlow;

use openwork_circuit::{CircuitFile, Hold, LearnedMasks, Refined, SearchSettings, batches};
use openwork_extract::Refinement;
use openwork_model::NotFinite;
use openwork_tasks::Splits;

use crate::{Project, ProjectError, tasks::check_finite};

/// Reason that a circuit is not refined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefineError {
    /// The circuit itself does not do what is to hold.
    #[error(
        "the circuit of {task} has not {hold} as it is, on its selection pairs: its loss there is {loss:.3} nats; ask for less, or \
         refine another circuit"
    )]
    DoesNotHold {
        /// Name of the task.
        task: String,
        /// Condition that is to hold.
        hold: Hold,
        /// Calibrated loss of the circuit, nats per sequence.
        loss: f64,
    },
    /// A value of the model is not finite on a prompt of the task.
    #[error("the circuit of {task} is not refined")]
    NotFinite {
        /// Name of the task.
        task: String,
        /// The value.
        source: NotFinite,
    },
    /// The task, its pairs or a file.
    #[error(transparent)]
    Project(#[from] ProjectError),
}

/// A circuit less the edges and nodes that it does not need for `hold` to hold on its selection pairs
/// ([`Refinement::run`], or [`Refinement::learned`] where masks over edges have settings), calibrated anew; a loss that holds is its target. `None` where `on_step`, which is told the number of edges, ended it.
///
/// # Errors
/// When `hold` does not hold of the circuit as it is, its means are others than the project's, or its task has no pairs.
pub fn refine_circuit(
    project: &Project,
    file: &CircuitFile,
    hold: Hold,
    edge_masks: Option<&LearnedMasks>,
    on_step: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<CircuitFile>, RefineError> {
    project.check_means(file)?;
    let Project { model, means, .. } = project;
    let Splits { train, selection, .. } = &project.splits_of(file)?;
    let prompts = batches(&[&train[..], selection].concat(), 8, model.config.n_ctx);
    let task = || file.task.clone();
    check_finite(model, &prompts).map_err(|source| RefineError::NotFinite { task: task(), source })?;
    let refinement = Refinement { model, means, train, validation: selection };
    if !refinement.holds(&file.circuit, hold) {
        let (loss, _) = refinement.loss(&file.circuit);
        return Err(RefineError::DoesNotHold { task: task(), hold, loss });
    }
    let before = file.circuit.clone();
    let refined = match edge_masks {
        Some(masks) => refinement.learned(before, hold, (masks, file.seed), on_step),
        None => refinement.run(before, hold, on_step),
    };
    let Some(circuit) = refined else { return Ok(None) };
    let (loss, calibration) = refinement.loss(&circuit);
    let before = Refined {
        circuit_sha256: file.circuit.sha256(),
        nodes: file.circuit.nodes().len(),
        edges: file.circuit.edges().len(),
        search: Box::new(file.search.clone()),
        hold,
        edge_masks: edge_masks.map(|masks| (masks.clone(), file.seed)),
    };
    let target_loss = match hold {
        Hold::Loss(target) => target,
        Hold::Agreement(_) => file.target_loss,
    };
    let search = SearchSettings::Refined(before);
    Ok(Some(CircuitFile { circuit, target_loss, loss, calibration, search, ..file.clone() }))
}
