//! A small, safe language that reads like Python's.
//!
//! They are those of Jinja (the `minijinja` library) without what can be made to run long: literals, `==`, `in`, `and`, `or`,
//! `not`, `+`, `-`, `/`, `//`, `%`, `~` to join texts, `x if condition else y`, indexing and slicing (`tokens[-1]`, `tokens[:3]`),
//! filters that take time in the size of their value (`length`, `first`, `last`, `min`, `max`, `sum`, `abs`, `int`, `string`,
//! `lower`, `upper`, `reverse`, as in `tokens|length`), the tests `none`, `odd`, `even` and `in` (`x is none`), and the functions of [`Language`]. They cannot reach
//! anything but the prompt. Their length and depth are bounded before they are parsed, and the size of a value and the work of
//! functions when they are evaluated.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::LanguageError;
use minijinja::{
    Environment, Error, ErrorKind, Expression, UndefinedBehavior, Value, filters, tests as checks, value::ValueKind,
};

/// Most characters of an expression; a parsed one is never deeper than that, and real ones have some fifty.
const MOST_CHARACTERS: usize = 1000;

/// Most brackets inside each other, and most signs and `not`s in a row.
const MOST_DEPTH: usize = 32;

/// Comparisons that the functions of one evaluation may make: a hundred times what a prompt of a thousand tokens needs.
const WORK: u64 = 200_000;

/// Steps of the interpreter, one an operation: more than an expression of that length has.
const FUEL: u64 = 20_000;

/// Entries of a value, those of its entries included, and bytes of its texts.
const MOST_SIZE: usize = 50_000;

/// Interpreter of expressions. The names that one may use beside variables:
///
/// - `count(list, x)`: how often x occurs;
/// - `contains(list, x)`: whether it does;
/// - `position(list, x)`: where it occurs first, from 0, or −1;
/// - `last_position(list, x)`: where it occurs last, or −1;
/// - `first_of(list, choices)`: the first entry that is one of the choices, or `none`;
/// - `last_of(list, choices)`: the last one, or `none`;
/// - `after(list, x)`: the entry that follows the last occurrence of x before the end, or `none` (induction);
/// - `most_frequent(list, choices)`: the choice that occurs most often, the first of those that tie.
pub struct Language {
    env: Environment<'static>,
    /// Work that is left to the evaluation at hand.
    work: Arc<AtomicU64>,
}

impl Default for Language {
    fn default() -> Self {
        Self::new()
    }
}

impl Language {
    /// The language, with the work of one evaluation.
    pub fn new() -> Self {
        let mut env = Environment::empty();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_fuel(Some(FUEL));
        let work = Arc::new(AtomicU64::new(WORK));
        add_filters(&mut env);
        add_functions(&mut env, &work);
        Self { env, work }
    }

    /// An expression that is short and shallow enough to be parsed.
    ///
    /// # Errors
    /// When it is not, or is no expression.
    pub fn compile(&self, text: &str) -> Result<Expression<'_, 'static>, LanguageError> {
        fits(text)?;
        self.env.compile_expression_owned(text.to_owned()).map_err(|e| wrong(&e))
    }

    /// The value of an expression where names have the values of `context`.
    ///
    /// # Errors
    /// When it takes too much work, is too large, or an operation fails.
    pub fn evaluate(&self, expression: &Expression<'_, '_>, context: Value) -> Result<Value, LanguageError> {
        self.work.store(WORK, Ordering::Relaxed);
        let value = expression.eval(context).map_err(|e| wrong(&e))?;
        match size(&value, MOST_SIZE) {
            Some(_) => Ok(value),
            None => Err(LanguageError::TooLarge { most: MOST_SIZE }),
        }
    }

    /// The value of an expression over `tokens`, the texts of a prompt.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn on_tokens<T: Clone + Into<Value>>(
        &self,
        expression: &Expression<'_, '_>,
        tokens: &[T],
    ) -> Result<Value, LanguageError> {
        let tokens: Value = tokens.iter().cloned().map(Into::into).collect();
        self.evaluate(expression, Value::from_object(BTreeMap::from([("tokens".to_owned(), tokens)])))
    }

    /// True if the name stands for something in every expression.
    pub fn is_known(&self, name: &str) -> bool {
        name == "tokens" || self.env.globals().any(|(known, _)| known == name)
    }
}

fn add_filters(env: &mut Environment<'static>) {
    env.add_filter("length", filters::length);
    env.add_filter("first", filters::first);
    env.add_filter("last", filters::last);
    env.add_filter("min", filters::min);
    env.add_filter("max", filters::max);
    env.add_filter("sum", filters::sum);
    env.add_filter("abs", filters::abs);
    env.add_filter("int", filters::int);
    env.add_filter("string", filters::string);
    env.add_filter("lower", filters::lower);
    env.add_filter("upper", filters::upper);
    env.add_filter("reverse", filters::reverse);
    env.add_test("none", checks::is_none);
    env.add_test("odd", checks::is_odd);
    env.add_test("even", checks::is_even);
    env.add_test("in", checks::is_in);
}

