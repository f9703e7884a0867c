//! The screen without a terminal: keys in, frames out.

use openwork_debug::{COMMAND_WORDS, Session};
use openwork_model::{Config, Matrix, Model};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    draw::draw,
    state::{Pane, Screen},
    tree::Fold,
};

/// A session of a random model of one block on letters: `a` is token 0.
fn session() -> Session {
    let config = Config {
        vocab_size: 26,
        n_ctx: 8,
        n_layer: 1,
        n_head: 2,
        d_head: 4,
        d_model: 12,
        d_mlp: 16,
        ..Config::default()
    };
    let mut model = Model::init(config, 1);
    let matrices = model.params.values_mut().into_iter().filter(|weight| weight.dense().ncols() > 1);
    matrices.for_each(|weight| weight.update(|w: &mut Matrix| w.iter_mut().for_each(|x| *x *= 30.0)));
    let hash = model.sha256();
    let encode = |text: &str| text.bytes().map(|b| u16::from(b - b'a')).collect::<Vec<u16>>();
    // The last letters are what a terminal could take badly.
    let decode = |tokens: &[u16]| -> String {
        let text = |token: &u16| match token {
            23 => "\u{202e}".to_owned(),
            24 => "\u{1b}[31m日本".to_owned(),
            _ => char::from(b'a' + *token as u8).to_string(),
        };
        tokens.iter().map(text).collect()
    };
    Session::new(model, hash, Box::new((encode, decode)), None)
}

/// Screen in a window.
struct Window {
    screen: Screen,
    terminal: Terminal<TestBackend>,
}

impl Window {
    fn new() -> Self {
        Self { screen: Screen::new(session()), terminal: Terminal::new(TestBackend::new(80, 24)).unwrap() }
    }

    fn press(&mut self, code: KeyCode) {
        self.press_with(code, KeyModifiers::NONE);
    }

    fn press_with(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        if self.screen.key(KeyEvent::new(code, modifiers)) {
            self.screen.carry_out();
        }
    }

    fn typed(&mut self, text: &str) {
        text.chars().for_each(|c| self.press(KeyCode::Char(c)));
    }

    fn line(&mut self, text: &str) {
        self.typed(text);
        self.press(KeyCode::Enter);
    }

    /// Rows of the frame.
    fn rows(&mut self) -> Vec<String> {
        self.terminal.draw(|frame| draw(frame, &mut self.screen)).unwrap();
        let buffer = self.terminal.backend().buffer();
        let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..buffer.area.height).map(row).collect()
    }

    #[track_caller]
    fn shows(&mut self, part: &str) {
        let rows = self.rows();
        assert!(rows.iter().any(|row| row.contains(part)), "no {part:?} in\n{}", rows.join("\n"));
    }

    #[track_caller]
    fn shows_not(&mut self, part: &str) {
        let rows = self.rows();
        assert!(!rows.iter().any(|row| row.contains(part)), "{part:?} in\n{}", rows.join("\n"));
    }
}

#[test]
fn a_frame_shows_the_point_of_the_run_its_values_and_stops() {
    let mut w = Window::new();
    w.shows("no prompt");
    w.line("prompt p \"abc\"");
    w.shows("0:\"a\" 1:\"b\" 2:\"c\"");
    w.shows("before the first point");
    w.line("break 0.attn.q@1");
    w.line("watch 0.attn.act_in[0]@0");
    w.press(KeyCode::F(5));
    for part in [
        "│ at 0.attn.q@1 │",
        "▶●1:\"b\"",
        "▶●0.attn.q ",
        "breakpoint 1: 0.attn.q@1",
        "●1 0.attn.q@1",
        "2 0.attn.act_in[0]@0 =",
    ] {
        w.shows(part);
    }
    let entries = w.screen.entries();
    assert!(entries.len() > 1 && entries.windows(2).all(|pair| pair[0].value.abs() >= pair[1].value.abs()));
    let first = w.rows().iter().position(|row| row.contains(&format!("{:+.5} █", entries[0].value))).expect("a bar");
    w.shows(&format!("{:+.5}", entries[1].value));
    assert!(w.rows()[first].contains(&entries[0].name["0.attn.q".len()..]));
    w.press(KeyCode::F(10));
    w.shows("│ at 0.attn.q@2 │");
    w.shows_not("▶●0.attn.q@1");
    w.press(KeyCode::Enter);
    w.shows("│ at 0.attn.q@2 │");
    w.line("step");
    w.press(KeyCode::Enter);
    w.shows("│ at 0.attn.k@1 │");
    w.press(KeyCode::F(8));
    w.shows("at 1.final_resid@0");
    w.press(KeyCode::F(7));
    w.shows("before the first point");
}

