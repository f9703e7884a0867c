//! `cargo xtask parity DIR [DEVICE]`: one line per fixture folder under DIR; exit code 1 if any fails.

use std::process::ExitCode;

use openwork_ops::DeviceChoice;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (dir, device, rest) = (args.next(), args.next(), args.next());
    let device = device.map_or(Ok(DeviceChoice::Cpu), |name| name.to_string_lossy().parse());
    let (Some(dir), Ok(device), None) = (dir, device, rest) else {
        eprintln!("error: usage: parity DIR [cpu|cuda|cuda:N], where DIR holds fixture folders (or is one)");
        return ExitCode::from(2);
    };
    let reports = device
        .open(|reason| eprintln!("on the CPU: {reason}"))
        .map_err(Into::into)
        .and_then(|device| openwork_tests::parity::folder(dir.as_ref(), &device));
    match reports {
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
