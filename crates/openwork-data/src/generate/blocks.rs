//! Statements with a body: conditions, loops, and sets or texts gathered over several lines.

use super::statements::{action, print, simple};
use super::values::{condition, list, message, number, thing, word_list, word_string};
use super::writer::{Kind, Writer};

/// Deepest indentation at which a block may still start.
const DEEPEST: usize = 3;

/// One statement of any kind, simple or with a body.
pub(crate) fn statement(w: &mut Writer) {
    if w.depth() >= DEEPEST {
        return action(w);
    }
    match w.draw.below(20) {
        0..=9 => simple(w),
        10..=12 => gather(w),
        13 => gather_two(w),
        14 | 15 => if_chain(w),
        16 | 17 => for_loop(w),
        _ => while_loop(w),
    }
}

/// `n` statements for the body of a loop or of a condition.
fn body(w: &mut Writer, most: u32) {
    for _ in 0..w.draw.range(1, most) {
        if w.depth() < DEEPEST && w.draw.chance(18) {
            if w.draw.chance(50) { if_chain(w) } else { for_loop(w) }
        } else {
            action(w);
        }
    }
}

/// `if`, with `elif` and `else` branches now and then.
pub(crate) fn if_chain(w: &mut Writer) {
    let first = condition(w);
    w.line(format_args!("if {first}:"));
    w.block(|w| body(w, 2));
    let branches = w.draw.pick(&[0, 0, 0, 1, 1, 2]);
    for _ in 0..branches {
        let next = condition(w);
        w.line(format_args!("elif {next}:"));
        w.block(|w| body(w, 1));
    }
    if w.draw.chance(55) {
        w.line(format_args!("else:"));
        w.block(|w| body(w, 1));
    }
}

/// A `for` loop over a collection, a range or an enumeration.
pub(crate) fn for_loop(w: &mut Writer) {
    let item = thing(w);
    let counter = w.draw.pick(&["i", "j", "n", "k", "index", "x", "step", "count", "num"]);
    match w.draw.below(12) {
        0..=2 => {
            let list = w.name(Kind::List);
            let list = if w.draw.chance(40) { format!("{item}s") } else { list };
            w.line(format_args!("for {item} in {list}:"));
        }
        3..=5 => {
            let end = match w.draw.below(4) {
                0 => format!("len({})", w.name(Kind::List)),
                1 => w.name(Kind::Number),
                2 => format!("1, {}", number(w)),
                _ => w.draw.range(2, 100).to_string(),
            };
            w.line(format_args!("for {counter} in range({end}):"));
        }
        6..=8 => {
            let list = w.name(Kind::List);
            w.line(format_args!("for {counter}, {item} in enumerate({list}):"));
        }
        9 => {
            let list = w.name(Kind::List);
            w.line(format_args!("for key, {item} in {list}.items():"));
        }
        10 => {
            let (first, second) = (w.name(Kind::List), w.name(Kind::List));
            w.line(format_args!("for {item}, {counter} in zip({first}, {second}):"));
        }
        _ => {
            let list = if w.draw.chance(50) { list(w) } else { word_list(w) };
            w.line(format_args!("for {item} in {list}:"));
        }
    }
    w.block(|w| {
        if w.draw.chance(35) {
            w.line(format_args!("print({item})"));
        }
        body(w, 2);
    });
}

/// A `while` loop on a truth value, a collection or `True`.
pub(crate) fn while_loop(w: &mut Writer) {
    let item = thing(w);
    match w.draw.below(12) {
        0..=3 => {
            let flag = w.name(Kind::Flag);
            w.line(format_args!("while {flag}:"));
            w.block(|w| {
                body(w, 2);
                w.line(format_args!("{flag} = False"));
            });
        }
        4 | 5 => {
            let next = w.draw.pick(&["next", "parent", "next_node", "left"]);
            w.line(format_args!("while {item}:"));
            w.block(|w| {
                body(w, 2);
                w.line(format_args!("{item} = {item}.{next}"));
            });
        }
        6 => {
            let list = w.name(Kind::List);
            w.line(format_args!("while {list}:"));
            w.block(|w| {
                w.line(format_args!("{item} = {list}.pop()"));
                body(w, 2);
            });
        }
        7 => {
            let (count, n) = (w.name(Kind::Number), number(w));
            w.line(format_args!("while {count} < {n}:"));
            w.block(|w| {
                body(w, 1);
                w.line(format_args!("{count} += 1"));
            });
        }
        _ => while_true(w),
    }
}

