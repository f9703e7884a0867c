//! The worst input that a search finds: prompts with tokens of other prompts.

use std::collections::BTreeMap;

use openwork_circuit::{Calibration, NodeSet};
use rand::RngExt;

use super::{Parent, answers, is_turned};
use crate::{
    run::{evaluator::Evaluator, measures::kl_binary},
    streams::Stream,
};

/// The worst input that a search found: a prompt with tokens of others of the same template and length, so that circuit and
/// model part most. The places where a pair's two prompts differ are its cue: a prompt keeps its own and gets no other, so that
/// it stays one of the task. Judged by KL(model ‖ circuit) over the candidates, the circuit calibrated.
pub(crate) struct WorstInput {
    pub prompts: [Vec<u16>; 2],
    pub candidates: (u16, u16),
    pub kl: f64,
    pub model: [f64; 2],
    pub run: [f64; 2],
}

/// Tries `count` prompts; returns the one of largest KL and how many of them turned a sure answer of the model (by
/// more than a nat). `None` where no prompt can take anything from another.
pub(crate) fn worst_input(
    evaluator: &Evaluator<'_>,
    circuit: &NodeSet,
    calibration: Calibration,
    count: usize,
    seed: u64,
) -> Option<(WorstInput, usize)> {
    const ROUNDS: usize = 4;
    let mut rng = Stream::WorstInputs.rng(seed);
    // Prompts by template and length.
    let mut groups = BTreeMap::<(usize, usize), Vec<Parent>>::new();
    for sequence in 0..2 * evaluator.pairs.len() {
        let parent = Parent::new(evaluator, sequence);
        groups.entry((evaluator.pairs[sequence / 2].template, parent.prompt.len())).or_default().push(parent);
    }
    let mut groups: Vec<Vec<Parent>> = groups.into_values().filter(|g| g.len() > 1).collect();
    if groups.is_empty() {
        return None;
    }
    let per_round = count.div_ceil(ROUNDS);
    let (mut worst, mut turned): (Option<WorstInput>, usize) = (None, 0);
    for _ in 0..ROUNDS {
        let mut children: Vec<(usize, Parent)> = Vec::with_capacity(per_round);
        let mut changed = 0;
        while children.len() < per_round {
            let g = rng.random_range(0..groups.len());
            let group = &groups[g];
            let [parent, other] = [0, 1].map(|_| &group[rng.random_range(0..group.len())]);
            let child = parent.with_some_of(other, &mut rng);
            changed += usize::from(child.prompt != parent.prompt);
            children.push((g, child));
        }
        if changed == 0 {
            break;
        }
        let prompts: Vec<&Parent> = children.iter().map(|(_, child)| child).collect();
        let [plain, run] = answers(evaluator, circuit, calibration, &prompts);
        let mut scored: Vec<(f64, usize)> = Vec::with_capacity(children.len());
        for i in 0..children.len() {
            let (p, q) = (plain[i], run[i]);
            let kl = kl_binary(p, q);
            turned += usize::from(is_turned(p, q));
            scored.push((kl, i));
            if worst.as_ref().is_none_or(|w| kl > w.kl) {
                let Parent { prompt, candidates, .. } = &children[i].1;
                worst = Some(WorstInput {
                    prompts: [prompt.clone(), prompt.clone()],
                    candidates: *candidates,
                    kl,
                    model: [p, p],
                    run: [q, q],
                });
            }
        }
        // The worst become parents.
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, i) in scored.into_iter().take(per_round / 8) {
            let (g, child) = &children[i];
            groups[*g].push(child.clone());
        }
    }
    worst.map(|w| (w, turned))
}
