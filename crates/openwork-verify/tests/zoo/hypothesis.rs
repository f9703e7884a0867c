//! Hypotheses about the hand-built model: right ones, and ones that are wrong in one way each.
//!
//! Prompts hold one of `P` and `M`, and `+`, `-` or neither. The first path carries the sign, the second the letter
//! with less strength: the model answers by the sign, and by the letter where there is none.

use openwork_circuit::{Node, NodeSet};
use openwork_model::{Model, SiteKind};
use openwork_verify::{
    Status,
    hypothesis::{
        Comparison, Hypothesis, HypothesisCheck, HypothesisError, HypothesisReport, HypothesisSettings,
        HypothesisVerdict, Prompts, compare, examine,
    },
};
use rand::{RngExt, seq::SliceRandom};

use crate::micro::{Plan, config, model, path_nodes, rng, set};

const SIGN: &str = "first_of(tokens, ['+', '-'])";
const LETTER: &str = "first_of(tokens, ['P', 'M'])";
const ANSWER: &str = "'yes' if sign == '+' or (sign is none and letter == 'P') else 'no'";

fn text(token: u16) -> String {
    match token {
        0 => "+".into(),
        1 => "-".into(),
        2 => "yes".into(),
        3 => "no".into(),
        14 => "P".into(),
        15 => "M".into(),
        other => format!("w{other}"),
    }
}

fn prompts() -> Vec<Vec<u16>> {
    let mut rng = rng(11);
    let one = |_| {
        let mut prompt: Vec<u16> = (0..rng.random_range(5..7)).map(|_| rng.random_range(4..14)).collect();
        prompt[0] = rng.random_range(14..16);
        if let sign @ 0..2 = rng.random_range(0..3) {
            prompt[1] = sign;
        }
        // The last token is read by everything; a cue there would be another story.
        let n = prompt.len() - 1;
        prompt[..n].shuffle(&mut rng);
        prompt
    };
    (0..200).map(one).collect()
}

/// A variable of the file.
fn variable(name: &str, value: &str, nodes: &[Node], at: &str) -> String {
    let nodes: Vec<String> = nodes.iter().map(|n| format!("\"{n}\"")).collect();
    format!("[[variable]]\nname = \"{name}\"\nvalue = \"{value}\"\nnodes = [{}]\nat = \"{at}\"\n", nodes.join(", "))
}

fn file(name: &str, answer: &str, variables: &[String]) -> Hypothesis {
    let head = format!("name = \"{name}\"\nanswer = \"{answer}\"\ncandidates = [\"yes\", \"no\"]\n");
    Hypothesis::parse(&(head + &variables.concat()), "test.toml", &config()).unwrap()
}

/// Sign on these nodes, letter on those.
fn hypothesis(sign: &[Node], letter: &[Node]) -> Hypothesis {
    file("test", ANSWER, &[variable("sign", SIGN, sign, "all"), variable("letter", LETTER, letter, "all")])
}

fn right() -> Hypothesis {
    hypothesis(&path_nodes(&[0], false), &path_nodes(&[1], false))
}

fn plan() -> Model {
    model(Plan { second_path: 0.4, ..Plan::default() })
}

fn judged(model: &Model, circuit: Option<&NodeSet>, hypothesis: &Hypothesis) -> HypothesisReport {
    let tokens = prompts();
    let prompts = Prompts { tokens: &tokens, text: &text };
    examine(model, circuit, hypothesis, prompts, &HypothesisSettings::default()).unwrap()
}

#[track_caller]
fn refuted_by(report: &HypothesisReport) -> Vec<String> {
    match &report.verdict {
        HypothesisVerdict::Refuted { by } => by.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}\n{}", report.text()),
    }
}

/// The check that is printed with this name.
#[track_caller]
fn check<'a>(report: &'a HypothesisReport, name: &str) -> &'a HypothesisCheck {
    report.checks.iter().find(|c| c.id.to_string() == name).expect("it was made")
}

#[test]
fn the_right_hypothesis_is_supported() {
    let circuit = set(&path_nodes(&[0, 1], false));
    for circuit in [None, Some(&circuit)] {
        let report = judged(&plan(), circuit, &right());
        assert_eq!(report.verdict, HypothesisVerdict::Supported, "{}", report.text());
        assert_eq!(report.checks.iter().filter(|c| c.status == Status::Failed).count(), 0);
        assert_eq!(check(&report, "interchange of sign").estimate.unwrap().mean, 1.0, "{}", report.text());
        assert!(report.text().contains("HYPOTHESIS test: SUPPORTED"));
    }
}

#[test]
fn swapped_variables_are_refuted_with_an_example() {
    let report = judged(&plan(), None, &hypothesis(&path_nodes(&[1], false), &path_nodes(&[0], false)));
    let by = refuted_by(&report);
    assert!(
        by.contains(&"interchange of sign".to_owned()) && by.contains(&"interchange of letter".to_owned()),
        "{}",
        report.text()
    );
    // Without intervention the two cannot be told apart.
    assert_eq!(check(&report, "the model's answers").status, Status::Passed);
    let example = check(&report, "interchange of sign").example.as_ref().unwrap();
    assert_ne!(example.predicted, example.found);
    assert!(example.swapped[0].0 == "sign" && report.text().contains("for example prompt"), "{}", report.text());
}

