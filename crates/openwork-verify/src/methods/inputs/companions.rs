//! Companion cues: prompts of a pair that differ in several places at once. Which of them the answer hangs on, no pair tells; so
//! one is exchanged without the others.

use std::collections::BTreeMap;
use std::ops::Range;

use openwork_circuit::{Calibration, NodeSet};

use super::{Parent, SURE, answers, is_turned};
use crate::run::evaluator::Evaluator;

/// Outcome of exchanging one difference of a pair without the others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Companions {
    /// Pairs that differ in several places, and all pairs.
    pub pairs: (usize, usize),
    /// Two differences of the first such pair: tokens of the positive and of the negative prompt.
    pub example: [(Vec<u16>, Vec<u16>); 2],
    /// Prompts in which the model follows one difference, whatever the others are.
    pub decided: usize,
    /// Those of which the circuit turns the answer, and one of them.
    pub turned: usize,
    pub worst: Option<(Parent, f64, f64)>,
}

/// Of prompts with the same exchange the model must be sure of so many, for a rule to be seen.
const FEWEST: usize = 8;

/// The model follows a difference if the answer is that of its side in this share of the prompts in which it is sure; it follows
/// the others if it is so seldom. In between, prompts with one difference exchanged have contradicting cues and are no prompts
/// of the task.
const FOLLOWS: f64 = 0.9;

/// A prompt in which one difference is that of the other side.
struct Exchanged {
    child: Parent,
    /// The difference, by its tokens.
    of: (Vec<u16>, Vec<u16>),
    /// The model's answer to the prompt that the difference is from.
    from: f64,
}

/// Exchanges, in every pair whose prompts have one length and differ in several places, each difference by itself; neighbouring
/// places are one difference. `None` where no pair has several.
pub(crate) fn companions(evaluator: &Evaluator<'_>, circuit: &NodeSet, calibration: Calibration) -> Option<Companions> {
    let mut exchanged: Vec<Exchanged> = vec![];
    let (mut several, mut example) = (0, None);
    for pair in 0..evaluator.pairs.len() {
        let [positive, negative] = [2 * pair, 2 * pair + 1].map(|s| Parent::new(evaluator, s));
        let runs = differences(&positive, &negative);
        if positive.prompt.len() != negative.prompt.len() || runs.len() < 2 {
            continue;
        }
        several += 1;
        let tokens =
            |run: &Range<usize>| (positive.prompt[run.clone()].to_vec(), negative.prompt[run.clone()].to_vec());
        example.get_or_insert_with(|| [tokens(&runs[0]), tokens(&runs[1])]);
        for run in &runs {
            for (own, other, sequence) in [(&positive, &negative, 2 * pair + 1), (&negative, &positive, 2 * pair)] {
                let mut child = own.clone();
                child.prompt[run.clone()].copy_from_slice(&other.prompt[run.clone()]);
                exchanged.push(Exchanged { child, of: tokens(run), from: evaluator.model.differences[sequence] });
            }
        }
    }
    let example = example?;
    let prompts: Vec<&Parent> = exchanged.iter().map(|e| &e.child).collect();
    let [model, run] = answers(evaluator, circuit, calibration, &prompts);
    // By the tokens of the difference; those of rare tokens together.
    let mut groups = BTreeMap::<Option<&(Vec<u16>, Vec<u16>)>, Vec<usize>>::new();
    (0..exchanged.len())
        .filter(|&i| model[i].abs() > SURE)
        .for_each(|i| groups.entry(Some(&exchanged[i].of)).or_default().push(i));
    let rare: Vec<usize> = groups.values().filter(|g| g.len() < FEWEST).flatten().copied().collect();
    groups.retain(|_, group| group.len() >= FEWEST);
    groups.insert(None, rare);
    let follows = |group: &&Vec<usize>| {
        let share = group.iter().filter(|&&i| model[i].signum() == exchanged[i].from.signum()).count() as f64
            / group.len() as f64;
        group.len() >= FEWEST && (share >= FOLLOWS || share <= 1.0 - FOLLOWS)
    };
    let decided: Vec<usize> = groups.values().filter(follows).flatten().copied().collect();
    let turned: Vec<usize> = decided.iter().copied().filter(|&i| is_turned(model[i], run[i])).collect();
    let worst = turned.iter().copied().max_by(|&a, &b| (model[a] - run[a]).abs().total_cmp(&(model[b] - run[b]).abs()));
    Some(Companions {
        pairs: (several, evaluator.pairs.len()),
        example,
        decided: decided.len(),
        turned: turned.len(),
        worst: worst.map(|i| (exchanged[i].child.clone(), model[i], run[i])),
    })
}

/// Runs of neighbouring places in which two prompts of one length differ.
fn differences(positive: &Parent, negative: &Parent) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = vec![];
    for (t, (a, b)) in positive.prompt.iter().zip(&negative.prompt).enumerate() {
        match runs.last_mut() {
            _ if a == b => {}
            Some(run) if run.end == t => run.end += 1,
            _ => runs.push(t..t + 1),
        }
    }
    runs
}
