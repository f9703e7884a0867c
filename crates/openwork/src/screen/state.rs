//! State of the full screen, and what keys do to it. Commands go through the session's interpreter; keys that do something to the
//! run write such a command.

use openwork_debug::{Command, Entry, Place, Point, Reply, Session};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    input::Input,
    tree::{Tree, Unfolded},
};

/// Parts of the screen that keys go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    Command,
    Tokens,
    Points,
    Values,
    Answers,
    Tree,
}

const PANES: [Pane; 6] = [Pane::Command, Pane::Tokens, Pane::Points, Pane::Values, Pane::Tree, Pane::Answers];

/// Lines of answers that are kept.
const KEPT: usize = 4000;
/// Rows that a page key moves by.
const PAGE: isize = 8;

/// Keys, as `help` and F1 show them.
const KEYS: &str = "\
Enter       carries the line out; without a line it repeats the last step, next or continue
Tab         completes; without a line it goes to the next pane, Shift-Tab to the one before, Esc to the line
Up, Down    earlier and later lines; in a pane, what is selected. PageUp and PageDown scroll answers
F1 help   F5 continue   F7 restart   F8 next layer   F9 break at the point shown   F10 step
tokens, points: arrows choose a point to look at, Enter sets or removes a breakpoint there
values: Enter opens the value selected (bt)
backtrace: Right and Enter unfold, Left folds
Ctrl-U, Ctrl-K, Ctrl-W cut the line before, after, and by a word; Ctrl-C drops it; Ctrl-D without a line quits";

/// State of the full screen.
pub struct Screen {
    pub session: Session,
    pub focus: Pane,
    pub input: Input,
    /// Lines of the answers, the oldest first.
    pub answers: Vec<String>,
    /// Rows that the answers are scrolled up from the end.
    pub scrolled: usize,
    /// Line of the answers that the next frame has at the top, where what follows does not fit.
    pub top: Option<usize>,
    pub tree: Option<Tree>,
    /// True if the tree is shown where there is room for it or the answers.
    pub shows_tree: bool,
    /// Point that is looked at; none: that of the run.
    pub look: Option<Point>,
    /// Number of the value that is selected.
    pub value: usize,
    /// Words that complete the line, where there are several.
    pub candidates: Vec<String>,
    /// Words for the last stop at a breakpoint or a watch.
    pub stop: Option<String>,
    /// Line that is being carried out.
    pub running: Option<Work>,
    quits: bool,
}

/// Work that takes time.
pub enum Work {
    /// A line.
    Line(String),
    /// A deeper backtrace for the tree.
    Deeper(Command),
}

impl Screen {
    /// The screen of a session. Where it has a circuit, the two sides of the first pair of its task are its prompts.
    pub fn new(session: Session) -> Self {
        let mut screen = Self {
            session,
            focus: Pane::Command,
            input: Input::default(),
            answers: vec![],
            scrolled: 0,
            top: None,
            tree: None,
            shows_tree: false,
            look: None,
            value: 0,
            candidates: vec![],
            stop: None,
            running: None,
            quits: false,
        };
        screen.answer(&format!(
            "model {}, {} circuits",
            screen.session.context().model,
            screen.session.circuits().len()
        ));
        for circuit in screen.session.circuits() {
            let verdict = circuit.verdict.as_deref().unwrap_or("not verified");
            let line = format!("  {}: {} nodes, {verdict}", circuit.task, circuit.circuit.size().nodes);
            screen.answers.push(line);
        }
        screen.answer("`prompt NAME \"TEXT\"` makes a prompt, `help` or F1 lists commands and keys");
        let task = screen.session.circuits().first().map(|circuit| circuit.task.clone());
        for line in task.iter().flat_map(|t| [format!("prompt b {t} 0 wrong"), format!("prompt a {t} 0 right")]) {
            screen.line(&line);
        }
        screen
    }

    /// True once the session is over.
    pub fn quits(&self) -> bool {
        self.quits
    }

