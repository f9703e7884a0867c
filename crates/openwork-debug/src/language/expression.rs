//! Expressions over values of a run: numbers and conditions.

use std::fmt;

use super::{ParseError, Parser};
use crate::{Place, Quantity};

/// A position in a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// From the first token, 0.
    FromStart(usize),
    /// From the end: 1 is the last token.
    FromEnd(usize),
}

impl At {
    /// The position in a prompt of `length` tokens, if it has it.
    pub fn of(self, length: usize) -> Option<usize> {
        match self {
            Self::FromStart(position) => Some(position).filter(|p| *p < length),
            Self::FromEnd(from_end) => length.checked_sub(from_end),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromStart(position) => write!(f, "@{position}"),
            Self::FromEnd(from_end) => write!(f, "@-{from_end}"),
        }
    }
}

/// A value that an expression names.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// The quantity.
    pub quantity: Quantity,
    /// Its position; the position of the point, where it is none.
    pub position: Option<At>,
    /// Prompt of the run; the one at hand, where it is none.
    pub of: Option<String>,
}

/// An expression as it was written: a number or a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    pub(crate) root: Node,
    text: String,
}

/// Difference of a value from that in the run of another prompt.
type Differences<'a, E> = &'a dyn Fn(&Reference, &str) -> Result<Option<f64>, E>;

/// A node of the tree of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Number(f64),
    Value(Reference),
    /// `changed REFERENCE by LIMIT against PROMPT`.
    Changed {
        value: Reference,
        by: f64,
        against: String,
    },
    Negative(Box<Node>),
    Abs(Box<Node>),
    Not(Box<Node>),
    Arithmetic(char, Box<Node>, Box<Node>),
    Compare(&'static str, Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
}

