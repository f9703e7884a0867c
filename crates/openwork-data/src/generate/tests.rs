//! Programs parse, repeat, and contain what the published tasks ask about.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::Programs;

#[test]
fn a_program_depends_on_seed_and_index_only() {
    let in_order: Vec<String> = Programs::new(11).take(50).collect();
    for index in [0_u64, 7, 49] {
        assert_eq!(in_order[index as usize], Programs::program(11, index));
    }
    let later: Vec<String> = Programs::starting_at(11, 40).take(10).collect();
    assert_eq!(in_order[40..], later);
    assert_ne!(in_order[0], Programs::program(12, 0));
}

#[test]
fn programs_differ_and_have_a_readable_length() {
    let programs: Vec<String> = Programs::new(1).take(4000).collect();
    let distinct: HashSet<&String> = programs.iter().collect();
    assert_eq!(distinct.len(), programs.len());
    let mut lengths: Vec<usize> = programs.iter().map(|p| p.lines().count()).collect();
    lengths.sort_unstable();
    let at = |percent: usize| lengths[(lengths.len() - 1) * percent / 100];
    assert!(at(5) >= 5 && at(95) <= 60 && at(50) >= 12 && at(50) <= 32, "{} {} {}", at(5), at(50), at(95));
}

/// The construct that each task asks about occurs at least this often in a thousand programs.
#[test]
fn every_phenomenon_is_frequent() {
    let text: String = Programs::new(2).take(1000).collect();
    let wanted = [
        ("('", 300),
        ("(\"", 300),
        ("')\n", 300),
        ("\")\n", 300), // single_double_quote
        ("=None", 150),
        ("):\n", 500), // final_kwarg
        (" = set()\n", 150),
        (".add(", 150),
        (" = \"\"\n", 60),
        (" = ''\n", 60),
        (" += ", 150), // set_or_string
        ("current = set()", 20),
        ("current.add(", 20),
        ("current += ", 20), // set_or_string_fixedvarname
        ("    self.", 300),  // class_init
        ("\") as ", 30),
        ("') as ", 30),
        (" = open(", 40),
        ("\") if ", 8),
        ("') if ", 8), // with_as
        ("\": ", 100),
        ("\", \"", 50), // bracket_brace
        ("\"r\")", 15),
        ("\"w\")", 20),
        ("'r')", 15),
        ("'w')", 20), // with_open
        ("]]\n", 150),
        ("]\n", 300), // bracket_counting
        ("for ", 500),
        ("while ", 200), // for_while
        ("else:\n", 150),
        ("elif ", 100), // else_elif
        ("(f\"", 70),
        ("(f'", 70),    // fstring_brace
        (" if ", 60),   // if_ternary
        (", a = a", 1), // var_swap
        ("lambda ", 60),
        ("def ", 800), // lambda_func
        (" == ", 400),
        (" = ", 2000), // if_equals
        ("in enumerate(", 100),
        ("in range(", 100), // enumerate_range
        (" == True:\n", 20),
        (" = True\n", 150), // var_if
        ("while True:\n", 60),
        ("return True\n", 150), // while_return_true
    ];
    let counts: Vec<(&str, usize, usize)> =
        wanted.iter().map(|(p, least)| (*p, text.matches(p).count(), *least)).collect();
    let rare: Vec<_> = counts.iter().filter(|(_, count, least)| count < least).collect();
    assert!(rare.is_empty(), "too rare (phenomenon, count, least): {rare:?}");
}

/// A string that a line opens is closed on that line with the same mark.
#[test]
fn calls_close_their_strings_with_the_mark_that_opened_them() {
    for program in Programs::new(3).take(2000) {
        for line in program.lines().filter(|line| !line.trim_start().starts_with('#') && !line.contains("\"\"\"")) {
            let mut open = None;
            for mark in line.chars().filter(|c| matches!(c, '"' | '\'')) {
                open = match open {
                    None => Some(mark),
                    Some(opened) => {
                        assert_eq!(opened, mark, "{line}");
                        None
                    }
                };
            }
            assert_eq!(open, None, "{line}");
        }
    }
}

/// Every program is Python: CPython's own parser reads it.
#[test]
fn cpython_parses_every_program() {
    const CHECK: &str =
        "import ast, json, sys\nn = 0\nfor line in sys.stdin:\n    ast.parse(json.loads(line))\n    n += 1\nprint(n)\n";
    let spawned = Command::new("python3").args(["-c", CHECK]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut python) = spawned else {
        eprintln!("SKIPPED cpython_parses_every_program: there is no python3 here");
        return;
    };
    let mut input = python.stdin.take().expect("stdin is piped");
    for program in Programs::new(5).take(5000) {
        let line = serde_json::to_string(&program).expect("a String is JSON");
        if writeln!(input, "{line}").is_err() {
            break;
        }
    }
    drop(input);
    let output = python.wait_with_output().expect("python3 ran");
    assert!(output.status.success(), "a program does not parse (see the traceback above)");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "5000");
}

/// Corpora are named by their seed; these hashes were taken when files came to be opened on a condition.
#[test]
fn programs_of_a_seed_stay_the_same() {
    let hash = |seed| {
        let text: String = Programs::new(seed).take(1000).collect();
        openwork_tensor::sha256_bytes(text.as_bytes())
    };
    let recorded = [
        "1d2fba3b147ef9372f5f93431b8b7e6b7551a557f5588e18e6b2746f241b48d2",
        "fc425ea49c62fe6be4052fc008c2634fa22a64507aa5be46d7368e9aedba646a",
    ];
    assert_eq!([1, 42].map(hash), recorded);
}
