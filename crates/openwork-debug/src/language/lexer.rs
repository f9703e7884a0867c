//! Lexemes of a line, and the parser's moves over them.

use openwork_circuit::Node;
use openwork_model::{Config, Site, SiteKind};

use super::{At, Names, ParseError};
use crate::Quantity;

/// A word, number, text or sign.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Lexeme {
    /// Letters, digits, dots and underscores: a name.
    Word(String),
    /// A number without sign.
    Number(f64),
    /// A text in double quotes, unescaped.
    Text(String),
    /// `--name`.
    Option(String),
    /// A sign.
    Sign(&'static str),
    End,
}

#[derive(Clone, Debug)]
struct Token {
    lexeme: Lexeme,
    /// First character, and the one after the last.
    from: usize,
    to: usize,
}

/// Signs, longer ones before those that they begin with.
const SIGNS: [&str; 21] =
    ["->", "<=", ">=", "==", "!=", "<", ">", "=", "+", "-", "*", "/", "(", ")", "[", "]", "@", ",", ":", "#", "%"];

/// A line and the place in it.
pub(crate) struct Parser<'a> {
    pub names: Names<'a>,
    line: &'a str,
    tokens: Vec<Token>,
    at: usize,
    /// Brackets, signs and `not`s that are open.
    depth: usize,
}

/// Most characters of a line, and most brackets, signs and `not`s inside each other.
const MOST_CHARACTERS: usize = 20_000;
const MOST_DEPTH: usize = 64;

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}

impl<'a> Parser<'a> {
    /// Reads the lexemes of a line.
    pub fn new(line: &'a str, names: Names<'a>) -> Result<Self, ParseError> {
        let chars: Vec<char> = line.chars().collect();
        let fault = |from: usize, expected: &str| ParseError {
            line: line.to_owned(),
            column: from + 1,
            expected: expected.to_owned(),
            found: chars[from..].iter().take(12).collect(),
        };
        if chars.len() > MOST_CHARACTERS {
            return Err(fault(MOST_CHARACTERS, &format!("a line of at most {MOST_CHARACTERS} characters")));
        }
        let (mut tokens, mut at) = (Vec::new(), 0);
        while at < chars.len() {
            let from = at;
            let c = chars[at];
            let starts = |text: &str| text.chars().enumerate().all(|(i, c)| chars.get(from + i) == Some(&c));
            let lexeme = if c.is_whitespace() {
                at += 1;
                continue;
            } else if c == '"' {
                let (text, end) = text(&chars, at).ok_or_else(|| {
                    fault(from, "a text with a closing quote (\\\" stands for one inside, and \\u{e9} for a character)")
                })?;
                at = end;
                Lexeme::Text(text)
            } else if starts("--") && chars.get(at + 2).is_some_and(|c| c.is_alphabetic()) {
                at += 2;
                while at < chars.len() && (is_name(chars[at]) || chars[at] == '-') {
                    at += 1;
                }
                Lexeme::Option(chars[from + 2..at].iter().collect())
            } else if is_name(c) {
                while at < chars.len() && is_name(chars[at]) {
                    at += 1;
                }
                // 1e-3
                let exponent = |at: usize| {
                    let mantissa: String = chars[from..at - 1].iter().collect();
                    matches!(chars[at - 1], 'e' | 'E') && mantissa.parse::<f64>().is_ok()
                };
                let signed = at + 1 < chars.len() && matches!(chars[at], '+' | '-') && chars[at + 1].is_ascii_digit();
                if signed && at - from > 1 && exponent(at) {
                    at += 1;
                    while at < chars.len() && chars[at].is_ascii_digit() {
                        at += 1;
                    }
                }
                let word: String = chars[from..at].iter().collect();
                let number =
                    word.starts_with(|c: char| c.is_ascii_digit() || c == '.').then(|| word.parse::<f64>().ok());
                match number.flatten() {
                    Some(number) if number.is_finite() => Lexeme::Number(number),
                    Some(_) => return Err(fault(from, "a number of a size that f64 has")),
                    None => Lexeme::Word(word),
                }
            } else if let Some(sign) = SIGNS.into_iter().find(|sign| starts(sign)) {
                at += sign.len();
                Lexeme::Sign(sign)
            } else {
                return Err(fault(from, "a name, a number, a text in double quotes or a sign"));
            };
            tokens.push(Token { lexeme, from, to: at });
        }
        tokens.push(Token { lexeme: Lexeme::End, from: chars.len(), to: chars.len() });
        Ok(Self { names, line, tokens, at: 0, depth: 0 })
    }

