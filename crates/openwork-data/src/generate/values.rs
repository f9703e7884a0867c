//! Literals and short expressions.

use std::fmt::Write;

use openwork_tasks::words;

use super::vocabulary;
use super::writer::{Kind, Writer};

/// `word` with its first letter in upper case.
pub(crate) fn capitalized(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut letters = word.chars();
    if let Some(first) = letters.next() {
        out.extend(first.to_uppercase());
    }
    out.push_str(letters.as_str());
    out
}

/// The singular name of one thing.
pub(crate) fn thing(w: &mut Writer) -> &'static str {
    w.draw.pick(words::THINGS.programs())
}

/// A class name such as `OrderManager`.
pub(crate) fn class_name(w: &mut Writer) -> String {
    let mut name = capitalized(thing(w));
    if w.draw.chance(50) {
        name.push_str(w.draw.pick(words::ROLES.programs()));
    }
    name
}

/// A function name such as `load_orders`.
pub(crate) fn function_name(w: &mut Writer) -> String {
    let verb = w.draw.pick(words::VERBS.programs());
    let thing = thing(w);
    match w.draw.below(10) {
        0 => format!("{verb}_{}_{thing}", w.draw.pick(words::ADJECTIVES.programs())),
        1..=4 => format!("{verb}_{thing}s"),
        5 => verb.to_owned(),
        6 | 7 => thing.to_owned(),
        _ => format!("{verb}_{thing}"),
    }
}

/// The words of a message, without quotation marks.
pub(crate) fn message(w: &mut Writer) -> String {
    let thing = thing(w);
    let adjective = w.draw.pick(words::ADJECTIVES.programs());
    let word = w.draw.pick(words::WORDS.programs());
    let verb = w.draw.pick(words::VERBS.programs());
    let mut text = match w.draw.below(18) {
        0 => format!("No {thing}s available"),
        1 => format!("{} {thing} not found", capitalized(adjective)),
        2 => format!("Invalid {thing}"),
        3 => format!("Loading {adjective} {thing}s"),
        4 => format!("Could not {verb} the {thing}"),
        5 => format!("{} {}", capitalized(thing), w.draw.range(1, 99)),
        6 => format!("The {thing} is {adjective}"),
        7 => format!("Please enter the {thing}"),
        8 => format!("{} is {word}", w.draw.pick(vocabulary::PROPER)),
        9 => format!("Hello {}", w.draw.pick(vocabulary::PROPER)),
        10 => format!("{} {thing} added", capitalized(adjective)),
        11 => format!("{} complete", capitalized(thing)),
        12 => format!("You have {} {thing}s left", w.draw.range(2, 20)),
        13 => format!("{} {thing}s", capitalized(verb)),
        14 => format!("Error in {adjective} {thing}"),
        15 => format!("{word} {thing}"),
        16 => format!("There is no {word} in the {thing}"),
        _ => format!("Welcome to the {thing} {}", w.draw.pick(&["manager", "list", "store", "shop", "game", "page"])),
    };
    match w.draw.below(20) {
        0 => text.push('!'),
        1 => text.push('.'),
        _ => {}
    }
    text
}

/// A quoted message.
pub(crate) fn message_string(w: &mut Writer) -> String {
    let quote = w.quote();
    let text = message(w);
    format!("{quote}{text}{quote}")
}

/// A word without quotation marks.
pub(crate) fn bare_word(w: &mut Writer) -> &'static str {
    match w.draw.below(5) {
        0 => w.draw.pick(vocabulary::PROPER),
        1 => w.draw.pick(words::THINGS.programs()),
        _ => w.draw.pick(words::WORDS.programs()),
    }
}

/// A quoted word.
pub(crate) fn word_string(w: &mut Writer) -> String {
    let quote = w.quote();
    let word = bare_word(w);
    format!("{quote}{word}{quote}")
}

/// A small number, now and then with a fraction.
pub(crate) fn number(w: &mut Writer) -> String {
    match w.draw.below(12) {
        0 => format!("{}.{}", w.draw.below(100), w.draw.range(1, 9)),
        1 | 2 => w.draw.range(100, 5000).to_string(),
        3..=6 => w.draw.below(10).to_string(),
        _ => w.draw.range(1, 100).to_string(),
    }
}

/// The name of a file, and the mode it is opened with: the stem decides.
pub(crate) fn file_and_mode(w: &mut Writer) -> (String, char) {
    let writes = w.draw.chance(50);
    let stem = w.draw.pick(if writes { words::WRITE_STEMS.programs() } else { words::READ_STEMS.programs() });
    let extension = w.draw.pick(vocabulary::EXTENSIONS);
    let name =
        if w.draw.chance(20) { format!("{stem}_{}.{extension}", thing(w)) } else { format!("{stem}.{extension}") };
    (name, if writes { 'w' } else { 'r' })
}

