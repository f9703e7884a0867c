//! Cases on compiled programs.

use std::collections::HashSet;

use openwork_circuit::{Ablation, Keep, Means, NodeSet};
use openwork_model::NoTap;
use openwork_tasks::Pair;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Bed, CaseKind, GroundTruthCase, HELD_OUT, SELECTION, SHIFTED, Shift, TRAINING};
use crate::{AblationValue, Behaviour, Compiled, Input, Options, Program, Prompt, PromptBatch, Truth, means, text};

impl CaseKind {
    pub(super) fn of_program(self, severity: f32, seed: u64) -> GroundTruthCase {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x9A00);
        // Seeds go through the programs; only reversing counts from the end, and has less truth on one length.
        let program = match self {
            Self::FixedLength => Program::Reverse,
            Self::Redundant | Self::RedundantPadded => Program::redundant()[(seed % 5 - 3) as usize],
            _ => Program::all()[(seed % 9) as usize],
        };
        let compiled = Compiled::with_synonyms(program, &Options::random(seed));
        let n_max = program.n_max();
        // What the claim was made on: all lengths but the longest, or the longest ones.
        let lengths = match self {
            Self::FixedLength if severity < 1.0 => n_max - 1..=n_max,
            Self::FixedLength => n_max..=n_max,
            _ => program.n_min()..=n_max - 1,
        };
        let mut bed = bed(&compiled, lengths.clone(), seed, &mut rng);
        let truth = bed.truth.clone();
        let circuit = match self {
            Self::AllNodes => NodeSet::all(truth.space().clone()),
            Self::Empty => NodeSet::empty(truth.space().clone()),
            Self::OneMissing => one_missing(&bed, severity),
            Self::Padded | Self::RedundantPadded => bed.padded(severity, &mut rng),
            Self::Random => exchanged(&truth, severity, &mut rng),
            Self::FixedLength => either_truth(&compiled, &compiled.prompts(lengths)),
            _ => truth,
        };
        match self {
            Self::Nonsense => nonsense(&mut bed, &compiled, &mut rng),
            Self::Leak => {
                let n = (HELD_OUT as f32 * severity).ceil() as usize;
                let leaked = bed.selection.iter().cycle().take(n.min(SELECTION)).cloned();
                bed.held_out.splice(..n.min(SELECTION), leaked);
            }
            _ => (),
        }
        let mut case = bed.case(self, severity, seed, circuit);
        case.dead_hook = self == Self::DeadHook;
        case
    }
}

/// The true circuit under zero or under mean ablation.
fn either_truth(compiled: &Compiled, prompts: &[Prompt]) -> NodeSet {
    let means = means(&compiled.model, prompts, compiled.bos());
    let [zero, mean] = [AblationValue::Zero, AblationValue::Mean]
        .map(|value| Truth::nodes(&compiled.model, prompts, value.ablation(&means)));
    NodeSet::of(zero.space().clone(), (0..zero.space().len()).filter(|&n| zero.kept()[n] || mean.kept()[n]))
}

/// True if an input belongs to the template that is held out: it begins (for brackets: ends) with a certain symbol, so that the
/// other template still needs every part of the program.
fn is_other_template(program: Program, input: &Input) -> bool {
    let last = program.symbols().len() - 1;
    match program {
        Program::Dyck1 | Program::Dyck2 | Program::Dyck3 => input.symbols.last() == Some(&0) && input.symbols.len() > 1,
        _ => input.symbols[0] == last && input.symbols.len() > 1,
    }
}

fn bed(compiled: &Compiled, lengths: std::ops::RangeInclusive<usize>, seed: u64, rng: &mut ChaCha8Rng) -> Bed {
    let program = compiled.program;
    let all = program.inputs(program.n_min()..=program.n_max());
    let (mut usual, mut other, mut out) = (vec![], vec![], vec![]);
    for input in all {
        let list = match input.symbols.len() {
            n if !lengths.contains(&n) => &mut out,
            _ if is_other_template(program, &input) => &mut other,
            _ => &mut usual,
        };
        list.push(compiled.prompt(&input));
    }
    // A third of the prompts is for selection.
    let (mut select, mut judge) = (vec![], vec![]);
    usual.into_iter().for_each(|p| if rng.random_range(0..3) == 0 { select.push(p) } else { judge.push(p) });
    let words: Vec<Prompt> = judge.iter().map(|prompt| compiled.in_other_words(prompt)).collect();
    let shifted = vec![
        (Shift::Lengths, pairs(&out, SHIFTED, 2, rng)),
        (Shift::Templates, pairs(&other, SHIFTED, 1, rng)),
        (Shift::Vocabulary, pairs(&words, SHIFTED, 3, rng)),
    ];
    // Drawn by a generator of their own: the pairs below do not depend on how many there are.
    let mut training_rng = ChaCha8Rng::seed_from_u64(seed ^ 0x9A01);
    let domain = compiled.domain();
    let (text, seq_len) = text(&domain, compiled.bos());
    Bed {
        host: program.name(),
        model: compiled.model.clone(),
        text,
        seq_len,
        truth: compiled.circuit.clone(),
        training: pairs(&select, TRAINING, 0, &mut training_rng),
        selection: pairs(&select, SELECTION, 0, rng),
        held_out: pairs(&judge, HELD_OUT, 0, rng),
        shifted,
        domain: Some(domain),
    }
}

