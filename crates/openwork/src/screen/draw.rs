//! The frame: where panes lie in a window of any size.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Position, Rect},
    style::{Modifier, Style},
    text::Line,
    widgets::Paragraph,
};

use super::{
    panes,
    state::{Pane, Screen, Work},
    text::{cut, padded, width},
};

/// The smallest window that panes are drawn in.
const LEAST: [u16; 2] = [40, 14];
/// Width from which backtrace and answers lie side by side.
const WIDE: u16 = 110;
/// Before the line that is typed.
const PROMPT: &str = "(debug) ";

/// Draws the screen.
pub fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let area = frame.area();
    if area.width < LEAST[0] || area.height < LEAST[1] {
        let words = format!("the window has {}x{} cells, and needs {}x{}", area.width, area.height, LEAST[0], LEAST[1]);
        frame.render_widget(Paragraph::new(words), area);
        return;
    }
    let tokens = panes::rows_of_tokens(screen, area.width).clamp(1, usize::from(area.height / 6)) as u16 + 2;
    let parts = [1, tokens, 0, 1, 1].map(|rows| if rows == 0 { Constraint::Fill(1) } else { Constraint::Length(rows) });
    let [head, source, middle, line, foot] = Layout::vertical(parts).areas(area);
    let [upper, lower] = Layout::vertical([Constraint::Fill(4), Constraint::Fill(5)]).areas(middle);
    draw_head(frame, screen, head);
    panes::tokens(frame, screen, source);
    draw_upper(frame, screen, upper);
    if area.width >= WIDE && screen.tree.is_some() {
        let [left, right] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(lower);
        panes::tree(frame, screen, left);
        panes::answers(frame, screen, right);
    } else if screen.shows_tree && screen.tree.is_some() {
        panes::tree(frame, screen, lower);
    } else {
        panes::answers(frame, screen, lower);
    }
    draw_line(frame, screen, line);
    draw_foot(frame, screen, foot);
}

fn draw_upper(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    if area.width < 70 {
        let [points, values] = Layout::horizontal([Constraint::Length(24), Constraint::Fill(1)]).areas(area);
        panes::points(frame, screen, points);
        return panes::values(frame, screen, values);
    }
    let watches = Constraint::Length((area.width / 4).max(24));
    let parts = [Constraint::Length(24), Constraint::Fill(1), watches];
    let [points, values, watches] = Layout::horizontal(parts).areas(area);
    panes::points(frame, screen, points);
    panes::values(frame, screen, values);
    panes::watches(frame, screen, watches);
}

fn draw_head(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let context = screen.session.context();
    let prompt = context.prompt.map_or("no prompt".to_owned(), |name| format!("prompt {name}"));
    let at = match screen.session.point() {
        Some(point) => format!("at {point}"),
        None if screen.session.finished() => "the run is over".to_owned(),
        None => "before the first point".to_owned(),
    };
    let edits = match context.edits.len() {
        0 => "no edits".to_owned(),
        1 => "1 edit".to_owned(),
        n => format!("{n} edits"),
    };
    let stop = screen.stop.as_ref().map_or(String::new(), |stop| format!(" │ {stop}"));
    let text = format!(" model {} │ {prompt} │ {at} │ {edits}{stop}", context.model);
    let style = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Line::styled(padded(&text, usize::from(area.width)), style), area);
}

fn draw_line(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    if let Some(work) = &screen.running {
        let text = match work {
            Work::Line(line) => format!("{PROMPT}{line}   (running)"),
            Work::Deeper(_) => format!("{PROMPT}(opens the backtrace)"),
        };
        frame.render_widget(Line::raw(cut(&text, usize::from(area.width))), area);
        return;
    }
    // The part of the line around the cursor, where it is longer than the window.
    let room = usize::from(area.width) - PROMPT.len() - 1;
    let begun = screen.input.begun();
    let mut hidden = 0;
    while width(&begun[hidden..]) > room {
        hidden += begun[hidden..].chars().next().map_or(1, char::len_utf8);
    }
    let text = format!("{PROMPT}{}", &screen.input.text()[hidden..]);
    frame.render_widget(Line::raw(text), area);
    if screen.focus == Pane::Command {
        let x = area.x + (PROMPT.len() + width(&begun[hidden..])) as u16;
        frame.set_cursor_position(Position::new(x, area.y));
    }
}

fn draw_foot(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let room = usize::from(area.width);
    // A row of the tree may be longer than its pane.
    let row = screen.tree.as_ref().filter(|_| screen.focus == Pane::Tree).and_then(|tree| {
        let rows = tree.rows();
        rows.get(tree.selected).map(|row| row.text.clone())
    });
    let text = if let Some(row) = row {
        format!(" {row}")
    } else if screen.candidates.is_empty() {
        const HINTS: [&str; 9] = [
            "F1 help",
            "F5 continue",
            "F8 next",
            "F10 step",
            "F9 break",
            "Tab pane",
            "Enter run",
            "F7 restart",
            "Ctrl-D quit",
        ];
        let mut text = String::from(" ");
        for hint in HINTS {
            if width(&text) + width(hint) < room {
                text += hint;
                text += "  ";
            }
        }
        text
    } else {
        format!(" {}", screen.candidates.join("  "))
    };
    frame.render_widget(Line::styled(cut(&text, room), Style::new().add_modifier(Modifier::DIM)), area);
}