#[test]
fn errors_point_at_the_column_and_leave_the_state() {
    let mut w = Window::new();
    w.line("prompt p \"abc\"");
    w.line("break 0.mlp.post_act[99] > 1");
    w.shows("error: column 22: expected an index from 0 to 15");
    w.shows("                       ^");
    assert!(w.screen.session.breakpoints().is_empty());
}

#[test]
fn lines_are_completed_and_come_back() {
    let mut w = Window::new();
    w.typed("wh");
    w.press(KeyCode::Tab);
    w.shows(" why  where");
    w.typed("e");
    w.press(KeyCode::Tab);
    assert_eq!(w.screen.input.text(), "where ");
    w.typed("0.attn.re");
    w.press(KeyCode::Tab);
    assert_eq!(w.screen.input.text(), "where 0.attn.resid_delta ");
    w.press_with(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(w.screen.input.text(), "");
    w.line("prompt zebra \"ab\"");
    w.line("use z");
    w.press(KeyCode::Up);
    w.press(KeyCode::Backspace);
    w.typed("ze");
    w.press(KeyCode::Tab);
    assert_eq!(w.screen.input.text(), "use zebra ");
    w.press_with(KeyCode::Char('u'), KeyModifiers::CONTROL);
    for word in COMMAND_WORDS {
        assert_eq!(w.screen.session.complete(word).1.first().map(String::as_str), Some(word));
    }
    w.press(KeyCode::F(1));
    w.shows("│> help");
    w.shows("more below");
    (0..8).for_each(|_| w.press(KeyCode::PageDown));
    w.shows("Ctrl-D without a line quits");
    w.press(KeyCode::PageUp);
    w.shows("8 more below");
}

#[test]
fn points_and_tokens_are_looked_at_without_moving_the_run() {
    let mut w = Window::new();
    w.line("prompt p \"abc\"");
    w.line("step");
    w.press(KeyCode::Tab);
    assert_eq!(w.screen.focus, Pane::Tokens);
    w.press(KeyCode::End);
    w.press(KeyCode::Enter);
    w.shows("●2:\"c\"");
    w.press(KeyCode::Tab);
    w.press(KeyCode::Down);
    w.shows("0.attn.act_in@2 (");
    w.shows(", ahead");
    w.press(KeyCode::Enter);
    w.shows("●0.attn.act_in");
    w.press(KeyCode::Enter);
    w.shows_not("●0.attn.act_in");
    assert_eq!(w.screen.session.breakpoints().len(), 1);
    w.shows("at 0.resid_in@0 │");
    w.press(KeyCode::F(9));
    assert_eq!(w.screen.session.breakpoints()[1].text, "0.attn.act_in@2");
    w.press(KeyCode::F(9));
    assert_eq!(w.screen.session.breakpoints().len(), 1);
    w.press(KeyCode::F(5));
    w.shows("at 0.resid_in@2 │");
    w.shows("0.resid_in@2 (");
}

#[test]
fn a_backtrace_unfolds_step_by_step_and_every_step_adds_up() {
    let mut w = Window::new();
    w.line("prompt p \"abc\"");
    w.line("break logits@last");
    w.line("continue");
    w.press(KeyCode::Tab);
    w.press(KeyCode::Tab);
    w.press(KeyCode::Tab);
    assert_eq!(w.screen.focus, Pane::Values);
    w.press(KeyCode::Down);
    w.press(KeyCode::Enter);
    assert_eq!(w.screen.focus, Pane::Tree);
    w.shows("backtrace: logit(\"");
    for depth in 0..5 {
        let tree = w.screen.tree.as_ref().unwrap();
        let (rows, selected) = (tree.rows(), tree.selected);
        assert_eq!((rows[selected].fold, rows[selected].depth), (Fold::Closed, depth), "{}", rows[selected].text);
        let part = rows[selected].part.expect("no score is unfolded");
        w.press(KeyCode::Right);
        let rows = w.screen.tree.as_ref().unwrap().rows();
        assert_eq!(rows[selected].fold, Fold::Open);
        let below = rows[selected + 1..].iter().take_while(|row| row.depth > depth);
        // The heads of scores have none, and theirs are folded.
        let sum: f64 = below.filter(|row| row.depth == depth + 1).filter_map(|row| row.part).sum();
        assert!((sum - part).abs() < 1e-6 * (1.0 + part.abs()), "{sum} and {part}");
        let next = rows[selected + 1..].iter().position(|row| row.fold == Fold::Closed && row.part.is_some());
        let Some(next) = next else { break };
        (0..=next).for_each(|_| w.press(KeyCode::Down));
        if w.screen.tree.as_ref().unwrap().rows()[w.screen.tree.as_ref().unwrap().selected].depth != depth + 1 {
            assert!(depth > 1, "a logit has causes that have causes");
            break;
        }
    }
    let rows = w.screen.tree.as_ref().unwrap().rows().len();
    w.press(KeyCode::Left);
    w.press(KeyCode::Left);
    assert!(w.screen.tree.as_ref().unwrap().rows().len() < rows);
    // With an edit it is of the run before, says so, and opens no causes of another run.
    w.line("set 0.attn.q[0] = 3");
    w.line("undo");
    assert!(!w.screen.tree_is_old());
    w.line("set 0.attn.q[0] = 3");
    assert!(w.screen.tree_is_old());
    w.press(KeyCode::BackTab);
    w.press(KeyCode::BackTab);
    assert_eq!(w.screen.focus, Pane::Tree);
    w.shows("other edits");
}

#[test]
fn every_size_of_window_is_drawn_and_foreign_text_stays_in_its_cells() {
    let mut w = Window::new();
    w.line("prompt p \"xyzxyab\"");
    w.line("bt logit(\"a\")@last");
    w.line("next");
    w.typed(&"print 0.attn.q[0] + ".repeat(12));
    for (width, height) in (1..=150).step_by(7).flat_map(|w| (1..=45).step_by(4).map(move |h| (w, h))) {
        w.terminal.backend_mut().resize(width, height);
        let rows = w.rows();
        assert_eq!(rows.len(), usize::from(height));
        let text = rows.join("\n");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{width}x{height}");
        if width >= 80 && height >= 24 {
            let end = rows.iter().filter(|row| row.trim_end().ends_with(['│', '┐', '┘'])).count();
            assert!(end >= usize::from(height) - 5, "{width}x{height}\n{text}");
        }
    }
}

#[test]
fn a_session_ends_by_quit_and_by_the_end_of_input() {
    for keys in [vec![KeyCode::Char('q'), KeyCode::Enter], vec![]] {
        let mut w = Window::new();
        let ends = keys.is_empty();
        keys.into_iter().for_each(|key| w.press(key));
        if ends {
            w.typed("x");
            w.press_with(KeyCode::Char('d'), KeyModifiers::CONTROL);
            assert!(!w.screen.quits(), "a line was begun");
            w.press(KeyCode::Backspace);
            w.press_with(KeyCode::Char('d'), KeyModifiers::CONTROL);
        }
        assert!(w.screen.quits());
    }
}
