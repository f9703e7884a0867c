//! Circuits that leave out edges between their nodes.

use openwork_circuit::{Calibration, Circuit, Node, NodeSet, NodeSpace};
use openwork_model::{Site, SiteKind};
use openwork_verify::{
    CheckId, Control, ControlKind, CounterExample, CurveKind, Fault, InputError, Kept, Limits, Report, Scheme, Split,
    Status, Verdict, Watch, WatchSettings, Why, certificate::Kind, replay,
};

use crate::{
    check, expect,
    micro::{Bed, Plan, config, model, path_nodes, set},
    refuted_by,
};

fn node(kind: SiteKind, index: usize) -> Node {
    Node { site: Site { layer: 0, kind }, index }
}

/// The edge through which a path writes what its head read.
fn write_of(path: usize) -> (Node, Node) {
    (node(SiteKind::Value, path), node(SiteKind::AttnWrite, 4 + 2 * path))
}

/// The circuit of some nodes without one edge.
fn without(bed: &Bed, nodes: &NodeSet, edge: (Node, Node)) -> Circuit {
    let all = bed.circuit(nodes);
    let kept: Vec<(Node, Node)> = all.edges().iter().map(|e| (e.from, e.to)).filter(|e| *e != edge).collect();
    assert_eq!(kept.len() + 1, all.edges().len(), "the edge is one of the circuit");
    all.with_edges(&bed.model, &kept).unwrap()
}

/// Two redundant paths, which are the circuit together, and a weight between them that is lost in rounding.
fn two_paths() -> (Bed, NodeSet, (Node, Node)) {
    let mut model = model(Plan { second_path: 1.0, both_channels: true, ..Plan::default() });
    // Row 17 of queries, keys and values is value channel 1.
    model.params.blocks[0].qkv.weight.update(|w| w[[17, 0]] = 1e-30);
    let idle = (node(SiteKind::AttnRead, 0), node(SiteKind::Value, 1));
    (Bed::with(model, 7), set(&path_nodes(&[0, 1], false)), idle)
}

fn first_point(report: &Report, kind: CurveKind) -> f64 {
    report.curves.iter().find(|c| c.kind == kind).unwrap().points[0].1
}

#[test]
fn leaving_out_the_edge_that_carries_the_answer_is_refuted_and_replayed() {
    let bed = Bed::new(Plan::default());
    let nodes = set(&path_nodes(&[0], false));
    let whole = bed.judge(&nodes);
    expect(&whole, &Verdict::Strong);
    let circuit = without(&bed, &nodes, write_of(0));
    let report = bed.judge_circuit(&circuit, &Limits::level(5));
    let by = refuted_by(&report);
    assert!(by.contains(&"sufficiency: loss".to_owned()), "{by:?}");
    // Nothing of the cue arrives, whatever replaces the rest, and whatever else is computed.
    assert_eq!(check(&report, "causal scrubbing", None).status, Status::Failed);
    let cell = |report: &Report| report.cell(Split::HeldOut, Kept::Circuit, Some(Scheme::ZERO)).unwrap().loss.mean;
    assert!(cell(&whole) < 0.05 && cell(&report) > 0.69);
    let start =
        |report: &Report| [CurveKind::RestRestored, CurveKind::ModelValues].map(|kind| first_point(report, kind));
    assert!(start(&report).iter().zip(start(&whole)).all(|(less, all)| *less > 0.5 && all < 0.1));
    // The counter-example holds the edge, without which the circuit would do the task.
    let Verdict::Refuted { counter_example: Some(example), .. } = &report.verdict else { panic!("none given") };
    assert_eq!(example.intervention.cut_edges, [("0.attn.v[0]".to_owned(), "0.attn.resid_delta[4]".to_owned())]);
    let near = |a: [f64; 2], b: [f64; 2]| (0..2).all(|i| (a[i] - b[i]).abs() < 1e-4);
    let (plain, run) = replay(&bed.model, &bed.means, example).unwrap();
    assert!(near(plain, example.model) && near(run, example.run), "{run:?} {:?}", example.run);
    // The calibration of a run of one answer may multiply by nothing.
    let mut less = CounterExample { calibration: Calibration::NONE, ..(**example).clone() };
    let run_of = |example: &CounterExample| replay(&bed.model, &bed.means, example).unwrap().1;
    let [positive, negative] = run_of(&less);
    less.intervention.cut_edges.clear();
    let [positive_of_all, negative_of_all] = run_of(&less);
    assert!((positive - negative).abs() < 1e-4 && positive_of_all > negative_of_all + 1.0);
    for unknown in ["0.attn.v[1]", "0.attn.v[99]", "v"] {
        let mut other = example.clone();
        other.intervention.cut_edges[0].0 = unknown.into();
        assert!(replay(&bed.model, &bed.means, &other).is_err(), "{unknown} is no start of an edge");
    }
}

