//! Every task under a toy encoding, and the promises about splits.

use std::collections::HashSet;

use crate::{
    Pair, Split, Splits, Task, TaskError, all,
    fill::{Filler, MODULES},
    find, sha256,
    task::Template,
    words,
};

mod recorded;

/// One token for each run of letters (with the blank before it), of digits, of marks (with new lines), of blanks.
fn toy(text: &str) -> Vec<u16> {
    let chars: Vec<char> = text.chars().collect();
    let class = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '_' => 0,
        '0'..='9' => 1,
        '\n' => 2,
        ' ' => 3,
        _ => 4,
    };
    let (mut ids, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let start = at;
        if chars[at] == ' ' && chars.get(at + 1).is_some_and(|&c| matches!(class(c), 0 | 4)) {
            at += 1;
        }
        let kind = class(chars[at]);
        while at < chars.len() && class(chars[at]) == kind {
            // Blanks leave the last one to the word that follows.
            if kind == 3 && at > start && chars.get(at + 1).is_some_and(|&c| class(c) == 0) {
                break;
            }
            at += 1;
        }
        while kind == 4 && chars.get(at) == Some(&'\n') {
            at += 1;
        }
        if chars[start..at] == ['.'] && chars[at..].starts_with(&['a', 'd', 'd']) {
            at += 3;
        }
        if chars[start..at] == ['='] && chars[at..].starts_with(&['N', 'o', 'n', 'e']) {
            at += 4;
        }
        let piece: String = chars[start..at].iter().collect();
        let hash = piece.bytes().fold(7_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
        ids.push((hash % 65_521) as u16);
    }
    ids
}

const SPLITS: [Split; 5] = [Split::Train, Split::Validation, Split::HeldOutTemplate, Split::Vocabulary, Split::Longer];

#[test]
fn names_are_unique_and_found() {
    let names: HashSet<&str> = all().iter().map(Task::name).collect();
    assert_eq!((names.len(), all().len()), (20, 20));
    assert!(all().iter().all(|task| !task.description().is_empty()));
    assert_eq!(find("for_while").map(Task::name), Some("for_while"));
    assert!(find("nothing").is_none());
}

#[test]
fn every_task_yields_pairs_in_every_split() {
    for task in all() {
        for split in SPLITS {
            let pairs = task.pairs(&toy, split, 40, 1).unwrap_or_else(|error| panic!("{split:?}: {error}"));
            assert_eq!(pairs.len(), 40);
            for pair in &pairs {
                assert_ne!(pair.answer, pair.alternative, "{}", task.name());
                assert_ne!(pair.positive, pair.negative, "{}", task.name());
            }
        }
    }
}

#[test]
fn no_prompt_occurs_in_two_splits_and_no_pair_twice() {
    for task in all() {
        let mut owner = std::collections::HashMap::new();
        for split in SPLITS {
            let pairs = task.text_pairs(split, 300, 3);
            assert!(pairs.len() >= 40, "{} {split:?}: {}", task.name(), pairs.len());
            let distinct: HashSet<_> = pairs.iter().map(|p| (&p.positive, &p.negative)).collect();
            assert_eq!(distinct.len(), pairs.len(), "{}", task.name());
            for pair in pairs {
                for prompt in [pair.positive, pair.negative] {
                    let first = *owner.entry(prompt.clone()).or_insert(split);
                    assert_eq!(first, split, "{}: {prompt:?}", task.name());
                }
            }
        }
    }
}

#[test]
fn held_out_templates_are_others_and_all_templates_are_drawn() {
    for task in all() {
        let used = |split| task.text_pairs(split, 300, 5).iter().map(|p| p.template).collect::<HashSet<_>>();
        assert_eq!(used(Split::Train), (0..task.templates.len()).collect());
        for split in [Split::Validation, Split::Vocabulary, Split::Longer] {
            assert_eq!(used(split), used(Split::Train));
        }
        assert!(task.held_out.len() >= 4, "{}", task.name());
        let all = task.templates.len() + task.held_out.len();
        assert_eq!(used(Split::HeldOutTemplate), (task.templates.len()..all).collect());
    }
}