fn add_functions(env: &mut Environment<'static>, work: &Arc<AtomicU64>) {
    // Comparisons of `list` with each of so many values, each as long as the values are large.
    let charge = |work: &Arc<AtomicU64>| {
        let work = work.clone();
        move |list: &[Value], with: &[Value]| -> Result<(), Error> {
            let largest = with.iter().map(|x| size(x, MOST_SIZE).unwrap_or(MOST_SIZE)).max().unwrap_or(1).max(1);
            let cost = (list.len().saturating_mul(with.len()) as u64).saturating_mul(largest as u64);
            let left = work.load(Ordering::Relaxed);
            if cost > left {
                return Err(Error::new(ErrorKind::OutOfFuel, "its functions compare more than a prompt ever needs"));
            }
            work.store(left - cost, Ordering::Relaxed);
            Ok(())
        }
    };
    let one = |work: &Arc<AtomicU64>| {
        let charge = charge(work);
        move |list: &[Value], x: &Value| charge(list, std::slice::from_ref(x))
    };
    let of = one(work);
    env.add_function("count", move |list: Vec<Value>, x: Value| {
        of(&list, &x)?;
        Ok::<_, Error>(list.iter().filter(|&y| *y == x).count())
    });
    let of = one(work);
    env.add_function("contains", move |list: Vec<Value>, x: Value| {
        of(&list, &x)?;
        Ok::<_, Error>(list.contains(&x))
    });
    let of = one(work);
    env.add_function("position", move |list: Vec<Value>, x: Value| {
        of(&list, &x)?;
        Ok::<_, Error>(index(list.iter().position(|y| *y == x)))
    });
    let of = one(work);
    env.add_function("last_position", move |list: Vec<Value>, x: Value| {
        of(&list, &x)?;
        Ok::<_, Error>(index(list.iter().rposition(|y| *y == x)))
    });
    let of = charge(work);
    env.add_function("first_of", move |list: Vec<Value>, choices: Vec<Value>| {
        of(&list, &choices)?;
        Ok::<_, Error>(list.into_iter().find(|y| choices.contains(y)).unwrap_or(Value::from(())))
    });
    let of = charge(work);
    env.add_function("last_of", move |list: Vec<Value>, choices: Vec<Value>| {
        of(&list, &choices)?;
        Ok::<_, Error>(list.into_iter().rfind(|y| choices.contains(y)).unwrap_or(Value::from(())))
    });
    let of = one(work);
    env.add_function("after", move |list: Vec<Value>, x: Value| {
        of(&list, &x)?;
        let before_end = &list[..list.len().saturating_sub(1)];
        let found = before_end.iter().rposition(|y| *y == x);
        Ok::<_, Error>(found.map_or(Value::from(()), |at| list[at + 1].clone()))
    });
    let of = charge(work);
    env.add_function("most_frequent", move |list: Vec<Value>, choices: Vec<Value>| {
        of(&list, &choices)?;
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
}

fn index(at: Option<usize>) -> i64 {
    at.map_or(-1, |at| at as i64)
}

/// Entries of a value and bytes of its texts, if they are at most `most`.
fn size(value: &Value, most: usize) -> Option<usize> {
    let own = value.as_str().map_or(1, |text| text.len().max(1));
    let mut sum = Some(own).filter(|own| *own <= most)?;
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        for entry in value.try_iter().ok()? {
            sum += size(&entry, most - sum)?;
        }
    }
    (sum <= most).then_some(sum)
}

/// Fails on a text that is too long or too deep to be parsed, or that multiplies: what is multiplied again and again has no end.
fn fits(text: &str) -> Result<(), LanguageError> {
    let length = text.chars().count();
    if length > MOST_CHARACTERS {
        return Err(LanguageError::TooLong { characters: length, most: MOST_CHARACTERS });
    }
    let (mut depth, mut signs, mut quote, mut escaped) = (0_usize, 0_usize, None, false);
    for c in text.replace("not", "-").chars() {
        if let Some(q) = quote {
            quote = Some(q).filter(|q| escaped || c != *q);
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '\'' | '"' => quote = Some(c),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '*' => return Err(LanguageError::Multiplies),
            _ => (),
        }
        signs = match c {
            '-' | '+' => signs + 1,
            c if c.is_whitespace() => signs,
            _ => 0,
        };
        if depth > MOST_DEPTH || signs > MOST_DEPTH {
            return Err(LanguageError::TooDeep { most: MOST_DEPTH });
        }
    }
    Ok(())
}

/// The message of an error on one line, without the name of the template that there is none of.
fn wrong(error: &Error) -> LanguageError {
    let kind = error.kind().to_string();
    LanguageError::Wrong { message: error.detail().map_or(kind.clone(), |detail| format!("{kind}: {detail}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(text: &str) -> Result<Value, String> {
        let language = Language::new();
        let value =
            language.compile(text).and_then(|compiled| language.on_tokens(&compiled, &["a", "b", "a", "c", "b"]));
        value.map_err(|error| error.to_string())
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
        let wrong = |text: &str| eval(text).unwrap_err();
        assert!(wrong("tokens[").starts_with("syntax error"));
        assert!(wrong("cuont(tokens, 'a')").contains("cuont"));
        assert!(wrong("count(tokens)").contains("missing argument"));
        assert!(wrong("most_frequent(tokens, [])").contains("no choices"));
        assert!(wrong("'a' * 1000000000").contains("* is not in the language"));
        assert_eq!(eval("'*' ~ \"2*3\"").unwrap(), "*2*3".into(), "a star in a text is a text");
        let filters =
            ["length", "first", "last", "min", "max", "sum", "abs", "int", "string", "lower", "upper", "reverse"];
        for filter in filters {
            assert!(!eval(&format!("tokens|{filter}")).is_err_and(|e| e.contains("unknown")), "{filter}");
        }
    }

    #[test]
    fn no_expression_overflows_the_stack_or_runs_long() {
        let started = std::time::Instant::now();
        let deep = |open: &str, inner: &str, close: &str, n: usize| open.repeat(n) + inner + &close.repeat(n);
        let mut hostile = vec![
            deep("(", "1", ")", 5_000),
            deep("[", "1", "]", 5_000),
            deep("-", "1", "", 50_000),
            deep("not ", "1", "", 20_000),
            deep("- not ", "1", "", 100),
            "10**100000".into(),
            "range(1000000000)|sum".into(),
            "[1]|batch(1000000000, 1)|list".into(),
            "'a'|center(1000000000)".into(),
            "'a'|indent(1000000000)".into(),
            "'a'|replace('a', 'aa')".into(),
            "tokens|map('string')|join".into(),
            "tokens|tojson".into(),
            "1//0".into(),
            "1%0".into(),
            "(-9223372036854775807-1)//-1".into(),
            "tokens[::0]".into(),
        ];
        // As deep as the length allows, in every way that operators nest.
        for unit in ["1+", "1~", "1 if 1 else ", "1==", "not 1 and ", "tokens[0] or "] {
            hostile.push(unit.repeat(950 / unit.len()) + "1");
        }
        for unit in ["|string", "[0]", "|first", " is none"] {
            hostile.push("tokens".to_owned() + &unit.repeat(950 / unit.len()));
        }
        for text in &hostile {
            // A value or an error, at once, on the small stack of a test.
            let _ = eval(text);
        }
        for text in &hostile[..17] {
            let long = ["tokens[::0]", "(-9223372036854775807-1)//-1"].contains(&text.as_str());
            assert!(long || eval(text).is_err(), "{}", &text[..text.len().min(40)]);
        }
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }

    #[test]
    fn values_that_grow_from_variable_to_variable_and_quadratic_functions_are_bounded() {
        let language = Language::new();
        let tokens: Value = (0..1000).map(|i| format!("t{i}")).collect();
        let mut context = BTreeMap::from([("tokens".to_owned(), tokens.clone()), ("v".to_owned(), Value::from("ab"))]);
        for step in ["v ~ v", "[v, v]"] {
            context.insert("v".into(), Value::from("ab"));
            let expression = language.compile(step).unwrap();
            let grown =
                (0..60).find_map(|_| match language.evaluate(&expression, Value::from_object(context.clone())) {
                    Ok(value) => {
                        context.insert("v".into(), value);
                        None
                    }
                    Err(error) => Some(error),
                });
            assert_eq!(grown, Some(LanguageError::TooLarge { most: 50_000 }), "{step}");
        }
        let eval = |text: &str| {
            let context = BTreeMap::from([("tokens".to_owned(), tokens.clone())]);
            language.evaluate(&language.compile(text).unwrap(), Value::from_object(context))
        };
        let calls = "count(tokens, 't1') + ".repeat(20) + "0";
        assert_eq!(eval(&calls).unwrap(), Value::from(20), "what a prompt needs is there");
        for function in ["most_frequent", "first_of", "last_of"] {
            let error = eval(&format!("{function}(tokens, tokens)")).unwrap_err().to_string();
            assert!(error.contains("more than a prompt ever needs"), "{function}: {error}");
        }
        // One evaluation leaves the next all its work.
        assert!(eval(&calls).is_ok());
    }
}
