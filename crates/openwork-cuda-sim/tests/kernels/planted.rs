//! The simulator finds what is planted in `bugs/bugs.cu`, and lets the same without bugs pass.

use openwork_cuda_sim::{Arg, Config, Error, launch, signature};

fn one_block(threads: u32) -> Config {
    Config { grid: [1, 1, 1], block: [threads, 1, 1], shared: 0 }
}

fn stopped(result: Result<(), Error>) -> String {
    match result.unwrap_err() {
        Error::Stopped { what, .. } => what,
        other => panic!("{other}"),
    }
}

#[test]
fn sound_kernels_pass() {
    let x: Vec<f32> = (0..192).map(|i| i as f32).collect();
    let mut out = [0.0_f32; 3];
    let config = Config { grid: [3, 1, 1], ..one_block(64) };
    launch("sound_sum", config, &mut [Arg::read(&x), Arg::write(&mut out)]).unwrap();
    assert_eq!(out, [2016.0, 6112.0, 10_208.0]);
}

#[test]
fn a_missing_barrier() {
    let (x, mut out) = ([1.0_f32; 64], [0.0_f32]);
    let result = launch("bug_missing_barrier", one_block(64), &mut [Arg::read(&x), Arg::write(&mut out)]);
    assert!(matches!(result, Err(Error::DependsOnOrder { argument: 1, .. })), "{result:?}");
}

#[test]
fn divergent_collectives_and_barriers() {
    let mut y = [0.0_f32; 32];
    let what = stopped(launch("bug_divergent_collective", one_block(32), &mut [Arg::write(&mut y)]));
    assert!(what.contains("names a lane that has ended"), "{what}");
    let what = stopped(launch("bug_divergent_barrier", one_block(32), &mut [Arg::write(&mut y)]));
    assert!(what.contains("deadlock: 16 of 32 threads wait at a barrier"), "{what}");
    let what = stopped(launch("bug_foreign_lane", one_block(32), &mut [Arg::write(&mut y)]));
    assert!(what.contains("a lane that its mask does not name (block 0,0,0, thread"), "{what}");
}

#[test]
fn shared_memory_that_nobody_wrote() {
    let mut y = [0.0_f32; 32];
    launch("bug_uninitialised_shared", one_block(32), &mut [Arg::write(&mut y)]).unwrap();
    assert!(y[0].is_nan() && y[1..].iter().all(|&y| y == 1.0));
    let config = Config { shared: 128, ..one_block(32) };
    launch("bug_uninitialised_dynamic", config, &mut [Arg::write(&mut y)]).unwrap();
    assert!(y.iter().all(|y| y.is_nan()));
}

#[test]
#[cfg_attr(sanitized, ignore = "the address sanitizer ends the process")]
fn a_guard_that_is_too_wide() {
    let mut y = [0.0_f32; 40];
    let config = Config { grid: [2, 1, 1], ..one_block(32) };
    let result = launch("bug_guard_too_wide", config, &mut [Arg::write(&mut y), Arg::U32(40)]);
    assert!(matches!(result, Err(Error::Stray { argument: 0, at: 160, place: "behind it", .. })), "{result:?}");
}

#[test]
fn a_guard_that_is_too_narrow() {
    let mut y = [0.0_f32; 40];
    let config = Config { grid: [2, 1, 1], ..one_block(32) };
    let result = launch("bug_guard_too_narrow", config, &mut [Arg::write(&mut y), Arg::U32(40)]);
    assert!(matches!(result, Err(Error::Unwritten { argument: 0, at: 156, .. })), "{result:?}");
}

#[test]
fn inputs_that_are_written() {
    let x = [0.0_f32; 32];
    let result = launch("bug_writes_input", one_block(32), &mut [Arg::read(&x)]);
    assert!(matches!(result, Err(Error::Stray { place: "which is only to be read", .. })), "{result:?}");
}

#[test]
fn calls_that_do_not_fit() {
    assert_eq!(signature("bug_guard_too_wide").as_deref(), Some("pu"));
    let result = launch("no_such", one_block(1), &mut []);
    assert_eq!(result.unwrap_err().to_string(), "there is no kernel no_such");
    let result = launch("bug_guard_too_wide", one_block(1), &mut [Arg::U32(1)]);
    assert!(result.unwrap_err().to_string().contains(r#"takes arguments "pu" and not "u""#));
}

/// Reads that nobody would notice: the address sanitizer ends the process, so that it happens in another one.
#[test]
#[cfg_attr(not(sanitized), ignore = "needs OPENWORK_SANITIZE=1")]
fn reads_out_of_bounds() {
    const CHILD: &str = "OPENWORK_READS_OUT_OF_BOUNDS";
    if std::env::var_os(CHILD).is_some() {
        let (x, mut y) = (vec![1.0_f32; 32], vec![0.0_f32; 32]);
        launch("bug_read_out_of_bounds", one_block(32), &mut [Arg::read(&x), Arg::write(&mut y), Arg::U32(32)])
            .unwrap();
        return;
    }
    let test = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "planted::reads_out_of_bounds", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&test.stderr);
    assert!(!test.status.success() && text.contains("bugs.cu"), "{text}");
    assert!(text.contains("AddressSanitizer") && text.contains("READ of size 4"), "{text}");
}