#[test]
fn the_same_seed_gives_the_same_pairs_and_more_only_adds() {
    for task in all() {
        let few = task.text_pairs(Split::Train, 10, 7);
        assert_eq!(few[..], task.text_pairs(Split::Train, 30, 7)[..10]);
        assert_ne!(few, task.text_pairs(Split::Train, 10, 8));
    }
}

#[test]
fn prompts_have_no_placeholder_left() {
    for task in all() {
        for split in SPLITS {
            for pair in task.text_pairs(split, 100, 2) {
                let answers: String = pair.answers.iter().flat_map(|(a, b)| [a.as_str(), b]).collect();
                assert!(!format!("{}{}{answers}", pair.positive, pair.negative).contains('$'), "{pair:?}");
            }
        }
    }
}

#[test]
fn an_encoding_without_such_tokens_is_an_error_that_names_them() {
    let bytes = |text: &str| text.bytes().map(u16::from).collect::<Vec<u16>>();
    let task = find("single_double_quote").expect("is there");
    let error = task.pairs(&bytes, Split::Train, 4, 0).expect_err("two bytes are two tokens");
    let TaskError::NotOneToken { task, answer, pieces, .. } = &error else { panic!("{error}") };
    assert_eq!((*task, answer.as_str()), ("single_double_quote", "\")\n"));
    assert_eq!(pieces, &[34, 41, 10]);
    assert!(error.to_string().contains("single_double_quote"), "{error}");
}

#[test]
fn the_second_way_of_writing_an_answer_is_taken_when_the_first_is_not_one_token() {
    // New lines are tokens of their own here, so that `")` is one token and `")\n` is not.
    let split = |text: &str| {
        let mut ids = Vec::new();
        for (at, line) in text.split('\n').enumerate() {
            if at > 0 {
                ids.push(10);
            }
            ids.extend(toy(line));
        }
        ids
    };
    let task = find("single_double_quote").expect("is there");
    let pairs = task.pairs(&split, Split::Train, 8, 0).expect("the second way works");
    assert_eq!(vec![pairs[0].answer], toy("\")"));
}

#[test]
fn asking_for_more_than_there_is_says_how_many_there_are() {
    let task = Task {
        name: "tiny",
        description: "a single template with a single filler",
        answers: &[(" in", ":\n")],
        open: false,
        templates: &[Template { positive: "for $flag", negative: "while $flag" }],
        held_out: &[],
    };
    let found = task.text_pairs(Split::Train, 1000, 0).len();
    assert!(found >= 10 && found <= words::FLAGS.prompts().len());
    let error = task.pairs(&toy, Split::Train, 1000, 0);
    let wanted = 1000;
    assert_eq!(error, Err(TaskError::TooFew { task: "tiny", found, wanted }));
}

#[test]
fn every_pool_serves_every_split() {
    for pool in [
        MODULES,
        words::SWAPPED,
        words::ADJECTIVES.prompts(),
        words::ATTRIBUTES.prompts(),
        words::FLAGS.prompts(),
        words::GATHERED.prompts(),
        words::NUMBERS.prompts(),
        words::READ_STEMS.prompts(),
        words::ROLES.prompts(),
        words::TEXTS.prompts(),
        words::VERBS.prompts(),
        words::WRITE_STEMS.prompts(),
    ] {
        for split in [Split::Train, Split::Validation, Split::Vocabulary] {
            let mut filler = Filler::new(split, 0, 0);
            assert!(pool.iter().any(|word| filler.may_draw(word)), "{split:?} has none of {pool:?}");
            let drawn: HashSet<&str> = (0..1000).map(|_| filler.pick(pool)).collect();
            assert!(drawn.len() >= 3, "{split:?}: {drawn:?} of {pool:?}");
        }
    }
}

#[test]
fn the_hash_of_pairs_tells_all_their_parts_and_their_order() {
    let pair = Pair { positive: vec![1], negative: vec![2, 3], answer: 4, alternative: 5, template: 0 };
    // By `printf '\1\0\1\0\2\0\2\0\3\0\4\0\5\0\0\0' | sha256sum`.
    let by_hand = "c06b269788f9e4516f71dc18a48f57fa61b912196ec772b92c505a87f6328872";
    assert_eq!(sha256(std::slice::from_ref(&pair)), by_hand);
    let others = [
        Pair { positive: vec![1, 2], negative: vec![3], ..pair.clone() },
        Pair { answer: 5, alternative: 4, ..pair.clone() },
        Pair { template: 1, ..pair.clone() },
    ];
    for other in others {
        assert_ne!(sha256(std::slice::from_ref(&other)), by_hand);
        assert_ne!(sha256(&[other.clone(), pair.clone()]), sha256(&[pair.clone(), other]));
    }
}

