//! Our programs mean what Tracr's of the same names mean: its outputs on all inputs are in `tests/tracr/golden.json`, which
//! `tests/tracr/golden.py` made.

use openwork_truth::{Input, Program};
use serde_json::Value;

/// Tracr's answer to an input, in the words of our vocabulary.
fn tracr(golden: &Value, program: Program, input: &Input) -> String {
    let i = input.question;
    // A question about a prefix is Tracr's program on the prefix.
    let symbols = match program {
        Program::Dyck1 | Program::Dyck2 => &input.symbols[..=i],
        _ => &input.symbols[..],
    };
    let name = |&s: &usize| match program {
        Program::Sort => (s + 1).to_string(),
        _ => program.symbols()[s].to_owned(),
    };
    let x: String = symbols.iter().map(name).collect();
    let outputs = golden[program.name()][&x].as_str().unwrap_or_else(|| panic!("{}: no {x}", program.name()));
    let output = |i: usize| outputs.split(' ').nth(i).expect("one for each place");
    match program {
        Program::Sort => program.symbols()[output(i).parse::<usize>().unwrap() - 1].to_owned(),
        Program::Histogram => format!("{} times", output(i)),
        Program::Dyck1 | Program::Dyck2 => (if outputs == "1" { "yes" } else { "no" }).to_owned(),
        _ => output(i).to_owned(),
    }
}

#[test]
fn programs_mean_what_they_mean_in_tracr() {
    let golden: Value = serde_json::from_str(include_str!("../tracr/golden.json")).unwrap();
    use Program::*;
    for program in [Reverse, Sort, Histogram, FractionPrevious, Dyck1, Dyck2] {
        let inputs = program.inputs(program.n_min()..=program.n_max());
        for input in &inputs {
            let ours = &program.vocabulary()[program.interpret(input)];
            assert_eq!(*ours, tracr(&golden, program, input), "{} of {input:?}", program.name());
        }
        assert!(inputs.len() >= 200);
    }
}
