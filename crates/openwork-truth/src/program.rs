//! The programs, what they mean (a plain interpreter), and all their inputs.

use std::ops::RangeInclusive;

/// A program over sequences. Prompts are `BOS x1 … xn`, then a question for all but two programs; the answer is the token
/// that should come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Program {
    /// Question i: the i-th element of x read backwards.
    Reverse,
    /// Question i: the i-th smallest element of x.
    Sort,
    /// Question i: how often x_i occurs in x.
    Histogram,
    /// Question i: the fraction of `a` among x1 … xi, in lowest terms.
    FractionPrevious,
    /// Question i: whether x1 … xi is balanced: no prefix closes more than was opened, and all is closed.
    Dyck1,
    /// The same for each of two kinds of brackets by itself, which may cross (shuffle-Dyck, as in RASP and Tracr).
    Dyck2,
    /// No question: what followed x_n where it occurred before (in all inputs exactly once, and not right before: a head that
    /// looks at all places alike would find that too).
    Induction,
    /// One question: the most frequent element, the lowest of several.
    MostFrequent,
    /// No question: the quotation mark that opened the string and must close it; there is one of two kinds in all inputs.
    QuoteClosing,
    /// One question: whether x reads the same backwards. Every difference is found from both ends.
    Palindrome,
    /// As `Dyck2`, with three kinds of brackets.
    Dyck3,
}

/// A prompt and the token that should follow, both by logical number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// x1 … xn, by number of the symbol.
    pub symbols: Vec<usize>,
    /// Element that is asked for, from 0; 0 where there is no choice.
    pub question: usize,
}

/// Logical number of the token before every prompt.
pub const BOS: usize = 0;

impl Program {
    /// The programs of which every part is needed, whatever else is there.
    pub fn all() -> [Self; 9] {
        use Program::*;
        [Reverse, Sort, Histogram, FractionPrevious, Dyck1, Dyck2, Induction, MostFrequent, QuoteClosing]
    }

    /// The programs of which some parts stand in for each other: there, a node may be needed only where another one is gone.
    pub fn redundant() -> [Self; 2] {
        [Self::Palindrome, Self::Dyck3]
    }

