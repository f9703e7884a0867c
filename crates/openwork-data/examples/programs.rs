//! Prints the first programs of a seed: `cargo run --example programs -- SEED COUNT`.

use openwork_data::Programs;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse().expect("a number"));
    let seed = arguments.next().unwrap_or(0);
    let count = arguments.next().unwrap_or(5);
    for program in Programs::new(seed).take(count as usize) {
        println!("{program}# ----");
    }
}
