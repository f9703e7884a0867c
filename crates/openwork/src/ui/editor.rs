//! Line editor of a prompt on a terminal: history, and completion of words.

use anyhow::Result;
use rustyline::{
    CompletionType, Config, Context, Editor, Helper,
    completion::{Completer, Pair},
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::MemHistory,
    validate::Validator,
};

/// Editor of lines that completes the words of a list.
pub struct LineEditor {
    editor: Editor<Words, MemHistory>,
}

/// Words that a line may hold.
struct Words(Vec<String>);

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, found) = openwork_debug::complete(&self.0, &line[..at]);
        Ok((start, found.into_iter().map(|word| Pair { display: word.clone(), replacement: word }).collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

impl LineEditor {
    /// An editor with an empty history.
    pub fn new(words: Vec<String>) -> Result<Self> {
        let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true).build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history)?;
        editor.set_helper(Some(Words(words)));
        Ok(Self { editor })
    }

    /// Completes these words from now on.
    pub fn set_words(&mut self, words: Vec<String>) {
        self.editor.set_helper(Some(Words(words)));
    }

    /// The next line; none at the end of input. Ctrl-C drops the line that was begun.
    pub fn line(&mut self, prompt: &str) -> Result<Option<String>> {
        loop {
            match self.editor.readline(prompt) {
                Ok(line) => return Ok(Some(line)),
                Err(ReadlineError::Interrupted) => (),
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed_from_where_they_begin() {
        let history = MemHistory::new();
        let words = Words(["break", "bt", "0.attn.q", "0.attn.k"].map(str::to_owned).to_vec());
        let complete = |line: &str| {
            let (start, found) = words.complete(line, line.len(), &Context::new(&history)).unwrap();
            (start, found.into_iter().map(|pair| pair.replacement).collect::<Vec<_>>())
        };
        assert_eq!(complete("b"), (0, vec!["break".to_owned(), "bt".to_owned()]));
        assert_eq!(complete("break 0.attn.q"), (6, vec!["0.attn.q".to_owned()]));
        assert_eq!(complete("watch abs(0.attn.k"), (10, vec!["0.attn.k".to_owned()]));
        assert_eq!(complete("x").1, Vec::<String>::new());
    }
}
