//! Results and errors of commands on the terminal.
//!
//! Results go to standard output; progress, notices and errors to standard error.

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use anyhow::Result;

/// A result on standard output; a reader that went away ends the command quietly (see [`finish`]).
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($text)*)?
    }};
}
pub(crate) use say;

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
    let mut above = error.to_string();
    let _ = writeln!(stderr, "error: {above}");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some messages quote their cause.
        if !above.contains(&cause) {
            let _ = writeln!(stderr, "caused by: {cause}");
        }
        above = cause;
    }
    ExitCode::from(2)
}

/// `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
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
