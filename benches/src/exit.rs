//! Exit codes of the programs.

use std::process::ExitCode;

use anyhow::Result;

/// 0, or 2 after an error, which is printed on one line.
pub fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
