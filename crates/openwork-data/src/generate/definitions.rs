//! Functions, classes, and the program around them.

use openwork_tasks::words;

use super::blocks::{for_loop, gather, if_chain, statement, while_loop};
use super::statements::{action, assign_number, print};
use super::values::{bare_word, class_name, condition, function_name, list, message, number, thing, value};
use super::vocabulary;
use super::writer::{Kind, Writer};

/// A whole program.
pub(crate) fn program(w: &mut Writer) {
    if w.draw.chance(35) {
        for _ in 0..w.draw.range(1, 3) {
            let import = w.draw.pick(vocabulary::IMPORTS);
            w.line(format_args!("{import}"));
        }
        w.gap();
    }
    let enough = w.draw.range(6, 26) as usize;
    let mut first = true;
    loop {
        if !first {
            w.gap();
        }
        first = false;
        match w.draw.below(20) {
            0..=7 => function(w),
            8..=10 => predicate(w),
            11..=13 => class(w),
            _ => script(w),
        }
        if w.lines() >= enough {
            return;
        }
    }
}

/// Statements at the top level.
fn script(w: &mut Writer) {
    for _ in 0..w.draw.range(2, 6) {
        if w.draw.chance(12) {
            w.blank();
        }
        statement(w);
    }
}

/// The parameters of a function: once one has a default, all that follow have one.
fn parameters(w: &mut Writer, most: u32) -> String {
    let count = w.draw.below(most + 1);
    let style = w.draw.below(10);
    let mut names: Vec<String> = Vec::new();
    let mut out = String::new();
    let plain = match style {
        0..=4 => count,
        5..=7 => 0,
        _ => w.draw.below(count + 1),
    };
    for at in 0..count {
        let kind = w.draw.pick(&[Kind::Number, Kind::Text, Kind::List, Kind::Flag, Kind::Number, Kind::Text]);
        let name = loop {
            let name = if w.draw.chance(20) { thing(w).to_owned() } else { w.new_name(kind) };
            if !names.contains(&name) {
                break name;
            }
        };
        if at > 0 {
            out.push_str(", ");
        }
        out.push_str(&name);
        if at >= plain {
            out.push('=');
            out.push_str(&default(w));
        }
        names.push(name);
    }
    out
}

fn default(w: &mut Writer) -> String {
    match w.draw.below(10) {
        0..=6 => "None".to_owned(),
        7 => number(w),
        8 => w.draw.pick(&["True", "False"]).to_owned(),
        _ => {
            let quote = w.quote();
            format!("{quote}{}{quote}", bare_word(w))
        }
    }
}

/// A function with a body of a few statements and mostly a result.
fn function(w: &mut Writer) {
    let name = if w.draw.chance(12) { "main".to_owned() } else { function_name(w) };
    w.fresh_scope(|w| {
        let parameters = if name == "main" { String::new() } else { parameters(w, 4) };
        w.line(format_args!("def {name}({parameters}):"));
        w.block(|w| {
            if w.draw.chance(12) {
                let text = message(w);
                w.line(format_args!("\"\"\"{text}.\"\"\""));
            }
            for _ in 0..w.draw.range(1, 4) {
                statement(w);
            }
            give_back(w);
        });
    });
    if w.draw.chance(40) {
        w.gap();
        call(w, &name);
    }
}

fn call(w: &mut Writer, name: &str) {
    if name == "main" {
        let quote = w.quote();
        w.line(format_args!("if __name__ == {quote}__main__{quote}:"));
        w.block(|w| w.line(format_args!("main()")));
        return;
    }
    let argument = match w.draw.below(4) {
        0 => list(w),
        1 => {
            let quote = w.quote();
            format!("{quote}{}{quote}", message(w))
        }
        2 => {
            let quote = w.quote();
            let (word, number, key) = (bare_word(w), number(w), w.name(Kind::Number));
            format!("{quote}{word}{quote}, {key}={number}")
        }
        _ => number(w),
    };
    match w.draw.below(3) {
        0 => w.line(format_args!("print({name}({argument}))")),
        1 => {
            let result = w.new_name(Kind::Number);
            w.line(format_args!("{result} = {name}({argument})"));
        }
        _ => w.line(format_args!("{name}({argument})")),
    }
}

fn give_back(w: &mut Writer) {
    match w.draw.below(8) {
        0 | 1 => w.line(format_args!("return True")),
        2 => w.line(format_args!("return False")),
        3 => {
            let name = w.name(Kind::List);
            w.line(format_args!("return {name}"));
        }
        4 | 5 => {
            let value = value(w);
            w.line(format_args!("return {value}"));
        }
        6 => {
            let name = w.name(Kind::Number);
            w.line(format_args!("return {name}"));
        }
        _ => print(w),
    }
}

/// A function that answers with `True` or `False`.
fn predicate(w: &mut Writer) {
    let name = w.draw.pick(vocabulary::PREDICATES);
    w.fresh_scope(|w| {
        let parameters = parameters(w, 3);
        w.line(format_args!("def {name}({parameters}):"));
        w.block(predicate_body);
    });
}