#[test]
fn every_word_is_in_one_split_whatever_its_pool() {
    // A word that trains in one pool and validates in another would be no unseen word.
    let drawn = |split| {
        let mut filler = Filler::new(split, 3, 0);
        let pools = [words::THINGS, words::TEXTS, words::ATTRIBUTES, words::WORDS];
        pools.iter().flat_map(|pool| (0..2000).map(|_| filler.pick(pool.prompts())).collect::<Vec<_>>()).collect()
    };
    let [train, validation, vocabulary]: [HashSet<&str>; 3] =
        [Split::Train, Split::Validation, Split::Vocabulary].map(drawn);
    assert!(train.len() > 100 && validation.len() > 25 && vocabulary.len() > 25);
    assert!(train.is_disjoint(&validation) && train.is_disjoint(&vocabulary) && validation.is_disjoint(&vocabulary));
}

#[test]
fn sequences_are_positive_and_negative_of_pair_after_pair() {
    use crate::Side;
    let pair = Pair { positive: vec![1], negative: vec![2, 3], answer: 4, alternative: 5, template: 0 };
    let of = |side: Side| (pair.prompt(side).to_vec(), pair.right(side), side.towards_right(2.0));
    assert_eq!(of(Side::Positive), (vec![1], 4, 2.0));
    assert_eq!(of(Side::Negative), (vec![2, 3], 5, -2.0));
    assert_eq!(pair.prompts(), [&[1][..], &[2, 3]]);
    for (sequence, side, number) in [(0, Side::Positive, 0), (1, Side::Negative, 0), (7, Side::Negative, 3)] {
        assert_eq!((Side::of_sequence(sequence), side.sequence(number)), (side, sequence));
    }
}

/// Both answers stand in the description, so that it says what is scored.
#[test]
fn descriptions_name_the_answers_that_are_scored() {
    for task in all() {
        let named: HashSet<&str> = task.description().split('`').skip(1).step_by(2).collect();
        let (answer, alternative) = task.answers[0];
        for scored in [answer, alternative] {
            let mark = scored.trim_end_matches('\n');
            let said = match mark {
                "" => task.description().contains("a new line"),
                _ if mark.starts_with(" $") => task.description().contains("name"),
                _ if mark.trim().is_empty() => task.description().contains(&format!("{}", mark.len() + 1)),
                // A mark that closes a string and goes on is named by what goes on.
                _ => named.contains(mark) || named.contains(mark.trim_start_matches('"')),
            };
            assert!(said, "{}: {:?} lacks {scored:?}", task.name(), task.description());
        }
    }
}

#[test]
fn longer_prompts_are_longer_and_other_words_are_other() {
    for task in all() {
        let median = |split| {
            let mut lengths: Vec<usize> =
                task.text_pairs(split, 200, 4).iter().map(|pair| pair.positive.len()).collect();
            lengths.sort_unstable();
            lengths[lengths.len() / 2]
        };
        assert!(median(Split::Longer) > median(Split::Validation) + 40, "{}", task.name());
        let begins_with_context = |t: &Template| ["$(context)", "$(inner)"].iter().any(|c| t.positive.contains(c));
        assert!(task.templates.iter().all(begins_with_context), "{}: a template has no context", task.name());
    }
}

#[test]
fn prompts_beyond_the_context_are_left_out() {
    let task = find("for_while").expect("is there");
    let longest = |splits: &Splits| {
        let all = [&splits.train, &splits.selection, &splits.held_out, &splits.lengths];
        all.into_iter().flatten().flat_map(|pair| pair.prompts().map(<[u16]>::len)).max().expect("has pairs")
    };
    let [wide, narrow] = [256, 40].map(|context| Splits::draw(task, &toy, context, 2).expect("enough pairs"));
    assert!(longest(&wide) > 40 && longest(&narrow) <= 40);
}
