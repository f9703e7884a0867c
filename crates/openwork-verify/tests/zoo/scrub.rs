//! Causal scrubbing on the hand-built model.

use openwork_circuit::{Node, NodeSet, NodeSpace};
use openwork_model::{Model, Site, SiteKind};
use openwork_verify::{Faithfulness, ScrubError, ScrubSettings, Scrubbed, Sources, scrub, scrub_once};

use crate::micro::{CUE, Plan, config, model, pairs, path_nodes, set};

fn settings(sources: Sources) -> ScrubSettings {
    ScrubSettings { scrubs: 4, sources, max_pairs: 40, bootstrap: 200, ..ScrubSettings::default() }
}

fn scrubbed(model: &Model, circuit: &NodeSet) -> Scrubbed {
    scrub(model, circuit, &pairs(40, 0, CUE, 5), &settings(Sources::PerPath)).unwrap()
}

/// Scores by loss and by KL.
fn scores(of: &Scrubbed) -> [f64; 2] {
    [&of.score_loss, &of.score_kl].map(|score| match score {
        Faithfulness::Defined { ratio_of_means, .. } => ratio_of_means.mean,
        Faithfulness::Undefined { denominator } => panic!("undefined: {denominator:?}"),
    })
}

#[test]
fn all_nodes_are_the_model_bit_for_bit_and_none_score_nothing() {
    // Random weights with everything on, so that no path is idle by construction.
    for model in [model(Plan::default()), Model::init(openwork_model::Config { vocab_size: 16, ..config() }, 3)] {
        let all = scrubbed(&model, &NodeSet::all(NodeSpace::new(&model.config)));
        assert_eq!((all.circuit.kl.mean, all.circuit.agreement_vocabulary.mean, all.worst.kl), (0.0, 1.0, 0.0));
        assert_eq!(all.worst.differences[0], all.worst.differences[1]);
        assert_eq!(all.circuit.loss, all.model_loss);
    }
    let model = model(Plan::default());
    let space = NodeSpace::new(&model.config);
    assert_eq!(scores(&scrubbed(&model, &NodeSet::all(space.clone()))), [1.0, 1.0]);
    let none = scrubbed(&model, &NodeSet::empty(space));
    assert_eq!(scores(&none), [0.0, 0.0]);
    // The two prompts of a pair then have the same answers to choose from by chance.
    assert!(none.circuit.agreement.mean < 0.65, "{none:?}");
}

#[test]
fn the_true_circuit_scores_one_and_a_missing_link_nothing() {
    let model = model(Plan::default());
    let nodes = path_nodes(&[0], false);
    let whole = scrubbed(&model, &set(&nodes));
    // What is left are scales of norms, which nodes outside do share in.
    assert!(scores(&whole).iter().all(|s| (s - 1.0).abs() < 0.05), "{:?}", scores(&whole));
    assert_eq!(whole.circuit.agreement.mean, 1.0);
    for missing in 0..nodes.len() {
        let mut fewer = nodes.clone();
        let node = fewer.remove(missing);
        let score = scores(&scrubbed(&model, &set(&fewer)));
        // One of the two neurons still answers one sign; either sign still depends on it.
        let most = if node.site.kind == SiteKind::Neuron { 0.9 } else { 0.25 };
        assert!(score.iter().all(|s| *s < most), "without {node}: {score:?}");
    }
}

#[test]
fn a_node_whose_mean_alone_is_needed_may_be_resampled() {
    // The constant is the same on every prompt: its value there is as good as here (zero ablation says otherwise).
    let model = model(Plan { constant: true, ..Plan::default() });
    let score = scores(&scrubbed(&model, &set(&path_nodes(&[0], false))));
    assert!(score.iter().all(|s| (s - 1.0).abs() < 0.05), "{score:?}");
}

#[test]
fn nodes_that_cancel_each_other_are_told_apart_only_with_sources_of_their_own() {
    let model = model(Plan { cancel_elsewhere: 4.0, ..Plan::default() });
    let mut nodes = path_nodes(&[0], false);
    // What neurons 4 and 5 write is said to be in the circuit, the neurons are said not to matter.
    nodes.push(Node { site: Site { layer: 0, kind: SiteKind::MlpWrite }, index: 2 });
    let circuit = set(&nodes);
    let run = |sources| scrub(&model, &circuit, &pairs(40, 0, CUE, 5), &settings(sources)).unwrap();
    let (per_path, shared) = (run(Sources::PerPath), run(Sources::Shared));
    assert!(shared.circuit.agreement_vocabulary.mean > 0.95 && scores(&shared)[1] > 0.95, "{shared:?}");
    assert!(per_path.circuit.agreement_vocabulary.ci95.1 < 0.9, "{per_path:?}");
    assert!(per_path.circuit.kl.ci95.0 > shared.circuit.kl.ci95.1, "{per_path:?}");
    assert!(per_path.worst.kl > per_path.circuit.kl.mean);
}

