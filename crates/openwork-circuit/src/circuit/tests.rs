//! Circuits of models made by hand, and members that do not belong.

use openwork_model::{Activation, Bigram, Config, NoTap, NormKind, Positions, Site, SiteKind, Tokens};

use super::*;
use crate::{Ablation, Keep, NodeSpace, weights_of, without_edges};

fn node(layer: usize, kind: SiteKind, index: usize) -> Node {
    Node { site: Site { layer, kind }, index }
}

fn set(model: &Model, nodes: &[Node]) -> NodeSet {
    let space = NodeSpace::new(&model.config);
    let numbers: Vec<usize> = nodes.iter().map(|n| space.number(*n).expect("a node of the model")).collect();
    NodeSet::of(space, numbers)
}

/// One block without norms, whose MLP alone is not zero. Token 0 puts (1, 2) into the residual stream; neuron 0 is
/// ReLU(3 x₀ + 1 x₁) = 5 and neuron 1 is ReLU(2 x₁) = 4; channel 0 gets 2 · n₀ + 1 · n₁ = 14, channel 1 gets −1 · n₁ = −4.
/// The stream ends at (15, −2), and the unembedding is the identity.
fn by_hand() -> Model {
    let config = Config {
        vocab_size: 2,
        n_ctx: 1,
        n_layer: 1,
        n_head: 1,
        d_head: 8,
        d_model: 2,
        d_mlp: 2,
        act_density: None,
        bigram: Bigram::None,
        norm: NormKind::None,
        activation: Activation::Relu,
        positions: Positions::None,
        ..Config::default()
    };
    let mut model = Model::init(config, 1);
    model.params.values_mut().into_iter().for_each(|w| w.update(|w| w.fill(0.0)));
    model.params.embed.update(|w| (w[[0, 0]], w[[0, 1]]) = (1.0, 2.0));
    model.params.unembed.as_mut().expect("untied").update(|w| (w[[0, 0]], w[[1, 1]]) = (1.0, 1.0));
    let block = &mut model.params.blocks[0];
    block.attn_norm.gain.update(|w| w.fill(1.0));
    block.mlp_norm.gain.update(|w| w.fill(1.0));
    model.params.final_norm.gain.update(|w| w.fill(1.0));
    block.fc.weight.update(|w| (w[[0, 0]], w[[0, 1]], w[[1, 1]]) = (3.0, 1.0, 2.0));
    block.proj.weight.update(|w| (w[[0, 0]], w[[0, 1]], w[[1, 1]]) = (2.0, 1.0, -1.0));
    model
}

fn mlp(model: &Model) -> Vec<Node> {
    let group = Group::mlp(&model.config, 0);
    assert_eq!(group.nodes.len(), 6);
    group.nodes
}

fn logits(model: &Model, nodes: &NodeSet) -> Vec<f32> {
    let pass = model.forward(Tokens::new(&[0], 1), None, &mut Keep::new(nodes, Ablation::Zero));
    pass.logits.iter().copied().collect()
}

#[test]
fn ablated_edges_give_the_outputs_worked_out_by_hand() {
    let model = by_hand();
    let pass = model.forward(Tokens::new(&[0], 1), None, &mut NoTap);
    assert_eq!(pass.logits.iter().copied().collect::<Vec<_>>(), [15.0, -2.0]);
    let (read, neuron, write) = (SiteKind::MlpRead, SiteKind::Neuron, SiteKind::MlpWrite);
    let all = Circuit::new(&model, set(&model, &mlp(&model)));
    assert_eq!((all.size().nodes, all.size().edges), (6, 6));
    let without = |from: Node, to: Node| {
        let left: Vec<_> = all.edges().iter().map(|e| (e.from, e.to)).filter(|e| *e != (from, to)).collect();
        assert_eq!(left.len(), 5);
        let circuit = all.clone().with_edges(&model, &left).unwrap();
        let masked = circuit.masked(&model).unwrap();
        logits(&masked, circuit.nodes())
    };
    // Neuron 0 no longer reads channel 1: it is 3, and channel 0 gets 2 · 3 + 4.
    assert_eq!(without(node(0, read, 1), node(0, neuron, 0)), [11.0, -2.0]);
    // Nor channel 0: it is 2, and channel 0 gets 2 · 2 + 4.
    assert_eq!(without(node(0, read, 0), node(0, neuron, 0)), [9.0, -2.0]);
    // Neuron 1 writes only to channel 1.
    assert_eq!(without(node(0, neuron, 1), node(0, write, 0)), [11.0, -2.0]);
    // Neuron 1 writes only to channel 0.
    assert_eq!(without(node(0, neuron, 1), node(0, write, 1)), [15.0, 2.0]);
}

#[test]
fn with_all_edges_the_run_has_the_bits_of_node_ablation() {
    let model = Model::init(Config { vocab_size: 12, ..Config::default() }, 5);
    let space = NodeSpace::new(&model.config);
    let circuit = Circuit::new(&model, NodeSet::of(space.clone(), (0..space.len()).step_by(3)));
    assert!(circuit.has_all_edges(&model) && !circuit.residual_edges().is_empty());
    let masked = circuit.masked(&model).unwrap();
    assert!(matches!(masked, Cow::Borrowed(_)));
    // One edge less is another model, in that one weight.
    let [first, rest @ ..] = circuit.edges() else { panic!("there are edges") };
    let (first, rest) = (*first, rest.iter().map(|e| (e.from, e.to)).collect::<Vec<_>>());
    let less = circuit.with_edges(&model, &rest).unwrap();
    assert!(!less.has_all_edges(&model));
    let masked = less.masked(&model).unwrap().into_owned();
    let changed: usize = model
        .params
        .values()
        .into_iter()
        .zip(masked.params.values())
        .map(|(a, b)| a.dense().iter().zip(b.dense()).filter(|(a, b)| a != b).count())
        .sum();
    assert_eq!(without_edges(&model, &[(first.from, first.to)]).unwrap().sha256(), masked.sha256());
    let (from, to) = (first.to, first.from);
    assert_eq!(without_edges(&model, &[(from, to)]).err(), Some(MemberError::NoWeight { from, to }));
    let mut masked = masked;
    let (linear, row) = weights_of(&mut masked, first.to);
    assert_eq!((changed, linear.weight.dense()[[row, first.from.index]]), (1, 0.0));
}