fn while_true(w: &mut Writer) {
    w.line(format_args!("while True:"));
    w.block(|w| {
        let asked = w.draw.pick(&["choice", "command", "answer", "line", "guess", "option", "response", "name"]);
        if w.draw.chance(60) {
            let quote = w.quote();
            let text = message(w);
            w.line(format_args!("{asked} = input({quote}{text}{quote})"));
        } else {
            body(w, 2);
        }
        let test = if w.draw.chance(60) { format!("{asked} == {}", word_string(w)) } else { condition(w) };
        w.line(format_args!("if {test}:"));
        w.block(|w| w.line(format_args!("break")));
        if w.draw.chance(40) {
            print(w);
        }
    });
}

/// Contents of a gathered name; its first assignment is the only sign.
#[derive(Clone, Copy, PartialEq)]
enum Gathered {
    Set,
    Text,
}

fn define(w: &mut Writer, name: &str, holds: Gathered) {
    match holds {
        Gathered::Set => w.line(format_args!("{name} = set()")),
        Gathered::Text => {
            let quote = w.quote();
            w.line(format_args!("{name} = {quote}{quote}"));
        }
    }
}

fn grow(w: &mut Writer, name: &str, holds: Gathered, with: &str) {
    match holds {
        Gathered::Set => w.line(format_args!("{name}.add({with})")),
        Gathered::Text => w.line(format_args!("{name} += {with}")),
    }
}

fn draw_gathered(w: &mut Writer) -> (&'static str, Gathered) {
    let holds = w.draw.pick(&[Gathered::Set, Gathered::Text]);
    (w.gathered_name(), holds)
}

fn between(w: &mut Writer, most: u32) {
    for _ in 0..w.draw.below(most + 1) {
        if w.depth() < DEEPEST && w.draw.chance(30) {
            if w.draw.chance(50) { if_chain(w) } else { for_loop(w) }
        } else {
            simple(w);
        }
    }
}

/// The statement that adds; at times a second one follows.
fn added(w: &mut Writer, item: &str) -> String {
    match w.draw.below(5) {
        0 => word_string(w),
        1 => w.name(Kind::Text),
        2 => format!("{item}.name"),
        _ => item.to_owned(),
    }
}

/// Grows `name` at the present indentation, inside a loop, or inside a loop with a condition.
fn use_gathered(w: &mut Writer, name: &str, holds: Gathered) {
    let item = thing(w);
    let with = added(w, item);
    if w.depth() >= DEEPEST || w.draw.chance(45) {
        return grow(w, name, holds, &with);
    }
    let list = w.name(Kind::List);
    w.line(format_args!("for {item} in {list}:"));
    w.block(|w| {
        if w.draw.chance(40) {
            let test = condition(w);
            w.line(format_args!("if {test}:"));
            w.block(|w| {
                if w.draw.chance(30) {
                    action(w);
                }
                grow(w, name, holds, &with);
            });
        } else {
            if w.draw.chance(40) {
                action(w);
            }
            grow(w, name, holds, &with);
        }
    });
    if w.draw.chance(30) {
        let with = added(w, item);
        grow(w, name, holds, &with);
    }
}

/// A set or a text that is defined, and some lines later grown.
pub(crate) fn gather(w: &mut Writer) {
    let (name, holds) = draw_gathered(w);
    define(w, name, holds);
    between(w, 3);
    use_gathered(w, name, holds);
    if w.draw.chance(40) {
        w.line(format_args!("print({name})"));
    }
}

/// Two gathered names at once, so that the kind must be looked up by name.
pub(crate) fn gather_two(w: &mut Writer) {
    let (first, first_holds) = draw_gathered(w);
    let (second, second_holds) = draw_gathered(w);
    define(w, first, first_holds);
    define(w, second, second_holds);
    between(w, 2);
    let item = thing(w);
    if w.draw.chance(50) {
        let list = w.name(Kind::List);
        let (a, b) = (added(w, item), added(w, item));
        w.line(format_args!("for {item} in {list}:"));
        w.block(|w| {
            grow(w, first, first_holds, &a);
            grow(w, second, second_holds, &b);
        });
    } else if w.draw.chance(50) {
        use_gathered(w, second, second_holds);
        use_gathered(w, first, first_holds);
    } else {
        use_gathered(w, first, first_holds);
        use_gathered(w, second, second_holds);
    }
}
