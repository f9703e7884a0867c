//! Files of claims, a line each.

use openwork_circuit::{Node, NodeSpace};

use super::{Beyond, Claim, Claims, ClaimsError, FORMAT, Rank, Sample, Statement, Strength};
use crate::{Names, ParseError, language::Parser};

/// Seed of a claim's pairs where it names none.
const SEED: u64 = 1;
/// Most pairs of a claim.
const MOST_PAIRS: usize = 4096;

impl Claims {
    /// Reads a file of claims about a model. Blank lines and those that begin with `#` are skipped.
    ///
    /// # Errors
    /// When the first line is not that of the format, a line is no claim, or there is none.
    pub fn parse(text: &str, names: Names<'_>) -> Result<Self, ClaimsError> {
        let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let found = lines.next().map_or("", |(_, line)| line.trim());
        if found != FORMAT {
            return Err(ClaimsError::Format { found: found.to_owned(), expected: FORMAT });
        }
        let mut claims = vec![];
        for (number, line) in lines.filter(|(_, line)| !line.trim_start().starts_with('#')) {
            let statement = statement(line, names).map_err(|source| ClaimsError::Line { line: number, source })?;
            claims.push(Claim { line: number, text: line.trim().to_owned(), statement });
        }
        if claims.is_empty() { Err(ClaimsError::Empty) } else { Ok(Self { claims }) }
    }
}

fn statement(line: &str, names: Names<'_>) -> Result<Statement, ParseError> {
    const EXPECTED: &str = "a claim: NODE fires_on .., NODE needed_for .., edge .., circuit .. or verdict of ..";
    let mut parser = Parser::new(line, names)?;
    let parser = &mut parser;
    let statement = if parser.eat_word("edge") {
        let from = node(parser)?;
        parser.sign("->")?;
        let to = node(parser)?;
        parser.word("carries")?;
        let task = task(parser)?;
        let by = by(parser)?;
        Statement::EdgeCarries { from, to, by, sample: sample(parser, task)? }
    } else if parser.eat_word("circuit") {
        let circuit = parser.text("the file of a circuit, in double quotes")?;
        ["agrees_with", "model", "on"].into_iter().try_for_each(|word| parser.word(word))?;
        let task = task(parser)?;
        Statement::AgreesWith { circuit, sample: sample(parser, task)? }
    } else if parser.eat_word("verdict") {
        verdict(parser)?
    } else if parser.peek_site().is_some() {
        let node = node(parser)?;
        if parser.eat_word("needed_for") {
            let task = task(parser)?;
            let by = by(parser)?;
            Statement::NeededFor { node, by, sample: sample(parser, task)? }
        } else {
            if !parser.eat_word("fires_on") {
                return Err(parser.error("fires_on or needed_for"));
            }
            fires_on(parser, node)?
        }
    } else {
        return Err(parser.error(EXPECTED));
    };
    parser.end("the end of the claim, or a seed")?;
    Ok(statement)
}

/// A node of circuits.
fn node(parser: &mut Parser<'_>) -> Result<Node, ParseError> {
    let place = parser.place();
    let node = parser.node("a node such as 1.mlp.post_act[3]")?;
    match NodeSpace::new(parser.names.config).number(node) {
        Some(_) => Ok(node),
        None => Err(parser.error_at(place, "a node of circuits, which attn.y and the residual stream have not")),
    }
}

fn fires_on(parser: &mut Parser<'_>, node: Node) -> Result<Statement, ParseError> {
    let only = parser.eat_word("only");
    let mut tokens = vec![parser.token()?];
    while !parser.is_word("above") && !parser.is_word("below") {
        if parser.at_end() {
            return Err(parser.error("another token, or above or below and a value"));
        }
        tokens.push(parser.token()?);
    }
    let above = parser.eat_word("above");
    if !above {
        parser.word("below")?;
    }
    let bound = parser.number("a value")? as f32;
    let beyond = if above { Beyond::Above(bound) } else { Beyond::Below(bound) };
    parser.word("on")?;
    let task = task(parser)?;
    Ok(Statement::FiresOn { node, tokens, only, beyond, sample: sample(parser, task)? })
}

fn task(parser: &mut Parser<'_>) -> Result<String, ParseError> {
    let place = parser.place();
    let names: Vec<&str> = openwork_tasks::all().iter().map(|task| task.name()).collect();
    let expected = format!("a task: {}", names.join(", "));
    let name = parser.name(&expected)?;
    if names.contains(&name.as_str()) { Ok(name) } else { Err(parser.error_at(place, expected)) }
}

fn by(parser: &mut Parser<'_>) -> Result<f64, ParseError> {
    parser.word("by")?;
    let place = parser.place();
    let by = parser.number("nats, a number above 0")?;
    if by > 0.0 { Ok(by) } else { Err(parser.error_at(place, "nats, a number above 0")) }
}

/// `in BAR of N pairs [seed S]`.
fn sample(parser: &mut Parser<'_>, task: String) -> Result<Sample, ParseError> {
    const BAR: &str = "the share of pairs it holds on, above 0 and below 1";
    const SHARE: &str = "in, and the share of pairs it holds on";
    if !parser.eat_word("in") {
        return Err(parser.error(SHARE));
    }
    let place = parser.place();
    let bar = parser.number(BAR)?;
    // No number of pairs shows a share of 1.
    if !(bar > 0.0 && bar < 1.0) {
        return Err(parser.error_at(place, BAR));
    }
    parser.word("of")?;
    let place = parser.place();
    let expected = format!("a number of pairs from 1 to {MOST_PAIRS}");
    let pairs = parser.whole(&expected)?;
    if !(1..=MOST_PAIRS).contains(&pairs) {
        return Err(parser.error_at(place, expected));
    }
    parser.word("pairs")?;
    let seed = if parser.eat_word("seed") { parser.whole("a seed")? as u64 } else { SEED };
    Ok(Sample { task, bar, pairs, seed })
}

fn verdict(parser: &mut Parser<'_>) -> Result<Statement, ParseError> {
    parser.word("of")?;
    let circuit = parser.text("the file of a circuit, in double quotes")?;
    ["at", "least"].into_iter().try_for_each(|word| parser.word(word))?;
    let rank = if parser.eat_word("WEAK") {
        Rank::Weak
    } else if parser.eat_word("STRONG") {
        Rank::Strong
    } else if parser.eat_word("CERTIFIED") {
        Rank::Certified
    } else {
        return Err(parser.error("WEAK, STRONG or CERTIFIED"));
    };
    let least = Strength { rank, contrast: parser.eat_word("contrast") };
    let hash = |parser: &mut Parser<'_>| {
        let place = parser.place();
        let hash = parser.text("a hash, in double quotes")?;
        let right = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        if right { Ok(hash) } else { Err(parser.error_at(place, "a hash of 64 hexadecimal digits, in double quotes")) }
    };
    parser.word("model")?;
    let model_sha256 = hash(parser)?;
    parser.word("circuit")?;
    Ok(Statement::Verdict { circuit, least, model_sha256, circuit_sha256: hash(parser)? })
}
