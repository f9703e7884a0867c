//! The family of explanations that are searched: statements about the tokens up to a position, each true or false there.

use std::collections::BTreeMap;

use crate::Vocabulary;

/// Tokens of a set at most.
const SET: usize = 16;
/// Pairs of tokens of a set at most.
const PAIRS: usize = 8;
/// Positions that a token or a pair of a set has on the selection contexts at least.
const SEEN: usize = 4;
/// Most frequent tokens that intervals begin and end with.
const ENDS: usize = 32;

/// An explanation of the family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Explanation {
    /// The token is one of a set.
    Token(Vec<u16>),
    /// The token before is one of a set.
    Previous(Vec<u16>),
    /// The last two tokens are one of a set of pairs.
    Pair(Vec<[u16; 2]>),
    /// There are at most so many tokens.
    Position(usize),
    /// The token `since` stands there, the last one after the last `until` if there is one.
    Inside {
        /// Token that begins.
        since: u16,
        /// Token that ends; none: nothing does.
        until: Option<u16>,
    },
}

impl Explanation {
    /// True if it holds after the tokens `prefix`.
    pub fn holds(&self, prefix: &[u16]) -> bool {
        let last = |token: u16| prefix.iter().rposition(|t| *t == token);
        match (self, prefix) {
            (Self::Token(set), [.., token]) => set.contains(token),
            (Self::Previous(set), [.., before, _]) => set.contains(before),
            (Self::Pair(set), [.., before, token]) => set.contains(&[*before, *token]),
            (Self::Position(most), _) => prefix.len() <= *most,
            (Self::Inside { since, until }, _) => last(*since) > until.and_then(last) && last(*since).is_some(),
            _ => false,
        }
    }

    /// The same as an expression of the language of hypotheses.
    pub fn expression(&self, vocabulary: &dyn Vocabulary) -> String {
        let text = |token: &u16| literal(&vocabulary.decode(&[*token]));
        let list = |tokens: &[u16]| tokens.iter().map(text).collect::<Vec<_>>().join(", ");
        match self {
            Self::Token(set) => format!("tokens[-1] in [{}]", list(set)),
            Self::Previous(set) => format!("tokens|length > 1 and tokens[-2] in [{}]", list(set)),
            Self::Pair(set) => {
                let pairs: Vec<String> = set.iter().map(|pair| format!("[{}]", list(pair))).collect();
                format!("tokens[-2:] in [{}]", pairs.join(", "))
            }
            Self::Position(most) => format!("tokens|length <= {most}"),
            Self::Inside { since, until: Some(until) } => {
                format!("last_position(tokens, {}) > last_position(tokens, {})", text(since), text(until))
            }
            Self::Inside { since, until: None } => format!("contains(tokens, {})", text(since)),
        }
    }
}

/// A text in single quotes as expressions have it.
fn literal(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        match c {
            '\'' => quoted += "\\'",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            '\r' => quoted += "\\r",
            c if c.is_control() => quoted += &format!("\\u{:04x}", c as u32),
            c => quoted.push(c),
        }
    }
    quoted + "'"
}

/// The selection contexts as the search sees them.
pub(crate) struct Search {
    /// Positions of every token.
    tokens: BTreeMap<u16, Vec<u32>>,
    /// Positions after every token.
    previous: BTreeMap<u16, Vec<u32>>,
    /// Positions of every pair.
    pairs: BTreeMap<[u16; 2], Vec<u32>>,
    /// Explanations without sets, with the positions at which they hold.
    plain: Vec<(Explanation, Vec<u32>)>,
}

impl Search {
    /// Prepares the search on contexts of one length.
    pub fn new(contexts: &[&[u16]]) -> Self {
        let length = contexts[0].len();
        let (mut tokens, mut previous) = (BTreeMap::<u16, Vec<u32>>::new(), BTreeMap::<u16, Vec<u32>>::new());
        let mut pairs = BTreeMap::<[u16; 2], Vec<u32>>::new();
        for (c, context) in contexts.iter().enumerate() {
            for (p, &token) in context.iter().enumerate() {
                let at = (c * length + p) as u32;
                tokens.entry(token).or_default().push(at);
                if let Some(before) = p.checked_sub(1).map(|before| context[before]) {
                    previous.entry(before).or_default().push(at);
                    pairs.entry([before, token]).or_default().push(at);
                }
            }
        }
        let mut frequent: Vec<(usize, u16)> = tokens.iter().map(|(token, at)| (at.len(), *token)).collect();
        frequent.sort_by_key(|&(count, token)| (std::cmp::Reverse(count), token));
        let ends: Vec<u16> = frequent.into_iter().take(ENDS).map(|(_, token)| token).collect();
        let mut plain = vec![];
        for &since in &ends {
            let untils = ends.iter().filter(|until| **until != since).map(|until| Some(*until));
            plain.extend([None].into_iter().chain(untils).map(|until| Explanation::Inside { since, until }));
        }
        let mut plain: Vec<(Explanation, Vec<u32>)> =
            plain.into_iter().map(|e| (e.clone(), inside(&e, contexts))).collect();
        for most in 1..length {
            let at = (0..contexts.len()).flat_map(|c| (0..most).map(move |p| (c * length + p) as u32));
            plain.push((Explanation::Position(most), at.collect()));
        }
        Self { tokens, previous, pairs, plain }
    }

