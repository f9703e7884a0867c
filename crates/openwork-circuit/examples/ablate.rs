//! Loss of a random model with the MLP of each block, or each attention head, at zero: `cargo run --example ablate`.

use openwork_circuit::{Ablation, Calibration, Circuit, Group, Keep, NodeSet, NodeSpace, batches, evaluate};
use openwork_model::{Config, Model};
use openwork_tasks::Pair;

fn main() {
    let config = Config { vocab_size: 32, n_ctx: 8, ..Config::default() };
    let model = Model::init(config.clone(), 0);
    let space = NodeSpace::new(&config);
    let pair = |i| Pair { positive: vec![i, 1], negative: vec![i, 2], answer: 3, alternative: 4, template: 0 };
    let pairs: Vec<Pair> = (5..25).map(pair).collect();
    let batches = batches(&pairs, 8, config.n_ctx);
    let loss = |nodes: &NodeSet| {
        let keep = || Keep::new(nodes, Ablation::Zero);
        evaluate(&model, &batches, false, keep, |_| ()).loss(Calibration::NONE)
    };
    println!("{:<12} {:>6} {:>6} {:>10}", "without", "nodes", "edges", "loss, nats");
    let all = NodeSet::all(space.clone());
    println!(
        "{:<12} {:>6} {:>6} {:>10.4}",
        "nothing",
        all.len(),
        Circuit::new(&model, all.clone()).size().edges,
        loss(&all)
    );
    let layers = 0..config.n_layer;
    let heads = layers.clone().flat_map(|layer| (0..config.n_head).map(move |head| (layer, head)));
    let heads = heads.map(|(layer, head)| Group::head(&config, layer, head));
    for group in heads.chain(layers.map(|layer| Group::mlp(&config, layer))) {
        let kept = (0..space.len()).filter(|&n| !group.nodes.contains(&space.node(n)));
        let circuit = Circuit::new(&model, NodeSet::of(space.clone(), kept));
        let size = circuit.size();
        println!("{:<12} {:>6} {:>6} {:>10.4}", group.name, size.nodes, size.edges, loss(circuit.nodes()));
    }
}