#[test]
fn nodes_that_carry_nothing_are_refuted() {
    let circuit = set(&path_nodes(&[0, 1], false));
    let noise: Vec<Node> = ["0.attn.v[4]", "0.mlp.post_act[9]"].map(|n| n.parse().unwrap()).to_vec();
    let report = judged(&plan(), Some(&circuit), &hypothesis(&noise, &path_nodes(&[1], false)));
    let by = refuted_by(&report);
    assert!(by.contains(&"interchange of sign".to_owned()), "{}", report.text());
    assert_eq!(check(&report, "interchange of sign").estimate.unwrap().mean, 0.0);
    // The nodes that do carry it are found, too.
    assert!(by.contains(&"each circuit node that no variable names".to_owned()), "{}", report.text());
}

#[test]
fn half_of_the_nodes_are_refuted() {
    // The neuron for plus without the one for minus, and nothing after it.
    let half: Vec<Node> = vec!["0.mlp.post_act[0]".parse().unwrap()];
    let report = judged(&plan(), None, &hypothesis(&half, &path_nodes(&[1], false)));
    let by = refuted_by(&report);
    assert!(
        by.contains(&"interchange of sign".to_owned()) && by.contains(&"around the named nodes".to_owned()),
        "{}",
        report.text()
    );
}

#[test]
fn nodes_that_only_feed_the_named_ones_are_told_from_another_carrier() {
    let ends = |path: usize| [path_nodes(&[path], false).pop().unwrap()];
    let report = judged(&plan(), None, &hypothesis(&ends(0), &ends(1)));
    let by = refuted_by(&report);
    assert!(by.contains(&"all nodes that no variable names".to_owned()), "{}", report.text());
    assert_eq!(check(&report, "around the named nodes").status, Status::Passed, "{}", report.text());

    // A second carrier of the sign that is stronger than the first.
    let backup = model(Plan { second_path: 1.6, both_channels: true, ..Plan::default() });
    let answer = "'yes' if sign == '+' else 'no'";
    let one = file("one", answer, &[variable("sign", SIGN, &path_nodes(&[0], false), "all")]);
    let two = file("two", answer, &[variable("sign", SIGN, &path_nodes(&[0, 1], false), "all")]);
    let tokens: Vec<Vec<u16>> = prompts()
        .into_iter()
        .filter(|p| p.contains(&0) || p.contains(&1))
        .map(|p| p.into_iter().filter(|&t| t < 14).collect())
        .collect();
    let examined = |hypothesis| {
        let prompts = Prompts { tokens: &tokens, text: &text };
        examine(&backup, None, hypothesis, prompts, &HypothesisSettings::default()).unwrap()
    };
    let report = examined(&one);
    let by = refuted_by(&report);
    assert!(
        by.contains(&"all nodes that no variable names".to_owned())
            && by.contains(&"around the named nodes".to_owned()),
        "{by:?}"
    );
    let report = examined(&two);
    assert_eq!(report.verdict, HypothesisVerdict::Supported, "{}", report.text());
}

#[test]
fn a_wrong_rule_is_refuted_without_intervention_and_too_few_prompts_decide_nothing() {
    let wrong = ANSWER.replace("letter == 'P'", "letter == 'M'");
    let (first, second) = (path_nodes(&[0], false), path_nodes(&[1], false));
    let variables = [variable("sign", SIGN, &first, "all"), variable("letter", LETTER, &second, "all")];
    let report = judged(&plan(), None, &file("wrong", &wrong, &variables));
    assert!(refuted_by(&report).contains(&"the model's answers".to_owned()));

    let tokens = prompts()[..30].to_vec();
    let prompts = Prompts { tokens: &tokens, text: &text };
    let report = examine(&plan(), None, &right(), prompts, &HypothesisSettings::default()).unwrap();
    assert!(matches!(&report.verdict, HypothesisVerdict::Undecided { by } if by.len() > 3), "{}", report.text());
}