    /// The explanation that explains most of the variance of a node's values on the selection contexts: the largest
    /// `(Σ_true x − m Σx/n)² / (m (1 − m/n))`, which is the sum of squares between the positions at which it holds and the others. Sets grow
    /// by the member that adds most. Of those that tie the first, in the order of [`Explanation`].
    pub fn best(&self, values: &[f32]) -> Explanation {
        let n = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let sum = |at: &[u32]| at.iter().map(|&i| f64::from(values[i as usize]) - mean).sum::<f64>();
        let gain = |sum: f64, count: usize| {
            let m = count as f64;
            if count == 0 || m >= n { 0.0 } else { sum * sum / (m * (1.0 - m / n)) }
        };
        let (tokens, of_tokens) = grow(&self.tokens, SET, &sum, &gain);
        let (previous, of_previous) = grow(&self.previous, SET, &sum, &gain);
        let (pairs, of_pairs) = grow(&self.pairs, PAIRS, &sum, &gain);
        let sets = [
            (Explanation::Token(tokens), of_tokens),
            (Explanation::Previous(previous), of_previous),
            (Explanation::Pair(pairs), of_pairs),
        ];
        let plain = self.plain.iter().map(|(explanation, at)| (explanation.clone(), gain(sum(at), at.len())));
        let mut best = (Explanation::Token(vec![]), 0.0);
        for found in sets.into_iter().chain(plain) {
            if found.1 > best.1 {
                best = found;
            }
        }
        best.0
    }
}

/// A set of at most `most` keys that are seen often enough, grown by the one that adds most, with what it explains.
fn grow<K: Copy + Ord>(
    positions: &BTreeMap<K, Vec<u32>>,
    most: usize,
    sum: &dyn Fn(&[u32]) -> f64,
    gain: &dyn Fn(f64, usize) -> f64,
) -> (Vec<K>, f64) {
    let mut left: Vec<(K, f64, usize)> =
        positions.iter().filter(|(_, at)| at.len() >= SEEN).map(|(key, at)| (*key, sum(at), at.len())).collect();
    let (mut set, mut total, mut count, mut best) = (vec![], 0.0, 0, 0.0);
    while set.len() < most {
        let with = |&(_, s, c): &(K, f64, usize)| gain(total + s, count + c);
        let Some(next) = (0..left.len()).reduce(|a, b| if with(&left[b]) > with(&left[a]) { b } else { a }) else {
            break;
        };
        let reached = with(&left[next]);
        if reached <= best {
            break;
        }
        let (key, s, c) = left.remove(next);
        set.push(key);
        (total, count, best) = (total + s, count + c, reached);
    }
    (set, best)
}

/// Positions inside an interval.
fn inside(explanation: &Explanation, contexts: &[&[u16]]) -> Vec<u32> {
    let Explanation::Inside { since, until } = *explanation else { return vec![] };
    let mut found = vec![];
    for (c, context) in contexts.iter().enumerate() {
        let mut open = false;
        for (p, &token) in context.iter().enumerate() {
            open = token == since || (open && Some(token) != until);
            if open {
                found.push((c * context.len() + p) as u32);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use openwork_expression::{Language, Value};

    use super::*;

    /// Contexts of 12 letters of the first six, the quote among them.
    fn contexts() -> Vec<Vec<u16>> {
        (0..40_u16).map(|c| (0..12_u16).map(|p| (c * 7 + p * p * 5 + c * p) % 6).collect()).collect()
    }

    fn decode(tokens: &[u16]) -> String {
        tokens.iter().map(|&t| ["a", "'", "\\", "\n", "é", "f"][usize::from(t)]).collect()
    }

    fn members() -> [Explanation; 7] {
        [
            Explanation::Token(vec![1, 3]),
            Explanation::Previous(vec![2]),
            Explanation::Pair(vec![[1, 2], [4, 4]]),
            Explanation::Position(5),
            Explanation::Inside { since: 1, until: Some(2) },
            Explanation::Inside { since: 3, until: None },
            Explanation::Inside { since: 2, until: Some(1) },
        ]
    }

    #[test]
    fn an_explanation_and_its_expression_are_the_same() {
        let vocabulary = (|_: &str| vec![], decode);
        let language = Language::new();
        for explanation in members() {
            let text = explanation.expression(&vocabulary);
            let compiled = language.compile(&text).unwrap();
            let mut seen = [0; 2];
            for context in &contexts() {
                let texts: Vec<String> = context.iter().map(|&t| decode(&[t])).collect();
                for end in 1..=context.len() {
                    let holds = explanation.holds(&context[..end]);
                    let value = language.on_tokens(&compiled, &texts[..end]).unwrap();
                    assert_eq!(value, Value::from(holds), "{text} on {:?}", &texts[..end]);
                    seen[usize::from(holds)] += 1;
                }
            }
            assert!(seen.iter().all(|n| *n > 0), "{text}: {seen:?}");
        }
    }

    #[test]
    fn the_explanation_that_values_were_made_from_is_found() {
        let contexts = contexts();
        let slices: Vec<&[u16]> = contexts.iter().map(Vec::as_slice).collect();
        let search = Search::new(&slices);
        for explanation in members() {
            let ends = slices.iter().flat_map(|context| (1..=context.len()).map(|end| &context[..end]));
            let values: Vec<f32> = ends.clone().map(|prefix| f32::from(u8::from(explanation.holds(prefix)))).collect();
            let found = search.best(&values);
            // Another member may say the same of these contexts, or the opposite.
            let agrees = ends.zip(&values).filter(|(prefix, x)| found.holds(prefix) == (**x == 1.0)).count();
            assert!(agrees == values.len() || agrees == 0, "{explanation:?} gives {found:?}");
        }
    }
}