impl Node {
    fn is_condition(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::Not(_) | Self::Compare(..) | Self::And(..) | Self::Or(..))
    }

    fn visit<'n>(&'n self, f: &mut dyn FnMut(&'n Reference)) {
        match self {
            Self::Number(_) => (),
            Self::Value(value) | Self::Changed { value, .. } => f(value),
            Self::Negative(x) | Self::Abs(x) | Self::Not(x) => x.visit(f),
            Self::Arithmetic(_, a, b) | Self::Compare(_, a, b) | Self::And(a, b) | Self::Or(a, b) => {
                a.visit(f);
                b.visit(f);
            }
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Expression {
    /// Reads an expression from here on.
    pub(crate) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParseError> {
        let place = parser.place();
        let root = or(parser)?;
        Ok(Self { root, text: parser.text_from(place) })
    }

    /// True if it is a condition, and not a number.
    pub fn is_condition(&self) -> bool {
        self.root.is_condition()
    }

    /// Values that it names.
    pub fn references(&self) -> Vec<&Reference> {
        let mut found = vec![];
        self.root.visit(&mut |reference| found.push(reference));
        found
    }

    /// Place at which all its values are ready; none where it names no value.
    pub fn place(&self) -> Option<Place> {
        self.references().into_iter().map(|reference| reference.quantity.place()).max()
    }

    /// Its value, 1 or 0 for a condition: `value` gives those that it names, `changed` the difference of one from that of
    /// another prompt (none where the prompts have no position in common there).
    pub(crate) fn evaluate<E>(
        &self,
        value: &dyn Fn(&Reference) -> Result<f64, E>,
        changed: Differences<'_, E>,
    ) -> Result<f64, E> {
        evaluate(&self.root, value, changed)
    }
}

fn evaluate<E>(
    node: &Node,
    value: &dyn Fn(&Reference) -> Result<f64, E>,
    changed: Differences<'_, E>,
) -> Result<f64, E> {
    let of = |node: &Node| evaluate(node, value, changed);
    let truth = |holds: bool| f64::from(u8::from(holds));
    Ok(match node {
        Node::Number(number) => *number,
        Node::Value(reference) => value(reference)?,
        Node::Changed { value, by, against } => truth(changed(value, against)?.is_some_and(|d| d.abs() > *by)),
        Node::Negative(x) => -of(x)?,
        Node::Abs(x) => of(x)?.abs(),
        Node::Not(x) => truth(of(x)? == 0.0),
        Node::And(a, b) => truth(of(a)? != 0.0 && of(b)? != 0.0),
        Node::Or(a, b) => truth(of(a)? != 0.0 || of(b)? != 0.0),
        Node::Arithmetic(sign, a, b) => {
            let (a, b) = (of(a)?, of(b)?);
            match sign {
                '+' => a + b,
                '-' => a - b,
                '*' => a * b,
                _ => a / b,
            }
        }
        Node::Compare(sign, a, b) => {
            let (a, b) = (of(a)?, of(b)?);
            truth(match *sign {
                "<" => a < b,
                ">" => a > b,
                "<=" => a <= b,
                ">=" => a >= b,
                "==" => a == b,
                _ => a != b,
            })
        }
    })
}

/// Fails at `place` unless the node is a condition, or a number.
fn check(parser: &Parser<'_>, place: usize, node: Node, condition: bool) -> Result<Node, ParseError> {
    match (node.is_condition(), condition) {
        (false, true) => Err(parser.error_at(place, "a condition, such as a comparison")),
        (true, false) => Err(parser.error_at(place, "a number, and this is a condition")),
        _ => Ok(node),
    }
}

fn chain(
    parser: &mut Parser<'_>,
    word: &str,
    next: fn(&mut Parser<'_>) -> Result<Node, ParseError>,
    join: fn(Box<Node>, Box<Node>) -> Node,
) -> Result<Node, ParseError> {
    let place = parser.place();
    let mut left = next(parser)?;
    while parser.is_word(word) {
        left = check(parser, place, left, true)?;
        parser.word(word)?;
        let place = parser.place();
        let right = next(parser)?;
        left = join(left.into(), check(parser, place, right, true)?.into());
    }
    Ok(left)
}

fn or(parser: &mut Parser<'_>) -> Result<Node, ParseError> {
    chain(parser, "or", and, Node::Or)
}

fn and(parser: &mut Parser<'_>) -> Result<Node, ParseError> {
    chain(parser, "and", not, Node::And)
}

fn not(parser: &mut Parser<'_>) -> Result<Node, ParseError> {
    if !parser.eat_word("not") {
        return comparison(parser);
    }
    let place = parser.place();
    let of = parser.inside(not)?;
    Ok(Node::Not(check(parser, place, of, true)?.into()))
}

fn comparison(parser: &mut Parser<'_>) -> Result<Node, ParseError> {
    if parser.eat_word("changed") {
        let quantity = parser.quantity("a value, such as 1.mlp.post_act[3] or logit(\"x\")")?;
        let position = parser.position()?;
        let by = if parser.eat_word("by") { parser.number("the least change, a number")? } else { 0.0 };
        parser.word("against")?;
        let against = parser.prompt()?;
        return Ok(Node::Changed { value: Reference { quantity, position, of: None }, by, against });
    }
    let place = parser.place();
    let left = sum(parser)?;
    for sign in ["<=", ">=", "==", "!=", "<", ">"] {
        if parser.eat(sign) {
            let left = check(parser, place, left, false)?;
            let place = parser.place();
            let right = sum(parser)?;
            return Ok(Node::Compare(sign, left.into(), check(parser, place, right, false)?.into()));
        }
    }
    Ok(left)
}

fn sum(parser: &mut Parser<'_>) -> Result<Node, ParseError> {
    arithmetic(parser, &["+", "-"], |parser| arithmetic(parser, &["*", "/"], unary))
}

fn arithmetic(
    parser: &mut Parser<'_>,
    signs: &[&str],
    next: fn(&mut Parser<'_>) -> Result<Node, ParseError>,
) -> Result<Node, ParseError> {
    let place = parser.place();
    let mut left = next(parser)?;
    while let Some(sign) = signs.iter().find(|sign| parser.eat(sign)) {
        left = check(parser, place, left, false)?;
        let place = parser.place();
        let right = next(parser)?;
        let right = check(parser, place, right, false)?;
        left = Node::Arithmetic(sign.chars().next().expect("a sign"), left.into(), right.into());
    }
    Ok(left)
}

fn unary(parser: &mut Parser<'_>) -> Result<Node, ParseError> {
    if !parser.eat("-") {
        return atom(parser);
    }
    let place = parser.place();
    let of = parser.inside(unary)?;
    Ok(Node::Negative(check(parser, place, of, false)?.into()))
}

fn atom(parser: &mut Parser<'_>) -> Result<Node, ParseError> {
    const EXPECTED: &str = "a number, a node such as 1.mlp.post_act[3], logit(\"x\"), abs(..) or a bracket";
    if parser.eat("(") {
        let inner = parser.inside(or)?;
        parser.sign(")")?;
        return Ok(inner);
    }
    if parser.eat_word("abs") {
        parser.sign("(")?;
        let place = parser.place();
        let inner = parser.inside(sum)?;
        let inner = check(parser, place, inner, false)?;
        parser.sign(")")?;
        return Ok(Node::Abs(inner.into()));
    }
    if let super::lexer::Lexeme::Number(_) = parser.peek() {
        return Ok(Node::Number(parser.number(EXPECTED)?));
    }
    let quantity = parser.quantity(EXPECTED)?;
    let position = parser.position()?;
    let of = if parser.eat_word("of") { Some(parser.prompt()?) } else { None };
    Ok(Node::Value(Reference { quantity, position, of }))
}