#[test]
fn the_same_seed_is_the_same_report_whatever_the_threads() {
    let model = model(Plan::default());
    let circuit = set(&path_nodes(&[0], false)[..4]);
    let run = |threads: usize, seed: u64| {
        let settings = ScrubSettings { seed, ..settings(Sources::PerPath) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| scrub(&model, &circuit, &pairs(20, 0, CUE, 5), &settings).unwrap())
    };
    let one = run(1, 4);
    assert_eq!(one, run(3, 4));
    assert_ne!(one.circuit.kl.mean, run(1, 5).circuit.kl.mean);
    let text = serde_json::to_string(&one).unwrap();
    assert_eq!(serde_json::from_str::<Scrubbed>(&text).unwrap(), one);
}

#[test]
fn scrubs_laid_open_are_those_of_the_report() {
    let model = model(Plan::default());
    let (circuit, pairs) = (set(&path_nodes(&[0], false)[..4]), pairs(20, 0, CUE, 5));
    let settings = settings(Sources::PerPath);
    let report = scrub(&model, &circuit, &pairs, &settings).unwrap();
    let scrubs: Vec<_> =
        (0..settings.scrubs).map(|n| scrub_once(&model, &circuit, &pairs, &settings, n).unwrap()).collect();
    let prompt = 2 * report.worst.pair + usize::from(!report.worst.positive);
    assert_eq!(scrubs[report.worst.scrub].differences[prompt], report.worst.differences[1]);
    let right = |prompt: usize| if prompt.is_multiple_of(2) { 1.0 } else { -1.0 };
    let losses = scrubs.iter().flat_map(|s| s.differences.iter().enumerate());
    let losses: Vec<f64> = losses.map(|(prompt, d)| (-right(prompt) * d).exp().ln_1p()).collect();
    // Sums in another order.
    assert!((losses.iter().sum::<f64>() / losses.len() as f64 - report.circuit.loss.mean).abs() < 1e-12);
    // A write has a source for each of its readers, of which the last block's MLP has one; other nodes have one in all.
    let readers = |site: Site| match site.kind {
        SiteKind::AttnWrite => 2 * (model.config.n_layer - site.layer),
        SiteKind::MlpWrite => 2 * (model.config.n_layer - site.layer) - 1,
        _ => 1,
    };
    let expected: usize = circuit.complement().nodes().map(|node| readers(node.site)).sum();
    for scrub in &scrubs {
        assert_eq!(scrub.sources.len(), expected);
        assert!(scrub.sources.values().all(|s| s.len() == 40 && s.iter().all(|&prompt| prompt < 40)));
    }
    assert_ne!(scrubs[0], scrubs[1]);
}

#[test]
fn scores_are_undefined_where_nothing_is_at_stake() {
    let idle = model(Plan::default());
    let mut labels = pairs(40, 0, CUE, 5);
    // Two tokens that the model has no opinion on.
    labels.iter_mut().for_each(|p| (p.answer, p.alternative) = (0, 1));
    let circuit = set(&path_nodes(&[0], false));
    let report = scrub(&idle, &circuit, &labels, &settings(Sources::PerPath)).unwrap();
    assert!(matches!(report.score_loss, Faithfulness::Undefined { .. }), "{report:?}");
}

#[test]
fn bad_input_is_named() {
    let plain = model(Plan::default());
    let all = NodeSet::all(NodeSpace::new(&plain.config));
    let error = |pairs: &[_], circuit: &NodeSet, scrubs| {
        let settings = ScrubSettings { scrubs, ..settings(Sources::PerPath) };
        scrub(&plain, circuit, pairs, &settings).unwrap_err()
    };
    let good = pairs(4, 0, CUE, 5);
    assert!(error(&good[..1], &all, 1).to_string().starts_with("1 pairs, 1 scrubs"));
    assert!(error(&good, &all, 0).to_string().contains("0 scrubs"));
    let mut bad = good.clone();
    bad[1].negative.clear();
    assert!(error(&bad, &all, 1).to_string().contains("prompt 3 is empty"));
    bad[2].answer = 16;
    assert!(error(&bad, &all, 1).to_string().contains("pair 2 has an answer outside"));
    let other = NodeSet::all(NodeSpace::new(&openwork_model::Config { d_mlp: 8, ..config() }));
    assert!(matches!(error(&good, &other, 1), ScrubError::OtherModel { .. }));
}
