//! A circuit watched on prompts of the task, and on others.

use openwork_circuit::{Calibration, Circuit, Means};
use openwork_tasks::Pair;
use openwork_verify::{Alarm, Sighting, Watch, WatchError, WatchSettings};

use crate::micro::{Bed, CUE, OTHER_CUE, Plan, pairs, path_nodes, set};

fn watch<'a>(bed: &'a Bed, circuit: &'a Circuit, margin: impl Into<Option<f32>>) -> Watch<'a> {
    let settings = WatchSettings { margin: margin.into(), ..WatchSettings::default() };
    let calibration = bed.calibration.unwrap_or(Calibration::NONE);
    Watch::new(&bed.model, &bed.means, circuit, calibration, &bed.held_out, settings).unwrap()
}

fn look(watch: &Watch<'_>, pairs: &[Pair]) -> Vec<Sighting> {
    let prompts: Vec<&[u16]> = pairs.iter().flat_map(|p| [&p.positive[..], &p.negative]).collect();
    watch.look(&prompts).unwrap()
}

fn circuit() -> Circuit {
    Bed::new(Plan::default()).circuit(&set(&path_nodes(&[0], false)))
}

#[test]
fn the_pairs_it_was_verified_on_raise_no_alarm_and_fresh_ones_hardly_any() {
    let (bed, circuit) = (Bed::new(Plan::default()), circuit());
    for margin in [None, Some(0.0), Some(0.1)] {
        let own = look(&watch(&bed, &circuit, margin), &bed.held_out);
        assert!(own.iter().all(|s| s.alarms.is_empty()), "{own:?}");
    }
    let fresh = pairs(200, 0, CUE, 999);
    let ranges = |margin: Option<f32>| {
        let out = |s: &&Sighting| s.alarms.iter().any(|a| matches!(a, Alarm::Range { .. }));
        look(&watch(&bed, &circuit, margin), &fresh).iter().filter(out).count()
    };
    let (narrow, learned, wide) = (ranges(Some(0.0)), ranges(None), ranges(Some(1.0)));
    // The margin is learned for one prompt in a hundred; from 60 pairs that can be a few times as many.
    assert!(narrow > learned && learned <= 16 && wide <= learned, "{narrow} {learned} {wide}");
    let margin = watch(&bed, &circuit, None).margin();
    assert!(margin > 0.0 && margin <= 1.0, "{margin}");
}

#[test]
fn prompts_that_the_model_answers_by_another_path_are_flagged() {
    let (bed, circuit) = (Bed::new(Plan { second_path: 1.0, ..Plan::default() }), circuit());
    let seen = look(&watch(&bed, &circuit, 0.1), &pairs(40, 0, OTHER_CUE, 8));
    assert!(seen.iter().all(|s| s.alarms.iter().any(|a| matches!(a, Alarm::Divergence { .. }))), "{seen:?}");
    let parted = |s: &&Sighting| s.alarms.iter().any(|a| matches!(a, Alarm::Answers { .. }));
    // The circuit sees nothing and says one of the two always, so it is wrong on every other prompt.
    assert_eq!(seen.iter().filter(parted).count(), 40, "{seen:?}");
    let Some(Alarm::Divergence { kl, limit }) = seen[0].alarms.iter().find(|a| matches!(a, Alarm::Divergence { .. }))
    else {
        panic!()
    };
    assert!(kl > limit && *limit == watch(&bed, &circuit, 0.1).limits().0 && *kl == seen[0].kl);
}

