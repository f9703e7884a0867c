//! The circuit's run as its nodes take the values that they have in the model.

use openwork_circuit::{Node, NodeSet, NodeSpace};
use openwork_model::{NormKind, Record, SiteKind, Tokens};
use openwork_tasks::Pair;
use openwork_verify::{CurveKind, Limits, Report, Status};

use crate::micro::{Bed, Plan, config, model, path_nodes, set};

/// The points of the interchange curve.
fn interchange(report: &Report) -> Vec<(f64, f64)> {
    let curve = report.curves.iter().find(|c| c.kind == CurveKind::ModelValues);
    let points = &curve.unwrap_or_else(|| panic!("no such curve\n{}", report.text())).points;
    assert_eq!(points.iter().map(|p| p.0).collect::<Vec<_>>(), (0..=8).map(|i| f64::from(i) / 8.0).collect::<Vec<_>>());
    points.clone()
}

fn of(bed: &Bed, nodes: &[Node]) -> Vec<(f64, f64)> {
    interchange(&bed.judge_within(&set(nodes), &Limits::level(4)))
}

fn truth() -> Vec<Node> {
    path_nodes(&[0], false)
}

#[test]
fn without_norms_the_true_circuit_computes_what_the_model_computes_bit_for_bit() {
    let mut model = model(Plan::default());
    model.config.norm = NormKind::None;
    let points = of(&Bed::with(model, 7), &truth());
    assert!(points.iter().all(|p| p.1 == points[0].1), "{points:?}");
    // Other nodes write noise where the unembedding has some.
    assert!(points[0].1 < 0.01, "{points:?}");
}

#[test]
fn norms_move_the_true_circuit_a_little() {
    let bed = Bed::new(Plan::default());
    let points = of(&bed, &truth());
    assert!(points.iter().all(|p| p.1 < 0.01), "{points:?}");
    let check = bed.judge_within(&set(&truth()), &Limits::level(4));
    assert_eq!(crate::check(&check, "interchange with the model", None).status, Status::Passed);
}

#[test]
fn what_is_missing_upstream_is_made_up_for_by_the_models_values() {
    let bed = Bed::new(Plan::default());
    let nodes = truth();
    assert_eq!(nodes[0].site.kind, SiteKind::AttnRead);
    let (whole, points) = (of(&bed, &nodes), of(&bed, &nodes[1..]));
    // Without its read the path carries nothing; with the model's values all of it is back, and no sooner than the last
    // write has its own in every order.
    assert!(points[0].1 > 0.1 && points[8].1 < 0.01, "{points:?}");
    assert!(points.windows(2).all(|w| w[1].1 <= w[0].1 + 1e-3), "{points:?}");
    // Two circuits of the same writes end alike.
    assert_eq!(points[8], whole[8]);
}

#[test]
fn a_circuit_of_all_writes_ends_at_the_model_bit_for_bit() {
    let space = NodeSpace::new(&config());
    let is_write = |n: &usize| matches!(space.node(*n).site.kind, SiteKind::AttnWrite | SiteKind::MlpWrite);
    let writes = NodeSet::of(space.clone(), (0..space.len()).filter(is_write));
    let points = interchange(&Bed::new(Plan::default()).judge_within(&writes, &Limits::level(4)));
    assert!(points[0].1 > 0.1, "{points:?}");
    assert_eq!(points[8].1, 0.0);
}

/// `l_answer − l_alternative` after a prompt, in f64: where only the circuit's writes have the model's values and all
/// others their means.
fn by_hand(bed: &Bed, circuit: &NodeSet, prompt: &[u16], candidates: [usize; 2]) -> [f64; 2] {
    let mut record = Record::default();
    bed.model.forward(Tokens::new(prompt, prompt.len()), None, &mut record);
    let params = &bed.model.params;
    let (embed, unembed) = (params.embed.dense(), params.unembed.as_ref().unwrap().dense());
    let last = prompt.len() - 1;
    let mut resid: Vec<[f64; 2]> = (0..16).map(|c| [f64::from(embed[[usize::from(prompt[last]), c]]); 2]).collect();
    for (site, range) in circuit.space().sites() {
        if !matches!(site.kind, SiteKind::AttnWrite | SiteKind::MlpWrite) {
            continue;
        }
        let value = &record.values.iter().find(|v| v.0 == *site).unwrap().1;
        for (channel, node) in range.clone().enumerate() {
            let (own, mean) = (f64::from(value[[channel, last]]), f64::from(bed.means.values()[node]));
            resid[channel][0] += own;
            resid[channel][1] += if circuit.kept()[node] { own } else { mean };
        }
    }
    // Of the model, and of the run.
    [0, 1].map(|which| {
        let x = || resid.iter().map(|x| x[which]);
        let rms = (x().map(|x| x * x).sum::<f64>() / 16.0 + f64::from(NormKind::Rms.eps())).sqrt();
        let logit = |token: usize| x().enumerate().map(|(c, x)| f64::from(unembed[[token, c]]) * x / rms).sum::<f64>();
        logit(candidates[0]) - logit(candidates[1])
    })
}

#[test]
fn the_end_of_the_curve_is_what_the_writes_make_of_the_answer_by_hand() {
    let bed = Bed::new(Plan { second_path: -0.6, both_channels: true, ..Plan::default() });
    // One of two paths, so that something is left at the end.
    let circuit = set(&truth());
    let end = of(&bed, &truth())[8].1;
    // The pairs that are run more than once: every so manieth.
    let few: Vec<&Pair> = (0..24).map(|i| &bed.held_out[i * 60 / 24]).collect();
    let mut sum = 0.0;
    for pair in &few {
        for prompt in [&pair.positive, &pair.negative] {
            let candidates = [pair.answer, pair.alternative].map(usize::from);
            let [p, q] = by_hand(&bed, &circuit, prompt, candidates).map(|d| 1.0 / (1.0 + (-d).exp()));
            sum += p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
        }
    }
    let expected = sum / 48.0;
    // Logits of f32 are good to some 1e-6 of what they are sums of.
    assert!(expected > 1e-3 && (end - expected).abs() < 1e-7, "{end} and by hand {expected}");
}
