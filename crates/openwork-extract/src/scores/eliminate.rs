//! Greedy elimination in the manner of ACDC (Conmy et al. 2023), over nodes.

use openwork_circuit::{Keep, NodeSet};
use openwork_model::{NoTap, PassState, Record, Site, Tap, Tokens};
use rayon::prelude::*;

use super::{GoesOn, Scorer, patching::ablated_state};

impl Scorer<'_> {
    /// Greedy elimination from the output backwards: nodes are tried from the last to the first, and one is removed for good
    /// where that raises the distance from the model by less than `threshold`,
    ///
    /// ```text
    /// D(kept) = mean over sequences of |d(kept) − d(model)|, d = l_answer − l_alternative,
    /// ```
    ///
    /// in nats. The score of a node is the rise of D when it was tried, 0 where D fell: those of at least `threshold`
    /// are the circuit of the method, and lead the ranking. A run begins at the site that is being tried; what comes before it is the model's
    /// and computed once. `None` where `goes_on` breaks.
    ///
    /// Differs from ACDC because parts are nodes, the distance is of logit differences and not of distributions, and values of
    /// removed parts are means over training data.
    pub fn eliminate(&self, threshold: f64, goes_on: &mut GoesOn<'_>) -> Option<Vec<f64>> {
        let runs = self.recorded(&mut || NoTap);
        let mut scores = vec![0.0; self.space.len()];
        let mut kept = vec![true; self.space.len()];
        let (mut distance, mut tried) = (0.0, 0);
        for (site, range) in self.space.sites().iter().rev() {
            let state = |kept: &[bool]| -> Vec<PassState> {
                let of = |run: &Run| ablated_state(&run.record, *site, &self.space, kept, self.means.values());
                runs.iter().map(of).collect()
            };
            let mut states = state(&kept);
            for node in range.clone().rev() {
                if goes_on(tried).is_break() {
                    return None;
                }
                tried += 1;
                kept[node] = false;
                let (index, mean) = (node - range.start, self.means.values()[node]);
                if is_at(&states, index, mean) {
                    continue; // nothing changes: the rise is 0
                }
                let nodes = NodeSet::of(self.space.clone(), (0..kept.len()).filter(|&n| kept[n]));
                let moved: Vec<PassState> = states.iter().map(|state| with_row_at(state, index, mean)).collect();
                let without = self.distance(self.model, &runs, &moved, &nodes);
                scores[node] = (without - distance).max(0.0);
                if scores[node] < threshold {
                    (distance, states) = (without, moved);
                } else {
                    kept[node] = true;
                }
            }
        }
        Some(scores)
    }

    /// Runs of all batches under a tap of each, with the values at every site and the model's logit differences.
    pub(super) fn recorded<T: Tap>(&self, tap: &mut dyn FnMut() -> T) -> Vec<Run> {
        let one = |batch: &openwork_circuit::Batch| {
            let mut taps = (tap(), Record::default());
            let tokens = Tokens::new(&batch.tokens, batch.seq_len);
            self.model.forward(tokens, Some(&batch.readout), &mut taps);
            let plain = self.model.forward(tokens, Some(&batch.readout), &mut NoTap).logits;
            Run { record: taps.1, plain: openwork_circuit::differences(&plain, batch).collect() }
        };
        self.batches.iter().map(one).collect()
    }

    /// D of the runs from `states` on, in `model`, with only `nodes` kept after them.
    pub(super) fn distance(
        &self,
        model: &openwork_model::Model,
        runs: &[Run],
        states: &[PassState],
        nodes: &NodeSet,
    ) -> f64 {
        let parts: Vec<f64> = (0..runs.len())
            .into_par_iter()
            .map(|i| {
                let mut keep = Keep::new(nodes, self.ablation());
                let logits = self.rest(model, &self.batches[i], states[i].clone(), &mut keep);
                let differences = openwork_circuit::differences(&logits, &self.batches[i]);
                differences.zip(&runs[i].plain).map(|(d, plain)| (d - plain).abs()).sum()
            })
            .collect();
        parts.iter().sum::<f64>() / self.sequences()
    }
}

/// True if row `index` of the states' site is this value everywhere.
pub(super) fn is_at(states: &[PassState], index: usize, value: f32) -> bool {
    states.iter().all(|state| state.value().row(index).iter().all(|&x| x == value))
}

/// The state with row `index` of its site at one value.
pub(super) fn with_row_at(state: &PassState, index: usize, value: f32) -> PassState {
    let mut state = state.clone();
    state.value_mut().row_mut(index).fill(value);
    state
}

/// A run of a batch.
pub(super) struct Run {
    /// Values at every site.
    pub record: Record,
    /// The whole model's logit differences.
    pub plain: Vec<f64>,
}

impl Run {
    /// The state at `site`.
    pub fn state(&self, site: Site) -> PassState {
        self.record.state(site).expect("every site was recorded")
    }
}
