//! The panes. State is told by marks and weight of type, and by colour only beside these.

use openwork_debug::{Place, Point};
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, BorderType, Paragraph},
};

use super::{
    state::{Pane, Screen},
    text::{bar, cut, padded, width, wrapped},
    tree::{Fold, Row},
};

const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// Mark of the point of the run.
const HERE: &str = "▶";
/// Mark of a breakpoint.
const STOPS: &str = "●";

/// A border with a title, thick where the keys go to it; the room inside.
fn framed(frame: &mut Frame<'_>, screen: &Screen, pane: Option<Pane>, title: &str, area: Rect) -> Rect {
    let focused = pane == Some(screen.focus);
    let kind = if focused { BorderType::Thick } else { BorderType::Plain };
    let style = if focused { Style::new().fg(Color::Cyan) } else { Style::new() };
    let title = Span::styled(cut(&format!(" {title} "), usize::from(area.width.saturating_sub(2))), BOLD);
    let block = Block::bordered().border_type(kind).border_style(style).title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

/// First of the rows that are shown so that `chosen` is among them, a third from the top where there are more.
fn first_row(chosen: usize, rows: usize, room: usize) -> usize {
    chosen.saturating_sub(room / 3).min(rows.saturating_sub(room))
}

fn show(frame: &mut Frame<'_>, lines: Vec<Line<'_>>, area: Rect) {
    frame.render_widget(Paragraph::new(lines), area);
}

/// Tokens in rows of at most `cells` cells: the range of each row.
fn token_rows(texts: &[String], cells: usize) -> Vec<std::ops::Range<usize>> {
    let (mut rows, mut from, mut taken) = (vec![], 0, 0);
    for (i, text) in texts.iter().enumerate() {
        let wide = width(text) + 1;
        if taken + wide > cells && i > from {
            rows.push(from..i);
            (from, taken) = (i, 0);
        }
        taken += wide;
    }
    if from < texts.len() {
        rows.push(from..texts.len());
    }
    rows
}

/// Tokens with their positions and marks.
fn token_texts(screen: &Screen) -> Vec<String> {
    let Ok(prompt) = screen.session.prompt() else { return vec![] };
    let length = prompt.tokens.len();
    let breakpoints = screen.session.breakpoints();
    let stops =
        |position: usize| breakpoints.iter().any(|b| b.position.is_some_and(|at| at.of(length) == Some(position)));
    let here = screen.session.point().map(|point| point.position);
    let vocabulary = screen.session.names().vocabulary;
    let text = |(i, &token): (usize, &u16)| {
        let marks = [(here == Some(i), HERE), (stops(i), STOPS)];
        let marks: String = marks.iter().filter(|(holds, _)| *holds).map(|(_, mark)| *mark).collect();
        format!("{marks}{i}:{}", vocabulary.quoted(token))
    };
    prompt.tokens.iter().enumerate().map(text).collect()
}

/// Rows that the tokens of the prompt take in a window of a width.
pub fn rows_of_tokens(screen: &Screen, width: u16) -> usize {
    token_rows(&token_texts(screen), usize::from(width.saturating_sub(2))).len()
}

/// The source: tokens of the prompt, with the position of the run and the one that is looked at.
pub fn tokens(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let texts = token_texts(screen);
    let title = match screen.session.prompt() {
        Ok(prompt) => {
            let quoted = |token| screen.session.names().vocabulary.quoted(token);
            let answers = prompt
                .answers
                .map(|[right, wrong]| format!(": answer {}, alternative {}", quoted(right), quoted(wrong)));
            format!("prompt {}, {} tokens{}", prompt.name, texts.len(), answers.unwrap_or_default())
        }
        Err(_) => "no prompt yet".to_owned(),
    };
    let inner = framed(frame, screen, Some(Pane::Tokens), &title, area);
    let rows = token_rows(&texts, usize::from(inner.width));
    let chosen = screen.point().map_or(0, |point| point.position);
    let row = rows.iter().position(|row| row.contains(&chosen)).unwrap_or(0);
    let room = usize::from(inner.height);
    let line = |row: &std::ops::Range<usize>| {
        let spans = row.clone().flat_map(|i| {
            let style = if i == chosen { CHOSEN } else { Style::new() };
            [Span::styled(texts[i].clone(), style), Span::raw(" ")]
        });
        Line::from_iter(spans)
    };
    let lines = rows.iter().skip(first_row(row, rows.len(), room)).take(room).map(line).collect();
    show(frame, lines, inner);
}

/// Points of execution: sites in the order of the pass, with the run's and the breakpoints.
pub fn points(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let inner = framed(frame, screen, Some(Pane::Points), "points", area);
    let (run, looked) = (screen.session.point(), screen.point());
    let breakpoints = screen.session.breakpoints();
    let places = screen.session.places();
    let room = usize::from(inner.height);
    let at = looked.and_then(|point| places.iter().position(|place| *place == point.place)).unwrap_or(0);
    let line = |place: &Place| {
        let here = if run.is_some_and(|point| point.place == *place) { HERE } else { " " };
        let stops = if breakpoints.iter().any(|b| b.place == Some(*place)) { STOPS } else { " " };
        let chosen = looked.is_some_and(|point| point.place == *place);
        let text = padded(&format!("{here}{stops}{place}"), usize::from(inner.width));
        Line::styled(text, if chosen { CHOSEN } else { Style::new() })
    };
    let lines = places.iter().skip(first_row(at, places.len(), room)).take(room).map(line).collect();
    show(frame, lines, inner);
}

/// Values at the point that is looked at, with bars.
pub fn values(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let entries = screen.entries();
    let ahead = |point: Point| match screen.session.point() {
        Some(run) => point > run,
        None => !screen.session.finished(),
    };
    let title = screen.point().map_or("values".to_owned(), |point| {
        format!("{point} ({}){}", entries.len(), if ahead(point) { ", ahead" } else { "" })
    });
    let inner = framed(frame, screen, Some(Pane::Values), &title, area);
    let most = entries.iter().map(|entry| f64::from(entry.value.abs())).fold(0.0, f64::max);
    // The title says the site.
    let short = |name: &str| {
        let index = name.rfind('[').filter(|_| !name.starts_with("logit"));
        let token = name.strip_prefix("logit(").and_then(|rest| rest.strip_suffix(')'));
        token.map_or_else(|| name[index.unwrap_or(0)..].to_owned(), str::to_owned)
    };
    let room = usize::from(inner.height);
    let chosen = screen.value.min(entries.len().saturating_sub(1));
    let first = first_row(chosen, entries.len(), room);
    let shown: Vec<_> = entries.iter().enumerate().skip(first).take(room).collect();
    let names = shown.iter().map(|(_, entry)| width(&short(&entry.name))).max().unwrap_or(0).clamp(6, 16);
    let labels = shown.iter().filter_map(|(_, e)| e.label.as_ref()).map(|l| width(l) + 1).max().unwrap_or(0);
    let cells = usize::from(inner.width);
    let labels = labels.min(cells.saturating_sub(names + 20));
    let bars = cells.saturating_sub(names + 13 + labels);
    let line = |(i, entry): &(usize, &openwork_debug::Entry)| {
        let value = f64::from(entry.value);
        let style = if *i == chosen && screen.focus == Pane::Values { CHOSEN } else { Style::new() };
        let colour = if value < 0.0 { Color::Yellow } else { Color::Blue };
        let name = Span::styled(padded(&short(&entry.name), names), style);
        let number = Span::styled(format!("{value:>+11.5} "), style);
        let bar = Span::styled(padded(&bar(value.abs() / most, bars), bars), Style::new().fg(colour));
        let label = cut(entry.label.as_deref().unwrap_or_default(), labels.saturating_sub(1));
        Line::from(vec![name, number, bar, Span::raw(format!(" {label}"))])
    };
    show(frame, shown.iter().map(line).collect(), inner);
}

/// Watches with the values that they had last, breakpoints, and edits in force.
pub fn watches(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let inner = framed(frame, screen, None, "watches, breaks", area);
    let mut texts = vec![];
    for watch in screen.session.watches() {
        let last = watch.last.map_or("-".to_owned(), |last| format!("{last:.5}"));
        texts.push(format!("{} {} = {last}", watch.number, watch.text));
    }
    texts.extend(screen.session.breakpoints().iter().map(|b| format!("{STOPS}{} {}", b.number, b.text)));
    texts.extend(screen.session.context().edits.iter().map(|edit| format!("edit {edit}")));
    let lines: Vec<String> = texts.iter().flat_map(|text| wrapped(text, usize::from(inner.width))).collect();
    // The latest are the ones that somebody works with.
    let skipped = lines.len().saturating_sub(usize::from(inner.height));
    show(frame, lines[skipped..].iter().map(|line| Line::raw(line.as_str())).collect(), inner);
}

/// Answers of commands: the last one from its beginning, unless it is scrolled.
pub fn answers(frame: &mut Frame<'_>, screen: &mut Screen, area: Rect) {
    let [room, cells] = [area.height, area.width].map(|side| usize::from(side.saturating_sub(2)));
    let rows = |lines: &[String]| -> Vec<String> {
        lines.iter().flat_map(|line| wrapped(if line.is_empty() { " " } else { line }, cells)).collect()
    };
    let lines = rows(&screen.answers);
    if let Some(top) = screen.top.take() {
        screen.scrolled = rows(&screen.answers[top..]).len().saturating_sub(room);
    }
    screen.scrolled = screen.scrolled.min(lines.len().saturating_sub(room));
    let title = match screen.scrolled {
        0 => "answers".to_owned(),
        below => format!("answers, {below} more below (PageDown)"),
    };
    let inner = framed(frame, screen, Some(Pane::Answers), &title, area);
    let end = lines.len() - screen.scrolled;
    let line = |line: &String| {
        let style = if line.starts_with("> ") { BOLD } else { Style::new() };
        Line::styled(line.clone(), style)
    };
    show(frame, lines[end.saturating_sub(room)..end].iter().map(line).collect(), inner);
}

/// The backtrace.
pub fn tree(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let Some(tree) = &screen.tree else { return };
    let old = if screen.tree_is_old() { " (of another prompt or other edits)" } else { "" };
    let title = format!("backtrace: {} = {:.6}{old}", tree.title, tree.backtrace.value);
    let inner = framed(frame, screen, Some(Pane::Tree), &title, area);
    let (rows, effects) = (tree.rows(), tree.has_effects());
    let (room, cells) = (usize::from(inner.height), usize::from(inner.width));
    let bars = cells / 8;
    let line = |(i, row): (usize, &Row)| {
        let part = row.part.map_or(" ".repeat(11), |part| format!("{part:>+11.5}"));
        let effect = match (effects, row.effect) {
            (false, _) => String::new(),
            (true, Some(effect)) => format!("{effect:>+11.5}"),
            (true, None) => format!("{:>11}", "-"),
        };
        let mark = match row.fold {
            Fold::Leaf => " ",
            Fold::Closed => "▸",
            Fold::Open => "▾",
        };
        let chosen = i == tree.selected && screen.focus == Pane::Tree;
        let colour = if row.part.is_some_and(|part| part < 0.0) { Color::Yellow } else { Color::Blue };
        let text = format!(" {}{mark} {}", "  ".repeat(row.depth), row.text);
        let taken = width(&part) + width(&effect) + 1 + bars;
        Line::from(vec![
            Span::styled(format!("{part}{effect} "), if row.fold == Fold::Leaf { DIM } else { Style::new() }),
            Span::styled(padded(&bar(row.share, bars), bars), Style::new().fg(colour)),
            Span::styled(padded(&text, cells.saturating_sub(taken)), if chosen { CHOSEN } else { Style::new() }),
        ])
    };
    let first = first_row(tree.selected, rows.len(), room);
    show(frame, rows.iter().enumerate().skip(first).take(room).map(line).collect(), inner);
}