#[test]
fn a_residual_edge_cannot_be_ablated_by_weights() {
    let model = Model::init(Config { vocab_size: 12, ..Config::default() }, 5);
    let (from, to) = (node(0, SiteKind::MlpWrite, 3), node(1, SiteKind::AttnRead, 3));
    let circuit = Circuit::new(&model, set(&model, &[from, to]));
    assert_eq!(circuit.residual_edges(), [ResidualEdge { from, to }]);
    let without = circuit.with_residual_edges(&[]).unwrap();
    assert_eq!(without.masked(&model).unwrap_err(), ResidualMaskError { from, to });
}

#[test]
fn members_that_do_not_belong_are_named() {
    let model = by_hand();
    let (read, neuron) = (node(0, SiteKind::MlpRead, 0), node(0, SiteKind::Neuron, 1));
    let circuit = || Circuit::new(&model, set(&model, &[read, neuron, node(0, SiteKind::MlpWrite, 0)]));
    let no_weight = circuit().with_edges(&model, &[(read, neuron)]).unwrap_err();
    assert_eq!(
        no_weight.to_string(),
        "edge 0.mlp.act_in[0] -> 0.mlp.post_act[1]: the model has no nonzero weight there"
    );
    let (from, to) = (neuron, node(0, SiteKind::MlpWrite, 1));
    assert_eq!(circuit().with_edges(&model, &[(from, to)]), Err(MemberError::EndNotKept { from, to, missing: to }));
    let edge = (neuron, node(0, SiteKind::MlpWrite, 0));
    assert_eq!(circuit().with_edges(&model, &[edge, edge]), Err(MemberError::Twice { from: edge.0, to: edge.1 }));
    let (from, to) = (node(0, SiteKind::MlpWrite, 0), read);
    assert_eq!(circuit().with_residual_edges(&[(from, to)]), Err(MemberError::NoChannel { from, to }));
    let group = |name: &str, nodes: &[Node]| Group { name: name.into(), note: None, nodes: nodes.to_vec() };
    let twice = circuit().with_groups(vec![group("a", &[read]), group("a", &[neuron])]);
    assert_eq!(twice, Err(MemberError::GroupTwice { name: "a".into() }));
    let empty = circuit().with_groups(vec![group("b", &[node(0, SiteKind::Neuron, 0)])]);
    assert_eq!(empty, Err(MemberError::GroupEmpty { name: "b".into() }));
    let label = Label { name: "cue".into(), note: None };
    let labels = BTreeMap::from([(node(0, SiteKind::Neuron, 0), label)]);
    assert!(circuit().with_labels(labels).unwrap_err().to_string().contains("0.mlp.post_act[0], which is not in"));
}

#[test]
fn a_group_counts_as_one() {
    let model = Model::init(Config { vocab_size: 12, ..Config::default() }, 5);
    let nodes: Vec<Node> = [0, 1, 9].map(|i| node(0, SiteKind::Query, i)).into();
    let circuit = Circuit::new(&model, set(&model, &[&nodes[..], &[node(1, SiteKind::Neuron, 4)]].concat()));
    assert_eq!(circuit.size().units, 4);
    let d_head = model.config.d_head;
    let heads = vec![Group::head(&model.config, 0, 0)];
    let in_first = nodes.iter().filter(|n| n.index < d_head).count();
    assert_eq!(circuit.with_groups(heads).unwrap().size().units, 4 - in_first + 1);
}

#[test]
fn annotations_go_over_to_a_circuit_as_far_as_nodes_survive() {
    let model = by_hand();
    let nodes = mlp(&model);
    let label = |name: &str| Label { name: name.into(), note: Some("seen".into()) };
    let labels = BTreeMap::from([(nodes[0], label("cue")), (nodes[2], label("detector"))]);
    let group = Group { name: "pair".into(), note: None, nodes: nodes[2..4].to_vec() };
    let old = Circuit::new(&model, set(&model, &nodes)).with_labels(labels).unwrap().with_groups(vec![group]).unwrap();
    assert_eq!(old.describe(nodes[0]), "0.mlp.act_in[0] (cue)");
    let named = ["0.mlp.act_in[0]", "0.mlp.act_in[1]", "no node"].map(|name| old.describe_name(name));
    assert_eq!(named, ["0.mlp.act_in[0] (cue)", "0.mlp.act_in[1]", "no node"]);
    let new = Circuit::new(&model, set(&model, &nodes[2..])).annotated_as(&old);
    assert_eq!((new.labels().len(), new.groups().len()), (1, 1));
    assert_eq!(new.sha256(), Circuit::new(&model, set(&model, &nodes[2..])).sha256());
    assert_ne!(new.sha256(), old.sha256());
    let fewer = old.clone().with_edges(&model, &[]).unwrap();
    assert_ne!(fewer.sha256(), old.sha256());
    let bare = Circuit::new(&model, set(&model, &nodes[4..])).annotated_as(&old);
    assert_eq!((bare.labels().len(), bare.groups().len(), bare.describe(nodes[4])), (0, 0, nodes[4].to_string()));
}
