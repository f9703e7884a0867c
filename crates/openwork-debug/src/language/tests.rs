//! Lines that are commands, and the columns at which others are not.

use openwork_model::Config;

use super::*;
use crate::{Quantity, Vocabulary};

fn parse(line: &str) -> Result<Option<Command>, ParseError> {
    let config = Config { vocab_size: 256, ..Config::default() };
    let vocabulary = (
        |text: &str| text.bytes().map(u16::from).collect::<Vec<u16>>(),
        |tokens: &[u16]| tokens.iter().map(|&t| char::from(t as u8)).collect::<String>(),
    );
    let names =
        Names { config: &config, vocabulary: &vocabulary as &dyn Vocabulary, prompts: &["a".into(), "b".into()] };
    Command::parse(line, names)
}

#[test]
fn every_command_of_the_documentation_is_read() {
    for line in [
        "prompt a \"with open\\n\"",
        "prompt a = \"x\"",
        "prompt c tokens 1 2 255",
        "prompt a with_as 3 right",
        "prompt b with_as 3 wrong",
        "use b",
        "break 1.mlp.post_act",
        "break 1.mlp.post_act@-1",
        "break 1.mlp.post_act[142]",
        "break 1.mlp.post_act[142]@3",
        "break @5",
        "break logits@last",
        "break 1.mlp.post_act[142] > 0.5",
        "break if abs(1.mlp.post_act[142]@2 - 1) * 2 >= 1e-3 and not 0.attn.q[3] == 0",
        "break changed 1.mlp.post_act[7] by 1e-3 against b",
        "break logit(\"n\") > logit(\":\")",
        "break (logit(#3) > 1 or 0.attn.q[3] < -2) and 0.attn.k[1] of b > 0",
        "delete 1",
        "step",
        "step 12",
        "next",
        "continue",
        "restart",
        "watch logit(\"n\") - logit(\":\")",
        "watch 1.mlp.post_act[7] > 0.5",
        "unwatch 2",
        "print 1.mlp.post_act[7]@3",
        "print 1.mlp.post_act[7] > 1",
        "print 1.mlp.post_act[0:10]@2:5",
        "print 1.mlp.post_act@*",
        "print 1.mlp.post_act[3]@*",
        "print logits[5]@last",
        "print 2.final_read",
        "print weight 0.attn.act_in[3] -> 0.attn.q[5]",
        "print weight transformer.wte.weight[5,3]",
        "print answers 3 @2",
        "print inputs 1.mlp.post_act[7]@last",
        "set 1.mlp.post_act[7]@3 = 0.5",
        "set 1.mlp.post_act[7] = mean",
        "set 1.mlp.post_act[7]@last = zero",
        "set 1.mlp.post_act[7] = of b",
        "set 0.attn.v[3] -> 0.attn.resid_delta[5] = -0.5",
        "set transformer.h.0.attn.c_attn.bias[5] = zero",
        "undo",
        "bt 1.mlp.post_act[7]@3",
        "bt logit(\"n\") --depth 3 --share 0.05 --norm differentiated --effect",
        "why \"n\" not \":\" @-1 --effect mean",
        "why logit(\"n\")",
        "diff a b",
        "diff a b \"n\" not \":\"",
        "where 1.mlp.post_act[7]",
        "where 1.mlp.post_act[7] above 0.5 --windows 64",
        "info",
        "help",
        "quit",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
        assert!(parse(line).unwrap().is_some(), "{line}");
    }
    for line in ["", "   ", "# break nothing", "  # x"] {
        assert_eq!(parse(line), Ok(None));
    }
}

