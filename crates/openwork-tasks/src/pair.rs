//! Contrast pairs: two prompts that differ in one cue, and the token that follows each.

/// Part of the prompts of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Prompts for finding a circuit.
    Train,
    /// The templates of `Train` with words that `Train` never uses.
    Validation,
    /// Templates that no other split uses, with words of all.
    HeldOutTemplate,
    /// The templates of `Train` with words that neither `Train` nor `Validation` uses.
    Vocabulary,
    /// The templates of `Train` and the words of `Validation` after a longer context.
    Longer,
}

/// A pair of prompts as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPair {
    /// The prompt that the first text of each of `answers` continues.
    pub positive: String,
    /// The prompt that the second one continues.
    pub negative: String,
    /// Answer and alternative, the preferred way of cutting them first.
    pub answers: Vec<(String, String)>,
    /// Index of the template within the task; held-out templates follow the others.
    pub template: usize,
}

/// A pair of prompts as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The prompt that `answer` continues.
    pub positive: Vec<u16>,
    /// The prompt that `alternative` continues; not always as long as `positive`.
    pub negative: Vec<u16>,
    /// The right token for the positive prompt.
    pub answer: u16,
    /// The right token for the negative prompt.
    pub alternative: u16,
    /// Index of the template within the task.
    pub template: usize,
}

/// One of the two prompts of a pair.
///
/// Sequences of pairs lie one after the other, `[positive, negative]` of each pair: [`Side::of_sequence`] is the one place
/// that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The prompt that the answer continues.
    Positive,
    /// The prompt that the alternative continues.
    Negative,
}

impl Side {
    /// Both sides, in the order of sequences.
    pub const BOTH: [Self; 2] = [Self::Positive, Self::Negative];

    /// Side of a sequence, by its number among the sequences of pairs.
    pub const fn of_sequence(sequence: usize) -> Self {
        if sequence.is_multiple_of(2) { Self::Positive } else { Self::Negative }
    }

    /// Number of the sequence of this side of pair number `pair`.
    pub const fn sequence(self, pair: usize) -> usize {
        2 * pair + self as usize
    }

    /// A logit difference `l_answer − l_alternative` as the difference of the right token over the wrong one: `difference`
    /// for positive prompts, `−difference` for negative ones.
    pub fn towards_right(self, difference: f64) -> f64 {
        match self {
            Self::Positive => difference,
            Self::Negative => -difference,
        }
    }
}

impl Pair {
    /// The prompt of a side.
    pub fn prompt(&self, side: Side) -> &[u16] {
        match side {
            Side::Positive => &self.positive,
            Side::Negative => &self.negative,
        }
    }

    /// The token that continues the prompt of a side.
    pub fn right(&self, side: Side) -> u16 {
        match side {
            Side::Positive => self.answer,
            Side::Negative => self.alternative,
        }
    }

    /// Both prompts, in the order of sequences.
    pub fn prompts(&self) -> [&[u16]; 2] {
        Side::BOTH.map(|side| self.prompt(side))
    }
}

/// SHA-256 of pairs in their order, in hexadecimal: of each pair, as little-endian 16-bit numbers, the two prompts with their
/// lengths before them, answer, alternative and template.
pub fn sha256(pairs: &[Pair]) -> String {
    let mut bytes = Vec::new();
    for pair in pairs {
        for prompt in [&pair.positive, &pair.negative] {
            let all = [&[prompt.len() as u16][..], prompt].concat();
            bytes.extend(all.into_iter().flat_map(u16::to_le_bytes));
        }
        bytes.extend([pair.answer, pair.alternative, pair.template as u16].into_iter().flat_map(u16::to_le_bytes));
    }
    openwork_tensor::sha256_bytes(&bytes)
}
