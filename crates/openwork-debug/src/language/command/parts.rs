//! Parts of commands: stops, ranges, values to show, weights and edits.

use openwork_circuit::Node;
use openwork_model::{Params, SiteKind};

use super::{Assignment, BreakAt, Printed, Range, Replacement, WeightPlace};
use crate::{
    Place,
    language::{Expression, ParseError, Parser, lexer::Lexeme},
};

pub(super) fn break_at(parser: &mut Parser<'_>) -> Result<BreakAt, ParseError> {
    let start = parser.place();
    if let Some(position) = parser.position()? {
        return Ok(BreakAt::Point(None, Some(position)));
    }
    if parser.eat_word("logits") {
        return Ok(BreakAt::Point(Some(Place::Logits), parser.position()?));
    }
    if parser.peek_site().is_some() {
        // A site, a node, or a condition that begins with a node.
        match parser.peek_second() {
            Lexeme::End | Lexeme::Sign("@") => {
                let site = parser.site("a site")?;
                return Ok(BreakAt::Point(Some(Place::Site(site)), parser.position()?));
            }
            _ => {
                let node = parser.node("a node")?;
                let position = parser.position()?;
                if parser.at_end() {
                    return Ok(BreakAt::Node(node, position));
                }
                parser.back(start);
            }
        }
    }
    parser.eat_word("if");
    let place = parser.place();
    let condition = Expression::parse(parser)?;
    if !condition.is_condition() {
        return Err(parser.error_at(place, "a site, a node, a position or a condition"));
    }
    if condition.references().is_empty() {
        return Err(parser.error_at(place, "a condition on a value of the run"));
    }
    Ok(BreakAt::Condition(condition))
}

fn range(parser: &mut Parser<'_>, expected: &str) -> Result<Range, ParseError> {
    if parser.eat("*") {
        return Ok(Range::ALL);
    }
    let signed = |parser: &mut Parser<'_>| -> Result<i64, ParseError> {
        let minus = parser.eat("-");
        let n = parser.whole(expected)? as i64;
        Ok(if minus { -n } else { n })
    };
    let from = if *parser.peek() == Lexeme::Sign(":") { 0 } else { signed(parser)? };
    if !parser.eat(":") {
        let to = if from == -1 { None } else { Some(from + 1) };
        return Ok(Range { from, to });
    }
    let open = matches!(parser.peek(), Lexeme::End | Lexeme::Sign("]" | "@"));
    Ok(Range { from, to: if open { None } else { Some(signed(parser)?) } })
}

pub(super) fn printed(parser: &mut Parser<'_>) -> Result<Printed, ParseError> {
    if parser.eat_word("weight") {
        return Ok(Printed::Weight(weight_place(parser)?));
    }
    if parser.eat_word("inputs") {
        let place = parser.place();
        let node = parser.node("a node such as 1.mlp.post_act[3]")?;
        if from_kind(node.site.kind).is_none() {
            return Err(parser.error_at(
                place,
                "a node that a matrix computes: q, k, v, attn.resid_delta, post_act or mlp.resid_delta",
            ));
        }
        return Ok(Printed::Inputs { node, position: parser.position()? });
    }
    if parser.eat_word("answers") {
        let top = if let Lexeme::Number(_) = parser.peek() { parser.whole("a number of tokens")? } else { 5 };
        return Ok(Printed::Answers { top, position: parser.position()? });
    }
    let start = parser.place();
    let place = if parser.is_word("logits") {
        parser.word("logits")?;
        Some(Place::Logits)
    } else if parser.peek_site().is_some() {
        Some(Place::Site(parser.site("a site")?))
    } else {
        None
    };
    if let Some(place) = place {
        const ROWS: &str = "indices: one, from:to, or *";
        const POSITIONS: &str = "positions: one, from:to, or *";
        let (mut rows, mut single) = (Range::ALL, false);
        if parser.eat("[") {
            let place = parser.place();
            rows = range(parser, ROWS)?;
            single = parser.text_from(place).parse::<usize>().is_ok();
            parser.sign("]")?;
        }
        let single = single && place != Place::Logits;
        let mut positions = None;
        if !single && parser.eat("@") {
            positions =
                Some(if parser.eat_word("last") { Range { from: -1, to: None } } else { range(parser, POSITIONS)? });
        }
        if !single {
            return Ok(Printed::Slice { place, rows, positions });
        }
        parser.back(start);
        let node = parser.node("a node")?;
        if *parser.peek() == Lexeme::Sign("->") {
            parser.back(start);
            return Ok(Printed::Weight(weight_place(parser)?));
        }
        // A node at a range of positions is a slice.
        if parser.eat("@") {
            let after = parser.place();
            let positions =
                if parser.eat_word("last") { Range { from: -1, to: None } } else { range(parser, POSITIONS)? };
            if parser.at_end() && parser.text_from(after).contains([':', '*']) {
                let rows = Range { from: node.index as i64, to: Some(node.index as i64 + 1) };
                return Ok(Printed::Slice { place, rows, positions: Some(positions) });
            }
        }
        parser.back(start);
    }
    Ok(Printed::Expression(Expression::parse(parser)?))
}