/// `open("input.txt", "r")`, and whether it is opened for writing.
pub(crate) fn open_call(w: &mut Writer) -> (String, bool) {
    let (file, mode) = file_and_mode(w);
    let quote = w.quote();
    let call = if mode == 'r' && w.draw.chance(25) {
        format!("open({quote}{file}{quote})")
    } else {
        format!("open({quote}{file}{quote}, {quote}{mode}{quote})")
    };
    (call, mode == 'w')
}

/// Kind of the elements of a list.
#[derive(Clone, Copy)]
enum Element {
    Number,
    BigNumber,
    Word(char),
    Name,
}

fn element_kind(w: &mut Writer) -> Element {
    match w.draw.below(8) {
        0..=2 => Element::Number,
        3 | 4 => Element::BigNumber,
        5 | 6 => Element::Word(w.quote()),
        _ => Element::Name,
    }
}

fn element(w: &mut Writer, kind: Element, out: &mut String) {
    let written = match kind {
        Element::Number => write!(out, "{}", w.draw.below(20)),
        Element::BigNumber => {
            let most = w.draw.pick(&[100, 100, 1000]);
            write!(out, "{}", w.draw.below(most))
        }
        Element::Word(quote) => write!(out, "{quote}{}{quote}", bare_word(w)),
        Element::Name => {
            write!(out, "{}", w.draw.pick(&["a", "b", "c", "x", "y", "z", "i", "j", "n", "m", "k", "p", "q"]))
        }
    };
    written.expect("writing to a String cannot fail");
}

fn nested(w: &mut Writer, kind: Element, depth: u32, length: u32, out: &mut String) {
    out.push('[');
    let same_length = w.draw.range(1, 5);
    for at in 0..length {
        if at > 0 {
            out.push_str(", ");
        }
        if depth == 1 {
            element(w, kind, out);
        } else {
            let rows = if depth > 2 { w.draw.range(1, 2) } else { same_length };
            nested(w, kind, depth - 1, rows, out);
        }
    }
    out.push(']');
}

/// A list: flat `[1, 2]`, nested `[[1, 2], [3, 4]]`, rarely three deep.
pub(crate) fn list(w: &mut Writer) -> String {
    let kind = element_kind(w);
    let mut out = String::new();
    match w.draw.below(20) {
        0..=9 => {
            let length = w.draw.range(1, 9);
            nested(w, kind, 1, length, &mut out);
        }
        10..=18 => {
            let rows = w.draw.range(1, 4);
            nested(w, kind, 2, rows, &mut out);
        }
        _ => {
            let rows = w.draw.range(1, 2);
            nested(w, kind, 3, rows, &mut out);
        }
    }
    out
}

/// A list of words in quotation marks.
pub(crate) fn word_list(w: &mut Writer) -> String {
    let quote = w.quote();
    let mut out = String::new();
    let length = w.draw.range(2, 6);
    nested(w, Element::Word(quote), 1, length, &mut out);
    out
}

/// A dict on one line.
pub(crate) fn dict(w: &mut Writer) -> String {
    let quote = w.quote();
    let words = w.draw.chance(40);
    let mut out = String::from("{");
    for at in 0..w.draw.range(1, 5) {
        if at > 0 {
            out.push_str(", ");
        }
        let key = bare_word(w);
        let value = if words { format!("{quote}{}{quote}", bare_word(w)) } else { number(w) };
        write!(out, "{quote}{key}{quote}: {value}").expect("writing to a String cannot fail");
    }
    out.push('}');
    out
}

/// A condition for `if`; half of them compare with `==`.
pub(crate) fn condition(w: &mut Writer) -> String {
    match w.draw.below(12) {
        0..=2 => format!("{} == {}", w.name(Kind::Number), number(w)),
        3..=5 => format!("{} == {}", w.name(Kind::Text), word_string(w)),
        6 => format!("{} {} {}", w.name(Kind::Number), w.draw.pick(&[">", "<", ">=", "<="]), number(w)),
        7 => format!("{} in {}", thing(w), w.name(Kind::List)),
        8 => format!("not {}", w.name(Kind::Flag)),
        9 => format!("{} == {}", w.name(Kind::Flag), w.draw.pick(&["True", "False"])),
        10 => format!("len({}) > {}", w.name(Kind::List), w.draw.below(10)),
        _ => w.name(Kind::Flag),
    }
}

/// An arithmetic expression over numbers in scope.
pub(crate) fn arithmetic(w: &mut Writer) -> String {
    let first = w.name(Kind::Number);
    let operator = w.draw.pick(&["+", "-", "*", "+", "*", "//", "%"]);
    if w.draw.chance(50) {
        format!("{first} {operator} {}", w.name(Kind::Number))
    } else {
        format!("{first} {operator} {}", w.draw.range(1, 20))
    }
}

/// Any short value to assign or to return.
pub(crate) fn value(w: &mut Writer) -> String {
    match w.draw.below(8) {
        0 | 1 => number(w),
        2 => word_string(w),
        3 => w.name(Kind::Number),
        4 => w.name(Kind::Text),
        5 => format!("len({})", w.name(Kind::List)),
        _ => arithmetic(w),
    }
}
