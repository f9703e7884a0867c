//! Pools of words, shared by generated programs and prompts.
//!
//! Every pool is one list. Programs draw from all of it, with the repetitions that make a word likelier; prompts draw
//! from the words that programs show often in the role that a template gives them, each once.

#[rustfmt::skip]
mod literals;
#[rustfmt::skip]
mod names;

pub use literals::{READ_STEMS, WORDS, WRITE_STEMS};
pub use names::{ADJECTIVES, ATTRIBUTES, FLAGS, GATHERED, NUMBERS, ROLES, SWAPPED, TEXTS, THINGS, VERBS};

/// A list of words of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    programs: &'static [&'static str],
    prompts: &'static [&'static str],
}

impl Pool {
    /// Words that generated programs draw from; a repeated word is likelier.
    pub const fn programs(&self) -> &'static [&'static str] {
        self.programs
    }

    /// Words that prompts draw from: distinct words of [`Pool::programs`], in its order.
    pub const fn prompts(&self) -> &'static [&'static str] {
        self.prompts
    }
}

/// A [`Pool`] of the words of programs, less `programs_only` in prompts.
macro_rules! pool {
    ($programs:expr, programs_only: $only:expr) => {{
        const PROGRAMS: &[&str] = $programs;
        const ONLY: &[&str] = $only;
        const PROMPTS: [&str; crate::words::count(PROGRAMS, ONLY)] = crate::words::prompts(PROGRAMS, ONLY);
        Pool { programs: PROGRAMS, prompts: &PROMPTS }
    }};
}
use pool;

/// Number of words that [`prompts`] keeps.
const fn count(programs: &[&str], only: &[&str]) -> usize {
    let (mut n, mut i) = (0, 0);
    while i < programs.len() {
        n += is_for_prompts(programs, only, i) as usize;
        i += 1;
    }
    n
}

/// First occurrences of words of `programs` that are not in `only`, in order; `N` is their [`count`].
const fn prompts<const N: usize>(programs: &[&'static str], only: &[&str]) -> [&'static str; N] {
    let (mut out, mut n, mut i) = ([""; N], 0, 0);
    while i < programs.len() {
        if is_for_prompts(programs, only, i) {
            out[n] = programs[i];
            n += 1;
        }
        i += 1;
    }
    out
}

const fn is_for_prompts(programs: &[&str], only: &[&str], i: usize) -> bool {
    !contains(only, only.len(), programs[i]) && !contains(programs, i, programs[i])
}

/// True if one of the first `n` of `words` is `word`.
const fn contains(words: &[&str], n: usize, word: &str) -> bool {
    let mut i = 0;
    while i < n {
        if same(words[i].as_bytes(), word.as_bytes()) {
            return true;
        }
        i += 1;
    }
    false
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while a.len() == b.len() && i < a.len() && a[i] == b[i] {
        i += 1;
    }
    a.len() == b.len() && i == a.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_draw_distinct_words_of_programs_in_their_order() {
        const POOL: Pool = pool!(&["b", "a", "b", "abc", "ab", "a"], programs_only: &["ab"]);
        assert_eq!(POOL.programs(), ["b", "a", "b", "abc", "ab", "a"]);
        assert_eq!(POOL.prompts(), ["b", "a", "abc"]);
        assert_eq!((THINGS.programs().len(), THINGS.prompts().len()), (126, 99));
        assert_eq!((GATHERED.programs().len(), GATHERED.prompts().len()), (35, 23));
        assert_eq!(ROLES.programs(), ROLES.prompts());
    }
}
