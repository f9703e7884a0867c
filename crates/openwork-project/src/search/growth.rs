//! Growth of a circuit by counter-examples, from a circuit file or from learned masks.

use openwork_circuit::{
    Ablation, Circuit, CircuitFile, Grown, Growth, GrowthRound, GrowthStart, Keep, SearchSettings, SizedBy, batches,
    evaluate,
};
use openwork_extract::{Grow, GrowError, GrownCircuit, Settings, Stop, calibrate};
use openwork_ops::Device;
use openwork_tasks::Splits;

use super::{OnSearchStep, SearchError, SearchRequest, SearchState, SearchStep, by_masks, file};
use crate::Project;

/// Growth of a circuit in the model as it is.
#[derive(Clone, Debug)]
pub struct GrowthMethod {
    /// Circuit to begin from.
    pub from: GrowthFrom,
    /// Settings.
    pub settings: Growth,
    /// True if a circuit that does not reach what the settings ask for is wanted all the same; its file says so.
    pub accept_unreached: bool,
}

/// Circuit that growth begins from.
#[derive(Clone, Debug)]
pub enum GrowthFrom {
    /// The one that learned masks find.
    Masks(Settings),
    /// One that was found before; its target loss and its seed are those of the growth.
    Circuit(Box<CircuitFile>),
}

/// State of a growth that ended without reaching what its settings ask for.
#[derive(Clone, Debug)]
pub struct NotGrown {
    /// Reason that it ended; [`Stop::Reached`] where only the selection pairs are missed.
    pub stopped: Stop,
    /// Rounds of growth.
    pub rounds: usize,
    /// State at the end.
    pub last: GrowthRound,
    /// What was asked for.
    pub settings: Growth,
    /// Loss on the selection pairs, and the target, nats per sequence.
    pub loss: [f64; 2],
}

impl std::fmt::Display for NotGrown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { stopped, rounds, last, settings, loss: [loss, target] } = self;
        let why = match stopped {
            Stop::Reached => "every check holds on the training pairs, and the loss does not on the selection pairs",
            Stop::Nodes => "the circuit has as many nodes as it may (--max-nodes)",
            Stop::Rounds => "all rounds were made (--rounds)",
            Stop::NothingToAdd => "no slope names another node to add",
        };
        write!(
            f,
            "{why}: after {rounds} rounds {} nodes and {} edges, least agreement {:.3} (asked: {}), gap {:.2} (at most {}), loss {:.3} on \
             training and {loss:.3} on selection pairs (target {target})",
            last.nodes,
            last.edges,
            last.agreements.least(),
            settings.agreement,
            last.gap,
            settings.max_gap,
            last.loss,
        )?;
        let attacked = &last.agreements.attacked;
        let holds = |by| attacked.iter().filter(|a| a.sized_by == by).all(|a| a.agreement >= settings.agreement);
        if holds(SizedBy::Start) && !holds(SizedBy::Circuit) {
            write!(
                f,
                "; attacks of the starting circuit's size are withstood, those of its own size are not: it grows after its own budget"
            )?;
        }
        write!(f, "; --accept-unreached writes the circuit all the same")
    }
}

/// Grows a circuit. `None` where `on_step` ended the search.
pub(super) fn by_growth(
    project: &Project,
    request: &SearchRequest<'_>,
    method: &GrowthMethod,
    device: &Device,
    on_step: &mut OnSearchStep<'_>,
) -> Result<Option<CircuitFile>, SearchError> {
    let start = match &method.from {
        GrowthFrom::Circuit(circuit) => (**circuit).clone(),
        GrowthFrom::Masks(settings) => {
            let mut ended = false;
            let mut watched = |step: SearchStep<'_>| {
                let flow = on_step(step);
                ended |= flow.is_break();
                flow
            };
            let found = by_masks(project, request, settings, device, &mut watched)?;
            match found.filter(|_| !ended) {
                Some(found) => found,
                None => return Ok(None),
            }
        }
    };
    let (Project { model, means, .. }, Splits { train, selection, .. }) = (project, request.splits);
    let (settings, target_loss, seed) = (&method.settings, start.target_loss, start.seed);
    let grow =
        Grow { model, means, train, claim: request.claim, start: start.circuit.nodes(), target_loss, seed, settings };
    let grown = grow.run(&mut |state| {
        on_step(SearchStep { task: request.task, control: None, state: SearchState::Growth { settings, step: state } })
    });
    let GrownCircuit { nodes, stopped, rounds } = match grown {
        Err(GrowError::Ended) => return Ok(None),
        grown => grown.map_err(|source| SearchError::Grow { task: request.task.to_owned(), source })?,
    };
    let calibration = calibrate(model, means, &nodes, train);
    let alone = || Keep::new(&nodes, Ablation::Mean(means));
    let loss = evaluate(model, &batches(selection, 8, model.config.n_ctx), false, alone, |_| ()).loss(calibration);
    let reached = stopped == Stop::Reached && loss <= target_loss;
    if !reached && !method.accept_unreached {
        let last = rounds.last().expect("a growth has a round").clone();
        let state =
            NotGrown { stopped, rounds: rounds.len(), last, settings: settings.clone(), loss: [loss, target_loss] };
        return Err(SearchError::NotGrown { task: request.task.to_owned(), state: Box::new(state) });
    }
    let began = GrowthStart {
        circuit_sha256: start.circuit.sha256(),
        nodes: start.circuit.size().nodes,
        edges: start.circuit.size().edges,
        search: Box::new(start.search),
    };
    let search = SearchSettings::Grown(Grown { start: began, reached, settings: settings.clone(), rounds });
    let circuit = Circuit::new(model, nodes);
    Ok(Some(file(project, request, (circuit, calibration, loss), (target_loss, seed, search))))
}

#[cfg(test)]
mod tests {
    use openwork_circuit::{Agreements, Attacked, Phase};

    use super::*;

    #[test]
    fn an_error_says_how_far_growth_came_and_whether_it_runs_after_its_own_budget() {
        let attacked = |sized_by, agreement| Attacked { share: 0.5, sized_by, budget: 9, agreement };
        let state = |start, own| {
            let attacked = vec![attacked(SizedBy::Start, start), attacked(SizedBy::Circuit, own)];
            let agreements = Agreements { at_means: 1.0, frozen_norms: Some(0.99), at_zero: 1.0, attacked };
            let last = GrowthRound { phase: Phase::Grow, nodes: 400, edges: 900, loss: 0.02, agreements, gap: 0.1 };
            let settings = Growth::default();
            NotGrown { stopped: Stop::Nodes, rounds: 7, last, settings, loss: [0.03, 0.15] }.to_string()
        };
        let after = state(1.0, 0.9);
        for part in ["--max-nodes", "7 rounds", "400 nodes", "900 edges", "agreement 0.900", "0.985", "own budget"] {
            assert!(after.contains(part), "{part}: {after}");
        }
        assert!(!state(0.9, 0.9).contains("own budget"), "both sizes fail");
        assert!(!state(1.0, 1.0).contains("own budget"));
    }
}