#[test]
fn a_node_beyond_its_range_is_named_with_value_and_token() {
    let (bed, circuit) = (Bed::new(Plan::default()), circuit());
    let watch = watch(&bed, &circuit, 0.1);
    // More cues than any pair has: the head brings more of them to the last token than ever.
    let prompt = [4, 0, 0, 0, 0, 5];
    let seen = watch.look(&[&prompt]).unwrap().remove(0);
    let range = seen.alarms.iter().find_map(|a| match a {
        Alarm::Range { node, value, range, position, nodes } => Some((node, *value, *range, *position, *nodes)),
        _ => None,
    });
    let (node, value, range, position, nodes) = range.unwrap_or_else(|| panic!("{seen:?}"));
    assert!((value < range.0 || value > range.1) && nodes >= 1, "{seen:?}");
    // The value is that of the model.
    let node: openwork_circuit::Node = node.parse().unwrap();
    assert!(circuit.nodes().contains(node));
    let mut record = openwork_model::Record::default();
    bed.model.forward(openwork_model::Tokens::new(&prompt, 6), None, &mut record);
    let recorded = &record.values.iter().find(|(site, _)| *site == node.site).unwrap().1;
    assert!((recorded[[node.index, position]] - value).abs() < 1e-5);
    // All that the watch learned lies inside, and the margin is a tenth of what was seen at either end.
    for (wide, narrow) in watch.ranges().zip(self::watch(&bed, &circuit, 0.0).ranges()) {
        for (wide, narrow) in wide.1.iter().zip(narrow.1) {
            let margin = 0.1 * (narrow.1 - narrow.0);
            // Rounding of values of at most 20.
            assert!((wide.1 - narrow.1 - margin).abs() < 1e-5 && (narrow.0 - wide.0 - margin).abs() < 1e-5);
        }
    }
}

#[test]
fn positions_are_those_of_the_prompt_as_given() {
    let (bed, circuit) = (Bed::new(Plan::default()), circuit());
    let watch = watch(&bed, &circuit, 0.1);
    let n_ctx = bed.model.config.n_ctx;
    let short: Vec<u16> = [4, 0, 0, 0, 0, 5].repeat(n_ctx).into_iter().rev().take(n_ctx).rev().collect();
    let long = [&[4; 7], &short[..]].concat();
    let [of_short, of_long] = [&short, &long].map(|prompt| watch.look(&[prompt]).unwrap().remove(0));
    assert_eq!((of_short.unseen, of_long.unseen), (0, 7));
    assert_eq!(of_short.differences, of_long.differences);
    let place = |seen: &Sighting| {
        let range = seen.alarms.iter().find_map(|a| match a {
            Alarm::Range { node, position, .. } => Some((node.clone(), *position)),
            _ => None,
        });
        range.unwrap_or_else(|| panic!("{seen:?}"))
    };
    let (node, position) = place(&of_short);
    assert_eq!(place(&of_long), (node, position + 7));
}

#[test]
fn a_prompt_that_is_not_of_the_task_is_flagged() {
    let (bed, circuit) = (Bed::new(Plan { cancel_elsewhere: 0.0, ..Plan::default() }), circuit());
    // No cue at all: the model has no opinion.
    let seen = watch(&bed, &circuit, 0.1).look(&[&[4, 5, 6, 7, 8]]).unwrap().remove(0);
    assert!(seen.alarms.iter().any(|a| matches!(a, Alarm::OffTask { .. })), "{seen:?}");
    let text = serde_json::to_string(&seen).unwrap();
    assert!(text.contains("\"alarm\":\"off_task\""), "{text}");
    assert_eq!(serde_json::from_str::<Sighting>(&text).unwrap(), seen);
}

#[test]
fn bad_input_is_named() {
    let (bed, circuit) = (Bed::new(Plan::default()), circuit());
    let new = |means: &Means, pairs: &[Pair], margin| {
        let settings = WatchSettings { margin: Some(margin), ..WatchSettings::default() };
        Watch::new(&bed.model, means, &circuit, Calibration::NONE, pairs, settings).err().unwrap()
    };
    assert!(new(&bed.means, &[], 0.1).to_string().contains("no held-out pairs"));
    assert!(new(&bed.means, &bed.held_out, -1.0).to_string().contains("the margin is -1"));
    let other = openwork_model::Config { d_mlp: 8, ..crate::micro::config() };
    let means = Means::compute(&openwork_model::Model::init(other, 1), &[4; 12], 12);
    assert!(new(&means, &bed.held_out, 0.1).to_string().contains("another shape"));
    let watch = watch(&bed, &circuit, 0.1);
    assert_eq!(watch.look(&[&[1], &[]]).err().map(|e| matches!(e, WatchError::Prompt(_))), Some(true));
    assert!(watch.look(&[&[16]]).is_err() && watch.look(&[]).unwrap().is_empty());
}
