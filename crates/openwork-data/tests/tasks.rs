//! Tasks under a tokenizer trained on generated programs, and against those programs.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use openwork_data::{Programs, Tokenizer};
use openwork_tasks::{Pair, Side, Split, Splits};

fn tokenizer() -> &'static Tokenizer {
    static TRAINED: OnceLock<Tokenizer> = OnceLock::new();
    TRAINED.get_or_init(|| Tokenizer::train(Programs::new(1).take(6000), 2048).expect("trains"))
}

const SPLITS: [Split; 5] = [Split::Train, Split::Validation, Split::HeldOutTemplate, Split::Vocabulary, Split::Longer];

#[test]
fn every_task_has_single_token_answers_in_every_split() {
    let encode = |text: &str| tokenizer().encode(text);
    for task in openwork_tasks::all() {
        for split in SPLITS {
            let pairs = task.pairs(&encode, split, 64, 1).unwrap_or_else(|error| panic!("{split:?}: {error}"));
            assert_eq!(pairs.len(), 64);
            for pair in &pairs {
                assert!(pair.positive.len() < 256 && pair.negative.len() < 256);
                assert_ne!(pair.answer, pair.alternative);
            }
            let first = &pairs[0];
            eprintln!(
                "{:27} {split:?}: {:?} {:?}",
                task.name(),
                tokenizer().decode(&[first.answer]),
                tokenizer().decode(&[first.alternative])
            );
        }
    }
}

/// Programs continue the last token of a prompt with the task's answers, as pieces cut in the same way.
#[test]
fn generated_programs_contain_what_the_tasks_ask() {
    let encode = |text: &str| tokenizer().encode(text);
    let programs: Vec<String> = Programs::new(2).take(6000).collect();
    let mut follows: HashMap<(u16, u16), u32> = HashMap::new();
    for ids in tokenizer().encode_all(&programs) {
        for pair in ids.windows(2) {
            *follows.entry((pair[0], pair[1])).or_default() += 1;
        }
    }
    for task in openwork_tasks::all() {
        let pairs = task.pairs(&encode, Split::Train, 200, 1).expect("pairs");
        let last = |prompt: &[u16]| *prompt.last().expect("a prompt is not empty");
        let seen = |prompt: &[u16], answer: u16| follows.contains_key(&(last(prompt), answer));
        let right = pairs.iter().filter(|p| seen(&p.positive, p.answer) && seen(&p.negative, p.alternative)).count();
        let ends: HashSet<u16> = pairs.iter().map(|p| last(&p.positive)).collect();
        eprintln!("{:27} {right} of 200 ({} last tokens)", task.name(), ends.len());
        assert!(right >= 150, "{}: {right} of 200", task.name());
    }
}

/// Tokens of a prompt that the model of the quickstart reads.
const CONTEXT: usize = 128;

/// Fewest pairs that the verifier judges on.
const LEAST_PAIRS: usize = 40;

fn splits_of_all_tasks() -> Vec<(&'static str, Splits)> {
    let encode = |text: &str| tokenizer().encode(text);
    let draw = |task: &openwork_tasks::Task| {
        let splits = Splits::draw(task, &encode, CONTEXT, 0).unwrap_or_else(|error| panic!("{error}"));
        (task.name(), splits)
    };
    openwork_tasks::all().iter().map(draw).collect()
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
