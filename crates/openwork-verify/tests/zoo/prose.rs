//! Sentences are for people: rewording every one of them changes nothing that a program reads.

use openwork_circuit::{NodeSet, NodeSpace};
use openwork_verify::{CheckId, Family, LevelState, Limits, Report, Role, Verdict};
use serde_json::Value;

use crate::micro::{Bed, Plan, config, path_nodes, set};

/// Another text in the place of every sentence.
fn reword(value: &mut Value) {
    const SENTENCES: [&str; 4] = ["explanation", "scope", "how", "reason"];
    match value {
        Value::Object(map) => {
            // Of a declaration both parts are sentences; elsewhere values are tags.
            if map.contains_key("what") && map.contains_key("value") {
                map.insert("value".into(), "something else".into());
            }
            for (key, value) in map {
                match value {
                    Value::String(text) if SENTENCES.contains(&key.as_str()) => {
                        *text = "self-checks (level 3): not made: selected on twice".into();
                    }
                    other => reword(other),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(reword),
        _ => {}
    }
}

/// The parts of a report that a program reads: verdict, level reached, state, objections and left-out steps of every level,
/// and families.
type Read = (Verdict, u8, [LevelState; 6], Vec<Vec<(Role, CheckId)>>, Vec<Option<String>>, Vec<Family>);

fn read(report: &Report) -> Read {
    let levels = report.levels();
    (
        match &report.verdict {
            Verdict::Certified { .. } => Verdict::Certified { scope: String::new() },
            other => other.clone(),
        },
        report.level_reached,
        levels.each_ref().map(|l| l.state),
        levels.iter().map(|l| l.against.iter().map(|c| (c.role, c.id)).collect()).collect(),
        levels.iter().map(|l| l.left_out()).collect(),
        report.failed_families().into_iter().collect(),
    )
}

fn assert_unmoved(report: &Report) {
    let mut value = serde_json::to_value(report).unwrap();
    reword(&mut value);
    let reworded: Report = serde_json::from_value(value).unwrap();
    assert_ne!(reworded.checks, report.checks, "nothing was reworded");
    assert_eq!(read(&reworded), read(report));
    // How many lines begin with a mark, by mark: which check is shown how.
    let marks =
        |report: &Report| ["  pass  ", "  FAIL  ", "  fail  ", "   -    "].map(|m| report.text().matches(m).count());
    assert_eq!(marks(&reworded), marks(report));
}

#[test]
fn rewording_changes_no_verdict_no_level_and_no_family() {
    let truth = set(&path_nodes(&[0], false));
    let bed = Bed::new(Plan::default());
    let strong = bed.judge(&truth);
    assert_eq!(strong.verdict, Verdict::Strong, "{}", strong.text());
    assert_unmoved(&strong);
    assert_unmoved(&bed.judge(&NodeSet::all(NodeSpace::new(&config()))));
    let refuted = bed.judge(&set(&path_nodes(&[0], false)[..5]));
    assert!(refuted.failed_families().contains(&Family::Sufficiency));
    assert_unmoved(&refuted);
    let late = Limits { until: Some(std::time::Instant::now()), ..Limits::level(6) };
    assert_unmoved(&bed.judge_within(&truth, &late));
    let mut leaky = Bed::new(Plan::default());
    leaky.held_out[3] = leaky.selection[5].clone();
    let leak = leaky.judge(&truth);
    assert_eq!(leak.failed_families().into_iter().collect::<Vec<_>>(), [Family::Leak]);
    assert_unmoved(&leak);
    let mut unfit = Bed::new(Plan::default());
    unfit.selection.clear();
    unfit.calibration = Some(openwork_circuit::Calibration::NONE);
    let error = unfit.judge(&truth);
    assert_eq!(error.failed_families().into_iter().collect::<Vec<_>>(), [Family::SelfCheck]);
    assert_unmoved(&error);
}
