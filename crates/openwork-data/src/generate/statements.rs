//! Statements of one or a few lines.

use openwork_tasks::words;

use super::values::{
    arithmetic, bare_word, capitalized, class_name, dict, function_name, list, message, message_string, number,
    open_call, thing, value, word_list, word_string,
};
use super::writer::{Kind, Writer};

/// One simple statement (or a few that belong together), at the present indentation.
pub(crate) fn simple(w: &mut Writer) {
    match w.draw.below(48) {
        0..=9 => print(w),
        10..=15 => call_with_string(w),
        16..=21 => assign_list(w),
        22..=24 => assign_dict(w),
        25..=28 => assign_number(w),
        29 | 30 => assign_text(w),
        31..=34 => assign_flag(w),
        35 | 36 => swap(w),
        37 | 38 => ternary(w),
        39..=42 => lambda(w),
        43..=45 => open_file(w),
        _ => comment(w),
    }
}

/// A statement that needs no name defined before, for the inside of a loop or of an `if`.
pub(crate) fn action(w: &mut Writer) {
    match w.draw.below(12) {
        0..=4 => print(w),
        5 | 6 => call_with_string(w),
        7 => {
            let name = w.name(Kind::Number);
            let operator = w.draw.pick(&["+=", "+=", "-="]);
            let amount = w.draw.range(1, 10);
            w.line(format_args!("{name} {operator} {amount}"));
        }
        8 | 9 => assign_flag(w),
        10 => assign_number(w),
        _ => {
            let (list, value) = (w.name(Kind::List), value(w));
            w.line(format_args!("{list}.append({value})"));
        }
    }
}

/// `print(..)` in its common forms.
pub(crate) fn print(w: &mut Writer) {
    let quote = w.quote();
    match w.draw.below(12) {
        0..=4 => {
            let text = message(w);
            w.line(format_args!("print({quote}{text}{quote})"));
        }
        5 | 6 => {
            let (label, name) = (label(w), printed_name(w));
            w.line(format_args!("print(f{quote}{label} {{{name}}}{quote})"));
        }
        7 => {
            let (label, name) = (label(w), printed_name(w));
            w.line(format_args!("print(f{quote}{label}: {{{name}}}{quote})"));
        }
        8 | 9 => {
            let (label, name) = (label(w), printed_name(w));
            w.line(format_args!("print({quote}{label}{quote}, {name})"));
        }
        10 => {
            let (label, name) = (label(w), printed_name(w));
            w.line(format_args!("print({quote}{label}:{quote}, {name})"));
        }
        _ => {
            let name = printed_name(w);
            w.line(format_args!("print({name})"));
        }
    }
}

fn label(w: &mut Writer) -> String {
    let thing = thing(w);
    match w.draw.below(4) {
        0 => format!("{} {thing}", capitalized(w.draw.pick(words::ADJECTIVES.programs()))),
        1 => format!("The {thing} is"),
        2 => format!("{} {}", capitalized(thing), w.draw.pick(words::NUMBERS.programs())),
        _ => capitalized(thing),
    }
}

fn printed_name(w: &mut Writer) -> String {
    let kind = w.draw.pick(&[Kind::Number, Kind::Text, Kind::Number]);
    w.name(kind)
}

fn call_with_string(w: &mut Writer) {
    let name = thing(w);
    let text = message_string(w);
    match w.draw.below(10) {
        0..=2 => {
            let (class, quote, n) = (class_name(w), w.quote(), w.draw.range(1, 30));
            let argument =
                if w.draw.chance(50) { format!("{} {n}", capitalized(name)) } else { bare_word(w).to_owned() };
            w.line(format_args!("{name} = {class}({quote}{argument}{quote})"));
        }
        3 => {
            let level = w.draw.pick(&["info", "error", "warning", "debug"]);
            w.line(format_args!("logger.{level}({text})"));
        }
        4 => w.line(format_args!("{name} = input({text})")),
        5 => {
            let (list, word) = (w.name(Kind::List), word_string(w));
            w.line(format_args!("{list}.append({word})"));
        }
        6 => {
            let (class, word) = (function_name(w), word_string(w));
            w.line(format_args!("{class}({word})"));
        }
        7 => {
            let (target, word, source) = (w.new_name(Kind::Text), word_string(w), w.name(Kind::List));
            w.line(format_args!("{target} = {source}.get({word})"));
        }
        8 => {
            let (class, word, n) = (class_name(w), word_string(w), number(w));
            w.line(format_args!("{name} = {class}({word}, {n})"));
        }
        _ => {
            let (source, word) = (w.name(Kind::Text), word_string(w));
            let list = w.new_name(Kind::List);
            w.line(format_args!("{list} = {source}.split({word})"));
        }
    }
}

fn assign_list(w: &mut Writer) {
    let list = if w.draw.chance(85) { list(w) } else { word_list(w) };
    let name = match w.draw.below(3) {
        0 => {
            w.draw.pick(&["values", "matrix", "grid", "data", "numbers", "table", "points", "board", "rows"]).to_owned()
        }
        _ => w.new_name(Kind::List),
    };
    w.line(format_args!("{name} = {list}"));
}