/// `A -> B`, or `NAME[row, column]`.
fn weight_place(parser: &mut Parser<'_>) -> Result<WeightPlace, ParseError> {
    const EXPECTED: &str =
        "an edge such as 0.attn.act_in[3] -> 0.attn.q[5], or a parameter such as transformer.wte.weight[5,3]";
    if parser.peek_site().is_some() {
        let place = parser.place();
        let from = parser.node(EXPECTED)?;
        parser.sign("->")?;
        let to = parser.node("the node that reads it")?;
        return match joined(from, to) {
            true => Ok(WeightPlace::Edge { from, to }),
            false => Err(parser.error_at(place, "two nodes that a matrix joins: act_in to q, k, v; v or y to attn.resid_delta; act_in to post_act; post_act to mlp.resid_delta")),
        };
    }
    let place = parser.place();
    let name = parser.name(EXPECTED)?;
    let mut found = None;
    let mut number = 0;
    Params::build(parser.names.config, |info, shape| {
        if info.name == name {
            found = Some((number, shape));
        }
        number += 1;
    });
    let Some((number, [rows, cols])) = found else { return Err(parser.error_at(place, EXPECTED)) };
    parser.sign("[")?;
    let index = |parser: &mut Parser<'_>, length: usize| {
        let place = parser.place();
        let expected = format!("an index from 0 to {}", length - 1);
        let index = parser.whole(&expected)?;
        if index < length { Ok(index) } else { Err(parser.error_at(place, expected)) }
    };
    let row = index(parser, rows)?;
    let col = if cols > 1 || *parser.peek() == Lexeme::Sign(",") {
        parser.sign(",")?;
        index(parser, cols)?
    } else {
        0
    };
    parser.sign("]")?;
    Ok(WeightPlace::Parameter { name, number, entry: [row, col] })
}

/// Kind of the values that a matrix reads to compute nodes of a kind; none where no matrix does.
pub(crate) fn from_kind(to: SiteKind) -> Option<SiteKind> {
    use SiteKind::*;
    match to {
        Query | Key | Value => Some(AttnRead),
        AttnWrite => Some(Value),
        Neuron => Some(MlpRead),
        MlpWrite => Some(Neuron),
        ResidIn | AttnRead | AttnMix | ResidMid | MlpRead | FinalResid | FinalRead => None,
    }
}

/// True if a matrix has a weight from the one node to the other.
fn joined(from: Node, to: Node) -> bool {
    use SiteKind::*;
    from.site.layer == to.site.layer
        && matches!(
            (from.site.kind, to.site.kind),
            (AttnRead, Query | Key | Value) | (Value | AttnMix, AttnWrite) | (MlpRead, Neuron) | (Neuron, MlpWrite)
        )
}

pub(super) fn assignment(parser: &mut Parser<'_>) -> Result<Assignment, ParseError> {
    const VALUE: &str = "a value: a number or zero";
    let start = parser.place();
    if parser.peek_site().is_some() {
        let node = parser.node("a node such as 1.mlp.post_act[3]")?;
        if *parser.peek() != Lexeme::Sign("->") {
            let position = parser.position()?;
            parser.sign("=")?;
            let to = if parser.eat_word("mean") {
                Replacement::Mean
            } else if parser.eat_word("zero") {
                Replacement::Number(0.0)
            } else if parser.eat_word("of") {
                Replacement::Of(parser.prompt()?)
            } else {
                Replacement::Number(float(parser, "a value: a number, mean, zero, or of and a prompt")?)
            };
            return Ok(Assignment::Node { node, position, to });
        }
        parser.back(start);
    }
    let place = weight_place(parser)?;
    parser.sign("=")?;
    let to = if parser.eat_word("zero") { 0.0 } else { float(parser, VALUE)? };
    Ok(Assignment::Weight { place, to })
}

pub(super) fn float(parser: &mut Parser<'_>, expected: &str) -> Result<f32, ParseError> {
    let place = parser.place();
    let number = parser.number(expected)? as f32;
    if number.is_finite() { Ok(number) } else { Err(parser.error_at(place, "a number of a size that f32 has")) }
}
