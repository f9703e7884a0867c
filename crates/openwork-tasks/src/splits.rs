//! Splits of a task: the pairs that a circuit is found on, and those that it is judged on.

use std::collections::HashSet;

use crate::{Pair, Split, Task, TaskError};

/// Pairs of one task, dealt to finding and judging a circuit.
///
/// `train` and `selection` share templates and no words; the judge's splits share no prompt with them or with each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splits {
    /// Pairs that masks and calibrations are fitted on.
    pub train: Vec<Pair>,
    /// Pairs that a circuit is selected on: templates of `train` with words that `train` never uses.
    pub selection: Vec<Pair>,
    /// Fresh pairs of the templates and words of `selection`.
    pub held_out: Vec<Pair>,
    /// Pairs of templates that occur nowhere else.
    pub held_out_templates: Vec<Pair>,
    /// Pairs of the templates of `train` with words that neither `train` nor `selection` uses.
    pub vocabulary: Vec<Pair>,
    /// Fresh pairs with prompts longer than 95 % of those of `selection`, with words of `selection`.
    pub lengths: Vec<Pair>,
}

impl Splits {
    /// Number of training pairs.
    pub const TRAIN: usize = 384;
    /// Number of selection pairs.
    pub const SELECTION: usize = 128;
    /// Largest number of pairs in each of the judge's splits: an accuracy of 0.95 has a 95 % interval of ±0.03.
    pub const HELD_OUT: usize = 192;
    /// Pairs drawn beyond [`Splits::HELD_OUT`]; those that share a prompt with another split are left out.
    const SPARE: usize = 48;
    /// Pairs among which long ones are looked for.
    const POOL: usize = 480;

    /// Draws the splits of `task` under `encode`. The same arguments give the same pairs.
    ///
    /// No prompt has more than `context` tokens: a draw of more is left out, since a model reads no more.
    ///
    /// # Errors
    /// Those of [`Task::pairs`]. A task with too few words or too short a context for `vocabulary` or `lengths` has fewer
    /// pairs there, or none, which is no error.
    pub fn draw(task: &Task, encode: &dyn Fn(&str) -> Vec<u16>, context: usize, seed: u64) -> Result<Self, TaskError> {
        let fits = |p: &Pair| p.prompts().iter().all(|prompt| prompt.len() <= context);
        let draw = |split, n| {
            task.pairs(encode, split, n, seed).map(|mut pairs| {
                pairs.retain(fits);
                pairs
            })
        };
        let as_many = |split, n| match draw(split, n) {
            Err(TaskError::TooFew { found, .. }) => draw(split, found).unwrap_or_default(),
            Err(_) => vec![],
            Ok(pairs) => pairs,
        };
        let train = draw(Split::Train, Self::TRAIN)?;
        let mut selection = draw(Split::Validation, Self::SELECTION + Self::HELD_OUT + Self::SPARE)?;
        let mut held_out = selection.split_off(Self::SELECTION.min(selection.len()));
        let mut held_out_templates = draw(Split::HeldOutTemplate, Self::HELD_OUT + Self::SPARE)?;
        let mut vocabulary = as_many(Split::Vocabulary, Self::HELD_OUT + Self::SPARE);
        let mut lengths = as_many(Split::Longer, Self::POOL);
        let limit = length_at_95_percent(&selection);
        lengths.retain(|p| p.positive.len() > limit && p.negative.len() > limit);
        let prompts = |p: &Pair| [p.positive.clone(), p.negative.clone()];
        let mut seen: HashSet<Vec<u16>> = train.iter().chain(&selection).flat_map(prompts).collect();
        for pairs in [&mut held_out, &mut held_out_templates, &mut vocabulary, &mut lengths] {
            pairs.retain(|p| {
                let fresh = prompts(p).iter().all(|prompt| !seen.contains(prompt));
                seen.extend(prompts(p));
                fresh
            });
            pairs.truncate(Self::HELD_OUT);
        }
        Ok(Self { train, selection, held_out, held_out_templates, vocabulary, lengths })
    }
}

/// The length that 95 % of the prompts of `pairs` do not exceed, in tokens.
fn length_at_95_percent(pairs: &[Pair]) -> usize {
    let mut lengths: Vec<usize> = pairs.iter().flat_map(|p| [p.positive.len(), p.negative.len()]).collect();
    lengths.sort_unstable();
    lengths[lengths.len() * 19 / 20]
}
