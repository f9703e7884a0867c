//! Circuits of one task, and circuits that serve several.

use openwork_circuit::NodeSet;
use openwork_verify::{Claim, Dissociation, DissociationError, dissociate};

use crate::micro::{Bed, CUE, OTHER_CUE, Plan, pairs, path_nodes, set};

/// Two tasks on the model with two paths, one for each cue.
fn dissociated(
    circuits: [&NodeSet; 2],
    cues: [[u16; 2]; 2],
    second_path: f32,
) -> Result<Dissociation, DissociationError> {
    let bed = Bed::new(Plan { second_path, ..Plan::default() });
    let pairs = [pairs(60, 0, cues[0], 1), pairs(50, 0, cues[1], 2)];
    let claim = |i: usize| Claim { task: ["first", "second"][i], circuit: circuits[i], pairs: &pairs[i] };
    dissociate(&bed.model, &bed.means, &[claim(0), claim(1)], &bed.settings)
}

#[test]
fn paths_of_their_own_are_dissociated() {
    let [first, second] = [0, 1].map(|path| set(&path_nodes(&[path], false)));
    let found = dissociated([&first, &second], [CUE, OTHER_CUE], 1.0).unwrap();
    for (i, row) in found.costs.iter().enumerate() {
        for (j, cost) in row.iter().enumerate() {
            let share = cost.share.mean;
            // A path is all there is to its own task, and the other cue does not go through it.
            assert!(if i == j { share > 0.99 } else { share.abs() < 0.01 }, "{cost:?}");
            assert_eq!(cost.random.len(), 16);
        }
    }
    let [contrast] = &found.contrasts[..] else { panic!("one pair of circuits") };
    assert!(contrast.is_dissociated() && contrast.shared_nodes == 0, "{contrast:?}");
    assert!(contrast.differences.iter().all(|d| d.ci95.0 > 0.9), "{contrast:?}");
}

#[test]
fn a_circuit_that_serves_both_is_not() {
    let first = set(&path_nodes(&[0], false));
    let found = dissociated([&first, &first], [CUE, CUE], 1.0).unwrap();
    let contrast = &found.contrasts[0];
    assert!(!contrast.is_dissociated() && contrast.shared_nodes == first.len(), "{contrast:?}");
    // Both paths are taken for the circuit of the first task: without them the second is lost, too.
    let (both, second) = (set(&path_nodes(&[0, 1], false)), set(&path_nodes(&[1], false)));
    let found = dissociated([&both, &second], [CUE, OTHER_CUE], 1.0).unwrap();
    assert!(found.costs[1][0].share.mean > 0.99);
    assert!(!found.contrasts[0].is_dissociated(), "{:?}", found.contrasts);
}

#[test]
fn what_cannot_be_asked_is_said() {
    let [first, second] = [0, 1].map(|path| set(&path_nodes(&[path], false)));
    let error = dissociated([&first, &second], [CUE, OTHER_CUE], 0.0).unwrap_err();
    assert_eq!(error, DissociationError::NoTask { task: "second".into() });
    let bed = Bed::new(Plan::default());
    let few = pairs(5, 0, CUE, 1);
    let claim = Claim { task: "first", circuit: &first, pairs: &few };
    let ask = |claims: &[Claim<'_>]| dissociate(&bed.model, &bed.means, claims, &bed.settings).unwrap_err();
    assert_eq!(ask(&[claim]), DissociationError::TooFewCircuits { found: 1 });
    let few = DissociationError::TooFewPairs { task: "first".into(), found: 5, least: 40 };
    assert_eq!(ask(&[claim, claim]), few);
}
