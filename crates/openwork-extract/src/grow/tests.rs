//! Growth in models whose circuits are known.

use openwork_circuit::{SizedBy, batches};
use openwork_truth::zoo::{CaseKind, GroundTruthCase};

use super::*;

fn settings() -> Growth {
    Growth { pairs: 12, check_pairs: 20, rounds: 12, attack_steps: 3, ..Growth::default() }
}

fn grow(case: &GroundTruthCase, claim: Claim, settings: &Growth) -> Result<GrownCircuit, GrowError> {
    run(case, claim, settings, &mut |_| ControlFlow::Continue(()))
}

fn run(
    case: &GroundTruthCase,
    claim: Claim,
    settings: &Growth,
    on_step: &mut OnGrowthStep<'_>,
) -> Result<GrownCircuit, GrowError> {
    let GroundTruthCase { model, means, training, circuit: start, .. } = case;
    Grow { model, means, train: training, claim, start, target_loss: 0.15, seed: 3, settings }.run(on_step)
}

fn names(nodes: &NodeSet) -> Vec<String> {
    nodes.nodes().map(|n| n.to_string()).collect()
}

#[test]
fn a_backup_head_is_found() {
    for seed in [1, 2] {
        let case = CaseKind::Backup.build(1.0, seed);
        let truth = case.truth.as_ref().unwrap();
        let missing: Vec<usize> = truth.numbers().filter(|&n| !case.circuit.kept()[n]).collect();
        assert!(!missing.is_empty());
        let grown = grow(&case, Claim::Answer, &settings()).unwrap();
        assert_eq!(grown.stopped, Stop::Reached, "{:?}", grown.rounds.last());
        let taken = missing.iter().filter(|&&n| grown.nodes.kept()[n]).count();
        assert!(taken > 0, "of {missing:?} none is in {:?}", names(&grown.nodes));
        // Without it the gap is the whole of what the answers are worth.
        assert!(grown.rounds[0].gap > 0.8 && grown.rounds.last().unwrap().gap <= settings().max_gap);
        assert!(grown.nodes.len() <= truth.len() + 2, "{:?}\n{:?}", names(&grown.nodes), names(truth));
    }
}

#[test]
fn nothing_is_added_to_a_true_circuit() {
    for (kind, seed) in [(CaseKind::True, 3), (CaseKind::TrueAsContrast, 3), (CaseKind::Redundant, 0)] {
        let case = kind.build(1.0, seed);
        let grown = grow(&case, kind.claim(), &settings()).unwrap();
        assert_eq!(grown.stopped, Stop::Reached, "{kind:?}");
        assert!(grown.rounds.iter().all(|r| r.phase == Phase::Prune || r.nodes == case.circuit.len()), "{kind:?}");
        assert!(grown.nodes.numbers().all(|n| case.circuit.kept()[n]), "{kind:?}");
    }
}

#[test]
fn a_threshold_outside_is_taken_in_for_an_answer_and_left_out_of_a_contrast() {
    let case = CaseKind::Threshold.build(1.0, 2);
    let contrast = grow(&case, Claim::Contrast, &settings()).unwrap();
    assert_eq!(contrast.stopped, Stop::Reached);
    assert!(contrast.nodes.numbers().all(|n| case.circuit.kept()[n]), "{:?}", names(&contrast.nodes));
    let answer = grow(&case, Claim::Answer, &settings()).unwrap();
    assert_eq!(answer.stopped, Stop::Reached, "{:?}", answer.rounds.last());
    assert!(answer.nodes.len() > contrast.nodes.len());
    assert!(answer.rounds[0].agreements.least() < 0.9);
}

#[test]
fn nodes_that_cancel_are_taken_in_together() {
    let case = CaseKind::CancellingPair.build(1.0, 1);
    let grown = grow(&case, Claim::Answer, &settings()).unwrap();
    assert_eq!(grown.stopped, Stop::Reached, "{:?}", grown.rounds.last());
    assert!(grown.rounds[0].agreements.attacked.iter().any(|a| a.agreement < 0.9));
    let more: Vec<usize> = grown.nodes.numbers().filter(|&n| !case.circuit.kept()[n]).collect();
    assert!(more.iter().any(|&n| grown.nodes.space().node(n).to_string().contains("mlp")), "{:?}", names(&grown.nodes));
}

#[test]
fn growth_ends_at_its_cap_its_rounds_and_where_it_cannot_begin() {
    let case = CaseKind::Backup.build(1.0, 1);
    let most = case.circuit.len();
    let capped = grow(&case, Claim::Answer, &Growth { max_nodes: most, ..settings() }).unwrap();
    assert_eq!((capped.stopped, capped.nodes.len(), capped.rounds.len()), (Stop::Nodes, most, 1));
    let one = grow(&case, Claim::Answer, &Growth { rounds: 1, ..settings() }).unwrap();
    assert_eq!((one.stopped, one.rounds.len()), (Stop::Rounds, 1));
    let over = Growth { max_nodes: most - 1, ..settings() };
    assert_eq!(grow(&case, Claim::Answer, &over).unwrap_err(), GrowError::Start { found: most, most: most - 1 });
    let many = Growth { pairs: case.training.len(), ..settings() };
    assert!(matches!(grow(&case, Claim::Answer, &many), Err(GrowError::TooFewPairs { .. })));
    // A model that gives both prompts of a pair one answer has no contrast.
    let mut one_sided = CaseKind::Backup.build(1.0, 1);
    one_sided.training.iter_mut().for_each(|pair| pair.negative = pair.positive.clone());
    let found = grow(&one_sided, Claim::Contrast, &settings()).unwrap_err();
    assert_eq!(found, GrowError::NoContrast { found: 0, pairs: settings().pairs });
}

