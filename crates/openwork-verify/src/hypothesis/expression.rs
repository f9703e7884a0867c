//! The expressions of a hypothesis: a small, safe language that reads like Python's.
//!
//! They are those of Jinja (the `minijinja` library): literals, `==`, `in`, `and`, `or`, `not`, arithmetic, `~` to join
//! texts, `x if condition else y`, indexing and slicing (`tokens[-1]`, `tokens[:3]`), filters such as
//! `tokens|length`; and the functions of [`environment`]. They cannot reach anything but the prompt, and stop after
//! [`FUEL`] steps.

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

/// Steps one expression may take: thousands of times what a prompt of a thousand tokens needs.
const FUEL: u64 = 1_000_000;

/// The names that an expression may use beside variables:
///
/// - `count(list, x)`: how often x occurs;
/// - `contains(list, x)`: whether it does;
/// - `position(list, x)`: where it occurs first, from 0, or −1;
/// - `last_position(list, x)`: where it occurs last, or −1;
/// - `first_of(list, choices)`: the first entry that is one of the choices, or `none`;
/// - `last_of(list, choices)`: the last one, or `none`;
/// - `after(list, x)`: the entry that follows the last occurrence of x before the end, or `none` (induction);
/// - `most_frequent(list, choices)`: the choice that occurs most often, the first of those that tie.
pub(super) fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.add_function("count", |list: Vec<Value>, x: Value| list.iter().filter(|&y| *y == x).count());
    env.add_function("contains", |list: Vec<Value>, x: Value| list.contains(&x));
    env.add_function("position", |list: Vec<Value>, x: Value| index(list.iter().position(|y| *y == x)));
    env.add_function("last_position", |list: Vec<Value>, x: Value| index(list.iter().rposition(|y| *y == x)));
    env.add_function("first_of", |list: Vec<Value>, choices: Vec<Value>| {
        list.into_iter().find(|y| choices.contains(y)).unwrap_or(Value::from(()))
    });
    env.add_function("last_of", |list: Vec<Value>, choices: Vec<Value>| {
        list.into_iter().rfind(|y| choices.contains(y)).unwrap_or(Value::from(()))
    });
    env.add_function("after", |list: Vec<Value>, x: Value| {
        let before_end = &list[..list.len().saturating_sub(1)];
        before_end.iter().rposition(|y| *y == x).map_or(Value::from(()), |at| list[at + 1].clone())
    });
    env.add_function("most_frequent", |list: Vec<Value>, choices: Vec<Value>| {
        let count = |choice: &Value| list.iter().filter(|y| *y == choice).count();
        let mut best: Option<(usize, Value)> = None;
        for choice in choices {
            let n = count(&choice);
            if best.as_ref().is_none_or(|(most, _)| n > *most) {
                best = Some((n, choice));
            }
        }
        best.map(|(_, choice)| choice).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "there are no choices"))
    });
    env
}

fn index(at: Option<usize>) -> i64 {
    at.map_or(-1, |at| at as i64)
}

/// True if the name stands for something in every expression.
pub(super) fn is_known(env: &Environment<'_>, name: &str) -> bool {
    name == "tokens" || env.globals().any(|(known, _)| known == name)
}

/// The message of an error on one line, without the name of the template that there is none of.
pub(super) fn message(error: &Error) -> String {
    let kind = error.kind().to_string();
    error.detail().map_or(kind.clone(), |detail| format!("{kind}: {detail}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn eval(text: &str) -> Result<Value, Error> {
        let env = environment();
        let tokens: Value = ["a", "b", "a", "c", "b"].into_iter().collect();
        let context = Value::from_object(BTreeMap::from([("tokens".to_owned(), tokens)]));
        env.compile_expression(text)?.eval(context)
    }

    #[test]
    fn functions_say_what_they_promise() {
        let cases: [(&str, Value); 14] = [
            ("count(tokens, 'a')", 2.into()),
            ("contains(tokens, 'd')", false.into()),
            ("position(tokens, 'b')", 1.into()),
            ("position(tokens, 'd')", (-1).into()),
            ("last_position(tokens, 'b')", 4.into()),
            ("first_of(tokens, ['c', 'b'])", "b".into()),
            ("last_of(tokens, ['c', 'a'])", "c".into()),
            ("last_of(tokens, ['d']) is none", true.into()),
            ("after(tokens, tokens[-1])", "a".into()),
            ("after(tokens, 'd') is none", true.into()),
            ("most_frequent(tokens, ['c', 'b', 'a'])", "b".into()),
            ("tokens[-1] == 'b' and tokens|length == 5", true.into()),
            ("'x' if 'c' in tokens else 'y'", "x".into()),
            ("tokens[:2][1] ~ '!'", "b!".into()),
        ];
        for (text, expected) in cases {
            assert_eq!(eval(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |text: &str| message(&eval(text).unwrap_err());
        assert!(wrong("tokens[").starts_with("syntax error"));
        assert!(wrong("cuont(tokens, 'a')").contains("cuont"));
        assert!(wrong("count(tokens)").contains("missing argument"));
        assert!(wrong("most_frequent(tokens, [])").contains("no choices"));
        let many = "range(9999)|sum + ".repeat(200) + "0";
        assert!(wrong(&many).contains("fuel"), "{:?}", eval(&many));
    }
}
