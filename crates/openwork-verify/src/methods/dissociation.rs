//! Double dissociation: ablating a circuit costs its own task more than any other.
//!
//! `N_A(C) = (L_A(M∖C) − L_A(M)) / (ln 2 − L_A(M))` is the share of the model's loss reduction on task A that is lost where
//! only the circuit C is ablated by its means; every loss at its best common shift. The circuits of A and B are dissociated
//! if `N_A(C_A) > N_B(C_A)` and `N_B(C_B) > N_A(C_B)`, both beyond their 95 % intervals. One of the two alone says little:
//! a task may just be the more fragile one. Source: the neuropsychology of lesions; for circuits Li and Subramani 2026,
//! who find none among the published ones that passes.

use openwork_circuit::{Means, NodeSet};
use openwork_model::Model;
use openwork_tasks::Pair;
use serde::Serialize;

use crate::{
    methods::random_sets::{Draw, draw},
    run::{
        ablator::KeepOnly,
        context::{Context, Judged},
        error::RunError,
        evaluator::Evaluator,
        measures::{losses_at_best_shift, mean},
        scheme::Scheme,
    },
    settings::Settings,
    stats::intervals::{Estimate, Resamples, difference_of_ratios},
    streams::Stream,
};

/// Random sets beside every circuit.
const RANDOM: usize = 16;

/// A circuit and the task it is said to be of.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// Name of the task.
    pub task: &'a str,
    /// Nodes of the circuit. They are ablated in the model, which is run without them and never with them alone: edges that
    /// the circuit leaves out make no difference.
    pub circuit: &'a NodeSet,
    /// Pairs of the task that the circuit was not selected on.
    pub pairs: &'a [Pair],
}

/// Cost to a task of ablating a circuit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// The task that is measured.
    pub task: String,
    /// The task whose circuit is ablated.
    pub without: String,
    /// Share of the model's loss reduction that is lost: 0 nothing, 1 all; more where the model is misled.
    pub share: Estimate,
    /// The same without as many other nodes of the same sites, drawn at random.
    pub random: Vec<f64>,
}

/// Two circuits against each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contrast {
    /// Tasks A and B.
    pub tasks: [String; 2],
    /// Nodes that are in both circuits.
    pub shared_nodes: usize,
    /// `N_A(C_A) − N_B(C_A)` and `N_B(C_B) − N_A(C_B)`.
    pub differences: [Estimate; 2],
}

impl Contrast {
    /// True if each circuit is of its own task more than of the other.
    pub fn is_dissociated(&self) -> bool {
        self.differences.iter().all(|d| d.ci95.0 > 0.0)
    }
}

/// Every circuit ablated on every task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dissociation {
    /// Costs: a row a task, a column a circuit, in the order of the claims.
    pub costs: Vec<Vec<Cost>>,
    /// All pairs of circuits.
    pub contrasts: Vec<Contrast>,
}

/// Reason that no costs can be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DissociationError {
    /// One circuit, or none.
    #[error("{found} circuits: a dissociation is between at least two")]
    TooFewCircuits {
        /// Circuits given.
        found: usize,
    },
    /// A circuit is one of another model.
    #[error("the circuit of {task} belongs to a model of another shape")]
    OtherModel {
        /// Its task.
        task: String,
    },
    /// A task has too few pairs.
    #[error("{found} pairs of {task}, at least {least} are needed")]
    TooFewPairs {
        /// The task.
        task: String,
        /// Its pairs.
        found: usize,
        /// Fewest.
        least: usize,
    },
    /// The model is no better than chance.
    #[error("the model does not do {task}: there is nothing that an ablation could cost")]
    NoTask {
        /// The task.
        task: String,
    },
    /// A self-check of the runs failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Ablates the circuit of every claim on the pairs of every claim.
