//! Results and errors of commands on the terminal.
//!
//! Results go to standard output; progress, notices and errors to standard error.

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use anyhow::Result;
use openwork_tensor::quoted_bytes;
use openwork_verify::Estimate;

/// A result on standard output; a reader that went away ends the command quietly (see [`finish`]).
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($text)*)?
    }};
}
pub(crate) use say;

/// A share with its 95 % interval, such as `98 % [93, 100]`.
pub fn percent(share: &Estimate) -> String {
    let [mean, low, high] = [share.mean, share.ci95.0, share.ci95.1].map(|x| 100.0 * x);
    format!("{mean:.0} % [{low:.0}, {high:.0}]")
}

/// Turns a command's outcome into the exit code, with `error: .. caused by: ..` on standard error.
pub fn finish(outcome: Result<ExitCode>) -> ExitCode {
    let error = match outcome {
        Ok(code) => return code,
        Err(error) => error,
    };
    let closed = |e: &std::io::Error| e.kind() == ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(closed) {
        return ExitCode::SUCCESS; // `openwork ... | head`
    }
    let mut stderr = std::io::stderr().lock();
    let mut above = plain(&error.to_string());
    let _ = writeln!(stderr, "error: {above}");
    for cause in error.chain().skip(1).map(|cause| plain(&cause.to_string())) {
        // Some messages quote their cause.
        if !above.contains(&cause) {
            let _ = writeln!(stderr, "caused by: {cause}");
        }
        above = cause;
    }
    ExitCode::from(2)
}

/// Says in words that the program is at fault, should it ever panic. A tokenizer on trial may: that is an error of its file.
pub fn explain_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if std::thread::current().name() == Some(openwork_data::TRIAL_THREAD) {
            return;
        }
        let payload = panic.payload();
        let words = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
        let place = panic.location().map_or(String::new(), |place| format!(" ({}:{})", place.file(), place.line()));
        eprintln!("error: this is a fault of openwork{place}: {}", words.unwrap_or("no reason is known"));
        eprintln!("please report it with the command and its input; RUST_BACKTRACE=1 says more");
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
        }
    }));
}

/// `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// A token in JSON: its text, or where its bytes are none, the bytes as tables have them, such as `\xC3`. Ids tell for sure.
pub fn token_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => quoted_bytes(bytes).trim_matches('"').to_owned(),
    }
}

/// A message of a parser with words for the names of Rust's types.
fn plain(message: &str) -> String {
    const WORDS: [(&[&str], &str); 3] = [
        (&["u8", "u16", "u32", "u64", "usize"], "a whole number of at least 0"),
        (&["i8", "i16", "i32", "i64", "isize"], "a whole number"),
        (&["f32", "f64"], "a number"),
    ];
    const EXPECTED: &str = "expected ";
    let mut parts = message.split(EXPECTED);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text += EXPECTED;
        let end = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, rest) = part.split_at(end(part));
        let word = WORDS.iter().find(|(names, _)| names.contains(&name)).map(|(_, word)| *word);
        let named = ["struct ", "internally tagged enum "].iter().find_map(|kind| part.strip_prefix(kind));
        match (word, named) {
            (Some(word), _) => text += &format!("{word}{rest}"),
            (None, Some(named)) => text += &format!("an object{}", &named[end(named)..]),
            (None, None) => text += part,
        }
    }
    text
}

/// Prints rows under a head: the first column to the left, the others to the right.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or_default()
    };
    let head = head.map(str::to_owned);
    for row in [&head].into_iter().chain(rows) {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<width$}", width = width(column)),
            _ => format!("{cell:>width$}", width = width(column)),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        say!("  {}", line.trim_end());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn types_of_rust_have_words() {
        for (message, words) in [
            (
                "invalid value: integer `-1`, expected u64 at line 1",
                "invalid value: integer `-1`, expected a whole number of at least 0 at line 1",
            ),
            ("invalid type: string, expected f64", "invalid type: string, expected a number"),
            (
                "invalid type: string \"x\", expected struct Label at line 2",
                "invalid type: string \"x\", expected an object at line 2",
            ),
            ("invalid type: map, expected internally tagged enum Search", "invalid type: map, expected an object"),
            ("expected `a` or `b`, expected u64s", "expected `a` or `b`, expected u64s"),
            ("nothing of the kind", "nothing of the kind"),
        ] {
            assert_eq!(plain(message), words);
        }
    }
}
