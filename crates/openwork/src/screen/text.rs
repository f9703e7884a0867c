//! Text in cells of a terminal.

use ratatui::text::Span;

/// Cells that a text takes.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// Lines of a text of at most `cells` cells each; those that continue one are set in by its own indent and two cells.
pub fn wrapped(text: &str, cells: usize) -> Vec<String> {
    let mut lines = vec![];
    for line in text.lines() {
        let indent: String = line.chars().take_while(|c| *c == ' ').take(cells / 2).collect();
        let (mut row, mut taken) = (String::new(), 0);
        for c in line.chars() {
            let wide = width(c.encode_utf8(&mut [0; 4]));
            if taken + wide > cells && taken > 0 {
                lines.push(std::mem::replace(&mut row, format!("{indent}  ")));
                taken = width(&row);
            }
            row.push(c);
            taken += wide;
        }
        lines.push(row);
    }
    lines
}

/// The text, cut to `cells` cells with an ellipsis where it is longer.
pub fn cut(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    let (mut kept, mut taken) = (String::new(), 0);
    for c in text.chars() {
        taken += width(c.encode_utf8(&mut [0; 4]));
        if taken + 1 > cells {
            break;
        }
        kept.push(c);
    }
    if cells > 0 {
        kept.push('…');
    }
    kept
}

/// The text, filled with spaces to `cells` cells or cut to them.
pub fn padded(text: &str, cells: usize) -> String {
    let mut text = cut(text, cells);
    text += &" ".repeat(cells.saturating_sub(width(&text)));
    text
}

/// A bar of `share` (0 to 1) of `cells` cells, in eighths of a cell.
pub fn bar(share: f64, cells: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let eighths = (share * cells as f64 * 8.0).round() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_wrapped_by_cells_and_not_by_characters() {
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(padded("ab", 4), "ab  ");
        assert_eq!(wrapped("  abcdef", 5), ["  abc", "    d", "    e", "    f"]);
        assert_eq!(wrapped("日本語", 4), ["日本", "  語"]);
        assert_eq!(wrapped("a\n\nb", 4), ["a", "", "b"]);
    }

    #[test]
    fn a_bar_is_in_eighths() {
        assert_eq!(bar(0.5, 3), "█▌");
        assert_eq!([bar(2.0, 2), bar(f64::NAN, 2)], ["██".to_owned(), String::new()]);
    }
}
