//! Losses of candidate circuits: calibrated on training pairs, measured on selection pairs, as circuits of masks are.

use openwork_circuit::{
    Ablation, Batch, Calibration, Circuit, Keep, Means, NodeSet, NodeSpace, Outcome, batches, evaluate,
};
use openwork_model::{Model, NoTap};
use openwork_tasks::Pair;

use super::PAIRS_PER_BATCH;
use crate::calibrate;

/// Judge of candidate circuits of a model.
pub(super) struct Judge<'a> {
    model: &'a Model,
    means: &'a Means,
    train: &'a [Pair],
    selection: Vec<Batch>,
}

/// Batches that a candidate is run on before it is asked whether the rest can still bring it within the target.
const BATCHES_AT_A_TIME: usize = 4;

impl<'a> Judge<'a> {
    pub fn new(model: &'a Model, means: &'a Means, train: &'a [Pair], selection: &[Pair]) -> Self {
        let selection = batches(selection, PAIRS_PER_BATCH, model.config.n_ctx);
        Self { model, means, train, selection }
    }

    /// Loss of the whole model in nats: as it is or calibrated, whichever is lower.
    pub fn model_loss(&self) -> f64 {
        let all = NodeSet::all(NodeSpace::new(&self.model.config));
        self.loss(self.model, &all).0.min(self.run(self.model, &all, &self.selection).loss(Calibration::NONE))
    }

    /// Calibrated loss on the selection pairs in nats per sequence, and the calibration, with only `nodes` of `model` kept.
    pub fn loss(&self, model: &Model, nodes: &NodeSet) -> (f64, Calibration) {
        let calibration = self.calibration(model, nodes);
        (self.run(model, nodes, &self.selection).loss(calibration), calibration)
    }

    /// True if that loss is at most `target`. Losses of sequences are not negative: the run ends where those so far are too many.
    pub fn reaches(&self, model: &Model, nodes: &NodeSet, target: f64) -> bool {
        let calibration = self.calibration(model, nodes);
        let sequences: usize = self.selection.iter().map(|b| b.candidates.len()).sum();
        let mut losses = vec![];
        for batches in self.selection.chunks(BATCHES_AT_A_TIME) {
            losses.extend(self.run(model, nodes, batches).losses(calibration));
            if losses.iter().sum::<f64>() > target * sequences as f64 {
                return false;
            }
        }
        // As [`Outcome::loss`] divides, so that the two agree to the last bit.
        losses.iter().sum::<f64>() / sequences as f64 <= target
    }

    /// Share of answers of the calibrated circuit that are the model's.
    pub fn agreement(&self, model: &Model, nodes: &NodeSet) -> f64 {
        let calibration = self.calibration(model, nodes);
        let plain = evaluate(self.model, &self.selection, false, || NoTap, |_| ());
        let run = self.run(model, nodes, &self.selection);
        let sum: f64 = run.agreement(calibration, &plain).sum();
        sum / plain.differences.len() as f64
    }

    /// The calibration, fitted on training pairs, with only `nodes` of `model` kept.
    pub fn calibration(&self, model: &Model, nodes: &NodeSet) -> Calibration {
        calibrate(model, self.means, nodes, self.train)
    }

    /// Batches of the selection pairs.
    pub fn selection(&self) -> &[Batch] {
        &self.selection
    }

    /// Values of nodes that are not kept.
    pub fn ablation(&self) -> Ablation<'a> {
        Ablation::Mean(self.means)
    }

    fn run(&self, model: &Model, nodes: &NodeSet, batches: &[Batch]) -> Outcome {
        evaluate(model, batches, false, || Keep::new(nodes, self.ablation()), |_| ())
    }

    /// [`Judge::loss`] of a circuit, in the model without the weights that it leaves out.
    pub fn loss_of(&self, circuit: &Circuit) -> (f64, Calibration) {
        self.loss(&masked(circuit, self.model), circuit.nodes())
    }

    /// [`Judge::reaches`] of a circuit.
    pub fn circuit_reaches(&self, circuit: &Circuit, target: f64) -> bool {
        self.reaches(&masked(circuit, self.model), circuit.nodes(), target)
    }
}

/// The model without the weights that a circuit leaves out.
pub(super) fn masked<'m>(circuit: &Circuit, model: &'m Model) -> std::borrow::Cow<'m, Model> {
    circuit.masked(model).expect("no search leaves out a channel of the residual stream")
}
