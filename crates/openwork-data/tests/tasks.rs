//! Tasks under a tokenizer trained on generated programs, and against those programs.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use openwork_data::{Programs, Tokenizer};
use openwork_tasks::Split;

fn tokenizer() -> &'static Tokenizer {
    static TRAINED: OnceLock<Tokenizer> = OnceLock::new();
    TRAINED.get_or_init(|| Tokenizer::train(Programs::new(1).take(6000), 2048).expect("trains"))
}

const SPLITS: [Split; 3] = [Split::Train, Split::Validation, Split::HeldOutTemplate];

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
