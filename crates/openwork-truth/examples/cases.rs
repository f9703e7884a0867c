//! Lists the ground-truth cases: model, size of the claimed and of the true circuit, and the expected verdict.
//!
//! `cargo run --release -p openwork-truth --example cases -- SEED`

use openwork_truth::zoo::CaseKind;

fn main() -> Result<(), std::num::ParseIntError> {
    let seed = std::env::args().nth(1).map_or(Ok(0), |seed| seed.parse())?;
    println!("{:<20} {:<24} {:>6} {:>8} {:>6}  expected", "case", "model", "nodes", "claimed", "true");
    for kind in CaseKind::all() {
        let case = kind.build(1.0, seed);
        let truth = case.truth.as_ref().map_or("-".to_owned(), |truth| truth.len().to_string());
        println!(
            "{:<20} {:<24} {:>6} {:>8} {truth:>6}  {:?}",
            kind.name(),
            case.host,
            case.circuit.space().len(),
            case.circuit.len(),
            case.expected
        );
    }
    Ok(())
}