#[test]
fn errors_point_at_the_column_and_say_what_is_right() {
    for (line, column, expected, found) in [
        ("brake 1", 1, "a command: prompt, use", "brake"),
        ("break 1.mlp.post_act[256] > 0.5", 22, "an index from 0 to 255", "256"),
        ("break 9.mlp.post_act[2] > 0.5", 7, "a layer from 0 to 1", "9.mlp.post_act"),
        ("break 2.mlp.post_act[2", 7, "a layer from 0 to 1", "2.mlp.post_act"),
        ("break 1.mlp.post_act[2] + 1", 7, "a condition", "1.mlp.post_act"),
        ("break 1 > 2", 7, "a value of the run", "1"),
        ("break 1.mlp.neuron[2] > 1", 7, "a node such as 1.mlp.post_act[3]", "1.mlp.neuron"),
        ("watch 1.mlp.post_act[2] > ", 27, "a number, a node", ""),
        ("watch (1.mlp.post_act[2] > 1) + 1", 7, "a number, and this is a condition", "("),
        ("break @x", 8, "a position", "x"),
        ("use c", 5, "the name of a prompt: a, b", "c"),
        ("watch logit(\"nn\")", 13, "the text of one token (these are 2: \"n\" \"n\")", "\"nn\""),
        ("watch logit(#256)", 14, "the id of a token, from 0 to 255", "256"),
        ("set 1.mlp.post_act[2] 5", 23, "\"=\"", "5"),
        ("set 1.mlp.post_act[2] = 1e99", 25, "f32", "1e99"),
        ("set 0.attn.q[1] -> 0.attn.v[2] = 1", 5, "two nodes that a matrix joins", "0.attn.q"),
        ("set transformer.h.9.attn.c_attn.bias[5] = zero", 5, "a parameter such as", "transformer.h.9"),
        ("bt 1.mlp.post_act[7] --deep 3", 22, "--depth N", "--deep"),
        ("bt 1.mlp.post_act[7] --share 2", 30, "a share", "2"),
        ("prompt c nothing 1 right", 10, "tasks are ", "nothing"),
        ("prompt c with_as 1 left", 20, "right", "left"),
        ("prompt c \"open", 10, "a closing quote", "\"open"),
        ("print inputs 1.attn.y[7]", 14, "a node that a matrix computes", "1.attn.y"),
        ("step 1 2", 8, "the end of the line", "2"),
        ("step ?", 6, "a name, a number", "?"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.column, column, "{line}: {error}");
        assert!(error.expected.contains(expected) && error.found.starts_with(found), "{line}: {error}");
        let shown = error.to_string();
        let caret = shown.lines().last().unwrap();
        assert_eq!(caret.chars().count(), column + 2, "{shown}");
    }
}

#[test]
fn numbers_and_names_are_told_apart() {
    let Some(Command::Break(BreakAt::Condition(condition))) = parse("break 1.mlp.post_act[7] > 1e-3").unwrap() else {
        panic!("a condition")
    };
    assert_eq!(condition.to_string(), "1.mlp.post_act[7] > 1e-3");
    assert_eq!(condition.references().len(), 1);
    assert!(matches!(condition.references()[0].quantity, Quantity::Node(_)));
    let of = |text: &str| match parse(&format!("print {text}")).unwrap() {
        Some(Command::Print(Printed::Expression(expression))) => {
            expression.evaluate::<()>(&|_| Ok(2.0), &|_, _| Ok(Some(-0.5))).unwrap()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(of("1 + 2 * 3 - 4 / 2"), 5.0);
    assert_eq!(of("-(1 - 0.attn.q[1]) * abs(-3)"), 3.0);
    assert_eq!(of("not 1 > 2 and (2 <= 2 or 1 == 2)"), 1.0);
    assert_eq!(of("1 - 2 - 3"), -4.0);
    assert_eq!(of("changed 0.attn.q[1] by 0.4 against b"), 1.0);
    assert_eq!(of("changed 0.attn.q[1] by 0.5 against b"), 0.0);
}

#[test]
fn texts_are_read_as_they_are_written() {
    for text in ["", "a", "\"", "\\", "\\\"", "line\n\tnext\r\0", "é ⟨\u{202e}\u{1b}[0m"] {
        let line = format!("prompt a {}", literal(text));
        let expected = Command::Prompt { name: "a".into(), source: PromptSource::Text(text.into()) };
        assert_eq!(parse(&line), Ok(Some(expected)), "{line}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_line_panics_and_every_fault_is_in_the_line(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            "break", "print", "set", "bt", "why", "prompt", "diff", "watch", "if", "not", "and", "changed", "by", "against", "of",
            "logit", "abs", "1.mlp.post_act", "0.attn.q", "2.final_read", "9.attn.q", "logits", "[", "]", "(", ")", "@", "-", "->",
            "=", ":", ",", "*", "#", "<", "3", "300", "1e-3", "1e999", "\"n\"", "\"", "a", "c", "--depth", "--share", "last", "é", "?",
            "transformer.wte.weight", "with_as", "right", "weight", "answers", "inputs", "tokens", "\\", "\t", "\\u{", "\\u{e9}", "",
        ]), 0..12),
        blank in proptest::prelude::any::<bool>(),
    ) {
        let line = pieces.join(if blank { " " } else { "" });
        if let Err(error) = parse(&line) {
            proptest::prop_assert!((1..=line.chars().count() + 1).contains(&error.column), "{}", error);
            proptest::prop_assert!(!error.expected.is_empty());
        }
    }
}

#[test]
fn what_is_nested_or_long_without_end_is_refused() {
    for open in ["(", "-", "not ", "abs("] {
        let error = parse(&format!("print {}", open.repeat(3000))).unwrap_err();
        assert!(error.expected.contains("at most 64 levels"), "{error}");
    }
    assert_eq!(parse(&"x".repeat(30_000)).unwrap_err().column, 20_001);
}
