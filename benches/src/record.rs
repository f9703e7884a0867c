//! Results as they are printed and kept.

use std::fmt::Display;

/// Lines of results: printed at once, and remembered for the file beside the samples.
#[derive(Default)]
pub struct Record {
    text: String,
}

impl Record {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One or more lines.
    pub fn line(&mut self, line: impl Display) {
        let line = line.to_string();
        println!("{line}");
        self.text.push_str(&line);
        self.text.push('\n');
    }

    /// A line for programs, `METRIC name value unit`; blanks in the name become underscores.
    pub fn metric(&mut self, name: &str, value: f64, unit: &str) {
        self.line(format!("METRIC {} {} {unit}", name.replace(char::is_whitespace, "_"), significant(value, 5)));
    }

    /// All lines so far.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// `value` with that many significant digits, never in exponents.
pub(crate) fn significant(value: f64, digits: i32) -> String {
    let magnitude = if value == 0.0 || !value.is_finite() { 0 } else { value.abs().log10().floor() as i32 };
    format!("{value:.*}", (digits - 1 - magnitude).max(0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        let numbers = [0.000012345678, 1.0, 123456.7, 0.0].map(|v| significant(v, 5));
        assert_eq!(numbers, ["0.000012346", "1.0000", "123457", "0.0000"]);
    }

    #[test]
    fn a_record_remembers_what_it_printed() {
        let mut record = Record::new();
        record.metric("a b", 2.0, "s");
        assert_eq!(record.text(), "METRIC a_b 2.0000 s\n");
    }
}