#[test]
fn growth_that_is_interrupted_returns_nothing_and_pruning_what_stands() {
    let case = CaseKind::Backup.build(1.0, 1);
    let (mut grown, mut pruned) = (0, 0);
    let whole = run(&case, Claim::Answer, &settings(), &mut |step| {
        *(if step.phase == Phase::Grow { &mut grown } else { &mut pruned }) += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(grown > 3 && pruned > 0);
    for last in [1, 2, grown / 2, grown, grown + 1, grown + pruned] {
        let mut step = 0;
        let ended = run(&case, Claim::Answer, &settings(), &mut |_| {
            step += 1;
            if step == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(step, last, "it ends at once");
        match ended {
            Err(error) => assert!(last <= grown && error == GrowError::Ended, "{last} {error}"),
            Ok(ended) => {
                assert!(last > grown && ended.stopped == Stop::Reached, "{last}");
                assert!(ended.nodes.len() >= whole.nodes.len());
                assert_eq!(
                    ended.rounds.last().unwrap().nodes,
                    ended.nodes.len(),
                    "the last state is that of the circuit"
                );
            }
        }
    }
}

#[test]
fn attacks_have_the_size_of_the_start_and_of_the_circuit() {
    let case = CaseKind::Backup.build(1.0, 1);
    let grown = grow(&case, Claim::Answer, &settings()).unwrap();
    for round in &grown.rounds {
        for attacked in &round.agreements.attacked {
            let size = if attacked.sized_by == SizedBy::Start { case.circuit.len() } else { round.nodes };
            assert_eq!(attacked.budget, ((attacked.share * size as f64).ceil() as usize).max(1));
        }
        // One of its own size for each share, and where that turns answers, in growth, one of the start's.
        for share in &settings().attack_shares {
            let of = |by| round.agreements.attacked.iter().find(|a| a.share == *share && a.sized_by == by);
            let own = of(SizedBy::Circuit).expect("it was made");
            let fails = own.agreement < settings().agreement;
            assert_eq!(of(SizedBy::Start).is_some(), fails && round.phase == Phase::Grow);
        }
    }
}

#[test]
fn growth_does_not_depend_on_the_number_of_threads() {
    let case = CaseKind::CancellingPair.build(1.0, 1);
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let grown = pool.install(|| grow(&case, Claim::Contrast, &settings())).unwrap();
        (grown.nodes, grown.stopped, grown.rounds)
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn gradients_of_benches_are_finite_differences_under_both_claims() {
    let case = CaseKind::Threshold.build(1.0, 2);
    let space = NodeSpace::new(&case.model.config);
    let pairs = &case.training[..6];
    for claim in Claim::ALL {
        let bench = Bench::new(&case.model, &space, &case.means, pairs, claim);
        let losses = |d: &[f64]| bench.measure.losses(d);
        let r: Vec<f32> = (0..space.len()).map(|n| 0.4 + 0.5 * ((n * 5 % 7) as f32 / 7.0)).collect();
        let way = |n: usize| ((n * 11) % 5) as f32 - 2.0;
        let h = 2e-3_f32;
        let moved = |sign: f32| -> f64 {
            let r: Vec<f32> = r.iter().enumerate().map(|(n, r)| r + sign * h * way(n)).collect();
            bench.gradient(&r, bench.mean(), &losses).value
        };
        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(h));
        let gradient = bench.gradient(&r, bench.mean(), &losses);
        let along: f64 = gradient.by_coefficient.iter().enumerate().map(|(n, g)| g * f64::from(way(n))).sum();
        assert!((slope - along).abs() < 0.02 * slope.abs().max(0.05), "{claim}: {slope} {along}");
        // By hand: the run itself, of the same batches.
        let whole = bench.gradient(&vec![1.0; space.len()], bench.mean(), &losses);
        assert_eq!(whole.differences, bench.plain.differences);
        assert_eq!(batches(pairs, 4, case.model.config.n_ctx).len(), 2);
    }
}

#[test]
fn a_common_shift_costs_a_contrast_nothing_and_an_answer_its_agreement() {
    use crate::bench::Measure;
    let of_model: Vec<f64> = (0..20).map(|i| if i % 2 == 0 { 4.0 } else { -4.0 }).collect();
    let shifted: Vec<f64> = of_model.iter().map(|d| d - 30.0).collect();
    let [answer, contrast] = Claim::ALL.map(|claim| Measure::new(claim, &of_model));
    assert_eq!((answer.agreement(&shifted), contrast.agreement(&shifted)), (0.5, 1.0));
    assert!((contrast.shift(&shifted) - 30.0).abs() < 1e-6);
    // An offset that varies is none that a shift repairs; neither is a constant, nor an order turned round.
    let varying: Vec<f64> =
        of_model.iter().enumerate().map(|(i, d)| d + if i / 2 % 2 == 0 { 9.0 } else { -9.0 }).collect();
    assert!(contrast.agreement(&varying) <= 0.5);
    assert_eq!(contrast.agreement(&[3.0; 20]), 0.5);
    assert_eq!(contrast.agreement(&of_model.iter().map(|d| -d).collect::<Vec<_>>()), 0.0);
    // Pairs without a contrast do not count.
    let one_sided = Measure::new(Claim::Contrast, &[4.0, 3.0, 4.0, -3.0]);
    assert_eq!((one_sided.counted(), one_sided.agreement(&[-9.0, -9.0, 2.0, 1.0])), (2, 1.0));
}
