//! No file that is written holds a number that its reader refuses: whatever the number, it is written and read back as it is, or
//! refused before anything is written.

use std::{collections::BTreeMap, path::Path};

use openwork_circuit::{
    Calibration, Circuit, CircuitFile, Claim, LearnedMasks, Means, NodeSet, NodeSpace, SearchSettings,
};
use openwork_model::{ActDensity, Model};
use openwork_project::VerdictFile;
use openwork_tests::samples::{model, verdict};

/// Numbers of every kind: special ones, the ends of every range, and bits of all sorts.
fn numbers() -> Vec<f64> {
    let special = [0.0, 1.0, 0.15, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e308, f64::INFINITY, f64::NAN, f64::EPSILON];
    let bits = (1..300_u64).map(|i| f64::from_bits(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    special.into_iter().chain(bits).flat_map(|x| [x, -x]).collect()
}

/// Checks that `write` makes a file that `read` accepts, or makes none.
#[track_caller]
fn written_or_refused(path: &Path, what: &str, write: impl FnOnce(&Path) -> bool, read: impl FnOnce(&Path) -> bool) {
    let _ = std::fs::remove_file(path);
    match write(path) {
        true => assert!(read(path), "{what} is written and not read back"),
        false => assert!(!path.exists(), "{what} is refused and there is a file"),
    }
}

#[test]
fn circuit_files_hold_what_their_reader_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.json");
    let model = model();
    let sha256 = model.sha256();
    let circuit = |search, calibration, target_loss, loss| CircuitFile {
        task: "for_while".into(),
        model_sha256: sha256.clone(),
        means_sha256: "m".into(),
        tokenizer_sha256: "t".into(),
        circuit: Circuit::new(&model, NodeSet::of(NodeSpace::new(&model.config), [0, 9])),
        claim: Claim::Answer,
        calibration,
        target_loss,
        loss,
        seed: u64::MAX,
        search,
    };
    for x in numbers() {
        let masks = |k_coef, lr| SearchSettings::LearnedMasks(LearnedMasks { k_coef, lr, ..LearnedMasks::default() });
        let hand = || SearchSettings::ByHand {};
        let plain = Calibration::NONE;
        for (what, file) in [
            ("target", circuit(hand(), plain, x, 0.1)),
            ("loss", circuit(hand(), plain, 0.1, x)),
            ("scale", circuit(hand(), Calibration { scale: x, ..plain }, 0.1, 0.1)),
            ("shift", circuit(hand(), Calibration { shift: x, ..plain }, 0.1, 0.1)),
            ("k_coef", circuit(masks(x, 0.1), plain, 0.1, 0.1)),
            ("lr", circuit(masks(0.1, x), plain, 0.1, 0.1)),
        ] {
            let read = |path: &Path| CircuitFile::load(path, &model, &sha256).is_ok_and(|found| found == file);
            written_or_refused(&path, &format!("{what} {x:e}"), |path| file.save(path).is_ok(), read);
        }
    }
}

#[test]
fn models_and_means_hold_what_their_readers_accept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    let sound = model();
    for x in numbers() {
        let mut weight = sound.clone();
        weight.params.embed.update(|w| w[[3, 2]] = x as f32);
        let mut density = sound.clone();
        density.config.act_density = Some(ActDensity::everywhere(x));
        for (what, model) in [("weight", &weight), ("density", &density)] {
            let write = |path: &Path| model.save(path, &BTreeMap::new()).is_ok();
            let read = |path: &Path| Model::load(path).is_ok_and(|found| found.sha256 == model.sha256());
            written_or_refused(&path, &format!("{what} {x:e}"), write, read);
        }
        let means = Means::compute(&weight, &[3, 3, 1, 3], 4);
        let sha256 = weight.sha256();
        let write = |path: &Path| means.save(path, &sha256).is_ok();
        let read = |path: &Path| Means::load(path, &weight, &sha256).is_ok_and(|found| found == means);
        written_or_refused(&path, &format!("means of a weight {x:e}"), write, read);
    }
}

// A report has no number from outside: nobody but the verifier makes one.
#[test]
fn verdict_files_hold_what_their_reader_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let (path, unchanged) = (dir.path().join("c.verdict.json"), dir.path().join("unchanged.verdict.json"));
    let model = model();
    let circuit = CircuitFile {
        task: "for_while".into(),
        model_sha256: model.sha256(),
        means_sha256: "m".into(),
        tokenizer_sha256: "t".into(),
        circuit: Circuit::new(&model, NodeSet::of(NodeSpace::new(&model.config), [0, 9])),
        claim: Claim::Answer,
        calibration: Calibration::NONE,
        target_loss: 0.15,
        loss: 0.1,
        seed: 0,
        search: SearchSettings::ByHand {},
    };
    let sound = verdict(dir.path(), &circuit);
    sound.write(&unchanged).unwrap();
    for x in numbers() {
        let mut file = VerdictFile::read(&unchanged).unwrap();
        file.found.target_loss = x;
        let read = |path: &Path| VerdictFile::read(path).is_ok_and(|found| found.to_json() == file.to_json());
        written_or_refused(&path, &format!("target {x:e}"), |path| file.write(path).is_ok(), read);
    }
}