fn assign_dict(w: &mut Writer) {
    let name = w.new_name(Kind::List);
    if w.draw.chance(65) {
        let dict = dict(w);
        w.line(format_args!("{name} = {dict}"));
        return;
    }
    let quote = w.quote();
    w.line(format_args!("{name} = {{"));
    w.block(|w| {
        for _ in 0..w.draw.range(2, 4) {
            let (key, value) = (bare_word(w), number(w));
            w.line(format_args!("{quote}{key}{quote}: {value},"));
        }
    });
    w.line(format_args!("}}"));
}

/// `count = 3`, or a number computed from others.
pub(crate) fn assign_number(w: &mut Writer) {
    let value = if w.draw.chance(60) { number(w) } else { arithmetic(w) };
    let name = w.new_name(Kind::Number);
    w.line(format_args!("{name} = {value}"));
}

fn assign_text(w: &mut Writer) {
    let value = if w.draw.chance(60) { word_string(w) } else { message_string(w) };
    let name = w.new_name(Kind::Text);
    w.line(format_args!("{name} = {value}"));
}

fn assign_flag(w: &mut Writer) {
    let value = w.draw.pick(&["True", "False", "True"]);
    let name = w.new_name(Kind::Flag);
    w.line(format_args!("{name} = {value}"));
}

fn swap(w: &mut Writer) {
    let first = w.draw.pick(words::SWAPPED);
    let second = loop {
        let name = w.draw.pick(words::SWAPPED);
        if name != first {
            break name;
        }
    };
    if w.draw.chance(40) {
        let (n, m) = (number(w), number(w));
        w.line(format_args!("{first} = {n}"));
        w.line(format_args!("{second} = {m}"));
    }
    w.line(format_args!("{first}, {second} = {second}, {first}"));
}

fn ternary(w: &mut Writer) {
    let flag = if w.draw.chance(60) { w.name(Kind::Flag) } else { super::values::condition(w) };
    let (yes, no) = if w.draw.chance(50) { (number(w), number(w)) } else { (word_string(w), word_string(w)) };
    let name = w.new_name(Kind::Number);
    w.line(format_args!("{name} = {yes} if {flag} else {no}"));
}

fn lambda(w: &mut Writer) {
    let name =
        w.draw.pick(&["square", "double", "add", "key_func", "compare", "transform", "func", "scale", "convert"]);
    let short = w.draw.pick(&["x", "n", "a", "num", "word", "s"]);
    let x = if w.draw.chance(60) { thing(w) } else { short };
    let operator = w.draw.pick(&["+", "*", "-", "**"]);
    let n = w.draw.range(1, 12);
    match w.draw.below(4) {
        0 => {
            let list = w.name(Kind::List);
            w.line(format_args!("{list}.sort(key=lambda {x}: {x}[{}])", n % 3));
        }
        1 => w.line(format_args!("{name} = lambda {x}, y: {x} {operator} y")),
        _ => w.line(format_args!("{name} = lambda {x}: {x} {operator} {n}")),
    }
}

/// Work on a file: in a `with` block, or with an assignment and `close()`, at times only if a flag says so.
pub(crate) fn open_file(w: &mut Writer) {
    let (call, writes) = open_call(w);
    let file = w.draw.pick(&["f", "f", "file", "fp", "handle", "infile"]);
    let with = w.draw.chance(55);
    let on_condition = w.depth() < 2 && w.draw.chance(40);
    if with {
        w.line(format_args!("with {call} as {file}:"));
    } else if on_condition {
        let flag = w.name(Kind::Flag);
        w.line(format_args!("{file} = {call} if {flag} else None"));
        w.line(format_args!("if {file}:"));
    } else {
        w.line(format_args!("{file} = {call}"));
    }
    let body = |w: &mut Writer| {
        if writes {
            let text = if w.draw.chance(50) { message_string(w) } else { w.name(Kind::Text) };
            w.line(format_args!("{file}.write({text})"));
        } else {
            match w.draw.below(3) {
                0 => {
                    let name = w.new_name(Kind::Text);
                    w.line(format_args!("{name} = {file}.read()"));
                }
                1 => {
                    let name = w.new_name(Kind::List);
                    w.line(format_args!("{name} = {file}.readlines()"));
                }
                _ => {
                    w.line(format_args!("for line in {file}:"));
                    w.block(|w| w.line(format_args!("print(line.strip())")));
                }
            }
        }
    };
    if with {
        w.block(body);
    } else if on_condition {
        w.block(|w| {
            body(w);
            w.line(format_args!("{file}.close()"));
        });
    } else {
        body(w);
        w.line(format_args!("{file}.close()"));
    }
}

fn comment(w: &mut Writer) {
    let (verb, thing) = (capitalized(w.draw.pick(words::VERBS.programs())), thing(w));
    match w.draw.below(3) {
        0 => w.line(format_args!("# {verb} the {thing}s")),
        1 => w.line(format_args!("# {verb} each {thing}")),
        _ => {
            let text = message(w);
            w.line(format_args!("# {text}"));
        }
    }
    assign_number(w);
}