    /// Point that is looked at: the one chosen, else that of the run, the first point before it and the last one after it.
    pub fn point(&self) -> Option<Point> {
        let last = self.session.prompt().ok()?.tokens.len() - 1;
        let places = self.session.places();
        let of_run = self.session.point();
        let end = Point { place: *places.last()?, position: last };
        let outside = if self.session.finished() { end } else { Point { place: places[0], position: 0 } };
        let point = self.look.or(of_run).unwrap_or(outside);
        Some(Point { position: point.position.min(last), ..point })
    }

    /// Entries at the point that is looked at.
    pub fn entries(&self) -> Vec<Entry> {
        self.point().and_then(|point| self.session.entries(point).ok()).unwrap_or_default()
    }

    fn answer(&mut self, text: &str) {
        self.answers.extend(text.lines().map(str::to_owned));
        let over = self.answers.len().saturating_sub(KEPT);
        self.answers.drain(..over);
        self.top = self.top.map(|top| top.saturating_sub(over));
        self.scrolled = 0;
    }

    /// Changes the state by a key. True: there is work, for [`Self::carry_out`].
    pub fn key(&mut self, key: KeyEvent) -> bool {
        let candidates = std::mem::take(&mut self.candidates);
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('d') if control && self.input.text().is_empty() => self.quits = true,
            KeyCode::Char(c) if control => self.control(c),
            KeyCode::Char(c) => {
                self.focus = Pane::Command;
                self.input.insert(c);
            }
            KeyCode::Tab if self.input.text().is_empty() || self.focus != Pane::Command => self.turn(1),
            KeyCode::Tab => self.complete(candidates),
            KeyCode::BackTab => self.turn(PANES.len() - 1),
            KeyCode::Esc => self.focus = Pane::Command,
            KeyCode::F(n) => self.function(n),
            code => match self.focus {
                Pane::Command => self.key_of_line(code),
                Pane::Tokens | Pane::Points => self.key_of_points(code),
                Pane::Values => self.key_of_values(code),
                Pane::Answers => self.scroll(code),
                Pane::Tree => self.key_of_tree(code),
            },
        }
        self.running.is_some()
    }

    fn control(&mut self, c: char) {
        match c {
            'a' => self.input.home(),
            'e' => self.input.end(),
            'u' => self.input.cut_before(),
            'k' => self.input.cut_after(),
            'w' => self.input.cut_word(),
            'h' => self.input.backspace(),
            'd' => self.input.delete(),
            'c' => self.input.clear(),
            _ => return,
        }
        self.focus = Pane::Command;
    }

    fn function(&mut self, number: u8) {
        let line = match (number, self.point()) {
            (1, _) => "help".to_owned(),
            (5, _) => "continue".to_owned(),
            (7, _) => "restart".to_owned(),
            (8, _) => "next".to_owned(),
            (9, Some(point)) => self.toggle(Some(point.place), Some(point.position)),
            (10, _) => "step".to_owned(),
            _ => return,
        };
        self.start(line);
    }

    fn start(&mut self, line: String) {
        self.running = Some(Work::Line(line));
    }

    /// The next pane that has something in it.
    fn turn(&mut self, by: usize) {
        let at = PANES.iter().position(|pane| *pane == self.focus).expect("a pane");
        let next = (1..=PANES.len()).map(|n| PANES[(at + n * by) % PANES.len()]);
        let has = |pane: &Pane| *pane != Pane::Tree || self.tree.is_some();
        self.focus = next.into_iter().find(has).expect("the line");
        match self.focus {
            Pane::Tree => self.shows_tree = true,
            Pane::Answers => self.shows_tree = false,
            _ => (),
        }
    }

    fn complete(&mut self, shown: Vec<String>) {
        let (start, mut found) = self.session.complete(self.input.begun());
        match &found[..] {
            [] => (),
            [word] => self.input.replace_from(start, &format!("{word} ")),
            [first, rest @ ..] => {
                let common = |word: &String| first.bytes().zip(word.bytes()).take_while(|(a, b)| a == b).count();
                let length = rest.iter().map(common).min().unwrap_or(first.len());
                self.input.replace_from(start, &first[..length]);
                // A second Tab shows what follows those that there was no room for.
                if shown == found {
                    found.rotate_left(1);
                }
                self.candidates = found;
            }
        }
    }

    fn key_of_line(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => {
                let moves = ["step", "next", "continue", "s", "n", "c"];
                let line = self.input.take();
                let again = self.input.last().filter(|last| last.split(' ').next().is_some_and(|w| moves.contains(&w)));
                match (line.trim().is_empty(), again) {
                    (true, Some(again)) => self.start(again.to_owned()),
                    (true, None) => (),
                    (false, _) => self.start(line),
                }
            }
            KeyCode::Backspace => self.input.backspace(),
            KeyCode::Delete => self.input.delete(),
            KeyCode::Left => drop(self.input.left()),
            KeyCode::Right => self.input.right(),
            KeyCode::Home => self.input.home(),
            KeyCode::End => self.input.end(),
            KeyCode::Up => self.input.earlier(),
            KeyCode::Down => self.input.later(),
            code => self.scroll(code),
        }
    }

    fn scroll(&mut self, code: KeyCode) {
        let by = match code {
            KeyCode::Up => 1,
            KeyCode::Down => -1,
            KeyCode::PageUp => PAGE,
            KeyCode::PageDown => -PAGE,
            KeyCode::Home => isize::MAX,
            KeyCode::End => isize::MIN,
            _ => return,
        };
        self.scrolled = self.scrolled.saturating_add_signed(by);
    }

    fn key_of_points(&mut self, code: KeyCode) {
        let Some(point) = self.point() else { return };
        let tokens = self.focus == Pane::Tokens;
        if code == KeyCode::Enter {
            let line =
                if tokens { self.toggle(None, Some(point.position)) } else { self.toggle(Some(point.place), None) };
            return self.start(line);
        }
        let page = if tokens { 1 } else { PAGE };
        let by = match code {
            KeyCode::Up | KeyCode::Left => -1,
            KeyCode::Down | KeyCode::Right => 1,
            KeyCode::PageUp => -page,
            KeyCode::PageDown => page,
            KeyCode::Home => isize::MIN,
            KeyCode::End => isize::MAX,
            _ => return,
        };
        // In the list of points, left and right go along the tokens.
        let along = tokens || matches!(code, KeyCode::Left | KeyCode::Right);
        let places = self.session.places();
        let last = self.session.prompt().map_or(0, |prompt| prompt.tokens.len() - 1);
        let at = places.iter().position(|place| *place == point.place).unwrap_or(0);
        self.look = Some(match along {
            true => Point { position: point.position.saturating_add_signed(by).min(last), ..point },
            false => Point { place: places[at.saturating_add_signed(by).min(places.len() - 1)], ..point },
        });
        self.value = 0;
    }

    /// The command that sets a breakpoint at a place and a position, or removes the one there.
    fn toggle(&self, place: Option<Place>, position: Option<usize>) -> String {
        let at = |shown: Option<openwork_debug::At>| {
            shown.map(|at| at.of(self.session.prompt().map_or(0, |prompt| prompt.tokens.len())))
        };
        let same =
            |b: &openwork_debug::BreakpointShown| b.always && b.place == place && at(b.position) == position.map(Some);
        match self.session.breakpoints().iter().find(|b| same(b)) {
            Some(there) => format!("delete {}", there.number),
            None => {
                let place = place.map_or(String::new(), |place| place.to_string());
                format!("break {place}{}", position.map_or(String::new(), |position| format!("@{position}")))
            }
        }
    }

    fn key_of_values(&mut self, code: KeyCode) {
        let entries = self.entries();
        let last = entries.len().saturating_sub(1);
        self.value = match code {
            KeyCode::Up => self.value.saturating_sub(1),
            KeyCode::Down => (self.value + 1).min(last),
            KeyCode::PageUp => self.value.saturating_sub(PAGE as usize),
            KeyCode::PageDown => (self.value + PAGE as usize).min(last),
            KeyCode::Home => 0,
            KeyCode::End => last,
            KeyCode::Enter | KeyCode::Right => {
                if let Some(entry) = entries.get(self.value) {
                    self.start(format!("bt {}@{}", entry.name, entry.position));
                }
                return;
            }
            _ => return,
        };
    }

    fn key_of_tree(&mut self, code: KeyCode) {
        let Some(tree) = &mut self.tree else { return };
        match code {
            KeyCode::Up => tree.select(-1),
            KeyCode::Down => tree.select(1),
            KeyCode::PageUp => tree.select(-PAGE),
            KeyCode::PageDown => tree.select(PAGE),
            KeyCode::Home => tree.select(isize::MIN),
            KeyCode::End => tree.select(isize::MAX),
            KeyCode::Left => tree.fold(),
            KeyCode::Right | KeyCode::Enter => {
                if let Unfolded::Deeper(command) = tree.unfold() {
                    self.running = Some(Work::Deeper(command));
                }
            }
            _ => (),
        }
    }

    /// Carries out what [`Self::key`] began.
    pub fn carry_out(&mut self) {
        match self.running.take() {
            Some(Work::Line(line)) => self.line(&line),
            Some(Work::Deeper(command)) => self.deepen(&command),
            None => (),
        }
    }

    /// Carries a line out.
    fn line(&mut self, line: &str) {
        // A long answer is read from its beginning.
        self.top = Some(self.answers.len());
        self.answer(&format!("> {}", line.trim()));
        let done = match self.session.parse(line) {
            Ok(None) => return,
            Ok(Some(command)) => self.session.execute(&command).map(|answered| (command, answered)),
            Err(error) => Err(error.into()),
        };
        let (command, answered) = match done {
            Ok(done) => done,
            Err(error) => {
                self.answer(&format!("error: {error}"));
                self.shows_tree = false;
                return;
            }
        };
        self.answer(&answered.reply.to_string());
        self.stop = None;
        match answered.reply {
            Reply::Quit => self.quits = true,
            Reply::Backtrace { title, tokens, backtrace } => {
                self.tree = Some(Tree::new(command, answered.context, title, tokens, backtrace));
                self.shows_tree = true;
                if self.focus != Pane::Command {
                    self.focus = Pane::Tree;
                }
            }
            Reply::Stopped(stopped) => {
                (self.look, self.value) = (None, 0);
                let reasons = stopped.reasons.iter().map(ToString::to_string).collect::<Vec<_>>();
                self.stop = Some(reasons.join("; ")).filter(|words| !words.is_empty());
            }
            Reply::Help => {
                self.answer(KEYS);
                self.shows_tree = false;
            }
            Reply::Prompt { .. } => {
                (self.look, self.value) = (None, 0);
                self.shows_tree = false;
            }
            _ => self.shows_tree = false,
        }
    }

    /// True if prompt or edits are others than those of the tree.
    pub fn tree_is_old(&self) -> bool {
        self.tree.as_ref().is_some_and(|tree| tree.context != self.session.context())
    }

    fn deepen(&mut self, command: &Command) {
        let Some(old) = &mut self.tree else { return };
        if old.context != self.session.context() {
            old.fold();
            self.answer("error: the backtrace is of another prompt or other edits; bt makes one of these");
            self.shows_tree = false;
            return;
        }
        match self.session.execute(command) {
            Ok(answered) => {
                if let Reply::Backtrace { title, tokens, backtrace } = answered.reply {
                    let mut tree = Tree::new(command.clone(), answered.context, title, tokens, backtrace);
                    tree.resume(old);
                    self.tree = Some(tree);
                }
            }
            Err(error) => self.answer(&format!("error: {error}")),
        }
    }
}
