//! Exact patching: the effect of ablating each node alone.

use openwork_circuit::{Batch, NodeSpace};
use openwork_model::{Matrix, NoTap, PassState, Record, Site, Tokens};
use rayon::prelude::*;

use super::{
    GoesOn, Scorer,
    eliminate::{is_at, with_row_at},
    towards_right,
};

/// Nodes between two questions whether to go on.
const NODES_AT_A_TIME: usize = 64;

impl Scorer<'_> {
    /// Exact patching: `s_n = m(model) − m(node n at its mean)`, in nats, by node number; what gradient scores estimate. Every
    /// node is a run of each batch from the node's site on; what comes before it is computed once. `None` where `goes_on`
    /// breaks.
    pub fn patching(&self, goes_on: &mut GoesOn<'_>) -> Option<Vec<f64>> {
        let records: Vec<Record> = self.batches.par_iter().map(|batch| self.record(batch)).collect();
        let plain = self.logit_difference(&openwork_circuit::NodeSet::all(self.space.clone()));
        let mut scores = vec![];
        for (site, range) in self.space.sites() {
            let states: Vec<PassState> =
                records.iter().map(|r| r.state(*site).expect("every site was recorded")).collect();
            let nodes: Vec<usize> = range.clone().collect();
            for nodes in nodes.chunks(NODES_AT_A_TIME) {
                if goes_on(scores.len()).is_break() {
                    return None;
                }
                let effect = |&node: &usize| match is_at(&states, node - range.start, self.means.values()[node]) {
                    true => 0.0,
                    false => plain - self.without(&states, node - range.start, node),
                };
                scores.extend(nodes.par_iter().map(effect).collect::<Vec<f64>>());
            }
        }
        Some(scores)
    }

    /// The logit difference with row `index` of the states' site at the mean of `node`.
    fn without(&self, states: &[PassState], index: usize, node: usize) -> f64 {
        let mean = self.means.values()[node];
        let sum = self.batches.iter().zip(states).map(|(batch, state)| {
            towards_right(&self.rest(self.model, batch, with_row_at(state, index, mean), &mut NoTap), batch).0
        });
        sum.sum::<f64>() / self.sequences()
    }

    /// Values of the plain run of a batch at every site.
    fn record(&self, batch: &Batch) -> Record {
        let mut record = Record::default();
        self.model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut record);
        record
    }

    /// Logits of the rest of a run from a state on.
    pub(super) fn rest(
        &self,
        model: &openwork_model::Model,
        batch: &Batch,
        state: PassState,
        tap: &mut dyn openwork_model::Tap,
    ) -> Matrix {
        model.resume(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), state, tap)
    }
}

/// The state of a recorded run at `site` with some nodes of the values that it consists of at their means.
pub(super) fn ablated_state(record: &Record, site: Site, space: &NodeSpace, kept: &[bool], means: &[f32]) -> PassState {
    let value = |site: Site| {
        let mut value = record.at(site)?.clone();
        if let Some(range) = space.range(site) {
            for (mut row, node) in value.rows_mut().into_iter().zip(range).filter(|(_, node)| !kept[*node]) {
                row.fill(means[node]);
            }
        }
        Some(value)
    };
    PassState::new(site, value).expect("every site was recorded")
}