///
/// # Errors
/// With fewer than two claims, a circuit of another model, too few pairs, a task that the model does not do, or when
/// a self-check of the runs fails.
pub fn dissociate(
    model: &Model,
    means: &Means,
    claims: &[Claim<'_>],
    settings: &Settings,
) -> Result<Dissociation, DissociationError> {
    if claims.len() < 2 {
        return Err(DissociationError::TooFewCircuits { found: claims.len() });
    }
    let space = openwork_circuit::NodeSpace::new(&model.config);
    for Claim { task, circuit, pairs } in claims {
        if *circuit.space() != space {
            return Err(DissociationError::OtherModel { task: (*task).into() });
        }
        if pairs.len() < settings.min_pairs {
            let (task, found, least) = ((*task).into(), pairs.len(), settings.min_pairs);
            return Err(DissociationError::TooFewPairs { task, found, least });
        }
    }
    let judged = claims.iter().map(|c| Judged::new(c.circuit, &[])).collect::<Vec<_>>();
    let task = |(i, claim)| Task::new(model, means, &judged[i], claim, settings, i);
    let tasks = claims.iter().enumerate().map(task).collect::<Result<Vec<_>, DissociationError>>()?;
    // What is lost on every pair: a row a task, a column a circuit.
    let lost = |task: &Task<'_>| claims.iter().map(|c| task.lost(c.circuit)).collect::<Result<Vec<_>, RunError>>();
    let lost = tasks.iter().map(lost).collect::<Result<Vec<_>, RunError>>()?;
    let cost = |(i, task): (usize, &Task<'_>)| {
        let one = |(j, claim): (usize, &Claim<'_>)| {
            Ok(Cost {
                task: claims[i].task.into(),
                without: claim.task.into(),
                share: task.resamples.ratio(&lost[i][j], &task.reduction),
                random: task.random(claim.circuit, settings.seed)?,
            })
        };
        claims.iter().enumerate().map(one).collect::<Result<Vec<_>, RunError>>()
    };
    let costs = tasks.iter().enumerate().map(cost).collect::<Result<Vec<_>, RunError>>()?;
    let of =
        |task: usize, circuit: usize| (&tasks[task].resamples, &lost[task][circuit][..], &tasks[task].reduction[..]);
    let contrast = |a: usize, b: usize| Contrast {
        tasks: [claims[a].task.into(), claims[b].task.into()],
        shared_nodes: claims[a].circuit.numbers().filter(|&n| claims[b].circuit.kept()[n]).count(),
        differences: [difference_of_ratios(of(a, a), of(b, a)), difference_of_ratios(of(b, b), of(a, b))],
    };
    let contrasts = (0..claims.len()).flat_map(|a| (a + 1..claims.len()).map(move |b| (a, b)));
    Ok(Dissociation { contrasts: contrasts.map(|(a, b)| contrast(a, b)).collect(), costs })
}

/// A task made ready to be hurt.
struct Task<'a> {
    evaluator: Evaluator<'a>,
    resamples: Resamples,
    /// Loss of the plain model, pair by pair.
    whole: Vec<f64>,
    /// Its loss reduction `ln 2 − loss`, pair by pair.
    reduction: Vec<f64>,
}

impl<'a> Task<'a> {
    fn new(
        model: &'a Model,
        means: &'a Means,
        judged: &'a Judged,
        claim: &Claim<'_>,
        settings: &Settings,
        number: usize,
    ) -> Result<Self, DissociationError> {
        let context = Context { model, means, judged, seed: settings.seed, ablator: &KeepOnly };
        let evaluator = Evaluator::new(context, claim.pairs)?;
        let whole = losses_at_best_shift(&evaluator.model);
        let reduction: Vec<f64> = whole.iter().map(|loss| std::f64::consts::LN_2 - loss).collect();
        let labels: Vec<Vec<usize>> = claim.pairs.iter().map(|p| vec![p.template]).collect();
        // Seeds of their own: tasks are resampled independently.
        let resamples = Resamples::grouped(&labels, settings.bootstrap, settings.seed + number as u64);
        if resamples.mean(&reduction).ci95.0 <= 0.0 {
            return Err(DissociationError::NoTask { task: claim.task.into() });
        }
        Ok(Self { evaluator, resamples, whole, reduction })
    }

    /// Loss without some nodes less that of the model, pair by pair.
    fn lost(&self, nodes: &NodeSet) -> Result<Vec<f64>, RunError> {
        let without = losses_at_best_shift(&self.evaluator.run_without(nodes, Scheme::MEAN)?);
        Ok(without.iter().zip(&self.whole).map(|(a, b)| a - b).collect())
    }

    /// Shares that are lost without random nodes outside a circuit, as many a site.
    fn random(&self, circuit: &NodeSet, seed: u64) -> Result<Vec<f64>, RunError> {
        let one = |i: usize| {
            let mut rng = Stream::DissociationSet(i as u64).rng(seed);
            let (nodes, _) = draw(circuit, Draw::Others, &[], &mut rng);
            Ok(mean(&self.lost(&nodes)?) / mean(&self.reduction))
        };
        (0..RANDOM).map(one).collect()
    }
}