#[test]
fn leaving_out_an_edge_of_no_effect_changes_the_size_and_not_the_verdict() {
    let (bed, nodes, idle) = two_paths();
    let whole = bed.judge(&nodes);
    expect(&whole, &Verdict::Strong);
    let circuit = without(&bed, &nodes, idle);
    let report = bed.judge_circuit(&circuit, &Limits::level(6));
    expect(&report, &Verdict::Strong);
    let edges = |report: &Report| report.size.unwrap().edges;
    assert_eq!((edges(&whole), edges(&report)), (13, 12));
    assert_eq!(report.findings.needless_edges.as_ref().map(|found| found.1), Some(12), "its own edges are tried");
    // Certificates are about nodes: none is written, and the report says why.
    let left_out = |kind| report.unfinished.iter().find(|u| u.check == CheckId::Certificate { kind }).map(|u| u.why);
    for kind in [Kind::Exhaustive, Kind::Statistical, Kind::Relaxation] {
        assert_eq!(left_out(kind), Some(Why::EdgesLeftOut));
    }
    assert!(report.findings.certificates.is_empty() && report.level_reached == 5);
    let declared =
        |report: &Report, what: &str| report.declarations.iter().find(|d| d.what == what).unwrap().value.clone();
    assert!(declared(&report, "granularity").contains("12 of the 13 weights"));
    assert!(declared(&report, "SHA-256").contains(&circuit.sha256()));
    assert!(!declared(&whole, "SHA-256").contains(&bed.circuit(&nodes).sha256()));
}

#[test]
fn a_knock_out_inside_the_circuit_leaves_its_missing_edges_out() {
    // Alone, the circuit does the task by its first path. Without that the model goes the second way and the circuit cannot.
    let (bed, nodes, _) = two_paths();
    let report = bed.judge_circuit(&without(&bed, &nodes, write_of(1)), &Limits::level(3));
    let by = refuted_by(&report);
    assert!(by.contains(&"completeness".to_owned()), "{}", report.text());
    assert!(!by.iter().any(|c| c.starts_with("sufficiency")), "{by:?}");
    let worst = &report.findings.incompleteness[0];
    assert!(worst.gap.mean > 0.3 && worst.gap_of_none < 0.1, "{worst:?}");
}

#[test]
fn the_model_is_whole_beside_a_circuit_of_all_nodes_without_an_edge() {
    // All runs that keep all nodes would be of the circuit; the self-checks and the model's knock-outs are of the model.
    let bed = Bed::new(Plan::default());
    let all = NodeSet::all(NodeSpace::new(&config()));
    let report = bed.judge_circuit(&without(&bed, &all, write_of(0)), &Limits::level(3));
    let by = refuted_by(&report);
    assert!(by.contains(&"sufficiency: loss".to_owned()) && by.contains(&"completeness".to_owned()), "{by:?}");
    let cell = |kept, scheme| report.cell(Split::HeldOut, kept, scheme).unwrap();
    assert!(cell(Kept::Model, None).loss.mean < 0.05 && cell(Kept::Circuit, Some(Scheme::MEAN)).kl.mean > 0.1);
}

#[test]
fn leaving_out_edges_does_not_beat_a_control_that_found_as_many() {
    let (mut bed, nodes, idle) = two_paths();
    let kind = ControlKind::NonsenseLabels;
    bed.controls[0] = Control { kind, reached_target: true, loss: 0.1, nodes: 14, edges: 13 };
    let by = |report: &Report| refuted_by(report).contains(&CheckId::Control { kind }.to_string());
    assert!(by(&bed.judge_within(&nodes, &Limits::level(3))));
    assert!(by(&bed.judge_circuit(&without(&bed, &nodes, idle), &Limits::level(3))));
}

#[test]
fn edges_that_cannot_be_judged_are_faults() {
    let bed = Bed::new(Plan::default());
    let nodes = set(&path_nodes(&[0], false));
    let fault = |circuit: &Circuit| match bed.judge_circuit_silently(circuit).verdict.clone() {
        Verdict::Error { fault: Fault::Input(error) } => error,
        other => panic!("{other:?}"),
    };
    let without_residual = bed.circuit(&nodes).with_residual_edges(&[]).unwrap();
    let (from, to) = ("0.attn.resid_delta[4]".into(), "0.mlp.act_in[4]".into());
    assert_eq!(fault(&without_residual), InputError::ResidualEdge { from, to });
    // A circuit of another model, with an edge where this one has none.
    let (other, both, idle) = two_paths();
    assert!(bed.circuit(&both).edges().iter().all(|e| (e.from, e.to) != idle));
    assert_eq!(fault(&other.circuit(&both)), InputError::OtherEdges);
}

#[test]
fn a_watch_runs_the_circuit_without_its_missing_edges() {
    let bed = Bed::new(Plan::default());
    let nodes = set(&path_nodes(&[0], false));
    let differences = |circuit: &Circuit| {
        let settings = WatchSettings::default();
        let watch = Watch::new(&bed.model, &bed.means, circuit, Calibration::NONE, &bed.held_out, settings).unwrap();
        let prompts = [&bed.held_out[0].positive[..], &bed.held_out[0].negative];
        watch.look(&prompts).unwrap().into_iter().map(|seen| seen.differences).collect::<Vec<_>>()
    };
    let (whole, less) = (differences(&bed.circuit(&nodes)), differences(&without(&bed, &nodes, write_of(0))));
    assert!(whole[0][1] > whole[1][1] + 1.0, "{whole:?}");
    assert!((less[0][1] - less[1][1]).abs() < 1e-4, "{less:?}: one answer whatever the cue");
    assert_eq!((whole[0][0], whole[1][0]), (less[0][0], less[1][0]), "the model is the same");
    let without_residual = bed.circuit(&nodes).with_residual_edges(&[]).unwrap();
    let settings = WatchSettings::default();
    let refused = Watch::new(&bed.model, &bed.means, &without_residual, Calibration::NONE, &bed.held_out, settings);
    assert!(refused.err().unwrap().to_string().contains("leaves out the residual edge"));
}