#[test]
fn two_hypotheses_are_told_apart_where_they_differ() {
    let tokens = prompts();
    let compared = |a: &Hypothesis, b: &Hypothesis| -> Comparison {
        let prompts = Prompts { tokens: &tokens, text: &text };
        compare(&plan(), [a, b], prompts, &HypothesisSettings::default()).unwrap()
    };
    // The same without intervention.
    let (first, second) = (path_nodes(&[0], false), path_nodes(&[1], false));
    let variables = [variable("sign", SIGN, &second, "all"), variable("letter", LETTER, &first, "all")];
    let swapped = file("swapped", ANSWER, &variables);
    let comparison = compared(&right(), &swapped);
    assert_eq!(comparison.favoured(), Some("test"), "{comparison:?}");
    assert!(comparison.differ > 100 && comparison.unpredicted == 0, "{comparison:?}");
    let example = comparison.example.unwrap();
    assert!(
        example.swapped.is_some() && example.predicted[0] == example.found && example.predicted[1] != example.found
    );
    assert_eq!(compared(&swapped, &right()).favoured(), Some("test"));

    // One that differs on plain prompts already.
    let wrong = ANSWER.replace("letter == 'P'", "letter == 'M'");
    let variables = [variable("sign", SIGN, &first, "all"), variable("letter", LETTER, &second, "all")];
    let comparison = compared(&file("wrong", &wrong, &variables), &right());
    assert_eq!((comparison.favoured(), comparison.example.as_ref().unwrap().swapped.as_ref()), (Some("test"), None));

    // The same twice: nothing tells them apart. Half of the nodes: nothing is predicted.
    let comparison = compared(&right(), &right());
    assert_eq!((comparison.differ, comparison.favoured(), comparison.follows), (0, None, None));
    let comparison = compared(&right(), &hypothesis(&first[..3], &second));
    assert!(comparison.unpredicted > 0 && comparison.unpredicted < comparison.considered, "{comparison:?}");
}

#[test]
fn errors_name_file_part_and_prompt() {
    let tokens = prompts();
    let with = |hypothesis: &Hypothesis, tokens: &[Vec<u16>]| -> HypothesisError {
        let prompts = Prompts { tokens, text: &text };
        examine(&plan(), None, hypothesis, prompts, &HypothesisSettings::default()).unwrap_err()
    };
    let one = |value: &str, answer: &str| file("bad", answer, &[variable("v", value, &path_nodes(&[0], false), "all")]);
    let error = with(&one("tokens[40]", "'yes'"), &tokens).to_string();
    assert!(
        error.starts_with("test.toml: variable v has no value on the prompt [\"w")
            || error.contains("entry that is not"),
        "{error}"
    );
    let error = with(&one("tokens|length + 'a'", "'yes'"), &tokens).to_string();
    assert!(error.starts_with("test.toml: variable v has no value on the prompt ["), "{error}");
    let error = with(&one("tokens[0]", "v"), &tokens).to_string();
    assert!(error.starts_with("test.toml: answer has no value") && error.contains("none of the candidates"), "{error}");
    assert!(with(&right(), &tokens[..1]).to_string().contains("1 prompts"));
    assert!(with(&right(), &[vec![1], vec![]]).to_string().contains("prompt 1 is empty"));
    let text = "name = \"n\"\nanswer = \"'yes'\"\ncandidates = [\"yes\", \"ja\"]\n".to_owned()
        + &variable("v", "tokens[0]", &path_nodes(&[0], false), "last");
    let error = with(&Hypothesis::parse(&text, "test.toml", &config()).unwrap(), &tokens).to_string();
    assert!(error.contains("candidate \"ja\" is not the text of one token"), "{error}");
}

#[test]
fn the_report_depends_on_the_seed_and_not_on_threads_and_survives_json() {
    let judge = |threads: usize, seed: u64| {
        let tokens = prompts();
        let settings = HypothesisSettings { seed, ..HypothesisSettings::default() };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        // Texts are asked for on one thread only.
        let (model, hypothesis) = (plan(), hypothesis(&path_nodes(&[1], false), &path_nodes(&[0], false)));
        pool.install(|| {
            examine(&model, None, &hypothesis, Prompts { tokens: &tokens, text: &text }, &settings).unwrap()
        })
    };
    let one = judge(1, 4);
    assert_eq!(one, judge(3, 4));
    assert_ne!(one.checks, judge(1, 5).checks);
    let text = serde_json::to_string(&one).unwrap();
    assert_eq!(serde_json::from_str::<HypothesisReport>(&text).unwrap(), one);
}

#[test]
fn a_variable_can_follow_from_another_and_live_at_the_last_token_only() {
    // The sign as it is heard anywhere, and as it arrives at the last token.
    let (early, late) =
        path_nodes(&[0], false).into_iter().partition::<Vec<_>, _>(|n| n.site.kind < SiteKind::ResidMid);
    let letter = variable("letter", LETTER, &path_nodes(&[1], false), "all");
    let chain = |sign: &str, at: &str| {
        let early = variable("heard", SIGN, &early, "all");
        file("chain", ANSWER, &[early, variable("sign", sign, &late, at), letter.clone()])
    };
    let report = judged(&plan(), None, &chain("heard", "last"));
    assert_eq!(report.verdict, HypothesisVerdict::Supported, "{}", report.text());
    assert_eq!(check(&report, "interchange of heard").estimate.unwrap().mean, 1.0);
    // Said to be independent, the sign should stay where what is heard is set.
    let report = judged(&plan(), None, &chain(SIGN, "last"));
    assert!(refuted_by(&report).contains(&"interchange of heard, answer stays".to_owned()), "{}", report.text());
    // What arrives is nowhere but at the last token: the early nodes there alone do not carry it.
    let last = file("last", ANSWER, &[variable("sign", SIGN, &early, "last"), letter.clone()]);
    assert!(refuted_by(&judged(&plan(), None, &last)).contains(&"all nodes that no variable names".to_owned()));
}