    /// Reads with `inner` what stands inside a bracket, or behind a sign or a `not`.
    pub fn inside<T>(&mut self, inner: fn(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.depth == MOST_DEPTH {
            return Err(self.error(format!("an expression of at most {MOST_DEPTH} levels")));
        }
        self.depth += 1;
        let read = inner(self)?;
        self.depth -= 1;
        Ok(read)
    }

    /// The next lexeme.
    pub fn peek(&self) -> &Lexeme {
        &self.tokens[self.at].lexeme
    }

    /// The lexeme after the next.
    pub fn peek_second(&self) -> &Lexeme {
        self.tokens.get(self.at + 1).map_or(&Lexeme::End, |token| &token.lexeme)
    }

    /// Place in the line, for [`Parser::back`] and [`Parser::text_from`].
    pub fn place(&self) -> usize {
        self.at
    }

    /// Goes back to a place.
    pub fn back(&mut self, place: usize) {
        self.at = place;
    }

    /// The text of the line from a place to here.
    pub fn text_from(&self, place: usize) -> String {
        let to = if self.at > place { self.tokens[self.at - 1].to } else { self.tokens[place].from };
        self.line.chars().skip(self.tokens[place].from).take(to - self.tokens[place].from).collect()
    }

    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    /// The error that something else is expected at a place.
    pub fn error_at(&self, place: usize, expected: impl Into<String>) -> ParseError {
        let token = &self.tokens[place];
        let found = self.line.chars().skip(token.from).take(token.to - token.from).collect();
        ParseError { line: self.line.to_owned(), column: token.from + 1, expected: expected.into(), found }
    }

    /// The error that something else is expected here.
    pub fn error(&self, expected: impl Into<String>) -> ParseError {
        self.error_at(self.at, expected)
    }

    /// Takes a sign, if it is next.
    pub fn eat(&mut self, sign: &str) -> bool {
        let is = *self.peek() == Lexeme::Sign(SIGNS.into_iter().find(|s| *s == sign).expect("a sign of the language"));
        if is {
            self.advance();
        }
        is
    }

    /// Takes a sign.
    pub fn sign(&mut self, sign: &str) -> Result<(), ParseError> {
        if self.eat(sign) { Ok(()) } else { Err(self.error(format!("{sign:?}"))) }
    }

    /// True if the word is next.
    pub fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Lexeme::Word(found) if found == word)
    }

    /// Takes a word, if it is next.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        if is {
            self.advance();
        }
        is
    }

    /// Takes a word.
    pub fn word(&mut self, word: &str) -> Result<(), ParseError> {
        if self.eat_word(word) { Ok(()) } else { Err(self.error(format!("{word:?}"))) }
    }

    /// Takes any word.
    pub fn name(&mut self, expected: &str) -> Result<String, ParseError> {
        match self.peek() {
            Lexeme::Word(word) => {
                let word = word.clone();
                self.advance();
                Ok(word)
            }
            _ => Err(self.error(expected)),
        }
    }

    /// Takes an option's name, if one is next.
    pub fn option(&mut self) -> Option<String> {
        let Lexeme::Option(name) = self.peek() else { return None };
        let name = name.clone();
        self.advance();
        Some(name)
    }

    /// Takes a text in quotes.
    pub fn text(&mut self, expected: &str) -> Result<String, ParseError> {
        match self.peek() {
            Lexeme::Text(text) => {
                let text = text.clone();
                self.advance();
                Ok(text)
            }
            _ => Err(self.error(expected)),
        }
    }

    /// Takes a number with an optional sign.
    pub fn number(&mut self, expected: &str) -> Result<f64, ParseError> {
        let minus = self.eat("-");
        match *self.peek() {
            Lexeme::Number(number) => {
                self.advance();
                Ok(if minus { -number } else { number })
            }
            _ => Err(self.error(expected)),
        }
    }

    /// Takes a whole number of at least 0.
    pub fn whole(&mut self, expected: &str) -> Result<usize, ParseError> {
        match *self.peek() {
            // Exact in f64, and far beyond any index.
            Lexeme::Number(number) if number.fract() == 0.0 && number <= 1e15 => {
                self.advance();
                Ok(number as usize)
            }
            _ => Err(self.error(expected)),
        }
    }

    /// True at the end of the line.
    pub fn at_end(&self) -> bool {
        *self.peek() == Lexeme::End
    }

    /// Fails unless the line ends here; `expected` are words for what else could follow.
    pub fn end(&self, expected: &str) -> Result<(), ParseError> {
        if self.at_end() { Ok(()) } else { Err(self.error(expected)) }
    }

    /// The site that the next word names; nothing is taken.
    pub fn peek_site(&self) -> Option<Site> {
        let Lexeme::Word(word) = self.peek() else { return None };
        word.parse().ok()
    }

    /// Takes a site of the model.
    pub fn site(&mut self, expected: &str) -> Result<Site, ParseError> {
        let site = self.peek_site().ok_or_else(|| self.error(expected))?;
        let config = self.names.config;
        if !exists(config, site) {
            let last = config.n_layer - 1;
            let expected = match site.kind.is_final() {
                true => format!("layer {} for a site after the last block", config.n_layer),
                false => format!("a layer from 0 to {last}"),
            };
            return Err(self.error(expected));
        }
        self.advance();
        Ok(site)
    }

    /// Takes a node of the model, such as `1.mlp.post_act[3]`.
    pub fn node(&mut self, expected: &str) -> Result<Node, ParseError> {
        let site = self.site(expected)?;
        self.sign("[")?;
        let place = self.place();
        let width = self.names.config.width(site.kind);
        let indices = format!("an index from 0 to {}", width - 1);
        let index = self.whole(&indices)?;
        if index >= width {
            return Err(self.error_at(place, indices));
        }
        self.sign("]")?;
        Ok(Node { site, index })
    }

    /// Takes `@3`, `@-1` or `@last`, if one is next.
    pub fn position(&mut self) -> Result<Option<At>, ParseError> {
        if !self.eat("@") {
            return Ok(None);
        }
        Ok(Some(self.after_at()?))
    }

    /// Takes the position after `@`.
    pub fn after_at(&mut self) -> Result<At, ParseError> {
        const EXPECTED: &str = "a position: a number from 0, a negative one from the end, or last";
        if self.eat_word("last") {
            return Ok(At::FromEnd(1));
        }
        match self.eat("-") {
            true => match self.whole(EXPECTED)? {
                0 => Ok(At::FromStart(0)),
                n => Ok(At::FromEnd(n)),
            },
            false => Ok(At::FromStart(self.whole(EXPECTED)?)),
        }
    }

    /// Takes a token: its text in quotes, or `#` and its id.
    pub fn token(&mut self) -> Result<u16, ParseError> {
        let place = self.place();
        let vocab = self.names.config.vocab_size;
        if self.eat("#") {
            let place = self.place();
            let expected = format!("the id of a token, from 0 to {}", vocab - 1);
            let id = self.whole(&expected)?;
            return u16::try_from(id).ok().filter(|_| id < vocab).ok_or_else(|| self.error_at(place, expected));
        }
        let text = self.text("a token: its text in double quotes, or # and its id")?;
        match self.names.vocabulary.encode(&text)[..] {
            [token] => Ok(token),
            ref tokens => {
                let pieces: Vec<String> = tokens.iter().map(|&t| self.names.vocabulary.quoted(t)).collect();
                Err(self.error_at(
                    place,
                    format!("the text of one token (these are {}: {})", tokens.len(), pieces.join(" ")),
                ))
            }
        }
    }

    /// Takes the name of a prompt.
    pub fn prompt(&mut self) -> Result<String, ParseError> {
        let place = self.place();
        let prompts = self.names.prompts;
        let expected = match prompts {
            [] => "the name of a prompt; `prompt NAME \"text\"` makes one".to_owned(),
            _ => format!("the name of a prompt: {}", prompts.join(", ")),
        };
        let name = self.name(&expected)?;
        match prompts.contains(&name) {
            true => Ok(name),
            false => Err(self.error_at(place, expected)),
        }
    }

    /// Takes `logit(token)`, a node or a number's other sources in expressions: a quantity.
    pub fn quantity(&mut self, expected: &str) -> Result<Quantity, ParseError> {
        if !self.eat_word("logit") {
            return Ok(Quantity::Node(self.node(expected)?));
        }
        self.sign("(")?;
        let token = self.token()?;
        self.sign(")")?;
        Ok(Quantity::Logit(token))
    }
}

/// True if a model of this configuration has the site.
fn exists(config: &Config, site: Site) -> bool {
    match site.kind {
        SiteKind::FinalResid | SiteKind::FinalRead => site.layer == config.n_layer,
        _ => site.layer < config.n_layer,
    }
}

/// The text that a quote at `from` opens, and the place after its end.
fn text(chars: &[char], from: usize) -> Option<(String, usize)> {
    let (mut text, mut at) = (String::new(), from + 1);
    loop {
        match *chars.get(at)? {
            '"' => return Some((text, at + 1)),
            '\\' => {
                at += 1;
                text.push(match *chars.get(at)? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '0' => '\0',
                    'u' if chars.get(at + 1) == Some(&'{') => {
                        let digits: String = chars[at + 2..].iter().take_while(|c| **c != '}').collect();
                        at += digits.len() + 2;
                        char::from_u32(u32::from_str_radix(&digits, 16).ok()?).filter(|_| at < chars.len())?
                    }
                    other => other,
                });
            }
            c => text.push(c),
        }
        at += 1;
    }
}
