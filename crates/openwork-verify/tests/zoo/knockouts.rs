//! Knock-outs of the circuit's nodes beside those of random circuits.

use openwork_circuit::NodeSet;
use openwork_verify::{Incompleteness, Kept, Limits, Report, Role, Scheme, Split, Status, Subset};
use rand::RngExt;

use crate::{
    check,
    micro::{Bed, Plan, path_nodes, rng, set},
};

const NAME: &str = "completeness: beside random circuits";

/// The circuit's whole search, the small one, and those of random circuits.
fn rows(report: &Report) -> (&Incompleteness, &Incompleteness, &[Incompleteness]) {
    let [whole, small, random @ ..] = &report.findings.incompleteness[..] else { panic!("{}", report.text()) };
    assert!(
        whole.on == Subset::Circuit && small.on == Subset::Circuit && random.iter().all(|r| r.on == Subset::Random)
    );
    assert_eq!(random.len(), 4);
    (whole, small, random)
}

#[test]
fn random_circuits_part_from_the_model_by_all_that_it_knows_and_the_true_one_by_little() {
    let report = Bed::new(Plan::default()).judge_within(&set(&path_nodes(&[0], false)), &Limits::level(3));
    let (whole, small, random) = rows(&report);
    let completeness = check(&report, "completeness", Some(Scheme::MEAN));
    assert_eq!(completeness.estimate, Some(whole.gap));
    // Like is compared with like.
    assert!(random.iter().all(|r| (r.tried, r.nodes) == (small.tried, small.nodes)) && small.tried < whole.tried);
    assert_eq!((small.tried, small.nodes), (1 + 7 + 8, 7));
    assert!(small.gap.mean.abs() <= whole.gap.mean.abs());
    // What knows nothing is at chance from the start, and knocking out cannot make it worse.
    let loss = report.cell(Split::HeldOut, Kept::Model, None).unwrap().loss.mean;
    let known = std::f64::consts::LN_2 - loss;
    for row in random {
        assert!((row.gap_of_none - known).abs() < 0.05 * known, "{row:?}, the model knows {known}");
        assert!(row.gap.mean <= row.gap_of_none + 1e-3 && row.gap.mean > completeness.threshold.unwrap(), "{row:?}");
    }
    let check = check(&report, NAME, None);
    assert_eq!((check.role, check.status), (Role::Reported, Status::Passed));
    assert!(check.explanation.contains("4 of 4 beyond"), "{}", check.explanation);
}

#[test]
fn a_random_circuit_is_no_better_than_random_circuits_and_that_alone_refutes_nothing() {
    let truth = set(&path_nodes(&[0], false));
    let mut rng = rng(3);
    let numbers = truth.space().sites().iter().zip(truth.count_by_site()).flat_map(|((_, range), count)| {
        let mut pool: Vec<usize> = range.clone().filter(|&n| !truth.kept()[n]).collect();
        (0..count).map(|_| pool.swap_remove(rng.random_range(0..pool.len()))).collect::<Vec<_>>()
    });
    let circuit = NodeSet::of(truth.space().clone(), numbers.collect::<Vec<_>>());
    let report = Bed::new(Plan::default()).judge_within(&circuit, &Limits::level(3));
    let (_, own, random) = rows(&report);
    let least = random.iter().map(|r| r.gap.mean).fold(f64::MAX, f64::min);
    assert!(own.gap.mean > 0.9 * least, "{own:?} {least}");
    assert!(crate::refuted_by(&report).iter().all(|by| *by != NAME));
}
