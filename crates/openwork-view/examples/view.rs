//! Everything that a page knows of a model's circuits, without the page: `cargo run --example view -- MODEL`.

use std::path::PathBuf;

use openwork_view::{View, ViewError};

fn main() -> Result<(), ViewError> {
    let targets: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let targets = if targets.is_empty() { vec!["quickstart-localised".into()] } else { targets };
    let view = View::open(&targets)?;
    for (number, circuit) in view.catalogue().circuits.iter().enumerate() {
        println!("{}: {}", circuit.name, circuit.verdict);
        let graph = view.graph(number)?;
        for edge in graph.edges {
            let [from, to] = [edge.from, edge.to].map(|node| &graph.nodes[node].name);
            println!("  {from} -> {to} {}", edge.weight.map_or(String::new(), |weight| format!("{weight:+.3}")));
        }
    }
    Ok(())
}
