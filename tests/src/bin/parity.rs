//! `cargo xtask parity DIR`: one line per fixture folder under DIR; exit code 1 if any fails.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1) else {
        eprintln!("error: usage: parity DIR, where DIR holds fixture folders (or is one)");
        return ExitCode::from(2);
    };
    match openwork_tests::parity::folder(dir.as_ref()) {
        Ok(reports) => {
            reports.iter().for_each(|report| println!("{report}"));
            if reports.iter().all(openwork_tests::parity::Report::passes) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
