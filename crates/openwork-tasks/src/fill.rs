//! Fills templates: `$thing`, `$(thing)_count`, `$word2` and so on become names, words and numbers.
//!
//! The same placeholder has the same value throughout a pair; placeholders that differ in their digit have different
//! values. Train, validation and vocabulary use different words (about two, one and one in four), held-out templates use
//! all. Longer prompts begin with a longer context.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{Split, words};

/// Ordinary lines that may stand before a prompt.
const CONTEXT: &[&str] = &[
    "$num = $n\n",
    "$text = \"$word\"\n",
    "$text = '$word'\n",
    "print(\"$message\")\n",
    "print('$message')\n",
    "$things = [$ints]\n",
    "$things = [\"$word1\", \"$word2\"]\n",
    "$flag = True\n",
    "$flag = False\n",
    "$thing = $Class(\"$word\")\n",
    "if $num == $n:\n    print(\"$message\")\n",
    "for $thing in $things:\n    print($thing)\n",
    "import $module\n",
];

pub(crate) const MODULES: &[&str] = &[
    "os",
    "sys",
    "json",
    "math",
    "random",
    "time",
    "re",
    "csv",
    "string",
    "logging",
    "itertools",
    "argparse",
    "typing",
    "datetime",
    "collections",
    "functools",
];

/// Draws the values of one pair after another.
pub(crate) struct Filler {
    rng: ChaCha8Rng,
    split: Split,
    bound: Vec<(String, String)>,
    /// True until the first context of a pair is drawn.
    first_context: bool,
}

impl Filler {
    pub(crate) fn new(split: Split, seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self { rng, split, bound: Vec::new(), first_context: true }
    }

    /// Forgets all values, before the next pair.
    pub(crate) fn start(&mut self) {
        self.bound.clear();
        self.first_context = true;
    }

    /// Uniform in `0..n` (up to a bias of `n / 2^32`).
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.rng.next_u32()) * n as u64) >> 32) as usize
    }

    /// `template` with every placeholder filled in.
    ///
    /// # Panics
    /// If a placeholder has no meaning (a mistake in a template; a test expands them all).
    pub(crate) fn expand(&mut self, template: &str) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let inner = rest.strip_prefix('(');
            let name = inner.unwrap_or(rest);
            let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
            let (name, after) = name.split_at(end);
            rest = if inner.is_some() { after.strip_prefix(')').expect("`$(` is closed") } else { after };
            out.push_str(&self.value(name));
        }
        out.push_str(rest);
        out
    }

    fn value(&mut self, name: &str) -> String {
        if let Some((_, value)) = self.bound.iter().find(|(bound, _)| bound == name) {
            return value.clone();
        }
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let value = loop {
            let value = self.draw(kind);
            // Numbers may repeat, names may not: `def f(a, a)` is no Python.
            let taken = self.bound.iter().any(|(_, known)| *known == value);
            if !taken || matches!(kind, "n" | "ints" | "context" | "inner") {
                break value;
            }
        };
        self.bound.push((name.to_owned(), value.clone()));
        value
    }

    pub(crate) fn pick(&mut self, pool: &[&'static str]) -> &'static str {
        loop {
            let word = pool[self.below(pool.len())];
            if self.may_draw(word) {
                return word;
            }
        }
    }

    /// True if a word belongs to the split.
    pub(crate) fn may_draw(&self, word: &str) -> bool {
        match self.split {
            Split::Train => part(word) == Part::Train,
            Split::Validation | Split::Longer => part(word) == Part::Validation,
            Split::Vocabulary => part(word) == Part::Vocabulary,
            Split::HeldOutTemplate => true,
        }
    }

    fn draw(&mut self, kind: &str) -> String {
        let pool = match kind {
            "thing" => words::THINGS.prompts(),
            "num" => words::NUMBERS.prompts(),
            "text" => words::TEXTS.prompts(),
            "flag" => words::FLAGS.prompts(),
            "gathered" => words::GATHERED.prompts(),
            "attr" => words::ATTRIBUTES.prompts(),
            "word" => words::WORDS.prompts(),
            "swapped" => words::SWAPPED,
            "module" => MODULES,
            _ => return self.compose(kind),
        };
        self.pick(pool).to_owned()
    }

    fn compose(&mut self, kind: &str) -> String {
        match kind {
            "things" => format!("{}s", self.pick(words::THINGS.prompts())),
            "Class" => {
                format!("{}{}", capitalized(self.pick(words::THINGS.prompts())), self.pick(words::ROLES.prompts()))
            }
            "func" => format!("{}_{}", self.pick(words::VERBS.prompts()), self.pick(words::THINGS.prompts())),
            "Label" => format!(
                "{} {}",
                capitalized(self.pick(words::ADJECTIVES.prompts())),
                self.pick(words::THINGS.prompts())
            ),
            "counter" => ["i", "j", "n", "k", "index"][self.below(5)].to_owned(),
            "message" => self.message(),
            "rfile" => format!("{}.{}", self.pick(words::READ_STEMS.prompts()), ["txt", "csv", "json"][self.below(3)]),
            "wfile" => format!("{}.{}", self.pick(words::WRITE_STEMS.prompts()), ["txt", "csv", "json"][self.below(3)]),
            "n" => self.below(100).to_string(),
            "ints" => {
                let most = [20, 1000][self.below(2)];
                let numbers: Vec<String> = (0..=self.below(4)).map(|_| self.below(most).to_string()).collect();
                numbers.join(", ")
            }
            "context" => self.context(""),
            "inner" => self.context("    "),
            _ => panic!("a template asks for `${kind}`, which nothing fills"),
        }
    }

    fn message(&mut self) -> String {
        let (thing, adjective) = (self.pick(words::THINGS.prompts()), self.pick(words::ADJECTIVES.prompts()));
        match self.below(8) {
            0 => format!("No {thing}s available"),
            1 => format!("{} {thing} not found", capitalized(adjective)),
            2 => format!("Loading {adjective} {thing}s"),
            3 => format!("The {thing} is {adjective}"),
            4 => format!("Please enter the {thing}"),
            5 => format!("{} {thing} added", capitalized(adjective)),
            6 => format!("There is no {} in the {thing}", self.pick(words::WORDS.prompts())),
            _ => format!("Could not {} the {thing}", self.pick(words::VERBS.prompts())),
        }
    }

    /// Zero to three statements, indented by `indent`, with values of their own; four to seven at the start of longer prompts.
    fn context(&mut self, indent: &str) -> String {
        let outer = std::mem::take(&mut self.bound);
        let mut out = String::new();
        let first = std::mem::take(&mut self.first_context);
        let least = if first && self.split == Split::Longer { 4 } else { 0 };
        for _ in 0..least + self.below(4) {
            // The last line imports a module, which stands at the top level only.
            let usable = CONTEXT.len() - usize::from(!indent.is_empty());
            let template = CONTEXT[self.below(usable)];
            self.bound.clear();
            for line in self.expand(template).lines() {
                out.extend([indent, line, "\n"]);
            }
        }
        self.bound = outer;
        out
    }
}

/// Share of the words that a split draws from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Validation,
    Vocabulary,
}

/// The part of a word, the same in whatever pool it stands: FNV-1a of its bytes, from an offset under which every pool has
/// words in every part.
fn part(word: &str) -> Part {
    const OFFSET: u32 = 0x811c_9dc5 + 150;
    let hash = word.bytes().fold(OFFSET, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    match (hash >> 8) % 4 {
        0 | 1 => Part::Train,
        2 => Part::Validation,
        _ => Part::Vocabulary,
    }
}

fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_ascii_uppercase() + rest
}