    /// Its name, for files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reverse => "reverse",
            Self::Sort => "sort",
            Self::Histogram => "histogram",
            Self::FractionPrevious => "fraction-previous",
            Self::Dyck1 => "dyck-1",
            Self::Dyck2 => "dyck-2",
            Self::Induction => "induction",
            Self::MostFrequent => "most-frequent",
            Self::QuoteClosing => "quote-closing",
            Self::Palindrome => "palindrome",
            Self::Dyck3 => "dyck-3",
        }
    }

    /// Symbols of x.
    pub fn symbols(self) -> &'static [&'static str] {
        match self {
            Self::Reverse | Self::Sort | Self::Histogram | Self::MostFrequent | Self::Palindrome => &["a", "b", "c"],
            Self::FractionPrevious => &["a", "b"],
            Self::Dyck1 => &["(", ")"],
            Self::Dyck2 => &["(", ")", "[", "]"],
            Self::Dyck3 => &["(", ")", "[", "]", "{", "}"],
            Self::Induction => &["a", "b", "c", "d"],
            Self::QuoteClosing => &["'", "\"", "a", "b", "c"],
        }
    }

    /// Largest n that the model is built for.
    pub fn n_max(self) -> usize {
        match self {
            Self::Reverse | Self::Sort | Self::Histogram | Self::Dyck2 | Self::Dyck3 | Self::QuoteClosing => 4,
            Self::FractionPrevious | Self::Induction | Self::MostFrequent | Self::Palindrome => 5,
            Self::Dyck1 => 6,
        }
    }

    /// Smallest n for which there are inputs.
    pub fn n_min(self) -> usize {
        if self == Self::Induction { 3 } else { 1 }
    }

    /// Question tokens.
    pub fn n_questions(self) -> usize {
        match self {
            Self::Induction | Self::QuoteClosing => 0,
            Self::MostFrequent | Self::Palindrome => 1,
            _ => self.n_max(),
        }
    }

    /// Answers that are not symbols.
    pub fn answers(self) -> Vec<String> {
        match self {
            Self::Histogram => (1..=self.n_max()).map(|n| format!("{n} times")).collect(),
            Self::FractionPrevious => self.fractions().iter().map(|(a, b)| format!("{a}/{b}")).collect(),
            Self::Dyck1 | Self::Dyck2 | Self::Dyck3 | Self::Palindrome => vec!["no".into(), "yes".into()],
            _ => vec![],
        }
    }

    /// The tokens by logical number: BOS, symbols, questions, answers.
    pub fn vocabulary(self) -> Vec<String> {
        let symbols = self.symbols().iter().map(|&s| s.to_owned());
        let questions = (1..=self.n_questions()).map(|i| format!("?{i}"));
        ["BOS".to_owned()].into_iter().chain(symbols).chain(questions).chain(self.answers()).collect()
    }

    /// Longest prompt.
    pub fn n_ctx(self) -> usize {
        1 + self.n_max() + usize::from(self.n_questions() > 0)
    }

    /// Logical number of the first question.
    pub(crate) fn first_question(self) -> usize {
        1 + self.symbols().len()
    }

    /// Logical number of the first answer.
    pub(crate) fn first_answer(self) -> usize {
        self.first_question() + self.n_questions()
    }

    /// Every k/i in lowest terms, ascending.
    pub(crate) fn fractions(self) -> Vec<(usize, usize)> {
        let all = (1..=self.n_max()).flat_map(|i| (0..=i).map(move |k| lowest(k, i)));
        let mut all: Vec<(usize, usize)> = all.collect();
        all.sort_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)));
        all.dedup();
        all
    }

    /// All inputs of the given lengths, in a fixed order.
    pub fn inputs(self, lengths: RangeInclusive<usize>) -> Vec<Input> {
        let n_symbols = self.symbols().len();
        let sequence = |n: usize, mut number: usize| -> Vec<usize> {
            let mut digit = || {
                let digit = number % n_symbols;
                number /= n_symbols;
                digit
            };
            (0..n).map(|_| digit()).collect()
        };
        let sequences = lengths.flat_map(|n| (0..n_symbols.pow(n as u32)).map(move |number| sequence(n, number)));
        let questions = |symbols: Vec<usize>| {
            let n = if self.n_questions() > 1 { symbols.len() } else { 1 };
            (0..n).map(move |question| Input { symbols: symbols.clone(), question })
        };
        sequences.filter(|x| self.is_input(x)).flat_map(questions).collect()
    }

    fn is_input(self, x: &[usize]) -> bool {
        match self {
            Self::Induction => {
                let (last, before) = x.split_last().expect("n is at least 3");
                before.last() != Some(last) && before.iter().filter(|s| *s == last).count() == 1
            }
            Self::QuoteClosing => x.iter().filter(|&&s| s < 2).count() == 1,
            _ => true,
        }
    }

    /// The prompt, by logical numbers.
    pub fn prompt(self, input: &Input) -> Vec<usize> {
        let question = (self.n_questions() > 0).then_some(self.first_question() + input.question);
        [BOS].into_iter().chain(input.symbols.iter().map(|s| 1 + s)).chain(question).collect()
    }

    /// Meaning of the program: the logical number of the token that should follow.
    pub fn interpret(self, input: &Input) -> usize {
        let (x, i) = (&input.symbols[..], input.question);
        let count = |of: usize, x: &[usize]| x.iter().filter(|&&s| s == of).count();
        match self {
            Self::Reverse => 1 + x[x.len() - 1 - i],
            Self::Sort => {
                let mut sorted = x.to_vec();
                sorted.sort_unstable();
                1 + sorted[i]
            }
            Self::Histogram => self.first_answer() + count(x[i], x) - 1,
            Self::FractionPrevious => {
                let fraction = lowest(count(0, &x[..=i]), i + 1);
                self.first_answer() + self.fractions().iter().position(|f| *f == fraction).expect("all are listed")
            }
            Self::Dyck1 | Self::Dyck2 | Self::Dyck3 => self.first_answer() + usize::from(balanced(&x[..=i])),
            Self::Palindrome => self.first_answer() + usize::from(x.iter().eq(x.iter().rev())),
            Self::Induction => {
                let (last, before) = x.split_last().expect("not empty");
                1 + x[before.iter().position(|s| s == last).expect("occurs before") + 1]
            }
            Self::MostFrequent => {
                let symbols = 0..self.symbols().len();
                1 + symbols.rev().max_by_key(|&s| count(s, x)).expect("the last of equals is the lowest")
            }
            Self::QuoteClosing => 1 + x.iter().find(|&&s| s < 2).expect("one is there"),
        }
    }
}