fn predicate_body(w: &mut Writer) {
    if w.draw.chance(30) {
        action(w);
    }
    let (inner, outer) = w.draw.pick(&[("True", "False"), ("False", "True")]);
    match w.draw.below(3) {
        0 => {
            let test = condition(w);
            w.line(format_args!("if {test}:"));
            w.block(|w| w.line(format_args!("return {inner}")));
        }
        1 => {
            let (item, list, test) = (thing(w), w.name(Kind::List), condition(w));
            w.line(format_args!("for {item} in {list}:"));
            w.block(|w| {
                w.line(format_args!("if {test}:"));
                w.block(|w| w.line(format_args!("return {inner}")));
            });
        }
        _ => {
            let (test, text) = (condition(w), message(w));
            let quote = w.quote();
            w.line(format_args!("if {test}:"));
            w.block(|w| {
                w.line(format_args!("print({quote}{text}{quote})"));
                w.line(format_args!("return {inner}"));
            });
        }
    }
    w.line(format_args!("return {outer}"));
}

/// A class: an initialiser that keeps its arguments, and a few methods.
fn class(w: &mut Writer) {
    let name = class_name(w);
    if w.draw.chance(15) {
        let base = class_name(w);
        w.line(format_args!("class {name}({base}):"));
    } else {
        w.line(format_args!("class {name}:"));
    }
    let mut attributes: Vec<&str> = Vec::new();
    for _ in 0..w.draw.range(1, 6) {
        let attribute = w.draw.pick(words::ATTRIBUTES.programs());
        if !attributes.contains(&attribute) {
            attributes.push(attribute);
        }
    }
    w.block(|w| {
        initialiser(w, &attributes);
        for _ in 0..w.draw.below(3) {
            w.blank();
            method(w, &attributes);
        }
    });
    if w.draw.chance(35) {
        w.gap();
        let (thing, quote, word) = (thing(w), w.quote(), bare_word(w));
        w.line(format_args!("{thing} = {name}({quote}{word}{quote})"));
    }
}

fn initialiser(w: &mut Writer, attributes: &[&str]) {
    let defaults = w.draw.below(4);
    let mut header = String::new();
    for (at, attribute) in attributes.iter().enumerate() {
        header.push_str(", ");
        header.push_str(attribute);
        if defaults == 0 || (defaults == 1 && at > 0) {
            header.push('=');
            header.push_str(&default(w));
        }
    }
    w.line(format_args!("def __init__(self{header}):"));
    w.block(|w| {
        for attribute in attributes {
            w.line(format_args!("self.{attribute} = {attribute}"));
        }
        if w.draw.chance(25) {
            let (list, start) = (thing(w), w.draw.pick(&["[]", "{}", "0", "None", "False"]));
            w.line(format_args!("self.{list}s = {start}"));
        }
    });
}

fn method(w: &mut Writer, attributes: &[&str]) {
    let attribute = w.draw.pick(attributes);
    w.fresh_scope(|w| match w.draw.below(8) {
        0 => {
            w.line(format_args!("def get_{attribute}(self):"));
            w.block(|w| w.line(format_args!("return self.{attribute}")));
        }
        1 => {
            w.line(format_args!("def set_{attribute}(self, {attribute}):"));
            w.block(|w| w.line(format_args!("self.{attribute} = {attribute}")));
        }
        2 => {
            let quote = w.quote();
            w.line(format_args!("def __str__(self):"));
            w.block(|w| w.line(format_args!("return f{quote}{attribute}: {{self.{attribute}}}{quote}")));
        }
        3 => {
            let (predicate, number) = (w.draw.pick(vocabulary::PREDICATES), number(w));
            w.line(format_args!("def {predicate}(self):"));
            w.block(|w| {
                w.line(format_args!("if self.{attribute} == {number}:"));
                w.block(|w| w.line(format_args!("return True")));
                w.line(format_args!("return False"));
            });
        }
        4 => {
            let name = function_name(w);
            w.line(format_args!("def {name}(self):"));
            w.block(|w| {
                let quote = w.quote();
                let text = message(w);
                w.line(format_args!("print({quote}{text}{quote})"));
                w.line(format_args!("return True"));
            });
        }
        5 => {
            let (name, thing) = (function_name(w), thing(w));
            w.line(format_args!("def {name}(self, {thing}):"));
            w.block(|w| w.line(format_args!("self.{thing}s.append({thing})")));
        }
        _ => {
            let name = function_name(w);
            w.line(format_args!("def {name}(self):"));
            w.block(|w| match w.draw.below(5) {
                0 => if_chain(w),
                1 => for_loop(w),
                2 => while_loop(w),
                3 => gather(w),
                _ => {
                    assign_number(w);
                    action(w);
                }
            });
        }
    });
}