/// `n` different pairs of prompts with different answers. Answers take turns being drawn, so that rare ones are there too.
fn pairs(prompts: &[Prompt], n: usize, template: usize, rng: &mut ChaCha8Rng) -> Vec<Pair> {
    let mut answers: Vec<u16> = prompts.iter().map(|p| p.answer).collect();
    answers.sort_unstable();
    answers.dedup();
    assert!(answers.len() > 1, "all prompts have one answer");
    let (mut found, mut seen) = (vec![], HashSet::new());
    let one = |answer: u16, rng: &mut ChaCha8Rng| {
        let with: Vec<&Prompt> = prompts.iter().filter(|p| p.answer == answer).collect();
        with[rng.random_range(0..with.len())]
    };
    for attempt in 0..100 * n {
        let answer = answers[attempt % answers.len()];
        let positive = one(answer, rng);
        let others: Vec<u16> = answers.iter().copied().filter(|&a| a != answer).collect();
        let negative = one(others[rng.random_range(0..others.len())], rng);
        if seen.insert((&positive.tokens, &negative.tokens)) {
            found.push(Pair {
                positive: positive.tokens.clone(),
                negative: negative.tokens.clone(),
                answer,
                alternative: negative.answer,
                template,
            });
        }
        if found.len() == n {
            break;
        }
    }
    assert!(found.len() == n, "only {} of {n} pairs of {} prompts", found.len(), prompts.len());
    found
}

/// The truth without one of its nodes: by mean KL on the held-out prompts under mean ablation, the severest is the one that does
/// most there.
fn one_missing(bed: &Bed, severity: f32) -> NodeSet {
    let sides = bed.held_out.iter().flat_map(|p| [(&p.positive, p.answer), (&p.negative, p.alternative)]);
    let mut prompts: Vec<Prompt> = sides.map(|(t, answer)| Prompt { tokens: t.clone(), answer }).collect();
    prompts.sort_unstable();
    prompts.dedup();
    let batch = PromptBatch::new(&prompts);
    let whole = Behaviour::of(&bed.model, &batch, &mut NoTap);
    let means = Means::compute(&bed.model, &bed.text, bed.seq_len);
    let (space, truth) = (bed.truth.space(), bed.truth.kept());
    let without = |node: usize| NodeSet::of(space.clone(), (0..space.len()).filter(|&n| n != node && truth[n]));
    let harm = |node: usize| {
        let kept = without(node);
        whole.mean_kl(&Behaviour::of(&bed.model, &batch, &mut Keep::new(&kept, Ablation::Mean(&means))))
    };
    let harms = (0..space.len()).filter(|&n| truth[n]).map(|node| (harm(node), node));
    // Some nodes are needed by prompts of other lengths alone.
    let mut harms: Vec<(f64, usize)> = harms.filter(|(harm, _)| *harm > 1e-3).collect();
    harms.sort_by(|a, b| a.0.total_cmp(&b.0));
    let index = ((harms.len() as f32 * severity).ceil() as usize).clamp(1, harms.len()) - 1;
    without(harms[index].1)
}

/// A share of the nodes of each site exchanged for random ones of the same site; drawn again where chance exchanges none.
fn exchanged(truth: &NodeSet, severity: f32, rng: &mut ChaCha8Rng) -> NodeSet {
    let mut kept = vec![];
    for (_, range) in truth.space().sites() {
        let mut pool: Vec<usize> = range.clone().collect();
        for node in range.clone().filter(|&n| truth.kept()[n]) {
            if rng.random::<f32>() >= severity {
                kept.push(node);
                pool.retain(|&n| n != node);
            }
        }
        let wanted = range.clone().filter(|&n| truth.kept()[n]).count();
        let have = kept.iter().filter(|n| range.contains(n)).count();
        kept.extend((have..wanted).map(|_| pool.swap_remove(rng.random_range(0..pool.len()))));
    }
    let nodes = NodeSet::of(truth.space().clone(), kept);
    if nodes == *truth { exchanged(truth, severity, rng) } else { nodes }
}

/// Labels that have nothing to do with the prompts: which of two tokens that are no answers is right is drawn by lot.
fn nonsense(bed: &mut Bed, compiled: &Compiled, rng: &mut ChaCha8Rng) {
    let answers: HashSet<u16> = compiled.domain().iter().map(|p| p.answer).collect();
    let (others, own): (Vec<u16>, Vec<u16>) = compiled.ids.iter().copied().partition(|id| !answers.contains(id));
    // Where every token but one is an answer, one of them has to do.
    let two = [others[0], others.get(1).copied().unwrap_or(own[0])];
    let shifted = bed.shifted.iter_mut().flat_map(|s| &mut s.1);
    for pair in bed.selection.iter_mut().chain(&mut bed.held_out).chain(shifted).chain(&mut bed.training) {
        let first = rng.random_range(0..2);
        (pair.answer, pair.alternative) = (two[first], two[1 - first]);
    }
}
