//! The line that is typed: its text and cursor, and the lines before it.

/// A line with a cursor, and the history of lines.
#[derive(Default)]
pub struct Input {
    text: String,
    /// Cursor, in bytes.
    at: usize,
    history: Vec<String>,
    /// Line of the history that is shown; none: the one that is typed.
    shown: Option<usize>,
    /// Line that was typed before the history was looked at.
    typed: String,
}

impl Input {
    /// The line.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line up to the cursor.
    pub fn begun(&self) -> &str {
        &self.text[..self.at]
    }

    /// Puts a character at the cursor.
    pub fn insert(&mut self, c: char) {
        self.text.insert(self.at, c);
        self.at += c.len_utf8();
    }

    /// Puts `word` in place of what the line has from `start` to the cursor.
    pub fn replace_from(&mut self, start: usize, word: &str) {
        self.text.replace_range(start..self.at, word);
        self.at = start + word.len();
    }

    /// Removes the character before the cursor.
    pub fn backspace(&mut self) {
        if self.left() {
            self.text.remove(self.at);
        }
    }

    /// Removes the character at the cursor.
    pub fn delete(&mut self) {
        if self.at < self.text.len() {
            self.text.remove(self.at);
        }
    }

    /// Moves the cursor to the left; false at the beginning.
    pub fn left(&mut self) -> bool {
        let before = self.begun().chars().next_back();
        self.at -= before.map_or(0, char::len_utf8);
        before.is_some()
    }

    /// Moves the cursor to the right.
    pub fn right(&mut self) {
        self.at += self.text[self.at..].chars().next().map_or(0, char::len_utf8);
    }

    /// Moves the cursor to the beginning.
    pub fn home(&mut self) {
        self.at = 0;
    }

    /// Moves the cursor to the end.
    pub fn end(&mut self) {
        self.at = self.text.len();
    }

    /// Removes everything before the cursor.
    pub fn cut_before(&mut self) {
        self.replace_from(0, "");
    }

    /// Removes everything from the cursor on.
    pub fn cut_after(&mut self) {
        self.text.truncate(self.at);
    }

    /// Removes the word before the cursor.
    pub fn cut_word(&mut self) {
        let kept = self.begun().trim_end();
        let start = kept.rfind(char::is_whitespace).map_or(0, |space| space + 1);
        self.replace_from(start, "");
    }

    /// Drops the line.
    pub fn clear(&mut self) {
        self.text.clear();
        (self.at, self.shown) = (0, None);
    }

    /// Takes the line, and keeps it in the history unless it is blank or the same as the last one.
    pub fn take(&mut self) -> String {
        let line = std::mem::take(&mut self.text);
        self.clear();
        if !line.trim().is_empty() && self.history.last() != Some(&line) {
            self.history.push(line.clone());
        }
        line
    }

    /// The last line of the history.
    pub fn last(&self) -> Option<&str> {
        self.history.last().map(String::as_str)
    }

    /// Shows the line before the one shown.
    pub fn earlier(&mut self) {
        let to = match self.shown {
            None if self.history.is_empty() => return,
            None => {
                self.typed.clone_from(&self.text);
                self.history.len() - 1
            }
            Some(shown) => shown.saturating_sub(1),
        };
        self.show(Some(to));
    }

    /// Shows the line after the one shown, in the end the one that was typed.
    pub fn later(&mut self) {
        if let Some(shown) = self.shown {
            self.show(Some(shown + 1).filter(|&next| next < self.history.len()));
        }
    }

    fn show(&mut self, shown: Option<usize>) {
        self.text = shown.map_or_else(|| self.typed.clone(), |at| self.history[at].clone());
        (self.at, self.shown) = (self.text.len(), shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Input {
        let mut input = Input::default();
        text.chars().for_each(|c| input.insert(c));
        input
    }

    #[test]
    fn a_line_is_edited_at_its_cursor_in_whole_characters() {
        let mut input = typed("prünt x");
        for _ in 0..5 {
            input.left();
        }
        input.backspace();
        input.delete();
        input.insert('i');
        assert_eq!((input.text(), input.begun()), ("pint x", "pi"));
        input.end();
        input.cut_word();
        assert_eq!(input.text(), "pint ");
        input.home();
        input.right();
        input.cut_after();
        assert_eq!(input.text(), "p");
        input.cut_before();
        assert_eq!(input.text(), "");
        input.backspace();
        input.delete();
        assert!(!input.left());
    }

    #[test]
    fn the_history_keeps_what_was_typed_and_no_repetition() {
        let mut input = Input::default();
        for line in ["step", "step", " ", "next"] {
            line.chars().for_each(|c| input.insert(c));
            input.take();
        }
        input.insert('b');
        let mut seen = vec![];
        for _ in 0..3 {
            input.earlier();
            seen.push(input.text().to_owned());
        }
        for _ in 0..3 {
            input.later();
            seen.push(input.text().to_owned());
        }
        assert_eq!(seen, ["next", "step", "step", "next", "b", "b"]);
        assert_eq!(input.last(), Some("next"));
    }
}