/// True if each kind of bracket (2 k opens, 2 k + 1 closes) is balanced by itself.
fn balanced(x: &[usize]) -> bool {
    let mut open = [0_i32; 3];
    for s in x {
        open[s / 2] += if s % 2 == 0 { 1 } else { -1 };
        if open[s / 2] < 0 {
            return false;
        }
    }
    open == [0, 0, 0]
}

fn lowest(k: usize, i: usize) -> (usize, usize) {
    fn gcd(a: usize, b: usize) -> usize {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    let divisor = gcd(k, i);
    (k / divisor, i / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings_by_hand() {
        let ask = |p: Program, x: &[usize], question: usize| {
            p.vocabulary()[p.interpret(&Input { symbols: x.to_vec(), question })].clone()
        };
        assert_eq!(ask(Program::Reverse, &[0, 1, 2], 0), "c");
        assert_eq!(ask(Program::Sort, &[2, 0, 0, 1], 2), "b");
        assert_eq!(ask(Program::Histogram, &[2, 0, 2], 0), "2 times");
        assert_eq!(ask(Program::FractionPrevious, &[0, 1, 0, 1], 3), "1/2");
        for (x, answer) in [([0, 1], "yes"), ([1, 0], "no"), ([0, 0], "no")] {
            assert_eq!(ask(Program::Dyck1, &x, 1), answer);
        }
        assert_eq!(ask(Program::Dyck2, &[0, 2, 1, 3], 3), "yes");
        assert_eq!(ask(Program::Dyck2, &[0, 3], 1), "no");
        assert_eq!(ask(Program::Dyck3, &[4, 0, 5, 1], 3), "yes");
        assert_eq!(ask(Program::Dyck3, &[4, 0, 5, 1], 2), "no");
        assert_eq!(ask(Program::Palindrome, &[2, 0, 2], 0), "yes");
        assert_eq!(ask(Program::Palindrome, &[2, 0, 1, 2], 0), "no");
        assert_eq!(ask(Program::Induction, &[3, 1, 2, 3], 0), "b");
        assert_eq!(ask(Program::MostFrequent, &[2, 1, 2, 1], 0), "b");
        assert_eq!(ask(Program::QuoteClosing, &[3, 1, 4], 0), "\"");
    }

    #[test]
    fn inputs_are_all_there_is() {
        assert_eq!(Program::Reverse.inputs(1..=4).len(), 3 + 2 * 9 + 3 * 27 + 4 * 81);
        assert_eq!(Program::QuoteClosing.inputs(1..=3).len(), 2 + 2 * 2 * 3 + 3 * 2 * 9);
        assert_eq!(Program::Induction.inputs(3..=4).len(), 4 * 3 + 2 * 4 * 3 * 3);
        assert_eq!(Program::FractionPrevious.fractions().len(), 11);
    }
}
