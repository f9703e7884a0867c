//! Prompts of the tasks under the tokenizer of generated programs: pairs enough, and no cue on their surface.

use std::collections::HashMap;

use openwork_tasks::{Pair, Side, Splits, all};

use crate::Tokenizer;

/// Tokens of a prompt that the model of the quickstart reads.
const CONTEXT: usize = 128;

/// Fewest pairs that the verifier judges on.
const LEAST_PAIRS: usize = 40;

fn splits_of_all_tasks() -> Vec<(&'static str, Splits)> {
    let tokenizer = Tokenizer::train(super::Programs::new(0).take(6000), 2048).expect("programs give 2,048 tokens");
    let encode = |text: &str| tokenizer.encode(text);
    let draw = |task: &openwork_tasks::Task| {
        let splits = Splits::draw(task, &encode, CONTEXT, 0).unwrap_or_else(|error| panic!("{error}"));
        (task.name(), splits)
    };
    all().iter().map(draw).collect()
}

/// Accuracy, on pairs of other words, of a model that knows only `feature` of a prompt, and how often the right and the
/// wrong token of a training prompt came with it.
fn accuracy_of(feature: impl Fn(&[u16]) -> usize, splits: &Splits) -> f64 {
    let mut seen: HashMap<(usize, u16), i64> = HashMap::new();
    let wrong = |pair: &Pair, side| match side {
        Side::Positive => pair.alternative,
        Side::Negative => pair.answer,
    };
    for pair in &splits.train {
        for side in Side::BOTH {
            *seen.entry((feature(pair.prompt(side)), pair.right(side))).or_default() += 1;
            *seen.entry((feature(pair.prompt(side)), wrong(pair, side))).or_default() -= 1;
        }
    }
    let judged: Vec<&Pair> = [&splits.selection, &splits.held_out].into_iter().flatten().collect();
    let score = |pair: &&Pair, side| {
        let count = |token| seen.get(&(feature(pair.prompt(side)), token)).copied().unwrap_or(0);
        match count(pair.right(side)).cmp(&count(wrong(pair, side))) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        }
    };
    let total: f64 = judged.iter().flat_map(|pair| Side::BOTH.map(|side| score(pair, side))).sum();
    total / (2 * judged.len()) as f64
}

/// A model that knows the last token only, or the number of tokens only, does no task: the cue has to be looked up. The
/// verifier asks a circuit for an accuracy of 0.9; a cut of half a line off a prompt of some thirty tokens shows a little.
#[test]
fn no_task_is_done_by_the_last_token_or_by_the_number_of_tokens() {
    let mut told = vec![];
    for (name, splits) in splits_of_all_tasks() {
        let parts = [&splits.held_out, &splits.held_out_templates, &splits.vocabulary, &splits.lengths];
        let fewest = parts.map(Vec::len).into_iter().min().expect("four");
        assert!(fewest >= LEAST_PAIRS, "{name}: {:?}", parts.map(Vec::len));
        let last = accuracy_of(|prompt| usize::from(prompt[prompt.len() - 1]), &splits);
        let length = accuracy_of(<[u16]>::len, &splits);
        if last > 0.6 || length > 0.65 {
            told.push(format!("{name}: {last:.2} by the last token, {length:.2} by the number of tokens"));
        }
    }
    assert!(told.is_empty(), "{}", told.join("; "));
}

/// The check above sees a cue where there is one.
#[test]
fn a_cue_on_the_surface_is_seen() {
    let pair = |i: u16| Pair { positive: vec![i, 1], negative: vec![i, i, 2], answer: 8, alternative: 9, template: 0 };
    let splits =
        Splits { train: (10..60).map(pair).collect(), held_out: (60..90).map(pair).collect(), ..Splits::default() };
    assert_eq!(accuracy_of(|prompt| usize::from(prompt[prompt.len() - 1]), &splits), 1.0);
    assert_eq!(accuracy_of(<[u16]>::len, &splits), 1.0);
    assert_eq!(accuracy_of(|_| 0, &splits), 0.5);
}
